//! Word vectors for the initial embedding, from spaCy's `en_vectors_web_lg` or from a GloVe text file.
//!
//! This module finds and reads the files: a spaCy package, as published or unpacked, with spaCy's tokenizer and string
//! keys, and GloVe text files. It runs no Python, and keeps only the vectors that a word needs.

mod binary;
mod hash;
mod package;
mod pattern;
mod symbols;
mod text;
mod tokenizer;

#[cfg(test)]
mod tests;

use crate::base::files;
use crate::formats::magic;
use anyhow::{Context, Result, bail, ensure};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

/// The names of the spaCy packages that [`find`] looks for.
const PACKAGES: [&str; 3] = [
    "en_vectors_web_lg-2.1.0.tar.gz",
    "en_vectors_web_lg-2.1.0",
    "en_vectors_web_lg",
];
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
            files::exists(path)?,
            "--GLOVE_PATH={}: there is no such file or folder",
            path.display()
        );
        return Ok(Some(path.to_owned()));
    }
    for folder in folders {
        for path in PACKAGES.map(|name| folder.join(name)) {
            if files::exists(&path)? {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// The vectors of `words`, in order; a word has no white space.
///
/// `path` is one of
/// - `en_vectors_web_lg-2.1.0.tar.gz`, the folder into which it was unpacked or installed, or a folder inside that holds
///   the model. The vector of a word is `nlp(word).vector`, the mean over the pieces that spaCy's tokenizer makes of it;
/// - such a package as the wheel that pip fetches;
/// - a GloVe, fastText or word2vec file of text, or word2vec's binary file, plain, `.gz` or `.zip`. Words are looked up whole: `cant` has GloVe's own vector or none, while a
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
    let vectors = if files::is_folder(path)? {
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
    // It is opened several times.
    let is_file = files::look(path)?.is_some_and(|found| found.is_file());
    ensure!(
        is_file,
        "it is a pipe or a device; save its content to a file first"
    );
    if starts_with(&mut open(path)?, b"PK\x03\x04")? {
        let mut archive =
            zip::ZipArchive::new(open(path)?).context("it is a damaged .zip archive")?;
        if let Some(vectors) = package::from_zip(&mut archive, wanted)? {
            return Ok(vectors);
        }
        let name = vectors_member(&archive)?;
        let member = archive
            .by_name(&name)
            .with_context(|| format!("its member {name} cannot be unpacked"))?;
        return read_lines(member, wanted);
    }
    let mut start = Vec::new();
    inflate(path)?
        .take(magic::BYTES as u64)
        .read_to_end(&mut start)?;
    if magic::is_tar(&start) {
        return package::from_archive(|| inflate(path), wanted);
    }
    if let Some(is) = magic::looks_like(&start) {
        bail!("it is {is}; name a GloVe text file or a spaCy package with --GLOVE_PATH");
    }
    read_lines(inflate(path)?, wanted)
}

/// Reads a file of one vector per word, of text or binary.
fn read_lines(mut reader: impl Read, wanted: Wanted) -> Result<WordVectors> {
    let mut start = Vec::new();
    reader
        .by_ref()
        .take(magic::BYTES as u64)
        .read_to_end(&mut start)?;
    let is_binary = binary::is_binary(&start);
    let all = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(start).chain(reader));
    match is_binary {
        true => binary::read(all, wanted),
        false => text::read(all, wanted),
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::with_capacity(BUFFER_BYTES, files::open(path)?))
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

/// The name of the file of vectors in a zip archive; of several (as in `glove.6B.zip`), the one with 300 values per vector.
fn vectors_member<R: Read + std::io::Seek>(archive: &zip::ZipArchive<R>) -> Result<String> {
    const ENDINGS: [&str; 3] = [".txt", ".vec", ".bin"];
    let files: Vec<&str> = archive
        .file_names()
        .filter(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)))
        // macOS adds a file of its own for each file.
        .filter(|name| {
            !name
                .split('/')
                .any(|part| part == "__MACOSX" || part.starts_with("._"))
        })
        .collect();
    let best: Vec<&str> = files
        .iter()
        .copied()
        .filter(|name| files.len() == 1 || name.ends_with("300d.txt"))
        .collect();
    match (&best[..], &files[..]) {
        (&[name], _) => Ok(name.to_owned()),
        (_, []) => bail!("the archive has no vectors: no .txt, .vec or .bin"),
        _ => bail!(
            "the archive has several files: {}; unpack it and name the one to use",
            files.join(", ")
        ),
    }
}
