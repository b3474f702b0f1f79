//! Reads the zip archive: `<name>/data.pkl`, and each storage as `<name>/data/<key>`, not compressed.

use super::Storage;
use crate::formats::pickle::{self, Value};
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;
use zip::{CompressionMethod, ZipArchive};

/// The object and the places of its storages.
pub(super) fn read(bytes: &[u8]) -> Result<(Value, HashMap<Arc<str>, Storage>)> {
    let mut members = Members::open(bytes)?;
    if let Some((range, _)) = members.find("byteorder")? {
        ensure!(
            bytes.get(range) == Some(b"little"),
            "it was saved on a big-endian machine; save it again on another"
        );
    }
    let (range, crc) = members.find("data.pkl")?.context("data.pkl is missing")?;
    let data = bytes
        .get(range)
        .context("data.pkl lies outside of the file")?;
    ensure!(
        crc32fast::hash(data) == crc,
        "data.pkl fails its checksum; copy or download the file again"
    );
    let pickle = pickle::read(data)?;
    let mut storages = HashMap::new();
    for key in pickle.storages.into_keys() {
        // A missing storage is reported if a tensor needs it.
        if let Some((range, crc)) = members.find(&format!("data/{key}"))? {
            let unchecked_crc = Cell::new(Some(crc));
            storages.insert(
                key,
                Storage {
                    range,
                    unchecked_crc,
                },
            );
        }
    }
    Ok((pickle.value, storages))
}

/// The members of the archive's folder.
struct Members<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
    file_bytes: usize,
}

impl<'a> Members<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self> {
        let archive = ZipArchive::new(Cursor::new(bytes))
            .context("its zip directory is cut off or damaged; copy or download the file again")?;
        let is_data = |name: &&str| *name == "data.pkl" || name.ends_with("/data.pkl");
        let Some(name) = archive.file_names().find(is_data) else {
            bail!(
                "it is a zip archive without data.pkl, so no checkpoint; name a file that torch.save wrote"
            );
        };
        let folder = name.trim_end_matches("data.pkl").to_owned();
        Ok(Members {
            archive,
            folder,
            file_bytes: bytes.len(),
        })
    }

    /// The place of a member's bytes, and their checksum.
    fn find(&mut self, name: &str) -> Result<Option<(Range<usize>, u32)>> {
        let name = format!("{}{name}", self.folder);
        let Some(index) = self.archive.index_for_name(&name) else {
            return Ok(None);
        };
        let member = self
            .archive
            .by_index_raw(index)
            .context("a member of the zip archive is damaged; copy the file again")?;
        ensure!(
            member.compression() == CompressionMethod::Stored && !member.encrypted(),
            "{name} is compressed, which torch.save never does; unpack the archive and zip it without compression"
        );
        let start = usize::try_from(member.data_start())?;
        let end = start
            .checked_add(usize::try_from(member.size())?)
            .filter(|&end| end <= self.file_bytes)
            .with_context(|| format!("{name} is cut off; copy or download the file again"))?;
        Ok(Some((start..end, member.crc32())))
    }
}
