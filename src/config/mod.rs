//! From built-in defaults, a YAML file, `--SET` and flags to one validated [`Config`].
//!
//! Keys, defaults and meanings are those of the reference's `cfgs/base_cfgs.py` and `cfgs/path_cfgs.py`; keys of our
//! own say so. The rest of the program sees only the typed result and never asks where a value came from.

mod layers;
#[cfg(test)]
mod tests;

use crate::cli::{Amp, RunMode, TestSplit, TrainSplit};
use anyhow::{Result, bail, ensure};
use layers::show;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

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

/// Sizes of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct ModelConfig {
    /// Layers of the encoder and of the decoder.
    pub layer: usize,
    /// Width of every layer.
    pub hidden_size: usize,
    /// Attention heads.
    pub multi_head: usize,
    /// Probability that dropout zeroes a value.
    pub dropout_r: f64,
    /// Hidden width of the pooling MLPs.
    pub flat_mlp_size: usize,
    /// Attention distributions per pooling.
    pub flat_glimpses: usize,
    /// Width of a pooled sequence.
    pub flat_out_size: usize,
    /// Width of a word vector.
    pub word_embed_size: usize,
    /// Width of a region's feature.
    pub img_feat_size: usize,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            layer: 6,
            hidden_size: 512,
            multi_head: 8,
            dropout_r: 0.1,
            flat_mlp_size: 512,
            flat_glimpses: 1,
            flat_out_size: 1024,
            word_embed_size: 300,
            img_feat_size: 2048,
        }
    }
}

/// Where the data is and how it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct DataConfig {
    /// Folder of questions, annotations and answer dictionary.
    pub dataset_path: PathBuf,
    /// Folder of the image features.
    pub feature_path: PathBuf,
    /// Question files that lie elsewhere, by split (train, val, test, test-dev, vg).
    pub question_path: BTreeMap<String, PathBuf>,
    /// Annotation files that lie elsewhere, by split (train, val, vg).
    pub answer_path: BTreeMap<String, PathBuf>,
    /// Feature folders that lie elsewhere, by split (train, val, test).
    pub img_feat_path: BTreeMap<String, PathBuf>,
    /// Start the word embedding from GloVe vectors.
    pub use_glove: bool,
    /// Ours: where those vectors are; searched for when absent.
    pub glove_path: Option<PathBuf>,
    /// Words of a question that are used.
    pub max_token: usize,
    /// Regions of an image that are used.
    pub img_feat_pad_size: usize,
    /// Question files to train on.
    pub train_split: TrainSplit,
    /// Ours: test questions to answer.
    pub test_split: TestSplit,
    /// Hold the features in memory; ours: or on the device.
    pub preload: Preload,
    /// Threads that read features.
    pub num_workers: usize,
    /// Page-lock batches bound for a GPU.
    pub pin_mem: bool,
    /// Order of the training questions.
    pub shuffle_mode: ShuffleMode,
    /// Ours: number format of a packed bank.
    pub bank_dtype: BankDtype,
    /// Ours: leave damaged images out of a bank instead of stopping.
    pub pack_skip_bad: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            dataset_path: "./datasets/vqa/".into(),
            feature_path: "./datasets/coco_extract/".into(),
            question_path: BTreeMap::new(),
            answer_path: BTreeMap::new(),
            img_feat_path: BTreeMap::new(),
            use_glove: true,
            glove_path: None,
            max_token: 14,
            img_feat_pad_size: 100,
            train_split: TrainSplit::TrainValVg,
            test_split: TestSplit::Test,
            preload: Preload::InMemory(false),
            num_workers: 8,
            pin_mem: true,
            shuffle_mode: ShuffleMode::External,
            bank_dtype: BankDtype::F16,
            pack_skip_bad: false,
        }
    }
}

/// Where the features of a run are held, written `false`, `true` or `gpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "True, False or gpu")]
pub enum Preload {
    /// In the memory of the machine, or else nowhere: they are read for each batch.
    InMemory(bool),
    /// Ours: on the device.
    OnDevice(OnDevice),
}

/// The word for "on the device", whichever that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDevice {
    /// In half precision.
    Gpu,
}

/// Order of the training questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShuffleMode {
    /// A new random order each epoch.
    External,
    /// The same; the reference lets PyTorch's loader draw it.
    Internal,
    /// Ours: file order.
    None,
}

/// Number format of a packed bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BankDtype {
    /// Half precision: half the size.
    F16,
    /// Single precision: the exact values.
    F32,
}

/// Optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct TrainConfig {
    /// Questions per optimizer step.
    pub batch_size: usize,
    /// Parts that a batch is split into, their gradients accumulated.
    pub grad_accu_steps: usize,
    /// Learning rate after warm-up.
    pub lr_base: f64,
    /// Factor of the learning rate at each decay.
    pub lr_decay_r: f64,
    /// Epoch indices (from 0) at whose beginning it decays.
    pub lr_decay_list: Vec<u64>,
    /// Last epoch.
    pub max_epoch: u64,
    /// Largest norm of the whole gradient; not positive: unlimited.
    pub grad_norm_clip: f64,
    /// Adam's decay rates of the two moments.
    pub opt_betas: (f64, f64),
    /// Adam's denominator offset.
    pub opt_eps: f64,
    /// Evaluate val after each epoch of a run on the train split.
    pub eval_every_epoch: bool,
    /// Continue from a checkpoint.
    pub resume: bool,
    /// Ours: arithmetic of the matrix products.
    pub amp: Amp,
    /// Ours: let a GPU round the factors of float32 matrix products to TF32's 10 bits.
    #[serde(default = "yes")]
    pub tf32: bool,
    /// Ours: let a new run replace an old one of the same version.
    pub overwrite: bool,
    /// Ours: optimizer steps after which `last.pkl` is written anew; 0: only when the run is stopped.
    #[serde(default)]
    pub save_steps: u64,
}

/// For keys that the configurations in older checkpoints lack.
fn yes() -> bool {
    true
}

fn five_minutes() -> u64 {
    300
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            batch_size: 64,
            grad_accu_steps: 1,
            lr_base: 0.0001,
            lr_decay_r: 0.2,
            lr_decay_list: vec![10, 12],
            max_epoch: 13,
            grad_norm_clip: -1.0,
            opt_betas: (0.9, 0.98),
            opt_eps: 1e-9,
            eval_every_epoch: true,
            resume: false,
            amp: Amp::Off,
            tf32: true,
            overwrite: false,
            save_steps: 0,
        }
    }
}

/// What this run does, on what, and where it writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct RunConfig {
    /// What to do.
    pub run_mode: RunMode,
    /// Name of the model.
    pub model: String,
    /// Devices as typed; absent: GPU 0 if there is one, else the CPU.
    pub gpu: Option<String>,
    /// Seed of everything random; drawn when absent, and then set.
    pub seed: Option<u64>,
    /// Name of this run; the seed when absent, and then set.
    pub version: Option<String>,
    /// Version of the checkpoint to load; `VERSION` when absent, and then set.
    pub ckpt_version: Option<String>,
    /// Epoch of the checkpoint to load.
    pub ckpt_epoch: u64,
    /// Checkpoint to load, instead of version and epoch.
    pub ckpt_path: Option<PathBuf>,
    /// Show the loss of each step.
    pub verbose: bool,
    /// Ours: print where the time of the steps went.
    pub profile: bool,
    /// Also write the probabilities of the test answers.
    pub test_save_pred: bool,
    /// Ours: seconds after which replicas of this run that do not answer are taken for lost.
    #[serde(default = "five_minutes")]
    pub dist_timeout: u64,
    /// Folder of the answer files of test runs.
    pub result_path: PathBuf,
    /// Folder of the probabilities.
    pub pred_path: PathBuf,
    /// Folder of the answer files of val runs.
    pub cache_path: PathBuf,
    /// Folder of the logs.
    pub log_path: PathBuf,
    /// Folder of the checkpoints.
    pub ckpts_path: PathBuf,
    /// Ours: answer file to score.
    pub result_file: Option<PathBuf>,
    /// Ours: questions to score against; those of val when absent.
    pub questions: Option<PathBuf>,
    /// Ours: annotations to score against; those of val when absent.
    pub annotations: Option<PathBuf>,
    /// Whether the seed was drawn, so that a resumed run takes that of its checkpoint.
    #[serde(skip)]
    pub seed_is_drawn: bool,
    /// Whether the version was named after the seed.
    #[serde(skip)]
    pub version_is_seed: bool,
    /// The flags as given, spelled out.
    #[serde(skip)]
    pub flags: Vec<String>,
}

impl Default for RunConfig {
    fn default() -> Self {
        RunConfig {
            run_mode: RunMode::Train,
            model: "small".into(),
            gpu: None,
            seed: None,
            version: None,
            ckpt_version: None,
            ckpt_epoch: 0,
            ckpt_path: None,
            verbose: true,
            profile: false,
            test_save_pred: false,
            dist_timeout: five_minutes(),
            result_path: "./results/result_test/".into(),
            pred_path: "./results/pred/".into(),
            cache_path: "./results/cache/".into(),
            log_path: "./results/log/".into(),
            ckpts_path: "./ckpts/".into(),
            result_file: None,
            questions: None,
            annotations: None,
            seed_is_drawn: false,
            version_is_seed: false,
            flags: Vec::new(),
        }
    }
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

    /// Seed of everything random. (Set by [`Config::resolve`].)
    pub fn seed(&self) -> u64 {
        self.run.seed.unwrap_or(0)
    }

