//! The zip format as `torch.save` of PyTorch 2.11 writes it: the same members, in the same order, aligned the same.

use crate::checkpoint::pickle::{self, Value};
use crate::checkpoint::tensor::element_bytes;
use anyhow::Result;
use std::io::Write;
use std::path::Path;
use tch::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Storages start at multiples of this, so that they can be used from a memory map.
const ALIGNMENT: u16 = 64;
/// Members from this size on need the larger fields of zip64.
const ZIP64_BYTES: u64 = 0xffff_ffff;

/// Writes an object whose storage `i` is `tensors[i]`. Tensors come to the CPU one at a time, as they are written.
///
/// # Errors
/// Anything that cannot be written, naming the file, whose former content then stays.
pub fn write(path: &Path, value: &Value, tensors: &[Tensor]) -> Result<()> {
    // torch.save names the folder in the archive after the file.
    let folder = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("archive")
        .to_owned();
    let data = pickle::write(value)?;
    crate::base::atomic::write(path, |file| {
        let mut zip = ZipWriter::new(file);
        let mut member = |name: &str, bytes: &[u8]| -> Result<()> {
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .last_modified_time(DateTime::default())
                .with_alignment(ALIGNMENT)
                .large_file(bytes.len() as u64 >= ZIP64_BYTES);
            zip.start_file(format!("{folder}/{name}"), options)?;
            Ok(zip.write_all(bytes)?)
        };
        member("data.pkl", &data)?;
        member(".format_version", b"1")?;
        member(".storage_alignment", ALIGNMENT.to_string().as_bytes())?;
        member("byteorder", b"little")?;
        let mut bytes = Vec::new();
        for (key, tensor) in tensors.iter().enumerate() {
            let numel = tensor.numel();
            bytes.resize(numel * element_bytes(tensor.f_kind()?)?, 0);
            tensor.f_copy_data_u8(&mut bytes, numel)?;
            member(&format!("data/{key}"), &bytes)?;
        }
        member("version", b"3\n")?;
        zip.finish()?;
        Ok(())
    })
}
