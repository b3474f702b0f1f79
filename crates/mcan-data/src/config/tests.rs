mod saved;
mod values;

use super::*;
use crate::keys;
use serde_json::json;
use std::io::Write;

keys! {
    /// Keys of a family for these tests, in the reference's conventions and in OpenVQA's.
    pub struct TestKeys: Model {
        /// Layers
        layer: usize = 6;
        /// Width
        hidden_size: usize = 512;
        /// Inner width
        ff_size: usize = 2048 => computed_in_reference(four_times);
        /// Width of a feature
        img_feat_size: usize = 2048;
    }
}

fn four_times(values: &Map<String, Value>) -> Value {
    json!(values["HIDDEN_SIZE"].as_u64().unwrap() * 4)
}

fn check_test_keys(model: &ModelValues) -> Result<(), ConfigError> {
    let keys: TestKeys = model.keys().unwrap();
    require(keys.layer > 0, "LAYER", || "LAYER = 0: too few".into())
}

const HALF: Key = Key::new::<usize>("HALF_SIZE", "Half of it", Scope::Model, || json!(256))
    .computed(|values| json!(values["HIDDEN_SIZE"].as_u64().unwrap() / 2));

const SCHEMA: Schema = Schema {
    families: &[FamilyKeys {
        name: "mcan",
        keys: TestKeys::KEYS,
        derived: &[HALF],
        check: check_test_keys,
    }],
    default_family: "mcan",
};

/// Resolves `text`, the content of a configuration file, and `set`, pairs as behind `--SET`.
fn resolve(text: &str, set: &[&str]) -> Result<Config> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let given = Given {
        cfg: Some(file.path().into()),
        set: set.iter().map(|&pair| pair.to_owned()).collect(),
        ..Given::default()
    };
    Config::resolve(&given, &SCHEMA)
}

fn error(text: &str, set: &[&str]) -> ConfigError {
    resolve(text, set).unwrap_err().downcast().unwrap()
}

#[test]
fn flags_win_over_set_which_wins_over_the_file_which_wins_over_the_defaults() {
    let given = Given {
        set: vec!["LAYER=3".into(), "BATCH_SIZE=16".into()],
        flags: vec![
            ("--BS".into(), "BATCH_SIZE", json!(32)),
            ("--MODEL".into(), "MODEL", json!("large")),
        ],
        ..Given::default()
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "LAYER: 2\nBATCH_SIZE: 8\nHIDDEN_SIZE: 256").unwrap();
    let cfg = Some(file.path().to_path_buf());
    let config = Config::resolve(&Given { cfg, ..given }, &SCHEMA).unwrap();
    let keys: TestKeys = config.model.keys().unwrap();
    assert_eq!((keys.layer, keys.hidden_size), (3, 256));
    assert_eq!((config.train.batch_size, config.train.max_epoch), (32, 13));
    assert_eq!(config.run.model, "large");
}

#[test]
fn a_flag_that_is_set_replaces_what_was_given() {
    let mut given = Given {
        cfg: Some("c.yml".into()),
        set: vec!["LAYER=3".into()],
        flags: vec![
            ("--BS".into(), "BATCH_SIZE", json!(32)),
            ("--SPLIT".into(), "TRAIN_SPLIT", json!("train")),
        ],
    };
    given.set_flag("BATCH_SIZE", json!(8));
    assert_eq!(
        given.spelled_out(),
        ["--SPLIT=train", "--BS=8", "--CFG=c.yml", "--SET=LAYER=3"]
    );
}

#[test]
fn a_run_that_names_no_model_trains_the_small_one_and_the_demo_the_tiny_one() {
    let model = |set: &[&str]| resolve("", set).unwrap().run.model;
    assert_eq!(model(&[]), "small");
    assert_eq!(model(&["RUN_MODE=demo"]), "tiny");
    assert_eq!(model(&["RUN_MODE=demo", "MODEL=small"]), "small");
}

#[test]
fn a_key_has_the_properties_of_its_declaration() {
    let find = |name| common_keys().find(|key| key.name == name).unwrap();
    let batch = find("BATCH_SIZE");
    assert_eq!(batch.default_text(), "64");
    assert_eq!(batch.flag.unwrap().name, "BS");
    assert_eq!(batch.scope, Scope::Train);
    assert_eq!(batch.on_resume, OnResume::MustMatchWithinEpoch);
    assert!(!batch.per_process && find("NUM_WORKERS").per_process);
    assert!(find("DATASET_PATH").per_process, "files may lie elsewhere");
    let split = find("TRAIN_SPLIT").help();
    assert!(
        split.ends_with("words of vqa: train, train+val, train+val+vg"),
        "{split}"
    );
    assert_eq!(find("PRELOAD").type_text(), "True, False or gpu");
}

