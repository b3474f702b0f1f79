//! Inputs as users have them: archives that a browser has unpacked, folders in folders, pipes, devices, ids that start anew,
//! few answers, limits of the machine.

mod common;

use common::{World, demo_world, failure};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

const TRAIN: [&str; 5] = [
    "--RUN=train",
    "--SPLIT=train",
    "--EVAL_EE=False",
    "--VERSION=a",
    "--MAX_EPOCH=1",
];

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&TRAIN[..], more].concat()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn features(world: &World, split: &str) -> PathBuf {
    world.root.join("datasets/coco_extract").join(split)
}

#[test]
fn a_tar_is_packed_with_and_without_gzip_and_another_file_is_named() {
    let world = demo_world();
    let folder = features(&world, "train2014");
    let archive = folder.with_file_name("train2014.tar.gz");
    let status = Command::new("tar")
        .args(["-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(folder.parent().unwrap())
        .arg("train2014")
        .status();
    assert!(status.unwrap().success());
    world.succeed(&train(&[]));
    for split in ["train2014", "val2014", "test2015"] {
        fs::remove_dir_all(features(&world, split)).unwrap();
    }
    world.succeed(&["--RUN=pack", "--SET=BANK_DTYPE=f32"]);
    world.succeed(&[&TRAIN[..3], &["--VERSION=b", "--MAX_EPOCH=1"]].concat());
    assert_eq!(world.losses("a"), world.losses("b"));
    fs::write(&archive, "<!DOCTYPE html><html>not found</html>").unwrap();
    let message = world.fail(&["--RUN=pack", "--OVERWRITE"]);
    assert!(message.contains("it is a web page"), "{message}");
}

#[test]
fn a_folder_in_the_folder_is_read() {
    let world = demo_world();
    world.succeed(&train(&[]));
    let folder = features(&world, "train2014");
    let aside = folder.with_file_name("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::rename(&aside, folder.join("train2014")).unwrap();
    world.succeed(&[&TRAIN[..3], &["--VERSION=b", "--MAX_EPOCH=1"]].concat());
    assert_eq!(world.losses("a"), world.losses("b"));
}

#[test]
fn a_pipe_is_read_where_a_file_is_read_once_and_what_is_no_file_is_named() {
    let world = demo_world();
    world.succeed(&[
        "--RUN=train",
        "--SPLIT=train",
        "--VERSION=a",
        "--MAX_EPOCH=1",
    ]);
    let answers = world.path("results/cache/result_run_a.json");
    let score = ["--RUN=score", "--RESULT_FILE=/dev/stdin"];
    let piped = world.script(
        &[],
        &format!("cat '{}' | \"$@\"", answers.display()),
        &score,
    );
    let file = format!("--RESULT_FILE={}", answers.display());
    let expected = world.succeed(&["--RUN=score", &file]);
    assert_eq!(
        String::from_utf8_lossy(&piped.stdout),
        expected,
        "{}",
        said(&piped)
    );

    let vectors = world.script(
        &[],
        "(echo a 1 2) | \"$@\"",
        &train(&[
            "--OVERWRITE",
            "--SET=USE_GLOVE=true",
            "--GLOVE_PATH=/dev/stdin",
        ]),
    );
    assert!(
        failure(&vectors).contains("a pipe or a device"),
        "{vectors:?}"
    );
    let message = world.fail(&["--RUN=val", "--CKPT_PATH=world"]);
    assert!(message.contains("world is a folder"), "{message}");
    let message = world.fail(&train(&["--CFG=/dev/zero"]));
    assert!(message.contains("/dev/zero is a device"), "{message}");
    fs::write(world.path("two.yml"), "LAYER: 2\n---\nLAYER: 3\n").unwrap();
    let message = world.fail(&train(&["--CFG=two.yml"]));
    assert!(
        message.ends_with("multiple YAML documents detected"),
        "{message}"
    );
    let message = failure(&world.script(&[], "yes | \"$@\"", &train(&["--CFG=/dev/stdin"])));
    assert!(message.contains("longer than"), "{message}");
}

#[test]
fn images_whose_ids_start_anew_belong_to_their_own_split() {
    let losses = |restart: bool| {
        let world = demo_world();
        if restart {
            // The ids of val become those of train.
            let name = |split: &str, id: i64| format!("COCO_{split}_{id:012}.jpg.npz");
            let mut ids = Vec::new();
            for file in [
                "v2_OpenEnded_mscoco_val2014_questions.json",
                "v2_mscoco_val2014_annotations.json",
            ] {
                world.edit(file, |json| {
                    for list in json
                        .as_object_mut()
                        .unwrap()
                        .values_mut()
                        .filter_map(Value::as_array_mut)
                    {
                        for entry in list.iter_mut() {
                            let id = entry["image_id"].as_i64().unwrap();
                            entry["image_id"] = json!(id - 120 + 1);
                        }
                    }
                });
            }
            let folder = features(&world, "val2014");
            for entry in fs::read_dir(&folder).unwrap() {
                let file = entry.unwrap().file_name().into_string().unwrap();
                ids.push(
                    file.rsplit('_').next().unwrap()[..12]
                        .parse::<i64>()
                        .unwrap(),
                );
            }
            for id in ids {
                fs::rename(
                    folder.join(name("val2014", id)),
                    folder.join(name("val2014", id - 120 + 1)),
                )
                .unwrap();
            }
        }
        world.succeed(&[
            "--RUN=train",
            "--SPLIT=train+val",
            "--VERSION=a",
            "--MAX_EPOCH=2",
        ]);
        world.losses("a")
    };
    assert_eq!(losses(false), losses(true));
}

#[test]
fn questions_without_targets_few_answers_and_unused_regions_are_said() {
    let world = demo_world();
    world.edit("v2_mscoco_val2014_annotations.json", |json| {
        for annotation in json["annotations"].as_array_mut().unwrap() {
            annotation["answers"].as_array_mut().unwrap().truncate(1);
        }
    });
    let evaluated = [
        "--RUN=train",
        "--SPLIT=train",
        "--VERSION=a",
        "--MAX_EPOCH=1",
        "--OVERWRITE",
    ];
    let output = world.run(&[&evaluated[..], &["--SET=IMG_FEAT_PAD_SIZE=1"]].concat());
    let text = said(&output);
    assert!(
        text.contains("fewer than four answers") && text.contains("ACCURACY=exact"),
        "{text}"
    );
    assert!(text.contains("IMG_FEAT_PAD_SIZE"), "{text}");
    let output = world.run(&[&evaluated[..], &["--SET=ACCURACY=exact"]].concat());
    assert!(
        said(&output).contains("ACCURACY=exact"),
        "{}",
        said(&output)
    );
    world.edit("answer_dict.json", |json| {
        *json = json!([{"Quite Other": 0}, {"0": "Quite Other"}])
    });
    let message = world.fail(&evaluated);
    assert!(
        message.contains("is in the answer list") && message.contains("Quite Other"),
        "{message}"
    );
}

#[test]
fn a_test_dev_file_is_no_file_for_evalai() {
    let world = demo_world();
    world.succeed(&train(&[]));
    let questions = world.root.join("datasets/vqa");
    let name =
        |part: &str| questions.join(format!("v2_OpenEnded_mscoco_{part}2015_questions.json"));
    fs::copy(name("test"), name("test-dev")).unwrap();
    let flags = ["--RUN=test", "--CKPT_V=a", "--CKPT_E=1"];
    let dev = world.run(&[&flags[..], &["--TEST_SPLIT=test-dev"]].concat());
    assert!(
        said(&dev).contains("EvalAI") && said(&dev).contains("--TEST_SPLIT=test"),
        "{}",
        said(&dev)
    );
    assert!(!said(&world.run(&flags)).contains("EvalAI"));
}

#[test]
fn a_job_of_one_process_is_no_job() {
    let world = demo_world();
    let alone = "RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 \"$@\"";
    let output = world.script(&[], alone, &train(&[]));
    assert!(output.status.success(), "{}", said(&output));
    let output = world.script(&[], alone, &["--RUN=pack"]);
    assert!(output.status.success(), "{}", said(&output));
    let message = failure(&world.script(&[], "RANK=0 WORLD_SIZE=2 \"$@\"", &["--RUN=pack"]));
    assert!(
        message.contains("WORLD_SIZE") && message.contains("unset"),
        "{message}"
    );
}

#[test]
fn memory_and_open_files_that_run_out_end_a_run_with_one_message() {
    let world = demo_world();
    // Less than libtorch's own files take, and more.
    for megabytes in [500, 700, 1000, 1500] {
        let limited = format!("ulimit -v {}; \"$@\"", megabytes * 1000);
        let output = world.script(&[], &limited, &train(&["--OVERWRITE", "--PRELOAD"]));
        let text = said(&output);
        assert!(
            !text.contains("panicked") && !text.contains("terminate called"),
            "{text}"
        );
        match output.status.code() {
            Some(0) => {}
            Some(1) => assert!(
                text.contains("memory") || text.contains("threads"),
                "{megabytes} MB: {text}"
            ),
            // The dynamic linker cannot map the program.
            Some(127) => assert!(
                text.contains("cannot allocate") || text.contains("failed to map"),
                "{text}"
            ),
            other => panic!("{megabytes} MB: {other:?}: {text}"),
        }
    }
    for files in [10, 12, 14, 16, 20] {
        let limited = format!("ulimit -n {files}; \"$@\"");
        let flags = train(&["--OVERWRITE", "--GPU=cpu,cpu", "--SET=DIST_TIMEOUT=20"]);
        let output = world.script(&[], &limited, &flags);
        if output.status.code() != Some(0) {
            let message = failure(&output);
            assert!(message.contains("open files"), "{files}: {message}");
        }
    }
}
