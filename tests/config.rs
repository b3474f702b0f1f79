//! From the command line to a configuration, and the files that it names.

use anyhow::Result;
use clap::Parser;
use mcan::cli::Args;
use mcan::config::paths::Source;
use mcan::config::{Config, OnDevice, Preload, ShuffleMode};
use mcan::data::Split;
use mcan::run::plan::Plan;
use std::io::Write;

fn resolve(line: &str) -> Result<Config> {
    Config::resolve(&Args::parse_from(line.split('|')).given())
}

/// The seed that is drawn for a run without one.
const DRAWN: u64 = 4711;

fn plan(config: &Config) -> Plan {
    Plan::new(config, DRAWN, &[], None).unwrap()
}

fn message(line: &str) -> String {
    format!("{:#}", resolve(line).unwrap_err())
}

#[test]
fn flags_win_over_set_which_wins_over_the_file_which_wins_over_the_defaults() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        file,
        "LAYER: 2\nBATCH_SIZE: 8\nGRAD_NORM_CLIP: 1\nHIDDEN_SIZE: 256"
    )
    .unwrap();
    let cfg = file.path().display();
    let config = resolve(&format!(
        "mcan|--RUN=train|--CFG={cfg}|--SET|LAYER=3|--SET|BATCH_SIZE=16|--BS=32"
    ))
    .unwrap();
    assert_eq!(
        (
            config.model.layer,
            config.train.batch_size,
            config.model.hidden_size
        ),
        (3, 32, 256)
    );
    assert_eq!(
        (config.train.grad_norm_clip, config.model.multi_head),
        (1.0, 8)
    );
}

#[test]
fn the_three_models_have_the_published_sizes() {
    let small = resolve("mcan|--RUN=val").unwrap();
    assert_eq!(
        (
            small.model.hidden_size,
            small.train.lr_base,
            plan(&small).ckpt_version()
        ),
        (512, 0.0001, "small")
    );
    let large = resolve("mcan|--RUN=val|--MODEL=large").unwrap();
    assert_eq!(
        (
            large.model.hidden_size,
            large.train.lr_base,
            large.run.ckpt_epoch
        ),
        (1024, 0.00005, 13)
    );
    assert_eq!((large.sub_batch_size(), large.eval_batch_size()), (32, 16));
    assert!(resolve("mcan|--RUN=demo").unwrap().model.hidden_size < 512);
}

#[test]
fn lists_and_texts_can_be_set_from_the_command_line() {
    let config = resolve(
        "mcan|--RUN=train|--SET|LR_DECAY_LIST=[3, 5]|--SET|SHUFFLE_MODE=none|--SET|VERSION=7",
    )
    .unwrap();
    assert_eq!(config.train.lr_decay_list, [3, 5]);
    assert_eq!(config.data.shuffle_mode, ShuffleMode::None);
    assert_eq!(plan(&config).version(), "7");
}

#[test]
fn features_are_held_where_preload_says() {
    let preload = |value: &str| {
        resolve(&format!("mcan|--RUN=train|--PRELOAD{value}")).map(|config| config.data.preload)
    };
    for (value, expected) in [
        ("", Preload::InMemory(true)),
        ("=True", Preload::InMemory(true)),
        ("=0", Preload::InMemory(false)),
        ("=gpu", Preload::OnDevice(OnDevice::Gpu)),
    ] {
        assert_eq!(preload(value).unwrap(), expected, "{value}");
    }
    let set = |value: &str| resolve(&format!("mcan|--RUN=train|--SET|PRELOAD={value}"));
    assert_eq!(
        set("gpu").unwrap().data.preload,
        Preload::OnDevice(OnDevice::Gpu)
    );
    assert_eq!(set("1").unwrap().data.preload, Preload::InMemory(true));
    let m = format!("{:#}", set("disk").unwrap_err());
    assert!(
        m.contains("PRELOAD") && m.contains("disk") && m.contains("gpu"),
        "{m}"
    );
}

#[test]
fn an_absent_seed_is_drawn_and_names_the_version() {
    let plan = plan(&resolve("mcan|--RUN=train").unwrap());
    assert_eq!((plan.seed(), plan.version()), (DRAWN, "4711"));
}

#[test]
fn an_unknown_key_is_named_with_a_suggestion() {
    let m = message("mcan|--RUN=train|--SET|LAYERS=3");
    assert!(
        m.contains("--SET") && m.contains("LAYERS") && m.contains("LAYER?"),
        "{m}"
    );
}

