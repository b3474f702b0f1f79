use super::*;
use crate::models::testing::{Features, Plain, assert_computes, values};

const KEYS: MfbKeys = MfbKeys {
    high_order: false,
    hidden_size: 6,
    mfb_k: 2,
    mfb_o: 5,
    lstm_out_size: 7,
    dropout_r: 0.0,
    i_glimpses: 2,
    q_glimpses: 3,
    word_embed_size: 4,
};

/// Weighted sums over the positions of `x`, one behind the other.
///
/// # Shapes
/// logits (B, N, G), x (B, N, D) -> (B, G D)
fn pooled(logits: &Tensor, x: &Tensor) -> Tensor {
    let weights = logits.softmax(1, Kind::Float);
    weights.transpose(1, 2).matmul(x).flatten(1, 2)
}

/// The products, and the fused representation with norm 1 for each question.
fn pool(layers: &Plain, name: &str, of: [&Tensor; 2], before: Option<&Tensor>) -> [Tensor; 2] {
    let [v, q] = [(of[0], "proj_i"), (of[1], "proj_q")]
        .map(|(x, layer)| layers.linear(x, &format!("backbone.{name}.{layer}")));
    let products = match before {
        Some(before) => v * q * before,
        None => v * q,
    };
    let s = products
        .view([3, -1, 5, 2])
        .sum_dim_intlist([3i64].as_slice(), false, Kind::Float);
    let u = (s.relu().sqrt() - s.neg().relu().sqrt()).flatten(1, 2); // (B, N O)
    let norm = (&u * &u)
        .sum_dim_intlist([1i64].as_slice(), true, Kind::Float)
        .sqrt();
    [products, u / norm]
}

/// The model as OpenVQA writes it, with padding of words and of regions.
fn plain(layers: &Plain, blocks: &[&str]) -> Tensor {
    let h = layers.lstm(&layers.embedded(), "lstm"); // (B, T, L)
    let q = pooled(&layers.mlp(&h, "backbone.q_att.mlp"), &h); // (B, L Q)
    let x = layers.features();
    let [_, z] = pool(layers, "i_att.mfb", [&x, &q.unsqueeze(1)], None);
    let logits = layers.mlp(&z.view([3, 4, 5]), "backbone.i_att.mlp");
    let v = pooled(&logits, &x); // (B, F I)
    let (mut fused, mut before) = (Vec::new(), None);
    for block in blocks {
        let [products, z] = pool(layers, block, [&v, &q], before.as_ref());
        fused.push(z);
        before = Some(products);
    }
    layers.linear(&Tensor::cat(&fused, 1), "proj")
}

#[test]
fn one_block_is_mfb() {
    let values = values("mfb", &KEYS);
    assert_computes(&values, Features::Regions, Padding::Observed, |layers| {
        plain(layers, &["mfb"])
    });
}

#[test]
fn two_blocks_are_mfh() {
    let values = values(
        "mfb",
        &MfbKeys {
            high_order: true,
            ..KEYS
        },
    );
    assert_computes(&values, Features::Regions, Padding::Observed, |layers| {
        plain(layers, &["mfh1", "mfh2"])
    });
}
