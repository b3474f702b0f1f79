//! The profile of a run (`PROFILE`): the time that each phase of a step takes.

use std::fmt;
use std::time::{Duration, Instant};
use tch::Device;

/// A phase of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for a batch and for its copy to the device.
    Input,
    /// The network and the loss.
    Forward,
    /// Gradients.
    Backward,
    /// The step of the optimizer.
    Optimizer,
}

impl Phase {
    const ALL: [(Phase, &str); 4] = [
        (Phase::Input, "waiting for input"),
        (Phase::Forward, "forward"),
        (Phase::Backward, "backward"),
        (Phase::Optimizer, "optimizer"),
    ];
}

/// The time of each phase, summed over the steps of an epoch or of an evaluation.
///
/// At the end of each phase the profile waits for the GPU, which makes the run a little slower. A profile that is off
/// does nothing.
#[derive(Debug)]
pub(crate) struct Profile {
    on: bool,
    device: Device,
    last: Instant,
    /// Beginning of the current step.
    began: Instant,
    phases: [Duration; Phase::ALL.len()],
    steps: Vec<Duration>,
}

impl Profile {
    /// A profile that starts now, if it is `on`.
    pub(crate) fn new(on: bool, device: Device) -> Profile {
        let now = Instant::now();
        Profile {
            on,
            device,
            last: now,
            began: now,
            phases: Default::default(),
            steps: Vec::new(),
        }
    }

    /// Whether times are measured.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Ends `phase`: the time since the last call belongs to it.
    pub(crate) fn end(&mut self, phase: Phase) {
        if !self.on {
            return;
        }
        if let Device::Cuda(index) = self.device {
            tch::Cuda::synchronize(index as i64);
        }
        let now = Instant::now();
        self.phases[phase as usize] += now - self.last;
        self.last = now;
    }

    /// Ends a step.
    pub(crate) fn end_step(&mut self) {
        if self.on {
            let now = Instant::now();
            self.steps.push(now - self.began);
            self.began = now;
        }
    }

    /// Median duration of the steps, without the first one, which is a warm-up.
    fn median(&self) -> Duration {
        let mut steps = self
            .steps
            .get(1..)
            .filter(|rest| !rest.is_empty())
            .unwrap_or(&self.steps)
            .to_vec();
        steps.sort();
        steps.get(steps.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Profile {
    /// A line for the steps, and one for each phase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.phases.iter().sum::<Duration>().as_secs_f64();
        let count = self.steps.len().max(1) as f64;
        writeln!(
            f,
            "{} steps, median {:.2} ms",
            self.steps.len(),
            1000.0 * self.median().as_secs_f64()
        )?;
        for (phase, name) in Phase::ALL {
            let seconds = self.phases[phase as usize].as_secs_f64();
            if seconds > 0.0 {
                let share = 100.0 * seconds / total;
                writeln!(
                    f,
                    "  {name:<18}{:>10.2} ms a step {share:>6.1} %",
                    1000.0 * seconds / count
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_booked_under_the_phase_that_it_was_spent_in() {
        let mut profile = Profile::new(true, Device::Cpu);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(2));
            profile.end(Phase::Input);
            std::thread::sleep(Duration::from_millis(8));
            profile.end(Phase::Forward);
            profile.end_step();
        }
        assert!(profile.phases[Phase::Forward as usize] >= Duration::from_millis(24));
        assert!(profile.phases[Phase::Input as usize] >= Duration::from_millis(6));
        assert!(profile.median() >= Duration::from_millis(10));
        let text = profile.to_string();
        assert!(
            text.starts_with("3 steps, median")
                && text.contains("forward")
                && !text.contains("backward"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_measured_unless_asked_for() {
        let mut profile = Profile::new(false, Device::Cpu);
        profile.end(Phase::Forward);
        profile.end_step();
        assert!(
            profile.to_string().starts_with("0 steps")
                && profile.phases.iter().all(Duration::is_zero)
        );
    }
}
