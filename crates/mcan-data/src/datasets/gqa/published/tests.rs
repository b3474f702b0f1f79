use super::*;
use crate::data::pack::{PackOptions, Report, pack};
use crate::data::source::FileSource;
use crate::datasets::gqa::FEATURE_FILES;
use crate::formats::bank::Dtype;
use crate::formats::npz::Boxes;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

/// Small files that h5py wrote, with the `.npz` files that OpenVQA's script would write of them.
fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/hdf5")
        .join(name)
}

fn layout(kind: StreamKind) -> Layout {
    Layout {
        kind,
        names: FEATURE_FILES,
        feature_size: 4,
    }
}

/// The bank of these images.
fn packed(
    source: &Path,
    images: &mut dyn RegionSource,
    kind: StreamKind,
    dtype: Dtype,
    skip_bad: bool,
) -> Result<(Report, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bank.safetensors");
    let options = PackOptions {
        kind,
        dtype,
        feature_size: 4,
        skip_bad,
    };
    let report = pack(source, images, &target, options, &|_| Ok(()))?;
    Ok((report, fs::read(target).unwrap()))
}

fn packed_npz(kind: StreamKind, dtype: Dtype) -> Vec<u8> {
    let folder = fixtures(match kind {
        StreamKind::Regions => "npz/gqa-frcn",
        StreamKind::Grid => "npz/gqa-grid",
    });
    let mut images = FileSource::open(&folder, layout(kind)).unwrap();
    packed(&folder, &mut images, kind, dtype, false).unwrap().1
}

fn pack_regions(folder: &Path, skip_bad: bool) -> Result<(Report, Vec<u8>)> {
    let kind = StreamKind::Regions;
    let mut images = Published::open(folder, layout(kind), skip_bad)?;
    packed(folder, &mut images, kind, Dtype::F32, skip_bad)
}

fn error(folder: &Path) -> String {
    match pack_regions(folder, false) {
        Ok((report, _)) => format!("{report:?}"),
        Err(error) => format!("{error:#}"),
    }
}

/// A copy of the sound files of regions.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixtures("objects")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// A copy whose JSON file was changed.
fn with_info(change: impl FnOnce(&mut Value)) -> TempDir {
    let folder = copy();
    let path = folder.path().join("gqa_objects_info.json");
    let mut info = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut info);
    fs::write(&path, info.to_string()).unwrap();
    folder
}

/// A copy in which a bad file has the place of the second one.
fn with_bad(name: &str) -> TempDir {
    let folder = copy();
    let bad = fixtures("bad").join(format!("{name}.h5"));
    fs::copy(bad, folder.path().join("gqa_objects_1.h5")).unwrap();
    folder
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn the_bank_is_that_of_the_npz_files() {
    for (folder, kind) in [
        ("objects", StreamKind::Regions),
        ("chunked", StreamKind::Regions),
        ("spatial", StreamKind::Grid),
    ] {
        for (dtype, skip_bad) in [(Dtype::F32, false), (Dtype::F16, false), (Dtype::F16, true)] {
            let folder = fixtures(folder);
            let mut images = Published::open(&folder, layout(kind), skip_bad).unwrap();
            assert_eq!(images.size_hint(), (6, Some(6)));
            let (report, bank) = packed(&folder, &mut images, kind, dtype, skip_bad).unwrap();
            assert_eq!((report.images, images.size_hint().0), (6, 0));
            assert!(
                bank == packed_npz(kind, dtype),
                "{folder:?} {dtype:?} {skip_bad}"
            );
        }
    }
}

#[test]
fn boxes_in_shares_count_as_none_as_in_npz_files() {
    assert!(Boxes::in_pixels(vec![0.5; 4], 640, 480).is_none());
    assert!(Boxes::in_pixels(Vec::new(), 640, 480).is_some());
}

#[test]
fn the_files_are_found_where_users_put_them() {
    let root = tempfile::tempdir().unwrap();
    let wanted = root.path().join("gqa-frcn");
    let find = || find(&wanted, StreamKind::Regions).unwrap();
    assert_eq!(find(), None);
    // The last place first: each of the others takes precedence over it.
    for (folder, file) in [
        ("", "gqa_objects_info.json"),
        ("objectFeatures", "gqa_objects_0.h5"),
        ("objects", "gqa_objects_info.json"),
        ("gqa-frcn", "gqa_objects_info.json"),
    ] {
        let folder = root.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), "").unwrap();
        assert_eq!(
            find().unwrap().components().as_path(),
            folder.components().as_path()
        );
    }
    assert_eq!(
        super::find(&root.path().join("gqa-grid"), StreamKind::Grid).unwrap(),
        None
    );
}

