//! Runs that start from a checkpoint: which options may change, which questions must be the same, and new runs from the
//! weights of an older one.

mod common;

use common::{assert_close, demo_world, failure, largest_difference};
use mcan::checkpoint;
use serde_json::Value;
use std::path::Path;

const TRAIN: [&str; 3] = ["--RUN=train", "--SPLIT=train", "--EVAL_EE=False"];

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&TRAIN[..], more].concat()
}

fn parameter(path: &Path, name: &str) -> tch::Tensor {
    let loaded = checkpoint::load_weights(path).unwrap();
    let found = loaded
        .state_dict
        .into_iter()
        .find(|(known, _)| known == name);
    found.unwrap().1
}

#[test]
fn a_resumed_run_refuses_another_network_and_uses_another_learning_rate() {
    let world = demo_world();
    world.succeed(&train(&["--VERSION=a", "--MAX_EPOCH=2"]));
    let resume = [
        "--VERSION=a",
        "--MAX_EPOCH=3",
        "--RESUME",
        "--CKPT_V=a",
        "--CKPT_E=2",
    ];
    for (set, key) in [
        ("--SET=MULTI_HEAD=4", "MULTI_HEAD = 2"),
        ("--SET=MAX_TOKEN=9", "MAX_TOKEN = 14"),
        ("--SET=IMG_FEAT_PAD_SIZE=50", "IMG_FEAT_PAD_SIZE = 100"),
    ] {
        let message = world.fail(&train(&[&resume[..], &[set]].concat()));
        assert!(
            message.contains(key) && message.contains("ckpt_a/epoch2.pkl"),
            "{message}"
        );
    }
    let output = world.run(&train(
        &[&resume[..], &["--SET=LR_BASE=1e-9", "--SET=OPT_EPS=1e-8"]].concat(),
    ));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("LR_BASE = 0.000000001"),
        "{said}"
    );
    assert!(said.contains("OPT_EPS = 0.00000001"), "{said}");
    let log = world.read("results/log/log_run_a.txt");
    let rate: f64 = log
        .lines()
        .filter_map(|line| line.strip_prefix("lr = "))
        .next_back()
        .unwrap()
        .parse()
        .unwrap();
    assert!(rate < 2e-9, "{log}");
}

#[test]
fn an_epoch_goes_on_only_over_the_same_questions() {
    let world = demo_world();
    world.succeed(&train(&["--VERSION=a", "--MAX_EPOCH=1"]));
    let path = world.path("ckpts/ckpt_a/epoch1.pkl");
    let mut state = checkpoint::load(&path).unwrap();
    let run = state.mcan.as_mut().unwrap();
    (run.batch, run.step) = (1, run.step + 1);
    let last = world.path("last.pkl");
    checkpoint::save(&last, &state).unwrap();
    let file = format!("--CKPT_PATH={}", last.display());
    let resume = ["--VERSION=b", "--MAX_EPOCH=2", "--RESUME", &file];
    for file in [
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "v2_mscoco_train2014_annotations.json",
    ] {
        world.edit(file, |json| {
            let lists = json.as_object_mut().unwrap().values_mut();
            lists
                .filter_map(Value::as_array_mut)
                .for_each(|list| list.reverse());
        });
    }
    let message = world.fail(&train(&resume));
    assert!(
        message.contains("the list of training questions"),
        "{message}"
    );
}

#[test]
fn a_value_of_a_later_version_is_named() {
    let world = demo_world();
    world.succeed(&train(&["--VERSION=a", "--MAX_EPOCH=1"]));
    let mut state = checkpoint::load(&world.path("ckpts/ckpt_a/epoch1.pkl")).unwrap();
    state.mcan.as_mut().unwrap().config["AMP"] = "fp8".into();
    let later = world.path("later.pkl");
    checkpoint::save(&later, &state).unwrap();
    let file = format!("--CKPT_PATH={}", later.display());
    let message = world.fail(&["--RUN=val", &file]);
    assert!(
        message.contains("AMP = fp8") && message.contains("later.pkl"),
        "{message}"
    );
}

