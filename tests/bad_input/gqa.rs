//! GQA: questions to train on and to answer.

use super::forge::*;
use super::words::edit;
use super::worlds::{BOXES_AND_GRID, GQA, MCAN, world_of};
use super::{Row, absent, bytes, check, cut, row};
use crate::common::World;
use serde_json::{Map, Value, json};

const QUESTIONS: &str = "datasets/gqa/questions1.2/testdev_balanced_questions.json";
const TRAINED: &str = "datasets/gqa/questions1.2/train_balanced_questions.json";
const ASKED: &str = "datasets/gqa/questions1.2/submission_all_questions.json";

pub(super) fn world() -> World {
    world_of("gqa", &GQA, &format!("{MCAN}{BOXES_AND_GRID}"))
}

/// The flags of a run on the world.
pub(super) fn flags(more: &[&'static str]) -> Vec<&'static str> {
    [&GQA[..], more].concat()
}

/// Something changed in the first question.
fn first(
    what: &'static str,
    change: impl Fn(&mut Map<String, Value>) + 'static,
    says: &'static [&'static str],
) -> Row {
    edit(
        what,
        move |json| {
            let mut questions = json.as_object_mut().unwrap().values_mut();
            change(questions.next().unwrap().as_object_mut().unwrap());
        },
        says,
    )
}

/// The first question's `key` is `value`.
pub(super) fn set(
    what: &'static str,
    key: &'static str,
    value: Value,
    says: &'static [&'static str],
) -> Row {
    first(
        what,
        move |question| drop(question.insert(key.into(), value.clone())),
        says,
    )
}

/// The first question has no `key`.
pub(super) fn lacking(what: &'static str, key: &'static str, says: &'static [&'static str]) -> Row {
    first(what, move |question| drop(question.shift_remove(key)), says)
}

