//! The metrics of GQA (Hudson and Manning, CVPR 2019, section 4.4), over the balanced questions of a file.

use super::QuestionFile;
use super::choices::{COMMON, Choices};
use crate::data::QuestionId;
use crate::datasets::{Metric, Scores};
use crate::text::normalize_answer;
use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// The first words of the log entry of an evaluation.
pub const LOG_START: &str = "Binary: ";

/// The metrics for the questions of one file.
pub struct Evaluator {
    file: QuestionFile,
    choices: Option<Choices>,
    with_consistency: bool,
}

/// The mean of some shares of right answers.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// In percent; 0 for a mean of nothing.
    fn percent(self) -> f64 {
        match self.count {
            0 => 0.0,
            count => self.sum / count as f64 * 100.0,
        }
    }
}

/// The means of all metrics.
#[derive(Default)]
struct Means<'a> {
    binary: Mean,
    open: Mean,
    accuracy: Mean,
    consistency: Mean,
    validity: Mean,
    plausibility: Mean,
    structural: BTreeMap<&'a str, Mean>,
    semantic: BTreeMap<&'a str, Mean>,
    steps: BTreeMap<usize, Mean>,
    words: BTreeMap<usize, Mean>,
}

/// How often the questions of a group have each answer, and how often it is given.
#[derive(Default)]
struct Group<'a> {
    gold: IndexMap<&'a str, usize>,
    given: FxHashMap<&'a str, usize>,
}

impl Evaluator {
    /// Prepares the metrics; with `choices`, also validity and plausibility.
    ///
    /// # Errors
    /// No balanced question, a question without an answer, or choices that lack a question.
    pub fn new(file: QuestionFile, choices: Option<Choices>) -> Result<Self> {
        let name = file.name();
        let mut balanced = 0;
        for i in 0..file.len() {
            let id = file.id(i);
            let lacks = |key| format!("{name}: question {id} has no \"{key}\"");
            ensure!(file.answer(i).is_some(), "{}", lacks("answer"));
            let details = file.details(i).with_context(|| lacks("types"))?;
            balanced += usize::from(details.is_balanced);
            if let Some(choices) = choices.as_ref().filter(|_| details.is_balanced) {
                choices.of(id)?;
            }
        }
        ensure!(
            balanced > 0,
            "{name} has no balanced question, so there is nothing to evaluate"
        );
        Ok(Evaluator {
            file,
            choices,
            with_consistency: false,
        })
    }

    /// Also computes the consistency, if the file has all questions that are entailed by its balanced ones.
    pub fn with_consistency(mut self) -> Self {
        let file = &self.file;
        let mut entailed = (0..file.len())
            .filter_map(|i| file.details(i).filter(|details| details.is_balanced))
            .flat_map(|details| &details.entailed);
        self.with_consistency = entailed.all(|id| file.position(id).is_some());
        self
    }

