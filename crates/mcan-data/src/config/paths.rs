//! Where a run's checkpoints, log and answers are.

use crate::config::{Config, TestSplit};
use std::path::{Path, PathBuf};

impl Config {
    /// Folder of this run's checkpoints.
    pub fn ckpt_folder(&self) -> PathBuf {
        self.run.ckpts_path.join(format!("ckpt_{}", self.version()))
    }

    /// Checkpoint of this run after `epoch` epochs.
    pub fn ckpt_to_write(&self, epoch: u64) -> PathBuf {
        self.ckpt_folder().join(format!("epoch{epoch}.pkl"))
    }

    /// Checkpoint of this run in the middle of an epoch.
    pub fn last_ckpt(&self) -> PathBuf {
        self.ckpt_folder().join("last.pkl")
    }

    /// The checkpoint to load: `CKPT_PATH`, else the one of `CKPT_VERSION` and `CKPT_EPOCH`.
    pub fn ckpt_to_load(&self) -> PathBuf {
        self.run.ckpt_path.clone().unwrap_or_else(|| {
            let folder = self
                .run
                .ckpts_path
                .join(format!("ckpt_{}", self.ckpt_version()));
            folder.join(format!("epoch{}.pkl", self.run.ckpt_epoch))
        })
    }

    /// What result files of a loaded checkpoint are named after: its version, or its file name and a random number.
    pub fn ckpt_name(&self, random: u64) -> String {
        match self.run.ckpt_path.as_deref().and_then(Path::file_name) {
            Some(file) => format!("{}_{random}", file.to_string_lossy()),
            None => self.ckpt_version().to_string(),
        }
    }

    /// The log of the run of this version.
    pub fn log_of(&self, version: &str) -> PathBuf {
        self.run.log_path.join(format!("log_run_{version}.txt"))
    }

    /// Answers of the run of this version on val.
    pub fn val_answers_of(&self, version: &str) -> PathBuf {
        self.run
            .cache_path
            .join(format!("result_run_{version}.{}", self.result_extension()))
    }

    /// File name, without extension, of what a test run writes. Answers to test-dev alone do not replace those to all.
    pub fn test_stem(&self, ckpt_name: &str) -> String {
        let epoch = match self.run.ckpt_path {
            Some(_) => String::new(),
            None => format!("_epoch{}", self.run.ckpt_epoch),
        };
        let part = match self.data.test_split {
            TestSplit::Test => "",
            TestSplit::TestDev => "_test-dev",
        };
        format!("result_run_{ckpt_name}{epoch}{part}")
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
