//! The layers of a configuration: defaults, YAML file, `--SET`, flags. A later layer replaces values of earlier ones.

use super::error::{ConfigError, require};
use super::model::{FamilyKeys, ModelValues, Schema, convention};
use super::table::{Key, Kind};
use super::value::{as_meant, python_numbers};
use super::{
    Accuracy, Config, DERIVED, DataConfig, FeatSize, OptParams, RunConfig, RunMode, common_keys,
    model_file, show,
};
use crate::data::Convention;
use crate::datasets;
use crate::datasets::files::training_names;
use crate::formats::json::in_plain_words;
use crate::formats::yaml;
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tracing::debug;

/// The values of a command line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// A configuration file in place of that of the model.
    pub cfg: Option<PathBuf>,
    /// The `KEY=VALUE` of each `--SET`, in order.
    pub set: Vec<String>,
    /// The flags, as (flag, key, value).
    pub flags: Vec<(String, &'static str, Value)>,
}

impl Given {
    /// The command line in words that mean the same: flags with their full names, each with its value.
    pub fn spelled_out(&self) -> Vec<String> {
        let flags = self.flags.iter();
        let flags = flags.map(|(flag, _, value)| format!("{flag}={}", show(value)));
        let cfg = self.cfg.iter();
        let cfg = cfg.map(|path| format!("--CFG={}", path.display()));
        let set = self.set.iter().map(|pair| format!("--SET={pair}"));
        flags.chain(cfg).chain(set).collect()
    }

    /// Whether the command line gives `key`, with its flag or with `--SET`.
    pub fn names(&self, key: &str) -> bool {
        let set = self.set.iter().filter_map(|pair| pair.split_once('='));
        let mut set = set.map(|(key, _)| key.trim());
        self.flags.iter().any(|(_, given, _)| *given == key) || set.any(|given| given == key)
    }

    /// Gives the flag of `key` this value in place of a value that was given. Does nothing for a key without a flag.
    pub fn set_flag(&mut self, key: &str, value: Value) {
        let known = common_keys().find(|known| known.name == key);
        if let Some((name, flag)) = known.and_then(|key| Some((key.name, key.flag?))) {
            self.flags.retain(|(_, given, _)| *given != name);
            self.flags.push((format!("--{}", flag.name), name, value));
        }
    }
}

/// OpenVQA's keys for the places of files that this program does not have: objects with every file of every data set.
const OF_FILES: [&str; 4] = ["DATA_PATH", "FEATS_PATH", "RAW_PATH", "SPLITS"];

/// A value of a key, with the place where it was given.
struct Setting {
    key: String,
    value: Value,
    place: String,
    /// The text of the value, if it was given with `--SET`.
    typed: Option<String>,
}

impl Config {
    /// Resolves defaults, YAML file, `--SET` and flags, in this order, and checks the result.
    ///
    /// # Errors
    /// A file that cannot be read; a [`ConfigError`] for an unknown key, a wrong type or an impossible value, which names key,
    /// value and place.
    pub fn resolve(given: &Given, schema: &Schema) -> Result<Config> {
        let typed = typed(given)?;
        let named = |key| last(&typed, key).map(|setting| show(&setting.value));
        let dataset = named("DATASET").unwrap_or_else(|| DataConfig::default().dataset);
        let model = named("MODEL").unwrap_or_else(|| default_model(&typed, &dataset));
        let file = model_file::find(given.cfg.as_ref(), &dataset, &model)?;
        let mut settings = vec![setting("MODEL", model.clone().into(), "--MODEL")];
        for (key, value) in yaml::mapping(&file.place, &file.text)? {
            check_named_model(&value, &key, &model, &file.place)?;
            settings.push(setting(&key, value, &file.place));
        }
        settings.extend(typed);

        let model_use = last(&settings, "MODEL_USE").filter(|s| !s.value.is_null());
        let name = model_use.map(|s| show(&s.value));
        let family = schema
            .family(name.as_deref())
            .map_err(|error| error.at(model_use.map(|s| s.place.as_str())))?;
        let mut layers = Layers::new(family, convention(name.as_deref()));
        for setting in settings {
            layers.set(setting)?;
        }
        layers.complete()?;
        let mut config = layers.config()?;
        check(&config, family).map_err(|error| layers.with_place(error))?;
        config.run.given = given.clone();
        Ok(config)
    }