/// Utf-16 of a text.
fn utf16(text: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(text).unwrap();
    let units = [0xfeff].into_iter().chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

/// What can be wrong with any of GQA's question files.
fn any_questions() -> Vec<Row> {
    vec![
        bytes("empty", "", &["not valid JSON: it is empty"]),
        cut(&["not valid JSON", "line 1 column"]),
        absent("missing file", &["this run needs files that are not there"]),
        bytes(
            "wrong type: text",
            "questions",
            &["is not valid JSON: there is no value here"],
        ),
        bytes(
            "wrong type: not UTF-8",
            *b"{\"\xff\": 1}",
            &["is not UTF-8 at byte 2"],
        ),
        row(
            "wrong type: UTF-16",
            utf16,
            &["is not valid JSON: it is text in UTF-16"],
        ),
        bytes(
            "wrong type: a list",
            "[{\"question\": \"a\", \"imageId\": \"1\"}]",
            &["it has a list where an object with an entry for each id is"],
        ),
        bytes(
            "wrong type: a question is a number",
            "{\"1\": 5}",
            &["it has the number 5 where a question: an object with question and"],
        ),
        bytes(
            "wrong type: a question is a list",
            "{\"1\": [\"a\"]}",
            &["it has a list where a question: an object with question and imageId is"],
        ),
        bytes(
            "wrong type: a question is text",
            "{\"1\": \"a\"}",
            &["it has the text \"a\" where a question: an object with question and"],
        ),
        bytes(
            "empty: no question",
            "{}",
            &["there is no question to train on or to answer in"],
        ),
        bytes(
            "something behind it",
            "{} {}",
            &["is not valid JSON: there is more behind the end"],
        ),
        row(
            "duplicate id",
            |sound| {
                let mut text = b"{\"1\": {\"question\": \"a\", \"imageId\": \"1\"}, \"1\"".to_vec();
                let colon = sound.iter().position(|&byte| byte == b':').unwrap();
                text.extend(&sound[colon..]);
                text
            },
            &["question 1 is there twice"],
        ),
        lacking(
            "missing question",
            "question",
            &["question 67999818 has no \"question\""],
        ),
        set(
            "missing question: null",
            "question",
            json!(null),
            &["question 67999818 has no \"question\""],
        ),
        set(
            "wrong type: question is true",
            "question",
            json!(true),
            &["question: it has true where a text is expected"],
        ),
        lacking(
            "missing imageId",
            "imageId",
            &["question 67999818 has no \"imageId\""],
        ),
        set(
            "wrong type: imageId is a list",
            "imageId",
            json!(["n1"]),
            &["imageId: it has a list where a text is expected"],
        ),
        set(
            "a question without image",
            "imageId",
            json!("n77"),
            &["have no features in /datasets/gqa_extract/gqa-frcn (first: n77 of"],
        ),
        set(
            "an image out of its folder",
            "imageId",
            json!("../gqa-grid/n00001"),
            &["question 67999818 has the imageId \"../gqa-grid/n00001\", which cannot be"],
        ),
        set(
            "an image that is a path",
            "imageId",
            json!("/etc/passwd"),
            &["question 67999818 has the imageId \"/etc/passwd\", which cannot be the"],
        ),
        set(
            "empty imageId",
            "imageId",
            json!(""),
            &["question 67999818 has the imageId \"\", which cannot be the name of a file"],
        ),
        set(
            "absurd size: imageId of 10^6 letters",
            "imageId",
            json!("n".repeat(1_000_000)),
            &["question 67999818 has an imageId of 1000000 bytes, which is too long"],
        ),
        bytes(
            "absurd size: an imageId beyond 64 bits",
            format!(
                "{{\"1\": {{\"question\": \"a\", \"imageId\": {}}}}}",
                "9".repeat(400)
            ),
            &["is not valid JSON: there is a number too large"],
        ),
        bytes(
            "NaN",
            "{\"1\": {\"question\": \"a\", \"imageId\": NaN}}",
            &["question 1 has no \"imageId\""],
        ),
        bytes(
            "infinity",
            "{\"1\": {\"question\": \"a\", \"imageId\": 1e999}}",
            &["is not valid JSON: there is a number too large"],
        ),
        bytes(
            "deeply nested",
            nested("{\"a\":", "1", "}", 1_000_000),
            &["question a has no \"question\""],
        ),
        bytes(
            "deeply nested in what is not read",
            [
                b"{\"1\": {\"semanticStr\": ",
                &nested("[", "", "]", 1_000_000)[..],
                b"}}",
            ]
            .concat(),
            &["question 1 has no \"question\""],
        ),
    ]
}

#[test]
fn questions_to_answer() {
    check(
        &world(),
        "GQA questions",
        ASKED,
        &flags(&["--RUN=test", "--CKPT_PATH=WORLD/sound.pkl"]),
        any_questions(),
    );
}

#[test]
fn evaluated_questions() {
    let rows = vec![
        lacking(
            "missing answer",
            "answer",
            &["question 40363504 has no \"answer\""],
        ),
        set(
            "wrong type: answer is a list",
            "answer",
            json!(["yes"]),
            &["answer: it has a list where a text is expected"],
        ),
        lacking(
            "missing types",
            "types",
            &["question 40363504 has no \"types\""],
        ),
        set(
            "wrong type: types is text",
            "types",
            json!("query"),
            &["types: it has the text \"query\" where an object with structural,"],
        ),
        set(
            "missing structural type",
            "types",
            json!({"semantic": "a", "detailed": "b"}),
            &["question 40363504 has no \"types.structural\""],
        ),
        set(
            "wrong type: structural is a number in a list",
            "types",
            json!({"structural": [1]}),
            &["structural: it has a list where a text is expected"],
        ),
        lacking(
            "missing semantic",
            "semantic",
            &["question 40363504 has no \"semantic\""],
        ),
        set(
            "wrong type: semantic is text",
            "semantic",
            json!("select"),
            &["semantic: it has the text \"select\" where a list is expected"],
        ),
        set(
            "wrong type: a step is text",
            "semantic",
            json!(["select"]),
            &["semantic: it has the text \"select\" where a step: an object with"],
        ),
        set(
            "wrong type: groups is a list",
            "groups",
            json!(["a"]),
            &["groups: it has a list where an object with global is expected"],
        ),
        set(
            "wrong type: entailed is a number",
            "entailed",
            json!(5),
            &["entailed: it has the number 5 where a list is expected"],
        ),
        set(
            "wrong type: isBalanced is text",
            "isBalanced",
            json!("yes"),
            &["isBalanced: it has the text \"yes\" where a boolean is expected"],
        ),
        lacking(
            "missing isBalanced",
            "isBalanced",
            &["question 40363504 has no \"isBalanced\""],
        ),
        edit(
            "missing: every balanced question",
            |json| {
                for question in json.as_object_mut().unwrap().values_mut() {
                    question["isBalanced"] = json!(false);
                }
            },
            &["has no balanced question, so there is nothing to evaluate"],
        ),
    ];
    check(
        &world(),
        "GQA questions of val",
        QUESTIONS,
        &flags(&["--RUN=val", "--CKPT_PATH=WORLD/sound.pkl"]),
        rows,
    );
}

#[test]
fn questions_to_train_on() {
    let rows = vec![
        lacking(
            "missing answer",
            "answer",
            &["question 00000000 has no \"answer\""],
        ),
        set(
            "an answer that is not in the list",
            "answer",
            json!("flying saucer"),
            &["the model does not know the answer \"flying saucer\" of question 00000000"],
        ),
        set(
            "a question without image",
            "imageId",
            json!("n77"),
            &["have no features in /datasets/gqa_extract/gqa-frcn (first: n77 of"],
        ),
        bytes(
            "empty: no question",
            "{}",
            &["there is no question to train on or to answer in"],
        ),
        bytes(
            "fewer questions than a batch",
            "{\"1\": {\"question\": \"a\", \"imageId\": \"2300000\", \"answer\": \"yes\"}}",
            &["do not fill one batch of 16"],
        ),
    ];
    check(
        &world(),
        "GQA questions to train on",
        TRAINED,
        &flags(&[
            "--RUN=train",
            "--SPLIT=train",
            "--VERSION=v",
            "--OVERWRITE=True",
        ]),
        rows,
    );
}

#[test]
fn questions_in_a_folder() {
    let world = world();
    // The questions of train_all come in ten pieces in a folder.
    let elsewhere = format!("--SET=QUESTION_PATH={{train: {}}}", world.root.display());
    let flags = flags(&["--RUN=train", "--SPLIT=train", "--VERSION=v"]);
    let flags: Vec<String> = flags
        .iter()
        .map(|flag| flag.replace("WORLD", world.root.to_str().unwrap()))
        .collect();
    let mut line: Vec<&str> = flags.iter().map(String::as_str).collect();
    line.push(&elsewhere);
    let message = world.fail(&line);
    assert!(message.contains("is a folder, not a file"), "{message}");
}
