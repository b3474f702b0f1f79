//! The network of a run: built from its plan and its inputs.

use super::inputs::Inputs;
use super::plan::Plan;
use crate::checkpoint::Algorithm;
use crate::config::{Amp, Config, Opt};
use crate::data::Convention;
use crate::data::streams::{BoxUnit, Needs};
use crate::datasets::LossKind;
use crate::models::{Network, Sizes, family};
use crate::native;
use crate::nn::optim::{HyperParameters, ScheduleKeys};
use anyhow::{Context, Result};
use tch::{Device, Kind};

/// Builds the network on `device`, initialised from the seed.
///
/// # Errors
/// Keys or data from which the model cannot be built.
pub(super) fn build(plan: &Plan, inputs: &Inputs, device: Device) -> Result<Network> {
    let config = plan.config();
    let sizes = sizes(config, inputs.vocabulary.len(), inputs.answers.len())?;
    Network::new(&config.model, &sizes, plan.seed(), device)
}

/// Number of values in the network's parameters, for a vocabulary of `words` words and a list of `answers` answers.
///
/// # Errors
/// As [`build`].
pub(super) fn parameter_count(config: &Config, words: usize, answers: usize) -> Result<u64> {
    Network::parameter_count(&config.model, &sizes(config, words, answers)?)
}

/// The sizes that the model takes from the data.
fn sizes(config: &Config, words: usize, answers: usize) -> Result<Sizes> {
    Ok(Sizes {
        words,
        answers,
        streams: config.streams()?,
        convention: config.convention(),
    })
}

/// Whether answers are chosen by probabilities, as in the reference: the sigmoid of the logits, which rounds large
/// logits to 1. OpenVQA chooses by logits.
///
/// # Errors
/// An unknown data set.
pub(super) fn predicts_probabilities(config: &Config) -> Result<bool> {
    let is_reference = config.convention() == Convention::Reference;
    Ok(is_reference && config.loss()? == LossKind::BinaryCrossEntropy)
}

/// The features that the model needs in a batch.
///
/// # Errors
/// An unknown model, or one that cannot use the features of the data set.
pub(crate) fn needs(config: &Config) -> Result<Needs> {
    let streams = config.streams()?;
    let needs = (family(&config.model)?.needs)(&config.model, streams);
    let mut needs = needs.with_context(|| does_not_fit(config))?;
    // GQA's boxes are always divided. Elsewhere BBOX_NORMALIZE decides, and without it the model.
    let of_dataset = streams.regions.and_then(|spec| spec.boxes);
    let given = config.data.bbox_normalize.map(|divide| match divide {
        true => BoxUnit::Shares,
        false => BoxUnit::Pixels,
    });
    needs.boxes = match of_dataset {
        Some(BoxUnit::Shares) => needs.boxes.map(|_| BoxUnit::Shares),
        _ => needs.boxes.map(|of_model| given.unwrap_or(of_model)),
    };
    Ok(needs)
}

/// The words for a model that its data set cannot have: where the user has chosen both.
fn does_not_fit(config: &Config) -> String {
    let model = match &config.run.given.cfg {
        Some(file) => format!("the model of {}", file.display()),
        None => format!("--MODEL={}", config.run.model),
    };
    format!("{model} does not fit --DATASET={}", config.data.dataset)
}

/// The hyper-parameters of `OPT`, `OPT_BETAS` and `OPT_EPS`, or of `OPT_PARAMS`.
pub(super) fn hyper_parameters(config: &Config) -> HyperParameters {
    let train = &config.train;
    HyperParameters {
        algorithm: match train.opt {
            Opt::Reference | Opt::Adam => Algorithm::Adam,
            Opt::Adamax => Algorithm::Adamax,
        },
        betas: train.opt_betas,
        eps: train.opt_eps,
    }
}

/// The keys of the learning rate's schedule.
pub(super) fn schedule_keys(config: &Config) -> ScheduleKeys {
    let train = &config.train;
    ScheduleKeys {
        batch_size: train.batch_size,
        warmup_epochs: train.warmup_epoch,
        decay_r: train.lr_decay_r,
        decay_list: train.lr_decay_list.clone(),
    }
}

/// Dtype of the matrix products: float32 on a CPU without bfloat16 instructions, else the dtype of `AMP`.
pub(super) fn matmul_dtype(config: &Config, device: Device) -> Kind {
    match config.train.amp {
        Amp::Bf16 if device != Device::Cpu || native::cpu_rounds_to_bf16() => Kind::BFloat16,
        _ => Kind::Float,
    }
}
