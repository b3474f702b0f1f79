//! Preflight: checks that the outputs of a run are writable and that no earlier run is overwritten.

use super::plan::{Plan, epoch_of_file};
use crate::base::files::{self, exists};
use crate::checkpoint;
use crate::config::RunMode;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use tracing::debug;

/// The preflight of one plan.
pub(crate) struct Preflight<'a> {
    plan: &'a Plan,
}

impl<'a> Preflight<'a> {
    /// The preflight of `plan`.
    pub(crate) fn new(plan: &'a Plan) -> Preflight<'a> {
        Preflight { plan }
    }

    /// Checks that no file of an older run of the same version is lost, unless `--OVERWRITE=True` is given.
    ///
    /// A new run replaces all checkpoints and the log of the older run. A resumed run replaces the checkpoints that go
    /// further than its start point.
    ///
    /// # Errors
    /// When such a file exists.
    pub(crate) fn check_no_overwrite(&self) -> Result<()> {
        let config = self.plan.config();
        let conflicting_files = self.conflicting_files()?;
        let Some(first) = conflicting_files
            .first()
            .filter(|_| !config.train.overwrite)
        else {
            return Ok(());
        };
        if config.train.resume && *first == self.plan.last_ckpt() {
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
            self.plan.version()
        )
    }

    /// Removes the files that [`Preflight::check_no_overwrite`] reports.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(crate) fn remove_conflicting_files(&self) -> Result<()> {
        self.conflicting_files()?
            .iter()
            .try_for_each(|path| remove(path))
    }

    fn conflicting_files(&self) -> Result<Vec<PathBuf>> {
        let plan = self.plan;
        let start = plan.start();
        let resumes = plan.config().train.resume;
        let epochs = epochs_in(&plan.ckpt_folder())?.into_iter();
        let mut paths: Vec<PathBuf> = epochs
            .filter(|(epoch, _)| !resumes || *epoch > start.epoch)
            .map(|(_, path)| path)
            .collect();
        let last = plan.last_ckpt();
        // A `last.pkl` older than the start may be replaced; an unreadable one may not.
        let is_behind =
            || matches!(checkpoint::load_state(&last), Ok(Some(state)) if state.step <= start.step);
        if exists(&last)? && !(resumes && plan.continues_itself() && is_behind()) {
            paths.push(last);
        }
        let log = plan.log_of(plan.version());
        paths.extend((!resumes && exists(&log)?).then_some(log));
        Ok(paths)
    }

    /// Removes `last.pkl`, once the checkpoint of an epoch goes further.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn remove_last_ckpt(&self) -> Result<()> {
        let last = self.plan.last_ckpt();
        if exists(&last)? {
            remove(&last)?;
        }
        Ok(())
    }

    /// The folders that this run writes to, without the folder of checkpoints.
    fn output_folders(&self) -> Result<Vec<PathBuf>> {
        let config = self.plan.config();
        let run = &config.run;
        let folders = match run.run_mode {
            RunMode::Train if !config.evaluates_epochs()? => vec![&run.log_path],
            RunMode::Train | RunMode::Val => vec![&run.log_path, &run.cache_path],
            RunMode::Test if run.test_save_pred => vec![&run.result_path, &run.pred_path],
            RunMode::Test => vec![&run.result_path],
            // A bank is written beside the features that it is packed from.
            RunMode::Pack | RunMode::Score | RunMode::Demo => vec![],
        };
        Ok(folders.into_iter().cloned().collect())
    }

    /// Checks that the folders and the log of this run are writable. (Checkpoints: see [`check_writable`].)
    ///
    /// # Errors
    /// The first folder or log that is not writable.
    pub(crate) fn check_outputs(&self) -> Result<()> {
        check_writable(self.output_folders()?)?;
        let plan = self.plan;
        // A new run starts a new log. All other outputs are new files.
        let log = match plan.config().run.run_mode {
            RunMode::Train if plan.config().train.resume => plan.log_of(plan.version()),
            RunMode::Val => plan.log_of(&plan.ckpt_name(0)),
            _ => return Ok(()),
        };
        let open = || {
            std::fs::OpenOptions::new()
                .append(true)
                .open(&log)
                .map(drop)
        };
        let opened = if exists(&log)? { open() } else { Ok(()) };
        opened.with_context(|| {
            format!(
                "cannot write the log {}; make it writable, or move it away",
                log.display()
            )
        })
    }

    /// Checks that one more checkpoint of `parameters` numbers fits on the disk.
    ///
    /// # Errors
    /// When it does not fit, with the space needed and the space free.
    pub(crate) fn check_space(&self, parameters: u64) -> Result<()> {
        let folder = self.plan.ckpt_folder();
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

/// Makes the missing `folders`, and checks that files can be written in all of them.
///
/// # Errors
/// The first folder that is not writable.
pub(crate) fn check_writable(folders: impl IntoIterator<Item = PathBuf>) -> Result<()> {
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
        crate::base::atomic::temporary_file(folder)
            .map(drop)
            .with_context(cannot)
    })
}

