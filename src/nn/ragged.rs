//! Ragged axes: sequences of different lengths as packed rows, and their padded grid.
//!
//! A ragged axis (the words of B questions, the regions of B images) is kept as packed rows (R, ·), where R is the sum
//! of the lengths. Only attention and recurrence see whole sequences. For these, [`Ragged::pad`] copies the rows to a
//! grid (B, L, ·), where L is the longest length.

use super::pass::or_oom;
use super::staging::{DeviceBuffer, Slot, StagingBuffer};
use crate::native::{self, RaggedRows};
use anyhow::Result;
use tch::{IndexOp, Tensor};

/// What the reference adds to the scores of masked keys.
const MASKED: f32 = -1e9;

/// The layout of one ragged axis: the sequence and the position of each packed row.
#[derive(Debug)]
pub struct Ragged {
    /// B
    pub(crate) batch: i64,
    /// L, the longest length.
    pub(crate) longest: i64,
    /// (B + 1) first row of each sequence, and R; int32.
    starts: Tensor,
    /// (R) position of each row in the flattened grid (B L).
    slots: Tensor,
    /// (B, L) 0 for rows, -1e9 for padding; float32.
    key_bias: Tensor,
    /// (B) 0 for a sequence that is only padding, else 1; absent if no sequence is only padding.
    present: Option<Tensor>,
}

/// A [`Ragged`] whose arrays are in a staging buffer.
#[derive(Debug)]
pub(super) struct RaggedSlots {
    batch: i64,
    longest: i64,
    starts: Slot,
    slots: Slot,
    key_bias: Slot,
    present: Option<Slot>,
}

impl RaggedSlots {
    /// The layout of B sequences with these `lengths`, at least 1 each. `all_padding`: which of them are only padding.
    pub(super) fn new(
        lengths: &[usize],
        all_padding: &[bool],
        staging: &mut StagingBuffer,
    ) -> RaggedSlots {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let starts: Vec<i32> = starts_of(lengths).map(|start| start as i32).collect();
        let runs = lengths.iter().enumerate().map(|(b, &n)| (b * longest, n));
        let slots: Vec<i64> = runs
            .flat_map(|(start, n)| (start..start + n).map(|slot| slot as i64))
            .collect();
        let bias = lengths
            .iter()
            .flat_map(|&n| (0..longest).map(move |i| if i < n { 0.0 } else { MASKED }));
        let factors = || {
            all_padding
                .iter()
                .map(|&padding| if padding { 0.0 } else { 1.0 })
                .collect::<Vec<f32>>()
        };
        RaggedSlots {
            batch: lengths.len() as i64,
            longest: longest as i64,
            starts: staging.add(&starts),
            slots: staging.add(&slots),
            key_bias: staging.add(&bias.collect::<Vec<f32>>()),
            present: all_padding.contains(&true).then(|| staging.add(&factors())),
        }
    }

    pub(super) fn unpack(&self, buffer: &DeviceBuffer) -> Result<Ragged> {
        let (batch, longest) = (self.batch, self.longest);
        Ok(Ragged {
            batch,
            longest,
            starts: buffer.array(self.starts)?,
            slots: buffer.array(self.slots)?,
            key_bias: buffer.array(self.key_bias)?.f_view([batch, longest])?,
            present: self.present.map(|slot| buffer.array(slot)).transpose()?,
        })
    }
}

/// The first row of each sequence, then the number of all rows.
pub(super) fn starts_of(lengths: &[usize]) -> impl Iterator<Item = usize> {
    let mut end = 0;
    std::iter::once(0).chain(lengths.iter().map(move |&n| {
        end += n;
        end
    }))
}

