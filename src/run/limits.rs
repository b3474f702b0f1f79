//! The limits of the process: open files, threads, and the memory that a network and its inputs take.

use super::inputs::Task;
use super::plan::Plan;
use crate::base::{files, memory};
use crate::config::Config;
use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::Path;
use std::thread::Builder;
use tch::Device;

/// Bytes of a number in float32.
const FLOAT: u64 = 4;
/// A parameter, its gradient and Adam's two moments.
const NUMBERS_PER_PARAMETER: u64 = 4;

/// Raises the limit of open files as far as the system lets a user, and starts the threads that parse and decode.
///
/// # Errors
/// When no further threads can be started.
pub(crate) fn prepare() -> Result<()> {
    let files = getrlimit(Resource::Nofile);
    // Where that is refused, the lower limit holds.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files.maximum,
            ..files
        },
    );
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = rayon::ThreadPoolBuilder::new();
    pool.build_global()
        .context("failed to spawn threads that parse and decode")?;
    // OpenMP, which libtorch computes with, ends the program when it cannot start its threads.
    let try_one = |_| Builder::new().spawn(|| std::thread::park_timeout(PROBE));
    let probes = (0..threads)
        .map(try_one)
        .collect::<std::io::Result<Vec<_>>>();
    for probe in probes.context("failed to spawn threads that compute")? {
        probe.thread().unpark();
        let _ = probe.join();
    }
    Ok(())
}

/// How long a thread of the test waits at most for the others.
const PROBE: std::time::Duration = std::time::Duration::from_millis(50);

/// Checks that a network of `parameters` numbers can be trained in the memory of the machine, if `devices` has the CPU.
///
/// # Errors
/// Too little memory, with the keys that decide the size.
pub(crate) fn check_network(config: &Config, parameters: u64, devices: &[Device]) -> Result<()> {
    let on_cpu = devices
        .iter()
        .filter(|device| **device == Device::Cpu)
        .count() as u64;
    let needed = parameters
        .saturating_mul(FLOAT * NUMBERS_PER_PARAMETER)
        .saturating_mul(on_cpu);
    let free = memory::available().unwrap_or(u64::MAX);
    let size = |key: &str| Some(format!("{key} = {}", config.model.size(key)?));
    let sizes: Vec<String> = ["LAYER", "HIDDEN_SIZE", "FF_SIZE", "FLAT_OUT_SIZE"]
        .into_iter()
        .filter_map(size)
        .collect();
    ensure!(
        needed <= free,
        "a network with {} takes {} MB of memory to train, and {} MB is free; lower these keys",
        sizes.join(", "),
        needed / MB,
        free / MB
    );
    Ok(())
}

const MB: u64 = 1_000_000;

/// Checks that the attention of the longest sequences of `task` fits into the memory of the machine; it takes the square of
/// their length. A question without a word is padded to `MAX_TOKEN`, and an image without a region to `IMG_FEAT_PAD_SIZE`.
///
/// # Errors
/// Too little memory, with the key and the checkpoint that it is from.
pub(crate) fn check_lengths(plan: &Plan, task: &Task) -> Result<()> {
    let (config, dataset, max_token) = (plan.config(), &task.dataset, task.max_token);
    let Some(heads) = config.model.size("MULTI_HEAD") else {
        return Ok(());
    };
    let words = (0..dataset.len()).map(|i| dataset.words(i).len());
    let longest = words
        .map(|words| if words == 0 { max_token } else { words })
        .max();
    let free = memory::available().unwrap_or(u64::MAX);
    let from = match config.loads_checkpoint() {
        true => format!(", as in {}", plan.ckpt_to_load().display()),
        false => String::new(),
    };
    for (key, length, whose) in [
        ("MAX_TOKEN", longest.unwrap_or(0), "a question"),
        ("IMG_FEAT_PAD_SIZE", task.longest_image, "an image"),
    ] {
        let scores = (length as u64)
            .saturating_mul(length as u64)
            .saturating_mul(heads as u64);
        let needed = scores.saturating_mul(FLOAT);
        ensure!(
            needed <= free,
            "with {key} = {length}{from}, the attention of {whose} takes {} MB of memory, and {} MB is free; lower {key}, or use \
             another checkpoint",
            needed / MB,
            free / MB
        );
    }
    Ok(())
}

/// Checks that `replicas` replicas of this process can be connected to each other.
///
/// # Errors
/// Too few open files.
pub(crate) fn check_open_files(replicas: usize) -> Result<()> {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = files::entries(Path::new("/proc/self/fd")).map_or(0, |open| open.len() as u64);
    // Each two are connected, with a file at either end; each listens, and waits for events.
    let replicas = replicas as u64;
    let needed = open + replicas * replicas.saturating_sub(1) + 4 * replicas;
    ensure!(
        needed <= most,
        "{replicas} devices need {needed} open files, and {most} are allowed (ulimit -n); name fewer with --GPU, or allow \
         more"
    );
    Ok(())
}
