//! Writes banks.

use super::{Array, Dtype, ImageKey, Stored, VERSION};
use anyhow::{Context, Result, bail, ensure};
use half::f16;
use rustc_hash::FxHashMap;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashMap;
use std::io::{Seek, SeekFrom, Write};

/// Room for the header and its length. Spaces fill the rest, as the format allows.
const HEADER_BYTES: usize = 1024;

/// The features of one image, in the form that a bank has.
pub struct Encoded {
    /// Number of rows.
    pub rows: usize,
    /// Little-endian values in the bank's precision.
    bytes: Vec<u8>,
    /// The largest error that rounding to f16 made.
    pub largest_rounding: f32,
}

impl Encoded {
    /// Encodes features (n, `feature_size`).
    ///
    /// # Errors
    /// A value is not finite, or beyond the range of `dtype`.
    pub fn new(values: &[f32], feature_size: usize, dtype: Dtype) -> Result<Encoded> {
        if let Some(value) = values.iter().find(|v| !v.is_finite()) {
            anyhow::bail!("its x contains {value}");
        }
        let mut largest_rounding = 0f32;
        let mut bytes = Vec::with_capacity(values.len() * dtype.bytes());
        for value in values {
            if dtype == Dtype::F32 {
                bytes.extend(value.to_le_bytes());
                continue;
            }
            ensure!(
                value.abs() <= f16::MAX.to_f32(),
                "its x contains {value}, which f16 cannot hold (at most 65504); use --SET BANK_DTYPE=f32"
            );
            let rounded = f16::from_f32(*value);
            largest_rounding = largest_rounding.max((rounded.to_f32() - value).abs());
            bytes.extend(rounded.to_le_bytes());
        }
        Ok(Encoded {
            rows: values.len() / feature_size.max(1),
            bytes,
            largest_rounding,
        })
    }
}

/// The writer of a bank of one array of features.
///
/// It writes the features of an image at once: behind those of the image before, or where [`Writer::reserve`] left room.
/// The number of rows is known only at the end, so the small arrays follow the features, and the room for the header is
/// filled last.
pub struct Writer<'w, W> {
    file: &'w mut W,
    array: Array,
    dtype: Dtype,
    feature_size: usize,
    images: ImageArrays,
    /// Room for images that are not written yet; none unless it was reserved.
    rooms: Option<FxHashMap<ImageKey, Room>>,
}

/// The place of an image in a bank.
struct Room {
    image: usize,
    first_row: usize,
    rows: usize,
}

/// The arrays that follow the features. `list` chooses those that a bank needs.
#[derive(Default)]
struct ImageArrays {
    images: usize,
    rows: usize,
    offset: Vec<u8>,
    /// The names, if they are numbers.
    image_id: Vec<u8>,
    /// The names, if they are texts.
    image_key: Vec<u8>,
    image_key_offset: Vec<u8>,
    has_texts: bool,
    bbox: Vec<u8>,
    image_wh: Vec<u8>,
}

impl<'w, W: Write + Seek> Writer<'w, W> {
    /// Begins a bank in an empty file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(file: &'w mut W, array: Array, dtype: Dtype, feature_size: usize) -> Result<Self> {
        file.write_all(&[0; HEADER_BYTES])?;
        let zero = 0i64.to_le_bytes().to_vec();
        let images = ImageArrays {
            offset: zero.clone(),
            image_key_offset: zero,
            ..ImageArrays::default()
        };
        Ok(Writer {
            file,
            array,
            dtype,
            feature_size,
            images,
            rooms: None,
        })
    }

    /// Leaves room for all images of the bank, with their numbers of rows, so that they can be added in any order.
    ///
    /// # Errors
    /// Some names are numbers and others texts.
    pub fn reserve(&mut self, images: &[(ImageKey, usize)]) -> Result<()> {
        let mut rooms = FxHashMap::default();
        for (key, rows) in images {
            let room = Room {
                image: self.images.images,
                first_row: self.images.rows,
                rows: *rows,
            };
            rooms.insert(key.clone(), room);
            self.images.push_key(key)?;
            self.images.push(*rows, None, None)?;
        }
        self.rooms = Some(rooms);
        Ok(())
    }

    /// Adds an image: behind the others, or into its room. `boxes` (n, 4) are the corners of the regions, `size` is width and height; the bank has zeros for
    /// what is missing.
    ///
    /// # Errors
    /// The file cannot be written, there are more or fewer boxes than rows, some names are numbers and others texts, or room
    /// was reserved and there is none for this image.
    pub fn push(
        &mut self,
        key: &ImageKey,
        features: &Encoded,
        boxes: Option<&[f32]>,
        size: Option<(i32, i32)>,
    ) -> Result<()> {
        let Some(rooms) = &mut self.rooms else {
            self.images.push_key(key)?;
            self.file.write_all(&features.bytes)?;
            return self.images.push(features.rows, boxes, size);
        };
        let room = rooms.remove(key).filter(|room| room.rows == features.rows);
        let room = room.with_context(|| format!("no room was left for image {key}"))?;
        let before = room.first_row * self.feature_size * self.dtype.bytes();
        let start = SeekFrom::Start((HEADER_BYTES + before) as u64);
        self.file.seek(start)?;
        self.file.write_all(&features.bytes)?;
        self.images.fill(&room, boxes, size)
    }

    /// Precision of the features.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Writes the arrays that follow the features, and the header.
    ///
    /// # Errors
    /// The file cannot be written, or an image that room was left for is missing.
    pub fn finish(self) -> Result<()> {
        let (rows, columns) = (self.images.rows, self.feature_size);
        let (name, _) = self.array.names();
        let values_bytes = rows * columns * self.dtype.bytes();
        if let Some(missing) = self.rooms.iter().flatten().map(|(key, _)| key).min() {
            bail!("image {missing} is missing");
        }
        let end = SeekFrom::Start((HEADER_BYTES + values_bytes) as u64);
        self.file.seek(end)?;
        // PyTorch can view only aligned numbers, and the format allows no holes, so the gap is an array too.
        let gap = vec![0; values_bytes.next_multiple_of(8) - values_bytes];
        let mut small = self.images.list(self.array);
        if !gap.is_empty() {
            small.insert(0, ("gap", Stored::U8, vec![gap.len()], &gap));
        }
        let mut end = values_bytes;
        let mut arrays = vec![(name, self.dtype.stored(), vec![rows, columns], (0, end))];
        for (name, dtype, shape, data) in &small {
            self.file.write_all(data)?;
            arrays.push((name, *dtype, shape.clone(), (end, end + data.len())));
            end += data.len();
        }
        let needs_version = self.images.has_texts || self.array == Array::Grid;
        let version = || HashMap::from([("version".to_owned(), VERSION.to_string())]);
        let info = |(name, dtype, shape, data_offsets): (&str, _, _, _)| {
            let info = TensorInfo {
                dtype,
                shape,
                data_offsets,
            };
            (name.to_owned(), info)
        };
        let arrays = arrays.into_iter().map(info).collect();
        let metadata = Metadata::new(needs_version.then(version), arrays)?;
        write_header(self.file, &serde_json::to_vec(&metadata)?)
    }
}

