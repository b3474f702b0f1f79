#![no_main]

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use mcan::formats::bank::pack::{Options, pack};
use mcan::formats::bank::{Bank, Dtype};
use std::io::Write;

const FEATURE_SIZE: usize = 64;

// The input is the tar archive; behind gzip's checksum no mutation would get to it.
fuzz_target!(|bytes: &[u8]| {
    let mut gz = GzEncoder::new(Vec::new(), Compression::none());
    gz.write_all(bytes).expect("memory");
    let source = mcan_fuzz::file("features.tar.gz", &gz.finish().expect("memory"));
    let target = mcan_fuzz::folder().join("features.safetensors");
    let options = Options {
        dtype: Dtype::F16,
        feature_size: FEATURE_SIZE,
        skip_bad: true,
    };
    if let Ok(report) = pack(&source, &target, options, &|_| Ok(())) {
        let bank = Bank::open(&target, FEATURE_SIZE).expect("what was packed");
        assert_eq!(bank.image_ids().len(), report.images);
    }
});
