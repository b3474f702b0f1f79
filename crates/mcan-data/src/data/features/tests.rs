mod splits;

use super::*;
use crate::data::pack::{PackOptions, pack};
use crate::data::source::{FileSource, Layout};
use crate::datasets::vqa2::FEATURE_FILES;
use crate::formats::bank::ImageKey;
use crate::formats::npz::testing::feature_file;
use half::f16;
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use crate::testing::shared;

/// `n` regions of 4 values; the one at index 1, if there is one, is all zeros.
pub(crate) fn rows(image_id: u64, n: usize) -> Vec<f32> {
    (0..4 * n)
        .map(|i| {
            if i / 4 == 1 {
                -0.0
            } else {
                image_id as f32 + i as f32 / 8.0
            }
        })
        .collect()
}

pub(crate) fn write_image(folder: &Path, image_id: u64, n: usize) {
    fs::create_dir_all(folder).unwrap();
    let file = feature_file(
        &rows(image_id, n),
        4,
        image_id.is_multiple_of(2),
        image_id.is_multiple_of(3),
    );
    fs::write(
        folder.join(format!("COCO_any_{image_id:012}.jpg.npz")),
        file,
    )
    .unwrap();
}

pub(crate) fn pack_at(source: &Path, target: &Path, dtype: Dtype, feature_size: usize) {
    let (kind, skip_bad) = (StreamKind::Regions, false);
    let options = PackOptions {
        kind,
        dtype,
        feature_size,
        skip_bad,
    };
    let layout = Layout {
        kind,
        names: FEATURE_FILES,
        feature_size,
    };
    let mut images = FileSource::open(source, layout).unwrap();
    pack(source, &mut images, target, options, &|_| Ok(())).unwrap();
}

pub(crate) fn pack_folder(folder: &Path, dtype: Dtype) {
    pack_at(folder, &bank_path(folder), dtype, 4);
}

/// The features of images 0 to `images` - 1.
pub(crate) fn try_open(
    folders: &[PathBuf],
    width: usize,
    padded_to: usize,
    images: impl IntoIterator<Item = i64>,
) -> Result<Features> {
    let ids = images.into_iter().map(ImageId::from).collect();
    open_named(folders, FEATURE_FILES, width, padded_to, ids)
}

pub(crate) fn open_named(
    folders: &[PathBuf],
    names: FileNames,
    width: usize,
    padded_to: usize,
    ids: Arc<[ImageId]>,
) -> Result<Features> {
    let place = |folder: &PathBuf| FeaturePlace {
        folder: folder.clone(),
        split: "train",
        names,
    };
    let places: Vec<FeaturePlace> = folders.iter().map(place).collect();
    let spec = StreamSpec {
        padded_to,
        width,
        boxes: Some(BoxUnit::Pixels),
    };
    let splits = vec![None; ids.len()];
    Features::open(&places, StreamKind::Regions, spec, ids, &splits)
}

pub(crate) fn open(
    folders: &[PathBuf],
    width: usize,
    padded_to: usize,
    images: impl IntoIterator<Item = i64>,
) -> Features {
    try_open(folders, width, padded_to, images).unwrap()
}

fn f32s(features: &Features, image: usize) -> Vec<f32> {
    let mut out = features.no_values(0);
    let rows = features.append(image, &mut out, None).unwrap();
    let Values::F32(values) = out else {
        panic!("not f32")
    };
    assert_eq!(values.len(), rows * features.feature_size());
    values
}

/// The corners of the rows that `features` appends for an image.
fn boxes(features: &Features, image: usize) -> Vec<f32> {
    let (mut values, mut boxes) = (features.no_values(0), Vec::new());
    let rows = features
        .append(image, &mut values, Some(&mut boxes))
        .unwrap();
    assert_eq!(boxes.len(), 4 * rows);
    boxes
}

fn reading(features: Features, boxes: BoxUnit, padding: Padding) -> Features {
    let needs = Needs {
        regions: true,
        boxes: Some(boxes),
        padding,
        ..Needs::default()
    };
    features.reading(needs)
}

