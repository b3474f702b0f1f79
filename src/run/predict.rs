//! Answering questions with a trained network.

use super::inputs::Task;
use super::network::{matmul_dtype, predicts_probabilities};
use super::plan::Plan;
use super::prefetch::{LOADED_AHEAD, Prefetcher};
use super::stop::{self, Stopped};
use crate::data::QuestionId;
use crate::data::answers::AnswerList;
use crate::data::loader::{Loader, LoaderOptions};
use crate::distributed::{Replica, StepReduction};
use crate::models::Network;
use crate::native::device::{Event, fetch};
use crate::nn::pass::Pass;
use crate::report::{Phase, Profile, Progress};
use crate::say;
use anyhow::{Context, Result, bail, ensure};
use std::collections::VecDeque;
use tch::{Kind, Tensor};

/// The answers to one batch.
pub struct Prediction {
    /// (B) index of the answer with the largest score, the lowest of equals; -1 where a score is NaN.
    pub(crate) answers: Vec<i64>,
    /// (B, answers) scores of the answers, see [`Predictor::new`]; empty unless asked for.
    pub(crate) scores: Vec<f32>,
}

/// The predictions of all questions of a task: an iterator over batches, in order.
///
/// The N replicas of a run take the batches in turns. A round is one batch for each replica. Every replica receives the
/// predictions of all. The predictions of a round are read while the device computes the next round.
pub struct Predictor<'a> {
    net: &'a Network,
    task: &'a Task,
    replica: &'a Replica,
    batches: Prefetcher,
    pass: Pass,
    batch_size: usize,
    with_scores: bool,
    as_probabilities: bool,
    progress: Progress,
    profile: Profile,
    /// Questions whose computation was started.
    asked: usize,
    /// Questions whose predictions were read.
    answered: usize,
    /// The round that is computed and not yet read.
    in_flight: Option<Round>,
    /// Predictions that were read and not yet returned.
    read: VecDeque<Prediction>,
}

/// The predictions of a round, which may still be on the device.
struct Round {
    /// (N, B)
    answers: Tensor,
    /// (N, B, answers)
    scores: Option<Tensor>,
    reduction: Option<StepReduction>,
    /// Reached when the predictions have been copied to the CPU.
    copied: Event,
    /// Questions of the round; only the last batch of all is smaller than B.
    questions: usize,
}

impl Round {
    fn read(self, batch_size: usize) -> Result<Vec<Prediction>> {
        if let Some(signal) = self
            .reduction
            .map(|reduction| reduction.read())
            .transpose()?
            .and_then(|(_, signal)| signal)
        {
            bail!(Stopped::by(signal));
        }
        self.copied.wait()?;
        let mut answers = Vec::<i64>::try_from(self.answers.f_view([-1])?)?;
        answers.truncate(self.questions);
        let scores = match self.scores {
            Some(values) => Vec::<f32>::try_from(values.f_view([-1])?)?,
            None => Vec::new(),
        };
        let per_question = scores.len() / self.answers.numel().max(1);
        let batch = |(i, answers): (usize, &[i64])| {
            let first = i * batch_size * per_question;
            let scores = scores[first..first + answers.len() * per_question].to_vec();
            Prediction {
                answers: answers.to_vec(),
                scores,
            }
        };
        Ok(answers.chunks(batch_size).enumerate().map(batch).collect())
    }
}

impl<'a> Predictor<'a> {
    /// A predictor for the questions of `task`. `with_scores`: also return the scores by which answers are chosen, which
    /// are probabilities in the reference and logits in OpenVQA.
    ///
    /// # Errors
    /// When the loader cannot start.
    pub fn new(
        net: &'a Network,
        task: &'a Task,
        plan: &Plan,
        replica: &'a Replica,
        with_scores: bool,
    ) -> Result<Self> {
        let (config, device) = (plan.config(), replica.device);
        // `gather` exchanges whole batches, so a batch is not larger than needed.
        let batch_size = config.eval_batch_size().min(task.dataset.len());
        let options = LoaderOptions {
            batch_size,
            drop_last: false,
            workers: plan.workers(),
            prefetch: LOADED_AHEAD,
            share_images: true,
            max_token: task.max_token,
            skip: 0,
        };
        let order: Vec<usize> = (0..task.dataset.len()).collect();
        let batches = order.len().div_ceil(batch_size);
        let order = order
            .chunks(batch_size)
            .skip(replica.rank)
            .step_by(replica.size)
            .flatten()
            .copied()
            .collect();
        let loader = Loader::new(task.dataset.clone(), task.features.clone(), order, options)?;
        Ok(Predictor {
            net,
            task,
            replica,
            batches: Prefetcher::new(loader, task.packer(config, net, device))?,
            pass: Pass::evaluation(matmul_dtype(config, device), device),
            batch_size,
            with_scores,
            as_probabilities: predicts_probabilities(config)?,
            progress: Progress::new("Evaluation", batches as u64, !config.run.verbose),
            profile: Profile::new(config.run.profile && replica.is_first(), device),
            asked: 0,
            answered: 0,
            in_flight: None,
            read: VecDeque::new(),
        })
    }

