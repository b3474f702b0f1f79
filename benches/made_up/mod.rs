//! A made-up batch with the mean lengths of VQA-v2, for the benches of layers and steps.
#![allow(dead_code, reason = "each bench uses its own part")]

use mcan::data::streams::StreamSpec;
use mcan::data::{Batch, FeatureRows, Values};
use mcan::nn::packed::{PackedBatch, Packer, StreamSource};
use tch::{Device, Kind};

pub const QUESTIONS: usize = 64;
const WORDS: usize = 7;
const REGIONS: usize = 37;
pub const ANSWERS: usize = 3129;
pub const STREAM: StreamSpec = StreamSpec {
    padded_to: 100,
    width: 2048,
    boxes: None,
};
/// The matmul dtypes that a bench is run with.
pub const DTYPES: [&str; 2] = ["float32", "bfloat16"];

/// The type of a matmul dtype.
pub fn kind(dtype: &str) -> Kind {
    match dtype {
        "bfloat16" => Kind::BFloat16,
        _ => Kind::Float,
    }
}

/// 64 questions of 7 words, each about an image of its own with 37 regions.
pub fn batch() -> PackedBatch {
    let values = (0..QUESTIONS * REGIONS * STREAM.width).map(|i| (i % 97) as f32 / 97.0);
    let batch = Batch {
        samples: (0..QUESTIONS).collect(),
        image_ids: (0..QUESTIONS as i64).map(Into::into).collect(),
        image_of: (0..QUESTIONS).map(|i| i as _).collect(),
        regions: Some(FeatureRows {
            values: Values::F32(values.collect()),
            boxes: None,
            counts: vec![REGIONS; QUESTIONS],
            all_padding: vec![false; QUESTIONS],
            multiplicity: None,
            padded_to: STREAM.padded_to,
        }),
        grid: None,
        words: (0..QUESTIONS * WORDS).map(|i| i as i64 % 20_000).collect(),
        word_counts: vec![WORDS; QUESTIONS],
        no_words: vec![false; QUESTIONS],
        words_padded_to: 14,
        targets: (0..QUESTIONS).map(|i| (i as _, i as u32, 1.0)).collect(),
    };
    let packer = Packer {
        device: Device::Cpu,
        pin_mem: false,
        answers: ANSWERS,
        regions: Some(StreamSource {
            feature_size: STREAM.width,
            table: None,
        }),
        grid: None,
    };
    packer.pack(batch).unwrap()
}
