//! The data of a run: its data set, its splits, and the check that their files exist, before anything slow starts.

use crate::base::files::exists;
use crate::config::{Config, DataConfig, LossFunc, RunMode};
use crate::data::streams::{Needs, StreamKind, Streams};
use crate::datasets::files::{self, Places};
use crate::datasets::{self, Benchmark, LossKind, SplitName, StreamSizes};
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// The keys of `FEAT_SIZE` for regions and for the grid.
const FRCN: &str = "FRCN_FEAT_SIZE";
const GRID: &str = "GRID_FEAT_SIZE";

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

    /// The number and the width of the feature vectors of an image that the data set has by default: of its regions, else
    /// of its grid. None for an unknown data set.
    pub(super) fn usual_size(dataset: &str) -> Option<(usize, usize)> {
        let benchmark = datasets::benchmark(dataset).ok()?;
        let streams = benchmark.streams(StreamSizes::default());
        let size = streams.regions.or(streams.grid)?;
        Some((size.padded_to, size.width))
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
        files::training(self.benchmark()?, &self.train_split)
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
            regions: self.data.named_size(FRCN).or(Some(usual)),
            grid: self.data.named_size(GRID),
        };
        Ok(self.data.benchmark()?.streams(sizes))
    }

    /// Takes the widths of the features from a checkpoint, as far as it shows them.
    ///
    /// # Errors
    /// An unknown data set.
    pub fn set_feature_widths(
        &mut self,
        regions: Option<usize>,
        grid: Option<usize>,
    ) -> Result<()> {
        let streams = self.streams()?;
        let sizes = [(FRCN, streams.regions, regions), (GRID, streams.grid, grid)];
        for (key, stream, width) in sizes {
            let (Some(stream), Some(width)) = (stream, width) else {
                continue;
            };
            if stream.width != width {
                let sizes = self.data.feat_size.0.entry(self.data.dataset.clone());
                sizes
                    .or_default()
                    .insert(key.into(), (stream.padded_to, width));
            }
        }
        Ok(())
    }

    /// The loss that training minimises: `LOSS_FUNC`, else the usual one of the data set.
    ///
    /// # Errors
    /// An unknown data set, or a loss that it has no targets for.
    pub fn loss(&self) -> Result<LossKind> {
        let benchmark = self.data.benchmark()?;
        let losses = benchmark.losses();
        let asked = match self.train.loss_func {
            LossFunc::OfDataset => return losses.first().copied().context("no loss"),
            LossFunc::Bce => LossKind::BinaryCrossEntropy,
            LossFunc::Ce => LossKind::CrossEntropy,
            LossFunc::Kld => LossKind::Divergence,
        };
        ensure!(
            losses.contains(&asked),
            "LOSS_FUNC = {}: {} has no targets for it; leave it out, which takes the loss of the data set",
            self.train.loss_func.word(),
            benchmark.name()
        );
        Ok(asked)
    }

    /// The extension of answer files.
    pub fn result_extension(&self) -> &'static str {
        let benchmark = self.data.benchmark();
        benchmark.map_or("json", |benchmark| benchmark.result_extension())
    }

    /// Whether a training evaluates after each epoch: only if it does not train on the evaluated split.
    ///
    /// # Errors
    /// A training split that the data set does not have.
    pub fn evaluates_epochs(&self) -> Result<bool> {
        let evaluated = self.data.benchmark()?.evaluated_split();
        let is_trained_on = self.data.trained_splits()?.contains(&evaluated);
        Ok(self.train.eval_every_epoch && !is_trained_on)
    }

    /// Whether the run reads a checkpoint.
    pub fn loads_checkpoint(&self) -> bool {
        self.continues_checkpoint() || self.starts_from_weights()
    }

    /// Whether the run evaluates or continues a checkpoint, whose words and answers it needs.
    pub fn continues_checkpoint(&self) -> bool {
        matches!(self.run.run_mode, RunMode::Val | RunMode::Test) || self.train.resume
    }

    /// Whether the run is a new training whose parameters start from those of a checkpoint: the command line names one
    /// without `--RESUME`. (The configuration files of the reference name one for evaluations.)
    pub fn starts_from_weights(&self) -> bool {
        let given = &self.run.given;
        let names = |key| given.names(key);
        self.run.run_mode == RunMode::Train
            && !self.train.resume
            && (self.run.ckpt_path.is_some() || names("CKPT_VERSION") || names("CKPT_EPOCH"))
    }

    /// The split that the run answers, if any.
    ///
    /// # Errors
    /// A split that the data set does not have.
    pub fn answered_split(&self) -> Result<Option<SplitName>> {
        let benchmark = self.data.benchmark()?;
        match self.run.run_mode {
            RunMode::Train => Ok(self
                .evaluates_epochs()?
                .then(|| benchmark.evaluated_split())),
            RunMode::Test => files::test(benchmark, &self.data.test_split).map(Some),
            _ => Ok(Some(benchmark.evaluated_split())),
        }
    }

    /// The splits that the run trains on or answers, each once.
    ///
    /// # Errors
    /// A split that the data set does not have.
    pub fn splits(&self) -> Result<Vec<SplitName>> {
        let mut splits = match self.run.run_mode {
            RunMode::Train => self.data.trained_splits()?.to_vec(),
            _ => Vec::new(),
        };
        // A split that is trained on is not answered.
        splits.extend(self.answered_split()?);
        Ok(splits)
    }

    /// Checks that the files of the run exist; `checkpoint` is the checkpoint that it loads.
    ///
    /// # Errors
    /// Lists all missing files, each with a text that says how the user gets it.
    pub fn check_files(&self, needs: Needs, checkpoint: Option<&Path>) -> Result<()> {
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
        if let Some(path) = checkpoint
            && !exists(path)?
        {
            let path = path.display();
            missing.push(format!("{path} (--CKPT_V and --CKPT_E, or --CKPT_PATH)"));
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
