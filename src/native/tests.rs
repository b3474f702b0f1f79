//! Each kernel against the same formula in operations of libtorch.

use super::testing::{normal, output_weights};
use super::*;
use tch::{Device, Kind};

const MASK: Mask = Mask {
    p: 0.1,
    seed: 7,
    stream: 3,
};
const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Ones after dropout.
fn kept(rows: i64, columns: i64, mask: Mask) -> Tensor {
    let (x, weight, bias) = (
        Tensor::ones([rows, 1], CPU),
        Tensor::ones([columns, 1], CPU),
        Tensor::zeros([columns], CPU),
    );
    linear_relu_dropout(&x, &weight, &bias, mask, Factors::Float).unwrap()
}

#[test]
fn dropout_keeps_the_expected_share_and_scales_it() {
    let y = kept(1000, 1000, MASK);
    let share = f64::try_from(y.ne(0.0).to_kind(Kind::Double).mean(Kind::Double)).unwrap();
    // One million draws: the standard deviation of the share is 0.0003.
    assert!((share - 0.9).abs() < 0.0015, "{share}");
    assert!((y.max().double_value(&[]) - 1.0 / 0.9).abs() < 1e-5);
    for along in [0, 1] {
        let means = y.mean_dim(along, false, Kind::Float);
        assert!(
            (means.std(true).double_value(&[]) - (0.1f64 / 0.9 / 1000.0).sqrt()).abs() < 0.001,
            "independent"
        );
    }
}

#[test]
fn dropout_of_any_shape_is_the_mask_in_both_passes() {
    let x = normal([3, 7, 11]).set_requires_grad(true);
    let y = dropout(&x, MASK).unwrap();
    let kept = y.ne(0.0);
    let scale = (&y / &x).masked_select(&kept);
    assert!(scale.allclose(&scale.mean(Kind::Float).expand_as(&scale), 1e-6, 0.0, false));
    let share = kept
        .to_kind(Kind::Float)
        .mean(Kind::Float)
        .double_value(&[]);
    assert!((share - (1.0 - MASK.p)).abs() < 0.1, "{share}");
    y.sum(Kind::Float).backward();
    assert!(x.grad().allclose(&(&y / &x), 1e-5, 1e-6, false));
    assert!(dropout(&x, MASK).unwrap().equal(&y));
}

#[test]
fn a_mask_is_the_same_for_any_number_of_threads_and_differs_between_streams() {
    let half = Mask { p: 0.5, ..MASK };
    let threads = tch::get_num_threads();
    let two = kept(300, 1001, half);
    tch::set_num_threads(1);
    let one = kept(300, 1001, half);
    tch::set_num_threads(threads);
    assert!(one.equal(&two));
    for other in [Mask { stream: 4, ..half }, Mask { seed: 8, ..half }] {
        let agree = one
            .eq_tensor(&kept(300, 1001, other))
            .to_kind(Kind::Double)
            .mean(Kind::Double);
        assert!((agree.double_value(&[]) - 0.5).abs() < 0.01, "{agree}");
    }
}

/// Gradients of the sum of `f(inputs)` times fixed weights.
fn gradients(inputs: &[&Tensor], f: impl Fn(&[Tensor]) -> Tensor) -> (Tensor, Vec<Tensor>) {
    let leaves: Vec<Tensor> = inputs
        .iter()
        .map(|t| t.detach().copy().set_requires_grad(true))
        .collect();
    let y = f(&leaves);
    (&y * output_weights(&y)).sum(Kind::Float).backward();
    (y.detach(), leaves.iter().map(Tensor::grad).collect())
}

fn assert_same(ours: (Tensor, Vec<Tensor>), theirs: (Tensor, Vec<Tensor>)) {
    for (i, (a, b)) in std::iter::once((&ours.0, &theirs.0))
        .chain(ours.1.iter().zip(&theirs.1))
        .enumerate()
    {
        let apart = (a - b).abs().max().double_value(&[]);
        assert!(
            a.allclose(b, 1e-4, 2e-5, false),
            "output and gradients, number {i}: {apart} apart"
        );
    }
}

