//! Several replicas on the CPU, in one process and in several: the same results as one, and an end when one is lost.

#[path = "../common/mod.rs"]
mod common;
mod hosts;
mod job;
mod start;

use common::{World, assert_close, assert_same_state, demo_world, failure, shared};
use job::{LONG, ends, free_port, job, member, start_job, stderr, wait_for};
use mcan::checkpoint;
use ndarray::Array2;
use ndarray_npy::WriteNpyExt;
use std::path::PathBuf;
use std::process::Command;

/// Largest difference of the parameters of two checkpoints.
fn apart(a: PathBuf, b: PathBuf) -> f64 {
    let (a, b) = (checkpoint::load(&a).unwrap(), checkpoint::load(&b).unwrap());
    common::largest_difference(&a.state_dict, &b.state_dict).0
}

const TRAIN: [&str; 4] = [
    "--RUN=train",
    "--SPLIT=train",
    "--SET=SHUFFLE_MODE=external",
    "--SET=MAX_EPOCH=2",
];

/// The golden world, and the flags that train it from the reference's initial parameters.
fn golden_run() -> Option<(World, Vec<String>)> {
    let root = shared("golden/world")?;
    let init = format!(
        "--CKPT_PATH={}",
        root.join("ckpts/ckpt_init/epoch0.pkl").display()
    );
    let fixed = [
        "--RUN=train",
        "--SPLIT=train",
        "--RESUME=True",
        "--MAX_EPOCH=3",
        "--BS=16",
    ]
    .map(str::to_owned);
    Some((World::new(root), fixed.into_iter().chain([init]).collect()))
}

#[test]
fn replicas_train_the_golden_world_to_the_losses_of_one() {
    let Some((world, run)) = golden_run() else {
        return;
    };
    let run: Vec<&str> = run.iter().map(String::as_str).collect();
    world.succeed(&[&run[..], &["--VERSION=one"]].concat());
    for (version, devices) in [("two", "--GPU=cpu,cpu"), ("four", "--GPU=cpu,cpu,cpu,cpu")] {
        world.succeed(&[&run[..], &[&format!("--VERSION={version}"), devices]].concat());
    }
    for (version, size) in [("job of two", 2), ("job of four", 4)] {
        job(
            &world,
            size,
            &[&run[..], &[&format!("--VERSION={version}")]].concat(),
        );
    }
    for version in ["two", "four", "job of two", "job of four"] {
        assert_close(&world.losses(version), &world.losses("one"), 1e-4);
        let accuracies = |version| {
            world
                .log(version)
                .into_iter()
                .filter(|line| line.starts_with("Overall"))
                .collect()
        };
        let (theirs, ours): (Vec<String>, Vec<String>) = (accuracies("one"), accuracies(version));
        assert_eq!(theirs, ours);
        let ckpt = |version: &str| world.path(&format!("ckpts/ckpt_{version}/epoch3.pkl"));
        let difference = apart(ckpt("one"), ckpt(version));
        assert!(
            difference < 1e-4,
            "{version}: parameters {difference} apart"
        );
    }
}

#[test]
fn as_many_replicas_and_accumulated_parts_draw_the_same_dropout() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=parts", "--ACCU=4"]].concat());
    world.succeed(&[&TRAIN[..], &["--VERSION=both", "--ACCU=2", "--GPU=cpu,cpu"]].concat());
    world.succeed(&[&TRAIN[..], &["--VERSION=replicas", "--GPU=cpu,cpu,cpu,cpu"]].concat());
    for version in ["both", "replicas"] {
        assert_close(&world.losses(version), &world.losses("parts"), 1e-4);
    }
}

