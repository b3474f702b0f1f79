//! Reads the feature files of the reference: `.npz` archives with the regions of one image each.
//!
//! A file holds `x` (`IMG_FEAT_SIZE`, n), one column per region, in C or Fortran order; `arrays` knows the arrays of other
//! extractors. It is read as n rows of `IMG_FEAT_SIZE` values. Training reads only the features; [`Reader::boxes`] reads
//! boxes for packing. Other arrays are never read. The bytes are not trusted: every size is checked against the size of the file before memory is taken. This module knows neither
//! image ids nor folders. It returns all regions, padding included.

mod arrays;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, reason = "writing to memory does not fail")]
pub mod testing;
#[cfg(test)]
mod tests;
mod write;
mod zip;

pub(crate) use write::{Storage, Writer};

use crate::base::{files, memory};
use crate::formats::npy::{self, Header, Layout};
use anyhow::{Context, Result, anyhow, ensure};
use crc32fast::hash as crc32;
use libdeflater::Decompressor;
use std::cell::RefCell;
use std::io::Read;
use std::path::Path;
use zip::Member;

/// Bytes that a feature file may have: some 80 times a file of 100 float32 regions.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// Bytes that an array may have once decoded: 8192 regions, where 100 are usual.
const MAX_ARRAY_BYTES: usize = 64 << 20;

/// Boxes of an image's regions, and the size of the image, in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Boxes {
    /// (n, 4) corners x1, y1, x2, y2, row after row.
    pub bbox: Vec<f32>,
    /// Width of the image.
    pub width: i32,
    /// Height of the image.
    pub height: i32,
}

impl Boxes {
    /// Boxes (n, 4) of an image of this size; none if they are in shares of that size.
    pub(crate) fn in_pixels(bbox: Vec<f32>, width: i32, height: i32) -> Option<Boxes> {
        let in_pixels = bbox.is_empty() || bbox.iter().any(|&corner| corner > 1.0);
        in_pixels.then_some(Boxes {
            bbox,
            width,
            height,
        })
    }
}

/// A width or height as it is stored.
///
/// # Errors
/// A number that is no size in pixels.
pub(crate) fn size_in_pixels(value: f32) -> Result<i32> {
    // 2^24 is exact in f32, and far more pixels than any image has.
    ensure!(
        (0.0..=(1 << 24) as f32).contains(&value),
        "{value} is no size in pixels"
    );
    Ok(value as i32)
}

/// A reader of feature files. It keeps its buffers, so that reading the next file allocates nothing.
pub struct Reader {
    file: Vec<u8>,
    inflate: Inflate,
}

impl Default for Reader {
    fn default() -> Self {
        let inflate = Inflate {
            decompressor: Decompressor::new(),
            decoded: Vec::new(),
        };
        Reader {
            file: Vec::new(),
            inflate,
        }
    }
}

/// Runs `body` with the reader of this thread. `body` must not call `with_reader`.
pub fn with_reader<T>(body: impl FnOnce(&mut Reader) -> T) -> T {
    thread_local!(static READER: RefCell<Reader> = RefCell::default());
    READER.with_borrow_mut(body)
}

/// The rows of an array `x` to read.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// F, values per row.
    pub feature_size: usize,
    /// Rows to read at most, from the first one.
    pub max_rows: usize,
    /// Whether a square array is (n, F), as OpenVQA's grids are. The features of VQA-v2 are (F, n).
    pub rows_first: bool,
}

impl Reader {
    /// Appends the wanted rows of the file at `path` to `out` (n, F), and returns their number.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or its `x` has another dtype or shape. The error names `path`, and `out` may
    /// have grown.
    pub fn read_file(&mut self, path: &Path, wanted: Wanted, out: &mut Vec<f32>) -> Result<usize> {
        let before = out.len();
        self.counted_rows_of_file(path, wanted, out)?;
        Ok((out.len() - before) / wanted.feature_size.max(1))
    }