/// (R, in, out): incomplete tiles on each side, more depth than one block, rows of one block and of several, few rows and
/// one output, which libtorch computes. On an Intel processor, set MCAN_OWN_PRODUCTS to test the others in float32.
const SHAPES: [[i64; 3]; 8] = [
    [1, 1, 1],
    [67, 100, 51],
    [13, 517, 48],
    [128, 20, 49],
    [129, 20, 49],
    [131, 517, 48],
    [150, 20, 1],
    [300, 256, 97],
];

fn layer([rows, inputs, outputs]: [i64; 3]) -> [Tensor; 3] {
    [
        normal([rows, inputs]),
        normal([outputs, inputs]),
        normal([outputs]),
    ]
}

#[test]
fn linear_is_the_product_with_the_transposed_weight_plus_the_bias() {
    for shape in SHAPES {
        let inputs = layer(shape);
        let ours = gradients(&inputs.each_ref(), |t| {
            linear(&t[0], &t[1], &t[2], Factors::Float).unwrap()
        });
        assert_same(
            ours,
            gradients(&inputs.each_ref(), |t| t[0].linear(&t[1], Some(&t[2]))),
        );
    }
}

#[test]
fn relu_and_dropout_follow_a_linear_layer_in_the_same_pass() {
    for shape @ [rows, _, outputs] in SHAPES {
        let inputs = layer(shape);
        for (mask, factors) in [
            (Mask::NONE, Tensor::from(1f32)),
            (MASK, kept(rows, outputs, MASK)),
        ] {
            let ours = |t: &[Tensor]| {
                linear_relu_dropout(&t[0], &t[1], &t[2], mask, Factors::Float).unwrap()
            };
            let theirs = |t: &[Tensor]| t[0].linear(&t[1], Some(&t[2])).relu() * &factors;
            assert_same(
                gradients(&inputs.each_ref(), ours),
                gradients(&inputs.each_ref(), theirs),
            );
        }
    }
}

#[test]
fn bfloat16_factors_are_rounded_and_their_sums_are_not() {
    for shape in SHAPES {
        let [x, weight, bias] = layer(shape);
        let round = |t: &Tensor| t.to_kind(Kind::BFloat16).to_kind(Kind::Float);
        let ours = linear(&x, &weight, &bias, Factors::BFloat16).unwrap();
        let theirs = round(&x).linear(&round(&weight), Some(&bias));
        let activated = linear_relu_dropout(&x, &weight, &bias, MASK, Factors::BFloat16).unwrap();
        let factors = kept(shape[0], shape[2], MASK);
        for (ours, theirs) in [
            (ours, theirs.shallow_clone()),
            (activated, theirs.relu() * factors),
        ] {
            assert!(
                ours.allclose(&theirs, 1e-4, 1e-4, false),
                "{}",
                (&ours - &theirs).abs().max()
            );
        }
    }
    let not_a_number = Tensor::from_slice(&[f32::NAN]).view([1, 1]);
    let one = Tensor::ones([1, 1], CPU);
    let y = linear(
        &not_a_number,
        &one,
        &Tensor::zeros([1], CPU),
        Factors::BFloat16,
    )
    .unwrap();
    assert!(y.double_value(&[0, 0]).is_nan());
}

#[test]
fn a_product_is_the_same_for_any_number_of_threads() {
    let [x, weight, bias] = layer([300, 700, 200]);
    let threads = tch::get_num_threads();
    // In bfloat16, since libtorch's products in float32 may depend on the number of threads.
    let product = |n| {
        tch::set_num_threads(n);
        gradients(&[&x, &weight, &bias], |t| {
            linear(&t[0], &t[1], &t[2], Factors::BFloat16).unwrap()
        })
    };
    let (one, several) = (product(1), product(4));
    tch::set_num_threads(threads);
    assert!(one.0.equal(&several.0) && one.1.iter().zip(&several.1).all(|(a, b)| a.equal(b)));
}

