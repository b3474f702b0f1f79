//! Stored texts that a user sees: the help, the printed configuration, errors of the configuration.
//!
//! After an intended change: `INSTA_UPDATE=always cargo test -p mcan --test usage_snapshots`, then read the difference.

use clap::{CommandFactory, Parser};
use insta::assert_snapshot;
use mcan::cli::Args;
use mcan::config::Config;
use mcan::models::SCHEMA;

fn resolve(line: &str) -> anyhow::Result<Config> {
    Config::resolve(&Args::parse_from(line.split('|')).given(), &SCHEMA)
}

#[test]
fn help() {
    assert_snapshot!(Args::command().render_help().to_string());
}

#[test]
fn printed_configuration() {
    let config = resolve("mcan|--RUN=train|--SEED=1|--VERSION=v").unwrap();
    assert_snapshot!(config.to_string());
}

#[test]
fn printed_configuration_of_openvqas_mcan_on_clevr() {
    let line = "mcan|--RUN=train|--DATASET=clevr|--MODEL=mcan_small|--SEED=1|--VERSION=v";
    assert_snapshot!(resolve(line).unwrap().to_string());
}

#[test]
fn errors() {
    let lines = [
        "mcan|--RUN=train|--MODEL=huge",
        "mcan|--RUN=train|--DATASET=okvqb",
        "mcan|--RUN=train|--SET|MODEL_USE=transformer",
        "mcan|--RUN=train|--SET|LAYERS=3",
        "mcan|--RUN=train|--SET|LAYER=six",
        "mcan|--RUN=train|--SET|FF_SIZE=3",
        "mcan|--RUN=train|--SET|MULTI_HEAD=7",
        "mcan|--RUN=train|--BS=64|--ACCU=3",
        "mcan|--RUN=train|--SET|LR_DECAY_LIST=ten",
        "mcan|--RUN=train|--SET|OPT_PARAMS={betas: '(0.9)'}",
        "mcan|--RUN=train|--SET|PRELOAD=disk",
        "mcan|--RUN=train|--VERSION=../x",
        "mcan|--RUN=train|--SET|RESUME",
        "mcan|--RUN=train|--CFG=none.yml",
    ];
    let told = |line: &str| format!("{line}\n    {:#}\n", resolve(line).unwrap_err());
    assert_snapshot!(lines.map(told).join("\n"));
}
