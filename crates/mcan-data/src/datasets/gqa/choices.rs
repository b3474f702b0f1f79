//! Choices of GQA: for each question, the answers that are valid and those that are plausible, as
//! `{"<id>": {"valid": [...], "plausible": [...]}}`.

use crate::formats::json::{self, JsonFile, Text, entry};
use anyhow::{Context, Result, ensure};
use rustc_hash::FxHashMap;
use std::path::Path;

/// The choices for questions that ask for something common, whatever the file says.
pub const COMMON: [&str; 3] = ["color", "material", "shape"];

/// The choices of a file.
pub struct Choices {
    name: String,
    of_question: FxHashMap<String, Choice>,
}

/// The choices of a question.
pub struct Choice {
    /// Answers of the right kind.
    pub valid: Vec<String>,
    /// Answers that occur with what the question is about.
    pub plausible: Vec<String>,
}

entry! {
    struct RawChoice<'a>, "choices: an object with valid and plausible" {
        valid: Vec<Text<'a>>,
        plausible: Vec<Text<'a>>,
    }
}

impl Choices {
    /// Reads the file at `path`, or all files of a folder.
    ///
    /// # Errors
    /// A file that is no object in JSON, a key that is missing or has the wrong type, a question that is there twice.
    pub fn read(path: &Path) -> Result<Choices> {
        let mut choices = Choices {
            name: path.display().to_string(),
            of_question: FxHashMap::default(),
        };
        for piece in json::pieces(path)? {
            let source = JsonFile::open(&piece)?;
            source.for_each_entry(|id, raw: RawChoice| choices.add(id, raw))?;
        }
        Ok(choices)
    }

    fn add(&mut self, id: &str, raw: RawChoice) -> Result<()> {
        let texts = |texts: Option<Vec<Text>>, key| {
            let texts = texts.with_context(|| format!("question {id} has no \"{key}\""))?;
            anyhow::Ok(texts.iter().map(|text| text.to_string()).collect())
        };
        let choice = Choice {
            valid: texts(raw.valid, "valid")?,
            plausible: texts(raw.plausible, "plausible")?,
        };
        let former = self.of_question.insert(id.to_owned(), choice);
        ensure!(former.is_none(), "question {id} is there twice");
        Ok(())
    }

    /// The choices of a question.
    ///
    /// # Errors
    /// The file does not have it.
    pub fn of(&self, id: &str) -> Result<&Choice> {
        let lacks = || format!("{} has no choices for question {id}", self.name);
        self.of_question.get(id).with_context(lacks)
    }
}
