//! The two containers of PyTorch's checkpoints: a zip archive (since 1.6), and before that pickles in a row followed by
//! the storages. The file is mapped, not read: a tensor's bytes are touched when the tensor is asked for.

mod legacy;
mod write;
mod zip;

pub use write::write;

use super::pickle::Value;
use super::tensor::{TensorView, element_bytes};
use crate::base::mapped::Mapped;
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::Tensor;

/// The tensors made from one file may together have this many times its bytes: views that share or repeat a storage
/// need some more than it, a file that lies about its sizes any amount.
pub const MAX_EXPANSION: u64 = 4;

/// A file in either format: what its pickle says, and where its storages lie.
pub struct Archive {
    /// What was saved.
    pub value: Value,
    path: PathBuf,
    map: Mapped,
    storages: HashMap<Arc<str>, Member>,
    /// Bytes of tensors that may still be made.
    budget: Cell<u64>,
}

/// The bytes of a storage in the file.
struct Member {
    range: Range<usize>,
    /// The checksum to compare when the storage is first used; the older format has none.
    unchecked_crc: Cell<Option<u32>>,
}

impl Archive {
    /// Opens a file of either format.
    ///
    /// # Errors
    /// Anything that is no such file, and anything in it that is not on the list of known names and opcodes.
    pub fn open(path: &Path) -> Result<Archive> {
        let map = map(path)?;
        let read = match map.first_chunk() {
            Some(b"PK\x03\x04") => zip::read(&map),
            Some([0x80, ..]) => legacy::read(&map),
            _ => Err(not_a_checkpoint(&map)),
        };
        let (value, storages) = read.with_context(|| unreadable(path))?;
        let budget = Cell::new((map.len() as u64).saturating_mul(MAX_EXPANSION));
        Ok(Archive {
            value,
            path: path.to_path_buf(),
            map,
            storages,
            budget,
        })
    }

    /// A tensor of the file: on the CPU, contiguous, in the stored type.
    ///
    /// # Errors
    /// A storage that is missing, too short, or fails its checksum.
    pub fn tensor(&self, view: &TensorView) -> Result<Tensor> {
        self.materialise(view)
            .with_context(|| unreadable(&self.path))
    }

    fn materialise(&self, view: &TensorView) -> Result<Tensor> {
        let bytes = u64::try_from(view.numel()?)?.saturating_mul(element_bytes(view.kind)? as u64);
        let Some(left) = self.budget.get().checked_sub(bytes) else {
            bail!(
                "a tensor of shape {:?} has more elements than the file can hold; it is damaged or hostile",
                view.shape
            );
        };
        self.budget.set(left);
        let Some(member) = self.storages.get(&view.storage) else {
            // A tensor without elements may have no storage in the file.
            ensure!(
                view.numel()? == 0,
                "storage {:?} is missing; copy or download the file again",
                view.storage
            );
            return view.materialise(&[]);
        };
        let stored = self
            .map
            .get(member.range.clone())
            .context("a storage lies outside of the file")?;
        if let Some(crc) = member.unchecked_crc.take() {
            ensure!(
                crc32fast::hash(stored) == crc,
                "storage {:?} fails its checksum; the file is damaged: copy or download it again",
                view.storage
            );
        }
        view.materialise(stored)
    }
}

fn unreadable(path: &Path) -> String {
    format!("cannot read the checkpoint {}", path.display())
}

fn map(path: &Path) -> Result<Mapped> {
    let metadata = std::fs::metadata(path).with_context(|| {
        format!(
            "cannot find the checkpoint {}; check --CKPT_V and --CKPT_E, or --CKPT_PATH",
            path.display()
        )
    })?;
    ensure!(
        !metadata.is_dir(),
        "{} is a folder, not a checkpoint; name the .pkl file in it",
        path.display()
    );
    ensure!(
        metadata.len() > 0,
        "the checkpoint {} is empty; copy or download it again",
        path.display()
    );
    Mapped::open(path).with_context(|| unreadable(path))
}

/// What the file is instead, as far as its first bytes tell.
fn not_a_checkpoint(bytes: &[u8]) -> anyhow::Error {
    let header = bytes
        .first_chunk()
        .map(|length| u64::from_le_bytes(*length));
    let what = if header.is_some_and(|n| n < bytes.len() as u64) && bytes.get(8) == Some(&b'{') {
        "it is a safetensors file; load it in Python and torch.save({'state_dict': ...})"
    } else if bytes.get(257..262) == Some(b"ustar") {
        "it is a tar archive, as PyTorch wrote before 0.2; load and save it again with a newer PyTorch"
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        "it is compressed with gzip; gunzip it first"
    } else {
        "it is neither a zip archive nor PyTorch's older format; name a .pkl file that torch.save or this program wrote"
    };
    anyhow::anyhow!(what)
}

#[cfg(test)]
mod tests;
