//! Reads banks.

use super::{Array, Dtype, ImageKey, Stored, check_version};
use crate::base::mapped::Mapped;
use anyhow::{Context, Result, bail, ensure};
use half::f16;
use rustc_hash::FxHashSet;
use safetensors::tensor::{Metadata, TensorInfo};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One array of features of an open bank. Features are read when they are asked for.
pub struct Bank {
    path: PathBuf,
    map: Mapped,
    /// The place of the features in the map.
    values: Range<usize>,
    dtype: Dtype,
    feature_size: usize,
    offset: Vec<usize>,
    keys: Vec<ImageKey>,
    /// The place of the boxes in the map, if the bank has boxes of these features.
    bbox: Option<Range<usize>>,
    /// The place of the image sizes in the map.
    image_wh: Option<Range<usize>>,
}

/// The header of a mapped bank.
struct Header<'a> {
    map: &'a Mapped,
    metadata: Metadata,
    /// The place where the arrays begin.
    data: usize,
}

impl Header<'_> {
    fn read(map: &Mapped) -> Result<Header<'_>> {
        let (header_bytes, metadata) = safetensors::SafeTensors::read_metadata(map)?;
        Ok(Header {
            map,
            metadata,
            data: size_of::<u64>() + header_bytes,
        })
    }

    /// An array and its place in the map.
    fn find(&self, name: &str) -> Option<(&TensorInfo, Range<usize>)> {
        let info = self.metadata.info(name)?;
        // read_metadata has checked that the offsets lie in the file and fit the shape and the dtype.
        let (start, end) = info.data_offsets;
        Some((info, self.data + start..self.data + end))
    }

    fn need(&self, name: &str) -> Result<(&TensorInfo, Range<usize>)> {
        self.find(name)
            .with_context(|| format!("it has no array {name}"))
    }

    /// The dtype, the number of rows and the place of the features.
    fn features(&self, array: Array, feature_size: usize) -> Result<(Dtype, usize, Range<usize>)> {
        let (name, _) = array.names();
        let (info, range) = self.need(name)?;
        let dtype = match info.dtype {
            Stored::F16 => Dtype::F16,
            Stored::F32 => Dtype::F32,
            other => bail!("its {name} is {other:?}; F16 or F32 is expected"),
        };
        let [rows, columns] = info.shape[..] else {
            bail!("the shape of its {name} is {:?}", info.shape)
        };
        ensure!(
            columns == feature_size,
            "its {} have {columns} values, but {} is {feature_size}",
            array.rows(),
            array.width_key()
        );
        Ok((dtype, rows, range))
    }

    fn integers(&self, name: &str) -> Result<Vec<u64>> {
        let (info, range) = self.need(name)?;
        ensure!(
            info.dtype == Stored::I64 && info.shape.len() == 1,
            "its array {name} is not an i64 vector"
        );
        let (values, _) = self.map[range].as_chunks::<8>();
        let convert = |&bytes: &[u8; 8]| u64::try_from(i64::from_le_bytes(bytes));
        values
            .iter()
            .map(convert)
            .collect::<Result<_, _>>()
            .with_context(|| format!("its array {name} has a negative number"))
    }

    /// The array of offsets that divides `whole` items among `parts` images.
    fn offsets(&self, name: &str, parts: usize, whole: usize, what: &str) -> Result<Vec<usize>> {
        let offset: Vec<usize> = self
            .integers(name)?
            .into_iter()
            .map(usize::try_from)
            .collect::<Result<_, _>>()?;
        ensure!(
            offset.len() == parts + 1
                && offset.first() == Some(&0)
                && offset.last() == Some(&whole)
                && offset.is_sorted(),
            "its {name} does not divide the {whole} {what} among {parts} images"
        );
        Ok(offset)
    }

    /// The names of the images, each once.
    fn keys(&self) -> Result<Vec<ImageKey>> {
        if self.find("image_key").is_none() {
            let numbers = self.integers("image_id")?.into_iter();
            return Ok(numbers.map(ImageKey::Number).collect());
        }
        let (info, range) = self.need("image_key")?;
        ensure!(
            info.dtype == Stored::U8 && info.shape.len() == 1,
            "its array image_key is not a vector of bytes"
        );
        let bytes = &self.map[range];
        let parts = self
            .need("image_key_offset")?
            .0
            .shape
            .iter()
            .product::<usize>();
        let parts = parts.saturating_sub(1);
        let offset = self.offsets("image_key_offset", parts, bytes.len(), "bytes of image_key")?;
        let key = |ends: &[usize]| {
            let text = std::str::from_utf8(&bytes[ends[0]..ends[1]])?;
            Ok(ImageKey::Text(text.to_owned()))
        };
        let keys: Result<Vec<ImageKey>> = offset.windows(2).map(key).collect();
        keys.context("its image_key is not UTF-8")
    }

    /// The place of an optional array, if it has this dtype and shape.
    fn optional(&self, name: &str, dtype: Stored, shape: [usize; 2]) -> Option<Range<usize>> {
        let (info, range) = self.find(name)?;
        (info.dtype == dtype && info.shape == shape).then_some(range)
    }
}