#[test]
fn wrong_types_name_key_value_and_source() {
    for (line, key, value) in [
        ("mcan|--RUN=train|--SET|LAYER=six", "LAYER", "six"),
        ("mcan|--RUN=train|--SET|LAYER=-1", "LAYER", "-1"),
        (
            "mcan|--RUN=train|--SET|LR_DECAY_LIST=ten",
            "LR_DECAY_LIST",
            "ten",
        ),
        (
            "mcan|--RUN=train|--SET|SHUFFLE_MODE=sometimes",
            "SHUFFLE_MODE",
            "sometimes",
        ),
        ("mcan|--RUN=train|--SET|FF_SIZE=3", "FF_SIZE", "derived"),
    ] {
        let m = message(line);
        assert!(m.contains(key) && m.contains(value), "{m}");
    }
}

#[test]
fn impossible_values_are_named() {
    for (line, parts) in [
        (
            "mcan|--RUN=train|--SET|MULTI_HEAD=7",
            ["HIDDEN_SIZE = 512", "MULTI_HEAD = 7"],
        ),
        (
            "mcan|--RUN=train|--BS=64|--ACCU=3",
            ["BATCH_SIZE = 64", "GRAD_ACCU_STEPS = 3"],
        ),
        ("mcan|--RUN=train|--BS=0", ["BATCH_SIZE = 0", "at least 1"]),
        (
            "mcan|--RUN=train|--SET|DROPOUT_R=1",
            ["DROPOUT_R = 1", "[0, 1)"],
        ),
        ("mcan|--RUN=train|--VERSION=../x", ["VERSION", "../x"]),
        ("mcan|--RUN=val|--CKPT_V=a/b", ["CKPT_VERSION", "a/b"]),
        (
            "mcan|--RUN=train|--MODEL=huge",
            ["--MODEL=huge", "configs/huge_model.yml"],
        ),
        (
            "mcan|--RUN=train|--SET|QUESTION_PATH={tset: a}",
            ["QUESTION_PATH", "tset"],
        ),
    ] {
        let m = message(line);
        assert!(parts.iter().all(|part| m.contains(part)), "{m}");
    }
}

#[test]
fn a_configuration_survives_json_unchanged() {
    let mut config =
        resolve("mcan|--RUN=train|--AMP=bf16|--SPLIT=train|--SEED=1|--VERSION=v").unwrap();
    config.run.flags.clear(); // how it was typed is no part of it
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(serde_json::from_value::<Config>(json).unwrap(), config);
}

#[test]
fn the_printed_configuration_lists_derived_keys() {
    let text = resolve("mcan|--RUN=train").unwrap().to_string();
    assert!(text.contains("{ FF_SIZE           }-> 2048\n"), "{text}");
}

fn config(line: &str) -> Config {
    Config::resolve(&Args::parse_from(line.split(' ')).given()).unwrap()
}

#[test]
fn a_run_needs_only_what_it_uses() {
    use Source::*;
    assert_eq!(config("mcan --RUN=train").sources(), [Train, Val, Vg]);
    assert_eq!(
        config("mcan --RUN=train --SPLIT=train").sources(),
        [Train, Val]
    );
    assert_eq!(
        config("mcan --RUN=train --SPLIT=train --EVAL_EE=False").sources(),
        [Train]
    );
    assert_eq!(
        config("mcan --RUN=test --TEST_SPLIT=test-dev").sources(),
        [TestDev]
    );
    assert_eq!(config("mcan --RUN=test").feature_splits(), [Split::Test]);
}

#[test]
fn every_missing_file_is_named_with_what_supplies_it() {
    let message = config("mcan --RUN=train --DATA_PATH=no/such --FEAT_PATH=none")
        .check_files()
        .unwrap_err()
        .to_string();
    for part in [
        "train2014_questions",
        "val2014_annotations",
        "VG_questions",
        "none/train2014",
        "--RUN=pack",
        "setup.sh data",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = config("mcan --RUN=val --CKPT_V=x --CKPT_E=3")
        .check_files()
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("ckpts/ckpt_x/epoch3.pkl") && !message.contains("train2014"),
        "{message}"
    );
}

#[test]
fn result_files_are_named_as_in_the_reference() {
    let by_version = plan(&config("mcan --RUN=test --CKPT_V=small --CKPT_E=13"));
    assert_eq!(
        by_version.test_stem(&by_version.ckpt_name(7)),
        "result_run_small_epoch13"
    );
    let by_path = plan(&config("mcan --RUN=test --CKPT_PATH=a/b.pkl"));
    assert_eq!(
        by_path.test_stem(&by_path.ckpt_name(7)),
        "result_run_b.pkl_7"
    );
}
