//! Layers that see whole sequences: multi-head attention (MHAtt) and attention-weighted pooling (AttFlat). Sections and
//! equations are those of Yu et al., 2019.

use super::{Linear, Mlp};
use crate::nn::ops;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use crate::nn::ragged::Ragged;
use tch::Tensor;

/// The packed rows of B sequences, with their layout.
#[derive(Clone, Copy)]
pub struct Sequences<'a> {
    /// (R, D)
    pub rows: &'a Tensor,
    /// The sequence of each of the R rows.
    pub layout: &'a Ragged,
}

/// Multi-head attention (section 3.1, eq. 2 and 3), `MHAtt` in the reference.
///
/// MA(q, K, V) = [head₁, ..., head_H] Wᵒ; headⱼ = A(q Wⱼ^Q, K Wⱼ^K, V Wⱼ^V). Eq. 1, A, is [`ops::attention`].
#[derive(Debug)]
pub struct MhAtt {
    linear_v: Linear,
    linear_k: Linear,
    linear_q: Linear,
    linear_merge: Linear,
    heads: i64,
    dropout_r: f64,
}

impl MhAtt {
    /// Four linear layers `linear_{v,k,q,merge}` of width `size`.
    pub fn new(mut path: Path, size: usize, heads: usize, dropout_r: f64) -> MhAtt {
        let mut linear = |name| Linear::new(path.sub(name), size, size);
        MhAtt {
            linear_v: linear("linear_v"),
            linear_k: linear("linear_k"),
            linear_q: linear("linear_q"),
            linear_merge: linear("linear_merge"),
            heads: heads as i64,
            dropout_r,
        }
    }

    /// Each position of `x` attends to the positions of its own sequence.
    ///
    /// # Shapes
    /// x (R, D) -> (R, D)
    pub fn self_attention(&self, x: Sequences, pass: &Pass) -> Tensor {
        let vkq = [&self.linear_v, &self.linear_k, &self.linear_q];
        let [linear_vkq, linear_merge] = ops::prepare([&vkq, &[&self.linear_merge]], pass);
        let vkq = ops::linear(x.rows, &linear_vkq, pass); // (R, 3 D)
        let layouts = (x.layout, x.layout);
        let heads = ops::attention(&vkq, None, layouts, self.heads, self.dropout_r, pass); // (R, D)
        ops::linear(&heads, &linear_merge, pass)
    }

    /// Each position of `x` attends to the positions of the sequence of `y` with the same number.
    ///
    /// # Shapes
    /// x (R, D), y (S, D) -> (R, D)
    pub fn cross_attention(&self, x: Sequences, y: Sequences, pass: &Pass) -> Tensor {
        let (vk, q) = ([&self.linear_v, &self.linear_k], [&self.linear_q]);
        let [linear_vk, linear_q, linear_merge] =
            ops::prepare([&vk, &q, &[&self.linear_merge]], pass);
        let vk = ops::linear(y.rows, &linear_vk, pass); // (S, 2 D)
        let q = ops::linear(x.rows, &linear_q, pass); // (R, D)
        let layouts = (x.layout, y.layout);
        let heads = ops::attention(&vk, Some(&q), layouts, self.heads, self.dropout_r, pass); // (R, D)
        ops::linear(&heads, &linear_merge, pass)
    }
}

/// Attention-weighted pooling of a sequence X to one vector (section 4.3, eq. 5), `AttFlat` in the reference.
///
/// α = softmax(MLP(X)); x̃ = Σ αᵢ xᵢ. Each of G glimpses has its own α. A linear layer on the G vectors x̃ follows: W_x
/// or W_y of eq. 6.
#[derive(Debug)]
pub struct AttFlat {
    mlp: Mlp,
    linear_merge: Linear,
}

/// Sizes of an [`AttFlat`].
#[derive(Clone, Copy, Debug)]
pub struct AttFlatSizes {
    /// D
    pub input: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// G, the number of distributions α.
    pub glimpses: usize,
    /// Width of the pooled vector.
    pub output: usize,
}

impl AttFlat {
    /// Named `mlp` and `linear_merge`.
    pub fn new(mut path: Path, sizes: AttFlatSizes, dropout_r: f64) -> AttFlat {
        let AttFlatSizes {
            input,
            mlp,
            glimpses,
            output,
        } = sizes;
        AttFlat {
            mlp: Mlp::new(path.sub("mlp"), input, mlp, glimpses, dropout_r),
            linear_merge: Linear::new(path.sub("linear_merge"), input * glimpses, output),
        }
    }

    /// Pools each sequence.
    ///
    /// # Shapes
    /// x (R, D) -> (B, output)
    pub fn forward(&self, x: Sequences, pass: &Pass) -> Tensor {
        let logits = self.mlp.forward(x.rows, pass); // (R, G)
        let pooled = ops::weighted_sum(&logits, x.rows, x.layout); // (B, G D)
        self.linear_merge.forward(&pooled, pass)
    }
}
