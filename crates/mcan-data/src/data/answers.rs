//! The answers that a model chooses from.
//!
//! The order of the list is the order of the model's outputs, so that a published checkpoint needs the published list.

use crate::base::atomic;
use crate::formats::json::{Int, JsonFile, Text};
use crate::formats::python_json::write_python_json;
use crate::formats::strings::Strings;
use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use serde::Deserialize;
use std::path::Path;

/// A target: the index of an answer and its score, from 0 to 1.
pub type Target = (u32, f32);

/// The list of distinct answers; the index of an answer is the model's output for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerList {
    answers: Strings,
}

/// The content of `answer_dict.json`.
#[derive(Deserialize)]
#[serde(expecting = "a list of two objects, from answers to indices and from indices to answers")]
struct Halves<'a>(
    IndexMap<String, Int>,
    #[serde(borrow)] IndexMap<String, Text<'a>>,
);

impl AnswerList {
    /// Reads `answer_dict.json`: `[answer -> index, index -> answer]`.
    ///
    /// # Errors
    /// A file of another shape, halves that disagree, or a gap in the indices. Each names the file.
    pub fn load(path: &Path) -> Result<Self> {
        let source = JsonFile::open(path)?;
        let Halves(index_of, answer_at) = source.parse()?;
        Self::from_halves(index_of, &answer_at)
            .with_context(|| format!("{} is damaged", source.name()))
    }

    /// The list of the two halves of a dictionary.
    ///
    /// # Errors
    /// Halves that disagree, or a gap in the indices.
    pub(crate) fn from_halves(
        mut index_of: IndexMap<String, Int>,
        answer_at: &IndexMap<String, Text>,
    ) -> Result<Self> {
        let (forward, back) = (index_of.len(), answer_at.len());
        ensure!(
            forward == back,
            "it has an index for {forward} answers, but an answer for {back} indices"
        );
        ensure!(forward > 0, "it has no answer");
        index_of.sort_unstable_by(|_, a, _, b| a.0.cmp(&b.0));
        for (expected, (answer, Int(index))) in (0..).zip(&index_of) {
            ensure!(
                *index == expected,
                "answer {answer:?} has index {index}; {expected} is expected"
            );
            let Some(there) = answer_at.get(&index.to_string()) else {
                bail!("index {index} has no answer")
            };
            ensure!(
                **there == **answer,
                "index {index} belongs to {answer:?} in one half and to {:?} in the other",
                &**there
            );
        }
        Ok(Self {
            answers: index_of.into_keys().collect(),
        })
    }

    /// The list of a checkpoint, as [`answers`](Self::answers) gave it.
    ///
    /// # Errors
    /// No answer, or an answer that occurs twice.
    pub fn from_answers(answers: Vec<String>) -> Result<Self> {
        ensure!(!answers.is_empty(), "the answer list is empty");
        let mut distinct = Strings::default();
        for answer in answers {
            if let (at, false) = distinct.insert_full(answer) {
                bail!("the answer list has {:?} twice", distinct[at]);
            }
        }
        Ok(Self { answers: distinct })
    }

    /// Writes `answer_dict.json` in the format of the reference.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        atomic::write(path, |writer| self.write(writer))
    }

    /// As [`save`](Self::save), but replaces no file: the user may have put one there since the answers were counted.
    ///
    /// # Errors
    /// The file cannot be written, or there is one.
    pub fn save_new(&self, path: &Path) -> Result<()> {
        atomic::write_new(path, |writer| self.write(writer))
    }

    fn write(&self, writer: &mut atomic::Writer) -> Result<()> {
        let index_of: IndexMap<&str, usize> = self.answers().zip(0..).collect();
        let answer_at: IndexMap<String, &str> = (0..)
            .map(|i: usize| i.to_string())
            .zip(self.answers())
            .collect();
        Ok(write_python_json(writer, &(index_of, answer_at))?)
    }

    /// All answers, by index.
    pub fn answers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.answers.iter().map(String::as_str)
    }

    /// The number of answers, which is the number of outputs of the model.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether the list is empty: never, because an empty list is an error.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// The answer with this index.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.answers.get_index(index).map(String::as_str)
    }

    /// The index of an answer.
    pub(crate) fn index(&self, answer: &str) -> Option<u32> {
        // Not truncated: lists come from files with u32 indices or fewer strings than that.
        self.answers.get_index_of(answer).map(|at| at as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{shared, write_json};
    use serde_json::{Value, json};

    fn list(answers: &[&str]) -> AnswerList {
        AnswerList::from_answers(answers.iter().map(|&answer| answer.to_owned()).collect()).unwrap()
    }

    fn load(value: &Value) -> Result<AnswerList> {
        let (_folder, path) = write_json(value);
        AnswerList::load(&path)
    }

    #[test]
    fn the_golden_and_the_published_dictionary_survive_a_round_trip_byte_for_byte() {
        for file in [
            "golden/world/datasets/vqa/answer_dict.json",
            "real/answers/answer_dict.json",
        ] {
            let Some(path) = shared(file) else { return };
            let list = AnswerList::load(&path).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let copy = folder.path().join("answer_dict.json");
            list.save(&copy).unwrap();
            assert!(
                std::fs::read(&path).unwrap() == std::fs::read(&copy).unwrap(),
                "{file} changed"
            );
            assert_eq!(list.len(), if file.starts_with("real") { 3129 } else { 45 });
            assert_eq!(list.index(list.get(40).unwrap()), Some(40));
        }
    }

    #[test]
    fn a_dictionary_whose_halves_disagree_is_an_error_with_the_reason() {
        let cases = [
            (
                json!([{"a": 0, "b": 1}, {"0": "a"}]),
                "an index for 2 answers, but an answer for 1",
            ),
            (
                json!([{"a": 0, "b": 2}, {"0": "a", "2": "b"}]),
                "\"b\" has index 2; 1 is expected",
            ),
            (
                json!([{"a": 0, "b": 0}, {"0": "a", "1": "b"}]),
                "has index 0; 1 is expected",
            ),
            (
                json!([{"a": 0, "b": 1}, {"0": "a", "1": "c"}]),
                "index 1 belongs to \"b\" in one half and to \"c\"",
            ),
            (json!([{"a": 0}, {"00": "a"}]), "index 0 has no answer"),
            (json!([{}, {}]), "no answer"),
            (json!({"a": 0}), "it has an object where a list"),
            (
                json!([{"a": -1}, {"-1": "a"}]),
                "has index -1; 0 is expected",
            ),
        ];
        for (value, reason) in cases {
            let message = format!("{:#}", load(&value).unwrap_err());
            assert!(
                message.contains(reason) && message.contains("file.json"),
                "{value}: {message}"
            );
        }
    }

    #[test]
    fn a_list_that_is_empty_or_has_an_answer_twice_is_an_error() {
        assert!(AnswerList::from_answers(Vec::new()).is_err());
        let twice = AnswerList::from_answers(vec!["a".into(), "a".into()])
            .unwrap_err()
            .to_string();
        assert_eq!(twice, "the answer list has \"a\" twice");
        assert!(list(&["b", "a"]).answers().eq(["b", "a"]));
    }
}
