//! Word vectors in text files.

use super::{error_of, gzip, load_bytes, mutated};
use proptest::prelude::*;
use std::io::{Cursor, Write};

const TEXT: &str = "the 0.5 -1e-2\n. . . 1 2\nwörd 3 4 \ndog 7 8\r\ndog 9 9\n\ncant 5 6";

#[test]
fn words_of_text_files_are_looked_up_whole() {
    let words = ["cant", "the", "wörd", "ca", "dog", "cant", "."];
    let expected = [
        5.0, 6.0, 0.5, -0.01, 3.0, 4.0, 0.0, 0.0, 7.0, 8.0, 5.0, 6.0, 0.0, 0.0,
    ];
    let with_header = format!("7 2\n{TEXT}");
    for bytes in [
        TEXT.into(),
        with_header.into(),
        gzip(TEXT.as_bytes()),
        [gzip(b"the 0.5 "), gzip(&TEXT.as_bytes()[8..])].concat(),
    ] {
        let vectors = load_bytes(&bytes, &words).unwrap();
        assert_eq!((vectors.dimension, vectors.found), (2, 5));
        assert_eq!(vectors.values, expected);
    }
}

#[test]
fn a_zip_gives_its_only_text_or_the_one_of_300_dimensions() {
    let zip = |members: &[(&str, &str)]| {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in members {
            archive
                .start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.finish().unwrap().into_inner()
    };
    let value = |bytes: &[u8]| load_bytes(bytes, &["a"]).unwrap().values;
    assert_eq!(
        value(&zip(&[("glove.txt", "a 1 2"), ("README", "")])),
        [1.0, 2.0]
    );
    let several = [
        ("glove.6B.50d.txt", "a 1 2"),
        ("glove.6B.300d.txt", "a 3 4 5"),
    ];
    assert_eq!(value(&zip(&several)), [3.0, 4.0, 5.0]);
    assert!(error_of(&zip(&[("b.txt", ""), ("c.vec", "")]), &["a"]).contains("b.txt, c.vec"));
    assert!(error_of(&zip(&[("README", "")]), &["a"]).contains("no vectors"));
}

#[test]
fn a_damaged_text_file_is_an_error_that_names_the_line() {
    for (bytes, what) in [
        (&b"a 1 2\nb 1\n"[..], "line 2 has 1 values"),
        (
            b"a 1 2\nb 1 2\nc x y\n",
            "line 3 has values that are not numbers",
        ),
        (b"a 1 2\nb\xff 1\n", "line 2 has 1 values"),
        (b"c \xff 2\n", "line 1 has values that are not numbers"),
        (b"a 1 2\nc 1 nan\n", "line 2 has a value that is not finite"),
        (b"a 1 2\nc 1  2\nc 1 2\n", ""),
        (b"c 1e999 2\n", "line 1 has a value that is not finite"),
        (b"\x00\x01\x02", "line 1"),
        (b"{\"json\": 1}", "line 1"),
        (b"", "empty"),
        (b"2 2\n", "empty"),
    ] {
        match load_bytes(bytes, &["c"]) {
            Ok(_) => assert_eq!(what, "", "{bytes:?}"),
            Err(error) => assert!(
                !what.is_empty() && format!("{error:#}").contains(what),
                "{error:#}"
            ),
        }
    }
    let mut long = b"a ".repeat(1 << 20);
    long.push(b'\n');
    assert!(error_of(&long, &["a"]).contains("longer"));
}

proptest! {
    #[test]
    fn a_damaged_text_never_panics(bytes in mutated(TEXT.into())) {
        let _ = load_bytes(&bytes, &["the", "wörd", "cant"]);
    }

    #[test]
    fn text_vectors_survive_the_round_trip(rows in prop::collection::vec(prop::array::uniform3(-1e30f32..1e30), 1..8)) {
        let lines: String = rows.iter().enumerate().map(|(i, [a, b, c])| format!("w{i} {a} {b} {c}\n")).collect();
        let words: Vec<String> = (0..rows.len()).map(|i| format!("w{i}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        prop_assert_eq!(load_bytes(lines.as_bytes(), &words).unwrap().values, rows.concat());
    }
}
