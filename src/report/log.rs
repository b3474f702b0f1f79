//! The log of a run, in the reference's format, so that scripts which read the format still work.
//!
//! An entry is appended to the file that has the name of the log at that moment: an editor or a synchronising program may
//! have put another file in its place. Nothing is ever removed from the log. If a machine stopped while it wrote an
//! entry, the resumed run writes the rest of that entry.

use crate::base::{atomic, clock, files};
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tracing::debug;

/// First words of the entry at the beginning of an epoch.
const TIME_BEGINS: &str = "nowTime: ";
/// First words of the entry at the end of an epoch.
const EPOCH_BEGINS: &str = "epoch = ";
/// First words of its second line.
const LR_BEGINS: &str = "lr = ";

/// A log, to append to.
#[derive(Debug)]
pub(crate) struct Log {
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
}

impl LogState {
    /// The state of the log at `path`, or of an empty log if there is none. `scores_begin` are the first words of the
    /// scores that the metric of the run logs.
    ///
    /// # Errors
    /// When the log exists and cannot be read.
    pub(crate) fn read(path: &Path, scores_begin: &str) -> Result<LogState> {
        // A device such as /dev/null has no entries, and /dev/zero has no end.
        if !files::look(path)?.is_some_and(|found| found.is_file()) {
            return Ok(LogState::default());
        }
        Ok(LogState::of(&files::read(path, u64::MAX)?, scores_begin))
    }

    fn of(bytes: &[u8], scores_begin: &str) -> LogState {
        let mut state = LogState::default();
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text
            .trim_start_matches('\u{feff}')
            .split_inclusive('\n')
            .peekable();
        while let Some(line) = lines.next() {
            // A line without an end is torn.
            if !line.ends_with('\n') {
                break;
            }
            if line.starts_with(TIME_BEGINS) {
                state.begun = true;
            } else if let Some(epoch) = epoch_of(line) {
                let lr = lines.next_if(|next| next.starts_with(LR_BEGINS) && next.ends_with('\n'));
                if lr.is_some() {
                    (state.begun, state.epoch, state.evaluated) = (false, Some(epoch), false);
                }
            } else if line.starts_with(scores_begin) {
                // The scores end with an empty line, which an editor may have removed between two entries.
                let is_entry =
                    |line: &str| line.starts_with(TIME_BEGINS) || epoch_of(line).is_some();
                let is_end = |line: &str| line.trim().is_empty() || is_entry(line);
                state.evaluated |= lines.clone().any(is_end);
            }
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

/// N of the line `epoch = N  loss = ...`; `None` for any other line, such as a note of the user.
fn epoch_of(line: &str) -> Option<u64> {
    let (epoch, rest) = line.strip_prefix(EPOCH_BEGINS)?.split_once(' ')?;
    rest.trim_start().strip_prefix("loss = ")?;
    epoch.parse().ok()
}

impl Log {
    /// Opens the log at `path`, to append to it. Makes the file and its folder if they are missing. `scores_begin`: see
    /// [`LogState::read`].
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn open(path: &Path, scores_begin: &str) -> Result<Log> {
        debug!(path = %path.display(), "opening the log");
        appendable(path).with_context(|| cannot(path))?;
        Ok(Log {
            path: path.into(),
            state: LogState::read(path, scores_begin)?,
        })
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
            clock::now().format("%Y-%m-%d %H:%M:%S")
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

    /// Appends one entry, whole or not at all. If the log ends with the beginning of this entry, appends the rest of it.
    fn append(&self, entry: &str) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let mut file = appendable(&self.path)?;
            let end = End::of(&mut file)?;
            let text = end.before(entry) + &entry[end.written_of(entry)..];
            let written = file
                .write_all(text.as_bytes())
                .and_then(|()| atomic::sync(&file));
            // What another program has appended since stays.
            let is_ours = |now: u64| now <= end.bytes + text.len() as u64;
            if written.is_err() && file.metadata().is_ok_and(|found| is_ours(found.len())) {
                let _ = file.set_len(end.bytes);
            }
            written
        };
        write().with_context(|| cannot(&self.path))
    }
}

/// The end of a log.
struct End {
    /// The length of the log.
    bytes: u64,
    /// Its last lines, with `\n` at their ends.
    lines: String,
}

impl End {
    /// The end of `file`; nothing of a device.
    fn of(file: &mut File) -> std::io::Result<End> {
        // Longer than an entry.
        const BYTES: u64 = 1 << 14;
        let found = file.metadata()?;
        let mut last = Vec::new();
        if found.is_file() {
            file.seek(SeekFrom::Start(found.len().saturating_sub(BYTES)))?;
            file.take(BYTES).read_to_end(&mut last)?;
        }
        Ok(End {
            bytes: found.len(),
            lines: String::from_utf8_lossy(&last).replace("\r\n", "\n"),
        })
    }

    /// The number of bytes of `entry` with which the log ends already.
    fn written_of(&self, entry: &str) -> usize {
        let starts = self.lines.match_indices('\n').map(|(at, _)| at + 1);
        let ends = std::iter::once(0)
            .chain(starts)
            .map(|start| &self.lines[start..]);
        let begun = |end: &&str| end.len() < entry.len() && entry.starts_with(end);
        ends.filter(begun).map(str::len).max().unwrap_or(0)
    }

    /// What must stand between the log and `entry`: the end of a torn line that does not belong to it.
    fn before(&self, entry: &str) -> String {
        let is_whole = self.lines.is_empty() || self.lines.ends_with('\n');
        let continues = self.written_of(entry) > 0;
        if is_whole || continues { "" } else { "\n" }.to_owned()
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
    let open = |is_new: bool| {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .append(true)
            .create_new(is_new)
            .open(path)
    };
    match open(false) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let file = open(true)?;
            atomic::sync_folder(folder)?;
            Ok(file)
        }
        opened => opened,
    }
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
mod tests;
