//! Jobs of several processes on this machine, started as `torchrun` starts them.

use crate::common::{self, World};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Environment of process `rank` of a job, as `torchrun` sets it.
pub fn member(
    world: &World,
    (rank, size): (usize, usize),
    address: &str,
    port: u16,
    flags: &[&str],
) -> Command {
    let mut command = common::command(world.folder.path(), &world.line(flags));
    command
        .env("RANK", rank.to_string())
        .env("LOCAL_RANK", rank.to_string())
        .env("WORLD_SIZE", size.to_string())
        .env("MASTER_ADDR", address)
        .env("MASTER_PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A port that nobody listens at now, another one at each call. It is not among those that the system gives to outgoing
/// connections, so that no other program gets it before the job has it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_process = 10_000 + (std::process::id() % 200) as u16 * 100;
    loop {
        let port = of_process + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Starts all processes of a job.
pub fn start_job(world: &World, size: usize, flags: &[&str]) -> Vec<Child> {
    let port = free_port();
    (0..size)
        .map(|rank| {
            member(world, (rank, size), "127.0.0.1", port, flags)
                .spawn()
                .unwrap()
        })
        .collect()
}

pub fn ends(children: Vec<Child>) -> Vec<Output> {
    children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .collect()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a job to its end and expects success of every process; what the first one printed.
pub fn job(world: &World, size: usize, flags: &[&str]) -> String {
    let outputs = ends(start_job(world, size, flags));
    for output in &outputs {
        assert!(output.status.success(), "{}", stderr(output));
    }
    assert!(
        outputs[1..].iter().all(|output| output.stdout.is_empty()),
        "only the first one speaks"
    );
    String::from_utf8(outputs[0].stdout.clone()).unwrap()
}

/// Long enough to be under way.
pub const LONG: [&str; 4] = [
    "--RUN=train",
    "--SPLIT=train",
    "--SET=MAX_EPOCH=100000",
    "--EVAL_EE=False",
];

pub fn wait_for(path: PathBuf) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "{} does not appear",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
