//! OpenVQA's adapter: linear layers that bring image features to the width of the network.

use super::{Shapes, Sizes, Widths, matrix};
use crate::data::streams::{BoxUnit, Needs, Padding, Streams};
use crate::nn::layers::Linear;
use crate::nn::packed::{ImageLayout, PackedBatch, PackedFeatures};
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

/// Which features an adapter reads, besides the regions; a data set without regions has its grid read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uses {
    /// `USE_BBOX_FEAT`: the boxes of regions.
    pub(super) boxes: bool,
    /// `USE_AUX_FEAT`: the grid beside the regions.
    pub(super) grid: bool,
}

impl Uses {
    /// What a model with this adapter needs of a batch.
    ///
    /// # Errors
    /// Features that the data set does not have.
    pub(super) fn needs(self, streams: Streams, padding: Padding) -> Result<Needs> {
        let boxes = streams.regions.is_some_and(|spec| spec.boxes.is_some());
        ensure!(
            !self.boxes || boxes,
            "USE_BBOX_FEAT = True: the data set has no boxes of regions; leave it out"
        );
        ensure!(
            !self.grid || streams.regions.is_some() && streams.grid.is_some(),
            "USE_AUX_FEAT = True: the data set does not have a grid beside regions; leave it out"
        );
        Ok(Needs {
            regions: streams.regions.is_some(),
            grid: streams.regions.is_none() || self.grid,
            boxes: self.boxes.then_some(BoxUnit::Shares),
            padding,
        })
    }
}

/// The layers; those of features that are not read are absent.
#[derive(Debug)]
pub(super) struct Adapter {
    /// From the five numbers of a box.
    boxes: Option<Linear>,
    regions: Option<Linear>,
    grid: Option<Linear>,
}

/// The numbers of a box: its corners and its area.
const BOX_NUMBERS: usize = 5;

impl Adapter {
    /// Named `bbox_linear`, `frcn_linear` and `grid_linear`. `box_size` is the width of an embedded box, `hidden` that of
    /// the network.
    ///
    /// # Errors
    /// A data set without image features.
    pub(super) fn new(
        mut path: Path,
        sizes: &Sizes,
        uses: Uses,
        box_size: usize,
        hidden: usize,
    ) -> Result<Adapter> {
        let Streams { regions, grid } = sizes.streams;
        ensure!(
            regions.is_some() || grid.is_some(),
            "the data set has no image features"
        );
        let grid = grid.filter(|_| regions.is_none() || uses.grid);
        let further = if uses.boxes { box_size } else { 0 };
        let mut linear = |name, inputs, outputs| Linear::new(path.sub(name), inputs, outputs);
        Ok(Adapter {
            boxes: uses
                .boxes
                .then(|| linear("bbox_linear", BOX_NUMBERS, box_size)),
            regions: regions.map(|spec| linear("frcn_linear", spec.width + further, hidden)),
            grid: grid.map(|spec| linear("grid_linear", spec.width, hidden)),
        })
    }

    /// An adapter of one layer for the regions, with this name.
    pub(super) fn of_regions(path: Path, width: usize, hidden: usize) -> Adapter {
        Adapter {
            boxes: None,
            regions: Some(Linear::new(path, width, hidden)),
            grid: None,
        }
    }

    /// The rows of all distinct images, and which rows are whose.
    ///
    /// # Shapes
    /// -> (R_s, D), float32
    ///
    /// # Errors
    /// A batch without the features.
    pub(super) fn forward<'a>(
        &self,
        batch: &'a PackedBatch,
        pass: &Pass,
    ) -> Result<(Tensor, &'a ImageLayout)> {
        let cells = self.grid.as_ref().map(|linear| -> Result<_> {
            let grid = batch.grid.as_ref().context("the batch has no grid")?;
            let rows = linear.forward(&grid.rows, pass).to_kind(Kind::Float);
            Ok((rows, &grid.layout))
        });
        let Some(linear) = &self.regions else {
            return cells.context("the adapter has no layer")?;
        };
        let regions = batch.regions.as_ref().context("the batch has no regions")?;
        let rows = self.regions(linear, regions, pass)?;
        let Some(cells) = cells.transpose()? else {
            return Ok((rows, &regions.layout));
        };
        let joined = batch
            .joined
            .as_ref()
            .context("the batch has no joined rows")?;
        Ok((joined.join(&rows, &cells.0), &joined.layout))
    }

    /// frcn_linear(concat(x, bbox_linear(b))) of features x and boxes b.
    ///
    /// With frcn_linear = [W_x, W_b] this is W_x x + (W_b W_bbox) b, plus constants; the product of the two matrices spares a
    /// product of all rows with W_b.
    fn regions(&self, linear: &Linear, regions: &PackedFeatures, pass: &Pass) -> Result<Tensor> {
        let Some(bbox) = &self.boxes else {
            return Ok(linear.forward(&regions.rows, pass).to_kind(Kind::Float));
        };
        let width = regions.rows.size()[1];
        let of_box = linear
            .weight
            .narrow(1, width, linear.weight.size()[1] - width); // (D, box)
        let features = Linear {
            weight: linear.weight.narrow(1, 0, width).contiguous(),
            bias: &linear.bias + of_box.mv(&bbox.bias),
        };
        let boxes = regions.boxes.as_ref().context("the batch has no boxes")?;
        let [x1, y1, x2, y2] = [0, 1, 2, 3].map(|i| boxes.narrow(1, i, 1)); // (R_s, 1) each
        let area = (&x2 - &x1) * (&y2 - &y1);
        let numbers = Tensor::cat(&[x1, y1, x2, y2, area], 1); // (R_s, 5)
        let of_boxes = numbers.matmul(&of_box.matmul(&bbox.weight).tr()); // (R_s, D)
        Ok(features.forward(&regions.rows, pass).to_kind(Kind::Float) + of_boxes)
    }
}

/// What the shapes of a checkpoint show of an adapter below `adapter`.
pub(super) struct Shown {
    pub(super) uses: Uses,
    /// Width of an embedded box, if boxes are used.
    pub(super) box_size: Option<usize>,
    /// Width of the network, if there is an adapter.
    pub(super) hidden: Option<usize>,
    pub(super) widths: Widths,
}

impl Shown {
    /// # Errors
    /// A layer that is not a matrix.
    pub(super) fn of(shapes: &Shapes) -> Result<Shown> {
        let size = |name: &str| {
            let name = format!("adapter.{name}.weight");
            let is_there = shapes.iter().any(|(known, _)| *known == name);
            is_there.then(|| matrix(shapes, &name)).transpose()
        };
        let (bbox, frcn, grid) = (
            size("bbox_linear")?,
            size("frcn_linear")?,
            size("grid_linear")?,
        );
        let box_size = bbox.map(|[outputs, _]| outputs);
        let width = |[_, inputs]: [usize; 2]| inputs.saturating_sub(box_size.unwrap_or(0));
        Ok(Shown {
            uses: Uses {
                boxes: bbox.is_some(),
                grid: frcn.is_some() && grid.is_some(),
            },
            box_size,
            hidden: frcn.or(grid).map(|[outputs, _]| outputs),
            widths: Widths {
                regions: frcn.map(width),
                grid: grid.map(|[_, inputs]| inputs),
            },
        })
    }
}
