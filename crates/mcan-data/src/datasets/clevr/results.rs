//! Answer files of CLEVR: one answer per line, in the order of the questions.

use crate::base::atomic;
use anyhow::{Context, Result};
use std::io::Write;
use std::path::Path;

/// The largest answer file that is accepted, in bytes; answers to all published questions take less than a megabyte.
const MAX_BYTES: u64 = 1 << 30;

/// Writes answers in the given order.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write_answers<'a>(
    path: &Path,
    answers: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    atomic::write(path, |writer| {
        for answer in answers {
            writeln!(writer, "{answer}")?;
        }
        Ok(())
    })
}

/// Reads the answers of a file.
///
/// # Errors
/// A file that cannot be read, is larger than a gigabyte, or is not UTF-8.
pub(super) fn read_answers(path: &Path) -> Result<Vec<String>> {
    let read = || -> Result<String> {
        let bytes = std::fs::metadata(path)?.len();
        anyhow::ensure!(
            bytes <= MAX_BYTES,
            "it has {bytes} bytes; at most {MAX_BYTES} are accepted"
        );
        Ok(std::fs::read_to_string(path)?)
    };
    let text = read().with_context(|| format!("cannot read the answers {}", path.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
