//! Answer files of CLEVR: one answer per line, in the order of the questions.

use crate::base::atomic;
use crate::base::files;
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
    let cannot = || format!("cannot read the answers {}", path.display());
    let bytes = files::read(path, MAX_BYTES).with_context(cannot)?;
    let text = String::from_utf8(bytes)
        .context("it is not UTF-8 text")
        .with_context(cannot)?;
    Ok(text.lines().map(str::to_owned).collect())
}
