//! Word vectors from a spaCy package: each vector is the mean of some rows of the matrix of the package.
//!
//! Three files are read: `tokenizer` (rules), `vocab/key2row` (MessagePack map from 64-bit keys to rows) and
//! `vocab/vectors` (`.npy`). The words are tokenized first, and `key2row` gives their rows, so that only the needed rows of
//! the matrix are in memory: about 20 MB of 1.2 GB for the vocabulary of VQA-v2. In a folder the reader seeks over the other
//! rows. An archive is read once, in the order of its members, and a second time if the vectors come before the other two
//! files (`tar` and setuptools put them after).

use super::hash;
use super::tokenizer::Tokenizer;
use super::{MAX_DIMENSION, Wanted, WordVectors};
use crate::base::files;
use crate::formats::npy::{self, Layout};
use crate::formats::tar::{Member, Members, is_inside, read_limited};
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use zip::ZipArchive;

/// The largest `tokenizer` file that is accepted; `en_vectors_web_lg` has about 80 KB. A parsed value takes 32 bytes, so
/// that a file may need 32 times its size.
const MAX_TOKENIZER_BYTES: u64 = 2 << 20;
/// The largest `key2row` file that is accepted; `en_vectors_web_lg` has about 15 MB.
const MAX_KEY2ROW_BYTES: u64 = 48 << 20;
/// The largest number of levels from the given folder down to the folder of the model. An unpacked archive has three:
/// `en_vectors_web_lg-2.1.0/en_vectors_web_lg/en_vectors_web_lg-2.1.0/`.
const MAX_FOLDERS_DOWN: usize = 3;

const TOKENIZER: &str = "tokenizer";
const KEY2ROW: &str = "vocab/key2row";
const VECTORS: &str = "vocab/vectors";

/// The rows of the matrix that the vectors of the words are made of.
struct Plan<'a> {
    wanted: Wanted<'a>,
    /// For each word, the positions of its pieces in `rows`.
    words: Vec<Vec<usize>>,
    /// For each distinct piece, its row of the matrix, if it has one.
    rows: Vec<Option<u64>>,
}

/// The vectors of the words from an unpacked package. The model is in `folder` or up to three levels below it.
///
/// # Errors
/// When a file is missing or damaged.
pub(super) fn from_folder(folder: &Path, wanted: Wanted) -> Result<WordVectors> {
    let folder = find_model(folder, MAX_FOLDERS_DOWN)?.with_context(|| {
        format!(
            "{} holds no spaCy model, which has the files {TOKENIZER}, {KEY2ROW}, {VECTORS}",
            folder.display()
        )
    })?;
    let open = |name: &str| {
        let path = folder.join(name);
        File::open(&path)
            .with_context(|| format!("cannot open {} of the spaCy package", path.display()))
    };
    let mut vectors = BufReader::with_capacity(1 << 14, open(VECTORS)?);
    let tokenizer = read_limited(open(TOKENIZER)?, MAX_TOKENIZER_BYTES, TOKENIZER)?;
    let key2row = read_limited(open(KEY2ROW)?, MAX_KEY2ROW_BYTES, KEY2ROW)?;
    let plan = Plan::new(wanted, &tokenizer, &key2row)
        .with_context(|| format!("in {}", folder.display()))?;
    let skip = |vectors: &mut BufReader<File>, bytes: u64| match i64::try_from(bytes) {
        Ok(bytes) => vectors.seek_relative(bytes),
        Err(error) => Err(io::Error::other(error)),
    };
    plan.vectors(&mut vectors, skip)
        .with_context(|| format!("{} is damaged", folder.join(VECTORS).display()))
}

/// The vectors of the words from an archive of a package. `open` gives the `.tar` stream from its start.
///
/// # Errors
/// When a file in it is missing or damaged, or the archive is cut short.
pub(super) fn from_archive(
    open: impl Fn() -> Result<Box<dyn Read>>,
    wanted: Wanted,
) -> Result<WordVectors> {
    let (mut tokenizer, mut key2row, mut plan) = (None, None, None);
    for _pass in 0..2 {
        let mut archive = tar::Archive::new(open()?);
        archive.set_ignore_zeros(true);
        for member in Members::of(&mut archive)? {
            let Member { path, mut entry } =
                member.context("the archive is damaged or cut short; fetch it again")?;
            ensure!(
                is_inside(&path),
                "member {} points outside of the archive's folder",
                path.display()
            );
            if path.ends_with(TOKENIZER) {
                tokenizer = Some(read_limited(&mut entry, MAX_TOKENIZER_BYTES, TOKENIZER)?);
            } else if path.ends_with(KEY2ROW) {
                key2row = Some(read_limited(&mut entry, MAX_KEY2ROW_BYTES, KEY2ROW)?);
            } else if path.ends_with(VECTORS)
                && let Some(plan) = &plan
            {
                return gather_from_entry(plan, entry);
            }
            if let (None, Some(tokenizer), Some(key2row)) = (&plan, &tokenizer, &key2row) {
                plan = Some(Plan::new(wanted, tokenizer, key2row)?);
            }
        }
        ensure!(
            tokenizer.is_some(),
            "the archive has no {TOKENIZER}, so it is no spaCy package"
        );
        ensure!(
            key2row.is_some(),
            "the archive has no {KEY2ROW}, so it is no spaCy package with vectors"
        );
    }
    bail!("the archive has no {VECTORS}, so it is no spaCy package with vectors");
}

