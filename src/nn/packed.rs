//! From a host [`Batch`] to tensors on a device, and between packed rows and the padded grid that attention needs.
//!
//! A ragged axis (the words of B questions, the regions of B images) is kept as packed rows (R, ·), R the sum of the
//! lengths. Only where a sequence must be seen as a whole are its rows placed in a grid (B, L, ·), L the longest length.

use super::layers::or_oom;
use super::staging::{DeviceBuffer, Slot, StagingBuffer};
use crate::data::{Batch, Regions};
use crate::native::device::{self, Event};
use crate::native::{self, RaggedRows};
use anyhow::{Context, Result, bail, ensure};
use tch::{Device, IndexOp, Kind, Tensor};

/// What the reference adds to the scores of masked keys.
const MASKED: f32 = -1e9;

/// How the rows of one ragged axis lie in their grid.
#[derive(Debug)]
pub struct Ragged {
    /// B
    pub batch: i64,
    /// L, the longest length.
    pub longest: i64,
    /// (B + 1) first row of each sequence, and R; int32.
    starts: Tensor,
    /// (R) position of each row in the flattened grid (B L).
    slots: Tensor,
    /// (B, L) 0 where the grid holds a row, -1e9 where it is vacant; float32.
    key_bias: Tensor,
    /// (B) 0 for a sequence that is nothing but padding, else 1; absent when there is none of those.
    present: Option<Tensor>,
}

/// A [`Ragged`] whose arrays are in a parcel.
#[derive(Debug)]
struct RaggedSlots {
    batch: i64,
    longest: i64,
    starts: Slot,
    slots: Slot,
    key_bias: Slot,
    present: Option<Slot>,
}

impl RaggedSlots {
    /// `lengths` of the B sequences (at least 1 each), and which of them are nothing but padding.
    fn new(lengths: &[usize], all_padding: &[bool], parcel: &mut StagingBuffer) -> RaggedSlots {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let starts: Vec<i32> = starts_of(lengths).map(|start| start as i32).collect();
        let places = lengths.iter().enumerate().map(|(b, &n)| (b * longest, n));
        let slots: Vec<i64> = places
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
            starts: parcel.add(&starts),
            slots: parcel.add(&slots),
            key_bias: parcel.add(&bias.collect::<Vec<f32>>()),
            present: all_padding.contains(&true).then(|| parcel.add(&factors())),
        }
    }

    fn unpack(&self, delivery: &DeviceBuffer) -> Result<Ragged> {
        let (batch, longest) = (self.batch, self.longest);
        Ok(Ragged {
            batch,
            longest,
            starts: delivery.array(self.starts)?,
            slots: delivery.array(self.slots)?,
            key_bias: delivery.array(self.key_bias)?.f_view([batch, longest])?,
            present: self
                .present
                .map(|piece| delivery.array(piece))
                .transpose()?,
        })
    }
}

/// 0, and the sum of the lengths up to each.
fn starts_of(lengths: &[usize]) -> impl Iterator<Item = usize> {
    let mut end = 0;
    std::iter::once(0).chain(lengths.iter().map(move |&n| {
        end += n;
        end
    }))
}

