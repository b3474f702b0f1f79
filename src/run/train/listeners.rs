//! The listeners of the trainer: profile, progress, checkpoints and log.

use super::trainer::Trainer;
use crate::native::device::peak_memory;
use crate::report::{Log, Phase, Profile, Progress};
use crate::run::predict::{Predictor, name_answers};
use crate::run::preflight::Preflight;
use crate::run::stop::Stopped;
use crate::say;
use anyhow::{Result, ensure};
use std::time::Instant;
use tch::{Device, Tensor};

/// A micro-batch whose gradients have just been computed.
pub struct MicroBatch<'a> {
    /// Optimizer step that it belongs to, from 1.
    pub step: u64,
    /// Learning rate of that step.
    pub lr: f64,
    /// Summed loss of its questions, still on the device.
    pub loss: &'a Tensor,
    /// Number of its questions.
    pub questions: usize,
}

/// An optimizer step that has just been taken.
pub struct Step {
    /// Its learning rate.
    pub(crate) lr: f64,
    /// Loss per question of the last step whose loss was read.
    pub(crate) loss: f64,
    /// The signal that asks all replicas to stop after this step, or 0.
    pub(crate) signal: i32,
}

impl Step {
    pub(super) fn new(lr: f64, signal: i32) -> Step {
        let loss = 0.0;
        Step { lr, loss, signal }
    }
}

/// A part of a run that the trainer informs of its progress. The calls come in this order: `begin`; for each epoch
/// `epoch_begins`, then for each step its `phase`s, `micro_batch`es and `step`, then `epoch`.
pub trait StepListener {
    /// The run begins, or continues.
    ///
    /// # Errors
    /// An error of any method ends the run.
    fn begin(&mut self, _: &Trainer) -> Result<()> {
        Ok(())
    }

    /// An epoch begins, or continues in its middle.
    ///
    /// # Errors
    /// See [`StepListener::begin`].
    fn epoch_begins(&mut self, _: &Trainer) -> Result<()> {
        Ok(())
    }

    /// A phase of the current step is over.
    fn phase(&mut self, _: Phase) {}

    /// The gradients of a micro-batch have been added.
    ///
    /// # Errors
    /// See [`StepListener::begin`].
    fn micro_batch(&mut self, _: &MicroBatch) -> Result<()> {
        Ok(())
    }

    /// Whether this listener needs the losses of all steps so far. Reading them waits for the GPU.
    fn needs_losses(&mut self, _: &Trainer, _: &Step) -> bool {
        false
    }

    /// An optimizer step is done.
    ///
    /// # Errors
    /// See [`StepListener::begin`].
    fn step(&mut self, _: &Trainer, _: &Step) -> Result<()> {
        Ok(())
    }

    /// An epoch is done.
    ///
    /// # Errors
    /// See [`StepListener::begin`].
    fn epoch(&mut self, _: &Trainer) -> Result<()> {
        Ok(())
    }
}

/// All listeners of a run, in the order in which they act.
pub(super) struct Listeners<'a, 'b> {
    own: Vec<Box<dyn StepListener>>,
    others: &'a mut [&'b mut dyn StepListener],
}

impl<'a, 'b> Listeners<'a, 'b> {
    /// The listeners of every run, then `others`. Opens the log.
    pub(super) fn of_a_run(
        trainer: &Trainer,
        others: &'a mut [&'b mut dyn StepListener],
    ) -> Result<Self> {
        let own: Vec<Box<dyn StepListener>> = vec![
            Box::new(ProfileListener::new(trainer)),
            Box::new(ProgressListener::default()),
            Box::new(CheckpointListener),
            Box::new(LogListener::open(trainer)?),
        ];
        Ok(Listeners { own, others })
    }

    /// No listeners.
    pub(super) fn none() -> Self {
        Listeners {
            own: Vec::new(),
            others: &mut [],
        }
    }

    fn each(&mut self, mut call: impl FnMut(&mut dyn StepListener) -> Result<()>) -> Result<()> {
        for listener in &mut self.own {
            call(&mut **listener)?;
        }
        for listener in &mut *self.others {
            call(&mut **listener)?;
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, trainer: &Trainer) -> Result<()> {
        self.each(|listener| listener.begin(trainer))
    }

    pub(super) fn epoch_begins(&mut self, trainer: &Trainer) -> Result<()> {
        self.each(|listener| listener.epoch_begins(trainer))
    }

    pub(super) fn phase(&mut self, phase: Phase) {
        for listener in &mut self.own {
            listener.phase(phase);
        }
        for listener in &mut *self.others {
            listener.phase(phase);
        }
    }

    pub(super) fn micro_batch(&mut self, micro_batch: &MicroBatch) -> Result<()> {
        self.each(|listener| listener.micro_batch(micro_batch))
    }

    pub(super) fn need_losses(&mut self, trainer: &Trainer, step: &Step) -> bool {
        // Every listener is asked, because each decides now what it does with the step.
        let mut needed = false;
        for listener in &mut self.own {
            needed |= listener.needs_losses(trainer, step);
        }
        for listener in &mut *self.others {
            needed |= listener.needs_losses(trainer, step);
        }
        needed
    }

    pub(super) fn step(&mut self, trainer: &Trainer, step: &Step) -> Result<()> {
        self.each(|listener| listener.step(trainer, step))
    }

    pub(super) fn epoch(&mut self, trainer: &Trainer) -> Result<()> {
        self.each(|listener| listener.epoch(trainer))
    }
}

