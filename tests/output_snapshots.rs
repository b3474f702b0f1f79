//! Stored texts that the runs of the program print and log, on a small made-up world.
//!
//! Measured numbers stand as `#`, and the folders as WORLD and OUT. After an intended change:
//! `INSTA_UPDATE=always cargo test -p mcan --test output_snapshots`, then read the difference.

mod common;

use common::{World, demo_world, failure};
use insta::assert_snapshot;
use serde_json::{Value, json};
use std::fs;

const TRAIN: [&str; 4] = [
    "--RUN=train",
    "--SPLIT=train",
    "--VERSION=v",
    "--SET=MAX_EPOCH=2",
];

/// `text` with names for the folders of this test, and without the printed configuration.
fn portable(world: &World, text: &str) -> String {
    let text = text
        .replace(&world.root.display().to_string(), "WORLD")
        .replace(&world.folder.path().display().to_string(), "OUT");
    let lines = text.lines().filter(|line| !line.starts_with("{ "));
    lines
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// `text` with `#` for each number, and with single spaces.
fn without_numbers(text: &str) -> String {
    let word = |word: &str| {
        let mut masked = String::new();
        for c in word.chars() {
            match c {
                '0'..='9' if !masked.ends_with('#') => masked.push('#'),
                '0'..='9' => {}
                '.' if masked.ends_with('#') => {}
                _ => masked.push(c),
            }
        }
        masked
    };
    let line = |line: &str| {
        line.split_whitespace()
            .map(word)
            .collect::<Vec<_>>()
            .join(" ")
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// Answers `yes` to all val questions of the world, and the accuracy of that.
fn score(world: &World) -> String {
    let questions = world
        .root
        .join("datasets/vqa/v2_OpenEnded_mscoco_val2014_questions.json");
    let questions: Value = serde_json::from_slice(&fs::read(questions).unwrap()).unwrap();
    let answers: Vec<Value> = questions["questions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|question| json!({"answer": "yes", "question_id": question["question_id"]}))
        .collect();
    let file = world.path("answers.json");
    fs::write(&file, Value::from(answers).to_string()).unwrap();
    world.succeed(&["--RUN=score", &format!("--RESULT_FILE={}", file.display())])
}

#[test]
fn scores_of_an_answer_file() {
    let world = demo_world();
    assert_snapshot!(portable(&world, &score(&world)));
}

#[test]
fn report_of_packing() {
    let world = demo_world();
    let printed = world.succeed(&["--RUN=pack", "--SPLIT=train"]);
    assert_snapshot!(portable(&world, &printed));
}

#[test]
fn messages_and_log_of_a_training() {
    let world = demo_world();
    let printed = world.succeed(&[&TRAIN[..], &["--SET=PROFILE=true"]].concat());
    assert_snapshot!("training", without_numbers(&portable(&world, &printed)));
    let log = world.read("results/log/log_run_v.txt");
    assert_snapshot!("log", without_numbers(&portable(&world, &log)));
    let val = world.succeed(&["--RUN=val", "--CKPT_V=v", "--CKPT_E=2"]);
    assert_snapshot!("val", without_numbers(&portable(&world, &val)));
    let test = world.succeed(&["--RUN=test", "--CKPT_V=v", "--CKPT_E=2", "--SAVE_PRED"]);
    assert_snapshot!("test", without_numbers(&portable(&world, &test)));
}

#[test]
fn messages_that_refuse_a_run() {
    let world = demo_world();
    world.succeed(&TRAIN);
    let refused: Vec<String> = [
        &TRAIN[..],
        &[
            "--RUN=train",
            "--RESUME",
            "--CKPT_V=v",
            "--CKPT_E=2",
            "--VERSION=w",
            "--SET=MAX_EPOCH=2",
        ],
        &["--RUN=val", "--CKPT_V=v", "--CKPT_E=3"],
        &["--RUN=train", "--VERSION=x", "--BS=9999"],
    ]
    .iter()
    .map(|flags| format!("{}\n{}\n", flags.join(" "), failure(&world.run(flags))))
    .collect();
    assert_snapshot!(portable(&world, &refused.join("\n")));
}
