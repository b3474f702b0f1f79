//! CLEVR: questions, grids, answers to score.

use super::forge::*;
use super::words::edit;
use super::worlds::{CLEVR, MCAN, untrained, world_of};
use super::{Row, absent, bytes, check, cut};
use crate::common::World;
use serde_json::{Value, json};

const VAL: &str = "datasets/clevr/questions/CLEVR_val_questions.json";

fn world() -> World {
    world_of("clevr", &CLEVR, MCAN)
}

/// The flags of a run on the world.
fn flags(more: &[&'static str]) -> Vec<&'static str> {
    [&CLEVR[..], more].concat()
}

/// The first question's `key` is `value`.
fn set(what: &'static str, key: &'static str, value: Value, says: &'static [&'static str]) -> Row {
    edit(
        what,
        move |json| json["questions"][0][key] = value.clone(),
        says,
    )
}

/// The first question has no `key`.
fn lacking(what: &'static str, key: &'static str, says: &'static [&'static str]) -> Row {
    let remove =
        move |json: &mut Value| drop(json["questions"][0].as_object_mut().unwrap().remove(key));
    edit(what, remove, says)
}

#[test]
fn questions() {
    let text = |inside: &str| format!("{{\"questions\": [{inside}]}}");
    let rows = vec![
        bytes("empty", "", &["is not valid JSON: it is empty"]),
        cut(&["is not valid JSON: it ends too early"]),
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
        bytes(
            "wrong type: no list in it",
            "{}",
            &["there is no list \"questions\""],
        ),
        bytes(
            "wrong type: questions are an object",
            "{\"questions\": {}}",
            &["it has an object where a list is expected"],
        ),
        bytes(
            "wrong type: questions are text",
            "{\"questions\": \"a\"}",
            &["it has the text \"a\" where a list is expected"],
        ),
        bytes(
            "wrong shape: numbers in the list",
            text("5"),
            &["it has the number 5 where a question: an object with image_index and"],
        ),
        bytes(
            "empty list",
            text(""),
            &["has no question, so there is nothing to evaluate"],
        ),
        bytes(
            "the list twice",
            "{\"questions\": [], \"questions\": []}",
            &["a second list \"questions\""],
        ),
        bytes(
            "something behind it",
            "{\"questions\": []} x",
            &["is not valid JSON: there is more behind the end"],
        ),
        lacking(
            "missing image_index",
            "image_index",
            &["question 0 has no \"image_index\""],
        ),
        set(
            "wrong type: image_index is text",
            "image_index",
            json!("one"),
            &["image_index: it has the text \"one\" where a whole number is expected"],
        ),
        set(
            "wrong type: image_index is a fraction",
            "image_index",
            json!(1.5),
            &["image_index: it has the number 1.5 where a whole number is expected"],
        ),
        set(
            "wrong type: image_index is a list",
            "image_index",
            json!([1]),
            &["image_index: it has a list where a whole number is expected"],
        ),
        set(
            "negative image_index",
            "image_index",
            json!(-1),
            &["question 0 has the image_index -1"],
        ),
        set(
            "a question without image",
            "image_index",
            json!(77),
            &["have no features in /datasets/clevr_extract/val (first: val/77 of"],
        ),
        set(
            "absurd size: image_index of 33 bits",
            "image_index",
            json!(1u64 << 32),
            &["question 0 has the image_index 4294967296"],
        ),
        bytes(
            "absurd size: image_index beyond 64 bits",
            text("{\"image_index\": 99999999999999999999, \"question\": \"a\"}"),
            &["image_index: it has the number 1e+20 where a whole number is expected"],
        ),
        bytes(
            "absurd size: image_index of a thousand digits",
            text(&format!(
                "{{\"image_index\": {}, \"question\": \"a\"}}",
                "9".repeat(1000)
            )),
            &["is not valid JSON: there is a number too large"],
        ),
        lacking(
            "missing question",
            "question",
            &["question 0 has no \"question\""],
        ),
        set(
            "wrong type: question is a list",
            "question",
            json!(["a"]),
            &["question: it has a list where a text is expected"],
        ),
        lacking(
            "missing answer",
            "answer",
            &["question 0 has no \"answer\""],
        ),
        set(
            "wrong type: answer is true",
            "answer",
            json!(true),
            &["answer: it has true where a text is expected"],
        ),
        lacking(
            "missing program",
            "program",
            &["question 0 has no \"program\""],
        ),
        set(
            "missing program: an empty one",
            "program",
            json!([]),
            &["question 0 has no \"program\""],
        ),
        set(
            "wrong type: program is text",
            "program",
            json!("scene"),
            &["program: it has the text \"scene\" where a list is expected"],
        ),
        set(
            "wrong type: a step is text",
            "program",
            json!(["scene"]),
            &["program: it has the text \"scene\" where a step of a program: an object"],
        ),
        set(
            "missing function of the last step",
            "program",
            json!([{"function": "scene"}, {"inputs": []}]),
            &["question 0 has no \"function\""],
        ),
        set(
            "wrong type: function is a list",
            "program",
            json!([{"function": ["count"]}]),
            &["function: it has a list where a text is expected"],
        ),
        set(
            "unknown function",
            "program",
            json!([{"function": "juggle"}]),
            &["the program of question 0 ends with \"juggle\", which belongs to no"],
        ),
        bytes(
            "NaN",
            text("{\"image_index\": NaN}"),
            &["question 0 has no \"image_index\""],
        ),
        bytes(
            "infinity",
            text("{\"image_index\": 1e999}"),
            &["is not valid JSON: there is a number too large"],
        ),
        bytes(
            "deeply nested",
            nested("[", "", "]", 1_000_000),
            &["it has a list where a question: an object with image_index and question"],
        ),
        bytes(
            "deeply nested in what is not read",
            [
                b"{\"info\": ",
                &nested("{\"a\":", "1", "}", 1_000_000)[..],
                b"}",
            ]
            .concat(),
            &["there is no list \"questions\""],
        ),
        set(
            "split of another name",
            "split",
            json!("train"),
            &["question 0 is of the split train, and so is its image"],
        ),
    ];
    check(
        &world(),
        "CLEVR questions of val",
        VAL,
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
            &["question 0 has no \"answer\""],
        ),
        set(
            "a question without image",
            "image_index",
            json!(77),
            &["have no features in /datasets/clevr_extract/train (first: train/77 of"],
        ),
        edit(
            "fewer questions than a batch",
            |json| json["questions"].as_array_mut().unwrap().truncate(3),
            &["do not fill one batch of 16"],
        ),
        edit(
            "missing: every answer",
            |json| {
                for question in json["questions"].as_array_mut().unwrap() {
                    drop(question.as_object_mut().unwrap().remove("answer"));
                }
            },
            &["question 0 has no \"answer\""],
        ),
        set(
            "missing answer of val",
            "answer",
            json!(null),
            &["question 0 has no \"answer\""],
        )
        .of(VAL),
    ];
    let file = "datasets/clevr/questions/CLEVR_train_questions.json";
    check(
        &untrained("clevr", MCAN),
        "CLEVR questions to train on",
        file,
        &flags(&[
            "--RUN=train",
            "--VERSION=v",
            "--OVERWRITE=True",
            "--MAX_EPOCH=1",
        ]),
        rows,
    );
}

