//! The data of a run: its data set, its splits, and the check that their files exist, before anything slow starts.

use crate::config::{Config, DataConfig, RunMode, TestSplit, TrainSplit};
use crate::data::streams::{Needs, StreamKind, Streams};
use crate::datasets::files::{self, Places};
use crate::datasets::{self, Benchmark, SplitName, StreamSizes, VAL};
use anyhow::{Result, ensure};
use std::path::Path;

impl DataConfig {
    /// The size of a stream of the data set in `FEAT_SIZE`.
    fn named_size(&self, stream: &str) -> Option<(usize, usize)> {
        self.feat_size.0.get(&self.dataset)?.get(stream).copied()
    }

    /// The data set that `DATASET` names.
    ///
    /// # Errors
    /// An unknown name.
    pub fn benchmark(&self) -> Result<&'static dyn Benchmark> {
        datasets::benchmark(&self.dataset)
    }

    /// The places of files that the user has given.
    pub fn places(&self) -> Places<'_> {
        let usual = DataConfig::default();
        let named = |path, usual| (path != usual).then_some(path);
        Places {
            dataset: named(self.dataset_path.as_path(), usual.dataset_path.as_path())
                .map(Path::new),
            features: named(self.feature_path.as_path(), usual.feature_path.as_path())
                .map(Path::new),
            question_files: &self.question_path,
            annotation_files: &self.answer_path,
            feature_folders: &self.img_feat_path,
        }
    }

    /// The splits that the run trains on.
    ///
    /// # Errors
    /// A training split that the data set does not have.
    pub fn trained_splits(&self) -> Result<&'static [SplitName]> {
        let name = match self.train_split {
            TrainSplit::Train => "train",
            TrainSplit::TrainVal => "train+val",
            TrainSplit::TrainValVg => "train+val+vg",
        };
        files::training(self.benchmark()?, name)
    }

    /// The split of test questions to answer.
    pub(crate) fn test_split(&self) -> SplitName {
        match self.test_split {
            TestSplit::Test => "test",
            TestSplit::TestDev => "test-dev",
        }
    }
}

impl Config {
    /// The image features of the data set, in the sizes of the configuration.
    ///
    /// # Errors
    /// An unknown data set.
    pub fn streams(&self) -> Result<Streams> {
        let usual = (self.data.img_feat_pad_size, self.feature_size());
        let sizes = StreamSizes {
            regions: self.data.named_size("FRCN_FEAT_SIZE").or(Some(usual)),
            grid: self.data.named_size("GRID_FEAT_SIZE"),
        };
        Ok(self.data.benchmark()?.streams(sizes))
    }

    /// The extension of answer files.
    pub fn result_extension(&self) -> &'static str {
        let benchmark = self.data.benchmark();
        benchmark.map_or("json", |benchmark| benchmark.result_extension())
    }

    /// Whether the run evaluates val after each epoch.
    pub fn evaluates_epochs(&self) -> bool {
        self.train.eval_every_epoch && self.data.train_split == TrainSplit::Train
    }

    /// Whether the run starts from a checkpoint.
    pub fn loads_checkpoint(&self) -> bool {
        matches!(self.run.run_mode, RunMode::Val | RunMode::Test) || self.train.resume
    }

    /// The split that the run answers, if any.
    pub fn answered_split(&self) -> Option<SplitName> {
        match self.run.run_mode {
            RunMode::Train => self.evaluates_epochs().then_some(VAL),
            RunMode::Test => Some(self.data.test_split()),
            _ => Some(VAL),
        }
    }

    /// The splits that the run trains on or answers, each once.
    ///
    /// # Errors
    /// A training split that the data set does not have.
    pub fn splits(&self) -> Result<Vec<SplitName>> {
        let mut splits = match self.run.run_mode {
            RunMode::Val | RunMode::Score | RunMode::Test => Vec::new(),
            _ => self.data.trained_splits()?.to_vec(),
        };
        let answered = match self.run.run_mode {
            RunMode::Val | RunMode::Score | RunMode::Test => self.answered_split(),
            _ => self.evaluates_epochs().then_some(VAL),
        };
        splits.extend(answered.filter(|split| !splits.contains(split)));
        Ok(splits)
    }

    /// Checks that the files of the run exist.
    ///
    /// # Errors
    /// Lists all missing files, each with a text that says how the user gets it.
    pub fn check_files(&self, needs: Needs) -> Result<()> {
        let kinds = [
            (needs.regions, StreamKind::Regions),
            (needs.grid, StreamKind::Grid),
        ];
        let kinds: Vec<StreamKind> = kinds
            .iter()
            .filter(|(needed, _)| *needed)
            .map(|(_, kind)| *kind)
            .collect();
        let (benchmark, places) = (self.data.benchmark()?, self.data.places());
        let mut missing = places.missing(benchmark, &self.splits()?, &kinds)?;
        if self.loads_checkpoint() && !self.ckpt_to_load().is_file() {
            missing.push(format!(
                "{} (--CKPT_V and --CKPT_E, or --CKPT_PATH)",
                self.ckpt_to_load().display()
            ));
        }
        missing.sort();
        missing.dedup();
        ensure!(
            missing.is_empty(),
            "this run needs files that are not there:\n  {}",
            missing.join("\n  ")
        );
        Ok(())
    }
}
