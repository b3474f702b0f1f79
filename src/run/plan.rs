//! The plan of a run: everything that is settled before the run starts, by the configuration, the job and a checkpoint.
//!
//! A [`Plan`] is made by one function, [`Plan::new`], and nothing changes it afterwards. [`prepare`] collects what the
//! function needs: it connects the replicas, checks that the files are there and loads the checkpoint.

use super::limits;
use super::network;
use super::preflight::Preflight;
use crate::checkpoint::{self, Checkpoint};
use crate::config::{Change, Config, ModelValues, OnResume, RunMode};
use crate::distributed::{self, Replica};
use crate::models::{SCHEMA, Shown, family, recognise};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use tch::Tensor;
use tracing::info;

/// The point at which a training run starts: 0 and 0 for a new run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// Epochs done.
    pub(crate) epoch: u64,
    /// Optimizer steps done.
    pub(crate) step: u64,
}

/// A file that a run writes.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// The file.
    pub(crate) path: PathBuf,
    /// The key that names its folder.
    pub(crate) key: &'static str,
}

/// The plan of one run: what it does, from which start point, and where it writes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configuration, complete: with seed, versions, workers, and the sizes of a loaded network.
    config: Config,
    start: Start,
}

/// A plan, with the replicas that execute it and the checkpoint that it starts from.
pub(crate) struct Prepared {
    /// The plan.
    pub(crate) plan: Plan,
    /// The replicas of this process, connected to all others.
    pub(crate) replicas: Vec<Replica>,
    /// The checkpoint that the run evaluates or continues.
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// Connects the replicas, checks that all files are there, loads the checkpoint and makes the plan.
///
/// # Errors
/// A device or file that is missing, processes that do not find each other, or a checkpoint that cannot be used.
pub(crate) fn prepare(config: &Config) -> Result<Prepared> {
    let (replicas, config, drawn_seed) =
        distributed::assemble(config, draw_seed(), &limits::check_open_files)?;
    let before_loading = Plan::new(&config, drawn_seed, None)?;
    let path = before_loading.ckpt_to_load();
    let loaded = config.loads_checkpoint().then_some(path.as_path());
    config.check_files(network::needs(&config)?, loaded)?;
    let evaluates = matches!(config.run.run_mode, RunMode::Val | RunMode::Test);
    if evaluates && replicas[0].is_first() {
        Preflight::new(&before_loading).check_outputs()?;
    }
    if !config.loads_checkpoint() {
        return Ok(Prepared {
            plan: before_loading,
            replicas,
            checkpoint: None,
        });
    }
    info!(path = %path.display(), "loading the checkpoint");
    let checkpoint = if evaluates || config.starts_from_weights() {
        checkpoint::load_weights(&path)?
    } else {
        checkpoint::load(&path)?
    };
    let cannot = || format!("cannot use {}", path.display());
    let config = with_model_of(config, &checkpoint).with_context(cannot)?;
    config.check_files(network::needs(&config)?, None)?;
    let plan = Plan::new(&config, drawn_seed, Some(&checkpoint)).with_context(cannot)?;
    Ok(Prepared {
        plan,
        replicas,
        checkpoint: Some(checkpoint),
    })
}

/// A random seed, for a run without `--SEED`.
pub(crate) fn draw_seed() -> u64 {
    rand::random_range(0..100_000_000)
}

impl Plan {
    /// Makes the plan of `config`.
    ///
    /// `drawn_seed` is the seed if neither `config` nor the checkpoint to continue has one. A run without a version is
    /// named after its seed. An evaluation takes the sizes of the network from `checkpoint`.
    ///
    /// # Errors
    /// When `checkpoint` holds a network that cannot be built.
    pub fn new(config: &Config, drawn_seed: u64, checkpoint: Option<&Checkpoint>) -> Result<Plan> {
        let run = &config.run;
        let continues = config.train.resume && run.run_mode == RunMode::Train;
        let continued = checkpoint.filter(|_| continues);
        let continued = continued.and_then(|checkpoint| checkpoint.mcan.as_ref());
        let saved_seed = continued.map(|state| state.seed);
        let seed = run.seed.or(saved_seed).unwrap_or(drawn_seed);
        let version = run.version.clone().unwrap_or_else(|| seed.to_string());
        let ckpt_version = run.ckpt_version.clone().or(run.version.clone());
        let ckpt_version =
            ckpt_version.unwrap_or_else(|| run.seed.unwrap_or(drawn_seed).to_string());
        let mut config = match (run.run_mode, checkpoint) {
            (RunMode::Val | RunMode::Test, Some(checkpoint)) => with_sizes_of(config, checkpoint)?,
            _ => config.clone(),
        };
        config.data.num_workers = useful_workers(config.data.num_workers);
        config.run.seed = Some(seed);
        config.run.version = Some(version);
        config.run.ckpt_version = Some(ckpt_version);
        let mut plan = Plan {
            config,
            start: Start::default(),
        };
        if let Some(checkpoint) = checkpoint.filter(|_| !plan.config.starts_from_weights()) {
            plan.start = plan.start_of(checkpoint)?;
        }
        info!(seed = plan.seed(), version = %plan.version(), start = ?plan.start, "plan made");
        Ok(plan)
    }

