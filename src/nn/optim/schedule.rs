//! The learning rate: a warm-up over the first three epochs' worth of steps, then the base rate, which decays at given
//! epochs.

use crate::config::TrainConfig;

/// What the learning rate depends on besides step and base.
#[derive(Clone, Debug)]
pub struct Schedule {
    data_size: f64,
    batch_size: f64,
    decay_r: f64,
    decay_list: Vec<u64>,
}

impl Schedule {
    /// For `data_size` questions per epoch.
    pub fn new(config: &TrainConfig, data_size: usize) -> Schedule {
        Schedule {
            data_size: data_size as f64,
            batch_size: config.batch_size as f64,
            decay_r: config.lr_decay_r,
            decay_list: config.lr_decay_list.clone(),
        }
    }

    /// Learning rate of optimizer step `step` (from 1): a quarter, half, three quarters of the base over the first,
    /// second and third epoch's worth of steps, rounded down as in the reference.
    pub fn rate(&self, step: u64, lr_base: f64) -> f64 {
        match (1..=3).find(|&epochs| step <= self.steps_in(epochs)) {
            Some(quarters) => lr_base * quarters as f64 / 4.0,
            None => lr_base,
        }
    }

    /// Base rate for the epoch of this index (from 0), given that of the epoch before.
    pub fn base_at(&self, epoch: u64, lr_base: f64) -> f64 {
        if self.decay_list.contains(&epoch) {
            lr_base * self.decay_r
        } else {
            lr_base
        }
    }

    /// Steps that the reference takes to be done after `epochs` epochs.
    pub fn steps_in(&self, epochs: u64) -> u64 {
        (self.data_size / self.batch_size * epochs as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        let config = TrainConfig {
            batch_size: 32,
            lr_decay_list: vec![3, 5],
            ..TrainConfig::default()
        };
        Schedule::new(&config, 240)
    }

    #[test]
    fn the_warm_up_ends_after_three_epochs_of_fractional_steps() {
        // 240 / 32 = 7.5 steps per epoch: the quarters end after steps 7, 15 and 22.
        let rates: Vec<f64> = [1, 7, 8, 15, 16, 22, 23, 1000]
            .map(|step| schedule().rate(step, 0.002))
            .into();
        assert_eq!(
            rates,
            [0.0005, 0.0005, 0.001, 0.001, 0.0015, 0.0015, 0.002, 0.002]
        );
    }

    #[test]
    fn the_base_decays_at_the_listed_epochs_only() {
        assert_eq!(schedule().base_at(2, 0.002), 0.002);
        assert_eq!(schedule().base_at(3, 0.002), 0.0004);
    }
}
