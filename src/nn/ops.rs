//! The operations that models are made of, and the one place that chooses kernels.
//!
//! Each function computes the formula in its doc comment. `Backend::Reference` is that formula in plain tensor
//! operations; `Backend::Native` runs this program's fused kernels on a CPU; `Backend::Libtorch` runs libtorch's on a
//! GPU. Tests compare the three. No other file of `nn` or `models` asks which backend a pass has.
//!
//! Letters of shapes: B sequences; R, S packed rows; L, M longest sequence; D width; H heads; d = D / H, the width of a
//! head.

use super::layers::{LayerNorm, Linear};
use super::pass::{Backend, Pass, or_oom};
use super::ragged::{Pairs, Ragged, split_heads};
use crate::native::weights::join_and_cast;
use crate::native::{self, varlen};
use tch::{Kind, Tensor};

/// The epsilon of libtorch's kernel, which divides by sqrt(variance + epsilon). As the 1e-6 that the reference adds to
/// the deviation, it is negligible beside the deviations of activations.
const VARIANCE_EPSILON: f64 = 1e-12;

/// The weights and biases of linear layers, side by side, in the dtype of their kernel.
#[derive(Debug)]
pub(crate) struct LinearWeights {
    /// (out, in)
    weight: Tensor,
    /// (out)
    bias: Tensor,
}

/// Casts weights to the matmul dtype and concatenates the layers of each group, so that v, k and q are one product. On
/// a GPU all casts run in one kernel.
pub(crate) fn prepare<const N: usize>(groups: [&[&Linear]; N], pass: &Pass) -> [LinearWeights; N] {
    let kind = match pass.backend {
        Backend::Native | Backend::Reference => Kind::Float,
        Backend::Libtorch => pass.matmul_dtype,
    };
    if kind == Kind::Float && groups.iter().all(|group| group.len() == 1) {
        return groups.map(|group| LinearWeights {
            weight: group[0].weight.shallow_clone(),
            bias: group[0].bias.shallow_clone(),
        });
    }
    let weights = groups
        .iter()
        .map(|group| group.iter().map(|layer| &layer.weight).collect());
    let biases = groups
        .iter()
        .map(|group| group.iter().map(|layer| &layer.bias).collect());
    let joined = or_oom(join_and_cast(
        &weights.chain(biases).collect::<Vec<_>>(),
        kind,
    ));
    std::array::from_fn(|i| LinearWeights {
        weight: joined[i].shallow_clone(),
        bias: joined[N + i].shallow_clone(),
    })
}

/// y = x Wᵀ + b
///
/// # Shapes
/// x (R, in) -> (R, out)
pub(crate) fn linear(
    x: &Tensor,
    LinearWeights { weight, bias }: &LinearWeights,
    pass: &Pass,
) -> Tensor {
    match pass.backend {
        Backend::Reference => x.to_kind(Kind::Float).matmul(&weight.tr()) + bias,
        Backend::Native => {
            let x = x.to_kind(Kind::Float);
            or_oom(native::linear(&x, weight, bias, pass.factors()))
        }
        Backend::Libtorch => x.to_kind(pass.matmul_dtype).linear(weight, Some(bias)),
    }
}

/// y = dropout(max(x Wᵀ + b, 0))
///
/// # Shapes
/// x (R, in) -> (R, out)
pub(crate) fn linear_relu_dropout(
    x: &Tensor,
    weights: &LinearWeights,
    p: f64,
    pass: &Pass,
) -> Tensor {
    match pass.backend {
        Backend::Reference | Backend::Libtorch => pass.dropout(linear(x, weights, pass).relu(), p),
        Backend::Native => {
            let LinearWeights { weight, bias } = weights;
            let mask = pass.mask(p);
            or_oom(native::linear_relu_dropout(
                x,
                weight,
                bias,
                mask,
                pass.factors(),
            ))
        }
    }
}

