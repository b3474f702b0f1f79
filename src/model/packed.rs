//! From a host [`Batch`] to tensors on a device, and between packed rows and the padded grid that attention needs.
//!
//! A ragged axis (the words of B questions, the regions of B images) is kept as packed rows (R, ·), R the sum of the
//! lengths. Only where a sequence must be seen as a whole are its rows placed in a grid (B, L, ·), L the longest length.

use super::layers::or_oom;
use crate::data::{Batch, Regions};
use crate::native::{self, RaggedRows};
use anyhow::{Result, ensure};
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

impl Ragged {
    /// `lengths` of the B sequences (at least 1 each), and which of them are nothing but padding.
    pub fn new(lengths: &[usize], all_padding: &[bool], device: Device) -> Ragged {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut starts = vec![0i32];
        starts.extend(lengths.iter().scan(0, |end, &n| {
            *end += n as i32;
            Some(*end)
        }));
        let places = lengths.iter().enumerate().map(|(b, &n)| (b * longest, n));
        let slots: Vec<i64> = places.flat_map(|(start, n)| (start..start + n).map(|slot| slot as i64)).collect();
        let bias = lengths.iter().flat_map(|&n| (0..longest).map(move |i| if i < n { 0.0 } else { MASKED }));
        let key_bias = Tensor::from_slice(&bias.collect::<Vec<f32>>());
        let present = all_padding.contains(&true).then(|| {
            let factors: Vec<f32> = all_padding.iter().map(|&padding| if padding { 0.0 } else { 1.0 }).collect();
            Tensor::from_slice(&factors).to_device(device)
        });
        let (batch, longest) = (lengths.len() as i64, longest as i64);
        Ragged {
            batch,
            longest,
            starts: Tensor::from_slice(&starts).to_device(device),
            slots: Tensor::from_slice(&slots).to_device(device),
            key_bias: key_bias.view([batch, longest]).to_device(device),
            present,
        }
    }

