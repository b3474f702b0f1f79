//! `--RUN=demo`: makes a small data set, trains on it, evaluates val and answers test.

use super::plan::{Plan, ckpt_folder, draw_seed, log_of};
use super::preflight::Preflight;
use super::{test as test_run, train, val};
use crate::base::files::exists;
use crate::base::lock::Lock;
use crate::config::{Config, RunMode};
use crate::data::features::bank_path;
use crate::datasets::demo::{self, DemoOptions, DemoSet};
use crate::models::SCHEMA;
use crate::say;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::Path;

/// Folder of the data sets.
const ROOT: &str = "datasets/demo";
/// `VERSION` of the demo's runs.
const VERSION: &str = "demo";

/// Makes the data set, trains on it, evaluates val, answers test, and prints where everything is.
///
/// # Errors
/// A data set without a demo, and the errors of its runs.
pub(super) fn run(config: &Config) -> Result<()> {
    let dataset = &config.data.dataset;
    let set = demo::find(dataset)?;
    let seed = config.run.seed.unwrap_or_else(draw_seed);
    let stage = |mode| stage(config, set, seed, mode);
    // What is wrong with the options is said before anything of an earlier demo is replaced.
    let (training, evaluation) = (stage(RunMode::Train)?, stage(RunMode::Val)?);
    let test = stage(RunMode::Test)?;
    for stage in [&training, &evaluation, &test] {
        Preflight::new(&Plan::new(stage, seed, None)?).check_outputs()?;
    }
    // A second demo would replace the data set and the checkpoints of this one.
    let instead = "start the demo in another folder";
    let lock = Lock::take(&ckpt_folder(config, VERSION), instead)?;
    let root = Path::new(ROOT);
    let _world = Lock::take(root, instead)?;
    remove_banks(set, &root.join(set.features))?;
    let report = demo::write(
        root,
        dataset,
        &DemoOptions {
            seed,
            ..DemoOptions::default()
        },
    )?;
    say!(
        "Made {} images with {} questions to train on, {} of val and {} of test in {ROOT}/",
        report.images,
        report.train_questions,
        report.val_questions,
        report.test_questions
    );
    train::run(&training, Some(&lock))?;
    val::run(&evaluation)?;
    test_run::run(&test)?;
    say!(
        "The demo is done. Data: {ROOT}/   checkpoints: {}   log: {}",
        ckpt_folder(config, VERSION).display(),
        log_of(config, VERSION).display()
    );
    Ok(())
}

/// The configuration of one stage of the demo: the values that the user gives, replaced by those of the stage.
fn stage(config: &Config, set: &DemoSet, seed: u64, mode: RunMode) -> Result<Config> {
    let mut given = config.run.given.clone();
    let mut values = vec![
        ("RUN_MODE", json!(mode)),
        ("TRAIN_SPLIT", json!("train")),
        ("DATASET_PATH", json!(format!("{ROOT}/{}", set.questions))),
        ("FEATURE_PATH", json!(format!("{ROOT}/{}", set.features))),
        ("MODEL", json!(config.run.model)),
        ("OVERWRITE", json!(true)),
        ("SEED", json!(seed)),
        ("VERSION", json!(VERSION)),
    ];
    if mode != RunMode::Train {
        values.push(("CKPT_VERSION", json!(VERSION)));
        values.push(("CKPT_EPOCH", json!(config.train.max_epoch)));
    }
    for (key, value) in values {
        given.set_flag(key, value);
    }
    Config::resolve(&given, &SCHEMA)
}

/// Removes banks of an earlier demo, which would be read instead of the new features.
fn remove_banks(set: &DemoSet, features: &Path) -> Result<()> {
    for folder in set.feature_folders {
        let bank = bank_path(&features.join(folder));
        if exists(&bank)? {
            std::fs::remove_file(&bank)
                .with_context(|| format!("cannot remove {}", bank.display()))?;
        }
    }
    Ok(())
}
