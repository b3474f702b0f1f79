//! The state of a training run and its steps.

use super::super::inputs::{Inputs, Task};
use super::super::loss_monitor::LossMonitor;
use super::super::predict;
use super::super::prefetch::Prefetcher;
use super::super::stop::{self, Stopped};
use crate::checkpoint::{self, Checkpoint, RunState};
use crate::config::{Config, ShuffleMode};
use crate::data::loader::{Loader, Options, shuffled};
use crate::datasets::vqa2::write_answers;
use crate::distributed::{self, Replica};
use crate::models::mcan::Net;
use crate::native::device::peak_memory;
use crate::native::group::Reducer;
use crate::nn::layers::Pass;
use crate::nn::optim::{Adam, Schedule};
use crate::nn::packed::PackedBatch;
use crate::report::{Log, Phase, Profile, Progress};
use crate::run::outputs::{Outputs, Start};
use crate::say;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::time::Instant;
use tch::{Reduction, Tensor};

/// What one part of a batch (all of it unless gradients are accumulated) has shown.
pub struct Observed<'a> {
    /// Optimizer step that it belongs to, from 1.
    pub step: u64,
    /// Learning rate of that step.
    pub lr: f64,
    /// Summed loss of its questions, still on the device.
    pub loss: &'a Tensor,
    /// How many questions those are.
    pub questions: usize,
}

/// The whole state of a training run, in one of its replicas.
pub struct Trainer<'a> {
    config: &'a Config,
    inputs: &'a Inputs,
    task: &'a Task,
    /// Before what it is tied to the others by.
    reducer: Option<Reducer>,
    replica: Replica,
    net: Net,
    adam: Adam,
    schedule: Schedule,
    lr_base: f64,
    /// Epochs done.
    epoch: u64,
    /// Optimizer steps done.
    step: u64,
    /// Those of them in the epoch under way.
    batch: u64,
    /// Summed loss of the epoch under way, or of the last one at its end.
    loss_sum: f64,
    /// Whether the reducer knows the order of the gradients.
    rehearsed: bool,
}

/// An epoch can be continued in its middle only with the same questions, batches and order.
fn check_same_epoch(config: &Config, state: &RunState, data_size: usize) -> Result<()> {
    let differs = config.first_change_since(&state.config);
    let differs = differs.or((state.seed != config.seed()).then_some("SEED"));
    let differs = differs
        .or((state.data_size != data_size as u64).then_some("the number of training questions"));
    if let Some(what) = differs {
        bail!(
            "it was saved in the middle of epoch {}, and {what} is another now; continue with the same, or from the \
             checkpoint of an epoch's end",
            state.epoch + 1
        );
    }
    let steps = (data_size / config.train.batch_size) as u64;
    ensure!(
        state.batch < steps,
        "its batch is {}, but an epoch has {steps}; it is damaged",
        state.batch
    );
    Ok(())
}