    /// The configuration of a checkpoint: a flat map of keys and values. Absent keys have their defaults, so that older
    /// checkpoints load. Unknown keys are ignored.
    ///
    /// # Errors
    /// An unknown family, or a value that this version cannot read; the message names the key.
    pub fn from_saved(saved: &Value, schema: &Schema) -> Result<Config> {
        let entries = saved.as_object();
        let entries = entries.context("its configuration is no dict of keys and values")?;
        let model_use = entries.get("MODEL_USE").filter(|value| !value.is_null());
        let model_use = model_use.map(show);
        let model_use = model_use.as_deref();
        let mut layers = Layers::new(schema.family(model_use)?, convention(model_use));
        for (name, value) in entries {
            let key = layers.table.get(name.as_str()).copied();
            if key.is_some_and(|key| !key.is_computed(layers.convention)) {
                layers.set(setting(
                    name,
                    value.clone(),
                    "the configuration in the checkpoint",
                ))?;
            }
        }
        layers.compute();
        layers.config()
    }
}

/// The model of a run that names none: that of the data set. The demo's world is small.
fn default_model(typed: &[Setting], dataset: &str) -> String {
    let mode = last(typed, "RUN_MODE").map(|setting| &setting.value);
    if mode == Some(&json!(RunMode::Demo)) {
        return "tiny".into();
    }
    // An unknown data set is an error later.
    let usual = datasets::benchmark(dataset).map(|benchmark| benchmark.usual_model());
    usual.map_or_else(|_| RunConfig::default().model, str::to_owned)
}

/// Checks that a configuration file does not name another model: the name chooses the file, so a file cannot choose it.
fn check_named_model(
    value: &Value,
    key: &str,
    chosen: &str,
    place: &str,
) -> Result<(), ConfigError> {
    let named = show(value);
    require(key != "MODEL" || named == chosen, key, || {
        format!(
            "MODEL: {named} in a configuration file does not choose a model; give --MODEL={named}, or leave the line out"
        )
    })
    .map_err(|error| error.at(Some(place)))
}

fn setting(key: &str, value: Value, place: &str) -> Setting {
    Setting {
        key: key.to_owned(),
        value,
        place: place.to_owned(),
        typed: None,
    }
}

fn last<'a>(settings: &'a [Setting], key: &str) -> Option<&'a Setting> {
    settings.iter().rev().find(|setting| setting.key == key)
}

/// The settings of `--SET` and of the flags; a later one wins.
fn typed(given: &Given) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for pair in &given.set {
        let Some((key, text)) = pair.split_once('=') else {
            let message = format!("--SET {pair}: write --SET KEY=VALUE");
            return Err(ConfigError::new(pair, message));
        };
        settings.push(Setting {
            key: key.trim().to_owned(),
            value: yaml::value(text),
            place: "--SET".into(),
            typed: Some(text.trim().to_owned()),
        });
    }
    for (flag, key, value) in &given.flags {
        settings.push(setting(key, value.clone(), flag));
    }
    Ok(settings)
}

fn check(config: &Config, family: &FamilyKeys) -> Result<(), ConfigError> {
    (family.check)(&config.model)?;
    config.check()
}

/// The values so far, by key. Each value is checked when it is set, so that an error can name its place.
struct Layers {
    family: &'static FamilyKeys,
    convention: Convention,
    table: BTreeMap<&'static str, &'static Key>,
    values: Map<String, Value>,
    /// The place of each value that was set.
    places: BTreeMap<String, String>,
}

impl Layers {
    fn new(family: &'static FamilyKeys, convention: Convention) -> Self {
        let all = || family.keys.iter().chain(common_keys());
        let table = all().chain(family.derived);
        Layers {
            family,
            convention,
            table: table.map(|key| (key.name, key)).collect(),
            values: all()
                .map(|key| (key.name.to_owned(), (key.default)()))
                .collect(),
            places: BTreeMap::new(),
        }
    }