    /// The complete configuration: [`Plan::new`] has filled in the seed and both versions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Seed of everything random.
    pub fn seed(&self) -> u64 {
        self.config.run.seed.unwrap_or_default()
    }

    /// Name of this run.
    pub fn version(&self) -> &str {
        self.config.run.version.as_deref().unwrap_or_default()
    }

    /// Version of the checkpoint to load.
    pub fn ckpt_version(&self) -> &str {
        self.config.run.ckpt_version.as_deref().unwrap_or_default()
    }

    /// Threads that read features.
    pub(crate) fn workers(&self) -> usize {
        self.config.data.num_workers
    }

    /// The point at which training starts.
    pub(crate) fn start(&self) -> Start {
        self.start
    }

    /// The same plan with another start point.
    #[cfg(test)]
    pub(super) fn starting_at(self, epoch: u64, step: u64) -> Plan {
        let start = Start { epoch, step };
        Plan { start, ..self }
    }

    /// The start point that a checkpoint gives: from its run state; from a checkpoint of OpenVQA, its epoch; from a
    /// checkpoint of the reference, the epoch in its file name, or `CKPT_EPOCH`, if the command line gives it.
    ///
    /// # Errors
    /// A training that continues a checkpoint of which nobody says how many epochs are behind it.
    fn start_of(&self, checkpoint: &Checkpoint) -> Result<Start> {
        let run = &self.config.run;
        if let Some(state) = &checkpoint.mcan {
            return Ok(Start {
                epoch: state.epoch,
                step: state.step,
            });
        }
        // CKPT_EPOCH of a configuration file is about the checkpoint that the file names.
        let is_about_it = run.ckpt_path.is_none() || run.given.names("CKPT_EPOCH");
        let given = is_about_it.then_some(run.ckpt_epoch);
        let of_file = || epoch_of_file(&self.ckpt_to_load());
        let epoch = checkpoint.epoch.or_else(of_file).or(given);
        let continues = run.run_mode == RunMode::Train;
        let epoch = epoch.or((!continues).then_some(0));
        let epoch = epoch.context(
            "neither the file nor its name says how many epochs are behind it; say it with --CKPT_E=N, or leave out \
             --RESUME to start a new run from its weights",
        )?;
        Ok(Start { epoch, step: 0 })
    }
}

/// The files that a run writes, and the checkpoint that it loads.
impl Plan {
    /// Folder of this run's checkpoints.
    pub(crate) fn ckpt_folder(&self) -> PathBuf {
        ckpt_folder(&self.config, self.version())
    }

    /// Checkpoint of this run after `epoch` epochs.
    pub(crate) fn ckpt_to_write(&self, epoch: u64) -> PathBuf {
        self.ckpt_folder().join(format!("epoch{epoch}.pkl"))
    }

    /// Checkpoint of this run in the middle of an epoch.
    pub(crate) fn last_ckpt(&self) -> PathBuf {
        self.ckpt_folder().join("last.pkl")
    }

    /// The checkpoint to load: `CKPT_PATH`, else the one of `CKPT_VERSION` and `CKPT_EPOCH`.
    pub fn ckpt_to_load(&self) -> PathBuf {
        let run = &self.config.run;
        let usual = || {
            let folder = ckpt_folder(&self.config, self.ckpt_version());
            folder.join(format!("epoch{}.pkl", run.ckpt_epoch))
        };
        run.ckpt_path.clone().unwrap_or_else(usual)
    }

    /// Name of the results of a loaded checkpoint: its version, or its file name and `random`.
    pub fn ckpt_name(&self, random: u64) -> String {
        let file = self
            .config
            .run
            .ckpt_path
            .as_deref()
            .and_then(Path::file_name);
        match file {
            Some(file) => format!("{}_{random}", file.to_string_lossy()),
            None => self.ckpt_version().to_owned(),
        }
    }

    /// The log of the run named `version`.
    pub(crate) fn log_of(&self, version: &str) -> PathBuf {
        log_of(&self.config, version)
    }

