//! From built-in defaults, a YAML file, `--SET` and flags to one validated [`Config`].
//!
//! Keys, defaults and meanings are those of the reference's `cfgs/base_cfgs.py` and `cfgs/path_cfgs.py`; keys of our
//! own say so. The rest of the program sees only the typed result and never asks where a value came from.

mod files;
mod keys;
pub mod paths;
mod resolve;

pub use keys::{
    Amp, BankDtype, DataConfig, ModelConfig, OnDevice, Preload, RunConfig, RunMode, ShuffleMode,
    TestSplit, TrainConfig, TrainSplit,
};
pub use resolve::Given;

use anyhow::{Result, bail, ensure};
use resolve::show;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Everything a run is told, resolved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Sizes of the network.
    #[serde(flatten)]
    pub model: ModelConfig,
    /// Where the data is and how it is read.
    #[serde(flatten)]
    pub data: DataConfig,
    /// Optimisation.
    #[serde(flatten)]
    pub train: TrainConfig,
    /// What this run does, on what, and where it writes.
    #[serde(flatten)]
    pub run: RunConfig,
}

impl Config {
    /// Questions that go through the network at once.
    pub fn sub_batch_size(&self) -> usize {
        self.train.batch_size / self.train.grad_accu_steps
    }

    /// The same in evaluation.
    pub fn eval_batch_size(&self) -> usize {
        (self.sub_batch_size() / 2).max(1)
    }

    /// Makes sure that each of `replicas` can take the same share of what goes through the network at once.
    ///
    /// # Errors
    /// Names the keys and values at fault.
    pub fn check_shares(&self, replicas: usize) -> Result<()> {
        let is_training = matches!(self.run.run_mode, RunMode::Train | RunMode::Demo);
        ensure!(
            !is_training || self.sub_batch_size().is_multiple_of(replicas),
            "BATCH_SIZE = {} / GRAD_ACCU_STEPS = {} cannot be shared evenly among {replicas} devices (--BS, --ACCU, --GPU)",
            self.train.batch_size,
            self.train.grad_accu_steps
        );
        Ok(())
    }

    /// Every message begins with the key at fault.
    fn validate(&self) -> Result<()> {
        self.model.validate()?;
        let train = &self.train;
        for (key, value) in [
            ("BATCH_SIZE", train.batch_size),
            ("GRAD_ACCU_STEPS", train.grad_accu_steps),
        ] {
            ensure!(value >= 1, "{key} = {value}: it must be at least 1");
        }
        const LONGEST_S: u64 = 1_000_000;
        let timeout = self.run.dist_timeout;
        ensure!(
            (1..=LONGEST_S).contains(&timeout),
            "DIST_TIMEOUT = {timeout}: it must be from 1 to {LONGEST_S} seconds"
        );
        ensure!(
            train.batch_size.is_multiple_of(train.grad_accu_steps),
            "BATCH_SIZE = {} is not divisible by GRAD_ACCU_STEPS = {} (--BS, --ACCU)",
            train.batch_size,
            train.grad_accu_steps
        );
        for (key, value) in [
            ("LR_BASE", train.lr_base),
            ("LR_DECAY_R", train.lr_decay_r),
            ("OPT_EPS", train.opt_eps),
        ] {
            ensure!(
                value.is_finite() && value > 0.0,
                "{key} = {value}: it must be positive"
            );
        }
        let (b1, b2) = train.opt_betas;
        ensure!(
            (0.0..1.0).contains(&b1) && (0.0..1.0).contains(&b2),
            "OPT_BETAS = [{b1}, {b2}]: both must be at least 0 and less than 1"
        );
        self.data.validate()?;
        for (key, name) in [
            ("VERSION", &self.run.version),
            ("CKPT_VERSION", &self.run.ckpt_version),
        ] {
            validate_folder_name(key, name.as_deref())?;
        }
        Ok(())
    }
}

impl ModelConfig {
    /// Width of the feed-forward networks.
    pub fn ff_size(&self) -> usize {
        self.hidden_size * 4
    }

