//! The network of a run: built from its plan and its inputs.

use super::inputs::Inputs;
use super::plan::Plan;
use crate::config::{Amp, Config};
use crate::models::mcan::Net;
use crate::native;
use tch::{Device, Kind};

/// Builds the network on `device`, initialised from the seed.
pub(super) fn build(plan: &Plan, inputs: &Inputs, device: Device) -> Net {
    let (words, answers) = (inputs.vocabulary.len(), inputs.answers.len());
    Net::new(&plan.config().model, words, answers, plan.seed(), device)
}

/// Dtype of the matrix products: float32 on a CPU without bfloat16 instructions, else the dtype of `AMP`.
pub(super) fn matmul_dtype(config: &Config, device: Device) -> Kind {
    match config.train.amp {
        Amp::Bf16 if device != Device::Cpu || native::cpu_rounds_to_bf16() => Kind::BFloat16,
        _ => Kind::Float,
    }
}
