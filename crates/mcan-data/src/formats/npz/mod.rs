//! Reads the feature files of the reference: `.npz` archives with one image's regions each.
//!
//! A file holds `x` (`IMG_FEAT_SIZE`, n), one column per region, in whichever memory order; it comes out as n rows of
//! `IMG_FEAT_SIZE` values. Training reads nothing but `x`; [`Reader::boxes`] reads the rest for packing. The bytes are
//! not trusted: every size is checked against what the file can back before anything is allocated. This module knows
//! neither image ids nor folders, and gives regions as they are, also those that are padding.

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, reason = "writing to memory does not fail")]
pub mod testing;
#[cfg(test)]
mod tests;
mod write;
mod zip;

pub(crate) use write::{Storage, Writer};

use crate::formats::npy::{self, Header, Layout};
use anyhow::{Context, Result, ensure};
use crc32fast::hash as crc32;
use libdeflater::Decompressor;
use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zip::Member;

/// The largest feature file accepted, in bytes: some 80 times a full one of 100 float32 regions.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// The largest array decoded from one, in bytes: 8192 regions, where 100 are usual.
const MAX_ARRAY_BYTES: usize = 64 << 20;

/// Boxes of an image's regions, in pixels of an image of `width` by `height`.
#[derive(Clone, Debug, PartialEq)]
pub struct Boxes {
    /// (n, 4) corners x1, y1, x2, y2, row after row.
    pub bbox: Vec<f32>,
    /// Pixels.
    pub width: i32,
    /// Pixels.
    pub height: i32,
}

/// Buffers that outlive a file, so that reading the next one allocates nothing.
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

/// Runs `body` with this thread's reader. `body` must not call `with_reader` itself.
pub fn with_reader<T>(body: impl FnOnce(&mut Reader) -> T) -> T {
    thread_local!(static READER: RefCell<Reader> = RefCell::default());
    READER.with_borrow_mut(body)
}

/// Which rows of an array `x` to read.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// F, values per row.
    pub feature_size: usize,
    /// The most rows to read: the first ones.
    pub max_rows: usize,
    /// Whether `x` is (n, F), as OpenVQA's grids are, rather than (F, n), as the features of VQA-v2 are.
    pub rows_first: bool,
}

impl Reader {
    /// Appends the wanted rows of the file at `path` to `out`, (n, F) row after row.
    ///
    /// # Errors
    /// One that names `path` when it cannot be read, is damaged, or holds an `x` of another type or size; `out` may
    /// then have grown.
    pub fn read_file(&mut self, path: &Path, wanted: Wanted, out: &mut Vec<f32>) -> Result<usize> {
        let mut file = std::mem::take(&mut self.file);
        let result = load(path, &mut file)
            .and_then(|()| self.rows(&file, wanted, out))
            .with_context(|| {
                format!(
                    "cannot read the features {}; take that file from the published archive again",
                    path.display()
                )
            });
        self.file = file;
        result
    }

    /// The first `max_regions` regions of a file of VQA-v2, see [`Reader::rows`].
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

    /// Like [`Reader::read_file`] on the content of a file.
    ///
    /// # Errors
    /// One that says what is wrong, without the name of the file.
    pub fn rows(&mut self, file: &[u8], wanted: Wanted, out: &mut Vec<f32>) -> Result<usize> {
        let Wanted {
            feature_size,
            max_rows,
            rows_first,
        } = wanted;
        let member = zip::find(file, "x.npy")?.context("it has no array x")?;
        let mut read = |inflate: &mut Inflate| {
            let array = Array::open(&member, inflate)?;
            let Header {
                dtype,
                fortran_order,
                shape,
            } = &array.header;
            ensure!(
                dtype.is_float(),
                "its dtype is {dtype:?}; float32 is expected"
            );
            let (features, rows) = match (&shape[..], rows_first) {
                (&[features, rows], false) | (&[rows, features], true) => (features, rows),
                (_, false) => {
                    anyhow::bail!("its shape is {shape:?}; (IMG_FEAT_SIZE, regions) is expected")
                }
                (_, true) => anyhow::bail!("its shape is {shape:?}; (cells, features) is expected"),
            };
            ensure!(
                features == feature_size,
                "its shape is {shape:?}, but IMG_FEAT_SIZE is {feature_size}: the features are others than configured"
            );
            let taken = rows.min(max_rows);
            // The rows of (F, n) are the columns of the stored array.
            let layout = Layout {
                dtype: *dtype,
                row_major: *fortran_order != rows_first,
                rows,
                columns: features,
                taken,
            };
            layout.copy(array.data, out);
            Ok(taken)
        };
        read(&mut self.inflate).context("array x")
    }

    /// The boxes of the file at `path`, which has `regions` regions, or none where it has no array `bbox`.
    ///
    /// # Errors
    /// One that names `path`, as [`Reader::boxes`].
    pub fn boxes_of_file(&mut self, path: &Path, regions: usize) -> Result<Option<Boxes>> {
        let mut file = std::mem::take(&mut self.file);
        let result = load(path, &mut file)
            .and_then(|()| self.boxes(&file, regions))
            .with_context(|| format!("cannot read the boxes in {}", path.display()));
        self.file = file;
        result
    }

    /// The boxes of a file's `regions` regions, or none where the file has no array `bbox`.
    ///
    /// # Errors
    /// One that says which array is damaged, missing, or does not fit the others.
    pub fn boxes(&mut self, file: &[u8], regions: usize) -> Result<Option<Boxes>> {
        let Some(bbox) = self.matrix(file, "bbox.npy", (regions, 4))? else {
            return Ok(None);
        };
        let mut pixels = |name: &str| -> Result<i32> {
            let value = self
                .matrix(file, name, (1, 1))?
                .with_context(|| format!("it has no member {name}"))?[0];
            // Exact in f32, and far more than any image has.
            ensure!(
                (0.0..=(1 << 24) as f32).contains(&value),
                "member {name}: {value} is no size in pixels"
            );
            Ok(value as i32)
        };
        let (width, height) = (pixels("image_w.npy")?, pixels("image_h.npy")?);
        Ok(Some(Boxes {
            bbox,
            width,
            height,
        }))
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
        let read = |inflate: &mut Inflate| {
            let array = Array::open(&member, inflate)?;
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
        read(&mut self.inflate).with_context(|| format!("member {name}"))
    }
}

/// Reads the whole file into `buffer`, whose old content goes.
pub(crate) fn load(path: &Path, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let file = File::open(path).context("it cannot be opened")?;
    let bytes = file.metadata()?.len();
    ensure!(
        bytes <= MAX_FILE_BYTES,
        "it has {bytes} bytes; at most {MAX_FILE_BYTES} are accepted"
    );
    // One more than there are, or reading would grow the buffer only to find the end.
    buffer.reserve(bytes as usize + 1);
    file.take(MAX_FILE_BYTES).read_to_end(buffer)?;
    Ok(())
}

struct Inflate {
    decompressor: Decompressor,
    /// Only grows; what lies behind the bytes of a member is from earlier files.
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
        if self.decoded.len() < member.size {
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
