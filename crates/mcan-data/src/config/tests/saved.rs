//! The configuration in a checkpoint.

use super::*;

#[test]
fn a_configuration_survives_a_checkpoint_unchanged() {
    for text in [
        "SEED: 1\nVERSION: v\nAMP: bf16",
        "SEED: 1\nVERSION: v\nMODEL_USE: mcan\nFF_SIZE: 7",
    ] {
        let mut config = resolve(text, &[]).unwrap();
        config.run.given = Given::default();
        let saved = serde_json::to_value(&config).unwrap();
        assert_eq!(Config::from_saved(&saved, &SCHEMA).unwrap(), config);
    }
}

#[test]
fn the_configuration_of_an_older_checkpoint_is_read_with_the_defaults_of_newer_keys() {
    let saved = json!({"LAYER": 2, "HIDDEN_SIZE": 64, "MAX_TOKEN": 9, "BATCH_SIZE": 8, "PRELOAD": true, "GONE": 1});
    let config = Config::from_saved(&saved, &SCHEMA).unwrap();
    assert_eq!(config.model.size("FF_SIZE"), Some(256));
    assert_eq!(
        (config.data.max_token, config.data.preload),
        (9, Preload::Host)
    );
    assert_eq!((config.train.warmup_epoch, config.train.tf32), (3, true));
    for rule in [
        OnResume::MustMatch,
        OnResume::MustMatchWithinEpoch,
        OnResume::MayChange,
    ] {
        assert_eq!(
            config.changes_since(&json!(config.values()), &SCHEMA, rule),
            []
        );
    }
    assert!(Config::from_saved(&json!({"LAYER": "x"}), &SCHEMA).is_err());
}

#[test]
fn keys_that_must_match_and_keys_that_may_differ_are_known() {
    let config = resolve("SEED: 1\nVERSION: v", &[]).unwrap();
    let shared = config.shared_values();
    assert!(shared.contains_key("BATCH_SIZE") && shared.contains_key("LAYER"));
    for key in [
        "GPU",
        "NUM_WORKERS",
        "PIN_MEM",
        "PRELOAD",
        "VERBOSE",
        "PROFILE",
        "DIST_TIMEOUT",
        "CKPTS_PATH",
    ] {
        assert!(!shared.contains_key(key), "{key}");
    }
    for (key, value, rule) in [
        ("BATCH_SIZE", json!(8), OnResume::MustMatchWithinEpoch),
        (
            "SHUFFLE_MODE",
            json!("none"),
            OnResume::MustMatchWithinEpoch,
        ),
        ("SEED", json!(2), OnResume::MustMatchWithinEpoch),
        ("LR_BASE", json!(8), OnResume::MayChange),
        ("LAYER", json!(4), OnResume::MustMatch),
        ("MAX_TOKEN", json!(9), OnResume::MustMatch),
        ("IMG_FEAT_PAD_SIZE", json!(9), OnResume::MustMatch),
        ("NUM_WORKERS", json!(3), OnResume::MachinesOwn),
        ("VERSION", json!("w"), OnResume::GivenAnew),
    ] {
        let mut saved = config.values();
        saved.insert(key.into(), value.clone());
        let changes = config.changes_since(&json!(saved), &SCHEMA, rule);
        let found: Vec<_> = changes
            .iter()
            .map(|change| (change.key, &*change.saved))
            .collect();
        assert_eq!(found, [(key, &*show(&value))]);
    }
    assert!(is_given_anew("--SET=VERSION=a") && !is_given_anew("--SET=LR_BASE=1"));
    assert!(
        is_given_anew("--RESUME=True") && is_given_anew("--VERSION") && !is_given_anew("--BS=8")
    );
}