/// y = a (x - mean(x)) / (std(x) + 1e-6) + b, with the unbiased standard deviation of each row
///
/// # Shapes
/// x (R, D) -> (R, D), float32
pub(crate) fn norm(x: &Tensor, LayerNorm { a_2, b_2 }: &LayerNorm, pass: &Pass) -> Tensor {
    match pass.backend {
        Backend::Reference => {
            let x = x.to_kind(Kind::Float);
            let mean = x.mean_dim([-1i64].as_slice(), true, Kind::Float); // (R, 1)
            let std = x.std_dim([-1i64].as_slice(), true, true); // (R, 1)
            a_2 * (x - mean) / (std + 1e-6) + b_2
        }
        Backend::Native => or_oom(native::residual_norm(x, None, a_2, b_2, native::Mask::NONE)),
        Backend::Libtorch => {
            // `layer_norm` uses the biased standard deviation; scaling `a_2` by sqrt((D - 1) / D) corrects for it.
            let size = a_2.numel() as i64;
            let unbiased = ((size - 1) as f64 / size as f64).sqrt();
            let a_2 = a_2 * unbiased;
            x.to_kind(Kind::Float)
                .layer_norm([size], Some(&a_2), Some(b_2), VARIANCE_EPSILON, true)
        }
    }
}

/// y = norm(x + dropout(f)), the end of every sub-layer
///
/// # Shapes
/// x, f (R, D) -> (R, D), float32
pub(crate) fn add_norm(x: &Tensor, f: Tensor, layer: &LayerNorm, p: f64, pass: &Pass) -> Tensor {
    match pass.backend {
        Backend::Reference | Backend::Libtorch => norm(&(x + pass.dropout(f, p)), layer, pass),
        Backend::Native => {
            let LayerNorm { a_2, b_2 } = layer;
            or_oom(native::residual_norm(x, Some(&f), a_2, b_2, pass.mask(p)))
        }
    }
}

/// A(q, K, V) = softmax(q Kᵀ / √d) V for each head (Yu et al., eq. 1), with dropout on the softmax
///
/// Sequence b of `queries` attends to sequence b of `keys`. If that sequence is only padding, its weights are uniform.
///
/// # Shapes
/// vk (S, 2 D) v and k side by side, q (R, D) -> (R, D); without `q`, vk is (S, 3 D) and holds q too
pub(crate) fn attention(
    vk: &Tensor,
    q: Option<&Tensor>,
    (queries, keys): (&Ragged, &Ragged),
    heads: i64,
    p: f64,
    pass: &Pass,
) -> Tensor {
    let width = vk.size()[1] / if q.is_some() { 2 } else { 3 };
    match pass.backend {
        Backend::Native => {
            let mask = pass.mask(p);
            or_oom(native::attention(
                vk,
                q,
                queries.rows(),
                keys.rows(),
                heads,
                mask,
            ))
        }
        Backend::Libtorch if varlen::is_available(width / heads) => {
            let p = pass.dropout_rate(p);
            or_oom(varlen::attention(
                vk,
                q,
                queries.rows(),
                keys.rows(),
                heads,
                p,
            ))
        }
        Backend::Libtorch | Backend::Reference => {
            attention_in_grid(vk, q, (queries, keys), heads, p, pass)
        }
    }
}

/// The reference arm of [`attention`]: pads sequences to the longest one, and masks the padding.
fn attention_in_grid(
    vk: &Tensor,
    q: Option<&Tensor>,
    (queries, keys): (&Ragged, &Ragged),
    heads: i64,
    p: f64,
    pass: &Pass,
) -> Tensor {
    let vkq = split_heads(&keys.pad(vk), if q.is_some() { 2 } else { 3 }, heads); // (B, H, M, d) each
    let q = match q {
        Some(q) => split_heads(&queries.pad(q), 1, heads).remove(0), // (B, H, L, d)
        None => vkq[2].shallow_clone(),
    };
    let bias = keys.key_bias(&[keys.batch, 1, 1, keys.longest]);
    biased_attention([&vkq[0], &vkq[1], &q], &bias, (queries, keys), p, pass)
}