    /// Width of one attention head.
    pub fn hidden_size_head(&self) -> usize {
        self.hidden_size / self.multi_head
    }

    /// Checks what the network needs to be built.
    ///
    /// # Errors
    /// Names the key and the value at fault.
    pub fn validate(&self) -> Result<()> {
        const LARGEST: usize = 1 << 20; // far beyond any network, and products of two stay far from overflow
        for (key, value) in [
            ("LAYER", self.layer),
            ("HIDDEN_SIZE", self.hidden_size),
            ("MULTI_HEAD", self.multi_head),
            ("FLAT_MLP_SIZE", self.flat_mlp_size),
            ("FLAT_GLIMPSES", self.flat_glimpses),
            ("FLAT_OUT_SIZE", self.flat_out_size),
            ("WORD_EMBED_SIZE", self.word_embed_size),
            ("IMG_FEAT_SIZE", self.img_feat_size),
        ] {
            ensure!(
                (1..=LARGEST).contains(&value),
                "{key} = {value}: it must be from 1 to {LARGEST}"
            );
        }
        ensure!(
            self.hidden_size.is_multiple_of(self.multi_head),
            "HIDDEN_SIZE = {} is not divisible by MULTI_HEAD = {}",
            self.hidden_size,
            self.multi_head
        );
        ensure!(
            (0.0..1.0).contains(&self.dropout_r),
            "DROPOUT_R = {}: it must be in [0, 1)",
            self.dropout_r
        );
        Ok(())
    }
}

impl DataConfig {
    /// Checks what the data is read by.
    ///
    /// # Errors
    /// Names the key and the value at fault.
    pub fn validate(&self) -> Result<()> {
        const MOST: usize = 1 << 16; // what pads a question or an image is held in memory
        for (key, value) in [
            ("MAX_TOKEN", self.max_token),
            ("IMG_FEAT_PAD_SIZE", self.img_feat_pad_size),
        ] {
            ensure!(
                (1..=MOST).contains(&value),
                "{key} = {value}: it must be from 1 to {MOST}"
            );
        }
        const SPLITS: [&str; 5] = ["train", "val", "test", "test-dev", "vg"];
        for (key, paths) in [
            ("QUESTION_PATH", &self.question_path),
            ("ANSWER_PATH", &self.answer_path),
            ("IMG_FEAT_PATH", &self.img_feat_path),
        ] {
            if let Some(split) = paths.keys().find(|split| !SPLITS.contains(&split.as_str())) {
                bail!(
                    "{key}: there is no split {split:?}, only {}",
                    SPLITS.join(", ")
                );
            }
        }
        Ok(())
    }
}

/// `VERSION` and `CKPT_VERSION` become folder names; one that leaves its folder is refused.
fn validate_folder_name(key: &str, name: Option<&str>) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    let leads_out = |c: char| c.is_control() || "/\\".contains(c);
    let bad = name.is_empty() || name == "." || name.contains("..") || name.contains(leads_out);
    ensure!(
        !bad,
        "{key} = {name:?} names a folder: it may not be empty or contain '/', '\\', '..' or line breaks"
    );
    Ok(())
}

impl fmt::Display for Config {
    /// One line per key, sorted, as the reference prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(Value::Object(values)) = serde_json::to_value(self) else {
            return Err(fmt::Error);
        };
        let mut lines: BTreeMap<&str, String> =
            values.iter().map(|(k, v)| (k.as_str(), show(v))).collect();
        lines.insert("SUB_BATCH_SIZE", self.sub_batch_size().to_string());
        lines.insert("EVAL_BATCH_SIZE", self.eval_batch_size().to_string());
        lines.insert("FF_SIZE", self.model.ff_size().to_string());
        lines.insert(
            "HIDDEN_SIZE_HEAD",
            self.model.hidden_size_head().to_string(),
        );
        lines
            .iter()
            .try_for_each(|(key, value)| writeln!(f, "{{ {key:<17} }}-> {value}"))
    }
}
