//! The log of a run, in the reference's format, so that scripts which read the format still work.
//!
//! Each entry is appended in one write. If the machine stops during a write, the next run of the version removes the
//! torn entry ([`Log::resume`]) and writes it again.

use crate::base::atomic;
use anyhow::{Context, Result};
use chrono::Local;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use tracing::debug;

/// First words of the entry at the beginning of an epoch.
const TIME_BEGINS: &str = "nowTime: ";
/// First words of the entry at the end of an epoch.
const EPOCH_BEGINS: &str = "epoch = ";

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    path: PathBuf,
    /// The epochs that its entries cover.
    pub(crate) state: LogState,
}

/// The state of a log: the epochs that its entries cover.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogState {
    /// Whether an epoch has begun and not ended.
    pub(crate) begun: bool,
    /// The last epoch that ended.
    epoch: Option<u64>,
    /// Whether val has been evaluated since.
    evaluated: bool,
    /// Number of bytes of whole entries; a torn entry may follow.
    whole: usize,
}

impl LogState {
    /// The state of the log at `path`, or of an empty log if there is none. `scores_begin` are the first words of the
    /// scores that the metric of the run logs.
    pub(crate) fn read(path: &Path, scores_begin: &str) -> LogState {
        let bytes = if path.is_file() {
            std::fs::read(path).unwrap_or_default()
        } else {
            Vec::new()
        };
        LogState::of(&bytes, scores_begin)
    }

    fn of(bytes: &[u8], scores_begin: &str) -> LogState {
        let beginnings = [TIME_BEGINS, EPOCH_BEGINS, scores_begin];
        let mut state = LogState {
            whole: bytes.len(),
            ..LogState::default()
        };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return state;
        };
        let mut line_start = 0;
        for line in text.split_inclusive('\n') {
            let rest = &text[line_start..];
            let torn_word = !line.ends_with('\n')
                && beginnings
                    .iter()
                    .any(|beginning| beginning.starts_with(line));
            let Some(entry) = beginnings
                .iter()
                .find(|beginning| line.starts_with(**beginning))
            else {
                if torn_word {
                    state.whole = line_start;
                }
                line_start += line.len();
                continue;
            };
            let is_time = *entry == TIME_BEGINS;
            if !(is_time && line.ends_with('\n') || !is_time && rest.contains("\n\n")) {
                state.whole = line_start;
                break;
            }
            match line
                .strip_prefix(EPOCH_BEGINS)
                .and_then(|rest| rest.split(' ').next()?.parse().ok())
            {
                Some(epoch) => {
                    (state.begun, state.epoch, state.evaluated) = (false, Some(epoch), false)
                }
                None if is_time => state.begun = true,
                None => state.evaluated = true,
            }
            line_start += line.len();
        }
        state
    }

    /// Whether the log lacks an entry of `epoch`, whose checkpoint exists: the end of the epoch, or its scores if the
    /// run evaluates epochs.
    pub(crate) fn lacks(&self, epoch: u64, evaluates: bool) -> bool {
        let last = self.epoch.unwrap_or(0);
        match self.begun {
            true => last + 1 == epoch,
            false => last == epoch && evaluates && !self.evaluated,
        }
    }
}

impl Log {
    /// Opens the log at `path` for appending. Makes the file and its folder if they are missing. `scores_begin`: see
    /// [`LogState::read`].
    ///
    /// # Errors
    /// When it cannot be opened for writing.
    pub(crate) fn open(path: &Path, scores_begin: &str) -> Result<Log> {
        debug!(path = %path.display(), "opening the log");
        let file = appendable(path).with_context(|| cannot(path))?;
        Ok(Log {
            file,
            path: path.into(),
            state: LogState::read(path, scores_begin),
        })
    }

