//! Features of many images in one file: the published archives, and banks.

use super::features::{ANSWER, with_x, x};
use super::forge::*;
use super::{Row, bytes, check, cut, row, world};
use crate::common::World;
use std::fs;
use tar::EntryType;

const ARCHIVE: &str = "archives/test2015.tar.gz";

/// A world with an archive of features in place of their folders.
fn archived() -> World {
    let world = world();
    fs::create_dir(world.root.join("archives")).unwrap();
    let image = |id: u32| {
        file(
            &format!("test2015/COCO_test2015_{id:012}.jpg.npz"),
            &with_x(&x(1.0)),
        )
    };
    fs::write(
        world.root.join(ARCHIVE),
        gz(&tar(&[image(1), image(2), image(3)])),
    )
    .unwrap();
    world
}

/// An archive of two sound images with this member between them.
fn around(middle: Vec<u8>) -> Vec<u8> {
    let image = |id: u32| {
        file(
            &format!("test2015/COCO_test2015_{id:012}.jpg.npz"),
            &with_x(&x(1.0)),
        )
    };
    gz(&tar(&[image(1), middle, image(9)]))
}

fn image(name: &str, content: &[u8]) -> Vec<u8> {
    around(file(name, content))
}

#[test]
fn tar_and_gz_of_features() {
    let world = archived();
    const FIVE: &str = "test2015/COCO_test2015_000000000005.jpg.npz";
    let sound = with_x(&x(1.0));
    let long_name = |kind| gz_bomb(&member("././@LongLink", kind, 4 << 30, b""));
    let rows: Vec<Row> = vec![
        bytes("empty", "", &["it is empty"]),
        cut(&["member test2015/COCO_test2015_000000000001.jpg.npz of the archive is cut short"]),
        bytes(
            "empty archive",
            gz(&tar(&[])),
            &["holds no usable .npz file"],
        ),
        bytes("wrong type: text", "features", &["neither a tar archive"]),
        bytes(
            "wrong type: gzip of text",
            gz(&b"features ".repeat(100)),
            &["damaged"],
        ),
        bytes(
            "wrong type: a symbolic link",
            around(member(FIVE, EntryType::Symlink, 0, b"")),
            &["000000000005.jpg.npz is not a plain file"],
        ),
        bytes(
            "wrong type: a device",
            around(member(FIVE, EntryType::Block, 0, b"")),
            &["000000000005.jpg.npz is not a plain file"],
        ),
        bytes(
            "wrong checksum of gzip",
            {
                let mut bytes = around(vec![]);
                let at = bytes.len() - 8;
                bytes[at] ^= 1;
                bytes
            },
            &["damaged after COCO_test2015_000000000009"],
        ),
        bytes(
            "wrong type: a member that is no .npz",
            image(FIVE, b"x"),
            &[
                "COCO_test2015_000000000005",
                "is unusable",
                "not a zip file",
            ],
        ),
        bytes(
            "wrong shape of a member",
            image(FIVE, &with_x(&npy("<f4", "(5, 1)", &floats(1.0, 5)))),
            &["000000000005", "2048 values for each row"],
        ),
        bytes(
            "a member with NaN",
            image(FIVE, &with_x(&x(f32::NAN))),
            &["000000000005", "contains NaN"],
        ),
        bytes(
            "a member beyond f16",
            image(FIVE, &with_x(&x(1e6))),
            &["000000000005", "BANK_DTYPE=f32"],
        ),
        bytes(
            "duplicate id",
            image("test2015/COCO_test2015_000000000001.jpg.npz", &sound),
            &["are both image 1"],
        ),
        bytes(
            "missing id",
            image("test2015/COCO_test2015_cat.jpg.npz", &sound),
            &["cat.jpg.npz has no image id"],
        ),
        bytes(
            "a path out of the folder",
            image("test2015/../../COCO_test2015_000000000005.jpg.npz", &sound),
            &["points outside"],
        ),
        bytes(
            "an absolute path",
            image("/etc/COCO_test2015_000000000005.jpg.npz", &sound),
            &["points outside"],
        ),
        bytes(
            "absurd size: a member of 10^15 bytes",
            around(member(FIVE, EntryType::Regular, ABSURD, b"")),
            &["claims 1000000000000000 bytes"],
        ),
        bytes(
            "bomb: a name of a gigabyte",
            long_name(EntryType::GNULongName),
            &["the name of a member has more than"],
        ),
        bytes(
            "bomb: a link of a gigabyte",
            long_name(EntryType::GNULongLink),
            &["damaged"],
        ),
        bytes(
            "bomb: an extended header of a gigabyte",
            long_name(EntryType::XHeader),
            &["the name of a member has more than"],
        ),
        bytes(
            "bomb: an image of a gigabyte",
            gz_bomb(&member(FIVE, EntryType::Regular, 1 << 30, b"")),
            &["claims 1073741824 bytes"],
        ),
    ];
    let elsewhere =
        "--SET=IMG_FEAT_PATH={train: WORLD/none, val: WORLD/none, test: WORLD/archives/test2015}";
    check(
        &world,
        ".tar.gz of features",
        ARCHIVE,
        &["--RUN=pack", elsewhere],
        rows,
    );
}

