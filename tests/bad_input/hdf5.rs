//! The `.h5` files that GQA's features were published in.

use super::{Row, absent, bytes, check, cut, row, world};
use std::fs;
use std::path::{Path, PathBuf};

const FILE: &str = "gqa/objects/gqa_objects_1.h5";
const INFO: &str = "gqa/objects/gqa_objects_info.json";

/// Small files that h5py wrote.
fn fixture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crates/mcan-data/tests/data/hdf5");
    fs::read(folder.join(name)).unwrap()
}

/// The file is this one.
fn other(what: &'static str, name: &str, says: &'static [&'static str]) -> Row {
    bytes(what, fixture(&format!("bad/{name}.h5")), says)
}

/// The place of image 7 in the JSON file has this in place of `"idx": 2`.
fn idx(what: &'static str, entry: &'static str, says: &'static [&'static str]) -> Row {
    let make = move |sound: &[u8]| {
        let text = String::from_utf8(sound.to_vec()).unwrap();
        let (before, after) = text.split_once("\"7\": {\"file\": 1, \"idx\": 2").unwrap();
        format!("{before}\"7\": {{\"file\": 1, {entry}{after}").into_bytes()
    };
    row(what, make, says)
}

#[test]
fn published_features_of_gqa() {
    let world = world();
    let folder = world.root.join("gqa/objects");
    fs::create_dir_all(&folder).unwrap();
    for file in [FILE, INFO, "gqa/objects/gqa_objects_0.h5"] {
        let name = Path::new(file).strip_prefix("gqa").unwrap();
        fs::write(world.root.join(file), fixture(name.to_str().unwrap())).unwrap();
    }
    let flags = [
        "--RUN=pack",
        "--DATASET=gqa",
        "--FEAT_PATH=WORLD/gqa",
        "--SET",
        "FEAT_SIZE={gqa: {FRCN_FEAT_SIZE: [6, 4]}}",
    ];
    // The sound files are packed.
    let place = format!("--FEAT_PATH={}/gqa", world.root.display());
    world.succeed(&[flags[0], flags[1], &place, flags[3], flags[4]]);
    fs::remove_file(world.root.join("gqa/gqa-frcn.safetensors")).unwrap();

    let rows = vec![
        bytes("empty", "", &["it is empty", "objectFeatures.zip"]),
        cut(&["it is cut short: it has 1312 of 2624 bytes"]),
        bytes("wrong type: text", "features", &["it is no HDF5 file"]),
        bytes("wrong type: zip", "PK\x03\x04", &["it is a zip archive"]),
        other(
            "wrong type: double precision",
            "double",
            &["floats of 32 bits"],
        ),
        other(
            "wrong type: whole numbers",
            "integer",
            &["array bboxes has other values"],
        ),
        other(
            "wrong shape: width",
            "narrow",
            &["[3, 6, 3]; (images, regions, 4) is expected"],
        ),
        other(
            "wrong shape: axes",
            "flat",
            &["[6, 4]; (images, regions, 4) is expected"],
        ),
        other(
            "wrong shape: fewer boxes",
            "few_boxes",
            &["[2, 6, 4]; [3, 6, 4] is expected"],
        ),
        other(
            "NaN",
            "nan",
            &["image 7 (row 2 of gqa_objects_1.h5)", "contains NaN"],
        ),
        absent(
            "missing",
            &["there is no file", "gqa_objects_1.h5", "has 2 images"],
        ),
        other("missing array", "no_boxes", &["it has no array bboxes"]),
        other(
            "absurd size: 8 million regions",
            "huge",
            &["at most 67108864 are accepted"],
        ),
        other(
            "absurd size: a chunk",
            "huge_chunk",
            &["image 2354786", "larger than any features"],
        ),
        other(
            "out of the folder: a link",
            "linked",
            &["it has no array features"],
        ),
        other(
            "out of the folder: the data",
            "elsewhere",
            &["in another file, which is not read"],
        ),
    ];
    check(&world, ".h5 of GQA", FILE, &flags, rows);

    let rows = vec![
        bytes("empty", "", &["it is empty"]),
        cut(&["it is cut short"]),
        bytes("wrong type: a list", "[]", &["an object"]),
        idx(
            "wrong type of a row",
            "\"idx\": \"x\"",
            &["whole number", "of entry 4"],
        ),
        idx(
            "a row twice",
            "\"idx\": 0",
            &["images 2354786 and 7 are both in row 0"],
        ),
        idx(
            "missing row",
            "\"row\": 2",
            &["image 7 ", "it has no \"idx\""],
        ),
        absent("missing", &["gqa_objects_info.json", "objectFeatures.zip"]),
        bytes("missing images", "{}", &["names no image"]),
        idx(
            "a row behind the last",
            "\"idx\": 3",
            &["image 7 ", "has 3 rows"],
        ),
        idx(
            "absurd size: row",
            "\"idx\": 1e15",
            &["image 7 ", "has 3 rows"],
        ),
        idx(
            "a row before the first",
            "\"idx\": -1",
            &["image 7 ", "its \"idx\" is -1"],
        ),
    ];
    check(&world, "JSON of GQA's .h5", INFO, &flags, rows);
}
