//! Writes `.npz` files.

use crate::formats::npy;
use anyhow::Result;
use std::io::{Seek, Write};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// How the arrays of a file are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Compressed.
    Deflated,
    /// As they are.
    Plain,
    /// As they are, with 64-bit sizes: an array can have more than 4 GB.
    Large,
}

/// Writes one array after the other. The caller starts an array and then writes the bytes of its values.
pub(crate) struct Writer<W: Write + Seek> {
    archive: ZipWriter<W>,
    options: SimpleFileOptions,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins an empty file.
    pub(crate) fn new(file: W, storage: Storage) -> Writer<W> {
        let method = match storage {
            Storage::Deflated => CompressionMethod::Deflated,
            Storage::Plain | Storage::Large => CompressionMethod::Stored,
        };
        let options = SimpleFileOptions::default().compression_method(method);
        Writer {
            archive: ZipWriter::new(file),
            options: options.large_file(storage == Storage::Large),
        }
    }

    /// Starts an array; `descr` is NumPy's name of its type, such as `<f4`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn start(
        &mut self,
        name: &str,
        descr: &str,
        fortran_order: bool,
        shape: &[usize],
    ) -> Result<()> {
        self.archive
            .start_file(format!("{name}.npy"), self.options)?;
        self.write(&npy::header(descr, fortran_order, shape)?)
    }

    /// Writes bytes of the array that was started last.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.archive.write_all(bytes)?)
    }

    /// Writes the directory of the arrays.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn finish(self) -> Result<()> {
        self.archive.finish()?;
        Ok(())
    }
}
