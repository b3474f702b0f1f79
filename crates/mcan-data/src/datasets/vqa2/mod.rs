//! VQA-v2: its files, its samples and its metric. The files of Visual Genome and of the demo have the same format.
//!
//! A file is parsed once, as a stream, into flat vectors. Words and answers are interned, so that a million questions take
//! tens of megabytes, and each distinct answer is normalised once.

mod annotations;
mod answer_list;
mod files;
pub(super) mod form;
mod metric;
mod parsed;
mod questions;
pub(super) mod results;
mod samples;
pub(super) mod score;
mod targets;
#[cfg(test)]
pub(crate) mod tests;

pub use annotations::{Annotation, AnnotationFile};
pub use answer_list::count_answers;
pub use files::FEATURE_FILES;
pub(super) use files::Vqa2;
pub use form::{Form, Images, Layout};
pub use metric::Evaluator;
pub(super) use metric::LOG_START;
pub(super) use parsed::{Files, Rules};
pub use questions::{Question, QuestionFile};
pub use results::{Answer, read_answers, write_answers};

use crate::formats::json::Int;
use anyhow::{Context, Result};
use rayon::prelude::*;
use std::path::Path;

/// Reads question and annotation files of this form in parallel.
///
/// # Errors
/// Those of [`QuestionFile::read`] and [`AnnotationFile::read`].
fn read_all<P: AsRef<Path> + Sync>(
    questions: &[P],
    annotations: &[P],
    form: Form,
) -> Result<(Vec<QuestionFile>, Vec<AnnotationFile>)> {
    // Annotation files take longer, so they start first; each file is a task of its own.
    let (annotations, questions) = rayon::join(
        || {
            annotations
                .par_iter()
                .with_max_len(1)
                .map(|path| AnnotationFile::read_as(path.as_ref(), form))
                .collect::<Result<_>>()
        },
        || {
            questions
                .par_iter()
                .with_max_len(1)
                .map(|path| QuestionFile::read_as(path.as_ref(), form))
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