    /// The val answers of the run named `version`.
    pub(crate) fn val_answers_of(&self, version: &str) -> PathBuf {
        let extension = self.config.result_extension();
        let file = format!("result_run_{version}.{extension}");
        self.config.run.cache_path.join(file)
    }

    /// The answers of a test run named `ckpt_name`.
    ///
    /// # Errors
    /// An unknown data set.
    pub(crate) fn test_answers_of(&self, ckpt_name: &str) -> Result<PathBuf> {
        let (stem, extension) = (self.test_stem(ckpt_name)?, self.config.result_extension());
        Ok(self
            .config
            .run
            .result_path
            .join(format!("{stem}.{extension}")))
    }

    /// The scores of all answers of a test run named `ckpt_name`.
    ///
    /// # Errors
    /// An unknown data set.
    pub(crate) fn test_scores_of(&self, ckpt_name: &str) -> Result<PathBuf> {
        let stem = self.test_stem(ckpt_name)?;
        Ok(self.config.run.pred_path.join(format!("{stem}.npz")))
    }

    /// The files that the run writes, except banks.
    ///
    /// # Errors
    /// An unknown data set.
    pub(crate) fn outputs(&self) -> Result<Vec<Output>> {
        let output = |path, key| Output { path, key };
        // The longest number that the name of a checkpoint given by its path can get.
        let loaded = self.ckpt_name(99_999_999);
        let log = |name| output(self.log_of(name), "LOG_PATH");
        let val_answers = |name| output(self.val_answers_of(name), "CACHE_PATH");
        let run = &self.config.run;
        Ok(match run.run_mode {
            RunMode::Train => {
                let last_epoch = self.ckpt_to_write(self.config.train.max_epoch);
                let mut outputs = vec![
                    output(last_epoch, "CKPTS_PATH"),
                    output(self.last_ckpt(), "CKPTS_PATH"),
                    log(self.version()),
                ];
                let evaluates = self.config.evaluates_epochs()?;
                outputs.extend(evaluates.then(|| val_answers(self.version())));
                outputs
            }
            RunMode::Val => vec![log(&loaded), val_answers(&loaded)],
            RunMode::Test => {
                let mut outputs = vec![output(self.test_answers_of(&loaded)?, "RESULT_PATH")];
                if run.test_save_pred {
                    outputs.push(output(self.test_scores_of(&loaded)?, "PRED_PATH"));
                }
                outputs
            }
            RunMode::Pack | RunMode::Score | RunMode::Demo => Vec::new(),
        })
    }

    /// File name, without extension, of the results of a test run. The split is part of it unless it is the first test
    /// split, so that answers to test-dev do not replace the answers to test.
    ///
    /// # Errors
    /// An unknown data set.
    pub fn test_stem(&self, ckpt_name: &str) -> Result<String> {
        let epoch = match self.config.run.ckpt_path {
            Some(_) => String::new(),
            None => format!("_epoch{}", self.config.run.ckpt_epoch),
        };
        let (data, mut split) = (&self.config.data, String::new());
        if data.benchmark()?.test_splits().first() != Some(&data.test_split.as_str()) {
            split = format!("_{}", data.test_split);
        }
        Ok(format!("result_run_{ckpt_name}{epoch}{split}"))
    }

