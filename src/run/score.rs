//! `--RUN=score`: scores an answer file.

use crate::base::output;
use crate::config::Config;
use crate::datasets::files::{in_archive, split};
use anyhow::{Context, Result};

/// Prints the scores of `RESULT_FILE` on the evaluated split, or on the files that `QUESTIONS` and `ANNOTATIONS` name.
///
/// # Errors
/// A file that is missing or damaged, or answers to other questions.
pub(super) fn run(config: &Config) -> Result<()> {
    let run = &config.run;
    let result_file = run.result_file.as_deref();
    let result_file = result_file.context("--RESULT_FILE is missing")?;
    let (benchmark, places) = (config.data.benchmark()?, config.data.places());
    let evaluated = split(benchmark, benchmark.evaluated_split())?;
    let questions = match run.questions.clone() {
        Some(file) => in_archive(benchmark, file)?,
        None => places.questions(benchmark, evaluated)?,
    };
    let annotations = match run.annotations.clone() {
        Some(file) => Some(in_archive(benchmark, file)?),
        None => places.annotations(benchmark, evaluated)?,
    };
    let scores = benchmark.score(
        result_file,
        &questions,
        annotations.as_deref(),
        config.data.accuracy.into(),
    )?;
    output::print_result(format_args!("{scores}"));
    output::check_results()
}
