//! The layer that maps image features to the width of the network.

use crate::data::Convention;
use crate::models::Sizes;
use crate::nn::layers::Linear;
use crate::nn::packed::{PackedBatch, PackedFeatures};
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use anyhow::{Context, Result};
use tch::{Kind, Tensor};

/// A linear layer for the regions or for the grid cells.
#[derive(Debug)]
pub(super) struct Adapter {
    linear: Linear,
    reads_grid: bool,
}

impl Adapter {
    /// Named `img_feat_linear` as in the reference; in OpenVQA `adapter.frcn_linear` for regions and
    /// `adapter.grid_linear` for the grid of a data set without regions.
    pub(crate) fn new(root: &mut Path, hidden: usize, sizes: &Sizes) -> Result<Adapter> {
        let (stream, reads_grid) = match (sizes.streams.regions, sizes.streams.grid) {
            (Some(regions), _) => (regions, false),
            (None, Some(grid)) => (grid, true),
            (None, None) => anyhow::bail!("the data set has no image features"),
        };
        let name = match (sizes.convention, reads_grid) {
            (Convention::Reference, _) => "img_feat_linear",
            (Convention::OpenVqa, false) => "adapter.frcn_linear",
            (Convention::OpenVqa, true) => "adapter.grid_linear",
        };
        let linear = Linear::new(root.sub(name), stream.width, hidden);
        Ok(Adapter { linear, reads_grid })
    }

    /// The features that it reads.
    pub(crate) fn stream<'a>(&self, batch: &'a PackedBatch) -> Result<&'a PackedFeatures> {
        let (stream, name) = match self.reads_grid {
            true => (&batch.grid, "grid"),
            false => (&batch.regions, "regions"),
        };
        stream
            .as_ref()
            .with_context(|| format!("the batch has no {name}"))
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// features (R_s, F) -> (R_s, D), float32
    pub(crate) fn forward(&self, features: &PackedFeatures, pass: &Pass) -> Tensor {
        self.linear
            .forward(&features.rows, pass)
            .to_kind(Kind::Float)
    }
}
