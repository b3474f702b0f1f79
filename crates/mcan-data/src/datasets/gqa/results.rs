//! Answer files of GQA: `[{"questionId": str, "prediction": str}, ...]`, as OpenVQA writes them and the challenge takes them.

use crate::base::atomic;
use crate::data::QuestionId;
use crate::formats::json::{JsonFile, Text, entry};
use crate::formats::python_json::write_python_json;
use anyhow::{Context, Result, ensure};
use rustc_hash::FxHashSet;
use serde::Serialize;
use std::path::Path;

entry! {
    struct RawAnswer<'a>, "an answer: an object with questionId and prediction" {
        questionId: Text<'a>,
        prediction: Text<'a>,
    }
}

/// Writes answers in the given order.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write_answers(path: &Path, answers: &[(QuestionId, &str)]) -> Result<()> {
    /// The keys, in the order of OpenVQA.
    #[derive(Serialize)]
    struct Entry<'a> {
        #[serde(rename = "questionId")]
        question_id: String,
        prediction: &'a str,
    }
    let mut entries = Vec::new();
    for (id, prediction) in answers {
        entries.push(Entry {
            question_id: id.to_string(),
            prediction,
        });
    }
    atomic::write(path, |writer| Ok(write_python_json(writer, &entries)?))
}

/// Reads an answer file.
///
/// # Errors
/// A file that is not a list in JSON, a key that is missing or has the wrong type, two answers to one question. Each error
/// names the file and the place in it.
pub(super) fn read_answers(path: &Path) -> Result<Vec<(QuestionId, String)>> {
    let source = JsonFile::open(path)?;
    let (mut answers, mut seen) = (Vec::new(), FxHashSet::default());
    source.for_each(|raw: RawAnswer| {
        let id = raw.questionId.context("an answer has no \"questionId\"")?;
        let answer = raw.prediction;
        let answer = answer
            .with_context(|| format!("the entry of question {} has no \"prediction\"", &*id))?;
        ensure!(
            seen.insert(id.to_string()),
            "question {} is answered twice",
            &*id
        );
        answers.push((QuestionId::from(&*id), answer.to_string()));
        Ok(())
    })?;
    Ok(answers)
}
