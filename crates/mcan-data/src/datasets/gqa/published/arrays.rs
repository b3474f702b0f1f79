//! One of the HDF5 files that GQA's features were published in.

use super::Place;
use crate::data::source::Layout;
use crate::data::streams::StreamKind;
use crate::formats::hdf5::{Floats, Hdf5, MAX_BYTES};
use crate::formats::npz::Boxes;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// Bytes of features that are read together, if they are stored in chunks.
const TOGETHER_BYTES: u64 = 32 << 20;

/// The arrays of one HDF5 file.
pub(super) struct Arrays {
    /// (N, K, F) or (N, F, h, w).
    features: Floats,
    /// (N, K, 4) of regions.
    bboxes: Option<Floats>,
    /// K or h w.
    pub(super) rows: u64,
    /// F.
    feature_size: u64,
}

impl Arrays {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// A file that is damaged, or whose arrays have other shapes.
    pub(super) fn open(path: &Path, layout: Layout) -> Result<Arrays> {
        let file = Hdf5::open(path)?;
        let features = file.floats("features")?;
        let wanted = layout.feature_size as u64;
        let (images, rows, bboxes) = match (layout.kind, features.shape()) {
            (StreamKind::Regions, &[images, rows, size]) if size == wanted => {
                (images, rows, Some(file.floats("bboxes")?))
            }
            (StreamKind::Grid, &[images, size, height, width]) if size == wanted => {
                (images, height.saturating_mul(width), None)
            }
            (kind, shape) => {
                let expected = match kind {
                    StreamKind::Regions => format!("(images, regions, {wanted})"),
                    StreamKind::Grid => format!("(images, {wanted}, height, width)"),
                };
                bail!(
                    "the shape of features is {shape:?}; {expected} is expected (--SET FEAT_SIZE=... for another size)"
                )
            }
        };
        if let Some(bboxes) = &bboxes {
            let (shape, expected) = (bboxes.shape(), [images, rows, 4]);
            ensure!(
                shape == expected,
                "the shape of bboxes is {shape:?}; {expected:?} is expected"
            );
        }
        let bytes = rows.saturating_mul(wanted).saturating_mul(4);
        ensure!(
            bytes <= MAX_BYTES as u64,
            "the shape of features is {:?}: {bytes} bytes for an image, at most {MAX_BYTES} are accepted",
            features.shape()
        );
        Ok(Arrays {
            features,
            bboxes,
            rows,
            feature_size: wanted,
        })
    }

    /// N.
    pub(super) fn images(&self) -> u64 {
        self.features.shape().first().copied().unwrap_or(0)
    }

    /// How many images to read at once. Chunks are read whole, each once, and finding them takes long.
    pub(super) fn together(&self) -> u64 {
        let bytes = (self.rows * self.feature_size * 4).max(1);
        let most = (TOGETHER_BYTES / bytes).max(1);
        match self.features.chunk() {
            None => 1,
            Some(chunk) if chunk > most => most,
            Some(chunk) => most - most % chunk,
        }
    }

    /// Reads the images at these places of this file: rows (n, F), and boxes of regions.
    ///
    /// # Errors
    /// A file that is damaged.
    pub(super) fn read(&self, places: &[Place]) -> Result<Vec<(Vec<f32>, Option<Boxes>)>> {
        let first = places.iter().map(|place| place.row).min().unwrap_or(0);
        let behind = places
            .iter()
            .map(|place| place.row + 1)
            .max()
            .unwrap_or(first);
        let rows = places.iter().map(|place| place.rows).max().unwrap_or(0);
        let features = match *self.features.shape() {
            [_, size, height, width] => {
                self.features
                    .read(&[first..behind, 0..size, 0..height, 0..width])
            }
            _ => self
                .features
                .read(&[first..behind, 0..rows, 0..self.feature_size]),
        };
        let features = features.context("array features")?;
        let boxes = self
            .bboxes
            .as_ref()
            .map(|bboxes| bboxes.read(&[first..behind, 0..rows, 0..4]));
        let boxes = boxes.transpose().context("array bboxes")?;
        let image = |place: &Place| {
            let part = |values: &[f32], width: u64| {
                let start = ((place.row - first) * rows * width) as usize;
                values[start..start + (place.rows * width) as usize].to_vec()
            };
            let values = part(&features, self.feature_size);
            let Some((boxes, (width, height))) = boxes.as_ref().zip(place.size) else {
                return (transposed(&values, self.feature_size as usize), None);
            };
            (values, Boxes::in_pixels(part(boxes, 4), width, height))
        };
        Ok(places.iter().map(image).collect())
    }
}

/// Values (F, n) as (n, F).
fn transposed(values: &[f32], feature_size: usize) -> Vec<f32> {
    let rows = values.len() / feature_size.max(1);
    let row = |i: usize| (0..feature_size).map(move |j| values[j * rows + i]);
    (0..rows).flat_map(row).collect()
}
