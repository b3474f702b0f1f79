//! Saving the state of a training run, and continuing from it.

use super::trainer::Trainer;
use crate::base::files;
use crate::checkpoint::{self, Checkpoint, RunState};
use crate::distributed;
use crate::report::LogState;
use crate::run::plan::Plan;
use crate::run::stop::{self, Stopped, attribute};
use anyhow::{Context, Error, Result, bail, ensure};
use std::path::{Path, PathBuf};
use tch::Tensor;
use tracing::info;

/// Checks that the run has an epoch to train, or an epoch whose log entry an interrupted run has not written.
pub(super) fn check_something_is_left(plan: &Plan) -> Result<()> {
    let (config, start) = (plan.config(), plan.start());
    let scores_begin = config.data.benchmark()?.log_start();
    let evaluates = config.evaluates_epochs()?;
    let is_unlogged = || -> Result<bool> {
        let log = LogState::read(&plan.log_of(plan.version()), scores_begin)?;
        Ok(log.lacks(start.epoch, evaluates))
    };
    let max_epoch = config.train.max_epoch;
    ensure!(
        start.epoch < max_epoch
            || start.epoch == max_epoch && plan.continues_itself() && is_unlogged()?,
        "{} has {} epochs behind it and MAX_EPOCH is {max_epoch}: nothing is left to train (--MAX_EPOCH)",
        plan.ckpt_to_load().display(),
        start.epoch,
    );
    Ok(())
}

/// Checks that an epoch continued in its middle has the same questions, batches and order.
fn check_same_epoch(plan: &Plan, state: &RunState, data_size: usize) -> Result<()> {
    let differs = plan
        .config()
        .first_change_since(&state.config)
        .or((state.seed != plan.seed()).then_some("SEED"))
        .or((state.data_size != data_size as u64).then_some("the number of training questions"));
    if let Some(what) = differs {
        bail!(
            "it was saved in the middle of epoch {}, and {what} is another now; continue with the same, or from the \
             checkpoint of an epoch's end",
            state.epoch + 1
        );
    }
    let steps = (data_size / plan.config().train.batch_size) as u64;
    ensure!(
        state.batch < steps,
        "its batch is {}, but an epoch has {steps}; it is damaged",
        state.batch
    );
    Ok(())
}

impl Trainer<'_> {
    /// Continues from `checkpoint`: from a checkpoint of this program at the step at which it was saved, from a
    /// checkpoint of the reference at the start of an epoch, as the reference does.
    ///
    /// # Errors
    /// A checkpoint of another network, vocabulary or answer list, or without an optimizer.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let path = self.plan.ckpt_to_load();
        let cannot = || format!("cannot continue from {}", path.display());
        let (Some(optimizer), Some(lr_base)) = (&checkpoint.optimizer, checkpoint.lr_base) else {
            bail!(
                "{}: it holds parameters only, no optimizer; it can be evaluated, not resumed",
                cannot()
            );
        };
        ensure!(
            lr_base.is_finite() && lr_base > 0.0,
            "{}: its lr_base is {lr_base}",
            cannot()
        );
        self.net
            .assign(&checkpoint.state_dict)
            .with_context(cannot)?;
        self.optimizer.load(optimizer).with_context(cannot)?;
        self.lr_base = lr_base;
        self.epoch = self.plan.start().epoch;
        self.step = self.schedule.steps_in(self.epoch);
        if let Some(state) = &checkpoint.mcan {
            if state.batch > 0 {
                check_same_epoch(self.plan, state, self.task.dataset.len()).with_context(cannot)?;
            }
            (self.step, self.batch, self.loss_sum) = (state.step, state.batch, state.loss_sum);
        }
        info!(
            epoch = self.epoch,
            step = self.step,
            batch = self.batch,
            "training state restored"
        );
        Ok(())
    }

    /// Saves the state to `path`; only in the first replica.
    ///
    /// # Errors
    /// When a parameter or a moment is not finite, or the file cannot be written.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        if !self.replica.is_first() {
            return Ok(());
        }
        let parameters = &self.net.parameters;
        let named = parameters.names.iter().zip(&parameters.tensors);
        let check = || {
            checkpoint::state_dict::check_finite(named)?;
            self.optimizer.check_finite()
        };
        check().with_context(|| {
            format!(
                "training diverged at step {}, and {} is not written",
                self.step,
                path.display()
            )
        })?;
        checkpoint::save(path, &self.checkpoint())?;
        info!(path = %path.display(), step = self.step, "checkpoint written");
        Ok(())
    }

    fn checkpoint(&self) -> Checkpoint {
        let parameters = &self.net.parameters;
        let tensors = parameters.tensors.iter().map(Tensor::detach);
        let inputs = self.inputs;
        Checkpoint {
            state_dict: parameters.names.iter().cloned().zip(tensors).collect(),
            optimizer: Some(self.optimizer.state()),
            lr_base: Some(self.lr_base),
            mcan: Some(RunState {
                epoch: self.epoch,
                step: self.step,
                batch: self.batch,
                loss_sum: self.loss_sum,
                seed: self.plan.seed(),
                data_size: self.task.dataset.len() as u64,
                config: serde_json::to_value(self.plan.config()).unwrap_or_default(),
                vocabulary: inputs.vocabulary.words().map(str::to_owned).collect(),
                answers: inputs.answers.answers().map(str::to_owned).collect(),
            }),
        }
    }

    /// Adds to `error` the name of this replica. To a request to stop, adds the checkpoint that has the state and the
    /// command that resumes the run.
    pub(super) fn with_resume_advice(&self, error: Error) -> Error {
        let error = attribute(&self.replica, error);
        if !self.replica.is_first() && distributed::is_one_of_several() {
            return error;
        }
        let Some(checkpoint) = self.latest_checkpoint() else {
            return error;
        };
        let epoch = self.epoch + u64::from(self.batch > 0);
        let place = format!(
            " in epoch {epoch}, after step {}; {} has its state",
            self.step,
            checkpoint.display()
        );
        let command = stop::command_to_resume(self.plan, &checkpoint);
        Stopped::advise(error, &format!("{place}. To go on:\n\n    {command}\n"))
    }

    /// The checkpoint that has the current state; absent before the first step.
    fn latest_checkpoint(&self) -> Option<PathBuf> {
        let written = match (self.epoch, self.batch) {
            (0, 0) => return None,
            (epoch, 0) => self.plan.ckpt_to_write(epoch),
            _ => self.plan.last_ckpt(),
        };
        // A resumed run that stops before its first step has written nothing.
        let exists = files::exists(&written).unwrap_or(false);
        Some(if exists {
            written
        } else {
            self.plan.ckpt_to_load()
        })
    }
}
