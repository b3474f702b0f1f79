//! Parses, resolves, runs, and turns the outcome into an exit status.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

use mcan::base::errors::{explain, panic_text};
use mcan::cli::Args;
use mcan::config::Config;
use mcan::run::stop::Stopped;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    let args = Args::from_command_line();
    // A file-size limit makes writing fail, as a full disk does, instead of ending the program.
    static FILE_TOO_LARGE: AtomicBool = AtomicBool::new(false);
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, &FILE_TOO_LARGE);
    // tch panics where libtorch throws, mostly out of memory. Nobody should see a C++ stack trace for that.
    std::panic::set_hook(Box::new(|_| ()));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Config::resolve(&args.given()).and_then(mcan::run::run)
    }));
    let message = match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => {
            if let Some(stopped) = error.downcast_ref::<Stopped>() {
                eprintln!("mcan: {error:#}");
                return ExitCode::from(stopped.exit_status());
            }
            format!("{error:#}")
        }
        Err(panic) => panic_text(&*panic).to_string(),
    };
    eprintln!("mcan: {}", explain(&message));
    ExitCode::FAILURE
}
