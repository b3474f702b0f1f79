//! Reads and writes the headers of `.npy` arrays: a magic string, a version, and a Python dictionary in text. Decodes
//! the values of arrays.
//!
//! Format: NumPy's `numpy.lib.format`. Versions 1.0, 2.0 and 3.0 are read, with little-endian numbers only; version
//! 1.0 is written.

use crate::formats::dtype::Dtype;
use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use std::io::Read;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Bytes that tell the length of the header, in every version.
pub(crate) const PREFIX_BYTES: usize = 12;
/// NumPy's own default limit for the text of a header.
const MAX_HEADER_BYTES: usize = 10_000;
/// Feature files have arrays of up to two dimensions. A few more are read so that the message can show them.
const MAX_DIMENSIONS: usize = 8;

/// The dtype that NumPy calls `descr`.
fn dtype(descr: &str) -> Result<Dtype> {
    Ok(match descr {
        "<f2" => Dtype::F16,
        "<f4" => Dtype::F32,
        "<f8" => Dtype::F64,
        "|i1" => Dtype::I8,
        "<i2" => Dtype::I16,
        "<i4" => Dtype::I32,
        "<i8" => Dtype::I64,
        "|u1" => Dtype::U8,
        "|b1" => Dtype::Bool,
        other => bail!("its dtype is {other:?}; little-endian float32 (\"<f4\") is expected"),
    })
}

/// The header of an array.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    pub dtype: Dtype,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
}

impl Header {
    /// Rows and columns; a scalar or a vector counts as one row.
    pub fn matrix(&self) -> Result<(usize, usize)> {
        match self.shape[..] {
            [] => Ok((1, 1)),
            [columns] => Ok((1, columns)),
            [rows, columns] => Ok((rows, columns)),
            _ => bail!("its shape is {:?}; two dimensions are expected", self.shape),
        }
    }
}

/// The length of the header, from the first [`PREFIX_BYTES`] bytes of the array.
pub(crate) fn header_bytes(prefix: &[u8]) -> Result<usize> {
    ensure!(
        prefix.len() >= PREFIX_BYTES && prefix.starts_with(MAGIC),
        "it is not a .npy array"
    );
    let (start, text) = match prefix[6] {
        1 => (10, usize::from(u16::from_le_bytes([prefix[8], prefix[9]]))),
        2 | 3 => (
            12,
            u32::from_le_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]) as usize,
        ),
        other => bail!(".npy version {other} is unknown"),
    };
    ensure!(
        text <= MAX_HEADER_BYTES,
        "its .npy header claims {text} bytes; at most {MAX_HEADER_BYTES} are accepted"
    );
    Ok(start + text)
}

/// Reads a header, and leaves `reader` at the first value.
///
/// # Errors
/// The header is cut off or is no header of NumPy.
pub(crate) fn read(reader: &mut impl Read) -> Result<Header> {
    const CUT_SHORT: &str = "it ends within the .npy header";
    let mut bytes = vec![0; PREFIX_BYTES];
    reader.read_exact(&mut bytes).context(CUT_SHORT)?;
    bytes.resize(header_bytes(&bytes)?.max(PREFIX_BYTES), 0);
    reader
        .read_exact(&mut bytes[PREFIX_BYTES..])
        .context(CUT_SHORT)?;
    parse(&bytes)
}

/// Parses a header of the length that [`header_bytes`] returned.
pub(crate) fn parse(header: &[u8]) -> Result<Header> {
    let start = if header.get(6) == Some(&1) { 10 } else { 12 };
    let text = header
        .get(start..)
        .and_then(|text| std::str::from_utf8(text).ok());
    let mut text = Text {
        rest: text.context("its .npy header is not text")?,
    };
    let header = text.dictionary();
    // The rest shows the place of an error.
    match text.rest.trim() {
        "" => header,
        rest => header.with_context(|| format!("its .npy header reads {rest:?}")),
    }
}

/// The header (version 1.0) of a little-endian array in C or Fortran order. The data follow it, at a multiple of 64
/// bytes.
///
/// # Errors
/// `shape` has too many dimensions for a header of 64 KiB.
pub(crate) fn header(descr: &str, fortran_order: bool, shape: &[usize]) -> Result<Vec<u8>> {
    const PREAMBLE_BYTES: usize = 10;
    const ALIGNMENT: usize = 64;
    let order = if fortran_order { "True" } else { "False" };
    let shape = match shape {
        // A Python tuple of one number needs its comma.
        [length] => format!("({length},)"),
        _ => {
            let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
            format!("({})", lengths.join(", "))
        }
    };
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    let text_bytes = (PREAMBLE_BYTES + text.len() + 1).next_multiple_of(ALIGNMENT) - PREAMBLE_BYTES;
    let mut bytes = [MAGIC, &[1, 0]].concat();
    bytes.extend(u16::try_from(text_bytes)?.to_le_bytes());
    bytes.extend(format!("{text:<width$}\n", width = text_bytes - 1).bytes());
    Ok(bytes)
}

