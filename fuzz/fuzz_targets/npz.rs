#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::formats::npz::with_reader;

const FEATURE_SIZE: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    let regions = with_reader(|reader| reader.regions(bytes, FEATURE_SIZE, 100, &mut out));
    if let Ok(regions) = &regions {
        assert_eq!(out.len(), regions * FEATURE_SIZE);
    }
    let regions = regions.unwrap_or(1);
    if let Ok(Some(boxes)) = with_reader(|reader| reader.boxes(bytes, regions)) {
        assert_eq!(boxes.bbox.len(), regions * 4);
    }
});
