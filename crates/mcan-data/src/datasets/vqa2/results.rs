//! Answer files in the format of the VQA challenge: `[{"answer": str, "question_id": int}, ...]`, byte for byte as the
//! reference writes them.

use super::form::Layout;
use crate::base::atomic;
use crate::data::QuestionId;
use crate::formats::json::{Int, JsonFile, Text, entry};
use crate::formats::python_json::write_python_json;
use anyhow::{Context, Result, bail};
use rustc_hash::FxHashSet;
use serde::Serialize;
use std::path::Path;

/// An answer of an answer file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The id of the question.
    pub question_id: i64,
    /// The answer.
    pub answer: String,
}

entry! {
    struct RawAnswer<'a>, "an answer: an object with question_id and answer" {
        question_id: Int,
        answer: Text<'a>,
    }
}

/// Reads an answer file.
///
/// # Errors
/// A file that is not a list in JSON, a key that is missing or has the wrong type, two answers to one question. Each error
/// names the file and the place in it.
pub fn read_answers(path: &Path) -> Result<Vec<Answer>> {
    let source = JsonFile::open(path)?;
    let (mut answers, mut seen) = (Vec::new(), FxHashSet::default());
    source.for_each(|raw: RawAnswer| {
        let Int(question_id) = raw
            .question_id
            .context("an answer has no \"question_id\"")?;
        let answer = raw
            .answer
            .with_context(|| format!("the entry of question {question_id} has no \"answer\""))?;
        if !seen.insert(question_id) {
            bail!("question {question_id} is answered twice");
        }
        answers.push(Answer {
            question_id,
            answer: answer.to_string(),
        });
        Ok(())
    })?;
    Ok(answers)
}

entry! {
    struct AnswerAboutImage<'a>, "an answer: an object with image and answer" {
        image: Text<'a>,
        answer: Text<'a>,
    }
}

/// Reads an answer file of this layout.
///
/// # Errors
/// Those of [`read_answers`].
pub(super) fn read_answers_of(path: &Path, layout: Layout) -> Result<Vec<(QuestionId, String)>> {
    if layout == Layout::Vqa {
        let answers = read_answers(path)?.into_iter();
        return Ok(answers
            .map(|answer| (answer.question_id.into(), answer.answer))
            .collect());
    }
    let source = JsonFile::open(path)?;
    let (mut answers, mut seen) = (Vec::new(), FxHashSet::default());
    source.for_each(|raw: AnswerAboutImage| {
        let image = raw.image.context("an answer has no \"image\"")?;
        let lacks = || format!("the entry of image {} has no \"answer\"", &*image);
        let answer = raw.answer.with_context(lacks)?;
        if !seen.insert(image.to_string()) {
            bail!("image {} is answered twice", &*image);
        }
        answers.push((QuestionId::from(&*image), answer.to_string()));
        Ok(())
    })?;
    Ok(answers)
}

/// Writes an answer file of this layout in the given order.
///
/// # Errors
/// The file cannot be written, or the id of a question is not a number in VQA's layout.
pub(in crate::datasets) fn write_answers_of(
    path: &Path,
    answers: &[(QuestionId, &str)],
    layout: Layout,
) -> Result<()> {
    /// The keys, in the order of the documentation of VizWiz.
    #[derive(Serialize)]
    struct Entry<'a> {
        image: String,
        answer: &'a str,
    }
    if layout == Layout::VizWiz {
        let entries = answers.iter().map(|(id, answer)| Entry {
            image: id.to_string(),
            answer,
        });
        return atomic::write(path, |writer| {
            Ok(write_python_json(writer, &Sequence::new(entries))?)
        });
    }
    let numbered = |(id, answer): &(QuestionId, _)| {
        let number = id.0.number();
        let number = number.with_context(|| format!("the id of question {id} is not a number"))?;
        Ok((number, *answer))
    };
    let numbered: Vec<(i64, &str)> = answers.iter().map(numbered).collect::<Result<_>>()?;
    write_answers(path, numbered)
}

