//! Against spaCy itself: `tests/data/glove` was written by spaCy 3.8.18 and 2.1.9 (MIT licence), and
//! `tests/data/spacy_cases.json` holds what each of them made of some hundred difficult words.

use super::tokenizer::Tokenizer;
use super::*;
use crate::formats::npy;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{Cursor, Write};

#[derive(Deserialize)]
struct Case {
    pieces: Vec<String>,
    vector_head: Option<[f32; 4]>,
    norm: f64,
}

type Cases = BTreeMap<String, Case>;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn golden() -> PathBuf {
    data("glove/en_vectors_web_lg-2.1.0.tar.gz")
}

pub(crate) use crate::testing::shared;

fn cases(section: &str) -> Cases {
    let text = std::fs::read(data("spacy_cases.json")).unwrap();
    serde_json::from_slice::<BTreeMap<String, Cases>>(&text)
        .unwrap()
        .remove(section)
        .unwrap()
}

fn golden_cases() -> Cases {
    let mut all = cases("spacy-3.8");
    all.extend(
        serde_json::from_slice::<Cases>(
            &std::fs::read(data("glove/expected_vectors.json")).unwrap(),
        )
        .unwrap(),
    );
    all
}

/// Unpacks the golden package, and returns the folder of the model in it.
fn unpack(into: &Path) -> PathBuf {
    tar::Archive::new(inflate(&golden()).unwrap())
        .unpack(into)
        .unwrap();
    into.join("en_vectors_web_lg-2.1.0/en_vectors_web_lg/en_vectors_web_lg-2.1.0")
}

fn check_pieces(tokenizer: &Path, cases: &Cases) {
    let tokenizer = Tokenizer::from_msgpack(&std::fs::read(tokenizer).unwrap()).unwrap();
    for (word, case) in cases {
        assert_eq!(tokenizer.pieces(word).unwrap(), case.pieces, "{word:?}");
    }
}

fn check_vectors(path: &Path, cases: &Cases) {
    let words: Vec<&str> = cases.keys().map(String::as_str).collect();
    let vectors = load(path, &words).unwrap();
    assert_eq!(vectors.values.len(), words.len() * vectors.dimension);
    for ((word, case), vector) in cases
        .iter()
        .zip(vectors.values.chunks_exact(vectors.dimension))
    {
        let norm = vector
            .iter()
            .map(|&value| f64::from(value).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!(
            (norm - case.norm).abs() <= 1e-5 * case.norm,
            "{word:?}: norm {norm} instead of {}",
            case.norm
        );
        for (value, expected) in vector.iter().zip(case.vector_head.into_iter().flatten()) {
            assert!(
                (value - expected).abs() <= 1e-6,
                "{word:?}: {value} instead of {expected}"
            );
        }
    }
    assert_eq!(
        vectors.found,
        cases.values().filter(|case| case.norm > 0.0).count()
    );
}

#[test]
fn every_word_is_cut_as_by_spacy_3() {
    let folder = tempfile::tempdir().unwrap();
    check_pieces(&unpack(folder.path()).join("tokenizer"), &golden_cases());
}

#[test]
fn every_word_is_cut_as_by_spacy_2_1_for_which_the_published_package_was_made() {
    check_pieces(&data("glove/spacy-2.1/tokenizer"), &cases("spacy-2.1"));
}

#[test]
fn the_archive_gives_spacys_vectors() {
    check_vectors(&golden(), &golden_cases());
}

#[test]
fn every_level_of_the_unpacked_package_gives_spacys_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let model = unpack(folder.path());
    for level in model.ancestors().take(4) {
        check_vectors(level, &golden_cases());
    }
}

#[test]
fn a_package_of_spacy_2_1_gives_its_vectors() {
    check_vectors(&data("glove/spacy-2.1"), &cases("spacy-2.1"));
}

#[test]
fn a_real_model_gives_spacys_vectors() {
    let Some(model) = shared("real/spacy/custom_test_lang") else {
        return;
    };
    check_pieces(&model.join("tokenizer"), &cases("spacy-real"));
    check_vectors(&model, &cases("spacy-real"));
}

