//! The accuracy of VQA-v2: min(matches / 3, 1), averaged over all ways of leaving out one annotator.
//!
//! Antol et al., "VQA: Visual Question Answering", ICCV 2015, and <https://visualqa.org/evaluation.html>.

use super::form::Ids;
use super::{Annotation, AnnotationFile};
use crate::data::QuestionId;
use crate::datasets::{Measure, Metric, Scores};
use crate::formats::ragged::RaggedVec;
use crate::formats::strings::{Strings, intern};
use crate::text;
use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use rust_stemmers::{Algorithm, Stemmer};
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::fmt;

/// The first words of the log entry of an evaluation.
pub(in crate::datasets) const LOG_START: &str = "Overall Accuracy is: ";

/// The largest number of question ids that an error lists.
const NAMED: usize = 5;

/// Accuracies in percent, rounded to two digits as by Python's `round`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Accuracy {
    /// Over all questions.
    pub overall: f64,
    /// By answer type, in order of first appearance in the annotations.
    pub per_answer_type: Vec<(String, f64)>,
    /// By question type, in order of first appearance in the annotations.
    pub per_question_type: Vec<(String, f64)>,
}

impl Accuracy {
    /// The lines that the reference appends to its log, with the empty line at the end.
    pub(super) fn log_lines(&self) -> String {
        let types: String = self
            .per_answer_type
            .iter()
            .map(|(name, value)| format!("{name} : {value:.2} "))
            .collect();
        format!("{LOG_START}{:.2}\n{types}\n\n", self.overall)
    }
}

/// The text that the reference prints after an evaluation.
impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{LOG_START}{:.2}\n", self.overall)?;
        if self.per_answer_type.is_empty() {
            return Ok(());
        }
        writeln!(f, "Per Answer Type Accuracy is the following:")?;
        self.per_answer_type
            .iter()
            .try_for_each(|(name, value)| writeln!(f, "{name} : {value:.2}"))
    }
}

/// The rule by which two answers count as equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matching {
    /// Equal text after the processing of the evaluation: the official metric.
    Exact,
    /// Equal English stems (Snowball), word by word: a diagnostic that is never below the official metric.
    Stems,
}

/// The metric for the questions of one annotation file: made once, used after every epoch.
pub struct Evaluator {
    name: String,
    measure: Measure,
    ids: Ids,
    question_ids: Vec<i64>,
    position: FxHashMap<i64, usize>,
    /// For each question, the positions of its types in `answer_types` and `question_types`, if it has them.
    types: Vec<(Option<usize>, Option<usize>)>,
    answer_types: Strings,
    question_types: Strings,
    /// For each question, the texts of its answers as the metric compares them, as positions in `texts`.
    truths: RaggedVec<u32>,
    kinds: RaggedVec<u8>,
    texts: Strings,
    /// For each text, the position of its stems in `stems`.
    stem_of: Vec<u32>,
    stems: Strings,
}

