//! Speed of the CPU's matrix products at the shapes of the small and the large model, beside libtorch's own:
//! `cargo bench --bench products`. Half of the best of many runs is no rare thing on a shared machine; the best counts.
//! In float32 `linear` itself calls libtorch for few rows, for one output and on Intel's processors; `MCAN_OWN_PRODUCTS=1`
//! leaves all products to the project's own kernels.
//! First comes what the arithmetic units can do at most: multiplications and additions of vectors that stay in registers.
#![allow(
    unsafe_code,
    reason = "a function for processors with AVX2 is called on one"
)]

use mcan::native::{Factors, linear};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// (R, in, out) in a training step of the small model with 64 questions: about 2400 rows of regions, 640 of words, 64 of
/// questions.
const SHAPES: [[i64; 3]; 14] = [
    [2400, 2048, 512],
    [2400, 512, 512],
    [2400, 512, 1024],
    [2400, 512, 1536],
    [2400, 512, 2048],
    [2400, 512, 1],
    [640, 512, 512],
    [640, 512, 1024],
    [640, 512, 1536],
    [640, 512, 2048],
    [640, 2048, 512],
    [640, 512, 1],
    [64, 512, 1024],
    [64, 1024, 3129],
];

/// Repetitions of each engine, in turns.
const REPETITIONS: usize = 40;

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

/// Seconds of the forward pass, and of the backward pass with the gradients of weight and bias and, with `to_input`, of x.
fn once(layer: &dyn Fn() -> Tensor, leaves: &[&Tensor]) -> [f64; 2] {
    let began = Instant::now();
    let y = layer();
    let forward = began.elapsed();
    let sum = (&y * &y).sum(Kind::Float);
    let began = Instant::now();
    drop(Tensor::run_backward(&[sum], leaves, false, false));
    [forward, began.elapsed()].map(|time| time.as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians: GFLOP/s of native and of libtorch, and the ratio of their speeds (over 1: native is faster), forward and backward.
fn compare(
    native: &dyn Fn() -> Tensor,
    libtorch: &dyn Fn() -> Tensor,
    leaves: &[&Tensor],
    work: f64,
) -> String {
    let (mut ours, mut theirs) = ([vec![], vec![]], [vec![], vec![]]);
    for repetition in 0..REPETITIONS + 2 {
        let (a, b) = if repetition % 2 == 0 {
            let a = once(native, leaves);
            (a, once(libtorch, leaves))
        } else {
            let b = once(libtorch, leaves);
            (once(native, leaves), b)
        };
        if repetition >= 2 {
            for pass in 0..2 {
                ours[pass].push(a[pass]);
                theirs[pass].push(b[pass]);
            }
        }
    }
    let products = [1.0, leaves.len() as f64 - 1.0];
    let column = |pass: usize| {
        let ratios = ours[pass].iter().zip(&theirs[pass]).map(|(a, b)| b / a);
        let rate = |times: &Vec<f64>| products[pass] * work / median(times.clone());
        format!(
            "{:4.0} {:4.0} {:5.2}",
            rate(&ours[pass]),
            rate(&theirs[pass]),
            median(ratios.collect())
        )
    };
    format!("{} | {}", column(0), column(1))
}

fn main() {
    let cpu = (Kind::Float, Device::Cpu);
    match peak() {
        Some(peak) => println!("GFLOP/s of multiplications and additions in registers: {peak:.0}"),
        None => println!("(the peak is measured on processors with AVX2 and without AVX-512 only)"),
    }
    println!(
        "GFLOP/s of native and libtorch, and native / libtorch, forward | backward, on {} threads",
        tch::get_num_threads()
    );
    println!(
        "{:>16}   {:^33}   {:^33}   {:^33}",
        "rows, in, out", "float32", "bfloat16, from float32", "bfloat16, copies at hand"
    );
    for [rows, inputs, outputs] in SHAPES {
        let leaf = |t: Tensor| t.set_requires_grad(true);
        let x = leaf(Tensor::randn([rows, inputs], cpu));
        let weight = leaf(Tensor::randn([outputs, inputs], cpu) * 0.02);
        let bias = leaf(Tensor::randn([outputs], cpu));
        let half = |t: &Tensor| t.to_kind(Kind::BFloat16);
        let halves = [&x, &weight, &bias].map(|t| leaf(half(t).detach()));
        let work = 2e-9 * (rows * inputs * outputs) as f64;
        let leaves = [&x, &weight, &bias];
        let native = |factors| {
            move |t: [&Tensor; 3]| {
                linear(t[0], t[1], t[2], factors).unwrap_or_else(|error| panic!("{error}"))
            }
        };
        let (float, bf16) = (native(Factors::Float), native(Factors::BFloat16));
        let in_float = compare(
            &|| float(leaves),
            &|| x.linear(&weight, Some(&bias)),
            &leaves,
            work,
        );
        let in_bf16 = compare(
            &|| bf16(leaves),
            &|| {
                half(&x)
                    .linear(&half(&weight), Some(&half(&bias)))
                    .to_kind(Kind::Float)
            },
            &leaves,
            work,
        );
        // The two have different leaves, so each is timed with its own.
        let copies = {
            let own = [&halves[0], &halves[1], &halves[2]];
            let mut times = [vec![], vec![]];
            for _ in 0..REPETITIONS {
                let t = once(&|| own[0].linear(own[1], Some(own[2])), &own);
                times[0].push(t[0]);
                times[1].push(t[1]);
            }
            let [a, b] = times.map(median);
            format!("{:4.0} | {:4.0}", work / a, 2.0 * work / b)
        };
        println!(
            "{:>16}   {in_float}   {in_bf16}   {copies}",
            format!("{rows}, {inputs}, {outputs}")
        );
    }
}
