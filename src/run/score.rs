//! `--RUN=score`: the accuracy of an answer file.

use crate::config::Config;
use crate::config::paths::Source;
use crate::datasets::vqa2;
use anyhow::{Context, Result};

/// Prints the score of `RESULT_FILE`, against val unless `QUESTIONS` and `ANNOTATIONS` name other files.
///
/// # Errors
/// A file that is missing or damaged, or answers to other questions.
pub(super) fn run(config: &Config) -> Result<()> {
    let run = &config.run;
    let result_file = run.result_file.as_deref();
    let result_file = result_file.context("--RESULT_FILE is missing")?;
    let questions = run.questions.clone();
    let questions = questions.unwrap_or_else(|| config.questions_of(Source::Val));
    let annotations = run.annotations.clone();
    let annotations = annotations.unwrap_or_else(|| config.annotations_of(Source::Val));
    print!("{}", vqa2::score(result_file, &questions, &annotations)?);
    Ok(())
}
