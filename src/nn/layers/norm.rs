//! The layer norm of the reference.

use crate::nn::ops;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use tch::Tensor;

/// A layer norm with the unbiased standard deviation: `a_2 (x - mean) / (std + 1e-6) + b_2`.
#[derive(Debug)]
pub struct LayerNorm {
    /// (D) scale.
    pub(crate) a_2: Tensor,
    /// (D) shift.
    pub(crate) b_2: Tensor,
}

impl LayerNorm {
    /// Scale one, shift zero.
    pub fn new(mut path: Path, size: usize) -> LayerNorm {
        let size = [size as i64];
        LayerNorm {
            a_2: path.constant("a_2", &size, 1.0),
            b_2: path.constant("b_2", &size, 0.0),
        }
    }

    /// Normalises each row.
    ///
    /// # Shapes
    /// x (R, D) -> (R, D), float32
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        ops::norm(x, self, pass)
    }

    /// The end of a sub-layer whose output is f: norm(x + dropout(f)).
    ///
    /// # Shapes
    /// x, f (R, D) -> (R, D), float32
    pub(crate) fn add_norm(&self, x: &Tensor, f: Tensor, dropout_r: f64, pass: &Pass) -> Tensor {
        ops::add_norm(x, f, self, dropout_r, pass)
    }
}
