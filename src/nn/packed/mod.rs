//! Packed batches: a [`Batch`] as tensors on a device, without padding.

mod images;

pub(crate) use images::{ImageLayout, ImageRows};

use super::ragged::{Ragged, RaggedSlots};
use super::staging::{DeviceBuffer, Slot, StagingBuffer};
use crate::data::{Batch, FeatureRows, ImageId, Values};
use crate::native::device::{self, Event};
use anyhow::{Context, Result, bail, ensure};
use images::{ImageLayoutSlots, Joined, JoinedSlots};
use tch::{Device, Kind, Tensor};

/// Packs batches and copies them to a device.
#[derive(Debug)]
pub struct Packer {
    /// The device of the packed batches.
    pub device: Device,
    /// Whether batches for a GPU are copied from page-locked memory, while the GPU computes.
    pub pin_mem: bool,
    /// Answers of the model.
    pub answers: usize,
    /// Regions, if the model needs them.
    pub regions: Option<StreamSource>,
    /// Grid cells, if the model needs them.
    pub grid: Option<StreamSource>,
}

/// The source of one feature stream's rows.
#[derive(Debug)]
pub struct StreamSource {
    /// F, values per row.
    pub feature_size: usize,
    /// (rows, F) the features of all images on the device, if batches have row numbers in place of features.
    pub table: Option<Tensor>,
}

/// A batch on a device, as packed rows.
#[derive(Debug)]
pub struct PackedBatch {
    /// (R_w) word ids.
    pub word_ids: Tensor,
    /// The question of each word.
    pub words: Ragged,
    /// T, words of every question with the reference's padding.
    pub(crate) words_padded_to: i64,
    /// Regions, if the model needs them.
    pub regions: Option<PackedFeatures>,
    /// Grid cells, if the model needs them.
    pub(crate) grid: Option<PackedFeatures>,
    /// The sequences of the regions and then the cells of each image, if the model needs both.
    pub(crate) joined: Option<Joined>,
    /// (P) positions in the flattened targets (B answers), and (P) the scores there, float32; all other targets are 0.
    targets: [Tensor; 2],
    answers: i64,
    buffer: DeviceBuffer,
    /// (I) ids of the distinct images, for messages.
    pub(crate) image_ids: Vec<ImageId>,
}

/// The rows of one feature stream on a device.
#[derive(Debug)]
pub struct PackedFeatures {
    /// (R_s, F) features of the I distinct images, in the precision in which they are stored.
    pub rows: Tensor,
    /// (R_s, 4) corners of the regions, if the model needs them; float32.
    pub(crate) boxes: Option<Tensor>,
    /// (R_s, 1) logarithm of the number of rows that each row stands for, if the model observes padding; float32.
    pub(crate) log_multiplicity: Option<Tensor>,
    /// The image of each row.
    pub(crate) layout: ImageLayout,
}

impl Packer {
    /// Packs `batch`.
    ///
    /// # Errors
    /// A batch whose lengths contradict each other, or a device without memory.
    pub fn pack(&self, batch: Batch) -> Result<PackedBatch> {
        ensure!(
            batch.words.len() == batch.word_counts.iter().sum::<usize>(),
            "a batch with {} words for questions of {:?}",
            batch.words.len(),
            batch.word_counts
        );
        let mut staging = StagingBuffer::default();
        let word_ids = staging.add(&batch.words);
        let words = RaggedSlots::new(&batch.word_counts, &batch.no_words, &mut staging);
        let shared = batch.image_ids.len() < batch.samples.len();
        let image_of = shared.then_some(&batch.image_of[..]);
        let joined = match (&batch.regions, &batch.grid) {
            (Some(regions), Some(grid)) => {
                Some(JoinedSlots::new([regions, grid], image_of, &mut staging))
            }
            _ => None,
        };
        let mut stage =
            |rows: Option<FeatureRows>, source: &Option<StreamSource>| match (rows, source) {
                (Some(rows), Some(source)) => {
                    StagedFeatures::new(rows, source, image_of, &mut staging).map(Some)
                }
                _ => Ok(None),
            };
        let regions = stage(batch.regions, &self.regions)?;
        let grid = stage(batch.grid, &self.grid)?;
        let position =
            |&(row, answer, _): &(u32, u32, f32)| row as i64 * self.answers as i64 + answer as i64;
        let positions = staging.add(&batch.targets.iter().map(position).collect::<Vec<i64>>());
        let scores: Vec<f32> = batch.targets.iter().map(|&(_, _, score)| score).collect();
        let scores = staging.add(&scores);
        let buffer = staging.send(self.device, self.pin_mem)?;
        let unpack = |staged: Option<StagedFeatures>, source: &Option<StreamSource>| match (
            staged, source,
        ) {
            (Some(staged), Some(source)) => self.unpack(staged, source, &buffer).map(Some),
            _ => Ok(None),
        };
        Ok(PackedBatch {
            word_ids: buffer.array(word_ids)?,
            words: words.unpack(&buffer)?,
            words_padded_to: batch.words_padded_to as i64,
            regions: unpack(regions, &self.regions)?,
            grid: unpack(grid, &self.grid)?,
            joined: joined.map(|slots| slots.unpack(&buffer)).transpose()?,
            targets: [buffer.array(positions)?, buffer.array(scores)?],
            answers: self.answers as i64,
            buffer,
            image_ids: batch.image_ids,
        })
    }