/// The vectors of the words from a wheel, which is a zip archive of a package; `None` for another zip archive.
///
/// # Errors
/// When a file in it is missing or damaged.
pub(super) fn from_zip(
    archive: &mut ZipArchive<impl Read + io::Seek>,
    wanted: Wanted,
) -> Result<Option<WordVectors>> {
    let find = |file: &str| {
        let mut names = archive.file_names();
        names
            .find(|name| Path::new(name).ends_with(file))
            .map(str::to_owned)
    };
    let names = [TOKENIZER, KEY2ROW, VECTORS].map(find);
    if names.iter().all(Option::is_none) {
        return Ok(None);
    }
    let [Some(tokenizer), Some(key2row), Some(vectors)] = names else {
        bail!(
            "the archive lacks one of {TOKENIZER}, {KEY2ROW} and {VECTORS}, so it is no spaCy package with vectors"
        );
    };
    let mut read = |name: &str, limit| -> Result<Vec<u8>> {
        let member = archive.by_name(name);
        let member = member.with_context(|| format!("its member {name} cannot be unpacked"))?;
        read_limited(member, limit, name)
    };
    let tokenizer = read(&tokenizer, MAX_TOKENIZER_BYTES)?;
    let plan = Plan::new(wanted, &tokenizer, &read(&key2row, MAX_KEY2ROW_BYTES)?)?;
    let member = archive.by_name(&vectors);
    let member = member.with_context(|| format!("its member {vectors} cannot be unpacked"))?;
    gather_from_entry(&plan, member).map(Some)
}

/// Reads the vectors from their member of the archive.
fn gather_from_entry(plan: &Plan, mut vectors: impl Read) -> Result<WordVectors> {
    let skip = |vectors: &mut _, bytes| match io::copy(
        &mut Read::take(vectors, bytes),
        &mut io::sink(),
    )? {
        skipped if skipped == bytes => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    };
    plan.vectors(&mut vectors, skip)
        .with_context(|| format!("{VECTORS} in the archive is damaged or cut short"))
}

