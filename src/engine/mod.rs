//! One entry per `--RUN` mode.

mod demo;
mod explain;
mod feed;
mod glove;
pub mod inputs;
mod pack;
pub mod predict;
pub mod stop;
pub mod train;
mod watch;

pub use explain::explain;

use crate::checkpoint::{self, Checkpoint};
use crate::cli::{Amp, RunMode};
use crate::config::Config;
use crate::evaluation::{self, write_answers, write_predictions};
use crate::model::{Net, shapes};
use crate::native;
use crate::paths::Source;
use crate::report::Log;
use anyhow::{Context, Result};
use inputs::{Inputs, Task};
use predict::Predictor;
use std::path::Path;
use tch::{Device, Kind};

/// Finished batches that each loader thread may have waiting.
const PREFETCH: usize = 2;

/// Kind of the matrix products: on a CPU without bfloat16 instructions always float32.
fn product_kind(config: &Config, device: Device) -> Kind {
    match config.train.amp {
        Amp::Bf16 if device != Device::Cpu || native::cpu_rounds_to_bf16() => Kind::BFloat16,
        _ => Kind::Float,
    }
}

/// Does what `--RUN` says.
///
/// # Errors
/// Everything that can go wrong, with what to do about it.
pub fn run(mut config: Config) -> Result<()> {
    config.data.num_workers = useful_workers(config.data.num_workers);
    match config.run.run_mode {
        RunMode::Train => train::run(config),
        RunMode::Val => val(config),
        RunMode::Test => test(config),
        RunMode::Score => score(&config),
        RunMode::Pack => pack::run(&config),
        RunMode::Demo => demo::run(config),
    }
}

/// `NUM_WORKERS`, but no more threads than can help to hide the time that disks take.
fn useful_workers(asked: usize) -> usize {
    const PER_CORE: usize = 4;
    const AT_LEAST: usize = 16;
    let useful = std::thread::available_parallelism().map_or(1, usize::from).saturating_mul(PER_CORE).max(AT_LEAST);
    if asked > useful {
        eprintln!(
            "NUM_WORKERS = {asked} is more than is useful on this machine; {useful} threads read features (--NW)"
        );
    }
    asked.min(useful)
}

fn score(config: &Config) -> Result<()> {
    let result_file = config.run.result_file.as_deref().context("--RESULT_FILE is missing")?;
    let questions = config.run.questions.clone().unwrap_or_else(|| config.questions_of(Source::Val));
    let annotations = config.run.annotations.clone().unwrap_or_else(|| config.annotations_of(Source::Val));
    print!("{}", evaluation::score(result_file, &questions, &annotations)?);
    Ok(())
}

/// A trained network with the questions that it is to answer.
struct Loaded {
    config: Config,
    device: Device,
    net: Net,
    inputs: Inputs,
}

impl Loaded {
    fn new(mut config: Config) -> Result<Loaded> {
        let device = crate::distributed::device(config.run.gpu.as_deref(), config.train.tf32)?;
        config.check_files()?;
        config.check_writable(config.written_to())?;
        let path = config.ckpt_to_load();
        let checkpoint = checkpoint::load_weights(&path)?;
        adopt(&mut config, &checkpoint).with_context(|| format!("cannot use {}", path.display()))?;
        print!("{config}");
        let inputs = Inputs::read(&config, checkpoint.mcan.as_ref(), &[device])?;
        let net = Net::new(&config.model, inputs.vocabulary.len(), inputs.answers.len(), device);
        let values = checkpoint::state_dict::match_shapes(&checkpoint.state_dict, &net.parameters.shapes());
        net.parameters.assign(&values.with_context(|| format!("cannot use {}", path.display()))?)?;
        Ok(Loaded { config, device, net, inputs })
    }

    fn task(&self) -> Result<&Task> {
        self.inputs.answering.as_ref().context("there is nothing to answer")
    }
}

/// Takes over what a checkpoint says of its network and of what that has seen: its own configuration if it has one, and
/// the sizes that its shapes show.
fn adopt(config: &mut Config, checkpoint: &Checkpoint) -> Result<()> {
    if let Some(state) = &checkpoint.mcan
        && let Ok(own) = serde_json::from_value::<Config>(state.config.clone())
    {
        config.model = own.model;
        config.data.max_token = own.data.max_token;
        config.data.img_feat_pad_size = own.data.img_feat_pad_size;
        config.data.validate()?;
    }
    let found: Vec<_> = checkpoint.state_dict.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
    config.model = shapes::sizes_of(&found, &config.model)?;
    Ok(())
}

fn val(config: Config) -> Result<()> {
    let loaded = Loaded::new(config)?;
    stop::listen()?;
    let config = &loaded.config;
    let name = config.ckpt_name(rand::random_range(0..100_000_000));
    let mut log = Log::open(&config.log_of(&name))?;
    let evaluator = loaded.inputs.evaluator.as_ref().context("there are no annotations")?;
    let answers = predict::answer_all(&loaded.net, loaded.task()?, &loaded.inputs.answers, config, loaded.device)?;
    let file = config.val_answers_of(&name);
    write_answers(&file, answers.iter().copied())?;
    let accuracy = predict::accuracy(evaluator, &answers)?;
    println!("{accuracy}");
    println!("Saved the answers in {}", file.display());
    log.accuracy(&accuracy)
}

fn test(config: Config) -> Result<()> {
    let loaded = Loaded::new(config)?;
    stop::listen()?;
    let (config, task) = (&loaded.config, loaded.task()?);
    let stem = config.test_stem(&config.ckpt_name(rand::random_range(0..100_000_000)));
    let save_pred = config.run.test_save_pred;
    let predictor = Predictor::new(&loaded.net, task, config, loaded.device, save_pred)?;
    let indices = match save_pred {
        true => answer_and_keep(predictor, &loaded, &config.run.pred_path.join(format!("{stem}.npz")))?,
        false => {
            let mut indices = Vec::new();
            for prediction in predictor {
                indices.extend(prediction?.answers);
            }
            indices
        }
    };
    let answers = predict::name_answers(task, &loaded.inputs.answers, &indices)?;
    let file = config.run.result_path.join(format!("{stem}.json"));
    write_answers(&file, answers)?;
    println!("Saved the answers to {} questions in {}", indices.len(), file.display());
    Ok(())
}

/// Answers, and streams the probabilities to `file` on the way: all of the test split's take gigabytes.
fn answer_and_keep(predictor: Predictor, loaded: &Loaded, file: &Path) -> Result<Vec<i64>> {
    let (mut indices, mut failure) = (Vec::new(), None);
    let rows = predictor.map_while(|prediction| match prediction {
        Ok(prediction) => {
            indices.extend(prediction.answers);
            Some(prediction.probabilities)
        }
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let ids = loaded.task()?.dataset.question_ids();
    let written = write_predictions(file, ids, loaded.inputs.answers.len(), rows);
    match failure {
        Some(error) => Err(error),
        None => {
            written?;
            println!("Saved the probabilities in {}", file.display());
            Ok(indices)
        }
    }
}
