//! The image features that a run reads from, whatever they are stored in.
//!
//! For each split in order, a packed bank `<folder>.safetensors` when there is one, else the folder of `.npz` files.
//! This module drops padding: it gives the rows that are not zero among the first `padded_to`. In a batch, an image without
//! such a row keeps `padded_to` rows of zeros and is marked; what that means is the model's to decide.

mod place;
mod store;
#[cfg(test)]
pub(crate) mod tests;

pub use place::{FeaturePlace, FileNames, archive_path, bank_path, image_number};
pub use store::FeatureStore;

use super::streams::{StreamKind, StreamSpec};
use super::values::ZERO_ROW;
use super::{FeatureRows, ImageId, Values};
use crate::formats::bank::{Bank, Dtype};
use crate::formats::npz;
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use half::f16;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One stream of the features of a run's images, which are numbered from 0. Reading needs no lock, so all workers share
/// one.
pub struct Features {
    spec: StreamSpec,
    dtype: Dtype,
    image_ids: Arc<[ImageId]>,
    /// The folders and banks that were opened.
    places: Vec<PathBuf>,
    banks: Vec<Arc<Bank>>,
    /// By image, what holds it on disk.
    stored: Vec<Option<Stored>>,
    rows: Rows,
}

/// The numbers of a run's images.
type Images<'a> = FxHashMap<&'a ImageId, usize>;

/// What holds an image on disk.
enum Stored {
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

/// Where rows are taken from.
enum Rows {
    /// The files and banks, each time.
    OnDisk,
    /// Memory: by image, its rows that are not padding.
    InMemory(Vec<Values>),
    /// A table that the device holds: by image, the numbers of its rows.
    InTable(Vec<Range<i64>>),
}

impl Features {
    /// Opens the banks or lists the folders given, one per split, for these images. A later one wins where two have the
    /// same image.
    ///
    /// # Errors
    /// A split with neither bank nor folder, a damaged bank, a `.npz` name without an image id, two files of one
    /// folder with the same.
    pub fn open(
        all: &[FeaturePlace],
        kind: StreamKind,
        spec: StreamSpec,
        image_ids: Arc<[ImageId]>,
    ) -> Result<Self> {
        ensure!(
            spec.width > 0 && spec.padded_to > 0,
            "IMG_FEAT_SIZE and IMG_FEAT_PAD_SIZE have to be at least 1"
        );
        let mut features = Features {
            spec,
            dtype: Dtype::F32,
            stored: image_ids.iter().map(|_| None).collect(),
            image_ids: Arc::clone(&image_ids),
            places: Vec::new(),
            banks: Vec::new(),
            rows: Rows::OnDisk,
        };
        let images: Images = image_ids.iter().zip(0..).collect();
        for FeaturePlace { folder, names } in all {
            let path = bank_path(folder);
            if path.is_file() {
                features.add_bank(path, kind, *names, &images)?;
            } else if folder.is_dir() {
                features.add_folder(folder, *names, &images)?;
            } else {
                return Err(no_features(folder));
            }
        }
        let are_banks = features.banks.len() == all.len() && !all.is_empty();
        let mut banks = features.banks.iter();
        if are_banks && banks.all(|bank| bank.dtype() == Dtype::F16) {
            features.dtype = Dtype::F16;
        }
        Ok(features)
    }

    fn add_bank(
        &mut self,
        path: PathBuf,
        kind: StreamKind,
        names: FileNames,
        images: &Images,
    ) -> Result<()> {
        let bank = Arc::new(Bank::open(&path, kind.array(), self.spec.width)?);
        for (index, key) in bank.keys().iter().enumerate() {
            if let Some(image) = names.image_id(key).and_then(|id| images.get(&id)) {
                let bank = Arc::clone(&bank);
                self.stored[*image] = Some(Stored::Bank { bank, index });
            }
        }
        self.places.push(path);
        self.banks.push(bank);
        Ok(())
    }

    fn add_folder(&mut self, folder: &Path, names: FileNames, images: &Images) -> Result<()> {
        let shared: Arc<Path> = folder.into();
        for (key, name) in names.list(folder)? {
            if let Some(image) = names.image_id(&key).and_then(|id| images.get(&id)) {
                self.stored[*image] = Some(Stored::File {
                    folder: Arc::clone(&shared),
                    name,
                    rows_first: names.rows_first,
                });
            }
        }
        self.places.push(folder.to_owned());
        Ok(())
    }

