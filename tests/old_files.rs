//! Files that an older version wrote still work: a checkpoint, its configuration, a configuration file, a bank.

mod common;

use common::{demo_world, losses};
use mcan::formats::bank::{Array, Bank};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn old(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/old")
        .join(name)
}

/// The world that the checkpoint was trained on, with its configuration file and the checkpoint.
fn world() -> common::World {
    let world = demo_world();
    fs::copy(old("model.yml"), world.root.join("small_model.yml")).unwrap();
    let folder = world.path("ckpts/ckpt_old");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(old("epoch30.pkl"), folder.join("epoch30.pkl")).unwrap();
    world
}

#[test]
fn an_old_checkpoint_answers_as_it_did() {
    let world = world();
    // The sizes come from the checkpoint.
    let printed = world.succeed(&[
        "--RUN=val",
        "--CKPT_V=old",
        "--CKPT_E=30",
        "--SET=HIDDEN_SIZE=8",
    ]);
    assert!(printed.contains("Overall Accuracy is: 21.46"), "{printed}");
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    assert_eq!(
        read(world.path("results/cache/result_run_old.json")),
        read(old("result_run_old.json"))
    );
}

#[test]
fn an_old_checkpoint_goes_on_as_it_would_have_done() {
    let world = world();
    world.succeed(&[
        "--RUN=train",
        "--SPLIT=train",
        "--VERSION=new",
        "--RESUME",
        "--CKPT_V=old",
        "--CKPT_E=30",
        "--SET=MAX_EPOCH=31",
        "--SET=LR_DECAY_LIST=[25]",
    ]);
    let log = world.read("results/log/log_run_new.txt");
    let loss = losses(&log)[0];
    assert!((loss / 3.0019333 - 1.0).abs() < 1e-5, "{log}");
    assert!(
        log.contains("epoch = 31") && log.contains("lr = 0.002\n"),
        "{log}"
    );
}

#[test]
fn an_old_bank_is_read() {
    let bank = Bank::open(&old("train2014.safetensors"), Array::Regions, 8).unwrap();
    let ids: Vec<String> = bank.keys().iter().map(|key| format!("{key:?}")).collect();
    assert_eq!(ids, ["Number(9)", "Number(25)"]);
    let mut values = Vec::new();
    bank.append_f32(1, 100, &mut values).unwrap();
    let expected =
        (0..2).flat_map(|row| (0..8).map(move |column| (25 + 2 * column + row) as f32 / 8.0));
    assert!(values.into_iter().eq(expected));
    let boxes = bank.boxes(1, 100).unwrap().unwrap();
    assert_eq!(boxes, [0., 1., 102., 103., 4., 5., 106., 107.]);
}