    fn set(&mut self, setting: Setting) -> Result<(), ConfigError> {
        let Setting { key, place, .. } = &setting;
        let known = self.table.get(key.as_str()).copied();
        let is_computed = known.is_some_and(|known| known.is_computed(self.convention));
        let error = |message: String| ConfigError::new(key, message).at(Some(place));
        if is_computed || DERIVED.iter().any(|derived| derived.name == key) {
            let message = format!("{key} is derived from other keys and cannot be set");
            return Err(error(message));
        }
        let Some(known) = known else {
            let message = format!("unknown key {key:?}{}", self.suggestion(key));
            return Err(error(message));
        };
        let value = as_meant(known, &setting.value, setting.typed.as_deref());
        let shown = show(&setting.value);
        if let Err(reason) = (known.check)(value.clone()) {
            let reason = match known.kind {
                Kind::Words(_) => format!("it must be one of {}", known.type_text()),
                // Names of Rust's types mean nothing to a user.
                _ => in_plain_words(
                    &reason
                        .to_string()
                        .replace("expected u64", "expected a count")
                        .replace("expected usize", "expected a count")
                        .replace("expected f64", "expected a number"),
                ),
            };
            return Err(error(format!("{key} = {shown} cannot be used: {reason}")));
        }
        debug!("{key} = {shown} ({place})");
        self.values.insert(key.clone(), value);
        self.places.insert(key.clone(), place.clone());
        Ok(())
    }

    /// Sets the keys that other keys imply, and computes keys.
    fn complete(&mut self) -> Result<(), ConfigError> {
        self.complete_folders();
        self.complete_words_of_dataset();
        self.complete_optimizer()?;
        self.complete_feature_size();
        self.compute();
        Ok(())
    }

    /// Sets `key` to `value` unless it was set.
    fn imply(&mut self, key: &str, value: Value) {
        if !self.places.contains_key(key) && self.table.contains_key(key) {
            debug!("{key} = {} (implied)", show(&value));
            self.values.insert(key.to_owned(), value);
        }
    }

    /// Sets the folders of questions and features to those below `DATA_ROOT`, as OpenVQA arranges them.
    fn complete_folders(&mut self) {
        let Some(root) = self.typed::<Option<PathBuf>>("DATA_ROOT") else {
            return;
        };
        let folder = root.join(self.values.get("DATASET").map(show).unwrap_or_default());
        for (key, name) in [("DATASET_PATH", "raw"), ("FEATURE_PATH", "feats")] {
            self.imply(key, json!(folder.join(name)));
        }
    }

    /// Sets the keys whose defaults depend on the data set. A split that the convention names is the default if the data set
    /// has it, else its first one.
    fn complete_words_of_dataset(&mut self) {
        let dataset = self.values.get("DATASET").map(show).unwrap_or_default();
        // An unknown data set is an error of the check.
        let Ok(benchmark) = datasets::benchmark(&dataset) else {
            return;
        };
        let usual = DataConfig::default();
        let trained = match self.convention {
            Convention::Reference => &usual.train_split,
            Convention::OpenVqa => "train",
        };
        for (key, usual, words) in [
            ("TRAIN_SPLIT", trained, training_names(benchmark)),
            (
                "TEST_SPLIT",
                &usual.test_split,
                benchmark.test_splits().to_vec(),
            ),
        ] {
            let has_usual = words.contains(&usual);
            let word = words.first().filter(|_| !has_usual);
            self.imply(key, json!(word.unwrap_or(&usual)));
        }
        self.imply("ACCURACY", json!(Accuracy::from(benchmark.usual_measure())));
    }