    /// Opens the log for a run that continues it, and removes an entry that was torn when the machine stopped.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn resume(path: &Path, scores_begin: &str) -> Result<Log> {
        let log = Log::open(path, scores_begin)?;
        if log.cut_torn_entry()? {
            crate::note!(
                "{}: its last entry was cut short and is removed",
                path.display()
            );
        }
        Ok(log)
    }

    /// Removes a torn entry at the end; returns whether there was one.
    fn cut_torn_entry(&self) -> Result<bool> {
        let whole = self.state.whole as u64;
        let torn = whole < self.file.metadata()?.len();
        if torn {
            self.file.set_len(whole).with_context(|| self.cannot())?;
        }
        Ok(torn)
    }

    /// Writes the time at which an epoch begins, unless the log has it from an interrupted run.
    ///
    /// # Errors
    /// When writing fails.
    pub(crate) fn begin_epoch(&mut self) -> Result<()> {
        if self.state.begun {
            return Ok(());
        }
        self.state.begun = true;
        self.append(&format!(
            "nowTime: {}\n",
            Local::now().format("%Y-%m-%d %H:%M:%S")
        ))
    }

    /// Writes the results of an epoch (from 1): its loss per question, and the learning rate of its last step.
    ///
    /// # Errors
    /// When writing fails.
    pub(crate) fn end_epoch(&mut self, epoch: u64, loss: f64, lr: f64) -> Result<()> {
        (self.state.begun, self.state.epoch, self.state.evaluated) = (false, Some(epoch), false);
        let (loss, lr) = (
            python_float(format!("{:e}", loss as f32)),
            python_float(format!("{lr:e}")),
        );
        self.append(&format!("epoch = {epoch}  loss = {loss}\nlr = {lr}\n\n"))
    }

    /// Writes the scores of an evaluation of val: lines that begin with the metric's first words and end with an empty
    /// line.
    ///
    /// # Errors
    /// When writing fails.
    pub(crate) fn scores(&mut self, lines: &str) -> Result<()> {
        self.state.evaluated = true;
        self.append(lines)
    }

    /// Appends one entry, whole or not at all.
    fn append(&mut self, text: &str) -> Result<()> {
        // The file may have been removed during the run; writing to it would then be lost.
        if !self.path.exists() {
            self.file = appendable(&self.path).with_context(|| self.cannot())?;
        }
        let before = self.file.metadata().with_context(|| self.cannot())?.len();
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data());
        if written.is_err() {
            let _ = self.file.set_len(before);
        }
        written.with_context(|| self.cannot())
    }

    fn cannot(&self) -> String {
        cannot(&self.path)
    }
}

fn cannot(path: &Path) -> String {
    format!("cannot write the log {}", path.display())
}

fn appendable(path: &Path) -> std::io::Result<File> {
    let folder = path.parent().unwrap_or(Path::new(""));
    if !folder.as_os_str().is_empty() {
        atomic::make_folder(folder)?;
    }
    let is_new = !path.exists();
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    if is_new {
        atomic::sync_folder(folder)?;
    }
    Ok(file)
}

