#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::formats::bank::{Array, Bank};

const FEATURE_SIZE: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("bank", bytes);
    for array in [Array::Regions, Array::Grid] {
        if let Ok(bank) = Bank::open(&path, array, FEATURE_SIZE) {
            read(&bank);
        }
    }
});

fn read(bank: &Bank) {
    let mut out = Vec::new();
    let images = bank.keys().len();
    for index in 0..images {
        bank.append_f32(index, 100, &mut out)
            .expect("an image of the bank");
        let boxes = bank.boxes(index, 100).expect("an image of the bank");
        assert!(boxes.is_none_or(|boxes| boxes.len() % 4 == 0));
        let _ = bank.image_size(index);
    }
    assert!(bank.append_f32(images, 100, &mut out).is_err());
}