#[test]
fn a_glove_text_file_gives_the_same_vectors_for_words_of_one_piece() {
    let Some(path) = shared("golden/glove/glove.mini.300d.txt") else {
        return;
    };
    let whole = golden_cases()
        .into_iter()
        .filter(|(word, case)| case.pieces == [word.as_str()])
        .collect();
    check_vectors(&path, &whole);
}

// Packages and files made here.

const WORDS: [&str; 4] = ["the", "cant", "number", "xyzzy"];

/// A tar of `members`, in order.
fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn load_bytes(bytes: &[u8], words: &[&str]) -> Result<WordVectors> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, bytes).unwrap();
    load(file.path(), words)
}

fn error_of(bytes: &[u8], words: &[&str]) -> String {
    format!("{:#}", load_bytes(bytes, words).unwrap_err())
}

fn msgpack(value: rmpv::Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &value).unwrap();
    bytes
}

fn key2row(rows: &[(&str, i64)]) -> Vec<u8> {
    let entry = |&(word, row): &(&str, i64)| (hash::keys(word).next().unwrap().into(), row.into());
    msgpack(rmpv::Value::Map(rows.iter().map(entry).collect()))
}

fn npy_of(rows: &[[f32; 2]]) -> Vec<u8> {
    let header = npy::header("<f4", false, &[rows.len(), 2]).unwrap();
    let values = rows.iter().flatten().flat_map(|value| value.to_le_bytes());
    header.into_iter().chain(values).collect()
}

/// A small package with no rules: each word is one piece.
fn package(keys: &[(&str, i64)], rows: &[[f32; 2]]) -> Vec<u8> {
    let rules = msgpack(rmpv::Value::Map(vec![]));
    tar_of(&[
        ("x/tokenizer", &rules),
        ("x/vocab/key2row", &key2row(keys)),
        ("x/vocab/vectors", &npy_of(rows)),
    ])
}

