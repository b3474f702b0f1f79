//! Training: epochs of steps, a checkpoint and a log entry after each, and val accuracy where the run asks for it.

mod trainer;

pub use trainer::{Observed, Trainer};

use super::inputs::Inputs;
use super::stop;
use crate::base::lock::Lock;
use crate::checkpoint::{self, Checkpoint};
use crate::config::Config;
use crate::config::paths::epoch_of_file;
use crate::distributed;
use crate::native;
use crate::report::LogState;
use crate::run::outputs::{Outputs, Start, parameter_count};
use crate::say;
use anyhow::{Result, ensure};

/// Trains as `config` says, from the beginning or from a checkpoint.
///
/// # Errors
/// Missing or bad input, an older run in the way or still running, a loss that is not finite, a full disk; [`Stopped`](stop::Stopped)
/// by a signal.
pub fn run(mut config: Config) -> Result<()> {
    let replicas = distributed::assemble(&mut config)?;
    // In a job of several processes one of them writes.
    let writes = replicas[0].is_first();
    config.check_files()?;
    let resumed = match config.train.resume {
        true => Some(checkpoint::load(&config.ckpt_to_load())?),
        false => None,
    };
    let carried = resumed
        .as_ref()
        .and_then(|checkpoint| checkpoint.mcan.as_ref());
    if let Some(state) = carried {
        config.continue_with_seed(state.seed);
    }
    say!("{}", config.to_string().trim_end());
    let _lock = writes
        .then(|| Lock::take(&config.ckpt_folder()))
        .transpose()?;
    let start = resumed
        .as_ref()
        .map_or(Ok(Start::default()), |checkpoint| {
            start_of(&config, checkpoint)
        })?;
    if writes {
        Outputs(&config).check_no_overwrite(start)?;
        check_outputs(&config, resumed.as_ref())?;
    }
    let inputs = Inputs::read(&config, carried, &replicas)?;
    // Parsing a million questions takes as much memory as training on them.
    native::return_freed_memory();
    if writes {
        Outputs(&config).check_space(parameter_count(
            &config.model.keys()?,
            inputs.vocabulary.len(),
            inputs.answers.len(),
        ))?;
    }
    distributed::check_same_inputs(&replicas, || inputs.fingerprint())?;
    let begin = |replica| {
        let mut trainer = Trainer::new(&config, &inputs, replica)?;
        if let Some(checkpoint) = &resumed {
            trainer.restore(checkpoint, start)?;
        }
        Ok(trainer)
    };
    let trainers = replicas
        .into_iter()
        .map(begin)
        .collect::<Result<Vec<_>>>()?;
    drop(resumed);
    if writes {
        Outputs(&config).remove_conflicting_files(start)?;
    }
    stop::listen()?;
    distributed::run_all(trainers, |trainer| {
        trainer
            .epochs(&mut |_| ())
            .map_err(|error| trainer.with_resume_advice(error))
    })
}

/// Makes sure, before anything slow starts, that what the run writes can be written.
fn check_outputs(config: &Config, resumed: Option<&Checkpoint>) -> Result<()> {
    Outputs(&config).check_writable([config.ckpt_folder()])?;
    Outputs(&config).check_outputs()?;
    // Words and answers of a new run are not known yet; `run` counts again once they are.
    let held = |checkpoint: &Checkpoint| {
        checkpoint
            .state_dict
            .iter()
            .map(|(_, tensor)| tensor.numel() as u64)
            .sum()
    };
    let sizes = config.model.keys()?;
    Outputs(&config).check_space(resumed.map_or_else(|| parameter_count(&sizes, 0, 0), held))
}

/// What a checkpoint has behind it: ours says so; else its file name tells, or `CKPT_EPOCH`.
///
/// # Errors
/// When nothing is left to train.
pub fn start_of(config: &Config, checkpoint: &Checkpoint) -> Result<Start> {
    let path = config.ckpt_to_load();
    let start = match &checkpoint.mcan {
        Some(state) => Start {
            epoch: state.epoch,
            step: state.step,
        },
        None => Start {
            epoch: epoch_of_file(&path).unwrap_or(config.run.ckpt_epoch),
            step: 0,
        },
    };
    let is_unlogged = || {
        LogState::read(&config.log_of(config.version()))
            .lacks(start.epoch, config.evaluates_epochs())
    };
    ensure!(
        start.epoch < config.train.max_epoch
            || start.epoch == config.train.max_epoch
                && Outputs(&config).continues_itself()
                && is_unlogged(),
        "{} has {} epochs behind it and MAX_EPOCH is {}: nothing is left to train (--MAX_EPOCH)",
        path.display(),
        start.epoch,
        config.train.max_epoch
    );
    Ok(start)
}
