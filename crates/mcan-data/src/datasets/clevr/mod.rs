//! CLEVR (Johnson et al., CVPR 2017) as OpenVQA treats it: grid features, one right answer, exact match.
//!
//! An image is identified by its split and its number, because the numbers of each split start at 0. OpenVQA identifies it
//! by the number.

mod metric;
mod questions;
mod results;
#[cfg(test)]
mod tests;

use crate::data::answers::AnswerList;
use crate::data::features::{FeaturePlace, FileNames, image_number};
use crate::data::streams::{StreamKind, StreamSpec, Streams};
use crate::data::vocab::Vocabulary;
use crate::data::{Convention, Dataset, Id, QuestionId};
use crate::datasets::files::{Places, Split};
use crate::datasets::{
    Benchmark, LossKind, Measure, Metric, QuestionFiles, SplitFiles, SplitName, StreamSizes,
    of_split,
};
use crate::formats::strings::Strings;
use anyhow::{Context, Result, ensure};
pub use metric::Evaluator;
pub use questions::QuestionFile;
use rayon::prelude::*;
use results::{read_answers, write_answers};
use std::path::Path;

/// CLEVR as a data set.
pub(super) struct Clevr;

/// The number of cells of a feature map, 14 by 14.
const CELLS: usize = 196;
/// The number of values of a cell: the channels of `layer3` of ResNet-101.
const CHANNELS: usize = 1024;

const PUBLISHED: &str = "it is in the folder questions of the authors' CLEVR_v1.0.zip";

static SPLITS: [Split; 3] = [
    Split {
        name: "train",
        questions: "questions/CLEVR_train_questions.json",
        annotations: None,
        features: Some("train"),
        supply: PUBLISHED,
    },
    Split {
        name: "val",
        questions: "questions/CLEVR_val_questions.json",
        annotations: None,
        features: Some("val"),
        supply: PUBLISHED,
    },
    Split {
        name: "test",
        questions: "questions/CLEVR_test_questions.json",
        annotations: None,
        features: Some("test"),
        supply: PUBLISHED,
    },
];

/// Feature files are named by the numbers of a split's images.
fn feature_files(split: SplitName) -> FileNames {
    FileNames {
        image: |name| image_number(name.split('.').next()?),
        expected: "<image number>.npz",
        split: Some(split),
        rows_first: true,
    }
}

impl Benchmark for Clevr {
    fn name(&self) -> &'static str {
        "clevr"
    }

    fn usual_model(&self) -> &'static str {
        "mcan_small"
    }

    fn splits(&self) -> &'static [Split] {
        &SPLITS
    }

    fn folders(&self) -> (&'static [&'static str], &'static [&'static str]) {
        (
            &["./datasets/clevr/", "./data/clevr/raw/"],
            &["./datasets/clevr_extract/", "./data/clevr/feats/"],
        )
    }

    fn trainings(&self) -> &'static [(&'static str, &'static [SplitName])] {
        &[("train", &["train"]), ("train+val", &["train", "val"])]
    }

    fn evaluated_split(&self) -> SplitName {
        "val"
    }

    fn test_splits(&self) -> &'static [SplitName] {
        &["test"]
    }

    fn vocabulary_splits(&self) -> &'static [SplitName] {
        &["train", "val", "test"]
    }

    fn special_words(&self, _convention: Convention) -> &'static [&'static str] {
        Convention::OpenVqa.special_words()
    }

    fn answer_splits(&self) -> &'static [SplitName] {
        &["train", "val"]
    }

    fn answer_file(&self) -> Option<&'static str> {
        None
    }

    fn streams(&self, sizes: StreamSizes) -> Streams {
        let (padded_to, width) = sizes.grid.unwrap_or((CELLS, CHANNELS));
        Streams {
            regions: None,
            grid: Some(StreamSpec {
                padded_to,
                width,
                boxes: None,
            }),
        }
    }

    fn feature_place(
        &self,
        split: &Split,
        kind: StreamKind,
        places: &Places,
    ) -> Result<Option<FeaturePlace>> {
        let folder = places.features(self, split)?;
        let place = |folder| FeaturePlace {
            folder,
            split: split.name,
            names: feature_files(split.name),
        };
        Ok(folder.filter(|_| kind == StreamKind::Grid).map(place))
    }

    fn losses(&self) -> &'static [LossKind] {
        &[LossKind::CrossEntropy]
    }

    fn result_extension(&self) -> &'static str {
        "txt"
    }

    fn log_start(&self) -> &'static str {
        metric::LOG_START
    }

    fn read(&self, files: &[SplitFiles]) -> Result<Box<dyn QuestionFiles>> {
        let read = |file: &SplitFiles| {
            let path = file.questions.as_ref();
            let path = path.with_context(|| format!("the {} questions are missing", file.split))?;
            let others = SPLITS.iter().map(|split| split.name);
            let others: Vec<&str> = others.filter(|name| *name != file.split).collect();
            Ok((file.split, QuestionFile::read(path, &others)?))
        };
        // The answers are in the files of the questions.
        let wanted = files.par_iter().filter(|file| file.questions.is_some());
        Ok(Box::new(Files(wanted.map(read).collect::<Result<_>>()?)))
    }

    fn write_answers(&self, path: &Path, answers: &[(QuestionId, &str)]) -> Result<()> {
        write_answers(path, answers.iter().map(|(_, answer)| *answer))
    }

    fn score(
        &self,
        results: &Path,
        questions: &Path,
        annotations: Option<&Path>,
        _: Measure,
    ) -> Result<String> {
        ensure!(
            annotations.is_none(),
            "CLEVR's answers are in the file of its questions; leave out --ANNOTATIONS"
        );
        let file = QuestionFile::read(questions, &[])?;
        let answers = read_answers(results)?;
        let evaluator = Evaluator::new(&file)?;
        ensure!(
            answers.len() == file.len(),
            "cannot score {}: it has {} lines, and {} has {} questions; the file needs an answer to each on a line of its own",
            results.display(),
            answers.len(),
            file.name(),
            file.len()
        );
        let numbered = (0..)
            .map(|number: i64| number.into())
            .zip(answers.iter().map(String::as_str));
        let scores = evaluator.score(&numbered.collect::<Vec<_>>());
        let scores = scores.with_context(|| format!("cannot score {}", results.display()))?;
        Ok(scores.printed + "\n")
    }
}

