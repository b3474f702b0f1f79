use super::*;
use crate::models::testing::{Features, Plain, assert_computes, values};
use keys::Arch;

const SIZE: i64 = 8;
const HEADS: i64 = 2;

fn nas_keys() -> NasKeys {
    NasKeys {
        arch: Arch {
            enc: vec![Block::Sa, Block::Ffn],
            dec: vec![Block::Ga, Block::Rsa, Block::Sa, Block::Ffn, Block::Rsa],
        },
        hidden_size: SIZE as usize,
        multi_head: HEADS as usize,
        rel_hbase: 4,
        rel_size: 3,
        dropout_r: 0.0,
        flat_mlp_size: 5,
        flat_glimpses: 2,
        flat_out_size: 6,
        word_embed_size: 4,
        ff_size: 2048,
        bboxfeat_emb_size: 2048,
        use_bbox_feat: false,
        use_aux_feat: false,
    }
}

/// (a - mean) / (standard deviation + ε), scaled and shifted.
fn norm(layers: &Plain, x: &Tensor, name: &str) -> Tensor {
    let [a, b] = ["a_2", "b_2"].map(|part| layers.get(&format!("{name}.{part}")));
    let apart = x - x.mean_dim([-1i64].as_slice(), true, Kind::Float);
    apart * a / (x.std_dim([-1i64].as_slice(), true, true) + 1e-6) + b
}

/// Multi-head attention from `x` to the positions of `y` that `mask` does not cover; `bias` (B, heads, N, N) is added to
/// the scores.
fn attention(
    layers: &Plain,
    [x, y, mask]: [&Tensor; 3],
    bias: Option<&Tensor>,
    name: &str,
) -> Tensor {
    let heads = |x: &Tensor, layer: &str| {
        let x = layers.linear(x, &format!("{name}.linear_{layer}"));
        x.view([3, -1, HEADS, SIZE / HEADS]).transpose(1, 2)
    };
    let (v, k, q) = (heads(y, "v"), heads(y, "k"), heads(x, "q"));
    let scores = q.matmul(&k.transpose(2, 3)) / ((SIZE / HEADS) as f64).sqrt();
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    let mask = mask.view([3, 1, 1, -1]).expand_as(&scores);
    let weights = scores.masked_fill(&mask, -1e9).softmax(3, Kind::Float);
    let attended = weights.matmul(&v).transpose(1, 2).flatten(2, 3);
    layers.linear(&attended, &format!("{name}.linear_merge"))
}

/// (B, N, N, REL_SIZE) ReLU(linear_rel(P)): see section 3.1 of the paper.
fn relations(layers: &Plain) -> Tensor {
    let corners = layers.boxes().chunk(4, 2); // (B, N, 1) each
    let row_column = |x: &Tensor| [x.shallow_clone(), x.transpose(1, 2)];
    let mut numbers = Vec::new();
    let mut ratios = Vec::new();
    for axis in 0..2 {
        let (low, high) = (&corners[axis], &corners[axis + 2]);
        let [side_i, side_j] = row_column(&(high - low + 1.0));
        let [centre_i, centre_j] = row_column(&((low + high) / 2.0));
        let apart = (centre_i - centre_j).abs() / &side_i;
        numbers.push(apart.clamp_min(1e-3).log());
        ratios.push((side_i / side_j).log());
    }
    numbers.extend(ratios);
    layers
        .linear(&Tensor::stack(&numbers, 3), "linear_rel")
        .relu()
}

fn block(
    layers: &Plain,
    part: &str,
    i: usize,
    block: Block,
    own: [&Tensor; 2],
    guide: [&Tensor; 2],
) -> Tensor {
    let name = format!("backbone.{part}_list.{i}");
    let ([x, mask], mhatt) = (own, format!("{name}.mhatt"));
    let f = match block {
        Block::Sa => attention(layers, [x, x, mask], None, &mhatt),
        Block::Ga => attention(layers, [x, guide[0], guide[1]], None, &mhatt),
        Block::Rsa => {
            let r = layers
                .linear(&relations(layers), &format!("{mhatt}.linear_r"))
                .relu();
            let bias = r.clamp_min(1e-6).log().permute([0, 3, 1, 2]);
            attention(layers, [x, x, mask], Some(&bias), &mhatt)
        }
        Block::Ffn => layers.mlp(x, &format!("{name}.mlp")),
    };
    norm(layers, &(x + f), &format!("{name}.norm"))
}

fn flat(layers: &Plain, [x, mask]: [&Tensor; 2], name: &str) -> Tensor {
    let logits = layers.mlp(x, &format!("{name}.mlp"));
    let mask = mask.unsqueeze(2).expand_as(&logits);
    let weights = logits.masked_fill(&mask, -1e9).softmax(1, Kind::Float);
    let pooled = weights.transpose(1, 2).matmul(x).flatten(1, 2);
    layers.linear(&pooled, &format!("{name}.linear_merge"))
}

#[test]
fn the_model_is_that_of_openvqa_without_computing_padding() {
    let keys = nas_keys();
    let features = Features::RegionsWithBoxes;
    assert_computes(
        &values("mmnasnet", &keys),
        features,
        Padding::Masked,
        |layers| {
            let (mask, row_mask) = (layers.word_mask(), layers.row_mask());
            let mut y = layers.lstm(&layers.embedded(), "lstm");
            for (i, &kind) in keys.arch.enc.iter().enumerate() {
                y = block(layers, "enc", i, kind, [&y, &mask], [&y, &mask]);
            }
            let mut x = layers.linear(&layers.features(), "adapter.frcn_linear");
            for (i, &kind) in keys.arch.dec.iter().enumerate() {
                x = block(layers, "dec", i, kind, [&x, &row_mask], [&y, &mask]);
            }
            let lang = flat(layers, [&y, &mask], "attflat_lang");
            let img = flat(layers, [&x, &row_mask], "attflat_img");
            layers.linear(&norm(layers, &(lang + img), "proj_norm"), "proj")
        },
    );
}
