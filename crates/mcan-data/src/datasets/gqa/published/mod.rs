//! GQA's features as they were published: HDF5 files of some 10,000 images each, `gqa_objects_<number>.h5` with regions and
//! `gqa_spatial_<number>.h5` with grids, and for each kind a JSON file that gives the file and the row of each image.
//!
//! OpenVQA's script `gqa_feat_preproc.py` makes a `.npz` file of each image. The bank that is packed here is the bank of those
//! files. Images are read in the order of the HDF5 files, and put where the bank has them, so that each file is read once.

mod arrays;
#[cfg(test)]
mod tests;

use crate::base::files;
use crate::data::source::{BadImage, Image, Layout, RegionSource, read_ahead};
use crate::data::streams::StreamKind;
use crate::formats::bank::ImageKey;
use crate::formats::json::{Int, JsonFile, entry};
use crate::formats::npz::size_in_pixels;
use anyhow::{Context, Result, anyhow, bail, ensure};
use arrays::Arrays;
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};

/// The number of images that are read ahead.
const IMAGES_AHEAD: usize = 32;

/// The names of the published files of one kind of features.
struct Names {
    /// The middle of the names.
    kind: &'static str,
    /// The archive that they were published in.
    archive: &'static str,
    /// The folders that the archive is unpacked to, in GQA's and in OpenVQA's instructions.
    folders: [&'static str; 2],
}

const REGIONS: Names = Names {
    kind: "objects",
    archive: "objectFeatures.zip",
    folders: ["objects", "objectFeatures"],
};
const GRIDS: Names = Names {
    kind: "spatial",
    archive: "spatialFeatures.zip",
    folders: ["spatial", "spatialFeatures"],
};

impl Names {
    fn of(kind: StreamKind) -> &'static Names {
        match kind {
            StreamKind::Regions => &REGIONS,
            StreamKind::Grid => &GRIDS,
        }
    }

    fn info(&self) -> String {
        format!("gqa_{}_info.json", self.kind)
    }

    fn file(&self, number: u64) -> String {
        format!("gqa_{}_{number}.h5", self.kind)
    }
}

