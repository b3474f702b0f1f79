//! Feature files as NumPy writes them, and damaged ones.

use super::testing::{f4, feature_file, npy, zip};
use super::*;
use half::f16;
use ndarray::{Array2, ShapeBuilder};
use ndarray_npy::WriteNpyExt;
use proptest::prelude::*;

mod archives;

fn regions(file: &[u8], feature_size: usize, max_regions: usize) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    let rows = Reader::default().regions(file, feature_size, max_regions, &mut out)?;
    assert_eq!(out.len(), rows * feature_size);
    Ok(out)
}

fn error(file: &[u8]) -> String {
    format!("{:#}", regions(file, 4, 100).unwrap_err())
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn only_x(deflated: bool, header: &str, data: &[u8]) -> Vec<u8> {
    zip(deflated, &[("x.npy", npy(1, 64, header, data))])
}

/// Twelve values, three regions of four.
fn rows() -> Vec<f32> {
    (0..12).map(|i| i as f32 + 0.5).collect()
}

/// Bytes that do not compress to nothing, (`n`, 64).
fn noise(n: usize) -> Vec<f32> {
    (0..n * 64)
        .map(|i| ((i * 7919) % 1009) as f32 / 8.0)
        .collect()
}

#[test]
fn every_layout_gives_the_same_rows() {
    for n in [0, 1, 2, 3, 17, 40] {
        let expected = noise(n);
        for (fortran_order, deflated) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let file = feature_file(&expected, 64, fortran_order, deflated);
            assert_eq!(
                regions(&file, 64, 100).unwrap(),
                expected,
                "n {n} {fortran_order} {deflated}"
            );
            for cut in [0, 1, 16, 39] {
                let kept = n.min(cut) * 64;
                assert_eq!(
                    regions(&file, 64, cut).unwrap(),
                    expected[..kept],
                    "{n} to {cut} {fortran_order} {deflated}"
                );
            }
            let boxes = Reader::default().boxes(&file, n).unwrap().unwrap();
            assert_eq!(
                (boxes.width, boxes.height, boxes.bbox.len()),
                (640, 480, 4 * n)
            );
            assert!(
                boxes
                    .bbox
                    .chunks(4)
                    .enumerate()
                    .all(|(i, b)| b == [i as f32, 1.0, 2.0, 3.0])
            );
        }
    }
}

#[test]
fn one_reader_reads_large_and_small_files_in_turn() {
    let mut reader = Reader::default();
    for n in [40, 3, 0, 70, 1] {
        let mut out = vec![7.0];
        reader
            .regions(
                &feature_file(&noise(n), 64, n % 2 == 0, true),
                64,
                100,
                &mut out,
            )
            .unwrap();
        assert_eq!(out[0], 7.0, "what was there stays");
        assert_eq!(out[1..], noise(n));
    }
}

#[test]
fn all_header_versions_paddings_and_spellings_are_understood() {
    let data = bytes(&rows());
    let plain = f4(true, "(4, 3)");
    let double = plain.replace('\'', "\"");
    let tight = "{'shape':(4L,3L),'fortran_order':True,'descr':'<f4'}".to_owned();
    for header in [plain, double, tight] {
        for (version, align) in [(1, 16), (1, 64), (2, 64), (3, 64), (1, 4096)] {
            let file = zip(
                true,
                &[
                    ("bbox.npy", vec![1]),
                    ("x.npy", npy(version, align, &header, &data)),
                ],
            );
            assert_eq!(
                regions(&file, 4, 100).unwrap(),
                rows(),
                "{version} {align} {header}"
            );
        }
    }
}

#[test]
fn half_and_double_precision_become_float32() {
    let half: Vec<u8> = rows()
        .iter()
        .flat_map(|&v| f16::from_f32(v).to_le_bytes())
        .collect();
    let double: Vec<u8> = rows()
        .iter()
        .flat_map(|&v| f64::from(v).to_le_bytes())
        .collect();
    for (descr, data) in [("<f2", half), ("<f8", double)] {
        let file = only_x(true, &f4(true, "(4, 3)").replace("<f4", descr), &data);
        assert_eq!(regions(&file, 4, 100).unwrap(), rows());
    }
}

