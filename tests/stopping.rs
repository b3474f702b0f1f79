//! Stops a running training, by signals and by force, and goes on from what it left.

mod common;

use common::gate::{Gate, Told, last_image};
use common::{World, assert_same_state, demo_world, names};
use mcan::checkpoint;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

const TRAIN: [&str; 5] = [
    "--RUN=train",
    "--SPLIT=train",
    "--SET=SHUFFLE_MODE=external",
    "--SET=MAX_EPOCH=4",
    "--SET=LR_DECAY_LIST=[1]",
];

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Waits for a file that the child writes.
fn wait_for(child: &mut Child, path: &Path) {
    while !path.exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it wrote {}",
            path.display()
        );
        sleep(Duration::from_millis(1));
    }
}

/// Trains until the last image that is new in an epoch (from 0, the first of this run) is needed, sends a signal, and lets the
/// program on.
fn interrupt(world: &World, version: &str, epoch: u64, name: &str, more: &[&str]) -> Output {
    let version_flag = format!("--VERSION={version}");
    let flags = [&TRAIN[..], &["--SET=SAVE_STEPS=2", &version_flag], more].concat();
    let (image, step) = last_image(world, &flags, epoch);
    assert!(step > 2, "nothing is saved before");
    let gate = Gate::at(&image);
    let mut child = world.start(&flags);
    let reached = gate.wait(&mut child);
    wait_for(
        &mut child,
        &world.path(&format!("ckpts/ckpt_{version}/last.pkl")),
    );
    signal(&child, name);
    if name == "KILL" {
        let output = child.wait_with_output().unwrap();
        reached.close();
        return output;
    }
    let mut told = Told::by(&mut child);
    told.until("Stopping after the step in progress");
    reached.open();
    Output {
        status: child.wait().unwrap(),
        stdout: Vec::new(),
        stderr: told.all().into_bytes(),
    }
}

/// The command that a stopped run gives on a line of its own.
fn advice(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines()
        .find(|line| line.contains("--RESUME=True"))
        .unwrap_or_else(|| panic!("{text}"))
        .trim()
        .to_owned()
}

fn shell(world: &World, command: &str) {
    let output = Command::new("sh")
        .args(["-c", command])
        .env("OMP_NUM_THREADS", "1")
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_stopped_run_goes_on_in_the_middle_of_its_epoch_bit_for_bit() {
    let world = demo_world();
    for (case, (accu, before, after)) in [(1, 1, 4), (2, 4, 0), (2, 0, 1)].into_iter().enumerate() {
        let accu = format!("--ACCU={accu}");
        world.succeed(&[&TRAIN[..], &["--VERSION=whole", "--OVERWRITE", &accu]].concat());
        let version = format!("part {case}");
        let (name, status) = if case == 0 {
            ("INT", 130)
        } else {
            ("TERM", 143)
        };
        let stopped = interrupt(
            &world,
            &version,
            0,
            name,
            &[&accu, &format!("--NW={before}")],
        );
        assert_eq!(
            stopped.status.code(),
            Some(status),
            "{}",
            String::from_utf8_lossy(&stopped.stderr)
        );
        let command = advice(&stopped);
        let whole = |path: &str| world.path(path).exists();
        assert!(
            whole(&format!("ckpts/ckpt_{version}/last.pkl")) && command.contains("last.pkl"),
            "{command}"
        );
        shell(
            &world,
            &command.replace(&format!("--NW={before}"), &format!("--NW={after}")),
        );
        assert!(
            !whole(&format!("ckpts/ckpt_{version}/last.pkl")),
            "it is of no use after the epoch"
        );
        for epoch in 1..=4 {
            let file =
                |version: &str| world.path(&format!("ckpts/ckpt_{version}/epoch{epoch}.pkl"));
            assert_same_state(&file("whole"), &file(&version));
        }
        assert_eq!(world.log("whole"), world.log(&version));
        assert_eq!(
            world.read("results/cache/result_run_whole.json"),
            world.read(&format!("results/cache/result_run_{version}.json"))
        );
    }
}

#[test]
fn a_closed_terminal_and_signals_that_the_user_names_stop_a_run() {
    let world = demo_world();
    for (name, status, more) in [
        ("HUP", 129, &[][..]),
        ("USR1", 138, &["--SET=STOP_SIGNALS=USR1, SIGXCPU"]),
        ("XCPU", 152, &["--SET=STOP_SIGNALS=USR1, SIGXCPU"]),
    ] {
        let version = format!("by {name}");
        let stopped = interrupt(&world, &version, 0, name, more);
        let said = String::from_utf8_lossy(&stopped.stderr);
        assert_eq!(stopped.status.code(), Some(status), "{said}");
        assert!(said.contains(&format!("stopped by SIG{name}")), "{said}");
        assert!(
            world
                .path(&format!("ckpts/ckpt_{version}/last.pkl"))
                .exists()
        );
    }
    let message = world.fail(&["--RUN=train", "--SET=STOP_SIGNALS=KILL"]);
    assert!(message.contains("STOP_SIGNALS = KILL"), "{message}");
}

#[test]
fn a_signal_that_is_ignored_at_the_start_stays_ignored() {
    let world = demo_world();
    let flags = [&TRAIN[..], &["--VERSION=v"]].concat();
    let (image, _) = last_image(&world, &flags, 0);
    let gate = Gate::at(&image);
    let mut child = Command::new("sh")
        .args([
            "-c",
            "trap '' HUP; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_mcan"),
        ])
        .args(world.line(&flags))
        .current_dir(world.folder.path())
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let reached = gate.wait(&mut child);
    signal(&child, "HUP");
    reached.open();
    assert!(child.wait().unwrap().success());
    assert_eq!(world.losses("v").len(), 4);
}

