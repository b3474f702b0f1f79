//! The image features of a run.
//!
//! The features of a split are in a packed bank `<folder>.safetensors` if there is one, else in the folder of `.npz`
//! files. This module drops padding: it gives the rows that are not zero among the first `padded_to`. In a batch, an image
//! without such a row keeps `padded_to` rows of zeros and is marked; the model decides about these rows.

mod open;
mod place;
mod preload;
mod store;
mod survey;
#[cfg(test)]
pub(crate) mod tests;

pub use place::{FeaturePlace, FileNames, archive_path, bank_path, find_archive, image_number};
pub use store::FeatureStore;
pub use survey::Survey;

use super::streams::{BoxUnit, Needs, Padding, StreamKind, StreamSpec};
use super::{FeatureRows, ImageId, Values};
use crate::formats::bank::{Bank, Dtype};
use crate::formats::npz::{self, Boxes};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One stream of features of the images of a run, which are numbered from 0. Reading needs no lock, so that all workers
/// share one `Features`.
pub struct Features {
    kind: StreamKind,
    spec: StreamSpec,
    dtype: Dtype,
    image_ids: Arc<[ImageId]>,
    /// The folders and banks that were opened.
    places: Vec<PathBuf>,
    banks: Vec<Arc<Bank>>,
    /// For each image, where its features are stored.
    stored: Vec<Option<Place>>,
    /// For each image, whether its place is in the folder of its own split.
    in_own_split: Vec<bool>,
    rows: Rows,
    /// Boxes of each image that is in memory, if the model needs them.
    boxes: Vec<Vec<f32>>,
    /// What the model needs of this stream.
    needs: Needs,
}

/// Where the features of one image are stored.
enum Place {
    File {
        folder: Arc<Path>,
        name: OsString,
        rows_first: bool,
    },
    Bank {
        bank: Arc<Bank>,
        index: usize,
    },
}

/// Where a batch gets the rows of images from.
enum Rows {
    /// From files and banks, each time.
    Stored,
    /// From memory: for each image, its rows without padding.
    InMemory(Vec<Values>),
    /// From a table on the device: for each image, the numbers of its rows.
    InTable(Vec<Range<i64>>),
}

impl Features {
    /// The number of images.
    pub fn images(&self) -> usize {
        self.image_ids.len()
    }

    /// Their kind.
    pub fn kind(&self) -> StreamKind {
        self.kind
    }

    /// The most rows of an image that are used.
    pub fn padded_to(&self) -> usize {
        self.spec.padded_to
    }

    /// F, values per row.
    pub fn feature_size(&self) -> usize {
        self.spec.width
    }

    /// The folders and banks of the features, for messages.
    pub fn places(&self) -> String {
        self.places
            .iter()
            .map(|place| place.display().to_string())
            .collect::<Vec<_>>()
            .join(" or ")
    }

    /// Empty values for [`Features::append`]: row numbers if a table holds the features, f16 if every source is an f16
    /// bank, else f32. `capacity` counts as [`Values::len`] does.
    pub(crate) fn no_values(&self, capacity: usize) -> Values {
        match (&self.rows, self.dtype) {
            (Rows::InTable(_), _) => Values::Rows(Vec::with_capacity(capacity)),
            (_, Dtype::F16) => Values::F16(Vec::with_capacity(capacity)),
            (_, Dtype::F32) => Values::F32(Vec::with_capacity(capacity)),
        }
    }

    /// Reads what a model with these needs uses of the stream.
    pub(super) fn reading(mut self, needs: Needs) -> Features {
        let boxes = needs.boxes.filter(|_| self.kind == StreamKind::Regions);
        self.needs = Needs { boxes, ..needs };
        self
    }

    /// Whether rows of zeros are padding: not if the model observes padding and reads boxes, which such a row may have.
    fn zeros_are_padding(&self) -> bool {
        self.needs.padding != Padding::Observed || self.needs.boxes.is_none()
    }

    /// Empty rows with room for `capacity` values.
    pub(super) fn new_rows(&self, capacity: usize) -> FeatureRows {
        let is_observed = self.needs.padding == Padding::Observed;
        FeatureRows {
            values: self.no_values(capacity),
            boxes: self.needs.boxes.map(|_| Vec::new()),
            counts: Vec::new(),
            all_padding: Vec::new(),
            multiplicity: is_observed.then(Vec::new),
            padded_to: self.spec.padded_to,
        }
    }

