//! The Rust side of the C++ in this folder: operations of libtorch that tch does not bind, and kernels of this crate.
//!
//! All foreign calls of the crate are here. Every function passes tensors by pointer for the length of the call and
//! turns a C++ exception into an error.
#![allow(unsafe_code, reason = "foreign calls")]

use anyhow::{Result, bail};
use ffi::RawTensor;
use std::ffi::{CStr, c_char};
use tch::Tensor;

/// Declares an owning handle to a C++ object, freed on drop.
macro_rules! owner {
    ($(#[$doc:meta])* $vis:vis $name:ident of $raw:ident, freed by $free:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        $vis struct $name(*mut $crate::native::ffi::$raw);

        // SAFETY: libtorch allows each of these objects to be used by one thread after another.
        unsafe impl Send for $name {}

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: C++ made the object, and it is freed once.
                unsafe { $crate::native::ffi::$free(self.0) }
            }
        }
    };
}

pub(crate) mod device;
mod ffi;
pub(crate) mod group;
pub mod random;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod varlen;
pub(crate) mod weights;

/// A dropout mask on the CPU. The mask is a function of these three numbers, for any number of threads. It is never
/// stored: the forward pass and the backward pass both draw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    /// Probability of zeroing a value, in [0, 1), rounded to 16 bits; kept values are scaled by `1 / (1 - p)`. 0: no
    /// dropout.
    pub(crate) p: f64,
    /// Seed of the run.
    pub(crate) seed: u64,
    /// Number of the mask within the run.
    pub(crate) stream: u64,
}

impl Mask {
    /// No dropout.
    pub(crate) const NONE: Mask = Mask {
        p: 0.0,
        seed: 0,
        stream: 0,
    };
}

/// How the CPU multiplies matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// In float32.
    Float,
    /// With factors rounded to bfloat16 and sums in float32. A processor without bfloat16 instructions multiplies the
    /// rounded factors in float32, which saves no time: see [`cpu_rounds_to_bf16`].
    BFloat16,
}

/// Whether this CPU rounds factors to bfloat16 when the configuration asks for it: if it has bfloat16 instructions, or
/// if `MCAN_ROUND_TO_BF16` is set, which serves to measure the accuracy on any processor.
pub fn cpu_rounds_to_bf16() -> bool {
    // SAFETY: reads the processor's features and the environment.
    unsafe { ffi::mcan_cpu_rounds_to_bf16() }
}

/// Returns freed memory to the system. glibc would keep the memory that threads have freed for these threads only.
pub(crate) fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers; memory in use does not move.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// `x Wᵀ + b` on the CPU, float32. Differentiable.
///
/// # Shapes
/// x (R, in), weight (out, in), bias (out) -> (R, out)
///
/// # Errors
/// When shapes do not fit or memory runs out.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, factors: Factors) -> Result<Tensor> {
    linear_layer([x, weight, bias], None, factors)
}

/// `dropout(relu(x Wᵀ + b))` on the CPU in one pass, float32. Differentiable.
///
/// # Shapes
/// x (R, in), weight (out, in), bias (out) -> (R, out)
///
/// # Errors
/// When shapes do not fit or memory runs out.
pub(crate) fn linear_relu_dropout(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    mask: Mask,
    factors: Factors,
) -> Result<Tensor> {
    linear_layer([x, weight, bias], Some(mask), factors)
}

fn linear_layer(
    [x, weight, bias]: [&Tensor; 3],
    activate: Option<Mask>,
    factors: Factors,
) -> Result<Tensor> {
    let (Mask { p, seed, stream }, bfloat16) =
        (activate.unwrap_or(Mask::NONE), factors == Factors::BFloat16);
    // SAFETY: the tensors outlive the call; `out` is written before null is returned.
    returned(|out| unsafe {
        let (x, weight, bias) = (x.as_ptr(), weight.as_ptr(), bias.as_ptr());
        ffi::mcan_linear(
            out,
            x,
            weight,
            bias,
            activate.is_some(),
            p,
            seed,
            stream,
            bfloat16,
        )
    })
}

/// Dropout on the CPU: values are zeroed where the mask says so, and the others scaled. Float32. Differentiable.
///
/// # Shapes
/// x of any shape -> the same
///
/// # Errors
/// When libtorch is out of memory.
pub(crate) fn dropout(x: &Tensor, Mask { p, seed, stream }: Mask) -> Result<Tensor> {
    // SAFETY: as for `linear`.
    returned(|out| unsafe { ffi::mcan_dropout(out, x.as_ptr(), p, seed, stream) })
}

/// `norm(x + dropout(s))`, or `norm(x)` without `s`, on the CPU in one pass, with the reference's norm
/// `a (z - mean) / (std + 1e-6) + b` and the unbiased standard deviation of each row. Float32. Differentiable.
///
/// # Shapes
/// x, s (R, D), a, b (D) -> (R, D)
///
/// # Errors
/// When libtorch is out of memory.
pub(crate) fn residual_norm(
    x: &Tensor,
    s: Option<&Tensor>,
    a: &Tensor,
    b: &Tensor,
    mask: Mask,
) -> Result<Tensor> {
    let Mask { p, seed, stream } = mask;
    // SAFETY: as for `linear`; `s` may be null.
    returned(|out| unsafe {
        ffi::mcan_residual_norm(
            out,
            x.as_ptr(),
            pointer(s),
            a.as_ptr(),
            b.as_ptr(),
            p,
            seed,
            stream,
        )
    })
}

