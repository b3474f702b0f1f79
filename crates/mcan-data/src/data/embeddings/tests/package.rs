//! Small packages, valid and damaged.

use super::*;

#[test]
fn members_may_come_in_any_order_and_the_tar_may_be_plain() {
    let expected = load(&golden(), &WORDS, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = unpack(folder.path());
    let read = |name: &str| std::fs::read(model.join(name)).unwrap();
    let (tokenizer, keys, vectors) = (
        read("tokenizer"),
        read("vocab/key2row"),
        read("vocab/vectors"),
    );
    let members = [
        ("m/vocab/vectors", &vectors[..]),
        ("m/vocab/key2row", &keys),
        ("m/tokenizer", &tokenizer),
    ];
    for order in [[0, 1, 2], [1, 0, 2], [2, 0, 1], [1, 2, 0]] {
        let plain = tar_of(&order.map(|index: usize| members[index]));
        assert_eq!(load_bytes(&plain, &WORDS).unwrap(), expected, "{order:?}");
        assert_eq!(
            load_bytes(&gzip(&plain), &WORDS).unwrap(),
            expected,
            "{order:?}"
        );
    }
}

#[test]
fn a_wheel_and_a_zip_made_on_a_mac_are_read() {
    let expected = load(&golden(), &WORDS, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = unpack(folder.path());
    let zip_of = |members: &[(&str, &[u8])]| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            zip.start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let files = ["tokenizer", "vocab/key2row", "vocab/vectors"];
    let contents = files.map(|name| std::fs::read(model.join(name)).unwrap());
    let names = files.map(|name| format!("en_vectors/en_vectors-2.1.0/{name}"));
    let members: Vec<(&str, &[u8])> = names
        .iter()
        .map(String::as_str)
        .zip(contents.iter().map(Vec::as_slice))
        .collect();
    assert_eq!(load_bytes(&zip_of(&members), &WORDS).unwrap(), expected);
    assert!(error_of(&zip_of(&members[..2]), &["a"]).contains("lacks one of"));

    let glove = [
        ("__MACOSX/._glove.txt", &b"\0\x05"[..]),
        ("glove.txt", b"a 1.5 2.5\n"),
        ("._glove.txt", b"\0"),
    ];
    let vectors = load_bytes(&zip_of(&glove), &["a"]).unwrap();
    assert_eq!(vectors.values, [1.5, 2.5]);
    for (bytes, what) in [
        (&b"<html>"[..], "a web page"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a pointer of Git LFS",
        ),
    ] {
        assert!(error_of(bytes, &["a"]).contains(what), "{what}");
    }
}

#[test]
fn keys_may_share_a_row_have_none_or_be_absent() {
    let archive = package(
        &[("a", 1), ("b", 1), ("c", -1), ("number", 0)],
        &[[3.0, 4.0], [1.0, 2.0]],
    );
    let vectors = load_bytes(&archive, &["b", "a", "c", "d", "number", "a"]).unwrap();
    assert_eq!(
        vectors.values,
        [1.0, 2.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 1.0, 2.0]
    );
    assert_eq!((vectors.dimension, vectors.found), (2, 4));
    assert_eq!(load_bytes(&archive, &[]).unwrap().values, [0.0; 0]);
}

#[test]
fn a_damaged_package_is_an_error_that_names_the_file() {
    let rows = [[1.0, 2.0], [3.0, 4.0]];
    assert!(error_of(&package(&[("a", 2)], &rows), &["a"]).contains("row 2 of the 2 rows"));
    assert!(error_of(&package(&[("a", -2)], &rows), &["a"]).contains("negative"));
    assert!(
        error_of(&package(&[("a", 0)], &[[f32::NAN, 0.0]]), &["a"]).contains("row 0 is not finite")
    );
    let rules = msgpack(rmpv::Value::Map(vec![(
        "suffix_search".into(),
        "(?<=".into(),
    )]));
    let keys = key2row(&[("a", 1)]);
    let vectors = npy_of(&rows);
    for (members, part) in [
        (
            &[
                ("tokenizer", &b"\xc1"[..]),
                ("vocab/key2row", &keys),
                ("vocab/vectors", &vectors),
            ][..],
            "tokenizer",
        ),
        (
            &[
                ("tokenizer", &rules),
                ("vocab/key2row", &keys),
                ("vocab/vectors", &vectors),
            ],
            "suffix_search",
        ),
        (
            &[
                ("tokenizer", b"\x80"),
                ("vocab/key2row", &keys[..4]),
                ("vocab/vectors", &vectors),
            ],
            "vocab/key2row",
        ),
        (
            &[
                ("tokenizer", b"\x80"),
                ("vocab/key2row", &keys),
                ("vocab/vectors", &vectors[1..]),
            ],
            "vocab/vectors",
        ),
        (
            &[
                ("tokenizer", b"\x80"),
                ("vocab/key2row", &keys),
                ("vocab/vectors", &vectors[..vectors.len() - 1]),
            ],
            "vocab/vectors",
        ),
        (
            &[("tokenizer", b"\x80"), ("vocab/key2row", &keys)],
            "no vocab/vectors",
        ),
        (
            &[("tokenizer", b"\x80"), ("vocab/vectors", &vectors)],
            "no vocab/key2row",
        ),
        (
            &[("vocab/key2row", &keys), ("vocab/vectors", &vectors)],
            "no tokenizer",
        ),
    ] {
        let error = error_of(&tar_of(members), &["a"]);
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_matrix_of_another_kind_is_an_error_with_the_reason() {
    let rules = msgpack(rmpv::Value::Map(vec![]));
    let keys = key2row(&[("a", 0)]);
    for (descr, fortran_order, shape, what) in [
        ("<f4", false, &[1, 2][..], ""),
        ("<f2", false, &[1, 2], ""),
        ("<i4", false, &[1, 2], "float32"),
        (">f4", false, &[1, 2], "float32"),
        ("<f4", true, &[1, 2], "Fortran order"),
        ("<f4", false, &[2], "(words, values of a vector)"),
        ("<f4", false, &[1, 2, 1], "(words, values of a vector)"),
        ("<f4", false, &[1, 0], "1 to 8192 values"),
        ("<f4", false, &[1, 8193], "1 to 8192 values"),
    ] {
        let mut vectors = npy::header(descr, fortran_order, shape).unwrap();
        vectors.extend([0; 8]);
        let members = [
            ("tokenizer", &rules[..]),
            ("vocab/key2row", &keys),
            ("vocab/vectors", &vectors),
        ];
        let read = load_bytes(&tar_of(&members), &["a"]);
        match what {
            "" => assert_eq!(read.unwrap().values, [0.0; 2]),
            _ => {
                let error = format!("{:#}", read.unwrap_err());
                assert!(error.contains(what), "{descr} {shape:?}: {error}");
            }
        }
    }
}

#[test]
fn an_archive_that_was_cut_short_is_an_error() {
    let bytes = std::fs::read(golden()).unwrap();
    let words = golden_cases().into_keys().collect::<Vec<_>>();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for kept in [
        10,
        1000,
        bytes.len() / 4,
        bytes.len() / 2,
        bytes.len() * 9 / 10,
    ] {
        assert!(!error_of(&bytes[..kept], &words).is_empty());
    }
}

#[test]
fn a_folder_without_a_model_or_without_one_of_its_files_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| format!("{:#}", load(path, &["a"], None).unwrap_err());
    assert!(error(folder.path()).contains("holds no spaCy model"));
    let model = unpack(folder.path());
    for name in ["tokenizer", "vocab/key2row", "vocab/vectors"] {
        let aside = folder.path().join("aside");
        std::fs::rename(model.join(name), &aside).unwrap();
        let error = error(&model);
        assert!(
            error.contains("cannot open") && error.contains(name),
            "{error}"
        );
        std::fs::rename(&aside, model.join(name)).unwrap();
    }
    assert!(error(&folder.path().join("absent")).contains("absent"));
}
