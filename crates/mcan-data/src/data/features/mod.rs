//! The image features that a run reads from, whatever they are stored in.
//!
//! For each split in order, a packed bank `<folder>.safetensors` when there is one, else the folder of `.npz` files.
//! This module drops padding: it gives the regions that are not zero among the first `IMG_FEAT_PAD_SIZE`. What the
//! model makes of an image without a region is the loader's to decide.

#[cfg(test)]
pub(crate) mod tests;

use super::{FeatureRows, Split, Values};
use crate::formats::bank::{Bank, Dtype};
use crate::formats::npz;
use anyhow::{Context, Result, bail, ensure};
use half::f16;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The folder of one split's `.npz` files unless a configuration names another: `<FEAT_PATH>/<split>`.
pub fn folder(feature_path: &Path, split: Split) -> PathBuf {
    feature_path.join(split.coco_name())
}

/// The packed bank that takes precedence over `folder`: `<folder>.safetensors` beside it.
pub fn bank_path(folder: &Path) -> PathBuf {
    beside(folder, ".safetensors")
}

/// The archive that `folder` is published as: `<folder>.tar.gz` beside it.
pub fn archive_path(folder: &Path) -> PathBuf {
    beside(folder, ".tar.gz")
}

fn beside(folder: &Path, suffix: &str) -> PathBuf {
    // Going through components removes a slash at the end.
    let mut path = folder.components().as_path().as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Where every image's regions are, and how to get them. Reading needs no lock, so all workers share one.
pub struct Features {
    feature_size: usize,
    pad_size: usize,
    dtype: Dtype,
    /// The folders and banks that were opened.
    places: Vec<PathBuf>,
    banks: Vec<Arc<Bank>>,
    images: FxHashMap<u64, Place>,
    preloaded: FxHashMap<u64, Values>,
    /// Where images are in a table that the device holds; empty unless there is one.
    in_table: FxHashMap<u64, Range<i64>>,
}

enum Place {
    File { folder: Arc<Path>, name: OsString },
    Bank { bank: Arc<Bank>, index: usize },
}

impl Features {
    /// Opens the banks or lists the folders given (one per split, see [`folder`]); a later one wins where two have the
    /// same image. `feature_size` is `IMG_FEAT_SIZE`, `pad_size` `IMG_FEAT_PAD_SIZE`.
    ///
    /// # Errors
    /// A split with neither bank nor folder, a damaged bank, a `.npz` name without an image id, two files of one
    /// folder with the same.
    pub fn open(folders: &[PathBuf], feature_size: usize, pad_size: usize) -> Result<Self> {
        ensure!(
            feature_size > 0 && pad_size > 0,
            "IMG_FEAT_SIZE and IMG_FEAT_PAD_SIZE have to be at least 1"
        );
        let (mut images, mut banks, mut places) = (FxHashMap::default(), Vec::new(), Vec::new());
        let mut all_f16 = !folders.is_empty();
        for folder in folders {
            let bank = bank_path(folder);
            if bank.is_file() {
                let bank = Arc::new(Bank::open(&bank, feature_size)?);
                places.push(bank.path().to_owned());
                all_f16 &= bank.dtype() == Dtype::F16;
                let place = |index| Place::Bank {
                    bank: Arc::clone(&bank),
                    index,
                };
                images.extend(
                    bank.image_ids()
                        .iter()
                        .enumerate()
                        .map(|(index, &id)| (id, place(index))),
                );
                banks.push(bank);
            } else if folder.is_dir() {
                all_f16 = false;
                places.push(folder.clone());
                let shared: Arc<Path> = folder.as_path().into();
                let place = |name| Place::File {
                    folder: Arc::clone(&shared),
                    name,
                };
                images.extend(
                    list(folder)?
                        .into_iter()
                        .map(|(id, name)| (id, place(name))),
                );
            } else {
                bail!(
                    "there are no image features: neither the folder {} nor the bank {} exists; unpack the published \
                     archive there, or put it beside as {} and use --RUN=pack, or name another place with --FEAT_PATH",
                    folder.display(),
                    bank.display(),
                    archive_path(folder).display()
                );
            }
        }
        let dtype = if all_f16 { Dtype::F16 } else { Dtype::F32 };
        let (preloaded, in_table) = (FxHashMap::default(), FxHashMap::default());
        Ok(Features {
            feature_size,
            pad_size,
            dtype,
            places,
            banks,
            images,
            preloaded,
            in_table,
        })
    }

    /// `IMG_FEAT_SIZE`, values per region.
    pub fn feature_size(&self) -> usize {
        self.feature_size
    }

    /// `IMG_FEAT_PAD_SIZE`, the most regions per image.
    pub fn pad_size(&self) -> usize {
        self.pad_size
    }

    /// The folders and banks that images are read from, for messages.
    pub fn places(&self) -> String {
        self.places
            .iter()
            .map(|place| place.display().to_string())
            .collect::<Vec<_>>()
            .join(" or ")
    }

    /// What [`Features::append`] appends to: row numbers when a table holds them, f16 when every source is an f16 bank, else
    /// f32. `capacity` as [`Values::len`] counts.
    pub fn no_values(&self, capacity: usize) -> Values {
        match self.dtype {
            _ if !self.in_table.is_empty() => Values::Rows(Vec::with_capacity(capacity)),
            Dtype::F16 => Values::F16(Vec::with_capacity(capacity)),
            Dtype::F32 => Values::F32(Vec::with_capacity(capacity)),
        }
    }

    /// The rows of no image yet, with room for `capacity` values.
    pub fn new_rows(&self, capacity: usize) -> FeatureRows {
        FeatureRows {
            values: self.no_values(capacity),
            boxes: None,
            counts: Vec::new(),
            all_padding: Vec::new(),
            padded_to: self.pad_size,
        }
    }

    /// Those of `image_ids` that have no features, ascending, each once.
    pub fn missing(&self, image_ids: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut missing: Vec<u64> = image_ids
            .into_iter()
            .filter(|id| !self.images.contains_key(id))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Makes sure that no program has changed a bank since it was opened. (Other files are read anew each time.)
    ///
    /// # Errors
    /// When one has, by name.
    pub fn check_unchanged(&self) -> Result<()> {
        let in_use = (self.preloaded.is_empty() && self.in_table.is_empty()).then_some(&self.banks);
        in_use
            .into_iter()
            .flatten()
            .try_for_each(|bank| bank.check_unchanged())
    }

    /// Appends the image's regions, (n, `IMG_FEAT_SIZE`) row after row, and returns n.
    ///
    /// Only the first `IMG_FEAT_PAD_SIZE` stored regions count, and of those only the ones that are not all zeros, which
    /// is what the reference's attention mask sees; n can be 0. `out` comes from [`Features::no_regions`].
    ///
    /// # Errors
    /// An image without features, and a damaged file, by name.
    pub fn append(&self, image_id: u64, out: &mut Values) -> Result<usize> {
        let start = out.len();
        if let (Some(rows), Values::Rows(numbers)) = (self.in_table.get(&image_id), &mut *out) {
            numbers.extend(rows.clone());
            return Ok(numbers.len() - start);
        }
        if let Some(rows) = self.preloaded.get(&image_id) {
            out.extend(rows)?;
        } else {
            match (self.images.get(&image_id), &mut *out) {
                (Some(Place::File { folder, name }), Values::F32(values)) => {
                    let path = folder.join(name);
                    npz::with_reader(|reader| {
                        reader.read_file(&path, self.feature_size, self.pad_size, values)
                    })?;
                }
                (Some(Place::Bank { bank, index }), out) => {
                    bank.append(*index, self.pad_size, out)?
                }
                (Some(Place::File { .. }), _) => bail!(".npz features go into an f32 batch only"),
                (None, _) => {
                    bail!(
                        "image {image_id} has no features in {}; supply its .npz file there",
                        self.places()
                    )
                }
            }
            match out {
                Values::F32(values) => drop_zero_rows(values, start, self.feature_size, 0.0),
                Values::F16(values) => drop_zero_rows(values, start, self.feature_size, f16::ZERO),
                Values::Rows(_) => {}
            }
        }
        Ok((out.len() - start) / self.feature_size)
    }

    /// The first of these images whose features are not finite, and where they are, as a sentence; none when all are.
    pub fn not_finite(&self, image_ids: &[u64]) -> Option<String> {
        let is_bad = |&&image: &&u64| {
            let mut regions = self.no_values(0);
            self.append(image, &mut regions).is_ok() && !regions.is_finite()
        };
        let image = image_ids.iter().find(is_bad)?;
        let path = match self.images.get(image)? {
            Place::File { folder, name } => folder.join(name),
            Place::Bank { bank, .. } => bank.path().to_owned(),
        };
        Some(format!(
            "the features of image {image} in {} are not finite, extract them anew",
            path.display()
        ))
    }

    /// Reads the given images into memory, in parallel; from then on they are not read again. With `in_half` they are rounded
    /// to f16, for [`Features::move_to_table`].
    ///
    /// `progress` is told, from any thread, how many images are done.
    ///
    /// # Errors
    /// As [`Features::append`].
    pub fn preload(
        &mut self,
        image_ids: impl IntoIterator<Item = u64>,
        in_half: bool,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<()> {
        let mut image_ids: Vec<u64> = image_ids.into_iter().collect();
        image_ids.sort_unstable();
        image_ids.dedup();
        let done = AtomicUsize::new(0);
        let load = |&id: &u64| -> Result<(u64, Values)> {
            let mut regions = self.no_values(0);
            self.append(id, &mut regions)?;
            if in_half {
                regions = regions
                    .rounded(self.feature_size)
                    .with_context(|| format!("image {id}"))?;
            }
            regions.shrink_to_fit();
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            Ok((id, regions))
        };
        let loaded = image_ids.par_iter().map(load).collect::<Result<Vec<_>>>()?;
        self.preloaded.extend(loaded);
        Ok(())
    }

    /// How many rows a table of the preloaded images has: one of zeros, and theirs.
    pub fn rows_for_a_table(&self) -> usize {
        1 + self
            .preloaded
            .values()
            .map(|regions| regions.len() / self.feature_size)
            .sum::<usize>()
    }

    /// Moves the preloaded images, which are in f16, to a table, in stretches of whole rows that `take` is given in order;
    /// from then on [`Features::append`] gives row numbers of that table.
    ///
    /// # Errors
    /// Those of `take`, and images that are not in f16.
    pub fn move_to_table(&mut self, take: &mut dyn FnMut(&[f16]) -> Result<()>) -> Result<()> {
        const STRETCH: usize = 1 << 24; // values
        let mut images: Vec<(u64, Values)> = self.preloaded.drain().collect();
        images.sort_unstable_by_key(|&(id, _)| id);
        let (mut stretch, mut row) = (vec![f16::ZERO; self.feature_size], ZERO_ROW + 1);
        for (id, regions) in images {
            let Values::F16(values) = regions else {
                bail!("the features of image {id} are not in f16")
            };
            let end = row + (values.len() / self.feature_size) as i64;
            self.in_table.insert(id, row..end);
            row = end;
            stretch.extend(values);
            if stretch.len() >= STRETCH {
                take(&stretch)?;
                stretch.clear();
            }
        }
        if stretch.is_empty() {
            Ok(())
        } else {
            take(&stretch)
        }
    }
}

/// The row of a table that is all zeros.
const ZERO_ROW: i64 = 0;

impl Values {
    /// Number of values, or of row numbers.
    #[expect(
        clippy::len_without_is_empty,
        reason = "rows are counted elsewhere; nobody asks"
    )]
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F16(values) => values.len(),
            Values::Rows(numbers) => numbers.len(),
        }
    }

    /// Appends `rows` rows of `columns` zeros.
    pub fn push_zeros(&mut self, rows: usize, columns: usize) {
        match self {
            Values::F32(values) => values.resize(values.len() + rows * columns, 0.0),
            Values::F16(values) => values.resize(values.len() + rows * columns, f16::ZERO),
            Values::Rows(numbers) => numbers.resize(numbers.len() + rows, ZERO_ROW),
        }
    }

    fn is_finite(&self) -> bool {
        match self {
            Values::F32(values) => values.iter().all(|value| value.is_finite()),
            Values::F16(values) => values.iter().all(|value| value.is_finite()),
            // Checked when they were put into the table.
            Values::Rows(_) => true,
        }
    }

    /// Rounded to f16; rows that come out as zeros are dropped, as from an f16 bank.
    fn rounded(self, columns: usize) -> Result<Values> {
        let mut values = match self {
            Values::F32(values) => values.into_iter().map(f16::from_f32).collect(),
            Values::F16(values) => values,
            Values::Rows(_) => bail!("row numbers are no features"),
        };
        ensure!(
            values.iter().all(|value: &f16| value.is_finite()),
            "its features are not finite, or larger than half precision holds; extract them anew"
        );
        drop_zero_rows(&mut values, 0, columns, f16::ZERO);
        Ok(Values::F16(values))
    }

    fn extend(&mut self, other: &Values) -> Result<()> {
        match (self, other) {
            (Values::F32(values), Values::F32(others)) => values.extend_from_slice(others),
            (Values::F16(values), Values::F16(others)) => values.extend_from_slice(others),
            _ => bail!("regions of two precisions do not go into one batch"),
        }
        Ok(())
    }

    fn shrink_to_fit(&mut self) {
        match self {
            Values::F32(values) => values.shrink_to_fit(),
            Values::F16(values) => values.shrink_to_fit(),
            Values::Rows(numbers) => numbers.shrink_to_fit(),
        }
    }
}

