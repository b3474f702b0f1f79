#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan::data::Values;
use mcan::formats::bank::{Bank, Dtype};

const FEATURE_SIZE: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("bank", bytes);
    let Ok(bank) = Bank::open(&path, FEATURE_SIZE) else {
        return;
    };
    let mut out = match bank.dtype() {
        Dtype::F32 => Values::F32(Vec::new()),
        Dtype::F16 => Values::F16(Vec::new()),
    };
    let images = bank.image_ids().len();
    for index in 0..images {
        bank.append(index, 100, &mut out)
            .expect("an image of the bank");
    }
    assert!(bank.append(images, 100, &mut out).is_err());
});
