//! `--RUN=test`: answers a test split with a checkpoint; with `--SAVE_PRED` also saves the scores of all answers.

use super::evaluation::Evaluation;
use super::network::predicts_probabilities;
use super::predict::{Predictor, name_answers};
use super::stop::attribute;
use crate::config::Config;
use crate::data::QuestionId;
use crate::data::predictions::write_predictions;
use crate::distributed;
use crate::say;
use anyhow::Result;
use std::path::Path;

/// Answers the test questions and saves the answers.
///
/// # Errors
/// Missing or bad input, or outputs that cannot be written.
pub(super) fn run(config: &Config) -> Result<()> {
    let Evaluation {
        plan,
        inputs,
        networks,
    } = Evaluation::load(config)?;
    let task = inputs.answering()?;
    let split = plan.config().answered_split()?;
    let benchmark = plan.config().data.benchmark()?;
    if let Some(note) = split.and_then(|split| benchmark.note_on_test_split(split)) {
        crate::note!("{note}");
    }
    let run = &plan.config().run;
    let name = plan.ckpt_name(rand::random_range(0..100_000_000));
    let (answer_file, score_file) = (plan.test_answers_of(&name)?, plan.test_scores_of(&name)?);
    distributed::run_all(networks, |(net, replica)| {
        let answer = || {
            let predictor = Predictor::new(net, task, &plan, replica, run.test_save_pred)?;
            if !replica.is_first() {
                return predictor.answers().map(drop);
            }
            let indices = if run.test_save_pred {
                let (ids, answers) = (task.dataset.question_ids(), inputs.answers.len());
                let indices = answer_and_save_scores(predictor, ids, answers, &score_file)?;
                let kind = match predicts_probabilities(plan.config())? {
                    true => "probabilities",
                    false => "logits",
                };
                say!("Saved the {kind} in {}", score_file.display());
                indices
            } else {
                predictor.answers()?
            };
            let answers = name_answers(task, &inputs.answers, &indices)?;
            benchmark.write_answers(&answer_file, &answers)?;
            say!(
                "Saved the answers to {} questions in {}",
                indices.len(),
                answer_file.display()
            );
            Ok(())
        };
        answer().map_err(|error| attribute(replica, error))
    })
}

/// Returns the answer indices, and streams the scores to `file` meanwhile, because those of the whole test split
/// take gigabytes.
fn answer_and_save_scores(
    predictor: Predictor,
    question_ids: &[QuestionId],
    answers: usize,
    file: &Path,
) -> Result<Vec<i64>> {
    let (mut indices, mut failure) = (Vec::new(), None);
    let rows = predictor.map_while(|prediction| match prediction {
        Ok(prediction) => {
            indices.extend(prediction.answers);
            Some(prediction.scores)
        }
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let written = write_predictions(file, question_ids, answers, rows);
    match failure {
        Some(error) => Err(error),
        None => {
            written?;
            Ok(indices)
        }
    }
}