    /// Appends the wanted rows of the file at `path` to `out` (n, F), and returns the number of all rows of the file.
    ///
    /// # Errors
    /// As [`Reader::read_file`].
    pub(crate) fn counted_rows_of_file(
        &mut self,
        path: &Path,
        wanted: Wanted,
        out: &mut Vec<f32>,
    ) -> Result<usize> {
        let mut file = std::mem::take(&mut self.file);
        let result = load(path, &mut file).and_then(|()| self.counted_rows(&file, wanted, out));
        self.file = file;
        let (_, rows) = result.with_context(|| cannot_read(path))?;
        Ok(rows)
    }

    /// Appends the wanted rows of the file at `path` to `out` (n, F); with `with_boxes`, returns the boxes of these rows: see
    /// [`Reader::boxes`].
    ///
    /// # Errors
    /// As [`Reader::read_file`].
    pub(crate) fn image_of_file(
        &mut self,
        path: &Path,
        wanted: Wanted,
        with_boxes: bool,
        out: &mut Vec<f32>,
    ) -> Result<Option<Boxes>> {
        let mut file = std::mem::take(&mut self.file);
        let read = load(path, &mut file).and_then(|()| {
            let (taken, rows) = self.counted_rows(&file, wanted, out)?;
            if !with_boxes {
                return Ok(None);
            }
            let mut boxes = self.boxes(&file, rows)?;
            if let Some(boxes) = &mut boxes {
                boxes.bbox.truncate(4 * taken);
            }
            Ok(boxes)
        });
        self.file = file;
        read.with_context(|| cannot_read(path))
    }

    /// Appends the first `max_regions` regions of a file of VQA-v2 to `out`, and returns their number.
    ///
    /// # Errors
    /// As [`Reader::rows`].
    pub fn regions(
        &mut self,
        file: &[u8],
        feature_size: usize,
        max_regions: usize,
        out: &mut Vec<f32>,
    ) -> Result<usize> {
        let wanted = Wanted {
            feature_size,
            max_rows: max_regions,
            rows_first: false,
        };
        self.rows(file, wanted, out)
    }

    /// Appends the wanted rows to `out` (n, F), and returns their number. `file` is the content of a file.
    ///
    /// # Errors
    /// As [`Reader::read_file`], without the name of the file.
    pub fn rows(&mut self, file: &[u8], wanted: Wanted, out: &mut Vec<f32>) -> Result<usize> {
        Ok(self.counted_rows(file, wanted, out)?.0)
    }

    /// Appends the wanted rows to `out` (n, F), and returns their number and the number of all rows of the file.
    ///
    /// # Errors
    /// As [`Reader::rows`].
    pub(crate) fn counted_rows(
        &mut self,
        file: &[u8],
        wanted: Wanted,
        out: &mut Vec<f32>,
    ) -> Result<(usize, usize)> {
        let (name, member, rows_first) = arrays::features(file, &wanted)?;
        let mut read = || -> Result<_> {
            let array = Array::open(&member, &mut self.inflate)?;
            let layout = arrays::layout(&array.header, &wanted, rows_first);
            let layout = layout.map_err(|error| anyhow!("{error}; {}", arrays::contents(file)))?;
            layout.copy(array.data, out);
            Ok((layout.taken, layout.rows))
        };
        read().with_context(|| format!("array {}", name.trim_end_matches(".npy")))
    }

    /// The boxes of a file with `regions` regions; none if it has no array `bbox` or `boxes`, or not the size of the image,
    /// or boxes in shares of that size. `file` is the content of the file.
    ///
    /// # Errors
    /// An array is damaged, or does not fit the others.
    pub fn boxes(&mut self, file: &[u8], regions: usize) -> Result<Option<Boxes>> {
        let mut bbox = None;
        for name in arrays::BOXES {
            bbox = bbox.or(self.matrix(file, name, (regions, 4))?);
        }
        let mut pixels = |name: &str| -> Result<Option<i32>> {
            let Some(value) = self.matrix(file, name, (1, 1))? else {
                return Ok(None);
            };
            let value = value.first().copied().unwrap_or(f32::NAN);
            let size = size_in_pixels(value).with_context(|| format!("member {name}"))?;
            Ok(Some(size))
        };
        let mut size = (None, None);
        for (width, height) in arrays::SIZES {
            size = (size.0.or(pixels(width)?), size.1.or(pixels(height)?));
        }
        let (Some(bbox), (Some(width), Some(height))) = (bbox, size) else {
            return Ok(None);
        };
        Ok(Boxes::in_pixels(bbox, width, height))
    }

