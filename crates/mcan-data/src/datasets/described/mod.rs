//! Data sets in VQA's format that a file describes: they need no code.
//!
//! `--DATASET=NAME` reads `configs/datasets/NAME.yml`. `description` reads the file; the question files, targets and metric
//! are those of [`vqa2`](super::vqa2).

mod description;
mod section;
#[cfg(test)]
mod tests;

use super::files::{Places, Split};
use super::vqa2::form::{Images, NAMED_FEATURE_FILES};
use super::vqa2::results::write_answers_of;
use super::vqa2::score::score;
use super::vqa2::{FEATURE_FILES, Files, LOG_START, Rules, Vqa2};
use super::{Benchmark, LossKind, Measure, QuestionFiles, SplitFiles, SplitName, StreamSizes};
use crate::base::configs;
use crate::data::features::{FeaturePlace, FileNames};
use crate::data::streams::{BoxUnit, StreamKind, StreamSpec, Streams};
use crate::data::{Convention, QuestionId};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The folder of the files that describe data sets.
pub(crate) const FOLDER: &str = "configs/datasets/";

/// A data set that a file describes. Its texts live as long as the program, because a file is read once.
#[derive(Debug)]
pub(super) struct Described {
    name: &'static str,
    splits: &'static [Split],
    /// For each split, the folders of the features of its images.
    features: Vec<Vec<&'static str>>,
    /// Default folders of questions, and of features.
    folders: (&'static [&'static str], &'static [&'static str]),
    /// The archive in which each question and annotation file may lie.
    archives: Vec<(&'static str, &'static str)>,
    trainings: &'static [(&'static str, &'static [SplitName])],
    evaluated: SplitName,
    tests: &'static [SplitName],
    vocabulary: &'static [SplitName],
    /// The splits whose answers are counted.
    counted: &'static [SplitName],
    answer_file: Option<&'static str>,
    rules: Rules,
    measure: Measure,
    /// The padded number of regions of an image, and the values of a region.
    regions: (usize, usize),
}

/// The name of the file that describes the data set `name`.
pub(super) fn file_name(name: &str) -> String {
    format!("{FOLDER}{name}.yml")
}

/// Checks that no file describes the data set `name`, which has code of its own: the file would have no effect.
///
/// # Errors
/// Names the file.
pub(super) fn check_absent(name: &str) -> Result<()> {
    let file = file_name(name);
    ensure!(
        configs::find(&file)?.is_none(),
        "the file {file} describes a data set {name}, but {name} is a part of the program and cannot be described anew; rename \
         the file, and use it with --DATASET and its new name"
    );
    Ok(())
}

/// The data sets whose descriptions are part of the program.
pub(super) fn built_in() -> impl Iterator<Item = &'static str> {
    configs::built_in().filter_map(|file| file.strip_prefix(FOLDER)?.strip_suffix(".yml"))
}

/// The data set that the file of this name describes; none if there is no such file. A file is read once.
///
/// # Errors
/// A file that cannot be read or describes no data set. The error names the file and the key.
pub(super) fn find(name: &str) -> Result<Option<&'static dyn Benchmark>> {
    static FOUND: Mutex<BTreeMap<String, &'static Described>> = Mutex::new(BTreeMap::new());
    let leads_out = |c: char| c.is_control() || "/\\".contains(c);
    if name.is_empty() || name.contains("..") || name.contains(leads_out) {
        return Ok(None);
    }
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = found.get(name) {
        return Ok(Some(*known));
    }
    let Some(file) = configs::find(&file_name(name))? else {
        return Ok(None);
    };
    let described = description::read(name, &file.place, &file.text)?;
    let described: &'static Described = Box::leak(Box::new(described));
    found.insert(name.to_owned(), described);
    Ok(Some(described))
}

impl Described {
    /// The folders of the features of a split.
    fn folders_of(&self, split: SplitName) -> &[&'static str] {
        let at = self.splits.iter().position(|known| known.name == split);
        at.map_or(&[], |at| &self.features[at])
    }

    /// The split after which the images of a split are named, so that image 7 of two splits can be two images: the first
    /// split with the same folders. None for a split whose images are those of other splits, or lie among theirs.
    fn image_split(&self, split: SplitName) -> Option<SplitName> {
        let own = self.folders_of(split);
        let overlaps = |folders: &Vec<&str>| {
            let shared = folders.iter().any(|folder| own.contains(folder));
            shared && folders != own
        };
        if own.is_empty() || self.features.iter().any(overlaps) {
            return None;
        }
        let first = self.features.iter().position(|folders| folders == own)?;
        Some(self.splits[first].name)
    }

