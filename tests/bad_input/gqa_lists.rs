//! GQA: `dicts.json`, choices, answers to score.

use super::forge::*;
use super::gqa::{flags, lacking, set, world};
use super::words::edit;
use super::{absent, bytes, check, cut, row};
use crate::common::World;
use serde_json::{Value, json};

const DICTS: &str = "datasets/gqa/dicts.json";

#[test]
fn dicts() {
    let rows = vec![
        bytes("empty", "", &["is not valid JSON: it is empty"]),
        cut(&["is not valid JSON: it ends too early"]),
        bytes(
            "wrong type: an object",
            "{}",
            &["it has an object where a list of three objects and a number: answers to"],
        ),
        bytes(
            "wrong type: not UTF-8",
            *b"[{\"\xff\": 1}]",
            &["is not UTF-8 at byte 3"],
        ),
        edit(
            "wrong shape: three parts",
            |json| drop(json.as_array_mut().unwrap().pop()),
            &["it has 3 parts where a list of three objects and a number: answers to"],
        ),
        edit(
            "wrong shape: five parts",
            |json| json.as_array_mut().unwrap().push(json!({})),
            &["is not valid JSON: there is more behind the end"],
        ),
        bytes(
            "wrong shape: answers alone",
            "[{\"a\": 0}, {\"0\": \"a\"}]",
            &["it has 2 parts where a list of three objects and a number: answers to"],
        ),
        edit(
            "wrong shape: halves that disagree",
            |json| json[1]["0"] = json!("other"),
            &["index 0 belongs to \"car\" in one half and to \"other\" in the other"],
        ),
        edit(
            "wrong shape: an answer more in one half",
            |json| json[0]["other"] = json!(99),
            &["it has an index for 17 answers, but an answer for 16 indices"],
        ),
        edit(
            "missing answers",
            |json| {
                json[0] = json!({});
                json[1] = json!({});
            },
            &["it has no answer"],
        ),
        edit(
            "wrong type: an index is text",
            |json| json[0]["yes"] = json!("one"),
            &["it has the text \"one\" where a whole number is expected"],
        ),
        edit(
            "wrong type: a word's id is text",
            |json| json[2]["PAD"] = json!("one"),
            &["it has the text \"one\" where a whole number is expected"],
        ),
        edit(
            "wrong type: words are a list",
            |json| json[2] = json!(["PAD", "UNK", "CLS"]),
            &["it has a list where an object is expected"],
        ),
        edit(
            "missing id of a word",
            |json| json[2]["more"] = json!(5000),
            &["word \"trucks\" has id 48"],
        ),
        edit(
            "duplicate id of a word",
            |json| json[2]["more"] = json!(3),
            &["word \"more\" has id 3"],
        ),
        edit(
            "negative id of a word",
            |json| json[2]["more"] = json!(-1),
            &["word \"more\" has id -1"],
        ),
        edit(
            "absurd size: id of a word",
            |json| json[2]["more"] = json!(ABSURD),
            &["word \"trucks\" has id 48"],
        ),
        edit(
            "missing words",
            |json| json[2] = json!({}),
            &["the vocabulary does not begin with PAD and UNK"],
        ),
        edit(
            "missing PAD",
            |json| {
                let words = json[2].as_object_mut().unwrap();
                *words = words
                    .iter()
                    .map(|(word, id)| (word.replace("PAD", "pad"), id.clone()))
                    .collect();
            },
            &["the vocabulary does not begin with PAD and UNK"],
        ),
        edit(
            "missing UNK",
            |json| {
                let words = json[2].as_object_mut().unwrap();
                *words = words
                    .iter()
                    .map(|(word, id)| (word.replace("UNK", "unk"), id.clone()))
                    .collect();
            },
            &["the vocabulary does not begin with PAD and UNK"],
        ),
        edit(
            "longest question is 0",
            |json| json[3] = json!(0),
            &["its longest question has 0 words"],
        ),
        edit(
            "longest question is negative",
            |json| json[3] = json!(-3),
            &["its longest question has -3 words"],
        ),
        edit(
            "wrong type: longest question is text",
            |json| json[3] = json!("long"),
            &["it has the text \"long\" where a whole number is expected"],
        ),
        edit(
            "wrong type: longest question is a fraction",
            |json| json[3] = json!(29.5),
            &["it has the number 29.5 where a whole number is expected"],
        ),
        edit(
            "absurd size: longest question",
            |json| json[3] = json!(ABSURD),
            &["its longest question has 1000000000000000 words"],
        ),
        edit(
            "absurd size: longest question of a million",
            |json| json[3] = json!(1_000_000),
            &["its longest question has 1000000 words"],
        ),
        bytes(
            "NaN",
            "[{\"a\": 0}, {\"0\": \"a\"}, {\"PAD\": NaN}, 5]",
            &["it has null where a whole number is expected"],
        ),
        bytes(
            "infinity",
            "[{\"a\": 0}, {\"0\": \"a\"}, {\"PAD\": 0, \"UNK\": 1, \"CLS\": 2}, 1e999]",
            &["is not valid JSON: there is a number too large"],
        ),
        bytes(
            "deeply nested",
            nested("[", "", "]", 1_000_000),
            &["it has a list where an object is expected"],
        ),
    ];
    check(
        &world(),
        "GQA dicts.json",
        DICTS,
        &flags(&[
            "--RUN=train",
            "--SPLIT=train",
            "--VERSION=v",
            "--OVERWRITE=True",
        ]),
        rows,
    );
}

