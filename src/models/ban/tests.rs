use super::*;
use crate::models::testing::{Features, Plain, assert_computes, values};

const KEYS: BanKeys = BanKeys {
    glimpse: 2,
    hidden_size: 6,
    k_times: 2,
    ba_hidden_size: None,
    dropout_r: 0.0,
    classifer_dropout_r: 0.0,
    flat_out_size: 9,
    word_embed_size: 4,
    img_feat_size: None,
    use_bbox_feat: false,
    bboxfeat_emb_size: 3,
    use_aux_feat: false,
};

/// The model as OpenVQA writes it; `masks` regions that are zero.
fn plain(layers: &Plain, x: &Tensor, masks: bool) -> Tensor {
    let factor = |x: &Tensor, of: &str, net: &str| {
        layers
            .normed(x, &format!("backbone.{of}.{net}.mlp.1"))
            .relu()
    };
    let sum = |x: Tensor, over: i64| x.sum_dim_intlist([over].as_slice(), false, Kind::Float);
    let mut q = layers.gru(&layers.embedded(), "rnn"); // (B, T, D)
    let (of_x, of_q) = (
        factor(x, "BiAtt.logits", "v_net"),
        factor(&q, "BiAtt.logits", "q_net"),
    );
    let h = layers.with_norm("backbone.BiAtt.logits.h_mat"); // (1, G, 1, H)
    let pairs = (h * of_x.unsqueeze(1)).matmul(&of_q.unsqueeze(1).transpose(2, 3));
    let mut logits = pairs + layers.get("backbone.BiAtt.logits.h_bias"); // (B, G, N, T)
    if masks {
        let mask = layers.row_mask().view([3, 1, 4, 1]).expand_as(&logits);
        logits = logits.masked_fill(&mask, f64::NEG_INFINITY);
    }
    let maps = logits
        .flatten(2, 3)
        .softmax(2, Kind::Float)
        .view([3, 2, 4, 4]);
    for g in 0..2 {
        let (of_x, of_q) = (
            factor(x, &format!("b_net.{g}"), "v_net"),
            factor(&q, &format!("b_net.{g}"), "q_net"),
        );
        let attended = maps.select(1, g).transpose(1, 2).matmul(&of_x); // (B, T, H)
        let f = sum(sum(attended * of_q, 1).view([3, 6, 2]), 2); // (B, D)
        let residual = layers.normed(&f, &format!("backbone.q_prj.{g}.mlp.1"));
        q = &q + residual.unsqueeze(1);
    }
    let hidden = layers.normed(&sum(q, 1), "classifer.0").relu();
    layers.normed(&hidden, "classifer.3")
}

#[test]
fn regions_that_are_zero_are_masked() {
    let padding = Padding::MaskedAlways;
    assert_computes(
        &values("ban", &KEYS),
        Features::Regions,
        padding,
        |layers| plain(layers, &layers.features(), true),
    );
}

#[test]
fn behind_an_adapter_padding_takes_part() {
    let padding = Padding::Observed;
    assert_computes(&values("ban", &KEYS), Features::Grid, padding, |layers| {
        let x = layers.linear(&layers.features(), "adapter.grid_linear");
        plain(layers, &x, false)
    });
}