    /// The answers, in the order of the questions.
    fn in_order<'a>(&self, answers: &[(QuestionId, &'a str)]) -> Result<Vec<&'a str>> {
        let file = &self.file;
        let mut given = vec![None; file.len()];
        for (id, answer) in answers {
            match file.position(&id.to_string()).map(|i| &mut given[i]) {
                Some(place @ None) => *place = Some(*answer),
                Some(Some(_)) => bail!("question {id} is answered twice"),
                // Answers to all questions may be scored on the balanced ones.
                None => {}
            }
        }
        let missing = given.iter().position(Option::is_none);
        if let Some(first) = missing {
            let missing = given.iter().filter(|answer| answer.is_none()).count();
            bail!(
                "{missing} of the {} questions of {} have no answer, such as question {}",
                file.len(),
                file.name(),
                file.id(first)
            );
        }
        Ok(given.into_iter().flatten().collect())
    }

    /// The share of right answers among the questions that question `i` entails, other than itself; none without such.
    fn consistency(&self, i: usize, given: &[&str]) -> Option<f64> {
        let file = &self.file;
        let details = file.details(i)?;
        let mut share = Mean::default();
        for id in details.entailed.iter().filter(|id| *id != file.id(i)) {
            let entailed = file.position(id)?;
            let is_right = file.answer(entailed) == Some(given[entailed]);
            share.add(f64::from(is_right));
        }
        (share.count > 0).then(|| share.percent() / 100.0)
    }

    fn means<'a>(&'a self, given: &[&'a str]) -> Result<(Means<'a>, IndexMap<&'a str, Group<'a>>)> {
        let file = &self.file;
        let (mut means, mut groups) = (Means::default(), IndexMap::<&str, Group>::new());
        for (i, &answer) in given.iter().enumerate() {
            let Some(details) = file.details(i).filter(|details| details.is_balanced) else {
                continue;
            };
            let gold = file.answer(i).unwrap_or_default();
            let score = f64::from(gold == answer);
            means.accuracy.add(score);
            let kind = match details.structural.as_str() {
                "query" => &mut means.open,
                _ => &mut means.binary,
            };
            kind.add(score);
            means
                .structural
                .entry(&details.structural)
                .or_default()
                .add(score);
            means
                .semantic
                .entry(&details.semantic)
                .or_default()
                .add(score);
            means.steps.entry(details.steps).or_default().add(score);
            means.words.entry(details.words).or_default().add(score);
            if let Some(choices) = &self.choices {
                let choices = choices.of(file.id(i))?;
                let belongs = |group: &[String]| match details.is_common {
                    true => COMMON.contains(&answer),
                    false => group.iter().any(|choice| choice == answer),
                };
                means.validity.add(f64::from(belongs(&choices.valid)));
                means
                    .plausibility
                    .add(f64::from(belongs(&choices.plausible)));
            }
            if let Some(group) = &details.group {
                let group = groups.entry(group).or_default();
                *group.gold.entry(gold).or_default() += 1;
                *group.given.entry(answer).or_default() += 1;
            }
            if self.with_consistency
                && score == 1.0
                && let Some(share) = self.consistency(i, given)
            {
                means.consistency.add(share);
            }
        }
        Ok((means, groups))
    }

    /// A line on the answers that are right but for their form: the answer list is normalised and the right answers are not,
    /// as in OpenVQA. None if there are none.
    fn cost_of_normalization(&self, given: &[&str]) -> Option<String> {
        let file = &self.file;
        let is_lost = |&i: &usize| {
            let gold = file.answer(i).unwrap_or_default();
            let is_balanced = file.details(i).is_some_and(|details| details.is_balanced);
            is_balanced && gold != given[i] && normalize_answer(gold) == given[i]
        };
        let lost: Vec<usize> = (0..file.len()).filter(is_lost).collect();
        let &first = lost.first()?;
        Some(format!(
            "{} answers count as wrong for their form alone, such as {:?} for {:?}",
            lost.len(),
            given[first],
            file.answer(first).unwrap_or_default()
        ))
    }

    /// The main lines, and the lines by kind of question; and the accuracy.
    fn lines(&self, given: &[&str]) -> Result<(Vec<String>, Vec<String>, f64)> {
        let (means, groups) = self.means(given)?;
        let mut lines = vec![
            format!("Binary: {:.2}%", means.binary.percent()),
            format!("Open: {:.2}%", means.open.percent()),
            format!("Accuracy: {:.2}%", means.accuracy.percent()),
        ];
        if self.with_consistency {
            lines.push(format!("Consistency: {:.2}%", means.consistency.percent()));
        }
        if self.choices.is_some() {
            lines.push(format!("Validity: {:.2}%", means.validity.percent()));
            lines.push(format!(
                "Plausibility: {:.2}%",
                means.plausibility.percent()
            ));
        }
        if let Some(distance) = distribution(&groups) {
            lines.push(format!("Distribution: {distance:.2} (lower is better)"));
        }
        let mut details = Vec::new();
        add_kinds(&mut details, "structural type", &means.structural);
        add_kinds(&mut details, "semantic type", &means.semantic);
        add_kinds(&mut details, "steps number", &means.steps);
        add_kinds(&mut details, "words number", &means.words);
        Ok((lines, details, means.accuracy.percent()))
    }

    /// The scores with the lines by kind of question, as `--RUN=score` prints them.
    ///
    /// # Errors
    /// Answers that are not one for each question.
    pub fn all_scores(&self, answers: &[(QuestionId, &str)]) -> Result<String> {
        let given = self.in_order(answers)?;
        let (lines, details, _) = self.lines(&given)?;
        let cost = self.cost_of_normalization(&given);
        let lines = lines.into_iter().chain(details).chain(cost);
        Ok(lines.map(|line| line + "\n").collect())
    }
}

impl Metric for Evaluator {
    fn score(&self, answers: &[(QuestionId, &str)]) -> Result<Scores> {
        let given = self.in_order(answers)?;
        let (lines, details, headline) = self.lines(&given)?;
        let logged = [&lines[..], &details[..]].concat().join("\n") + "\n\n";
        let printed: Vec<String> = lines
            .into_iter()
            .chain(self.cost_of_normalization(&given))
            .collect();
        Ok(Scores {
            headline,
            printed: printed.join("\n"),
            logged,
        })
    }
}

/// The distance of the given answers from the right ones: χ² of each group, weighted by its size, by 100; none without
/// groups.
fn distribution(groups: &IndexMap<&str, Group>) -> Option<f64> {
    let (mut sum, mut questions) = (0.0, 0);
    for group in groups.values() {
        let (mut distance, mut size) = (0.0, 0);
        for (answer, &expected) in &group.gold {
            let observed = group.given.get(answer).copied().unwrap_or(0);
            let apart = observed as f64 - expected as f64;
            distance += apart * apart / expected as f64;
            size += expected;
        }
        sum += distance * size as f64;
        questions += size;
    }
    (questions > 0).then(|| sum / questions as f64 / 100.0)
}

/// Adds a title, and a line for each kind of question.
fn add_kinds<K: std::fmt::Display>(
    lines: &mut Vec<String>,
    title: &str,
    kinds: &BTreeMap<K, Mean>,
) {
    lines.push(format!("Accuracy / {title}:"));
    let line = |(kind, mean): (&K, &Mean)| {
        format!(
            "  {kind}: {:.2}% ({} questions)",
            mean.percent(),
            mean.count
        )
    };
    lines.extend(kinds.iter().map(line));
}
