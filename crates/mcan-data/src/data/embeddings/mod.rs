//! Word vectors for the initial embedding: those that spaCy's `en_vectors_web_lg` gives each word, or GloVe's.
//!
//! Owns finding and reading the files: a spaCy package, as published or unpacked, with spaCy's tokenizer and string
//! keys, and GloVe text files. It runs no Python, writes nothing, and holds no vector that no word needs.

mod hash;
mod package;
mod pattern;
mod symbols;
mod text;
mod tokenizer;

#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail, ensure};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Names under which [`find`] looks for the vectors.
const PACKAGES: [&str; 3] = [
    "en_vectors_web_lg-2.1.0.tar.gz",
    "en_vectors_web_lg-2.1.0",
    "en_vectors_web_lg",
];
/// Where the magic `ustar` stands in a tar file.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;
/// Most values of a vector that are accepted; usual are 300.
const MAX_DIMENSION: usize = 8192;
/// Bytes read at a time.
const BUFFER_BYTES: usize = 1 << 18;

/// Vectors of some words.
#[derive(Clone, Debug, PartialEq)]
pub struct WordVectors {
    /// Values per vector, 300 in the published package.
    pub dimension: usize,
    /// (words, `dimension`), row after row in the order of the words; zero for a word without a known piece.
    pub values: Vec<f32>,
    /// Words whose vector is not zero.
    pub found: usize,
}

impl WordVectors {
    /// Counts the words found; `dimension` is not 0.
    fn new(dimension: usize, values: Vec<f32>) -> Self {
        let found = values
            .chunks_exact(dimension)
            .filter(|vector| vector.iter().any(|&value| value != 0.0))
            .count();
        Self {
            dimension,
            values,
            found,
        }
    }
}

/// The vectors to use: `explicit` if given, else the first spaCy package in one of `folders`, by its published name.
///
/// GloVe text files are only used when given, as their vectors differ from those of the package (see [`load`]).
///
/// # Errors
/// When `explicit` does not exist.
pub fn find(explicit: Option<&Path>, folders: &[&Path]) -> Result<Option<PathBuf>> {
    if let Some(path) = explicit {
        ensure!(
            path.exists(),
            "--GLOVE_PATH={}: there is no such file or folder",
            path.display()
        );
        return Ok(Some(path.to_owned()));
    }
    let mut candidates = folders
        .iter()
        .flat_map(|folder| PACKAGES.map(|name| folder.join(name)));
    Ok(candidates.find(|path| path.exists()))
}

/// Vectors of `words` (without white space in them), in order.
///
/// `path` is one of
/// - `en_vectors_web_lg-2.1.0.tar.gz`, a folder it was unpacked to or installed in, or any folder inside of that which
///   holds the model. A word's vector is the mean over its pieces as spaCy's tokenizer cuts it, as `nlp(word).vector`;
/// - a GloVe text file, plain, `.gz` or `.zip`. Words are looked up whole, so `cant` has GloVe's own vector for it, or
///   none, where a package has the mean of `ca` and `nt`; upper and lower case count (`glove.6B` is lower case only).
///
/// What the file is is told from its content, not from its name.
///
/// # Errors
/// When a file is missing, damaged, cut short or of another kind; they name the file and the place.
pub fn load(path: &Path, words: &[&str]) -> Result<WordVectors> {
    load_wanted(path, Wanted { words, width: None })
}

/// The same from a file whose vectors have to be `width` long. One with others is refused before there is a vector for each
/// word, which would take memory as that file claims.
///
/// # Errors
/// As [`load`], and when they are not.
pub fn load_of_width(path: &Path, words: &[&str], width: usize) -> Result<WordVectors> {
    load_wanted(
        path,
        Wanted {
            words,
            width: Some(width),
        },
    )
}

/// What is to be read.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    words: &'a [&'a str],
    /// Values per vector; any number where none is given.
    width: Option<usize>,
}

impl Wanted<'_> {
    fn check_width(&self, found: usize) -> Result<()> {
        match self.width.filter(|&wanted| wanted != found) {
            Some(wanted) => {
                bail!("it has vectors of {found} values, but WORD_EMBED_SIZE is {wanted}")
            }
            None => Ok(()),
        }
    }
}

fn load_wanted(path: &Path, wanted: Wanted) -> Result<WordVectors> {
    let vectors = if path.is_dir() {
        package::from_folder(path, wanted)
    } else {
        load_file(path, wanted)
    };
    vectors.with_context(|| format!("cannot read word vectors from {}", path.display()))
}

fn load_file(path: &Path, wanted: Wanted) -> Result<WordVectors> {
    if starts_with(&mut open(path)?, b"PK\x03\x04")? {
        let mut archive =
            zip::ZipArchive::new(open(path)?).context("it is a damaged .zip archive")?;
        let name = text_member(&archive)?;
        let member = archive
            .by_name(&name)
            .with_context(|| format!("its member {name} cannot be unpacked"))?;
        return text::read(BufReader::with_capacity(BUFFER_BYTES, member), wanted);
    }
    let mut start = Vec::new();
    inflate(path)?
        .take(TAR_MAGIC.end as u64)
        .read_to_end(&mut start)?;
    if start.get(TAR_MAGIC) == Some(b"ustar") {
        return package::from_archive(|| inflate(path), wanted);
    }
    text::read(
        BufReader::with_capacity(BUFFER_BYTES, inflate(path)?),
        wanted,
    )
}

fn open(path: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::with_capacity(BUFFER_BYTES, File::open(path)?))
}

/// The file's content, decompressed if it is gzip.
fn inflate(path: &Path) -> Result<Box<dyn Read>> {
    let mut file = open(path)?;
    Ok(if starts_with(&mut file, b"\x1f\x8b")? {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    })
}

fn starts_with(reader: &mut impl BufRead, magic: &[u8]) -> Result<bool> {
    Ok(reader.fill_buf()?.starts_with(magic))
}

/// The `.txt` in a zip archive, or of several (as in `glove.6B.zip`) the one with 300 dimensions.
fn text_member<R: Read + std::io::Seek>(archive: &zip::ZipArchive<R>) -> Result<String> {
    let texts: Vec<&str> = archive
        .file_names()
        .filter(|name| name.ends_with(".txt"))
        .collect();
    let best: Vec<&str> = texts
        .iter()
        .copied()
        .filter(|name| texts.len() == 1 || name.ends_with("300d.txt"))
        .collect();
    match best[..] {
        [name] => Ok(name.to_owned()),
        _ => {
            bail!(
                "the archive must hold one GloVe .txt or one ending in 300d.txt; unpack it and name the file to use"
            )
        }
    }
}
