//! What a run writes: that it can, before anything slow starts, and that nothing of an older run is lost to it.

use crate::checkpoint;
use crate::config::Config;
use crate::config::RunMode;
use crate::config::paths::epoch_of_file;
use crate::models::mcan::keys::McanKeys;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// Where a run takes up its work: 0 and 0 for a new one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// Epochs done.
    pub epoch: u64,
    /// Optimizer steps done.
    pub step: u64,
}

/// What a run writes.
pub struct Outputs<'a>(pub &'a Config);

impl std::ops::Deref for Outputs<'_> {
    type Target = Config;

    fn deref(&self) -> &Config {
        self.0
    }
}

impl Outputs<'_> {
    /// Refuses to lose an older run of the same version, unless told so with `--OVERWRITE=True`.
    ///
    /// A new run would replace all of its checkpoints and its log; a resumed one those that go further than its start.
    ///
    /// # Errors
    /// When something is there and may not be removed.
    pub fn check_no_overwrite(&self, start: Start) -> Result<()> {
        let conflicting_files = self.conflicting_files(start);
        let Some(first) = conflicting_files.first().filter(|_| !self.train.overwrite) else {
            return Ok(());
        };
        if self.train.resume && *first == self.last_ckpt() {
            bail!(
                "{0} goes further than the checkpoint to continue from, and would be lost; continue from it with \
                 --CKPT_PATH={0}, choose another --VERSION, or pass --OVERWRITE=True",
                first.display()
            );
        }
        bail!(
            "{} ({} files in all) of an earlier run named {:?} would be lost; choose another --VERSION, or pass \
             --OVERWRITE=True",
            first.display(),
            conflicting_files.len(),
            self.version()
        )
    }

    /// Removes what [`Outputs::check_no_overwrite`] is about.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove_conflicting_files(&self, start: Start) -> Result<()> {
        self.conflicting_files(start)
            .iter()
            .try_for_each(|path| remove(path))
    }

    fn conflicting_files(&self, start: Start) -> Vec<PathBuf> {
        let resumes = self.train.resume;
        let epochs = epochs_in(&self.ckpt_folder()).into_iter();
        let mut paths: Vec<PathBuf> = epochs
            .filter(|(epoch, _)| !resumes || *epoch > start.epoch)
            .map(|(_, path)| path)
            .collect();
        let last = self.last_ckpt();
        // What the run to be continued has left behind is not missed; but one that cannot be read may be anything.
        let is_behind =
            || matches!(checkpoint::load_state(&last), Ok(Some(state)) if state.step <= start.step);
        if last.exists() && !(resumes && self.continues_itself() && is_behind()) {
            paths.push(last);
        }
        let log = self.log_of(self.version());
        paths.extend((!resumes && log.exists()).then_some(log));
        paths
    }

    /// Whether the checkpoint to continue from lies in the folder of this run's own.
    pub fn continues_itself(&self) -> bool {
        let folder = |path: &Path| path.canonicalize().ok();
        let loaded = self.ckpt_to_load();
        self.train.resume && loaded.parent().and_then(folder) == folder(&self.ckpt_folder())
    }

    /// Removes `last.pkl`, once the checkpoint of an epoch goes further.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_last_ckpt(&self) -> Result<()> {
        let last = self.last_ckpt();
        if last.exists() { remove(&last) } else { Ok(()) }
    }

    /// The folders, besides that of checkpoints, that this run writes in.
    pub fn written_to(&self) -> Vec<PathBuf> {
        let run = &self.run;
        let folders = match run.run_mode {
            RunMode::Train if !self.evaluates_epochs() => vec![&run.log_path],
            RunMode::Train | RunMode::Val => vec![&run.log_path, &run.cache_path],
            RunMode::Test if run.test_save_pred => vec![&run.result_path, &run.pred_path],
            RunMode::Test => vec![&run.result_path],
            // A bank lies beside what it is packed from.
            RunMode::Pack | RunMode::Score | RunMode::Demo => vec![],
        };
        folders.into_iter().cloned().collect()
    }

    /// Makes sure that what this run writes besides checkpoints can be written.
    ///
    /// # Errors
    /// The first folder in which, or log to which, it cannot.
    pub fn check_outputs(&self) -> Result<()> {
        self.check_writable(self.written_to())?;
        // A new run begins its log anew, and all else is written to new files.
        let log = match self.run.run_mode {
            RunMode::Train if self.train.resume => self.log_of(self.version()),
            RunMode::Val => self.log_of(&self.ckpt_name(0)),
            _ => return Ok(()),
        };
        let open = || {
            std::fs::OpenOptions::new()
                .append(true)
                .open(&log)
                .map(drop)
        };
        let opened = if log.exists() { open() } else { Ok(()) };
        opened.with_context(|| {
            format!(
                "cannot write the log {}; make it writable, or move it away",
                log.display()
            )
        })
    }

    /// Makes sure that files can be written in `folders`, which are made when missing.
    ///
    /// # Errors
    /// The first folder where they cannot.
    pub fn check_writable(&self, folders: impl IntoIterator<Item = PathBuf>) -> Result<()> {
        folders.into_iter().try_for_each(|folder| {
            let folder = &folder;
            let cannot = || {
                format!(
                    "cannot write in {}; choose another folder, or make this one writable",
                    folder.display()
                )
            };
            crate::base::atomic::make_folder(folder).with_context(cannot)?;
            crate::base::atomic::remove_orphans(folder);
            crate::base::atomic::sibling(folder)
                .map(drop)
                .with_context(cannot)
        })
    }

    /// Makes sure that one checkpoint of `parameters` numbers fits on the disk beside those that are there.
    ///
    /// # Errors
    /// When it does not, with what is needed and what is there.
    pub fn check_space(&self, parameters: u64) -> Result<()> {
        let folder = self.ckpt_folder();
        let needed = parameters.saturating_mul(BYTES_PER_PARAMETER);
        let Ok(disk) = rustix::fs::statvfs(&folder) else {
            return Ok(());
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        const MB: u64 = 1_000_000;
        ensure!(
            free >= needed,
            "a checkpoint takes {} MB, and {} has {} MB left; make room, or name a folder on another disk with \
             --SET CKPTS_PATH=...",
            needed.div_ceil(MB),
            folder.display(),
            free / MB
        );
        Ok(())
    }
}

