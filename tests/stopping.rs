//! Stops a running training, by signals and by force, and goes on from what it left.

mod common;

use common::{World, assert_same_state, demo_world};
use mcan::checkpoint;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::thread::sleep;
use std::time::Duration;

const TRAIN: [&str; 5] =
    ["--RUN=train", "--SPLIT=train", "--SET=SHUFFLE_MODE=external", "--SET=MAX_EPOCH=4", "--SET=LR_DECAY_LIST=[1]"];

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Waits for a file that the child writes.
fn wait_for(child: &mut Child, path: &Path) {
    while !path.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote {}", path.display());
        sleep(Duration::from_millis(1));
    }
}

/// Trains until something is saved within an epoch, and sends a signal then.
fn interrupt(world: &World, version: &str, name: &str, more: &[&str]) -> Output {
    let version_flag = format!("--VERSION={version}");
    let mut child = world.start(&[&TRAIN[..], &["--SET=SAVE_STEPS=2", &version_flag], more].concat());
    wait_for(&mut child, &world.path(&format!("ckpts/ckpt_{version}/last.pkl")));
    signal(&child, name);
    child.wait_with_output().unwrap()
}

/// The command that a stopped run gives on a line of its own.
fn advice(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().find(|line| line.contains("--RESUME=True")).unwrap_or_else(|| panic!("{text}")).trim().to_owned()
}

