//! The accuracy of VQA-v2: min(matches / 3, 1), averaged over all ways of leaving out one annotator.
//!
//! Antol et al., "VQA: Visual Question Answering", ICCV 2015, and <https://visualqa.org/evaluation.html>.

use super::{Annotation, AnnotationFile};
use crate::data::QuestionId;
use crate::datasets::{Metric, Scores};
use crate::formats::ragged::Ragged;
use crate::formats::strings::{Strings, intern};
use crate::text;
use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use rust_stemmers::{Algorithm, Stemmer};
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::fmt;

/// How the log entry of an evaluation begins.
pub(super) const LOG_START: &str = "Overall Accuracy is: ";

/// How many question ids an error names.
const NAMED: usize = 5;

/// Accuracies in percent, each rounded to two digits as Python's `round` does it.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// Over all questions.
    pub overall: f64,
    /// By answer type, in order of first appearance in the annotations.
    pub per_answer_type: Vec<(String, f64)>,
    /// By question type, in order of first appearance in the annotations.
    pub per_question_type: Vec<(String, f64)>,
    /// By question id, in the order of the annotations.
    pub per_question: Vec<(i64, f64)>,
}

impl Accuracy {
    /// First words of [`Accuracy::log_lines`].
    pub const LOG_BEGINNING: &str = "Overall Accuracy is: ";

    /// The lines that the reference appends to its log, the empty one at the end included.
    pub fn log_lines(&self) -> String {
        let types: String = self
            .per_answer_type
            .iter()
            .map(|(name, value)| format!("{name} : {value:.2} "))
            .collect();
        format!("{LOG_START}{:.2}\n{types}\n\n", self.overall)
    }
}

/// What the reference prints after an evaluation.
impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{LOG_START}{:.2}\n", self.overall)?;
        writeln!(f, "Per Answer Type Accuracy is the following:")?;
        self.per_answer_type
            .iter()
            .try_for_each(|(name, value)| writeln!(f, "{name} : {value:.2}"))
    }
}

/// When two answers count as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// Equal text after the evaluation's processing: the official metric.
    Exact,
    /// Equal Snowball English stems, word by word: a diagnostic, never below the official metric.
    Stems,
}

/// Scores answers to the questions of one annotation file; prepared once, used after every epoch.
pub struct Evaluator {
    name: String,
    question_ids: Vec<i64>,
    position: FxHashMap<i64, usize>,
    /// For each question, the position of its type in `answer_types` and `question_types`.
    types: Vec<(usize, usize)>,
    answer_types: Strings,
    question_types: Strings,
    /// For each question the texts of its answers as the metric compares them, as numbers of `texts`.
    truths: Ragged<u32>,
    kinds: Ragged<u8>,
    texts: Strings,
    /// For each text the number of its stems.
    stem_of: Vec<u32>,
    stems: Strings,
}

impl Evaluator {
    /// Prepares the ground truth.
    ///
    /// # Errors
    /// An annotation without question type or answer type; no annotation at all.
    pub fn new(file: &AnnotationFile) -> Result<Self> {
        ensure!(
            !file.annotations().is_empty(),
            "{} has no annotation, so there is nothing to evaluate",
            file.name()
        );
        let mut texts = Strings::default();
        let (truths, kinds) = compared_texts(file, &mut texts)?;
        let mut stems = Strings::default();
        let stem_of = texts
            .iter()
            .map(|text| intern(&mut stems, &stemmed(text)))
            .collect::<Result<_>>()?;
        let (mut answer_types, mut question_types) = (Strings::default(), Strings::default());
        let types = file.annotations().iter().map(|annotation| {
            let answer_type = type_name(file, annotation, annotation.answer_type, "answer_type")?;
            let question_type =
                type_name(file, annotation, annotation.question_type, "question_type")?;
            let answer_type = intern(&mut answer_types, answer_type)? as usize;
            Ok((
                answer_type,
                intern(&mut question_types, question_type)? as usize,
            ))
        });
        let types = types.collect::<Result<_>>()?;
        let question_ids: Vec<_> = file
            .annotations()
            .iter()
            .map(|annotation| annotation.question_id)
            .collect();
        let position = question_ids.iter().copied().zip(0..).collect();
        let name = file.name().to_owned();
        Ok(Self {
            name,
            question_ids,
            position,
            types,
            answer_types,
            question_types,
            truths,
            kinds,
            texts,
            stem_of,
            stems,
        })
    }

