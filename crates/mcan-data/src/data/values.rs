//! The values of feature rows, in whichever precision.

use anyhow::{Result, bail, ensure};
use half::f16;

/// Image features of a batch, row after row: `IMG_FEAT_SIZE` values each, in the precision that they are stored in, or where
/// those are.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// From `.npz` files or an f32 bank.
    F32(Vec<f32>),
    /// From an f16 bank; widened on the device.
    F16(Vec<half::f16>),
    /// Row numbers of a table that the device holds (`--PRELOAD=gpu`).
    Rows(Vec<i64>),
}

/// The row of a table that is all zeros.
pub(super) const ZERO_ROW: i64 = 0;

impl Values {
    /// Number of values, or of row numbers.
    #[expect(
        clippy::len_without_is_empty,
        reason = "rows are counted elsewhere; nobody asks"
    )]
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F16(values) => values.len(),
            Values::Rows(numbers) => numbers.len(),
        }
    }

    /// Appends `rows` rows of `columns` zeros.
    pub fn push_zeros(&mut self, rows: usize, columns: usize) {
        match self {
            Values::F32(values) => values.resize(values.len() + rows * columns, 0.0),
            Values::F16(values) => values.resize(values.len() + rows * columns, f16::ZERO),
            Values::Rows(numbers) => numbers.resize(numbers.len() + rows, ZERO_ROW),
        }
    }

    /// Removes the rows from the `start`th value on that are all zeros.
    pub(super) fn drop_zero_rows(&mut self, start: usize, columns: usize) {
        match self {
            Values::F32(values) => drop_zero_rows(values, start, columns, 0.0),
            Values::F16(values) => drop_zero_rows(values, start, columns, f16::ZERO),
            Values::Rows(_) => {}
        }
    }

    pub(super) fn is_finite(&self) -> bool {
        match self {
            Values::F32(values) => values.iter().all(|value| value.is_finite()),
            Values::F16(values) => values.iter().all(|value| value.is_finite()),
            // Checked when they were put into the table.
            Values::Rows(_) => true,
        }
    }

    /// Rounded to f16; rows that come out as zeros are dropped, as from an f16 bank.
    pub(super) fn rounded(self, columns: usize) -> Result<Values> {
        let mut values = match self {
            Values::F32(values) => values.into_iter().map(f16::from_f32).collect(),
            Values::F16(values) => values,
            Values::Rows(_) => bail!("row numbers are no features"),
        };
        ensure!(
            values.iter().all(|value: &f16| value.is_finite()),
            "its features are not finite, or larger than half precision holds; extract them anew"
        );
        drop_zero_rows(&mut values, 0, columns, f16::ZERO);
        Ok(Values::F16(values))
    }

    pub(super) fn extend(&mut self, other: &Values) -> Result<()> {
        match (self, other) {
            (Values::F32(values), Values::F32(others)) => values.extend_from_slice(others),
            (Values::F16(values), Values::F16(others)) => values.extend_from_slice(others),
            _ => bail!("regions of two precisions do not go into one batch"),
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

/// Removes the rows of `values[start..]` in which every value is zero (of either sign), keeping the order.
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
