mod archives;

use super::*;
use crate::datasets::files::in_archive;
use crate::formats::bank::ImageKey;
use crate::formats::json::{Location, locate};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;

pub(crate) use crate::testing::shared;

pub(crate) use crate::testing::{write_bytes, write_json};

pub(crate) fn question_file(value: &Value) -> QuestionFile {
    QuestionFile::read(&write_json(value).1).unwrap()
}

pub(crate) fn annotation_file(value: &Value) -> AnnotationFile {
    let (_folder, path) = write_json(value);
    AnnotationFile::read(&path).unwrap()
}

fn questions_json() -> Value {
    json!({
        "info": {"deep": [[{"a": null}]]},
        "questions": [
            {"question_id": 5, "image_id": 42, "question": "Is this the dog's \"bed\"?", "extra": [1.5, true]},
            {"question": "Où est l'été?", "question_id": -6, "image_id": 42},
            {"question": "?!", "question_id": 7, "image_id": 43}
        ],
        "task_type": "Open-Ended"
    })
}

fn annotations_json() -> Value {
    json!({"annotations": [{
        "question_id": 5, "image_id": 42, "question_type": "is this", "answer_type": "yes/no",
        "multiple_choice_answer": "yes",
        "answers": [
            {"answer": "yes", "answer_id": 1, "answer_confidence": "yes"},
            {"answer": "no", "answer_confidence": "yes", "answer_id": 1},
            {"answer": "yes", "answer_id": 2, "answer_confidence": "yes"},
            {"answer": "yes"}
        ]
    }]})
}

/// The content of a question file.
fn seen(file: &QuestionFile) -> (Vec<Question>, Vec<String>, Vec<Vec<u32>>) {
    let words = (0..file.questions().len())
        .map(|i| file.words(i).to_vec())
        .collect();
    (
        file.questions().to_vec(),
        file.distinct_words().map(str::to_owned).collect(),
        words,
    )
}

#[test]
fn questions_are_read_in_order_with_their_words_numbered_by_first_appearance() {
    let file = question_file(&questions_json());
    let (questions, distinct, words) = seen(&file);
    assert_eq!(
        questions[1],
        Question {
            question_id: -6,
            image_id: 42
        }
    );
    assert_eq!(
        distinct,
        ["is", "this", "the", "dogs", "bed", "où", "est", "lété"]
    );
    assert_eq!(words, [vec![0, 1, 2, 3, 4], vec![5, 6, 7], vec![]]);
    assert_eq!((file.position(-6), file.position(6)), (Some(1), None));
}

#[test]
fn annotations_keep_the_answers_and_number_those_that_agree_in_all_but_the_text() {
    let file = annotation_file(&annotations_json());
    let annotation = file.annotations()[0];
    assert_eq!((annotation.question_id, annotation.image_id), (5, 42));
    assert_eq!(
        annotation.answer_type.map(|number| file.string(number)),
        Some("yes/no")
    );
    let texts: Vec<_> = file
        .answers(0)
        .iter()
        .map(|number| file.string(*number))
        .collect();
    assert_eq!(texts, ["yes", "no", "yes", "yes"]);
    assert_eq!(file.answer_kinds(0), [0, 0, 2, 3]);
}