    /// The accuracy of these (question id, answer) pairs, in any order.
    ///
    /// # Errors
    /// The questions are not exactly the annotated ones, each once.
    pub fn accuracy<'a>(
        &self,
        answers: impl IntoIterator<Item = (i64, &'a str)>,
        matching: Matching,
    ) -> Result<Accuracy> {
        let given = self.in_order(answers)?;
        let mut known: FxHashMap<&str, Option<u32>> = FxHashMap::default();
        let mut scores = Vec::with_capacity(given.len());
        for (i, answer) in given.iter().enumerate() {
            let number = *known
                .entry(answer)
                .or_insert_with(|| self.number(&processed(answer), matching));
            scores.push(self.score_of(i, number, matching));
        }
        Ok(self.summarize(&scores))
    }

    /// Makes sure that these are the annotated questions, each once.
    ///
    /// # Errors
    /// Names the questions that are not, and the annotation file.
    pub fn check_questions(&self, question_ids: &[i64]) -> Result<()> {
        self.in_order(question_ids.iter().map(|&id| (id, "")))
            .map(drop)
    }

    /// The answers by position of their question.
    fn in_order<'a>(
        &self,
        answers: impl IntoIterator<Item = (i64, &'a str)>,
    ) -> Result<Vec<&'a str>> {
        let mut given = vec![None; self.question_ids.len()];
        let (mut strangers, mut repeated) = (Vec::new(), Vec::new());
        for (question_id, answer) in answers {
            match self.position.get(&question_id) {
                None => strangers.push(question_id),
                Some(&at) if given[at].is_some() => repeated.push(question_id),
                Some(&at) => given[at] = Some(answer),
            }
        }
        let unanswered = self
            .question_ids
            .iter()
            .zip(&given)
            .filter(|(_, answer)| answer.is_none());
        let missing: Vec<_> = unanswered.map(|(question_id, _)| *question_id).collect();
        let faults = [
            ("not annotated", strangers),
            ("there twice", repeated),
            ("missing", missing),
        ];
        let faults: Vec<_> = faults
            .iter()
            .filter(|(_, ids)| !ids.is_empty())
            .map(|(what, ids)| list(what, ids))
            .collect();
        if !faults.is_empty() {
            bail!(
                "its questions are not those of {}: {}",
                self.name,
                faults.join(", ")
            );
        }
        Ok(given.into_iter().flatten().collect())
    }

    /// The number that a processed answer is compared by; `None` when no annotator gave it.
    fn number(&self, answer: &str, matching: Matching) -> Option<u32> {
        let at = match matching {
            Matching::Exact => self.texts.get_index_of(answer),
            Matching::Stems => self.stems.get_index_of(&stemmed(answer)),
        };
        at.and_then(|at| u32::try_from(at).ok())
    }

    /// Accuracy of an answer to question `i`, 0 to 1. Leaving an annotator out leaves out all that are equal as wholes.
    fn score_of(&self, i: usize, answer: Option<u32>, matching: Matching) -> f64 {
        let (truths, kinds) = (self.truths.row(i), self.kinds.row(i));
        let comparable = |truth: u32| match matching {
            Matching::Exact => truth,
            Matching::Stems => self.stem_of[truth as usize],
        };
        let agrees = |truth: u32| Some(comparable(truth)) == answer;
        let agreeing = truths.iter().filter(|truth| agrees(**truth)).count();
        let credit = |(truth, kind): (&u32, &u8)| {
            let equal_as_wholes = || {
                truths
                    .iter()
                    .zip(kinds)
                    .filter(|other| *other == (truth, kind))
                    .count()
            };
            let others = if agrees(*truth) {
                agreeing - equal_as_wholes()
            } else {
                agreeing
            };
            (others as f64 / 3.0).min(1.0)
        };
        truths.iter().zip(kinds).map(credit).sum::<f64>() / truths.len() as f64
    }

    fn summarize(&self, scores: &[f64]) -> Accuracy {
        let mut answer_types = vec![Mean::default(); self.answer_types.len()];
        let mut question_types = vec![Mean::default(); self.question_types.len()];
        let mut all = Mean::default();
        for (score, &(answer_type, question_type)) in scores.iter().zip(&self.types) {
            all.add(*score);
            answer_types[answer_type].add(*score);
            question_types[question_type].add(*score);
        }
        let by_name = |names: &Strings, means: &[Mean]| {
            names
                .iter()
                .cloned()
                .zip(means.iter().map(Mean::percent))
                .collect()
        };
        Accuracy {
            overall: all.percent(),
            per_answer_type: by_name(&self.answer_types, &answer_types),
            per_question_type: by_name(&self.question_types, &question_types),
            per_question: self
                .question_ids
                .iter()
                .copied()
                .zip(scores.iter().map(|score| round2(100.0 * score)))
                .collect(),
        }
    }
}

