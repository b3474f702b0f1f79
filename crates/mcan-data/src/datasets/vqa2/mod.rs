//! The question and annotation files of VQA-v2, and files of that shape (Visual Genome's, the demo's).
//!
//! A file is parsed once, as a stream over its bytes, into flat vectors: words and answers are interned, so a million
//! questions take tens of megabytes and each distinct answer is normalised once. What is read here is not yet fit for a
//! model: no vocabulary, no answer list, no padding.

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
pub use files::{FEATURE_FILES, Vqa2};
pub use metric::{Accuracy, Evaluator, Matching};
pub use questions::{Question, QuestionFile};
pub use results::{Answer, read_answers, write_answers};
pub use score::{ScoreReport, score};

use anyhow::Result;
use rayon::prelude::*;
use std::path::Path;

/// Reads question and annotation files at the same time, on as many cores as there are.
///
/// # Errors
/// The first file that cannot be read, see [`QuestionFile::read`] and [`AnnotationFile::read`].
pub fn read_all<P: AsRef<Path> + Sync>(
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
