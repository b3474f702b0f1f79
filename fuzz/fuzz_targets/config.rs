#![no_main]

use clap::Parser;
use libfuzzer_sys::fuzz_target;
use mcan::cli::Args;
use mcan::config::Config;
use mcan::models::SCHEMA;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("model.yml", bytes);
    let args = Args::parse_from(["mcan", "--RUN=train", &format!("--CFG={}", path.display())]);
    let Ok(config) = Config::resolve(&args.given(), &SCHEMA) else {
        return;
    };
    assert!(
        config
            .train
            .batch_size
            .is_multiple_of(config.train.grad_accu_steps)
    );
    assert!(!config.to_string().is_empty());
    // It is kept in checkpoints and read from there.
    let kept = serde_json::to_value(&config).expect("JSON");
    let again = Config::from_saved(&kept, &SCHEMA).expect("the kept configuration");
    assert_eq!(serde_json::to_value(&again).expect("JSON"), kept);
});
