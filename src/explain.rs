//! What to say of a failure.

use std::any::Any;

/// The text of a panic that was caught, or that ended a thread. tch panics where libtorch throws, mostly out of memory.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it gave no reason")
}

/// The causes of a failure without the C++ stack that libtorch appends, and what helps when memory or files ran out.
pub fn explain(text: &str) -> String {
    let end = ["\\nException raised from", "\nException raised from", "\\nframe #", "\nframe #"];
    let reason = end.iter().filter_map(|mark| text.find(mark)).min().map_or(text, |cut| &text[..cut]);
    let reason = reason.replace("called `Result::unwrap()` on an `Err` value: Torch(\"", "libtorch: ");
    if reason.contains("out of memory") || reason.contains("can't allocate memory") {
        return format!("{}; raise --ACCU, lower --BS, or use --AMP=bf16", shortage(&reason));
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
            "{reason}; another process or device of this run has ended or does not answer: see what it said"
        );
    }
    reason
}

/// Which memory ran out, how much was asked for, and how much there is, as far as libtorch's text tells.
fn shortage(reason: &str) -> String {
    let between = |start: &str, end: &str| {
        let rest = &reason[reason.find(start)? + start.len()..];
        Some(rest[..rest.find(end)?].trim())
    };
    let gpu = || {
        let (asked, device) = (between("Tried to allocate ", ". ")?, between("GPU ", " has a total capacity")?);
        let (total, free) = (between("total capacity of ", " of which")?, between("of which ", " is free")?);
        Some(format!("the memory of GPU {device} ran out: {asked} more was needed, and of its {total} {free} is free"))
    };
    let cpu = || {
        let asked: u64 = between("tried to allocate ", " bytes")?.parse().ok()?;
        let free = available_mb().map_or(String::new(), |free| format!(", and {free} MB is free"));
        Some(format!("memory ran out: {} MB more was needed{free}", asked.div_ceil(1_000_000)))
    };
    gpu().or_else(cpu).unwrap_or_else(|| format!("memory ran out: {reason}"))
}

/// Memory that programs can still have, where the system tells.
fn available_mb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn nobody_sees_a_cpp_stack() {
        let panic = std::panic::catch_unwind(|| {
            let _ = Tensor::zeros([2], (Kind::Float, Device::Cpu)).view([3]);
        });
        let text = panic.unwrap_err().downcast_ref::<String>().cloned().unwrap_or_default();
        let told = explain(&text);
        assert!(told.starts_with("libtorch: shape '[3]' is invalid") && !told.contains("frame #"), "{told}");
    }

    #[test]
    fn a_lost_replica_sends_the_reader_to_what_it_said() {
        let told = explain("replica 0 of 2 (CPU): [pair.cc:538] Connection closed by peer [10.0.0.2]:4321");
        assert!(told.ends_with("another process or device of this run has ended or does not answer: see what it said"));
    }

    #[test]
    fn when_memory_ran_out_what_was_needed_and_what_is_there_is_said() {
        let text = "Torch(\"CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of 79.18 GiB of which \
                    1.05 GiB is free. Including non-PyTorch memory, this process has 78.12 GiB memory in use. Of the \
                    allocated memory 70 GiB is allocated by PyTorch.\nException raised from malloc at x.cpp:1";
        let told = explain(text);
        let expected = "the memory of GPU 1 ran out: 2.50 GiB more was needed, and of its 79.18 GiB 1.05 GiB is free; raise \
                        --ACCU, lower --BS, or use --AMP=bf16";
        assert_eq!(told, expected);
        let impossible = Tensor::f_zeros([1 << 50], (Kind::Float, Device::Cpu)).unwrap_err().to_string();
        let told = explain(&impossible);
        assert!(told.starts_with("memory ran out: 4503599628 MB more was needed") && told.contains("--BS"), "{told}");
        let told = explain("CUDA out of memory somewhere\nframe #0: x");
        assert!(told.starts_with("memory ran out: CUDA out of memory somewhere; raise --ACCU"), "{told}");
    }
}
