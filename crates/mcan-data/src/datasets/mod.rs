//! The data sets: each with its files, its targets and its metric.
//!
//! A data set is a [`Benchmark`] and a line in [`BENCHMARKS`]. No other room knows one by name.

pub mod clevr;
pub mod demo;
pub mod files;
pub mod vqa2;

use crate::data::answers::AnswerList;
use crate::data::features::FeaturePlace;
use crate::data::streams::{StreamKind, Streams};
use crate::data::vocab::Vocabulary;
use crate::data::{Convention, Dataset, QuestionId};
use anyhow::{Context, Result};
use files::{Places, Split};
use std::path::{Path, PathBuf};

/// Every data set that there is.
pub static BENCHMARKS: [&dyn Benchmark; 2] = [&vqa2::Vqa2, &clevr::Clevr];

/// The name of a question split, as in `QUESTION_PATH`.
pub type SplitName = &'static str;

/// The words for `--DATASET`.
pub fn names() -> Vec<&'static str> {
    BENCHMARKS.map(|benchmark| benchmark.name()).to_vec()
}

/// The words for `--SPLIT` of all data sets.
pub fn training_names() -> Vec<&'static str> {
    distinct(BENCHMARKS.map(files::training_names))
}

/// The words for `--TEST_SPLIT` of all data sets.
pub fn test_names() -> Vec<&'static str> {
    distinct(BENCHMARKS.map(|benchmark| benchmark.test_splits().to_vec()))
}

/// Each word of these lists once, in order of first appearance.
fn distinct<const N: usize>(lists: [Vec<&'static str>; N]) -> Vec<&'static str> {
    let mut words = Vec::new();
    for word in lists.concat() {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// The data set of this name.
///
/// # Errors
/// An unknown name.
pub fn benchmark(name: &str) -> Result<&'static dyn Benchmark> {
    let found = BENCHMARKS.iter().find(|benchmark| benchmark.name() == name);
    let unknown = || {
        let known = names().join(", ");
        format!("DATASET = {name}: there is no such data set, only {known}")
    };
    found.copied().with_context(unknown)
}

/// How far logits are from targets; `nn::loss` has the formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// Binary cross-entropy for each answer, against a score from 0 to 1.
    BinaryCrossEntropy,
    /// Cross-entropy against one right answer.
    CrossEntropy,
}

/// A data set: what its files are, what is learned of them, and how answers are scored.
pub trait Benchmark: Sync {
    /// The word for `--DATASET`.
    fn name(&self) -> &'static str;

    /// All splits with their official files.
    fn splits(&self) -> &'static [Split];

    /// Folders that hold the files unless the user names another, the first that exists: of questions, of features.
    fn folders(&self) -> (&'static [&'static str], &'static [&'static str]);

    /// The training splits that `--SPLIT` can name, and what each is made of.
    fn trainings(&self) -> &'static [(&'static str, &'static [SplitName])];

    /// The split that is evaluated: `--RUN=val` answers it, and so does a training on other splits after each epoch.
    fn evaluated(&self) -> SplitName;

    /// The splits that `--TEST_SPLIT` can name. Results of the first have no split in their file names.
    fn test_splits(&self) -> &'static [SplitName];

    /// The splits whose words make up the vocabulary, in this order.
    fn vocabulary(&self) -> &'static [SplitName];

    /// The words at the beginning of a vocabulary that is made from files, where this convention holds.
    fn special_words(&self, convention: Convention) -> &'static [&'static str];

    /// The splits whose answers are counted where there is no file of answers.
    fn answers(&self) -> &'static [SplitName];

    /// The file of answers in the folder of questions, if the data set has one.
    fn answer_file(&self) -> Option<&'static str>;

    /// The image features that the data set has, in these sizes where the user has named them.
    fn streams(&self, sizes: StreamSizes) -> Streams;

    /// The folder of one stream of a split's features.
    fn feature_place(
        &self,
        split: &Split,
        kind: StreamKind,
        places: &Places,
    ) -> Option<FeaturePlace>;

    /// The loss that goes with the targets.
    fn loss(&self) -> LossKind;

    /// The extension of answer files.
    fn result_extension(&self) -> &'static str;

    /// The beginnings of the log entries of an evaluation.
    fn log_start(&self) -> &'static str;

    /// Reads these splits' files, in parallel.
    ///
    /// # Errors
    /// The first file that cannot be read.
    fn read(&self, files: &[SplitFiles]) -> Result<Box<dyn QuestionFiles>>;

    /// Writes answers, in the order given, in the format of the data set's challenge.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn write_answers(&self, path: &Path, answers: &[(QuestionId, &str)]) -> Result<()>;

    /// Scores an answer file without a model, as text (`--RUN=score`); `annotations` are those that a user names.
    ///
    /// # Errors
    /// A file that cannot be read, and answers that are not to exactly the questions.
    fn score(&self, results: &Path, questions: &Path, annotations: Option<&Path>)
    -> Result<String>;
}

