//! `--RUN=val`: answers val with a checkpoint, and scores the answers.

use super::evaluation::Evaluation;
use super::inputs::Inputs;
use super::plan::Plan;
use super::predict::{Predictor, name_answers};
use super::stop::attribute;
use crate::base::output;
use crate::config::Config;
use crate::data::QuestionId;
use crate::distributed;
use crate::report::Log;
use crate::say;
use anyhow::{Context, Result};

/// Answers val, and prints and logs the accuracy.
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
    let name = plan.ckpt_name(rand::random_range(0..100_000_000));
    let outcome = distributed::run_all(networks, |(net, replica)| {
        let answer = || {
            let indices = Predictor::new(net, task, &plan, replica, false)?.answers()?;
            let answers = name_answers(task, &inputs.answers, &indices)?;
            match replica.is_first() {
                true => save_and_score(&plan, &inputs, &name, &answers),
                false => Ok(()),
            }
        };
        answer().map_err(|error| attribute(replica, error))
    });
    outcome.and_then(|()| output::check_results())
}

/// Saves the answers under `name`, and prints and logs their accuracy.
fn save_and_score(
    plan: &Plan,
    inputs: &Inputs,
    name: &str,
    answers: &[(QuestionId, &str)],
) -> Result<()> {
    let metric = inputs.metric.as_ref();
    let metric = metric.context("there are no annotations")?;
    let file = plan.val_answers_of(name);
    let benchmark = plan.config().data.benchmark()?;
    let mut log = Log::open(&plan.log_of(name), benchmark.log_start())?;
    benchmark.write_answers(&file, answers)?;
    let scores = metric.score(answers)?;
    say!("{}", scores.printed);
    say!("Saved the answers in {}", file.display());
    log.scores(&scores.logged)
}
