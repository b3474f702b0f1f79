//! The sources of the images of a bank: a folder of `.npz` files, or the published `.tar.gz`, read as a stream. A data set can
//! have another source, which its features were published in.
//!
//! One thread reads ahead, and all cores decode. A few groups of images are in memory at a time.

use crate::base::files;
use crate::data::features::FileNames;
use crate::data::streams::StreamKind;
use crate::formats::bank::ImageKey;
use crate::formats::magic;
use crate::formats::npz::{self, Boxes};
use crate::formats::tar::{Member, Members, is_inside};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The number of images that are decoded together, unless they are large.
pub(super) const GROUP_IMAGES: usize = 64;
/// The largest size in bytes of archive members that are decoded together.
const GROUP_BYTES: usize = 32 << 20;
/// The number of groups that are read ahead.
const GROUPS_AHEAD: usize = 2;

/// The features of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The name of the image, from the name of its file.
    pub key: ImageKey,
    /// The name of its file, for messages.
    pub name: String,
    /// (n, F) values, row after row.
    pub values: Vec<f32>,
    /// The boxes of the rows, and the size of the image.
    pub boxes: Option<Boxes>,
}

/// A source of images, one after the other. An error that concerns one image is a [`BadImage`]; any other error ends the
/// source.
pub trait RegionSource: Iterator<Item = Result<Image>> {
    /// The order of the images in the bank, with their numbers of rows, where the source gives them in another order. None of
    /// them may be bad then.
    fn order(&self) -> Option<Vec<(ImageKey, usize)>> {
        None
    }

    /// The thing that has the features of one image, for messages.
    fn unit(&self) -> &'static str {
        ".npz file"
    }
}

/// The error of an image that cannot be used, while the next images can.
#[derive(Debug)]
pub struct BadImage {
    /// The name of its file.
    pub name: String,
    /// What is wrong with it.
    pub why: anyhow::Error,
}

impl fmt::Display for BadImage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {:#}", self.name, self.why)
    }
}

impl std::error::Error for BadImage {}

/// The format of the files of a source.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The kind of the features.
    pub kind: StreamKind,
    /// How files are named.
    pub names: FileNames,
    /// F, values per row.
    pub feature_size: usize,
}

/// The images of a folder, numbers in ascending order, or of a tar archive, in the order of the archive.
pub struct FileSource {
    groups: Receiver<Result<Vec<Item>>>,
    layout: Layout,
    decoded: VecDeque<Result<Image>>,
}

impl FileSource {
    /// Starts reading the folder or archive at `path`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn open(path: &Path, layout: Layout) -> Result<FileSource> {
        let path = path.to_owned();
        let is_folder = files::is_folder(&path)?;
        let read = move |sender| {
            let mut groups = Groups {
                sender,
                group: Vec::new(),
                bytes: 0,
                seen: FxHashMap::default(),
            };
            let read = if is_folder {
                read_folder(&path, layout.names, &mut groups)
            } else {
                read_tar_gz(&path, layout.names, &mut groups)
            };
            groups.finish(read);
        };
        Ok(FileSource {
            groups: read_ahead(GROUPS_AHEAD, read)?,
            layout,
            decoded: VecDeque::new(),
        })
    }
}

/// Starts a thread that runs `read`, which sends what it has read, at most `ahead` things ahead.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn read_ahead<T: Send + 'static>(
    ahead: usize,
    read: impl FnOnce(SyncSender<T>) + Send + 'static,
) -> Result<Receiver<T>> {
    let (sender, receiver) = sync_channel(ahead);
    std::thread::Builder::new()
        .name("pack".into())
        .spawn(move || read(sender))
        .context("cannot start a thread that reads ahead")?;
    Ok(receiver)
}

impl RegionSource for FileSource {}

impl Iterator for FileSource {
    type Item = Result<Image>;

    fn next(&mut self) -> Option<Result<Image>> {
        while self.decoded.is_empty() {
            match self.groups.recv() {
                Ok(Ok(group)) => {
                    let decode = |item: Item| item.decode(self.layout);
                    let images: Vec<_> = group.into_par_iter().map(decode).collect();
                    self.decoded.extend(images);
                }
                Ok(Err(error)) => return Some(Err(error)),
                Err(_) => return None,
            }
        }
        self.decoded.pop_front()
    }
}

/// The file of one image: its content from an archive, or its path.
struct Item {
    key: ImageKey,
    name: String,
    content: Content,
}

impl Item {
    fn decode(self, layout: Layout) -> Result<Image> {
        let name = self.name.clone();
        self.try_decode(layout)
            .map_err(|why| BadImage { name, why }.into())
    }