#[test]
fn boxes_go_with_the_rows_that_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("val2014");
    for n in 0..6 {
        write_image(&folder, n, n as usize);
    }
    let open = |boxes, padding| {
        let features = open(std::slice::from_ref(&folder), 4, 3, 0..6);
        reading(features, boxes, padding)
    };
    let from_files = open(BoxUnit::Pixels, Padding::Masked);
    let files: Vec<_> = (0..6).map(|n| boxes(&from_files, n)).collect();
    assert_eq!(
        files.iter().map(Vec::len).collect::<Vec<_>>(),
        [0, 4, 4, 8, 8, 8],
        "the second region is padding, and regions beyond the third are cut off"
    );
    let path = folder.join("COCO_any_000000000005.jpg.npz");
    let stored = std::fs::read(path).unwrap();
    let stored = npz::with_reader(|reader| reader.boxes(&stored, 5))
        .unwrap()
        .unwrap();
    let (corners, width, height) = (&stored.bbox, stored.width as f32, stored.height as f32);
    assert_eq!(files[5], [&corners[..4], &corners[8..12]].concat());
    let shares = boxes(&open(BoxUnit::Shares, Padding::Masked), 5);
    assert_eq!(shares[..2], [corners[0] / width, corners[1] / height]);

    let observing = open(BoxUnit::Pixels, Padding::Observed);
    assert_eq!(
        boxes(&observing, 5),
        corners[..12],
        "the region of zeros has a box"
    );
    let mut rows = observing.new_rows(0);
    for image in [0, 1, 5] {
        observing.append_padded(image, &mut rows).unwrap();
    }
    assert_eq!(
        rows.counts,
        [1, 2, 3],
        "a row stands for the padding, if there is any"
    );
    assert_eq!(rows.multiplicity, Some(vec![3.0, 1.0, 2.0, 1.0, 1.0, 1.0]));
    assert_eq!(rows.all_padding, [false; 3]);
    assert_eq!(rows.boxes.map(|boxes| boxes.len()), Some(4 * 6));

    let mut in_memory = open(BoxUnit::Pixels, Padding::Masked);
    in_memory.preload(false, &|_| ()).unwrap();
    pack_folder(&folder, Dtype::F32);
    let from_bank = open(BoxUnit::Pixels, Padding::Masked);
    for (n, expected) in files.iter().enumerate() {
        assert_eq!(
            (&boxes(&from_bank, n), &boxes(&in_memory, n)),
            (expected, expected)
        );
    }
}

#[test]
fn further_rows_are_cut_off_first_and_then_rows_of_zeros_are_dropped() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("val2014/");
    for n in 0..6 {
        write_image(&folder, n, n as usize);
    }
    let features = open(&[folder], 4, 3, 0..6);
    for n in 0..6usize {
        let mut expected = rows(n as u64, n.min(3));
        if n >= 2 {
            expected.drain(4..8);
        }
        assert_eq!(f32s(&features, n), expected);
    }
}

/// The expected numbers are NumPy's: `x = np.load(f)['x'].T[:100]; x = np.ascontiguousarray(x[abs(x).sum(-1) != 0])`,
/// its rows, `zlib.crc32(x.tobytes())`, its sum in float64, its first values.
#[test]
fn golden_features_equal_those_that_numpy_reads() {
    let Some(root) = shared("golden/world/datasets/coco_extract") else {
        return;
    };
    let text = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/features_expected.json"),
    )
    .unwrap();
    let expected: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    assert!(expected.len() > 80);
    for split in ["train2014", "val2014", "test2015"] {
        let folder = root.join(split);
        let bank = tempfile::tempdir().unwrap();
        let packed = bank.path().join(split);
        pack_at(&folder, &bank_path(&packed), Dtype::F32, 64);
        let listed = FEATURE_FILES.list(&folder).unwrap();
        let number = |key: &ImageKey| match key {
            ImageKey::Number(number) => *number as i64,
            ImageKey::Text(text) => panic!("{text}"),
        };
        let ids = || listed.iter().map(|(key, _)| number(key));
        let folder = open(&[folder], 64, 100, ids());
        let packed = open(&[packed], 64, 100, ids());
        for (image, (_, name)) in listed.iter().enumerate() {
            let name = name.to_str().unwrap();
            let expected = &expected[&format!("{split}/{name}")];
            let values = f32s(&folder, image);
            let kept = expected["kept"].as_u64().unwrap();
            assert_eq!(values.len() as u64, 64 * kept, "{name}");
            let mut crc = flate2::Crc::new();
            values.iter().for_each(|v| crc.update(&v.to_le_bytes()));
            let sum = expected["crc32"].as_u64().unwrap();
            assert_eq!(u64::from(crc.sum()), sum, "{name}");
            assert_eq!(f32s(&packed, image), values, "{name}");
        }
        let of_split = expected.keys().filter(|name| name.contains(split));
        assert_eq!(of_split.count(), listed.len());
    }
}

