//! The program: parses the command line, resolves the configuration, runs, and turns the outcome into an exit status.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unreachable
    )
)]

use anyhow::Result;
use mcan::base::errors::{explain, explain_panic, panic_text};
use mcan::base::memory::Allocator;
use mcan::base::output::print_error;
use mcan::cli::Args;
use mcan::config::Config;
use mcan::models::SCHEMA;
use mcan::run::stop::Stopped;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    let args = Args::from_command_line();
    tracing_subscriber::fmt()
        .with_max_level(args.log_level())
        .with_writer(std::io::stderr)
        // Otherwise a standard error that cannot be written would be reported there, with a panic.
        .log_internal_errors(false)
        .without_time()
        .init();
    // A file-size limit makes writing fail, as a full disk does, instead of ending the program.
    static FILE_TOO_LARGE: AtomicBool = AtomicBool::new(false);
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, &FILE_TOO_LARGE);
    std::panic::set_hook(Box::new(print_place));
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&args)));
    let message = match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => {
            if let Some(stopped) = error.downcast_ref::<Stopped>() {
                print_error(format_args!("{error:#}"));
                return ExitCode::from(stopped.exit_status());
            }
            explain(&format!("{error:#}"))
        }
        Err(panic) => explain_panic(panic_text(&*panic)),
    };
    print_error(format_args!("{message}"));
    ExitCode::FAILURE
}

fn run(args: &Args) -> Result<()> {
    if args.print()? {
        return Ok(());
    }
    mcan::run::run(Config::resolve(&args.given(), &SCHEMA)?)
}

/// Prints the place of a panic if `RUST_BACKTRACE` asks for it.
///
/// tch panics where libtorch throws, mostly out of memory; `main` turns that into a message for the user, who is shown
/// no stack trace.
fn print_place(panic: &PanicHookInfo) {
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        print_error(format_args!("{panic}\n{backtrace}"));
    }
}