/// Removes the rows of `values[start..]` in which every value is zero (of either sign), keeping the order.
fn drop_zero_rows<T: Copy + PartialEq>(values: &mut Vec<T>, start: usize, columns: usize, zero: T) {
    let mut end = start;
    for row in (start..values.len()).step_by(columns) {
        if values[row..row + columns].iter().any(|&v| v != zero) {
            if end < row {
                values.copy_within(row..row + columns, end);
            }
            end += columns;
        }
    }
    values.truncate(end);
}

/// The image id in a feature file's name, `COCO_<split>_<12 digits>.jpg.npz`: what is between the last `_` and the
/// first `.` behind it, as the reference reads it. None for a file that is not a feature file (hidden, or not `.npz`).
pub(crate) fn image_id(name: &str) -> Result<Option<u64>> {
    if name.starts_with('.') || !name.ends_with(".npz") {
        return Ok(None);
    }
    let last = name.rsplit('_').next().unwrap_or(name);
    let digits = last.split('.').next().unwrap_or(last);
    // A bank stores ids as i64.
    let fits = |&id: &u64| digits.bytes().all(|b| b.is_ascii_digit()) && i64::try_from(id).is_ok();
    let id = digits.parse().ok().filter(fits);
    let id = id.with_context(|| {
        format!("{name} has no image id in its name; COCO_<split>_<image id>.jpg.npz is expected")
    })?;
    Ok(Some(id))
}

/// The feature files of a folder with their image ids, by ascending id.
pub(crate) fn list(folder: &Path) -> Result<Vec<(u64, OsString)>> {
    let cannot = || format!("cannot list the image features in {}", folder.display());
    let mut names: FxHashMap<u64, OsString> = FxHashMap::default();
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name();
        let Some(id) = image_id(&name.to_string_lossy()).with_context(cannot)? else {
            continue;
        };
        match names.entry(id) {
            Entry::Vacant(vacant) => vacant.insert(name),
            Entry::Occupied(other) => {
                let other = other.get();
                bail!(
                    "{} has two files for image {id}: {other:?} and {name:?}; remove one",
                    folder.display()
                )
            }
        };
    }
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    Ok(names)
}