/// A parameter and Adam's two moments, in float32.
const BYTES_PER_PARAMETER: u64 = 12;

/// How many numbers the network has for a vocabulary of `words` and a list of `answers`.
pub fn parameter_count(config: &McanKeys, words: usize, answers: usize) -> u64 {
    let linear = |from: usize, to: usize| (from + 1) * to;
    let (hidden, out) = (config.hidden_size, config.flat_out_size);
    let norm = |size: usize| 2 * size;
    let attention = 4 * linear(hidden, hidden);
    let feed_forward = linear(hidden, config.ff_size) + linear(config.ff_size, hidden);
    let encoder = attention + feed_forward + 2 * norm(hidden);
    let decoder = 2 * attention + feed_forward + 3 * norm(hidden);
    let pooling = linear(hidden, config.flat_mlp_size)
        + linear(config.flat_mlp_size, config.flat_glimpses)
        + linear(hidden * config.flat_glimpses, out);
    let lstm = 4 * hidden * (config.word_embed_size + hidden + 2);
    let all = words * config.word_embed_size
        + lstm
        + linear(config.img_feat_size, hidden)
        + config.layer * (encoder + decoder)
        + 2 * pooling
        + norm(out)
        + linear(out, answers);
    all as u64
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// The `epoch<N>.pkl` in a checkpoint folder, in order of N.
fn epochs_in(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut epochs: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| Some((epoch_of_file(&entry.path())?, entry.path())))
        .collect();
    epochs.sort();
    epochs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Args;
    use crate::models::SCHEMA;
    use crate::models::mcan::Net;
    use clap::Parser;

    fn config(line: &str) -> Config {
        Config::resolve(&Args::parse_from(line.split(' ')).given(), &SCHEMA).unwrap()
    }

    #[test]
    fn parameters_are_counted_as_the_network_has_them() {
        let sizes = McanKeys {
            layer: 3,
            hidden_size: 12,
            ff_size: 48,
            multi_head: 2,
            flat_mlp_size: 5,
            flat_glimpses: 2,
            flat_out_size: 7,
            word_embed_size: 9,
            img_feat_size: 11,
            dropout_r: 0.2,
        };
        let net = Net::new(&sizes, 20, 4, 1, tch::Device::Cpu);
        let counted: usize = net
            .parameters
            .tensors
            .iter()
            .map(|tensor| tensor.numel())
            .sum();
        assert_eq!(parameter_count(&sizes, 20, 4), counted as u64);
    }

    #[test]
    fn a_disk_without_room_for_a_checkpoint_is_told_with_figures() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&format!(
            "mcan --RUN=train --VERSION=v --SET CKPTS_PATH={}",
            folder.path().display()
        ));
        let outputs = Outputs(&config);
        outputs.check_writable([config.ckpt_folder()]).unwrap();
        outputs.check_space(1000).unwrap();
        let message = outputs.check_space(u64::MAX / 12).unwrap_err().to_string();
        assert!(
            message.contains("MB left") && message.contains("CKPTS_PATH"),
            "{message}"
        );
    }

    #[test]
    fn a_log_that_cannot_be_appended_to_is_found_before_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log_run_v.txt");
        std::fs::create_dir(&log).unwrap();
        let flags = format!(
            "--SET LOG_PATH={0} --SET CACHE_PATH={0}",
            folder.path().display()
        );
        for run in ["--RUN=train --RESUME --VERSION=v", "--RUN=val --CKPT_V=v"] {
            let message = format!(
                "{:#}",
                Outputs(&config(&format!("mcan {run} {flags}")))
                    .check_outputs()
                    .unwrap_err()
            );
            assert!(
                message.contains("cannot write the log") && message.contains("log_run_v.txt"),
                "{message}"
            );
        }
        std::fs::remove_dir(&log).unwrap();
        Outputs(&config(&format!("mcan --RUN=val --CKPT_V=v {flags}")))
            .check_outputs()
            .unwrap();
        assert!(!log.exists(), "nothing is begun that may come to nothing");
    }

    #[test]
    fn an_older_run_is_not_lost_unless_told() {
        let at = |epoch| Start {
            epoch,
            step: 10 * epoch,
        };
        let folder = tempfile::tempdir().unwrap();
        let (ckpts, logs) = (folder.path().join("ckpts"), folder.path().join("log"));
        std::fs::create_dir_all(ckpts.join("ckpt_a")).unwrap();
        std::fs::create_dir_all(&logs).unwrap();
        for file in [
            ckpts.join("ckpt_a/epoch2.pkl"),
            ckpts.join("ckpt_a/notes.txt"),
            logs.join("log_run_a.txt"),
        ] {
            std::fs::write(file, "x").unwrap();
        }
        let line = format!(
            "mcan --RUN=train --VERSION=a --SET CKPTS_PATH={} --SET LOG_PATH={}",
            ckpts.display(),
            logs.display()
        );
        let message = Outputs(&config(&line))
            .check_no_overwrite(Start::default())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("epoch2.pkl") && message.contains("--OVERWRITE"),
            "{message}"
        );
        Outputs(&config(&format!("{line} --RESUME")))
            .check_no_overwrite(at(2))
            .unwrap();
        assert!(
            Outputs(&config(&format!("{line} --RESUME")))
                .check_no_overwrite(at(1))
                .is_err()
        );
        let overwriting = config(&format!("{line} --OVERWRITE"));
        Outputs(&overwriting)
            .check_no_overwrite(Start::default())
            .unwrap();
        Outputs(&overwriting)
            .remove_conflicting_files(Start::default())
            .unwrap();
        assert!(
            !ckpts.join("ckpt_a/epoch2.pkl").exists() && ckpts.join("ckpt_a/notes.txt").exists()
        );
    }
}
