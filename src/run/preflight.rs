//! Preflight: checks that the outputs of a run are writable and that no earlier run is overwritten.

use super::plan::{Plan, epoch_of_file};
use crate::base::atomic;
use crate::base::files::{self, exists};
use crate::checkpoint;
use crate::config::RunMode;
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::fs::MetadataExt;
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

    /// Checks that all files of this run can be written.
    ///
    /// # Errors
    /// The first file that cannot, with the key that names its folder.
    pub(crate) fn check_outputs(&self) -> Result<()> {
        let plan = self.plan;
        let mut checked = Vec::new();
        for output in plan.outputs()? {
            let folder = output.path.parent().map(Path::to_path_buf);
            if let Some(folder) = folder.filter(|folder| !checked.contains(folder)) {
                check_folder(&folder, &format!("--SET {}=...", output.key))?;
                checked.push(folder);
            }
            check_file(&output.path)?;
        }
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
        // Some file systems of a network or a program do not know their size.
        if disk.f_blocks == 0 {
            return Ok(());
        }
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

/// Makes `folder` if it is missing, and checks that files can be written in it. `option` names another folder.
///
/// # Errors
/// A folder that is not writable.
pub(crate) fn check_folder(folder: &Path, option: &str) -> Result<()> {
    let cannot = || {
        format!(
            "cannot write in {}; name another folder with {option}, or make this one writable",
            folder.display()
        )
    };
    atomic::make_folder(folder).with_context(cannot)?;
    atomic::remove_orphans(folder);
    atomic::temporary_file(folder)
        .map(drop)
        .with_context(cannot)
}

/// Checks that the file at `path`, whose folder is writable, can be made or replaced.
///
/// # Errors
/// A name that is too long, a folder of this name, or a file of another user that must stay.
pub(crate) fn check_file(path: &Path) -> Result<()> {
    let shown = path.display();
    let is_too_long = |error: &anyhow::Error| {
        let cause = error.root_cause().downcast_ref::<std::io::Error>();
        cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::InvalidFilename)
    };
    let found = files::look(path).map_err(|error| match is_too_long(&error) {
        true => error.context(format!(
            "cannot write {shown}: its name is too long; choose a shorter --VERSION or name of the checkpoint"
        )),
        false => error.context(format!("cannot write {shown}")),
    })?;
    let Some(found) = found else {
        return Ok(());
    };
    ensure!(
        !found.is_dir(),
        "cannot write {shown}, because it is a folder; move it away"
    );
    let folder = path.parent().map(files::look).transpose()?.flatten();
    let me = rustix::process::geteuid().as_raw();
    const STICKY: u32 = 0o1000;
    let may_replace = me == 0
        || found.uid() == me
        || folder.is_none_or(|folder| folder.mode() & STICKY == 0 || folder.uid() == me);
    ensure!(
        may_replace,
        "cannot write {shown}, because it belongs to another user; choose another --VERSION, or ask them to remove it"
    );
    Ok(())
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
        check_folder(&plan.ckpt_folder(), "").unwrap();
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
                message.contains("log_run_v.txt, because it is a folder"),
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
