//! VQA-v2 as a [`Benchmark`]: its splits and their official files.

use super::answer_list::count_answers;
use super::score::score;
use super::{AnnotationFile, Evaluator, QuestionFile, numbered, read_all, samples, write_answers};
use crate::data::answers::AnswerList;
use crate::data::features::{FeaturePlace, FileNames, image_number};
use crate::data::streams::{BoxUnit, StreamKind, StreamSpec, Streams};
use crate::data::vocab::Vocabulary;
use crate::data::{Convention, Dataset, QuestionId};
use crate::datasets::files::{Places, Split, split as split_named};
use crate::datasets::{
    Benchmark, LossKind, Measure, Metric, QuestionFiles, SplitFiles, SplitName, StreamSizes,
    of_split,
};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// VQA-v2 (Goyal et al., CVPR 2017), with the questions of Visual Genome.
pub(in crate::datasets) struct Vqa2;

/// Feature files are named by the numbers of COCO's images.
pub const FEATURE_FILES: FileNames = FileNames {
    // As the reference reads it: from the last `_` to the first `.` behind it.
    image: |name| image_number(name.rsplit('_').next()?.split('.').next()?),
    expected: "COCO_<split>_<image id>.jpg.npz",
    split: None,
    rows_first: false,
};

const FETCHED: &str = "./setup.sh data fetches it";

static SPLITS: [Split; 5] = [
    Split {
        name: "train",
        questions: "v2_OpenEnded_mscoco_train2014_questions.json",
        annotations: Some("v2_mscoco_train2014_annotations.json"),
        features: Some("train2014"),
        supply: FETCHED,
    },
    Split {
        name: "val",
        questions: "v2_OpenEnded_mscoco_val2014_questions.json",
        annotations: Some("v2_mscoco_val2014_annotations.json"),
        features: Some("val2014"),
        supply: FETCHED,
    },
    Split {
        name: "test",
        questions: "v2_OpenEnded_mscoco_test2015_questions.json",
        annotations: None,
        features: Some("test2015"),
        supply: FETCHED,
    },
    Split {
        name: "test-dev",
        questions: "v2_OpenEnded_mscoco_test-dev2015_questions.json",
        annotations: None,
        features: Some("test2015"),
        supply: FETCHED,
    },
    // Visual Genome's images are those of train and val.
    Split {
        name: "vg",
        questions: "VG_questions.json",
        annotations: Some("VG_annotations.json"),
        features: None,
        supply: "get the VG files of the authors, or train on --SPLIT=train+val",
    },
];

/// Where the official files were published: (member, archive).
const ARCHIVES: [(&str, &str); 6] = [
    (
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "v2_Questions_Train_mscoco.zip",
    ),
    (
        "v2_OpenEnded_mscoco_val2014_questions.json",
        "v2_Questions_Val_mscoco.zip",
    ),
    (
        "v2_OpenEnded_mscoco_test2015_questions.json",
        "v2_Questions_Test_mscoco.zip",
    ),
    (
        "v2_OpenEnded_mscoco_test-dev2015_questions.json",
        "v2_Questions_Test_mscoco.zip",
    ),
    (
        "v2_mscoco_train2014_annotations.json",
        "v2_Annotations_Train_mscoco.zip",
    ),
    (
        "v2_mscoco_val2014_annotations.json",
        "v2_Annotations_Val_mscoco.zip",
    ),
];