    /// For the attention of the CPU.
    pub fn rows(&self) -> RaggedRows<'_> {
        RaggedRows { starts: &self.starts, present: self.present.as_ref() }
    }

    /// Rows to grid, zero where vacant.
    ///
    /// # Shapes
    /// rows (R, D) -> (B, L, D)
    pub fn place(&self, rows: &Tensor) -> Tensor {
        let grid = or_oom(native::place_rows(rows, &self.slots, self.batch * self.longest)); // (B L, D)
        grid.view([self.batch, self.longest, -1])
    }

    /// Grid to rows.
    ///
    /// # Shapes
    /// grid (B, L, D) -> (R, D)
    pub fn take(&self, grid: &Tensor) -> Tensor {
        let flat = grid.reshape([self.batch * self.longest, -1]); // (B L, D)
        or_oom(native::take_rows(&flat, &self.slots))
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

/// A batch on a device.
#[derive(Debug)]
pub struct PackedBatch {
    /// (R_w) word ids.
    pub word_ids: Tensor,
    /// The words of B questions.
    pub words: Ragged,
    /// (R_s, F) features of the I distinct images, float32.
    pub features: Tensor,
    /// The regions of the I distinct images.
    pub shared: Ragged,
    /// The regions of each question's image, where questions share images; else as `shared`.
    pub expanded: Option<Expansion>,
    targets: Vec<(u32, u32, f32)>,
}

/// From the rows of I distinct images to those of each of B questions.
#[derive(Debug)]
pub struct Expansion {
    /// (R_r) row of the distinct images that each row is a copy of.
    rows: Tensor,
    /// The regions of B images.
    regions: Ragged,
}

impl PackedBatch {
    /// Copies `batch` to `device`. With `pin_mem` the features go to a GPU from page-locked memory, so that the copy
    /// runs while the GPU computes and nobody waits for it.
    ///
    /// # Errors
    /// When the batch contradicts itself, or the device is out of memory.
    pub fn new(batch: &Batch, feature_size: usize, device: Device, pin_mem: bool) -> Result<PackedBatch> {
        let features = match &batch.regions {
            Regions::F32(values) => Tensor::f_from_slice(values)?,
            Regions::F16(values) => Tensor::f_from_slice(values)?,
        };
        let rows: usize = batch.region_counts.iter().sum();
        ensure!(
            features.numel() == rows * feature_size && batch.words.len() == batch.word_counts.iter().sum::<usize>(),
            "a batch with {} feature values for {rows} regions of {feature_size}",
            features.numel()
        );
        Ok(PackedBatch {
            word_ids: Tensor::f_from_slice(&batch.words)?.f_to_device(device)?,
            words: Ragged::new(&batch.word_counts, &batch.no_words, device),
            features: send(features, device, pin_mem)?
                .f_to_kind(Kind::Float)?
                .f_view([rows as i64, feature_size as i64])?,
            shared: Ragged::new(&batch.region_counts, &batch.no_regions, device),
            expanded: (batch.image_ids.len() < batch.samples.len()).then(|| Expansion::new(batch, device)),
            targets: batch.targets.clone(),
        })
    }

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
        self.expanded.as_ref().map_or(&self.shared, |expansion| &expansion.regions)
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
    pub fn targets(&self, answers: i64) -> Tensor {
        let device = self.word_ids.device();
        let places: Vec<i64> =
            self.targets.iter().map(|&(row, answer, _)| row as i64 * answers + answer as i64).collect();
        let scores: Vec<f32> = self.targets.iter().map(|&(_, _, score)| score).collect();
        let mut dense = Tensor::zeros([self.len() * answers], (Kind::Float, device));
        let _ = dense.index_copy_(
            0,
            &Tensor::from_slice(&places).to_device(device),
            &Tensor::from_slice(&scores).to_device(device),
        );
        dense.view([self.len(), answers])
    }
}

fn send(tensor: Tensor, device: Device, pin_mem: bool) -> Result<Tensor> {
    if !(device.is_cuda() && pin_mem) {
        return Ok(tensor.f_to_device(device)?);
    }
    // libtorch keeps the page-locked buffer until the copy is done, also when the tensor is dropped before.
    Ok(tensor.f_pin_memory(device)?.f_to_device_(device, tensor.kind(), true, false)?)
}

impl Expansion {
    fn new(batch: &Batch, device: Device) -> Expansion {
        let starts: Vec<usize> = batch
            .region_counts
            .iter()
            .scan(0, |next, &n| {
                *next += n;
                Some(*next - n)
            })
            .collect();
        let images = &batch.image_of;
        let rows: Vec<i64> = images
            .iter()
            .flat_map(|&i| (starts[i]..starts[i] + batch.region_counts[i]).map(|row| row as i64))
            .collect();
        let lengths: Vec<usize> = images.iter().map(|&i| batch.region_counts[i]).collect();
        let all_padding: Vec<bool> = images.iter().map(|&i| batch.no_regions[i]).collect();
        Expansion {
            rows: Tensor::from_slice(&rows).to_device(device),
            regions: Ragged::new(&lengths, &all_padding, device),
        }
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

    #[test]
    fn rows_go_to_their_sequences_and_back() {
        let ragged = Ragged::new(&[2, 3, 1], &[false; 3], Device::Cpu);
        let rows = Tensor::from_slice(&[1f32, 2., 3., 4., 5., 6.]).view([6, 1]);
        let grid = ragged.place(&rows);
        let expected = Tensor::from_slice(&[1f32, 2., 0., 3., 4., 5., 6., 0., 0.]).view([3, 3, 1]);
        assert_eq!(grid, expected);
        assert_eq!(ragged.take(&grid), rows);
        let bias = ragged.key_bias(&[3, 1, 1, 3]).view([9]);
        assert_eq!(
            Vec::<f32>::try_from(bias.eq(0.0).to_kind(Kind::Float)).unwrap(),
            [1., 1., 0., 1., 1., 1., 1., 0., 0.]
        );
    }

    #[test]
    fn only_sequences_of_nothing_but_padding_are_zeroed() {
        let ragged = Ragged::new(&[2, 2], &[false, true], Device::Cpu);
        let grid = ragged.zero_if_all_padding(Tensor::ones([2, 2, 1], (Kind::Float, Device::Cpu)));
        assert_eq!(Vec::<f32>::try_from(grid.view([4])).unwrap(), [1., 1., 0., 0.]);
    }
}