impl ImageArrays {
    fn push(&mut self, rows: usize, boxes: Option<&[f32]>, size: Option<(i32, i32)>) -> Result<()> {
        self.images += 1;
        self.rows += rows;
        self.offset.extend((self.rows as i64).to_le_bytes());
        match boxes {
            Some(boxes) => self.bbox.extend(bytes_of_boxes(boxes, rows)?),
            None => self.bbox.resize(self.bbox.len() + rows * BOX_BYTES, 0),
        }
        self.image_wh.extend(bytes_of_size(size));
        Ok(())
    }

    /// Stores boxes and size of an image that was pushed without.
    fn fill(&mut self, room: &Room, boxes: Option<&[f32]>, size: Option<(i32, i32)>) -> Result<()> {
        if let Some(boxes) = boxes {
            let start = room.first_row * BOX_BYTES;
            let place = &mut self.bbox[start..start + room.rows * BOX_BYTES];
            place.copy_from_slice(&bytes_of_boxes(boxes, room.rows)?);
        }
        let start = room.image * SIZE_BYTES;
        self.image_wh[start..start + SIZE_BYTES].copy_from_slice(&bytes_of_size(size));
        Ok(())
    }

    fn push_key(&mut self, key: &ImageKey) -> Result<()> {
        let is_text = matches!(key, ImageKey::Text(_));
        // A number that became a text would be the name of another image.
        ensure!(
            self.images == 0 || is_text == self.has_texts,
            "the name of image {key} is a {}, but the names before it are not",
            if is_text { "text" } else { "number" }
        );
        self.has_texts = is_text;
        match key {
            ImageKey::Number(number) => self.image_id.extend((*number as i64).to_le_bytes()),
            ImageKey::Text(text) => {
                self.image_key.extend(text.bytes());
                let end = self.image_key.len() as i64;
                self.image_key_offset.extend(end.to_le_bytes());
            }
        }
        Ok(())
    }

    /// The arrays in the order of the file, for a bank with this array of features.
    fn list(&self, array: Array) -> Vec<SmallArray<'_>> {
        let (images, rows) = (self.images, self.rows);
        let (_, offset_name) = array.names();
        let mut small: Vec<SmallArray> =
            vec![(offset_name, Stored::I64, vec![images + 1], &self.offset)];
        if self.has_texts {
            let offset = &self.image_key_offset;
            small.push(("image_key_offset", Stored::I64, vec![images + 1], offset));
        } else {
            small.push(("image_id", Stored::I64, vec![images], &self.image_id));
        }
        if array == Array::Regions {
            small.push(("bbox", Stored::F32, vec![rows, 4], &self.bbox));
        }
        small.push(("image_wh", Stored::I32, vec![images, 2], &self.image_wh));
        if self.has_texts {
            // Last, so that its odd length does not misalign the numbers of another array.
            let key = &self.image_key;
            small.push(("image_key", Stored::U8, vec![key.len()], key));
        }
        small
    }
}

/// Bytes of the four corners of a box.
const BOX_BYTES: usize = 4 * size_of::<f32>();
/// Bytes of width and height of an image.
const SIZE_BYTES: usize = 2 * size_of::<i32>();

fn bytes_of_boxes(boxes: &[f32], rows: usize) -> Result<Vec<u8>> {
    ensure!(
        boxes.len() == 4 * rows,
        "it has {} numbers for the boxes of {rows} regions",
        boxes.len()
    );
    Ok(boxes.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// The bytes of width and height; zeros if they are not known.
fn bytes_of_size(size: Option<(i32, i32)>) -> Vec<u8> {
    let (width, height) = size.unwrap_or_default();
    [width, height].map(i32::to_le_bytes).concat()
}

/// Name, dtype, shape and bytes of an array.
type SmallArray<'a> = (&'static str, Stored, Vec<usize>, &'a [u8]);

fn write_header(file: &mut (impl Write + Seek), header: &[u8]) -> Result<()> {
    let room = HEADER_BYTES - size_of::<u64>();
    ensure!(
        header.len() <= room,
        "the bank's header has {} bytes",
        header.len()
    );
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&(room as u64).to_le_bytes())?;
    file.write_all(header)?;
    file.write_all(&vec![b' '; room - header.len()])?;
    Ok(())
}