    /// Appends the rows of an image. Behind them comes the row that stands for its padding, if the model observes padding;
    /// else an image without a row gets `padded_to` rows of zeros.
    pub(super) fn append_padded(&self, image: usize, out: &mut FeatureRows) -> Result<()> {
        let found = self.append(image, &mut out.values, out.boxes.as_mut())?;
        let padding = out.padded_to - found;
        let zeros = match &mut out.multiplicity {
            Some(multiplicity) => {
                multiplicity.resize(multiplicity.len() + found, 1.0);
                multiplicity.extend((padding > 0).then_some(padding as f32));
                padding.min(1)
            }
            None if found == 0 => padding,
            None => 0,
        };
        out.values.push_zeros(zeros, self.spec.width);
        if let Some(boxes) = &mut out.boxes {
            boxes.resize(boxes.len() + 4 * zeros, 0.0);
        }
        out.counts.push(found + zeros);
        let is_masked = out.multiplicity.is_none();
        out.all_padding.push(found == 0 && is_masked);
        Ok(())
    }

    /// The images that have no features, by number.
    pub fn missing(&self) -> Vec<usize> {
        let images = self.stored.iter().enumerate();
        images
            .filter(|(_, place)| place.is_none())
            .map(|(image, _)| image)
            .collect()
    }

