//! Ctrl-C and SIGTERM: the first signal asks the run to stop after the current step, the second ends the program at
//! once.
//!
//! Before [`listen`] is called a signal ends the program at once: while a run reads its inputs there is nothing to
//! save.

use super::plan::Plan;
use crate::base::output;
use crate::config::is_given_anew;
use crate::distributed::{Replica, is_one_of_several};
use anyhow::{Context, Error, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;
use std::fmt;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// The first signal received, or 0.
static ASKED: AtomicI32 = AtomicI32::new(0);

/// The error of a run that a signal stopped.
#[derive(Debug)]
pub struct Stopped {
    signal: i32,
    advice: String,
}

impl Stopped {
    /// The error for `signal`, without advice.
    pub(crate) fn by(signal: i32) -> Stopped {
        Stopped {
            signal,
            advice: String::new(),
        }
    }

    /// The exit status by the convention of shells: 130 after Ctrl-C, 143 after SIGTERM.
    pub fn exit_status(&self) -> u8 {
        128 + self.signal as u8
    }

    /// Adds `advice` to `error` if it is a `Stopped`.
    pub(crate) fn advise(error: Error, advice: &str) -> Error {
        match error.downcast::<Stopped>() {
            Ok(Stopped { signal, .. }) => Stopped {
                signal,
                advice: advice.into(),
            }
            .into(),
            Err(other) => other,
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let signal = if self.signal == SIGINT {
            "Ctrl-C"
        } else {
            "SIGTERM"
        };
        write!(f, "stopped by {signal}{}", self.advice)
    }
}

impl std::error::Error for Stopped {}

/// Makes the first signal a request to stop.
///
/// # Errors
/// When the system refuses a handler or a thread.
pub(crate) fn listen() -> Result<()> {
    static FIRST: Once = Once::new();
    let mut outcome = Ok(());
    FIRST.call_once(|| outcome = start().context("cannot handle Ctrl-C and SIGTERM"));
    outcome
}

fn start() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // After a Ctrl-C, each process of a job gets the signal twice: from the terminal and from the launcher.
    let repeat = if is_one_of_several() {
        Duration::from_secs(2)
    } else {
        Duration::ZERO
    };
    let speaks = output::speaks();
    let wait = move || {
        let mut first = None;
        for signal in signals.forever() {
            match first {
                Some(first) if Instant::elapsed(&first) >= repeat => exit(128 + signal),
                Some(_) => {}
                None => {
                    ASKED.store(signal, Ordering::Relaxed);
                    first = Some(Instant::now());
                    if speaks {
                        eprintln!(
                            "Stopping after the step in progress; once more ends the program at once"
                        );
                    }
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait)?;
    Ok(())
}

/// The signal that asks the run to stop, or 0.
pub(crate) fn asked() -> i32 {
    ASKED.load(Ordering::Relaxed)
}

/// Fails if a signal has been received. Called where the run can stop.
///
/// # Errors
/// [`Stopped`] after a signal.
pub(crate) fn check() -> Result<()> {
    match asked() {
        0 => Ok(()),
        signal => bail!(Stopped::by(signal)),
    }
}

/// Adds the name of `replica` to `error`, except to a [`Stopped`], which concerns all replicas.
pub(crate) fn attribute(replica: &Replica, error: Error) -> Error {
    if error.is::<Stopped>() {
        error
    } else {
        replica.attribute(error)
    }
}

/// The command line that continues the run of `plan` from `checkpoint`, quoted for a shell.
pub(crate) fn command_to_resume(plan: &Plan, checkpoint: &Path) -> String {
    let mut words = vec![std::env::args().next().unwrap_or_else(|| "mcan".into())];
    let given = plan.config().run.given.spelled_out().into_iter();
    words.extend(given.filter(|flag| !is_given_anew(flag)));
    words.push(format!("--VERSION={}", plan.version()));
    words.push("--RESUME=True".into());
    words.push(format!("--CKPT_PATH={}", checkpoint.display()));
    // Only a NUL cannot be quoted, and no argument has one.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Args;
    use crate::config::Config;
    use crate::models::SCHEMA;
    use clap::Parser;

    #[test]
    fn the_command_that_resumes_says_the_same_and_where_to_go_on() {
        let given = [
            "mcan",
            "--RUN=train",
            "--BS",
            "8",
            "--SET",
            "LR_DECAY_LIST=[8, 10]",
            "--RESUM",
            "--CKPT_V=a",
            "--OVERWRITE",
        ];
        let config = Config::resolve(&Args::parse_from(given).given(), &SCHEMA).unwrap();
        let plan = Plan::new(&config, 1, None).unwrap();
        let command = command_to_resume(&plan, Path::new("my ckpts/last.pkl"));
        let words = shlex::split(&command).unwrap();
        let version = format!("--VERSION={}", plan.version());
        let expected = [
            "--RUN=train",
            "--BS=8",
            "--SET=LR_DECAY_LIST=[8, 10]",
            &version,
            "--RESUME=True",
            "--CKPT_PATH=my ckpts/last.pkl",
        ];
        assert_eq!(words[1..], expected);
    }
}
