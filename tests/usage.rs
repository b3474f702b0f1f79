//! Drives the binary with what users get wrong: status and message of each.

mod common;

use common::{failure, run};
use std::fs;

fn in_an_empty_folder(flags: &[&str]) -> std::process::Output {
    run(tempfile::tempdir().unwrap().path(), flags)
}

#[test]
fn wrong_usage_ends_with_status_2() {
    for flags in [
        &[][..],
        &["--RUN=fly"],
        &["--RUN=train", "--RESUME=maybe"],
        &["--RUN=score"],
    ] {
        let output = in_an_empty_folder(flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn help_names_every_flag_and_ends_with_status_0() {
    let output = in_an_empty_folder(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for flag in [
        "--RUN",
        "--EVAL_EE",
        "--FEAT_PATH",
        "--SET",
        "--AMP",
        "--GLOVE_PATH",
        "--TEST_SPLIT",
        "--ANNOTATIONS",
    ] {
        assert!(text.contains(flag), "{flag}");
    }
}

#[test]
fn every_failure_is_one_message_that_says_what_to_do() {
    for (flags, parts) in [
        (
            &["--RUN=train"][..],
            &[
                "train2014_questions.json",
                "VG_questions.json",
                "--FEAT_PATH",
                "setup.sh data",
            ][..],
        ),
        (
            &["--RUN=train", "--SPLIT=vg"],
            &["TRAIN_SPLIT", "vg", "use --SPLIT with train"],
        ),
        (
            &["--RUN=train", "--MODEL=huge"],
            &["--MODEL=huge", "configs/huge_model.yml"],
        ),
        (
            &["--RUN=train", "--SET", "LAYERS=2"],
            &["LAYERS", "did you mean LAYER?"],
        ),
        (
            &["--RUN=train", "--SET", "MULTI_HEAD=7"],
            &["HIDDEN_SIZE = 512", "MULTI_HEAD = 7"],
        ),
        (
            &["--RUN=train", "--BS=10", "--ACCU=3"],
            &["BATCH_SIZE = 10", "GRAD_ACCU_STEPS = 3"],
        ),
        (
            &["--RUN=train", "--VERSION=../../etc"],
            &["VERSION", "../../etc"],
        ),
        (&["--RUN=train", "--GPU=77"], &["--GPU=77", "no GPU 77"]),
        (&["--RUN=train", "--CFG=none.yml"], &["none.yml"]),
        (
            &["--RUN=val", "--CKPT_V=x", "--CKPT_E=4"],
            &["ckpts/ckpt_x/epoch4.pkl", "--CKPT_V"],
        ),
        (&["--RUN=pack"], &["--FEAT_PATH", "train2014"]),
        (
            &["--RUN=score", "--RESULT_FILE=a.json"],
            &["val2014_annotations.json"],
        ),
    ] {
        let message = failure(&in_an_empty_folder(flags));
        for part in parts {
            assert!(message.contains(part), "{flags:?}: {message}");
        }
    }
}

#[test]
fn a_configuration_file_with_an_unknown_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my.yml"), "LAYER: 2\nHIDEN_SIZE: 64\n").unwrap();
    let message = failure(&run(folder.path(), &["--RUN=train", "--CFG=my.yml"]));
    assert!(
        message.contains("my.yml") && message.contains("HIDEN_SIZE"),
        "{message}"
    );
    fs::write(folder.path().join("my.yml"), "LAYER: {2\n").unwrap();
    let message = failure(&run(folder.path(), &["--RUN=train", "--CFG=my.yml"]));
    assert!(
        message.contains("my.yml") && message.contains("YAML"),
        "{message}"
    );
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    for (flag, part) in [
        ("--COMPLETIONS=bash", "--FEAT_PATH"),
        ("--COMPLETIONS=zsh", "--FEAT_PATH"),
        ("--COMPLETIONS=fish", "FEAT_PATH"),
        ("--MAN", ".TH mcan"),
    ] {
        let output = in_an_empty_folder(&[flag]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.contains(part),
            "{flag}: {text}"
        );
    }
}

#[test]
fn the_log_tells_where_each_value_came_from() {
    let line = ["--RUN=train", "--BS=8", "--SET=LAYER=3"];
    let log = |level: &str| {
        let output = in_an_empty_folder(&[&line[..], &[level]].concat());
        String::from_utf8(output.stderr).unwrap()
    };
    let debug = log("--LOG=debug");
    for part in [
        "BATCH_SIZE = 8 (--BS)",
        "LAYER = 3 (--SET)",
        "LR_BASE = 0.0001 (configs/small_model.yml (built in))",
    ] {
        assert!(debug.contains(part), "{debug}");
    }
    assert!(!log("--LOG=warn").contains("(--BS)"));
}
