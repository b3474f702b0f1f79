//! Speed of the CPU's matrix products at the shapes of the small and the large model, beside libtorch's own:
//! `cargo bench --bench products`. Half of the best of many runs is no rare thing on a shared machine; the best counts.

use mcan::native::{Factors, cpu_has_bf16, linear};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// (R, in, out): 2400 rows are the regions of a batch of 64 questions, 480 its words, 64 its questions.
const SHAPES: [[i64; 3]; 8] = [
    [2400, 2048, 512],
    [2400, 512, 1536],
    [2400, 512, 2048],
    [480, 512, 2048],
    [64, 1024, 3129],
    [2400, 1024, 3072],
    [2400, 1024, 4096],
    [480, 1024, 4096],
];

/// Shortest of some runs, after two to warm up.
fn best(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..14)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed()
        })
        .collect();
    times.drain(..2);
    times.into_iter().min().unwrap_or_default()
}

fn main() {
    let cpu = (Kind::Float, Device::Cpu);
    println!("GFLOP/s on {} threads; forward, and forward with both gradients", tch::get_num_threads());
    println!("{:>18} {:>16} {:>16} {:>16}", "rows, in, out", "libtorch float32", "float32", "bfloat16");
    for [rows, inputs, outputs] in SHAPES {
        let x = Tensor::randn([rows, inputs], cpu).set_requires_grad(true);
        let weight = Tensor::randn([outputs, inputs], cpu).set_requires_grad(true);
        let bias = Tensor::randn([outputs], cpu).set_requires_grad(true);
        let work = 2e-9 * (rows * inputs * outputs) as f64;
        let measure = |layer: &dyn Fn() -> Tensor| {
            let grad = layer().ones_like();
            let forward = best(|| drop(tch::no_grad(layer)));
            let both = best(|| {
                drop(Tensor::run_backward(&[(layer() * &grad).sum(Kind::Float)], &[&x, &weight], false, false))
            });
            format!("{:.0}, {:.0}", work / forward.as_secs_f64(), 3.0 * work / both.as_secs_f64())
        };
        let theirs = measure(&|| x.linear(&weight, Some(&bias)));
        let [float, bf16] = [Factors::Float, Factors::BFloat16]
            .map(|factors| measure(&|| linear(&x, &weight, &bias, factors).unwrap_or_else(|error| panic!("{error}"))));
        let bf16 = if cpu_has_bf16() { bf16 } else { "none here".into() };
        println!("{:>18} {theirs:>16} {float:>16} {bf16:>16}", format!("{rows}, {inputs}, {outputs}"));
    }
}
