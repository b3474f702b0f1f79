//! `--RUN=train`: epochs of steps; after each epoch a checkpoint, a log entry and, if the run asks for it, the scores
//! on val.

mod batches;
mod listeners;
mod resume;
mod trainer;
mod weights;

pub use listeners::{MicroBatch, Step, StepListener};
pub use trainer::Trainer;

use super::inputs::Inputs;
use super::limits;
use super::network::parameter_count;
use super::plan::{Plan, Prepared, prepare};
use super::preflight::Preflight;
use super::stop;
use crate::base::lock::Lock;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::distributed;
use crate::native;
use crate::say;
use anyhow::Result;

/// Trains as `config` says, from the beginning or from a checkpoint. `held` is the lock on the checkpoint folder, if the
/// caller has it already.
///
/// # Errors
/// Missing or bad input, files of an older run, another process that trains the same version, a loss that is not
/// finite, a full disk; [`Stopped`](stop::Stopped) after a signal.
pub(crate) fn run(config: &Config, held: Option<&Lock>) -> Result<()> {
    let Prepared {
        plan,
        replicas,
        checkpoint,
    } = prepare(config)?;
    // In a job of several processes only the first replica writes.
    let writes = replicas[0].is_first();
    say!("{}", plan.config().to_string().trim_end());
    let _lock = (writes && held.is_none())
        .then(|| Lock::take(&plan.ckpt_folder(), "choose another --VERSION"))
        .transpose()?;
    if writes {
        note_short_warm_up(plan.config());
    }
    let resumes = plan.config().train.resume;
    if resumes {
        resume::check_something_is_left(&plan)?;
    }
    if writes {
        preflight(&plan, checkpoint.as_ref())?;
    }
    let carried = checkpoint.as_ref().filter(|_| resumes);
    let carried = carried.and_then(|from| from.mcan.as_ref());
    let inputs = Inputs::read(&plan, carried, &replicas)?;
    // Parsing a million questions takes as much memory as training on them.
    native::return_freed_memory();
    if writes {
        let (words, answers) = (inputs.vocabulary.len(), inputs.answers.len());
        let parameters = parameter_count(plan.config(), words, answers)?;
        Preflight::new(&plan).check_space(parameters)?;
        let devices: Vec<_> = replicas.iter().map(|replica| replica.device).collect();
        limits::check_network(plan.config(), parameters, &devices)?;
    }
    distributed::check_same_inputs(&replicas, || inputs.fingerprint())?;
    let begin = |replica| {
        let mut trainer = Trainer::new(&plan, &inputs, replica)?;
        match &checkpoint {
            Some(checkpoint) if resumes => trainer.restore(checkpoint)?,
            Some(checkpoint) if trainer.replica.is_first() => trainer.start_from(checkpoint)?,
            _ => {}
        }
        Ok(trainer)
    };
    let trainers = replicas
        .into_iter()
        .map(begin)
        .collect::<Result<Vec<_>>>()?;
    drop(checkpoint);
    if writes {
        Preflight::new(&plan).remove_conflicting_files()?;
    }
    stop::listen();
    distributed::run_all(trainers, |trainer| {
        trainer
            .epochs(&mut [])
            .map_err(|error| trainer.with_resume_advice(error))
    })
}

/// Says that the learning rate rises above `LR_BASE` in a warm-up of less than two epochs, as in OpenVQA.
fn note_short_warm_up(config: &Config) {
    let highest = match config.train.warmup_epoch {
        0 => "3",
        1 => "1.5",
        _ => return,
    };
    crate::note!(
        "WARMUP_EPOCH = {}: as in OpenVQA, the learning rate rises to {highest} times LR_BASE before it becomes LR_BASE; set \
         WARMUP_EPOCH to 2 or more to avoid this",
        config.train.warmup_epoch
    );
}

/// Checks, before anything slow starts, that all outputs can be written and that no older run is lost.
fn preflight(plan: &Plan, resumed: Option<&Checkpoint>) -> Result<()> {
    let checks = Preflight::new(plan);
    checks.check_no_overwrite()?;
    checks.check_outputs()?;
    // Without the sizes of vocabulary and answers this is a lower bound. `run` checks again once they are known.
    let held = |checkpoint: &Checkpoint| {
        checkpoint
            .state_dict
            .iter()
            .map(|(_, tensor)| tensor.numel() as u64)
            .sum()
    };
    let parameters = match resumed {
        Some(checkpoint) => held(checkpoint),
        None => parameter_count(plan.config(), 0, 0)?,
    };
    checks.check_space(parameters)
}