    /// Checks that no program has changed a bank since it was opened. Preloaded features no longer need their bank.
    ///
    /// # Errors
    /// Names a bank that was changed.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        match self.rows {
            Rows::Stored => {
                let mut banks = self.banks.iter();
                banks.try_for_each(|bank| bank.check_unchanged())
            }
            Rows::InMemory(_) | Rows::InTable(_) => Ok(()),
        }
    }

    /// Appends the rows of an image, (n, F) row after row, and returns n, which can be 0. `boxes` gets the corners (n, 4)
    /// x1, y1, x2, y2 of these rows, in the unit that the model needs.
    ///
    /// These are the rows that are not padding: of the first `padded_to` stored rows, those that are not all zeros. `out`
    /// comes from [`Features::no_values`].
    ///
    /// # Errors
    /// Names an image without features or boxes, or a damaged file.
    pub(crate) fn append(
        &self,
        image: usize,
        out: &mut Values,
        boxes: Option<&mut Vec<f32>>,
    ) -> Result<usize> {
        let start = out.len();
        let mut width = self.spec.width;
        match (&self.rows, &mut *out) {
            (Rows::Stored, _) => return self.append_stored(image, out, boxes),
            (Rows::InMemory(images), _) => out.extend(&images[image])?,
            (Rows::InTable(table), Values::Rows(numbers)) => {
                numbers.extend(table[image].clone());
                width = 1;
            }
            (Rows::InTable(_), _) => bail!("features in a table need a batch of row numbers"),
        }
        if let (Some(boxes), Some(found)) = (boxes, self.boxes.get(image)) {
            boxes.extend(found);
        }
        Ok((out.len() - start) / width)
    }

    /// As [`Features::append`], from a file or a bank.
    fn append_stored(
        &self,
        image: usize,
        out: &mut Values,
        boxes: Option<&mut Vec<f32>>,
    ) -> Result<usize> {
        let (start, width) = (out.len(), self.spec.width);
        let corners = self.read(image, out, boxes.is_some())?;
        let drops_zeros = self.zeros_are_padding();
        if let Some(boxes) = boxes {
            let has_values = out.rows_with_values(start, width);
            let rows = corners.chunks_exact(4).zip(has_values);
            let kept = rows.filter(|(_, has_values)| *has_values || !drops_zeros);
            boxes.extend(kept.flat_map(|(corners, _)| corners));
        }
        if drops_zeros {
            out.drop_zero_rows(start, width);
        }
        Ok((out.len() - start) / width)
    }

    /// Appends the first `padded_to` stored rows of an image, with the rows of zeros; returns the boxes of these rows if
    /// they are wanted.
    fn read(&self, image: usize, out: &mut Values, with_boxes: bool) -> Result<Vec<f32>> {
        // One cell more shows a grid that is larger.
        let rows = self.spec.padded_to + usize::from(self.kind == StreamKind::Grid);
        let start = out.len();
        let stored = match (self.place(image)?, &mut *out) {
            (
                Place::File {
                    folder,
                    name,
                    rows_first,
                },
                Values::F32(values),
            ) => {
                let wanted = self.wanted(rows, *rows_first);
                let path = folder.join(name);
                npz::with_reader(|reader| reader.image_of_file(&path, wanted, with_boxes, values))?
            }
            (Place::Bank { bank, index }, values) => {
                match values {
                    Values::F32(values) => bank.append_f32(*index, rows, values)?,
                    Values::F16(values) => bank.append_f16(*index, rows, values)?,
                    Values::Rows(_) => bail!("a bank does not go into a batch of row numbers"),
                }
                let bbox = match with_boxes {
                    true => bank.boxes(*index, rows)?,
                    false => None,
                };
                let (width, height) = bank.image_size(*index).unwrap_or_default();
                bbox.map(|bbox| Boxes {
                    bbox,
                    width,
                    height,
                })
            }
            _ => bail!("features of .npz files need an f32 batch"),
        };
        if self.kind == StreamKind::Grid {
            self.check_cells(image, (out.len() - start) / self.spec.width)?;
        }
        match self.needs.boxes.filter(|_| with_boxes) {
            Some(unit) => self.corners(image, stored, unit),
            None => Ok(Vec::new()),
        }
    }

    /// Checks that a grid has the configured number of cells: unlike regions, it is taken whole.
    fn check_cells(&self, image: usize, cells: usize) -> Result<()> {
        let (expected, width) = (self.spec.padded_to, self.spec.width);
        let than = if cells > expected { "more" } else { "fewer" };
        ensure!(
            cells == expected,
            "the grid of image {} in {} has {than} cells than {expected}, which FEAT_SIZE expects (GRID_FEAT_SIZE: [{expected}, \
             {width}]); take the grids that the model was made for, or set FEAT_SIZE for a new training",
            self.image_ids[image],
            self.place_of(image)
        );
        Ok(())
    }

    /// Stored boxes, which are in pixels, in `unit`. A width or height of 0 is not known.
    fn corners(&self, image: usize, stored: Option<Boxes>, unit: BoxUnit) -> Result<Vec<f32>> {
        let lacks = |what: &str| {
            format!(
                "the model reads the boxes of regions, and image {} has no {what} in {}; extract it again with them",
                self.image_ids[image],
                self.place_of(image)
            )
        };
        let stored = stored.with_context(|| lacks("boxes in pixels with the size of the image"))?;
        let Boxes {
            mut bbox,
            width,
            height,
        } = stored;
        let wrong = |what: &str| {
            format!(
                "image {} has a box {what} in {}; extract it again",
                self.image_ids[image],
                self.place_of(image)
            )
        };
        let is_finite = bbox.iter().all(|corner| corner.is_finite());
        ensure!(is_finite, "{}", wrong("with a corner that is not finite"));
        // MMNasNet takes the logarithm of width and height in pixels, each plus one.
        let is_turned =
            |corners: &[f32]| corners[2] - corners[0] <= -1.0 || corners[3] - corners[1] <= -1.0;
        let has_turned = unit == BoxUnit::Pixels && bbox.chunks_exact(4).any(is_turned);
        ensure!(
            !has_turned,
            "{}",
            wrong("whose second corner is left of or above its first one")
        );
        if unit == BoxUnit::Shares {
            ensure!(
                width > 0 && height > 0,
                "{}",
                lacks("size (image_w and image_h, or width and height)")
            );
            for corner in bbox.chunks_exact_mut(2) {
                corner[0] /= width as f32;
                corner[1] /= height as f32;
            }
        }
        Ok(bbox)
    }

    fn wanted(&self, max_rows: usize, rows_first: bool) -> npz::Wanted {
        npz::Wanted {
            feature_size: self.spec.width,
            max_rows,
            rows_first,
        }
    }

    fn place(&self, image: usize) -> Result<&Place> {
        self.stored[image].as_ref().with_context(|| {
            format!(
                "image {} has no features in {}; supply its .npz file there",
                self.image_ids[image],
                self.places()
            )
        })
    }

    /// A message that names the file of `image` if its features are not finite.
    fn not_finite(&self, image: usize) -> Option<String> {
        let mut values = self.no_values(0);
        if self.append(image, &mut values, None).is_err() || values.is_finite() {
            return None;
        }
        Some(format!(
            "the features of image {} in {} are not finite; extract them again",
            self.image_ids[image],
            self.place_of(image)
        ))
    }

    /// The file or bank of an image, for messages.
    fn place_of(&self, image: usize) -> String {
        let path = match &self.stored[image] {
            Some(Place::File { folder, name, .. }) => folder.join(name),
            Some(Place::Bank { bank, .. }) => bank.path().to_owned(),
            None => return self.places(),
        };
        path.display().to_string()
    }
}
