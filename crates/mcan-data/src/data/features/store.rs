//! All streams of features that a model needs of a data set's images.

use super::{FeaturePlace, Features};
use crate::data::streams::{Needs, StreamKind, Streams};
use crate::data::{Dataset, FeatureRows, ImageId};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// The features of the images of one [`Dataset`], by the numbers that the images have there.
pub struct FeatureStore {
    image_ids: Arc<[ImageId]>,
    regions: Option<Features>,
    grid: Option<Features>,
    boxes: bool,
}

impl FeatureStore {
    /// Opens the streams that `needs` asks for; `places` says where a stream is, one place for each split.
    ///
    /// # Errors
    /// A stream that the data set does not offer, and as [`Features::open`].
    pub fn open(
        dataset: &Dataset,
        streams: &Streams,
        needs: Needs,
        places: &dyn Fn(StreamKind) -> Vec<FeaturePlace>,
    ) -> Result<FeatureStore> {
        let image_ids: Arc<[ImageId]> = dataset.distinct_images().into();
        let open = |wanted: bool, kind, name: &str| {
            let open = |_| {
                let missing =
                    || format!("the model needs {name}, which the data set does not have");
                let spec = streams.get(kind).with_context(missing)?;
                Features::open(&places(kind), kind, spec, Arc::clone(&image_ids))
            };
            wanted.then_some(()).map(open).transpose()
        };
        Ok(FeatureStore {
            regions: open(needs.regions, StreamKind::Regions, "regions of a detector")?,
            grid: open(needs.grid, StreamKind::Grid, "cells of a feature map")?,
            boxes: needs.boxes,
            image_ids,
        })
    }

    /// The features of regions alone, for tests and benchmarks.
    pub fn of_regions(regions: Features) -> FeatureStore {
        FeatureStore {
            image_ids: Arc::clone(&regions.image_ids),
            regions: Some(regions),
            grid: None,
            boxes: false,
        }
    }

    /// The streams that are open.
    pub fn streams(&self) -> impl Iterator<Item = &Features> {
        self.regions.iter().chain(&self.grid)
    }

    /// The streams that are open.
    pub fn streams_mut(&mut self) -> impl Iterator<Item = &mut Features> {
        self.regions.iter_mut().chain(&mut self.grid)
    }

    /// One stream, if it is open.
    pub fn stream_mut(&mut self, kind: StreamKind) -> Option<&mut Features> {
        match kind {
            StreamKind::Regions => self.regions.as_mut(),
            StreamKind::Grid => self.grid.as_mut(),
        }
    }

    /// One stream, if it is open.
    pub fn stream(&self, kind: StreamKind) -> Option<&Features> {
        match kind {
            StreamKind::Regions => self.regions.as_ref(),
            StreamKind::Grid => self.grid.as_ref(),
        }
    }

    /// How many images there are.
    pub fn images(&self) -> usize {
        self.image_ids.len()
    }

    /// The image of this number.
    pub fn image_id(&self, image: usize) -> &ImageId {
        &self.image_ids[image]
    }

    /// The rows of no image yet, with room for `capacity` values of regions and of cells.
    pub(crate) fn new_rows(&self, capacity: [usize; 2]) -> [Option<FeatureRows>; 2] {
        let regions = self.regions.as_ref();
        let grid = self.grid.as_ref();
        [
            regions.map(|features| features.new_rows(capacity[0], self.boxes)),
            grid.map(|features| features.new_rows(capacity[1], false)),
        ]
    }

    /// Appends an image's rows of each stream.
    ///
    /// # Errors
    /// As [`Features::append`] and [`Features::boxes`].
    pub(crate) fn append(&self, image: usize, out: &mut [Option<FeatureRows>; 2]) -> Result<()> {
        for (features, rows) in [&self.regions, &self.grid].into_iter().zip(out) {
            if let (Some(features), Some(rows)) = (features, rows) {
                features.append_padded(image, rows)?;
            }
        }
        Ok(())
    }

    /// The first of these images whose features are not finite, and where they are, as a sentence; none when all are.
    pub fn not_finite(&self, image_ids: &[ImageId]) -> Option<String> {
        let number = |id: &ImageId| self.image_ids.iter().position(|other| other == id);
        let check = |image| {
            self.streams()
                .find_map(|features| features.not_finite(image))
        };
        image_ids.iter().filter_map(number).find_map(check)
    }

    /// Makes sure that no program has changed a bank since it was opened.
    ///
    /// # Errors
    /// When one has, by name.
    pub fn check_unchanged(&self) -> Result<()> {
        self.streams().try_for_each(Features::check_unchanged)
    }

    /// The folders and banks that images are read from, for messages.
    pub fn places(&self) -> Vec<PathBuf> {
        let places = self.streams().flat_map(|features| &features.places);
        places.cloned().collect()
    }
}
