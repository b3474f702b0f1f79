//! A mapping of a description, whose keys are taken one by one, so that a key that is left over is an error.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

/// A mapping of the file: the file itself, or the value of one of its keys.
pub(super) struct Section<'a> {
    /// The name of the file.
    place: &'a str,
    /// The keys that lead to the mapping, such as `splits.train.`; empty for the file.
    path: String,
    values: Map<String, Value>,
    /// The keys that were asked for.
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn new(place: &'a str, values: Map<String, Value>) -> Section<'a> {
        Section {
            place,
            path: String::new(),
            values,
            known: Vec::new(),
        }
    }

    /// An error about the value of `key`.
    pub(super) fn error(&self, key: &str, reason: impl std::fmt::Display) -> anyhow::Error {
        anyhow!("{}: {}{key}: {reason}", self.place, self.path)
    }

    /// The value of `key`; none if it is absent or empty.
    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        let value = self.values.shift_remove(key);
        value.filter(|value| !value.is_null())
    }

    /// A text.
    ///
    /// # Errors
    /// Another value.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(other) => Err(self.error(key, wrong(&other, "a text"))),
        }
    }

    /// A text that must be there. `meaning` says what it is.
    ///
    /// # Errors
    /// No value, or another value.
    pub(super) fn required_text(&mut self, key: &'static str, meaning: &str) -> Result<String> {
        let text = self.text(key)?;
        text.with_context(|| self.missing(key, meaning))
    }

    fn missing(&self, key: &str, meaning: &str) -> String {
        let (place, path) = (self.place, &self.path);
        format!("{place}: the key {path}{key} is missing; it says {meaning}")
    }

    /// A list of texts, or one text.
    ///
    /// # Errors
    /// Another value, or a text that is there twice.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Option<Vec<String>>> {
        let value = self.take(key);
        value.map(|value| self.as_texts(key, value)).transpose()
    }

    fn as_texts(&self, key: &str, value: Value) -> Result<Vec<String>> {
        let items = match value {
            Value::Array(items) => items,
            one => vec![one],
        };
        let mut texts = Vec::new();
        for item in items {
            match item {
                Value::String(text) if !text.is_empty() => {
                    ensure!(
                        !texts.contains(&text),
                        self.error(key, format_args!("{text:?} is there twice"))
                    );
                    texts.push(text);
                }
                other => bail!(self.error(key, wrong(&other, "a text or a list of texts"))),
            }
        }
        Ok(texts)
    }

    /// One of these words, each with its meaning for the program; `usual` if the key is absent.
    ///
    /// # Errors
    /// Another value.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        usual: T,
    ) -> Result<T> {
        let Some(text) = self.text(key)? else {
            return Ok(usual);
        };
        let found = words.iter().find(|(word, _)| *word == text);
        let none = || {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.error(
                key,
                format_args!("{text:?} is none of {}", words.join(", ")),
            )
        };
        found.map(|(_, meaning)| *meaning).ok_or_else(none)
    }

    /// `N` counts, from 1 to [`MOST`].
    ///
    /// # Errors
    /// Another value.
    pub(super) fn counts<const N: usize>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<[usize; N]>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let items = match &value {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let count = |item: &Value| {
            let count = item.as_u64().filter(|count| (1..=MOST).contains(count));
            count.and_then(|count| usize::try_from(count).ok())
        };
        let counts: Option<Vec<usize>> = items.iter().map(count).collect();
        let counts = counts.and_then(|counts| <[usize; N]>::try_from(counts).ok());
        let expected = match N {
            1 => format!("a whole number from 1 to {MOST}"),
            _ => format!("a list of {N} whole numbers from 1 to {MOST}"),
        };
        let wrong = || self.error(key, wrong(&value, &expected));
        counts.map(Some).ok_or_else(wrong)
    }

    /// The mapping under `key`; empty if the key is absent.
    ///
    /// # Errors
    /// Another value.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Section<'a>> {
        match self.take(key) {
            None => Ok(self.inside(key, Map::new())),
            Some(Value::Object(values)) => Ok(self.inside(key, values)),
            Some(other) => Err(self.error(key, wrong(&other, "lines of the form KEY: value"))),
        }
    }

    fn inside(&self, key: &str, values: Map<String, Value>) -> Section<'a> {
        Section {
            path: format!("{}{key}.", self.path),
            ..Section::new(self.place, values)
        }
    }

    /// The mappings of a section whose keys the user chooses.
    ///
    /// # Errors
    /// A value that is no mapping.
    pub(super) fn sections(self) -> Result<Vec<(String, Section<'a>)>> {
        let section = |(key, value): (&String, &Value)| match value {
            Value::Object(values) => Ok((key.clone(), self.inside(key, values.clone()))),
            other => Err(self.error(key, wrong(other, "lines of the form KEY: value"))),
        };
        self.values.iter().map(section).collect()
    }

    /// The lists of a section whose keys the user chooses.
    ///
    /// # Errors
    /// A value that is neither a text nor a list of texts.
    pub(super) fn lists(self) -> Result<Vec<(String, Vec<String>)>> {
        let list =
            |(key, value): (&String, &Value)| Ok((key.clone(), self.as_texts(key, value.clone())?));
        self.values.iter().map(list).collect()
    }

    /// Checks that no key is left over.
    ///
    /// # Errors
    /// Names the first such key, and the keys that there are.
    pub(super) fn finish(self) -> Result<()> {
        if let Some(key) = self.values.keys().next() {
            let (place, path, known) = (self.place, &self.path, self.known.join(", "));
            bail!("{place}: there is no key {path}{key}; use one of {known}");
        }
        Ok(())
    }
}

/// The largest count: more regions or wider ones than any extractor gives.
const MOST: u64 = 1 << 20;

fn wrong(value: &Value, expected: &str) -> String {
    let found = match value {
        Value::Null => "nothing".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "lines of the form KEY: value".into(),
    };
    format!("it has {found} where {expected} is expected")
}
