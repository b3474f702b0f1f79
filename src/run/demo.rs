//! `--RUN=demo`: trains, evaluates val and answers test on a small made-up world.

use super::plan::{ckpt_folder, draw_seed, log_of};
use super::{test, train, val};
use crate::base::lock::Lock;
use crate::config::Config;
use crate::config::RunMode;
use crate::data::features::bank_path;
use crate::datasets::demo::{self, DemoOptions};
use anyhow::{Context, Result};
use std::path::Path;

/// Folder of the made-up world.
const ROOT: &str = "datasets/demo";
/// Version of its checkpoints.
const VERSION: &str = "demo";

/// Makes the world, trains on it, evaluates val, answers test, and prints where everything is.
///
/// # Errors
/// The errors of its runs.
pub(super) fn run(said: &Config) -> Result<()> {
    // The lock keeps the world of a demo that is still training.
    drop(Lock::take(&ckpt_folder(said, VERSION))?);
    let root = Path::new(ROOT);
    remove_banks(&root.join("coco_extract"))?;
    let seed = said.run.seed.unwrap_or_else(draw_seed);
    let report = demo::write(
        root,
        &DemoOptions {
            seed,
            ..DemoOptions::default()
        },
    )?;
    println!(
        "Made {} images with {} questions to train on, {} of val and {} of test in {ROOT}/",
        report.images, report.train_questions, report.val_questions, report.test_questions
    );
    let stage = |mode| stage(said, seed, mode);
    train::run(&stage(RunMode::Train))?;
    val::run(&stage(RunMode::Val))?;
    test::run(&stage(RunMode::Test))?;
    println!(
        "The demo is done. Data: {ROOT}/   checkpoints: {}   log: {}",
        ckpt_folder(said, VERSION).display(),
        log_of(said, VERSION).display()
    );
    Ok(())
}

/// The configuration of one stage of the demo: `said`, on the made-up world.
fn stage(said: &Config, seed: u64, mode: RunMode) -> Config {
    let mut config = said.clone();
    let root = Path::new(ROOT);
    config.data.dataset_path = root.join("vqa");
    config.data.feature_path = root.join("coco_extract");
    config.data.train_split = "train".into();
    config.train.overwrite = true;
    config.run.run_mode = mode;
    config.run.seed = Some(seed);
    config.run.version = Some(VERSION.into());
    config.run.ckpt_version = Some(VERSION.into());
    config.run.ckpt_epoch = config.train.max_epoch;
    config.run.flags = training_flags(&config);
    config
}

/// Removes banks of an earlier world, which would be read instead of the new features.
fn remove_banks(features: &Path) -> Result<()> {
    for split in demo::FOLDERS {
        let bank = bank_path(&features.join(split));
        if bank.exists() {
            std::fs::remove_file(&bank)
                .with_context(|| format!("cannot remove {}", bank.display()))?;
        }
    }
    Ok(())
}

/// The flags that continue the training of a demo that was stopped, without the other stages.
fn training_flags(config: &Config) -> Vec<String> {
    let mut as_trained = config.clone();
    as_trained.run.run_mode = RunMode::Train;
    let fixed: Vec<String> = [
        "RUN_MODE",
        "TRAIN_SPLIT",
        "DATASET_PATH",
        "FEATURE_PATH",
        "MODEL",
    ]
    .into_iter()
    .filter_map(|key| as_trained.as_flag(key))
    .collect();
    let name = |flag: &String| flag.split('=').next().map(str::to_owned);
    let given = config
        .run
        .flags
        .iter()
        .filter(|flag| !fixed.iter().any(|other| name(other) == name(flag)));
    given.chain(&fixed).cloned().collect()
}
