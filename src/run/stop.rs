//! Signals that stop a run: the first asks the run to stop after the current step, the second ends the program at once.
//!
//! A handler would run on the thread that the signal interrupts. That thread may be computing in oneDNN, whose stack
//! pointer can point into the heap, so the handler's frame would overwrite memory. Therefore every thread blocks these
//! signals, and one thread waits for them.
//!
//! Before [`listen`] is called a signal ends the program at once: while a run reads its inputs there is nothing to
//! save.

use super::plan::Plan;
use crate::base::{files, output};
use crate::config::{StopSignal, StopSignals, is_given_anew};
use crate::distributed::{Replica, is_one_of_several};
use anyhow::{Context, Error, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::low_level::{emulate_default_handler, exit};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The first signal received, or 0.
static ASKED: AtomicI32 = AtomicI32::new(0);
/// Whether the run can stop after a step.
static LISTENS: AtomicBool = AtomicBool::new(false);
/// Whether this process prints.
static SPEAKS: AtomicBool = AtomicBool::new(true);

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

    /// The exit status by the convention of shells: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
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
        let name = match Signal::try_from(self.signal) {
            Ok(Signal::SIGINT) => "Ctrl-C",
            Ok(signal) => signal.as_str(),
            Err(_) => "a signal",
        };
        write!(f, "stopped by {name}{}", self.advice)
    }
}

impl std::error::Error for Stopped {}

/// Takes over Ctrl-C, SIGTERM, SIGHUP and `others`. Must be called before any other thread starts, because a thread
/// inherits which signals are blocked. A signal that the parent process lets be ignored, as nohup does with SIGHUP,
/// stays ignored.
///
/// # Errors
/// When the system refuses to block the signals, or a thread.
pub(crate) fn take_over(others: &StopSignals) -> Result<()> {
    let mut signals = SigSet::empty();
    let own = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter();
    let ignored = ignored_signals();
    for signal in own.chain(others.0.iter().copied().map(system_signal)) {
        if ignored >> (signal as u32 - 1) & 1 == 0 {
            signals.add(signal);
        }
    }
    let start = || -> Result<()> {
        signals.thread_block()?;
        Builder::new()
            .name("signals".into())
            .spawn(move || wait(&signals))?;
        Ok(())
    };
    start().context("cannot handle signals such as Ctrl-C")
}

fn system_signal(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Usr1 => Signal::SIGUSR1,
        StopSignal::Usr2 => Signal::SIGUSR2,
        StopSignal::Quit => Signal::SIGQUIT,
        StopSignal::Alrm => Signal::SIGALRM,
        StopSignal::Xcpu => Signal::SIGXCPU,
    }
}

/// The signals that this process ignores, one bit for each; none if the system does not tell.
fn ignored_signals() -> u64 {
    let status = files::read("/proc/self/status".as_ref(), 1 << 20).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Waits for signals, for ever.
fn wait(signals: &SigSet) {
    // After a Ctrl-C, each process of a job gets the signal twice: from the terminal and from the launcher.
    let repeat = match is_one_of_several() {
        true => Duration::from_secs(2),
        false => Duration::ZERO,
    };
    let mut first: Option<Instant> = None;
    loop {
        // Waiting fails only for a set that the system does not know; nothing could be done then.
        let Ok(signal) = signals.wait() else { continue };
        let signal = signal as i32;
        if !LISTENS.load(Ordering::SeqCst) {
            let _ = emulate_default_handler(signal);
            exit(128 + signal);
        }
        match first {
            Some(first) if first.elapsed() >= repeat => exit(128 + signal),
            Some(_) => {}
            None => {
                ASKED.store(signal, Ordering::Relaxed);
                first = Some(Instant::now());
                announce();
            }
        }
    }
}

/// Prints that the run is going to stop. Standard error may be a pipe that nobody reads, so this is done in a thread of
/// its own: the second signal must end the program all the same.
fn announce() {
    let print =
        || crate::note!("Stopping after the step in progress; once more ends the program at once");
    if SPEAKS.load(Ordering::SeqCst) {
        // Without a thread the announcement is left out.
        let _ = Builder::new().name("announcement".into()).spawn(print);
    }
}

/// Makes the first signal a request to stop.
pub(crate) fn listen() {
    SPEAKS.store(output::speaks(), Ordering::SeqCst);
    LISTENS.store(true, Ordering::SeqCst);
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
