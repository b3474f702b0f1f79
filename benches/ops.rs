//! Speed of the layers that `nn::ops` computes, forward on the CPU, at the shapes of the small model: 64 questions with
//! 37 regions each.
//!
//! `cargo bench --bench ops`; the argument is the matmul dtype. `benches/products.rs` compares the products with
//! libtorch's.

use divan::Bencher;
use mcan::native::random::Generator;
use mcan::nn::layers::{LayerNorm, Linear, Mlp};
use mcan::nn::parameters::{Parameters, Path};
use mcan::nn::pass::Pass;
use tch::{Device, Kind, Tensor};

const ROWS: i64 = 64 * 37;
const WIDTH: usize = 512;
const DTYPES: [&str; 2] = ["float32", "bfloat16"];

/// Times a layer on (R, D) rows, in a pass without dropout.
fn time<L>(
    bencher: Bencher,
    dtype: &str,
    new: fn(Path) -> L,
    run: fn(&L, &Tensor, &Pass) -> Tensor,
) {
    let (mut parameters, mut generator) = (Parameters::default(), Generator::new(1).unwrap());
    let layer = new(Path::root(&mut parameters, &mut generator, Device::Cpu));
    let x = Tensor::randn([ROWS, WIDTH as i64], (Kind::Float, Device::Cpu));
    let kind = match dtype {
        "bfloat16" => Kind::BFloat16,
        _ => Kind::Float,
    };
    bencher.bench_local(|| {
        let pass = Pass::evaluation(kind, Device::Cpu);
        tch::no_grad(|| run(&layer, &x, &pass))
    });
}

#[divan::bench(args = DTYPES)]
fn linear(bencher: Bencher, dtype: &str) {
    time(
        bencher,
        dtype,
        |path| Linear::new(path, WIDTH, WIDTH),
        Linear::forward,
    );
}

#[divan::bench(args = DTYPES)]
fn mlp(bencher: Bencher, dtype: &str) {
    time(
        bencher,
        dtype,
        |path| Mlp::new(path, WIDTH, 4 * WIDTH, WIDTH, 0.1),
        Mlp::forward,
    );
}

#[divan::bench]
fn layer_norm(bencher: Bencher) {
    time(
        bencher,
        "float32",
        |path| LayerNorm::new(path, WIDTH),
        LayerNorm::forward,
    );
}

fn main() {
    divan::main();
}
