//! The error of a wrong key or value.

/// An error about a key, with the place where its value was set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", .place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// The key.
    pub key: String,
    /// The message, which names the key and the value.
    pub message: String,
    /// The place where the value was set: a file, `--SET` or a flag; absent for a default or a computed value.
    pub place: Option<String>,
}

impl ConfigError {
    /// An error about `key`, without a place.
    pub fn new(key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError {
            key: key.to_owned(),
            message: message.into(),
            place: None,
        }
    }

    /// The error with `place`, unless it has a place.
    pub fn at(mut self, place: Option<&str>) -> ConfigError {
        self.place = self.place.or(place.map(str::to_owned));
        self
    }
}

/// Fails with an error about `key` unless `holds` is true.
pub fn require(
    holds: bool,
    key: &str,
    message: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::new(key, message()))
    }
}