/// Parsed question files, by split.
struct Files(Vec<(SplitName, QuestionFile)>);

impl Files {
    fn of(&self, wanted: SplitName) -> Result<&QuestionFile> {
        of_split(&self.0, wanted, "questions")
    }
}

impl QuestionFiles for Files {
    fn words(&self, split: SplitName) -> Option<Vec<&str>> {
        Some(self.of(split).ok()?.distinct_words().collect())
    }

    fn longest_question(&self) -> Option<usize> {
        let lengths = self.0.iter().map(|(_, file)| file.longest_question());
        lengths.max()
    }

    fn count_answers(&self, splits: &[SplitName]) -> Result<AnswerList> {
        let files = splits.iter().filter_map(|split| self.of(split).ok());
        let answers: Strings = files
            .flat_map(QuestionFile::distinct_answers)
            .map(str::to_owned)
            .collect();
        AnswerList::from_answers(answers.into_iter().collect())
            .with_context(|| format!("no question of {} has an answer", splits.join(" or ")))
    }

    fn for_training(
        &self,
        splits: &[SplitName],
        words: &Vocabulary,
        answers: &AnswerList,
        max_token: usize,
        _: LossKind,
    ) -> Result<Dataset> {
        let mut dataset = Dataset::default();
        for &split in splits {
            let file = self.of(split)?;
            for i in 0..file.len() {
                let lacks = || format!("{}: question {i} has no \"answer\"", file.name());
                let answer = file.answer(i).with_context(lacks)?;
                let unknown = || {
                    let name = file.name();
                    format!("{name}: the model does not know the answer {answer:?} of question {i}")
                };
                let target = answers.index(answer).with_context(unknown)?;
                push(
                    &mut dataset,
                    split,
                    file,
                    i,
                    words,
                    max_token,
                    Some((target, 1.0)),
                );
            }
        }
        Ok(dataset)
    }

    fn for_answering(
        &self,
        split: SplitName,
        words: &Vocabulary,
        max_token: usize,
    ) -> Result<Dataset> {
        let (mut dataset, file) = (Dataset::default(), self.of(split)?);
        for i in 0..file.len() {
            push(&mut dataset, split, file, i, words, max_token, None);
        }
        Ok(dataset)
    }

    fn names(&self, splits: &[SplitName], _training: bool) -> String {
        let names = splits.iter().filter_map(|split| self.of(split).ok());
        names.map(QuestionFile::name).collect::<Vec<_>>().join(", ")
    }

    fn metric(&mut self, split: SplitName, _: Measure) -> Result<Box<dyn Metric>> {
        Ok(Box::new(Evaluator::new(self.of(split)?)?))
    }
}

/// Adds question `i` of a file; its id is `i`.
fn push(
    dataset: &mut Dataset,
    split: SplitName,
    file: &QuestionFile,
    i: usize,
    words: &Vocabulary,
    max_token: usize,
    target: Option<(u32, f32)>,
) {
    let ids = file.words(i).take(max_token).map(|word| words.id(word));
    let image = Id::InSplit(split, file.image_index(i)).into();
    dataset.push((i as i64).into(), (image, None), ids, target);
}
