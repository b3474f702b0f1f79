//! Question files: `{"questions": [{"question_id", "image_id", "question"}, ...], ...}`.

use super::image_id;
use crate::formats::json::{Int, JsonFile, Text, entry};
use crate::formats::ragged::RaggedVec;
use crate::formats::strings::{Strings, intern};
use crate::text;
use anyhow::{Context, Result, bail, ensure};
use rustc_hash::FxHashMap;
use serde::de::IgnoredAny;
use std::collections::hash_map::Entry;
use std::path::Path;

/// A question, without its words; see [`QuestionFile::words`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Id of the question, unique in its file.
    pub question_id: i64,
    /// Id of the COCO image.
    pub image_id: u64,
}

/// A question file, with interned words.
pub struct QuestionFile {
    name: String,
    distinct_words: Strings,
    questions: Vec<Question>,
    words: RaggedVec<u32>,
    position: FxHashMap<i64, u32>,
}

entry! {
    struct RawQuestion<'a>, "a question: an object with question_id, image_id and question" {
        question_id: Int,
        image_id: Int,
        question: Text<'a>,
        qas: IgnoredAny,
    }
}

impl QuestionFile {
    /// Reads the file at `path`, plain or in its published archive (see [`locate`](crate::formats::json::locate)).
    ///
    /// # Errors
    /// A file that is not JSON or has no list `questions`, a key that is missing or has the wrong type, two questions with one
    /// id. Each error names the file and the place in it.
    pub fn read(path: &Path) -> Result<Self> {
        let source = JsonFile::open(path)?;
        let mut file = Self {
            name: source.name().to_owned(),
            distinct_words: Strings::default(),
            questions: Vec::new(),
            words: RaggedVec::new(),
            position: FxHashMap::default(),
        };
        source.for_each_in("questions", |raw| file.push(&raw))?;
        Ok(file)
    }

    fn push(&mut self, raw: &RawQuestion) -> Result<()> {
        ensure!(
            raw.qas.is_none(),
            "this is the file that Visual Genome publishes, with a list of questions for each image; the file of questions \
             that is needed has a question_id, an image_id and a question in each entry"
        );
        let Int(question_id) = raw
            .question_id
            .context("a question has no \"question_id\"")?;
        let image_id = image_id(question_id, raw.image_id)?;
        let question = raw
            .question
            .as_ref()
            .with_context(|| format!("question {question_id} has no \"question\""))?;
        match self.position.entry(question_id) {
            Entry::Occupied(_) => bail!("question {question_id} is there twice"),
            Entry::Vacant(free) => free.insert(u32::try_from(self.questions.len())?),
        };
        let ids: Result<Vec<_>> = text::split(&text::clean_question(question))
            .map(|word| intern(&mut self.distinct_words, word))
            .collect();
        self.words.push(ids?);
        self.questions.push(Question {
            question_id,
            image_id,
        });
        Ok(())
    }

    /// The name of the file, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The questions in file order.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// The position in [`questions`](Self::questions) of the question with this id.
    pub fn position(&self, question_id: i64) -> Option<usize> {
        self.position.get(&question_id).map(|at| *at as usize)
    }

    /// The words of question `i`, as positions in [`distinct_words`](Self::distinct_words).
    pub fn words(&self, i: usize) -> &[u32] {
        self.words.row(i)
    }

    /// The distinct words of the file, in order of first appearance.
    pub fn distinct_words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.distinct_words.iter().map(String::as_str)
    }
}