/// softmax(q Kᵀ / √d + bias) V for each head of padded grids, with dropout on the softmax
///
/// # Shapes
/// v, k (B, H, M, d), q (B, H, L, d), bias that expands to (B, H, L, M) -> (R, D)
fn biased_attention(
    [v, k, q]: [&Tensor; 3],
    bias: &Tensor,
    (queries, keys): (&Ragged, &Ragged),
    p: f64,
    pass: &Pass,
) -> Tensor {
    let (b, h, l, d_k) = q.size4().unwrap_or_default();
    let q = keys.zero_if_all_padding(q / (d_k as f64).sqrt());
    let scores = q.matmul(&k.transpose(-2, -1)).to_kind(Kind::Float) + bias; // (B, H, L, M)
    let weights = pass.dropout(scores.softmax(-1, Kind::Float), p); // (B, H, L, M)
    let attended = weights.to_kind(v.kind()).matmul(v); // (B, H, L, d)
    queries.unpad(&attended.transpose(1, 2).reshape([b, l, h * d_k])) // (R, D)
}

/// Self-attention with a bias for each pair of rows of a sequence: softmax(q Kᵀ / √d + bias) V for each head
///
/// # Shapes
/// vkq (R, 3 D) v, k and q side by side, bias (Q, H) of the pairs in `pairs` -> (R, D)
pub(crate) fn relation_attention(
    vkq: &Tensor,
    bias: &Tensor,
    pairs: &Pairs,
    layout: &Ragged,
    heads: i64,
    p: f64,
    pass: &Pass,
) -> Tensor {
    let vkq = split_heads(&layout.pad(vkq), 3, heads); // (B, H, L, d) each
    let bias = layout.zero_if_all_padding(pairs.pad(bias, layout)); // (B, L, L, H)
    let masked = layout.key_bias(&[layout.batch, 1, 1, layout.longest]);
    let bias = bias.permute([0, 3, 1, 2]) + masked; // (B, H, L, L)
    biased_attention(
        [&vkq[0], &vkq[1], &vkq[2]],
        &bias,
        (layout, layout),
        p,
        pass,
    )
}

/// α = softmax(logits) over the rows of a sequence; Σ αᵢ xᵢ for each of the G columns of α (Yu et al., eq. 5)
///
/// If a sequence is only padding, its weights are uniform.
///
/// # Shapes
/// logits (R, G), x (R, D) -> (B, G D)
pub(crate) fn weighted_sum(logits: &Tensor, x: &Tensor, layout: &Ragged) -> Tensor {
    let logits = layout.pad(&logits.to_kind(Kind::Float)); // (B, L, G)
    let logits =
        layout.zero_if_all_padding(logits) + layout.key_bias(&[layout.batch, layout.longest, 1]);
    let weights = logits.softmax(1, Kind::Float); // (B, L, G)
    let sums = weights.transpose(1, 2).matmul(&layout.pad(x)); // (B, G, D)
    sums.view([layout.batch, -1]) // (B, G D)
}

/// The outputs of a one-layer LSTM that starts from a zero state (Hochreiter and Schmidhuber, 1997)
///
/// `weights` are `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`.
///
/// # Shapes
/// x (B, L, in) -> (B, L, D)
pub(crate) fn lstm(x: &Tensor, weights: &[Tensor; 4]) -> Tensor {
    let zero = zero_state(x, weights);
    let (layers, dropout, bidirectional, batch_first) = (1, 0.0, false, true);
    let (out, _, _) = x.lstm(
        &[&zero, &zero],
        &weights.each_ref(),
        true,
        layers,
        dropout,
        true,
        bidirectional,
        batch_first,
    );
    out
}

/// The outputs of a one-layer GRU that starts from a zero state (Cho et al., 2014), with the reset gate after the recurrent
/// product
///
/// `weights` are `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`.
///
/// # Shapes
/// x (B, L, in) -> (B, L, D)
pub(crate) fn gru(x: &Tensor, weights: &[Tensor; 4]) -> Tensor {
    let (layers, dropout, bidirectional, batch_first) = (1, 0.0, false, true);
    let (out, _) = x.gru(
        &zero_state(x, weights),
        &weights.each_ref(),
        true,
        layers,
        dropout,
        true,
        bidirectional,
        batch_first,
    );
    out
}

/// # Shapes
/// x (B, L, in) -> (1, B, D)
fn zero_state(x: &Tensor, weights: &[Tensor; 4]) -> Tensor {
    let (batch, hidden) = (x.size()[0], weights[1].size()[1]);
    Tensor::zeros([1, batch, hidden], (Kind::Float, x.device()))
}
