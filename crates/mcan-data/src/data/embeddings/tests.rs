//! Comparison with spaCy: spaCy 3.8.18 and 2.1.9 (MIT licence) wrote the packages in `tests/data/glove`, and their results
//! for some hundred difficult words, `tests/data/spacy_cases.json`.

mod package;
mod text;

use super::tokenizer::Tokenizer;
use super::*;
use crate::formats::npy;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Write;

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
    let vectors = load(path, &words, None).unwrap();
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
fn every_word_has_the_pieces_of_spacy_3() {
    let folder = tempfile::tempdir().unwrap();
    check_pieces(&unpack(folder.path()).join("tokenizer"), &golden_cases());
}

#[test]
fn every_word_has_the_pieces_of_spacy_2_1_for_which_the_package_was_published() {
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

// Packages and files that the tests make.

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
    load(file.path(), words, None)
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

#[test]
fn a_package_is_found_by_its_name_and_a_wrong_path_is_an_error() {
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
        // This holds for every exception of spaCy's English, too.
        prop_assert_eq!(real_rules().pieces(&word).unwrap().concat(), word);
    }

    #[test]
    fn any_word_is_split_without_a_panic(word in r"\PC{0,20}") {
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
