//! All streams of features of a run.

use super::{FeaturePlace, Features};
use crate::data::streams::{Needs, Padding, StreamKind, Streams};
use crate::data::{Dataset, FeatureRows, ImageId};
use anyhow::{Context, Result, bail};
use std::sync::Arc;

/// The features that a model needs of the images of a [`Dataset`]. Images have the numbers of the data set.
pub struct FeatureStore {
    image_ids: Arc<[ImageId]>,
    regions: Option<Features>,
    grid: Option<Features>,
    needs: Needs,
}

impl FeatureStore {
    /// Opens the streams in `needs`. `places` gives the places of a stream, one for each split.
    ///
    /// # Errors
    /// A stream that the data set does not offer, and the errors of `places` and of [`Features::open`].
    pub fn open(
        dataset: &Dataset,
        streams: &Streams,
        needs: Needs,
        places: &dyn Fn(StreamKind) -> Result<Vec<FeaturePlace>>,
    ) -> Result<FeatureStore> {
        let image_ids: Arc<[ImageId]> = dataset.distinct_images().into();
        let open = |wanted: bool, kind, name: &str| {
            let open = |_| {
                let missing =
                    || format!("the model needs {name}, which the data set does not have");
                let spec = streams.get(kind).with_context(missing)?;
                let splits = dataset.image_splits();
                let ids = Arc::clone(&image_ids);
                let features = Features::open(&places(kind)?, kind, spec, ids, splits)?;
                anyhow::Ok(features.reading(needs))
            };
            wanted.then_some(()).map(open).transpose()
        };
        Ok(FeatureStore {
            regions: open(needs.regions, StreamKind::Regions, "regions of a detector")?,
            grid: open(needs.grid, StreamKind::Grid, "cells of a feature map")?,
            needs,
            image_ids,
        })
    }

    /// A store of regions, for tests and benches.
    pub fn of_regions(regions: Features) -> FeatureStore {
        FeatureStore {
            image_ids: Arc::clone(&regions.image_ids),
            needs: regions.needs,
            regions: Some(regions),
            grid: None,
        }
    }

    /// The open streams.
    pub fn streams(&self) -> impl Iterator<Item = &Features> {
        self.regions.iter().chain(&self.grid)
    }

    /// A stream, if it is open.
    pub fn stream_mut(&mut self, kind: StreamKind) -> Option<&mut Features> {
        match kind {
            StreamKind::Regions => self.regions.as_mut(),
            StreamKind::Grid => self.grid.as_mut(),
        }
    }

    /// A stream, if it is open.
    pub fn stream(&self, kind: StreamKind) -> Option<&Features> {
        match kind {
            StreamKind::Regions => self.regions.as_ref(),
            StreamKind::Grid => self.grid.as_ref(),
        }
    }

    /// The id of the image with this number.
    pub(crate) fn image_id(&self, image: usize) -> &ImageId {
        &self.image_ids[image]
    }

    /// Empty rows of regions and grid, with room for `capacity` values of each.
    pub(crate) fn new_rows(&self, capacity: [usize; 2]) -> [Option<FeatureRows>; 2] {
        let regions = self.regions.as_ref();
        let grid = self.grid.as_ref();
        [
            regions.map(|features| features.new_rows(capacity[0])),
            grid.map(|features| features.new_rows(capacity[1])),
        ]
    }

    /// Appends the rows of an image to each stream.
    ///
    /// # Errors
    /// Those of [`Features::append_padded`]; an image that is only padding, if the model cannot use it.
    pub(crate) fn append(&self, image: usize, out: &mut [Option<FeatureRows>; 2]) -> Result<()> {
        for (features, rows) in [&self.regions, &self.grid].into_iter().zip(&mut *out) {
            if let (Some(features), Some(rows)) = (features, rows) {
                features.append_padded(image, rows)?;
            }
        }
        if self.needs.padding == Padding::MaskedAlways && is_only_padding(out) {
            let places: Vec<String> = self
                .streams()
                .map(|features| features.place_of(image))
                .collect();
            bail!(
                "it has no region with a value other than 0 in {}, and this model cannot use such an image; extract it again, or \
                 leave its questions out",
                places.join(" and ")
            );
        }
        Ok(())
    }

    /// A message that names the first of these images whose features are not finite, and its file; none if all are finite.
    pub fn not_finite(&self, image_ids: &[ImageId]) -> Option<String> {
        // Two images may have one id, in two splits.
        let numbers = |id: &ImageId| {
            let ids = self.image_ids.iter().enumerate();
            let same: Vec<usize> = ids
                .filter(|(_, other)| *other == id)
                .map(|(i, _)| i)
                .collect();
            same
        };
        let check = |image| {
            self.streams()
                .find_map(|features| features.not_finite(image))
        };
        image_ids.iter().flat_map(numbers).find_map(check)
    }

    /// Checks that no program has changed a bank since it was opened.
    ///
    /// # Errors
    /// Names a bank that was changed.
    pub fn check_unchanged(&self) -> Result<()> {
        self.streams().try_for_each(Features::check_unchanged)
    }
}

/// Whether the last image of each stream is only padding.
fn is_only_padding(streams: &[Option<FeatureRows>; 2]) -> bool {
    let mut streams = streams.iter().flatten();
    streams.all(|rows| rows.all_padding.last() == Some(&true))
}