/// An archive of (member, text).
fn zipped(members: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in members {
        archive
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Replaces the value at a JSON pointer, or removes it when there is no new one.
fn changed(mut value: Value, pointer: &str, new: Option<Value>) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match (value.pointer_mut(parent).unwrap(), new) {
        (Value::Object(map), Some(new)) => drop(map.insert(key.to_owned(), new)),
        (Value::Object(map), None) => drop(map.shift_remove(key).unwrap()),
        (Value::Array(list), Some(new)) => list[key.parse::<usize>().unwrap()] = new,
        _ => unreachable!(),
    }
    value
}

#[test]
fn files_are_read_as_other_programs_write_them() {
    let list = questions_json()["questions"].clone();
    let expected = question_file(&questions_json());
    let lines: Vec<String> = list
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    let mut as_text = list.clone();
    for question in as_text.as_array_mut().unwrap() {
        question["question_id"] = question["question_id"].to_string().into();
        question["image_id"] = format!("{}", question["image_id"]).into();
    }
    let whole = questions_json().to_string();
    for text in [
        format!("\u{feff}{whole}"),
        list.to_string(),
        lines.join("\n"),
        lines.join("\r\n\n"),
        as_text.to_string(),
        whole.replacen('{', r#"{"info": [NaN, -Infinity], "note": "\ud83d", "#, 1),
        whole
            .replace(
                "\"question_id\":",
                "\"question_id\":\"nobody\",\"question_id\":",
            )
            .replace("\"nobody\"", "0"),
    ] {
        let (_folder, path) = write_bytes("file.json", text.as_bytes());
        let file = QuestionFile::read(&path).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        assert_eq!(file.questions(), expected.questions(), "{text}");
        assert!(file.distinct_words().eq(expected.distinct_words()));
    }
    let (_folder, path) = write_bytes("file.json", br#"[{"id": 1, "qas": [{"question": "a"}]}]"#);
    let message = format!("{:#}", QuestionFile::read(&path).err().unwrap());
    assert!(message.contains("Visual Genome publishes"), "{message}");
}

#[test]
fn an_error_in_a_question_file_names_file_place_and_question() {
    let cases = [
        ("/questions", None, "there is no list \"questions\""),
        (
            "/questions",
            Some(json!({})),
            "it has an object where a list is expected",
        ),
        (
            "/questions/1/question_id",
            None,
            "a question has no \"question_id\"",
        ),
        (
            "/questions/1/question_id",
            Some(json!("06")),
            "the id \"06\" begins with a zero",
        ),
        (
            "/questions/1/image_id",
            None,
            "question -6 has no \"image_id\"",
        ),
        (
            "/questions/1/image_id",
            Some(json!(-1)),
            "question -6 has the image_id -1, which is negative",
        ),
        (
            "/questions/1/question",
            None,
            "question -6 has no \"question\"",
        ),
        (
            "/questions/1/question",
            Some(json!(["a"])),
            "question: it has a list where a text is expected",
        ),
        (
            "/questions/1/question_id",
            Some(json!(5)),
            "question 5 is there twice",
        ),
    ];
    for (pointer, new, reason) in cases {
        let (_folder, path) = write_json(&changed(questions_json(), pointer, new));
        let message = format!("{:#}", QuestionFile::read(&path).err().unwrap());
        let place = message.contains("at line 1 column") && message.contains("file.json");
        assert!(place && message.contains(reason), "{reason}: {message}");
    }
    let whole = [
        ("", "not valid JSON: it is empty"),
        ("1", "where an object with a list \"questions\" is expected"),
        ("{\"questions\": []} x", "there is more behind the end"),
    ];
    for (text, reason) in whole {
        let (_folder, path) = write_bytes("file.json", text.as_bytes());
        let message = format!("{:#}", QuestionFile::read(&path).err().unwrap());
        assert!(
            message.contains(reason) && message.contains("file.json"),
            "{reason}: {message}"
        );
    }
}

#[test]
fn an_error_in_an_annotation_file_names_file_place_and_question() {
    let cases = [
        (
            "/annotations/0/question_id",
            None,
            "an annotation has no \"question_id\"",
        ),
        (
            "/annotations/0/image_id",
            None,
            "question 5 has no \"image_id\"",
        ),
        (
            "/annotations/0/answers",
            None,
            "the annotation of question 5 has no \"answers\"",
        ),
        (
            "/annotations/0/answers",
            Some(json!([])),
            "question 5 has 0 answers, not 1 to 255",
        ),
        (
            "/annotations/0/answers",
            Some(json!(vec![json!({"answer": "x"}); 256])),
            "question 5 has 256 answers",
        ),
        (
            "/annotations/0/answers/2/answer",
            None,
            "the annotation of question 5 has no \"answer\"",
        ),
        (
            "/annotations/0/answers/2/answer",
            Some(json!(false)),
            "it has false where a text is expected",
        ),
        (
            "/annotations/0/answers/2",
            Some(json!("yes")),
            "it has the text \"yes\" where an object with an \"answer\" is expected",
        ),
    ];
    for (pointer, new, reason) in cases {
        let (_folder, path) = write_json(&changed(annotations_json(), pointer, new));
        let message = format!("{:#}", AnnotationFile::read(&path).err().unwrap());
        let place = message.contains("at line 1 column") && message.contains("file.json");
        assert!(place && message.contains(reason), "{reason}: {message}");
    }
    let one = annotations_json()["annotations"][0].clone();
    let (_folder, path) = write_json(&json!({"annotations": [one.clone(), one]}));
    let message = format!("{:#}", AnnotationFile::read(&path).err().unwrap());
    assert!(
        message.contains("question 5 is annotated twice"),
        "{message}"
    );
}

#[test]
fn values_that_are_not_read_may_be_nested_deeply() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let text = format!(
        r#"{{"info": {deep}, "annotations": [{{"question_id": 1, "image_id": 1, "answers": [{{"answer": "a", "x": {deep}}}]}}]}}"#
    );
    let (_folder, path) = write_bytes("file.json", text.as_bytes());
    assert_eq!(AnnotationFile::read(&path).unwrap().annotations().len(), 1);
}

#[test]
fn files_are_read_in_parallel_and_an_error_names_its_file() {
    let (folder, questions) = write_json(&questions_json());
    let annotations = folder.path().join("annotations.json");
    fs::write(&annotations, annotations_json().to_string()).unwrap();
    let (q, a) = read_all(&[&questions, &questions], &[&annotations], Form::VQA2).unwrap();
    assert_eq!((q.len(), a.len(), a[0].annotations().len()), (2, 1, 1));
    fs::write(&annotations, "{").unwrap();
    let message = format!(
        "{:#}",
        read_all(&[&questions], &[&annotations], Form::VQA2)
            .err()
            .unwrap()
    );
    assert!(
        message.contains("annotations.json is not valid JSON"),
        "{message}"
    );
}

proptest! {
    #[test]
    fn questions_survive_a_round_trip(texts in prop::collection::vec(r"\PC{0,30}", 0..8)) {
        let entry = |(id, text): (i64, &String)| json!({"question_id": id, "image_id": id + 1, "question": text});
        let file = question_file(&json!({"questions": (0..).zip(&texts).map(entry).collect::<Vec<_>>()}));
        let distinct: Vec<_> = file.distinct_words().collect();
        for (i, text) in texts.iter().enumerate() {
            let words: Vec<_> = file.words(i).iter().map(|word| distinct[*word as usize]).collect();
            prop_assert_eq!(words, crate::text::words(text));
        }
    }

    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        for text in [questions_json().to_string().into_bytes(), zipped(&[("a.json", &annotations_json().to_string())])] {
            let mut bytes = text;
            let place = at.index(bytes.len());
            bytes[place] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            let (_folder, path) = write_bytes("file.json", &bytes);
            for form in [&[Form::VQA2][..], &Form::DESCRIBED].concat() {
                let (questions, annotations) = (QuestionFile::read_as(&path, form), AnnotationFile::read_as(&path, form));
                for error in [questions.err(), annotations.err()].into_iter().flatten() {
                    let message = format!("{error:#}");
                    prop_assert!(message.contains("file.json"));
                }
            }
        }
    }
}