impl<'a> Trainer<'a> {
    /// A run at its beginning, the network initialised from the seed.
    ///
    /// # Errors
    /// When `inputs` has nothing to train on.
    pub fn new(config: &'a Config, inputs: &'a Inputs, replica: Replica) -> Result<Trainer<'a>> {
        let task = inputs
            .training
            .as_ref()
            .context("there is nothing to train on")?;
        let (words, answers) = (inputs.vocabulary.len(), inputs.answers.len());
        let net = Net::new(
            &config.model.keys()?,
            words,
            answers,
            config.seed(),
            replica.device,
        );
        let reducer = replica.reducer(&net.parameters.tensors)?;
        let adam = Adam::new(&net.parameters.tensors, &config.train);
        let schedule = Schedule::new(&config.train, task.dataset.len());
        let lr_base = config.train.lr_base;
        let (epoch, step, batch, loss_sum) = (0, 0, 0, 0.0);
        let trainer = Trainer {
            config,
            inputs,
            task,
            reducer,
            replica,
            net,
            adam,
            schedule,
            lr_base,
            epoch,
            step,
            batch,
            loss_sum,
            rehearsed: false,
        };
        // The others are given its parameters.
        if config.data.use_glove && !config.train.resume && trainer.replica.is_first() {
            super::super::glove::initialize(config, &inputs.vocabulary, &trainer.net)?;
        }
        Ok(trainer)
    }

    /// Continues from `checkpoint`, which ends at `start`: exactly where one of ours stopped; by the reference's rule
    /// from one of its own.
    ///
    /// # Errors
    /// When it belongs to another network, vocabulary or answer list, or has no optimizer.
    pub fn restore(&mut self, checkpoint: &Checkpoint, start: Start) -> Result<()> {
        let path = self.config.ckpt_to_load();
        let cannot = || format!("cannot continue from {}", path.display());
        let (Some(optimizer), Some(lr_base)) = (&checkpoint.optimizer, checkpoint.lr_base) else {
            bail!(
                "{}: it holds parameters only, no optimizer; it can be evaluated, not resumed",
                cannot()
            );
        };
        let shapes = self.net.parameters.shapes();
        let values = checkpoint::state_dict::match_shapes(&checkpoint.state_dict, &shapes)
            .with_context(cannot)?;
        ensure!(
            lr_base.is_finite() && lr_base > 0.0,
            "{}: its lr_base is {lr_base}",
            cannot()
        );
        self.net.parameters.assign(&values).with_context(cannot)?;
        self.adam.load(optimizer).with_context(cannot)?;
        self.lr_base = lr_base;
        self.epoch = start.epoch;
        self.step = self.schedule.steps_in(self.epoch);
        if let Some(state) = &checkpoint.mcan {
            if state.batch > 0 {
                check_same_epoch(self.config, state, self.task.dataset.len())
                    .with_context(cannot)?;
            }
            (self.step, self.batch, self.loss_sum) = (state.step, state.batch, state.loss_sum);
        }
        Ok(())
    }

    /// The network in its present state.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// All epochs that are left; `observe` sees every part of every batch.
    ///
    /// # Errors
    /// See [`run`](super::run).
    pub fn epochs(&mut self, observe: &mut dyn FnMut(&Observed)) -> Result<()> {
        let mut log = self
            .replica
            .is_first()
            .then(|| Log::resume(&self.config.log_of(self.config.version())))
            .transpose()?;
        self.replica
            .broadcast_parameters(&self.net.parameters.tensors)?;
        // A run that ended between an epoch's checkpoint and its last line in the log.
        let continues = self.batch == 0 && Outputs(self.config).continues_itself();
        if continues && self.replica.is_first() {
            Outputs(self.config).remove_last_ckpt()?;
        }
        let is_unlogged = log.as_ref().is_some_and(|log| self.is_unlogged(log));
        if self.replica.broadcast_flag(continues && is_unlogged)? {
            self.conclude_epoch(log.as_mut())?;
        }
        while self.epoch < self.config.train.max_epoch {
            if self.replica.is_alone() {
                stop::check()?;
            }
            if let Some(log) = &mut log {
                log.begin_epoch()?;
            }
            let started = Instant::now();
            self.one_epoch(observe)?;
            let seconds = started.elapsed().as_secs_f64();
            (self.epoch, self.batch) = (self.epoch + 1, 0);
            self.save(&self.config.ckpt_to_write(self.epoch))?;
            if self.replica.is_first() {
                Outputs(self.config).remove_last_ckpt()?;
            }
            let memory = peak_memory(self.replica.device).map_or(String::new(), |b| {
                format!(", {:.2} GB on the GPU", b as f64 / 1e9)
            });
            say!(
                "epoch {}: loss {:.4}, {seconds:.2} s{memory}",
                self.epoch,
                self.mean_loss()
            );
            self.conclude_epoch(log.as_mut())?;
        }
        say!(
            "The last checkpoint is {}",
            self.config.ckpt_to_write(self.epoch).display()
        );
        Ok(())
    }

    /// One pass over the training questions, or what is left of it.
    fn one_epoch(&mut self, observe: &mut dyn FnMut(&Observed)) -> Result<()> {
        if self.batch == 0 {
            self.lr_base = self.schedule.base_at(self.epoch, self.lr_base);
            self.loss_sum = 0.0;
        }
        let mut batches = self.feed_epoch()?;
        let steps = (batches.batches() / self.config.train.grad_accu_steps) as u64;
        let label = format!("[{}] epoch {:2}", self.config.version(), self.epoch + 1);
        let mut progress = Progress::new(label, steps, !self.config.run.verbose);
        let mut monitor = LossMonitor::new(self.task, self.epoch + 1, &self.replica, self.loss_sum);
        let mut profile = Profile::new(
            self.config.run.profile && self.replica.is_first(),
            self.replica.device,
        );
        let first = self.batch + 1;
        for done in first..=steps {
            let lr = self.one_step(&mut batches, &mut monitor, &mut profile, observe)?;
            self.batch = done;
            if profile.is_on() && done == first {
                say!("Profile: the first step is done");
            }
            monitor.end_step(self.step, &self.replica)?;
            let (show, signal) = (
                progress.is_due() || done == steps,
                monitor.asks_to_stop(self.step),
            );
            let save = done < steps && (signal != 0 || self.is_save_due());
            if show || save {
                monitor.check()?;
            }
            self.loss_sum = monitor.sum();
            if show {
                let loss = monitor.last() / self.config.train.batch_size as f64;
                progress.show(done, &format!("loss: {loss:.4}, lr: {lr:.2e}"));
            }
            if save {
                self.save(&self.config.last_ckpt())?;
                ensure!(signal == 0, Stopped::by(signal));
            }
        }
        if profile.is_on() {
            print!("Profile of training, epoch {}: {profile}", self.epoch + 1);
        }
        Ok(())
    }

    /// One optimizer step; returns its learning rate.
    fn one_step(
        &mut self,
        batches: &mut Prefetcher,
        monitor: &mut LossMonitor,
        profile: &mut Profile,
        observe: &mut dyn FnMut(&Observed),
    ) -> Result<f64> {
        self.step += 1;
        let lr = self.schedule.rate(self.step, self.lr_base);
        self.adam.zero_grad()?;
        let parts = self.config.train.grad_accu_steps;
        for part in 0..parts {
            let batch = batches
                .next()
                .context("the loader stopped before the end of the epoch")??;
            profile.end(Phase::Input);
            self.rehearse(&batch)?;
            if part + 1 == parts {
                self.expect_last_part()?;
            }
            let loss = self.accumulate_gradients(&batch, part, profile)?;
            observe(&Observed {
                step: self.step,
                lr,
                loss: &loss,
                questions: batch.len() as usize,
            });
            monitor.add(self.step, loss, batch.image_ids);
        }
        self.adam.step(lr, self.config.train.grad_norm_clip)?;
        profile.end(Phase::Optimizer);
        profile.end_step();
        Ok(lr)
    }

    /// Whether `last.pkl` is to be written after the step just done.
    fn is_save_due(&self) -> bool {
        let every = self.config.train.save_steps;
        every > 0 && self.step.is_multiple_of(every)
    }

    /// Shows the reducer, once, in which order gradients come, by which it then makes its sums at every step: so those
    /// of a run that is resumed are made as they would have been.
    fn rehearse(&mut self, batch: &PackedBatch) -> Result<()> {
        if self.reducer.is_none() || std::mem::replace(&mut self.rehearsed, true) {
            return Ok(());
        }
        self.expect_last_part()?;
        let _ =
            self.accumulate_gradients(batch, 0, &mut Profile::new(false, self.replica.device))?;
        self.adam.zero_grad()
    }

    /// The backward pass to come is the last of its step.
    fn expect_last_part(&self) -> Result<()> {
        self.reducer
            .as_ref()
            .map_or(Ok(()), Reducer::expect_last_part)
    }

    fn mean_loss(&self) -> f64 {
        self.loss_sum / self.task.dataset.len() as f64
    }

    fn is_unlogged(&self, log: &Log) -> bool {
        log.state.lacks(self.epoch, self.config.evaluates_epochs())
    }

    /// What follows the checkpoint of an epoch, as far as it is not done yet: the log entry and the evaluation.
    fn conclude_epoch(&self, mut log: Option<&mut Log>) -> Result<()> {
        if let Some(log) = log.as_mut().filter(|log| log.state.begun) {
            log.end_epoch(
                self.epoch,
                self.mean_loss(),
                self.schedule.rate(self.step, self.lr_base),
            )?;
        }
        self.evaluate(log)
    }

    /// Says which replica `error` is of; or, when the run was asked to stop, where it has left its state, and how to go
    /// on.
    pub(super) fn with_resume_advice(&self, error: anyhow::Error) -> anyhow::Error {
        let error = super::super::attribute(&self.replica, error);
        if !self.replica.is_first() && distributed::is_one_of_several() {
            return error;
        }
        let checkpoint = match (self.epoch, self.batch) {
            (0, 0) => return error,
            (epoch, 0) => self.config.ckpt_to_write(epoch),
            _ => self.config.last_ckpt(),
        };
        // A run that has not come to a step yet has saved nothing.
        let checkpoint = if checkpoint.exists() {
            checkpoint
        } else {
            self.config.ckpt_to_load()
        };
        let epoch = self.epoch + u64::from(self.batch > 0);
        let place = format!(
            " in epoch {epoch}, after step {}; {} has its state",
            self.step,
            checkpoint.display()
        );
        let command = stop::command_to_resume(self.config, &checkpoint);
        Stopped::advise(error, &format!("{place}. To go on:\n\n    {command}\n"))
    }

    /// Forward and backward pass of one part of a batch; returns its summed loss.
    fn accumulate_gradients(
        &self,
        batch: &PackedBatch,
        part: usize,
        profile: &mut Profile,
    ) -> Result<Tensor> {
        let device = self.replica.device;
        // What the replicas take of a part are parts too: as many replicas and --ACCU as often give the same.
        let part = self.step * self.config.train.grad_accu_steps as u64 + part as u64;
        let number = part * self.replica.size as u64 + self.replica.rank as u64;
        let pass = Pass::training(
            super::super::matmul_dtype(self.config, device),
            self.config.seed(),
            number,
            device,
        )?;
        let logits = self.net.forward(batch, &pass); // (B, answers)
        let targets = batch.targets();
        let loss = logits.f_binary_cross_entropy_with_logits(
            &targets,
            None::<&Tensor>,
            None::<&Tensor>,
            Reduction::Sum,
        )?;
        profile.end(Phase::Forward);
        loss.f_backward()?;
        profile.end(Phase::Backward);
        Ok(loss.detach())
    }

    /// What this replica takes of the batches of the epoch under way, in parts of `SUB_BATCH_SIZE`, the last partial
    /// batch left out.
    fn feed_epoch(&self) -> Result<Prefetcher> {
        self.task.features.check_unchanged()?;
        let len = self.task.dataset.len();
        let mut order = match self.config.data.shuffle_mode {
            ShuffleMode::None => (0..len).collect(),
            ShuffleMode::External | ShuffleMode::Internal => {
                shuffled(len, self.config.seed(), self.epoch)
            }
        };
        order.truncate(len - len % self.config.train.batch_size);
        let order = self.replica.share_of(&order, self.config.sub_batch_size());
        let options = Options {
            batch_size: self.config.sub_batch_size() / self.replica.size,
            drop_last: true,
            workers: self.config.data.num_workers,
            prefetch: super::super::PREFETCH,
            share_images: false,
            max_token: self.config.data.max_token,
            skip: self.batch as usize * self.config.train.grad_accu_steps,
        };
        let loader = Loader::new(
            self.task.dataset.clone(),
            self.task.features.clone(),
            order,
            options,
        )?;
        Prefetcher::new(
            loader,
            self.task
                .packer(self.config, &self.net, self.replica.device),
        )
    }

    fn save(&self, path: &Path) -> Result<()> {
        if !self.replica.is_first() {
            return Ok(());
        }
        let parameters = &self.net.parameters;
        let named = parameters.names.iter().zip(&parameters.tensors);
        checkpoint::state_dict::check_finite(named).with_context(|| {
            format!(
                "training diverged at step {}, and {} is not written",
                self.step,
                path.display()
            )
        })?;
        checkpoint::save(path, &self.checkpoint())
    }

    fn checkpoint(&self) -> Checkpoint {
        let parameters = &self.net.parameters;
        let tensors = parameters.tensors.iter().map(Tensor::detach);
        Checkpoint {
            state_dict: parameters.names.iter().cloned().zip(tensors).collect(),
            optimizer: Some(self.adam.state()),
            lr_base: Some(self.lr_base),
            mcan: Some(RunState {
                epoch: self.epoch,
                step: self.step,
                batch: self.batch,
                loss_sum: self.loss_sum,
                seed: self.config.seed(),
                data_size: self.task.dataset.len() as u64,
                config: serde_json::to_value(self.config).unwrap_or_default(),
                vocabulary: self.inputs.vocabulary.words().map(str::to_owned).collect(),
                answers: self.inputs.answers.answers().map(str::to_owned).collect(),
            }),
        }
    }

    /// Val accuracy of the epoch just finished, printed and logged, if the run asks for it.
    fn evaluate(&self, log: Option<&mut Log>) -> Result<()> {
        let (Some(task), Some(evaluator)) = (&self.inputs.answering, &self.inputs.evaluator) else {
            return Ok(());
        };
        let answers = predict::answer_all(
            &self.net,
            task,
            &self.inputs.answers,
            self.config,
            &self.replica,
        )?;
        let Some(log) = log else { return Ok(()) };
        write_answers(
            &self.config.val_answers_of(self.config.version()),
            answers.iter().copied(),
        )?;
        let accuracy = predict::accuracy(evaluator, &answers)?;
        say!("{accuracy}");
        log.accuracy(&accuracy)
    }
}
