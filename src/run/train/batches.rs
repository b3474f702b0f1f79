//! The micro-batches of an epoch.

use super::trainer::Trainer;
use crate::config::ShuffleMode;
use crate::data::loader::{Loader, LoaderOptions, shuffled};
use crate::run::prefetch::{LOADED_AHEAD, Prefetcher};
use anyhow::Result;

impl Trainer<'_> {
    /// This replica's share of the micro-batches of the current epoch.
    pub(super) fn batches_of_epoch(&self) -> Result<Prefetcher> {
        let config = self.plan.config();
        self.task.features.check_unchanged()?;
        let len = self.task.dataset.len();
        let mut order = match config.data.shuffle_mode {
            ShuffleMode::None => (0..len).collect(),
            ShuffleMode::External | ShuffleMode::Internal => {
                shuffled(len, self.plan.seed(), self.epoch)
            }
        };
        order.truncate(len - len % config.train.batch_size);
        let order = self.replica.share_of(&order, config.sub_batch_size());
        let options = LoaderOptions {
            batch_size: config.sub_batch_size() / self.replica.size,
            drop_last: true,
            workers: self.plan.workers(),
            prefetch: LOADED_AHEAD,
            share_images: false,
            max_token: self.task.max_token,
            skip: self.batch as usize * config.train.grad_accu_steps,
        };
        let (dataset, features) = (self.task.dataset.clone(), self.task.features.clone());
        let loader = Loader::new(dataset, features, order, options)?;
        let packer = self.task.packer(config, &self.net, self.replica.device);
        Prefetcher::new(loader, packer)
    }
}
