//! The layers that act on one position at a time, on packed rows (R, features), and how a pass through them is run.

use super::parameters::Path;
use crate::native::weights::join_and_cast;
use crate::native::{self, Factors, Mask, device};
use anyhow::Result;
use std::cell::Cell;
use tch::{Device, Kind, Tensor};

/// How a forward pass is run: for training (with dropout) or not, in which arithmetic and by which kernels.
#[derive(Debug)]
pub struct Pass {
    /// Kind of the matrix products: float32, or bfloat16 with everything else in float32.
    pub product: Kind,
    pub(crate) kernels: Backend,
    dropout: Option<Cell<Mask>>,
}

/// Whose kernels compute what is not a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Our own, which run on a CPU.
    Native,
    /// libtorch's, which run anywhere; those for sequences of variable length, on a GPU.
    Libtorch,
}

impl Backend {
    fn of(device: Device) -> Backend {
        if device == Device::Cpu {
            Backend::Native
        } else {
            Backend::Libtorch
        }
    }
}

impl Pass {
    /// Without dropout.
    pub fn evaluation(product: Kind, device: Device) -> Pass {
        Pass {
            product,
            kernels: Backend::of(device),
            dropout: None,
        }
    }

    /// With dropout, whose masks depend on the seed of the run and on `pass`, a number that no other pass has.
    ///
    /// A GPU draws them from its own generator, which is seeded anew here; hence a resumed run draws the same.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn training(product: Kind, seed: u64, pass: u64, device: Device) -> Result<Pass> {
        if device.is_cuda() {
            device::seed(device, seed ^ pass.wrapping_mul(0x9E37_79B9_7F4A_7C15))?;
        }
        // A pass draws far fewer than 2^16 masks.
        let dropout = Some(Cell::new(Mask {
            p: 0.0,
            seed,
            stream: pass << 16,
        }));
        Ok(Pass {
            product,
            kernels: Backend::of(device),
            dropout,
        })
    }

    /// How the CPU's own products are made.
    fn factors(&self) -> Factors {
        if self.product == Kind::BFloat16 {
            Factors::BFloat16
        } else {
            Factors::Float
        }
    }

    /// Whether dropout is on.
    pub fn is_training(&self) -> bool {
        self.dropout.is_some()
    }

    /// The next mask of this pass, for dropout with probability `p` on the CPU.
    pub fn mask(&self, p: f64) -> Mask {
        self.dropout.as_ref().map_or(Mask::NONE, |next| {
            let mask = next.get();
            next.set(Mask {
                stream: mask.stream + 1,
                ..mask
            });
            Mask { p, ..mask }
        })
    }

    /// Dropout by libtorch.
    pub fn dropout(&self, x: Tensor, p: f64) -> Tensor {
        if self.is_training() && p > 0.0 {
            x.dropout(p, true)
        } else {
            x
        }
    }

    /// The probability that dropout zeroes a value where `p` is the one in training.
    pub fn dropout_rate(&self, p: f64) -> f64 {
        if self.is_training() { p } else { 0.0 }
    }
}

/// The native operations fail as tch's own do inside a forward pass: only when memory runs out. tch panics then; the
/// program catches that once, around the whole run.
#[allow(clippy::panic, reason = "as tch's own operations do")]
pub(crate) fn or_oom<T>(result: Result<T>) -> T {
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
        let [ready] = Linear::ready([&[self]], pass);
        ready.product(x, pass)
    }

    /// Layers in the kind of the products. The layers of a group become one, their outputs side by side. What is made ready
    /// together takes one kernel of a GPU.
    pub fn ready<const N: usize>(groups: [&[&Linear]; N], pass: &Pass) -> [Linear; N] {
        let nothing_to_do = pass.kernels == Backend::Native || pass.product == Kind::Float;
        if nothing_to_do && groups.iter().all(|group| group.len() == 1) {
            return groups.map(|group| group[0].share());
        }
        let kind = if pass.kernels == Backend::Native {
            Kind::Float
        } else {
            pass.product
        };
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
        std::array::from_fn(|i| Linear {
            weight: joined[i].shallow_clone(),
            bias: joined[N + i].shallow_clone(),
        })
    }

    /// What [`Linear::forward`] computes, by a layer that is ready.
    pub fn product(&self, x: &Tensor, pass: &Pass) -> Tensor {
        match pass.kernels {
            Backend::Native => or_oom(native::linear(
                &x.to_kind(Kind::Float),
                &self.weight,
                &self.bias,
                pass.factors(),
            )),
            Backend::Libtorch => x
                .to_kind(pass.product)
                .linear(&self.weight, Some(&self.bias)),
        }
    }

    fn share(&self) -> Linear {
        Linear {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
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
    pub fn new(
        mut path: Path,
        inputs: usize,
        middle: usize,
        outputs: usize,
        dropout_r: f64,
    ) -> Mlp {
        let fc = Linear::new(path.sub("fc").sub("linear"), inputs, middle);
        let linear = Linear::new(path.sub("linear"), middle, outputs);
        Mlp {
            fc,
            linear,
            dropout_r,
        }
    }

    /// # Shapes
    /// x (R, in) -> (R, out)
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let [fc, linear] = Linear::ready([&[&self.fc], &[&self.linear]], pass);
        let hidden = match pass.kernels {
            Backend::Native => {
                let mask = pass.mask(self.dropout_r);
                or_oom(native::linear_relu_dropout(
                    x,
                    &fc.weight,
                    &fc.bias,
                    mask,
                    pass.factors(),
                )) // (R, middle)
            }
            Backend::Libtorch => pass.dropout(fc.product(x, pass).relu(), self.dropout_r), // (R, middle)
        };
        linear.product(&hidden, pass)
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
        LayerNorm {
            a_2: path.constant("a_2", &[size], 1.0),
            b_2: path.constant("b_2", &[size], 0.0),
            size,
        }
    }

    /// # Shapes
    /// x (R, size) -> (R, size), float32
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        match pass.kernels {
            Backend::Native => or_oom(native::residual_norm(
                x,
                None,
                &self.a_2,
                &self.b_2,
                Mask::NONE,
            )),
            Backend::Libtorch => self.by_libtorch(x),
        }
    }

    /// The end of a sub-layer: `norm(x + dropout(sub_layer))`.
    ///
    /// # Shapes
    /// x, sub_layer (R, size) -> (R, size), float32
    pub fn add_norm(&self, x: &Tensor, sub_layer: Tensor, dropout_r: f64, pass: &Pass) -> Tensor {
        match pass.kernels {
            Backend::Native => or_oom(native::residual_norm(
                x,
                Some(&sub_layer),
                &self.a_2,
                &self.b_2,
                pass.mask(dropout_r),
            )),
            Backend::Libtorch => self.by_libtorch(&(x + pass.dropout(sub_layer, dropout_r))),
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
