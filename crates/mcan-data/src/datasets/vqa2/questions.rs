//! Question files: `{"questions": [{"question_id", "image_id", "question"}, ...], ...}`.

use super::form::{Form, Ids, Images, Named};
use crate::data::{ImageId, QuestionId};
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
    /// Id of the question, unique in its file; in the layout of VizWiz, the number of its entry, from 0.
    pub question_id: i64,
    /// Number of the COCO image. Where images have names, the number of the name in this file.
    pub image_id: u64,
}

/// A question file, with interned words.
pub struct QuestionFile {
    name: String,
    ids: Ids,
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

entry! {
    struct QuestionOfName<'a>, "a question: an object with question and the name of an image" {
        question_id: Int,
        image_id: Text<'a>,
        image: Text<'a>,
        question: Text<'a>,
    }
}

impl QuestionFile {
    /// Reads the file at `path`, plain or in its published archive (see [`locate`](crate::formats::json::locate)).
    ///
    /// # Errors
    /// A file that is not JSON or has no list `questions`, a key that is missing or has the wrong type, two questions with one
    /// id. Each error names the file and the place in it.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_as(path, Form::VQA2)
    }

    /// Reads a file of this form; otherwise as [`QuestionFile::read`].
    ///
    /// # Errors
    /// Those of [`QuestionFile::read`].
    pub fn read_as(path: &Path, form: Form) -> Result<Self> {
        let source = JsonFile::open(path)?;
        let mut file = Self {
            name: source.name().to_owned(),
            ids: Ids::new(form),
            distinct_words: Strings::default(),
            questions: Vec::new(),
            words: RaggedVec::new(),
            position: FxHashMap::default(),
        };
        match form.images {
            Images::Numbers => source.for_each_in("questions", |raw: RawQuestion| {
                ensure!(
                    raw.qas.is_none(),
                    "this is the file that Visual Genome publishes, with a list of questions for each image; the file of \
                     questions that is needed has a question_id, an image_id and a question in each entry"
                );
                file.push(raw.question_id, Named::Number(raw.image_id), raw.question)
            }),
            Images::Names => source.for_each_in("questions", |raw: QuestionOfName| {
                let image = raw.image.or(raw.image_id);
                file.push(raw.question_id, Named::Name(image), raw.question)
            }),
        }?;
        Ok(file)
    }

    fn push(&mut self, id: Option<Int>, image: Named, question: Option<Text>) -> Result<()> {
        let (question_id, image_id) = self.ids.next("a question", id, image)?;
        let asked = self.ids.question(question_id);
        let question = question
            .as_ref()
            .with_context(|| format!("question {asked} has no \"question\""))?;
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

    /// The id of question `i`, as answers name it.
    pub(super) fn question_id(&self, i: usize) -> QuestionId {
        self.ids.question(self.questions[i].question_id)
    }

    /// The id of the image of question `i`.
    pub(super) fn image(&self, i: usize) -> ImageId {
        self.ids.image(self.questions[i].image_id)
    }

    /// The position in [`questions`](Self::questions) of the question with this id.
    pub fn position(&self, question_id: i64) -> Option<usize> {
        self.position.get(&question_id).map(|at| *at as usize)
    }

    /// The position of the question that answers and annotations call `id`.
    pub(super) fn position_of(&self, id: &QuestionId) -> Option<usize> {
        self.position(self.ids.number(id)?)
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
