//! Texts of failures for the user.

use super::memory;
use std::any::Any;

/// The message of a panic. tch panics where libtorch throws, mostly because memory ran out.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason is known")
}

/// The message of a panic that ended a run: of libtorch's failures as of other errors, else that the program has a fault.
pub fn explain_panic(text: &str) -> String {
    let explained = explain(text);
    match explained == text {
        true => format!(
            "this is a fault of the program; please report it with the command and the lines above: {text}"
        ),
        false => explained,
    }
}

/// The text of a failure without the C++ stack that libtorch appends, and with advice where the cause is known: too little
/// memory, too many open files, or a lost process.
pub fn explain(text: &str) -> String {
    let end = [
        "\\nException raised from",
        "\nException raised from",
        "\\nframe #",
        "\nframe #",
    ];
    let reason = end
        .iter()
        .filter_map(|mark| text.find(mark))
        .min()
        .map_or(text, |cut| &text[..cut]);
    let reason = reason.replace(
        "called `Result::unwrap()` on an `Err` value: Torch(\"",
        "libtorch: ",
    );
    // "could not execute a primitive": what oneDNN says when it gets no memory.
    const MEMORY: [&str; 7] = [
        "out of memory",
        "can't allocate memory",
        "memory ran out",
        "could not execute a primitive",
        "could not create a primitive",
        "bad_alloc",
        "Cannot allocate memory",
    ];
    if MEMORY.iter().any(|sign| reason.contains(sign)) {
        return format!("{}; {}", shortage(&reason), memory::REMEDY);
    }
    const THREADS: [&str; 3] = [
        "failed to spawn thread",
        "global thread pool",
        "Resource temporarily unavailable",
    ];
    if THREADS.iter().any(|sign| reason.contains(sign)) {
        return format!(
            "no more threads can be started ({reason}); lower --NW, or allow the program more (ulimit -u, the limit of the job)"
        );
    }
    if reason.contains("Too many open files") {
        return format!("{reason}; lower --NW, or allow more open files (ulimit -n)");
    }
    const LOST: [&str; 5] = [
        "Connection closed by peer",
        "Connection reset by peer",
        "Timed out waiting",
        "NCCL error",
        "collective operation timeout",
    ];
    if LOST.iter().any(|sign| reason.contains(sign)) {
        return format!(
            "{reason}; another process or device of this run has ended or does not answer: see its messages"
        );
    }
    reason
}

/// Says which memory ran out, how much was needed and how much is free, as far as the text of libtorch tells.
fn shortage(reason: &str) -> String {
    let between = |start: &str, end: &str| {
        let rest = &reason[reason.find(start)? + start.len()..];
        Some(rest[..rest.find(end)?].trim())
    };
    let gpu = || {
        let (asked, device) = (
            between("Tried to allocate ", ". ")?,
            between("GPU ", " has a total capacity")?,
        );
        let (total, free) = (
            between("total capacity of ", " of which")?,
            between("of which ", " is free")?,
        );
        Some(format!(
            "the memory of GPU {device} ran out: {asked} more was needed, and of its {total} {free} is free"
        ))
    };
    let cpu = || {
        let asked: u64 = between("tried to allocate ", " bytes")?.parse().ok()?;
        let free = memory::available().map(|free| free / 1_000_000);
        let free = free.map_or(String::new(), |free| format!(", and {free} MB is free"));
        Some(format!(
            "memory ran out: {} MB more was needed{free}",
            asked.div_ceil(1_000_000)
        ))
    };
    let other = || match reason.contains("memory ran out") {
        true => reason.to_owned(),
        false => format!("memory ran out: {reason}"),
    };
    gpu().or_else(cpu).unwrap_or_else(other)
}
