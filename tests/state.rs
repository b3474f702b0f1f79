//! What a run must not lose: its log, results whose reader is gone, an older run, files that cannot be told to be absent.

mod common;

use common::{World, command, demo_world, failure, names};
use std::os::unix::fs::symlink;
use std::process::{Output, Stdio};

const TRAIN: [&str; 4] = [
    "--RUN=train",
    "--SPLIT=train",
    "--EVAL_EE=False",
    "--VERSION=a",
];

fn train(more: &[&'static str]) -> Vec<&'static str> {
    [&TRAIN[..], more].concat()
}

/// Runs the binary in a shell that redirects its streams as `redirected` says.
fn redirected(world: &World, more: &[&str], redirected: &str) -> Output {
    world.script(&[], &format!("exec \"$@\" {redirected}"), more)
}

#[test]
fn no_line_of_a_log_that_was_edited_is_lost() {
    let world = demo_world();
    world.succeed(&train(&["--MAX_EPOCH=2"]));
    let log = world.path("results/log/log_run_a.txt");
    let edited = world
        .read("results/log/log_run_a.txt")
        .replace("\n\n", "\n")
        .replace('\n', "\r\n");
    std::fs::write(&log, format!("{edited}my note\r\n")).unwrap();
    world.succeed(&train(&[
        "--MAX_EPOCH=3",
        "--RESUME",
        "--CKPT_V=a",
        "--CKPT_E=2",
    ]));
    let after = world.read("results/log/log_run_a.txt");
    assert!(
        after.starts_with(&edited) && after.contains("my note\r\n"),
        "{after}"
    );
    assert_eq!(world.losses("a").len(), 3, "{after}");
}

#[test]
fn a_training_goes_on_when_nobody_reads_what_it_prints() {
    let world = demo_world();
    for (case, streams) in [
        ">&-",
        "2>&-",
        ">/dev/full",
        "2>/dev/full",
        ">/dev/full 2>/dev/full",
    ]
    .iter()
    .enumerate()
    {
        let version = format!("--VERSION=v{case}");
        let output = redirected(
            &world,
            &[&TRAIN[..3], &[&version, "--MAX_EPOCH=2"]].concat(),
            streams,
        );
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{streams}: {printed}");
        assert_eq!(world.losses(&format!("v{case}")).len(), 2, "{streams}");
        assert!(
            !printed.contains("panicked") && !printed.contains("failed printing"),
            "{printed}"
        );
    }
}

#[test]
fn scores_that_cannot_be_printed_are_an_error() {
    let world = demo_world();
    world.succeed(&[
        "--RUN=train",
        "--SPLIT=train",
        "--VERSION=a",
        "--MAX_EPOCH=1",
    ]);
    let answers = format!(
        "--RESULT_FILE={}",
        world.path("results/cache/result_run_a.json").display()
    );
    for streams in [">/dev/full", ">&-"] {
        let output = redirected(&world, &["--RUN=score", &answers], streams);
        // A closed standard output is opened anew by the standard library, as /dev/null.
        if streams == ">/dev/full" {
            assert!(failure(&output).contains("standard output"), "{output:?}");
        }
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    }
    let val = ["--RUN=val", "--CKPT_V=a", "--CKPT_E=1"];
    let val = redirected(&world, &val, ">/dev/full");
    assert!(failure(&val).contains("standard output"), "{val:?}");
    let help = redirected(&world, &["--help"], ">/dev/full");
    assert_eq!(help.status.code(), Some(1));
    let help = redirected(&world, &["--MAN"], ">/dev/full");
    assert!(failure(&help).contains("standard output"), "{help:?}");
}

#[test]
fn a_run_without_epochs_replaces_nothing() {
    let world = demo_world();
    world.succeed(&train(&["--MAX_EPOCH=1"]));
    let message = world.fail(&train(&["--MAX_EPOCH=0", "--OVERWRITE"]));
    assert!(message.contains("MAX_EPOCH"), "{message}");
    assert!(names(&world.path("ckpts/ckpt_a")).contains(&"epoch1.pkl".into()));
    let demo = command(
        world.folder.path(),
        &["--RUN=demo", "--GPU=cpu", "--MAX_EPOCH=0"],
    )
    .output()
    .unwrap();
    assert!(failure(&demo).contains("MAX_EPOCH"));
    assert!(!world.path("datasets").exists(), "nothing was made");
}

#[test]
fn a_demo_that_runs_keeps_its_lock() {
    let world = demo_world();
    let demo = |more: &[&str]| {
        let flags = [
            &["--RUN=demo", "--GPU=cpu", "--SEED=1", "--MAX_EPOCH=200"][..],
            more,
        ]
        .concat();
        let mut demo = command(world.folder.path(), &flags);
        demo.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        demo
    };
    let mut first = demo(&[]).spawn().unwrap();
    while !world.path("ckpts/ckpt_demo/epoch1.pkl").exists() {
        assert!(first.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::yield_now();
    }
    let questions = world.path("datasets/demo/vqa/v2_OpenEnded_mscoco_train2014_questions.json");
    let before = std::fs::metadata(&questions).unwrap().modified().unwrap();
    for more in [
        &["--SEED=2"][..],
        &["--SEED=2", "--SET=CKPTS_PATH=elsewhere"],
    ] {
        let message = failure(&demo(more).output().unwrap());
        assert!(
            message.contains("another run") && message.contains("in another folder"),
            "{message}"
        );
    }
    assert_eq!(
        std::fs::metadata(&questions).unwrap().modified().unwrap(),
        before
    );
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn what_cannot_be_told_to_be_absent_is_not_replaced() {
    let world = demo_world();
    let list = world.root.join("datasets/vqa/answer_dict.json");
    std::fs::remove_file(&list).unwrap();
    symlink("/not/mounted/answer_dict.json", &list).unwrap();
    let message = world.fail(&train(&["--MAX_EPOCH=1"]));
    assert!(
        message.contains("answer_dict.json is a link to /not/mounted"),
        "{message}"
    );
    assert!(list.is_symlink(), "the link stays");
    std::fs::remove_file(&list).unwrap();
    // A folder of checkpoints that is a link to nowhere is not an empty one.
    symlink("/not/mounted/ckpts", world.path("elsewhere")).unwrap();
    let message = world.fail(&train(&["--MAX_EPOCH=1", "--SET=CKPTS_PATH=elsewhere"]));
    assert!(message.contains("elsewhere"), "{message}");
}

#[test]
fn outputs_that_cannot_be_written_are_found_before_anything_slow() {
    let world = demo_world();
    let long = format!("--VERSION={}", "v".repeat(243));
    let message = world.fail(&["--RUN=train", "--SPLIT=train", &long]);
    assert!(message.contains("--VERSION"), "{message}");
    assert!(
        names(&world.path("ckpts")).is_empty() || !message.contains("epoch"),
        "{message}"
    );
    world.succeed(&train(&["--MAX_EPOCH=1"]));
    std::fs::create_dir_all(world.path("results/result_test/result_run_a_epoch1.json")).unwrap();
    let test = [
        "--RUN=test",
        "--CKPT_V=a",
        "--CKPT_E=1",
        "--SET=PROFILE=true",
    ];
    let output = world.run(&test);
    assert!(failure(&output).contains("result_run_a_epoch1.json, because it is a folder"));
    assert!(
        !String::from_utf8_lossy(&output.stdout).contains("Profile"),
        "nothing was answered"
    );
    std::fs::write(world.path("file"), "").unwrap();
    let message = world.fail(&train(&["--OVERWRITE", "--SET=CKPTS_PATH=file/ckpts"]));
    assert!(message.contains("--SET CKPTS_PATH="), "{message}");
}