#[test]
fn a_new_run_starts_from_weights_with_words_and_answers_by_name() {
    let world = demo_world();
    world.succeed(&train(&["--VERSION=a", "--MAX_EPOCH=1"]));
    let from = world.path("ckpts/ckpt_a/epoch1.pkl");
    let old = checkpoint::load_weights(&from).unwrap().mcan.unwrap();
    // A new first answer moves all others.
    world.edit("answer_dict.json", |json| {
        let mut answers = vec!["quite new".to_owned()];
        answers.extend(old.answers.iter().cloned());
        let forward: serde_json::Map<String, Value> = answers
            .iter()
            .cloned()
            .zip((0..).map(|i: u64| i.into()))
            .collect();
        let back: serde_json::Map<String, Value> = answers
            .iter()
            .enumerate()
            .map(|(i, answer)| (i.to_string(), answer.clone().into()))
            .collect();
        *json = serde_json::json!([forward, back]);
    });
    let file = format!("--CKPT_PATH={}", from.display());
    let tiny = ["--VERSION=b", "--MAX_EPOCH=1", "--SET=LR_BASE=1e-30", &file];
    let output = world.run(&train(&tiny));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let answers = old.answers.len();
    assert!(
        said.contains(&format!(
            "{answers} of {} answers have theirs (matched by name)",
            answers + 1
        )),
        "{said}"
    );
    let (before, after) = (
        parameter(&from, "proj.weight"),
        parameter(&world.path("ckpts/ckpt_b/epoch1.pkl"), "proj.weight"),
    );
    let moved = after.narrow(0, 1, answers as i64);
    assert!((moved - before).abs().max().double_value(&[]) < 1e-6);

    let absent = world.run(&train(&["--VERSION=c", "--CKPT_PATH=absent.pkl"]));
    assert!(
        failure(&absent).contains("absent.pkl"),
        "a named file is never ignored"
    );
}

/// The second replica never reads the checkpoint: it gets the weights of the first.
#[test]
fn several_replicas_start_from_the_same_weights() {
    let world = demo_world();
    world.succeed(&train(&["--VERSION=a", "--MAX_EPOCH=1"]));
    let from = world.path("ckpts/ckpt_a/epoch1.pkl");
    let file = format!("--CKPT_PATH={}", from.display());
    let frozen = [
        "--MAX_EPOCH=1",
        "--SEED=3",
        "--SET=LR_BASE=1e-30",
        "--SET=DROPOUT_R=0",
        &file,
    ];
    world.succeed(&train(&[&frozen[..], &["--VERSION=one"]].concat()));
    world.succeed(&train(
        &[&frozen[..], &["--VERSION=two", "--GPU=cpu,cpu"]].concat(),
    ));
    // Without dropout and steps, the loss of an epoch is that of the weights, on however many replicas.
    let (one, two) = (world.losses("one"), world.losses("two"));
    assert_close(&one, &two, 1e-4);
    world.succeed(&train(&[&frozen[..4], &["--VERSION=new"]].concat()));
    assert!((world.losses("new")[0] / one[0] - 1.0).abs() > 0.01);
    let of = |version: &str| {
        let path = world.path(&format!("ckpts/ckpt_{version}/epoch1.pkl"));
        checkpoint::load_weights(&path).unwrap().state_dict
    };
    let (difference, name) = largest_difference(&of("two"), &of("a"));
    assert!(difference < 1e-6, "{name}: {difference}");
}

#[test]
fn an_epoch_that_nobody_stated_is_asked_for() {
    let world = demo_world();
    world.succeed(&train(&["--VERSION=a", "--MAX_EPOCH=1"]));
    let mut state = checkpoint::load(&world.path("ckpts/ckpt_a/epoch1.pkl")).unwrap();
    (state.epoch, state.mcan) = (None, None);
    let best = world.path("best.pkl");
    checkpoint::save(&best, &state).unwrap();
    let file = format!("--CKPT_PATH={}", best.display());
    let resume = ["--VERSION=b", "--MAX_EPOCH=2", "--RESUME", &file];
    let message = world.fail(&train(&resume));
    assert!(message.contains("--CKPT_E=N"), "{message}");
    world.succeed(&train(&[&resume[..], &["--CKPT_E=1"]].concat()));
    assert_eq!(world.losses("b").len(), 1);
}
