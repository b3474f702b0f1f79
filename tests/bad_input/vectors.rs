//! Word vectors: spaCy's package, as a folder and as an archive, and GloVe's text.

use super::forge::*;
use super::{absent, bytes, check, cut, row, world, zips_of_too_many};
use crate::common::World;
use std::fs;
use std::path::Path;

const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/crates/mcan-data/tests/data/glove/spacy-2.1"
);

fn flags(path: &str) -> [&str; 5] {
    [
        "--RUN=train",
        "--SPLIT=train",
        "--VERSION=v",
        "--SET=USE_GLOVE=true",
        path,
    ]
}

fn model_file(name: &str) -> Vec<u8> {
    fs::read(Path::new(MODEL).join(name)).unwrap()
}

fn unpacked() -> World {
    let world = world();
    fs::create_dir_all(world.root.join("spacy/vocab")).unwrap();
    for name in ["tokenizer", "vocab/key2row", "vocab/vectors"] {
        fs::write(world.root.join("spacy").join(name), model_file(name)).unwrap();
    }
    world
}

/// A MessagePack map with one entry.
fn map_of(key: &str, value: &[u8]) -> Vec<u8> {
    [
        &[0x81, 0xa0 + u8::try_from(key.len()).unwrap()],
        key.as_bytes(),
        value,
    ]
    .concat()
}

