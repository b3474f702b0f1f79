//! The zip format: `<name>/data.pkl`, and each storage as `<name>/data/<key>`, not compressed.

use super::Member;
use crate::checkpoint::pickle::{self, Value};
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;
use zip::{CompressionMethod, ZipArchive};

pub(super) fn read(bytes: &[u8]) -> Result<(Value, HashMap<Arc<str>, Member>)> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))
        .context("its zip directory is cut off or damaged; copy or download the file again")?;
    let Some(name) = archive
        .file_names()
        .find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
    else {
        bail!(
            "it is a zip archive without data.pkl, so no checkpoint; name a file that torch.save wrote"
        );
    };
    let folder = name.trim_end_matches("data.pkl").to_owned();
    if let Some(index) = archive.index_for_name(&format!("{folder}byteorder")) {
        let (range, _) = member(&mut archive, index, bytes.len())?;
        ensure!(
            bytes.get(range) == Some(b"little"),
            "it was saved on a big-endian machine; save it again on another"
        );
    }
    let index = archive
        .index_for_name(&format!("{folder}data.pkl"))
        .context("data.pkl is missing")?;
    let (range, crc) = member(&mut archive, index, bytes.len())?;
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
        // What is missing is reported when, and if, it is used.
        if let Some(index) = archive.index_for_name(&format!("{folder}data/{key}")) {
            let (range, crc) = member(&mut archive, index, bytes.len())?;
            storages.insert(
                key,
                Member {
                    range,
                    unchecked_crc: Cell::new(Some(crc)),
                },
            );
        }
    }
    Ok((pickle.value, storages))
}

/// Where a member's bytes lie, and their checksum.
fn member(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    file_bytes: usize,
) -> Result<(Range<usize>, u32)> {
    let file = archive
        .by_index_raw(index)
        .context("a member of the zip archive is damaged; copy the file again")?;
    ensure!(
        file.compression() == CompressionMethod::Stored && !file.encrypted(),
        "{} is compressed, which torch.save never does; unpack the archive and zip it without compression",
        file.name()
    );
    let start = usize::try_from(file.data_start())?;
    let end = start
        .checked_add(usize::try_from(file.size())?)
        .filter(|&end| end <= file_bytes);
    let end = end.with_context(|| {
        format!(
            "{} is cut off; copy or download the file again",
            file.name()
        )
    })?;
    Ok((start..end, file.crc32()))
}
