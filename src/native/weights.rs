//! Casts of parameters to the matmul dtype.

use super::check;
use super::ffi;
use anyhow::Result;
use tch::{Kind, Tensor};

/// Concatenates the float32 parameters of each group along their first axis, in float32 or bfloat16 (`kind`). On a GPU
/// one kernel makes all copies, and another one all copies of their gradients. Differentiable.
///
/// # Errors
/// When the parameters of a group do not fit together, or memory runs out.
pub(crate) fn join_and_cast(groups: &[Vec<&Tensor>], kind: Kind) -> Result<Vec<Tensor>> {
    let params: Vec<*const ffi::RawTensor> = groups
        .iter()
        .flatten()
        .map(|tensor| tensor.as_ptr())
        .collect();
    let counts: Vec<i64> = groups.iter().map(|group| group.len() as i64).collect();
    let mut out = vec![std::ptr::null_mut(); groups.len()];
    let (groups, bfloat16) = (groups.len() as i64, kind == Kind::BFloat16);
    // SAFETY: `params` are as many tensors as `counts` add up to, borrowed for the length of the call; `out` has a
    // place for each group.
    check(unsafe {
        ffi::mcan_join_and_cast(
            out.as_mut_ptr(),
            params.as_ptr(),
            counts.as_ptr(),
            groups,
            bfloat16,
        )
    })?;
    // SAFETY: the call succeeded, so each pointer is a new tensor that nothing else owns.
    Ok(out
        .into_iter()
        .map(|tensor| unsafe { Tensor::from_ptr(tensor) })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::testing::normal;
    use tch::Device;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn parameters_are_joined_and_cast_and_each_gets_its_gradient() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let [a, b] = [2, 4].map(|rows| normal([rows, 3]).set_requires_grad(true));
            let c = normal([5]).set_requires_grad(true);
            let joined = join_and_cast(&[vec![&a, &b], vec![&c]], kind).unwrap();
            assert!(
                joined[0].equal(&Tensor::cat(&[&a, &b], 0).to_kind(kind))
                    && joined[1].equal(&c.to_kind(kind))
            );
            let weights = normal([6, 3]).to_kind(kind);
            ((&joined[0] * &weights).sum(Kind::Float) + (&joined[1] * 2.0).sum(Kind::Float))
                .backward();
            let expected = weights.to_kind(Kind::Float);
            assert!(
                a.grad().equal(&expected.narrow(0, 0, 2))
                    && b.grad().equal(&expected.narrow(0, 2, 4))
            );
            assert!(c.grad().equal(&Tensor::full([5], 2.0, CPU)));
        }
    }
}
