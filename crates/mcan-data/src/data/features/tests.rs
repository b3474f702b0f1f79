use super::*;
use crate::formats::bank::pack;
use crate::formats::npz::testing::feature_file;
use serde_json::Value;
use std::fs;

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

pub(crate) fn pack_folder(folder: &Path, dtype: Dtype) {
    let options = pack::Options {
        dtype,
        feature_size: 4,
        skip_bad: false,
    };
    pack::pack(folder, &bank_path(folder), options, &|_| Ok(())).unwrap();
}

fn f32s(features: &Features, image_id: u64) -> Vec<f32> {
    let mut out = features.no_values(0);
    let rows = features.append(image_id, &mut out).unwrap();
    let Values::F32(values) = out else {
        panic!("not f32")
    };
    assert_eq!(values.len(), rows * features.feature_size());
    values
}

#[test]
fn regions_are_cut_first_and_then_those_of_zeros_are_dropped() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("val2014/");
    for n in 0..6 {
        write_image(&folder, n, n as usize);
    }
    let features = Features::open(&[folder], 4, 3).unwrap();
    for n in 0..6usize {
        let mut expected = rows(n as u64, n.min(3));
        if n >= 2 {
            expected.drain(4..8);
        }
        assert_eq!(f32s(&features, n as u64), expected);
    }
}

/// The expected numbers are NumPy's: `x = np.load(f)['x'].T[:100]; x = np.ascontiguousarray(x[abs(x).sum(-1) != 0])`,
/// its rows, `zlib.crc32(x.tobytes())`, its sum in float64, its first values.
#[test]
fn golden_features_are_what_numpy_reads() {
    let Some(root) = shared("golden/world/datasets/coco_extract") else {
        return;
    };
    let text = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/features_expected.json"),
    )
    .unwrap();
    let expected: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    assert!(expected.len() > 80);
    for split in [Split::Train, Split::Val, Split::Test] {
        let folder = folder(&root, split);
        let bank = tempfile::tempdir().unwrap();
        let packed = bank.path().join(split.coco_name());
        let options = pack::Options {
            dtype: Dtype::F32,
            feature_size: 64,
            skip_bad: false,
        };
        pack::pack(&folder, &bank_path(&packed), options, &|_| Ok(())).unwrap();
        let folder = Features::open(&[folder], 64, 100).unwrap();
        let packed = Features::open(&[packed], 64, 100).unwrap();
        let mut seen = 0;
        for (name, expected) in expected
            .iter()
            .filter(|(name, _)| name.starts_with(split.coco_name()))
        {
            let id = image_id(name).unwrap().unwrap();
            let values = f32s(&folder, id);
            assert_eq!(
                values.len() as u64,
                64 * expected["kept"].as_u64().unwrap(),
                "{name}"
            );
            let mut crc = flate2::Crc::new();
            values.iter().for_each(|v| crc.update(&v.to_le_bytes()));
            assert_eq!(
                u64::from(crc.sum()),
                expected["crc32"].as_u64().unwrap(),
                "{name}"
            );
            assert_eq!(f32s(&packed, id), values, "{name}");
            seen += 1;
        }
        assert_eq!(seen, folder.images.len());
    }
}

#[test]
fn the_published_features_of_two_images_are_read() {
    let Some(root) = shared("real/mini/datasets/coco_extract") else {
        return;
    };
    let folders = [Split::Train, Split::Val].map(|split| folder(&root, split));
    let mut features = Features::open(&folders, 2048, 100).unwrap();
    for _ in 0..2 {
        for (id, rows, sum) in [
            (262146, 26, 36313.49101568505),
            (458752, 34, 49544.85039088587),
        ] {
            let values = f32s(&features, id);
            assert_eq!(values.len(), rows * 2048);
            let total: f64 = values.iter().map(|&v| f64::from(v)).sum();
            assert!((total - sum).abs() < 1e-6, "{total}");
        }
        features
            .preload([262146, 458752, 262146], false, &|_| ())
            .unwrap();
    }
}