    /// Sets the keys of the optimizer: the defaults of PyTorch if `OPT` names an optimizer, then `OPT_PARAMS`.
    fn complete_optimizer(&mut self) -> Result<(), ConfigError> {
        if self.values.get("OPT") != Some(&json!("")) {
            self.imply("OPT_BETAS", json!([0.9, 0.999]));
            self.imply("OPT_EPS", json!(1e-8));
        }
        let OptParams(params) = self.typed("OPT_PARAMS");
        for (name, text) in params {
            let error = |message: String| self.with_place(ConfigError::new("OPT_PARAMS", message));
            let (key, count) = match name.as_str() {
                "betas" => ("OPT_BETAS", 2),
                "eps" => ("OPT_EPS", 1),
                _ => {
                    let message = format!("OPT_PARAMS: {name} is not known, only betas and eps");
                    return Err(error(message));
                }
            };
            let numbers = python_numbers(&text).filter(|numbers| numbers.len() == count);
            let Some(numbers) = numbers else {
                let message = format!(
                    "OPT_PARAMS: {name} = {text:?} is not {}",
                    if count == 1 {
                        "a number"
                    } else {
                        "a pair of numbers"
                    }
                );
                return Err(error(message));
            };
            let value = if count == 1 {
                json!(numbers[0])
            } else {
                json!(numbers)
            };
            debug!("{key} = {} (OPT_PARAMS)", show(&value));
            self.values.insert(key.to_owned(), value);
            let place = self.places.get("OPT_PARAMS");
            let place = place.map_or("OPT_PARAMS".into(), |place| format!("{place}: OPT_PARAMS"));
            self.places.insert(key.to_owned(), place);
        }
        Ok(())
    }

    /// Sets the sizes of the features: `FEAT_SIZE` of the data set replaces them if it was given, else it is their default.
    fn complete_feature_size(&mut self) {
        let dataset = self.values.get("DATASET").map(show).unwrap_or_default();
        let given = self.typed::<FeatSize>("FEAT_SIZE").of(&dataset);
        let Some((vectors, width)) = given.or_else(|| DataConfig::usual_size(&dataset)) else {
            return;
        };
        for (key, value) in [("IMG_FEAT_PAD_SIZE", vectors), ("IMG_FEAT_SIZE", width)] {
            // BUTD and BAN have a width in the attention under this name, which they compute if it is absent.
            if self
                .table
                .get(key)
                .is_some_and(|key| (key.default)().is_null())
            {
                continue;
            }
            if given.is_some() {
                self.places.remove(key);
            }
            self.imply(key, json!(value));
        }
    }

    /// Computes the keys of the family that are functions of other keys.
    fn compute(&mut self) {
        for key in self.family.keys {
            if let Some(computed) = key.computed.filter(|_| key.is_computed(self.convention)) {
                let value = (computed.value)(&self.values);
                self.values.insert(key.name.to_owned(), value);
            }
        }
    }

    fn typed<T: DeserializeOwned + Default>(&self, key: &str) -> T {
        let value = self.values.get(key).cloned().unwrap_or_default();
        serde_json::from_value(value).unwrap_or_default()
    }

    fn config(&self) -> Result<Config> {
        let all = || Value::Object(self.values.clone());
        let names = self.family.keys.iter().map(|key| key.name);
        let of_model =
            names.filter_map(|name| Some((name.to_owned(), self.values.get(name)?.clone())));
        Ok(Config {
            model: ModelValues::new(self.family, of_model.collect()),
            data: serde_json::from_value(all())?,
            train: serde_json::from_value(all())?,
            run: serde_json::from_value(all())?,
        })
    }

    /// `error` with the place of the value of its key.
    fn with_place(&self, error: ConfigError) -> ConfigError {
        let place = self.places.get(&error.key).map(String::as_str);
        error.at(place)
    }

    /// What to do about the unknown `key`: a question whether a known key was meant that resembles it, or what replaces a
    /// key of OpenVQA's; empty if nothing is known.
    fn suggestion(&self, key: &str) -> String {
        if OF_FILES.contains(&key) {
            return "; OpenVQA has it for the places of files: here use DATA_ROOT, --DATA_PATH and --FEAT_PATH, or \
                    QUESTION_PATH, ANSWER_PATH and IMG_FEAT_PATH for single files"
                .into();
        }
        let key = key.to_uppercase();
        let close = |known: &&&str| {
            let shared = known
                .chars()
                .zip(key.chars())
                .take_while(|(a, b)| a == b)
                .count();
            shared >= 4 || known.contains(&key) || key.contains(**known)
        };
        let all = self.family.keys.iter().chain(common_keys());
        let names: Vec<&str> = all.map(|key| key.name).collect();
        names
            .iter()
            .find(close)
            .map(|known| format!("; did you mean {known}?"))
            .unwrap_or_default()
    }
}
