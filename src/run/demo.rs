//! `--RUN=demo`: from nothing to a trained model, its val accuracy and a test file, on a small made-up world.

use super::{test, train, val};
use crate::base::lock::Lock;
use crate::config::Config;
use crate::config::{RunMode, TrainSplit};
use crate::data::Split;
use crate::data::features::{bank_path, folder};
use crate::datasets::demo::{self, DemoOptions};
use anyhow::{Context, Result};
use std::path::Path;

/// Folder of the made-up world.
const ROOT: &str = "datasets/demo";
/// Version of its checkpoints.
const VERSION: &str = "demo";

/// Makes the world, trains on it, evaluates val, answers test, and says where everything is.
///
/// # Errors
/// As the runs that it is made of.
pub fn run(mut config: Config) -> Result<()> {
    config.run.version = Some(VERSION.into());
    // Before the world of a demo that is still being trained on is replaced.
    drop(Lock::take(&config.ckpt_folder())?);
    let root = Path::new(ROOT);
    remove_banks(&root.join("coco_extract"))?;
    let report = demo::write(
        root,
        &DemoOptions {
            seed: config.seed(),
            ..DemoOptions::default()
        },
    )?;
    println!(
        "Made {} images with {} questions to train on, {} of val and {} of test in {ROOT}/",
        report.images, report.train_questions, report.val_questions, report.test_questions
    );
    config.data.dataset_path = root.join("vqa");
    config.data.feature_path = root.join("coco_extract");
    config.data.train_split = TrainSplit::Train;
    config.train.overwrite = true;
    config.run.ckpt_version = Some(VERSION.into());
    config.run.ckpt_epoch = config.train.max_epoch;
    config.run.flags = training_flags(&config);
    train::run(as_mode(&config, RunMode::Train))?;
    val(as_mode(&config, RunMode::Val))?;
    test(as_mode(&config, RunMode::Test))?;
    println!(
        "The demo is done. Data: {ROOT}/   checkpoints: {}   log: {}",
        config.ckpt_folder().display(),
        config.log_of(VERSION).display()
    );
    Ok(())
}

/// A bank packed from an earlier world would be read in place of the new features.
fn remove_banks(features: &Path) -> Result<()> {
    for split in [Split::Train, Split::Val, Split::Test] {
        let bank = bank_path(&folder(features, split));
        if bank.exists() {
            std::fs::remove_file(&bank)
                .with_context(|| format!("cannot remove {}", bank.display()))?;
        }
    }
    Ok(())
}

/// What continues the demo's training by itself, should it be stopped.
fn training_flags(config: &Config) -> Vec<String> {
    let config_as_trained = as_mode(config, RunMode::Train);
    let fixed: Vec<String> = [
        "RUN_MODE",
        "TRAIN_SPLIT",
        "DATASET_PATH",
        "FEATURE_PATH",
        "MODEL",
    ]
    .into_iter()
    .filter_map(|key| config_as_trained.as_flag(key))
    .collect();
    let name = |flag: &String| flag.split('=').next().map(str::to_owned);
    let given = config
        .run
        .flags
        .iter()
        .filter(|flag| !fixed.iter().any(|other| name(other) == name(flag)));
    given.chain(&fixed).cloned().collect()
}

fn as_mode(config: &Config, mode: RunMode) -> Config {
    let mut config = config.clone();
    config.run.run_mode = mode;
    config
}
