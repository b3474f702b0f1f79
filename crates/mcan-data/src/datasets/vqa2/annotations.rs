//! Annotation files: `{"annotations": [{"question_id", "image_id", "question_type", "answer_type",
//! "multiple_choice_answer", "answers": [{"answer", ...}, ...]}, ...], ...}`.

use super::image_id;
use crate::formats::json::{Int, JsonFile, Text, entry};
use crate::formats::ragged::RaggedVec;
use crate::formats::strings::{Strings, intern};
use anyhow::{Context, Result, bail};
use rustc_hash::{FxHashSet, FxHasher};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;

/// The largest number of answers to one question; the official files have ten.
const MAX_ANSWERS: usize = 255;

/// The annotation of one question. Strings are numbers for [`AnnotationFile::string`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Id of the question, unique in its file.
    pub question_id: i64,
    /// Id of the COCO image.
    pub image_id: u64,
    /// The first words of the question. May be absent, because only the evaluation needs it.
    pub question_type: Option<u32>,
    /// `yes/no`, `number` or `other`. May be absent, because only the evaluation needs it.
    pub answer_type: Option<u32>,
    /// The most common answer. May be absent, because only counting an answer list needs it.
    pub multiple_choice_answer: Option<u32>,
}

/// An annotation file, with interned strings.
pub struct AnnotationFile {
    name: String,
    strings: Strings,
    annotations: Vec<Annotation>,
    answers: RaggedVec<u32>,
    kinds: RaggedVec<u8>,
}

entry! {
    struct RawAnnotation<'a>, "an annotation: an object with question_id, image_id and answers" {
        question_id: Int,
        image_id: Int,
        question_type: Text<'a>,
        answer_type: Text<'a>,
        multiple_choice_answer: Text<'a>,
        answers: Vec<RawAnswer<'a>>,
    }
}

/// The answer of one annotator, with a hash of its other fields.
struct RawAnswer<'a> {
    answer: Option<Text<'a>>,
    rest: u64,
}

impl AnnotationFile {
    /// Reads the file at `path`, plain or in its published archive (see [`locate`](crate::formats::json::locate)).
    ///
    /// # Errors
    /// A file that is not JSON or has no list `annotations`, a key that is missing or has the wrong type, no answer or more
    /// than 255, two annotations of one question. Each error names the file and the place in it.
    pub fn read(path: &Path) -> Result<Self> {
        let source = JsonFile::open(path)?;
        let mut file = Self {
            name: source.name().to_owned(),
            strings: Strings::default(),
            annotations: Vec::new(),
            answers: RaggedVec::new(),
            kinds: RaggedVec::new(),
        };
        let mut seen = FxHashSet::default();
        source.for_each_in("annotations", |raw: RawAnnotation| {
            let Int(question_id) = raw
                .question_id
                .context("an annotation has no \"question_id\"")?;
            if !seen.insert(question_id) {
                bail!("question {question_id} is annotated twice");
            }
            file.push(question_id, &raw)
        })?;
        Ok(file)
    }

    fn push(&mut self, question_id: i64, raw: &RawAnnotation) -> Result<()> {
        let lacks =
            |key| move || format!("the annotation of question {question_id} has no \"{key}\"");
        let image_id = image_id(question_id, raw.image_id)?;
        let answers = raw.answers.as_deref().with_context(lacks("answers"))?;
        if answers.is_empty() || answers.len() > MAX_ANSWERS {
            bail!(
                "question {question_id} has {} answers, not 1 to {MAX_ANSWERS}",
                answers.len()
            );
        }
        let texts: Vec<&str> = answers
            .iter()
            .map(|raw| raw.answer.as_deref().with_context(lacks("answer")))
            .collect::<Result<_>>()?;
        let mut ids: Vec<u32> = Vec::with_capacity(texts.len());
        for text in &texts {
            // Annotators mostly agree, and comparing a few short texts is cheaper than a look-up among many.
            let earlier = texts[..ids.len()].iter().position(|other| other == text);
            ids.push(earlier.map_or_else(|| intern(&mut self.strings, text), |at| Ok(ids[at]))?);
        }
        self.answers.push(ids);
        let first_alike =
            |answer: &RawAnswer| answers.iter().position(|other| other.rest == answer.rest);
        // Not truncated: there are at most MAX_ANSWERS.
        self.kinds.push(
            answers
                .iter()
                .map(|answer| first_alike(answer).unwrap_or(0) as u8),
        );
        let mut number = |text: &Option<Text>| {
            text.as_ref()
                .map(|text| intern(&mut self.strings, text))
                .transpose()
        };
        self.annotations.push(Annotation {
            question_id,
            image_id,
            question_type: number(&raw.question_type)?,
            answer_type: number(&raw.answer_type)?,
            multiple_choice_answer: number(&raw.multiple_choice_answer)?,
        });
        Ok(())
    }

    /// The name of the file, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The annotations in file order.
    pub fn annotations(&self) -> &[Annotation] {
        &self.annotations
    }

    /// The answers to question `i`, at least one, as numbers for [`string`](Self::string).
    pub fn answers(&self, i: usize) -> &[u32] {
        self.answers.row(i)
    }

    /// For each answer to question `i`, a number that is equal for two answers with equal fields besides the text (annotator,
    /// confidence, others). The evaluation leaves out answers that are equal in every field.
    pub fn answer_kinds(&self, i: usize) -> &[u8] {
        self.kinds.row(i)
    }

    /// The string with this number.
    pub fn string(&self, number: u32) -> &str {
        &self.strings[number as usize]
    }

    /// All strings by number: answers, question types and answer types.
    pub(crate) fn strings(&self) -> impl ExactSizeIterator<Item = &str> {
        self.strings.iter().map(String::as_str)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawAnswer<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(AnswerVisitor)
    }
}

struct AnswerVisitor;

impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = RawAnswer<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with an \"answer\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawAnswer<'de>, A::Error> {
        let mut found = RawAnswer {
            answer: None,
            rest: 0,
        };
        while let Some(key) = map.next_key::<Text>()? {
            if &*key == "answer" {
                found.answer = crate::formats::json::value(&mut map, "answer")?;
            } else {
                let mut hasher = FxHasher::default();
                (&*key, map.next_value::<&RawValue>()?.get()).hash(&mut hasher);
                // A sum, because the order of the keys does not matter.
                found.rest = found.rest.wrapping_add(hasher.finish());
            }
        }
        Ok(found)
    }
}
