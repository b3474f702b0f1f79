//! How a job starts and ends: `torchrun`, a slow process, a wrong address, processes that are told different things.

use super::TRAIN;
use super::job::{LONG, ends, free_port, member, stderr, wait_for};
use crate::common::{World, assert_close, demo_world, failure, python};
use mcan::checkpoint;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `torchrun` with two processes of the program.
fn torchrun(world: &World, flags: &[&str]) -> Option<Command> {
    let mut command = Command::new(python()?);
    command.args([
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
    ]);
    command
        .arg(env!("CARGO_BIN_EXE_mcan"))
        .args(world.line(flags))
        .current_dir(world.folder.path());
    command
        .env("OMP_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(command)
}

#[test]
fn torchrun_starts_and_stops_a_job() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=one", "--ACCU=2"]].concat());
    let Some(mut run) = torchrun(&world, &[&TRAIN[..], &["--VERSION=two"]].concat()) else {
        return;
    };
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_close(&world.losses("two"), &world.losses("one"), 1e-4);

    let Some(mut run) = torchrun(&world, &[&LONG[..], &["--VERSION=stopped"]].concat()) else {
        return;
    };
    let child = run.spawn().unwrap();
    wait_for(world.path("ckpts/ckpt_stopped/epoch1.pkl"));
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert!(
        text.contains("stopped by Ctrl-C in epoch") && text.contains("--RESUME=True"),
        "{text}"
    );
    let folder = world.path("ckpts/ckpt_stopped");
    let saved = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let saved: Vec<PathBuf> = saved
        .filter(|path| path.extension().is_some_and(|kind| kind == "pkl"))
        .collect();
    assert!(
        !saved.is_empty() && saved.iter().all(|path| checkpoint::load(path).is_ok()),
        "{saved:?}"
    );
}

#[test]
fn a_process_that_is_slow_to_start_is_waited_for() {
    let world = demo_world();
    let port = free_port();
    let flags = [&TRAIN[..], &["--VERSION=slow", "--SET=MAX_EPOCH=1"]].concat();
    let first = member(&world, (0, 2), "127.0.0.1", port, &flags)
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let second = member(&world, (1, 2), "127.0.0.1", port, &flags)
        .spawn()
        .unwrap();
    for output in ends(vec![first, second]) {
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn a_wrong_address_a_missing_process_and_a_port_in_use_are_told() {
    let world = demo_world();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let flags = [&TRAIN[..], &["--VERSION=x", "--SET=DIST_TIMEOUT=3"]].concat();
    for (rank, address, port, cause) in [
        (
            1,
            "no-such-host.invalid",
            free_port(),
            "no-such-host.invalid",
        ),
        (1, "127.0.0.1", free_port(), "127.0.0.1"),
        (0, "127.0.0.1", free_port(), "1/2 clients joined"),
        (0, "127.0.0.1", port, "in use"),
    ] {
        let begun = Instant::now();
        let message = failure(
            &member(&world, (rank, 2), address, port, &flags)
                .output()
                .unwrap(),
        );
        assert!(begun.elapsed() < Duration::from_secs(300), "{message}");
        assert!(
            message.contains(cause) && message.contains("MASTER_PORT"),
            "{message}"
        );
    }
}

#[test]
fn processes_that_are_told_different_things_are_refused() {
    let world = demo_world();
    let port = free_port();
    let flags = |bs| [&TRAIN[..], &["--VERSION=x", bs]].concat();
    let first = member(&world, (0, 2), "127.0.0.1", port, &flags("--BS=8"))
        .spawn()
        .unwrap();
    let second = member(&world, (1, 2), "127.0.0.1", port, &flags("--BS=16"))
        .output()
        .unwrap();
    let message = failure(&second);
    assert!(
        message.contains("BATCH_SIZE = 16") && message.contains('8'),
        "{message}"
    );
    failure(&first.wait_with_output().unwrap());
}

#[test]
fn other_modes_are_not_started_several_times() {
    let world = demo_world();
    let message = failure(
        &member(&world, (0, 2), "127.0.0.1", 1, &["--RUN=pack"])
            .output()
            .unwrap(),
    );
    assert!(message.contains("without torchrun"), "{message}");
}