impl Evaluator {
    /// Prepares the answers of the annotators.
    ///
    /// # Errors
    /// No annotation, or an annotation without question type or answer type where the data set needs them.
    pub fn new(file: &AnnotationFile, measure: Measure) -> Result<Self> {
        ensure!(
            !file.annotations().is_empty(),
            "{} has no annotation, so there is nothing to evaluate",
            file.name()
        );
        note_measure(file, measure);
        let mut texts = Strings::default();
        let (truths, kinds) = compared_texts(file, &mut texts)?;
        let mut stems = Strings::default();
        let stem_of = texts
            .iter()
            .map(|text| intern(&mut stems, &stemmed(text)))
            .collect::<Result<_>>()?;
        let (mut answer_types, mut question_types) = (Strings::default(), Strings::default());
        let types = types_of(file, &mut answer_types, &mut question_types)?;
        let question_ids: Vec<_> = file
            .annotations()
            .iter()
            .map(|annotation| annotation.question_id)
            .collect();
        let position = question_ids.iter().copied().zip(0..).collect();
        let name = file.name().to_owned();
        Ok(Self {
            name,
            measure,
            ids: file.ids().clone(),
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
    /// Answers that are not one for each annotated question.
    pub(super) fn accuracy<'a>(
        &self,
        answers: impl IntoIterator<Item = (i64, &'a str)>,
        matching: Matching,
    ) -> Result<Accuracy> {
        Ok(self.summarize(&self.question_scores(answers, matching)?))
    }

    /// The accuracy of each answer, 0 to 1, in the order of the annotations.
    fn question_scores<'a>(
        &self,
        answers: impl IntoIterator<Item = (i64, &'a str)>,
        matching: Matching,
    ) -> Result<Vec<f64>> {
        let given = self.in_order(answers)?;
        let mut known: FxHashMap<&str, Option<u32>> = FxHashMap::default();
        let mut scores = Vec::with_capacity(given.len());
        for (i, answer) in given.iter().enumerate() {
            let number = *known
                .entry(answer)
                .or_insert_with(|| self.number(&processed(answer), matching));
            scores.push(self.score_of(i, number, matching));
        }
        Ok(scores)
    }

    /// The answers with the numbers of their questions in the annotation file.
    ///
    /// # Errors
    /// An id of another kind, or an image that is not annotated.
    pub(super) fn numbered<'a>(
        &self,
        answers: &[(QuestionId, &'a str)],
    ) -> Result<Vec<(i64, &'a str)>> {
        let numbered = |(id, answer): &(QuestionId, &'a str)| {
            let unknown = || format!("{} does not annotate the question {id}", self.name);
            Ok((self.ids.number(id).with_context(unknown)?, *answer))
        };
        answers.iter().map(numbered).collect()
    }

    /// Checks that these are the annotated questions, each once.
    ///
    /// # Errors
    /// Names the annotation file, and questions that are missing, occur twice or are not annotated.
    pub(super) fn check_questions(&self, ids: impl IntoIterator<Item = QuestionId>) -> Result<()> {
        let asked: Vec<_> = ids.into_iter().map(|id| (id, "")).collect();
        self.in_order(self.numbered(&asked)?).map(drop)
    }

    /// The answers, in the order of the annotations.
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
            .map(|(what, ids)| list(what, ids, |id| self.ids.question(id)))
            .collect();
        if !faults.is_empty() {
            bail!(
                "the questions are not those of {}: {}",
                self.name,
                faults.join(", ")
            );
        }
        Ok(given.into_iter().flatten().collect())
    }

    /// The position of a processed answer in `texts` or `stems`; none if no annotator gave it.
    fn number(&self, answer: &str, matching: Matching) -> Option<u32> {
        let at = match matching {
            Matching::Exact => self.texts.get_index_of(answer),
            Matching::Stems => self.stems.get_index_of(&stemmed(answer)),
        };
        at.and_then(|at| u32::try_from(at).ok())
    }

    /// The accuracy of an answer to question `i`, 0 to 1.
    fn score_of(&self, i: usize, answer: Option<u32>, matching: Matching) -> f64 {
        let (truths, kinds) = (self.truths.row(i), self.kinds.row(i));
        let comparable = |truth: u32| match matching {
            Matching::Exact => truth,
            Matching::Stems => self.stem_of[truth as usize],
        };
        let agrees = |truth: u32| Some(comparable(truth)) == answer;
        let agreeing = truths.iter().filter(|truth| agrees(**truth)).count();
        match self.measure {
            Measure::Official => {}
            Measure::Share => return agreeing as f64 / truths.len() as f64,
            Measure::Exact => {
                let of = |truth: &u32| {
                    let same = |other: &&u32| comparable(**other) == comparable(*truth);
                    truths.iter().filter(same).count()
                };
                // Of equally frequent answers, the first.
                let most = truths.iter().rev().max_by_key(|truth| of(truth));
                return most.map_or(0.0, |truth| f64::from(u8::from(agrees(*truth))));
            }
        }
        // As in the official evaluation, leaving one annotator out leaves out all answers that equal the annotator's in every
        // field.
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
            if let Some(answer_type) = answer_type {
                answer_types[answer_type].add(*score);
            }
            if let Some(question_type) = question_type {
                question_types[question_type].add(*score);
            }
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
        }
    }
}

impl Metric for Evaluator {
    fn score(&self, answers: &[(QuestionId, &str)]) -> Result<Scores> {
        let accuracy = self.accuracy(self.numbered(answers)?, Matching::Exact)?;
        Ok(Scores {
            headline: accuracy.overall,
            printed: accuracy.to_string(),
            logged: accuracy.log_lines(),
        })
    }
}

/// Says which measure counts if it is not the official one, and where the official one cannot tell right from wrong.
fn note_measure(file: &AnnotationFile, measure: Measure) {
    let (name, total) = (file.name(), file.annotations().len());
    match measure {
        Measure::Exact => crate::note!(
            "Accuracy: the share of answers that most annotators gave (ACCURACY=exact), not the official one"
        ),
        Measure::Share => crate::note!(
            "Accuracy: the share of annotators who gave the answer (ACCURACY=share), not the official one"
        ),
        Measure::Official => {
            // A right answer needs three other annotators who agree.
            let few = (0..total).filter(|&i| file.answers(i).len() < 4).count();
            if few > 0 {
                crate::note!(
                    "{name}: {few} of {total} questions have fewer than four answers, so the official accuracy gives a right \
                     answer to them less than 100 (with one answer per question always 0); choose another with --SET \
                     ACCURACY=exact or --SET ACCURACY=share"
                );
            }
        }
    }
}

/// A mean, summed in the order of the file as in the reference, because rounding depends on the order.
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

/// Python's `round(x, 2)`, which rounds the exact value of the double; so does Rust's formatting.
fn round2(x: f64) -> f64 {
    format!("{x:.2}").parse().unwrap_or(x)
}

/// The texts of all answers as the metric compares them, with their kinds: the raw text if all annotators of a question
/// wrote the same, else the text without punctuation. The rule for digits and articles holds only for answers under test.
fn compared_texts(
    file: &AnnotationFile,
    texts: &mut Strings,
) -> Result<(RaggedVec<u32>, RaggedVec<u8>)> {
    let mut punctuated: IndexMap<u32, u32, FxBuildHasher> = IndexMap::default();
    let mut raw = punctuated.clone();
    let (mut truths, mut kinds) = (RaggedVec::new(), RaggedVec::new());
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

/// For each question, the positions of its types in the two lists, to which new types are added.
fn types_of(
    file: &AnnotationFile,
    answer_types: &mut Strings,
    question_types: &mut Strings,
) -> Result<Vec<(Option<usize>, Option<usize>)>> {
    let intern_type = |types: &mut Strings, name: Option<&str>| {
        let number = name.map(|name| intern(types, name)).transpose()?;
        anyhow::Ok(number.map(|number| number as usize))
    };
    let types = file.annotations().iter().map(|annotation| {
        let answer_type = type_name(file, annotation, annotation.answer_type, "answer_type")?;
        let question_type = type_name(file, annotation, annotation.question_type, "question_type")?;
        Ok((
            intern_type(answer_types, answer_type)?,
            intern_type(question_types, question_type)?,
        ))
    });
    types.collect()
}

/// The name of a type of an annotation; none if it may be and is missing.
fn type_name<'a>(
    file: &'a AnnotationFile,
    annotation: &Annotation,
    number: Option<u32>,
    key: &str,
) -> Result<Option<&'a str>> {
    ensure!(
        number.is_some() || !file.ids().form().complete,
        "{}: question {} has no \"{key}\"",
        file.name(),
        annotation.question_id
    );
    Ok(number.map(|number| file.string(number)))
}

/// An answer under test, after the processing of the evaluation.
fn processed(answer: &str) -> String {
    let one_line = answer.replace(['\n', '\t'], " ");
    text::process_digit_article(&text::process_punctuation(text::strip(&one_line)))
}

/// The stems of the words of a text. Spaces stay, so that texts with equal stems differ only in inflection.
fn stemmed(text: &str) -> String {
    let stemmer = Stemmer::create(Algorithm::English);
    text.split(' ')
        .map(|word| stemmer.stem(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The number of these questions, and the first of their ids.
fn list(what: &str, question_ids: &[i64], id: impl Fn(i64) -> QuestionId) -> String {
    let named: Vec<_> = question_ids
        .iter()
        .take(NAMED)
        .map(|&number| id(number).to_string())
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
