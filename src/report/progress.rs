//! Progress on standard error: a bar on a terminal, else a line every 10 seconds.

use crate::base::output;
use crate::note;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The progress of a long task.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    label: String,
    total: u64,
    /// Time at which the progress was last shown.
    shown: Instant,
    every: Duration,
    lines: bool,
}

impl Progress {
    /// The progress of `total` units of work, named `label`; with `quiet` nothing is shown.
    pub(crate) fn new(label: impl Into<String>, total: u64, quiet: bool) -> Progress {
        let (label, terminal) = (label.into(), std::io::stderr().is_terminal());
        let quiet = quiet || !output::speaks();
        let target = if terminal && !quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {eta} {msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(label.clone());
        let every = if terminal {
            Duration::from_millis(200)
        } else {
            Duration::from_secs(10)
        };
        Progress {
            bar,
            label,
            total,
            shown: Instant::now(),
            every,
            lines: !terminal && !quiet,
        }
    }

    /// Whether it is time to show the progress again.
    pub(crate) fn is_due(&self) -> bool {
        self.shown.elapsed() >= self.every
    }

    /// Shows that `done` units are done, and `message`.
    pub(crate) fn show(&mut self, done: u64, message: &str) {
        self.shown = Instant::now();
        self.bar.set_message(message.to_string());
        self.bar.set_position(done);
        if self.lines {
            note!(
                "{}",
                format!("{} {done}/{} {message}", self.label, self.total).trim_end()
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