#[test]
fn damage_of_one_image_is_an_error_or_leaves_the_image_out() {
    let bad = |key: &'static str, value: Value, expected: &'static str| {
        let change = move |info: &mut Value| match value {
            Value::Null => drop(info["7"].as_object_mut().unwrap().remove(key)),
            value => info["7"][key] = value,
        };
        (with_info(change), expected)
    };
    for (folder, expected) in [
        bad(
            "idx",
            json!(3),
            "its \"idx\" is 3, and gqa_objects_1.h5 has 3 rows",
        ),
        bad("idx", json!(-1), "its \"idx\" is -1"),
        bad("idx", Value::Null, "it has no \"idx\""),
        bad("file", json!(-2), "its \"file\" is -2"),
        bad("file", Value::Null, "it has no \"file\""),
        bad(
            "objectsNum",
            json!(7),
            "its \"objectsNum\" is 7, and gqa_objects_1.h5 has 6 regions for each image",
        ),
        bad("objectsNum", json!(-1), "its \"objectsNum\" is -1"),
        bad("objectsNum", Value::Null, "it has no \"objectsNum\""),
        bad("width", json!(-5), "its \"width\": -5 is no size in pixels"),
        bad("height", json!(1e30), "is no size in pixels"),
        bad("height", Value::Null, "it has no \"height\""),
        (with_bad("nan"), "(row 2 of gqa_objects_1.h5) is unusable"),
    ] {
        let shown = folder.path().to_str().unwrap().to_owned();
        let message = error(folder.path());
        let expected = expected.replace(") is unusable", &format!(") of {shown} is unusable"));
        assert_says(&message, &["image 7", &expected, &shown, "PACK_SKIP_BAD"]);
        let (report, bank) = pack_regions(folder.path(), true).unwrap();
        assert_eq!((report.images, report.skipped.len()), (5, 1));
        let without = with_info(|info| drop(info.as_object_mut().unwrap().remove("7")));
        assert!(bank == pack_regions(without.path(), false).unwrap().1);
    }
    for id in ["", "../up", ".hidden"] {
        let folder = with_info(|info| info[id] = info["7"].clone());
        assert_says(
            &error(folder.path()),
            &[&format!("image {id} "), "this is no image id"],
        );
    }
}

#[test]
fn damage_of_a_file_is_an_error_that_names_the_file() {
    let file =
        |name: &str, expected: &'static str| (with_bad(name), vec![expected, "gqa_objects_1.h5"]);
    let cut = |bytes: usize| {
        let folder = copy();
        let path = folder.path().join("gqa_objects_1.h5");
        let content = fs::read(&path).unwrap();
        fs::write(&path, &content[..bytes.min(content.len() - 1)]).unwrap();
        folder
    };
    let replaced = |name: &str, content: &[u8]| {
        let folder = copy();
        fs::write(folder.path().join(name), content).unwrap();
        folder
    };
    let removed = |name: &str| {
        let folder = copy();
        fs::remove_file(folder.path().join(name)).unwrap();
        folder
    };
    let second = "gqa_objects_1.h5";
    let info = "gqa_objects_info.json";
    for (folder, expected) in [
        file(
            "double",
            "array features has other values than floats of 32 bits",
        ),
        file(
            "integer",
            "array bboxes has other values than floats of 32 bits",
        ),
        file(
            "narrow",
            "the shape of features is [3, 6, 3]; (images, regions, 4) is expected",
        ),
        file(
            "flat",
            "the shape of features is [6, 4]; (images, regions, 4) is expected",
        ),
        file(
            "few_boxes",
            "the shape of bboxes is [2, 6, 4]; [3, 6, 4] is expected",
        ),
        file("no_boxes", "it has no array bboxes"),
        file("linked", "array features"),
        file("elsewhere", "data.bin"),
        file("huge", "at most 67108864 are accepted"),
        file("huge_chunk", "array features"),
        (
            removed(second),
            vec![second, "2 images", "objectFeatures.zip"],
        ),
        (removed(info), vec![info, "objectFeatures.zip"]),
        (
            replaced(second, b""),
            vec![second, "it is empty", "objectFeatures.zip"],
        ),
        (
            replaced(second, b"PK\x03\x04"),
            vec![second, "it is a zip archive"],
        ),
        (
            replaced(second, b"features"),
            vec![second, "it is no HDF5 file"],
        ),
        (cut(40), vec![second, "it is cut short or damaged"]),
        (
            cut(600),
            vec![second, "it is cut short: it has 600 of 2624 bytes"],
        ),
        (cut(usize::MAX), vec![second, "it has 2623 of 2624 bytes"]),
        (replaced(info, b"{}"), vec![info, "names no image"]),
        (replaced(info, b"[]"), vec![info]),
        (replaced(info, b"{\"7\": 3}"), vec![info, "of entry 1"]),
        (
            with_info(|info| info["7"]["idx"] = json!(0)),
            vec![
                info,
                "images 2354786 and 7 are both in row 0 of gqa_objects_1.h5",
            ],
        ),
    ] {
        let message = error(folder.path());
        assert_says(&message, &expected);
        assert_says(&message, &[folder.path().to_str().unwrap()]);
    }
}

#[test]
fn numbers_that_are_texts_and_repeated_ids_count_as_in_python() {
    let folder = with_info(|info| info["7"]["file"] = json!("1"));
    assert!(
        pack_regions(folder.path(), false).unwrap().1
            == packed_npz(StreamKind::Regions, Dtype::F32)
    );
    let path = folder.path().join("gqa_objects_info.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replacen('{', r#"{"7": {"file": 9, "idx": 9},"#, 1),
    )
    .unwrap();
    assert_eq!(pack_regions(folder.path(), false).unwrap().0.images, 6);
}

proptest! {
    #[test]
    fn mutated_files_never_panic(
        chunked: bool,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let folder = copy();
        let sound = if chunked { "chunked" } else { "objects" };
        let mut bytes = fs::read(fixtures(sound).join("gqa_objects_1.h5")).unwrap();
        for (at, value) in &flips {
            *at.get_mut(&mut bytes) = *value;
        }
        fs::write(folder.path().join("gqa_objects_1.h5"), bytes).unwrap();
        let _ = pack_regions(folder.path(), true);
    }
}
