//! Reads arrays of HDF5 files, a few entries at a time.
//!
//! This is the only module that knows the crate `hdf5-reader`. The file is not trusted: other files that it names are never
//! opened, and each read, each chunk and each header has a limit.

use crate::base::{files, memory};
use crate::formats::magic;
use anyhow::{Result, anyhow, bail, ensure};
use hdf5_reader::error::Error;
use hdf5_reader::{
    Dataset, Datatype, Hdf5File, OpenOptions, RangeRequestStorage, SliceInfo, SliceInfoElem,
};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes that may be read or decoded at once: those of 8192 regions, as in the other readers of features.
pub const MAX_BYTES: usize = 64 << 20;
/// Bytes that the description of a group or array may have. Usual ones have less than 1 kB.
const MAX_HEADER_BYTES: usize = 1 << 20;

/// An open HDF5 file.
pub struct Hdf5(Hdf5File);

/// An array of 32-bit floats in an HDF5 file.
pub struct Floats(Dataset);

impl Hdf5 {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// A file that cannot be opened, or is no HDF5 file.
    pub fn open(path: &Path) -> Result<Hdf5> {
        let file = files::open(path)?;
        let bytes = file.metadata()?.len();
        let mut start = vec![0; bytes.min(magic::BYTES as u64) as usize];
        file.read_exact_at(&mut start, 0)?;
        let range = move |at, length| Ok(read_at(&file, at, length)?);
        let options = OpenOptions {
            chunk_cache_bytes: 0,
            chunk_cache_slots: 0,
            filter_registry: None,
            external_file_resolver: None,
            external_link_resolver: None,
            max_chunk_bytes: MAX_BYTES,
            max_read_bytes: MAX_BYTES,
            max_object_header_bytes: MAX_HEADER_BYTES,
        };
        let storage = Arc::new(RangeRequestStorage::new(bytes, range));
        match Hdf5File::from_storage_with_options(storage, options) {
            Ok(file) => {
                let claimed = file.superblock().eof_address;
                ensure!(
                    claimed <= bytes,
                    "it is cut short: it has {bytes} of {claimed} bytes"
                );
                Ok(Hdf5(file))
            }
            Err(Error::InvalidMagic) => {
                bail!(
                    "it is {}",
                    magic::looks_like(&start).unwrap_or("no HDF5 file")
                )
            }
            Err(error) => Err(damaged(error)),
        }
    }

    /// The array `name` of the root group.
    ///
    /// # Errors
    /// There is no such array, or not of 32-bit floats; a damaged file.
    pub fn floats(&self, name: &str) -> Result<Floats> {
        let missing = |error: &Error| matches!(error, Error::DatasetNotFound(_));
        let dataset = match self.0.dataset(name) {
            Ok(dataset) => dataset,
            Err(error) if missing(&error) => bail!("it has no array {name}"),
            Err(Error::Context { source, .. }) if missing(&source) => {
                bail!("it has no array {name}")
            }
            Err(error) => return Err(damaged(error).context(format!("array {name}"))),
        };
        ensure!(
            matches!(dataset.dtype(), Datatype::FloatingPoint { size: 4, .. }),
            "array {name} has other values than floats of 32 bits"
        );
        // Sizes are multiplied by the reader, too.
        let bytes = dataset
            .shape()
            .iter()
            .try_fold(4u64, |bytes, &length| bytes.checked_mul(length));
        ensure!(
            bytes.is_some_and(|bytes| i64::try_from(bytes).is_ok()),
            "array {name} claims the shape {:?}",
            dataset.shape()
        );
        Ok(Floats(dataset))
    }
}

impl Floats {
    /// The lengths of the axes.
    pub fn shape(&self) -> &[u64] {
        self.0.shape()
    }

    /// How many entries along the first axis are in one chunk; none if the array is stored in one piece.
    pub fn chunk(&self) -> Option<u64> {
        let lengths = self.0.chunks()?;
        Some(lengths.first().copied().map_or(1, u64::from).max(1))
    }