#[test]
fn the_published_features_of_two_images_are_read() {
    let Some(root) = shared("real/mini/datasets/coco_extract") else {
        return;
    };
    let folders = ["train2014", "val2014"].map(|split| root.join(split));
    let mut features = open(&folders, 2048, 100, [262146, 458752]);
    for _ in 0..2 {
        for (image, rows, sum) in [(0, 26, 36313.49101568505), (1, 34, 49544.85039088587)] {
            let values = f32s(&features, image);
            assert_eq!(values.len(), rows * 2048);
            let total: f64 = values.iter().map(|&v| f64::from(v)).sum();
            assert!((total - sum).abs() < 1e-6, "{total}");
        }
        features.preload(false, &|_| ()).unwrap();
    }
}

#[test]
fn a_later_split_wins_and_a_bank_wins_over_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let [train, val] = ["train2014", "val2014"].map(|split| root.path().join(split));
    write_image(&train, 7, 1);
    write_image(&train, 8, 1);
    pack_folder(&train, Dtype::F16);
    write_image(&train, 9, 1);
    write_image(&val, 7, 3);
    let features = open(&[train.clone(), val], 4, 100, [9, 3, 8, 7]);
    assert_eq!(
        f32s(&features, 3),
        [&rows(7, 1)[..], &rows(7, 3)[8..]].concat()
    );
    assert_eq!(
        f32s(&features, 2),
        rows(8, 1),
        "from the f16 bank, widened beside an f32 folder"
    );
    assert_eq!(f32s(&features, 0), rows(9, 1), "9 came after packing");
    assert_eq!(features.missing(), [1]);
    let mut out = features.no_values(0);
    let message = format!("{:#}", features.append(1, &mut out, None).unwrap_err());
    assert!(
        message.contains("image 3") && message.contains("train2014") && message.contains("val2014"),
        "{message}"
    );
    let only_bank = open(&[train], 4, 100, [7]);
    assert!(matches!(only_bank.no_values(0), Values::F16(_)));
}

#[test]
fn preloaded_images_are_not_read_again() {
    let root = tempfile::tempdir().unwrap();
    for dtype in [None, Some(Dtype::F32), Some(Dtype::F16)] {
        let folder = root.path().join(format!("{dtype:?}"));
        for id in 0..20 {
            write_image(&folder, id, id as usize);
        }
        if let Some(dtype) = dtype {
            pack_folder(&folder, dtype);
        }
        let mut features = open(std::slice::from_ref(&folder), 4, 9, 0..20);
        let read = |features: &Features| {
            let mut out = features.no_values(0);
            let counts: Vec<_> = (0..20)
                .map(|id| features.append(id, &mut out, None).unwrap())
                .collect();
            (counts, out)
        };
        let before = read(&features);
        let most = AtomicUsize::new(0);
        features
            .preload(false, &|done| {
                let _ = most.fetch_max(done, Ordering::Relaxed);
            })
            .unwrap();
        assert_eq!(most.into_inner(), 20);
        if dtype.is_none() {
            fs::remove_dir_all(&folder).unwrap();
        }
        assert_eq!(read(&features), before);
    }
}

