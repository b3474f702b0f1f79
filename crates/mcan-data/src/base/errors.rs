//! Texts of failures for the user.

use std::any::Any;

/// The message of a panic. tch panics where libtorch throws, mostly because memory ran out.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason is known")
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
    if reason.contains("out of memory") || reason.contains("can't allocate memory") {
        return format!(
            "{}; raise --ACCU, lower --BS, or use --AMP=bf16",
            shortage(&reason)
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
        let free = available_mb().map_or(String::new(), |free| format!(", and {free} MB is free"));
        Some(format!(
            "memory ran out: {} MB more was needed{free}",
            asked.div_ceil(1_000_000)
        ))
    };
    gpu()
        .or_else(cpu)
        .unwrap_or_else(|| format!("memory ran out: {reason}"))
}

/// Free memory of the machine in MB, if the system tells.
pub(crate) fn available_mb() -> Option<u64> {
    let text = super::files::read("/proc/meminfo".as_ref(), 1 << 20).ok()?;
    let text = String::from_utf8(text).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1000)
}