#[test]
fn arrays_of_other_extractors_are_read() {
    // Three regions of four values, row after row.
    let data = bytes(&rows());
    let objects = npy(1, 64, &f4(false, "()").replace("<f4", "|O"), b"\x80\x04N.");
    for (name, shape) in [
        ("x.npy", "(3, 4)"),
        ("feat.npy", "(3, 4)"),
        ("features.npy", "(1, 3, 4)"),
        ("z.npy", "(1, 1, 3, 4)"),
        ("x.npy", "(3, 1, 4)"),
    ] {
        let array = npy(1, 64, &f4(false, shape), &data);
        let file = zip(true, &[("info.npy", objects.clone()), (name, array)]);
        assert_eq!(regions(&file, 4, 100).unwrap(), rows(), "{name} {shape}");
        assert_eq!(regions(&file, 4, 2).unwrap(), rows()[..8], "{name} {shape}");
    }
    let boxes = npy(1, 64, &f4(false, "(1, 4)"), &bytes(&[1.0, 2.0, 30.0, 40.0]));
    let size = |pixels: i32| {
        npy(
            1,
            64,
            "{'descr': '<i4', 'fortran_order': False, 'shape': ()}",
            &pixels.to_le_bytes(),
        )
    };
    let file = zip(
        false,
        &[
            ("boxes.npy", boxes),
            ("image_w.npy", size(50)),
            ("image_h.npy", size(60)),
        ],
    );
    let found = Reader::default().boxes(&file, 1).unwrap().unwrap();
    assert_eq!(
        (found.width, found.height, &found.bbox[..]),
        (50, 60, &[1.0, 2.0, 30.0, 40.0][..])
    );
}