    /// Reads the part of the array with these indices, one range for each axis. The last index changes fastest.
    ///
    /// # Errors
    /// A part that is not inside of the array, or has more than [`MAX_BYTES`]; a file that is damaged or cut short.
    pub fn read(&self, part: &[Range<u64>]) -> Result<Vec<f32>> {
        let axis = |range: &Range<u64>| SliceInfoElem::Slice {
            start: range.start,
            end: range.end,
            step: 1,
        };
        let inside = part.len() == self.shape().len()
            && part
                .iter()
                .zip(self.shape())
                .all(|(range, &length)| range.start <= range.end && range.end <= length);
        ensure!(inside, "the array {:?} has no part {part:?}", self.shape());
        if part.iter().any(Range::is_empty) {
            return Ok(Vec::new());
        }
        let selections = part.iter().map(axis).collect();
        let values = self
            .0
            .read_slice::<f32>(&SliceInfo { selections })
            .map_err(damaged)?;
        Ok(values.into_raw_vec_and_offset().0)
    }
}

/// The bytes of a file from `at`.
fn read_at(file: &File, at: u64, length: usize) -> std::io::Result<Vec<u8>> {
    if length > MAX_BYTES {
        let most = format!("{length} bytes are to be read at once, at most {MAX_BYTES} are");
        return Err(std::io::Error::other(most));
    }
    let mut bytes = Vec::new();
    memory::fallible(|| bytes.try_reserve_exact(length))?;
    bytes.resize(length, 0);
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// An error of the crate in a user's words.
fn damaged(error: Error) -> anyhow::Error {
    let is_cut = |error: &Error| {
        matches!(
            error,
            Error::UnexpectedEof { .. } | Error::OffsetOutOfBounds(_)
        )
    };
    let what = match &error {
        Error::Context { source, .. } if is_cut(source) => "it is cut short or damaged",
        error if is_cut(error) => "it is cut short or damaged",
        Error::Other(text) if text.starts_with("external raw data file") => {
            "its data are in another file, which is not read"
        }
        Error::Io(_) => "it cannot be read",
        Error::ResourceLimit(_) => "a part of it is larger than any features are",
        Error::UnsupportedFilter(_) | Error::UnsupportedEncoding(_) => {
            "it is stored in a way that is not supported; write it again with h5repack -f NONE"
        }
        _ => "it is damaged",
    };
    anyhow!("{what} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(name: &str) -> Floats {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hdf5");
        let file = Hdf5::open(&folder.join(name).join("gqa_objects_0.h5")).unwrap();
        file.floats("features").unwrap()
    }

    #[test]
    fn a_part_of_an_array_is_read_whether_or_not_it_is_in_chunks() {
        let (whole, chunked) = (features("objects"), features("chunked"));
        assert_eq!((whole.chunk(), chunked.chunk()), (None, Some(2)));
        assert_eq!(
            (whole.shape(), chunked.shape()),
            (&[5, 6, 4][..], &[5, 6, 4][..])
        );
        let all = whole.read(&[0..5, 0..6, 0..4]).unwrap();
        for array in [whole, chunked] {
            assert_eq!(
                array.read(&[3..4, 0..6, 0..4]).unwrap(),
                all[3 * 24..4 * 24]
            );
            assert_eq!(
                array.read(&[1..3, 2..3, 1..2]).unwrap(),
                [all[24 + 9], all[48 + 9]]
            );
            assert!(array.read(&[1..3, 2..2, 0..4]).unwrap().is_empty());
        }
    }

    #[test]
    fn a_part_that_is_not_inside_is_an_error() {
        let array = features("chunked");
        #[allow(clippy::reversed_empty_ranges, reason = "it must be refused")]
        let backwards = [3..1, 0..6, 0..4];
        for part in [
            &backwards[..],
            &[0..6, 0..6, 0..4],
            &[0..5, 0..6],
            &[0..1, 0..6, 0..u64::MAX],
        ] {
            let message = array.read(part).unwrap_err().to_string();
            assert!(message.contains("[5, 6, 4] has no part"), "{message}");
        }
    }
}