/// Files of val: all questions, their choices, and an answer to each.
const VAL: [&str; 3] = [
    "datasets/gqa/questions1.2/val_all_questions.json",
    "datasets/gqa/eval/val_choices.json",
    "answers.json",
];

const SCORE: [&str; 4] = [
    "--RUN=score",
    "--RESULT_FILE=WORLD/answers.json",
    "--QUESTIONS=WORLD/datasets/gqa/questions1.2/val_all_questions.json",
    "--ANNOTATIONS=WORLD/datasets/gqa/eval/val_choices.json",
];

/// A world with an answer to each question of val.
fn answered() -> World {
    let world = world();
    let questions: Value =
        serde_json::from_slice(&std::fs::read(world.root.join(VAL[0])).unwrap()).unwrap();
    let answers = questions.as_object().unwrap().keys();
    let answers: Vec<Value> = answers
        .map(|id| json!({"questionId": id, "prediction": "yes"}))
        .collect();
    std::fs::write(world.root.join(VAL[2]), json!(answers).to_string()).unwrap();
    world
}

#[test]
fn choices() {
    let rows = vec![
        bytes("empty", "", &["is not valid JSON: it is empty"]),
        cut(&["is not valid JSON: it ends too early"]),
        absent(
            "missing file",
            &["(nor the .zip it was published in beside it)"],
        ),
        bytes(
            "wrong type: a list",
            "[]",
            &["it has a list where an object with an entry for each id is"],
        ),
        bytes(
            "empty: no choices",
            "{}",
            &["has no choices for question 55272628"],
        ),
        row(
            "wrong type: questions in place of choices",
            |_| b"{\"1\": {\"question\": \"a\"}}".to_vec(),
            &["question 1 has no \"valid\""],
        ),
        lacking(
            "missing valid",
            "valid",
            &["question 55272628 has no \"valid\""],
        ),
        lacking(
            "missing plausible",
            "plausible",
            &["question 55272628 has no \"plausible\""],
        ),
        set(
            "wrong type: valid is text",
            "valid",
            json!("yes"),
            &["valid: it has the text \"yes\" where a list is expected"],
        ),
        set(
            "wrong type: a choice is a list",
            "plausible",
            json!([["yes"]]),
            &["plausible: it has a list where a text is expected"],
        ),
        row(
            "duplicate id",
            |sound| {
                let mut text = b"{\"1\": {\"valid\": [], \"plausible\": []}, \"1\": {\"valid\": [], \"plausible\": []}, ".to_vec();
                text.extend(&sound[1..]);
                text
            },
            &["question 1 is there twice"],
        ),
        edit(
            "missing question",
            |json| json.as_object_mut().unwrap().clear(),
            &["has no choices for question 55272628"],
        ),
        bytes(
            "NaN",
            "{\"1\": NaN}",
            &["it has null where choices: an object with valid and plausible is"],
        ),
        bytes(
            "deeply nested",
            nested("[", "", "]", 1_000_000),
            &["it has a list where an object with an entry for each id is"],
        ),
    ];
    check(&answered(), "GQA choices", VAL[1], &flags(&SCORE), rows);
}

