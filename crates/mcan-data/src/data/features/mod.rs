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

use super::streams::StreamSpec;
use super::{FeatureRows, ImageId, Values};
use crate::formats::bank::{Bank, Dtype};
use crate::formats::npz;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One stream of features of the images of a run, which are numbered from 0. Reading needs no lock, so that all workers
/// share one `Features`.
pub struct Features {
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

    /// Empty rows with room for `capacity` values.
    pub(super) fn new_rows(&self, capacity: usize, with_boxes: bool) -> FeatureRows {
        FeatureRows {
            values: self.no_values(capacity),
            boxes: with_boxes.then(Vec::new),
            counts: Vec::new(),
            all_padding: Vec::new(),
            padded_to: self.spec.padded_to,
        }
    }

    /// Appends the rows of an image; for an image without a row, `padded_to` rows of zeros.
    pub(super) fn append_padded(&self, image: usize, out: &mut FeatureRows) -> Result<()> {
        let found = self.append(image, &mut out.values)?;
        let rows = if found > 0 { found } else { out.padded_to };
        out.values.push_zeros(rows - found, self.spec.width);
        if let Some(boxes) = &mut out.boxes {
            boxes.extend(self.boxes(image)?);
            boxes.resize(boxes.len() + 4 * (rows - found), 0.0);
        }
        out.counts.push(rows);
        out.all_padding.push(found == 0);
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

    /// Appends the rows of an image, (n, F) row after row, and returns n, which can be 0.
    ///
    /// These are the rows that the attention mask of the reference leaves open: of the first `padded_to` stored rows, those
    /// that are not all zeros. `out` comes from [`Features::no_values`].
    ///
    /// # Errors
    /// Names an image without features, or a damaged file.
    pub(crate) fn append(&self, image: usize, out: &mut Values) -> Result<usize> {
        let start = out.len();
        match (&self.rows, &mut *out) {
            (Rows::InTable(table), Values::Rows(numbers)) => {
                numbers.extend(table[image].clone());
                return Ok(numbers.len() - start);
            }
            (Rows::InTable(_), _) => bail!("features in a table need a batch of row numbers"),
            (Rows::InMemory(images), _) => out.extend(&images[image])?,
            (Rows::Stored, _) => {
                self.read(image, out)?;
                out.drop_zero_rows(start, self.spec.width);
            }
        }
        Ok((out.len() - start) / self.spec.width)
    }

    /// Appends the first `padded_to` stored rows of an image, with the rows of zeros.
    fn read(&self, image: usize, out: &mut Values) -> Result<()> {
        let rows = self.spec.padded_to;
        match (self.place(image)?, out) {
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
                npz::with_reader(|reader| reader.read_file(&path, wanted, values)).map(drop)
            }
            (Place::Bank { bank, index }, Values::F32(values)) => {
                bank.append_f32(*index, rows, values)
            }
            (Place::Bank { bank, index }, Values::F16(values)) => {
                bank.append_f16(*index, rows, values)
            }
            _ => bail!("features of .npz files need an f32 batch"),
        }
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

    /// (n, 4) corners x1, y1, x2, y2 in pixels of the rows that [`Features::append`] appends.
    ///
    /// # Errors
    /// Names an image without features or boxes, or a damaged file.
    pub(crate) fn boxes(&self, image: usize) -> Result<Vec<f32>> {
        let width = self.spec.width;
        let mut values = Vec::new();
        let boxes = match self.place(image)? {
            Place::File {
                folder,
                name,
                rows_first,
            } => {
                let wanted = self.wanted(usize::MAX, *rows_first);
                let path = folder.join(name);
                let rows = npz::with_reader(|reader| reader.read_file(&path, wanted, &mut values))?;
                npz::with_reader(|reader| reader.boxes_of_file(&path, rows))?
                    .map(|boxes| boxes.bbox)
            }
            Place::Bank { bank, index } => {
                bank.append_f32(*index, self.spec.padded_to, &mut values)?;
                bank.boxes(*index, self.spec.padded_to)?
            }
        };
        let boxes = boxes.with_context(|| {
            format!(
                "image {} has no boxes in {}",
                self.image_ids[image],
                self.places()
            )
        })?;
        let is_kept = |row: &[f32]| row.iter().any(|&value| value != 0.0);
        let rows = values.chunks(width).take(self.spec.padded_to);
        let kept = rows.zip(boxes.chunks(4)).filter(|(row, _)| is_kept(row));
        Ok(kept.flat_map(|(_, corners)| corners).copied().collect())
    }

    /// A message that names the file of `image` if its features are not finite.
    fn not_finite(&self, image: usize) -> Option<String> {
        let mut values = self.no_values(0);
        if self.append(image, &mut values).is_err() || values.is_finite() {
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
