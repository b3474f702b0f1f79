//! YAML as JSON values.

use anyhow::{Result, anyhow, bail};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The keys and values of a configuration file.
///
/// # Errors
/// A `text` that is not YAML or not a mapping. The error names `place`.
pub(crate) fn mapping(place: &str, text: &str) -> Result<Map<String, Value>> {
    let Yaml(value) = serde_saphyr::from_str(text).map_err(|error| invalid(place, &error))?;
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => bail!("{place}: expected lines of the form KEY: value"),
    }
}

/// A value of the command line. Text that is not YAML is taken literally.
pub(crate) fn value(text: &str) -> Value {
    serde_saphyr::from_str(text).map_or_else(|_| Value::from(text), |Yaml(value)| value)
}

fn invalid(place: &str, error: &serde_saphyr::Error) -> anyhow::Error {
    // Only the first line is useful: the rest quotes the file and suggests parser options.
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    let reason = first.trim_start_matches("error: ");
    // What the parser says to programmers is left out.
    let advice = [
        ", set DuplicateKeyPolicy",
        "; use from_str_multiple",
        " rejected by the configured policy",
    ];
    let ends = advice.iter().filter_map(|advice| reason.find(advice));
    let reason = &reason[..ends.min().unwrap_or(reason.len())];
    let reason = match reason.split_once("budget breached") {
        Some((at, _)) => format!("{at}it is too large, or grows too large by its aliases"),
        None => reason.to_owned(),
    };
    anyhow!("{place} is not valid YAML: {reason}")
}

/// A YAML value. A value that JSON does not have (infinity, NaN, an integer beyond 64 bits, bytes) becomes its text, so that
/// the check of its type can name it.
struct Yaml(Value);

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor).map(Yaml)
    }
}

/// The text of a key of a mapping. A key that is no text is shown as JSON, and an empty one as `-`.
fn as_key(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::from(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::from(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or_else(|| Value::from(value.to_string()), Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::from(format!("{} binary bytes", value.len())))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Yaml(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Map::new();
        while let Some((Yaml(key), Yaml(value))) = map.next_entry()? {
            let key = as_key(&key);
            if entries.insert(key.clone(), value).is_some() {
                return Err(de::Error::custom(format!("duplicate key {key:?}")));
            }
        }
        Ok(Value::Object(entries))
    }
}
