//! The configuration: defaults, a YAML file, `--SET` and flags become one checked [`Config`].
//!
//! Keys, defaults and meanings are those of the reference's `cfgs/base_cfgs.py` and `cfgs/path_cfgs.py`, and those of
//! OpenVQA if `MODEL_USE` names a family of its models. `keys` declares the keys, [`table`] defines what a key is, and
//! `resolve` finds the values. The rest of the program gets the typed result.

#[cfg(test)]
mod tests;

mod check;
mod docs;
mod error;
mod files;
mod keys;
pub mod macros;
mod model;
mod model_file;
mod resolve;
pub mod table;
mod value;
mod words;

pub use docs::markdown;
pub use error::{ConfigError, require};
pub use keys::{DataConfig, RunConfig, TrainConfig};
pub use model::{FamilyKeys, ModelValues, Schema};
pub use resolve::Given;
pub use table::{Flag, Key, KeyType, Keys, Kind, OnResume, Scope};
pub use words::{
    Accuracy, Amp, BankDtype, FeatSize, LossFunc, LossReduction, Opt, OptParams, Preload, RunMode,
    ShuffleMode, StopSignal, StopSignals,
};

use crate::data::Convention;
use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// The keys of all models.
pub fn common_keys() -> impl Iterator<Item = &'static Key> {
    let groups = [DataConfig::KEYS, TrainConfig::KEYS, RunConfig::KEYS];
    groups.into_iter().flatten()
}

/// Whether the command that resumes a run gives `flag` anew, such as `--RESUME=True` or `--SET=VERSION=a`: flags that say where a run starts
/// and what its name is.
pub fn is_given_anew(flag: &str) -> bool {
    let anew = common_keys().filter(|key| key.on_resume == OnResume::GivenAnew);
    let set = flag.strip_prefix("--SET=");
    let name = set.unwrap_or(flag).split('=').next().unwrap_or(flag).trim();
    anew.into_iter().any(|key| match set {
        Some(_) => key.name == name,
        None => key
            .flag
            .is_some_and(|flag| name.strip_prefix("--") == Some(flag.name)),
    })
}

/// The resolved configuration of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Config {
    /// The keys of the model's family.
    #[serde(flatten)]
    pub model: ModelValues,
    /// The data: its places, and how it is read.
    #[serde(flatten)]
    pub data: DataConfig,
    /// Optimisation.
    #[serde(flatten)]
    pub train: TrainConfig,
    /// What the run does, on which devices, and where it writes.
    #[serde(flatten)]
    pub run: RunConfig,
}

/// A value that is computed from the configuration, printed with it, and cannot be set.
struct Derived {
    name: &'static str,
    /// How it is computed; absent for a key that only the reference has.
    value: Option<fn(&Config) -> usize>,
}

const DERIVED: [Derived; 4] = [
    Derived {
        name: "SUB_BATCH_SIZE",
        value: Some(Config::sub_batch_size),
    },
    Derived {
        name: "EVAL_BATCH_SIZE",
        value: Some(Config::eval_batch_size),
    },
    Derived {
        name: "N_GPU",
        value: None,
    },
    Derived {
        name: "DEVICES",
        value: None,
    },
];

impl Config {
    /// The number of questions of a micro-batch in training.
    pub fn sub_batch_size(&self) -> usize {
        self.train.batch_size / self.train.grad_accu_steps
    }

    /// The number of questions of a batch in evaluation.
    pub fn eval_batch_size(&self) -> usize {
        (self.sub_batch_size() / 2).max(1)
    }

    /// The convention that the configuration follows.
    pub fn convention(&self) -> Convention {
        model::convention(self.run.model_use.as_deref())
    }

    /// F, the width of the feature vectors of an image. `IMG_FEAT_SIZE` decides it in configurations of the reference, and
    /// `FEAT_SIZE` in those of OpenVQA, where `IMG_FEAT_SIZE` is the width in the attention.
    pub fn feature_size(&self) -> usize {
        let of_model = match self.convention() {
            Convention::Reference => self.model.size("IMG_FEAT_SIZE"),
            Convention::OpenVqa => None,
        };
        let of_dataset = || {
            let dataset = &self.data.dataset;
            let given = self.data.feat_size.of(dataset);
            given.or_else(|| DataConfig::usual_size(dataset))
        };
        of_model
            .or_else(|| Some(of_dataset()?.1))
            .unwrap_or_default()
    }

    /// Checks that `replicas` replicas can take equal shares of a micro-batch.
    ///
    /// # Errors
    /// Names the keys and their values.
    pub fn check_shares(&self, replicas: usize) -> Result<(), ConfigError> {
        let is_training = matches!(self.run.run_mode, RunMode::Train | RunMode::Demo);
        let is_shared = self.sub_batch_size().is_multiple_of(replicas);
        require(!is_training || is_shared, "BATCH_SIZE", || {
            format!(
                "BATCH_SIZE = {} / GRAD_ACCU_STEPS = {} cannot be shared evenly among {replicas} devices (--BS, --ACCU, --GPU)",
                self.train.batch_size, self.train.grad_accu_steps
            )
        })
    }

    /// All values, by key.
    pub fn values(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(values)) => values,
            _ => Map::new(),
        }
    }

    /// The values that must be equal in all processes of a job, by key.
    pub fn shared_values(&self) -> Map<String, Value> {
        let mut values = self.values();
        for key in common_keys().filter(|key| key.per_process) {
            values.remove(key.name);
        }
        values
    }

    /// The keys with this rule for resuming whose values differ from `saved`, the configuration in a checkpoint. A key that
    /// an older version did not have had its default.
    pub fn changes_since(&self, saved: &Value, schema: &Schema, rule: OnResume) -> Vec<Change> {
        let now = self.values();
        let family = schema.family(self.run.model_use.as_deref());
        let keys = family.map_or(&[][..], |family| family.keys).iter();
        let keys = keys
            .chain(common_keys())
            .filter(|key| key.on_resume == rule);
        let change = |key: &Key| {
            let absent = || match key.computed {
                Some(_) => now.get(key.name).cloned().unwrap_or_default(),
                None => (key.default)(),
            };
            let saved = saved.get(key.name).cloned().unwrap_or_else(absent);
            let now = now.get(key.name)?;
            (saved != *now).then(|| Change {
                key: key.name,
                saved: show(&saved),
                now: show(now),
            })
        };
        keys.filter_map(change).collect()
    }
}

/// A key whose value is not that of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: &'static str,
    /// The value in the checkpoint.
    pub saved: String,
    /// The value of the run.
    pub now: String,
}

/// `value` as the printed configuration shows it.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

impl fmt::Display for Config {
    /// One line per key, sorted, as the reference prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values();
        let mut lines: BTreeMap<&str, String> =
            values.iter().map(|(k, v)| (k.as_str(), show(v))).collect();
        let derived = DERIVED
            .iter()
            .filter_map(|derived| Some((derived.name, (derived.value?)(self).to_string())));
        lines.extend(derived);
        lines
            .iter()
            .try_for_each(|(key, value)| writeln!(f, "{{ {key:<17} }}-> {value}"))
    }
}