#[test]
fn no_key_and_no_flag_is_declared_twice() {
    let mut names: Vec<&str> = common_keys().map(|key| key.name).collect();
    let mut flags: Vec<&str> = common_keys()
        .filter_map(|key| Some(key.flag?.name))
        .collect();
    for list in [&mut names, &mut flags] {
        let count = list.len();
        list.sort_unstable();
        list.dedup();
        assert_eq!(list.len(), count);
    }
}

#[test]
fn lists_and_texts_can_be_set_from_the_command_line() {
    let set = ["LR_DECAY_LIST=[3, 5]", "SHUFFLE_MODE=none", "VERSION=007"];
    let config = resolve("", &set).unwrap();
    assert_eq!(config.train.lr_decay_list, [3, 5]);
    assert_eq!(config.data.shuffle_mode, ShuffleMode::None);
    assert_eq!(config.run.version.as_deref(), Some("007"));
    let by_file = resolve("VERSION: 5\nRESUME: 1", &[]).unwrap();
    assert_eq!(
        (by_file.run.version.as_deref(), by_file.train.resume),
        (Some("5"), true)
    );
}

#[test]
fn preload_is_true_false_or_gpu() {
    let preload = |value: &str| resolve("", &[&format!("PRELOAD={value}")]).map(|c| c.data.preload);
    for (value, expected) in [
        ("true", Preload::Host),
        ("1", Preload::Host),
        ("0", Preload::No),
        ("gpu", Preload::Device),
    ] {
        assert_eq!(preload(value).unwrap(), expected, "{value}");
    }
    let message = error("", &["PRELOAD=disk"]).to_string();
    for part in ["PRELOAD", "disk", "True, False or gpu"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn an_unknown_key_is_named_with_a_suggestion() {
    let error = error("", &["LAYERS=3"]);
    assert_eq!(
        (error.key.as_str(), error.place.as_deref()),
        ("LAYERS", Some("--SET"))
    );
    assert!(error.message.contains("did you mean LAYER?"), "{error}");
}

#[test]
fn wrong_types_name_key_value_and_place() {
    for (text, key, value) in [
        ("LAYER: six", "LAYER", "six"),
        ("LAYER: -1", "LAYER", "-1"),
        ("LAYER: 99999999999999999999999", "LAYER", "1e+23"),
        ("LR_BASE:", "LR_BASE", "-"),
        ("LR_DECAY_LIST: ten", "LR_DECAY_LIST", "ten"),
        ("SHUFFLE_MODE: sometimes", "SHUFFLE_MODE", "sometimes"),
        ("FF_SIZE: 3", "FF_SIZE", "derived"),
        ("HALF_SIZE: 3", "HALF_SIZE", "derived"),
        ("SUB_BATCH_SIZE: 3", "SUB_BATCH_SIZE", "derived"),
        ("LOSS_REDUCTION: none", "LOSS_REDUCTION", "none"),
    ] {
        let error = error(text, &[]);
        assert_eq!(error.key, key, "{text}");
        assert!(
            error.message.contains(key) && error.message.contains(value),
            "{error}"
        );
        assert!(error.place.is_some(), "{text}");
    }
}

#[test]
fn a_number_that_is_not_finite_is_an_error() {
    for text in ["LR_BASE: .nan", "LR_BASE: .inf", "LR_BASE: {a: .inf}"] {
        assert!(resolve(text, &[]).is_err(), "{text}");
    }
}

#[test]
fn impossible_values_are_errors_of_their_key() {
    for (set, key, part) in [
        (&["LAYER=0"][..], "LAYER", "LAYER = 0"),
        (&["BATCH_SIZE=0"], "BATCH_SIZE", "at least 1"),
        (
            &["BATCH_SIZE=64", "GRAD_ACCU_STEPS=3"],
            "BATCH_SIZE",
            "GRAD_ACCU_STEPS = 3",
        ),
        (&["LR_BASE=0"], "LR_BASE", "positive"),
        (&["OPT_BETAS=[1, 0]"], "OPT_BETAS", "less than 1"),
        (&["MAX_TOKEN=0"], "MAX_TOKEN", "from 1"),
        (&["DIST_TIMEOUT=0"], "DIST_TIMEOUT", "from 1"),
        (&["VERSION=../x"], "VERSION", "../x"),
        (&["QUESTION_PATH={tset: a}"], "QUESTION_PATH", "tset"),
        (&["DATASET=okvqb"], "DATASET", "only vqa, gqa, clevr"),
        (
            &["TRAIN_SPLIT=vg"],
            "TRAIN_SPLIT",
            "train or train+val or train+val+vg",
        ),
        (&["TEST_SPLIT=val"], "TEST_SPLIT", "test or test-dev"),
        (&["MODEL_USE=butd"], "MODEL_USE", "only mcan"),
    ] {
        let error = error("", set);
        assert_eq!(error.key, key, "{error}");
        assert!(error.message.contains(part), "{error}");
        assert_eq!(error.place.as_deref(), Some("--SET"), "{error}");
    }
}

#[test]
fn the_reference_computes_keys_that_openvqa_sets() {
    let size = |config: &Config, key| config.model.size(key);
    let reference = resolve("HIDDEN_SIZE: 10", &[]).unwrap();
    assert_eq!(size(&reference, "FF_SIZE"), Some(40));
    assert_eq!(size(&reference, "HALF_SIZE"), Some(5));
    assert_eq!(reference.data.train_split, "train+val+vg");
    let openvqa = resolve("MODEL_USE: mcan\nHIDDEN_SIZE: 10", &[]).unwrap();
    assert_eq!(size(&openvqa, "FF_SIZE"), Some(2048));
    assert_eq!(openvqa.data.train_split, "train");
    let set = resolve("MODEL_USE: mcan\nFF_SIZE: 7\nTRAIN_SPLIT: train+val", &[]).unwrap();
    assert_eq!(size(&set, "FF_SIZE"), Some(7));
    assert_eq!(set.data.train_split, "train+val");
}

#[test]
fn the_splits_of_a_run_are_those_of_its_data_set() {
    let clevr = |set: &[&str]| resolve("", &[&["DATASET=clevr"], set].concat());
    for (set, part) in [
        (
            &["TRAIN_SPLIT=train+val+vg"][..],
            "use --SPLIT with train or train+val",
        ),
        (
            &["TRAIN_SPLIT=train", "TEST_SPLIT=test-dev"],
            "use --TEST_SPLIT with test",
        ),
    ] {
        let message = clevr(set).unwrap_err().to_string();
        assert!(message.ends_with(part), "{message}");
    }
    let okvqa = |set: &[&str]| resolve("", &[&["DATASET=okvqa"], set].concat());
    let message = okvqa(&["RUN_MODE=test"]).unwrap_err().to_string();
    assert!(
        message.ends_with("okvqa has no split for --RUN=test; --RUN=val answers its split val"),
        "{message}"
    );
    let vqacp = resolve("DATASET: vqacp", &[]).unwrap();
    assert_eq!(
        (&*vqacp.data.train_split, vqacp.evaluates_epochs().unwrap()),
        ("train", true)
    );
    let trained = clevr(&["RUN_MODE=train"]).unwrap().data.train_split;
    assert_eq!(trained, "train", "the default of vqa is no word of clevr");
    let evaluates = |split: &str| {
        let config = resolve("", &[&format!("TRAIN_SPLIT={split}")]).unwrap();
        config.evaluates_epochs().unwrap()
    };
    assert!(evaluates("train") && !evaluates("train+val") && !evaluates("train+val+vg"));
}

#[test]
fn derived_values_follow_the_keys_of_a_model() {
    let mut model = resolve("", &[]).unwrap().model;
    let keys = TestKeys {
        hidden_size: 8,
        ff_size: 9,
        ..TestKeys::default()
    };
    model.set_keys(&keys).unwrap();
    assert_eq!(model.keys::<TestKeys>().unwrap(), keys);
    assert_eq!(model.size("HALF_SIZE"), Some(4));
}

#[test]
fn a_named_optimizer_has_the_defaults_of_pytorch_or_the_given_parameters() {
    let train = |text: &str| resolve(text, &[]).unwrap().train;
    let reference = train("");
    assert_eq!(
        (reference.opt_betas, reference.opt_eps),
        ((0.9, 0.98), 1e-9)
    );
    let named = train("OPT: Adamax");
    assert_eq!(
        (named.opt, named.opt_betas, named.opt_eps),
        (Opt::Adamax, (0.9, 0.999), 1e-8)
    );
    let with_parameters = train("OPT: Adam\nOPT_PARAMS: {betas: '(0.8, 0.9)', eps: '1e-6'}");
    assert_eq!(
        (with_parameters.opt_betas, with_parameters.opt_eps),
        ((0.8, 0.9), 1e-6)
    );
}

#[test]
fn parameters_of_an_optimizer_are_numbers_and_nothing_else() {
    for (text, part) in [
        ("{betas: '__import__(1)'}", "a pair of numbers"),
        ("{betas: '(0.9, 0.98, 1)'}", "a pair of numbers"),
        ("{eps: 'x'}", "a number"),
        ("{weight_decay: '0.1'}", "only betas and eps"),
        ("{eps: 1e-9}", "a text is expected"),
        ("{betas: '(1.5, 0.9)'}", "less than 1"),
    ] {
        let error = error(&format!("OPT_PARAMS: {text}"), &[]);
        assert!(error.message.contains(part), "{text}: {error}");
    }
}

#[test]
fn feature_sizes_are_those_of_the_data_set() {
    let sizes = |text: &str| {
        let config = resolve(text, &[]).unwrap();
        (config.data.img_feat_pad_size, config.feature_size())
    };
    assert_eq!(sizes(""), (100, 2048));
    let clevr = "DATASET: clevr\nTRAIN_SPLIT: train";
    assert_eq!(sizes(clevr), (196, 1024));
    assert_eq!(sizes(&format!("{clevr}\nIMG_FEAT_SIZE: 7")), (196, 7));
    let given = "FEAT_SIZE: {vqa: {FRCN_FEAT_SIZE: [20, 40], BBOX_FEAT_SIZE: [20, 5]}, clevr: {GRID_FEAT_SIZE: [9, 8]}}";
    assert_eq!(sizes(given), (20, 40));
    assert_eq!(
        sizes(&format!("{given}\n{clevr}\nIMG_FEAT_SIZE: 7")),
        (9, 8)
    );
}

#[test]
fn built_in_models_are_found_by_data_set_and_name() {
    let named = |model: &str, set: &[&str]| {
        let given = Given {
            flags: vec![("--MODEL".into(), "MODEL", model.into())],
            set: set.iter().map(|&pair| pair.to_owned()).collect(),
            ..Given::default()
        };
        Config::resolve(&given, &SCHEMA)
    };
    let message = format!("{:#}", named("huge", &["DATASET=clevr"]).unwrap_err());
    for part in [
        "--MODEL=huge",
        "configs/clevr/huge.yml",
        "configs/huge_model.yml",
        "mcan_small",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(named("../x", &[]).is_err());
    // A data set that a file describes has the models of VQA-v2.
    let message = format!("{:#}", named("butd", &["DATASET=okvqa"]).unwrap_err());
    assert!(message.contains("configs/vqa/butd.yml"), "{message}");
    let message = format!("{:#}", named("okvqa", &["DATASET=okvqa"]).unwrap_err());
    assert!(
        message.contains("use large, small, tiny") && message.contains(", butd, "),
        "{message}"
    );
    // The family of this file has keys that are unknown here.
    let message = format!("{:#}", named("butd", &[]).unwrap_err());
    assert!(
        message.contains("configs/vqa/butd.yml (built in)"),
        "{message}"
    );
}

#[test]
fn the_printed_configuration_lists_derived_keys() {
    let text = resolve("", &["BATCH_SIZE=32"]).unwrap().to_string();
    for line in [
        "{ FF_SIZE           }-> 2048\n",
        "{ EVAL_BATCH_SIZE   }-> 16\n",
        "{ HALF_SIZE         }-> 256\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn the_root_of_the_data_holds_a_folder_for_each_data_set() {
    let folders = |keys: &str, set: &[&str]| {
        let data = resolve(keys, set).unwrap().data;
        [data.dataset_path, data.feature_path].map(|path| path.to_string_lossy().into_owned())
    };
    let keys = "MODEL_USE: mcan\nDATA_ROOT: /big";
    assert_eq!(
        folders(keys, &["DATASET=clevr"]),
        ["/big/clevr/raw", "/big/clevr/feats"]
    );
    assert_eq!(
        folders(keys, &["FEATURE_PATH=near"]),
        ["/big/vqa/raw", "near"]
    );
    let message = error("FEATS_PATH: {vqa: {train: a}}", &[]).to_string();
    assert!(message.contains("DATA_ROOT, --DATA_PATH"), "{message}");
}
