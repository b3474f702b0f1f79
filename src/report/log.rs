//! The log of a run, in the reference's format, so that scripts which read it go on working.
//!
//! Entries are appended in one write each and never rewritten.

use crate::evaluation::Accuracy;
use anyhow::{Context, Result};
use chrono::Local;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An open log.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Opens the log at `path` for appending; makes file and folder when missing.
    ///
    /// # Errors
    /// When it cannot be opened for writing.
    pub fn open(path: &Path) -> Result<Log> {
        let cannot = || format!("cannot write the log {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(cannot)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).with_context(cannot)?;
        Ok(Log { file, path: path.into() })
    }

    /// An epoch begins.
    ///
    /// # Errors
    /// When writing fails; so do the other entries.
    pub fn begin_epoch(&mut self) -> Result<()> {
        self.append(&format!("nowTime: {}\n", Local::now().format("%Y-%m-%d %H:%M:%S")))
    }

    /// An epoch (from 1) is done: its loss per question, and the learning rate of its last step.
    ///
    /// # Errors
    /// As above.
    pub fn end_epoch(&mut self, epoch: u64, loss: f64, lr: f64) -> Result<()> {
        let (loss, lr) = (python_float(format!("{:e}", loss as f32)), python_float(format!("{lr:e}")));
        self.append(&format!("epoch = {epoch}  loss = {loss}\nlr = {lr}\n\n"))
    }

    /// Val has been evaluated.
    ///
    /// # Errors
    /// As above.
    pub fn accuracy(&mut self, accuracy: &Accuracy) -> Result<()> {
        self.append(&accuracy.log_lines())
    }

    fn append(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).with_context(|| format!("cannot write the log {}", self.path.display()))
    }
}

/// A float, given in Rust's shortest scientific notation (`8e-5`), as Python prints it (`8e-05`, `0.0004`, `12.0`).
pub fn python_float(scientific: String) -> String {
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific.to_lowercase(); // inf, nan
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    if !(-4..16).contains(&exponent) {
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{digits}e{direction}{:02}", exponent.abs());
    }
    let digits = digits.replace('.', "");
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
    }
    let whole = exponent as usize + 1;
    let padded = format!("{digits:0<whole$}");
    let (whole, fraction) = padded.split_at(whole);
    format!("{sign}{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_log_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/log_run_x.txt");
        Log::open(&path).unwrap().end_epoch(1, 24.741917, 0.0005).unwrap();
        let mut log = Log::open(&path).unwrap();
        log.begin_epoch().unwrap();
        log.end_epoch(2, 8.0, 8e-5).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["epoch = 1  loss = 24.741917", "lr = 0.0005", ""]);
        assert!(lines[3].starts_with("nowTime: 20") && lines[3].len() == 28, "{}", lines[3]);
        assert_eq!(lines[4..], ["epoch = 2  loss = 8.0", "lr = 8e-05", ""]);
    }
}