/// A parameter and Adam's two moments, in float32.
const BYTES_PER_PARAMETER: u64 = 12;

fn remove(path: &Path) -> Result<()> {
    debug!(path = %path.display(), "removing");
    std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// The `epoch<N>.pkl` in a checkpoint folder, in order of N.
fn epochs_in(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = files::entries(folder)?.into_iter();
    let mut epochs: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| Some((epoch_of_file(&entry.path())?, entry.path())))
        .collect();
    epochs.sort();
    Ok(epochs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Args;
    use crate::config::Config;
    use crate::models::SCHEMA;
    use clap::Parser;

    fn plan(line: &str) -> Plan {
        let config = Config::resolve(&Args::parse_from(line.split(' ')).given(), &SCHEMA).unwrap();
        Plan::new(&config, 1, None).unwrap()
    }

    #[test]
    fn a_disk_without_room_for_a_checkpoint_is_reported_with_figures() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&format!(
            "mcan --RUN=train --VERSION=v --SET CKPTS_PATH={}",
            folder.path().display()
        ));
        let preflight = Preflight::new(&plan);
        check_writable([plan.ckpt_folder()]).unwrap();
        preflight.check_space(1000).unwrap();
        let message = preflight
            .check_space(u64::MAX / 12)
            .unwrap_err()
            .to_string();
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
        let check = |run: &str| {
            let plan = plan(&format!("mcan {run} {flags}"));
            Preflight::new(&plan).check_outputs()
        };
        for run in ["--RUN=train --RESUME --VERSION=v", "--RUN=val --CKPT_V=v"] {
            let message = format!("{:#}", check(run).unwrap_err());
            assert!(
                message.contains("cannot write the log") && message.contains("log_run_v.txt"),
                "{message}"
            );
        }
        std::fs::remove_dir(&log).unwrap();
        check("--RUN=val --CKPT_V=v").unwrap();
        assert!(!log.exists(), "the check creates no log");
    }

    #[test]
    fn an_older_run_is_not_lost_unless_the_user_says_so() {
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
        let check = |plan: &Plan| Preflight::new(plan).check_no_overwrite();
        let message = check(&plan(&line)).unwrap_err().to_string();
        assert!(
            message.contains("epoch2.pkl") && message.contains("--OVERWRITE"),
            "{message}"
        );
        let resumed = |epoch| plan(&format!("{line} --RESUME")).starting_at(epoch, 10 * epoch);
        check(&resumed(2)).unwrap();
        assert!(check(&resumed(1)).is_err());
        let overwriting = plan(&format!("{line} --OVERWRITE"));
        check(&overwriting).unwrap();
        Preflight::new(&overwriting)
            .remove_conflicting_files()
            .unwrap();
        assert!(
            !ckpts.join("ckpt_a/epoch2.pkl").exists() && ckpts.join("ckpt_a/notes.txt").exists()
        );
    }
}