#[test]
fn what_is_saved_every_n_steps_is_where_a_killed_run_goes_on() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=whole"]].concat());
    let killed = interrupt(&world, "part", 0, "KILL", &[]);
    assert_eq!(killed.status.code(), None);
    let last = world.path("ckpts/ckpt_part/last.pkl");
    let state = checkpoint::load_state(&last).unwrap().unwrap();
    assert!(
        state.batch > 0 && state.step.is_multiple_of(2) && state.loss_sum > 0.0,
        "{}",
        state.step
    );
    let last = format!("--CKPT_PATH={}", last.display());
    world.succeed(&[&TRAIN[..], &["--VERSION=part", "--RESUME", &last]].concat());
    assert_same_state(
        &world.path("ckpts/ckpt_whole/epoch4.pkl"),
        &world.path("ckpts/ckpt_part/epoch4.pkl"),
    );
    assert_eq!(world.log("whole"), world.log("part"));
}

#[test]
fn what_was_saved_within_an_epoch_is_neither_lost_nor_continued_otherwise() {
    let world = demo_world();
    world.succeed(
        &[
            &TRAIN[..],
            &["--VERSION=v", "--EVAL_EE=False", "--MAX_EPOCH=1"],
        ]
        .concat(),
    );
    let from_1 = ["--EVAL_EE=False", "--RESUME", "--CKPT_V=v", "--CKPT_E=1"];
    let stopped = interrupt(&world, "v", 1, "INT", &from_1);
    assert_eq!(stopped.status.code(), Some(130));
    let last = format!(
        "--CKPT_PATH={}",
        world.path("ckpts/ckpt_v/last.pkl").display()
    );
    let again = world.fail(&[&TRAIN[..], &["--VERSION=v"]].concat());
    assert!(
        again.contains("last.pkl") || again.contains("epoch1.pkl"),
        "{again}"
    );
    for (other, named) in [
        ("--BS=8", "BATCH_SIZE"),
        ("--SET=SHUFFLE_MODE=none", "SHUFFLE_MODE"),
        ("--SEED=8", "SEED"),
    ] {
        let message =
            world.fail(&[&TRAIN[..], &["--VERSION=v", "--RESUME", &last, other]].concat());
        assert!(
            message.contains(named) && message.contains("in the middle of epoch 2"),
            "{message}"
        );
    }
    // From an earlier checkpoint the run would pass the saved state by.
    let message = world.fail(&[&TRAIN[..], &["--VERSION=v"], &from_1[..]].concat());
    assert!(
        message.contains("goes further") && message.contains("--CKPT_PATH="),
        "{message}"
    );
}

#[test]
fn what_a_kill_left_between_a_checkpoint_and_its_entry_in_the_log_is_made_up_for() {
    let world = demo_world();
    interrupt(&world, "v", 0, "KILL", &["--MAX_EPOCH=1"]);
    let last = world.path("ckpts/ckpt_v/last.pkl");
    let resume = [&TRAIN[..], &["--VERSION=v", "--MAX_EPOCH=1", "--RESUME"]].concat();
    let saved = fs::read(&last).unwrap();
    world.succeed(&[&resume[..], &[&format!("--CKPT_PATH={}", last.display())]].concat());
    let whole = world.log("v");
    assert!(whole.len() > 4 && !last.exists(), "{whole:?}");
    // As if it had been killed right after the checkpoint got its name.
    fs::write(&last, saved).unwrap();
    fs::write(
        world.path("results/log/log_run_v.txt"),
        "nowTime: 2026-11-23 09:27:02\n",
    )
    .unwrap();
    world.succeed(&[&resume[..], &["--CKPT_V=v", "--CKPT_E=1"]].concat());
    assert_eq!(world.log("v"), whole);
    assert!(!last.exists(), "it is behind the checkpoint");
}