    fn feature_files(&self) -> FileNames {
        match self.rules.form.images {
            Images::Numbers => FileNames {
                expected: "<name>_<image id>.jpg.npz or <image id>.npz",
                ..FEATURE_FILES
            },
            Images::Names => NAMED_FEATURE_FILES,
        }
    }
}

impl Benchmark for Described {
    fn name(&self) -> &'static str {
        self.name
    }

    fn models_of(&self) -> &'static str {
        Vqa2.name()
    }

    fn splits(&self) -> &'static [Split] {
        self.splits
    }

    fn archive(&self, file: &str) -> Option<&'static str> {
        let found = self.archives.iter().find(|(member, _)| *member == file);
        found.map(|(_, archive)| *archive)
    }

    fn folders(&self) -> (&'static [&'static str], &'static [&'static str]) {
        self.folders
    }

    fn trainings(&self) -> &'static [(&'static str, &'static [SplitName])] {
        self.trainings
    }

    fn evaluated_split(&self) -> SplitName {
        self.evaluated
    }

    fn test_splits(&self) -> &'static [SplitName] {
        self.tests
    }

    fn vocabulary_splits(&self) -> &'static [SplitName] {
        self.vocabulary
    }

    fn special_words(&self, convention: Convention) -> &'static [&'static str] {
        convention.special_words()
    }

    fn answer_splits(&self) -> &'static [SplitName] {
        self.counted
    }

    fn answer_file(&self) -> Option<&'static str> {
        self.answer_file
    }

    fn streams(&self, sizes: StreamSizes) -> Streams {
        let (padded_to, width) = sizes.regions.unwrap_or(self.regions);
        Streams {
            regions: Some(StreamSpec {
                padded_to,
                width,
                boxes: Some(BoxUnit::Pixels),
            }),
            grid: None,
        }
    }

    fn feature_place(
        &self,
        split: &Split,
        kind: StreamKind,
        places: &Places,
    ) -> Result<Option<FeaturePlace>> {
        let places = self.feature_places(split, kind, places)?;
        Ok(places.into_iter().next())
    }

    fn feature_places(
        &self,
        split: &Split,
        kind: StreamKind,
        places: &Places,
    ) -> Result<Vec<FeaturePlace>> {
        if kind != StreamKind::Regions {
            return Ok(Vec::new());
        }
        let folders: Vec<PathBuf> = match places.feature_folders.get(split.name) {
            Some(elsewhere) => vec![elsewhere.clone()],
            None => {
                let folder = places.feature_folder(self)?;
                let folders = self.folders_of(split.name).iter();
                folders.map(|name| folder.join(name)).collect()
            }
        };
        let place = |folder| FeaturePlace {
            folder,
            split: self.image_split(split.name).unwrap_or(split.name),
            names: self.feature_files(),
        };
        Ok(folders.into_iter().map(place).collect())
    }

    fn losses(&self) -> &'static [LossKind] {
        Vqa2.losses()
    }

    fn result_extension(&self) -> &'static str {
        "json"
    }

    fn log_start(&self) -> &'static str {
        LOG_START
    }

    fn read(&self, files: &[SplitFiles]) -> Result<Box<dyn QuestionFiles>> {
        let images = |split| self.image_split(split);
        Ok(Box::new(Files::read(files, self.rules, &images)?))
    }

    fn write_answers(&self, path: &Path, answers: &[(QuestionId, &str)]) -> Result<()> {
        write_answers_of(path, answers, self.rules.form.layout)
    }

    fn measures(&self) -> &'static [Measure] {
        &[Measure::Official, Measure::Exact, Measure::Share]
    }

    fn usual_measure(&self) -> Measure {
        self.measure
    }

    fn score(
        &self,
        results: &Path,
        questions: &Path,
        annotations: Option<&Path>,
        measure: Measure,
    ) -> Result<String> {
        let annotations = annotations.context("--ANNOTATIONS is missing")?;
        let report = score(results, questions, annotations, self.rules.form, measure)?;
        Ok(report.to_string())
    }
}