    fn matrix(
        &mut self,
        file: &[u8],
        name: &str,
        expected: (usize, usize),
    ) -> Result<Option<Vec<f32>>> {
        let Some(member) = zip::find(file, name)? else {
            return Ok(None);
        };
        let mut read = || -> Result<_> {
            let array = Array::open(&member, &mut self.inflate)?;
            let (rows, columns) = array.header.matrix()?;
            ensure!(
                (rows, columns) == expected,
                "its shape is {:?}; {expected:?} is expected",
                array.header.shape
            );
            let Header {
                dtype,
                fortran_order,
                ..
            } = array.header;
            let layout = Layout {
                dtype,
                row_major: !fortran_order,
                rows,
                columns,
                taken: rows,
            };
            let mut out = Vec::new();
            layout.copy(array.data, &mut out);
            Ok(Some(out))
        };
        read().with_context(|| format!("member {name}"))
    }
}

fn cannot_read(path: &Path) -> String {
    format!(
        "cannot read the features {}; take that file from the published archive again",
        path.display()
    )
}

/// Replaces the content of `buffer` by the content of a file.
pub(crate) fn load(path: &Path, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let file = files::open(path)?;
    let bytes = file.metadata()?.len();
    ensure!(
        bytes <= MAX_FILE_BYTES,
        "it has {bytes} bytes; at most {MAX_FILE_BYTES} are accepted"
    );
    // One more byte than the file has, because reading stops only at an empty read, which needs room.
    let reserved = memory::fallible(|| buffer.try_reserve(bytes as usize + 1));
    reserved.map_err(|_| files::no_memory(bytes))?;
    file.take(MAX_FILE_BYTES).read_to_end(buffer)?;
    Ok(())
}

/// A decompressor with its buffer.
struct Inflate {
    decompressor: Decompressor,
    /// Never shrinks. The bytes behind those of a member are from earlier files.
    decoded: Vec<u8>,
}

/// One array of an archive.
struct Array<'a> {
    header: Header,
    /// The elements, as many bytes as the header says.
    data: &'a [u8],
}

impl<'a> Array<'a> {
    fn open(member: &'a Member, inflate: &'a mut Inflate) -> Result<Self> {
        ensure!(
            member.size <= MAX_ARRAY_BYTES,
            "it claims {} bytes; at most {MAX_ARRAY_BYTES}",
            member.size
        );
        let content = inflate.content(member)?;
        ensure!(
            crc32(content) == member.crc,
            "its checksum is wrong, so it is damaged"
        );
        let header_bytes = npy::header_bytes(content)?;
        let (header, data) = content
            .split_at_checked(header_bytes)
            .context("its .npy header is cut short")?;
        let header = npy::parse(header)?;
        let elements = header
            .shape
            .iter()
            .try_fold(1usize, |product, &d| product.checked_mul(d));
        ensure!(
            elements.and_then(|e| e.checked_mul(header.dtype.bytes())) == Some(data.len()),
            "its shape {:?} does not go with the {} bytes that follow its header",
            header.shape,
            data.len()
        );
        Ok(Array { header, data })
    }
}

impl Inflate {
    /// The bytes of a member, decoded.
    fn content<'a>(&'a mut self, member: &Member<'a>) -> Result<&'a [u8]> {
        if !member.deflated {
            return Ok(member.data);
        }
        if let Some(more) = member.size.checked_sub(self.decoded.len()) {
            let reserved = memory::fallible(|| self.decoded.try_reserve(more));
            reserved.map_err(|_| files::no_memory(more as u64))?;
            self.decoded.resize(member.size, 0);
        }
        let decoded = &mut self.decoded[..member.size];
        let bytes = self.decompressor.deflate_decompress(member.data, decoded);
        ensure!(
            bytes == Ok(member.size),
            "its deflated data are cut short or damaged"
        );
        Ok(decoded)
    }
}
