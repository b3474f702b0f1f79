//! From the command line to a configuration, and the files that it names.

use anyhow::Result;
use clap::Parser;
use mcan::cli::Args;
use mcan::config::{Config, Opt, Preload, markdown};
use mcan::data::streams::{Needs, StreamKind};
use mcan::models::SCHEMA;
use mcan::models::mcan::keys::McanKeys;
use mcan::run::plan::Plan;
use std::path::Path;

fn resolve(line: &str) -> Result<Config> {
    Config::resolve(&Args::parse_from(line.split('|')).given(), &SCHEMA)
}

/// The seed that is drawn for a run without one.
const DRAWN: u64 = 4711;

fn plan(config: &Config) -> Plan {
    Plan::new(config, DRAWN, None).unwrap()
}

fn message(line: &str) -> String {
    format!("{:#}", resolve(line).unwrap_err())
}

#[test]
fn flags_win_over_set() {
    let config = resolve("mcan|--RUN=train|--SET|LAYER=3|--SET|BATCH_SIZE=16|--BS=32").unwrap();
    let keys: McanKeys = config.model.keys().unwrap();
    assert_eq!((keys.layer, config.train.batch_size), (3, 32));
}

#[test]
fn the_three_models_have_the_published_sizes() {
    let keys = |config: &Config| config.model.keys::<McanKeys>().unwrap();
    let small = resolve("mcan|--RUN=val").unwrap();
    assert_eq!(
        (keys(&small).hidden_size, keys(&small).ff_size),
        (512, 2048)
    );
    assert_eq!(
        (small.train.lr_base, plan(&small).ckpt_version()),
        (0.0001, "small")
    );
    let large = resolve("mcan|--RUN=val|--MODEL=large").unwrap();
    assert_eq!(
        (keys(&large).hidden_size, keys(&large).ff_size),
        (1024, 4096)
    );
    assert_eq!((large.train.lr_base, large.run.ckpt_epoch), (0.00005, 13));
    assert_eq!((large.sub_batch_size(), large.eval_batch_size()), (32, 16));
    assert!(keys(&resolve("mcan|--RUN=demo").unwrap()).hidden_size < 512);
}

#[test]
fn openvqas_configuration_of_mcan_on_clevr_comes_with_the_program() {
    let config = resolve("mcan|--RUN=train|--DATASET=clevr|--MODEL=mcan_small").unwrap();
    let keys: McanKeys = config.model.keys().unwrap();
    assert_eq!((keys.ff_size, keys.img_feat_size), (2048, 1024));
    assert_eq!(config.data.img_feat_pad_size, 196);
    assert_eq!(
        (config.train.opt, config.train.opt_betas),
        (Opt::Adam, (0.9, 0.98))
    );
}

#[test]
fn features_are_held_where_preload_says() {
    for (value, expected) in [
        ("", Preload::Host),
        ("=True", Preload::Host),
        ("=0", Preload::No),
        ("=gpu", Preload::Device),
    ] {
        let config = resolve(&format!("mcan|--RUN=train|--PRELOAD{value}")).unwrap();
        assert_eq!(config.data.preload, expected, "{value}");
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
            "mcan|--RUN=train|--SET|DROPOUT_R=1",
            ["DROPOUT_R = 1", "[0, 1)"],
        ),
        ("mcan|--RUN=train|--VERSION=../x", ["--VERSION", "../x"]),
        ("mcan|--RUN=val|--CKPT_V=a/b", ["CKPT_VERSION", "a/b"]),
        (
            "mcan|--RUN=train|--MODEL=huge",
            ["--MODEL=huge", "configs/huge_model.yml"],
        ),
    ] {
        let m = message(line);
        assert!(parts.iter().all(|part| m.contains(part)), "{m}");
    }
}

#[test]
fn the_page_of_keys_is_made_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/keys.md");
    let page = markdown(&SCHEMA);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == page,
        "docs/src/keys.md is old; run this test with UPDATE_DOCS=1"
    );
}

fn config(line: &str) -> Config {
    Config::resolve(&Args::parse_from(line.split(' ')).given(), &SCHEMA).unwrap()
}

#[test]
fn a_run_needs_only_what_it_uses() {
    let splits = |line: &str| config(line).splits().unwrap();
    assert_eq!(splits("mcan --RUN=train"), ["train", "val", "vg"]);
    assert_eq!(splits("mcan --RUN=train --SPLIT=train"), ["train", "val"]);
    assert_eq!(
        splits("mcan --RUN=train --SPLIT=train --EVAL_EE=False"),
        ["train"]
    );
    assert_eq!(
        splits("mcan --RUN=test --TEST_SPLIT=test-dev"),
        ["test-dev"]
    );
    let config = config("mcan --RUN=test");
    let (benchmark, places) = (config.data.benchmark().unwrap(), config.data.places());
    let images = places.feature_places(benchmark, &["test", "test-dev", "vg"], StreamKind::Regions);
    let folders: Vec<_> = images
        .unwrap()
        .into_iter()
        .map(|place| place.folder)
        .collect();
    assert_eq!(folders, [Path::new("./datasets/coco_extract/test2015")]);
}

fn regions() -> Needs {
    Needs {
        regions: true,
        ..Needs::default()
    }
}

#[test]
fn every_missing_file_is_named_with_what_supplies_it() {
    let message = config("mcan --RUN=train --DATA_PATH=no/such --FEAT_PATH=none")
        .check_files(regions(), None)
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
    let plan = plan(&config("mcan --RUN=val --CKPT_V=x --CKPT_E=3"));
    let message = plan
        .config()
        .check_files(regions(), Some(&plan.ckpt_to_load()))
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
        by_version.test_stem(&by_version.ckpt_name(7)).unwrap(),
        "result_run_small_epoch13"
    );
    let by_path = plan(&config("mcan --RUN=test --CKPT_PATH=a/b.pkl"));
    assert_eq!(
        by_path.test_stem(&by_path.ckpt_name(7)).unwrap(),
        "result_run_b.pkl_7"
    );
}

#[test]
fn an_absent_seed_is_drawn_and_names_the_version() {
    let plan = plan(&config("mcan --RUN=train"));
    assert_eq!((plan.seed(), plan.version()), (DRAWN, "4711"));
}
