//! Disks that are full or read-only, files that vanish or change under a run, limits of the system.
//!
//! Small and read-only disks are mounted in a name space of their own (`unshare`); where that is not allowed, the tests
//! say that they are skipped.

mod common;

use common::{World, assert_same_state, demo_world, failure, names};
use mcan::checkpoint;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

const TRAIN: [&str; 4] = [
    "--RUN=train",
    "--SPLIT=train",
    "--SET=SHUFFLE_MODE=external",
    "--VERSION=v",
];

/// The command that gives a script a name space of mounts, or `None` after saying that the test is skipped.
fn mounts() -> Option<[&'static str; 2]> {
    let works = |flags| {
        let mut command = Command::new("unshare");
        command
            .args([flags, "sh", "-c", "mount -t tmpfs -o size=64k none /tmp"])
            .output()
    };
    let found = ["-rm", "-m"]
        .into_iter()
        .find(|flags| works(flags).is_ok_and(|output| output.status.success()));
    if found.is_none() {
        eprintln!("skipped: no file system can be mounted here (unshare)");
    }
    Some(["unshare", found?])
}

/// Makes the questions unreadable: a run that ends with another message had not come to them.
fn break_questions(world: &World) {
    let file = world
        .root
        .join("datasets/vqa/v2_OpenEnded_mscoco_train2014_questions.json");
    fs::write(file, "no JSON").unwrap();
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_those_before_and_can_be_made_up_for() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..3], &["--VERSION=whole", "--MAX_EPOCH=2"]].concat());
    world.succeed(&[&TRAIN[..], &["--MAX_EPOCH=1"]].concat());
    let before = fs::read(world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap();
    let resume = [
        &TRAIN[..],
        &["--MAX_EPOCH=2", "--RESUME", "--CKPT_V=v", "--CKPT_E=1"],
    ]
    .concat();
    // Files of at most 100 kB: writing fails in the middle of a checkpoint.
    let message = failure(&world.script(&[], "ulimit -f 200; exec \"$@\"", &resume));
    assert!(
        message.contains("cannot write") && message.contains("epoch2.pkl"),
        "{message}"
    );
    assert!(message.contains("File too large"), "{message}");
    assert_eq!(names(&world.path("ckpts/ckpt_v")), [".lock", "epoch1.pkl"]);
    assert!(before == fs::read(world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap());
    world.succeed(&resume);
    assert_same_state(
        &world.path("ckpts/ckpt_whole/epoch2.pkl"),
        &world.path("ckpts/ckpt_v/epoch2.pkl"),
    );
    assert_eq!(world.log("whole"), world.log("v"));
}

#[test]
fn a_disk_that_fills_up_keeps_the_checkpoints_that_are_there() {
    let (world, Some(mounts)) = (demo_world(), mounts()) else {
        return;
    };
    fs::create_dir_all(world.path("ckpts")).unwrap();
    fs::create_dir_all(world.path("saved")).unwrap();
    let fill = "mount -t tmpfs -o size=4m none ckpts; \"$@\"; status=$?; cp -r ckpts/ckpt_v/. saved/; exit $status";
    let message =
        failure(&world.script(&mounts, fill, &[&TRAIN[..], &["--MAX_EPOCH=50"]].concat()));
    assert!(
        message.contains("cannot write") && message.contains("No space left"),
        "{message}"
    );
    let left = names(&world.path("saved"));
    assert!(
        left.len() > 2
            && left
                .iter()
                .all(|name| name == ".lock" || name.starts_with("epoch")),
        "{left:?}"
    );
    for name in left.iter().filter(|name| name.ends_with(".pkl")) {
        checkpoint::load(&world.path("saved").join(name)).unwrap();
    }
    assert!(
        message.contains(&format!("epoch{}.pkl", left.len())),
        "{message}"
    );
}

#[test]
fn no_space_and_read_only_folders_are_found_before_data_is_read() {
    let (world, Some(mounts)) = (demo_world(), mounts()) else {
        return;
    };
    break_questions(&world);
    for folder in [
        "ckpts",
        "results/log",
        "results/cache",
        "results/result_test",
    ] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    let small = "mount -t tmpfs -o size=300k none ckpts; \"$@\"";
    let message = failure(&world.script(&mounts, small, &TRAIN));
    assert!(
        message.contains("a checkpoint takes") && message.contains("0 MB left"),
        "{message}"
    );
    assert!(
        message.contains("ckpt_v") && message.contains("CKPTS_PATH"),
        "{message}"
    );
    // A disk that does not know its size may have room.
    let unknown = "mount -t tmpfs -o size=0 none ckpts; \"$@\"";
    let message = failure(&world.script(&mounts, unknown, &TRAIN));
    assert!(message.contains("not valid JSON"), "{message}");
    for (folder, flags) in [
        ("ckpts", &TRAIN[..]),
        ("results/log", &TRAIN),
        ("results/cache", &TRAIN),
    ] {
        let read_only = format!("mount -t tmpfs -o ro none {folder}; \"$@\"");
        let message = failure(&world.script(&mounts, &read_only, flags));
        assert!(
            message.contains("cannot write in") && message.contains(folder),
            "{message}"
        );
        assert!(message.contains("Read-only file system"), "{message}");
    }
    assert!(world.fail(&TRAIN).contains("not valid JSON"));
    let read_only = "mount -t tmpfs -o ro none results/result_test; \"$@\"";
    fs::write(world.path("any.pkl"), "x").unwrap();
    let any = format!("--CKPT_PATH={}", world.path("any.pkl").display());
    let message = failure(&world.script(&mounts, read_only, &["--RUN=test", &any]));
    assert!(
        message.contains("cannot write in") && message.contains("result_test"),
        "{message}"
    );
    assert!(
        names(&world.path("ckpts"))
            .iter()
            .all(|name| name == "ckpt_v")
    );
}

#[test]
fn a_training_on_read_only_data_needs_no_answer_list_there() {
    let (world, Some(mounts)) = (demo_world(), mounts()) else {
        return;
    };
    let list = world.root.join("datasets/vqa/answer_dict.json");
    fs::remove_file(&list).unwrap();
    let data = world.root.join("datasets");
    let read_only = format!(
        "mount --bind {0} {0} && mount -o remount,ro,bind {0} && exec \"$@\"",
        data.display()
    );
    let flags = [&TRAIN[..], &["--MAX_EPOCH=1"]].concat();
    let output = world.script(&mounts, &read_only, &flags);
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let notes = format!("{printed}{said}");
    assert!(
        notes.contains("but not saved") && notes.contains("Read-only file system"),
        "{notes}"
    );
    assert!(!list.exists());
    checkpoint::load(&world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap();
}

/// The command that takes root's right to write anywhere away; `None`, after saying so, where nothing can.
fn as_anybody() -> Option<Vec<&'static str>> {
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n");
    let drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let works = || {
        Command::new(drop[0])
            .args([drop[1], "true"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    match is_root {
        false => Some(vec!["env"]),
        true if works() => Some(drop.into()),
        true => {
            eprintln!("skipped: root may write anywhere, and setpriv cannot take that away here");
            None
        }
    }
}

#[test]
fn folders_and_files_without_permission_are_told_before_data_is_read() {
    let (world, Some(anybody)) = (demo_world(), as_anybody()) else {
        return;
    };
    let allow =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let questions = world
        .root
        .join("datasets/vqa/v2_OpenEnded_mscoco_train2014_questions.json");
    allow(&questions, 0o000);
    let message = failure(&world.script(&anybody, "exec \"$@\"", &TRAIN));
    assert!(
        message.contains("train2014_questions.json") && message.contains("Permission denied"),
        "{message}"
    );
    for folder in ["ckpts", "results/log", "results/cache"] {
        let path = world.path(folder);
        allow(&path, 0o555);
        fs::remove_dir_all(world.path("ckpts/ckpt_v")).unwrap_or_default();
        let message = failure(&world.script(&anybody, "exec \"$@\"", &TRAIN));
        assert!(
            message.contains("cannot write in") && message.contains(folder),
            "{message}"
        );
        assert!(message.contains("Permission denied"), "{message}");
        allow(&path, 0o755);
    }
}

#[test]
fn whatever_is_written_a_disk_that_fails_is_told_by_the_file_and_leaves_nothing() {
    let world = demo_world();
    world.succeed(
        &[
            &TRAIN[..3],
            &["--VERSION=v", "--MAX_EPOCH=1", "--EVAL_EE=False"],
        ]
        .concat(),
    );
    let trained = ["--CKPT_V=v", "--CKPT_E=1"];
    for (run, file) in [
        (&["--RUN=val"][..], "cache/result_run_v.json"),
        (&["--RUN=test"], "result_test/result_run_v_epoch1.json"),
        (
            &["--RUN=test", "--SAVE_PRED=True"],
            "pred/result_run_v_epoch1.npz",
        ),
        (&["--RUN=pack"], "train2014.safetensors"),
    ] {
        let message = failure(&world.script(
            &[],
            "ulimit -f 0; exec \"$@\"",
            &match run {
                ["--RUN=pack"] => run.to_vec(),
                _ => [run, &trained[..]].concat(),
            },
        ));
        assert!(
            message.contains(file) && message.contains("File too large"),
            "{file}: {message}"
        );
        for folder in ["results/cache", "results/result_test", "results/pred"] {
            assert_eq!(names(&world.path(folder)), [""; 0], "{file}");
        }
        assert_eq!(
            names(&world.root.join("datasets/coco_extract")),
            ["test2015", "train2014", "val2014"]
        );
    }
}

#[test]
fn the_smallest_shared_memory_is_enough() {
    let (world, Some(mounts)) = (demo_world(), mounts()) else {
        return;
    };
    let tiny = "mount -t tmpfs -o size=4k none /dev/shm; exec \"$@\"";
    let output = world.script(
        &mounts,
        tiny,
        &[&TRAIN[..], &["--MAX_EPOCH=1", "--NW=4"]].concat(),
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A training that goes on for ever, past its first checkpoint.
fn endless(world: &World, more: &[&str]) -> Child {
    let mut child = world.start(
        &[
            &TRAIN[..],
            &[
                "--MAX_EPOCH=1000000",
                "--SET=SAVE_STEPS=1",
                "--EVAL_EE=False",
            ],
            more,
        ]
        .concat(),
    );
    while !world.path("ckpts/ckpt_v/epoch1.pkl").exists() {
        assert!(child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn a_feature_file_that_vanishes_or_breaks_under_a_run_ends_it_by_name() {
    for break_it in [
        |file: &Path| fs::remove_file(file).unwrap(),
        |file: &Path| fs::write(file, "PK").unwrap(),
    ] {
        let world = demo_world();
        let folder = world.root.join("datasets/coco_extract/train2014");
        let image = names(&folder)[3].clone();
        let child = endless(&world, &[]);
        break_it(&folder.join(&image));
        let message = failure(&child.wait_with_output().unwrap());
        assert!(
            message.contains(&image) && message.contains("cannot load question"),
            "{message}"
        );
        checkpoint::load(&world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap();
    }
}

#[test]
fn a_bank_that_is_cut_short_or_changed_under_a_run_ends_it_by_name() {
    for length in [4096, u64::MAX] {
        let world = demo_world();
        world.succeed(&["--RUN=pack"]);
        let bank = world
            .root
            .join("datasets/coco_extract/train2014.safetensors");
        let child = endless(&world, &[]);
        let file = File::options().write(true).open(&bank).unwrap();
        let changed = if length == u64::MAX {
            file.metadata().unwrap().len() + 1
        } else {
            length
        };
        file.set_len(changed).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let told = text.contains("was cut short by another program")
            || text.contains("was changed while it was in use");
        assert!(told && text.contains("train2014.safetensors"), "{text}");
        let newest = checkpoint::load(&world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap();
        assert_eq!(newest.mcan.unwrap().epoch, 1);
    }
}

#[test]
fn too_few_open_files_are_told_with_a_remedy() {
    let world = demo_world();
    // The standard streams and the lock are held through a run, so that no other file can be opened. What this test was
    // itself started with does not count.
    let few = "for fd in 3 4 5 6 7 8 9; do eval \"exec $fd>&-\"; done; ulimit -n 4; exec \"$@\"";
    let message = failure(&world.script(&[], few, &[&TRAIN[..], &["--NW=4"]].concat()));
    assert!(
        message.contains("Too many open files") && message.contains("ulimit -n"),
        "{message}"
    );
}

#[test]
fn more_threads_than_useful_are_noticed_and_not_started() {
    let world = demo_world();
    let output = world.run(&[&TRAIN[..], &["--NW=100000", "--MAX_EPOCH=1"]].concat());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("NUM_WORKERS = 100000 is more than is useful"),
        "{text}"
    );
}
