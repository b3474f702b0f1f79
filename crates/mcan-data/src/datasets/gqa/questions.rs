//! Question files of GQA: an object from ids to questions, such as `{"02930152": {"question", "imageId", "answer", ...}}`.
//!
//! An id is a text, whose leading zeros count. The order of the file is the order of the run.

use crate::formats::json::{self, JsonFile, Text, entry};
use crate::formats::ragged::RaggedVec;
use crate::formats::strings::{Strings, intern};
use crate::text;
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// A question file, with interned strings.
pub struct QuestionFile {
    name: String,
    ids: Strings,
    distinct_images: Strings,
    images: Vec<u32>,
    distinct_words: Strings,
    words: RaggedVec<u32>,
    distinct_answers: Strings,
    answers: Vec<Option<u32>>,
    /// What the metric uses of each question; empty if it was not read.
    details: Vec<Details>,
}

/// What the metric uses of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// Whether the question is one of the balanced ones, which alone count.
    pub is_balanced: bool,
    /// The structural type, such as `query`.
    pub structural: String,
    /// The semantic type, such as `attr`.
    pub semantic: String,
    /// Whether the detailed type says that the question asks for something common.
    pub is_common: bool,
    /// Steps of reasoning, without the final one that queries.
    pub steps: usize,
    /// Pieces of the question between white space.
    pub words: usize,
    /// The group of questions with similar answers.
    pub group: Option<String>,
    /// The ids of the questions whose answers follow from this one's.
    pub entailed: Vec<String>,
}

entry! {
    struct RawQuestion<'a>, "a question: an object with question and imageId" {
        question: Text<'a>,
        imageId: Text<'a>,
        answer: Text<'a>,
    }
}

entry! {
    struct RawDetails<'a>, "a question: an object with question, imageId and types" {
        question: Text<'a>,
        imageId: Text<'a>,
        answer: Text<'a>,
        isBalanced: bool,
        types: RawTypes<'a>,
        semantic: Vec<RawStep<'a>>,
        groups: RawGroups<'a>,
        entailed: Vec<Text<'a>>,
    }
}

entry! {
    struct RawTypes<'a>, "an object with structural, semantic and detailed" {
        structural: Text<'a>,
        semantic: Text<'a>,
        detailed: Text<'a>,
    }
}

entry! {
    struct RawStep<'a>, "a step: an object with operation and argument" {
        operation: Text<'a>,
        argument: Text<'a>,
    }
}

entry! {
    struct RawGroups<'a>, "an object with global" {
        global: Text<'a>,
    }
}

/// Steps that only say what is asked for, and count as no reasoning.
const QUERYING: [&str; 3] = ["exist", "query: name", "choose name"];

impl QuestionFile {
    /// Reads the file at `path`, plain or in a `.zip`, or all files of a folder; `with_details` also what the metric uses.
    ///
    /// # Errors
    /// A file that is no object in JSON, a key that is missing or has the wrong type. Each error names the file and the
    /// place in it.
    pub fn read(path: &Path, with_details: bool) -> Result<Self> {
        let mut file = Self {
            name: path.display().to_string(),
            ids: Strings::default(),
            distinct_images: Strings::default(),
            images: Vec::new(),
            distinct_words: Strings::default(),
            words: RaggedVec::new(),
            distinct_answers: Strings::default(),
            answers: Vec::new(),
            details: Vec::new(),
        };
        for piece in json::pieces(path)? {
            file.add(&JsonFile::open(&piece)?, with_details)?;
        }
        Ok(file)
    }

    fn add(&mut self, source: &JsonFile, with_details: bool) -> Result<()> {
        if with_details {
            source.for_each_entry(|id, raw: RawDetails| {
                let details = Details::new(id, &raw)?;
                self.push(id, &raw.question, &raw.imageId, &raw.answer)?;
                self.details.push(details);
                Ok(())
            })
        } else {
            source.for_each_entry(|id, raw: RawQuestion| {
                self.push(id, &raw.question, &raw.imageId, &raw.answer)
            })
        }
    }

