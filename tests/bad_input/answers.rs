//! The answer dictionary, and the answers that are to be scored.

use super::forge::*;
use super::words::edit;
use super::{bytes, check, cut, world};
use serde_json::json;

const DICTIONARY: &str = "datasets/vqa/answer_dict.json";

#[test]
fn answer_dictionary() {
    let rows = vec![
        bytes("empty", "", &["not valid JSON: it is empty"]),
        cut(&["not valid JSON", "line 1 column"]),
        bytes(
            "wrong type: a mapping",
            "{\"yes\": 0}",
            &["an object where a list of two objects", "line 1 column"],
        ),
        bytes(
            "wrong type: an index is text",
            "[{\"a\": \"x\"}, {\"0\": \"a\"}]",
            &[
                "the text \"x\" where a whole number is expected",
                "line 1 column",
            ],
        ),
        bytes(
            "wrong shape: one half",
            "[{\"a\": 0}]",
            &["a list of two objects", "line 1 column"],
        ),
        bytes(
            "wrong shape: three parts",
            "[{\"a\": 0}, {\"0\": \"a\"}, {}]",
            &["line 1 column"],
        ),
        bytes(
            "wrong shape: halves that disagree",
            "[{\"a\": 0, \"b\": 1}, {\"0\": \"b\", \"1\": \"a\"}]",
            &["index 0 belongs to \"a\""],
        ),
        bytes("NaN", "[{\"a\": NaN}, {}]", &["line 1 column"]),
        bytes("infinity", "[{\"a\": 1e999}, {}]", &["line 1 column"]),
        bytes(
            "duplicate answer",
            "[{\"a\": 0, \"a\": 1}, {\"0\": \"a\", \"1\": \"a\"}]",
            &["an index for 1 answers"],
        ),
        bytes(
            "duplicate index",
            "[{\"a\": 0, \"b\": 0}, {\"0\": \"a\", \"1\": \"b\"}]",
            &["\"b\" has index 0; 1 is expected"],
        ),
        bytes(
            "missing index",
            "[{\"a\": 0, \"b\": 2}, {\"0\": \"a\", \"2\": \"b\"}]",
            &["\"b\" has index 2; 1 is expected"],
        ),
        bytes("missing: every answer", "[{}, {}]", &["it has no answer"]),
        bytes(
            "negative index",
            "[{\"a\": -1}, {\"-1\": \"a\"}]",
            &["has index"],
        ),
        bytes(
            "absurd size: index 10^15",
            "[{\"a\": 1000000000000000}, {\"1000000000000000\": \"a\"}]",
            &["has index"],
        ),
        bytes(
            "deeply nested",
            nested("[", "", "]", 1_000_000),
            &["line 1 column"],
        ),
    ];
    let flags = ["--RUN=train", "--SPLIT=train", "--VERSION=v"];
    check(&world(), "answer dictionary", DICTIONARY, &flags, rows);
}

#[test]
fn result_file() {
    let world = world();
    world.succeed(&[
        "--RUN=val",
        "--CKPT_V=sound",
        &format!("--CKPT_PATH={}/sound.pkl", world.root.display()),
    ]);
    let results = world.path("results/cache");
    let file = std::fs::read_dir(results)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::rename(file, world.root.join("answers.json")).unwrap();
    let pair = |pair: &str| format!("[{pair}]").into_bytes();
    let rows = vec![
        bytes("empty", "", &["not valid JSON: it is empty"]),
        cut(&["not valid JSON", "line 1 column"]),
        bytes(
            "wrong type: a mapping",
            "{\"yes\": 0}",
            &["an object where a list is expected", "line 1 column"],
        ),
        bytes(
            "wrong type: an answer is a truth value",
            pair(r#"{"question_id": 1, "answer": true}"#),
            &["true where a text is expected", "line 1 column"],
        ),
        bytes(
            "wrong type: an id is a fraction",
            pair(r#"{"question_id": 1.5, "answer": "a"}"#),
            &["1.5 where a whole number is expected", "line 1 column"],
        ),
        bytes(
            "wrong shape: numbers",
            pair("1, 2"),
            &["an object with question_id", "line 1 column"],
        ),
        bytes(
            "NaN",
            pair(r#"{"question_id": NaN, "answer": "a"}"#),
            &["line 1 column"],
        ),
        bytes(
            "infinity",
            pair(r#"{"question_id": -1e999, "answer": "a"}"#),
            &["line 1 column"],
        ),
        edit(
            "duplicate id",
            |json| json[1]["question_id"] = json[0]["question_id"].clone(),
            &["is answered twice", "line 1 column"],
        ),
        bytes(
            "missing id",
            pair(r#"{"answer": "a"}"#),
            &["has no \"question_id\"", "line 1 column"],
        ),
        bytes(
            "missing answer",
            pair(r#"{"question_id": 1}"#),
            &["question 1 has no \"answer\"", "line 1 column"],
        ),
        edit(
            "missing question",
            |json| drop(json.as_array_mut().unwrap().pop()),
            &["1 missing (226005)", "val2014_annotations"],
        ),
        edit(
            "an answer without question",
            |json| json[0]["question_id"] = json!(5),
            &["1 not annotated (5)", "val2014_annotations"],
        ),
        bytes(
            "absurd size: id 10^30",
            pair(r#"{"question_id": 1000000000000000000000000000000, "answer": "a"}"#),
            &["line 1 column"],
        ),
        bytes(
            "deeply nested",
            nested("[", "", "]", 1_000_000),
            &["line 1 column"],
        ),
    ];
    check(
        &world,
        "result file",
        "answers.json",
        &["--RUN=score", "--RESULT_FILE=WORLD/answers.json"],
        rows,
    );
}
