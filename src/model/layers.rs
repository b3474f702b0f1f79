//! The layers that act on one position at a time, on packed rows (R, features), and how a pass through them is run.

use super::parameters::Path;
use crate::native::{self, Factors, Mask};
use std::cell::Cell;
use tch::{Device, Kind, Tensor};

/// How a forward pass is run: for training (with dropout) or not, and in which arithmetic.
#[derive(Debug)]
pub struct Pass {
    /// Kind of the matrix products: float32, or bfloat16 with everything else in float32.
    pub product: Kind,
    dropout: Option<Cell<Mask>>,
}

impl Pass {
    /// Without dropout.
    pub fn evaluation(product: Kind) -> Pass {
        Pass { product, dropout: None }
    }

    /// With dropout, whose masks depend on the seed of the run and on `pass`, a number that no other pass has.
    ///
    /// A GPU draws them from its own generator, which is seeded anew here; hence a resumed run draws the same.
    pub fn training(product: Kind, seed: u64, pass: u64, device: Device) -> Pass {
        if device.is_cuda() {
            tch::Cuda::manual_seed_all(seed ^ pass.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        }
        // A pass draws far fewer than 2^16 masks.
        Pass { product, dropout: Some(Cell::new(Mask { p: 0.0, seed, stream: pass << 16 })) }
    }

    /// How the CPU's own products are made.
    fn factors(&self) -> Factors {
        if self.product == Kind::BFloat16 { Factors::BFloat16 } else { Factors::Float }
    }

    /// Whether dropout is on.
    pub fn is_training(&self) -> bool {
        self.dropout.is_some()
    }

    /// The next mask of this pass, for dropout with probability `p` on the CPU.
    pub fn mask(&self, p: f64) -> Mask {
        self.dropout.as_ref().map_or(Mask::NONE, |next| {
            let mask = next.get();
            next.set(Mask { stream: mask.stream + 1, ..mask });
            Mask { p, ..mask }
        })
    }

    /// libtorch's dropout, for other devices than the CPU.
    pub fn dropout(&self, x: Tensor, p: f64) -> Tensor {
        if self.is_training() && p > 0.0 { x.dropout(p, true) } else { x }
    }
}

/// The native operations fail as tch's own do inside a forward pass: only when memory runs out. tch panics then; the
/// program catches that once, around the whole run.
pub(super) fn or_oom(result: anyhow::Result<Tensor>) -> Tensor {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// y = x Wᵀ + b.
#[derive(Debug)]
pub struct Linear {
    /// (out, in)
    pub weight: Tensor,
    /// (out)
    pub bias: Tensor,
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

    /// # Shapes
    /// x (R, in) -> (R, out)
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        Linear::joined(&[self], x, pass)
    }

    /// Several layers of one input as one matrix product, their outputs side by side.
    ///
    /// # Shapes
    /// x (R, in) -> (R, sum of out)
    pub fn joined(layers: &[&Linear], x: &Tensor, pass: &Pass) -> Tensor {
        let (weight, bias) = match layers {
            [one] => (one.weight.shallow_clone(), one.bias.shallow_clone()),
            _ => (
                Tensor::cat(&layers.iter().map(|l| &l.weight).collect::<Vec<_>>(), 0),
                Tensor::cat(&layers.iter().map(|l| &l.bias).collect::<Vec<_>>(), 0),
            ),
        };
        match x.device() {
            Device::Cpu => or_oom(native::linear(x, &weight, &bias, pass.factors())),
            _ => x.to_kind(pass.product).linear(&weight.to_kind(pass.product), Some(bias.to_kind(pass.product))),
        }
    }
}

/// Linear, ReLU, dropout, linear.
#[derive(Debug)]
pub struct Mlp {
    fc: Linear,
    linear: Linear,
    dropout_r: f64,
}

impl Mlp {
    /// Named `fc.linear` and `linear`, as in the reference.
    pub fn new(mut path: Path, inputs: usize, middle: usize, outputs: usize, dropout_r: f64) -> Mlp {
        let fc = Linear::new(path.sub("fc").sub("linear"), inputs, middle);
        let linear = Linear::new(path.sub("linear"), middle, outputs);
        Mlp { fc, linear, dropout_r }
    }

    /// # Shapes
    /// x (R, in) -> (R, out)
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let hidden = match x.device() {
            Device::Cpu => {
                let Linear { weight, bias } = &self.fc;
                let mask = pass.mask(self.dropout_r);
                or_oom(native::linear_relu_dropout(x, weight, bias, mask, pass.factors())) // (R, middle)
            }
            _ => pass.dropout(self.fc.forward(x, pass).relu(), self.dropout_r), // (R, middle)
        };
        self.linear.forward(&hidden, pass)
    }
}

/// The reference's layer norm: `a_2 (x - mean) / (std + 1e-6) + b_2` with the unbiased standard deviation.
#[derive(Debug)]
pub struct LayerNorm {
    a_2: Tensor,
    b_2: Tensor,
    size: i64,
}

/// PyTorch's kernel divides by sqrt(variance + epsilon). This one is far below the variance of any activation; the 1e-6
/// that the reference adds to the deviation is below float32 rounding there too.
const VARIANCE_EPSILON: f64 = 1e-12;

impl LayerNorm {
    /// One and zero at first.
    pub fn new(mut path: Path, size: usize) -> LayerNorm {
        let size = size as i64;
        LayerNorm { a_2: path.constant("a_2", &[size], 1.0), b_2: path.constant("b_2", &[size], 0.0), size }
    }

    /// # Shapes
    /// x (R, size) -> (R, size), float32
    pub fn forward(&self, x: &Tensor) -> Tensor {
        match x.device() {
            Device::Cpu => or_oom(native::residual_norm(x, None, &self.a_2, &self.b_2, Mask::NONE)),
            _ => self.by_libtorch(x),
        }
    }

    /// The end of a sub-layer: `norm(x + dropout(sub_layer))`.
    ///
    /// # Shapes
    /// x, sub_layer (R, size) -> (R, size), float32
    pub fn close(&self, x: &Tensor, sub_layer: Tensor, dropout_r: f64, pass: &Pass) -> Tensor {
        match x.device() {
            Device::Cpu => {
                or_oom(native::residual_norm(x, Some(&sub_layer), &self.a_2, &self.b_2, pass.mask(dropout_r)))
            }
            _ => self.by_libtorch(&(x + pass.dropout(sub_layer, dropout_r))),
        }
    }

    /// One kernel of a GPU: PyTorch's norm divides by the biased deviation, which `a_2` makes good.
    fn by_libtorch(&self, x: &Tensor) -> Tensor {
        let unbiased = ((self.size - 1) as f64 / self.size as f64).sqrt();
        x.to_kind(Kind::Float).layer_norm(
            [self.size],
            Some(&(&self.a_2 * unbiased)),
            Some(&self.b_2),
            VARIANCE_EPSILON,
            true,
        )
    }
}