/// The folder of the model: `folder`, or the first by name at most `levels` below it.
fn find_model(folder: &Path, levels: usize) -> Result<Option<PathBuf>> {
    for name in [TOKENIZER, KEY2ROW, VECTORS] {
        if files::is_file(&folder.join(name))? {
            return Ok(Some(folder.to_owned()));
        }
    }
    if levels == 0 {
        return Ok(None);
    }
    let mut inner = Vec::new();
    for entry in files::entries(folder)? {
        let path = entry.path();
        if files::is_folder(&path)? {
            inner.push(path);
        }
    }
    inner.sort();
    for folder in inner {
        if let Some(found) = find_model(&folder, levels - 1)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

impl<'a> Plan<'a> {
    /// Tokenizes the words and looks the rows of their pieces up.
    fn new(wanted: Wanted<'a>, tokenizer: &[u8], key2row: &[u8]) -> Result<Self> {
        let words = wanted.words;
        let tokenizer = Tokenizer::from_msgpack(tokenizer)
            .context("cannot use the spaCy package's tokenizer file")?;
        let pieces: Vec<Vec<String>> = words
            .par_iter()
            .map(|word| tokenizer.pieces(word))
            .collect::<Result<_>>()?;
        let mut slots: FxHashMap<&str, usize> = FxHashMap::default();
        let mut slot_of = |piece| {
            let next = slots.len();
            *slots.entry(piece).or_insert(next)
        };
        let words = pieces
            .iter()
            .map(|pieces| pieces.iter().map(|piece| slot_of(piece)).collect())
            .collect();
        let mut rows = vec![None; slots.len()];
        find_rows(&slots, key2row, &mut rows)
            .context("cannot use the spaCy package's vocab/key2row")?;
        Ok(Self {
            wanted,
            words,
            rows,
        })
    }

    /// Reads the rows from a `.npy` file and averages them. `skip` skips bytes of `reader`.
    fn vectors<R: Read>(
        &self,
        reader: &mut R,
        skip: impl Fn(&mut R, u64) -> io::Result<()>,
    ) -> Result<WordVectors> {
        let (count, layout) = matrix(&npy::read(reader)?)?;
        self.wanted.check_width(layout.columns)?;
        let mut needed: Vec<u64> = self.rows.iter().flatten().copied().collect();
        needed.sort_unstable();
        needed.dedup();
        if let Some(&last) = needed.last() {
            ensure!(
                last < count,
                "vocab/key2row names row {last} of the {count} rows in {VECTORS}"
            );
        }
        let mut row = vec![0; layout.columns * layout.dtype.bytes()];
        let mut values = Vec::new();
        let mut next = 0;
        for &wanted in &needed {
            let gap = (wanted - next)
                .checked_mul(row.len() as u64)
                .context("its shape is too large")?;
            skip(reader, gap)
                .and_then(|()| reader.read_exact(&mut row))
                .with_context(|| format!("at row {wanted}"))?;
            layout.copy(&row, &mut values);
            ensure!(
                values[values.len() - layout.columns..]
                    .iter()
                    .all(|v| v.is_finite()),
                "row {wanted} is not finite"
            );
            next = wanted + 1;
        }
        // The search finds every row: `needed` holds them all.
        let place = |row: u64| needed.binary_search(&row).ok();
        let places: Vec<Option<usize>> = self.rows.iter().map(|row| row.and_then(place)).collect();
        Ok(self.average(layout.columns, &places, &values))
    }

    /// spaCy's `Doc.vector`: the sum of the pieces' vectors in order, in f32, divided by the number of pieces.
    fn average(&self, dimension: usize, places: &[Option<usize>], rows: &[f32]) -> WordVectors {
        let mut values = vec![0f32; self.words.len() * dimension];
        for (pieces, mean) in self.words.iter().zip(values.chunks_exact_mut(dimension)) {
            for place in pieces.iter().filter_map(|&piece| places[piece]) {
                let row = &rows[place * dimension..][..dimension];
                mean.iter_mut()
                    .zip(row)
                    .for_each(|(sum, value)| *sum += value);
            }
            if pieces.len() > 1 {
                mean.iter_mut().for_each(|sum| *sum /= pieces.len() as f32);
            }
        }
        WordVectors::new(dimension, values)
    }
}

/// The number of rows of the matrix, and the layout of one row, so that the matrix can be read row by row.
fn matrix(header: &npy::Header) -> Result<(u64, Layout)> {
    let npy::Header {
        dtype,
        fortran_order,
        ref shape,
    } = *header;
    ensure!(
        dtype.is_float(),
        "its dtype is {dtype:?}; float32 is expected"
    );
    ensure!(
        !fortran_order,
        "its values are in Fortran order; C order is expected"
    );
    let [rows, columns] = shape[..] else {
        bail!("its shape is {shape:?}; (words, values of a vector) is expected")
    };
    ensure!(
        (1..=MAX_DIMENSION).contains(&columns),
        "its shape is {shape:?}; a vector must have 1 to {MAX_DIMENSION} values"
    );
    let row = Layout {
        dtype,
        row_major: true,
        rows: 1,
        columns,
        taken: 1,
    };
    Ok((rows as u64, row))
}

/// Sets the rows of the pieces in `slots` from `key2row`. A row of -1 means that the key has none.
fn find_rows(
    slots: &FxHashMap<&str, usize>,
    mut key2row: &[u8],
    rows: &mut [Option<u64>],
) -> Result<()> {
    // Of several keys of a piece, the first has priority.
    let mut wanted: FxHashMap<u64, (usize, usize)> = FxHashMap::default();
    for (piece, &slot) in slots {
        for (priority, key) in hash::keys(piece).enumerate() {
            wanted.insert(key, (slot, priority));
        }
    }
    let mut best = vec![usize::MAX; rows.len()];
    let count = rmp::decode::read_map_len(&mut key2row).context("it is not a MessagePack map")?;
    for entry in 0..count {
        let damaged = || format!("entry {entry} of {count} is damaged or missing");
        let key: u64 = rmp::decode::read_int(&mut key2row).with_context(damaged)?;
        let row: i64 = rmp::decode::read_int(&mut key2row).with_context(damaged)?;
        ensure!(row >= -1, "its row {row} for key {key} is negative");
        if let Some(&(slot, priority)) = wanted.get(&key)
            && priority <= best[slot]
            && let Ok(row) = u64::try_from(row)
        {
            (rows[slot], best[slot]) = (Some(row), priority);
        }
    }
    Ok(())
}