#[test]
fn answers() {
    let rows = vec![
        bytes("empty", "", &["is not valid JSON: it is empty"]),
        cut(&["is not valid JSON: it ends too early"]),
        absent(
            "missing file",
            &["(nor the .zip it was published in beside it)"],
        ),
        bytes(
            "wrong type: an object",
            "{\"1\": \"yes\"}",
            &["it has an object where a list is expected"],
        ),
        bytes(
            "wrong type: answers of VQA",
            "[{\"question_id\": 1, \"answer\": \"yes\"}]",
            &["an answer has no \"questionId\""],
        ),
        bytes(
            "wrong type: an answer is a list",
            "[{\"questionId\": \"1\", \"prediction\": [\"yes\"]}]",
            &["prediction: it has a list where a text is expected"],
        ),
        bytes(
            "wrong shape: texts",
            "[\"yes\", \"no\"]",
            &["it has the text \"yes\" where an answer: an object with questionId and"],
        ),
        bytes(
            "wrong type: lines",
            "yes\nno\n",
            &["is not valid JSON: there is no value here"],
        ),
        edit(
            "duplicate id",
            |json| json[1] = json[0].clone(),
            &["question 55272628 is answered twice"],
        ),
        edit(
            "missing answer",
            |json| drop(json.as_array_mut().unwrap().pop()),
            &["have no answer, such as question 37414021"],
        ),
        edit(
            "an answer without question",
            |json| json[0]["questionId"] = json!("77"),
            &["have no answer, such as question 55272628"],
        ),
        edit(
            "missing prediction",
            |json| drop(json[0].as_object_mut().unwrap().shift_remove("prediction")),
            &["the entry of question 55272628 has no \"prediction\""],
        ),
        bytes(
            "empty: no answer",
            "[]",
            &["have no answer, such as question 55272628"],
        ),
        bytes(
            "NaN",
            "[{\"questionId\": NaN, \"prediction\": \"yes\"}]",
            &["an answer has no \"questionId\""],
        ),
        bytes(
            "absurd size: id 10^400",
            format!(
                "[{{\"questionId\": {}, \"prediction\": \"yes\"}}]",
                "9".repeat(400)
            ),
            &["is not valid JSON: there is a number too large"],
        ),
        bytes(
            "deeply nested",
            nested("[", "", "]", 1_000_000),
            &["it has a list where an answer: an object with questionId and prediction"],
        ),
    ];
    check(&answered(), "GQA answers", VAL[2], &flags(&SCORE), rows);
}

#[test]
fn questions_to_score() {
    let rows = vec![
        absent(
            "missing file",
            &["(nor the .zip it was published in beside it)"],
        ),
        lacking(
            "missing answer",
            "answer",
            &["question 55272628 has no \"answer\""],
        ),
        lacking(
            "missing types",
            "types",
            &["question 55272628 has no \"types\""],
        ),
        edit(
            "a question without annotation",
            |json| {
                drop(
                    json.as_object_mut()
                        .unwrap()
                        .insert("77".into(), json!({"question": "a", "imageId": "1"})),
                )
            },
            &["question 77 has no \"types\""],
        ),
        row(
            "wrong type: choices in place of questions",
            |_| b"{\"1\": {\"valid\": [\"a\"], \"plausible\": [\"a\"]}}".to_vec(),
            &["question 1 has no \"types\""],
        ),
    ];
    check(
        &answered(),
        "GQA questions to score",
        VAL[0],
        &flags(&SCORE),
        rows,
    );
}
