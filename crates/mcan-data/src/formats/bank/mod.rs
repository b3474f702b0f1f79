//! The packed bank: all images of a split in one safetensors file, read through a memory map.
//!
//! Arrays: `x` f16 or f32 (sum of n, `IMG_FEAT_SIZE`), every region of every image; `offset` i64 (N + 1), where image i
//! has rows `offset[i]..offset[i + 1]`; `image_id` i64 (N), in any order; `bbox` f32 (sum of n, 4) and `image_wh` i32
//! (N, 2), which are for others to read. This file reads `x`, `offset` and `image_id`; [`pack`] writes all five.

pub mod pack;
#[cfg(test)]
mod tests;

use crate::base::mapped::Mapped;
use crate::data::Values;
use anyhow::{Context, Result, bail, ensure};
use half::f16;
use rustc_hash::FxHashSet;
use safetensors::tensor::{Dtype as Stored, TensorInfo};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Precision of a bank's regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Half the size; relative rounding error up to 2^-11, magnitudes up to 65504.
    F16,
    /// The values of the `.npz` files, bit for bit.
    F32,
}

impl Dtype {
    /// Bytes per value.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F16 => 2,
            Dtype::F32 => 4,
        }
    }

    fn stored(self) -> Stored {
        match self {
            Dtype::F16 => Stored::F16,
            Dtype::F32 => Stored::F32,
        }
    }
}

impl std::str::FromStr for Dtype {
    type Err = anyhow::Error;

    /// `BANK_DTYPE`: `f16` or `f32`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f16" => Ok(Dtype::F16),
            "f32" => Ok(Dtype::F32),
            other => bail!("BANK_DTYPE is {other:?}; f16 or f32 is expected"),
        }
    }
}

/// An open bank. Nothing of `x` is read before it is asked for.
pub struct Bank {
    path: PathBuf,
    map: Mapped,
    /// Bytes of `x` in the map.
    x: Range<usize>,
    dtype: Dtype,
    feature_size: usize,
    offset: Vec<usize>,
    image_ids: Vec<u64>,
}

impl Bank {
    /// Maps the bank at `path` and checks that its arrays fit each other, the file and `feature_size` (`IMG_FEAT_SIZE`).
    ///
    /// # Errors
    /// One that names `path` and what is wrong with it.
    pub fn open(path: &Path, feature_size: usize) -> Result<Self> {
        Self::open_checked(path, feature_size).with_context(|| {
            format!(
                "cannot use the feature bank {}; remove it or make it again with --RUN=pack",
                path.display()
            )
        })
    }

    fn open_checked(path: &Path, feature_size: usize) -> Result<Self> {
        let map = Mapped::open(path)?;
        let (header_bytes, header) = safetensors::SafeTensors::read_metadata(&map)?;
        let find = |name: &str| -> Result<(&TensorInfo, Range<usize>)> {
            let info = header
                .info(name)
                .with_context(|| format!("it has no array {name}"))?;
            // read_metadata has checked that these lie in the file and go with shape and type.
            let (start, end) = info.data_offsets;
            let data = size_of::<u64>() + header_bytes;
            Ok((info, data + start..data + end))
        };
        let integers = |name: &str| -> Result<Vec<u64>> {
            let (info, range) = find(name)?;
            ensure!(
                info.dtype == Stored::I64 && info.shape.len() == 1,
                "its array {name} is not an i64 vector"
            );
            let (values, _) = map[range].as_chunks::<8>();
            let convert = |&bytes: &[u8; 8]| u64::try_from(i64::from_le_bytes(bytes));
            values
                .iter()
                .map(convert)
                .collect::<Result<_, _>>()
                .with_context(|| format!("in {name} is a negative number"))
        };
        let (info, x) = find("x")?;
        let dtype = match info.dtype {
            Stored::F16 => Dtype::F16,
            Stored::F32 => Dtype::F32,
            other => bail!("its x is {other:?}; F16 or F32 is expected"),
        };
        let [rows, columns] = info.shape[..] else {
            bail!("the shape of its x is {:?}", info.shape)
        };
        ensure!(
            columns == feature_size,
            "its regions have {columns} values, but IMG_FEAT_SIZE is {feature_size}"
        );
        let image_ids = integers("image_id")?;
        let offset: Vec<usize> = integers("offset")?
            .into_iter()
            .map(usize::try_from)
            .collect::<Result<_, _>>()?;
        ensure!(
            offset.len() == image_ids.len() + 1
                && offset.first() == Some(&0)
                && offset.last() == Some(&rows)
                && offset.is_sorted(),
            "its offset does not divide the {rows} rows of x among {} images",
            image_ids.len()
        );
        let mut seen = FxHashSet::default();
        if let Some(twice) = image_ids.iter().find(|&&id| !seen.insert(id)) {
            bail!("it has image {twice} twice");
        }
        Ok(Bank {
            path: path.to_owned(),
            map,
            x,
            dtype,
            feature_size,
            offset,
            image_ids,
        })
    }

    /// Makes sure that no program has changed the file since it was opened.
    ///
    /// # Errors
    /// When one has.
    pub fn check_unchanged(&self) -> Result<()> {
        self.map.check_unchanged()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Precision of its regions.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// (N) COCO image ids, in the order in which the images are stored.
    pub fn image_ids(&self) -> &[u64] {
        &self.image_ids
    }

    /// Appends the first `max_regions` regions of the `index`th image, zero ones included, widening f16 for f32 `out`.
    ///
    /// # Errors
    /// An `index` that the bank does not have, and an f32 bank with an f16 `out`.
    pub fn append(&self, index: usize, max_regions: usize, out: &mut Values) -> Result<()> {
        let (Some(&start), Some(&end)) = (self.offset.get(index), self.offset.get(index + 1))
        else {
            bail!("{} has no image number {index}", self.path.display());
        };
        let row_bytes = self.feature_size * self.dtype.bytes();
        let end = end.min(start.saturating_add(max_regions));
        let bytes = &self.map[self.x.start + start * row_bytes..self.x.start + end * row_bytes];
        match (self.dtype, out) {
            (Dtype::F32, Values::F32(out)) => {
                out.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)))
            }
            (Dtype::F16, Values::F16(out)) => {
                out.extend(bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b)))
            }
            (Dtype::F16, Values::F32(out)) => {
                out.extend(
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|&b| f16::from_le_bytes(b).to_f32()),
                );
            }
            _ => bail!(
                "{} is {:?} and does not go into such a batch",
                self.path.display(),
                self.dtype
            ),
        }
        Ok(())
    }
}
