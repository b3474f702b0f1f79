//! What was typed: the flags of the reference's `run.py`, spelled as there, and our own. No I/O, no defaults.
//!
//! Every flag is an override of one configuration key; [`Args::overrides`] lists those that were given.

use crate::config::{Amp, Given, RunMode, TestSplit, TrainSplit};
use anyhow::{Result, bail};
use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Train and evaluate Deep Modular Co-Attention Networks (MCAN) for visual question answering on VQA-v2.
#[derive(Parser, Debug, Default)]
#[command(version, infer_long_args = true, rename_all = "SCREAMING_SNAKE_CASE")]
#[command(
    after_help = "Booleans: bare flag, True/False, true/false or 1/0. A flag may be shortened as long as it is unambiguous."
)]
pub struct Args {
    /// What to do
    #[arg(long, value_parser = one_of::<RunMode>(&["train", "val", "test", "pack", "score", "demo"]))]
    run: Option<RunMode>,
    /// Model: small, large, tiny, or any NAME with a configs/NAME_model.yml [default: small]
    #[arg(long)]
    model: Option<String>,
    /// Question files to train on; `train` evaluates val after each epoch [default: train+val+vg]
    #[arg(long, value_parser = one_of::<TrainSplit>(&["train", "train+val", "train+val+vg"]))]
    split: Option<TrainSplit>,
    /// Evaluate val after each epoch (with --SPLIT=train) [default: True]
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    eval_ee: Option<bool>,
    /// Also write the probabilities of the test answers [default: False]
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    save_pred: Option<bool>,
    /// Questions per optimizer step [default: 64]
    #[arg(long)]
    bs: Option<u64>,
    /// Last epoch [default: 13]
    #[arg(long)]
    max_epoch: Option<u64>,
    /// Hold the features that the run needs in memory, or (gpu) on the device in half precision [default: False]
    #[arg(long, value_parser = boolean_or_gpu, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL|gpu")]
    preload: Option<Value>,
    /// GPU indices, as in '0' or '0, 1', or cpu (cpu,cpu: two replicas) [default: GPU 0 if there is one, else the CPU]
    #[arg(long)]
    gpu: Option<String>,
    /// Seed of everything random [default: drawn and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Name of this run: its checkpoints and log [default: the seed]
    #[arg(long, id = "run_version", value_name = "VERSION")]
    version: Option<String>,
    /// Continue from the checkpoint named by --CKPT_V and --CKPT_E, or --CKPT_PATH
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    resume: Option<bool>,
    /// Version of the checkpoint to load
    #[arg(long)]
    ckpt_v: Option<String>,
    /// Epoch of the checkpoint to load
    #[arg(long)]
    ckpt_e: Option<u64>,
    /// Path of the checkpoint to load, instead of --CKPT_V and --CKPT_E
    #[arg(long, value_name = "FILE")]
    ckpt_path: Option<PathBuf>,
    /// Split each batch in this many parts and accumulate their gradients: less memory, same result [default: 1]
    #[arg(long)]
    accu: Option<u64>,
    /// Threads that read features [default: 8]
    #[arg(long)]
    nw: Option<u64>,
    /// Page-lock batches bound for a GPU [default: True]
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pinm: Option<bool>,
    /// Show the loss of each step [default: True]
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    verb: Option<bool>,
    /// Folder of questions, annotations and answer_dict.json [default: ./datasets/vqa/]
    #[arg(long, value_name = "DIR")]
    data_path: Option<PathBuf>,
    /// Folder of the image features [default: ./datasets/coco_extract/]
    #[arg(long, value_name = "DIR")]
    feat_path: Option<PathBuf>,
    /// Configuration file to use in place of configs/MODEL_model.yml
    #[arg(long, value_name = "FILE")]
    pub cfg: Option<PathBuf>,
    /// Set any configuration key; repeatable
    #[arg(long = "SET", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Arithmetic of the matrix products [default: off]
    #[arg(long, value_parser = one_of::<Amp>(&["off", "bf16"]))]
    amp: Option<Amp>,
    /// Word vectors: en_vectors_web_lg-2.1.0 (.tar.gz or folder) or a GloVe text file
    #[arg(long, value_name = "PATH")]
    glove_path: Option<PathBuf>,
    /// Let a new run replace the checkpoints and the log of an old one with the same --VERSION [default: False]
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    overwrite: Option<bool>,
    /// Which test questions to answer [default: test]
    #[arg(long, value_parser = one_of::<TestSplit>(&["test", "test-dev"]))]
    test_split: Option<TestSplit>,
    /// Answer file for --RUN=score
    #[arg(long, value_name = "FILE")]
    result_file: Option<PathBuf>,
    /// Questions for --RUN=score [default: those of val]
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// Annotations for --RUN=score [default: those of val]
    #[arg(long, value_name = "FILE")]
    annotations: Option<PathBuf>,
}

