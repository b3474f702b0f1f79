//! Values of keys as users write them: in YAML, as Python's YAML reads it, and as text of a command line.

use super::table::{Key, Kind};
use serde_json::{Value, json};

/// A value as its key needs it: `VERSION: 5` is the text "5", `USE_GLOVE: yes` is true as for Python's YAML, `1e2` may be a
/// count, `(0.9, 0.98)` a list, and `None` is no value.
pub(super) fn as_meant(key: &Key, given: &Value, typed: Option<&str>) -> Value {
    let meant = match (key.kind, given) {
        (Kind::Bool | Kind::BoolOr(_), value) => python_boolean(value),
        (Kind::Text | Kind::Path, Value::Number(n)) => {
            Some(typed.map_or_else(|| n.to_string(), str::to_owned).into())
        }
        // On a command line everything is text.
        (Kind::Text | Kind::Path, Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            typed.map(Value::from)
        }
        (Kind::Words(words), Value::Null | Value::Bool(_)) => {
            let word = words.iter().find(|word| typed == Some(**word));
            word.map(|word| Value::from(*word))
        }
        (Kind::Count | Kind::Number, Value::String(text)) => number(key.kind, text),
        (Kind::Count, Value::Number(n)) => number(key.kind, &n.to_string()),
        (Kind::Other(_), Value::String(text)) => python_numbers(text).map(numbers),
        (Kind::Other(_), Value::Number(n)) => n.as_f64().map(|n| numbers(vec![n])),
        _ => None,
    };
    let fits = |value: &Value| (key.check)(value.clone()).is_ok();
    let is_none =
        given.as_str() == Some("None") && !matches!(key.kind, Kind::Text | Kind::Words(_));
    if let Some(meant) = meant.filter(fits) {
        return meant;
    }
    match is_none && fits(&Value::Null) {
        true => Value::Null,
        false => given.clone(),
    }
}

/// A boolean of Python's YAML, or 0 or 1.
fn python_boolean(value: &Value) -> Option<Value> {
    let truth = match value {
        Value::Number(number) => number.as_u64().map(|number| number.to_string())?,
        Value::String(text) => text.to_lowercase(),
        _ => return None,
    };
    match truth.as_str() {
        "1" | "yes" | "on" | "true" => Some(true.into()),
        "0" | "no" | "off" | "false" => Some(false.into()),
        _ => None,
    }
}

/// The number that `text` is, for a key of this kind.
fn number(kind: Kind, text: &str) -> Option<Value> {
    if let Ok(count) = text.trim().parse::<u64>() {
        return Some(count.into());
    }
    let number: f64 = text.trim().parse().ok()?;
    match kind {
        Kind::Count => numbers(vec![number]).get(0).filter(|n| n.is_u64()).cloned(),
        _ => Some(json!(number)),
    }
}

/// `values` as a list; a whole number is an integer.
fn numbers(values: Vec<f64>) -> Value {
    const EXACT: f64 = (1_u64 << 53) as f64;
    let number = |value: f64| match value.fract() == 0.0 && (0.0..EXACT).contains(&value) {
        true => json!(value as u64),
        false => json!(value),
    };
    values.into_iter().map(number).collect()
}

/// Reads a Python number or tuple of numbers, such as `1e-9` or `(0.9, 0.999)`.
pub(super) fn python_numbers(text: &str) -> Option<Vec<f64>> {
    let text = text.trim();
    let inner = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'));
    inner
        .unwrap_or(text)
        .trim_end_matches(',')
        .split(',')
        .map(|number| number.trim().parse().ok())
        .collect()
}
