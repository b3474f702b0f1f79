//! The data sets, each with its files, its targets and its metric.
//!
//! A data set is a [`Benchmark`] with an entry in `BENCHMARKS`, or one that a file describes (`described`). No other room
//! knows a data set by name.

pub mod clevr;
pub mod demo;
pub(crate) mod described;
pub mod files;
pub mod gqa;
pub mod vqa2;

use crate::data::answers::AnswerList;
use crate::data::features::FeaturePlace;
use crate::data::source::{Layout, RegionSource};
use crate::data::streams::{StreamKind, Streams};
use crate::data::vocab::Vocabulary;
use crate::data::{Convention, Dataset, QuestionId};
use anyhow::{Context, Result, bail};
use files::{Places, Split};
use std::path::{Path, PathBuf};

/// The data sets that have code of their own.
pub(crate) static BENCHMARKS: [&dyn Benchmark; 3] = [&vqa2::Vqa2, &gqa::Gqa, &clevr::Clevr];

/// The name of a split, as in `QUESTION_PATH`.
pub type SplitName = &'static str;

/// The values of `--DATASET` that work in any working directory.
pub fn names() -> Vec<&'static str> {
    let own = BENCHMARKS.iter().map(|benchmark| benchmark.name());
    own.chain(described::built_in()).collect()
}

/// The data set of this name.
///
/// # Errors
/// An unknown name, or a file that describes the data set wrongly.
pub(crate) fn benchmark(name: &str) -> Result<&'static dyn Benchmark> {
    let found = BENCHMARKS.iter().find(|benchmark| benchmark.name() == name);
    if let Some(found) = found {
        return Ok(*found);
    }
    let unknown = || {
        let (known, file) = (names().join(", "), described::file_name(name));
        format!(
            "DATASET = {name}: there is no such data set, only {known}; another one needs a file {file} that describes it"
        )
    };
    described::find(name)?.with_context(unknown)
}

/// Checks that no file in the working directory describes anew a data set that has code of its own.
///
/// # Errors
/// There is such a file, which would have no effect.
pub(crate) fn check_not_described(name: &str) -> Result<()> {
    let has_code = BENCHMARKS.iter().any(|benchmark| benchmark.name() == name);
    if has_code {
        described::check_absent(name)
    } else {
        Ok(())
    }
}

/// The kinds of loss. `nn::loss` has the formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// Binary cross-entropy for each answer, against a score from 0 to 1.
    BinaryCrossEntropy,
    /// Cross-entropy against one right answer.
    CrossEntropy,
    /// Kullback-Leibler divergence from the distribution of the annotators' answers.
    Divergence,
}

/// What an answer is worth, where annotators differ. Data sets with fewer than ten answers to a question use others than
/// the official one, by which an answer that a single annotator gave is worth nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// The measure of the challenge of the data set.
    #[default]
    Official,
    /// 1 for the answer that most annotators gave (of several, the first), else 0.
    Exact,
    /// The share of annotators who gave the answer.
    Share,
}

/// A data set: its files, its targets and its metric.
pub trait Benchmark: Sync {
    /// The value of `--DATASET`.
    fn name(&self) -> &'static str;