    /// Starts the next round; returns `None` after the last one.
    fn begin(&mut self) -> Result<Option<Round>> {
        let questions =
            (self.task.dataset.len() - self.asked).min(self.batch_size * self.replica.size);
        if questions == 0 {
            return Ok(None);
        }
        self.asked += questions;
        if self.replica.is_alone() {
            stop::check()?;
        }
        let _no_grad = tch::no_grad_guard();
        let device = self.replica.device;
        let (answers, scores) = match self.batches.next().transpose()? {
            Some(batch) => {
                self.profile.end(Phase::Input);
                let logits = self.net.forward(&batch, &self.pass)?; // (B, answers)
                let scores = if self.as_probabilities {
                    logits.sigmoid()
                } else {
                    logits
                };
                (largest(&scores), scores)
            }
            // The last round may have no batch for this replica.
            None => {
                let empty = |shape: &[i64], kind| Tensor::f_zeros(shape, (kind, device));
                (
                    empty(&[0], Kind::Int64)?,
                    empty(&[0, self.net.answers() as i64], Kind::Float)?,
                )
            }
        };
        let batch_size = self.batch_size as i64;
        let gather = |rows| fetch(&self.replica.gather(rows, batch_size)?);
        let answers = gather(answers)?;
        let scores = self.with_scores.then(|| gather(scores)).transpose()?;
        let reduction = self.replica.reduce_step(
            &Tensor::f_zeros([1], (Kind::Double, device))?,
            stop::asked(),
        )?;
        let copied = Event::now(device)?;
        self.profile.end(Phase::Forward);
        self.profile.end_step();
        Ok(Some(Round {
            answers,
            scores,
            reduction,
            copied,
            questions,
        }))
    }

    /// The next prediction; `None` after the last one.
    fn predict(&mut self) -> Result<Option<Prediction>> {
        if self.read.is_empty() {
            if self.in_flight.is_none() {
                self.in_flight = self.begin()?;
            }
            let Some(round) = self.in_flight.take() else {
                return Ok(None);
            };
            self.in_flight = self.begin()?;
            self.read.extend(round.read(self.batch_size)?);
        }
        self.read
            .pop_front()
            .map(|prediction| self.checked(prediction))
            .transpose()
    }

    /// The answer index of every question.
    ///
    /// # Errors
    /// A batch that cannot be read, or no memory left.
    pub fn answers(self) -> Result<Vec<i64>> {
        self.map(|prediction| Ok(prediction?.answers))
            .collect::<Result<Vec<_>>>()
            .map(|all| all.concat())
    }

    /// Checks that every question of `prediction` has an answer.
    fn checked(&mut self, prediction: Prediction) -> Result<Prediction> {
        if let Some(at) = prediction.answers.iter().position(|&answer| answer < 0) {
            let image = self.task.dataset.image_id(self.answered + at).clone();
            let overflow = "the features are finite, but the output of the network is not; take another checkpoint";
            let cause = self.task.features.not_finite(&[image]);
            let question = self.task.dataset.question_id(self.answered + at);
            bail!(
                "there is no answer to question {question}: {}",
                cause.as_deref().unwrap_or(overflow)
            );
        }
        self.answered += prediction.answers.len();
        Ok(prediction)
    }
}

impl Iterator for Predictor<'_> {
    type Item = Result<Prediction>;

    fn next(&mut self) -> Option<Self::Item> {
        let prediction = self.predict().transpose();
        if prediction.is_none() && self.profile.is_on() {
            let profile = self.profile.to_string();
            say!("Profile of evaluation: {}", profile.trim_end());
        }
        if self.progress.is_due() {
            self.progress
                .show(self.answered.div_ceil(self.batch_size) as u64, "");
        }
        prediction
    }
}

/// (B) index of the largest of the (B, answers) scores; -1 where one of them is NaN.
fn largest(scores: &Tensor) -> Tensor {
    scores
        .argmax(1, false)
        .masked_fill(&scores.amax([1], false).isnan(), -1)
}

/// Pairs of question id and answer text, for the answer index of every question of `task`.
///
/// # Errors
/// More or fewer indices than questions, or an index without an answer.
pub fn name_answers<'a>(
    task: &Task,
    answers: &'a AnswerList,
    indices: &[i64],
) -> Result<Vec<(QuestionId, &'a str)>> {
    let questions = task.dataset.question_ids();
    ensure!(
        indices.len() == questions.len(),
        "{} answers to {} questions",
        indices.len(),
        questions.len()
    );
    let name = |&index: &i64| {
        answers
            .get(index as usize)
            .with_context(|| format!("there is no answer {index}"))
    };
    questions
        .iter()
        .zip(indices)
        .map(|(id, index)| Ok((id.clone(), name(index)?)))
        .collect()
}