/// Prints how the time of an epoch was spent, with `PROFILE`.
struct ProfileListener {
    on: bool,
    device: Device,
    profile: Profile,
    /// Whether a step of the current epoch is done.
    stepped: bool,
}

impl ProfileListener {
    fn new(trainer: &Trainer) -> ProfileListener {
        let on = trainer.plan.config().run.profile && trainer.replica.is_first();
        let device = trainer.replica.device;
        ProfileListener {
            on,
            device,
            profile: Profile::new(on, device),
            stepped: false,
        }
    }
}

impl StepListener for ProfileListener {
    fn epoch_begins(&mut self, _: &Trainer) -> Result<()> {
        self.profile = Profile::new(self.on, self.device);
        self.stepped = false;
        Ok(())
    }

    fn phase(&mut self, phase: Phase) {
        self.profile.end(phase);
        if phase == Phase::Optimizer {
            self.profile.end_step();
        }
    }

    fn step(&mut self, _: &Trainer, _: &Step) -> Result<()> {
        if self.on && !std::mem::replace(&mut self.stepped, true) {
            say!("Profile: the first step is done");
        }
        Ok(())
    }

    fn epoch(&mut self, trainer: &Trainer) -> Result<()> {
        if self.on {
            let (epoch, profile) = (trainer.epoch, &self.profile);
            let profile = profile.to_string();
            say!("Profile of training, epoch {epoch}: {}", profile.trim_end());
        }
        Ok(())
    }
}

/// Shows the progress of an epoch, with the loss.
#[derive(Default)]
struct ProgressListener {
    progress: Option<Progress>,
    /// Whether the current step is shown.
    shows: bool,
}

impl StepListener for ProgressListener {
    fn epoch_begins(&mut self, trainer: &Trainer) -> Result<()> {
        let (plan, steps) = (trainer.plan, trainer.steps_per_epoch());
        let label = format!("[{}] epoch {:2}", plan.version(), trainer.epoch + 1);
        self.progress = Some(Progress::new(label, steps, !plan.config().run.verbose));
        Ok(())
    }

    fn needs_losses(&mut self, trainer: &Trainer, _: &Step) -> bool {
        let is_last = trainer.batch == trainer.steps_per_epoch();
        let is_due = self.progress.as_ref().is_some_and(Progress::is_due);
        self.shows = is_due || is_last;
        self.shows
    }

    fn step(&mut self, trainer: &Trainer, step: &Step) -> Result<()> {
        if let Some(progress) = self.progress.as_mut().filter(|_| self.shows) {
            let message = format!("loss: {:.4}, lr: {:.2e}", step.loss, step.lr);
            progress.show(trainer.batch, &message);
        }
        Ok(())
    }

    fn epoch(&mut self, _: &Trainer) -> Result<()> {
        self.progress = None;
        Ok(())
    }
}

/// Saves `last.pkl` every `SAVE_STEPS` steps and when the run is asked to stop, and `epoch<N>.pkl` after each epoch.
struct CheckpointListener;

impl StepListener for CheckpointListener {
    fn begin(&mut self, trainer: &Trainer) -> Result<()> {
        // The interrupted run may have ended between writing `epoch<N>.pkl` and removing `last.pkl`.
        let between_epochs = trainer.batch == 0 && trainer.plan.continues_itself();
        if between_epochs && trainer.replica.is_first() {
            Preflight::new(trainer.plan).remove_last_ckpt()?;
        }
        Ok(())
    }

