#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::data::embeddings;
use std::fs;
use std::sync::Once;

const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/mcan-data/tests/data/glove/spacy-2.1"
);
const WORDS: [&str; 5] = ["cat", "10am", "don't", "u.s.a.", "half-full"];

// The parser is private, so it is reached through a package whose other files are sound.
fuzz_target!(|bytes: &[u8]| {
    static SOUND_FILES: Once = Once::new();
    SOUND_FILES.call_once(|| {
        fs::create_dir_all(mcan_fuzz::folder().join("vocab")).expect("a temporary folder");
        for name in ["vocab/key2row", "vocab/vectors"] {
            fs::copy(format!("{MODEL}/{name}"), mcan_fuzz::folder().join(name))
                .expect("the fixture");
        }
    });
    mcan_fuzz::file("tokenizer", bytes);
    let _ = embeddings::load(mcan_fuzz::folder(), &WORDS, None);
});