#[test]
fn checkpoints_of_several_replicas_go_on_bit_for_bit_and_with_any_number() {
    let world = demo_world();
    job(
        &world,
        3,
        &[&TRAIN[..], &["--VERSION=whole", "--BS=12"]].concat(),
    );
    job(
        &world,
        3,
        &[&TRAIN[..], &["--VERSION=part", "--BS=12", "--MAX_EPOCH=1"]].concat(),
    );
    let go_on = [
        &TRAIN[..],
        &[
            "--VERSION=part",
            "--BS=12",
            "--RESUME=True",
            "--CKPT_V=part",
            "--CKPT_E=1",
        ],
    ]
    .concat();
    job(&world, 3, &go_on);
    let ckpt = |version: &str, epoch| world.path(&format!("ckpts/ckpt_{version}/epoch{epoch}.pkl"));
    assert_same_state(&ckpt("whole", 2), &ckpt("part", 2));
    assert_eq!(world.log("whole"), world.log("part"));
    // Another number draws other dropout.
    for (version, size) in [("three", 3), ("two", 2), ("one", 1)] {
        let first = format!("--CKPT_PATH={}", ckpt("whole", 1).display());
        let version_flag = format!("--VERSION={version}");
        let flags = [
            "--BS=12",
            "--RESUME=True",
            "--CKPT_E=1",
            "--SET=DROPOUT_R=0",
            &first,
            &version_flag,
        ];
        job(&world, size, &[&TRAIN[..], &flags].concat());
        let difference = apart(ckpt("three", 2), ckpt(version, 2));
        assert!(
            difference < 1e-4,
            "{size} processes: parameters {difference} apart"
        );
    }
    // Nothing in a checkpoint tells how many made it.
    let keys = |version: &str| {
        let held = checkpoint::load(&ckpt(version, 2)).unwrap();
        (
            held.state_dict
                .iter()
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>(),
            held.mcan.unwrap().config,
        )
    };
    let ((ours, config), (theirs, _)) = (keys("whole"), keys("one"));
    assert!(ours == theirs && !config.to_string().contains("RANK"));
}

#[test]
fn the_seed_of_the_first_process_is_that_of_all_also_on_resume() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=begun", "--MAX_EPOCH=1"]].concat());
    let go_on = [
        &TRAIN[..],
        &["--RESUME=True", "--CKPT_V=begun", "--CKPT_E=1"],
    ]
    .concat();
    let seed = "--SEED=4";
    job(&world, 2, &[&go_on[..], &["--VERSION=both", seed]].concat());
    let port = free_port();
    let children = [
        (0, &["--VERSION=first", seed][..]),
        (1, &["--VERSION=first", "--SET=SEED=null"]),
    ]
    .map(|(rank, own)| {
        let flags = [&go_on[..], own].concat();
        member(&world, (rank, 2), "127.0.0.1", port, &flags)
            .spawn()
            .unwrap()
    });
    let outputs = ends(children.into());
    let messages: Vec<String> = outputs.iter().map(stderr).collect();
    assert!(
        outputs.iter().all(|output| output.status.success()),
        "{messages:?}"
    );
    assert_eq!(world.log("first"), world.log("both"));
}

#[test]
fn val_and_test_are_shared_and_answered_in_order() {
    let world = demo_world();
    world.succeed(&[&TRAIN[..], &["--VERSION=v", "--SET=MAX_EPOCH=1"]].concat());
    let files = [
        "results/cache/result_run_v.json",
        "results/result_test/result_run_v_epoch1.json",
    ];
    let answer = |devices: &str| {
        let val = world.succeed(&["--RUN=val", "--CKPT_V=v", "--CKPT_E=1", devices]);
        world.succeed(&[
            "--RUN=test",
            "--CKPT_V=v",
            "--CKPT_E=1",
            "--SAVE_PRED=True",
            devices,
        ]);
        let npz = std::fs::read(world.path("results/pred/result_run_v_epoch1.npz")).unwrap();
        (
            val.lines()
                .filter(|line| line.contains(" : "))
                .map(str::to_owned)
                .collect::<Vec<_>>(),
            files.map(|file| world.read(file)),
            npz,
        )
    };
    let alone = answer("--GPU=cpu");
    for devices in ["--GPU=cpu,cpu", "--GPU=cpu,cpu,cpu,cpu,cpu"] {
        assert!(answer(devices) == alone, "{devices}");
    }
    job(&world, 3, &["--RUN=val", "--CKPT_V=v", "--CKPT_E=1"]);
    job(&world, 3, &["--RUN=test", "--CKPT_V=v", "--CKPT_E=1"]);
    assert_eq!(files.map(|file| world.read(file)), alone.1);
}

