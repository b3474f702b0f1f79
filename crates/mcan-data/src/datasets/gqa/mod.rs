//! GQA (Hudson and Manning, CVPR 2019) as OpenVQA treats it: regions, boxes and a grid, one right answer, exact match.
//!
//! Ids are texts. The answer list is normalised as that of VQA-v2, and right answers are not, as in OpenVQA.

mod choices;
mod dictionary;
mod metric;
mod published;
mod questions;
mod results;
#[cfg(test)]
mod tests;

use crate::data::answers::AnswerList;
use crate::data::features::{FeaturePlace, FileNames};
use crate::data::source::{Layout, RegionSource};
use crate::data::streams::{BoxUnit, StreamKind, StreamSpec, Streams};
use crate::data::vocab::Vocabulary;
use crate::data::{Convention, Dataset, ImageId, QuestionId};
use crate::datasets::files::{Places, Split};
use crate::datasets::{
    Benchmark, Lists, LossKind, Measure, Metric, QuestionFiles, SplitFiles, SplitName, StreamSizes,
    of_split,
};
use crate::formats::bank::ImageKey;
use crate::formats::strings::Strings;
use crate::text::normalize_answer;
use anyhow::{Context, Result};
pub use choices::Choices;
pub use dictionary::read as read_dictionary;
use indexmap::IndexMap;
pub use metric::Evaluator;
pub use published::Published;
pub use questions::QuestionFile;
use rayon::prelude::*;
use results::{read_answers, write_answers};
use std::path::{Path, PathBuf};

/// GQA as a data set.
pub(super) struct Gqa;

/// The most regions of an image that are used, and the values of a region.
const REGIONS: (usize, usize) = (100, 2048);
/// Cells of a feature map, 7 by 7, and the values of a cell.
const GRID: (usize, usize) = (49, 2048);

const EVALUATED: SplitName = "testdev";

const PUBLISHED: &str = "it is in the authors' questions1.2.zip";

const fn split(name: SplitName, questions: &'static str) -> Split {
    Split {
        name,
        questions,
        annotations: None,
        features: Some("gqa-frcn"),
        supply: PUBLISHED,
    }
}

static SPLITS: [Split; 4] = [
    split("train", "questions1.2/train_balanced_questions.json"),
    split("val", "questions1.2/val_balanced_questions.json"),
    split(EVALUATED, "questions1.2/testdev_balanced_questions.json"),
    split("test", "questions1.2/submission_all_questions.json"),
];

/// Feature files are named by the ids of images.
const FEATURE_FILES: FileNames = FileNames {
    image: |name| Some(ImageKey::Text(name.to_owned())),
    expected: "<image id>.npz",
    split: None,
    rows_first: true,
};

