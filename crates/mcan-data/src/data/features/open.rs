//! Opens the banks and folders of the features of a run, and finds its images in them.

use super::{FeaturePlace, Features, Place, Rows, archive_path, bank_path};
use crate::base::files;
use crate::data::ImageId;
use crate::data::streams::{Needs, StreamKind, StreamSpec};
use crate::formats::bank::{Bank, Dtype, ImageKey};
use anyhow::{Result, bail, ensure};
use rustc_hash::FxHashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    /// Whether image `number` belongs to the split of `place`.
    fn is_own(&self, number: usize, place: &FeaturePlace) -> bool {
        self.splits.get(number).copied().flatten() == Some(place.split)
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

/// What counts of two images of the same id, if both or none are of the image's own split.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// The one that is found later.
    Later,
    /// The one that is found first: files beside a bank only add what is missing.
    Beside,
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
            kind,
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
            boxes: Vec::new(),
            needs: Needs::default(),
        };
        for place in all {
            let (folder, bank) = (&place.folder, bank_path(&place.folder));
            if files::is_file(&bank)? {
                features.add_bank(bank, place, &numbers)?;
            } else if files::is_folder(folder)? {
                features.add_folder(place, &numbers, Rank::Later)?;
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
            let has_both = files::is_file(&bank)? && files::is_folder(&place.folder)?;
            let is_wanted = |number| {
                let is_own = numbers.is_own(number, place);
                self.stored[number].is_none() || is_own && !self.in_own_split[number]
            };
            if !has_both || !(0..self.stored.len()).any(is_wanted) {
                continue;
            }
            let added = self.add_folder(place, numbers, Rank::Beside)?;
            if added > 0 {
                crate::note!(
                    "{added} images are not in {} and are read from its folder; pack it anew with --RUN=pack \
                     --OVERWRITE=True",
                    bank.display()
                );
            }
        }
        Ok(())
    }

    /// Stores where image `number` is, if that counts more than where it was found before.
    fn store(
        &mut self,
        number: usize,
        found: Place,
        numbers: &Numbers,
        place: &FeaturePlace,
        rank: Rank,
    ) -> bool {
        let is_own = numbers.is_own(number, place);
        let counts = match (is_own, self.in_own_split[number]) {
            (true, false) => true,
            (false, true) => false,
            _ => rank == Rank::Later || self.stored[number].is_none(),
        };
        if counts {
            self.stored[number] = Some(found);
            self.in_own_split[number] = is_own;
        }
        counts
    }

    /// Adds the images of a bank; `numbers` are the numbers of the images of the run.
    fn add_bank(&mut self, path: PathBuf, place: &FeaturePlace, numbers: &Numbers) -> Result<()> {
        let bank = Arc::new(Bank::open(&path, self.kind.array(), self.spec.width)?);
        if bank.dtype() != Dtype::F16 {
            self.dtype = Dtype::F32;
        }
        for (index, key) in bank.keys().iter().enumerate() {
            for number in numbers.of(key, place) {
                let bank = Arc::clone(&bank);
                let found = Place::Bank { bank, index };
                self.store(number, found, numbers, place, Rank::Later);
            }
        }
        self.places.push(path);
        self.banks.push(bank);
        Ok(())
    }

    /// Adds the images of a folder; `numbers` are the numbers of the images of the run. Returns how many count.
    fn add_folder(&mut self, place: &FeaturePlace, numbers: &Numbers, rank: Rank) -> Result<usize> {
        let folder: Arc<Path> = place.folder.as_path().into();
        let mut added = 0;
        for (key, name) in place.names.list(&folder)? {
            for number in numbers.of(&key, place) {
                let file = Place::File {
                    folder: Arc::clone(&folder),
                    name: name.clone(),
                    rows_first: place.names.rows_first,
                };
                added += usize::from(self.store(number, file, numbers, place, rank));
            }
        }
        if added > 0 || rank == Rank::Later {
            self.dtype = Dtype::F32;
            self.places.push(place.folder.clone());
        }
        Ok(added)
    }
}
