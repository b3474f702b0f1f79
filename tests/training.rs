//! Drives the binary through training: what it writes, what it refuses, and that stopping and resuming loses nothing.

mod common;

use common::{World, assert_same_state, demo_world, failure};
use mcan::checkpoint;
use ndarray::{Array1, Array2};
use ndarray_npy::WriteNpyExt;
use std::fs;
use std::io::Write;

const TRAIN: [&str; 3] = [
    "--RUN=train",
    "--SPLIT=train",
    "--SET=SHUFFLE_MODE=external",
];

fn train(world: &World, more: &[&str]) -> String {
    world.succeed(&[&TRAIN[..], more].concat())
}

#[test]
fn a_run_that_was_stopped_and_resumed_is_the_run_that_was_not() {
    let world = demo_world();
    train(
        &world,
        &[
            "--VERSION=whole",
            "--MAX_EPOCH=4",
            "--SET=LR_DECAY_LIST=[2]",
            "--ACCU=2",
        ],
    );
    train(
        &world,
        &[
            "--VERSION=part",
            "--MAX_EPOCH=2",
            "--SET=LR_DECAY_LIST=[2]",
            "--ACCU=2",
        ],
    );
    // The seed is that of the checkpoint, so no flag repeats it; the file's SEED is unset for that.
    let resume = [
        "--VERSION=part",
        "--MAX_EPOCH=4",
        "--SET=LR_DECAY_LIST=[2]",
        "--ACCU=2",
        "--RESUME",
        "--CKPT_V=part",
    ];
    train(
        &world,
        &[&resume[..], &["--CKPT_E=2", "--SET=SEED=null"]].concat(),
    );
    for epoch in 1..=4 {
        let file = |version| world.path(&format!("ckpts/ckpt_{version}/epoch{epoch}.pkl"));
        assert_same_state(&file("whole"), &file("part"));
    }
    let lines = |version: &str| {
        let text = world.read(&format!("results/log/log_run_{version}.txt"));
        text.lines()
            .filter(|line| !line.starts_with("nowTime"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(lines("whole"), lines("part"), "the log is appended to");
}

#[test]
fn the_number_of_loader_threads_and_preloading_change_nothing() {
    let world = demo_world();
    for (version, more) in [
        ("a", ["--NW=0", "--PRELOAD=0"]),
        ("b", ["--NW=1", "--PRELOAD=0"]),
        ("c", ["--NW=4", "--PRELOAD=1"]),
    ] {
        train(
            &world,
            &[
                &more[..],
                &["--MAX_EPOCH=2", &format!("--VERSION={version}")],
            ]
            .concat(),
        );
    }
    for version in ["b", "c"] {
        assert_same_state(
            &world.path("ckpts/ckpt_a/epoch2.pkl"),
            &world.path(&format!("ckpts/ckpt_{version}/epoch2.pkl")),
        );
    }
}

#[test]
fn features_on_the_device_are_those_of_a_half_precision_bank() {
    let world = demo_world();
    let run = |version: &str, preload: &str| {
        let version_flag = format!("--VERSION={version}");
        train(&world, &["--MAX_EPOCH=2", preload, &version_flag]);
        world.succeed(&[
            "--RUN=test",
            &format!("--CKPT_V={version}"),
            "--CKPT_E=2",
            "--SAVE_PRED",
            preload,
        ]);
        fs::read(world.path(&format!("results/pred/result_run_{version}_epoch2.npz"))).unwrap()
    };
    let table = run("table", "--PRELOAD=gpu");
    world.succeed(&["--RUN=pack"]);
    let bank = run("bank", "--PRELOAD=False");
    assert_same_state(
        &world.path("ckpts/ckpt_table/epoch2.pkl"),
        &world.path("ckpts/ckpt_bank/epoch2.pkl"),
    );
    assert_eq!(
        world.log("table"),
        world.log("bank"),
        "losses and val accuracies"
    );
    assert!(table == bank, "probabilities");
}

#[test]
fn accumulated_gradients_are_those_of_the_whole_batch_and_the_logged_loss_is_the_same() {
    let world = demo_world();
    for accu in ["1", "4"] {
        let flags = [
            "--SET=DROPOUT_R=0",
            "--MAX_EPOCH=1",
            &format!("--ACCU={accu}"),
            &format!("--VERSION={accu}"),
        ];
        train(&world, &flags);
    }
    let losses = ["1", "4"].map(|version| {
        let log = world.read(&format!("results/log/log_run_{version}.txt"));
        let line = log
            .lines()
            .find_map(|line| line.split("  loss = ").nth(1).map(str::to_owned));
        line.unwrap().parse::<f64>().unwrap()
    });
    assert!((losses[0] / losses[1] - 1.0).abs() < 1e-5, "{losses:?}");
    let [one, four] = ["1", "4"]
        .map(|v| checkpoint::load(&world.path(&format!("ckpts/ckpt_{v}/epoch1.pkl"))).unwrap());
    let (difference, name) = common::largest_difference(&one.state_dict, &four.state_dict);
    assert!(difference < 1e-3, "{name}: {difference}");
}

#[test]
fn a_new_run_does_not_destroy_an_old_one_of_the_same_name() {
    let world = demo_world();
    train(&world, &["--VERSION=v", "--MAX_EPOCH=1"]);
    let before = fs::read(world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap();
    let refused = world.fail(&[&TRAIN[..], &["--VERSION=v", "--MAX_EPOCH=1"]].concat());
    assert!(
        refused.contains("epoch1.pkl") && refused.contains("--OVERWRITE=True"),
        "{refused}"
    );
    assert_eq!(
        fs::read(world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap(),
        before
    );
    train(
        &world,
        &[
            "--VERSION=v",
            "--MAX_EPOCH=1",
            "--OVERWRITE=True",
            "--SEED=9",
        ],
    );
    assert_ne!(
        fs::read(world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap(),
        before
    );
    assert_eq!(
        world
            .read("results/log/log_run_v.txt")
            .matches("epoch = 1 ")
            .count(),
        1
    );
}

#[test]
fn resuming_makes_its_folder_and_a_false_resume_does_not_resume() {
    let world = demo_world();
    train(&world, &["--VERSION=a", "--MAX_EPOCH=1"]);
    train(
        &world,
        &[
            "--VERSION=b",
            "--MAX_EPOCH=2",
            "--RESUME=True",
            "--CKPT_V=a",
            "--CKPT_E=1",
        ],
    );
    assert!(
        world.path("ckpts/ckpt_b/epoch2.pkl").exists()
            && !world.path("ckpts/ckpt_b/epoch1.pkl").exists()
    );
    train(
        &world,
        &[
            "--VERSION=c",
            "--MAX_EPOCH=1",
            "--RESUME=False",
            "--CKPT_V=a",
            "--CKPT_E=1",
        ],
    );
    assert!(world.path("ckpts/ckpt_c/epoch1.pkl").exists());
    let spent = world.fail(
        &[
            &TRAIN[..],
            &["--RESUME", "--CKPT_V=a", "--CKPT_E=1", "--MAX_EPOCH=1"],
        ]
        .concat(),
    );
    assert!(spent.contains("nothing is left to train"), "{spent}");
}

#[test]
fn val_and_test_need_only_their_own_files_and_no_model_flag() {
    let world = demo_world();
    train(&world, &["--VERSION=v", "--MAX_EPOCH=1"]);
    let vqa = world.root.join("datasets/vqa");
    for file in fs::read_dir(&vqa).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        if !name.contains("val2014") && !name.contains("test") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    fs::remove_dir_all(world.root.join("datasets/coco_extract/train2014")).unwrap();
    fs::write(world.root.join("small_model.yml"), "HIDDEN_SIZE: 512\n").unwrap();
    let out = world.succeed(&["--RUN=val", "--CKPT_V=v", "--CKPT_E=1"]);
    assert!(out.contains("Overall Accuracy is: "), "{out}");
    assert!(
        world
            .read("results/log/log_run_v.txt")
            .matches("Overall Accuracy is")
            .count()
            == 2
    );
    for (split, questions, name) in [("test", 24, ""), ("test-dev", 12, "_test-dev")] {
        world.succeed(&[
            "--RUN=test",
            "--CKPT_V=v",
            "--CKPT_E=1",
            &format!("--TEST_SPLIT={split}"),
        ]);
        let answers = mcan::datasets::vqa2::read_answers(&world.path(&format!(
            "results/result_test/result_run_v_epoch1{name}.json"
        )))
        .unwrap();
        assert_eq!(answers.len(), questions);
    }
}

#[test]
fn features_from_a_bank_give_the_same_run() {
    let world = demo_world();
    train(&world, &["--VERSION=folder", "--MAX_EPOCH=1"]);
    let packed = world.succeed(&["--RUN=pack", "--SET=BANK_DTYPE=f32"]);
    assert!(
        packed.contains("train2014.safetensors: 24 images"),
        "{packed}"
    );
    for split in ["train2014", "val2014", "test2015"] {
        fs::remove_dir_all(world.root.join("datasets/coco_extract").join(split)).unwrap();
    }
    train(&world, &["--VERSION=bank", "--MAX_EPOCH=1"]);
    assert_same_state(
        &world.path("ckpts/ckpt_folder/epoch1.pkl"),
        &world.path("ckpts/ckpt_bank/epoch1.pkl"),
    );
}

#[test]
fn missing_images_are_counted_and_named_before_training() {
    let world = demo_world();
    let folder = world.root.join("datasets/coco_extract/train2014");
    let gone: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .take(2)
        .map(|file| file.path())
        .collect();
    gone.iter().for_each(|file| fs::remove_file(file).unwrap());
    let message = world.fail(&TRAIN);
    assert!(
        message.contains("2 images")
            && message.contains("train2014")
            && message.contains("--RUN=pack"),
        "{message}"
    );
}

#[test]
fn no_feature_is_read_ahead_of_a_failure_that_can_be_known() {
    let world = demo_world();
    let told = |flags: &[&str]| {
        let output =
            world.run(&[&TRAIN[..], &["--PRELOAD=True", "--SET=VERBOSE=true"], flags].concat());
        assert!(!String::from_utf8_lossy(&output.stderr).contains("Preloading"));
        failure(&output)
    };
    assert!(told(&["--BS=100000"]).contains("--BS"));
    // An image that only the evaluation after the first epoch needs.
    let folder = world.root.join("datasets/coco_extract/val2014");
    fs::remove_file(
        fs::read_dir(&folder)
            .unwrap()
            .flatten()
            .next()
            .unwrap()
            .path(),
    )
    .unwrap();
    let message = told(&["--VERSION=other"]);
    assert!(
        message.contains("1 images") && message.contains("val2014"),
        "{message}"
    );
}

#[test]
fn features_that_are_not_finite_stop_the_run_by_name_and_keep_the_last_checkpoint() {
    let world = demo_world();
    train(&world, &["--VERSION=v", "--MAX_EPOCH=1"]);
    let image = fs::read_dir(world.root.join("datasets/coco_extract/train2014"))
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    let mut npz = zip::ZipWriter::new(fs::File::create(&image).unwrap());
    npz.start_file("x.npy", zip::write::SimpleFileOptions::default())
        .unwrap();
    Array2::<f32>::from_elem((2048, 3), f32::NAN)
        .write_npy(&mut npz)
        .unwrap();
    npz.finish().unwrap().flush().unwrap();
    let message = world.fail(
        &[
            &TRAIN[..],
            &["--VERSION=v", "--RESUME", "--CKPT_V=v", "--CKPT_E=1"],
        ]
        .concat(),
    );
    let id: u64 = image.to_str().unwrap().rsplit('_').next().unwrap()[..12]
        .parse()
        .unwrap();
    for part in ["epoch 2", "step ", "NaN", &format!("image {id}")] {
        assert!(message.contains(part), "{part}: {message}");
    }
    checkpoint::load(&world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap();
}

#[test]
fn an_answer_list_is_counted_when_none_is_published_but_not_for_a_foreign_checkpoint() {
    let world = demo_world();
    fs::remove_file(world.root.join("datasets/vqa/answer_dict.json")).unwrap();
    train(&world, &["--VERSION=v", "--MAX_EPOCH=1"]);
    assert!(world.root.join("datasets/vqa/answer_dict.json").exists());
    let mut foreign = checkpoint::load(&world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap();
    foreign.mcan = None;
    let file = world.path("foreign.pkl");
    checkpoint::save(&file, &foreign).unwrap();
    let flag = format!("--CKPT_PATH={}", file.display());
    world.succeed(&["--RUN=val", &flag]);
    fs::remove_file(world.root.join("datasets/vqa/answer_dict.json")).unwrap();
    let message = world.fail(&["--RUN=val", &flag]);
    assert!(
        message.contains("answer_dict.json") && message.contains("published checkpoint"),
        "{message}"
    );
}

#[test]
fn a_checkpoint_of_other_words_is_explained() {
    let world = demo_world();
    train(&world, &["--VERSION=v", "--MAX_EPOCH=1"]);
    let mut foreign = checkpoint::load(&world.path("ckpts/ckpt_v/epoch1.pkl")).unwrap();
    foreign.mcan = None;
    checkpoint::save(&world.path("foreign.pkl"), &foreign).unwrap();
    // Without the other question files the vocabulary comes out smaller.
    let vqa = world.root.join("datasets/vqa");
    let questions = r#"{"questions": [{"question_id": 1, "image_id": 2, "question": "why"}]}"#;
    for name in [
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "v2_OpenEnded_mscoco_test2015_questions.json",
        "VG_questions.json",
    ] {
        fs::write(vqa.join(name), questions).unwrap();
    }
    let val = vqa.join("v2_OpenEnded_mscoco_val2014_questions.json");
    let text = fs::read_to_string(&val).unwrap().replace("dog", "cat");
    fs::write(val, text).unwrap();
    let message = world.fail(&[
        "--RUN=val",
        &format!("--CKPT_PATH={}", world.path("foreign.pkl").display()),
    ]);
    assert!(
        message.contains("embedding.weight") && message.contains("question files"),
        "{message}"
    );
}

#[test]
fn bf16_products_train_too_and_evaluate_close_to_float32() {
    let world = demo_world();
    train(&world, &["--VERSION=v", "--MAX_EPOCH=1", "--AMP=bf16"]);
    let pred = |amp: &str| {
        world.succeed(&[
            "--RUN=test",
            "--CKPT_V=v",
            "--CKPT_E=1",
            "--SAVE_PRED",
            &format!("--AMP={amp}"),
        ]);
        let file = fs::File::open(world.path("results/pred/result_run_v_epoch1.npz")).unwrap();
        let mut npz = zip::ZipArchive::new(file).unwrap();
        let ids: Array1<i64> =
            ndarray_npy::ReadNpyExt::read_npy(npz.by_name("question_id.npy").unwrap()).unwrap();
        assert_eq!(ids.len(), 24);
        <Array2<f32> as ndarray_npy::ReadNpyExt>::read_npy(npz.by_name("pred.npy").unwrap())
            .unwrap()
    };
    let difference = (pred("off") - pred("bf16"))
        .iter()
        .fold(0f32, |most, d| most.max(d.abs()));
    if mcan::native::cpu_rounds_to_bf16() {
        assert!(difference > 0.0 && difference < 0.05, "{difference}");
    } else {
        eprintln!(
            "this processor has no bfloat16 instructions: float32 stands in for it, and is compared with itself"
        );
        assert_eq!(difference, 0.0);
    }
}