    /// Whether the checkpoint to continue from lies in the checkpoint folder of this run.
    pub(crate) fn continues_itself(&self) -> bool {
        // A file name alone lies in the working directory.
        let folder = |path: &Path| Path::new(".").join(path).canonicalize().ok();
        let (loaded, own) = (self.ckpt_to_load(), folder(&self.ckpt_folder()));
        self.config.train.resume && own.is_some() && loaded.parent().and_then(folder) == own
    }
}

/// N of a file named `epoch<N>.pkl`.
pub(super) fn epoch_of_file(path: &Path) -> Option<u64> {
    path.file_name()?
        .to_str()?
        .strip_prefix("epoch")?
        .strip_suffix(".pkl")?
        .parse()
        .ok()
}

/// Folder of the checkpoints of the run named `version`.
pub(crate) fn ckpt_folder(config: &Config, version: &str) -> PathBuf {
    config.run.ckpts_path.join(format!("ckpt_{version}"))
}

/// Log of the run named `version`.
pub(crate) fn log_of(config: &Config, version: &str) -> PathBuf {
    config.run.log_path.join(format!("log_run_{version}.txt"))
}

/// `config` for the model that a checkpoint is of, if the command line names no model.
///
/// # Errors
/// A checkpoint of another model than the command line names.
fn with_model_of(mut config: Config, checkpoint: &Checkpoint) -> Result<Config> {
    let given = &config.run.given;
    let is_named = given.cfg.is_some() || given.names("MODEL") || given.names("MODEL_USE");
    let named = (config.model.family.clone(), config.convention());
    let model = match &checkpoint.mcan {
        Some(state) => {
            let own = Config::from_saved(&state.config, &SCHEMA)?;
            ensure!(
                !is_named || own.model.family == config.model.family,
                "its model is of the family {}, and the command line names one of the family {}; leave --MODEL and --CFG out",
                own.model.family,
                config.model.family
            );
            let is_other = (own.model.family.clone(), own.convention()) != named;
            Some(own.run.model).filter(|_| is_other && !is_named)
        }
        None => match recognise(&shapes_of(checkpoint)) {
            Some(found) if (found.family.keys.name.to_owned(), found.convention) != named => {
                ensure!(
                    !is_named,
                    "its parameters are those of {}; name that model with --MODEL={}, or leave --MODEL and --CFG out",
                    found.description(),
                    found.model
                );
                let description = found.description();
                crate::note!(
                    "The checkpoint is of {description}: --MODEL={}",
                    found.model
                );
                Some(found.model.to_owned())
            }
            _ => None,
        },
    };
    if let Some(model) = model {
        let mut given = config.run.given.clone();
        given.set_flag("MODEL", model.into());
        let resolved = Config::resolve(&given, &SCHEMA)?;
        (config.model, config.data, config.train) = (resolved.model, resolved.data, resolved.train);
        (config.run.model, config.run.model_use) = (resolved.run.model, resolved.run.model_use);
    }
    Ok(config)
}

/// `config` with the network of `checkpoint`: the checkpoint's own configuration if it has one, and the sizes that the
/// shapes of its tensors show.
fn with_sizes_of(config: &Config, checkpoint: &Checkpoint) -> Result<Config> {
    let mut config = config.clone();
    if let Some(state) = &checkpoint.mcan {
        let own = Config::from_saved(&state.config, &SCHEMA)?;
        refuse_other_values(&config, &own, &shapes_of(checkpoint))?;
        config.model = own.model;
        config.run.model_use = own.run.model_use;
        config.data.max_token = own.data.max_token;
        config.data.img_feat_pad_size = own.data.img_feat_pad_size;
        config.data.feat_size = own.data.feat_size;
        config.data.validate()?;
    }
    let shown = with_shapes(&config.model, &shapes_of(checkpoint))?;
    config.model = shown.values;
    config.set_feature_widths(shown.widths.regions, shown.widths.grid)?;
    Ok(config)
}

fn shapes_of(checkpoint: &Checkpoint) -> Vec<(String, Vec<i64>)> {
    let shape = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.size());
    checkpoint.state_dict.iter().map(shape).collect()
}

/// `values` with the sizes that the shapes of a checkpoint show.
fn with_shapes(values: &ModelValues, shapes: &[(String, Vec<i64>)]) -> Result<Shown> {
    let family = family(values)?;
    let canonical =
        |(name, shape): &(String, Vec<i64>)| ((family.canonical_name)(name), shape.clone());
    let shapes: Vec<_> = shapes.iter().map(canonical).collect();
    (family.sizes_of)(&shapes, values)
}

/// Refuses values of the command line that an evaluation cannot use, because the checkpoint has others: such as another
/// number of heads. Sizes that the tensors show are not compared.
fn refuse_other_values(given: &Config, own: &Config, shapes: &[(String, Vec<i64>)]) -> Result<()> {
    let saved = serde_json::to_value(own)?;
    let mut given = given.clone();
    if let Ok(shown) = with_shapes(&given.model, shapes) {
        given.model = shown.values;
    }
    let changes = given.changes_since(&saved, &SCHEMA, OnResume::MustMatch);
    let set = |change: &&Change| {
        let set = given.run.given.set.iter();
        let mut keys = set
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, _)| key.trim());
        keys.any(|key| key == change.key)
    };
    if let Some(Change { key, saved, now }) = changes.iter().find(set) {
        bail!(
            "it was trained with {key} = {saved}, and --SET {key}={now} says otherwise; leave that out"
        );
    }
    Ok(())
}

/// `NUM_WORKERS`, limited to the number of threads that can help to hide the time of disk reads.
pub(crate) fn useful_workers(asked: usize) -> usize {
    const PER_CORE: usize = 4;
    const AT_LEAST: usize = 16;
    let useful = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .saturating_mul(PER_CORE)
        .max(AT_LEAST);
    asked.min(useful)
}