    /// How many images there are.
    pub fn images(&self) -> usize {
        self.image_ids.len()
    }

    /// F, values per row.
    pub fn feature_size(&self) -> usize {
        self.spec.width
    }

    /// The folders and banks that images are read from, for messages.
    pub fn places(&self) -> String {
        self.places
            .iter()
            .map(|place| place.display().to_string())
            .collect::<Vec<_>>()
            .join(" or ")
    }

    /// What [`Features::append`] appends to: row numbers when a table holds the features, f16 when every source is an f16
    /// bank, else f32. `capacity` as [`Values::len`] counts.
    pub fn no_values(&self, capacity: usize) -> Values {
        match (&self.rows, self.dtype) {
            (Rows::InTable(_), _) => Values::Rows(Vec::with_capacity(capacity)),
            (_, Dtype::F16) => Values::F16(Vec::with_capacity(capacity)),
            (_, Dtype::F32) => Values::F32(Vec::with_capacity(capacity)),
        }
    }

    /// The rows of no image yet, with room for `capacity` values.
    pub(super) fn new_rows(&self, capacity: usize, with_boxes: bool) -> FeatureRows {
        FeatureRows {
            values: self.no_values(capacity),
            boxes: with_boxes.then(Vec::new),
            counts: Vec::new(),
            all_padding: Vec::new(),
            padded_to: self.spec.padded_to,
        }
    }

    /// Appends an image's rows; of an image without a row `padded_to` rows of zeros.
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
            .filter(|(_, stored)| stored.is_none())
            .map(|(image, _)| image)
            .collect()
    }

    /// Makes sure that no program has changed a bank since it was opened. (Other files are read anew each time.)
    ///
    /// # Errors
    /// When one has, by name.
    pub fn check_unchanged(&self) -> Result<()> {
        match self.rows {
            Rows::OnDisk => self
                .banks
                .iter()
                .try_for_each(|bank| bank.check_unchanged()),
            Rows::InMemory(_) | Rows::InTable(_) => Ok(()),
        }
    }

    /// Appends an image's rows, (n, F) row after row, and returns n.
    ///
    /// Only the first `padded_to` stored rows count, and of those only the ones that are not all zeros, which is what the
    /// reference's attention mask sees; n can be 0. `out` comes from [`Features::no_values`].
    ///
    /// # Errors
    /// An image without features, and a damaged file, by name.
    pub fn append(&self, image: usize, out: &mut Values) -> Result<usize> {
        let start = out.len();
        match (&self.rows, &mut *out) {
            (Rows::InTable(table), Values::Rows(numbers)) => {
                numbers.extend(table[image].clone());
                return Ok(numbers.len() - start);
            }
            (Rows::InTable(_), _) => {
                bail!("the rows of a table go into a batch of row numbers only")
            }
            (Rows::InMemory(images), _) => out.extend(&images[image])?,
            (Rows::OnDisk, _) => {
                self.read(image, out)?;
                out.drop_zero_rows(start, self.spec.width);
            }
        }
        Ok((out.len() - start) / self.spec.width)
    }

    /// Appends the first `padded_to` stored rows of an image, those of zeros too.
    fn read(&self, image: usize, out: &mut Values) -> Result<()> {
        let rows = self.spec.padded_to;
        match (self.stored(image)?, out) {
            (
                Stored::File {
                    folder,
                    name,
                    rows_first,
                },
                Values::F32(values),
            ) => {
                let wanted = npz::Wanted {
                    feature_size: self.spec.width,
                    max_rows: rows,
                    rows_first: *rows_first,
                };
                let path = folder.join(name);
                npz::with_reader(|reader| reader.read_file(&path, wanted, values)).map(drop)
            }
            (Stored::Bank { bank, index }, Values::F32(values)) => {
                bank.append_f32(*index, rows, values)
            }
            (Stored::Bank { bank, index }, Values::F16(values)) => {
                bank.append_f16(*index, rows, values)
            }
            _ => bail!(".npz features go into an f32 batch only"),
        }
    }

    fn stored(&self, image: usize) -> Result<&Stored> {
        self.stored[image].as_ref().with_context(|| {
            format!(
                "image {} has no features in {}; supply its .npz file there",
                self.image_ids[image],
                self.places()
            )
        })
    }

