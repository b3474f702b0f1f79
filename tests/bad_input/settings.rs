//! Model files in YAML, and names that would lead out of their folders.

use super::forge::nested;
use super::{Row, bytes, check, world};
use crate::common;
use common::{failure, run};

fn key(what: &'static str, line: &str, says: &'static [&'static str]) -> Row {
    bytes(what, format!("LAYER: 2\n{line}\n"), says)
}

#[test]
fn yaml() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let again = format!("*a{}, ", i - 1).repeat(9);
        bomb += &format!("a{i}: &a{i} [{again}]\n");
    }
    // An empty file is sound: every key has its default.
    let rows = vec![
        bytes("truncated", "LAYER: {2", &["not valid YAML", "line 1"]),
        bytes("wrong type: not UTF-8", *b"LAYER: \xff", &["UTF-8"]),
        bytes(
            "wrong type: a list",
            "- LAYER\n- 2\n",
            &["expected lines of the form KEY: value"],
        ),
        bytes(
            "wrong type: text",
            "two layers",
            &["expected lines of the form KEY: value"],
        ),
        key(
            "wrong type: a word for a number",
            "HIDDEN_SIZE: wide",
            &["HIDDEN_SIZE = wide"],
        ),
        key(
            "wrong type: a negative number",
            "HIDDEN_SIZE: -5",
            &["HIDDEN_SIZE = -5"],
        ),
        key(
            "wrong shape: a list for a number",
            "HIDDEN_SIZE: [1, 2]",
            &["HIDDEN_SIZE"],
        ),
        key(
            "wrong shape: three betas",
            "OPT_BETAS: [0.9, 0.98, 0.99]",
            &["OPT_BETAS"],
        ),
        key("NaN", "LR_BASE: .nan", &["line 2 column 10", "non-finite"]),
        key(
            "infinity",
            "DROPOUT_R: .inf",
            &["line 2 column 12", "non-finite"],
        ),
        key("duplicate key", "LAYER: 3", &["LAYER", "line 2"]),
        key("unknown key", "HIDEN_SIZE: 64", &["HIDEN_SIZE"]),
        key(
            "absurd size: 10^15",
            "HIDDEN_SIZE: 1000000000000000",
            &["HIDDEN_SIZE = 1000000000000000"],
        ),
        bytes(
            "deeply nested",
            nested("[", "", "]", 100_000),
            &["not valid YAML"],
        ),
        bytes("aliases that multiply", bomb, &["not valid YAML"]),
        key(
            "a version out of its folder",
            "VERSION: ../../other",
            &["VERSION = \"../../other\""],
        ),
        key(
            "a version that is a path",
            "VERSION: /tmp/other",
            &["VERSION = \"/tmp/other\""],
        ),
        key(
            "a checkpoint's version out of its folder",
            "CKPT_VERSION: ..",
            &["CKPT_VERSION = \"..\""],
        ),
    ];
    check(
        &world(),
        "YAML",
        "small_model.yml",
        &["--RUN=train", "--SPLIT=train"],
        rows,
    );
}

#[test]
fn names_do_not_lead_out_of_their_folders() {
    let folder = tempfile::tempdir().unwrap();
    for (key, name) in [
        ("VERSION", "../v"),
        ("VERSION", "a/b"),
        ("CKPT_V", ".."),
        ("MODEL", "../../m"),
        ("VERSION", "a\nb"),
        ("VERSION", ""),
    ] {
        let message = failure(&run(
            folder.path(),
            &["--RUN=val", &format!("--{key}={name}")],
        ));
        assert!(
            message.contains(&format!("{name:?} names a folder")),
            "{key}: {message}"
        );
    }
}
