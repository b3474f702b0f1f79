//! The checkpoint that a run loads. The plan of a run has the files that the run writes.

use crate::config::Config;
use std::path::{Path, PathBuf};

impl Config {
    /// The checkpoint to load: `CKPT_PATH`, else the checkpoint of `CKPT_VERSION` and `CKPT_EPOCH`. The plan of a run sets an
    /// absent `CKPT_VERSION`.
    pub fn ckpt_to_load(&self) -> PathBuf {
        self.run.ckpt_path.clone().unwrap_or_else(|| {
            let version = self.run.ckpt_version.as_deref().unwrap_or_default();
            let folder = self.run.ckpts_path.join(format!("ckpt_{version}"));
            folder.join(format!("epoch{}.pkl", self.run.ckpt_epoch))
        })
    }
}

/// The epoch N of a file named `epoch<N>.pkl`.
pub fn epoch_of_file(path: &Path) -> Option<u64> {
    path.file_name()?
        .to_str()?
        .strip_prefix("epoch")?
        .strip_suffix(".pkl")?
        .parse()
        .ok()
}