impl Benchmark for Gqa {
    fn name(&self) -> &'static str {
        "gqa"
    }

    fn usual_model(&self) -> &'static str {
        "mcan_small"
    }

    fn splits(&self) -> &'static [Split] {
        &SPLITS
    }

    fn archive(&self, file: &str) -> Option<&'static str> {
        let published = |split: &Split| split.questions.strip_prefix("questions1.2/") == Some(file);
        SPLITS.iter().any(published).then_some("questions1.2.zip")
    }

    fn folders(&self) -> (&'static [&'static str], &'static [&'static str]) {
        (
            &["./datasets/gqa/", "./data/gqa/raw/"],
            &["./datasets/gqa_extract/", "./data/gqa/feats/"],
        )
    }

    fn trainings(&self) -> &'static [(&'static str, &'static [SplitName])] {
        &[("train", &["train"]), ("train+val", &["train", "val"])]
    }

    fn evaluated_split(&self) -> SplitName {
        EVALUATED
    }

    fn test_splits(&self) -> &'static [SplitName] {
        &["test"]
    }

    fn vocabulary_splits(&self) -> &'static [SplitName] {
        &["train", "val", EVALUATED, "test"]
    }

    fn special_words(&self, _convention: Convention) -> &'static [&'static str] {
        Convention::OpenVqa.special_words()
    }

    fn answer_splits(&self) -> &'static [SplitName] {
        &["train", "val", EVALUATED]
    }

    fn answer_file(&self) -> Option<&'static str> {
        Some("dicts.json")
    }

    fn lists_have_words(&self) -> bool {
        true
    }

    fn supply_of_answers(&self) -> &'static str {
        "it is openvqa/datasets/gqa/dicts.json of OpenVQA"
    }

    fn read_lists(&self, path: &Path) -> Result<Lists> {
        dictionary::read(path)
    }

    fn save_lists(&self, path: &Path, lists: &Lists) -> Result<()> {
        dictionary::save_new(path, lists)
    }

    fn streams(&self, sizes: StreamSizes) -> Streams {
        let spec = |(padded_to, width), boxes| StreamSpec {
            padded_to,
            width,
            boxes,
        };
        let regions = sizes.regions.unwrap_or(REGIONS);
        Streams {
            regions: Some(spec(regions, Some(BoxUnit::Shares))),
            grid: Some(spec(sizes.grid.unwrap_or(GRID), None)),
        }
    }

    fn feature_place(
        &self,
        split: &Split,
        kind: StreamKind,
        places: &Places,
    ) -> Result<Option<FeaturePlace>> {
        // One folder has the images of all splits; a folder that the user gives for a split holds both kinds.
        let root = match places.feature_folders.get(split.name) {
            Some(elsewhere) => elsewhere.clone(),
            None => places.feature_folder(self)?,
        };
        let folder = root.join(match kind {
            StreamKind::Regions => "gqa-frcn",
            StreamKind::Grid => "gqa-grid",
        });
        Ok(Some(FeaturePlace {
            folder,
            split: split.name,
            names: FEATURE_FILES,
        }))
    }

    fn published(&self, folder: &Path, kind: StreamKind) -> Result<Option<PathBuf>> {
        published::find(folder, kind)
    }

    fn open_published(
        &self,
        folder: &Path,
        layout: Layout,
        skip_bad: bool,
    ) -> Result<Box<dyn RegionSource>> {
        Ok(Box::new(Published::open(folder, layout, skip_bad)?))
    }

    fn losses(&self) -> &'static [LossKind] {
        &[LossKind::CrossEntropy]
    }

    fn result_extension(&self) -> &'static str {
        "json"
    }

    fn log_start(&self) -> &'static str {
        metric::LOG_START
    }

    fn read(&self, files: &[SplitFiles]) -> Result<Box<dyn QuestionFiles>> {
        let read = |file: &SplitFiles| {
            let path = file.questions.as_ref();
            let path = path.with_context(|| format!("the {} questions are missing", file.split))?;
            let with_details = file.split == EVALUATED;
            Ok((file.split, QuestionFile::read(path, with_details)?))
        };
        // The answers are in the files of the questions.
        let wanted = files.par_iter().with_max_len(1);
        let wanted = wanted.filter(|file| file.questions.is_some());
        Ok(Box::new(Files(wanted.map(read).collect::<Result<_>>()?)))
    }

    fn write_answers(&self, path: &Path, answers: &[(QuestionId, &str)]) -> Result<()> {
        write_answers(path, answers)
    }

    /// `annotations` are the choices of the questions, for validity and plausibility. Consistency is computed if the file
    /// has the questions that it needs.
    fn score(
        &self,
        results: &Path,
        questions: &Path,
        annotations: Option<&Path>,
        _: Measure,
    ) -> Result<String> {
        let choices = annotations.map(Choices::read).transpose()?;
        let file = QuestionFile::read(questions, true)?;
        let evaluator = Evaluator::new(file, choices)?.with_consistency();
        let answers = read_answers(results)?;
        let answers: Vec<(QuestionId, &str)> = answers
            .iter()
            .map(|(id, answer)| (id.clone(), answer.as_str()))
            .collect();
        let scores = evaluator.all_scores(&answers);
        scores.with_context(|| format!("cannot score {}", results.display()))
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
            .map(normalize_answer)
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
        // A question of two files keeps the place of the first and has the content of the last, as in OpenVQA.
        let mut places: IndexMap<&str, (&QuestionFile, usize)> = IndexMap::new();
        for &split in splits {
            let file = self.of(split)?;
            for i in 0..file.len() {
                places.insert(file.id(i), (file, i));
            }
        }
        let mut dataset = Dataset::default();
        for (id, (file, i)) in places {
            let lacks = || format!("{}: question {id} has no \"answer\"", file.name());
            let answer = file.answer(i).with_context(lacks)?;
            let unknown = || {
                let name = file.name();
                format!("{name}: the model does not know the answer {answer:?} of question {id}")
            };
            let target = answers.index(&normalize_answer(answer));
            let target = (target.with_context(unknown)?, 1.0);
            push(&mut dataset, file, i, words, max_token, Some(target));
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
            push(&mut dataset, file, i, words, max_token, None);
        }
        Ok(dataset)
    }

    fn names(&self, splits: &[SplitName], _training: bool) -> String {
        let names = splits.iter().filter_map(|split| self.of(split).ok());
        names.map(QuestionFile::name).collect::<Vec<_>>().join(", ")
    }

    fn metric(&mut self, split: SplitName, _: Measure) -> Result<Box<dyn Metric>> {
        let place = self.0.iter().position(|(name, _)| *name == split);
        let place = place.with_context(|| format!("the {split} questions were not read"))?;
        let (_, file) = self.0.swap_remove(place);
        Ok(Box::new(Evaluator::new(file, None)?))
    }
}

/// Adds question `i` of a file.
fn push(
    dataset: &mut Dataset,
    file: &QuestionFile,
    i: usize,
    words: &Vocabulary,
    max_token: usize,
    target: Option<(u32, f32)>,
) {
    let ids = file.words(i).take(max_token).map(|word| words.id(word));
    let image = ImageId::from(file.image(i));
    dataset.push(file.id(i).into(), (image, None), ids, target);
}
