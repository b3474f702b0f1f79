//! The rows of images in a batch: once for each distinct image, or a copy for each question about it.

use crate::data::FeatureRows;
use crate::nn::layers::Sequences;
use crate::nn::ragged::{Ragged, RaggedSlots, starts_of};
use crate::nn::staging::{DeviceBuffer, Slot, StagingBuffer};
use anyhow::Result;
use tch::Tensor;

/// Which rows belong to each of the I distinct images, and to each of the B questions.
#[derive(Debug)]
pub(crate) struct ImageLayout {
    /// The image of each row.
    images: Ragged,
    /// From rows of images to rows of questions; absent if no two questions share an image.
    expansion: Option<Expansion>,
}

/// The copies of image rows that give each of B questions the rows of its image.
#[derive(Debug)]
struct Expansion {
    /// (R_r) the row of the distinct images that is copied to each row.
    rows: Tensor,
    /// The question of each row.
    questions: Ragged,
}

/// An [`ImageLayout`] whose arrays are in a staging buffer.
#[derive(Debug)]
pub(super) struct ImageLayoutSlots {
    images: RaggedSlots,
    expansion: Option<(Slot, RaggedSlots)>,
}

impl ImageLayoutSlots {
    /// The layout of images with these `counts` of rows, of which some are only padding. `image_of` is the image of each
    /// question, if questions share images.
    pub(super) fn new(
        counts: &[usize],
        all_padding: &[bool],
        image_of: Option<&[usize]>,
        staging: &mut StagingBuffer,
    ) -> ImageLayoutSlots {
        let images = RaggedSlots::new(counts, all_padding, staging);
        let expansion = image_of.map(|image_of| {
            let starts: Vec<usize> = starts_of(counts).collect();
            let rows_of = |&i: &usize| (starts[i]..starts[i + 1]).map(|row| row as i64);
            let rows: Vec<i64> = image_of.iter().flat_map(rows_of).collect();
            let lengths: Vec<usize> = image_of.iter().map(|&i| counts[i]).collect();
            let all_padding: Vec<bool> = image_of.iter().map(|&i| all_padding[i]).collect();
            let questions = RaggedSlots::new(&lengths, &all_padding, staging);
            (staging.add(&rows), questions)
        });
        ImageLayoutSlots { images, expansion }
    }

    pub(super) fn unpack(&self, buffer: &DeviceBuffer) -> Result<ImageLayout> {
        let expansion = |(rows, questions): &(Slot, RaggedSlots)| {
            anyhow::Ok(Expansion {
                rows: buffer.array(*rows)?,
                questions: questions.unpack(buffer)?,
            })
        };
        Ok(ImageLayout {
            images: self.images.unpack(buffer)?,
            expansion: self.expansion.as_ref().map(expansion).transpose()?,
        })
    }
}

impl ImageLayout {
    /// The layout of the rows of the distinct images.
    pub(super) fn images(&self) -> &Ragged {
        &self.images
    }

    /// The layout in which each question has the rows of its image.
    pub(crate) fn questions(&self) -> &Ragged {
        self.expansion
            .as_ref()
            .map_or(&self.images, |expansion| &expansion.questions)
    }

    /// Copies rows of the distinct images to the questions about them.
    ///
    /// # Shapes
    /// rows (R_s, ·) -> (R_r, ·)
    pub(crate) fn expand(&self, rows: &Tensor) -> Tensor {
        match &self.expansion {
            Some(expansion) => rows.index_select(0, &expansion.rows),
            None => rows.shallow_clone(),
        }
    }
}

/// The sequences of the regions and then the grid cells of each image.
///
/// A stream of an image that is only padding is left out, unless both are.
#[derive(Debug)]
pub(crate) struct Joined {
    /// (R_j) for each row, its row among all regions, which come first, and all cells.
    order: Tensor,
    /// The image of each row.
    pub(crate) layout: ImageLayout,
}

/// A [`Joined`] whose arrays are in a staging buffer.
#[derive(Debug)]
pub(super) struct JoinedSlots {
    order: Slot,
    layout: ImageLayoutSlots,
}

impl JoinedSlots {
    pub(super) fn new(
        streams: [&FeatureRows; 2],
        image_of: Option<&[usize]>,
        staging: &mut StagingBuffer,
    ) -> JoinedSlots {
        let [regions, grid] = streams;
        let first_cell: usize = regions.counts.iter().sum();
        let starts = [
            starts_of(&regions.counts).collect::<Vec<usize>>(),
            starts_of(&grid.counts)
                .map(|start| first_cell + start)
                .collect(),
        ];
        let (mut order, mut counts, mut all_padding) = (Vec::new(), Vec::new(), Vec::new());
        for image in 0..regions.counts.len() {
            let only_padding = streams.map(|stream| stream.all_padding[image]);
            let before = order.len();
            for (starts, padding) in starts.iter().zip(only_padding) {
                if !padding || only_padding == [true; 2] {
                    order.extend((starts[image]..starts[image + 1]).map(|row| row as i64));
                }
            }
            counts.push(order.len() - before);
            all_padding.push(only_padding == [true; 2]);
        }
        JoinedSlots {
            order: staging.add(&order),
            layout: ImageLayoutSlots::new(&counts, &all_padding, image_of, staging),
        }
    }

    pub(super) fn unpack(&self, buffer: &DeviceBuffer) -> Result<Joined> {
        Ok(Joined {
            order: buffer.array(self.order)?,
            layout: self.layout.unpack(buffer)?,
        })
    }
}

impl Joined {
    /// Brings the rows of both streams into the order of the sequences.
    ///
    /// # Shapes
    /// regions (R_s, D), cells (S_s, D) -> (R_j, D)
    pub(crate) fn join(&self, regions: &Tensor, cells: &Tensor) -> Tensor {
        Tensor::cat(&[regions, cells], 0).index_select(0, &self.order)
    }
}

/// The rows of images inside a network: those of each distinct image once, or a copy for each question.
///
/// In evaluation, questions share the rows of their image up to the first operation that depends on the question.
/// Batches for training share none, because dropout is drawn for each question.
#[derive(Debug)]
pub(crate) struct ImageRows<'a> {
    /// (R, D)
    pub(crate) rows: Tensor,
    layout: &'a ImageLayout,
    is_per_question: bool,
}

impl<'a> ImageRows<'a> {
    /// The rows of each distinct image.
    pub(crate) fn distinct(rows: Tensor, layout: &'a ImageLayout) -> ImageRows<'a> {
        ImageRows {
            rows,
            layout,
            is_per_question: false,
        }
    }

    /// The same layout with other values.
    pub(crate) fn with(&self, rows: Tensor) -> ImageRows<'a> {
        ImageRows { rows, ..*self }
    }

    /// One sequence for each question; copies rows only if questions share images.
    pub(crate) fn per_question(self) -> ImageRows<'a> {
        let rows = if self.is_per_question {
            self.rows
        } else {
            self.layout.expand(&self.rows)
        };
        ImageRows {
            rows,
            layout: self.layout,
            is_per_question: true,
        }
    }

    /// The rows as sequences.
    pub(crate) fn sequences(&self) -> Sequences<'_> {
        let layout = match self.is_per_question {
            true => self.layout.questions(),
            false => &self.layout.images,
        };
        Sequences {
            rows: &self.rows,
            layout,
        }
    }
}
