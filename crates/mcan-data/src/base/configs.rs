//! The files of the folder `configs`: those of the working directory, and those that are part of the program.

use super::files;
use anyhow::{Result, anyhow};
use std::path::Path;

/// The files of `configs/`, compiled in by `build.rs`, so that they work in any working directory.
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The bytes that a configuration file may have; the built-in ones have less than two thousand.
const LONGEST_BYTES: u64 = 1 << 20;

/// A configuration file.
pub(crate) struct ConfigFile {
    /// Its name, for messages.
    pub place: String,
    /// Its content.
    pub text: String,
}

/// The file of this name, such as `configs/small_model.yml`: that in the working directory, else the built-in one; none if
/// there is neither.
///
/// # Errors
/// A file that cannot be read or is not UTF-8.
pub(crate) fn find(name: &str) -> Result<Option<ConfigFile>> {
    if files::exists(name.as_ref())? {
        return read(name.as_ref()).map(Some);
    }
    let built_in = BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
    Ok(built_in.map(|(name, text)| ConfigFile {
        place: format!("{name} (built in)"),
        text: (*text).to_owned(),
    }))
}

/// The file at this path.
///
/// # Errors
/// A file that cannot be read or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<ConfigFile> {
    let place = path.display().to_string();
    let text = String::from_utf8(files::read(path, LONGEST_BYTES)?)
        .map_err(|_| anyhow!("the configuration file {place} is not UTF-8 text"))?;
    Ok(ConfigFile { place, text })
}

/// The names of the built-in files, such as `configs/small_model.yml`.
pub(crate) fn built_in() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}