impl Benchmark for Vqa2 {
    fn name(&self) -> &'static str {
        "vqa"
    }

    fn splits(&self) -> &'static [Split] {
        &SPLITS
    }

    fn archive(&self, file: &str) -> Option<&'static str> {
        let found = ARCHIVES.iter().find(|(member, _)| *member == file);
        found.map(|(_, archive)| *archive)
    }

    fn folders(&self) -> (&'static [&'static str], &'static [&'static str]) {
        (
            &["./datasets/vqa/", "./data/vqa/raw/"],
            &["./datasets/coco_extract/", "./data/vqa/feats/"],
        )
    }

    fn trainings(&self) -> &'static [(&'static str, &'static [SplitName])] {
        &[
            ("train", &["train"]),
            ("train+val", &["train", "val"]),
            ("train+val+vg", &["train", "val", "vg"]),
        ]
    }

    fn evaluated_split(&self) -> SplitName {
        "val"
    }

    fn test_splits(&self) -> &'static [SplitName] {
        &["test", "test-dev"]
    }

    fn vocabulary_splits(&self) -> &'static [SplitName] {
        &["train", "val", "test", "vg"]
    }

    fn special_words(&self, convention: Convention) -> &'static [&'static str] {
        convention.special_words()
    }

    fn answer_splits(&self) -> &'static [SplitName] {
        &["train", "val"]
    }

    fn answer_file(&self) -> Option<&'static str> {
        Some("answer_dict.json")
    }

    fn streams(&self, sizes: StreamSizes) -> Streams {
        let (padded_to, width) = sizes.regions.unwrap_or((100, 2048));
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
        // The images of test-dev are images of test, whose folder the user may have given.
        let name = if split.name == "test-dev" {
            "test"
        } else {
            split.name
        };
        let folder = places.features(self, split_named(self, name)?)?;
        let place = |folder| FeaturePlace {
            folder,
            split: split.name,
            names: FEATURE_FILES,
        };
        Ok(folder.filter(|_| kind == StreamKind::Regions).map(place))
    }

    fn losses(&self) -> &'static [LossKind] {
        &[LossKind::BinaryCrossEntropy, LossKind::Divergence]
    }

    fn result_extension(&self) -> &'static str {
        "json"
    }

    fn log_start(&self) -> &'static str {
        super::metric::LOG_START
    }

    fn read(&self, files: &[SplitFiles]) -> Result<Box<dyn QuestionFiles>> {
        let paths = |path: fn(&SplitFiles) -> &Option<PathBuf>| {
            let found = files
                .iter()
                .filter_map(move |file| Some((file.split, path(file).clone()?)));
            found.unzip::<_, _, Vec<SplitName>, Vec<PathBuf>>()
        };
        let (asked, question_paths) = paths(|file| &file.questions);
        let (annotated, annotation_paths) = paths(|file| &file.annotations);
        let (questions, annotations) = read_all(&question_paths, &annotation_paths)?;
        Ok(Box::new(Files {
            questions: asked.into_iter().zip(questions).collect(),
            annotations: annotated.into_iter().zip(annotations).collect(),
        }))
    }

    fn write_answers(&self, path: &Path, answers: &[(QuestionId, &str)]) -> Result<()> {
        write_answers(path, numbered(answers)?)
    }

    fn note_on_test_split(&self, split: SplitName) -> Option<&'static str> {
        (split == "test-dev").then_some(
            "EvalAI takes only files with answers to all test questions, also for its phase test-dev: for a file to upload, \
             use --TEST_SPLIT=test",
        )
    }

    fn measures(&self) -> &'static [Measure] {
        &[Measure::Official, Measure::Exact, Measure::Share]
    }

    fn score(
        &self,
        results: &Path,
        questions: &Path,
        annotations: Option<&Path>,
        measure: Measure,
    ) -> Result<String> {
        let annotations = annotations.context("--ANNOTATIONS is missing")?;
        Ok(score(results, questions, annotations, measure)?.to_string())
    }
}

/// Parsed question and annotation files, by split.
struct Files {
    questions: Vec<(SplitName, QuestionFile)>,
    annotations: Vec<(SplitName, AnnotationFile)>,
}

impl Files {
    fn questions_of(&self, wanted: SplitName) -> Result<&QuestionFile> {
        of_split(&self.questions, wanted, "questions")
    }

    fn annotations_of(&self, wanted: SplitName) -> Result<&AnnotationFile> {
        of_split(&self.annotations, wanted, "annotations")
    }
}

impl QuestionFiles for Files {
    fn words(&self, split: SplitName) -> Option<Vec<&str>> {
        let questions = self.questions_of(split).ok()?;
        Some(questions.distinct_words().collect())
    }

    fn longest_question(&self) -> Option<usize> {
        None
    }

    fn count_answers(&self, splits: &[SplitName]) -> Result<AnswerList> {
        let files = splits
            .iter()
            .filter_map(|split| self.annotations_of(split).ok());
        count_answers(files)
    }

    fn for_training(
        &self,
        splits: &[SplitName],
        words: &Vocabulary,
        answers: &AnswerList,
        max_token: usize,
        loss: LossKind,
    ) -> Result<Dataset> {
        let files = |name: &SplitName| {
            Ok(samples::SplitOf {
                images: split_named(&Vqa2, name)?.features.and(Some(*name)),
                questions: self.questions_of(name)?,
                annotations: self.annotations_of(name)?,
            })
        };
        let files = splits.iter().map(files).collect::<Result<Vec<_>>>()?;
        samples::for_training(&files, words, answers, max_token, loss)
    }

    fn for_answering(
        &self,
        split: SplitName,
        words: &Vocabulary,
        max_token: usize,
    ) -> Result<Dataset> {
        Ok(samples::for_answering(
            self.questions_of(split)?,
            words,
            max_token,
        ))
    }

    fn names(&self, splits: &[SplitName], training: bool) -> String {
        let name = |split: &SplitName| match training {
            true => self.annotations_of(split).map(AnnotationFile::name),
            false => self.questions_of(split).map(QuestionFile::name),
        };
        let names: Vec<&str> = splits.iter().filter_map(|split| name(split).ok()).collect();
        names.join(", ")
    }

    fn metric(&mut self, split: SplitName, measure: Measure) -> Result<Box<dyn Metric>> {
        let evaluator = Evaluator::new(self.annotations_of(split)?, measure)?;
        let questions = self.questions_of(split)?;
        let asked = questions.questions().iter();
        let ids: Vec<i64> = asked.map(|question| question.question_id).collect();
        let cannot = || format!("cannot evaluate the answers to {}", questions.name());
        evaluator.check_questions(&ids).with_context(cannot)?;
        Ok(Box::new(evaluator))
    }
}