    /// Name of this run. (Set by [`Config::resolve`].)
    pub fn version(&self) -> &str {
        self.run.version.as_deref().unwrap_or("0")
    }

    /// Version of the checkpoint to load. (Set by [`Config::resolve`].)
    pub fn ckpt_version(&self) -> &str {
        self.run.ckpt_version.as_deref().unwrap_or(self.version())
    }

    /// Takes the seed of the run that is continued, unless another one was asked for.
    pub fn continue_with_seed(&mut self, seed: u64) {
        if self.run.seed_is_drawn {
            self.run.seed = Some(seed);
        }
        if self.run.version_is_seed {
            self.run.version = Some(self.seed().to_string());
        }
    }

    fn fill_in(&mut self) {
        self.run.seed_is_drawn = self.run.seed.is_none();
        self.run.version_is_seed = self.run.version.is_none();
        let seed = *self.run.seed.get_or_insert_with(|| rand::random_range(0..100_000_000));
        let version = self.run.version.get_or_insert_with(|| seed.to_string()).clone();
        self.run.ckpt_version.get_or_insert(version);
    }

    /// Every message begins with the key at fault.
    fn validate(&self) -> Result<()> {
        self.model.validate()?;
        let train = &self.train;
        for (key, value) in [
            ("BATCH_SIZE", train.batch_size),
            ("GRAD_ACCU_STEPS", train.grad_accu_steps),
            ("DIST_TIMEOUT", self.run.dist_timeout as usize),
        ] {
            ensure!(value >= 1, "{key} = {value}: it must be at least 1");
        }
        ensure!(
            train.batch_size.is_multiple_of(train.grad_accu_steps),
            "BATCH_SIZE = {} is not divisible by GRAD_ACCU_STEPS = {} (--BS, --ACCU)",
            train.batch_size,
            train.grad_accu_steps
        );
        for (key, value) in [("LR_BASE", train.lr_base), ("LR_DECAY_R", train.lr_decay_r), ("OPT_EPS", train.opt_eps)] {
            ensure!(value.is_finite() && value > 0.0, "{key} = {value}: it must be positive");
        }
        let (b1, b2) = train.opt_betas;
        ensure!(
            (0.0..1.0).contains(&b1) && (0.0..1.0).contains(&b2),
            "OPT_BETAS = [{b1}, {b2}]: both must be at least 0 and less than 1"
        );
        self.data.validate()?;
        for (key, name) in [("VERSION", &self.run.version), ("CKPT_VERSION", &self.run.ckpt_version)] {
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
            ensure!((1..=LARGEST).contains(&value), "{key} = {value}: it must be from 1 to {LARGEST}");
        }
        ensure!(
            self.hidden_size.is_multiple_of(self.multi_head),
            "HIDDEN_SIZE = {} is not divisible by MULTI_HEAD = {}",
            self.hidden_size,
            self.multi_head
        );
        ensure!((0.0..1.0).contains(&self.dropout_r), "DROPOUT_R = {}: it must be in [0, 1)", self.dropout_r);
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
        for (key, value) in [("MAX_TOKEN", self.max_token), ("IMG_FEAT_PAD_SIZE", self.img_feat_pad_size)] {
            ensure!((1..=MOST).contains(&value), "{key} = {value}: it must be from 1 to {MOST}");
        }
        const SPLITS: [&str; 5] = ["train", "val", "test", "test-dev", "vg"];
        for (key, paths) in [
            ("QUESTION_PATH", &self.question_path),
            ("ANSWER_PATH", &self.answer_path),
            ("IMG_FEAT_PATH", &self.img_feat_path),
        ] {
            if let Some(split) = paths.keys().find(|split| !SPLITS.contains(&split.as_str())) {
                bail!("{key}: there is no split {split:?}, only {}", SPLITS.join(", "));
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
    ensure!(!bad, "{key} = {name:?} names a folder: it may not be empty or contain '/', '\\', '..' or line breaks");
    Ok(())
}

impl fmt::Display for Config {
    /// One line per key, sorted, as the reference prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(Value::Object(values)) = serde_json::to_value(self) else { return Err(fmt::Error) };
        let mut lines: BTreeMap<&str, String> = values.iter().map(|(k, v)| (k.as_str(), show(v))).collect();
        lines.insert("SUB_BATCH_SIZE", self.sub_batch_size().to_string());
        lines.insert("EVAL_BATCH_SIZE", self.eval_batch_size().to_string());
        lines.insert("FF_SIZE", self.model.ff_size().to_string());
        lines.insert("HIDDEN_SIZE_HEAD", self.model.hidden_size_head().to_string());
        lines.iter().try_for_each(|(key, value)| writeln!(f, "{{ {key:<17} }}-> {value}"))
    }
}