impl Ragged {
    /// The layout for attention on packed rows.
    pub(crate) fn rows(&self) -> RaggedRows<'_> {
        RaggedRows {
            starts: &self.starts,
            longest: self.longest,
            present: self.present.as_ref(),
        }
    }

    /// Packed rows to the padded grid; padding is zero.
    ///
    /// # Shapes
    /// rows (R, D) -> (B, L, D)
    pub fn pad(&self, rows: &Tensor) -> Tensor {
        let grid = or_oom(native::pad_rows(
            rows,
            &self.slots,
            self.batch * self.longest,
        )); // (B L, D)
        grid.view([self.batch, self.longest, -1])
    }

    /// The padded grid to packed rows.
    ///
    /// # Shapes
    /// grid (B, L, D) -> (R, D)
    pub(crate) fn unpad(&self, grid: &Tensor) -> Tensor {
        let flat = grid.reshape([self.batch * self.longest, -1]); // (B L, D)
        or_oom(native::unpad_rows(&flat, &self.slots))
    }

    /// Repeats the value of each sequence for each of its rows.
    ///
    /// # Shapes
    /// values (B, ·) -> (R, ·)
    pub(crate) fn repeat(&self, values: &Tensor) -> Tensor {
        let sequence_of_row = self.slots.divide_scalar_mode(self.longest, "floor"); // (R)
        values.index_select(0, &sequence_of_row)
    }

    /// Additive mask, 0 for rows and -1e9 for padding, for scores of any shape: `shape` has B and L where the scores
    /// have them, else 1.
    pub(crate) fn key_bias(&self, shape: &[i64]) -> Tensor {
        self.key_bias.view(shape)
    }

    /// Zeroes the values of sequences that are only padding.
    ///
    /// The reference masks all keys of such a sequence: each gets the weight 1/L, and queries and keys get no gradient.
    /// Unmasked keys with zeroed queries (or pooling logits) give the same result, without a softmax over only -1e9.
    ///
    /// # Shapes
    /// grid (B, ...) -> (B, ...)
    pub(crate) fn zero_if_all_padding(&self, grid: Tensor) -> Tensor {
        match &self.present {
            Some(present) => {
                let mut shape = vec![1; grid.dim()];
                shape[0] = self.batch;
                &grid * present.view(&shape[..]).to_kind(grid.kind())
            }
            None => grid,
        }
    }
}

/// The pairs of rows of the same sequence, of all sequences of a ragged axis: Q = Σ n².
#[derive(Debug)]
pub(crate) struct Pairs {
    /// (Q) position of each pair in the flattened grid (B L L).
    slots: Tensor,
}

impl Pairs {
    /// All pairs of `layout`.
    pub(crate) fn of(layout: &Ragged) -> Pairs {
        let is_row = layout.key_bias.eq(0.0); // (B, L)
        let is_pair = is_row.unsqueeze(2).logical_and(&is_row.unsqueeze(1)); // (B, L, L)
        Pairs {
            slots: is_pair.flatten(0, 2).nonzero().squeeze_dim(1),
        }
    }

    /// The values of the pairs of a padded grid.
    ///
    /// # Shapes
    /// grid (B, L, L, ·) -> (Q, ·)
    pub(crate) fn unpad(&self, grid: &Tensor) -> Tensor {
        grid.flatten(0, 2).index_select(0, &self.slots)
    }

    /// The padded grid of values of the pairs; padding is zero.
    ///
    /// # Shapes
    /// values (Q, H) -> (B, L, L, H)
    pub(crate) fn pad(&self, values: &Tensor, layout: &Ragged) -> Tensor {
        let (b, l) = (layout.batch, layout.longest);
        let grid = or_oom(native::pad_rows(values, &self.slots, b * l * l)); // (B L L, H)
        grid.view([b, l, l, -1])
    }
}

/// Splits the last axis of a grid into `parts` of heads and brings the heads forward.
///
/// # Shapes
/// grid (B, L, parts H d) -> parts of (B, H, L, d)
pub(crate) fn split_heads(grid: &Tensor, parts: i64, heads: i64) -> Vec<Tensor> {
    let (b, l, _) = grid.size3().unwrap_or_default();
    let split = grid.view([b, l, parts, heads, -1]).permute([2, 0, 3, 1, 4]); // (parts, B, H, L, d)
    (0..parts).map(|part| split.i(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn ragged(lengths: &[usize], all_padding: &[bool]) -> Ragged {
        let mut staging = StagingBuffer::default();
        let slots = RaggedSlots::new(lengths, all_padding, &mut staging);
        slots
            .unpack(&staging.send(Device::Cpu, false).unwrap())
            .unwrap()
    }

    #[test]
    fn rows_go_to_their_sequences_and_back() {
        let ragged = ragged(&[2, 3, 1], &[false; 3]);
        let rows = Tensor::from_slice(&[1f32, 2., 3., 4., 5., 6.]).view([6, 1]);
        let grid = ragged.pad(&rows);
        let expected = Tensor::from_slice(&[1f32, 2., 0., 3., 4., 5., 6., 0., 0.]).view([3, 3, 1]);
        assert_eq!(grid, expected);
        assert_eq!(ragged.unpad(&grid), rows);
        let bias = ragged.key_bias(&[3, 1, 1, 3]).view([9]);
        assert_eq!(
            Vec::<f32>::try_from(bias.eq(0.0).to_kind(Kind::Float)).unwrap(),
            [1., 1., 0., 1., 1., 1., 1., 0., 0.]
        );
    }

    #[test]
    fn only_sequences_of_padding_are_zeroed() {
        let ragged = ragged(&[2, 2], &[false, true]);
        let grid = ragged.zero_if_all_padding(Tensor::ones([2, 2, 1], (Kind::Float, Device::Cpu)));
        assert_eq!(
            Vec::<f32>::try_from(grid.view([4])).unwrap(),
            [1., 1., 0., 0.]
        );
    }
}