    fn try_decode(self, layout: Layout) -> Result<Image> {
        let mut read = Vec::new();
        let file = match &self.content {
            Content::Bytes(bytes) => bytes,
            Content::Path(path) => {
                npz::load(path, &mut read)?;
                &read
            }
        };
        let wanted = npz::Wanted {
            feature_size: layout.feature_size,
            max_rows: usize::MAX,
            rows_first: layout.names.rows_first,
        };
        let mut values = Vec::new();
        let boxes = npz::with_reader(|reader| -> Result<_> {
            let rows = reader.rows(file, wanted, &mut values)?;
            match layout.kind {
                StreamKind::Regions => reader.boxes(file, rows),
                StreamKind::Grid => Ok(None),
            }
        })?;
        Ok(Image {
            key: self.key,
            name: self.name,
            values,
            boxes,
        })
    }
}

enum Content {
    Bytes(Vec<u8>),
    Path(PathBuf),
}

/// Collects items into groups and sends them to the source, for the thread that reads.
struct Groups {
    sender: SyncSender<Result<Vec<Item>>>,
    group: Vec<Item>,
    bytes: usize,
    /// Names of files by image.
    seen: FxHashMap<ImageKey, String>,
}

/// The source was dropped, so that nobody needs further groups.
struct Hangup;

impl Groups {
    fn push(&mut self, item: Item) -> Result<Result<(), Hangup>> {
        if let Some(other) = self.seen.insert(item.key.clone(), item.name.clone()) {
            bail!("{} and {other} are both image {}", item.name, item.key);
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
        // Items before an error go first, so that the first error is reported. If the source was dropped, nobody needs
        // the items.
        let _ = self.sender.send(Ok(self.group));
        if let Err(why) = read {
            let _ = self.sender.send(Err(why));
        }
    }
}

fn read_folder(folder: &Path, names: FileNames, groups: &mut Groups) -> Result<()> {
    for (key, name) in names.list(folder)? {
        let content = Content::Path(folder.join(&name));
        let item = Item {
            key,
            name: name.to_string_lossy().into_owned(),
            content,
        };
        if groups.push(item)?.is_err() {
            break;
        }
    }
    Ok(())
}

fn read_tar_gz(path: &Path, names: FileNames, groups: &mut Groups) -> Result<()> {
    let mut archive = tar::Archive::new(open_archive(path)?);
    // Behind the end of an archive another one may follow.
    archive.set_ignore_zeros(true);
    let mut last = String::from("its start");
    let damaged = |last: &str| format!("the archive is cut short or damaged after {last}");
    for member in Members::of(&mut archive).with_context(|| damaged(&last))? {
        if let Some(item) = read_member(member.with_context(|| damaged(&last))?, names)? {
            last.clone_from(&item.name);
            if groups.push(item)?.is_err() {
                return Ok(());
            }
        }
    }
    // Padding follows the end mark of the archive. Behind the padding is the checksum of gzip, which this read verifies.
    io::copy(&mut archive.into_inner(), &mut io::sink()).with_context(|| damaged(&last))?;
    Ok(())
}

/// The tar archive at `path`, with or without gzip: a browser may have unpacked it on the way.
fn open_archive(path: &Path) -> Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 20, files::open(path)?);
    let start = file.fill_buf().context("it cannot be read")?;
    if start.starts_with(b"\x1f\x8b") {
        return Ok(Box::new(MultiGzDecoder::new(file)));
    }
    if !magic::is_tar(start) {
        let is =
            magic::looks_like(start).unwrap_or("neither a tar archive nor compressed with gzip");
        bail!("it is {is}");
    }
    Ok(Box::new(file))
}

/// The feature file in an archive member; none for a folder and for other files.
fn read_member(
    Member { path, mut entry }: Member<impl Read>,
    names: FileNames,
) -> Result<Option<Item>> {
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
    let Some(key) = names.key(&name)? else {
        return Ok(None);
    };
    let size = entry.size();
    ensure!(
        size <= npz::MAX_FILE_BYTES,
        "member {shown} claims {size} bytes; at most {} are accepted",
        npz::MAX_FILE_BYTES
    );
    // The buffer grows while reading: the archive may claim more bytes than it has.
    let mut bytes = Vec::with_capacity(size.min(1 << 20) as usize);
    entry
        .read_to_end(&mut bytes)
        .with_context(|| format!("member {shown} of the archive is cut short or damaged"))?;
    ensure!(
        bytes.len() as u64 == size,
        "member {shown} of the archive is cut short"
    );
    Ok(Some(Item {
        key,
        name,
        content: Content::Bytes(bytes),
    }))
}
