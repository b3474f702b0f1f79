//! The values of feature rows, in their precision.

use anyhow::{Result, bail, ensure};
use half::f16;

/// Feature rows, one after the other, in the precision of their files; or row numbers of a table on the device.
///
/// A row has `IMG_FEAT_SIZE` values.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// From `.npz` files or an f32 bank.
    F32(Vec<f32>),
    /// From an f16 bank; the device converts them to float32.
    F16(Vec<f16>),
    /// Row numbers of a table that the device holds (`--PRELOAD=gpu`).
    Rows(Vec<i64>),
}

/// The number of the row of a table that is all zeros.
pub(super) const ZERO_ROW: i64 = 0;

impl Values {
    /// Number of values, or of row numbers.
    #[expect(clippy::len_without_is_empty, reason = "nothing uses it")]
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F16(values) => values.len(),
            Values::Rows(numbers) => numbers.len(),
        }
    }

    /// Appends `rows` rows of `columns` zeros.
    pub(super) fn push_zeros(&mut self, rows: usize, columns: usize) {
        match self {
            Values::F32(values) => values.resize(values.len() + rows * columns, 0.0),
            Values::F16(values) => values.resize(values.len() + rows * columns, f16::ZERO),
            Values::Rows(numbers) => numbers.resize(numbers.len() + rows, ZERO_ROW),
        }
    }

    /// For each row from value `start` on, whether it has a value other than 0.
    pub(super) fn rows_with_values(&self, start: usize, columns: usize) -> Vec<bool> {
        fn rows<T: Copy + PartialEq>(values: &[T], columns: usize, zero: T) -> Vec<bool> {
            let rows = values.chunks_exact(columns);
            rows.map(|row| row.iter().any(|&v| v != zero)).collect()
        }
        match self {
            Values::F32(values) => rows(&values[start..], columns, 0.0),
            Values::F16(values) => rows(&values[start..], columns, f16::ZERO),
            Values::Rows(numbers) => vec![true; numbers.len() - start],
        }
    }

    /// Removes the rows that are all zeros, from value `start` on.
    pub(super) fn drop_zero_rows(&mut self, start: usize, columns: usize) {
        match self {
            Values::F32(values) => drop_zero_rows(values, start, columns, 0.0),
            Values::F16(values) => drop_zero_rows(values, start, columns, f16::ZERO),
            Values::Rows(_) => {}
        }
    }

    /// Whether all values are finite.
    pub(super) fn is_finite(&self) -> bool {
        match self {
            Values::F32(values) => values.iter().all(|value| value.is_finite()),
            Values::F16(values) => values.iter().all(|value| value.is_finite()),
            // The values were checked when they went into the table.
            Values::Rows(_) => true,
        }
    }

    /// The values rounded to f16, without rows that become zeros, as from an f16 bank.
    ///
    /// # Errors
    /// A value that f16 cannot hold.
    pub(super) fn rounded(self, columns: usize) -> Result<Values> {
        let mut values = match self {
            Values::F32(values) => values.into_iter().map(f16::from_f32).collect(),
            Values::F16(values) => values,
            Values::Rows(_) => bail!("row numbers cannot be rounded"),
        };
        ensure!(
            values.iter().all(|value: &f16| value.is_finite()),
            "its features are not finite, or too large for half precision; extract them again"
        );
        drop_zero_rows(&mut values, 0, columns, f16::ZERO);
        Ok(Values::F16(values))
    }

    /// Appends `other`, which has the same precision.
    pub(super) fn extend(&mut self, other: &Values) -> Result<()> {
        match (self, other) {
            (Values::F32(values), Values::F32(others)) => values.extend_from_slice(others),
            (Values::F16(values), Values::F16(others)) => values.extend_from_slice(others),
            _ => bail!("a batch cannot hold features of two precisions"),
        }
        Ok(())
    }

    pub(super) fn shrink_to_fit(&mut self) {
        match self {
            Values::F32(values) => values.shrink_to_fit(),
            Values::F16(values) => values.shrink_to_fit(),
            Values::Rows(numbers) => numbers.shrink_to_fit(),
        }
    }
}

/// Removes the rows of `values[start..]` in which every value is 0.0 or -0.0, and keeps the order of the others.
fn drop_zero_rows<T: Copy + PartialEq>(values: &mut Vec<T>, start: usize, columns: usize, zero: T) {
    let mut end = start;
    for row in (start..values.len()).step_by(columns) {
        if values[row..row + columns].iter().any(|&v| v != zero) {
            if end < row {
                values.copy_within(row..row + columns, end);
            }
            end += columns;
        }
    }
    values.truncate(end);
}