#[test]
fn a_second_demo_leaves_the_world_of_the_first_alone() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--RUN=demo", "--GPU=cpu", "--SET=SAVE_STEPS=1"];
    let mut first = common::command(folder.path(), &flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&mut first, &folder.path().join("ckpts/ckpt_demo/last.pkl"));
    let questions = folder
        .path()
        .join("datasets/demo/vqa/v2_OpenEnded_mscoco_train2014_questions.json");
    let written = || fs::metadata(&questions).unwrap().modified().unwrap();
    let before = written();
    let refused = common::failure(&common::run(folder.path(), &flags));
    assert!(refused.contains("another run"), "{refused}");
    assert_eq!(written(), before);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let world = demo_world();
        let flags = [&TRAIN[..], &["--VERSION=v", "--NW=0"]].concat();
        let gate = Gate::at(&last_image(&world, &flags, 0).0);
        let mut child = world.start(&flags);
        let reached = gate.wait(&mut child);
        let mut told = Told::by(&mut child);
        signal(&child, name);
        told.until("once more ends the program at once");
        assert!(
            child.try_wait().unwrap().is_none(),
            "the step in progress is not done"
        );
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(status));
        reached.close();
        assert!(
            !names(&world.path("ckpts/ckpt_v"))
                .iter()
                .any(|name| name.ends_with(".pkl")),
            "nothing is saved"
        );
    }
}

#[test]
fn a_second_run_of_a_version_is_refused_while_the_first_lives_and_not_after() {
    let world = demo_world();
    let flags = [
        &TRAIN[..],
        &["--VERSION=v", "--MAX_EPOCH=1000000", "--SET=SAVE_STEPS=1"],
    ]
    .concat();
    let mut first = world.start(&flags);
    wait_for(&mut first, &world.path("ckpts/ckpt_v/last.pkl"));
    let refused = world.fail(&[&TRAIN[..], &["--VERSION=v", "--OVERWRITE=True"]].concat());
    let owner = format!("process {}", first.id());
    assert!(
        refused.contains("another run")
            && refused.contains(&owner)
            && refused.contains("--VERSION"),
        "{refused}"
    );
    world.succeed(&[&TRAIN[..], &["--VERSION=w", "--MAX_EPOCH=1"]].concat());
    first.kill().unwrap();
    first.wait().unwrap();
    world.succeed(
        &[
            &TRAIN[..],
            &["--VERSION=v", "--OVERWRITE=True", "--MAX_EPOCH=1"],
        ]
        .concat(),
    );
}

/// Starts the program, sends SIGTERM when it has begun to write in `folder` and comes to the last file of `features`, and
/// expects no trace of what it wrote.
fn stop_while_writing(world: &World, folder: &Path, features: &Path, flags: &[&str]) {
    let before = names(folder);
    let gate = Gate::at(&features.join(names(features).last().unwrap()));
    let mut child = world.start(flags);
    let reached = gate.wait(&mut child);
    while !names(folder).iter().any(|name| name.ends_with(".partial")) {
        assert!(
            child.try_wait().unwrap().is_none(),
            "{flags:?} ended before it wrote"
        );
        sleep(Duration::from_millis(1));
    }
    signal(&child, "TERM");
    let mut told = Told::by(&mut child);
    told.until("Stopping after the step in progress");
    reached.open();
    let status = child.wait().unwrap();
    let text = told.all();
    assert!(
        status.code() == Some(143) && text.contains("stopped by SIGTERM"),
        "{status}: {text}"
    );
    assert_eq!(names(folder), before, "{flags:?}");
}

#[test]
fn test_and_pack_end_on_a_signal_without_a_trace() {
    let world = demo_world();
    world.succeed(
        &[
            &TRAIN[..],
            &["--VERSION=v", "--MAX_EPOCH=1", "--EVAL_EE=False"],
        ]
        .concat(),
    );
    let features = world.root.join("datasets/coco_extract");
    let trained = ["--CKPT_V=v", "--CKPT_E=1", "--BS=4"];
    let test = [&["--RUN=test", "--SAVE_PRED"], &trained[..]].concat();
    stop_while_writing(
        &world,
        &world.path("results/pred"),
        &features.join("test2015"),
        &test,
    );
    stop_while_writing(
        &world,
        &features,
        &features.join("train2014"),
        &["--RUN=pack"],
    );
}
