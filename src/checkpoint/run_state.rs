//! The entry `mcan` of a checkpoint, which only this program writes: the state of the run, and what a resumed run or an
//! evaluation needs.

use crate::formats::pickle::Value;
use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

/// Steps, epochs or questions at most. No run has as many, and sums of them do not overflow.
const MOST: u64 = 1 << 40;

/// The state of a run when its checkpoint was written.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    /// Finished epochs.
    pub epoch: u64,
    /// Finished steps of the optimizer.
    pub step: u64,
    /// Finished steps of the current epoch; 0 at the end of an epoch.
    pub batch: u64,
    /// Summed loss of the current epoch; at the end of an epoch, of that epoch.
    pub loss_sum: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Questions in the training data.
    pub data_size: u64,
    /// The digest of the training data: see [`Dataset::digest`](crate::data::Dataset::digest). Older versions did not write it.
    pub data_digest: Option<String>,
    /// The resolved configuration.
    pub config: Json,
    /// Words of a question that are used. Older versions did not write it.
    pub max_token: Option<u64>,
    /// The words, in the order of the rows of the embedding.
    pub vocabulary: Vec<String>,
    /// The answers, in the order of the rows of the projection.
    pub answers: Vec<String>,
}

pub(super) fn write(state: &RunState) -> Value {
    let texts = |texts: &[String]| Value::List(texts.iter().map(|text| Value::str(text)).collect());
    let count = |count: u64| Value::Int(count.into());
    let digest = state.data_digest.as_deref();
    let digest = digest.map_or(Value::None, Value::str);
    Value::dict([
        ("epoch", count(state.epoch)),
        ("step", count(state.step)),
        ("batch", count(state.batch)),
        ("loss_sum", Value::Float(state.loss_sum)),
        ("seed", count(state.seed)),
        ("data_size", count(state.data_size)),
        ("data_digest", digest),
        ("max_token", state.max_token.map_or(Value::None, count)),
        ("config", from_json(&state.config)),
        ("vocabulary", texts(&state.vocabulary)),
        ("answers", texts(&state.answers)),
    ])
}

/// The number of a checkpoint's entry `epoch`; `None` where no run comes to it.
pub(super) fn read_epoch(value: &Value) -> Option<u64> {
    value.as_int().filter(|epoch| *epoch <= MOST)
}

pub(super) fn read(value: &Value) -> Result<RunState> {
    let entry = |key: &str| {
        value
            .get(key)
            .with_context(|| format!("its `mcan` entry has no `{key}`; it is damaged"))
    };
    let number = |key: &str| {
        entry(key)?
            .as_int::<u64>()
            .with_context(|| format!("`{key}` of its `mcan` entry is no number; it is damaged"))
    };
    let count = |key: &str| match number(key)? {
        count if count <= MOST => Ok(count),
        count => {
            bail!("`{key}` of its `mcan` entry is {count}, which no run comes to; it is damaged")
        }
    };
    let loss_sum = entry("loss_sum")?.as_f64().filter(|sum| sum.is_finite());
    let texts = |key: &str| {
        let texts = entry(key)?.as_items().and_then(|items| {
            items
                .iter()
                .map(|i| i.as_str().map(str::to_owned))
                .collect()
        });
        texts.with_context(|| {
            format!("`{key}` of its `mcan` entry is no list of strings; it is damaged")
        })
    };
    Ok(RunState {
        epoch: count("epoch")?,
        step: count("step")?,
        batch: count("batch")?,
        loss_sum: loss_sum
            .context("`loss_sum` of its `mcan` entry is no finite number; it is damaged")?,
        seed: number("seed")?,
        data_size: count("data_size")?,
        data_digest: value
            .get("data_digest")
            .and_then(Value::as_str)
            .map(str::to_owned),
        max_token: value
            .get("max_token")
            .and_then(Value::as_int::<u64>)
            .filter(|words| (1..=MOST).contains(words)),
        config: to_json(entry("config")?)?,
        vocabulary: texts("vocabulary")?,
        answers: texts("answers")?,
    })
}

fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match number.as_i128() {
            Some(integer) => Value::Int(integer),
            // All other numbers of serde_json are floats.
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::str(text),
        Json::Array(items) => Value::List(items.iter().map(from_json).collect()),
        Json::Object(entries) => Value::dict(
            entries
                .iter()
                .map(|(key, value)| (key.as_str(), from_json(value))),
        ),
    }
}

fn to_json(value: &Value) -> Result<Json> {
    Ok(match value {
        Value::None => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(number) => Json::Number(
            serde_json::Number::from_i128(*number)
                .context("its configuration has an integer beyond 64 bits")?,
        ),
        Value::Float(number) => serde_json::Number::from_f64(*number)
            .map(Json::Number)
            .context("its configuration has a number that is not finite")?,
        Value::Str(text) => Json::String(text.to_string()),
        Value::List(items) | Value::Tuple(items) => {
            Json::Array(items.iter().map(to_json).collect::<Result<_>>()?)
        }
        Value::Dict(entries) | Value::OrderedDict(entries) => {
            let entry = |(key, value): &(Value, Value)| {
                let key = key
                    .as_str()
                    .context("its configuration has a key that is no string")?;
                Ok((key.to_owned(), to_json(value)?))
            };
            Json::Object(entries.iter().map(entry).collect::<Result<_>>()?)
        }
        Value::Bytes(_) | Value::Tensor(_) | Value::Opaque(_) => {
            bail!("its configuration holds {}", value.kind_name())
        }
    })
}