/// A parser of words that a configuration key knows.
fn one_of<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    words: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words)
        .try_map(|word| serde_json::from_value::<T>(Value::String(word)))
}

/// Reads a boolean flag as what it says. (The reference takes any text, `False` included, for true.)
fn boolean(text: &str) -> Result<bool> {
    match text {
        "True" | "true" | "1" => Ok(true),
        "False" | "false" | "0" => Ok(false),
        _ => bail!("write True or False (or true, false, 1, 0)"),
    }
}

/// The same, or the word `gpu`.
fn boolean_or_gpu(text: &str) -> Result<Value> {
    match text {
        "gpu" => Ok(json!(text)),
        _ => match boolean(text) {
            Ok(value) => Ok(json!(value)),
            Err(_) => bail!("write True, False or gpu (or true, false, 1, 0)"),
        },
    }
}

impl Args {
    /// Parses the command line; on wrong usage prints the reason and ends the process with status 2.
    pub fn from_command_line() -> Args {
        let args = Args::parse();
        if let Err(reason) = args.check() {
            use clap::CommandFactory;
            Args::command()
                .error(clap::error::ErrorKind::MissingRequiredArgument, reason)
                .exit();
        }
        args
    }

    /// What clap's attributes cannot say without a panic-prone dependency between flags.
    fn check(&self) -> Result<()> {
        match self.run {
            None => bail!("--RUN=<train|val|test|pack|score|demo> says what to do and is required"),
            Some(RunMode::Score) if self.result_file.is_none() => {
                bail!("--RUN=score needs --RESULT_FILE=<file>, the answers to score")
            }
            _ => Ok(()),
        }
    }

    /// The model's name, which chooses the configuration file.
    pub fn model(&self) -> &str {
        match (&self.model, self.run) {
            (Some(name), _) => name,
            (None, Some(RunMode::Demo)) => "tiny",
            (None, _) => "small",
        }
    }

    /// The values that the command line gives, for [`Config::resolve`](crate::config::Config::resolve).
    pub fn given(&self) -> Given {
        Given {
            model: self.model().to_owned(),
            cfg: self.cfg.clone(),
            set: self.set.clone(),
            flags: self.overrides(),
            spelled_out: self.spelled_out(),
        }
    }

    /// The flags that were given, each as one word that means the same.
    pub fn spelled_out(&self) -> Vec<String> {
        let text = |value: Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        let mut flags: Vec<String> = self
            .overrides()
            .into_iter()
            .map(|(flag, _, value)| format!("{flag}={}", text(value)))
            .collect();
        let paths = [
            ("--MODEL", self.model.clone()),
            ("--CFG", self.cfg.as_ref().map(|p| p.display().to_string())),
        ];
        flags.extend(
            paths
                .into_iter()
                .filter_map(|(flag, value)| Some(format!("{flag}={}", value?))),
        );
        flags.extend(self.set.iter().map(|pair| format!("--SET={pair}")));
        flags
    }

