//! The configuration file that `--MODEL` or `--CFG` names.

use super::check::check_folder_name;
use super::error::ConfigError;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// The files of `configs/`, compiled in by `build.rs`, so that they work in any working directory.
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

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
        if PathBuf::from(name).exists() {
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
        built_in_models(dataset).join(", ")
    );
    Err(ConfigError::new("MODEL", message).into())
}

fn read(path: PathBuf) -> Result<ConfigFile> {
    let place = path.display().to_string();
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the configuration file {place}"))?;
    Ok(ConfigFile { place, text })
}

/// The built-in values of `--MODEL` for a data set.
fn built_in_models(dataset: &str) -> Vec<&'static str> {
    BUILT_IN
        .iter()
        .filter_map(|(name, _)| {
            let name = name.strip_prefix("configs/")?;
            let of_dataset = || {
                name.strip_prefix(dataset)?
                    .strip_prefix('/')?
                    .strip_suffix(".yml")
            };
            name.strip_suffix("_model.yml").or_else(of_dataset)
        })
        .collect()
}
