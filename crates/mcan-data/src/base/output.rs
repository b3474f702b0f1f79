//! Printing, for the first replica of a run only. [`say!`](crate::say) prints results to standard output,
//! [`note!`](crate::note) prints further information to standard error. The threads of the other replicas are silent.
//!
//! A stream may be gone: the reader of its pipe has ended, its terminal is closed, or its disk is full. Printing then
//! has no effect, because a training must not end for that: its results are in its log. A run whose results are printed
//! asks [`check_results`] at its end.

use anyhow::{Result, bail};
use std::cell::Cell;
use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::OnceLock;

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Why results could not be printed, if they could not.
static LOST: OnceLock<String> = OnceLock::new();

/// Makes this thread silent: from now on it prints nothing.
pub fn silence_this_thread() {
    SILENT.set(true);
}

/// Whether this thread prints.
pub fn speaks() -> bool {
    !SILENT.get()
}

/// Prints `text` to standard output, if this thread prints.
pub fn print_result(text: Arguments) {
    if !speaks() {
        return;
    }
    let mut stream = io::stdout().lock();
    if let Err(error) = stream.write_fmt(text).and_then(|()| stream.flush()) {
        let _ = LOST.set(error.to_string());
    }
}

/// Prints `text` to standard error, if this thread prints.
pub fn print_note(text: Arguments) {
    if speaks() {
        let _ = io::stderr().lock().write_fmt(text);
    }
}

/// Prints the error that ends the program to standard error, also in a process of a job that is silent otherwise.
pub fn print_error(text: Arguments) {
    let _ = io::stderr()
        .lock()
        .write_fmt(format_args!("mcan: {text}\n"));
}

/// Fails if a result could not be printed.
///
/// # Errors
/// See above; the message has the reason.
pub fn check_results() -> Result<()> {
    match LOST.get() {
        Some(reason) => bail!("the results cannot be written to standard output: {reason}"),
        None => Ok(()),
    }
}

/// Prints a line of results to standard output. The arguments are those of `println!`.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::base::output::print_result(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints a line of further information to standard error. The arguments are those of `eprintln!`.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => { $crate::base::output::print_note(format_args!("{}\n", format_args!($($text)*))) };
}
