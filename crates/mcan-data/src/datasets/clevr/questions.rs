//! Question files of CLEVR: `{"questions": [{"image_index", "question", "answer", "program": [{"function", ...}, ...],
//! ...}, ...], ...}`; the test split has neither `answer` nor `program`.

use crate::formats::json::{Int, JsonFile, Text, entry};
use crate::formats::ragged::RaggedVec;
use crate::formats::strings::{Strings, intern};
use crate::text;
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// A question file, with interned strings. The id of a question is its position.
pub struct QuestionFile {
    name: String,
    images: Vec<u32>,
    distinct_words: Strings,
    words: RaggedVec<u32>,
    distinct_answers: Strings,
    answers: Vec<Option<u32>>,
    functions: Strings,
    types: Vec<Option<u32>>,
}

entry! {
    struct RawQuestion<'a>, "a question: an object with image_index and question" {
        image_index: Int,
        split: Text<'a>,
        question: Text<'a>,
        answer: Text<'a>,
        program: Vec<RawNode<'a>>,
    }
}

entry! {
    struct RawNode<'a>, "a step of a program: an object with function" {
        function: Text<'a>,
    }
}

impl QuestionFile {
    /// Reads the file at `path`, plain or in a `.zip` (see [`locate`](crate::formats::json::locate)). Its questions may not
    /// be of a split in `others`, because image 7 of that split is another image.
    ///
    /// # Errors
    /// A file that is not JSON or has no list `questions`, a key that is missing or has the wrong type. Each error names the
    /// file and the place in it.
    pub fn read(path: &Path, others: &[&str]) -> Result<Self> {
        let source = JsonFile::open(path)?;
        let mut file = Self {
            name: source.name().to_owned(),
            images: Vec::new(),
            distinct_words: Strings::default(),
            words: RaggedVec::new(),
            distinct_answers: Strings::default(),
            answers: Vec::new(),
            functions: Strings::default(),
            types: Vec::new(),
        };
        source.for_each_in("questions", |raw| file.push(&raw, others))?;
        Ok(file)
    }

    fn push(&mut self, raw: &RawQuestion, others: &[&str]) -> Result<()> {
        let position = self.images.len();
        let lacks = |key| move || format!("question {position} has no \"{key}\"");
        let Int(image) = raw.image_index.with_context(lacks("image_index"))?;
        let image = u32::try_from(image).ok().with_context(|| {
            let largest = u32::MAX;
            format!(
                "question {position} has the image_index {image}; it must be from 0 to {largest}"
            )
        })?;
        let split = raw.split.as_deref().unwrap_or_default();
        ensure!(
            !others.contains(&split),
            "question {position} is of the split {split}, and so is its image; this file is for another split"
        );
        let question = raw.question.as_ref().with_context(lacks("question"))?;
        let ids: Result<Vec<u32>> = text::split(&text::clean_question(question))
            .map(|word| intern(&mut self.distinct_words, word))
            .collect();
        self.words.push(ids?);
        let answer = raw.answer.as_ref();
        let answer = answer.map(|answer| intern(&mut self.distinct_answers, answer));
        self.answers.push(answer.transpose()?);
        let last = raw.program.as_ref().and_then(|program| program.last());
        let function = last
            .map(|node| node.function.as_ref().with_context(lacks("function")))
            .transpose()?;
        let function = function.map(|name| intern(&mut self.functions, name));
        self.types.push(function.transpose()?);
        self.images.push(image);
        Ok(())
    }

    /// The name of the file, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of questions.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is no question.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The number, within its split, of the image of question `i`.
    pub fn image_index(&self, i: usize) -> u32 {
        self.images[i]
    }

    /// The words of question `i`.
    pub fn words(&self, i: usize) -> impl ExactSizeIterator<Item = &str> {
        let words = self.words.row(i).iter();
        words.map(|&word| self.distinct_words[word as usize].as_str())
    }

    /// The distinct words of the file, in order of first appearance.
    pub fn distinct_words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.distinct_words.iter().map(String::as_str)
    }

    /// The number of words of the longest question.
    pub fn longest_question(&self) -> usize {
        let lengths = (0..self.len()).map(|i| self.words.row(i).len());
        lengths.max().unwrap_or(0)
    }

    /// The right answer to question `i`; none in the test split.
    pub fn answer(&self, i: usize) -> Option<&str> {
        self.answers[i].map(|answer| self.distinct_answers[answer as usize].as_str())
    }

    /// The distinct answers of the file, in order of first appearance.
    pub fn distinct_answers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.distinct_answers.iter().map(String::as_str)
    }

    /// The last function of the program of question `i`, which is its type.
    pub fn function(&self, i: usize) -> Option<&str> {
        self.types[i].map(|function| self.functions[function as usize].as_str())
    }
}
