//! Relation self-attention (RSA): attention within an image that is biased by where two regions lie.
//!
//! "Deep Multimodal Neural Architecture Search" (Yu et al., ACM MM 2020), section 3.1, eq. 4 to 6, as OpenVQA computes it.

use super::{Linear, Sequences};
use crate::nn::ops;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use crate::nn::ragged::{Pairs, Ragged};
use tch::{Kind, Tensor};

/// The least distance of two centres, in widths or heights of a region, whose logarithm counts.
const LEAST_DISTANCE: f64 = 1e-3;
/// The least relation whose logarithm counts.
const LEAST_RELATION: f64 = 1e-6;

/// The relations of all pairs of regions of each image: the same for all RSA blocks.
#[derive(Debug)]
pub(crate) struct Relations {
    pairs: Pairs,
    /// (Q, REL_SIZE) ReLU(linear_rel(P))
    values: Tensor,
}

impl Relations {
    /// The relations of the regions with these boxes.
    ///
    /// P of a pair (i, j), with centres c, widths w and heights h: log |cxᵢ - cxⱼ| / wᵢ, log |cyᵢ - cyⱼ| / hᵢ, log wᵢ / wⱼ,
    /// log hᵢ / hⱼ.
    ///
    /// # Shapes
    /// boxes (R, 4) corners x1, y1, x2, y2
    pub(crate) fn new(
        boxes: &Tensor,
        layout: &Ragged,
        linear_rel: &Linear,
        pass: &Pass,
    ) -> Relations {
        let corners = layout.pad(boxes).chunk(4, 2); // (B, L, 1) each
        let sides = |a: usize| (&corners[a + 2] - &corners[a]) + 1.0;
        let centres = |a: usize| (&corners[a] + &corners[a + 2]) * 0.5;
        // Row i is a query, column j a key.
        let column = |x: &Tensor| x.transpose(1, 2);
        let distance = |c: &Tensor, side: &Tensor| {
            let apart = (c - column(c)).abs() / side;
            apart.clamp_min(LEAST_DISTANCE).log() // (B, L, L)
        };
        let ratio = |side: &Tensor| (side / column(side)).log(); // (B, L, L)
        let (w, h) = (sides(0), sides(1));
        let p = [
            distance(&centres(0), &w),
            distance(&centres(1), &h),
            ratio(&w),
            ratio(&h),
        ];
        let pairs = Pairs::of(layout);
        let p = pairs.unpad(&Tensor::stack(&p, 3)); // (Q, 4)
        let values = linear_rel.forward(&p, pass).to_kind(Kind::Float).relu();
        Relations { pairs, values }
    }
}

/// Multi-head self-attention in which log max(ReLU(linear_r(R)), 1e-6) of a pair is added to its score.
#[derive(Debug)]
pub(crate) struct RelationAttention {
    linear_v: Linear,
    linear_k: Linear,
    linear_q: Linear,
    linear_merge: Linear,
    linear_r: Linear,
    heads: i64,
    dropout_r: f64,
}

impl RelationAttention {
    /// Four linear layers `linear_{v,k,q,merge}` of width `size`, and `linear_r` from `relation` values to a value for each
    /// head.
    pub(crate) fn new(
        mut path: Path,
        size: usize,
        heads: usize,
        relation: usize,
        dropout_r: f64,
    ) -> RelationAttention {
        let mut linear = |name| Linear::new(path.sub(name), size, size);
        RelationAttention {
            linear_v: linear("linear_v"),
            linear_k: linear("linear_k"),
            linear_q: linear("linear_q"),
            linear_merge: linear("linear_merge"),
            linear_r: Linear::new(path.sub("linear_r"), relation, heads),
            heads: heads as i64,
            dropout_r,
        }
    }

    /// Each position of `x` attends to the positions of its own sequence.
    ///
    /// # Shapes
    /// x (R, D) -> (R, D)
    pub(crate) fn forward(&self, x: Sequences, relations: &Relations, pass: &Pass) -> Tensor {
        let Relations { pairs, values } = relations;
        let r = self.linear_r.forward(values, pass).to_kind(Kind::Float); // (Q, H)
        let bias = r.relu().clamp_min(LEAST_RELATION).log();
        let vkq = [&self.linear_v, &self.linear_k, &self.linear_q];
        let [linear_vkq, linear_merge] = ops::prepare([&vkq, &[&self.linear_merge]], pass);
        let vkq = ops::linear(x.rows, &linear_vkq, pass); // (R, 3 D)
        let (heads, p) = (self.heads, self.dropout_r);
        let heads = ops::relation_attention(&vkq, &bias, pairs, x.layout, heads, p, pass); // (R, D)
        ops::linear(&heads, &linear_merge, pass)
    }
}
