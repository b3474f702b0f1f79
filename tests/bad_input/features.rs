//! Image features: `.npz`, the arrays in it, the archive of them, the bank.

use super::forge::*;
use super::{absent, bytes, check, cut, row, world};

const NPZ: &str = "datasets/coco_extract/test2015/COCO_test2015_000000000233.jpg.npz";

const SECOND: &str = "datasets/coco_extract/test2015/COCO_again_000000000233.jpg.npz";

const NAMELESS: &str = "datasets/coco_extract/test2015/COCO_test2015_cat.jpg.npz";

pub(super) const ANSWER: [&str; 2] = ["--RUN=test", "--CKPT_PATH=WORLD/sound.pkl"];

pub(super) fn with_x(x: &[u8]) -> Vec<u8> {
    zip(&[("x.npy", x)])
}

pub(super) fn x(value: f32) -> Vec<u8> {
    npy("<f4", "(2048, 12)", &floats(value, 2048 * 12))
}

#[test]
fn npz() {
    let world = world();
    let bomb = with_x(&npy("<f4", "(2048, 40000)", &vec![0; 2048 * 40000 * 4]));
    let one = |value: f32| {
        let mut x = x(1.0);
        let last = x.len() - 4;
        x[last..].copy_from_slice(&value.to_le_bytes());
        with_x(&x)
    };
    let rows = vec![
        bytes("empty", "", &["the file is empty"]),
        cut(&["cut short"]),
        bytes("wrong type: text", "regions", &["it is not a zip file"]),
        bytes(
            "wrong type: no x in it",
            zip(&[("y.npy", &x(1.0))]),
            &["it has no array x"],
        ),
        bytes(
            "wrong type: integers",
            with_x(&npy("<i8", "(2048, 1)", &[0; 2048 * 8])),
            &["array x", "floats are expected"],
        ),
        bytes(
            "wrong type: compressed otherwise",
            with_directory_field(&with_x(&x(1.0)), 10, &[12]),
            &["compression method 12"],
        ),
        bytes(
            "wrong type: encrypted",
            with_directory_field(&with_x(&x(1.0)), 8, &[1]),
            &["it is encrypted"],
        ),
        bytes(
            "wrong shape: a vector",
            with_x(&npy("<f4", "(2048,)", &floats(1.0, 2048))),
            &["its shape is [2048]"],
        ),
        bytes(
            "wrong shape: narrow",
            with_x(&npy("<f4", "(100, 3)", &floats(1.0, 300))),
            &["[100, 3]", "2048 values for each row"],
        ),
        bytes(
            "wrong shape: more than there is",
            with_x(&npy("<f4", "(2048, 3)", &floats(1.0, 2048))),
            &["does not go with the 8192 bytes"],
        ),
        bytes("NaN", one(f32::NAN), &["image 233", "not finite"]),
        bytes(
            "infinity",
            one(f32::NEG_INFINITY),
            &["image 233", "not finite"],
        ),
        bytes(
            "damaged",
            with_directory_field(&with_x(&x(1.0)), 16, &[0; 4]),
            &["checksum is wrong"],
        ),
        row(
            "duplicate id",
            |_| with_x(&x(1.0)),
            &["two files for image 233"],
        )
        .of(SECOND),
        row(
            "missing id in its name",
            |_| with_x(&x(1.0)),
            &["no image id in its name"],
        )
        .of(NAMELESS),
        absent(
            "missing",
            &[
                "1 images of",
                "test2015_questions",
                "no features",
                "233 of question 233000",
            ],
        ),
        bytes(
            "absurd size: 10^15 elements",
            with_x(&npy("<f4", "(2048, 488281250000)", &[])),
            &["488281250000", "does not go with"],
        ),
        bytes(
            "absurd size: a directory that claims 4 GB",
            with_size(&with_x(&x(1.0)), u32::MAX - 1),
            &["claims 4294967294 bytes"],
        ),
        bytes(
            "absurd size: 10^15 members",
            zip_of_members(ABSURD, 100),
            &["zip directory is damaged"],
        ),
        bytes("zip bomb", bomb, &["array x", "at most"]),
    ];
    check(&world, ".npz", NPZ, &ANSWER, rows);
}

#[test]
fn npy_header() {
    let world = world();
    let header = |text: &str| with_x(&npy_of(text, &floats(1.0, 2048)));
    let with_start = |start: &[u8]| {
        with_x(
            &[
                start,
                &npy("<f4", "(2048, 1)", &floats(1.0, 2048))[start.len()..],
            ]
            .concat(),
        )
    };
    let rows = vec![
        bytes("empty", with_x(b""), &["array x", "it is not a .npy array"]),
        bytes(
            "truncated",
            with_x(&x(1.0)[..60]),
            &["array x", "header is cut short"],
        ),
        bytes(
            "wrong type: another magic",
            with_start(b"\x93NUMPX"),
            &["it is not a .npy array"],
        ),
        bytes(
            "wrong type: another version",
            with_start(b"\x93NUMPY\x09"),
            &["version 9 is unknown"],
        ),
        bytes(
            "wrong type: not text",
            header("{'descr': '\u{e9}'"),
            &["array x"],
        ),
        bytes(
            "wrong type: not a dictionary",
            header("[1, 2]"),
            &["'{' is missing"],
        ),
        bytes(
            "wrong type: pickled objects",
            header("{'descr': '|O', 'fortran_order': False, 'shape': (2048, 1), }"),
            &["|O"],
        ),
        bytes(
            "wrong type: big-endian",
            header("{'descr': '>f4', 'fortran_order': False, 'shape': (2048, 1), }"),
            &[">f4"],
        ),
        bytes(
            "wrong shape: negative",
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (2048, -1), }"),
            &["is not a dimension"],
        ),
        bytes(
            "deeply nested",
            header(&format!("{{'shape': {}", "(".repeat(9000))),
            &["is not a dimension"],
        ),
        bytes(
            "wrong shape: nine dimensions",
            header(
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1), }",
            ),
            &["more than 8 dimensions"],
        ),
        bytes(
            "missing key",
            header("{'descr': '<f4', 'shape': (2048, 1), }"),
            &["fortran_order", "is missing"],
        ),
        bytes(
            "unknown key",
            header("{'descr': '<f4', 'colour': 'red', }"),
            &["unknown key \"colour\""],
        ),
        bytes(
            "absurd size: 10^15 elements",
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000, 1), }"),
            &["1000000000000000"],
        ),
        bytes(
            "absurd size: beyond 64 bits",
            header(
                "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 1), }",
            ),
            &["is not a dimension"],
        ),
        bytes(
            "absurd size: a header of 4 GB",
            with_start(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
            &["header claims 4294967295 bytes"],
        ),
    ];
    check(&world, ".npy header", NPZ, &ANSWER, rows);
}
