//! The places of the files of a data set, and the check that the files of a run exist.

use super::{Benchmark, SplitName};
use crate::data::features::{FeaturePlace, archive_path, bank_path};
use crate::data::streams::StreamKind;
use crate::formats::json::locate;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A split of a data set, with its official files.
#[derive(Debug, PartialEq, Eq)]
pub struct Split {
    /// Its name.
    pub name: SplitName,
    /// The file of its questions.
    pub questions: &'static str,
    /// The file of its annotations; none if they are in the file of the questions, or not public.
    pub annotations: Option<&'static str>,
    /// The folder of the features of its images; none if its images are those of other splits.
    pub features: Option<&'static str>,
    /// How the user gets its question files, for messages.
    pub supply: &'static str,
}

/// The places of files that the user has given (`DATASET_PATH`, `FEATURE_PATH`, `QUESTION_PATH` and so on).
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The folder of question files; none for the default.
    pub dataset: Option<&'a Path>,
    /// The folder of the feature folders; none for the default.
    pub features: Option<&'a Path>,
    /// Question files that lie elsewhere, by split.
    pub question_files: &'a BTreeMap<String, PathBuf>,
    /// Annotation files that lie elsewhere, by split.
    pub annotation_files: &'a BTreeMap<String, PathBuf>,
    /// Feature folders that lie elsewhere, by split.
    pub feature_folders: &'a BTreeMap<String, PathBuf>,
}

/// The split of this name.
///
/// # Errors
/// When the data set does not have it.
pub fn split(benchmark: &dyn Benchmark, name: &str) -> Result<&'static Split> {
    let splits = benchmark.splits();
    splits
        .iter()
        .find(|split| split.name == name)
        .with_context(|| {
            let names: Vec<&str> = splits.iter().map(|split| split.name).collect();
            let set = benchmark.name();
            format!("{set} has no split {name} ({})", names.join(", "))
        })
}

/// The values of `--SPLIT`.
pub(crate) fn training_names(benchmark: &dyn Benchmark) -> Vec<&'static str> {
    let trainings = benchmark.trainings().iter();
    trainings.map(|(name, _)| *name).collect()
}

/// The splits of the value `name` of `--SPLIT`.
///
/// # Errors
/// When the data set does not have it.
pub(crate) fn training(benchmark: &dyn Benchmark, name: &str) -> Result<&'static [SplitName]> {
    let trainings = benchmark.trainings();
    let found = trainings.iter().find(|(known, _)| *known == name);
    found.map(|(_, splits)| *splits).with_context(|| {
        let (set, names) = (benchmark.name(), training_names(benchmark).join(" or "));
        format!("TRAIN_SPLIT is {name:?}, which {set} does not have; use --SPLIT with {names}")
    })
}

/// The test split of this name.
///
/// # Errors
/// A name that the data set does not have.
pub(crate) fn test(benchmark: &dyn Benchmark, name: &str) -> Result<SplitName> {
    let splits = benchmark.test_splits();
    let found = splits.iter().find(|known| **known == name);
    found.copied().with_context(|| {
        let (set, names) = (benchmark.name(), splits.join(" or "));
        format!("TEST_SPLIT is {name:?}, which {set} does not have; use --TEST_SPLIT with {names}")
    })
}

/// The folder `named`, else the first of the `usual` folders that exists, else the first of them.
fn first_that_exists(named: Option<&Path>, usual: &[&str]) -> PathBuf {
    if let Some(named) = named {
        return named.to_owned();
    }
    let found = usual.iter().find(|folder| Path::new(folder).is_dir());
    found
        .or(usual.first())
        .map_or_else(PathBuf::new, PathBuf::from)
}

/// The question or annotation file at `path`; where only the archive that it was published in is there, its place inside.
pub fn in_archive(benchmark: &dyn Benchmark, path: PathBuf) -> PathBuf {
    let inside = || {
        let name = path.file_name()?;
        let archive = path.with_file_name(benchmark.archive(name.to_str()?)?);
        archive.is_file().then(|| archive.join(name))
    };
    let inside = if path.is_file() { None } else { inside() };
    inside.unwrap_or(path)
}

