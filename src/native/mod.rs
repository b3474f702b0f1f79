//! The Rust face of `native.cpp`: what libtorch has but tch does not bind, and the operations of our own.
//!
//! All foreign calls of the crate are here. Every function hands tensors over by pointer for the length of the call, and
//! turns a C++ exception into an error.
#![allow(unsafe_code, reason = "foreign calls")]

use anyhow::{Result, bail};
use std::ffi::{CStr, c_char};
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn mcan_free(message: *mut c_char);
    fn mcan_use_deterministic_cudnn() -> *mut c_char;
    fn mcan_dropout(out: *mut *mut C_tensor, x: *const C_tensor, p: f64, seed: u64, stream: u64) -> *mut c_char;
    fn mcan_relu_dropout(out: *mut *mut C_tensor, x: *const C_tensor, p: f64, seed: u64, stream: u64) -> *mut c_char;
    fn mcan_place_rows(
        out: *mut *mut C_tensor,
        rows: *const C_tensor,
        slots: *const C_tensor,
        total: i64,
    ) -> *mut c_char;
    fn mcan_take_rows(out: *mut *mut C_tensor, grid: *const C_tensor, slots: *const C_tensor) -> *mut c_char;
    fn mcan_fused_adam(
        params: *const *const C_tensor,
        grads: *const *const C_tensor,
        exp_avgs: *const *const C_tensor,
        exp_avg_sqs: *const *const C_tensor,
        count: i64,
        step: *const C_tensor,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
    ) -> *mut c_char;
}

/// Has cuDNN use only kernels that give the same bits every time.
///
/// # Errors
/// When libtorch refuses.
pub fn use_deterministic_cudnn() -> Result<()> {
    // SAFETY: sets a flag of libtorch's own.
    check(unsafe { mcan_use_deterministic_cudnn() })
}

/// Which of the random masks of a run is meant: the same three numbers always give the same mask.
#[derive(Clone, Copy, Debug)]
pub struct MaskKey {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the mask within the run.
    pub stream: u64,
}

/// Dropout on the CPU: zeroes each value with probability `p`, scales the rest by `1 / (1 - p)`.
///
/// The mask comes from a counter-based generator, in bulk, whatever the number of threads, and is not stored.
///
/// # Errors
/// When libtorch is out of memory.
pub fn dropout(x: &Tensor, p: f64, key: MaskKey) -> Result<Tensor> {
    // SAFETY: `x` outlives the call; `out` is written before null is returned.
    returned(|out| unsafe { mcan_dropout(out, x.as_ptr(), p, key.seed, key.stream) })
}

/// ReLU followed by [`dropout`], in one pass.
///
/// # Errors
/// When libtorch is out of memory.
pub fn relu_dropout(x: &Tensor, p: f64, key: MaskKey) -> Result<Tensor> {
    // SAFETY: as for `dropout`.
    returned(|out| unsafe { mcan_relu_dropout(out, x.as_ptr(), p, key.seed, key.stream) })
}

/// A zero tensor (total, ...) with `rows` (R, ...) written at `slots` (R), which are all different. Differentiable.
///
/// # Errors
/// When a slot is out of range or memory is.
pub fn place_rows(rows: &Tensor, slots: &Tensor, total: i64) -> Result<Tensor> {
    // SAFETY: as for `dropout`.
    returned(|out| unsafe { mcan_place_rows(out, rows.as_ptr(), slots.as_ptr(), total) })
}

/// The rows (R, ...) of `grid` (total, ...) at `slots` (R), which are all different. Differentiable.
///
/// # Errors
/// When a slot is out of range or memory is.
pub fn take_rows(grid: &Tensor, slots: &Tensor) -> Result<Tensor> {
    // SAFETY: as for `dropout`.
    returned(|out| unsafe { mcan_take_rows(out, grid.as_ptr(), slots.as_ptr()) })
}

/// Hyper-parameters of one step of Adam.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
}

/// One fused step of Adam over all `params`, in place; `step` is the number of this step (0-d float32, from 1).
///
/// # Errors
/// When the four lists do not match in length, shape, type or device.
pub fn fused_adam(
    params: &[Tensor],
    grads: &[Tensor],
    moments: (&[Tensor], &[Tensor]),
    step: &Tensor,
    with: AdamStep,
) -> Result<()> {
    let (exp_avgs, exp_avg_sqs) = moments;
    if grads.len() != params.len() || exp_avgs.len() != params.len() || exp_avg_sqs.len() != params.len() {
        bail!("Adam: {} parameters, {} gradients, {} moments", params.len(), grads.len(), exp_avgs.len());
    }
    let [params, grads, exp_avgs, exp_avg_sqs] = [params, grads, exp_avgs, exp_avg_sqs].map(pointers);
    // SAFETY: four arrays of `count` tensors, all borrowed for the length of the call.
    check(unsafe {
        mcan_fused_adam(
            params.as_ptr(),
            grads.as_ptr(),
            exp_avgs.as_ptr(),
            exp_avg_sqs.as_ptr(),
            params.len() as i64,
            step.as_ptr(),
            with.lr,
            with.betas.0,
            with.betas.1,
            with.eps,
        )
    })
}

