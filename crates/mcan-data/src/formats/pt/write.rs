//! Writes the zip archive as `torch.save` of PyTorch 2.11 does: the same members, order and alignment.

use crate::base::atomic;
use crate::formats::pickle::{self, Value};
use anyhow::Result;
use std::io::{Seek, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Storages start at multiples of this, so that they can be used from a memory map.
const ALIGNMENT: u16 = 64;
/// Members of this size and more need the larger fields of zip64.
const ZIP64_BYTES: u64 = 0xffff_ffff;

/// Writes an object and its storages, whose keys are `0` to `storages - 1`. `fill(i, buffer)` puts the bytes of storage
/// `i` into the buffer, which has the bytes of the storage before; so memory holds one storage at a time.
///
/// # Errors
/// `fill` fails, or the file cannot be written. The former content of the file then stays.
pub fn write(
    path: &Path,
    value: &Value,
    storages: usize,
    fill: impl Fn(usize, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    // torch.save names the folder in the archive after the file.
    let folder = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("archive");
    let data = pickle::write(value);
    atomic::write(path, |file| {
        let mut zip = ZipWriter::new(file);
        let mut member =
            |name: &str, bytes: &[u8]| add(&mut zip, &format!("{folder}/{name}"), bytes);
        member("data.pkl", &data)?;
        member(".format_version", b"1")?;
        member(".storage_alignment", ALIGNMENT.to_string().as_bytes())?;
        member("byteorder", b"little")?;
        let mut bytes = Vec::new();
        for key in 0..storages {
            fill(key, &mut bytes)?;
            member(&format!("data/{key}"), &bytes)?;
        }
        member("version", b"3\n")?;
        zip.finish()?;
        Ok(())
    })
}

fn add<W: Write + Seek>(zip: &mut ZipWriter<W>, name: &str, bytes: &[u8]) -> Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .with_alignment(ALIGNMENT)
        .large_file(bytes.len() as u64 >= ZIP64_BYTES);
    zip.start_file(name, options)?;
    Ok(zip.write_all(bytes)?)
}
