//! Saving the state of a training run, and continuing from it.

use super::trainer::Trainer;
use crate::base::files;
use crate::checkpoint::{self, Checkpoint, RunState};
use crate::config::{Change, Config, OnResume};
use crate::data::Dataset;
use crate::distributed;
use crate::models::SCHEMA;
use crate::report::LogState;
use crate::run::network::hyper_parameters;
use crate::run::plan::Plan;
use crate::run::stop::{self, Stopped, attribute};
use anyhow::{Context, Error, Result, bail, ensure};
use serde_json::Value;
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

/// Checks that the run of `plan` has the network and the inputs of the checkpoint with the configuration `saved`, as far as
/// the shapes of tensors do not show them: the number of heads, lengths.
pub(super) fn check_same_network(plan: &Plan, saved: &Value) -> Result<()> {
    // What this version cannot read would compare as different for no reason that a user knows.
    Config::from_saved(saved, &SCHEMA)?;
    let changes = plan
        .config()
        .changes_since(saved, &SCHEMA, OnResume::MustMatch);
    if let Some(Change { key, saved, now }) = changes.first() {
        bail!(
            "it was trained with {key} = {saved}, and {key} is {now} now; give the value of the checkpoint (--SET {key}=..., \
             or the --MODEL or --CFG that has it)"
        );
    }
    Ok(())
}

/// Checks that an epoch continued in its middle has the same questions, batches and order.
fn check_same_epoch(plan: &Plan, state: &RunState, data: &Dataset) -> Result<()> {
    let rule = OnResume::MustMatchWithinEpoch;
    let changes = plan.config().changes_since(&state.config, &SCHEMA, rule);
    let changed = changes
        .into_iter()
        .map(|change| change.key)
        .find(|key| *key != "SEED");
    let is_other = |digest: &String| *digest != data.digest();
    let differs = changed
        .or((state.seed != plan.seed()).then_some("SEED"))
        .or((state.data_size != data.len() as u64).then_some("the number of training questions"))
        .or(state.data_digest.as_ref().is_some_and(is_other).then_some(
            "the list of training questions (their ids, images, words, targets or order)",
        ));
    if let Some(what) = differs {
        bail!(
            "it was saved in the middle of epoch {}, and {what} is another now; continue with the same, or from the \
             checkpoint of an epoch's end",
            state.epoch + 1
        );
    }
    let steps = (data.len() / plan.config().train.batch_size) as u64;
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
        if let Some(state) = &checkpoint.mcan {
            check_same_network(self.plan, &state.config).with_context(cannot)?;
            if state.batch > 0 {
                check_same_epoch(self.plan, state, &self.task.dataset).with_context(cannot)?;
            }
        }
        self.net
            .assign(&checkpoint.state_dict)
            .with_context(cannot)?;
        self.optimizer.load(optimizer).with_context(cannot)?;
        self.lr_base = lr_base;
        self.epoch = self.plan.start().epoch;
        self.step = self.schedule.steps_in(self.epoch);
        if let Some(state) = &checkpoint.mcan {
            (self.step, self.batch, self.loss_sum) = (state.step, state.batch, state.loss_sum);
        }
        self.use_changed_keys(checkpoint.mcan.as_ref());
        info!(
            epoch = self.epoch,
            step = self.step,
            batch = self.batch,
            "training state restored"
        );
        Ok(())
    }

    /// Uses the learning rate and the hyper-parameters of the optimizer that the configuration has, where they are not those
    /// of the checkpoint. A checkpoint of another program does not say which it was trained with; there, values count that
    /// the command line gives.
    fn use_changed_keys(&mut self, state: Option<&RunState>) {
        let config = self.plan.config();
        let changed: Vec<Change> = match state {
            Some(state) => config.changes_since(&state.config, &SCHEMA, OnResume::MayChange),
            None => Vec::new(),
        };
        let is_new = |key: &str| match state {
            Some(_) => changed.iter().any(|change| change.key == key),
            None => config.run.given.names(key),
        };
        let mut used = Vec::new();
        if is_new("LR_BASE") {
            // The decay of the epoch that is continued in its middle has happened, too.
            let begun = self.epoch + u64::from(self.batch > 0);
            self.lr_base = self.schedule.base_after(begun, config.train.lr_base);
            used.push(format!("LR_BASE = {}", config.train.lr_base));
        }
        if ["OPT_BETAS", "OPT_EPS", "OPT_PARAMS"]
            .into_iter()
            .any(is_new)
        {
            let (b1, b2) = config.train.opt_betas;
            self.optimizer
                .set_hyper_parameters(hyper_parameters(config));
            used.push(format!(
                "OPT_BETAS = [{b1}, {b2}], OPT_EPS = {}",
                config.train.opt_eps
            ));
        }
        if !used.is_empty() && self.replica.is_first() {
            let path = self.plan.ckpt_to_load();
            crate::note!(
                "{} was trained with other values; from now on {}",
                path.display(),
                used.join(", ")
            );
        }
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
            epoch: Some(self.epoch),
            mcan: Some(RunState {
                epoch: self.epoch,
                step: self.step,
                batch: self.batch,
                loss_sum: self.loss_sum,
                seed: self.plan.seed(),
                data_size: self.task.dataset.len() as u64,
                data_digest: Some(
                    self.digest
                        .get_or_init(|| self.task.dataset.digest())
                        .clone(),
                ),
                max_token: Some(inputs.max_token as u64),
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
        let exists = files::exists(&written).unwrap_or(true);
        Some(if exists {
            written
        } else {
            self.plan.ckpt_to_load()
        })
    }
}
