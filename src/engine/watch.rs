//! Watches the losses of an epoch without making a GPU wait for each: they are read together, now and then.

use super::inputs::Task;
use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

/// Losses that may wait to be read on a GPU.
const MOST_PENDING: usize = 256;

/// The losses of one epoch.
pub struct Watch<'a> {
    task: &'a Task,
    epoch: u64,
    sum: f64,
    last: f64,
    pending: Vec<Pending>,
    most_pending: usize,
}

struct Pending {
    step: u64,
    loss: Tensor,
    image_ids: Vec<u64>,
}

impl<'a> Watch<'a> {
    /// For epoch `epoch` (from 1) over `task`, of which losses of `sum` together have been seen before.
    pub fn new(task: &'a Task, epoch: u64, device: Device, sum: f64) -> Watch<'a> {
        let most_pending = if device.is_cuda() { MOST_PENDING } else { 1 };
        Watch { task, epoch, sum, last: 0.0, pending: Vec::new(), most_pending }
    }

    /// Takes the summed loss of a batch of optimizer step `step` on these images.
    pub fn add(&mut self, step: u64, loss: Tensor, image_ids: Vec<u64>) {
        self.pending.push(Pending { step, loss, image_ids });
    }

    /// Whether enough losses wait to be read: on a CPU each one, as nothing is gained by waiting.
    pub fn is_due(&self) -> bool {
        self.pending.len() >= self.most_pending
    }

    /// Reads what is pending.
    ///
    /// # Errors
    /// A loss that is not finite, naming epoch, step and, if that is the cause, the image.
    pub fn check(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let losses: Vec<&Tensor> = self.pending.iter().map(|pending| &pending.loss).collect();
        let losses = Vec::<f64>::try_from(Tensor::f_stack(&losses, 0)?.to_kind(Kind::Double))?;
        for (pending, loss) in self.pending.iter().zip(&losses) {
            if !loss.is_finite() {
                bail!(
                    "the loss of epoch {}, step {} is {loss}; {}. The checkpoints of the epochs before are whole",
                    self.epoch,
                    pending.step,
                    self.cause(&pending.image_ids)
                );
            }
            self.sum += loss;
            self.last = *loss;
        }
        self.pending.clear();
        Ok(())
    }

    /// The last loss that was read.
    pub fn last(&self) -> f64 {
        self.last
    }

    /// Sum of all losses that were read.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    fn cause(&self, image_ids: &[u64]) -> String {
        let diverged = "the features are finite, so training diverged; lower LR_BASE or set GRAD_NORM_CLIP";
        self.task.features.not_finite(image_ids).unwrap_or_else(|| diverged.into())
    }
}