/// Sizes of streams that the user has named: (N, F), padded rows and values per row.
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
    /// Its annotations, if they are wanted and in a file of their own.
    pub annotations: Option<PathBuf>,
}

/// The parsed file of a split; `kind` says what the file holds.
fn of_split<'a, T>(files: &'a [(SplitName, T)], wanted: SplitName, kind: &str) -> Result<&'a T> {
    let found = files.iter().find(|(split, _)| *split == wanted);
    let (_, file) = found.with_context(|| format!("the {wanted} {kind} were not read"))?;
    Ok(file)
}

/// The parsed question files of a run.
pub trait QuestionFiles {
    /// The distinct words of a split, in order of first appearance; none for a split that was not read.
    fn words(&self, split: SplitName) -> Option<Vec<&str>>;

    /// The words of the longest question, where the data set cuts questions there and not at `MAX_TOKEN`.
    fn longest_question(&self) -> Option<usize>;

    /// The answers counted in these splits, as far as they were read.
    ///
    /// # Errors
    /// When there is none.
    fn count_answers(&self, splits: &[SplitName]) -> Result<AnswerList>;

    /// The questions with a right answer, split after split, with their targets.
    ///
    /// # Errors
    /// A split that was not read, and annotations that do not fit the questions.
    fn for_training(
        &self,
        splits: &[SplitName],
        words: &Vocabulary,
        answers: &AnswerList,
        max_token: usize,
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

    /// The files of these splits that say what a run trains on or answers, for messages.
    fn names(&self, splits: &[SplitName], training: bool) -> String;

    /// What scores answers to all questions of a split.
    ///
    /// # Errors
    /// Questions whose right answers are not known.
    fn metric(&self, split: SplitName) -> Result<Box<dyn Metric>>;
}

/// Scores answers to the questions of one split; prepared once, used after every epoch.
pub trait Metric: Send + Sync {
    /// The scores of these answers, in any order.
    ///
    /// # Errors
    /// The questions are not exactly those of the split, each once.
    fn score(&self, answers: &[(QuestionId, &str)]) -> Result<Scores>;
}

/// What a metric says of some answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The number that a model is known by, in percent.
    pub headline: f64,
    /// What is shown, without the last line end.
    pub printed: String,
    /// What is logged, ending with an empty line.
    pub logged: String,
    /// How the logged text begins.
    pub log_start: &'static str,
    /// Further numbers in percent, in named groups such as "answer type".
    pub groups: Vec<(&'static str, Vec<(String, f64)>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_data_set_is_found_by_its_name() {
        for name in names() {
            assert_eq!(benchmark(name).unwrap().name(), name);
        }
        let message = benchmark("gqa").err().unwrap().to_string();
        assert!(
            message.contains("DATASET = gqa") && message.contains("vqa, clevr"),
            "{message}"
        );
    }

    #[test]
    fn splits_that_are_referred_to_exist() {
        for benchmark in BENCHMARKS {
            let trained = benchmark.trainings().iter().flat_map(|(_, splits)| *splits);
            let named = trained
                .chain(benchmark.vocabulary())
                .chain(benchmark.answers())
                .chain(benchmark.test_splits());
            for name in named.chain([&benchmark.evaluated()]) {
                assert!(files::split(benchmark, name).is_ok(), "{name}");
            }
        }
    }
}
