//! The files of `torch.save`: a pickle with the object, and the storages of its tensors.
//!
//! There are two containers: a zip archive (PyTorch 1.6 and later), and pickles in a row followed by the storages
//! (earlier versions). Both are read, through a memory map, so that the bytes of a tensor are touched only when the
//! tensor is asked for. The zip archive is written.

mod legacy;
mod write;
mod zip;

pub use write::write;

use crate::base::mapped::Mapped;
use crate::formats::dtype::Dtype;
use crate::formats::magic;
use crate::formats::pickle::{TensorView, Value};
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The tensors made from one file may together have this many times its bytes. Views that share or repeat a storage need
/// some more than the file has; a file with wrong sizes could claim any amount.
const MAX_EXPANSION: u64 = 4;

/// An open file of either format.
pub struct Archive {
    /// The saved object.
    pub value: Value,
    map: Mapped,
    storages: HashMap<Arc<str>, Storage>,
    /// Bytes of tensors that may still be made.
    budget: Cell<u64>,
}

/// The place of a storage in the file.
struct Storage {
    range: Range<usize>,
    /// The checksum, to compare when the storage is first used. The older format has none.
    unchecked_crc: Cell<Option<u32>>,
}

impl Archive {
    /// Opens a file of either format.
    ///
    /// # Errors
    /// The file cannot be mapped, is of another format, or has a name or opcode that is not on the list of known ones.
    pub fn open(path: &Path) -> Result<Archive> {
        let map = Mapped::open(path)?;
        let (value, storages) = match map.first_chunk() {
            Some(b"PK\x03\x04") => zip::read(&map)?,
            Some([0x80, ..]) => legacy::read(&map)?,
            _ => return Err(other_format(&map)),
        };
        let budget = Cell::new((map.len() as u64).saturating_mul(MAX_EXPANSION));
        Ok(Archive {
            value,
            map,
            storages,
            budget,
        })
    }

    /// The bytes of a tensor of this file, from the first to the last element that the view shows.
    ///
    /// # Errors
    /// The storage is missing, too short, or fails its checksum; or all tensors together are larger than the file
    /// allows.
    pub fn elements(&self, view: &TensorView) -> Result<&[u8]> {
        self.charge(view)?;
        let Some(storage) = self.storages.get(&view.storage) else {
            // A tensor without elements may have no storage in the file.
            ensure!(
                view.numel()? == 0,
                "storage {:?} is missing; copy or download the file again",
                view.storage
            );
            return Ok(&[]);
        };
        let bytes = self.bytes(storage, &view.storage)?;
        let Some(elements) = bytes.get(view.byte_range()?) else {
            bail!(
                "storage {:?} has {} bytes, too few for a tensor of shape {:?} in it; the file is cut off or damaged",
                view.storage,
                bytes.len(),
                view.shape
            );
        };
        ensure!(
            view.dtype != Dtype::Bool || elements.iter().all(|&byte| byte <= 1),
            "storage {:?} of booleans holds other values than 0 and 1; the file is damaged",
            view.storage
        );
        Ok(elements)
    }

    /// Takes the size of a tensor off the budget.
    fn charge(&self, view: &TensorView) -> Result<()> {
        let bytes = u64::try_from(view.numel()?)?.saturating_mul(view.dtype.bytes() as u64);
        let Some(left) = self.budget.get().checked_sub(bytes) else {
            bail!(
                "a tensor of shape {:?} has more elements than the file can hold; it is damaged or hostile",
                view.shape
            );
        };
        self.budget.set(left);
        Ok(())
    }

    fn bytes(&self, storage: &Storage, key: &str) -> Result<&[u8]> {
        let bytes = self
            .map
            .get(storage.range.clone())
            .context("a storage lies outside of the file")?;
        if let Some(crc) = storage.unchecked_crc.take() {
            ensure!(
                crc32fast::hash(bytes) == crc,
                "storage {key:?} fails its checksum; the file is damaged: copy or download it again"
            );
        }
        Ok(bytes)
    }
}

/// The error for a file of neither format. Names the format where its first bytes tell.
fn other_format(bytes: &[u8]) -> anyhow::Error {
    let header = bytes
        .first_chunk()
        .map(|length| u64::from_le_bytes(*length));
    let is = if header.is_some_and(|n| n < bytes.len() as u64) && bytes.get(8) == Some(&b'{') {
        "it is a safetensors file; load it in Python and torch.save({'state_dict': ...})"
    } else if bytes.get(257..262) == Some(b"ustar") {
        "it is a tar archive, as PyTorch wrote before 0.2; load and save it again with a newer PyTorch"
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        "it is compressed with gzip; gunzip it first"
    } else if let Some(is) = magic::looks_like(bytes) {
        return anyhow::anyhow!("it is {is}");
    } else {
        "it is neither a zip archive nor PyTorch's older format; name a .pkl file that torch.save or this program wrote"
    };
    anyhow::anyhow!(is)
}

#[cfg(test)]
mod tests;