/// Writes an answer file in the given order.
///
/// # Errors
/// The file cannot be written.
pub fn write_answers<'a>(
    path: &Path,
    answers: impl IntoIterator<Item = (i64, &'a str)>,
) -> Result<()> {
    /// The keys, in the order of the reference.
    #[derive(Serialize)]
    struct Entry<'a> {
        answer: &'a str,
        question_id: i64,
    }
    let entries = answers.into_iter().map(|(question_id, answer)| Entry {
        answer,
        question_id,
    });
    atomic::write(path, |writer| {
        Ok(write_python_json(writer, &Sequence::new(entries))?)
    })
}

/// An iterator that is serialised as a list, once.
struct Sequence<I>(std::cell::Cell<Option<I>>);

impl<I> Sequence<I> {
    fn new(items: I) -> Self {
        Self(std::cell::Cell::new(Some(items)))
    }
}

impl<I: Iterator<Item: Serialize>> Serialize for Sequence<I> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.take().into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::vqa2::tests::{shared, write_bytes};
    use proptest::prelude::*;
    use std::fs;

    fn pairs(answers: &[Answer]) -> impl Iterator<Item = (i64, &str)> {
        answers
            .iter()
            .map(|entry| (entry.question_id, &*entry.answer))
    }

    #[test]
    fn the_golden_answer_files_come_back_byte_for_byte() {
        for file in [
            "results/cache/result_run_golden.json",
            "results/result_test/result_run_golden_epoch6.json",
        ] {
            let Some(path) = shared(&format!("golden/world/{file}")) else {
                return;
            };
            let folder = tempfile::tempdir().unwrap();
            let copy = folder.path().join("new/copy.json");
            write_answers(&copy, pairs(&read_answers(&path).unwrap())).unwrap();
            assert!(
                fs::read(&path).unwrap() == fs::read(&copy).unwrap(),
                "{file} changed"
            );
        }
    }

    #[test]
    fn an_error_in_an_answer_file_names_file_place_and_question() {
        let cases = [
            (
                r#"{"answer": "a", "question_id": 1}"#,
                "it has an object where a list is expected",
            ),
            (r#"[{"answer": "a"}]"#, "an answer has no \"question_id\""),
            (
                r#"[{"question_id": 1}]"#,
                "the entry of question 1 has no \"answer\"",
            ),
            (
                r#"[{"question_id": 1.5, "answer": "a"}]"#,
                "question_id: it has the number 1.5 where a whole number is expected",
            ),
            (
                r#"[{"question_id": 1, "answer": true}]"#,
                "answer: it has true where a text is expected",
            ),
            (
                r#"[{"question_id": 1, "answer": "a"}, {"question_id": 1, "answer": "a"}]"#,
                "question 1 is answered twice",
            ),
            (
                r#"[{"question_id": 1, "answer": "a"}"#,
                "not valid JSON: it ends too early",
            ),
        ];
        for (text, reason) in cases {
            let (_folder, path) = write_bytes("mine.json", text.as_bytes());
            let message = format!("{:#}", read_answers(&path).unwrap_err());
            let place = message.contains("mine.json") && message.contains("at line 1 column");
            assert!(place && message.contains(reason), "{reason}: {message}");
        }
    }

    proptest! {
        #[test]
        fn answers_survive_a_round_trip(texts in prop::collection::vec(any::<String>(), 0..6)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("answers.json");
            let answers: Vec<_> = (-2..).zip(texts).map(|(question_id, answer)| Answer { question_id, answer }).collect();
            write_answers(&path, pairs(&answers)).unwrap();
            prop_assert!(fs::read(&path).unwrap().iter().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert_eq!(read_answers(&path).unwrap(), answers);
        }

        #[test]
        fn any_bytes_are_read_or_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let (_folder, path) = write_bytes("mine.json", &bytes);
            if let Err(error) = read_answers(&path) {
                let message = format!("{error:#}");
                prop_assert!(message.contains("mine.json"));
            }
        }
    }
}
