#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan::checkpoint;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("checkpoint.pkl", bytes);
    let whole = checkpoint::load(&path);
    let weights = checkpoint::load_weights(&path);
    // The optimizer is all that the second may do without.
    assert!(whole.is_err() || weights.is_ok());
});
