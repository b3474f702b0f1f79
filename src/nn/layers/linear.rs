//! Layers that act on one position at a time, on packed rows (R, features).

use crate::nn::ops;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use tch::Tensor;

/// A linear layer, y = x Wᵀ + b.
#[derive(Debug)]
pub struct Linear {
    /// (out, in)
    pub(crate) weight: Tensor,
    /// (out)
    pub(crate) bias: Tensor,
}

impl Linear {
    /// Weights and bias uniform in ±1/sqrt(`inputs`), PyTorch's default.
    pub fn new(mut path: Path, inputs: usize, outputs: usize) -> Linear {
        let bound = 1.0 / (inputs as f64).sqrt();
        let (inputs, outputs) = (inputs as i64, outputs as i64);
        Linear {
            weight: path.uniform("weight", &[outputs, inputs], bound),
            bias: path.uniform("bias", &[outputs], bound),
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// x (R, in) -> (R, out)
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let [weights] = ops::prepare([&[self]], pass);
        ops::linear(x, &weights, pass)
    }
}

/// Applies a layer for rows to each row of a grid.
///
/// # Shapes
/// x (B, T, in) -> (B, T, out)
pub(crate) fn each_row(x: &Tensor, layer: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
    let size = x.size();
    let rows = layer(&x.flatten(0, 1)); // (B T, out)
    rows.view([size[0], size[1], -1])
}

/// A multi-layer perceptron: FC, ReLU, dropout, FC.
#[derive(Debug)]
pub struct Mlp {
    fc: Linear,
    linear: Linear,
    dropout_r: f64,
}

impl Mlp {
    /// Named `fc.linear` and `linear`, as in the reference.
    pub fn new(
        mut path: Path,
        inputs: usize,
        middle: usize,
        outputs: usize,
        dropout_r: f64,
    ) -> Mlp {
        Mlp {
            fc: Linear::new(path.sub("fc").sub("linear"), inputs, middle),
            linear: Linear::new(path.sub("linear"), middle, outputs),
            dropout_r,
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// x (R, in) -> (R, out)
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let [fc, linear] = ops::prepare([&[&self.fc], &[&self.linear]], pass);
        let hidden = ops::linear_relu_dropout(x, &fc, self.dropout_r, pass); // (R, middle)
        ops::linear(&hidden, &linear, pass)
    }
}
