//! The image features that BUTD, BAN and MFB attend to: regions as they are, or behind OpenVQA's adapter where the data
//! set has a grid.

use super::adapter::{self, Adapter, Uses};
use super::{Sizes, Widths};
use crate::data::streams::{Needs, Padding, Streams};
use crate::nn::packed::{ImageLayout, PackedBatch, PackedFeatures};
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

/// The keys of BUTD and BAN for image features.
#[derive(Clone, Copy, Debug)]
pub(super) struct ImageKeys {
    /// `IMG_FEAT_SIZE`
    pub(super) given: Option<usize>,
    /// `USE_BBOX_FEAT`
    pub(super) use_boxes: bool,
    /// `BBOXFEAT_EMB_SIZE`
    pub(super) box_size: usize,
    /// `HIDDEN_SIZE`
    pub(super) hidden: usize,
}

impl ImageKeys {
    /// What the model needs of a batch; `of_regions` is what it does with the padding of regions that it reads as they are.
    /// Behind an adapter padding is not zero, so that no model masks it.
    ///
    /// # Errors
    /// Features that the data set does not have, or an `IMG_FEAT_SIZE` that is another width.
    pub(super) fn needs(self, streams: Streams, of_regions: Padding) -> Result<Needs> {
        let padding = match streams.grid {
            Some(_) => Padding::Observed,
            None => of_regions,
        };
        self.check_width(streams)?;
        self.uses(streams)?.needs(streams, padding)
    }

    /// Checks `IMG_FEAT_SIZE`, if it is given.
    fn check_width(self, streams: Streams) -> Result<()> {
        let (width, whose) = match (streams.regions, streams.grid) {
            (Some(regions), None) => (regions.width, "the features of regions as they are"),
            _ => (self.hidden, "image features of width HIDDEN_SIZE"),
        };
        let given = self.given.unwrap_or(width);
        ensure!(
            given == width,
            "IMG_FEAT_SIZE = {given}: on this data set the attention sees {whose}, whose width is {width}; leave the key out"
        );
        Ok(())
    }

    fn uses(self, streams: Streams) -> Result<Uses> {
        ensure!(
            !self.use_boxes || streams.grid.is_some(),
            "USE_BBOX_FEAT = True: this model reads regions as they are on a data set without a grid; leave it out"
        );
        Ok(Uses {
            boxes: self.use_boxes,
            grid: false,
        })
    }

    /// The images as the model sees them; parameters below `adapter`.
    ///
    /// # Errors
    /// An `IMG_FEAT_SIZE` that is another width.
    pub(super) fn build(self, path: Path, sizes: &Sizes) -> Result<Images> {
        self.check_width(sizes.streams)?;
        match (sizes.streams.regions, sizes.streams.grid) {
            (Some(regions), None) => Ok(Images::as_they_are(regions.width)),
            _ => Ok(Images {
                adapter: Some(Adapter::new(
                    path,
                    sizes,
                    self.uses(sizes.streams)?,
                    self.box_size,
                    self.hidden,
                )?),
                width: self.hidden,
            }),
        }
    }
}

/// The image features that a model attends to.
#[derive(Debug)]
pub(super) struct Images {
    /// Absent for regions that are read as they are.
    adapter: Option<Adapter>,
    /// I
    pub(super) width: usize,
}

impl Images {
    /// Regions that are read as they are.
    pub(super) fn as_they_are(width: usize) -> Images {
        Images {
            adapter: None,
            width,
        }
    }

    /// The features of all distinct images.
    ///
    /// # Errors
    /// A batch without them.
    pub(super) fn of<'a>(&self, batch: &'a PackedBatch, pass: &Pass) -> Result<ImageFeatures<'a>> {
        let stream = batch.regions.as_ref().or(batch.grid.as_ref());
        let stream: &PackedFeatures = stream.context("the batch has no image features")?;
        let (x, layout) = match &self.adapter {
            Some(adapter) => adapter.forward(batch, pass)?,
            None => (stream.rows.to_kind(Kind::Float), &stream.layout),
        };
        Ok(ImageFeatures {
            x,
            log_multiplicity: stream.log_multiplicity.as_ref(),
            layout,
        })
    }
}

/// The rows of all distinct images.
pub(super) struct ImageFeatures<'a> {
    /// (R_s, I), float32
    pub(super) x: Tensor,
    /// (R_s, 1) logarithm of the number of rows that each row stands for.
    log_multiplicity: Option<&'a Tensor>,
    pub(super) layout: &'a ImageLayout,
}

impl ImageFeatures<'_> {
    /// Logits of a softmax over the rows that the R rows of questions stand for.
    ///
    /// # Shapes
    /// logits (R, G) -> (R, G)
    pub(super) fn with_multiplicity(&self, logits: Tensor) -> Tensor {
        match self.log_multiplicity {
            Some(logs) => logits + self.layout.expand(logs),
            None => logits,
        }
    }
}

/// Widths of the image features of a checkpoint whose attention sees rows of width `input`.
pub(super) fn widths(adapter: &adapter::Shown, input: usize) -> Widths {
    match adapter.hidden {
        Some(_) => adapter.widths,
        None => Widths {
            regions: Some(input),
            grid: None,
        },
    }
}