    /// The model of a run that names none: a value of `--MODEL`.
    fn usual_model(&self) -> &'static str {
        "small"
    }

    /// The data set whose models also fit this one, because their images have the same kind of features.
    fn models_of(&self) -> &'static str {
        self.name()
    }

    /// All splits with their official files.
    fn splits(&self) -> &'static [Split];

    /// The archive in which a file of this name was published; none if the file was published as it is.
    fn archive(&self, _file: &str) -> Option<&'static str> {
        None
    }

    /// Default folders of questions, and default folders of features. Of each list, the first folder that exists is used.
    fn folders(&self) -> (&'static [&'static str], &'static [&'static str]);

    /// The values of `--SPLIT`, with the splits of each.
    fn trainings(&self) -> &'static [(&'static str, &'static [SplitName])];

    /// The split that is evaluated: `--RUN=val` answers it. A training on other splits answers it after each epoch.
    fn evaluated_split(&self) -> SplitName;

    /// The splits that `--TEST_SPLIT` can name. Names of result files contain the split, except for the first.
    fn test_splits(&self) -> &'static [SplitName];

    /// What the challenge of the data set does with answers to a test split, if the user has to know it.
    fn note_on_test_split(&self, _split: SplitName) -> Option<&'static str> {
        None
    }

    /// The splits whose words make up the vocabulary, in order.
    fn vocabulary_splits(&self) -> &'static [SplitName];

    /// The special words at the beginning of a vocabulary that is made from files, under this convention.
    fn special_words(&self, convention: Convention) -> &'static [&'static str];

    /// The splits whose answers are counted if there is no file of answers.
    fn answer_splits(&self) -> &'static [SplitName];

    /// The name of the file of answers in the folder of questions, if the data set has one.
    fn answer_file(&self) -> Option<&'static str>;

    /// Whether the file of answers has the words too.
    fn lists_have_words(&self) -> bool {
        false
    }

    /// How the user gets the file of answers of the published checkpoints, for messages.
    fn supply_of_answers(&self) -> &'static str {
        "./setup.sh data fetches it"
    }

    /// Reads the file of answers.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    fn read_lists(&self, path: &Path) -> Result<Lists> {
        Ok(Lists {
            answers: AnswerList::load(path)?,
            words: None,
        })
    }

    /// Writes the file of answers, but replaces none.
    ///
    /// # Errors
    /// The file cannot be written, or there is one.
    fn save_lists(&self, path: &Path, lists: &Lists) -> Result<()> {
        lists.answers.save_new(path)
    }

    /// The image features of the data set, in the sizes that the user has given, or in their default sizes.
    fn streams(&self, sizes: StreamSizes) -> Streams;

    /// The place of one stream of features of a split; none if the split has no images of its own or no such stream.
    ///
    /// # Errors
    /// A path that the system cannot tell about.
    fn feature_place(
        &self,
        split: &Split,
        kind: StreamKind,
        places: &Places,
    ) -> Result<Option<FeaturePlace>>;

    /// The places of one stream of features of a split; several if its images lie in several folders.
    ///
    /// # Errors
    /// A path that the system cannot tell about.
    fn feature_places(
        &self,
        split: &Split,
        kind: StreamKind,
        places: &Places,
    ) -> Result<Vec<FeaturePlace>> {
        let place = self.feature_place(split, kind, places)?;
        Ok(place.into_iter().collect())
    }

    /// The folder of the features that belong into `folder`, in the form in which they were published; none if that is not
    /// there, or is the archive of the `.npz` files.
    ///
    /// # Errors
    /// A path that the system cannot tell about.
    fn published(&self, _folder: &Path, _kind: StreamKind) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    /// The images of a folder that [`Benchmark::published`] gave. With `skip_bad`, images that cannot be used may be among them.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    fn open_published(
        &self,
        folder: &Path,
        _layout: Layout,
        _skip_bad: bool,
    ) -> Result<Box<dyn RegionSource>> {
        bail!(
            "{} has no such features as {}",
            self.name(),
            folder.display()
        )
    }

    /// The losses that the data set has targets for. The first is the usual one.
    fn losses(&self) -> &'static [LossKind];

    /// The extension of answer files.
    fn result_extension(&self) -> &'static str;

    /// The first words of the log entry of an evaluation.
    fn log_start(&self) -> &'static str;

    /// Reads the files of these splits, in parallel.
    ///
    /// # Errors
    /// The first file that cannot be read.
    fn read(&self, files: &[SplitFiles]) -> Result<Box<dyn QuestionFiles>>;

    /// Writes answers in the given order, in the format of the challenge of the data set.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn write_answers(&self, path: &Path, answers: &[(QuestionId, &str)]) -> Result<()>;

    /// The measures of accuracy that the data set has.
    fn measures(&self) -> &'static [Measure] {
        &[Measure::Official]
    }

    /// The measure of accuracy that counts unless the user chooses another.
    fn usual_measure(&self) -> Measure {
        Measure::Official
    }

    /// The scores of an answer file, as text (`--RUN=score`). `annotations` is the file that the user names, if any.
    ///
    /// # Errors
    /// A file that cannot be read, or answers that are not one for each question.
    fn score(
        &self,
        results: &Path,
        questions: &Path,
        annotations: Option<&Path>,
        measure: Measure,
    ) -> Result<String>;
}

