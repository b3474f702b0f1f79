//! Makes a bank from a folder of `.npz` files, or from the published `.tar.gz` as a stream that is never unpacked.
//!
//! One thread reads ahead, all cores decode, and the images are written in the order in which they came: by ascending
//! id from a folder, as archived from an archive. At most a few groups of images are in memory. The number of regions is known
//! only at the end, so the header's place is kept free and the small arrays follow `x`.

use super::{Dtype, Stored, TensorInfo};
use crate::data::features::{image_id, list};
use crate::formats::npz::{self, Boxes};
use crate::formats::tar::{Member, Members, is_inside};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use half::f16;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use safetensors::tensor::Metadata;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

/// Images decoded together, unless they are large.
const GROUP_IMAGES: usize = 64;
/// Bytes of archive members decoded together.
const GROUP_BYTES: usize = 32 << 20;
/// Groups that are read ahead.
const GROUPS_AHEAD: usize = 2;
/// Kept free for the header with its length; the rest of it is filled with spaces, as the format allows.
const HEADER_BYTES: usize = 1024;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `BANK_DTYPE`.
    pub dtype: Dtype,
    /// `IMG_FEAT_SIZE`.
    pub feature_size: usize,
    /// `PACK_SKIP_BAD`: leave out the images that cannot be used, and say so in the report.
    pub skip_bad: bool,
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Number of images in the bank.
    pub images: usize,
    /// Number of regions in the bank.
    pub regions: usize,
    /// Images whose file has no `bbox`; their boxes and sizes in the bank are zeros.
    pub without_boxes: usize,
    /// With `skip_bad`, what was left out and why, one line each.
    pub skipped: Vec<String>,
    /// The largest difference that rounding to f16 made, and the image it is in.
    pub largest_rounding: Option<(f32, u64)>,
}

/// Writes the bank `target` from `source`, a folder or a `.tar.gz`; `progress` is told how many images are done,
/// and may end the packing.
///
/// # Errors
/// Any image that is damaged, has non-finite values, or values that f16 cannot hold, by name (unless `skip_bad`); an
/// archive that is cut short, has an image twice, or members that are not plain files inside its folder; an empty
/// source; failure to write. After an error `target` is as it was before.
pub fn pack(
    source: &Path,
    target: &Path,
    options: Options,
    progress: &dyn Fn(usize) -> Result<()>,
) -> Result<Report> {
    let cannot = || format!("cannot pack the features of {}", source.display());
    let (sender, groups) = sync_channel(GROUPS_AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut groups = Groups {
                sender,
                group: Vec::new(),
                bytes: 0,
                seen: FxHashMap::default(),
            };
            let read = if source.is_dir() {
                read_folder(source, &mut groups)
            } else {
                read_tar_gz(source, &mut groups)
            };
            groups.finish(read);
        });
        crate::base::atomic::write(target, |file| {
            let mut bank = Writer::new(file, options)?;
            for group in groups {
                let encode = |item: Item| (Image::encode(&item, options), item);
                let images: Vec<_> = group
                    .with_context(cannot)?
                    .into_par_iter()
                    .map(encode)
                    .collect();
                for (image, item) in images {
                    match image {
                        Ok(image) => bank.push(item.image_id, image)?,
                        Err(why) if options.skip_bad => {
                            bank.report.skipped.push(format!("{}: {why:#}", item.name))
                        }
                        Err(why) => {
                            return Err(why.context(format!(
                                "{} of {} is unusable (--SET PACK_SKIP_BAD=true leaves such images out)",
                                item.name,
                                source.display()
                            )));
                        }
                    }
                }
                progress(bank.report.images)?;
            }
            ensure!(
                bank.report.images > 0,
                "{} holds no usable .npz file",
                source.display()
            );
            bank.finish()
        })
    })
}

/// One image's file, read from an archive or still to be read.
struct Item {
    image_id: u64,
    name: String,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    Path(PathBuf),
}

/// The reading thread's end: gathers items into groups and sends them.
struct Groups {
    sender: SyncSender<Result<Vec<Item>>>,
    group: Vec<Item>,
    bytes: usize,
    /// Names by image id.
    seen: FxHashMap<u64, String>,
}

/// The receiver is gone: packing failed elsewhere, so there is nobody to tell.
struct Hangup;

