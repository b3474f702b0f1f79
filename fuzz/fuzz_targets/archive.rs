#![no_main]

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use mcan_data::data::pack::{PackOptions, pack};
use mcan_data::data::source::{FileSource, Layout};
use mcan_data::data::streams::StreamKind;
use mcan_data::datasets::vqa2::FEATURE_FILES;
use mcan_data::formats::bank::{Array, Bank, Dtype};
use std::io::Write;

const FEATURE_SIZE: usize = 64;

// The input is the tar archive; behind gzip's checksum no mutation would get to it.
fuzz_target!(|bytes: &[u8]| {
    let mut gz = GzEncoder::new(Vec::new(), Compression::none());
    gz.write_all(bytes).expect("memory");
    let source = mcan_fuzz::file("features.tar.gz", &gz.finish().expect("memory"));
    let target = mcan_fuzz::folder().join("features.safetensors");
    let kind = StreamKind::Regions;
    let options = PackOptions {
        kind,
        dtype: Dtype::F16,
        feature_size: FEATURE_SIZE,
        skip_bad: true,
    };
    let layout = Layout {
        kind,
        names: FEATURE_FILES,
        feature_size: FEATURE_SIZE,
    };
    let mut images = FileSource::open(&source, layout).expect("a thread");
    if let Ok(report) = pack(&source, &mut images, &target, options, &|_| Ok(())) {
        let bank = Bank::open(&target, Array::Regions, FEATURE_SIZE).expect("what was packed");
        assert_eq!(bank.keys().len(), report.images);
    }
});
