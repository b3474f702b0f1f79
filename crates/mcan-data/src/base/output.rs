//! Who speaks: of the replicas of a run only the first. [`say!`](crate::say) prints results to standard output,
//! [`note!`](crate::note) what else is worth knowing to standard error; both are silent on the others' threads.

use std::cell::Cell;

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread says nothing.
pub fn silence_this_thread() {
    SILENT.set(true);
}

/// Whether this thread speaks.
pub fn speaks() -> bool {
    !SILENT.get()
}

/// A line of results, as `println!` takes it.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { if $crate::base::output::speaks() { println!($($text)*) } };
}

/// A line for standard error, as `eprintln!` takes it.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => { if $crate::base::output::speaks() { eprintln!($($text)*) } };
}
