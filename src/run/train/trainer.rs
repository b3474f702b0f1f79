//! The training algorithm: epochs of optimizer steps, steps of micro-batches, and the learning rate of each step.
//!
//! Everything else that happens during training is a [`StepListener`].

use super::listeners::{Listeners, MicroBatch, Step, StepListener};
use crate::config::LossReduction;
use crate::datasets::LossKind;
use crate::distributed::Replica;
use crate::models::Network;
use crate::native::group::Reducer;
use crate::nn::loss::loss;
use crate::nn::optim::{Optimizer, Schedule};
use crate::nn::packed::PackedBatch;
use crate::nn::pass::Pass;
use crate::report::Phase;
use crate::run::inputs::{Inputs, Task};
use crate::run::loss_monitor::LossMonitor;
use crate::run::plan::Plan;
use crate::run::prefetch::Prefetcher;
use crate::run::{glove, network, stop};
use crate::say;
use anyhow::{Context, Result};
use std::cell::OnceCell;
use tch::Tensor;

/// The whole state of a training run, in one of its replicas.
pub struct Trainer<'a> {
    pub(super) plan: &'a Plan,
    pub(super) inputs: &'a Inputs,
    pub(super) task: &'a Task,
    /// Declared before `replica`, so that it is dropped first.
    reducer: Option<Reducer>,
    pub(super) replica: Replica,
    pub(super) net: Network,
    pub(super) optimizer: Optimizer,
    pub(super) schedule: Schedule,
    loss_kind: LossKind,
    pub(super) lr_base: f64,
    /// Epochs done.
    pub(super) epoch: u64,
    /// Optimizer steps done.
    pub(super) step: u64,
    /// Optimizer steps done in the current epoch.
    pub(super) batch: u64,
    /// Summed loss of the current epoch so far, or of the epoch that has just ended.
    pub(super) loss_sum: f64,
    /// The digest of the training data, once it is needed.
    pub(super) digest: OnceCell<String>,
    /// Whether the reducer has seen the order of the gradients.
    rehearsed: bool,
}