#[test]
fn a_batch_that_cannot_be_shared_is_refused() {
    let world = demo_world();
    let message = world.fail(&[&TRAIN[..], &["--GPU=cpu,cpu,cpu"]].concat());
    assert!(
        message.contains("BATCH_SIZE = 16") && message.contains("3 devices"),
        "{message}"
    );
    let message = world.fail(&[&TRAIN[..], &["--GPU=cpu,0"]].concat());
    assert!(message.contains("--GPU=cpu,0"), "{message}");
}

#[test]
fn a_killed_process_ends_the_job_and_another_number_goes_on() {
    let world = demo_world();
    for lost in [0, 1] {
        let version = format!("--VERSION=lost{lost}");
        let mut children = start_job(&world, 2, &[&LONG[..], &[&version]].concat());
        let folder = world.path(&format!("ckpts/ckpt_lost{lost}"));
        wait_for(folder.join("epoch2.pkl"));
        children[lost].kill().unwrap();
        let outputs = ends(children);
        let message = failure(&outputs[1 - lost]);
        // It notices the loss, and does not wait for its time limit.
        assert!(!message.contains("Timed out"), "{message}");
        assert!(
            message.contains(&format!("replica {} of 2", 1 - lost)) && message.contains("another"),
            "{message}"
        );
        let last = (1..)
            .take_while(|epoch: &u64| folder.join(format!("epoch{epoch}.pkl")).exists())
            .last()
            .unwrap();
        checkpoint::load(&folder.join(format!("epoch{last}.pkl"))).unwrap();
        let (from, to) = (
            format!("--CKPT_E={last}"),
            format!("--SET=MAX_EPOCH={}", last + 1),
        );
        let version_flag = format!("--CKPT_V=lost{lost}");
        let flags = [
            "--RUN=train",
            "--SPLIT=train",
            "--EVAL_EE=False",
            "--RESUME=True",
            &version,
            &version_flag,
            &from,
            &to,
        ];
        job(&world, 4, &flags);
        assert!(folder.join(format!("epoch{}.pkl", last + 1)).exists());
    }
}

#[test]
fn features_that_are_not_finite_are_named_whichever_replica_has_them() {
    let world = demo_world();
    let folder = world.root.join("datasets/coco_extract/train2014");
    let mut images: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    images.sort();
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&images[7]).unwrap());
    archive
        .start_file("x.npy", zip::write::SimpleFileOptions::default())
        .unwrap();
    Array2::from_elem((2048, 10), f32::NAN)
        .write_npy(&mut archive)
        .unwrap();
    archive.finish().unwrap();
    for seed in ["--SEED=1", "--SEED=2", "--SEED=3"] {
        let message = world.fail(
            &[
                &TRAIN[..],
                &["--GPU=cpu,cpu", "--OVERWRITE=True", "--VERSION=n", seed],
            ]
            .concat(),
        );
        let file = images[7].file_name().unwrap().to_string_lossy();
        assert!(
            message.contains(&*file) && message.contains("not finite"),
            "{message}"
        );
    }
}

#[test]
fn a_signal_to_one_process_stops_all_with_the_state_saved_once() {
    let world = demo_world();
    let whole = [
        &TRAIN[..],
        &["--SET=MAX_EPOCH=500", "--EVAL_EE=False", "--VERSION=v"],
    ]
    .concat();
    for (asked, name, status) in [(1, "TERM", 143), (0, "INT", 130)] {
        let children = start_job(&world, 2, &[&whole[..], &["--OVERWRITE=True"]].concat());
        wait_for(world.path("ckpts/ckpt_v/epoch1.pkl"));
        let sent = Command::new("kill")
            .args([format!("-{name}"), children[asked].id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        let outputs = ends(children);
        for output in &outputs {
            assert_eq!(output.status.code(), Some(status), "{}", stderr(output));
        }
        let advice = |rank: usize| {
            stderr(&outputs[rank])
                .lines()
                .any(|line| line.contains("--RESUME=True"))
        };
        assert!(advice(0) && !advice(1), "the first one says how to go on");
        std::fs::remove_dir_all(world.path("ckpts/ckpt_v")).unwrap();
    }
}
