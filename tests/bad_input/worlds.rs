//! Sound made-up worlds of further data sets, each with a small model and a checkpoint of it.

use crate::common::World;
use mcan::datasets::demo::{self, DemoOptions};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

/// The flags that lead to the world of GQA and to its small model.
pub const GQA: [&str; 4] = [
    "--DATASET=gqa",
    "--CFG=WORLD/model.yml",
    "--DATA_PATH=WORLD/datasets/gqa",
    "--FEAT_PATH=WORLD/datasets/gqa_extract",
];

/// The same for CLEVR.
pub const CLEVR: [&str; 4] = [
    "--DATASET=clevr",
    "--CFG=WORLD/model.yml",
    "--DATA_PATH=WORLD/datasets/clevr",
    "--FEAT_PATH=WORLD/datasets/clevr_extract",
];

/// The same for VQA-v2 and another model than that of the reference.
pub const VQA: [&str; 1] = ["--CFG=WORLD/model.yml"];

/// What every small model has.
const SMALL: &str = "HIDDEN_SIZE: 16\nBATCH_SIZE: 16\nNUM_WORKERS: 1\nSEED: 3\nDROPOUT_R: 0\n";

/// A small MCAN of GQA, with boxes and grid, and one of CLEVR.
pub const MCAN: &str = "MODEL_USE: mcan\nFEAT_SIZE: {gqa: {FRCN_FEAT_SIZE: [100, 2048], GRID_FEAT_SIZE: [16, 1024]}, \
                        clevr: {GRID_FEAT_SIZE: [16, 1024]}}\nLAYER: 1\nFF_SIZE: 32\nMULTI_HEAD: 2\nFLAT_MLP_SIZE: 16\n\
                        BBOXFEAT_EMB_SIZE: 8\n";

/// The lines that let MCAN read boxes and the grid beside regions.
pub const BOXES_AND_GRID: &str = "USE_BBOX_FEAT: true\nUSE_AUX_FEAT: true\n";

/// The files of a trained model: its checkpoint, and the words and answers of GQA.
type Trained = BTreeMap<&'static str, Vec<u8>>;

/// A sound world of `dataset` with the model `model` in `model.yml`, and `sound.pkl`, a checkpoint of it. `flags` lead there.
pub fn world_of(dataset: &'static str, flags: &[&str], model: &str) -> World {
    static TRAINED: Mutex<BTreeMap<(&str, String), Trained>> = Mutex::new(BTreeMap::new());
    let world = untrained(dataset, model);
    let mut known = TRAINED.lock().unwrap_or_else(|broken| broken.into_inner());
    let trained = known
        .entry((dataset, model.to_owned()))
        .or_insert_with(|| train(&world, flags));
    for (file, content) in trained {
        fs::write(world.root.join(file), content).unwrap();
    }
    world
}

/// A sound world of `dataset` with the model `model` in `model.yml`.
pub fn untrained(dataset: &str, model: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("world");
    let options = DemoOptions {
        train_images: 6,
        val_images: 3,
        test_images: 2,
        ..DemoOptions::default()
    };
    demo::write(&root.join("datasets"), dataset, &options).unwrap();
    fs::write(root.join("model.yml"), format!("{SMALL}{model}")).unwrap();
    World { root, folder }
}

fn train(world: &World, flags: &[&str]) -> Trained {
    let place = |flag: &&str| flag.replace("WORLD", world.root.to_str().unwrap());
    let mut line: Vec<String> = flags.iter().map(place).collect();
    line.extend(
        [
            "--RUN=train",
            "--EVAL_EE=False",
            "--MAX_EPOCH=1",
            "--VERSION=sound",
        ]
        .map(str::to_owned),
    );
    world.succeed(&line.iter().map(String::as_str).collect::<Vec<_>>());
    let read = |path: &Path| fs::read(path).ok();
    let files = [
        ("sound.pkl", world.path("ckpts/ckpt_sound/epoch1.pkl")),
        (
            "datasets/gqa/dicts.json",
            world.root.join("datasets/gqa/dicts.json"),
        ),
    ];
    let trained = files
        .into_iter()
        .filter_map(|(name, path)| Some((name, read(&path)?)));
    let trained = trained.collect();
    fs::remove_dir_all(world.path("ckpts")).unwrap();
    fs::remove_dir_all(world.path("results")).unwrap();
    trained
}
