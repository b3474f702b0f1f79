//! Answers questions with a trained network.

use super::feed::Feed;
use super::inputs::Task;
use crate::config::Config;
use crate::data::answers::AnswerList;
use crate::data::loader::{Loader, Options};
use crate::evaluation::{Accuracy, Evaluator, Matching};
use crate::model::{Net, Pass};
use crate::native::device::{Mark, fetch};
use crate::report::{Phase, Profile, Progress};
use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Tensor};

/// The answers to one batch.
pub struct Prediction {
    /// (B) index of the most probable answer of each question, the first of several; -1 where none is a number.
    pub answers: Vec<i64>,
    /// (B, answers) probabilities, when asked for.
    pub probabilities: Vec<f32>,
}

/// Answers every question of a task, in order, batch by batch. What a device finds of one batch is read when it has the next
/// one to compute on.
pub struct Predictor<'a> {
    net: &'a Net,
    task: &'a Task,
    feed: Feed,
    device: Device,
    pass: Pass,
    with_probabilities: bool,
    progress: Progress,
    profile: Profile,
    done: u64,
    answered: usize,
    waiting: Option<Found>,
}

/// What was found of a batch, on its way from the device.
struct Found {
    answers: Tensor,
    probabilities: Option<Tensor>,
    there: Mark,
}

impl Found {
    fn read(self) -> Result<Prediction> {
        self.there.wait()?;
        let answers = Vec::<i64>::try_from(&self.answers)?;
        let probabilities =
            self.probabilities.map_or(Ok(Vec::new()), |values| Vec::<f32>::try_from(values.f_view([-1])?))?;
        Ok(Prediction { answers, probabilities })
    }
}

impl<'a> Predictor<'a> {
    /// `with_probabilities` also copies the probabilities from the device.
    ///
    /// # Errors
    /// When the loader cannot start.
    pub fn new(
        net: &'a Net,
        task: &'a Task,
        config: &Config,
        device: Device,
        with_probabilities: bool,
    ) -> Result<Self> {
        let options = Options {
            batch_size: config.eval_batch_size(),
            drop_last: false,
            workers: config.data.num_workers,
            prefetch: super::PREFETCH,
            share_images: true,
            max_token: config.data.max_token,
            skip: 0,
        };
        let order = (0..task.dataset.len()).collect();
        let loader = Loader::new(task.dataset.clone(), task.features.clone(), order, options)?;
        let feed = Feed::new(loader, task.packer(config, net, device))?;
        let progress = Progress::new("Evaluation", feed.batches() as u64, !config.run.verbose);
        let pass = Pass::evaluation(super::product_kind(config, device), device);
        let profile = Profile::new(config.run.profile, device);
        let waiting = None;
        Ok(Predictor {
            net,
            task,
            feed,
            device,
            pass,
            with_probabilities,
            progress,
            profile,
            done: 0,
            answered: 0,
            waiting,
        })
    }

    /// Has the next batch computed; none when there is none.
    fn begin(&mut self) -> Result<Option<Found>> {
        super::stop::check()?;
        let Some(fed) = self.feed.next().transpose()? else { return Ok(None) };
        self.profile.end(Phase::Input);
        let _no_grad = tch::no_grad_guard();
        let probabilities = self.net.forward(&fed.packed, &self.pass).sigmoid(); // (B, answers)
        let answers = fetch(&most_probable(&probabilities))?; // (B)
        let probabilities = self.with_probabilities.then(|| fetch(&probabilities)).transpose()?;
        let there = Mark::now(self.device)?;
        self.profile.end(Phase::Forward);
        self.profile.end_step();
        Ok(Some(Found { answers, probabilities, there }))
    }

    /// The next prediction; none after the last.
    fn predict(&mut self) -> Result<Option<Prediction>> {
        if self.waiting.is_none() {
            self.waiting = self.begin()?;
        }
        let Some(found) = self.waiting.take() else { return Ok(None) };
        self.waiting = self.begin()?;
        found.read().and_then(|prediction| self.checked(prediction)).map(Some)
    }

    /// The next prediction, if the network had numbers for all of it.
    fn checked(&mut self, prediction: Prediction) -> Result<Prediction> {
        if let Some(at) = prediction.answers.iter().position(|&answer| answer < 0) {
            let image = self.task.dataset.image_ids()[self.answered + at];
            let overflow = "the features are finite, but not what the network makes of them; take another checkpoint";
            let cause = self.task.features.not_finite(&[image]);
            let question = self.task.dataset.question_ids()[self.answered + at];
            bail!("there is no answer to question {question}: {}", cause.as_deref().unwrap_or(overflow));
        }
        self.answered += prediction.answers.len();
        Ok(prediction)
    }
}

impl Iterator for Predictor<'_> {
    type Item = Result<Prediction>;

    fn next(&mut self) -> Option<Self::Item> {
        let prediction = self.predict().transpose();
        match &prediction {
            Some(_) => self.done += 1,
            None if self.profile.is_on() => print!("Profile of evaluation: {}", self.profile),
            None => {}
        }
        if self.progress.is_due() {
            self.progress.show(self.done, "");
        }
        prediction
    }
}

/// (B) index of the largest of the (B, answers) probabilities, -1 where they are not numbers.
fn most_probable(probabilities: &Tensor) -> Tensor {
    probabilities.argmax(1, false).masked_fill(&probabilities.amax([1], false).isnan(), -1)
}

/// The answer to every question of `task`, as text.
///
/// # Errors
/// When a batch cannot be read or memory runs out.
pub fn answer_all<'a>(
    net: &Net,
    task: &Task,
    answers: &'a AnswerList,
    config: &Config,
    device: Device,
) -> Result<Vec<(i64, &'a str)>> {
    let mut indices = Vec::with_capacity(task.dataset.len());
    for prediction in Predictor::new(net, task, config, device, false)? {
        indices.extend(prediction?.answers);
    }
    name_answers(task, answers, &indices)
}

/// Joins question ids and answer texts, and makes sure that no question was left out.
///
/// # Errors
/// When there are more or fewer answers than questions.
pub fn name_answers<'a>(task: &Task, answers: &'a AnswerList, indices: &[i64]) -> Result<Vec<(i64, &'a str)>> {
    let questions = task.dataset.question_ids();
    ensure!(indices.len() == questions.len(), "{} answers to {} questions", indices.len(), questions.len());
    let name = |&index: &i64| answers.get(index as usize).with_context(|| format!("there is no answer {index}"));
    questions.iter().zip(indices).map(|(&id, index)| Ok((id, name(index)?))).collect()
}

/// Scores answers to val.
///
/// # Errors
/// When they are not about the annotated questions.
pub fn accuracy(evaluator: &Evaluator, answers: &[(i64, &str)]) -> Result<Accuracy> {
    evaluator.accuracy(answers.iter().copied(), Matching::Exact)
}
