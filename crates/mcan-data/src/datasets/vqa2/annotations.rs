//! Annotation files: `{"annotations": [{"question_id", "image_id", "question_type", "answer_type",
//! "multiple_choice_answer", "answers": [{"answer", ...}, ...]}, ...], ...}`.

use super::form::{Form, Ids, Images, Named};
use crate::data::{ImageId, QuestionId};
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
    /// Id of the question, unique in its file; in the layout of VizWiz, the number of its entry, from 0.
    pub question_id: i64,
    /// Number of the COCO image. Where images have names, the number of the name in this file.
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
    ids: Ids,
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

entry! {
    struct AnnotationOfName<'a>, "an annotation: an object with answers and the name of an image" {
        question_id: Int,
        image_id: Text<'a>,
        image: Text<'a>,
        question_type: Text<'a>,
        answer_type: Text<'a>,
        multiple_choice_answer: Text<'a>,
        answers: Vec<RawAnswer<'a>>,
    }
}

/// The part of an annotation that does not depend on the ids.
struct Content<'a> {
    question_type: Option<Text<'a>>,
    answer_type: Option<Text<'a>>,
    multiple_choice_answer: Option<Text<'a>>,
    answers: Option<Vec<RawAnswer<'a>>>,
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
        Self::read_as(path, Form::VQA2)
    }

    /// Reads a file of this form; otherwise as [`AnnotationFile::read`].
    ///
    /// # Errors
    /// Those of [`AnnotationFile::read`].
    pub fn read_as(path: &Path, form: Form) -> Result<Self> {
        let source = JsonFile::open(path)?;
        let mut file = Self {
            name: source.name().to_owned(),
            ids: Ids::new(form),
            strings: Strings::default(),
            annotations: Vec::new(),
            answers: RaggedVec::new(),
            kinds: RaggedVec::new(),
        };
        let mut seen = FxHashSet::default();
        let mut push = |id: Option<Int>, image, content: &Content| {
            let (question_id, image_id) = file.ids.next("an annotation", id, image)?;
            if !seen.insert(question_id) {
                bail!("question {question_id} is annotated twice");
            }
            file.push(question_id, image_id, content)
        };
        match form.images {
            Images::Numbers => source.for_each_in("annotations", |raw: RawAnnotation| {
                let content = Content {
                    question_type: raw.question_type,
                    answer_type: raw.answer_type,
                    multiple_choice_answer: raw.multiple_choice_answer,
                    answers: raw.answers,
                };
                push(raw.question_id, Named::Number(raw.image_id), &content)
            }),
            Images::Names => source.for_each_in("annotations", |raw: AnnotationOfName| {
                let content = Content {
                    question_type: raw.question_type,
                    answer_type: raw.answer_type,
                    multiple_choice_answer: raw.multiple_choice_answer,
                    answers: raw.answers,
                };
                let image = raw.image.or(raw.image_id);
                push(raw.question_id, Named::Name(image), &content)
            }),
        }?;
        Ok(file)
    }

    fn push(&mut self, question_id: i64, image_id: u64, raw: &Content) -> Result<()> {
        let asked = self.ids.question(question_id);
        let asked = &asked;
        let lacks = |key| move || format!("the annotation of question {asked} has no \"{key}\"");
        let answers = raw.answers.as_deref().with_context(lacks("answers"))?;
        if answers.is_empty() || answers.len() > MAX_ANSWERS {
            bail!(
                "question {asked} has {} answers, not 1 to {MAX_ANSWERS}",
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
        let first_alike =
            |answer: &RawAnswer| answers.iter().position(|other| other.rest == answer.rest);
        // Not truncated: there are at most MAX_ANSWERS.
        let complete = self.ids.form().complete;
        self.kinds
            .push(answers.iter().enumerate().map(|(at, answer)| {
                let kind = if complete { first_alike(answer) } else { None };
                kind.unwrap_or(at) as u8
            }));
        let mut number = |text: &Option<Text>| {
            text.as_ref()
                .map(|text| intern(&mut self.strings, text))
                .transpose()
        };
        let choice = number(&raw.multiple_choice_answer)?;
        let choice = choice.or_else(|| most_frequent(&ids).filter(|_| !complete));
        self.answers.push(ids);
        self.annotations.push(Annotation {
            question_id,
            image_id,
            question_type: number(&raw.question_type)?,
            answer_type: number(&raw.answer_type)?,
            multiple_choice_answer: choice,
        });
        Ok(())
    }

    /// The id of the question of annotation `i`, as answers name it.
    pub(super) fn question_id(&self, i: usize) -> QuestionId {
        self.ids.question(self.annotations[i].question_id)
    }

    /// The id of the image of annotation `i`.
    pub(super) fn image(&self, i: usize) -> ImageId {
        self.ids.image(self.annotations[i].image_id)
    }

    /// The ids of the questions and images.
    pub(super) fn ids(&self) -> &Ids {
        &self.ids
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

/// The most frequent of these answers; of several, the first.
fn most_frequent(answers: &[u32]) -> Option<u32> {
    let times = |answer: &&u32| answers.iter().filter(|other| *other == *answer).count();
    answers.iter().rev().max_by_key(times).copied()
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
