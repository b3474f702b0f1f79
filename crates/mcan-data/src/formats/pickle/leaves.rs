//! Reads the parts of a pickle that are no opcodes: numbers, texts and bytes.

use super::read::Reader;
use super::{MAX_INT_BYTES, Value};
use anyhow::{Context, Result};

impl<'a> Reader<'a> {
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let bytes = self
            .at
            .checked_add(n)
            .and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.with_context(|| {
            format!("{n} bytes are needed, but the pickle is cut off; copy the file again")
        })?;
        self.at += n;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    /// A little-endian integer of up to eight bytes without sign.
    pub(super) fn length(&mut self, width: usize) -> Result<usize> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        Ok(usize::try_from(u64::from_le_bytes(bytes))?)
    }

    pub(super) fn unsigned(&mut self, width: usize) -> Result<()> {
        let number = self.length(width)?;
        self.leaf(Value::Int(number as i128))
    }

    /// An integer whose number of bytes precedes it, in `width` bytes.
    pub(super) fn long(&mut self, width: usize) -> Result<()> {
        let length = self.length(width)?;
        self.int_of(length)
    }

    pub(super) fn float(&mut self) -> Result<()> {
        let number = f64::from_be_bytes(self.array()?);
        self.leaf(Value::Float(number))
    }

    /// A little-endian integer with sign.
    pub(super) fn int_of(&mut self, width: usize) -> Result<()> {
        let bytes = self.take(width)?;
        if width > MAX_INT_BYTES {
            return self.opaque("int");
        }
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut extended = [if negative { 0xff } else { 0 }; MAX_INT_BYTES];
        extended[..width].copy_from_slice(bytes);
        self.leaf(Value::Int(i128::from_le_bytes(extended)))
    }

    pub(super) fn text(&mut self, width: usize) -> Result<()> {
        let length = self.length(width)?;
        let text = std::str::from_utf8(self.take(length)?)
            .context("a string is no UTF-8; the file is damaged")?;
        self.leaf(Value::str(text))
    }

    /// A `str` of Python 2, which consists of bytes. It is read as UTF-8 if it is valid UTF-8, else as Latin-1.
    pub(super) fn text_of_python_2(&mut self, width: usize) -> Result<()> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        let latin_1 = || bytes.iter().map(|&byte| char::from(byte)).collect();
        let text = std::str::from_utf8(bytes).map_or_else(|_| latin_1(), str::to_owned);
        self.leaf(Value::str(&text))
    }

    pub(super) fn byte_string(&mut self, width: usize) -> Result<()> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        self.leaf(Value::Bytes(bytes.into()))
    }

    /// A line of text, without its end.
    pub(super) fn line(&mut self) -> Result<String> {
        let length = self.rest().iter().position(|&byte| byte == b'\n');
        let length = length.context("a line has no end; the file is cut off")?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    /// The number of an object in the memo, in digits.
    pub(super) fn number_line(&mut self) -> Result<u32> {
        let line = self.line()?;
        let number = line.trim().parse();
        number.with_context(|| format!("the memo has no number {line:?}; the file is damaged"))
    }

    /// An integer in digits, with an `L` at the end if Python 2 calls it long; `00` and `01` are booleans.
    pub(super) fn integer_line(&mut self) -> Result<()> {
        let line = self.line()?;
        let digits = line.trim().trim_end_matches('L');
        match (digits, digits.parse()) {
            ("00", _) => self.leaf(Value::Bool(false)),
            ("01", _) => self.leaf(Value::Bool(true)),
            (_, Ok(number)) => self.leaf(Value::Int(number)),
            _ => self.opaque("int"),
        }
    }

    /// A float in digits.
    pub(super) fn float_line(&mut self) -> Result<()> {
        let line = self.line()?;
        let number = line.trim().parse();
        self.leaf(Value::Float(number.with_context(|| {
            format!("{line:?} is no number; the file is damaged")
        })?))
    }

    /// A string in a line. One that needs an escape is left out: no name of a parameter has any.
    pub(super) fn text_line(&mut self) -> Result<()> {
        let line = self.line()?;
        let quote = |c: char| c == '\'' || c == '"';
        let text = line
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote));
        match text.unwrap_or(&line) {
            text if text.contains('\\') => self.opaque("str"),
            text => self.leaf(Value::str(text)),
        }
    }
}
