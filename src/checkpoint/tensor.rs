//! Tensors of a checkpoint: which dtypes there are, and what part of a storage a tensor shows.

use anyhow::{Result, bail, ensure};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// The dtypes that are read and written: PyTorch's name for the storage, for the dtype, tch's, and bytes per element.
const DTYPES: [(&str, &str, Kind, usize); 10] = [
    ("FloatStorage", "float32", Kind::Float, 4),
    ("DoubleStorage", "float64", Kind::Double, 8),
    ("HalfStorage", "float16", Kind::Half, 2),
    ("BFloat16Storage", "bfloat16", Kind::BFloat16, 2),
    ("LongStorage", "int64", Kind::Int64, 8),
    ("IntStorage", "int32", Kind::Int, 4),
    ("ShortStorage", "int16", Kind::Int16, 2),
    ("CharStorage", "int8", Kind::Int8, 1),
    ("ByteStorage", "uint8", Kind::Uint8, 1),
    ("BoolStorage", "bool", Kind::Bool, 1),
];

/// The dtype whose storage class or dtype has this name in PyTorch.
pub fn kind_named(name: &str) -> Option<Kind> {
    DTYPES
        .iter()
        .find(|(storage, dtype, ..)| [*storage, *dtype].contains(&name))
        .map(|row| row.2)
}

fn row(kind: Kind) -> Result<&'static (&'static str, &'static str, Kind, usize)> {
    match DTYPES.iter().find(|row| row.2 == kind) {
        Some(row) => Ok(row),
        None => bail!(
            "tensors of type {kind:?} are not kept in checkpoints; convert it to float32 first"
        ),
    }
}

/// PyTorch's name for the storage class of a dtype, such as `FloatStorage`.
///
/// # Errors
/// A dtype that checkpoints do not hold.
pub fn storage_name(kind: Kind) -> Result<&'static str> {
    Ok(row(kind)?.0)
}

/// PyTorch's name for a dtype, such as `float32`.
///
/// # Errors
/// A dtype that checkpoints do not hold.
pub fn dtype_name(kind: Kind) -> Result<&'static str> {
    Ok(row(kind)?.1)
}

/// Bytes per element.
///
/// # Errors
/// A dtype that checkpoints do not hold.
pub fn element_bytes(kind: Kind) -> Result<usize> {
    Ok(row(kind)?.3)
}

/// A tensor as a pickle describes it: a strided view of a storage that lies elsewhere. Numbers are of elements.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorView {
    /// Type of the elements.
    pub kind: Kind,
    /// Size of each dimension.
    pub shape: Vec<i64>,
    /// Distance of neighbours in each dimension.
    pub stride: Vec<i64>,
    /// First element, from the start of the storage.
    pub offset: i64,
    /// Key of the storage in its archive.
    pub storage: Arc<str>,
    /// Elements of the storage, as far as this tensor may reach.
    pub storage_numel: i64,
}

impl TensorView {
    /// A whole storage, row by row.
    pub fn contiguous(kind: Kind, shape: Vec<i64>, storage: Arc<str>) -> TensorView {
        let storage_numel = shape.iter().product();
        TensorView {
            kind,
            stride: contiguous_stride(&shape),
            shape,
            offset: 0,
            storage,
            storage_numel,
        }
    }

    /// Number of elements.
    ///
    /// # Errors
    /// A negative or overflowing size.
    pub fn numel(&self) -> Result<i64> {
        let product =
            self.shape.iter().try_fold(
                1i64,
                |n, &size| if size < 0 { None } else { n.checked_mul(size) },
            );
        match product {
            Some(numel) => Ok(numel),
            None => bail!(
                "a tensor of shape {:?} is impossible; the file is damaged",
                self.shape
            ),
        }
    }

    /// Checks sizes and strides, and that the view stays inside its storage; gives the number of elements from the
    /// first to the last one shown.
    ///
    /// # Errors
    /// A view that no PyTorch would have saved.
    pub fn span(&self) -> Result<i64> {
        ensure!(
            self.shape.len() == self.stride.len()
                && self.offset >= 0
                && self.stride.iter().all(|&s| s >= 0),
            "a tensor of shape {:?}, strides {:?} and offset {} is impossible; the file is damaged",
            self.shape,
            self.stride,
            self.offset
        );
        if self.numel()? == 0 {
            return Ok(0);
        }
        let last = self
            .shape
            .iter()
            .zip(&self.stride)
            .try_fold(0i64, |sum, (&size, &stride)| {
                sum.checked_add((size - 1).checked_mul(stride)?)
            });
        match last.and_then(|last| {
            Some((
                last.checked_add(1)?,
                last.checked_add(1)?.checked_add(self.offset)?,
            ))
        }) {
            Some((span, end)) if end <= self.storage_numel => Ok(span),
            _ => bail!(
                "a tensor of shape {:?}, strides {:?} and offset {} reaches beyond the {} elements of storage {:?}; \
                 the file is damaged",
                self.shape,
                self.stride,
                self.offset,
                self.storage_numel,
                self.storage
            ),
        }
    }

    /// The tensor, on the CPU and contiguous, from the bytes of its storage.
    ///
    /// # Errors
    /// A view that does not fit the bytes.
    pub fn materialise(&self, storage_bytes: &[u8]) -> Result<Tensor> {
        let (span, width) = (usize::try_from(self.span()?)?, element_bytes(self.kind)?);
        let start = usize::try_from(self.offset)?.checked_mul(width);
        let bytes = start.and_then(|start| {
            storage_bytes.get(start..start.checked_add(span.checked_mul(width)?)?)
        });
        let Some(bytes) = bytes.or(if span == 0 { Some(&[]) } else { None }) else {
            bail!(
                "storage {:?} has {} bytes, too few for a tensor of shape {:?} in it; the file is cut off or damaged",
                self.storage,
                storage_bytes.len(),
                self.shape
            );
        };
        ensure!(
            self.kind != Kind::Bool || bytes.iter().all(|&byte| byte <= 1),
            "storage {:?} of booleans holds other values than 0 and 1; the file is damaged",
            self.storage
        );
        if span == 0 || self.stride == contiguous_stride(&self.shape) {
            return Ok(Tensor::f_from_data_size(bytes, &self.shape, self.kind)?);
        }
        let flat = Tensor::f_from_data_size(bytes, &[self.span()?], self.kind)?;
        Ok(flat
            .f_as_strided(&self.shape, &self.stride, 0)?
            .f_contiguous()?)
    }
}

/// The strides of rows that follow each other without gaps.
fn contiguous_stride(shape: &[i64]) -> Vec<i64> {
    let mut stride = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        stride[i - 1] = shape[i].max(1).saturating_mul(stride[i]);
    }
    stride
}
