//! Speed of the layers that `nn::ops` computes, forward on the CPU, at the shapes of the small model: 64 questions of 7
//! words, with 37 regions each.
//!
//! `cargo bench --bench ops`; the argument is the matmul dtype. `benches/products.rs` compares the products with
//! libtorch's.

mod made_up;

use divan::Bencher;
use made_up::{DTYPES, batch, kind};
use mcan::native::random::Generator;
use mcan::nn::layers::{
    AttFlat, AttFlatSizes, Cell, LayerNorm, Linear, MhAtt, Mlp, Recurrent, Sequences,
};
use mcan::nn::parameters::{Parameters, Path};
use mcan::nn::pass::Pass;
use tch::{Device, Kind, Tensor};

const WIDTH: usize = 512;

/// Times a layer on the regions `x` (R, D) and the words `y` (S, D), in a pass without dropout.
fn time<L>(
    bencher: Bencher,
    dtype: &str,
    new: fn(Path) -> L,
    run: fn(&L, x: Sequences, y: Sequences, &Pass) -> Tensor,
) {
    let (mut parameters, mut generator) = (Parameters::default(), Generator::new(1).unwrap());
    let layer = new(Path::root(&mut parameters, &mut generator, Device::Cpu));
    let batch = batch();
    let regions = batch.regions.as_ref().unwrap();
    let random = |rows| Tensor::randn([rows, WIDTH as i64], (Kind::Float, Device::Cpu));
    let (x, y) = (
        random(regions.rows.size()[0]),
        random(batch.word_ids.size()[0]),
    );
    let x = Sequences {
        rows: &x,
        layout: regions.images(),
    };
    let y = Sequences {
        rows: &y,
        layout: &batch.words,
    };
    bencher.bench_local(|| {
        let pass = Pass::evaluation(kind(dtype), Device::Cpu);
        tch::no_grad(|| run(&layer, x, y, &pass))
    });
}

#[divan::bench(args = DTYPES)]
fn linear(bencher: Bencher, dtype: &str) {
    time(
        bencher,
        dtype,
        |path| Linear::new(path, WIDTH, WIDTH),
        |layer, x, _, pass| layer.forward(x.rows, pass),
    );
}

#[divan::bench(args = DTYPES)]
fn mlp(bencher: Bencher, dtype: &str) {
    time(
        bencher,
        dtype,
        |path| Mlp::new(path, WIDTH, 4 * WIDTH, WIDTH, 0.1),
        |layer, x, _, pass| layer.forward(x.rows, pass),
    );
}

#[divan::bench]
fn layer_norm(bencher: Bencher) {
    time(
        bencher,
        "float32",
        |path| LayerNorm::new(path, WIDTH),
        |layer, x, _, pass| layer.forward(x.rows, pass),
    );
}

#[divan::bench(args = DTYPES)]
fn self_attention(bencher: Bencher, dtype: &str) {
    time(
        bencher,
        dtype,
        |path| MhAtt::new(path, WIDTH, 8, 0.1),
        |layer, x, _, pass| layer.self_attention(x, pass),
    );
}

#[divan::bench(args = DTYPES)]
fn cross_attention(bencher: Bencher, dtype: &str) {
    time(
        bencher,
        dtype,
        |path| MhAtt::new(path, WIDTH, 8, 0.1),
        |layer, x, y, pass| layer.cross_attention(x, y, pass),
    );
}

#[divan::bench(args = DTYPES)]
fn att_flat(bencher: Bencher, dtype: &str) {
    const SIZES: AttFlatSizes = AttFlatSizes {
        input: WIDTH,
        mlp: WIDTH,
        glimpses: 1,
        output: 2 * WIDTH,
    };
    time(
        bencher,
        dtype,
        |path| AttFlat::new(path, SIZES, 0.1),
        |layer, x, _, pass| layer.forward(x, pass),
    );
}

#[divan::bench]
fn lstm(bencher: Bencher) {
    time(
        bencher,
        "float32",
        |path| Recurrent::new(Cell::Lstm, path, WIDTH, WIDTH),
        |layer, _, y, _| layer.forward(&y.layout.pad(y.rows)),
    );
}

fn main() {
    divan::main();
}
