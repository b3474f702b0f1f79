//! The image features of a run.
//!
//! The features of a split are in a packed bank `<folder>.safetensors` if there is one, else in the folder of `.npz`
//! files. This module drops padding: it gives the rows that are not zero among the first `padded_to`. In a batch, an image
//! without such a row keeps `padded_to` rows of zeros and is marked; the model decides about these rows.

mod place;
mod preload;
mod store;
#[cfg(test)]
pub(crate) mod tests;

pub use place::{FeaturePlace, FileNames, archive_path, bank_path, find_archive, image_number};
pub use store::FeatureStore;

use super::streams::{StreamKind, StreamSpec};
use super::{FeatureRows, ImageId, Values};
use crate::base::files;
use crate::formats::bank::{Bank, Dtype, ImageKey};
use crate::formats::npz;
use anyhow::{Context, Result, bail, ensure};
use rustc_hash::FxHashMap;
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

/// The numbers of the images of a run.
struct Numbers<'a> {
    of_id: FxHashMap<&'a ImageId, Vec<usize>>,
    /// For each image, the split whose folder is its own.
    splits: &'a [Option<&'static str>],
}

impl<'a> Numbers<'a> {
    fn new(image_ids: &'a [ImageId], splits: &'a [Option<&'static str>]) -> Numbers<'a> {
        let mut of_id: FxHashMap<&ImageId, Vec<usize>> = FxHashMap::default();
        for (number, id) in image_ids.iter().enumerate() {
            of_id.entry(id).or_default().push(number);
        }
        Numbers { of_id, splits }
    }

    /// The images that `key` is the id of in `place`.
    fn of(&self, key: &ImageKey, place: &FeaturePlace) -> Vec<usize> {
        let image = place.names.image_id(key);
        image
            .and_then(|image| self.of_id.get(&image))
            .cloned()
            .unwrap_or_default()
    }
}

/// What [`Features::survey`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Images looked at.
    pub images: usize,
    /// Those with more rows than are used.
    pub beyond: usize,
    /// The most rows of one of them.
    pub most: usize,
    /// Those in files whose values are all zeros, and those in banks without a row.
    pub empty: usize,
}

impl Features {
    /// Opens the banks or lists the folders, one per split, for these images. If two of them have an image of the same id,
    /// that of the image's own split counts (`splits`, for each image, if it is known), else the later one.
    ///
    /// # Errors
    /// A split with neither bank nor folder, a damaged bank, a name of a `.npz` file without an image id, two files of a
    /// folder with the same id.
    pub fn open(
        all: &[FeaturePlace],
        kind: StreamKind,
        spec: StreamSpec,
        image_ids: Arc<[ImageId]>,
        splits: &[Option<&'static str>],
    ) -> Result<Self> {
        ensure!(
            spec.width > 0 && spec.padded_to > 0,
            "IMG_FEAT_SIZE and IMG_FEAT_PAD_SIZE must be at least 1"
        );
        let numbers = Numbers::new(&image_ids, splits);
        let mut features = Features {
            spec,
            // A bank of another precision or a folder changes it.
            dtype: if all.is_empty() {
                Dtype::F32
            } else {
                Dtype::F16
            },
            image_ids: Arc::clone(&image_ids),
            places: Vec::new(),
            banks: Vec::new(),
            stored: image_ids.iter().map(|_| None).collect(),
            in_own_split: vec![false; image_ids.len()],
            rows: Rows::Stored,
        };
        for place in all {
            let (folder, bank) = (&place.folder, bank_path(&place.folder));
            if files::is_file(&bank)? {
                features.add_bank(bank, place, kind, &numbers)?;
            } else if files::is_folder(folder)? {
                features.add_folder(place, &numbers)?;
            } else {
                bail!(
                    "there are no image features: neither the folder {} nor the bank {} exists; unpack the published \
                     archive into the folder, or store it as {} and use --RUN=pack, or name another folder with \
                     --FEAT_PATH",
                    folder.display(),
                    bank.display(),
                    archive_path(folder).display()
                );
            }
        }
        features.add_files_beside_banks(all, &numbers)?;
        features.note_images_of_other_splits(&numbers);
        Ok(features)
    }

    /// Says how many images are read from the folder of another split, because their own lacks them.
    fn note_images_of_other_splits(&self, numbers: &Numbers) {
        let images = numbers
            .splits
            .iter()
            .zip(&self.in_own_split)
            .zip(&self.stored);
        let elsewhere =
            images.filter(|((split, own), place)| split.is_some() && !**own && place.is_some());
        let elsewhere = elsewhere.count();
        if elsewhere > 0 {
            crate::note!(
                "{elsewhere} images are not in the folder of their own split; those with the same number in {} are used",
                self.places()
            );
        }
    }

    /// Adds images that a bank lacks, because their files came into its folder after it was packed.
    fn add_files_beside_banks(&mut self, all: &[FeaturePlace], numbers: &Numbers) -> Result<()> {
        for place in all {
            let bank = bank_path(&place.folder);
            let missing = self.missing().len();
            let has_both = files::is_file(&bank)? && files::is_folder(&place.folder)?;
            if missing == 0 || !has_both {
                continue;
            }
            let stored = std::mem::take(&mut self.stored);
            self.stored = stored.iter().map(|_| None).collect();
            let (dtype, places) = (self.dtype, self.places.len());
            self.add_folder(place, numbers)?;
            for (found, known) in self.stored.iter_mut().zip(stored) {
                *found = known.or(found.take());
            }
            let added = missing - self.missing().len();
            if added == 0 {
                self.dtype = dtype;
                self.places.truncate(places);
                continue;
            }
            crate::note!(
                "{added} images are not in {} and are read from its folder; pack it anew with --RUN=pack --OVERWRITE=True",
                bank.display()
            );
        }
        Ok(())
    }

    /// Stores where image `number` is, unless it is found in the folder of its own split already.
    fn store(&mut self, number: usize, found: Place, numbers: &Numbers, place: &FeaturePlace) {
        let is_own = numbers.splits.get(number).copied().flatten() == Some(place.split);
        if is_own || !self.in_own_split[number] {
            self.stored[number] = Some(found);
            self.in_own_split[number] = is_own;
        }
    }

    /// Adds the images of a bank; `numbers` are the numbers of the images of the run.
    fn add_bank(
        &mut self,
        path: PathBuf,
        place: &FeaturePlace,
        kind: StreamKind,
        numbers: &Numbers,
    ) -> Result<()> {
        let bank = Arc::new(Bank::open(&path, kind.array(), self.spec.width)?);
        if bank.dtype() != Dtype::F16 {
            self.dtype = Dtype::F32;
        }
        for (index, key) in bank.keys().iter().enumerate() {
            for number in numbers.of(key, place) {
                let bank = Arc::clone(&bank);
                self.store(number, Place::Bank { bank, index }, numbers, place);
            }
        }
        self.places.push(path);
        self.banks.push(bank);
        Ok(())
    }

    /// Adds the images of a folder; `numbers` are the numbers of the images of the run.
    fn add_folder(&mut self, place: &FeaturePlace, numbers: &Numbers) -> Result<()> {
        let folder: Arc<Path> = place.folder.as_path().into();
        for (key, name) in place.names.list(&folder)? {
            for number in numbers.of(&key, place) {
                let file = Place::File {
                    folder: Arc::clone(&folder),
                    name: name.clone(),
                    rows_first: place.names.rows_first,
                };
                self.store(number, file, numbers, place);
            }
        }
        self.dtype = Dtype::F32;
        self.places.push(place.folder.clone());
        Ok(())
    }

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

    /// Looks at images for those whose features are of little use: at all images of banks, and at some, evenly spaced, whose
    /// features are in files, because each must be read.
    ///
    /// # Errors
    /// A damaged bank.
    pub fn survey(&self) -> Result<Survey> {
        const FILES: usize = 64;
        let is_file = |place: &&Place| matches!(place, Place::File { .. });
        let files = self.stored.iter().flatten().filter(is_file).count();
        let every = files.div_ceil(FILES).max(1);
        let (mut survey, mut seen) = (Survey::default(), 0);
        let mut values = Vec::new();
        for place in self.stored.iter().flatten() {
            let rows = match place {
                Place::Bank { bank, index } => bank.image_rows(*index)?,
                Place::File {
                    folder,
                    name,
                    rows_first,
                } => {
                    seen += 1;
                    if (seen - 1) % every != 0 {
                        continue;
                    }
                    values.clear();
                    let wanted = self.wanted(self.spec.padded_to, *rows_first);
                    let path = folder.join(name);
                    // A pipe can be read only once.
                    if !files::look(&path)?.is_some_and(|found| found.is_file()) {
                        continue;
                    }
                    // The run names a damaged file with its question.
                    let Ok(rows) = npz::with_reader(|reader| {
                        reader.counted_rows_of_file(&path, wanted, &mut values)
                    }) else {
                        continue;
                    };
                    survey.empty += usize::from(values.iter().all(|&value| value == 0.0));
                    rows
                }
            };
            survey.images += 1;
            survey.empty += usize::from(rows == 0 && matches!(place, Place::Bank { .. }));
            survey.beyond += usize::from(rows > self.spec.padded_to);
            survey.most = survey.most.max(rows);
        }
        Ok(survey)
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
        let path = match self.stored[image].as_ref()? {
            Place::File { folder, name, .. } => folder.join(name),
            Place::Bank { bank, .. } => bank.path().to_owned(),
        };
        Some(format!(
            "the features of image {} in {} are not finite; extract them again",
            self.image_ids[image],
            path.display()
        ))
    }
}