/// What the file of answers of a data set has.
#[derive(Clone, Debug, PartialEq)]
pub struct Lists {
    /// The answers.
    pub answers: AnswerList,
    /// The words, if they are in this file too.
    pub words: Option<WordList>,
}

/// The words of a data set that has them in its file of answers.
#[derive(Clone, Debug, PartialEq)]
pub struct WordList {
    /// The words, with the special ones.
    pub vocabulary: Vocabulary,
    /// Words of the longest question. Further words of a question are cut off.
    pub longest: usize,
}

/// Sizes of streams that the user has given: (N, F), padded rows and values per row.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamSizes {
    /// Regions of a detector.
    pub regions: Option<(usize, usize)>,
    /// Cells of a feature map.
    pub grid: Option<(usize, usize)>,
}

/// The files of a split that a run reads.
#[derive(Clone, Debug)]
pub struct SplitFiles {
    /// The split.
    pub split: SplitName,
    /// Its questions.
    pub questions: Option<PathBuf>,
    /// Its annotations, if the run needs them and they are in a file of their own.
    pub annotations: Option<PathBuf>,
}

/// The parsed file of a split. `kind` names its content, for the message.
fn of_split<'a, T>(files: &'a [(SplitName, T)], wanted: SplitName, kind: &str) -> Result<&'a T> {
    let found = files.iter().find(|(split, _)| *split == wanted);
    let (_, file) = found.with_context(|| format!("the {wanted} {kind} were not read"))?;
    Ok(file)
}

/// The parsed question files of a run.
pub trait QuestionFiles {
    /// The distinct words of a split, in order of first appearance; none for a split that was not read.
    fn words(&self, split: SplitName) -> Option<Vec<&str>>;

    /// The number of words of the longest question, if the data set uses this number in place of `MAX_TOKEN`.
    fn longest_question(&self) -> Option<usize>;

    /// The answers counted in these splits. Splits that were not read are ignored.
    ///
    /// # Errors
    /// When there is no answer.
    fn count_answers(&self, splits: &[SplitName]) -> Result<AnswerList>;

    /// The annotated questions with their targets for `loss`, split after split.
    ///
    /// # Errors
    /// A split that was not read, or annotations that do not fit the questions.
    fn for_training(
        &self,
        splits: &[SplitName],
        words: &Vocabulary,
        answers: &AnswerList,
        max_token: usize,
        loss: LossKind,
    ) -> Result<Dataset>;

    /// Every question of a split, without targets.
    ///
    /// # Errors
    /// A split that was not read.
    fn for_answering(
        &self,
        split: SplitName,
        words: &Vocabulary,
        max_token: usize,
    ) -> Result<Dataset>;

    /// The names of the files of these splits that list the samples of a run, for messages.
    fn names(&self, splits: &[SplitName], training: bool) -> String;

    /// The metric for answers to all questions of a split. It may take the parsed file.
    ///
    /// # Errors
    /// A question without annotation.
    fn metric(&mut self, split: SplitName, measure: Measure) -> Result<Box<dyn Metric>>;
}

/// The metric of one split: made once, used after every epoch.
pub trait Metric: Send + Sync {
    /// The scores of these answers, in any order.
    ///
    /// # Errors
    /// Answers that are not one for each question of the split.
    fn score(&self, answers: &[(QuestionId, &str)]) -> Result<Scores>;
}

/// The scores of answers to all questions of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The main number, in percent.
    pub headline: f64,
    /// The text to print, without the last line end.
    pub printed: String,
    /// The text for the log, which ends with an empty line.
    pub logged: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_data_set_is_found_by_its_name() {
        for name in names() {
            assert_eq!(benchmark(name).unwrap().name(), name);
        }
        let message = benchmark("okvqb").err().unwrap().to_string();
        assert!(
            message.contains("DATASET = okvqb") && message.contains("vqa, gqa, clevr"),
            "{message}"
        );
    }

    #[test]
    fn the_splits_that_a_data_set_names_exist() {
        for benchmark in BENCHMARKS {
            let trained = benchmark.trainings().iter().flat_map(|(_, splits)| *splits);
            let named = trained
                .chain(benchmark.vocabulary_splits())
                .chain(benchmark.answer_splits())
                .chain(benchmark.test_splits());
            for name in named.chain([&benchmark.evaluated_split()]) {
                assert!(files::split(benchmark, name).is_ok(), "{name}");
            }
        }
    }
}
