//! Tensors of libtorch from the bytes of a file, and back.

use crate::formats::dtype::Dtype;
use crate::formats::pickle::TensorView;
use crate::formats::pt::Archive;
use anyhow::{Context, Result};
use tch::{Kind, Tensor};

/// tch's name for a dtype.
pub(super) fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::U8 => Kind::Uint8,
        Dtype::Bool => Kind::Bool,
    }
}

/// The dtype that tch calls `kind`.
///
/// # Errors
/// Checkpoints have no tensors of this dtype.
pub(super) fn dtype(kind_of_tch: Kind) -> Result<Dtype> {
    let mut all = Dtype::ALL.into_iter();
    let found = all.find(|&dtype| kind(dtype) == kind_of_tch);
    found.with_context(|| {
        format!(
            "tensors of type {kind_of_tch:?} are not kept in checkpoints; convert it to float32 first"
        )
    })
}

/// A tensor of the file: on the CPU, contiguous, in the stored dtype.
///
/// # Errors
/// As [`Archive::elements`].
pub(super) fn read(archive: &Archive, view: &TensorView) -> Result<Tensor> {
    let (bytes, kind) = (archive.elements(view)?, kind(view.dtype));
    if view.is_contiguous() {
        return Ok(Tensor::f_from_data_size(bytes, &view.shape, kind)?);
    }
    let flat = Tensor::f_from_data_size(bytes, &[view.span()?], kind)?;
    let strided = flat.f_as_strided(&view.shape, &view.stride, 0)?;
    Ok(strided.f_contiguous()?)
}

/// Replaces the content of `bytes` by the elements of a tensor, which comes to the CPU for this.
///
/// # Errors
/// Checkpoints have no tensors of this dtype, or libtorch fails.
pub(super) fn copy_to(tensor: &Tensor, bytes: &mut Vec<u8>) -> Result<()> {
    let numel = tensor.numel();
    bytes.resize(numel * dtype(tensor.f_kind()?)?.bytes(), 0);
    Ok(tensor.f_copy_data_u8(bytes, numel)?)
}
