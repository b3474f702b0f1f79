//! The keys of the configuration by group, with their defaults and meanings.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunMode {
    /// Train, and evaluate the val split after each epoch when it is not trained on.
    Train,
    /// Answer the val split with a checkpoint and print its accuracy.
    Val,
    /// Answer the test split with a checkpoint and write the file for EvalAI.
    Test,
    /// Pack the image features of each split into one memory-mapped file.
    Pack,
    /// Score an answer file against questions and annotations, without a model.
    Score,
    /// Make a small learnable dataset, train on it, evaluate and answer its test split.
    Demo,
}

/// Which question files to train on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrainSplit {
    /// The train split; val is evaluated after each epoch.
    #[serde(rename = "train")]
    Train,
    /// Train and val.
    #[serde(rename = "train+val")]
    TrainVal,
    /// Train, val and the Visual Genome questions.
    #[serde(rename = "train+val+vg")]
    TrainValVg,
}

/// Which test questions to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestSplit {
    /// All of test2015.
    Test,
    /// Its test-dev2015 subset.
    TestDev,
}

/// Arithmetic of the matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Amp {
    /// float32 throughout.
    Off,
    /// bfloat16 products; weights, optimizer, norms, softmax and loss stay float32.
    Bf16,
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
            flags: Vec::new(),
        }
    }
}