fn text(text: &str) -> Vec<u8> {
    [
        &[0xda],
        &u16::try_from(text.len()).unwrap().to_be_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

#[test]
fn spacy_package() {
    const KEYS: &str = "spacy/vocab/key2row";
    const VECTORS: &str = "spacy/vocab/vectors";
    // Matrices that have all rows the words of the world need: row numbers are those of the fixture.
    let narrow = |value: f32| npy("<f4", "(5000, 4)", &floats(value, 20_000));
    let rows = |value: f32| npy("<f4", "(5000, 300)", &floats(value, 1_500_000));
    let table = vec![
        bytes("empty tokenizer", "", &["not MessagePack"]),
        cut(&["not MessagePack"]),
        bytes("wrong type: text", "rules", &["not a MessagePack map"]),
        bytes(
            "wrong type: a number for a rule",
            map_of("prefix_search", &[5]),
            &["its prefix_search is not text"],
        ),
        bytes(
            "wrong shape: exceptions",
            map_of("exceptions", &[0x93, 1, 2, 3]),
            &["its exceptions are not a map"],
        ),
        bytes(
            "a rule that is no expression",
            map_of("suffix_search", &text("(((")),
            &["suffix_search"],
        ),
        bytes(
            "a rule that would take a gigabyte",
            map_of("suffix_search", &text("((a{1000}){1000}){1000}")),
            &["suffix_search"],
        ),
        bytes(
            "absurd size: a list of 4 billion",
            [0xdd, 0xff, 0xff, 0xff, 0xff],
            &["not MessagePack"],
        ),
        bytes(
            "absurd size: a text of 4 GB",
            [0xdb, 0xff, 0xff, 0xff, 0xff],
            &["not MessagePack"],
        ),
        bytes(
            "absurd size: ten million values",
            [vec![0xdd, 0, 0x98, 0x96, 0x80], vec![0xc0; 10_000_000]].concat(),
            &["bytes"],
        ),
        bytes("deeply nested", vec![0x91; 1 << 19], &["not MessagePack"]),
        bytes("empty keys", "", &["not a MessagePack map"]).of(KEYS),
        cut(&["is damaged or missing"]).of(KEYS),
        bytes(
            "wrong type: keys of text",
            [0x81, 0xa1, b'a', 1],
            &["entry 0 of 1 is damaged"],
        )
        .of(KEYS),
        bytes("negative row", [0x81, 5, 0xf0], &["row -16 for key 5"]).of(KEYS),
        bytes(
            "absurd size: 4 billion keys",
            [0xdf, 0xff, 0xff, 0xff, 0xff, 1, 1],
            &["entry 1 of 4294967295 is damaged"],
        )
        .of(KEYS),
        bytes("empty vectors", "", &["ends within the .npy header"]).of(VECTORS),
        bytes("truncated vectors", &rows(0.5)[..1000], &["at row"]).of(VECTORS),
        bytes(
            "wrong type: text",
            "vectors, many of them",
            &["not a .npy array"],
        )
        .of(VECTORS),
        bytes(
            "wrong type: integers",
            npy("<i8", "(3, 4)", &[0; 96]),
            &["float32 is expected"],
        )
        .of(VECTORS),
        bytes(
            "wrong shape: a vector",
            npy("<f4", "(12,)", &floats(0.5, 12)),
            &["(words, values of a vector) is expected"],
        )
        .of(VECTORS),
        bytes(
            "wrong shape: fewer rows than keys",
            npy("<f4", "(1, 300)", &floats(0.5, 300)),
            &["of the 1 rows"],
        )
        .of(VECTORS),
        bytes(
            "wrong shape: narrow",
            narrow(0.5),
            &["vectors of 4 values, but WORD_EMBED_SIZE is 300"],
        )
        .of(VECTORS),
        bytes("NaN", rows(f32::NAN), &["is not finite"]).of(VECTORS),
        bytes("infinity", rows(f32::INFINITY), &["is not finite"]).of(VECTORS),
        bytes(
            "absurd size: 10^15 columns",
            npy("<f4", "(3, 1000000000000000)", &[]),
            &["must have 1 to 8192 values"],
        )
        .of(VECTORS),
        bytes(
            "absurd size: 10^15 rows",
            npy("<f4", "(1000000000000000, 300)", &[]),
            &["at row"],
        )
        .of(VECTORS),
        absent("missing tokenizer", &["tokenizer"]),
        absent("missing vectors", &["vectors"]).of(VECTORS),
    ];
    check(
        &unpacked(),
        "spaCy package",
        "spacy/tokenizer",
        &flags("--GLOVE_PATH=WORLD/spacy"),
        table,
    );
}

#[test]
fn spacy_archive() {
    let world = world();
    let members = ["tokenizer", "vocab/key2row", "vocab/vectors"];
    let packed_in = |folder: &str, names: &[&str]| {
        let files: Vec<_> = names
            .iter()
            .map(|name| file(&format!("{folder}/{name}"), &model_file(name)))
            .collect();
        gz(&tar(&files))
    };
    let packed = |names: &[&str]| packed_in("m", names);
    let with_vectors = |vectors: &[u8]| {
        let files = [&members[..2], &[]].concat();
        let files = files
            .iter()
            .map(|name| file(&format!("m/{name}"), &model_file(name)));
        gz(&tar(&files
            .chain([file("m/vocab/vectors", vectors)])
            .collect::<Vec<_>>()))
    };
    let rows = |columns: usize, value: f32| {
        with_vectors(&npy(
            "<f4",
            &format!("(5000, {columns})"),
            &floats(value, 5000 * columns),
        ))
    };
    fs::write(world.root.join("vectors.tar.gz"), packed(&members)).unwrap();
    let name = |kind| gz_bomb(&member("././@LongLink", kind, 1 << 30, b""));
    let table = vec![
        bytes("empty", "", &["is empty"]),
        cut(&["cannot read word vectors"]),
        bytes(
            "wrong type: no package",
            gz(&tar(&[file("m/readme", b"hello")])),
            &["has no tokenizer"],
        ),
        bytes(
            "wrong type: vectors of text",
            with_vectors(b"vectors, many of them"),
            &["not a .npy array"],
        ),
        bytes(
            "wrong shape: narrow",
            rows(4, 0.5),
            &["vectors of 4 values, but WORD_EMBED_SIZE is 300"],
        ),
        bytes("NaN", rows(300, f32::NAN), &["is not finite"]),
        bytes("infinity", rows(300, f32::INFINITY), &["is not finite"]),
        bytes(
            "a path out of the folder",
            packed_in("../m", &members),
            &["points outside"],
        ),
        bytes(
            "an absolute path",
            packed_in("/m", &members),
            &["points outside"],
        ),
        bytes(
            "absurd size: 10^15 rows",
            with_vectors(&npy("<f4", "(1000000000000000, 300)", &[])),
            &["at row"],
        ),
        bytes(
            "missing tokenizer",
            packed(&members[1..]),
            &["has no tokenizer"],
        ),
        bytes(
            "missing keys",
            packed(&["tokenizer", "vocab/vectors"]),
            &["has no vocab/key2row"],
        ),
        bytes(
            "missing vectors",
            packed(&members[..2]),
            &["has no vocab/vectors"],
        ),
        bytes(
            "bomb: a name of a gigabyte",
            name(tar::EntryType::GNULongName),
            &["the name of a member has more than"],
        ),
        bytes(
            "bomb: an extended header of a gigabyte",
            name(tar::EntryType::XHeader),
            &["the name of a member has more than"],
        ),
        bytes(
            "bomb: a tokenizer of a gigabyte",
            gz_bomb(&member(
                "m/tokenizer",
                tar::EntryType::Regular,
                1 << 30,
                b"",
            )),
            &["tokenizer has more than"],
        ),
        bytes(
            "bomb: keys of a gigabyte",
            gz_bomb(&member(
                "m/vocab/key2row",
                tar::EntryType::Regular,
                1 << 30,
                b"",
            )),
            &["key2row has more than"],
        ),
    ];
    check(
        &world,
        "spaCy archive",
        "vectors.tar.gz",
        &flags("--GLOVE_PATH=WORLD/vectors.tar.gz"),
        table,
    );
}

#[test]
fn glove_text() {
    let world = world();
    let line = |word: &str, value: &str, count: usize| {
        format!("{word}{}\n", format!(" {value}").repeat(count))
    };
    let sound = line("is", "0.5", 300) + &line("the", "-0.25", 300);
    fs::write(world.root.join("glove.txt"), &sound).unwrap();
    let behind = |more: String| sound.clone() + &more;
    let mut table = vec![
        bytes("empty", "", &["it is empty"]),
        row(
            "truncated",
            |sound| sound[..sound.len() - 40].to_vec(),
            &["line 2 has"],
        ),
        bytes(
            "wrong type: bytes",
            vec![0xff; 5000],
            &["line 1 has 0 values"],
        ),
        bytes(
            "wrong type: words for numbers",
            behind(line("how", "many", 300)),
            &["line 3 has values that are not numbers"],
        ),
        bytes(
            "wrong shape: fewer values",
            behind(line("how", "0.5", 299)),
            &["line 3 has 299 values"],
        ),
        bytes(
            "wrong shape: another width",
            line("is", "0.5", 50),
            &["vectors of 50 values, but WORD_EMBED_SIZE is 300"],
        ),
        bytes(
            "NaN",
            behind(line("how", "nan", 300)),
            &["line 3 has a value that is not finite"],
        ),
        bytes(
            "infinity",
            behind(line("how", "inf", 300)),
            &["line 3 has a value that is not finite"],
        ),
        bytes(
            "infinity by overflow",
            behind(line("how", "1e999", 300)),
            &["line 3 has a value that is not finite"],
        ),
        bytes(
            "absurd size: 8192 values to a word",
            line("is", "1", 8192),
            &["vectors of 8192 values, but WORD_EMBED_SIZE is 300"],
        ),
        bytes(
            "absurd size: a million values",
            line("is", "1", 500_000),
            &["line 1 has"],
        ),
        bytes(
            "absurd size: a line of 100 MB",
            vec![b'x'; 100 << 20],
            &["line 1 is longer than"],
        ),
        bytes(
            "gzip cut short",
            {
                let gz = gz(sound.as_bytes());
                gz[..gz.len() / 2].to_vec()
            },
            &["line"],
        ),
        bytes(
            "gzip bomb",
            gz_bomb(sound.as_bytes()),
            &["line 3 is longer than"],
        ),
        bytes(
            "zip cut short",
            {
                let zip = zip(&[("glove.txt", sound.as_bytes())]);
                zip[..zip.len() / 2].to_vec()
            },
            &["zip"],
        ),
        bytes(
            "missing text in a zip",
            zip(&[("a.md", b"x")]),
            &["the archive has no vectors"],
        ),
        bytes(
            "zip bomb",
            zip(&[("glove.txt", &vec![b'x'; 200 << 20])]),
            &["line 1 is longer than"],
        ),
    ];
    table.extend(zips_of_too_many(&["zip"]));
    check(
        &world,
        "GloVe text",
        "glove.txt",
        &flags("--GLOVE_PATH=WORLD/glove.txt"),
        table,
    );
}