/// A float, given in Rust's shortest scientific notation (`8e-5`), as Python prints it (`8e-05`, `0.0004`, `12.0`).
fn python_float(scientific: String) -> String {
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific.to_lowercase(); // inf, nan
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", digits), |rest| ("-", rest));
    if !(-4..16).contains(&exponent) {
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{digits}e{direction}{:02}", exponent.abs());
    }
    let digits = digits.replace('.', "");
    if exponent < 0 {
        return format!(
            "{sign}0.{}{digits}",
            "0".repeat(exponent.unsigned_abs() as usize - 1)
        );
    }
    let whole = exponent as usize + 1;
    let padded = format!("{digits:0<whole$}");
    let (whole, fraction) = padded.split_at(whole);
    format!(
        "{sign}{whole}.{}",
        if fraction.is_empty() { "0" } else { fraction }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: &str = "Overall Accuracy is: ";

    #[test]
    fn floats_look_as_in_python() {
        for (value, text) in [
            (8e-5, "8e-05"),
            (0.0004, "0.0004"),
            (0.00030000000000000003, "0.00030000000000000003"),
            (12.0, "12.0"),
            (1234.5, "1234.5"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (-0.5, "-0.5"),
            (0.0, "0.0"),
        ] {
            assert_eq!(python_float(format!("{value:e}")), text);
        }
        assert_eq!(python_float(format!("{:e}", 24.741917f32)), "24.741917");
        assert_eq!(python_float(format!("{:e}", f64::NAN)), "nan");
    }

    #[test]
    fn wherever_a_log_was_cut_the_next_run_finds_whole_entries() {
        let time = "nowTime: 2026-11-23 09:27:02\n";
        let epoch = |n: u64| format!("epoch = {n}  loss = 24.741917\nlr = 0.0005\n\n");
        let accuracy = "Overall Accuracy is: 27.17\nother : 5.41 yes/no : 1.07 \n\n";
        let entries = [time, &epoch(1), accuracy, time, &epoch(2), accuracy];
        let text = entries.concat();
        let mut ends = vec![0];
        entries
            .iter()
            .for_each(|entry| ends.push(ends[ends.len() - 1] + entry.len()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        for cut in 0..=text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let whole = *ends.iter().rfind(|&&end| end <= cut).unwrap();
            let log = Log::open(&path, SCORES).unwrap();
            assert_eq!(log.cut_torn_entry().unwrap(), whole < cut);
            assert_eq!(
                std::fs::read_to_string(&path).unwrap(),
                text[..whole],
                "cut at {cut}"
            );
            let count = ends.iter().position(|&end| end == whole).unwrap();
            assert_eq!(log.state.begun, count == 1 || count == 4, "cut at {cut}");
            assert_eq!(log.state.lacks(1, false), count == 1, "cut at {cut}");
            assert_eq!(
                log.state.lacks(1, true),
                count == 1 || count == 2,
                "cut at {cut}"
            );
            assert_eq!(
                log.state.lacks(2, true),
                count == 4 || count == 5,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn the_scores_of_any_metric_are_an_entry() {
        let text = "epoch = 1  loss = 2.0\nlr = 0.5\n\nOverall : 40.00\ncount : 35.00\n\n";
        let state = LogState::of(text.as_bytes(), "Overall : ");
        assert!(!state.lacks(1, true) && state.whole == text.len());
        let torn = LogState::of(&text.as_bytes()[..text.len() - 5], "Overall : ");
        assert!(torn.lacks(1, true) && text[torn.whole..].starts_with("Overall : "));
    }

    #[test]
    fn an_entry_that_does_not_fit_leaves_no_trace() {
        let Ok(mut log) = Log::open(Path::new("/dev/full"), SCORES) else {
            return eprintln!("skipped: there is no /dev/full");
        };
        let message = format!("{:#}", log.end_epoch(1, 1.0, 1.0).unwrap_err());
        assert!(
            message.contains("cannot write the log /dev/full") && message.contains("No space"),
            "{message}"
        );
    }

    #[test]
    fn a_log_that_is_removed_under_a_run_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/log_run_x.txt");
        let mut log = Log::open(&path, SCORES).unwrap();
        log.end_epoch(1, 1.0, 0.5).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        log.end_epoch(2, 1.0, 0.5).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "epoch = 2  loss = 1.0\nlr = 0.5\n\n"
        );
    }

    #[test]
    fn a_log_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/log_run_x.txt");
        Log::open(&path, SCORES)
            .unwrap()
            .end_epoch(1, 24.741917, 0.0005)
            .unwrap();
        let mut log = Log::open(&path, SCORES).unwrap();
        log.begin_epoch().unwrap();
        log.end_epoch(2, 8.0, 8e-5).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..3],
            ["epoch = 1  loss = 24.741917", "lr = 0.0005", ""]
        );
        assert!(
            lines[3].starts_with("nowTime: 20") && lines[3].len() == 28,
            "{}",
            lines[3]
        );
        assert_eq!(lines[4..], ["epoch = 2  loss = 8.0", "lr = 8e-05", ""]);
    }
}
