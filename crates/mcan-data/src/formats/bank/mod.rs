//! Banks: the features of all images of a split in one safetensors file, read through a memory map.
//!
//! | array | type, shape | content |
//! |---|---|---|
//! | `x` | f16 or f32 (sum of n, F) | every region of every image |
//! | `offset` | i64 (N + 1) | image i has the rows `offset[i]..offset[i + 1]` of `x` |
//! | `grid`, `grid_offset` | as `x`, `offset` | the same for the cells of a feature map |
//! | `image_id` | i64 (N) | names of the images, in any order |
//! | `image_key`, `image_key_offset` | u8 (bytes), i64 (N + 1) | names in UTF-8, where they are texts; then there is no `image_id` |
//! | `bbox` | f32 (sum of n, 4) | corners x1, y1, x2, y2 of the regions, in pixels |
//! | `image_wh` | i32 (N, 2) | width and height of the images, in pixels |
//!
//! A bank has `x` or `grid`, or both. The metadata `version` is absent in banks of version 1, which have `x`, `offset`,
//! `image_id`, `bbox` and `image_wh`; a bank of a later version than 2 is refused.

mod read;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub use read::Bank;
pub use write::{Encoded, Writer};

use anyhow::{Result, bail};
use safetensors::tensor::Dtype as Stored;
use std::fmt;

/// The version of a bank that has more than version 1 allows.
const VERSION: u64 = 2;

/// The name of an image in a bank. Texts that differ in leading zeros differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageKey {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            ImageKey::Number(number) => number.fmt(f),
            ImageKey::Text(text) => text.fmt(f),
        }
    }
}

/// Precision of a bank's features.
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

/// The features of a bank that are read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    /// Regions: `x`.
    Regions,
    /// Grid cells: `grid`.
    Grid,
}

impl Array {
    /// What its rows are.
    pub fn rows(self) -> &'static str {
        match self {
            Array::Regions => "regions",
            Array::Grid => "grid cells",
        }
    }

    /// The configured number of values of a row.
    fn width_key(self) -> &'static str {
        match self {
            Array::Regions => "IMG_FEAT_SIZE (FEAT_SIZE for a model of OpenVQA)",
            Array::Grid => "the width in GRID_FEAT_SIZE",
        }
    }

    /// The names of the array and of its offsets.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Array::Regions => ("x", "offset"),
            Array::Grid => ("grid", "grid_offset"),
        }
    }
}

/// Checks that this program reads the version in the metadata of a bank.
fn check_version(version: Option<&String>) -> Result<()> {
    match version.map(|text| text.parse::<u64>()) {
        None => Ok(()),
        Some(Ok(version)) if (1..=VERSION).contains(&version) => Ok(()),
        Some(Ok(version)) => bail!(
            "it is of version {version}, but this program reads banks up to version {VERSION}; take a newer program"
        ),
        Some(Err(_)) => bail!("its version is no number"),
    }
}