/// The layout of B ragged sequences in packed rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RaggedRows<'a> {
    /// (B + 1) first row of each sequence, then the number of rows; int32.
    pub(crate) starts: &'a Tensor,
    /// Length of the longest sequence.
    pub(crate) longest: i64,
    /// (B) 0 for a sequence that is only padding, else 1, float32; absent if no sequence is only padding.
    pub(crate) present: Option<&'a Tensor>,
}

/// Multi-head attention on the CPU, without padding: sequence b of `queries` attends to sequence b of `keys`, with
/// uniform weights if that sequence is only padding. Differentiable.
///
/// # Shapes
/// kv (S, 2 D) v and k side by side, q (R, D) -> (R, D); without `q`, kv is (S, 3 D) and holds q too.
///
/// # Errors
/// When libtorch is out of memory.
pub(crate) fn attention(
    kv: &Tensor,
    q: Option<&Tensor>,
    queries: RaggedRows,
    keys: RaggedRows,
    heads: i64,
    mask: Mask,
) -> Result<Tensor> {
    let (query_starts, key_starts, present) = (
        queries.starts.as_ptr(),
        keys.starts.as_ptr(),
        pointer(keys.present),
    );
    let Mask { p, seed, stream } = mask;
    // SAFETY: as for `linear`; `q` and `present` may be null.
    returned(|out| unsafe {
        ffi::mcan_attention(
            out,
            kv.as_ptr(),
            pointer(q),
            query_starts,
            key_starts,
            present,
            heads,
            p,
            seed,
            stream,
        )
    })
}

/// Drops the gradients of `params`, so that the next backward pass stores its gradients instead of adding them to
/// zeros.
///
/// # Errors
/// An error of libtorch.
pub(crate) fn clear_grads(params: &[Tensor]) -> Result<()> {
    let params = pointers(params);
    // SAFETY: an array of `len` tensors, borrowed for the length of the call.
    check(unsafe { ffi::mcan_clear_grads(params.as_ptr(), params.len() as i64) })
}

/// A zero tensor (total, ...) with `rows` (R, ...) written at `slots` (R), which are all different. Differentiable.
///
/// # Errors
/// When a slot is out of range or memory runs out.
pub(crate) fn pad_rows(rows: &Tensor, slots: &Tensor, total: i64) -> Result<Tensor> {
    // SAFETY: as for `linear`.
    returned(|out| unsafe { ffi::mcan_pad_rows(out, rows.as_ptr(), slots.as_ptr(), total) })
}

/// The rows (R, ...) of `grid` (total, ...) at `slots` (R), which are all different. Differentiable.
///
/// # Errors
/// When a slot is out of range or memory runs out.
pub(crate) fn unpad_rows(grid: &Tensor, slots: &Tensor) -> Result<Tensor> {
    // SAFETY: as for `linear`.
    returned(|out| unsafe { ffi::mcan_unpad_rows(out, grid.as_ptr(), slots.as_ptr()) })
}

/// Hyper-parameters of one step of Adam.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamStep {
    /// Learning rate.
    pub(crate) lr: f64,
    /// Decay rates of the first and second moment.
    pub(crate) betas: (f64, f64),
    /// Added to the denominator.
    pub(crate) eps: f64,
}

/// One fused step of Adam over all `params`, in place; `step` is the number of this step (0-d float32, from 1).
///
/// # Errors
/// When the four lists do not match in length, shape, type or device.
pub(crate) fn fused_adam(
    params: &[Tensor],
    grads: &[Tensor],
    moments: (&[Tensor], &[Tensor]),
    step: &Tensor,
    with: AdamStep,
) -> Result<()> {
    let (exp_avgs, exp_avg_sqs) = moments;
    if grads.len() != params.len()
        || exp_avgs.len() != params.len()
        || exp_avg_sqs.len() != params.len()
    {
        bail!(
            "Adam: {} parameters, {} gradients, {} moments",
            params.len(),
            grads.len(),
            exp_avgs.len()
        );
    }
    let [params, grads, exp_avgs, exp_avg_sqs] =
        [params, grads, exp_avgs, exp_avg_sqs].map(pointers);
    // SAFETY: four arrays of `count` tensors, all borrowed for the length of the call.
    check(unsafe {
        ffi::mcan_fused_adam(
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

fn pointer(tensor: Option<&Tensor>) -> *const RawTensor {
    tensor.map_or(std::ptr::null(), |tensor| tensor.as_ptr())
}

fn pointers(tensors: &[Tensor]) -> Vec<*const RawTensor> {
    tensors.iter().map(|t| t.as_ptr()).collect()
}

fn returned(call: impl FnOnce(*mut *mut RawTensor) -> *mut c_char) -> Result<Tensor> {
    let mut out: *mut RawTensor = std::ptr::null_mut();
    check(call(&mut out))?;
    // SAFETY: the call succeeded, so `out` is a new tensor that nothing else owns.
    Ok(unsafe { Tensor::from_ptr(out) })
}

fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null message is a NUL-terminated string that this function owns, freed once.
    let text = unsafe { owned_text(message) };
    bail!("libtorch: {}", text.lines().next().unwrap_or_default())
}

/// # Safety
/// `text` is a NUL-terminated string that C++ has allocated for the caller.
unsafe fn owned_text(text: *mut c_char) -> String {
    // SAFETY: as the caller promises; it is freed once.
    unsafe {
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        ffi::mcan_free(text);
        owned
    }
}

#[cfg(test)]
mod tests;
