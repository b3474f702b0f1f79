//! Linear layers with weight normalisation (Salimans and Kingma, 2016), as PyTorch's `weight_norm(layer, dim=None)`.

use super::Linear;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use tch::{Kind, Tensor};

/// A linear layer whose weight is W = g v / ‖v‖, with the norm over the whole matrix and a scalar g.
#[derive(Debug)]
pub(crate) struct WeightNormLinear {
    /// (out)
    bias: Tensor,
    /// ()
    weight_g: Tensor,
    /// (out, in)
    weight_v: Tensor,
}

impl WeightNormLinear {
    /// Parameters `bias`, `weight_g`, `weight_v`, in this order. The initial v is PyTorch's default for a linear layer,
    /// and the initial g is the norm of v.
    pub(crate) fn new(mut path: Path, inputs: usize, outputs: usize) -> WeightNormLinear {
        let bound = 1.0 / (inputs as f64).sqrt();
        let (inputs, outputs) = (inputs as i64, outputs as i64);
        let bias = path.uniform("bias", &[outputs], bound);
        let weight_g = path.constant("weight_g", &[], 0.0);
        let weight_v = path.uniform("weight_v", &[outputs, inputs], bound);
        let norm = tch::no_grad(|| weight_v.norm());
        tch::no_grad(|| weight_g.shallow_clone().copy_(&norm));
        WeightNormLinear {
            bias,
            weight_g,
            weight_v,
        }
    }

    /// The linear layer with weight W, for several uses in a pass.
    pub(crate) fn layer(&self) -> Linear {
        Linear {
            weight: &self.weight_v * (&self.weight_g / self.weight_v.norm()),
            bias: self.bias.shallow_clone(),
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// x (R, in) -> (R, out), float32
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        self.layer().forward(x, pass).to_kind(Kind::Float)
    }
}