impl Metric for Evaluator {
    fn score(&self, answers: &[(QuestionId, &str)]) -> Result<Scores> {
        let numbered = |(id, answer): &(QuestionId, _)| {
            let number = id.number();
            Ok((
                number.with_context(|| format!("question {id} is not annotated"))?,
                *answer,
            ))
        };
        let answers = answers.iter().map(numbered).collect::<Result<Vec<_>>>()?;
        let accuracy = self.accuracy(answers, Matching::Exact)?;
        Ok(Scores {
            headline: accuracy.overall,
            printed: accuracy.to_string(),
            logged: accuracy.log_lines(),
            log_start: LOG_START,
            groups: vec![
                ("answer type", accuracy.per_answer_type),
                ("question type", accuracy.per_question_type),
            ],
        })
    }
}

/// A mean whose sum runs in the order of the file, as the reference's does: rounding depends on it.
#[derive(Clone, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, score: f64) {
        self.sum += score;
        self.count += 1;
    }

    fn percent(&self) -> f64 {
        round2(100.0 * self.sum / self.count as f64)
    }
}

/// Python's `round(x, 2)`: the exact value of the double to the nearest hundredth, which is also how Rust prints.
fn round2(x: f64) -> f64 {
    format!("{x:.2}").parse().unwrap_or(x)
}

/// The texts of all answers as the metric compares them, with their kinds: raw where all annotators wrote the same,
/// without punctuation otherwise (never with the digit and article rule, which only the answers under test get).
fn compared_texts(file: &AnnotationFile, texts: &mut Strings) -> Result<(Ragged<u32>, Ragged<u8>)> {
    let mut punctuated: IndexMap<u32, u32, FxBuildHasher> = IndexMap::default();
    let mut raw = punctuated.clone();
    let (mut truths, mut kinds) = (Ragged::new(), Ragged::new());
    for i in 0..file.annotations().len() {
        let answers = file.answers(i);
        let mut row = Vec::with_capacity(answers.len());
        let unanimous = answers.iter().all(|answer| *answer == answers[0]);
        for &answer in answers {
            let cache = if unanimous { &mut raw } else { &mut punctuated };
            let number = match cache.get(&answer) {
                Some(number) => *number,
                None if unanimous => intern(texts, file.string(answer))?,
                None => intern(texts, &text::process_punctuation(file.string(answer)))?,
            };
            cache.insert(answer, number);
            row.push(number);
        }
        truths.push(row);
        kinds.push(file.answer_kinds(i).iter().copied());
    }
    Ok((truths, kinds))
}

fn type_name<'a>(
    file: &'a AnnotationFile,
    annotation: &Annotation,
    number: Option<u32>,
    key: &str,
) -> Result<&'a str> {
    let number = number.with_context(|| {
        format!(
            "{}: question {} has no \"{key}\"",
            file.name(),
            annotation.question_id
        )
    })?;
    Ok(file.string(number))
}

/// What the evaluation makes of an answer under test.
fn processed(answer: &str) -> String {
    let one_line = answer.replace(['\n', '\t'], " ");
    text::process_digit_article(&text::process_punctuation(text::strip(&one_line)))
}

/// Spaces stay as they are, so that texts differ in nothing but inflection when their stems are equal.
fn stemmed(text: &str) -> String {
    let stemmer = Stemmer::create(Algorithm::English);
    text.split(' ')
        .map(|word| stemmer.stem(word))
        .collect::<Vec<_>>()
        .join(" ")
}

fn list(what: &str, question_ids: &[i64]) -> String {
    let named: Vec<_> = question_ids
        .iter()
        .take(NAMED)
        .map(i64::to_string)
        .collect();
    let more = if question_ids.len() > NAMED {
        ", ..."
    } else {
        ""
    };
    format!("{} {what} ({}{more})", question_ids.len(), named.join(", "))
}

#[cfg(test)]
mod tests;
