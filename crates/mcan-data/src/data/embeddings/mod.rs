//! Word vectors for the initial embedding, from spaCy's `en_vectors_web_lg` or from a GloVe text file.
//!
//! This module finds and reads the files: a spaCy package, as published or unpacked, with spaCy's tokenizer and string
//! keys, and GloVe text files. It runs no Python, and keeps only the vectors that a word needs.

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

/// The names of the spaCy packages that [`find`] looks for.
const PACKAGES: [&str; 3] = [
    "en_vectors_web_lg-2.1.0.tar.gz",
    "en_vectors_web_lg-2.1.0",
    "en_vectors_web_lg",
];
/// The place of the magic `ustar` in a tar file.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;
/// The largest number of values of a vector; 300 are usual.
const MAX_DIMENSION: usize = 8192;
/// The number of bytes that are read at a time.
const BUFFER_BYTES: usize = 1 << 18;

/// The vectors of a list of words.
#[derive(Clone, Debug, PartialEq)]
pub struct WordVectors {
    /// Values per vector, 300 in the published package.
    pub dimension: usize,
    /// (words, `dimension`), row after row in the order of the words; zeros for a word without a vector.
    pub values: Vec<f32>,
    /// The number of words whose vector is not zero.
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

/// The file or folder of vectors: `explicit` if given, else the first spaCy package in one of `folders`.
///
/// A GloVe text file must be given, because its vectors differ from those of the package (see [`load`]).
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

/// The vectors of `words`, in order; a word has no white space.
///
/// `path` is one of
/// - `en_vectors_web_lg-2.1.0.tar.gz`, the folder into which it was unpacked or installed, or a folder inside that holds
///   the model. The vector of a word is `nlp(word).vector`, the mean over the pieces that spaCy's tokenizer makes of it;
/// - a GloVe text file, plain, `.gz` or `.zip`. Words are looked up whole: `cant` has GloVe's own vector or none, while a
///   package has the mean of `ca` and `nt`. Upper and lower case differ (`glove.6B` is in lower case).
///
/// The content of the file decides which of these it is.
///
/// With `width`, a file whose vectors have another width is an error. It is found before any vector is stored, because the
/// width that the file claims decides how much memory they take.
///
/// # Errors
/// A file that is missing, damaged, cut short or of another kind. The error names the file and the place.
pub fn load(path: &Path, words: &[&str], width: Option<usize>) -> Result<WordVectors> {
    let wanted = Wanted { words, width };
    let vectors = if path.is_dir() {
        package::from_folder(path, wanted)
    } else {
        load_file(path, wanted)
    };
    vectors.with_context(|| format!("cannot read word vectors from {}", path.display()))
}

/// The words whose vectors are read, and the width of the vectors.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    words: &'a [&'a str],
    /// Values per vector; any number if absent.
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

/// The content of a file, decompressed if it is gzip.
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

/// The name of the `.txt` in a zip archive; of several (as in `glove.6B.zip`), the one with 300 values per vector.
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
