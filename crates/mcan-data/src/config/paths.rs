//! Where every file is, and the check, before anything slow starts, that those which a run needs are there.

use crate::config::Config;
use crate::config::{RunMode, TestSplit, TrainSplit};
use crate::data::{Split, features};
use crate::formats::json::locate;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

/// One question file with its annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// VQA-v2 train.
    Train,
    /// VQA-v2 val.
    Val,
    /// VQA-v2 test.
    Test,
    /// The test-dev subset.
    TestDev,
    /// Visual Genome.
    Vg,
}

impl Source {
    /// Those whose words make up the vocabulary, in this order.
    pub const VOCABULARY: [Source; 4] = [Source::Train, Source::Val, Source::Test, Source::Vg];

    /// Its key in `QUESTION_PATH` and `ANSWER_PATH`.
    pub fn key(self) -> &'static str {
        match self {
            Source::Train => "train",
            Source::Val => "val",
            Source::Test => "test",
            Source::TestDev => "test-dev",
            Source::Vg => "vg",
        }
    }

    /// The sources that a training split is made of.
    pub fn of_training(split: TrainSplit) -> &'static [Source] {
        match split {
            TrainSplit::Train => &[Source::Train],
            TrainSplit::TrainVal => &[Source::Train, Source::Val],
            TrainSplit::TrainValVg => &[Source::Train, Source::Val, Source::Vg],
        }
    }
}

impl Config {
    /// Question file of `source`.
    pub fn questions_of(&self, source: Source) -> PathBuf {
        let official = match source {
            Source::Train => "v2_OpenEnded_mscoco_train2014_questions.json",
            Source::Val => "v2_OpenEnded_mscoco_val2014_questions.json",
            Source::Test => "v2_OpenEnded_mscoco_test2015_questions.json",
            Source::TestDev => "v2_OpenEnded_mscoco_test-dev2015_questions.json",
            Source::Vg => "VG_questions.json",
        };
        let elsewhere = self.data.question_path.get(source.key());
        elsewhere
            .cloned()
            .unwrap_or_else(|| self.data.dataset_path.join(official))
    }

    /// Annotation file of `source`. (The test splits have none that is public.)
    pub fn annotations_of(&self, source: Source) -> PathBuf {
        let official = match source {
            Source::Train => "v2_mscoco_train2014_annotations.json",
            Source::Val => "v2_mscoco_val2014_annotations.json",
            Source::Vg => "VG_annotations.json",
            Source::Test => "v2_mscoco_test2015_annotations.json",
            Source::TestDev => "v2_mscoco_test-dev2015_annotations.json",
        };
        let elsewhere = self.data.answer_path.get(source.key());
        elsewhere
            .cloned()
            .unwrap_or_else(|| self.data.dataset_path.join(official))
    }

    /// The answer dictionary.
    pub fn answer_dict(&self) -> PathBuf {
        self.data.dataset_path.join("answer_dict.json")
    }

    /// Feature folder of `split`; a packed bank of the same name plus `.safetensors` wins over it.
    pub fn features_of(&self, split: Split) -> PathBuf {
        let key = match split {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        };
        let elsewhere = self.data.img_feat_path.get(key);
        elsewhere
            .cloned()
            .unwrap_or_else(|| features::folder(&self.data.feature_path, split))
    }

    /// The test questions to answer.
    pub fn test_source(&self) -> Source {
        match self.data.test_split {
            TestSplit::Test => Source::Test,
            TestSplit::TestDev => Source::TestDev,
        }
    }

    /// The checkpoint to load: `CKPT_PATH`, else the one of `CKPT_VERSION` (which the plan of a run fills in) and
    /// `CKPT_EPOCH`.
    pub fn ckpt_to_load(&self) -> PathBuf {
        self.run.ckpt_path.clone().unwrap_or_else(|| {
            let version = self.run.ckpt_version.as_deref().unwrap_or_default();
            let folder = self.run.ckpts_path.join(format!("ckpt_{version}"));
            folder.join(format!("epoch{}.pkl", self.run.ckpt_epoch))
        })
    }

    /// Whether this run evaluates val after each epoch.
    pub fn evaluates_epochs(&self) -> bool {
        self.train.eval_every_epoch && self.data.train_split == TrainSplit::Train
    }

    /// Whether this run starts from a checkpoint.
    pub fn loads_checkpoint(&self) -> bool {
        matches!(self.run.run_mode, RunMode::Val | RunMode::Test) || self.train.resume
    }

    /// The question sources that this run trains on or answers.
    pub fn sources(&self) -> Vec<Source> {
        match self.run.run_mode {
            RunMode::Val | RunMode::Score => vec![Source::Val],
            RunMode::Test => vec![self.test_source()],
            _ => {
                let mut sources = Source::of_training(self.data.train_split).to_vec();
                sources.extend(self.evaluates_epochs().then_some(Source::Val));
                sources
            }
        }
    }

    /// Names every file that this run needs and cannot find, with what would supply it.
    ///
    /// # Errors
    /// One error for all of them.
    pub fn check_files(&self) -> Result<()> {
        let mut missing = Vec::new();
        for source in self.sources() {
            let mut files = vec![(self.questions_of(source), "--DATA_PATH")];
            if !matches!(source, Source::Test | Source::TestDev) {
                files.push((self.annotations_of(source), "--DATA_PATH"));
            }
            let absent = files.into_iter().filter(|(file, _)| locate(file).is_none());
            missing
                .extend(absent.map(|(file, flag)| {
                    format!("{} ({flag}; {})", file.display(), supply(source))
                }));
        }
        for split in self.feature_splits() {
            let folder = self.features_of(split);
            if !folder.is_dir() && !features::bank_path(&folder).is_file() {
                missing.push(self.missing_features(split, &folder));
            }
        }
        if self.loads_checkpoint() && !self.ckpt_to_load().is_file() {
            missing.push(format!(
                "{} (--CKPT_V and --CKPT_E, or --CKPT_PATH)",
                self.ckpt_to_load().display()
            ));
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

    fn missing_features(&self, split: Split, folder: &Path) -> String {
        let archive = features::archive_path(folder);
        let advice = if archive.is_file() {
            format!("pack {} with --RUN=pack", archive.display())
        } else {
            format!(
                "place and unpack, or pack with --RUN=pack, the authors' {}.tar.gz",
                split.coco_name()
            )
        };
        format!(
            "{}/ or {} (--FEAT_PATH; {advice})",
            folder.display(),
            features::bank_path(folder).display()
        )
    }

    /// The image folders that this run's questions are about. Visual Genome's images are those of train and val.
    pub fn feature_splits(&self) -> Vec<Split> {
        let mut splits: Vec<Split> = Vec::new();
        for source in self.sources() {
            let split = match source {
                Source::Train => Split::Train,
                Source::Val => Split::Val,
                Source::Test | Source::TestDev => Split::Test,
                Source::Vg => continue,
            };
            if !splits.contains(&split) {
                splits.push(split);
            }
        }
        splits
    }
}

/// N of a file named `epoch<N>.pkl`.
pub fn epoch_of_file(path: &Path) -> Option<u64> {
    path.file_name()?
        .to_str()?
        .strip_prefix("epoch")?
        .strip_suffix(".pkl")?
        .parse()
        .ok()
}

fn supply(source: Source) -> &'static str {
    match source {
        Source::Vg => "the authors' VG files are placed by hand, or train on --SPLIT=train+val",
        _ => "./setup.sh data fetches it",
    }
}
