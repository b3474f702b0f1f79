//! A tensor as a pickle describes it: a strided view of a storage that lies elsewhere.

use crate::formats::dtype::Dtype;
use anyhow::{Result, bail, ensure};
use std::ops::Range;
use std::sync::Arc;

/// A strided view of a storage. All numbers count elements.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorView {
    /// Type of the elements.
    pub dtype: Dtype,
    /// Size of each dimension.
    pub shape: Vec<i64>,
    /// Distance of neighbours in each dimension.
    pub stride: Vec<i64>,
    /// First element, from the start of the storage.
    pub offset: i64,
    /// Key of the storage in its file.
    pub storage: Arc<str>,
    /// Elements of the storage that this tensor may use, from the start of the storage.
    pub storage_numel: i64,
}

impl TensorView {
    /// The view of a whole storage, row by row.
    pub fn contiguous(dtype: Dtype, shape: Vec<i64>, storage: Arc<str>) -> TensorView {
        let storage_numel = shape.iter().product();
        TensorView {
            dtype,
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
    /// A size is negative, or the number is beyond 64 bits.
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

    /// Whether the elements follow each other row by row, without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.shape.contains(&0) || self.stride == contiguous_stride(&self.shape)
    }

    /// Checks sizes and strides, and that the view stays inside its storage. Returns the number of elements from the
    /// first to the last one that the view shows.
    ///
    /// # Errors
    /// No PyTorch would have saved such a view.
    pub fn span(&self) -> Result<i64> {
        ensure!(
            self.shape.len() == self.stride.len()
                && self.offset >= 0
                && self.stride.iter().all(|&s| s >= 0),
            "{} is impossible; the file is damaged",
            self.described()
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
        let span = last.and_then(|last| last.checked_add(1));
        let is_inside = |span: &i64| {
            let end = span.checked_add(self.offset);
            end.is_some_and(|end| end <= self.storage_numel)
        };
        match span.filter(is_inside) {
            Some(span) => Ok(span),
            None => bail!(
                "{} reaches beyond the {} elements of storage {:?}; the file is damaged",
                self.described(),
                self.storage_numel,
                self.storage
            ),
        }
    }

    /// The bytes of the storage from the first to the last element that the view shows.
    ///
    /// # Errors
    /// As [`span`](Self::span), or a position is beyond the memory of this machine.
    pub(crate) fn byte_range(&self) -> Result<Range<usize>> {
        let (span, offset) = (
            usize::try_from(self.span()?)?,
            usize::try_from(self.offset)?,
        );
        if span == 0 {
            return Ok(0..0);
        }
        let bytes = |elements: usize| elements.checked_mul(self.dtype.bytes());
        match (bytes(offset), offset.checked_add(span).and_then(bytes)) {
            (Some(start), Some(end)) => Ok(start..end),
            _ => bail!("{} is impossible; the file is damaged", self.described()),
        }
    }

    fn described(&self) -> String {
        format!(
            "a tensor of shape {:?}, strides {:?} and offset {}",
            self.shape, self.stride, self.offset
        )
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
