//! The place of the image features of a split, and the names of their files.

use crate::base::files;
use crate::data::{Id, ImageId};
use crate::formats::bank::ImageKey;
use anyhow::{Context, Result, bail};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A folder of feature files, which may also be packed in a bank beside it.
#[derive(Clone, Debug)]
pub struct FeaturePlace {
    /// The folder.
    pub folder: PathBuf,
    /// The split whose images it has.
    pub split: &'static str,
    /// The names of its files.
    pub names: FileNames,
}

impl FeaturePlace {
    /// Whether the folder has feature files.
    ///
    /// # Errors
    /// Those of listing them: see [`FileNames`].
    pub fn has_files(&self) -> Result<bool> {
        Ok(!self.names.list(&self.folder)?.is_empty())
    }
}

/// The names of the feature files of a data set, and the order of their arrays. The data set defines them.
#[derive(Clone, Copy, Debug)]
pub struct FileNames {
    /// Gives the image from the name of a file without `.npz`; none if the name has no image. The images of a data set have
    /// numbers or texts, as in its questions, but not some of them numbers and others texts.
    pub image: fn(&str) -> Option<ImageKey>,
    /// The form of such a name, for messages.
    pub expected: &'static str,
    /// The split, if image 7 of val is not image 7 of train.
    pub split: Option<&'static str>,
    /// Whether `x` is (n, F), rather than (F, n).
    pub rows_first: bool,
}

/// The image with this number; none if there is a character that is not a digit. Leading zeros do not count.
pub fn image_number(digits: &str) -> Option<ImageKey> {
    // The parser alone would accept a sign.
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_plain);
    number.map(ImageKey::Number)
}

impl FileNames {
    /// The id of the image with this key of a bank; none for a number that is too large.
    pub(crate) fn image_id(&self, key: &ImageKey) -> Option<ImageId> {
        match (key, self.split) {
            (ImageKey::Number(number), None) => i64::try_from(*number).ok().map(ImageId::from),
            (ImageKey::Number(number), Some(split)) => {
                Some(Id::InSplit(split, u32::try_from(*number).ok()?).into())
            }
            (ImageKey::Text(text), _) => Some(ImageId::from(text.as_str())),
        }
    }

    /// The image of a file; none for a file that is hidden or not `.npz`.
    ///
    /// # Errors
    /// A feature file without an image in its name.
    pub(crate) fn key(&self, name: &str) -> Result<Option<ImageKey>> {
        let Some(stem) = name.strip_suffix(".npz") else {
            return Ok(None);
        };
        if name.starts_with('.') {
            return Ok(None);
        }
        let key = (self.image)(stem).filter(|key| self.image_id(key).is_some());
        let key = key.with_context(|| {
            let expected = self.expected;
            format!("{name} has no image id in its name; {expected} is expected")
        })?;
        Ok(Some(key))
    }

    /// The feature files of a folder with their images, numbers in ascending order. If the folder has none itself, they may
    /// lie in a folder inside, such as `train2014/train2014/`, which some programs make when they unpack an archive. The
    /// names are paths relative to `folder`.
    ///
    /// # Errors
    /// A folder that cannot be listed, a feature file without an image in its name, two files of one image.
    pub(crate) fn list(&self, folder: &Path) -> Result<Vec<(ImageKey, OsString)>> {
        let found = self.list_directly(folder)?;
        if !found.is_empty() {
            return Ok(found);
        }
        let mut inner = Vec::new();
        for entry in files::entries(folder)? {
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with(['.', '_']) && files::is_folder(&entry.path())? {
                let files = self.list_directly(&entry.path())?;
                inner.extend(Some((name, files)).filter(|(_, files)| !files.is_empty()));
            }
        }
        let [(name, files)] = &inner[..] else {
            return Ok(found);
        };
        let path = |file: &OsString| Path::new(name).join(file).into_os_string();
        Ok(files
            .iter()
            .map(|(key, file)| (key.clone(), path(file)))
            .collect())
    }

    fn list_directly(&self, folder: &Path) -> Result<Vec<(ImageKey, OsString)>> {
        let cannot = || format!("cannot list the image features in {}", folder.display());
        let mut found: FxHashMap<ImageKey, OsString> = FxHashMap::default();
        for entry in files::entries(folder)? {
            let name = entry.file_name();
            let key = self.key(&name.to_string_lossy()).with_context(cannot)?;
            let Some(key) = key else {
                continue;
            };
            match found.entry(key) {
                Entry::Vacant(vacant) => vacant.insert(name),
                Entry::Occupied(other) => {
                    let (key, other) = (other.key(), other.get());
                    bail!(
                        "{} has two files for image {key}: {other:?} and {name:?}; remove one",
                        folder.display()
                    )
                }
            };
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable();
        Ok(found)
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

/// The archive of `folder` that is there: `<folder>.tar.gz`, `.tgz` or `.tar`.
///
/// # Errors
/// A path that the system cannot tell about.
pub fn find_archive(folder: &Path) -> Result<Option<PathBuf>> {
    for suffix in [".tar.gz", ".tgz", ".tar"] {
        let archive = beside(folder, suffix);
        if files::is_file(&archive)? {
            return Ok(Some(archive));
        }
    }
    Ok(None)
}

fn beside(folder: &Path, suffix: &str) -> PathBuf {
    // Components are without a slash at the end.
    let mut path = folder.components().as_path().as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