#[test]
fn a_later_split_wins_and_a_bank_wins_over_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let [train, val] = [Split::Train, Split::Val].map(|split| folder(root.path(), split));
    write_image(&train, 7, 1);
    write_image(&train, 8, 1);
    pack_folder(&train, Dtype::F16);
    write_image(&train, 9, 1);
    write_image(&val, 7, 3);
    let features = Features::open(&[train.clone(), val.clone()], 4, 100).unwrap();
    assert_eq!(
        f32s(&features, 7),
        [&rows(7, 1)[..], &rows(7, 3)[8..]].concat()
    );
    assert_eq!(
        f32s(&features, 8),
        rows(8, 1),
        "from the f16 bank, widened beside an f32 folder"
    );
    assert_eq!(
        features.missing([9, 3, 8, 7, 9, 3]),
        [3, 9],
        "9 came after packing"
    );
    let mut out = features.no_values(0);
    let message = format!("{:#}", features.append(9, &mut out).unwrap_err());
    assert!(
        message.contains("image 9") && message.contains("train2014") && message.contains("val2014"),
        "{message}"
    );
    let only_bank = Features::open(&[train], 4, 100).unwrap();
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
        let mut features = Features::open(std::slice::from_ref(&folder), 4, 9).unwrap();
        let read = |features: &Features| {
            let mut out = features.no_values(0);
            let counts: Vec<_> = (0..20)
                .map(|id| features.append(id, &mut out).unwrap())
                .collect();
            (counts, out)
        };
        let before = read(&features);
        let most = AtomicUsize::new(0);
        features
            .preload((0..20).chain(0..20), false, &|done| {
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
fn in_table(features: &Features, table: &[f16], id: u64) -> Vec<f16> {
    let mut out = features.no_values(0);
    let rows = features.append(id, &mut out).unwrap();
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
    let bank = Features::open(std::slice::from_ref(&packed), 4, 9).unwrap();
    for source in [folder, packed] {
        let mut features = Features::open(&[source], 4, 9).unwrap();
        features.preload(0..20, true, &|_| ()).unwrap();
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
            bank.append(id, &mut expected).unwrap();
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
fn what_half_precision_cannot_hold_does_not_go_into_a_table() {
    let root = tempfile::tempdir().unwrap();
    for (id, value) in [(1, f32::NAN), (2, 70000.0)] {
        let folder = root.path().join(id.to_string());
        fs::create_dir_all(&folder).unwrap();
        let file = feature_file(&[1.0, value, 0.0, 0.0], 4, true, false);
        fs::write(folder.join(format!("COCO_any_{id:012}.jpg.npz")), file).unwrap();
        let mut features = Features::open(&[folder], 4, 9).unwrap();
        let message = format!("{:#}", features.preload([id], true, &|_| ()).unwrap_err());
        assert!(
            message.contains(&format!("image {id}")) && message.contains("half precision"),
            "{message}"
        );
    }
}

#[test]
fn preloading_names_what_is_damaged() {
    let root = tempfile::tempdir().unwrap();
    write_image(root.path(), 1, 2);
    fs::write(root.path().join("COCO_any_000000000002.jpg.npz"), "half").unwrap();
    let mut features = Features::open(&[root.path().to_owned()], 4, 9).unwrap();
    let message = format!(
        "{:#}",
        features.preload([1, 2], false, &|_| ()).unwrap_err()
    );
    assert!(
        message.contains("COCO_any_000000000002.jpg.npz"),
        "{message}"
    );
}

#[test]
fn file_names_give_image_ids_as_in_the_reference() {
    let id = |name| image_id(name).map_err(|e| e.to_string());
    assert_eq!(id("COCO_train2014_000000000009.jpg.npz"), Ok(Some(9)));
    assert_eq!(id("2407890.npz"), Ok(Some(2407890)));
    assert_eq!(id("._COCO_train2014_000000000009.jpg.npz"), Ok(None));
    assert_eq!(id("README.md"), Ok(None));
    for wrong in [
        "COCO_train2014_.npz",
        "COCO_+9.npz",
        "COCO_99999999999999999999.npz",
        "mean.npz",
    ] {
        assert!(id(wrong).unwrap_err().contains(wrong));
    }
}

#[test]
fn folders_that_cannot_be_used_are_named() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("test2015");
    let error = || {
        format!(
            "{:#}",
            Features::open(std::slice::from_ref(&folder), 4, 9)
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
