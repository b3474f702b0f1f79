#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::data::embeddings;

const WORDS: [&str; 3] = ["cat", "10am", "don't"];

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("vectors", bytes);
    if let Ok(vectors) = embeddings::load(&path, &WORDS, None) {
        assert_eq!(vectors.values.len(), WORDS.len() * vectors.dimension);
    }
});
