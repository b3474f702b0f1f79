//! One entry per `--RUN` mode.

mod demo;
mod glove;
pub mod inputs;
mod loss_monitor;
pub mod outputs;
mod pack;
pub mod predict;
mod prefetch;
pub mod stop;
pub mod train;

use crate::checkpoint::{self, Checkpoint};
use crate::config::Config;
use crate::config::paths::Source;
use crate::config::{Amp, RunMode};
use crate::datasets::vqa2::{self, write_answers, write_predictions};
use crate::distributed::{self, Replica};
use crate::models::SCHEMA;
use crate::models::mcan::keys::McanKeys;
use crate::models::mcan::{Net, shapes};
use crate::native;
use crate::report::Log;
use crate::say;
use anyhow::{Context, Result, ensure};
use inputs::Inputs;
use outputs::Outputs;
use predict::Predictor;
use std::path::Path;
use stop::Stopped;
use tch::{Device, Kind};

/// Finished batches that each loader thread may have waiting.
const PREFETCH: usize = 2;

/// Kind of the matrix products: on a CPU without bfloat16 instructions always float32.
fn matmul_dtype(config: &Config, device: Device) -> Kind {
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
    let shared = matches!(
        config.run.run_mode,
        RunMode::Train | RunMode::Val | RunMode::Test
    );
    ensure!(
        shared || !distributed::is_one_of_several(),
        "only train, val and test are shared self_attention processes; start this without torchrun or srun"
    );
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
    let useful = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .saturating_mul(PER_CORE)
        .max(AT_LEAST);
    if asked > useful {
        crate::note!(
            "NUM_WORKERS = {asked} is more than is useful on this machine; {useful} threads read features (--NW)"
        );
    }
    asked.min(useful)
}

fn score(config: &Config) -> Result<()> {
    let result_file = config
        .run
        .result_file
        .as_deref()
        .context("--RESULT_FILE is missing")?;
    let questions = config
        .run
        .questions
        .clone()
        .unwrap_or_else(|| config.questions_of(Source::Val));
    let annotations = config
        .run
        .annotations
        .clone()
        .unwrap_or_else(|| config.annotations_of(Source::Val));
    print!("{}", vqa2::score(result_file, &questions, &annotations)?);
    Ok(())
}

/// What a checkpoint is to answer, and a copy of its network for each replica of this process.
struct Loaded {
    config: Config,
    inputs: Inputs,
    answerers: Vec<(Net, Replica)>,
}

impl Loaded {
    fn new(mut config: Config) -> Result<Loaded> {
        let replicas = distributed::assemble(&mut config)?;
        config.check_files()?;
        if replicas[0].is_first() {
            Outputs(&config).check_outputs()?;
        }
        let path = config.ckpt_to_load();
        let cannot = || format!("cannot use {}", path.display());
        let checkpoint = checkpoint::load_weights(&path)?;
        adopt(&mut config, &checkpoint).with_context(cannot)?;
        say!("{}", config.to_string().trim_end());
        let inputs = Inputs::read(&config, checkpoint.mcan.as_ref(), &replicas)?;
        distributed::check_same_inputs(&replicas, || inputs.fingerprint())?;
        let sizes: McanKeys = config.model.keys()?;
        let with_net = |replica: Replica| {
            let (words, answers) = (inputs.vocabulary.len(), inputs.answers.len());
            let net = Net::new(&sizes, words, answers, config.seed(), replica.device);
            let values = checkpoint::state_dict::match_shapes(
                &checkpoint.state_dict,
                &net.parameters.shapes(),
            );
            net.parameters.assign(&values.with_context(cannot)?)?;
            Ok((net, replica))
        };
        let answerers = replicas.into_iter().map(with_net).collect::<Result<_>>()?;
        stop::listen()?;
        Ok(Loaded {
            config,
            inputs,
            answerers,
        })
    }
}

