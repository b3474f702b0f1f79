//! Word vectors from a GloVe text file: each line has a word and its values, separated by single spaces.
//!
//! Words are looked up whole and as they are written, while a spaCy package splits `cant` into `ca` and `nt`. The file is
//! read as a stream. The number of values is checked on every line, but only the values of wanted words are parsed.

use super::{MAX_DIMENSION, Wanted, WordVectors};
use anyhow::{Context, Result, ensure};
use rustc_hash::FxHashMap;
use std::io::{BufRead, Read};

/// The longest line that is accepted; lines of `glove.840B.300d.txt` have about 3 KB.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The vectors of the words from the lines of `reader`. Of several lines for one word, the first counts. A first line of
/// two numbers (word2vec's count and dimension) is skipped. A word in the file may contain spaces.
///
/// # Errors
/// A line with the wrong number of values, or a value of a wanted word that is not a finite number. The error names the
/// line.
pub(super) fn read(mut reader: impl BufRead, wanted: Wanted) -> Result<WordVectors> {
    let words = wanted.words;
    let mut missing: FxHashMap<&[u8], Vec<usize>> = FxHashMap::default();
    for (index, word) in words.iter().enumerate() {
        missing.entry(word.as_bytes()).or_default().push(index);
    }
    let mut line = Vec::new();
    let mut dimension = None;
    let mut values = Vec::new();
    for number in 1u64.. {
        if !read_line(&mut reader, &mut line, number)? {
            break;
        }
        let text = line.trim_ascii_end();
        let spaces = text.iter().filter(|&&byte| byte == b' ').count();
        if text.is_empty() || number == 1 && is_word2vec_header(text) {
            continue;
        }
        let columns = *dimension.get_or_insert_with(|| width_of(text, spaces, wanted.width));
        ensure!(
            (2..=MAX_DIMENSION).contains(&columns) && spaces >= columns,
            "line {number} has {spaces} values where a word and {} were expected, so this is no GloVe text file or a \
             damaged one",
            if columns < 2 {
                "its vector".into()
            } else {
                format!("{columns} values")
            }
        );
        wanted.check_width(columns)?;
        let (word, vector) = split_word(text, spaces - columns);
        let Some(indices) = missing.remove(word) else {
            continue;
        };
        values.resize(words.len() * columns, 0.0);
        let vector = parse_vector(vector, columns, number)?;
        for index in indices {
            values[index * columns..][..columns].copy_from_slice(&vector);
        }
    }
    let dimension = dimension.context("it is empty")?;
    values.resize(words.len() * dimension, 0.0);
    Ok(WordVectors::new(dimension, values))
}

/// Reads the line of this number; false at the end of the file.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, number: u64) -> Result<bool> {
    line.clear();
    let read = reader.take(MAX_LINE_BYTES).read_until(b'\n', line);
    let bytes = read.with_context(|| format!("line {number} cannot be read"))?;
    ensure!(
        (bytes as u64) < MAX_LINE_BYTES,
        "line {number} is longer than {MAX_LINE_BYTES} bytes"
    );
    Ok(bytes > 0)
}

/// The number of values of the first line, which has this many spaces: `wanted`, if that many numbers end the line, because
/// the first word of a file may contain spaces; else one for each space.
fn width_of(line: &[u8], spaces: usize, wanted: Option<usize>) -> usize {
    let is_number = |field: &[u8]| {
        let text = std::str::from_utf8(field);
        text.is_ok_and(|text| text.parse::<f32>().is_ok())
    };
    let fields = line.rsplit(|&byte| byte == b' ');
    let numbers = fields.take_while(|field| is_number(field)).count();
    wanted.filter(|&width| width == numbers).unwrap_or(spaces)
}

pub(super) fn is_word2vec_header(line: &[u8]) -> bool {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut number = || {
        fields
            .next()
            .is_some_and(|field| !field.is_empty() && field.iter().all(u8::is_ascii_digit))
    };
    number() && number() && fields.next().is_none()
}

/// Splits a line at the space after the first `inner` spaces.
fn split_word(line: &[u8], inner: usize) -> (&[u8], &[u8]) {
    let mut spaces = line
        .iter()
        .enumerate()
        .filter(|&(_, &byte)| byte == b' ')
        .map(|(at, _)| at);
    let at = spaces.nth(inner).unwrap_or(line.len());
    (&line[..at], line.get(at + 1..).unwrap_or_default())
}

/// The `columns` values of the line of this number.
fn parse_vector(values: &[u8], columns: usize, number: u64) -> Result<Vec<f32>> {
    let parse = || -> Result<Vec<f32>> {
        let values = std::str::from_utf8(values)?.split(' ');
        Ok(values.map(str::parse).collect::<Result<_, _>>()?)
    };
    let vector =
        parse().with_context(|| format!("line {number} has values that are not numbers"))?;
    ensure!(
        vector.len() == columns,
        "line {number} has {} values instead of {columns}",
        vector.len()
    );
    ensure!(
        vector.iter().all(|value| value.is_finite()),
        "line {number} has a value that is not finite"
    );
    Ok(vector)
}