    fn unpack(
        &self,
        staged: StagedFeatures,
        source: &StreamSource,
        buffer: &DeviceBuffer,
    ) -> Result<PackedFeatures> {
        let rows = match (staged.values, staged.row_numbers) {
            (Values::F32(values), _) => device::give(values, self.device, self.pin_mem)?,
            (Values::F16(values), _) => device::give(values, self.device, self.pin_mem)?,
            (Values::Rows(_), None) => bail!("row numbers were not sent"),
            (Values::Rows(_), Some(slot)) => {
                let table = source
                    .table
                    .as_ref()
                    .context("row numbers without a table")?;
                table.f_index_select(0, &buffer.array(slot)?)?
            }
        };
        let boxes = staged.boxes.map(|slot| buffer.array(slot)).transpose()?;
        let logs = staged.log_multiplicity.map(|slot| buffer.array(slot));
        Ok(PackedFeatures {
            rows: rows.f_view([-1, source.feature_size as i64])?,
            boxes: boxes.map(|boxes| boxes.f_view([-1, 4])).transpose()?,
            log_multiplicity: logs
                .transpose()?
                .map(|logs| logs.f_view([-1, 1]))
                .transpose()?,
            layout: staged.layout.unpack(buffer)?,
        })
    }
}

/// [`PackedFeatures`] whose index arrays are in a staging buffer.
#[derive(Debug)]
struct StagedFeatures {
    values: Values,
    row_numbers: Option<Slot>,
    boxes: Option<Slot>,
    log_multiplicity: Option<Slot>,
    layout: ImageLayoutSlots,
}

impl StagedFeatures {
    fn new(
        features: FeatureRows,
        source: &StreamSource,
        image_of: Option<&[usize]>,
        staging: &mut StagingBuffer,
    ) -> Result<StagedFeatures> {
        let rows: usize = features.counts.iter().sum();
        let (found, expected) = match &features.values {
            Values::Rows(numbers) => (numbers.len(), rows),
            values => (values.len(), rows * source.feature_size),
        };
        ensure!(
            found == expected,
            "a batch with {found} feature values or rows for {rows} rows of {}",
            source.feature_size
        );
        let (counts, all_padding) = (&features.counts, &features.all_padding);
        let layout = ImageLayoutSlots::new(counts, all_padding, image_of, staging);
        let logs = |numbers: Vec<f32>| -> Vec<f32> { numbers.into_iter().map(f32::ln).collect() };
        let row_numbers = match &features.values {
            Values::Rows(numbers) => Some(staging.add(numbers)),
            _ => None,
        };
        Ok(StagedFeatures {
            row_numbers,
            boxes: features.boxes.map(|boxes| staging.add(&boxes)),
            log_multiplicity: features
                .multiplicity
                .map(|numbers| staging.add(&logs(numbers))),
            values: features.values,
            layout,
        })
    }
}

impl PackedFeatures {
    /// The layout of the rows of the distinct images.
    pub fn images(&self) -> &Ragged {
        self.layout.images()
    }
}

impl PackedBatch {
    /// (B, T) word ids with padding, for a network that observes padding.
    pub(crate) fn padded_word_ids(&self) -> Tensor {
        let ids = self.words.pad(&self.word_ids.unsqueeze(1)).squeeze_dim(2); // (B, L)
        let missing = self.words_padded_to - self.words.longest;
        if missing > 0 {
            ids.constant_pad_nd([0, missing])
        } else {
            ids
        } // (B, T)
    }

    /// Questions in the batch.
    pub(crate) fn len(&self) -> i64 {
        self.words.batch
    }

    /// Dense target scores.
    ///
    /// # Shapes
    /// (B, answers), float32
    pub fn targets(&self) -> Tensor {
        let [positions, scores] = &self.targets;
        let size = [self.len() * self.answers];
        let mut dense = Tensor::zeros(size, (Kind::Float, self.word_ids.device()));
        let _ = dense.index_copy_(0, positions, scores);
        dense.view([self.len(), self.answers])
    }

    /// Makes a batch that was packed on another stream usable on this one, after event `packed`.
    ///
    /// # Errors
    /// An error of libtorch.
    pub(crate) fn adopt(&self, packed: &Event) -> Result<()> {
        packed.stream_wait()?;
        for features in [&self.regions, &self.grid].into_iter().flatten() {
            device::share_with_this_stream(&features.rows)?;
        }
        device::share_with_this_stream(&self.buffer.buffer)
    }
}
