//! The configuration file that `--MODEL` or `--CFG` names.

use super::check::check_folder_name;
use super::error::ConfigError;
use crate::base::files;
use anyhow::{Context, Result, anyhow};
use std::path::PathBuf;

/// The files of `configs/`, compiled in by `build.rs`, so that they work in any working directory.
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The bytes that a configuration file may have; those of the models have less than a thousand.
const LONGEST_BYTES: u64 = 1 << 20;

/// A configuration file: its name for messages, and its text.
pub(super) struct ConfigFile {
    pub place: String,
    pub text: String,
}

/// The file `cfg` if given, else the first that exists of `configs/<dataset>/<model>.yml` and `configs/<model>_model.yml`.
/// A file in the working directory wins over a built-in file of the same name.
///
/// # Errors
/// No such file; the error lists the built-in models.
pub(super) fn find(cfg: Option<&PathBuf>, dataset: &str, model: &str) -> Result<ConfigFile> {
    if let Some(path) = cfg {
        return read(path.clone());
    }
    check_folder_name("DATASET", dataset)?;
    check_folder_name("MODEL", model)?;
    let names = [
        format!("configs/{dataset}/{model}.yml"),
        format!("configs/{model}_model.yml"),
    ];
    for name in &names {
        if files::exists(name.as_ref())? {
            return read(PathBuf::from(name));
        }
        if let Some((_, text)) = BUILT_IN.iter().find(|(built_in, _)| built_in == name) {
            return Ok(ConfigFile {
                place: format!("{name} (built in)"),
                text: (*text).to_owned(),
            });
        }
    }
    let message = format!(
        "--MODEL={model}: there is neither {} nor {}; write one of these files, or use {}",
        names[0],
        names[1],
        built_in_for(dataset).join(", ")
    );
    Err(ConfigError::new("MODEL", message).into())
}

fn read(path: PathBuf) -> Result<ConfigFile> {
    let place = path.display().to_string();
    // The error of reading names the file.
    let text = files::read(&path, LONGEST_BYTES).context("--CFG or --MODEL")?;
    let text = String::from_utf8(text)
        .map_err(|_| anyhow!("the configuration file {place} is not UTF-8 text"))?;
    Ok(ConfigFile { place, text })
}

/// A built-in file: the value of `--MODEL`, and the data set for which alone the file is.
fn built_in_files() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    BUILT_IN.iter().filter_map(|(name, _)| {
        let name = name.strip_prefix("configs/")?;
        match name.split_once('/') {
            Some((dataset, file)) => Some((file.strip_suffix(".yml")?, Some(dataset))),
            None => Some((name.strip_suffix("_model.yml")?, None)),
        }
    })
}

/// The built-in values of `--MODEL`, those for every data set first.
pub(super) fn built_in() -> Vec<String> {
    let for_all = built_in_files().filter(|(_, dataset)| dataset.is_none());
    let for_one =
        built_in_files().filter_map(|(model, dataset)| Some(format!("{model} ({})", dataset?)));
    for_all
        .map(|(model, _)| model.to_owned())
        .chain(for_one)
        .collect()
}

/// The built-in values of `--MODEL` for a data set.
fn built_in_for(dataset: &str) -> Vec<&'static str> {
    built_in_files()
        .filter(|(_, only)| only.is_none_or(|only| only == dataset))
        .map(|(model, _)| model)
        .collect()
}