/// The folder that has published files of this kind: `folder` itself, or one beside it.
///
/// # Errors
/// A path that the system cannot tell about.
pub(super) fn find(folder: &Path, kind: StreamKind) -> Result<Option<PathBuf>> {
    let names = Names::of(kind);
    let beside = folder.parent().unwrap_or(Path::new(""));
    let [first, second] = names.folders.map(|name| beside.join(name));
    for place in [folder.to_owned(), first, second, beside.to_owned()] {
        let (info, file) = (place.join(names.info()), place.join(names.file(0)));
        if files::exists(&info)? || files::exists(&file)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

entry! {
    /// The place of an image.
    struct Entry<'a>, "an object with the file and the row of an image" {
        file: Int,
        idx: Int,
        objectsNum: Int,
        width: f64,
        height: f64,
    }
}

/// The place of an image, checked.
struct Place {
    key: ImageKey,
    /// The number of its file, and its row there.
    file: u64,
    row: u64,
    /// The number of its regions or cells.
    rows: u64,
    /// Width and height of the image; none for grids.
    size: Option<(i32, i32)>,
}

/// The images of published files.
pub struct Published {
    images: Receiver<Result<Image>>,
    left: usize,
    order: Option<Vec<(ImageKey, usize)>>,
}

impl Published {
    /// Starts reading the files in `folder`. If images that cannot be used are to be left out (`skip_bad`), they come in the
    /// order of the bank, because the room of such an image could not be taken back.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another shape; two images in one row.
    pub fn open(folder: &Path, layout: Layout, skip_bad: bool) -> Result<Published> {
        let names = Names::of(layout.kind);
        let info = JsonFile::open(&folder.join(names.info())).with_context(|| {
            let (info, advice) = (names.info(), advice(names));
            format!("GQA's .h5 files need {info} beside them; {advice}")
        })?;
        let mut entries: IndexMap<String, Result<Place>> = IndexMap::new();
        info.for_each_entry(|id, entry: Entry| {
            // Of an id that is there twice, the last entry counts, as in Python.
            entries.insert(id.to_owned(), place(id, &entry, layout));
            Ok(())
        })?;
        ensure!(!entries.is_empty(), "{} names no image", info.name());
        let files = open_files(folder, layout, entries.values().flatten())?;
        let (mut places, mut bad) = (Vec::new(), Vec::new());
        for (id, place) in entries {
            match place.and_then(|place| fitted(place, &files, names)) {
                Ok(place) => places.push(place),
                Err(why) => bad.push(BadImage {
                    name: format!("image {id} ({})", names.info()),
                    why,
                }),
            }
        }
        places.sort_by(|a, b| a.key.cmp(&b.key));
        let in_order = |place: &Place| (place.key.clone(), place.rows as usize);
        let order: Vec<_> = places.iter().map(in_order).collect();
        let left = places.len() + bad.len();
        refuse_shared_rows(&mut places, names).with_context(|| info.name().to_owned())?;
        if skip_bad {
            places.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let read = move |sender| send(bad, &places, &files, names, &sender);
        Ok(Published {
            images: read_ahead(IMAGES_AHEAD, read)?,
            left,
            order: (!skip_bad).then_some(order),
        })
    }
}

impl Iterator for Published {
    type Item = Result<Image>;

    fn next(&mut self) -> Option<Result<Image>> {
        let image = self.images.recv().ok()?;
        self.left = self.left.saturating_sub(1);
        Some(image)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl RegionSource for Published {
    fn order(&self) -> Option<Vec<(ImageKey, usize)>> {
        self.order.clone()
    }

    fn unit(&self) -> &'static str {
        "image"
    }
}

fn advice(names: &Names) -> String {
    format!("take it from GQA's {} again", names.archive)
}

/// The place of image `id`, as far as the JSON file tells.
fn place(id: &str, entry: &Entry, layout: Layout) -> Result<Place> {
    let number = |value: &Option<Int>, name: &str| {
        let Int(value) = value.with_context(|| format!("it has no \"{name}\""))?;
        u64::try_from(value).map_err(|_| anyhow!("its \"{name}\" is {value}"))
    };
    let pixels = |value: Option<f64>, name: &str| {
        let value = value.with_context(|| format!("it has no \"{name}\""))?;
        size_in_pixels(value as f32).with_context(|| format!("its \"{name}\""))
    };
    let (rows, size) = match layout.kind {
        StreamKind::Regions => {
            let size = (
                pixels(entry.width, "width")?,
                pixels(entry.height, "height")?,
            );
            (number(&entry.objectsNum, "objectsNum")?, Some(size))
        }
        StreamKind::Grid => (0, None),
    };
    // As an image of a .npz file of this name.
    let key = layout.names.key(&format!("{id}.npz"))?;
    let key = key.filter(|_| !id.is_empty() && !id.contains(['/', '\0']));
    Ok(Place {
        key: key.context("this is no image id")?,
        file: number(&entry.file, "file")?,
        row: number(&entry.idx, "idx")?,
        rows,
        size,
    })
}

/// The files that have these images.
fn open_files<'a>(
    folder: &Path,
    layout: Layout,
    places: impl Iterator<Item = &'a Place>,
) -> Result<BTreeMap<u64, Arrays>> {
    let names = Names::of(layout.kind);
    let mut images: BTreeMap<u64, usize> = BTreeMap::new();
    places.for_each(|place| *images.entry(place.file).or_default() += 1);
    let open = |(number, images): (u64, usize)| {
        let path = folder.join(names.file(number));
        let (shown, advice) = (path.display(), advice(names));
        ensure!(
            files::exists(&path)?,
            "there is no file {shown}, in which {} has {images} images; {advice}",
            names.info()
        );
        let arrays = Arrays::open(&path, layout);
        let arrays = arrays.with_context(|| format!("cannot use {shown}; {advice}"))?;
        Ok((number, arrays))
    };
    images.into_iter().map(open).collect()
}

/// The place with its number of rows, if its file has it.
fn fitted(place: Place, files: &BTreeMap<u64, Arrays>, names: &Names) -> Result<Place> {
    let file = names.file(place.file);
    let arrays = files
        .get(&place.file)
        .with_context(|| format!("there is no {file}"))?;
    let (images, row) = (arrays.images(), place.row);
    ensure!(
        row < images,
        "its \"idx\" is {row}, and {file} has {images} rows"
    );
    if place.size.is_none() {
        return Ok(Place {
            rows: arrays.rows,
            ..place
        });
    }
    ensure!(
        place.rows <= arrays.rows,
        "its \"objectsNum\" is {}, and {file} has {} regions for each image",
        place.rows,
        arrays.rows
    );
    Ok(place)
}

/// Sorts the places as they are in the files, and refuses two images in one row.
fn refuse_shared_rows(places: &mut [Place], names: &Names) -> Result<()> {
    places.sort_by_key(|place| (place.file, place.row));
    for pair in places.windows(2) {
        if let [one, other] = pair
            && (one.file, one.row) == (other.file, other.row)
        {
            bail!(
                "images {} and {} are both in row {} of {}; {}",
                one.key,
                other.key,
                one.row,
                names.file(one.file),
                advice(names)
            );
        }
    }
    Ok(())
}

/// Sends the images, those that are bad first.
fn send(
    bad: Vec<BadImage>,
    places: &[Place],
    files: &BTreeMap<u64, Arrays>,
    names: &Names,
    sender: &SyncSender<Result<Image>>,
) {
    let block = |place: &Place| {
        let together = files.get(&place.file).map_or(1, Arrays::together);
        (place.file, place.row / together)
    };
    let bad = bad.into_iter().map(|image| Err(image.into()));
    let blocks = places.chunk_by(|one, other| block(one) == block(other));
    let images = blocks.flat_map(|block| read(block, files, names));
    for image in bad.chain(images) {
        if sender.send(image).is_err() {
            // The source was dropped, so that nobody needs further images.
            break;
        }
    }
}

/// Reads images of one file.
fn read(block: &[Place], files: &BTreeMap<u64, Arrays>, names: &Names) -> Vec<Result<Image>> {
    let arrays = block.first().and_then(|place| files.get(&place.file));
    let read = arrays
        .context("its file is not open")
        .and_then(|arrays| arrays.read(block));
    let name = |place: &Place| {
        format!(
            "image {} (row {} of {})",
            place.key,
            place.row,
            names.file(place.file)
        )
    };
    let images = |read: Vec<_>| {
        let image = |(place, (values, boxes)): (&Place, _)| {
            Ok(Image {
                key: place.key.clone(),
                name: name(place),
                values,
                boxes,
            })
        };
        block.iter().zip(read).map(image).collect()
    };
    match (read, block) {
        (Ok(read), _) => images(read),
        (Err(why), [place]) => {
            let name = name(place);
            vec![Err(BadImage { name, why }.into())]
        }
        // One bad image does not make the others bad.
        (Err(_), _) => block
            .chunks(1)
            .flat_map(|one| self::read(one, files, names))
            .collect(),
    }
}