/// The rows of image `id` in a table.
fn in_table(features: &Features, table: &[f16], id: usize) -> Vec<f16> {
    let mut out = features.no_values(0);
    let rows = features.append(id, &mut out, None).unwrap();
    let Values::Rows(numbers) = out else {
        panic!("no row numbers")
    };
    assert_eq!(numbers.len(), rows);
    numbers
        .iter()
        .flat_map(|&row| table[4 * row as usize..][..4].iter().copied())
        .collect()
}

#[test]
fn a_table_holds_what_an_f16_bank_holds() {
    let root = tempfile::tempdir().unwrap();
    let (folder, packed) = (root.path().join("npz"), root.path().join("packed"));
    for id in 0..20 {
        [&folder, &packed]
            .into_iter()
            .for_each(|folder| write_image(folder, id, id as usize));
    }
    pack_folder(&packed, Dtype::F16);
    let bank = open(std::slice::from_ref(&packed), 4, 9, 0..20);
    for source in [folder, packed] {
        let mut features = open(&[source], 4, 9, 0..20);
        features.preload(true, &|_| ()).unwrap();
        let (rows, mut table) = (features.rows_for_a_table(), Vec::new());
        features
            .move_to_table(&mut |values| {
                table.extend_from_slice(values);
                Ok(())
            })
            .unwrap();
        assert_eq!(table.len(), 4 * rows);
        for id in 0..20 {
            let mut expected = bank.no_values(0);
            bank.append(id, &mut expected, None).unwrap();
            assert_eq!(
                Values::F16(in_table(&features, &table, id)),
                expected,
                "image {id}"
            );
        }
        let mut padding = features.no_values(0);
        padding.push_zeros(2, 4);
        let Values::Rows(numbers) = padding else {
            panic!("no row numbers")
        };
        assert!(
            numbers
                .iter()
                .all(|&row| table[4 * row as usize..][..4] == [f16::ZERO; 4])
                && numbers.len() == 2
        );
    }
}

#[test]
fn values_too_large_for_half_precision_are_errors() {
    let root = tempfile::tempdir().unwrap();
    for (id, value) in [(1, f32::NAN), (2, 70000.0)] {
        let folder = root.path().join(id.to_string());
        fs::create_dir_all(&folder).unwrap();
        let file = feature_file(&[1.0, value, 0.0, 0.0], 4, true, false);
        fs::write(folder.join(format!("COCO_any_{id:012}.jpg.npz")), file).unwrap();
        let mut features = open(&[folder], 4, 9, [id]);
        let message = format!("{:#}", features.preload(true, &|_| ()).unwrap_err());
        assert!(
            message.contains(&format!("image {id}")) && message.contains("half precision"),
            "{message}"
        );
    }
}

#[test]
fn preloading_names_a_damaged_file() {
    let root = tempfile::tempdir().unwrap();
    write_image(root.path(), 1, 2);
    fs::write(root.path().join("COCO_any_000000000002.jpg.npz"), "half").unwrap();
    let mut features = open(&[root.path().to_owned()], 4, 9, [1, 2]);
    let message = format!("{:#}", features.preload(false, &|_| ()).unwrap_err());
    assert!(
        message.contains("COCO_any_000000000002.jpg.npz"),
        "{message}"
    );
}

#[test]
fn folders_that_cannot_be_used_are_errors_with_their_name() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("test2015");
    let error = || {
        format!(
            "{:#}",
            try_open(std::slice::from_ref(&folder), 4, 9, [5])
                .err()
                .unwrap()
        )
    };
    assert!(error().contains("test2015.tar.gz"), "{}", error());
    write_image(&folder, 5, 1);
    fs::write(folder.join("5.npz"), "").unwrap();
    assert!(error().contains("two files for image 5"), "{}", error());
    fs::write(bank_path(&folder), "not a bank").unwrap();
    assert!(
        error().contains("test2015.safetensors") && error().contains("--RUN=pack"),
        "{}",
        error()
    );
}
