//! Speed of a training step and of a forward pass of the small model on the CPU, on a made-up batch of 64 questions.
//!
//! `cargo bench --bench step`; the argument is the matmul dtype. `benches/compare.py` times whole runs instead.

use divan::Bencher;
use divan::counter::ItemsCount;
use mcan::checkpoint::Algorithm;
use mcan::config::{Config, Given};
use mcan::data::streams::{StreamSpec, Streams};
use mcan::data::{Batch, Convention, FeatureRows, Values};
use mcan::datasets::LossKind;
use mcan::models::{Network, SCHEMA, Sizes};
use mcan::nn::loss::loss;
use mcan::nn::optim::{HyperParameters, Optimizer};
use mcan::nn::packed::{PackedBatch, Packer, StreamSource};
use mcan::nn::pass::Pass;
use tch::{Device, Kind};

const QUESTIONS: usize = 64;
const WORDS: usize = 7;
const REGIONS: usize = 37;
const ANSWERS: usize = 3129;
const STREAM: StreamSpec = StreamSpec {
    padded_to: 100,
    width: 2048,
    boxes: false,
};
const DTYPES: [&str; 2] = ["float32", "bfloat16"];

fn kind(dtype: &str) -> Kind {
    match dtype {
        "bfloat16" => Kind::BFloat16,
        _ => Kind::Float,
    }
}

/// The small model of `configs/small_model.yml`.
fn network() -> Network {
    let given = Given {
        cfg: Some("configs/small_model.yml".into()),
        ..Given::default()
    };
    let config = Config::resolve(&given, &SCHEMA).unwrap();
    let sizes = Sizes {
        words: 20_000,
        answers: ANSWERS,
        streams: Streams {
            regions: Some(STREAM),
            grid: None,
        },
        convention: Convention::Reference,
    };
    Network::new(&config.model, &sizes, 1, Device::Cpu).unwrap()
}

/// A batch with the mean lengths of VQA-v2.
fn batch() -> PackedBatch {
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

#[divan::bench(args = DTYPES)]
fn forward(bencher: Bencher, dtype: &str) {
    let (network, batch) = (network(), batch());
    bencher.counter(ItemsCount::new(QUESTIONS)).bench_local(|| {
        let pass = Pass::evaluation(kind(dtype), Device::Cpu);
        tch::no_grad(|| network.forward(&batch, &pass).unwrap())
    });
}

#[divan::bench(args = DTYPES)]
fn step(bencher: Bencher, dtype: &str) {
    let (network, batch) = (network(), batch());
    let hyper = HyperParameters {
        algorithm: Algorithm::Adam,
        betas: (0.9, 0.98),
        eps: 1e-9,
    };
    let mut optimizer = Optimizer::new(&network.parameters.tensors, hyper);
    let mut number = 0;
    bencher.counter(ItemsCount::new(QUESTIONS)).bench_local(|| {
        number += 1;
        let pass = Pass::training(kind(dtype), 1, number, Device::Cpu).unwrap();
        optimizer.zero_grad().unwrap();
        let logits = network.forward(&batch, &pass).unwrap();
        let targets = batch.targets();
        let loss = loss(LossKind::BinaryCrossEntropy, &logits, &targets).unwrap();
        loss.backward();
        optimizer.step(1e-4, 0.0).unwrap();
    });
}

fn main() {
    divan::main();
}