/// `error` with the name of the replica that it is of, unless that was asked to stop.
fn attribute(replica: &Replica, error: anyhow::Error) -> anyhow::Error {
    if error.is::<Stopped>() {
        error
    } else {
        replica.attribute(error)
    }
}

/// Takes over what a checkpoint says of its network and of what that has seen: its own configuration if it has one, and
/// the sizes that its shapes show.
fn adopt(config: &mut Config, checkpoint: &Checkpoint) -> Result<()> {
    if let Some(state) = &checkpoint.mcan
        && let Ok(own) = Config::from_saved(&state.config, &SCHEMA)
    {
        config.model = own.model;
        config.data.max_token = own.data.max_token;
        config.data.img_feat_pad_size = own.data.img_feat_pad_size;
        config.data.validate()?;
    }
    let found: Vec<_> = checkpoint
        .state_dict
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.size()))
        .collect();
    let sizes = shapes::sizes_of(&found, &config.model.keys()?)?;
    config.model.set_keys(&sizes)?;
    Ok(())
}

fn val(config: Config) -> Result<()> {
    let Loaded {
        config,
        inputs,
        answerers,
    } = Loaded::new(config)?;
    let task = inputs.answering()?;
    let evaluator = inputs
        .evaluator
        .as_ref()
        .context("there are no annotations")?;
    let name = config.ckpt_name(rand::random_range(0..100_000_000));
    let conclude = |answers: &[(i64, &str)]| {
        let file = config.val_answers_of(&name);
        let mut log = Log::open(&config.log_of(&name))?;
        write_answers(&file, answers.iter().copied())?;
        let accuracy = predict::accuracy(evaluator, answers)?;
        say!("{accuracy}");
        say!("Saved the answers in {}", file.display());
        log.accuracy(&accuracy)
    };
    distributed::run_all(answerers, |(net, replica)| {
        let answers = predict::answer_all(net, task, &inputs.answers, &config, replica);
        let outcome = answers.and_then(|answers| {
            if replica.is_first() {
                conclude(&answers)
            } else {
                Ok(())
            }
        });
        outcome.map_err(|error| attribute(replica, error))
    })
}

fn test(config: Config) -> Result<()> {
    let Loaded {
        config,
        inputs,
        answerers,
    } = Loaded::new(config)?;
    let task = inputs.answering()?;
    let stem = config.test_stem(&config.ckpt_name(rand::random_range(0..100_000_000)));
    let keep = config.run.pred_path.join(format!("{stem}.npz"));
    let conclude = |indices: &[i64]| {
        let answers = predict::name_answers(task, &inputs.answers, indices)?;
        let file = config.run.result_path.join(format!("{stem}.json"));
        write_answers(&file, answers)?;
        say!(
            "Saved the answers to {} questions in {}",
            indices.len(),
            file.display()
        );
        Ok(())
    };
    let answer = |net: &Net, replica: &Replica| {
        let keeps = config.run.test_save_pred;
        let predictor = Predictor::new(net, task, &config, replica, keeps)?;
        match keeps && replica.is_first() {
            true => answer_and_keep(
                predictor,
                task.dataset.question_ids(),
                inputs.answers.len(),
                &keep,
            ),
            false => predictor.answers(),
        }
    };
    distributed::run_all(answerers, |(net, replica)| {
        let outcome = answer(net, replica).and_then(|found| {
            if replica.is_first() {
                conclude(&found)
            } else {
                Ok(())
            }
        });
        outcome.map_err(|error| attribute(replica, error))
    })
}

/// Answers, and streams the probabilities to `file` on the way: all of the test split's take gigabytes.
fn answer_and_keep(
    predictor: Predictor,
    question_ids: &[i64],
    answers: usize,
    file: &Path,
) -> Result<Vec<i64>> {
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
    let written = write_predictions(file, question_ids, answers, rows);
    match failure {
        Some(error) => Err(error),
        None => {
            written?;
            say!("Saved the probabilities in {}", file.display());
            Ok(indices)
        }
    }
}
