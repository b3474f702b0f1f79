//! The accuracy of CLEVR: the share of answers that equal the right answer, over all questions and by question type.

use super::QuestionFile;
use crate::data::QuestionId;
use crate::datasets::{Metric, Scores};
use anyhow::{Context, Result, bail, ensure};

/// The first words of the log entry of an evaluation.
pub const LOG_START: &str = "Overall : ";

/// The question types, with the last functions of their programs, as in OpenVQA. In the paper `equal_integer` is a
/// comparison of numbers.
const TYPES: [(&str, &[&str]); 5] = [
    ("Count", &["count"]),
    ("Exist", &["exist"]),
    ("Compare_Numbers", &["greater_than", "less_than"]),
    (
        "Query_Attribute",
        &["query_color", "query_material", "query_shape", "query_size"],
    ),
    (
        "Compare_Attribute",
        &[
            "equal_color",
            "equal_integer",
            "equal_material",
            "equal_shape",
            "equal_size",
        ],
    ),
];

/// The metric for the questions of one file. The id of a question is its position.
pub struct Evaluator {
    name: String,
    truths: Vec<String>,
    /// The type of each question, as a position in [`TYPES`].
    types: Vec<usize>,
}

/// The number of right answers to some questions.
#[derive(Clone, Copy, Default)]
struct Count {
    right: usize,
    questions: usize,
}

impl Count {
    fn add(&mut self, right: bool) {
        self.right += usize::from(right);
        self.questions += 1;
    }

    fn percent(self) -> f64 {
        100.0 * self.right as f64 / self.questions as f64
    }
}

impl Evaluator {
    /// Prepares the right answers.
    ///
    /// # Errors
    /// No question, a question without an answer or a program, or a program whose last function belongs to no type.
    pub fn new(file: &QuestionFile) -> Result<Self> {
        let name = file.name().to_owned();
        ensure!(
            !file.is_empty(),
            "{name} has no question, so there is nothing to evaluate"
        );
        let (mut truths, mut types) = (Vec::new(), Vec::new());
        for i in 0..file.len() {
            let lacks = |key| format!("{name}: question {i} has no \"{key}\"");
            truths.push(file.answer(i).with_context(|| lacks("answer"))?.to_owned());
            let function = file.function(i).with_context(|| lacks("program"))?;
            let found = TYPES
                .iter()
                .position(|(_, functions)| functions.contains(&function));
            let unknown = || {
                format!(
                    "{name}: the program of question {i} ends with {function:?}, which belongs to no question type"
                )
            };
            types.push(found.with_context(unknown)?);
        }
        Ok(Evaluator {
            name,
            truths,
            types,
        })
    }

    /// The answers, in the order of the questions.
    fn in_order<'a>(&self, answers: &[(QuestionId, &'a str)]) -> Result<Vec<&'a str>> {
        let mut given = vec![None; self.truths.len()];
        for (id, answer) in answers {
            let position =
                id.0.number()
                    .and_then(|number| usize::try_from(number).ok());
            match position.and_then(|position| given.get_mut(position)) {
                Some(place @ None) => *place = Some(*answer),
                Some(Some(_)) => bail!("question {id} is answered twice"),
                None => bail!(
                    "there are {} answers, but {} has {} questions",
                    answers.len(),
                    self.name,
                    self.truths.len()
                ),
            }
        }
        let missing = given.iter().filter(|answer| answer.is_none()).count();
        ensure!(
            missing == 0,
            "{missing} of the {} questions of {} have no answer",
            self.truths.len(),
            self.name
        );
        Ok(given.into_iter().flatten().collect())
    }
}

impl Metric for Evaluator {
    /// A type without questions has no line, because a line of zeros would look like a result. OpenVQA fails here.
    fn score(&self, answers: &[(QuestionId, &str)]) -> Result<Scores> {
        let given = self.in_order(answers)?;
        let (mut all, mut types) = (Count::default(), [Count::default(); TYPES.len()]);
        for ((answer, truth), &kind) in given.iter().zip(&self.truths).zip(&self.types) {
            let is_right = answer == truth;
            all.add(is_right);
            types[kind].add(is_right);
        }
        let names = TYPES.iter().map(|(name, _)| *name);
        let counts = names.zip(types).filter(|(_, count)| count.questions > 0);
        let counts: Vec<(&str, Count)> = [("Overall", all)].into_iter().chain(counts).collect();
        let lines = |colon: &str| {
            let line = |(name, count): &(&str, Count)| {
                let Count { right, questions } = count;
                format!(
                    "{name}{colon} {right} / {questions} = {:.2}",
                    count.percent()
                )
            };
            counts.iter().map(line).collect::<Vec<_>>().join("\n")
        };
        Ok(Scores {
            headline: all.percent(),
            printed: lines(""),
            logged: lines(" :") + "\n\n",
        })
    }
}
