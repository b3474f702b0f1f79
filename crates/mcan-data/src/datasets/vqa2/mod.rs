//! VQA-v2: its files, its samples and its metric. The files of Visual Genome and of the demo have the same format.
//!
//! A file is parsed once, as a stream, into flat vectors. Words and answers are interned, so that a million questions take
//! tens of megabytes, and each distinct answer is normalised once.

mod annotations;
mod answer_list;
mod files;
mod metric;
mod questions;
mod results;
mod samples;
mod score;
mod targets;
#[cfg(test)]
pub(crate) mod tests;

pub use annotations::{Annotation, AnnotationFile};
pub use answer_list::count_answers;
pub use files::FEATURE_FILES;
pub(super) use files::Vqa2;
pub use metric::Evaluator;
pub use questions::{Question, QuestionFile};
pub use results::{Answer, read_answers, write_answers};

use crate::data::QuestionId;
use crate::formats::json::Int;
use anyhow::{Context, Result};
use rayon::prelude::*;
use std::path::Path;

/// Reads question and annotation files in parallel.
///
/// # Errors
/// Those of [`QuestionFile::read`] and [`AnnotationFile::read`].
fn read_all<P: AsRef<Path> + Sync>(
    questions: &[P],
    annotations: &[P],
) -> Result<(Vec<QuestionFile>, Vec<AnnotationFile>)> {
    // Annotation files take longer, so they start first; each file is a task of its own.
    let (annotations, questions) = rayon::join(
        || {
            annotations
                .par_iter()
                .with_max_len(1)
                .map(|path| AnnotationFile::read(path.as_ref()))
                .collect::<Result<_>>()
        },
        || {
            questions
                .par_iter()
                .with_max_len(1)
                .map(|path| QuestionFile::read(path.as_ref()))
                .collect::<Result<_>>()
        },
    );
    Ok((questions?, annotations?))
}

/// The image of question `question_id`.
fn image_id(question_id: i64, given: Option<Int>) -> Result<u64> {
    let Int(image) =
        given.with_context(|| format!("question {question_id} has no \"image_id\""))?;
    u64::try_from(image).with_context(|| {
        format!("question {question_id} has the image_id {image}, which is negative")
    })
}

/// The answers with the numbers of their questions.
fn numbered<'a>(answers: &[(QuestionId, &'a str)]) -> Result<Vec<(i64, &'a str)>> {
    let numbered = |(id, answer): &(QuestionId, &'a str)| {
        let number = id.0.number();
        let number = number.with_context(|| format!("the id of question {id} is not a number"))?;
        Ok((number, *answer))
    };
    answers.iter().map(numbered).collect()
}
