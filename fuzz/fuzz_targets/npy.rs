#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::formats::npz::with_reader;
use std::io::{Cursor, Write};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

const FEATURE_SIZE: usize = 64;

// The input is the array; behind the checksum of the archive around it no mutation would get to it.
fuzz_target!(|bytes: &[u8]| {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("x.npy", options).expect("memory");
    archive.write_all(bytes).expect("memory");
    let file = archive.finish().expect("memory").into_inner();
    let mut out = Vec::new();
    if let Ok(regions) = with_reader(|reader| reader.regions(&file, FEATURE_SIZE, 100, &mut out)) {
        assert_eq!(out.len(), regions * FEATURE_SIZE);
    }
});
