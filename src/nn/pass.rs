//! How a forward pass is run: with dropout or without, in which arithmetic, by which kernels.

use crate::native::{self, Factors, Mask, device};
use anyhow::Result;
use std::cell::Cell;
use tch::{Device, Kind, Tensor};

/// The kernels that the operations of [`ops`](super::ops) run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The formula in plain tensor operations. It defines what the other two compute.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests choose it"))]
    Reference,
    /// This program's fused kernels for a CPU.
    Native,
    /// libtorch's kernels; on a GPU those for sequences of variable length.
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

/// One forward pass, and the random numbers of its dropout.
#[derive(Debug)]
pub struct Pass {
    /// Type of the factors of matrix products: float32, or bfloat16 with everything else in float32.
    pub(crate) matmul_dtype: Kind,
    pub(crate) backend: Backend,
    dropout: Option<Cell<Mask>>,
}

impl Pass {
    /// A pass without dropout.
    pub fn evaluation(matmul_dtype: Kind, device: Device) -> Pass {
        Pass {
            matmul_dtype,
            backend: Backend::of(device),
            dropout: None,
        }
    }

    /// A pass with dropout. Its masks depend on the seed of the run and on `pass`, a number that no other pass has.
    ///
    /// A GPU draws the masks from its own generator. The generator is seeded for each pass, so a resumed run draws the
    /// same masks.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn training(matmul_dtype: Kind, seed: u64, pass: u64, device: Device) -> Result<Pass> {
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
            matmul_dtype,
            backend: Backend::of(device),
            dropout,
        })
    }

    /// Whether dropout is on.
    pub(crate) fn is_training(&self) -> bool {
        self.dropout.is_some()
    }

    /// The matmul dtype, as the native products name it.
    pub(super) fn factors(&self) -> Factors {
        if self.matmul_dtype == Kind::BFloat16 {
            Factors::BFloat16
        } else {
            Factors::Float
        }
    }

    /// The next mask of this pass, for a native kernel that drops values with probability `p`.
    pub(super) fn mask(&self, p: f64) -> Mask {
        self.dropout.as_ref().map_or(Mask::NONE, |next| {
            let mask = next.get();
            next.set(Mask {
                stream: mask.stream + 1,
                ..mask
            });
            Mask { p, ..mask }
        })
    }

    /// `p` in a pass with dropout, else 0.
    pub(super) fn dropout_rate(&self, p: f64) -> f64 {
        if self.is_training() { p } else { 0.0 }
    }

    /// Zeroes values with probability `p` and scales the others by 1 / (1 - p), if dropout is on.
    pub(crate) fn dropout(&self, x: Tensor, p: f64) -> Tensor {
        match self.backend {
            _ if !self.is_training() || p <= 0.0 => x,
            Backend::Native => or_oom(native::dropout(&x, self.mask(p))),
            Backend::Reference | Backend::Libtorch => x.dropout(p, true),
        }
    }
}

/// The value of a native operation, which fails inside a forward pass only when memory runs out.
///
/// tch's own operations panic then. So does this function; the program catches the panic once, around the whole run.
#[allow(clippy::panic, reason = "as tch's own operations do")]
pub(crate) fn or_oom<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