#[test]
fn residual_norm_is_the_formula_of_the_reference() {
    let norm = |z: &Tensor, a: &Tensor, b: &Tensor| {
        a * (z - z.mean_dim(-1, true, Kind::Float)) / (z.std_dim(-1, true, true) + 1e-6) + b
    };
    let (x, s) = (normal([67, 100]), normal([67, 100]));
    let (a, b) = (normal([100]), normal([100]));
    let factors = kept(67, 100, MASK);
    assert_same(
        gradients(&[&x, &a, &b], |t| {
            residual_norm(&t[0], None, &t[1], &t[2], MASK).unwrap()
        }),
        gradients(&[&x, &a, &b], |t| norm(&t[0], &t[1], &t[2])),
    );
    for (mask, factors) in [(Mask::NONE, factors.ones_like()), (MASK, factors)] {
        assert_same(
            gradients(&[&x, &s, &a, &b], |t| {
                residual_norm(&t[0], Some(&t[1]), &t[2], &t[3], mask).unwrap()
            }),
            gradients(&[&x, &s, &a, &b], |t| {
                norm(&(&t[0] + &t[1] * &factors), &t[2], &t[3])
            }),
        );
    }
}

#[test]
fn a_row_without_deviation_has_a_finite_gradient() {
    let (x, one) = (Tensor::ones([2, 9], CPU), Tensor::ones([9], CPU));
    let (y, grads) = gradients(&[&x], |t| {
        residual_norm(&t[0], None, &one, &one, Mask::NONE).unwrap()
    });
    assert!(y.equal(&Tensor::ones([2, 9], CPU)) && grads[0].isfinite().all().int64_value(&[]) == 1);
}

/// Attention of one sequence, by its formula.
fn reference_attention(v: &Tensor, k: &Tensor, q: &Tensor, heads: i64, scale: f64) -> Tensor {
    let split = |t: &Tensor| t.view([t.size()[0], heads, -1]).transpose(0, 1); // (H, n, d)
    let map = (split(q) * scale)
        .matmul(&split(k).transpose(1, 2))
        .softmax(-1, Kind::Float);
    map.matmul(&split(v))
        .transpose(0, 1)
        .reshape([q.size()[0], -1])
}

#[test]
fn attention_is_softmax_over_the_keys_of_the_same_sequence() {
    let (heads, d) = (3, 15); // heads of width 5, less than a vector
    let (queries, keys) = ([1i64, 9, 4, 17], [3i64, 14, 2, 8]);
    let starts = |n: &[i64]| {
        Tensor::from_slice(n)
            .cumsum(0, Kind::Int)
            .constant_pad_nd([1, 0])
            .to_kind(Kind::Int)
    };
    let (query_starts, key_starts) = (starts(&queries), starts(&keys));
    let present = Tensor::from_slice(&[1f32, 1., 0., 1.]);
    let rows = RaggedRows {
        starts: &query_starts,
        longest: 17,
        present: None,
    };
    let columns = RaggedRows {
        starts: &key_starts,
        longest: 14,
        present: Some(&present),
    };
    let (kv, q) = (normal([27, 2 * d]), normal([31, d]));
    let by_formula = |t: &[Tensor]| {
        let (mut row, mut key) = (0, 0);
        let parts: Vec<Tensor> = (0..4)
            .map(|b| {
                let (q, kv) = (
                    t[1].narrow(0, row, queries[b]),
                    t[0].narrow(0, key, keys[b]),
                );
                (row, key) = (row + queries[b], key + keys[b]);
                let scale = if b == 2 { 0.0 } else { 1.0 / 5f64.sqrt() };
                reference_attention(&kv.narrow(1, 0, d), &kv.narrow(1, d, d), &q, heads, scale)
            })
            .collect();
        Tensor::cat(&parts, 0)
    };
    let cross_attention =
        |t: &[Tensor]| attention(&t[0], Some(&t[1]), rows, columns, heads, Mask::NONE).unwrap();
    assert_same(
        gradients(&[&kv, &q], cross_attention),
        gradients(&[&kv, &q], by_formula),
    );

    let vkq = normal([31, 3 * d]);
    let self_attention =
        |t: &[Tensor]| attention(&t[0], None, rows, rows, heads, Mask::NONE).unwrap();
    let separate = |t: &[Tensor]| {
        let (kv, q) = (t[0].narrow(1, 0, 2 * d), t[0].narrow(1, 2 * d, d));
        attention(&kv, Some(&q), rows, rows, heads, Mask::NONE).unwrap()
    };
    assert_same(
        gradients(&[&vkq], self_attention),
        gradients(&[&vkq], separate),
    );
}