    fn needs_losses(&mut self, trainer: &Trainer, step: &Step) -> bool {
        let every = trainer.plan.config().train.save_steps;
        let is_due = every > 0 && trainer.step.is_multiple_of(every);
        trainer.batch < trainer.steps_per_epoch() && (step.signal != 0 || is_due)
    }

    fn step(&mut self, trainer: &Trainer, step: &Step) -> Result<()> {
        if self.needs_losses(trainer, step) {
            trainer.save(&trainer.plan.last_ckpt())?;
            ensure!(step.signal == 0, Stopped::by(step.signal));
        }
        Ok(())
    }

    fn epoch(&mut self, trainer: &Trainer) -> Result<()> {
        trainer.save(&trainer.plan.ckpt_to_write(trainer.epoch))?;
        if trainer.replica.is_first() {
            Preflight::new(trainer.plan).remove_last_ckpt()?;
        }
        Ok(())
    }
}

/// Writes the log entries of an epoch and evaluates val, after the checkpoint of the epoch is written. All replicas
/// evaluate; the first one writes.
struct LogListener {
    log: Option<Log>,
    started: Instant,
    /// Time of the epoch up to its last step so far.
    seconds: f64,
}

impl LogListener {
    fn open(trainer: &Trainer) -> Result<LogListener> {
        let plan = trainer.plan;
        let scores_begin = plan.config().data.benchmark()?.log_start();
        let open = || Log::open(&plan.log_of(plan.version()), scores_begin);
        let log = trainer.replica.is_first().then(open).transpose()?;
        Ok(LogListener {
            log,
            started: Instant::now(),
            seconds: 0.0,
        })
    }

    /// Writes the missing log entries of the last epoch, and evaluates val if the run asks for it.
    fn end_epoch(&mut self, trainer: &Trainer) -> Result<()> {
        if let Some(log) = self.log.as_mut().filter(|log| log.state.begun) {
            let lr = trainer.schedule.rate(trainer.step, trainer.lr_base);
            log.end_epoch(trainer.epoch, mean_loss(trainer), lr)?;
        }
        self.evaluate(trainer)
    }

    fn evaluate(&mut self, trainer: &Trainer) -> Result<()> {
        let (plan, inputs) = (trainer.plan, trainer.inputs);
        let (Some(task), Some(metric)) = (&inputs.answering, &inputs.metric) else {
            return Ok(());
        };
        let predictor = Predictor::new(&trainer.net, task, plan, &trainer.replica, false)?;
        let answers = name_answers(task, &inputs.answers, &predictor.answers()?)?;
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let file = plan.val_answers_of(plan.version());
        plan.config()
            .data
            .benchmark()?
            .write_answers(&file, &answers)?;
        let scores = metric.score(&answers)?;
        say!("{}", scores.printed);
        log.scores(&scores.logged)
    }
}

impl StepListener for LogListener {
    fn begin(&mut self, trainer: &Trainer) -> Result<()> {
        // The interrupted run may have ended between the checkpoint of an epoch and its last log entry.
        let evaluates = trainer.plan.config().evaluates_epochs()?;
        let lacks = |log: &Log| log.state.lacks(trainer.epoch, evaluates);
        let continues = trainer.batch == 0 && trainer.plan.continues_itself();
        let is_unlogged = continues && self.log.as_ref().is_some_and(lacks);
        if trainer.replica.broadcast_flag(is_unlogged)? {
            self.end_epoch(trainer)?;
        }
        Ok(())
    }

    fn epoch_begins(&mut self, _: &Trainer) -> Result<()> {
        if let Some(log) = &mut self.log {
            log.begin_epoch()?;
        }
        self.started = Instant::now();
        Ok(())
    }

    fn step(&mut self, _: &Trainer, _: &Step) -> Result<()> {
        self.seconds = self.started.elapsed().as_secs_f64();
        Ok(())
    }

    fn epoch(&mut self, trainer: &Trainer) -> Result<()> {
        let memory = peak_memory(trainer.replica.device).map_or(String::new(), |bytes| {
            format!(", {:.2} GB on the GPU", bytes as f64 / 1e9)
        });
        let (epoch, loss) = (trainer.epoch, mean_loss(trainer));
        let seconds = self.seconds;
        say!("epoch {epoch}: loss {loss:.4}, {seconds:.2} s{memory}");
        self.end_epoch(trainer)
    }
}

/// Loss per question of the last epoch.
fn mean_loss(trainer: &Trainer) -> f64 {
    trainer.loss_sum / trainer.task.dataset.len() as f64
}