    fn push(
        &mut self,
        id: &str,
        question: &Option<Text>,
        image: &Option<Text>,
        answer: &Option<Text>,
    ) -> Result<()> {
        let lacks = |key| move || format!("question {id} has no \"{key}\"");
        let question = question.as_ref().with_context(lacks("question"))?;
        let image = image.as_ref().with_context(lacks("imageId"))?;
        check_image(id, image)?;
        let is_new = self.ids.insert(id.to_owned());
        ensure!(is_new, "question {id} is there twice");
        self.images.push(intern(&mut self.distinct_images, image)?);
        let ids: Result<Vec<u32>> = text::split(&text::clean_question(question))
            .map(|word| intern(&mut self.distinct_words, word))
            .collect();
        self.words.push(ids?);
        let answer = answer.as_ref();
        let answer = answer.map(|answer| intern(&mut self.distinct_answers, answer));
        self.answers.push(answer.transpose()?);
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

    /// The id of question `i`.
    pub fn id(&self, i: usize) -> &str {
        &self.ids[i]
    }

    /// The position of the question with this id.
    pub fn position(&self, id: &str) -> Option<usize> {
        self.ids.get_index_of(id)
    }

    /// The id of the image of question `i`.
    pub fn image(&self, i: usize) -> &str {
        &self.distinct_images[self.images[i] as usize]
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

    /// The right answer to question `i`, as it stands in the file; none in the test split.
    pub fn answer(&self, i: usize) -> Option<&str> {
        self.answers[i].map(|answer| self.distinct_answers[answer as usize].as_str())
    }

    /// The distinct answers of the file, in order of first appearance.
    pub fn distinct_answers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.distinct_answers.iter().map(String::as_str)
    }

    /// What the metric uses of question `i`; none if it was not read.
    pub fn details(&self, i: usize) -> Option<&Details> {
        self.details.get(i)
    }
}

/// Checks that `<imageId>.npz` can be the name of a file.
fn check_image(question: &str, image: &str) -> Result<()> {
    const LONGEST: usize = 250;
    let length = image.len();
    ensure!(
        length <= LONGEST,
        "question {question} has an imageId of {length} bytes, which is too long for the name of a file"
    );
    let leads_out = image.contains(|c: char| c.is_control() || "/\\".contains(c));
    ensure!(
        length > 0 && !leads_out,
        "question {question} has the imageId {image:?}, which cannot be the name of a file"
    );
    Ok(())
}

impl Details {
    fn new(id: &str, raw: &RawDetails) -> Result<Details> {
        let lacks = |key: &'static str| move || format!("question {id} has no \"{key}\"");
        let types = raw.types.as_ref().with_context(lacks("types"))?;
        let text = |text: &Option<Text>, key| {
            let text = text.as_ref().with_context(lacks(key))?;
            anyhow::Ok(text.to_string())
        };
        let steps = raw.semantic.as_ref().with_context(lacks("semantic"))?;
        let is_reasoning = |step: &&RawStep| {
            let piece = |text: &Option<Text>| text.as_deref().unwrap_or_default().to_owned();
            let step = format!("{}: {}", piece(&step.operation), piece(&step.argument));
            QUERYING.iter().all(|querying| !step.contains(querying))
        };
        let question = raw.question.as_deref().unwrap_or_default();
        let group = raw
            .groups
            .as_ref()
            .and_then(|groups| groups.global.as_ref());
        let entailed = raw.entailed.iter().flatten();
        Ok(Details {
            is_balanced: raw.isBalanced.with_context(lacks("isBalanced"))?,
            structural: text(&types.structural, "types.structural")?,
            semantic: text(&types.semantic, "types.semantic")?,
            is_common: text(&types.detailed, "types.detailed")?.contains("Common"),
            steps: steps.iter().filter(is_reasoning).count(),
            words: question.split_whitespace().count(),
            group: group.map(|group| group.to_string()),
            entailed: entailed.map(|id| id.to_string()).collect(),
        })
    }
}