#[test]
fn members_may_come_in_any_order_and_the_tar_may_be_plain() {
    let expected = load(&golden(), &WORDS).unwrap();
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
fn a_damaged_package_is_an_error_that_names_the_part() {
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
fn a_matrix_of_another_kind_is_an_error_that_says_what() {
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
    let error = |path: &Path| format!("{:#}", load(path, &["a"]).unwrap_err());
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

#[test]
fn exceptions_of_the_wrong_shape_are_errors() {
    for value in [
        rmpv::Value::from(1),
        rmpv::Value::Array(vec![]),
        rmpv::Value::Map(vec![("a".into(), 1.into())]),
    ] {
        let rules = msgpack(rmpv::Value::Map(vec![("exceptions".into(), value)]));
        assert!(
            format!("{:#}", Tokenizer::from_msgpack(&rules).unwrap_err()).contains("exception")
        );
    }
    let deep = format!(
        "{:#}",
        Tokenizer::from_msgpack(&[0x91].repeat(1 << 20)).unwrap_err()
    );
    assert!(deep.contains("not MessagePack"), "{deep}");
    let rules = msgpack(rmpv::Value::Map(vec![("infix_finditer".into(), 1.into())]));
    assert!(
        format!("{:#}", Tokenizer::from_msgpack(&rules).unwrap_err()).contains("infix_finditer")
    );
}

const TEXT: &str = "the 0.5 -1e-2\n. . . 1 2\nwörd 3 4 \ndog 7 8\r\ndog 9 9\n\ncant 5 6";

#[test]
fn text_files_are_looked_up_by_whole_words() {
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
    assert!(error_of(&zip(&[("b.txt", ""), ("c.txt", "")]), &["a"]).contains("300d.txt"));
    assert!(error_of(&zip(&[("README", "")]), &["a"]).contains("300d.txt"));
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

#[test]
fn the_package_is_found_where_users_put_it_and_a_wrong_path_is_an_error() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folders = [first.path(), second.path()];
    assert_eq!(find(None, &folders).unwrap(), None);
    let package = second.path().join("en_vectors_web_lg-2.1.0.tar.gz");
    std::fs::write(&package, "").unwrap();
    assert_eq!(find(None, &folders).unwrap(), Some(package));
    let unpacked = first.path().join("en_vectors_web_lg");
    std::fs::create_dir(&unpacked).unwrap();
    assert_eq!(find(None, &folders).unwrap(), Some(unpacked));
    assert_eq!(
        find(Some(second.path()), &folders).unwrap(),
        Some(second.path().to_owned())
    );
    let error = find(Some(Path::new("/no/such/thing")), &folders)
        .unwrap_err()
        .to_string();
    assert!(error.contains("--GLOVE_PATH") && error.contains("/no/such/thing"));
}

fn real_rules() -> &'static Tokenizer {
    static RULES: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(|| {
        Tokenizer::from_msgpack(&std::fs::read(data("glove/spacy-2.1/tokenizer")).unwrap()).unwrap()
    });
    &RULES
}

/// `bytes` with some of them changed and the end cut off.
fn mutated(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = bytes.len();
    (
        prop::collection::vec((0..length, any::<u8>()), 0..4),
        0..=length,
    )
        .prop_map(move |(changes, kept)| {
            let mut bytes = bytes.clone();
            changes
                .into_iter()
                .for_each(|(at, value)| bytes[at] = value);
            bytes.truncate(kept.max(length.saturating_sub(kept)));
            bytes
        })
}

proptest! {
    #[test]
    fn the_pieces_of_a_word_make_up_the_word(word in r"[a-zA-Z0-9'’.,;:!?()$€%°+=<>/_*#&@~^…😀éß-]{1,12}") {
        // Every exception of spaCy's English does too.
        prop_assert_eq!(real_rules().pieces(&word).unwrap().concat(), word);
    }

    #[test]
    fn any_word_is_cut_without_a_panic(word in r"\PC{0,20}") {
        prop_assert_eq!(real_rules().pieces(&word).unwrap().concat(), word);
    }

    #[test]
    fn a_damaged_tokenizer_never_panics(bytes in mutated(small_rules())) {
        if let Ok(tokenizer) = Tokenizer::from_msgpack(&bytes) {
            for word in ["", "cant", "(a-b)...", "é5km’s"] {
                let _ = tokenizer.pieces(word);
            }
        }
    }

    #[test]
    fn any_bytes_as_a_file_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = load_bytes(&bytes, &WORDS);
        let _ = Tokenizer::from_msgpack(&bytes);
        let _ = npy::read(&mut &bytes[..]);
        let members = [("tokenizer", &b"\x80"[..]), ("vocab/key2row", &bytes), ("vocab/vectors", &bytes)];
        let _ = load_bytes(&tar_of(&members), &WORDS);
    }

    #[test]
    fn a_damaged_package_never_panics(bytes in mutated(package(&[("the", 1), ("cant", 0)], &[[1.0, 2.0]; 2]))) {
        let _ = load_bytes(&bytes, &WORDS);
    }

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

/// Rules with one expression of each kind.
fn small_rules() -> Vec<u8> {
    let fields = [
        ("prefix_search", r"^\(|^\+(?![0-9])"),
        ("suffix_search", r"\)$|(?<=[0-9])(?:km|k)$|\.\.+$"),
        ("infix_finditer", r"\.\.+|(?<=[a-zé])-(?=[a-z])"),
        ("token_match", r"^\w+@\w+$"),
        ("url_match", r"(?u)^\S+\.com$"),
    ];
    let mut rules: Vec<_> = fields
        .into_iter()
        .map(|(name, pattern)| (name.into(), pattern.into()))
        .collect();
    let piece = |text: &str| rmpv::Value::Map(vec![(65.into(), text.into())]);
    let cant = rmpv::Value::Array(vec![piece("ca"), piece("nt")]);
    rules.push((
        "exceptions".into(),
        rmpv::Value::Map(vec![("cant".into(), cant)]),
    ));
    rules.push(("faster_heuristics".into(), true.into()));
    msgpack(rmpv::Value::Map(rules))
}
