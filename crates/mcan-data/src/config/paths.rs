//! The checkpoint that a run loads; the plan of a run names the files that it writes.

use crate::config::Config;
use std::path::{Path, PathBuf};

impl Config {
    /// The checkpoint to load: `CKPT_PATH`, else the one of `CKPT_VERSION` (which the plan of a run fills in) and
    /// `CKPT_EPOCH`.
    pub fn ckpt_to_load(&self) -> PathBuf {
        self.run.ckpt_path.clone().unwrap_or_else(|| {
            let version = self.run.ckpt_version.as_deref().unwrap_or_default();
            let folder = self.run.ckpts_path.join(format!("ckpt_{version}"));
            folder.join(format!("epoch{}.pkl", self.run.ckpt_epoch))
        })
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
