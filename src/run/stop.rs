//! Ctrl-C and SIGTERM: the first asks the work at hand to stop at the next step, the second ends the program at once.
//!
//! Until [`listen`] is called a signal ends the program as it would any other; so it does while a run still reads its
//! inputs, when there is nothing to save.

use crate::base::output;
use crate::config::{Config, is_given_anew};
use crate::distributed::is_one_of_several;
use anyhow::{Context, Error, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;
use std::fmt;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// The signal that asked, or 0.
static ASKED: AtomicI32 = AtomicI32::new(0);

/// The error of work that was asked to stop.
#[derive(Debug)]
pub struct Stopped {
    signal: i32,
    advice: String,
}

impl Stopped {
    /// Stopped by `signal`, of which nothing more is to be said.
    pub fn by(signal: i32) -> Stopped {
        Stopped {
            signal,
            advice: String::new(),
        }
    }

    /// As shells report a program that a signal ended: 130 after Ctrl-C, 143 after SIGTERM.
    pub fn exit_status(&self) -> u8 {
        128 + self.signal as u8
    }

    /// Adds to `error`, if it is of this kind, what was saved and how to go on.
    pub fn advise(error: Error, advice: &str) -> Error {
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

/// From now on a signal is a request to stop.
///
/// # Errors
/// When the system refuses a handler or a thread.
pub fn listen() -> Result<()> {
    static FIRST: Once = Once::new();
    let mut outcome = Ok(());
    FIRST.call_once(|| outcome = start().context("cannot handle Ctrl-C and SIGTERM"));
    outcome
}

fn start() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // A launcher passes on a Ctrl-C that the terminal has sent to all processes already.
    let same = if is_one_of_several() {
        Duration::from_secs(2)
    } else {
        Duration::ZERO
    };
    let speaks = output::speaks();
    let wait = move || {
        let mut first = None;
        for signal in signals.forever() {
            match first {
                Some(first) if Instant::elapsed(&first) >= same => exit(128 + signal),
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

/// The signal that asked the work at hand to stop, or 0.
pub fn asked() -> i32 {
    ASKED.load(Ordering::Relaxed)
}

/// Call this where work can stop.
///
/// # Errors
/// [`Stopped`], once a signal has asked.
pub fn check() -> Result<()> {
    match asked() {
        0 => Ok(()),
        signal => bail!(Stopped::by(signal)),
    }
}

/// The command line that continues the run of `config` from `checkpoint`, to be pasted into a shell.
pub fn command_to_resume(config: &Config, checkpoint: &Path) -> String {
    let mut words = vec![std::env::args().next().unwrap_or_else(|| "mcan".into())];
    words.extend(
        config
            .run
            .flags
            .iter()
            .filter(|flag| !is_given_anew(flag))
            .cloned(),
    );
    words.push(format!("--VERSION={}", config.version()));
    words.push("--RESUME=True".into());
    words.push(format!("--CKPT_PATH={}", checkpoint.display()));
    // Only a NUL cannot be quoted, and no argument has one.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Args;
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
        let command = command_to_resume(&config, Path::new("my ckpts/last.pkl"));
        let words = shlex::split(&command).unwrap();
        let version = format!("--VERSION={}", config.version());
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
