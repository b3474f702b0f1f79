//! The error of a key that is wrong.

/// What is wrong with a key, and where its value was set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", .place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// The key at fault.
    pub key: String,
    /// What is wrong, naming key and value.
    pub message: String,
    /// Where the value was set: a file, `--SET` or a flag; absent for a default or a value that was computed.
    pub place: Option<String>,
}

impl ConfigError {
    /// An error about `key`, whose place is not known yet.
    pub fn new(key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError {
            key: key.to_owned(),
            message: message.into(),
            place: None,
        }
    }

    /// The same error, with where the value was set.
    pub fn at(mut self, place: Option<&str>) -> ConfigError {
        self.place = self.place.or(place.map(str::to_owned));
        self
    }
}

/// An error about `key` with `message`, unless `holds`.
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