impl Places<'_> {
    /// The folder of the data set's question files.
    pub(crate) fn folder(&self, benchmark: &dyn Benchmark) -> PathBuf {
        first_that_exists(self.dataset, benchmark.folders().0)
    }

    /// The folder of the feature folders of the data set.
    pub fn feature_folder(&self, benchmark: &dyn Benchmark) -> PathBuf {
        first_that_exists(self.features, benchmark.folders().1)
    }

    /// The question file of a split.
    pub fn questions(&self, benchmark: &dyn Benchmark, split: &Split) -> PathBuf {
        let elsewhere = self.question_files.get(split.name).cloned();
        let usual = || self.folder(benchmark).join(split.questions);
        in_archive(benchmark, elsewhere.unwrap_or_else(usual))
    }

    /// The annotation file of a split, if it has one.
    pub fn annotations(&self, benchmark: &dyn Benchmark, split: &Split) -> Option<PathBuf> {
        let official = split.annotations?;
        let elsewhere = self.annotation_files.get(split.name).cloned();
        let usual = || self.folder(benchmark).join(official);
        Some(in_archive(benchmark, elsewhere.unwrap_or_else(usual)))
    }

    /// The file of answers, if the data set has one: in the folder of questions, else in the folder of OpenVQA.
    pub fn answers(&self, benchmark: &dyn Benchmark) -> Option<PathBuf> {
        let name = benchmark.answer_file()?;
        let usual = self.folder(benchmark).join(name);
        let of_openvqa = Path::new("openvqa/datasets")
            .join(benchmark.name())
            .join(name);
        Some(if !usual.exists() && of_openvqa.exists() {
            of_openvqa
        } else {
            usual
        })
    }

    /// The feature folder of a split, if it has images of its own.
    pub(crate) fn features(&self, benchmark: &dyn Benchmark, split: &Split) -> Option<PathBuf> {
        let folder = self.feature_folder(benchmark).join(split.features?);
        let elsewhere = self.feature_folders.get(split.name);
        Some(elsewhere.cloned().unwrap_or(folder))
    }

    /// The feature folders of these splits, each once.
    ///
    /// # Errors
    /// A split that the data set does not have.
    pub fn feature_places(
        &self,
        benchmark: &dyn Benchmark,
        splits: &[SplitName],
        kind: StreamKind,
    ) -> Result<Vec<FeaturePlace>> {
        let mut places: Vec<FeaturePlace> = Vec::new();
        for name in splits {
            let place = benchmark.feature_place(split(benchmark, name)?, kind, self);
            // One folder can have the images of several splits, whose numbers mean different images.
            let key = |place: &FeaturePlace| (place.folder.clone(), place.names.split);
            let is_new = |place: &FeaturePlace| places.iter().all(|known| key(known) != key(place));
            places.extend(place.filter(is_new));
        }
        Ok(places)
    }

    /// The files of these splits that are missing, each with a text that says how the user gets it.
    ///
    /// # Errors
    /// A split that the data set does not have.
    pub(crate) fn missing(
        &self,
        benchmark: &dyn Benchmark,
        splits: &[SplitName],
        kinds: &[StreamKind],
    ) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for name in splits {
            let split = split(benchmark, name)?;
            let files = [
                Some(self.questions(benchmark, split)),
                self.annotations(benchmark, split),
            ];
            let absent = files.iter().flatten().filter(|file| locate(file).is_none());
            let line =
                |file: &PathBuf| format!("{} (--DATA_PATH; {})", file.display(), split.supply);
            missing.extend(absent.map(line));
        }
        for kind in kinds {
            for FeaturePlace { folder, .. } in self.feature_places(benchmark, splits, *kind)? {
                if !folder.is_dir() && !bank_path(&folder).is_file() {
                    missing.push(missing_features(&folder));
                }
            }
        }
        Ok(missing)
    }
}

/// The text about a missing folder of features.
fn missing_features(folder: &Path) -> String {
    let archive = archive_path(folder);
    let advice = if archive.is_file() {
        format!("pack {} with --RUN=pack", archive.display())
    } else {
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        format!("unpack the authors' {name} there, or pack it with --RUN=pack")
    };
    format!(
        "{}/ or {} (--FEAT_PATH; {advice})",
        folder.display(),
        bank_path(folder).display()
    )
}