impl Bank {
    /// Maps the bank at `path` and checks that its arrays fit each other, the file and `feature_size` (`IMG_FEAT_SIZE`).
    ///
    /// # Errors
    /// The file is missing, no bank, of a later version, or its arrays do not fit. The error names `path`.
    pub fn open(path: &Path, array: Array, feature_size: usize) -> Result<Self> {
        Self::open_checked(path, array, feature_size).with_context(|| {
            format!(
                "cannot use the feature bank {}; remove it or make it again with --RUN=pack",
                path.display()
            )
        })
    }

    fn open_checked(path: &Path, array: Array, feature_size: usize) -> Result<Self> {
        let map = Mapped::open(path)?;
        let header = Header::read(&map)?;
        let version = header.metadata.metadata().as_ref();
        check_version(version.and_then(|entries| entries.get("version")))?;
        let (dtype, rows, values) = header.features(array, feature_size)?;
        let keys = header.keys()?;
        let (name, offset_name) = array.names();
        let what = format!("rows of {name}");
        let offset = header.offsets(offset_name, keys.len(), rows, &what)?;
        let mut seen = FxHashSet::default();
        if let Some(twice) = keys.iter().find(|&key| !seen.insert(key)) {
            bail!("it has image {twice} twice");
        }
        let bbox = match array {
            Array::Regions => header.optional("bbox", Stored::F32, [rows, 4]),
            Array::Grid => None,
        };
        let image_wh = header.optional("image_wh", Stored::I32, [keys.len(), 2]);
        Ok(Bank {
            path: path.to_owned(),
            values,
            dtype,
            feature_size,
            offset,
            keys,
            bbox,
            image_wh,
            map,
        })
    }

    /// Checks that no program has changed the file since it was opened.
    ///
    /// # Errors
    /// A program has changed it.
    pub fn check_unchanged(&self) -> Result<()> {
        self.map.check_unchanged()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Precision of the features.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The names of the images (N), in the order of the bank.
    pub fn keys(&self) -> &[ImageKey] {
        &self.keys
    }

    /// The first `max_rows` rows of the `index`th image.
    fn rows(&self, index: usize, max_rows: usize) -> Result<Range<usize>> {
        let (Some(&start), Some(&end)) = (self.offset.get(index), self.offset.get(index + 1))
        else {
            bail!("{} has no image number {index}", self.path.display());
        };
        Ok(start..end.min(start.saturating_add(max_rows)))
    }

    /// The number of rows of the `index`th image.
    ///
    /// # Errors
    /// The bank has no such image.
    pub fn image_rows(&self, index: usize) -> Result<usize> {
        Ok(self.rows(index, usize::MAX)?.len())
    }

    fn bytes(&self, index: usize, max_rows: usize) -> Result<&[u8]> {
        let (rows, row_bytes) = (
            self.rows(index, max_rows)?,
            self.feature_size * self.dtype.bytes(),
        );
        let start = self.values.start;
        Ok(&self.map[start + rows.start * row_bytes..start + rows.end * row_bytes])
    }

    /// Appends the first `max_rows` rows of the `index`th image as float32, rows of zeros included.
    ///
    /// # Errors
    /// The bank has no such image.
    pub fn append_f32(&self, index: usize, max_rows: usize, out: &mut Vec<f32>) -> Result<()> {
        let bytes = self.bytes(index, max_rows)?;
        match self.dtype {
            Dtype::F32 => out.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            Dtype::F16 => {
                let widened = |&b: &[u8; 2]| f16::from_le_bytes(b).to_f32();
                out.extend(bytes.as_chunks().0.iter().map(widened));
            }
        }
        Ok(())
    }

    /// Appends the first `max_rows` rows of the `index`th image of an f16 bank, rows of zeros included.
    ///
    /// # Errors
    /// The bank has no such image, or is an f32 bank.
    pub fn append_f16(&self, index: usize, max_rows: usize, out: &mut Vec<f16>) -> Result<()> {
        ensure!(
            self.dtype == Dtype::F16,
            "{} is {:?} and does not go into an f16 batch",
            self.path.display(),
            self.dtype
        );
        let bytes = self.bytes(index, max_rows)?;
        out.extend(bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b)));
        Ok(())
    }

    /// The corners (n, 4) of the first `max_rows` regions of the `index`th image, in pixels; none if the bank has no
    /// boxes.
    ///
    /// # Errors
    /// The bank has no such image.
    pub fn boxes(&self, index: usize, max_rows: usize) -> Result<Option<Vec<f32>>> {
        const BOX_BYTES: usize = 4 * size_of::<f32>();
        let rows = self.rows(index, max_rows)?;
        let Some(bbox) = &self.bbox else {
            return Ok(None);
        };
        let start = bbox.start;
        let bytes = &self.map[start + rows.start * BOX_BYTES..start + rows.end * BOX_BYTES];
        let numbers = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b));
        Ok(Some(numbers.collect()))
    }

    /// Width and height of the `index`th image, in pixels; none if the bank does not have them.
    pub fn image_size(&self, index: usize) -> Option<(i32, i32)> {
        let sizes = &self.map[self.image_wh.clone()?];
        let (numbers, _) = sizes.as_chunks::<4>();
        let number = |i: usize| numbers.get(i).map(|&b| i32::from_le_bytes(b));
        let (width, height) = (number(2 * index)?, number(2 * index + 1)?);
        (width > 0 && height > 0).then_some((width, height))
    }
}
