//! The places of the files of a data set, and the check that the files of a run exist.

use super::{Benchmark, SplitName};
use crate::base::files;
use crate::data::features::{FeaturePlace, archive_path, bank_path, find_archive};
use crate::data::streams::StreamKind;
use crate::formats::json::{is_there, locate};
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
        let set = benchmark.name();
        if splits.is_empty() {
            return format!(
                "{set} has no split for --RUN=test; --RUN=val answers its split {}",
                benchmark.evaluated_split()
            );
        }
        let names = splits.join(" or ");
        format!("TEST_SPLIT is {name:?}, which {set} does not have; use --TEST_SPLIT with {names}")
    })
}

/// The folder `named`, else the first of the `usual` folders that exists, else the first of them.
fn first_that_exists(named: Option<&Path>, usual: &[&str]) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    for folder in usual.iter().map(Path::new) {
        if files::is_folder(folder)? {
            return Ok(folder.to_owned());
        }
    }
    Ok(usual.first().map_or_else(PathBuf::new, PathBuf::from))
}

/// The question or annotation file at `path`; where only the archive that it was published in is there, its place inside.
///
/// # Errors
/// A path that the system cannot tell about.
pub fn in_archive(benchmark: &dyn Benchmark, path: PathBuf) -> Result<PathBuf> {
    let published = || {
        let name = path.file_name()?;
        let archive = path.with_file_name(benchmark.archive(name.to_str()?)?);
        Some((archive.join(name), archive))
    };
    if locate(&path)?.is_none()
        && let Some((inside, archive)) = published()
        && files::is_file(&archive)?
    {
        return Ok(inside);
    }
    Ok(path)
}

impl Places<'_> {
    /// The folder of the data set's question files.
    ///
    /// # Errors
    /// A path that the system cannot tell about, as of all functions here.
    pub(crate) fn folder(&self, benchmark: &dyn Benchmark) -> Result<PathBuf> {
        first_that_exists(self.dataset, benchmark.folders().0)
    }

    /// The folder of the feature folders of the data set.
    ///
    /// # Errors
    /// See [`Places::folder`].
    pub fn feature_folder(&self, benchmark: &dyn Benchmark) -> Result<PathBuf> {
        first_that_exists(self.features, benchmark.folders().1)
    }

    /// The question file of a split.
    ///
    /// # Errors
    /// See [`Places::folder`].
    pub fn questions(&self, benchmark: &dyn Benchmark, split: &Split) -> Result<PathBuf> {
        let file = match self.question_files.get(split.name) {
            Some(elsewhere) => elsewhere.clone(),
            None => self.folder(benchmark)?.join(split.questions),
        };
        in_archive(benchmark, file)
    }

    /// The annotation file of a split, if it has one.
    ///
    /// # Errors
    /// See [`Places::folder`].
    pub fn annotations(&self, benchmark: &dyn Benchmark, split: &Split) -> Result<Option<PathBuf>> {
        let Some(official) = split.annotations else {
            return Ok(None);
        };
        let file = match self.annotation_files.get(split.name) {
            Some(elsewhere) => elsewhere.clone(),
            None => self.folder(benchmark)?.join(official),
        };
        in_archive(benchmark, file).map(Some)
    }

    /// The file of answers, if the data set has one: in the folder of questions, else in the folder of OpenVQA.
    ///
    /// # Errors
    /// See [`Places::folder`].
    pub fn answers(&self, benchmark: &dyn Benchmark) -> Result<Option<PathBuf>> {
        let Some(name) = benchmark.answer_file() else {
            return Ok(None);
        };
        let usual = self.folder(benchmark)?.join(name);
        let of_openvqa = Path::new("openvqa/datasets")
            .join(benchmark.name())
            .join(name);
        let elsewhere = !files::exists(&usual)? && files::exists(&of_openvqa)?;
        Ok(Some(if elsewhere { of_openvqa } else { usual }))
    }

    /// The feature folder of a split, if it has images of its own.
    ///
    /// # Errors
    /// See [`Places::folder`].
    pub(crate) fn features(
        &self,
        benchmark: &dyn Benchmark,
        split: &Split,
    ) -> Result<Option<PathBuf>> {
        let Some(name) = split.features else {
            return Ok(None);
        };
        Ok(Some(match self.feature_folders.get(split.name) {
            Some(elsewhere) => elsewhere.clone(),
            None => self.feature_folder(benchmark)?.join(name),
        }))
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
            // One folder can have the images of several splits, whose numbers mean different images.
            let key = |place: &FeaturePlace| (place.folder.clone(), place.names.split);
            let is_new = |places: &[FeaturePlace], place: &FeaturePlace| {
                places.iter().all(|known| key(known) != key(place))
            };
            let found = benchmark.feature_places(split(benchmark, name)?, kind, self)?;
            for place in found {
                if is_new(&places, &place) {
                    places.push(place);
                }
            }
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
            let wanted = [
                Some(self.questions(benchmark, split)?),
                self.annotations(benchmark, split)?,
            ];
            for file in wanted.into_iter().flatten() {
                if !is_there(&file)? {
                    let file = file.display();
                    missing.push(format!("{file} (--DATA_PATH; {})", split.supply));
                }
            }
        }
        for kind in kinds {
            for place in self.feature_places(benchmark, splits, *kind)? {
                if files::is_file(&bank_path(&place.folder))? {
                    continue;
                }
                let published = benchmark.published(&place.folder, *kind)?;
                // The folder can be there for the published files alone.
                let is_folder = files::is_folder(&place.folder)?;
                if !is_folder || published.is_some() && !place.has_files()? {
                    missing.push(missing_features(&place.folder, published)?);
                }
            }
        }
        Ok(missing)
    }
}

/// The text about a missing folder of features, or one with other files than `.npz`.
fn missing_features(folder: &Path, published: Option<PathBuf>) -> Result<String> {
    let advice = if let Some(archive) = find_archive(folder)?.or(published) {
        format!("pack {} with --RUN=pack", archive.display())
    } else {
        let archive = archive_path(folder);
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        format!("unpack the authors' {name} there, or pack it with --RUN=pack")
    };
    Ok(format!(
        "{}/ or {} (--FEAT_PATH; {advice})",
        folder.display(),
        bank_path(folder).display()
    ))
}