#[test]
fn attention_drops_weights_in_both_passes() {
    let starts = Tensor::from_slice(&[0i32, 20, 50]);
    let rows = RaggedRows {
        starts: &starts,
        longest: 30,
        present: None,
    };
    let vkq = normal([50, 3 * 16]) * 0.5;
    let drop = Mask { p: 0.3, ..MASK };
    let f = |t: &Tensor| attention(t, None, rows, rows, 2, drop).unwrap();
    assert!(!f(&vkq).allclose(
        &attention(&vkq, None, rows, rows, 2, Mask::NONE).unwrap(),
        1e-3,
        1e-3,
        false
    ));
    // With v = 1, each output is the sum of its row's weights, 1 on average.
    let mut ones = vkq.copy();
    let _ = ones.narrow(1, 0, 16).fill_(1.0);
    assert!((f(&ones).mean(Kind::Float).double_value(&[]) - 1.0).abs() < 0.05);
    ones = vkq.copy();
    let (y, grads) = gradients(&[&ones], |t| f(&t[0]));
    // The derivative along a random direction, by finite differences.
    let weights = output_weights(&y);
    let direction = normal([50, 48]);
    let value = |t: &Tensor| (f(t) * &weights).sum(Kind::Double).double_value(&[]);
    let h = 1e-2;
    let difference =
        (value(&(&ones + &direction * h)) - value(&(&ones - &direction * h))) / (2.0 * h);
    let derivative = (&grads[0] * &direction).sum(Kind::Double).double_value(&[]);
    assert!(
        (difference - derivative).abs() < 0.01 * derivative.abs().max(1.0),
        "{difference} {derivative}"
    );
}

#[test]
fn cleared_gradients_are_absent_and_not_zero() {
    let x = Tensor::ones([3], CPU).set_requires_grad(true);
    (&x * 2.0).sum(Kind::Float).backward();
    clear_grads(&[x.shallow_clone()]).unwrap();
    assert!(!x.grad().defined());
    (&x * 3.0).sum(Kind::Float).backward();
    assert!(x.grad().equal(&Tensor::from_slice(&[3f32; 3])));
}

#[test]
fn pad_and_unpad_are_adjoint() {
    let slots = Tensor::from_slice(&[5i64, 0, 3]);
    let rows = normal([3, 4]).set_requires_grad(true);
    let grid = pad_rows(&rows, &slots, 7).unwrap();
    assert!(unpad_rows(&grid, &slots).unwrap().equal(&rows));
    assert_eq!(
        grid.count_nonzero(None::<i64>),
        rows.count_nonzero(None::<i64>)
    );
    let weight = normal([7, 4]);
    (&grid * &weight).sum(Kind::Float).backward();
    assert!(rows.grad().equal(&weight.index_select(0, &slots)));
    let source = normal([7, 4]).set_requires_grad(true);
    let weight = normal([3, 4]);
    (unpad_rows(&source, &slots).unwrap() * &weight)
        .sum(Kind::Float)
        .backward();
    assert!(source.grad().equal(&pad_rows(&weight, &slots, 7).unwrap()));
}

#[test]
fn an_exception_becomes_an_error() {
    let rows = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
    let error = pad_rows(&rows, &Tensor::from_slice(&[0i64, 9]), 3)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("libtorch") && error.contains("out of"),
        "{error}"
    );
}

#[test]
fn one_step_of_adam_is_the_formula() {
    let (p, g) = (normal([5, 3]), normal([5, 3]));
    let expected = &p - 0.01 * &g / (g.abs() + 1e-9);
    let (m, v) = (Tensor::zeros([5, 3], CPU), Tensor::zeros([5, 3], CPU));
    let with = AdamStep {
        lr: 0.01,
        betas: (0.9, 0.98),
        eps: 1e-9,
    };
    let params = [p];
    fused_adam(&params, &[g], (&[m], &[v]), &Tensor::from(1f32), with).unwrap();
    assert!(params[0].allclose(&expected, 1e-5, 1e-6, false));
}
