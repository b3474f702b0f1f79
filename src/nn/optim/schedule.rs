//! The learning rate: a warm-up over the first epochs' worth of steps, then the base rate, which decays at given
//! epochs.

/// The keys of a schedule.
#[derive(Clone, Debug)]
pub(crate) struct ScheduleKeys {
    /// Questions per optimizer step.
    pub(crate) batch_size: usize,
    /// W, epochs of the warm-up.
    pub(crate) warmup_epochs: u64,
    /// Factor of the base rate at each decay.
    pub(crate) decay_r: f64,
    /// Epoch indices (from 0) at whose beginning the base rate decays.
    pub(crate) decay_list: Vec<u64>,
}

/// The learning rate as a pure function of step and epoch.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    data_size: f64,
    keys: ScheduleKeys,
}

impl Schedule {
    /// A schedule for `data_size` questions per epoch.
    pub(crate) fn new(keys: ScheduleKeys, data_size: usize) -> Schedule {
        Schedule {
            data_size: data_size as f64,
            keys,
        }
    }

    /// Learning rate of optimizer step `step` (from 1): base · i / (W + 1) for i = 1, 2, 3 over the first three
    /// quarters of W + 1 epochs' worth of steps, each rounded down as in the reference, then the base rate.
    ///
    /// The reference has W = 3: a quarter, half and three quarters of the base rate, an epoch each.
    pub(crate) fn rate(&self, step: u64, lr_base: f64) -> f64 {
        let (steps_per_epoch, parts) =
            (self.steps_per_epoch(), (self.keys.warmup_epochs + 1) as f64);
        let is_within = |&i: &u64| step <= (steps_per_epoch * parts * i as f64 / 4.0) as u64;
        match (1..=3).find(is_within) {
            Some(i) => lr_base * i as f64 / parts,
            None => lr_base,
        }
    }

    /// Base rate of epoch `epoch` (from 0), given the base rate of the epoch before.
    pub(crate) fn base_at(&self, epoch: u64, lr_base: f64) -> f64 {
        if self.keys.decay_list.contains(&epoch) {
            lr_base * self.keys.decay_r
        } else {
            lr_base
        }
    }

    /// Base rate of a run that begins with `lr_base`, after the decays at the starts of the first `epochs` epochs.
    pub(crate) fn base_after(&self, epochs: u64, lr_base: f64) -> f64 {
        (0..epochs).fold(lr_base, |base, epoch| self.base_at(epoch, base))
    }

    /// Optimizer steps after `epochs` epochs, as the reference counts them.
    pub(crate) fn steps_in(&self, epochs: u64) -> u64 {
        (self.steps_per_epoch() * epochs as f64) as u64
    }

    fn steps_per_epoch(&self) -> f64 {
        self.data_size / self.keys.batch_size as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(warmup_epochs: u64) -> Schedule {
        let keys = ScheduleKeys {
            batch_size: 32,
            warmup_epochs,
            decay_r: 0.2,
            decay_list: vec![3, 5],
        };
        Schedule::new(keys, 240)
    }

    #[test]
    fn the_warm_up_ends_after_three_epochs_of_fractional_steps() {
        // 240 / 32 = 7.5 steps per epoch: the quarters end after steps 7, 15 and 22.
        let rates = [1, 7, 8, 15, 16, 22, 23, 1000].map(|step| schedule(3).rate(step, 0.002));
        assert_eq!(
            rates,
            [0.0005, 0.0005, 0.001, 0.001, 0.0015, 0.0015, 0.002, 0.002]
        );
    }

    #[test]
    fn a_warm_up_of_two_epochs_has_three_steps_of_three_quarters_of_an_epoch() {
        // 0.75 * 7.5 = 5.6: the thirds end after steps 5, 11 and 16.
        let rates = [5, 6, 11, 12, 16, 17].map(|step| schedule(2).rate(step, 0.003));
        // Differs from the base rate by rounding.
        let three_thirds = 0.003 * 3.0 / 3.0;
        assert_eq!(
            rates,
            [0.001, 0.002, 0.002, three_thirds, three_thirds, 0.003]
        );
    }

    #[test]
    fn the_base_decays_at_the_listed_epochs_only() {
        assert_eq!(schedule(3).base_at(2, 0.002), 0.002);
        assert_eq!(schedule(3).base_at(3, 0.002), 0.0004);
    }
}
