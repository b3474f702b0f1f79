//! VQA-v2 as a [`Benchmark`]: its splits and their official files.

use super::form::Form;
use super::parsed::{Files, Rules};
use super::results::write_answers_of;
use super::score::score;
use crate::data::features::{FeaturePlace, FileNames, image_number};
use crate::data::streams::{BoxUnit, StreamKind, StreamSpec, Streams};
use crate::data::{Convention, QuestionId};
use crate::datasets::files::{Places, Split, split as split_named};
use crate::datasets::{
    Benchmark, LossKind, Measure, QuestionFiles, SplitFiles, SplitName, StreamSizes,
};
use anyhow::{Context, Result};
use std::path::Path;

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
        let images = |split| match split_named(self, split) {
            Ok(split) => split.features.and(Some(split.name)),
            Err(_) => None,
        };
        Ok(Box::new(Files::read(files, Rules::VQA2, &images)?))
    }

    fn write_answers(&self, path: &Path, answers: &[(QuestionId, &str)]) -> Result<()> {
        write_answers_of(path, answers, Form::VQA2.layout)
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
        Ok(score(results, questions, annotations, Form::VQA2, measure)?.to_string())
    }
}