fn shell(world: &World, command: &str) {
    let output = Command::new("sh")
        .args(["-c", command])
        .env("OMP_NUM_THREADS", "1")
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_stopped_run_goes_on_in_the_middle_of_its_epoch_bit_for_bit() {
    let world = demo_world();
    for (case, (accu, before, after)) in [(1, 1, 4), (2, 4, 0), (2, 0, 1)].into_iter().enumerate() {
        let accu = format!("--ACCU={accu}");
        world.succeed(&[&TRAIN[..], &["--VERSION=whole", "--OVERWRITE", &accu]].concat());
        let version = format!("part {case}");
        let (name, status) = if case == 0 { ("INT", 130) } else { ("TERM", 143) };
        let stopped = interrupt(&world, &version, name, &[&accu, &format!("--NW={before}")]);
        assert_eq!(stopped.status.code(), Some(status), "{}", String::from_utf8_lossy(&stopped.stderr));
        let command = advice(&stopped);
        let whole = |path: &str| world.path(path).exists();
        assert!(whole(&format!("ckpts/ckpt_{version}/last.pkl")) && command.contains("last.pkl"), "{command}");
        shell(&world, &command.replace(&format!("--NW={before}"), &format!("--NW={after}")));
        assert!(!whole(&format!("ckpts/ckpt_{version}/last.pkl")), "it is of no use after the epoch");
        for epoch in 1..=4 {
            let file = |version: &str| world.path(&format!("ckpts/ckpt_{version}/epoch{epoch}.pkl"));
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
fn what_is_saved_every_n_steps_is_where_a_killed_run_goes_on() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=whole"]].concat());
    let killed = interrupt(&world, "part", "KILL", &[]);
    assert_eq!(killed.status.code(), None);
    let last = world.path("ckpts/ckpt_part/last.pkl");
    let state = checkpoint::load_state(&last).unwrap().unwrap();
    assert!(state.batch > 0 && state.step.is_multiple_of(2) && state.loss_sum > 0.0, "{}", state.step);
    let last = format!("--CKPT_PATH={}", last.display());
    world.succeed(&[&TRAIN[..], &["--VERSION=part", "--RESUME", &last]].concat());
    assert_same_state(&world.path("ckpts/ckpt_whole/epoch4.pkl"), &world.path("ckpts/ckpt_part/epoch4.pkl"));
    assert_eq!(world.log("whole"), world.log("part"));
}

#[test]
fn what_was_saved_within_an_epoch_is_neither_lost_nor_continued_otherwise() {
    let world = demo_world();
    let stopped = interrupt(&world, "v", "INT", &["--EVAL_EE=False"]);
    assert_eq!(stopped.status.code(), Some(130));
    let last = format!("--CKPT_PATH={}", world.path("ckpts/ckpt_v/last.pkl").display());
    let again = world.fail(&[&TRAIN[..], &["--VERSION=v"]].concat());
    assert!(again.contains("last.pkl") || again.contains("epoch1.pkl"), "{again}");
    for (other, named) in [("--BS=8", "BATCH_SIZE"), ("--SET=SHUFFLE_MODE=none", "SHUFFLE_MODE"), ("--SEED=8", "SEED")]
    {
        let message = world.fail(&[&TRAIN[..], &["--VERSION=v", "--RESUME", &last, other]].concat());
        assert!(message.contains(named) && message.contains("in the middle of epoch"), "{message}");
    }
    // From an earlier checkpoint the run would pass the saved state by.
    world.succeed(&[&TRAIN[..], &["--VERSION=w", "--MAX_EPOCH=1"]].concat());
    fs::copy(world.path("ckpts/ckpt_w/epoch1.pkl"), world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap();
    let state = checkpoint::load_state(&world.path("ckpts/ckpt_v/last.pkl")).unwrap().unwrap();
    if state.epoch == 1 {
        let message = world.fail(&[&TRAIN[..], &["--VERSION=v", "--RESUME", "--CKPT_V=v", "--CKPT_E=1"]].concat());
        assert!(message.contains("goes further") && message.contains("--CKPT_PATH="), "{message}");
    }
}

#[test]
fn a_second_run_of_a_version_is_refused_while_the_first_lives_and_not_after() {
    let world = demo_world();
    let flags = [&TRAIN[..], &["--VERSION=v", "--MAX_EPOCH=1000000", "--SET=SAVE_STEPS=1"]].concat();
    let mut first = world.start(&flags);
    wait_for(&mut first, &world.path("ckpts/ckpt_v/last.pkl"));
    let refused = world.fail(&[&TRAIN[..], &["--VERSION=v", "--OVERWRITE=True"]].concat());
    let owner = format!("process {}", first.id());
    assert!(refused.contains("another run") && refused.contains(&owner) && refused.contains("--VERSION"), "{refused}");
    world.succeed(&[&TRAIN[..], &["--VERSION=w", "--MAX_EPOCH=1"]].concat());
    first.kill().unwrap();
    first.wait().unwrap();
    world.succeed(&[&TRAIN[..], &["--VERSION=v", "--OVERWRITE=True", "--MAX_EPOCH=1"]].concat());
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name().into_string().unwrap()).collect()
}

/// Starts the program, sends SIGTERM once there is a partial file in `folder`, and expects it to be gone then.
fn stop_while_writing(world: &World, folder: &Path, flags: &[&str]) {
    let is_partial = |name: &String| name.starts_with(".partial-");
    let mut child = world.start(flags);
    // An empty one only tries whether the folder is writable.
    let is_begun = |name: &String| is_partial(name) && fs::metadata(folder.join(name)).is_ok_and(|file| file.len() > 0);
    while !names(folder).iter().any(is_begun) {
        assert!(child.try_wait().unwrap().is_none(), "{flags:?} ended before it wrote");
        sleep(Duration::from_millis(1));
    }
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(143) && text.contains("stopped by SIGTERM"), "{text}");
    let left = names(folder);
    assert!(
        !left.iter().any(|name| is_partial(name) || name.ends_with(".npz") || name.ends_with("tensors")),
        "{left:?}"
    );
}

#[test]
fn test_and_pack_end_on_a_signal_without_a_trace() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=v", "--MAX_EPOCH=1"]].concat());
    let file = world.root.join("datasets/vqa/v2_OpenEnded_mscoco_test2015_questions.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let first = json["questions"][0].clone();
    let many = (0..20_000).map(|id| {
        let mut question = first.clone();
        question["question_id"] = id.into();
        question
    });
    json["questions"] = many.collect();
    fs::write(&file, json.to_string()).unwrap();
    stop_while_writing(&world, &world.path("results/pred"), &["--RUN=test", "--CKPT_V=v", "--CKPT_E=1", "--SAVE_PRED"]);

    let features = world.root.join("datasets/coco_extract");
    let train = features.join("train2014");
    let image = train.join(&names(&train)[0]);
    for id in 900_000..903_000 {
        fs::hard_link(&image, train.join(format!("COCO_train2014_{id:012}.jpg.npz"))).unwrap();
    }
    stop_while_writing(&world, &features, &["--RUN=pack"]);
}
