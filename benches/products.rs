//! Speed of the CPU's matrix products at the shapes of the small and the large model, beside libtorch's own:
//! `cargo bench --bench products`. Half of the best of many runs is no rare thing on a shared machine; the best counts.
//! First comes what the arithmetic units can do at most: multiplications and additions of vectors that stay in registers.
#![allow(
    unsafe_code,
    reason = "a function for processors with AVX2 is called on one"
)]

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

/// GFLOP/s of fused multiplications and additions on all threads, without any memory.
#[cfg(target_arch = "x86_64")]
fn peak() -> Option<f64> {
    use std::arch::x86_64::*;

    const ROUNDS: usize = 20_000_000;
    /// Enough independent sums to keep two units with a latency of four cycles busy.
    const SUMS: usize = 12;

    #[target_feature(enable = "avx2,fma")]
    fn multiply_and_add() -> f32 {
        let (a, b) = (
            _mm256_set1_ps(std::hint::black_box(0.5)),
            _mm256_set1_ps(1.0),
        );
        let mut sums = [b; SUMS];
        for _ in 0..ROUNDS {
            sums = sums.map(|sum| _mm256_fmadd_ps(sum, a, b));
        }
        let mut total = 0.0;
        for sum in sums {
            total += _mm256_cvtss_f32(sum);
        }
        total
    }

    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))
        || is_x86_feature_detected!("avx512f")
    {
        return None;
    }
    let threads = tch::get_num_threads();
    let time = best(|| {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                // SAFETY: the processor has AVX2 and FMA.
                scope.spawn(|| std::hint::black_box(unsafe { multiply_and_add() }));
            }
        });
    });
    Some(2e-9 * f64::from(threads) * (8 * SUMS * ROUNDS) as f64 / time.as_secs_f64())
}

#[cfg(not(target_arch = "x86_64"))]
fn peak() -> Option<f64> {
    None
}

fn main() {
    let cpu = (Kind::Float, Device::Cpu);
    match peak() {
        Some(peak) => println!("GFLOP/s of multiplications and additions in registers: {peak:.0}"),
        None => println!("(the peak is measured on processors with AVX2 and without AVX-512 only)"),
    }
    println!(
        "GFLOP/s on {} threads; forward, and forward with both gradients",
        tch::get_num_threads()
    );
    println!(
        "{:>18} {:>16} {:>16} {:>16}",
        "rows, in, out", "libtorch float32", "float32", "bfloat16"
    );
    for [rows, inputs, outputs] in SHAPES {
        let x = Tensor::randn([rows, inputs], cpu).set_requires_grad(true);
        let weight = Tensor::randn([outputs, inputs], cpu).set_requires_grad(true);
        let bias = Tensor::randn([outputs], cpu).set_requires_grad(true);
        let work = 2e-9 * (rows * inputs * outputs) as f64;
        let measure = |layer: &dyn Fn() -> Tensor| {
            let grad = layer().ones_like();
            let forward = best(|| drop(tch::no_grad(layer)));
            let both = best(|| {
                drop(Tensor::run_backward(
                    &[(layer() * &grad).sum(Kind::Float)],
                    &[&x, &weight],
                    false,
                    false,
                ))
            });
            format!(
                "{:.0}, {:.0}",
                work / forward.as_secs_f64(),
                3.0 * work / both.as_secs_f64()
            )
        };
        let theirs = measure(&|| x.linear(&weight, Some(&bias)));
        let [float, bf16] = [Factors::Float, Factors::BFloat16].map(|factors| {
            measure(&|| {
                linear(&x, &weight, &bias, factors).unwrap_or_else(|error| panic!("{error}"))
            })
        });
        let bf16 = if cpu_has_bf16() {
            bf16
        } else {
            "none here".into()
        };
        println!(
            "{:>18} {theirs:>16} {float:>16} {bf16:>16}",
            format!("{rows}, {inputs}, {outputs}")
        );
    }
}
