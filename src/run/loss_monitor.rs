//! The loss monitor: finds losses that are not finite, and makes all replicas stop after the same step.
//!
//! Losses are read from a GPU many at a time, because reading waits for the device. With several replicas, each reads
//! its own losses, to name the cause of a bad one, and the sums over all replicas. With these sums all replicas learn,
//! at the same step, that one of them was asked to stop.

use super::inputs::Task;
use super::stop;
use crate::data::ImageId;
use crate::distributed::{FailedElsewhere, Replica, StepReduction};
use anyhow::{Result, bail};
use std::collections::VecDeque;
use tch::{Kind, Tensor};

/// Largest number of unread losses on a GPU.
const MOST_PENDING: usize = 256;
/// Steps between the computation of a sum on a GPU and its reading. A request to stop takes effect that many steps
/// later, at the same step in all replicas.
const LAG: usize = 3;

/// The monitor of one epoch.
pub(crate) struct LossMonitor<'a> {
    task: &'a Task,
    /// Whether the run has one replica.
    alone: bool,
    /// [`LAG`] on a GPU, else 0.
    lag: usize,
    epoch: u64,
    sum: f64,
    /// Step and summed loss of the last step that was read.
    last: (u64, f64),
    /// Unread losses of this replica's micro-batches.
    pending: Vec<Pending>,
    /// Unread sums over all replicas, by step.
    reductions: VecDeque<(u64, StepReduction)>,
    /// The step after which to stop, and the signal that asks for it.
    stop: Option<(u64, i32)>,
}

struct Pending {
    step: u64,
    loss: Tensor,
    image_ids: Vec<ImageId>,
}

impl<'a> LossMonitor<'a> {
    /// The monitor of epoch `epoch` (from 1) over `task`; `sum` is the summed loss of its earlier steps.
    pub(crate) fn new(task: &'a Task, epoch: u64, replica: &Replica, sum: f64) -> LossMonitor<'a> {
        let (alone, lag) = (
            replica.is_alone(),
            if replica.device.is_cuda() { LAG } else { 0 },
        );
        let (pending, reductions) = (Vec::new(), VecDeque::new());
        LossMonitor {
            task,
            alone,
            lag,
            epoch,
            sum,
            last: (0, 0.0),
            pending,
            reductions,
            stop: None,
        }
    }

    /// Adds the summed loss of a micro-batch of optimizer step `step` on these images.
    pub(crate) fn add(&mut self, step: u64, loss: Tensor, image_ids: Vec<ImageId>) {
        self.pending.push(Pending {
            step,
            loss,
            image_ids,
        });
    }

    /// Ends `step`, whose micro-batches in `replica` are all added.
    ///
    /// # Errors
    /// As [`LossMonitor::check`]; and when another replica has failed or disconnected.
    pub(crate) fn end_step(&mut self, step: u64, replica: &Replica) -> Result<()> {
        let signal = stop::asked();
        if self.alone {
            self.stop = self.stop.or((signal != 0).then_some((step, signal)));
        } else {
            let losses: Vec<&Tensor> = self
                .pending
                .iter()
                .filter(|p| p.step == step)
                .map(|p| &p.loss)
                .collect();
            let loss = Tensor::f_stack(&losses, 0)?.f_sum(Kind::Double)?;
            self.reductions.extend(
                replica
                    .reduce_step(&loss, signal)?
                    .map(|reduction| (step, reduction)),
            );
        }
        while self.reductions.len() > self.lag {
            self.read_reduction()?;
        }
        // On a CPU reading does not wait.
        if self.lag == 0 || self.pending.len() >= MOST_PENDING {
            self.check()
        } else {
            Ok(())
        }
    }

    /// The signal that asks to stop after `step`, the same for all replicas; or 0.
    pub(crate) fn stop_signal(&self, step: u64) -> i32 {
        self.stop
            .map_or(0, |(at, signal)| if step >= at { signal } else { 0 })
    }

    /// Reads all losses that are not read yet.
    ///
    /// # Errors
    /// A loss that is not finite, naming epoch, step and, if that is the cause, the image.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.check_own()?;
        while !self.reductions.is_empty() {
            self.read_reduction()?;
        }
        Ok(())
    }

    fn check_own(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let losses: Vec<&Tensor> = self.pending.iter().map(|pending| &pending.loss).collect();
        let losses = Vec::<f64>::try_from(Tensor::f_stack(&losses, 0)?.to_kind(Kind::Double))?;
        for (pending, loss) in std::mem::take(&mut self.pending).iter().zip(losses) {
            if !loss.is_finite() {
                bail!(self.not_finite(pending.step, loss, &self.cause(&pending.image_ids)));
            }
            if self.alone {
                self.add_read(pending.step, loss);
            }
        }
        Ok(())
    }

    fn read_reduction(&mut self) -> Result<()> {
        let Some((step, reduction)) = self.reductions.pop_front() else {
            return Ok(());
        };
        let (loss, signal) = reduction.read()?;
        self.stop = self
            .stop
            .or(signal.map(|signal| (step + self.lag as u64, signal)));
        if !loss.is_finite() {
            self.check_own()?;
            bail!(FailedElsewhere(self.not_finite(
                step,
                loss,
                "another replica says why"
            )));
        }
        self.add_read(step, loss);
        Ok(())
    }

    fn add_read(&mut self, step: u64, loss: f64) {
        self.sum += loss;
        self.last = if step == self.last.0 {
            (step, self.last.1 + loss)
        } else {
            (step, loss)
        };
    }

    /// Summed loss of the last step that was read.
    pub(crate) fn last(&self) -> f64 {
        self.last.1
    }

    /// Sum of all losses that were read.
    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }

    fn not_finite(&self, step: u64, loss: f64, cause: &str) -> String {
        let epoch = self.epoch;
        format!(
            "the loss of epoch {epoch}, step {step} is {loss}; {cause}. The checkpoints of earlier epochs are intact"
        )
    }

    fn cause(&self, image_ids: &[ImageId]) -> String {
        let diverged =
            "the features are finite, so training diverged; lower LR_BASE or set GRAD_NORM_CLIP";
        self.task
            .features
            .not_finite(image_ids)
            .unwrap_or_else(|| diverged.into())
    }
}
