//! The header and the rows of a float matrix in NumPy's `.npy` format, so that a matrix of a gigabyte can be read row
//! by row (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use anyhow::{Context, Result, bail, ensure};
use std::io::Read;

/// Longest header accepted; NumPy's own limit is 10,000 bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Most columns accepted. Word vectors have 300.
pub const MAX_COLUMNS: usize = 8192;

/// Precision of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// `<f2`
    F16,
    /// `<f4`
    F32,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the first axis.
    pub rows: u64,
    /// Length of the second axis, at most [`MAX_COLUMNS`].
    pub columns: usize,
    /// Precision of the values.
    pub element: Element,
}

impl Header {
    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.columns * if self.element == Element::F16 { 2 } else { 4 }
    }

    /// Decodes a row of [`Header::row_bytes`] bytes.
    pub fn decode<'a>(&self, row: &'a [u8]) -> Box<dyn Iterator<Item = f32> + 'a> {
        match self.element {
            Element::F16 => Box::new(
                row.as_chunks()
                    .0
                    .iter()
                    .map(|&bytes| half::f16::from_le_bytes(bytes).to_f32()),
            ),
            Element::F32 => Box::new(
                row.as_chunks()
                    .0
                    .iter()
                    .map(|&bytes| f32::from_le_bytes(bytes)),
            ),
        }
    }
}

/// Reads the header and leaves `reader` at the first row.
///
/// # Errors
/// When it is not an `.npy` header of a two-dimensional, C-ordered, little-endian f4 or f2 array.
pub fn read_header(reader: &mut impl Read) -> Result<Header> {
    let mut start = [0; 8];
    reader
        .read_exact(&mut start)
        .context("it ends within the .npy header")?;
    ensure!(&start[..6] == b"\x93NUMPY", "it is not an .npy file");
    let mut length = [0; 4];
    let length_bytes = if start[6] == 1 { 2 } else { 4 };
    reader
        .read_exact(&mut length[..length_bytes])
        .context("it ends within the .npy header")?;
    let length = u32::from_le_bytes(length) as usize;
    ensure!(
        length <= MAX_HEADER_BYTES,
        "its .npy header of {length} bytes is too long"
    );
    let mut header = vec![0; length];
    reader
        .read_exact(&mut header)
        .context("it ends within the .npy header")?;
    let header = String::from_utf8_lossy(&header);
    parse_header(&header).with_context(|| format!("its .npy header is {:?}", header.trim_end()))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (185, 300), }`, keys in any order.
fn parse_header(header: &str) -> Result<Header> {
    let value = |key: &str| {
        let (_, rest) = header
            .split_once(&format!("'{key}'"))
            .with_context(|| format!("there is no {key}"))?;
        rest.trim_start()
            .strip_prefix(':')
            .map(str::trim_start)
            .with_context(|| format!("{key} has no value"))
    };
    let element = match value("descr")?.split('\'').nth(1) {
        Some("<f4") => Element::F32,
        Some("<f2") => Element::F16,
        _ => bail!("only descr '<f4' and '<f2' are supported"),
    };
    ensure!(
        value("fortran_order")?.starts_with("False"),
        "only fortran_order False is supported"
    );
    let shape = value("shape")?
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .context("shape is no tuple")?
        .0;
    let shape: Vec<u64> = (shape
        .split(',')
        .map(str::trim)
        .filter(|axis| !axis.is_empty())
        .map(str::parse))
    .collect::<Result<_, _>>()
    .context("shape is not made of numbers")?;
    let [rows, columns] = shape[..] else {
        bail!("the array must have two axes")
    };
    let columns = usize::try_from(columns).unwrap_or(usize::MAX);
    ensure!(
        (1..=MAX_COLUMNS).contains(&columns),
        "the vectors must have 1 to {MAX_COLUMNS} values"
    );
    Ok(Header {
        rows,
        columns,
        element,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(version: u8, header: &str) -> Vec<u8> {
        let length = (header.len() as u32).to_le_bytes();
        let length = if version == 1 {
            &length[..2]
        } else {
            &length[..]
        };
        [b"\x93NUMPY", &[version, 0][..], length, header.as_bytes()].concat()
    }

    #[test]
    fn headers_of_every_version_are_read() {
        let expected = Header {
            rows: 185,
            columns: 300,
            element: Element::F32,
        };
        for version in [1, 2, 3] {
            let bytes = npy(
                version,
                "{'descr': '<f4', 'fortran_order': False, 'shape': (185, 300), }   \n",
            );
            assert_eq!(read_header(&mut &bytes[..]).unwrap(), expected);
        }
        let shuffled = npy(
            1,
            "{\"x\": 1, 'shape':(3,2),'fortran_order':False,'descr':'<f2'}",
        );
        let header = read_header(&mut &shuffled[..]).unwrap();
        assert_eq!((header.rows, header.row_bytes()), (3, 4));
        assert_eq!(
            header.decode(&[0, 0x3c, 0, 0xc0]).collect::<Vec<_>>(),
            [1.0, -2.0]
        );
    }

    #[test]
    fn anything_else_is_an_error_that_says_what() {
        for (header, what) in [
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2)}",
                "<f4",
            ),
            (
                "{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2)}",
                "<f4",
            ),
            (
                "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2)}",
                "fortran_order",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
                "two axes",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 4)}",
                "two axes",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3)}",
                "numbers",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 99999999999999999)}",
                "values",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 0)}",
                "values",
            ),
            ("{'descr': '<f4', 'fortran_order': False}", "no shape"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2",
                "tuple",
            ),
        ] {
            let error = format!("{:#}", read_header(&mut &npy(1, header)[..]).unwrap_err());
            assert!(error.contains(what), "{header}: {error}");
        }
        assert!(read_header(&mut &b"PK\x03\x04 and more"[..]).is_err());
        assert!(read_header(&mut &b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..]).is_err());
        assert!(read_header(&mut &b"\x93NUM"[..]).is_err());
    }
}