impl<'a> Trainer<'a> {
    /// A run at its beginning, with the network initialised from the seed.
    ///
    /// # Errors
    /// Inputs without questions to train on, or a network that cannot be built.
    pub fn new(plan: &'a Plan, inputs: &'a Inputs, replica: Replica) -> Result<Trainer<'a>> {
        let config = plan.config();
        let task = inputs.training.as_ref();
        let task = task.context("there is nothing to train on")?;
        let net = network::build(plan, inputs, replica.device)?;
        let trainer = Trainer {
            plan,
            inputs,
            task,
            reducer: replica.reducer(&net.parameters.used())?,
            replica,
            optimizer: Optimizer::new(&net.parameters.tensors, network::hyper_parameters(config)),
            net,
            schedule: Schedule::new(network::schedule_keys(config), task.dataset.len()),
            loss_kind: config.loss()?,
            lr_base: config.train.lr_base,
            epoch: 0,
            step: 0,
            batch: 0,
            loss_sum: 0.0,
            digest: OnceCell::new(),
            rehearsed: false,
        };
        // The first replica broadcasts its parameters before the first step.
        if config.data.use_glove && !config.train.resume && trainer.replica.is_first() {
            glove::initialize(config, &inputs.vocabulary, &trainer.net)?;
        }
        Ok(trainer)
    }

    /// The network in its current state.
    pub fn net(&self) -> &Network {
        &self.net
    }

    /// Trains until `MAX_EPOCH`; `others` listen to every micro-batch, step and epoch.
    ///
    /// # Errors
    /// See [`run`](super::run).
    pub fn epochs(&mut self, others: &mut [&mut dyn StepListener]) -> Result<()> {
        let mut listeners = Listeners::of_a_run(self, others)?;
        self.replica
            .broadcast_parameters(&self.net.parameters.tensors)?;
        listeners.begin(self)?;
        while self.epoch < self.plan.config().train.max_epoch {
            if self.replica.is_alone() {
                stop::check()?;
            }
            listeners.epoch_begins(self)?;
            self.one_epoch(&mut listeners)?;
            (self.epoch, self.batch) = (self.epoch + 1, 0);
            listeners.epoch(self)?;
        }
        let last = self.plan.ckpt_to_write(self.epoch);
        say!("The last checkpoint is {}", last.display());
        Ok(())
    }

    /// One pass over the training questions, or over the steps that an interrupted epoch has left.
    fn one_epoch(&mut self, listeners: &mut Listeners) -> Result<()> {
        if self.batch == 0 {
            self.lr_base = self.schedule.base_at(self.epoch, self.lr_base);
            self.loss_sum = 0.0;
        }
        let mut batches = self.batches_of_epoch()?;
        let mut losses = LossMonitor::new(self.task, self.epoch + 1, &self.replica, self.loss_sum);
        for done in self.batch + 1..=self.steps_per_epoch() {
            let lr = self.one_step(&mut batches, &mut losses, listeners)?;
            self.batch = done;
            losses.end_step(self.step, &self.replica)?;
            let mut step = Step::new(lr, losses.stop_signal(self.step));
            // Reading a loss waits for the device, so it is done only when a listener needs the value.
            if listeners.need_losses(self, &step) {
                losses.check()?;
            }
            self.loss_sum = losses.sum();
            step.loss = losses.last() / self.plan.config().train.batch_size as f64;
            listeners.step(self, &step)?;
        }
        Ok(())
    }

    /// One optimizer step; returns its learning rate.
    fn one_step(
        &mut self,
        batches: &mut Prefetcher,
        losses: &mut LossMonitor,
        listeners: &mut Listeners,
    ) -> Result<f64> {
        self.step += 1;
        let lr = self.schedule.rate(self.step, self.lr_base);
        self.optimizer.zero_grad()?;
        let micro_batches = self.plan.config().train.grad_accu_steps;
        for index in 0..micro_batches {
            let batch = batches.next();
            let batch = batch.context("the loader stopped before the end of the epoch")??;
            listeners.phase(Phase::Input);
            self.rehearse(&batch)?;
            if index + 1 == micro_batches {
                self.expect_last_micro_batch()?;
            }
            let loss = self.accumulate_gradients(&batch, index, listeners)?;
            listeners.micro_batch(&MicroBatch {
                step: self.step,
                lr,
                loss: &loss,
                questions: batch.len() as usize,
            })?;
            losses.add(self.step, loss, batch.image_ids);
        }
        let max_norm = self.plan.config().train.grad_norm_clip;
        self.optimizer.step(lr, max_norm)?;
        listeners.phase(Phase::Optimizer);
        Ok(lr)
    }

    /// Forward and backward pass of micro-batch `index` of the current step; returns its summed loss.
    fn accumulate_gradients(
        &self,
        batch: &PackedBatch,
        index: usize,
        listeners: &mut Listeners,
    ) -> Result<Tensor> {
        let (config, device) = (self.plan.config(), self.replica.device);
        // The dropout of a micro-batch depends on its number. The share of a replica is numbered like a micro-batch, so
        // that N replicas and `--ACCU=N` give the same result.
        let micro_batch = self.step * config.train.grad_accu_steps as u64 + index as u64;
        let number = micro_batch * self.replica.size as u64 + self.replica.rank as u64;
        let dtype = network::matmul_dtype(config, device);
        let pass = Pass::training(dtype, self.plan.seed(), number, device)?;
        let logits = self.net.forward(batch, &pass)?; // (B, answers)
        let loss = loss(self.loss_kind, &logits, &batch.targets())?;
        listeners.phase(Phase::Forward);
        let minimised = &loss * self.loss_scale();
        minimised.f_backward()?;
        listeners.phase(Phase::Backward);
        Ok(loss.detach())
    }

    /// What the summed loss of a micro-batch is multiplied by before the backward pass: 1 for a sum; for a mean (`LOSS_REDUCTION`)
    /// one over the questions of a batch, and for other losses than cross-entropy over their answers too, as in PyTorch.
    fn loss_scale(&self) -> f64 {
        let train = &self.plan.config().train;
        let questions = train.batch_size as f64;
        match (train.loss_reduction, self.loss_kind) {
            (LossReduction::Sum, _) => 1.0,
            (LossReduction::Mean, LossKind::CrossEntropy) => 1.0 / questions,
            (LossReduction::Mean, _) => 1.0 / (questions * self.net.answers() as f64),
        }
    }

    /// Runs one backward pass so that the reducer learns the order in which gradients arrive; only before the first
    /// step.
    ///
    /// The reducer then sums in this order at every step, so a resumed run sums as the interrupted run would have done.
    fn rehearse(&mut self, batch: &PackedBatch) -> Result<()> {
        if self.reducer.is_none() || std::mem::replace(&mut self.rehearsed, true) {
            return Ok(());
        }
        self.expect_last_micro_batch()?;
        let _ = self.accumulate_gradients(batch, 0, &mut Listeners::none())?;
        self.optimizer.zero_grad()
    }

    /// Tells the reducer that the next backward pass is the last of its step.
    fn expect_last_micro_batch(&self) -> Result<()> {
        let reducer = self.reducer.as_ref();
        reducer.map_or(Ok(()), Reducer::expect_last_micro_batch)
    }

    /// Optimizer steps of an epoch; the last partial batch is left out.
    pub(super) fn steps_per_epoch(&self) -> u64 {
        (self.task.dataset.len() / self.plan.config().train.batch_size) as u64
    }
}
