//! Word vectors from a binary file of word2vec: a line with the number of words and of values, then for each word its
//! text, a space, and its values as little-endian float32, and perhaps a line break.

use super::{MAX_DIMENSION, Wanted, WordVectors};
use anyhow::{Context, Result, ensure};
use rustc_hash::FxHashMap;
use std::io::{BufRead, Read};

/// The longest word that is accepted.
const MAX_WORD_BYTES: u64 = 1 << 16;

/// Whether a file that begins with `start` is of this format. The text format has the same first line.
pub(super) fn is_binary(start: &[u8]) -> bool {
    let Some(line_end) = start.iter().position(|&byte| byte == b'\n') else {
        return false;
    };
    let (header, rest) = start.split_at(line_end + 1);
    let Some(space) = rest.iter().position(|&byte| byte == b' ') else {
        return false;
    };
    // Text has no control characters. Among random bytes there soon is one.
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    let is_header = super::text::is_word2vec_header(header.trim_ascii_end());
    is_header && rest[space + 1..].iter().any(is_control)
}

/// The vectors of the words. Of several vectors for one word, the first counts.
///
/// # Errors
/// A file that is cut short, or a vector of a wanted word that is not finite.
pub(super) fn read(mut reader: impl BufRead, wanted: Wanted) -> Result<WordVectors> {
    let mut header = Vec::new();
    reader
        .by_ref()
        .take(MAX_WORD_BYTES)
        .read_until(b'\n', &mut header)?;
    let header = String::from_utf8_lossy(&header);
    let mut numbers = header.split_whitespace().map(str::parse::<usize>);
    let (Some(Ok(count)), Some(Ok(dimension))) = (numbers.next(), numbers.next()) else {
        anyhow::bail!("its first line has no numbers of words and values");
    };
    ensure!(
        (1..=MAX_DIMENSION).contains(&dimension),
        "its first line says {dimension} values per word"
    );
    wanted.check_width(dimension)?;
    let mut missing: FxHashMap<&[u8], Vec<usize>> = FxHashMap::default();
    for (index, word) in wanted.words.iter().enumerate() {
        missing.entry(word.as_bytes()).or_default().push(index);
    }
    let mut values = vec![0.0; wanted.words.len() * dimension];
    let (mut word, mut vector) = (Vec::new(), vec![0; 4 * dimension]);
    for number in 1..=count {
        let cannot = || format!("it is cut short or damaged at word {number} of {count}");
        word.clear();
        reader
            .by_ref()
            .take(MAX_WORD_BYTES)
            .read_until(b' ', &mut word)
            .with_context(cannot)?;
        reader.read_exact(&mut vector).with_context(cannot)?;
        let Some(indices) = missing.remove(word.trim_ascii()) else {
            continue;
        };
        let of_word = vector
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        let of_word: Vec<f32> = of_word.collect();
        ensure!(
            of_word.iter().all(|value| value.is_finite()),
            "word {number} has a value that is not finite"
        );
        for index in indices {
            values[index * dimension..][..dimension].copy_from_slice(&of_word);
        }
    }
    Ok(WordVectors::new(dimension, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(separator: &[u8]) -> Vec<u8> {
        let mut bytes = b"3 2\n".to_vec();
        for (word, values) in [
            ("</s>", [0.5f32, 1.0]),
            ("cat", [2.0, -3.0]),
            ("cat", [9.0, 9.0]),
        ] {
            bytes.extend(word.bytes().chain([b' ']));
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            bytes.extend(separator);
        }
        bytes
    }

    #[test]
    fn a_binary_file_is_told_from_text_and_read() {
        assert!(!is_binary(b"3 2\ncat 2.0 -3.0\ndog 1e-3 nan\n") && !is_binary(b"cat 2.0 -3.0\n"));
        let wanted = Wanted {
            words: &["cat", "dog"],
            width: Some(2),
        };
        for separator in [&b""[..], b"\n"] {
            let bytes = file(separator);
            assert!(is_binary(&bytes));
            let vectors = read(&bytes[..], wanted).unwrap();
            assert_eq!(
                (vectors.values, vectors.found),
                (vec![2.0, -3.0, 0.0, 0.0], 1)
            );
            let message = format!(
                "{:#}",
                read(&bytes[..bytes.len() - 3], wanted).err().unwrap()
            );
            assert!(message.contains("at word 3 of 3"), "{message}");
        }
        let other = Wanted {
            words: &["cat"],
            width: Some(3),
        };
        assert!(read(&file(b"")[..], other).is_err());
    }
}