#[test]
fn grid() {
    let grid = |cells: usize, width: usize, value: f32| {
        let mut values = floats(1.0, cells * width);
        if let Some(last) = values.len().checked_sub(4) {
            values[last..].copy_from_slice(&value.to_le_bytes());
        }
        zip(&[(
            "x.npy",
            &npy("<f4", &format!("({cells}, {width})"), &values),
        )])
    };
    let rows = vec![
        bytes("empty", "", &["the file is empty"]),
        cut(&["it is not a zip file, or is cut short (no end of its zip directory)"]),
        absent(
            "missing",
            &["have no features in /datasets/clevr_extract/val (first: val/1 of"],
        ),
        bytes(
            "wrong type: no x in it",
            zip(&[("y.npy", b"")]),
            &["it has no array x, feat, features or z"],
        ),
        bytes(
            "wrong shape: narrow",
            grid(16, 100, 1.0),
            &["array x: its shape is [16, 100] and its dtype float32, but 1024 values"],
        ),
        bytes(
            "wrong shape: fewer cells",
            grid(15, 1024, 1.0),
            &["has fewer cells than 16, which FEAT_SIZE expects (GRID_FEAT_SIZE: [16,"],
        ),
        bytes(
            "wrong shape: more cells",
            grid(196, 1024, 1.0),
            &["has more cells than 16, which FEAT_SIZE expects (GRID_FEAT_SIZE: [16,"],
        ),
        bytes("NaN", grid(16, 1024, f32::NAN), &["are not finite"]),
        bytes(
            "infinity",
            grid(16, 1024, f32::INFINITY),
            &["are not finite"],
        ),
        bytes(
            "missing image in its name",
            grid(16, 1024, 1.0),
            &["has no image id in its name"],
        )
        .of("datasets/clevr_extract/val/cat.npz"),
        bytes(
            "duplicate image",
            grid(16, 1024, 1.0),
            &["/datasets/clevr_extract/val has two files for image 1: \"1.npz\" and"],
        )
        .of("datasets/clevr_extract/val/000001.npz"),
        bytes(
            "absurd size: an image of 33 bits",
            grid(16, 1024, 1.0),
            &["has no image id in its name"],
        )
        .of("datasets/clevr_extract/val/4294967296.npz"),
    ];
    check(
        &world(),
        "CLEVR grid",
        "datasets/clevr_extract/val/1.npz",
        &flags(&["--RUN=val", "--CKPT_PATH=WORLD/sound.pkl"]),
        rows,
    );
}

#[test]
fn answers() {
    let world = world();
    std::fs::write(world.root.join("answers.txt"), "yes\n".repeat(30)).unwrap();
    let rows = vec![
        bytes("empty", "", &["has 30 questions"]),
        absent("missing file", &["No such file or directory (os error 2)"]),
        bytes(
            "wrong type: not UTF-8",
            *b"yes\n\xff\n",
            &["it is not UTF-8 text: invalid utf-8 sequence of 1 bytes from index 4"],
        ),
        bytes("missing answers", "yes\nno\n", &["has 30 questions"]),
        bytes(
            "answers without question",
            "yes\n".repeat(31),
            &["has 30 questions"],
        ),
        bytes(
            "wrong type: JSON",
            "[\"yes\", \"no\"]",
            &["has 30 questions"],
        ),
    ];
    check(
        &world,
        "CLEVR answers",
        "answers.txt",
        &flags(&["--RUN=score", "--RESULT_FILE=WORLD/answers.txt"]),
        rows,
    );
}
