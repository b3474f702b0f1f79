//! Printing, for the first replica of a run only. [`say!`](crate::say) prints results to standard output,
//! [`note!`](crate::note) prints further information to standard error. The threads of the other replicas are silent.

use std::cell::Cell;

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Makes this thread silent: from now on it prints nothing.
pub fn silence_this_thread() {
    SILENT.set(true);
}

/// Whether this thread prints.
pub fn speaks() -> bool {
    !SILENT.get()
}

/// Prints a line of results to standard output. The arguments are those of `println!`.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { if $crate::base::output::speaks() { println!($($text)*) } };
}

/// Prints a line of further information to standard error. The arguments are those of `eprintln!`.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => { if $crate::base::output::speaks() { eprintln!($($text)*) } };
}