#[test]
fn malformed_files_are_named_for_what_is_wrong() {
    let data = bytes(&rows());
    let good = only_x(true, &f4(true, "(4, 3)"), &data);
    let header = |descr: &str, shape: &str| f4(false, shape).replace("<f4", descr);
    for (file, expected) in [
        (Vec::new(), "empty"),
        (b"<html>not found</html>".to_vec(), "not a zip file"),
        (
            good[..good.len() - 1].to_vec(),
            "not a zip file, or is cut short",
        ),
        (
            good[good.len() / 2..].to_vec(),
            "zip directory is cut short",
        ),
        (
            zip(true, &[("y.npy", data.clone())]),
            "no array x, feat, features or z; it has y (objects or text)",
        ),
        (zip(true, &[("x.npy", data.clone())]), "not a .npy array"),
        (zip(true, &[("x.npy", Vec::new())]), "not a .npy array"),
        (zip(false, &[("x.npy", npy(9, 64, "{}", &[]))]), "version 9"),
        (
            zip(
                false,
                &[("x.npy", b"\x93NUMPY\x02\0\xff\xff\xff\x7f".to_vec())],
            ),
            "at most 10000",
        ),
        (
            zip(false, &[("x.npy", b"\x93NUMPY\x01\0\x80\0 \0".to_vec())]),
            "header is cut short",
        ),
        (only_x(true, &header("|O", "(4, 3)"), &data), "\"|O\""),
        (only_x(true, &header(">f4", "(4, 3)"), &data), "\">f4\""),
        (
            only_x(true, &header("<i4", "(4, 3)"), &data),
            "floats are expected; it has x [4, 3] int32",
        ),
        (
            only_x(true, &header("<f4", "(2, 6)"), &data),
            "but 4 values for each row are configured: set IMG_FEAT_SIZE",
        ),
        (
            only_x(true, &header("<f4", "(12,)"), &data),
            "its shape is [12] and its dtype float32, but 4 values for each row",
        ),
        (
            only_x(true, &header("<f4", "(4, -3)"), &data),
            "not a dimension",
        ),
        (
            only_x(true, &header("<f4", "(4, 1000000000000000)"), &data),
            "does not go with the 48 bytes",
        ),
        (
            only_x(true, &header("<f4", "(4, 18446744073709551615)"), &data),
            "does not go with",
        ),
        (
            only_x(true, &header("<f4", "(4, 4)"), &data),
            "does not go with",
        ),
        (
            only_x(true, &header("<f4", "(4, 2)"), &data),
            "does not go with",
        ),
        (
            only_x(true, "{'descr': '<f4', 'shape': (4, 3)}", &data),
            "missing",
        ),
        (
            only_x(true, "{'descr': [('a', '<f4')]}", &data),
            "quoted string",
        ),
        (only_x(true, "__import__('os')", &data), "missing"),
    ] {
        let message = error(&file);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn the_message_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("COCO_val2014_000000000007.jpg.npz");
    let wanted = Wanted {
        feature_size: 4,
        max_rows: 100,
        rows_first: false,
    };
    let read = |path: &Path| with_reader(|r| r.read_file(path, wanted, &mut Vec::new()));
    assert!(format!("{:#}", read(&path).unwrap_err()).contains("000000000007.jpg.npz"));
    std::fs::write(&path, []).unwrap();
    let message = format!("{:#}", read(&path).unwrap_err());
    assert!(
        message.contains("000000000007.jpg.npz") && message.contains("empty"),
        "{message}"
    );
    std::fs::File::create(&path)
        .unwrap()
        .set_len(MAX_FILE_BYTES + 1)
        .unwrap();
    assert!(format!("{:#}", read(&path).unwrap_err()).contains("at most"));
}

#[test]
fn boxes_that_do_not_fit_are_errors() {
    let file = feature_file(&noise(5), 64, true, true);
    let message = format!("{:#}", Reader::default().boxes(&file, 6).unwrap_err());
    assert!(
        message.contains("bbox.npy") && message.contains("(6, 4)"),
        "{message}"
    );
    let bbox = npy(1, 64, &f4(false, "(1, 4)"), &[0; 16]);
    let file = zip(false, &[("bbox.npy", bbox)]);
    let without_size = Reader::default().boxes(&file, 1).unwrap();
    assert_eq!(
        without_size, None,
        "boxes mean nothing without the size of the image"
    );
    assert_eq!(
        Reader::default()
            .boxes(&only_x(true, &f4(true, "(4, 3)"), &bytes(&rows())), 3)
            .unwrap(),
        None
    );
}

proptest! {
    #[test]
    fn what_ndarray_npy_writes_comes_back(
        columns in 1usize..40, n in 0usize..40, fortran in any::<bool>(), deflated in any::<bool>(),
        last in any::<bool>(), max_regions in 0usize..50, seed in any::<u32>(),
    ) {
        let value = |(c, r): (usize, usize)| f32::from_bits(seed.wrapping_mul((c * 64 + r) as u32 + 1) & 0x7eff_ffff);
        let shape = (columns, n).set_f(fortran);
        let array = Array2::from_shape_fn(shape, value);
        let mut x = Vec::new();
        array.write_npy(&mut x).unwrap();
        let mut members = vec![("x.npy", x), ("bbox.npy", vec![1, 2, 3])];
        if last {
            members.reverse();
        }
        let read = regions(&zip(deflated, &members), columns, max_regions).unwrap();
        let expected: Vec<f32> = array.t().iter().copied().take(n.min(max_regions) * columns).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut file in prop::collection::vec(any::<u8>(), 0..300), end in any::<bool>()) {
        if end {
            file.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0\x2e\0\0\0\0\0\0\0\0\0");
        }
        let _ = regions(&file, 4, 100);
        let _ = Reader::default().boxes(&file, 3);
    }

    #[test]
    fn mutated_files_never_panic_and_never_allocate_wildly(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(), fortran in any::<bool>(), deflated in any::<bool>(), truncate in any::<bool>(),
    ) {
        let mut file = feature_file(&noise(3), 64, fortran, deflated);
        for (at, value) in &flips {
            *at.get_mut(&mut file) = *value;
        }
        if truncate {
            file.truncate(cut.index(file.len()));
        }
        let mut reader = Reader::default();
        let mut out = Vec::new();
        let _ = reader.regions(&file, 64, 100, &mut out);
        let _ = reader.boxes(&file, 3);
        prop_assert!(reader.inflate.decoded.capacity() + out.capacity() * 4 < 2048 * file.len() + 4096);
    }

    #[test]
    fn arbitrary_headers_never_panic(text in "[{}()',:a-zA-Z0-9 <]{0,60}") {
        let _ = npy::parse(&super::testing::npy(1, 16, &text, &[]));
    }
}