    /// The flags that were given, as (flag, configuration key, value).
    pub fn overrides(&self) -> Vec<(&'static str, &'static str, Value)> {
        [
            ("--RUN", "RUN_MODE", self.run.map(|v| json!(v))),
            ("--SPLIT", "TRAIN_SPLIT", self.split.map(|v| json!(v))),
            (
                "--EVAL_EE",
                "EVAL_EVERY_EPOCH",
                self.eval_ee.map(|v| json!(v)),
            ),
            (
                "--SAVE_PRED",
                "TEST_SAVE_PRED",
                self.save_pred.map(|v| json!(v)),
            ),
            ("--BS", "BATCH_SIZE", self.bs.map(|v| json!(v))),
            ("--MAX_EPOCH", "MAX_EPOCH", self.max_epoch.map(|v| json!(v))),
            ("--PRELOAD", "PRELOAD", self.preload.clone()),
            ("--GPU", "GPU", self.gpu.as_ref().map(|v| json!(v))),
            ("--SEED", "SEED", self.seed.map(|v| json!(v))),
            (
                "--VERSION",
                "VERSION",
                self.version.as_ref().map(|v| json!(v)),
            ),
            ("--RESUME", "RESUME", self.resume.map(|v| json!(v))),
            (
                "--CKPT_V",
                "CKPT_VERSION",
                self.ckpt_v.as_ref().map(|v| json!(v)),
            ),
            ("--CKPT_E", "CKPT_EPOCH", self.ckpt_e.map(|v| json!(v))),
            (
                "--CKPT_PATH",
                "CKPT_PATH",
                self.ckpt_path.as_ref().map(|v| json!(v)),
            ),
            ("--ACCU", "GRAD_ACCU_STEPS", self.accu.map(|v| json!(v))),
            ("--NW", "NUM_WORKERS", self.nw.map(|v| json!(v))),
            ("--PINM", "PIN_MEM", self.pinm.map(|v| json!(v))),
            ("--VERB", "VERBOSE", self.verb.map(|v| json!(v))),
            (
                "--DATA_PATH",
                "DATASET_PATH",
                self.data_path.as_ref().map(|v| json!(v)),
            ),
            (
                "--FEAT_PATH",
                "FEATURE_PATH",
                self.feat_path.as_ref().map(|v| json!(v)),
            ),
            ("--AMP", "AMP", self.amp.map(|v| json!(v))),
            (
                "--GLOVE_PATH",
                "GLOVE_PATH",
                self.glove_path.as_ref().map(|v| json!(v)),
            ),
            ("--OVERWRITE", "OVERWRITE", self.overwrite.map(|v| json!(v))),
            (
                "--TEST_SPLIT",
                "TEST_SPLIT",
                self.test_split.map(|v| json!(v)),
            ),
            (
                "--RESULT_FILE",
                "RESULT_FILE",
                self.result_file.as_ref().map(|v| json!(v)),
            ),
            (
                "--QUESTIONS",
                "QUESTIONS",
                self.questions.as_ref().map(|v| json!(v)),
            ),
            (
                "--ANNOTATIONS",
                "ANNOTATIONS",
                self.annotations.as_ref().map(|v| json!(v)),
            ),
        ]
        .into_iter()
        .filter_map(|(flag, key, value)| Some((flag, key, value?)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(line: &str) -> Vec<(&'static str, Value)> {
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        args.overrides()
            .into_iter()
            .map(|(_, key, value)| (key, value))
            .collect()
    }

    #[test]
    fn booleans_are_read_as_what_they_say() {
        assert_eq!(
            given("mcan --RUN train --RESUME False")[1],
            ("RESUME", json!(false))
        );
        assert_eq!(
            given("mcan --RUN=train --RESUME=0")[1],
            ("RESUME", json!(false))
        );
        assert_eq!(
            given("mcan --RUN=train --RESUME --BS 8")[1..],
            [("BATCH_SIZE", json!(8)), ("RESUME", json!(true))]
        );
        assert!(Args::try_parse_from(["mcan", "--RUN=train", "--RESUME=no way"]).is_err());
    }

    #[test]
    fn flags_may_be_shortened_as_in_the_reference() {
        assert_eq!(
            given("mcan --RUN=val --CKPT_P=a.pkl")[1],
            ("CKPT_PATH", json!("a.pkl"))
        );
    }

    #[test]
    fn every_flag_of_the_reference_is_accepted() {
        let all = "mcan --RUN=train --MODEL=large --SPLIT=train+val --EVAL_EE=True --SAVE_PRED=True --BS=64 --MAX_EPOCH=13 \
                   --PRELOAD=True --GPU=0 --SEED=1 --VERSION=v --RESUME=True --CKPT_V=small --CKPT_E=13 --CKPT_PATH=p \
                   --ACCU=2 --NW=8 --PINM=True --VERB=True --DATA_PATH=d --FEAT_PATH=f";
        let line: Vec<&str> = all.split_whitespace().collect();
        assert_eq!(Args::try_parse_from(line).unwrap().overrides().len(), 20);
    }

    #[test]
    fn flags_spelled_out_mean_the_same() {
        let line = "mcan --RUN train --MODEL=tiny --RESUM --CKPT_P=a.pkl --BS 8 --SET LR_BASE=1 --SET NW=2 --CFG=c.yml --VERB=0";
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        let flags = args.spelled_out();
        assert!(
            flags.contains(&"--RESUME=true".into()) && flags.contains(&"--CFG=c.yml".into()),
            "{flags:?}"
        );
        let again = Args::try_parse_from(["mcan".into()].into_iter().chain(flags.clone())).unwrap();
        assert_eq!(again.overrides(), args.overrides());
        assert_eq!((again.spelled_out(), again.model()), (flags, "tiny"));
    }

    #[test]
    fn a_missing_run_or_result_file_is_wrong_usage() {
        assert!(Args::try_parse_from(["mcan"]).unwrap().check().is_err());
        assert!(
            Args::try_parse_from(["mcan", "--RUN=score"])
                .unwrap()
                .check()
                .is_err()
        );
        assert!(
            Args::try_parse_from(["mcan", "--RUN=score", "--RESULT_FILE=a"])
                .unwrap()
                .check()
                .is_ok()
        );
    }
}
