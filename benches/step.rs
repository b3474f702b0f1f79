//! Speed of a training step and of a forward pass of the small model on the CPU, on a made-up batch of 64 questions.
//!
//! `cargo bench --bench step`; the argument is the matmul dtype. `benches/compare.py` times whole runs instead.

mod made_up;

use divan::Bencher;
use divan::counter::ItemsCount;
use made_up::{ANSWERS, DTYPES, QUESTIONS, STREAM, batch, kind};
use mcan::checkpoint::Algorithm;
use mcan::config::{Config, Given};
use mcan::data::Convention;
use mcan::data::streams::Streams;
use mcan::datasets::LossKind;
use mcan::models::{Network, SCHEMA, Sizes};
use mcan::nn::loss::loss;
use mcan::nn::optim::{HyperParameters, Optimizer};
use mcan::nn::pass::Pass;
use tch::Device;

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