const BANK: &str = "datasets/coco_extract/test2015.safetensors";

/// A safetensors file of these arrays: name, type, shape, content.
fn safetensors(arrays: &[(&str, &str, &str, Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, shape, content) in arrays {
        let (start, end) = (data.len(), data.len() + content.len());
        header.push(format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}"));
        data.extend(content);
    }
    with_header(&format!("{{{}}}", header.join(",")), &data)
}

fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let header = [
        header,
        &" ".repeat(header.len().next_multiple_of(8) - header.len()),
    ]
    .concat();
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn integers(values: &[i64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// A bank of half precision with another first value.
fn with_first_value(bank: &[u8], value: [u8; 2]) -> Vec<u8> {
    let mut bank = bank.to_vec();
    bank[1024..1026].copy_from_slice(&value);
    bank
}

#[test]
fn bank() {
    let world = world();
    world.succeed(&["--RUN=pack"]);
    // Images that a bank lacks are read from its folder.
    std::fs::remove_dir_all(world.root.join("datasets/coco_extract/test2015")).unwrap();
    let wide = |dtype, value: &[u8], offset: &[i64], ids: &[i64]| {
        safetensors(&[
            ("x", dtype, "[2,2048]", value.repeat(2 * 2048)),
            (
                "offset",
                "I64",
                &format!("[{}]", offset.len()),
                integers(offset),
            ),
            (
                "image_id",
                "I64",
                &format!("[{}]", ids.len()),
                integers(ids),
            ),
        ])
    };
    let of_ids = |offset: &[i64], ids: &[i64]| wide("F32", &1f32.to_le_bytes(), offset, ids);
    let narrow = safetensors(&[
        ("x", "F32", "[2,5]", floats(1.0, 10)),
        ("offset", "I64", "[2]", integers(&[0, 2])),
    ]);
    let claims = |shape: &str, end: u64| {
        with_header(
            &format!(
                "{{\"x\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}"
            ),
            b"",
        )
    };
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    let rows = vec![
        bytes("empty", "", &["cannot use the feature bank"]),
        cut(&["cannot use the feature bank"]),
        bytes(
            "wrong type: text",
            "features, and more of them",
            &["cannot use the feature bank"],
        ),
        bytes(
            "wrong type: header is no JSON",
            with_header("x: 3", b""),
            &["cannot use the feature bank"],
        ),
        bytes(
            "wrong type: integers",
            wide("I32", &[0; 4], &[0, 2], &[1]),
            &["its x is I32"],
        ),
        bytes("wrong shape", narrow, &["5 values, but IMG_FEAT_SIZE"]),
        bytes(
            "wrong shape: offsets",
            of_ids(&[0, 1], &[233]),
            &["does not divide the 2 rows"],
        ),
        bytes(
            "wrong shape: falling offsets",
            of_ids(&[0, 3, 2], &[233, 5]),
            &["does not divide the 2 rows"],
        ),
        bytes(
            "missing array",
            safetensors(&[("x", "F32", "[1,2048]", floats(1.0, 2048))]),
            &["it has no array image_id"],
        ),
        bytes(
            "missing id",
            of_ids(&[0, 2], &[5]),
            &["4 images of", "have no features", "233 of question 233000"],
        ),
        bytes(
            "negative id",
            of_ids(&[0, 2], &[-5]),
            &["its array image_id has a negative number"],
        ),
        bytes(
            "duplicate id",
            of_ids(&[0, 1, 2], &[233, 233]),
            &["it has image 233 twice"],
        ),
        row(
            "NaN",
            |sound| with_first_value(sound, [0xff, 0xff]),
            &["image", "not finite"],
        ),
        row(
            "infinity",
            |sound| with_first_value(sound, [0x00, 0x7c]),
            &["image", "not finite"],
        ),
        bytes(
            "absurd size: 10^15 elements",
            claims("[488281250000,2048]", 4 * ABSURD),
            &["cannot use the feature bank"],
        ),
        bytes(
            "absurd size: a header of 10^15 bytes",
            [&ABSURD.to_le_bytes()[..], b"{}"].concat(),
            &["cannot use the feature bank"],
        ),
        bytes(
            "deeply nested",
            with_header(&deep, b""),
            &["cannot use the feature bank"],
        ),
    ];
    check(&world, "bank", BANK, &ANSWER, rows);
}