fn pointers(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(|t| t.as_ptr()).collect()
}

fn returned(call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Result<Tensor> {
    let mut out: *mut C_tensor = std::ptr::null_mut();
    check(call(&mut out))?;
    // SAFETY: the call succeeded, so `out` is a new tensor that nothing else owns.
    Ok(unsafe { Tensor::from_ptr(out) })
}

fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null message is a NUL-terminated string of our own, freed once.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        mcan_free(message);
        text
    };
    bail!("libtorch: {}", text.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const KEY: MaskKey = MaskKey { seed: 7, stream: 3 };

    #[test]
    fn dropout_keeps_the_expected_share_and_scales_it() {
        let y = dropout(&Tensor::ones([1000, 1000], (Kind::Float, Device::Cpu)), 0.1, KEY).unwrap();
        let kept = f64::try_from(y.ne(0.0).to_kind(Kind::Double).mean(Kind::Double)).unwrap();
        // One million draws: the standard deviation of the share is 0.0003.
        assert!((kept - 0.9).abs() < 0.0015, "{kept}");
        assert!((y.max().double_value(&[]) - 1.0 / 0.9).abs() < 1e-6);
        let rows = y.mean_dim(1, false, Kind::Float);
        assert!(rows.std(true).double_value(&[]) < 0.02, "rows are independent");
    }

    #[test]
    fn a_mask_is_the_same_for_any_number_of_threads_and_differs_between_streams() {
        let x = Tensor::ones([300, 1001], (Kind::Float, Device::Cpu));
        let threads = tch::get_num_threads();
        let two = dropout(&x, 0.5, KEY).unwrap();
        tch::set_num_threads(1);
        let one = dropout(&x, 0.5, KEY).unwrap();
        tch::set_num_threads(threads);
        assert!(one.equal(&two));
        let other = dropout(&x, 0.5, MaskKey { stream: 4, ..KEY }).unwrap();
        let agree = f64::try_from(one.eq_tensor(&other).to_kind(Kind::Double).mean(Kind::Double)).unwrap();
        assert!((agree - 0.5).abs() < 0.01, "{agree}");
    }

    #[test]
    fn the_backward_pass_uses_the_mask_of_the_forward_pass() {
        let x = (Tensor::rand([64, 100], (Kind::Float, Device::Cpu)) - 0.3).set_requires_grad(true);
        for relu in [false, true] {
            let mut x = x.detach().set_requires_grad(true);
            let y = if relu { relu_dropout(&x, 0.4, KEY) } else { dropout(&x, 0.4, KEY) }.unwrap();
            (&y * 2.0).sum(Kind::Float).backward();
            let expected = &y.detach() / &x.detach() * 2.0;
            assert!(x.grad().allclose(&expected, 1e-5, 1e-6, false));
            x.zero_grad();
        }
    }

    #[test]
    fn rows_placed_and_taken_are_adjoint() {
        let options = (Kind::Float, Device::Cpu);
        let slots = Tensor::from_slice(&[5i64, 0, 3]);
        let rows = Tensor::rand([3, 4], options).set_requires_grad(true);
        let grid = place_rows(&rows, &slots, 7).unwrap();
        assert!(take_rows(&grid, &slots).unwrap().equal(&rows));
        assert_eq!(grid.count_nonzero(None::<i64>), rows.count_nonzero(None::<i64>));
        let weight = Tensor::rand([7, 4], options);
        (&grid * &weight).sum(Kind::Float).backward();
        assert!(rows.grad().equal(&weight.index_select(0, &slots)));
        let source = Tensor::rand([7, 4], options).set_requires_grad(true);
        let weight = Tensor::rand([3, 4], options);
        (take_rows(&source, &slots).unwrap() * &weight).sum(Kind::Float).backward();
        assert!(source.grad().equal(&place_rows(&weight, &slots, 7).unwrap()));
    }

    #[test]
    fn an_exception_becomes_an_error() {
        let rows = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
        let error = place_rows(&rows, &Tensor::from_slice(&[0i64, 9]), 3).unwrap_err().to_string();
        assert!(error.contains("libtorch") && error.contains("out of"), "{error}");
    }

    #[test]
    fn one_step_of_adam_is_the_formula() {
        let options = (Kind::Float, Device::Cpu);
        let (p, g) = (Tensor::rand([5, 3], options), Tensor::rand([5, 3], options) - 0.5);
        let expected = &p - 0.01 * &g / (g.abs() + 1e-9);
        let (m, v) = (Tensor::zeros([5, 3], options), Tensor::zeros([5, 3], options));
        let with = AdamStep { lr: 0.01, betas: (0.9, 0.98), eps: 1e-9 };
        let params = [p];
        fused_adam(&params, &[g], (&[m], &[v]), &Tensor::from(1f32), with).unwrap();
        assert!(params[0].allclose(&expected, 1e-5, 1e-6, false));
    }
}
