//! The layers that a configuration is resolved from: defaults, YAML file, `--SET`, flags; and where each value was set.

use super::{Config, validate_folder_name};
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Keys that the reference computes; ours too, so setting them would be ignored.
const DERIVED: [&str; 6] = [
    "SUB_BATCH_SIZE",
    "EVAL_BATCH_SIZE",
    "FF_SIZE",
    "HIDDEN_SIZE_HEAD",
    "N_GPU",
    "DEVICES",
];

/// The values that a command line gives, each for one key.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Name of the model, which chooses the configuration file.
    pub model: String,
    /// Configuration file to use in place of the model's.
    pub cfg: Option<PathBuf>,
    /// `--SET KEY=VALUE` pairs, in order.
    pub set: Vec<String>,
    /// The other flags, as (flag, key, value).
    pub flags: Vec<(&'static str, &'static str, Value)>,
    /// All of it as words that mean the same, for the command that resumes a run.
    pub spelled_out: Vec<String>,
}

impl Config {
    /// Resolves defaults, YAML file, `--SET` and flags, in this order, and checks the result.
    ///
    /// # Errors
    /// An unreadable file; an unknown key, a wrong type or an impossible value, naming key, value and where it was set.
    pub fn resolve(given: &Given) -> Result<Config> {
        let mut layers = Layers::new()?;
        layers.set("MODEL", Value::from(given.model.as_str()), "--MODEL")?;
        let (source, text) = model_file(given)?;
        for (key, value) in parse_yaml_mapping(&source, &text)? {
            layers.set(&key, value, &source)?;
        }
        for pair in &given.set {
            let Some((key, text)) = pair.split_once('=') else {
                bail!("--SET {pair}: write --SET KEY=VALUE");
            };
            let value = serde_saphyr::from_str(text).unwrap_or_else(|_| Value::from(text));
            layers.set(key.trim(), value, "--SET")?;
        }
        for (flag, key, value) in given.flags.clone() {
            layers.set(key, value, flag)?;
        }
        let mut config: Config = serde_json::from_value(Value::Object(layers.values.clone()))?;
        config
            .validate()
            .map_err(|error| layers.with_source(error))?;
        config.run.flags = given.spelled_out.clone();
        Ok(config)
    }
}

pub(super) fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// The YAML text that stands for `--MODEL` or `--CFG`, and what to call it in messages.
///
/// The three models that come with the program are compiled in, so that they work from any working directory; a file of
/// the same name there wins.
fn model_file(given: &Given) -> Result<(String, String)> {
    let name = &*given.model;
    let path = match &given.cfg {
        Some(path) => path.clone(),
        None => {
            validate_folder_name("MODEL", Some(name))?;
            PathBuf::from(format!("configs/{name}_model.yml"))
        }
    };
    let source = path.display().to_string();
    if given.cfg.is_none() && !path.exists() {
        let built_in = match name {
            "small" => include_str!("../../../../configs/small_model.yml"),
            "large" => include_str!("../../../../configs/large_model.yml"),
            "tiny" => include_str!("../../../../configs/tiny_model.yml"),
            _ => bail!(
                "--MODEL={name}: there is no {source}; use small, large or tiny, or write that file"
            ),
        };
        return Ok((format!("{source} (built in)"), built_in.to_string()));
    }
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the configuration file {source}"))?;
    Ok((source, text))
}

fn parse_yaml_mapping(source: &str, text: &str) -> Result<Map<String, Value>> {
    let invalid = |error: serde_saphyr::Error| {
        // Behind the first line the text is shown; and what its parser's options could do is of no use here.
        let told = error.to_string();
        let reason = told
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        let reason = reason
            .split(", set DuplicateKeyPolicy")
            .next()
            .unwrap_or(reason);
        anyhow!("{source} is not valid YAML: {reason}")
    };
    let value: Value = serde_saphyr::from_str(text).map_err(invalid)?;
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => bail!("{source}: expected lines of the form KEY: value"),
    }
}

/// Values by key, each checked as it is laid over the previous one, so that an error can name where it was set.
struct Layers {
    values: Map<String, Value>,
    defaults: Map<String, Value>,
    /// Where each value that is no default was set.
    sources: BTreeMap<String, String>,
}

impl Layers {
    fn new() -> Result<Self> {
        let Value::Object(defaults) = serde_json::to_value(Config::default())? else {
            bail!("the configuration is not a mapping");
        };
        Ok(Layers {
            values: defaults.clone(),
            defaults,
            sources: BTreeMap::new(),
        })
    }

    fn set(&mut self, key: &str, value: Value, source: &str) -> Result<()> {
        ensure!(
            !DERIVED.contains(&key),
            "{source}: {key} is derived from other keys and cannot be set"
        );
        let Some(default) = self.defaults.get(key) else {
            bail!("{source}: unknown key {key:?}{}", self.suggestion(key));
        };
        let shown = show(&value);
        let mut candidate = self.values.clone();
        candidate.insert(key.into(), like(default, key, value));
        if let Err(reason) = serde_json::from_value::<Config>(Value::Object(candidate.clone())) {
            bail!("{source}: {key} = {shown} cannot be used: {reason}");
        }
        self.values = candidate;
        self.sources.insert(key.into(), source.into());
        Ok(())
    }

    /// An error about a key, with where its value was set.
    fn with_source(&self, error: Error) -> Error {
        let text = error.to_string();
        match self
            .sources
            .get(text.split([' ', ':']).next().unwrap_or_default())
        {
            Some(source) => error.context(source.clone()),
            None => error,
        }
    }

    /// The known key that shares most with an unknown one, if that is likely what was meant.
    fn suggestion(&self, key: &str) -> String {
        let key = key.to_uppercase();
        let close = |known: &&String| {
            let shared = known
                .chars()
                .zip(key.chars())
                .take_while(|(a, b)| a == b)
                .count();
            shared >= 4 || known.contains(&key) || key.contains(known.as_str())
        };
        self.defaults
            .keys()
            .find(close)
            .map(|known| format!("; did you mean {known}?"))
            .unwrap_or_default()
    }
}

/// Reads a YAML scalar the way its key means it: `VERSION: 5` is the text "5", `RESUME: 1` is true.
fn like(default: &Value, key: &str, value: Value) -> Value {
    const TEXT: [&str; 4] = ["GPU", "VERSION", "CKPT_VERSION", "MODEL"];
    match (default, &value) {
        (Value::Bool(_), Value::Number(n)) if n.as_u64() == Some(0) || n.as_u64() == Some(1) => {
            Value::from(n.as_u64() == Some(1))
        }
        (_, Value::Number(n)) if TEXT.contains(&key) => Value::from(n.to_string()),
        _ => value,
    }
}
