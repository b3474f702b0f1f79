//! The place of the image features of a split, and the names of their files.

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
    /// The names of its files.
    pub names: FileNames,
}

/// The names of feature files, and the order of their arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileNames {
    /// `COCO_<split>_<12-digit image id>.jpg.npz` with `x` (F, n), as for VQA-v2.
    Coco,
    /// `<number>.npz` with `x` (n, F), as for CLEVR, where image 7 of val is not image 7 of train.
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

    /// The image with this number; none for a number that is too large.
    fn image(self, number: u64) -> Option<ImageId> {
        match self {
            FileNames::Coco => i64::try_from(number).ok().map(ImageId::Number),
            FileNames::Numbered { split } => {
                Some(ImageId::InSplit(split, u32::try_from(number).ok()?))
            }
        }
    }

    /// The image with this key of a bank.
    pub(crate) fn image_of_key(self, key: Key) -> Option<ImageId> {
        match key {
            Key::Number(number) => self.image(number),
            Key::Text(text) => Some(ImageId::from(text)),
        }
    }

    /// The number of the image in the name of a file; none for a file that is hidden or not `.npz`.
    ///
    /// # Errors
    /// A feature file without a number.
    pub(crate) fn number(self, name: &str) -> Result<Option<u64>> {
        if name.starts_with('.') || !name.ends_with(".npz") {
            return Ok(None);
        }
        // As in the reference: between the last `_` and the first `.` behind it.
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
    /// A folder that cannot be listed, a feature file without a number, two files with the same number.
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

    /// The images of a folder, with the names of their files.
    pub(super) fn images(self, folder: &Path) -> Result<Vec<(ImageId, OsString)>> {
        let listed = self.list(folder)?.into_iter();
        Ok(listed
            .filter_map(|(number, name)| Some((self.image(number)?, name)))
            .collect())
    }
}

/// The packed bank of `folder`: `<folder>.safetensors` beside it. It takes precedence over the folder.
pub fn bank_path(folder: &Path) -> PathBuf {
    beside(folder, ".safetensors")
}

/// The published archive of `folder`: `<folder>.tar.gz` beside it.
pub fn archive_path(folder: &Path) -> PathBuf {
    beside(folder, ".tar.gz")
}

fn beside(folder: &Path, suffix: &str) -> PathBuf {
    // Components are without a slash at the end.
    let mut path = folder.components().as_path().as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_give_image_ids_as_in_the_reference() {
        let id = |name| FileNames::Coco.number(name).map_err(|e| e.to_string());
        assert_eq!(id("COCO_train2014_000000000009.jpg.npz"), Ok(Some(9)));
        assert_eq!(id("2407890.npz"), Ok(Some(2407890)));
        assert_eq!(id("._COCO_train2014_000000000009.jpg.npz"), Ok(None));
        assert_eq!(id("README.md"), Ok(None));
        for wrong in [
            "COCO_train2014_.npz",
            "COCO_+9.npz",
            "COCO_99999999999999999999.npz",
            "mean.npz",
        ] {
            assert!(id(wrong).unwrap_err().contains(wrong));
        }
    }

    #[test]
    fn numbered_files_are_images_of_their_split() {
        let names = FileNames::Numbered { split: "val" };
        let number = |name| names.number(name).map_err(|e| e.to_string());
        assert_eq!(number("12.npz"), Ok(Some(12)));
        assert_eq!(number("mean.txt"), Ok(None));
        for wrong in ["val_12.npz", "mean.npz", "4294967296.npz"] {
            assert!(number(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
        let key = Key::Number(12);
        assert_eq!(names.image_of_key(key), Some(ImageId::InSplit("val", 12)));
    }
}
