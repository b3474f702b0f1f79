//! The checks of values that have the right types.

use super::error::{ConfigError, require};
use super::{Config, DataConfig, RunConfig, RunMode, TrainConfig};
use crate::datasets::files::{test, training};
use crate::datasets::{Benchmark, benchmark as benchmark_of, check_not_described};

impl Config {
    /// Checks all keys except those of the model, which its family checks.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.data.validate()?;
        self.check_splits()?;
        self.train.validate()?;
        let trains = matches!(self.run.run_mode, RunMode::Train | RunMode::Demo);
        require(!trains || self.train.max_epoch >= 1, "MAX_EPOCH", || {
            "MAX_EPOCH = 0: there is nothing to train; it must be at least 1".into()
        })?;
        self.run.validate()
    }

    /// Checks the splits that were chosen or are used. The defaults are those of VQA-v2, and another data set that does
    /// not use them need not have them.
    fn check_splits(&self) -> Result<(), ConfigError> {
        let (data, usual, mode) = (&self.data, DataConfig::default(), self.run.run_mode);
        let benchmark = data.known_benchmark()?;
        let wrong = |key: &str, error: anyhow::Error| ConfigError::new(key, format!("{error:#}"));
        check_not_described(benchmark.name()).map_err(|error| wrong("DATASET", error))?;
        for name in data.feat_size.0.keys() {
            benchmark_of(name).map_err(|error| wrong("FEAT_SIZE", error.context("FEAT_SIZE")))?;
        }
        let accuracy = data.accuracy;
        require(
            benchmark.measures().contains(&accuracy.into()),
            "ACCURACY",
            || {
                format!(
                    "ACCURACY = {}: {} has only the official one",
                    accuracy.word(),
                    benchmark.name()
                )
            },
        )?;
        self.loss().map_err(|error| wrong("LOSS_FUNC", error))?;
        if mode == RunMode::Train || data.train_split != usual.train_split {
            training(benchmark, &data.train_split).map_err(|error| wrong("TRAIN_SPLIT", error))?;
        }
        if mode == RunMode::Test || data.test_split != usual.test_split {
            test(benchmark, &data.test_split).map_err(|error| wrong("TEST_SPLIT", error))?;
        }
        Ok(())
    }
}

impl TrainConfig {
    /// Checks the keys of training.
    ///
    /// # Errors
    /// Names the key and the value.
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("BATCH_SIZE", self.batch_size),
            ("GRAD_ACCU_STEPS", self.grad_accu_steps),
        ] {
            require(value >= 1, key, || {
                format!("{key} = {value}: it must be at least 1")
            })?;
        }
        let (batch, parts) = (self.batch_size, self.grad_accu_steps);
        require(batch.is_multiple_of(parts), "BATCH_SIZE", || {
            format!(
                "BATCH_SIZE = {batch} is not divisible by GRAD_ACCU_STEPS = {parts} (--BS, --ACCU)"
            )
        })?;
        for (key, value) in [
            ("LR_BASE", self.lr_base),
            ("LR_DECAY_R", self.lr_decay_r),
            ("OPT_EPS", self.opt_eps),
        ] {
            require(value.is_finite() && value > 0.0, key, || {
                format!("{key} = {value}: it must be positive")
            })?;
        }
        const LONGEST_WARM_UP: u64 = 1_000_000;
        let warm_up = self.warmup_epoch;
        require(warm_up <= LONGEST_WARM_UP, "WARMUP_EPOCH", || {
            format!("WARMUP_EPOCH = {warm_up}: it must be at most {LONGEST_WARM_UP}")
        })?;
        let (b1, b2) = self.opt_betas;
        let is_rate = |b: f64| (0.0..1.0).contains(&b);
        require(is_rate(b1) && is_rate(b2), "OPT_BETAS", || {
            format!("OPT_BETAS = [{b1}, {b2}]: both must be at least 0 and less than 1")
        })
    }
}

impl DataConfig {
    /// Checks the keys of the data: the data set, sizes, and splits of files in other places.
    ///
    /// # Errors
    /// Names the key and the value.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // The attention of a padded question or image takes the square of this.
        const MOST: usize = 1 << 13;
        for (key, value) in [
            ("MAX_TOKEN", self.max_token),
            ("IMG_FEAT_PAD_SIZE", self.img_feat_pad_size),
        ] {
            require((1..=MOST).contains(&value), key, || {
                format!("{key} = {value}: it must be from 1 to {MOST}")
            })?;
        }
        let splits = self.known_benchmark()?.splits().iter();
        let splits: Vec<&str> = splits.map(|split| split.name).collect();
        for (key, paths) in [
            ("QUESTION_PATH", &self.question_path),
            ("ANSWER_PATH", &self.answer_path),
            ("IMG_FEAT_PATH", &self.img_feat_path),
        ] {
            if let Some(split) = paths.keys().find(|split| !splits.contains(&split.as_str())) {
                let known = splits.join(", ");
                let message = format!("{key}: there is no split {split:?}, only {known}");
                return Err(ConfigError::new(key, message));
            }
        }
        Ok(())
    }

    fn known_benchmark(&self) -> Result<&'static dyn Benchmark, ConfigError> {
        let found = self.benchmark();
        found.map_err(|error| ConfigError::new("DATASET", format!("{error:#}")))
    }
}

impl RunConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        const LONGEST_S: u64 = 1_000_000;
        let timeout = self.dist_timeout;
        require((1..=LONGEST_S).contains(&timeout), "DIST_TIMEOUT", || {
            format!("DIST_TIMEOUT = {timeout}: it must be from 1 to {LONGEST_S} seconds")
        })?;
        for (key, name) in [
            ("VERSION", &self.version),
            ("CKPT_VERSION", &self.ckpt_version),
        ] {
            if let Some(name) = name {
                check_folder_name(key, name)?;
            }
        }
        Ok(())
    }
}

/// Checks that `name` is the name of a folder that does not lead out of the folder above it.
pub(super) fn check_folder_name(key: &str, name: &str) -> Result<(), ConfigError> {
    let leads_out = |c: char| c.is_control() || "/\\".contains(c);
    let bad = name.is_empty() || name == "." || name.contains("..") || name.contains(leads_out);
    require(!bad, key, || {
        format!(
            "{key} = {name:?} names a folder: it may not be empty or contain '/', '\\', '..' or line breaks"
        )
    })
}
