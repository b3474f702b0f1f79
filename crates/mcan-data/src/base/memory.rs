//! How much memory there is, and what happens when it runs out.
//!
//! Rust aborts the program when an allocation fails, with a message about bytes and status 134. [`Allocator`] ends it with
//! a message for the user and status 1. Code that can go on without the memory, or knows the file that needs it, asks in
//! [`fallible`].
#![allow(
    unsafe_code,
    reason = "a global allocator, and writing a message without allocating"
)]

use super::files;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::TryReserveError;
use std::path::Path;

thread_local! {
    static FALLIBLE: Cell<bool> = const { Cell::new(false) };
}

/// The allocator of the program: the system's, but a failure ends the program with a message and status 1.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every call goes to the system's allocator unchanged; `or_end` returns the same pointer or does not return.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        or_end(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        or_end(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        or_end(unsafe { System.realloc(old, layout, size) }, size)
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(old, layout) }
    }
}

fn or_end(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() && !FALLIBLE.get() {
        end(bytes);
    }
    memory
}

/// Ends the program. Allocates nothing.
#[cold]
fn end(bytes: usize) -> ! {
    let mut digits = [0; 20];
    let number = decimal(bytes.div_ceil(1_000_000), &mut digits);
    for part in [
        b"mcan: memory ran out: ",
        number,
        b" MB more was needed; ",
        REMEDY.as_bytes(),
        b"\n",
    ] {
        // SAFETY: the bytes are alive. That nobody can read them changes nothing.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    signal_hook::low_level::exit(1)
}

/// The decimal digits of `number`, in `digits`.
fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || start == 0 {
            return &digits[start..];
        }
    }
}

/// What a user can do when the machine's memory ran out.
pub const REMEDY: &str = "raise --ACCU, lower --BS or --NW, use --AMP=bf16, leave out --PRELOAD, or allow the program more \
                          memory (ulimit -v, the limit of the job)";

/// Calls `reserve`, in which memory may run out without ending the program.
pub fn fallible(
    reserve: impl FnOnce() -> Result<(), TryReserveError>,
) -> Result<(), TryReserveError> {
    FALLIBLE.set(true);
    let outcome = reserve();
    FALLIBLE.set(false);
    outcome
}

/// The number of bytes that this process can still get: the least of what the machine has free, what is left of the limit
/// of its address space (`ulimit -v`), and what is left of the limit of its control group. `None` if the system does not
/// tell.
pub fn available() -> Option<u64> {
    [
        free_on_machine(),
        left_of_address_space(),
        left_of_control_group(),
    ]
    .into_iter()
    .flatten()
    .min()
}

fn free_on_machine() -> Option<u64> {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

fn left_of_address_space() -> Option<u64> {
    let limits = text("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    // "unlimited" is no number.
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kilobytes("/proc/self/status", "VmSize:")?))
}

fn left_of_control_group() -> Option<u64> {
    let groups = text("/proc/self/cgroup")?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = format!("/sys/fs/cgroup{}", group.trim_end_matches('/'));
    let number = |name: &str| {
        text(&format!("{folder}/{name}"))?
            .trim()
            .parse::<u64>()
            .ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

/// The number of bytes that the line `name` of a file says in kB.
fn kilobytes(path: &str, name: &str) -> Option<u64> {
    let text = text(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn text(path: &str) -> Option<String> {
    String::from_utf8(files::read(Path::new(path), 1 << 20).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_allocating() {
        for number in [0, 7, 10, 123_456_789, usize::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error_where_it_may_be_one() {
        let mut bytes: Vec<u8> = Vec::new();
        assert!(fallible(|| bytes.try_reserve_exact(1 << 62)).is_err());
        assert!(fallible(|| bytes.try_reserve_exact(10)).is_ok());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_machine_says_what_is_free() {
        assert!(available().unwrap() > 1 << 20);
    }
}