impl Groups {
    fn push(&mut self, item: Item) -> Result<Result<(), Hangup>> {
        if let Some(other) = self.seen.insert(item.image_id, item.name.clone()) {
            bail!("{} and {other} are both image {}", item.name, item.image_id);
        }
        self.bytes += if let Content::Bytes(bytes) = &item.content {
            bytes.len()
        } else {
            0
        };
        self.group.push(item);
        if self.group.len() < GROUP_IMAGES && self.bytes < GROUP_BYTES {
            return Ok(Ok(()));
        }
        self.bytes = 0;
        Ok(self
            .sender
            .send(Ok(std::mem::take(&mut self.group)))
            .map_err(|_| Hangup))
    }

    fn finish(self, read: Result<()>) {
        // Items before an error go first, so that the first thing wrong is what is reported. A receiver that is gone
        // has its own error.
        let _ = self.sender.send(Ok(self.group));
        if let Err(why) = read {
            let _ = self.sender.send(Err(why));
        }
    }
}

fn read_folder(folder: &Path, groups: &mut Groups) -> Result<()> {
    for (image_id, name) in list(folder)? {
        let content = Content::Path(folder.join(&name));
        let item = Item {
            image_id,
            name: name.to_string_lossy().into_owned(),
            content,
        };
        if groups.push(item)?.is_err() {
            break;
        }
    }
    Ok(())
}

fn read_tar_gz(path: &Path, groups: &mut Groups) -> Result<()> {
    let file = File::open(path).context("it cannot be opened")?;
    let mut archive =
        tar::Archive::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 20, file)));
    let mut last = String::from("its start");
    let damaged = |last: &str| format!("the archive is cut short or damaged behind {last}");
    for member in Members::of(&mut archive).with_context(|| damaged(&last))? {
        if let Some(item) = read_member(member.with_context(|| damaged(&last))?)? {
            last.clone_from(&item.name);
            if groups.push(item)?.is_err() {
                return Ok(());
            }
        }
    }
    // What follows the archive's end mark is padding, but behind it is gzip's checksum of everything.
    io::copy(&mut archive.into_inner(), &mut io::sink()).with_context(|| damaged(&last))?;
    Ok(())
}

/// The feature file in an archive member, or none for a folder and what is not a feature file.
fn read_member(Member { path, mut entry }: Member<impl Read>) -> Result<Option<Item>> {
    let shown = path.display();
    let kind = entry.header().entry_type();
    if kind.is_dir() {
        return Ok(None);
    }
    ensure!(kind.is_file(), "member {shown} is not a plain file");
    ensure!(
        is_inside(&path),
        "member {shown} points outside of the archive's folder"
    );
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let Some(image_id) = image_id(&name)? else {
        return Ok(None);
    };
    let size = entry.size();
    ensure!(
        size <= npz::MAX_FILE_BYTES,
        "member {shown} claims {size} bytes; at most {}",
        npz::MAX_FILE_BYTES
    );
    // Not all at once: the archive may claim more than it has.
    let mut bytes = Vec::with_capacity(size.min(1 << 20) as usize);
    entry
        .read_to_end(&mut bytes)
        .with_context(|| format!("member {shown} of the archive is cut short or damaged"))?;
    ensure!(
        bytes.len() as u64 == size,
        "member {shown} of the archive is cut short"
    );
    Ok(Some(Item {
        image_id,
        name,
        content: Content::Bytes(bytes),
    }))
}

/// One image as it will lie in the bank.
struct Image {
    regions: usize,
    /// Little-endian values in the bank's precision.
    x: Vec<u8>,
    boxes: Option<Boxes>,
    largest_rounding: f32,
}

impl Image {
    fn encode(item: &Item, options: Options) -> Result<Self> {
        let mut read = Vec::new();
        let file = match &item.content {
            Content::Bytes(bytes) => bytes,
            Content::Path(path) => {
                npz::load(path, &mut read)?;
                &read
            }
        };
        let mut values = Vec::new();
        let (regions, boxes) = npz::with_reader(|reader| -> Result<_> {
            let regions = reader.regions(file, options.feature_size, usize::MAX, &mut values)?;
            Ok((regions, reader.boxes(file, regions)?))
        })?;
        if let Some(value) = values.iter().find(|v| !v.is_finite()) {
            bail!("its x contains {value}");
        }
        let mut largest_rounding = 0f32;
        let mut x = Vec::with_capacity(values.len() * options.dtype.bytes());
        for value in values {
            if options.dtype == Dtype::F32 {
                x.extend(value.to_le_bytes());
                continue;
            }
            ensure!(
                value.abs() <= f16::MAX.to_f32(),
                "its x contains {value}, which f16 cannot hold (at most 65504); use --SET BANK_DTYPE=f32"
            );
            let rounded = f16::from_f32(value);
            largest_rounding = largest_rounding.max((rounded.to_f32() - value).abs());
            x.extend(rounded.to_le_bytes());
        }
        Ok(Image {
            regions,
            x,
            boxes,
            largest_rounding,
        })
    }
}

