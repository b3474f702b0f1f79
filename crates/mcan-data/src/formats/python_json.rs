//! Writes JSON byte for byte as Python's `json.dump` does, so that files can be compared with those of the reference.
//!
//! The separators are `, ` and `: `. All characters outside printable ASCII are escaped, in surrogate pairs if UTF-16
//! needs them.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io::{self, Write};

/// Writes `value`, which has no floating-point numbers: Python spells some of them differently.
///
/// # Errors
/// `writer` fails.
pub(crate) fn write_python_json(
    writer: &mut (impl Write + ?Sized),
    value: &impl Serialize,
) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(writer, PythonStyle))
}

struct PythonStyle;

/// Writes the separator before a value or a key.
fn separate<W: Write + ?Sized>(writer: &mut W, first: bool) -> io::Result<()> {
    writer.write_all(if first { b"" } else { b", " })
}

impl Formatter for PythonStyle {
    fn begin_array_value<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_key<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, odd)) = rest.char_indices().find(|(_, c)| !matches!(c, ' '..='~')) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in odd.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + odd.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_python_escapes_them() {
        let mut out = Vec::new();
        let value = serde_json::json!([{"a\u{e9}": "\"\\/\u{8}\u{c}\n\r\t\0\u{1f} ~\u{7f}\u{2028}\u{1f600}z"}, [], {}, [1, -2]]);
        write_python_json(&mut out, &value).unwrap();
        // From Python 3.11: json.dumps of the same value.
        let expected = r#"[{"a\u00e9": "\"\\/\b\f\n\r\t\u0000\u001f ~\u007f\u2028\ud83d\ude00z"}, [], {}, [1, -2]]"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
