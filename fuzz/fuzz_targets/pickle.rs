#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::formats::pickle;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = pickle::read(bytes) {
        assert!(read.end <= bytes.len());
    }
});