/// Writes `x` as it comes, and the rest at the end.
struct Writer<'w, W> {
    file: &'w mut W,
    options: Options,
    offset: Vec<u8>,
    image_id: Vec<u8>,
    bbox: Vec<u8>,
    image_wh: Vec<u8>,
    report: Report,
}

impl<'w, W: Write + Seek> Writer<'w, W> {
    fn new(file: &'w mut W, options: Options) -> Result<Self> {
        file.write_all(&[0; HEADER_BYTES])?;
        let offset = 0i64.to_le_bytes().to_vec();
        let [image_id, bbox, image_wh] = [(); 3].map(|()| Vec::new());
        Ok(Writer {
            file,
            options,
            offset,
            image_id,
            bbox,
            image_wh,
            report: Report::default(),
        })
    }

    fn push(&mut self, image_id: u64, image: Image) -> Result<()> {
        self.file.write_all(&image.x)?;
        self.report.images += 1;
        self.report.regions += image.regions;
        self.report.without_boxes += usize::from(image.boxes.is_none());
        if self.options.dtype == Dtype::F16
            && self
                .report
                .largest_rounding
                .is_none_or(|(e, _)| e < image.largest_rounding)
        {
            self.report.largest_rounding = Some((image.largest_rounding, image_id));
        }
        let boxes = image.boxes.unwrap_or_else(|| Boxes {
            bbox: vec![0.0; 4 * image.regions],
            width: 0,
            height: 0,
        });
        self.offset
            .extend((self.report.regions as i64).to_le_bytes());
        self.image_id.extend((image_id as i64).to_le_bytes());
        self.bbox
            .extend(boxes.bbox.iter().flat_map(|v| v.to_le_bytes()));
        self.image_wh.extend(
            [boxes.width, boxes.height]
                .iter()
                .flat_map(|v| v.to_le_bytes()),
        );
        Ok(())
    }

    fn finish(self) -> Result<Report> {
        let Report {
            images, regions, ..
        } = self.report;
        let columns = self.options.feature_size;
        let x_bytes = regions * columns * self.options.dtype.bytes();
        // PyTorch can view only aligned numbers, and the format allows no holes, so a gap is an array too.
        let gap = vec![0; x_bytes.next_multiple_of(8) - x_bytes];
        let mut end = x_bytes;
        let mut arrays = vec![(
            "x",
            self.options.dtype.stored(),
            vec![regions, columns],
            (0, end),
        )];
        for (name, dtype, shape, data) in [
            ("gap", Stored::U8, vec![gap.len()], &gap),
            ("offset", Stored::I64, vec![images + 1], &self.offset),
            ("image_id", Stored::I64, vec![images], &self.image_id),
            ("bbox", Stored::F32, vec![regions, 4], &self.bbox),
            ("image_wh", Stored::I32, vec![images, 2], &self.image_wh),
        ] {
            if name != "gap" || !gap.is_empty() {
                self.file.write_all(data)?;
                arrays.push((name, dtype, shape, (end, end + data.len())));
                end += data.len();
            }
        }
        let info = |(name, dtype, shape, data_offsets): (&str, _, _, _)| {
            (
                name.to_owned(),
                TensorInfo {
                    dtype,
                    shape,
                    data_offsets,
                },
            )
        };
        let header = serde_json::to_vec(&Metadata::new(
            None,
            arrays.into_iter().map(info).collect(),
        )?)?;
        let room = HEADER_BYTES - size_of::<u64>();
        ensure!(
            header.len() <= room,
            "the bank's header has {} bytes",
            header.len()
        );
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&(room as u64).to_le_bytes())?;
        self.file.write_all(&header)?;
        self.file.write_all(&vec![b' '; room - header.len()])?;
        Ok(self.report)
    }
}