    /// (n, 4) corners of the rows that [`Features::append`] appends, in pixels.
    ///
    /// # Errors
    /// An image without features or without boxes, and a damaged file, by name.
    pub fn boxes(&self, image: usize) -> Result<Vec<f32>> {
        let width = self.spec.width;
        let mut values = Vec::new();
        let boxes = match self.stored(image)? {
            Stored::File {
                folder,
                name,
                rows_first,
            } => {
                let (path, wanted) = (
                    folder.join(name),
                    npz::Wanted {
                        feature_size: width,
                        max_rows: usize::MAX,
                        rows_first: *rows_first,
                    },
                );
                let rows = npz::with_reader(|reader| reader.read_file(&path, wanted, &mut values))?;
                npz::with_reader(|reader| reader.boxes_of_file(&path, rows))?
                    .map(|boxes| boxes.bbox)
            }
            Stored::Bank { bank, index } => {
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

    /// Where the features of `image` are, as a sentence, if they are not finite.
    fn not_finite(&self, image: usize) -> Option<String> {
        let mut values = self.no_values(0);
        if self.append(image, &mut values).is_err() || values.is_finite() {
            return None;
        }
        let path = match self.stored[image].as_ref()? {
            Stored::File { folder, name, .. } => folder.join(name),
            Stored::Bank { bank, .. } => bank.path().to_owned(),
        };
        Some(format!(
            "the features of image {} in {} are not finite, extract them anew",
            self.image_ids[image],
            path.display()
        ))
    }

    /// Reads all images into memory, in parallel; from then on they are not read again. With `in_half` they are rounded to
    /// f16, for [`Features::move_to_table`].
    ///
    /// `progress` is told, from any thread, how many images are done.
    ///
    /// # Errors
    /// As [`Features::append`].
    pub fn preload(&mut self, in_half: bool, progress: &(dyn Fn(usize) + Sync)) -> Result<()> {
        let done = AtomicUsize::new(0);
        let load = |image: usize| -> Result<Values> {
            let mut values = self.no_values(0);
            self.append(image, &mut values)?;
            if in_half {
                values = values
                    .rounded(self.spec.width)
                    .with_context(|| format!("image {}", self.image_ids[image]))?;
            }
            values.shrink_to_fit();
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            Ok(values)
        };
        let images = (0..self.stored.len()).into_par_iter();
        self.rows = Rows::InMemory(images.map(load).collect::<Result<_>>()?);
        Ok(())
    }

    /// How many rows a table of the preloaded images has: one of zeros, and theirs.
    pub fn rows_for_a_table(&self) -> usize {
        let rows = |values: &Values| values.len() / self.spec.width;
        match &self.rows {
            Rows::InMemory(images) => 1 + images.iter().map(rows).sum::<usize>(),
            Rows::OnDisk | Rows::InTable(_) => 1,
        }
    }

    /// Moves the preloaded images, which are in f16, to a table, in stretches of whole rows that `take` is given in order;
    /// from then on [`Features::append`] gives row numbers of that table.
    ///
    /// # Errors
    /// Those of `take`, and images that are not in f16.
    pub fn move_to_table(&mut self, take: &mut dyn FnMut(&[f16]) -> Result<()>) -> Result<()> {
        const STRETCH: usize = 1 << 24; // values
        let width = self.spec.width;
        let Rows::InMemory(images) = std::mem::replace(&mut self.rows, Rows::OnDisk) else {
            bail!("features have to be in memory before they go into a table")
        };
        let (mut stretch, mut row) = (vec![f16::ZERO; width], ZERO_ROW + 1);
        let mut table = Vec::with_capacity(images.len());
        for (image, values) in images.into_iter().enumerate() {
            let Values::F16(values) = values else {
                bail!(
                    "the features of image {} are not in f16",
                    self.image_ids[image]
                )
            };
            let end = row + (values.len() / width) as i64;
            table.push(row..end);
            row = end;
            stretch.extend(values);
            if stretch.len() >= STRETCH {
                take(&stretch)?;
                stretch.clear();
            }
        }
        if !stretch.is_empty() {
            take(&stretch)?;
        }
        self.rows = Rows::InTable(table);
        Ok(())
    }
}

/// Why features cannot be opened for a split that has neither a folder nor a bank.
fn no_features(folder: &Path) -> Error {
    anyhow!(
        "there are no image features: neither the folder {} nor the bank {} exists; unpack the published archive there, or \
         put it beside as {} and use --RUN=pack, or name another place with --FEAT_PATH",
        folder.display(),
        bank_path(folder).display(),
        archive_path(folder).display()
    )
}