impl Ragged {
    /// For attention that needs no grid.
    pub fn rows(&self) -> RaggedRows<'_> {
        RaggedRows {
            starts: &self.starts,
            longest: self.longest,
            present: self.present.as_ref(),
        }
    }

    /// Rows to grid, zero where vacant.
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

    /// Grid to rows.
    ///
    /// # Shapes
    /// grid (B, L, D) -> (R, D)
    pub fn unpad(&self, grid: &Tensor) -> Tensor {
        let flat = grid.reshape([self.batch * self.longest, -1]); // (B L, D)
        or_oom(native::unpad_rows(&flat, &self.slots))
    }

    /// The bias that closes vacant keys, for scores of any shape: `shape` has B and L where the scores have them, else 1.
    pub fn key_bias(&self, shape: &[i64]) -> Tensor {
        self.key_bias.view(shape)
    }

    /// Zeroes what belongs to sequences that are nothing but padding.
    ///
    /// The reference masks all keys of such a sequence, so that each weighs 1/L, and queries and keys get no gradient.
    /// Open keys with zeroed queries (or pooling logits) give exactly that, and no -1e9 enters a softmax alone.
    ///
    /// # Shapes
    /// grid (B, ...) -> (B, ...)
    pub fn zero_if_all_padding(&self, grid: Tensor) -> Tensor {
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

/// How batches get to a device.
#[derive(Debug)]
pub struct Packer {
    /// Where they go.
    pub device: Device,
    /// Send them from page-locked memory, if to a GPU: the copy then runs while the GPU computes.
    pub pin_mem: bool,
    /// F
    pub feature_size: usize,
    /// Answers of the model.
    pub answers: usize,
    /// (rows, F) where the features are, if batches are row numbers.
    pub table: Option<Tensor>,
}

/// A batch on a device.
#[derive(Debug)]
pub struct PackedBatch {
    /// (R_w) word ids.
    pub word_ids: Tensor,
    /// The words of B questions.
    pub words: Ragged,
    /// (R_s, F) features of the I distinct images, in the precision that they came in.
    pub features: Tensor,
    /// The regions of the I distinct images.
    pub shared: Ragged,
    /// The regions of each question's image, where questions share images; else as `shared`.
    pub expanded: Option<Expansion>,
    /// Positions (T) in the flattened targets (B answers), and the scores (T) there, float32.
    targets: [Tensor; 2],
    answers: i64,
    delivery: DeviceBuffer,
    /// (I) COCO ids of the distinct images, for messages.
    pub image_ids: Vec<u64>,
}

/// From the rows of I distinct images to those of each of B questions.
#[derive(Debug)]
pub struct Expansion {
    /// (R_r) row of the distinct images that each row is a copy of.
    rows: Tensor,
    /// The regions of B images.
    regions: Ragged,
}

impl Packer {
    /// Brings `batch` to the device.
    ///
    /// # Errors
    /// When the batch contradicts itself, or the device is out of memory.
    pub fn pack(&self, batch: Batch) -> Result<PackedBatch> {
        self.check(&batch)?;
        let mut parcel = StagingBuffer::default();
        let word_ids = parcel.add(&batch.words);
        let words = RaggedSlots::new(&batch.word_counts, &batch.no_words, &mut parcel);
        let shared = RaggedSlots::new(&batch.region_counts, &batch.no_regions, &mut parcel);
        let shares = batch.image_ids.len() < batch.samples.len();
        let expanded = shares.then(|| ExpansionSlots::new(&batch, &mut parcel));
        let place =
            |&(row, answer, _): &(u32, u32, f32)| row as i64 * self.answers as i64 + answer as i64;
        let places = parcel.add(&batch.targets.iter().map(place).collect::<Vec<i64>>());
        let scores = parcel.add(
            &batch
                .targets
                .iter()
                .map(|&(_, _, score)| score)
                .collect::<Vec<f32>>(),
        );
        let table_rows = match &batch.regions {
            Regions::Rows(rows) => Some(parcel.add(rows)),
            _ => None,
        };
        let delivery = parcel.send(self.device, self.pin_mem)?;
        let features = match (batch.regions, table_rows) {
            (Regions::F32(values), _) => device::give(values, self.device, self.pin_mem)?,
            (Regions::F16(values), _) => device::give(values, self.device, self.pin_mem)?,
            (Regions::Rows(_), None) => bail!("row numbers were not sent"),
            (Regions::Rows(_), Some(piece)) => {
                let table = self.table.as_ref().context("row numbers without a table")?;
                table.f_index_select(0, &delivery.array(piece)?)?
            }
        };
        Ok(PackedBatch {
            word_ids: delivery.array(word_ids)?,
            words: words.unpack(&delivery)?,
            features: features.f_view([-1, self.feature_size as i64])?,
            shared: shared.unpack(&delivery)?,
            expanded: expanded
                .map(|pieces| pieces.unpack(&delivery))
                .transpose()?,
            targets: [delivery.array(places)?, delivery.array(scores)?],
            answers: self.answers as i64,
            delivery,
            image_ids: batch.image_ids,
        })
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let rows: usize = batch.region_counts.iter().sum();
        let (found, expected) = match &batch.regions {
            Regions::Rows(numbers) => (numbers.len(), rows),
            values => (values.len(), rows * self.feature_size),
        };
        ensure!(
            found == expected && batch.words.len() == batch.word_counts.iter().sum::<usize>(),
            "a batch with {found} feature values or rows for {rows} regions of {}",
            self.feature_size
        );
        Ok(())
    }
}

impl PackedBatch {
    /// Questions in the batch.
    pub fn len(&self) -> i64 {
        self.words.batch
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The layout of the regions of each question's image.
    pub fn regions(&self) -> &Ragged {
        self.expanded
            .as_ref()
            .map_or(&self.shared, |expansion| &expansion.regions)
    }

    /// Rows of the distinct images to rows of each question's image.
    pub fn expand(&self, rows: Tensor) -> Tensor {
        match &self.expanded {
            Some(expansion) => rows.index_select(0, &expansion.rows),
            None => rows,
        }
    }

    /// Dense target scores.
    ///
    /// # Shapes
    /// (B, answers), float32
    pub fn targets(&self) -> Tensor {
        let [places, scores] = &self.targets;
        let mut dense = Tensor::zeros(
            [self.len() * self.answers],
            (Kind::Float, self.word_ids.device()),
        );
        let _ = dense.index_copy_(0, places, scores);
        dense.view([self.len(), self.answers])
    }

    /// Takes over a batch that another thread has packed on its own stream, where it is whole at `packed`.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn adopt(&self, packed: &Event) -> Result<()> {
        packed.stream_wait()?;
        device::share_with_this_stream(&self.features)?;
        device::share_with_this_stream(&self.delivery.buffer)
    }
}

/// An [`Expansion`] whose arrays are in a parcel.
#[derive(Debug)]
struct ExpansionSlots {
    rows: Slot,
    regions: RaggedSlots,
}

impl ExpansionSlots {
    fn new(batch: &Batch, parcel: &mut StagingBuffer) -> ExpansionSlots {
        let starts: Vec<usize> = starts_of(&batch.region_counts).collect();
        let images = &batch.image_of;
        let rows: Vec<i64> = images
            .iter()
            .flat_map(|&i| (starts[i]..starts[i + 1]).map(|row| row as i64))
            .collect();
        let lengths: Vec<usize> = images.iter().map(|&i| batch.region_counts[i]).collect();
        let all_padding: Vec<bool> = images.iter().map(|&i| batch.no_regions[i]).collect();
        ExpansionSlots {
            rows: parcel.add(&rows),
            regions: RaggedSlots::new(&lengths, &all_padding, parcel),
        }
    }

    fn unpack(&self, delivery: &DeviceBuffer) -> Result<Expansion> {
        Ok(Expansion {
            rows: delivery.array(self.rows)?,
            regions: self.regions.unpack(delivery)?,
        })
    }
}

/// Splits the last axis of a grid into `parts` of heads and brings the heads forward.
///
/// # Shapes
/// grid (B, L, parts H K) -> parts of (B, H, L, K)
pub fn split_heads(grid: &Tensor, parts: i64, heads: i64) -> Vec<Tensor> {
    let (b, l, _) = grid.size3().unwrap_or_default();
    let split = grid.view([b, l, parts, heads, -1]).permute([2, 0, 3, 1, 4]); // (parts, B, H, L, K)
    (0..parts).map(|part| split.i(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ragged(lengths: &[usize], all_padding: &[bool]) -> Ragged {
        let mut parcel = StagingBuffer::default();
        let pieces = RaggedSlots::new(lengths, all_padding, &mut parcel);
        pieces
            .unpack(&parcel.send(Device::Cpu, false).unwrap())
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
    fn only_sequences_of_nothing_but_padding_are_zeroed() {
        let ragged = ragged(&[2, 2], &[false, true]);
        let grid = ragged.zero_if_all_padding(Tensor::ones([2, 2, 1], (Kind::Float, Device::Cpu)));
        assert_eq!(
            Vec::<f32>::try_from(grid.view([4])).unwrap(),
            [1., 1., 0., 0.]
        );
    }
}
