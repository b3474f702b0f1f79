//! For tests: random inputs, stand-ins for the kernels of a GPU, and counts of operations.

use super::ffi;
use super::random::Generator;
use super::{check, owned_text};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Once;
use tch::{Cuda, Device, Kind, Tensor};

/// Numbers of the standard normal distribution, the same in every run of a test, because each test has its own thread.
pub(crate) fn normal<const N: usize>(shape: [i64; N]) -> Tensor {
    thread_local!(static GENERATOR: RefCell<Generator> = RefCell::new(Generator::new(5).unwrap()));
    GENERATOR.with_borrow_mut(|generator| generator.normal(&shape).unwrap())
}

/// Weights of the output `y` in a loss, so that different ways to compute `y` get the same gradient.
pub(crate) fn output_weights(y: &Tensor) -> Tensor {
    Tensor::arange(y.numel() as i64, (Kind::Float, y.device()))
        .sin()
        .view_as(y)
}

/// Registers the formula of attention as libtorch's missing variable-length kernels of the CPU.
pub(crate) fn register_reference_kernels() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: adds kernels to libtorch's table, once.
        check(unsafe { ffi::mcan_register_reference_kernels() }).expect("kernels are registered")
    });
}

/// The GPU that tests may use, or `None` after printing that a part is skipped.
pub(crate) fn gpu_to_test() -> Option<Device> {
    if !Cuda::is_available() {
        crate::note!("skipped: there is no GPU to compare with the CPU");
        return None;
    }
    // In full precision, as the CPU computes.
    super::device::prepare_cuda(false).expect("a GPU can be set up");
    Some(Device::Cuda(0))
}

/// Whether products of float32 matrices, and the LSTM, may use TF32 on a GPU.
pub(crate) fn uses_tf32() -> (bool, bool) {
    // SAFETY: reads flags of libtorch.
    let both = unsafe { ffi::mcan_tf32() };
    (both & 1 != 0, both & 2 != 0)
}

/// How often `work` calls each operation of libtorch, on the calling thread.
pub(crate) fn operations(work: impl FnOnce()) -> BTreeMap<String, u64> {
    // SAFETY: no arguments.
    check(unsafe { ffi::mcan_begin_counting() }).expect("operations are counted");
    work();
    // SAFETY: the text is new and owned by the caller.
    let text = unsafe { owned_text(ffi::mcan_end_counting()) };
    let pair = |line: &str| {
        line.rsplit_once(' ')
            .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
    };
    text.lines().filter_map(pair).collect()
}
