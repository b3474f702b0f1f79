//! Where the image features of a split are, and how their files are named.

use crate::data::ImageId;
use crate::formats::bank::Key;
use anyhow::{Context, Result, bail};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A folder of feature files, which may also be packed in a bank beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeaturePlace {
    /// The folder.
    pub folder: PathBuf,
    /// How its files are named.
    pub names: FileNames,
}

/// How feature files are named, and how their arrays lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileNames {
    /// `COCO_<split>_<12-digit image id>.jpg.npz` with `x` (F, n), as for VQA-v2.
    Coco,
    /// `<number>.npz` with `x` (n, F), as for CLEVR, where numbers start anew in each split: image 7 of val is `val/7`.
    Numbered {
        /// The split.
        split: &'static str,
    },
}

impl FileNames {
    /// Whether `x` is (n, F).
    pub(crate) fn rows_first(self) -> bool {
        matches!(self, FileNames::Numbered { .. })
    }

    /// The image that a file has under this number; none for a number that no image can have.
    fn image(self, number: u64) -> Option<ImageId> {
        match self {
            FileNames::Coco => i64::try_from(number).ok().map(ImageId::Number),
            FileNames::Numbered { split } => {
                Some(ImageId::InSplit(split, u32::try_from(number).ok()?))
            }
        }
    }

    /// The image that a bank has under this name.
    pub(crate) fn image_of_key(self, key: Key) -> Option<ImageId> {
        match key {
            Key::Number(number) => self.image(number),
            Key::Text(text) => Some(ImageId::from(text)),
        }
    }

    /// The number in a file's name; none for a file that is not a feature file (hidden, or not `.npz`).
    ///
    /// # Errors
    /// A feature file without a number.
    pub(crate) fn number(self, name: &str) -> Result<Option<u64>> {
        if name.starts_with('.') || !name.ends_with(".npz") {
            return Ok(None);
        }
        // As the reference reads it: between the last `_` and the first `.` behind it.
        let last = match self {
            FileNames::Coco => name.rsplit('_').next().unwrap_or(name),
            FileNames::Numbered { .. } => name,
        };
        let digits = last.split('.').next().unwrap_or(last);
        let is_plain = digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| is_plain);
        let number = number.filter(|&number| self.image(number).is_some());
        let expected = match self {
            FileNames::Coco => "COCO_<split>_<image id>.jpg.npz",
            FileNames::Numbered { .. } => "<image number>.npz",
        };
        let number = number.with_context(|| {
            format!("{name} has no image id in its name; {expected} is expected")
        })?;
        Ok(Some(number))
    }

    /// The feature files of a folder with their image numbers, by ascending number.
    ///
    /// # Errors
    /// A folder that cannot be listed, a feature file without a number, two files with the same.
    pub(crate) fn list(self, folder: &Path) -> Result<Vec<(u64, OsString)>> {
        let cannot = || format!("cannot list the image features in {}", folder.display());
        let mut found: FxHashMap<u64, OsString> = FxHashMap::default();
        for entry in std::fs::read_dir(folder).with_context(cannot)? {
            let name = entry.with_context(cannot)?.file_name();
            let number = self.number(&name.to_string_lossy()).with_context(cannot)?;
            let Some(number) = number else {
                continue;
            };
            match found.entry(number) {
                Entry::Vacant(vacant) => vacant.insert(name),
                Entry::Occupied(other) => {
                    let other = other.get();
                    bail!(
                        "{} has two files for image {number}: {other:?} and {name:?}; remove one",
                        folder.display()
                    )
                }
            };
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The images of a folder's feature files.
    pub(super) fn images(self, folder: &Path) -> Result<Vec<(ImageId, OsString)>> {
        let listed = self.list(folder)?.into_iter();
        Ok(listed
            .filter_map(|(number, name)| Some((self.image(number)?, name)))
            .collect())
    }
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
