//! The configuration file that `--MODEL` or `--CFG` names.

use super::check::check_folder_name;
use super::error::ConfigError;
use crate::base::configs::{self, ConfigFile};
use crate::datasets::{self, described};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// What names the file, for messages.
const NAMED_BY: &str = "--CFG or --MODEL";

/// The file `cfg` if given, else the first that exists of `configs/<dataset>/<model>.yml`, the same file of the data set
/// whose models also fit this one, and `configs/<model>_model.yml`. A file in the working directory wins over a built-in file of the same name.
///
/// # Errors
/// No such file; the error lists the built-in models.
pub(super) fn find(cfg: Option<&PathBuf>, dataset: &str, model: &str) -> Result<ConfigFile> {
    if let Some(path) = cfg {
        return configs::read(path).context(NAMED_BY);
    }
    check_folder_name("DATASET", dataset)?;
    check_folder_name("MODEL", model)?;
    let others = models_of(dataset);
    let names = [
        format!("configs/{dataset}/{model}.yml"),
        format!("configs/{others}/{model}.yml"),
        format!("configs/{model}_model.yml"),
    ];
    for name in &names {
        if let Some(file) = configs::find(name).context(NAMED_BY)? {
            return Ok(file);
        }
    }
    let message = format!(
        "--MODEL={model}: there is neither {} nor {}; write one of these files, or use {}",
        names[0],
        names[2],
        built_in_for(dataset).join(", ")
    );
    Err(ConfigError::new("MODEL", message).into())
}

/// A built-in file: the value of `--MODEL`, and the data set for which alone the file is.
fn built_in_files() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    let models = configs::built_in().filter(|name| !name.starts_with(described::FOLDER));
    models.filter_map(|name| {
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

/// The data set whose models also fit `dataset`; `dataset` itself if it is not known.
fn models_of(dataset: &str) -> &str {
    datasets::benchmark(dataset).map_or(dataset, |benchmark| benchmark.models_of())
}

/// The built-in values of `--MODEL` for a data set.
fn built_in_for(dataset: &str) -> Vec<&'static str> {
    let fitting = [dataset, models_of(dataset)];
    built_in_files()
        .filter(|(_, only)| only.is_none_or(|only| fitting.contains(&only)))
        .map(|(model, _)| model)
        .collect()
}