/// The layout of a matrix in memory, and how many of its rows are wanted.
pub(crate) struct Layout {
    pub dtype: Dtype,
    /// Whether row follows row; else column follows column.
    pub row_major: bool,
    pub rows: usize,
    pub columns: usize,
    /// The number of wanted rows, from the first one.
    pub taken: usize,
}

impl Layout {
    /// Appends the wanted rows to `out` (taken, columns). `data` has all elements.
    pub fn copy(&self, data: &[u8], out: &mut Vec<f32>) {
        match self.dtype {
            Dtype::F16 => self.copy_as(data, out, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => self.copy_as(data, out, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F32 => self.copy_as(data, out, f32::from_le_bytes),
            Dtype::F64 => self.copy_as(data, out, |b| f64::from_le_bytes(b) as f32),
            Dtype::I8 => self.copy_as(data, out, |b| i8::from_le_bytes(b).into()),
            Dtype::I16 => self.copy_as(data, out, |b| i16::from_le_bytes(b).into()),
            Dtype::I32 => self.copy_as(data, out, |b| i32::from_le_bytes(b) as f32),
            Dtype::I64 => self.copy_as(data, out, |b| i64::from_le_bytes(b) as f32),
            Dtype::U8 | Dtype::Bool => self.copy_as(data, out, |[b]| b.into()),
        }
    }

    fn copy_as<const W: usize>(
        &self,
        data: &[u8],
        out: &mut Vec<f32>,
        to_f32: impl Fn([u8; W]) -> f32,
    ) {
        let (data, _) = data.as_chunks::<W>();
        if self.row_major || data.is_empty() {
            out.extend(
                data[..self.taken * self.columns]
                    .iter()
                    .map(|&bytes| to_f32(bytes)),
            );
            return;
        }
        // Transposing touches every cache line of a column for each row; a few columns at a time stay in the cache.
        const BLOCK: usize = 64;
        let start = out.len();
        out.resize(start + self.taken * self.columns, 0.0);
        for first in (0..self.columns).step_by(BLOCK) {
            let last = self.columns.min(first + BLOCK);
            let block = &data[first * self.rows..last * self.rows];
            for (row, target) in out[start..].chunks_exact_mut(self.columns).enumerate() {
                for (value, column) in target[first..last]
                    .iter_mut()
                    .zip(block.chunks_exact(self.rows))
                {
                    *value = to_f32(column[row]);
                }
            }
        }
    }
}

/// The unread rest of a Python literal.
struct Text<'a> {
    rest: &'a str,
}

impl<'a> Text<'a> {
    fn dictionary(&mut self) -> Result<Header> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.take('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" => descr = Some(self.string()?),
                "fortran_order" => fortran_order = Some(self.boolean()?),
                "shape" => shape = Some(self.shape()?),
                other => bail!("unknown key {other:?}"),
            }
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Header {
                dtype: dtype(descr)?,
                fortran_order,
                shape,
            }),
            _ => bail!("descr, fortran_order or shape is missing"),
        }
    }

    fn take(&mut self, token: char) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: char) -> Result<()> {
        ensure!(self.take(token), "{token:?} is missing");
        Ok(())
    }

    fn string(&mut self) -> Result<&'a str> {
        let quote = if self.take('"') { '"' } else { '\'' };
        ensure!(
            quote == '"' || self.take(quote),
            "a quoted string is missing"
        );
        let (string, rest) = self
            .rest
            .split_once(quote)
            .context("a quote is not closed")?;
        self.rest = rest;
        Ok(string)
    }

    fn word(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn boolean(&mut self) -> Result<bool> {
        match self.word() {
            "True" => Ok(true),
            "False" => Ok(false),
            other => bail!("{other:?} is neither True nor False"),
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            ensure!(
                shape.len() < MAX_DIMENSIONS,
                "it has more than {MAX_DIMENSIONS} dimensions"
            );
            // Python 2 on Windows wrote long integers: (2048L, 36L).
            let word = self.word();
            let digits = word.strip_suffix('L').unwrap_or(word);
            shape.push(
                digits
                    .parse()
                    .with_context(|| format!("{word:?} is not a dimension"))?,
            );
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests;
