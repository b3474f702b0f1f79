//! Attention through libtorch's variable-length kernels for GPUs.

use super::ffi;
use super::{RaggedRows, pointer, returned};
use anyhow::Result;
use tch::Tensor;

/// Whether libtorch has a kernel for heads of this width.
pub(crate) fn is_available(head_size: i64) -> bool {
    head_size % 8 == 0 && head_size <= 256
}

/// [`super::attention`] on a GPU: flash attention in bfloat16, memory-efficient attention in float32. Dropout zeroes
/// weights with probability `p`, with random numbers of the device. Differentiable; the gradient is deterministic.
///
/// # Shapes
/// kv (S, 2 D) v and k side by side, q (R, D) -> (R, D); without `q`, kv is (S, 3 D) and holds q too.
///
/// # Errors
/// When memory runs out, or the GPU is too old for flash attention.
pub(crate) fn attention(
    kv: &Tensor,
    q: Option<&Tensor>,
    queries: RaggedRows,
    keys: RaggedRows,
    heads: i64,
    p: f64,
) -> Result<Tensor> {
    let (query_starts, key_starts, present) = (
        queries.starts.as_ptr(),
        keys.starts.as_ptr(),
        pointer(keys.present),
    );
    let (longest_query, longest_key) = (queries.longest, keys.longest);
    // SAFETY: the tensors outlive the call; `q` and `present` may be null; `out` is written before null is returned.
    returned(|out| unsafe {
        ffi::mcan_varlen_attention(
            out,
            kv.as_ptr(),
            pointer(q),
            query_starts,
            key_starts,
            present,
            longest_query,
            longest_key,
            heads,
            p,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::testing::{gpu_to_test, normal, output_weights, register_reference_kernels};
    use crate::native::{Mask, attention as on_the_cpu};
    use tch::{Device, Kind};

    const HEADS: i64 = 2;
    const HIDDEN: i64 = 16;

    /// Three sequences: queries of 5, 2 and 7 rows, keys of 3, 4 and 1 rows. The keys of the second are only padding.
    struct Layouts {
        query_starts: Tensor,
        key_starts: Tensor,
        present: Tensor,
    }

    impl Layouts {
        fn new(device: Device) -> Layouts {
            Layouts {
                query_starts: Tensor::from_slice(&[0i32, 5, 7, 14]).to_device(device),
                key_starts: Tensor::from_slice(&[0i32, 3, 7, 8]).to_device(device),
                present: Tensor::from_slice(&[1f32, 0., 1.]).to_device(device),
            }
        }

        fn queries(&self) -> RaggedRows<'_> {
            RaggedRows {
                starts: &self.query_starts,
                longest: 7,
                present: None,
            }
        }

        fn keys(&self) -> RaggedRows<'_> {
            RaggedRows {
                starts: &self.key_starts,
                longest: 4,
                present: Some(&self.present),
            }
        }
    }

    /// The CPU with the kernels of testing.cpp, and the GPU if there is one.
    fn devices() -> impl Iterator<Item = Device> {
        register_reference_kernels();
        [Some(Device::Cpu), gpu_to_test()].into_iter().flatten()
    }

    fn random(rows: i64, columns: i64, kind: Kind) -> Tensor {
        normal([rows, columns]).to_kind(kind)
    }

    /// Output and gradients of `f` on `device`, for a fixed gradient of the output.
    fn gradients(
        device: Device,
        inputs: &[&Tensor],
        f: impl Fn(&[Tensor]) -> Tensor,
    ) -> Vec<Tensor> {
        let leaf = |t: &&Tensor| t.detach().copy().to_device(device).set_requires_grad(true);
        let leaves: Vec<Tensor> = inputs.iter().map(leaf).collect();
        let y = f(&leaves);
        (&y * output_weights(&y)).sum(Kind::Float).backward();
        let results = std::iter::once(y.detach()).chain(leaves.iter().map(Tensor::grad));
        results.map(|t| t.to_device(Device::Cpu)).collect()
    }

    fn by_the_cpu(inputs: &[&Tensor], queries: RaggedRows, keys: RaggedRows) -> Vec<Tensor> {
        gradients(Device::Cpu, inputs, |t| {
            on_the_cpu(&t[0], t.get(1), queries, keys, HEADS, Mask::NONE).unwrap()
        })
    }

    fn by_kernels(
        device: Device,
        inputs: &[&Tensor],
        queries: RaggedRows,
        keys: RaggedRows,
        p: f64,
    ) -> Vec<Tensor> {
        gradients(device, inputs, |t| {
            attention(&t[0], t.get(1), queries, keys, HEADS, p).unwrap()
        })
    }

    fn assert_close(a: &[Tensor], b: &[Tensor], tolerance: f64) {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let apart = (a - b).abs().max().double_value(&[]);
            assert!(
                a.kind() == b.kind() && apart < tolerance,
                "output and gradients, number {i}: {apart} apart"
            );
        }
    }

    #[test]
    fn cross_attention_is_that_of_the_cpu() {
        let cpu = Layouts::new(Device::Cpu);
        for device in devices() {
            let l = Layouts::new(device);
            for (kind, tolerance) in [(Kind::Float, 1e-4), (Kind::BFloat16, 0.06)] {
                let (kv, q) = (random(8, 2 * HIDDEN, kind), random(14, HIDDEN, kind));
                let theirs = by_kernels(device, &[&kv, &q], l.queries(), l.keys(), 0.0);
                let ours = by_the_cpu(&[&kv, &q], cpu.queries(), cpu.keys());
                assert_close(&theirs, &ours, tolerance);
                let of_padding = theirs[2].narrow(0, 5, 2).count_nonzero(None::<i64>);
                assert_eq!(of_padding.int64_value(&[]), 0, "padding has no gradient");
            }
        }
    }

    #[test]
    fn self_attention_takes_queries_keys_and_values_out_of_one_matrix() {
        let cpu = Layouts::new(Device::Cpu);
        for device in devices() {
            let l = Layouts::new(device);
            let vkq = random(8, 3 * HIDDEN, Kind::Float);
            for with_padding in [false, true] {
                let open = |keys| RaggedRows {
                    present: None,
                    ..keys
                };
                let rows = if with_padding {
                    l.keys()
                } else {
                    open(l.keys())
                };
                let cpu_rows = if with_padding {
                    cpu.keys()
                } else {
                    open(cpu.keys())
                };
                assert_close(
                    &by_kernels(device, &[&vkq], rows, rows, 0.0),
                    &by_the_cpu(&[&vkq], cpu_rows, cpu_rows),
                    1e-4,
                );
            }
        }
    }

    #[test]
    fn evaluation_keeps_nothing_for_a_backward_pass() {
        let cpu = Layouts::new(Device::Cpu);
        for device in devices() {
            let l = Layouts::new(device);
            let (kv, q) = (
                random(8, 2 * HIDDEN, Kind::Float),
                random(14, HIDDEN, Kind::Float),
            );
            let (there, also_there) = (kv.to_device(device), q.to_device(device));
            let theirs =
                attention(&there, Some(&also_there), l.queries(), l.keys(), HEADS, 0.0).unwrap();
            let ours =
                on_the_cpu(&kv, Some(&q), cpu.queries(), cpu.keys(), HEADS, Mask::NONE).unwrap();
            assert_close(&[theirs.to_device(Device::Cpu)], &[ours], 1e-4);
        }
    }

    /// The output y is linear in the values v. With a loss of w y, the sum of w y equals the sum of v dv exactly if
    /// both passes use the same mask of dropout.
    #[test]
    fn the_backward_pass_drops_what_the_forward_pass_dropped() {
        for device in devices() {
            let l = Layouts::new(device);
            for (kind, tolerance) in [(Kind::Float, 1e-3), (Kind::BFloat16, 0.3)] {
                let (kv, q) = (random(8, 2 * HIDDEN, kind), random(14, HIDDEN, kind));
                let with = |p| by_kernels(device, &[&kv, &q], l.queries(), l.keys(), p);
                let (dropped, whole) = (with(0.5), with(0.0));
                assert!(
                    !dropped[0].allclose(&whole[0], 0.1, 0.1, false),
                    "something is dropped"
                );
                let outputs = (&dropped[0] * output_weights(&dropped[0]))
                    .sum(Kind::Float)
                    .double_value(&[]);
                let products = kv.narrow(1, 0, HIDDEN) * dropped[1].narrow(1, 0, HIDDEN);
                let values = products.sum(Kind::Float).double_value(&[]);
                assert!(
                    (outputs - values).abs() < tolerance,
                    "{device:?}, {kind:?}: {outputs} {values}"
                );
            }
        }
    }

    #[test]
    fn a_gpu_gives_the_same_bits_every_time() {
        let Some(device) = gpu_to_test() else { return };
        let starts: Vec<i32> = (0..=64).map(|b| 37 * b).collect();
        let starts = Tensor::from_slice(&starts).to_device(device);
        let rows = RaggedRows {
            starts: &starts,
            longest: 37,
            present: None,
        };
        for kind in [Kind::Float, Kind::BFloat16] {
            let vkq = random(37 * 64, 3 * 512, kind);
            let once = || {
                crate::native::device::seed(device, 5).unwrap();
                gradients(device, &[&vkq], |t| {
                    attention(&t[0], None, rows, rows, 8, 0.1).unwrap()
                })
            };
            let (a, b) = (once(), once());
            assert!(a.iter().zip(&b).all(|(a, b)| a.equal(b)), "{kind:?}");
        }
    }

    #[test]
    fn heads_without_a_kernel_are_known() {
        assert!(is_available(64) && is_available(128) && is_available(8) && is_available(256));
        assert!(!is_available(4) && !is_available(20) && !is_available(264));
    }
}
