//! Values that are read by the type of their key, and values that cannot be read.

use super::*;

#[test]
fn one_unreadable_value_of_a_checkpoint_is_an_error_that_names_its_key() {
    let config = resolve("SEED: 1", &[]).unwrap();
    for key in config
        .values()
        .keys()
        .filter(|key| *key != "HALF_SIZE" && *key != "HIDDEN_SIZE_HEAD")
    {
        if ["FF_SIZE"].contains(&key.as_str()) {
            continue; // computed
        }
        let mut saved = config.values();
        saved.insert(key.clone(), json!({"of": {"a": {"later": "version"}}}));
        let error = Config::from_saved(&json!(saved), &SCHEMA)
            .map(drop)
            .unwrap_err();
        assert!(
            format!("{error:#}").contains(key.as_str()),
            "{key}: {error:#}"
        );
    }
    assert!(Config::from_saved(&json!([1]), &SCHEMA).is_err());
    let mut saved = config.values();
    saved.insert("OF_LATER".into(), json!(1));
    Config::from_saved(&json!(saved), &SCHEMA).unwrap();
}

#[test]
fn a_value_is_read_by_the_type_of_its_key() {
    for (pair, expected) in [
        ("VERSION=2019", json!("2019")),
        ("VERSION=007", json!("007")),
        ("VERSION=true", json!("true")),
        ("VERSION=1e3", json!("1e3")),
        ("GPU=0", json!("0")),
        ("DATASET_PATH=2019", json!("2019")),
        ("SEED=None", json!(null)),
        ("USE_GLOVE=no", json!(false)),
        ("USE_GLOVE=on", json!(true)),
        ("USE_GLOVE=FALSE", json!(false)),
        ("PRELOAD=yes", json!(true)),
        ("AMP=off", json!("off")),
        ("OPT=", json!("")),
        ("BATCH_SIZE=1e2", json!(100)),
        ("OPT_EPS=1e-7", json!(1e-7)),
        ("LR_DECAY_LIST=[10,12]", json!([10, 12])),
        ("LR_DECAY_LIST=10, 12", json!([10, 12])),
        ("LR_DECAY_LIST=7", json!([7])),
        ("OPT_BETAS=(0.5, 0.9)", json!([0.5, 0.9])),
    ] {
        let config = resolve("", &[pair]).unwrap_or_else(|error| panic!("{pair}: {error:#}"));
        let key = pair.split('=').next().unwrap();
        assert_eq!(config.values().get(key), Some(&expected), "{pair}");
    }
    assert_eq!(
        resolve("USE_GLOVE: yes", &[]).unwrap().values()["USE_GLOVE"],
        json!(true)
    );
    for pair in [
        "BATCH_SIZE=1.5",
        "BATCH_SIZE=-1",
        "USE_GLOVE=maybe",
        "OPT_BETAS=0.9",
        "LR_DECAY_LIST=[a]",
    ] {
        assert!(resolve("", &[pair]).is_err(), "{pair}");
    }
    assert_eq!(
        resolve("", &["SEED=1", "SEED=2"]).unwrap().run.seed,
        Some(2)
    );
}

#[test]
fn a_configuration_file_cannot_name_another_model() {
    let message = format!("{:#}", resolve("MODEL: large", &[]).unwrap_err());
    assert!(message.contains("--MODEL=large"), "{message}");
    assert!(resolve("MODEL: small", &[]).is_ok());
}
