//! JSON: questions, annotations, the answer dictionary, answer files; and the zip archives that it comes in.

use super::forge::*;
use super::{Row, absent, bytes, check, cut, row, world, zips_of_too_many};
use serde_json::{Value, json};

const TEST: [&str; 2] = ["--RUN=test", "--CKPT_PATH=WORLD/sound.pkl"];

const VAL: [&str; 2] = ["--RUN=val", "--CKPT_PATH=WORLD/sound.pkl"];

const QUESTIONS: &str = "datasets/vqa/v2_OpenEnded_mscoco_test2015_questions.json";

const ANNOTATIONS: &str = "datasets/vqa/v2_mscoco_val2014_annotations.json";

/// The sound file with something changed in it.
pub(super) fn edit(
    what: &'static str,
    change: impl Fn(&mut Value) + 'static,
    says: &'static [&'static str],
) -> Row {
    let make = move |sound: &[u8]| {
        let mut value = serde_json::from_slice(sound).unwrap();
        change(&mut value);
        serde_json::to_vec(&value).unwrap()
    };
    row(what, make, says)
}

/// The first question's or annotation's `key` is `value`.
fn first(
    what: &'static str,
    list: &'static str,
    key: &'static str,
    value: Value,
    says: &'static [&'static str],
) -> Row {
    edit(what, move |json| json[list][0][key] = value.clone(), says)
}

/// The first question or annotation has no `key`.
fn lacking(
    what: &'static str,
    list: &'static str,
    key: &'static str,
    says: &'static [&'static str],
) -> Row {
    edit(
        what,
        move |json| drop(json[list][0].as_object_mut().unwrap().remove(key)),
        says,
    )
}

/// What can be wrong with any list of questions or annotations.
fn list_of(list: &'static str) -> Vec<Row> {
    let text = move |inside: &str| format!("{{\"{list}\": [{inside}]}}").into_bytes();
    vec![
        bytes("empty", "", &["not valid JSON: it is empty"]),
        cut(&["not valid JSON", "line 1 column"]),
        bytes(
            "wrong type: text",
            "questions",
            &["not valid JSON", "line 1 column 1"],
        ),
        bytes(
            "wrong type: not UTF-8",
            *b"{\"\xff\": 1}",
            &["not UTF-8 at byte 2"],
        ),
        bytes(
            "wrong type: a list",
            "[1, 2]",
            &["an object with question_id"],
        ),
        bytes("wrong type: no list in it", "{}", &["there is no list"]),
        bytes(
            "wrong shape: a number for the list",
            format!("{{\"{list}\": 5}}"),
            &["where a list is expected", "line 1 column"],
        ),
        bytes(
            "wrong shape: numbers in the list",
            text("5"),
            &["an object with question_id", "line 1 column"],
        ),
        bytes(
            "something behind it",
            [&text("")[..], b"x"].concat(),
            &["there is more behind the end"],
        ),
        bytes(
            "the list twice",
            format!("{{\"{list}\": [], \"{list}\": []}}"),
            &["a second list"],
        ),
        edit(
            "duplicate id",
            move |json| json[list][1]["question_id"] = json[list][0]["question_id"].clone(),
            &["twice", "line 1 column"],
        ),
        first(
            "wrong type: id is text",
            list,
            "question_id",
            json!("five"),
            &["the text \"five\" where a whole number", "line 1 column"],
        ),
        first(
            "wrong type: id is a fraction",
            list,
            "question_id",
            json!(1.5),
            &["1.5 where a whole number is expected"],
        ),
        first(
            "wrong type: image is negative",
            list,
            "image_id",
            json!(-1),
            &["the image_id -1, which is negative"],
        ),
        bytes("NaN", text("{\"question_id\": NaN}"), &["line 1 column"]),
        bytes(
            "infinity",
            text("{\"question_id\": 1e999}"),
            &["line 1 column"],
        ),
        bytes(
            "absurd size: an id of a thousand digits",
            text(&format!("{{\"question_id\": {}}}", "9".repeat(1000))),
            &["line 1 column"],
        ),
        lacking(
            "missing question id",
            list,
            "question_id",
            &["has no \"question_id\"", "line 1 column"],
        ),
        lacking(
            "missing image id",
            list,
            "image_id",
            &["has no \"image_id\"", "line 1 column"],
        ),
        bytes(
            "deeply nested",
            nested("[", "", "]", 1_000_000),
            &["line 1 column"],
        ),
        bytes(
            "deeply nested in the list",
            text(&"[".repeat(1_000_000)),
            &["line 1 column"],
        ),
        bytes(
            "deeply nested in what is not read",
            [
                b"{\"info\": ",
                &nested("{\"a\":", "1", "}", 1_000_000)[..],
                b"}",
            ]
            .concat(),
            &["line 1 column"],
        ),
    ]
}

#[test]
fn questions() {
    let mut rows = list_of("questions");
    rows.extend([
        absent("missing file", &["this run needs files that are not there"]),
        lacking(
            "missing text",
            "questions",
            "question",
            &["has no \"question\"", "line 1 column"],
        ),
        first(
            "wrong type: text is a number",
            "questions",
            "question",
            json!(true),
            &["where a text is expected", "line 1 column"],
        ),
        first(
            "a question without image",
            "questions",
            "image_id",
            json!(77),
            &["1 images of", "no features", "77"],
        ),
        first(
            "absurd size: image 10^15",
            "questions",
            "image_id",
            json!(ABSURD),
            &["no features", "1000000000000000"],
        ),
        edit(
            "missing: every question",
            |json| json["questions"] = json!([]),
            &["there is no question"],
        ),
    ]);
    check(&world(), "questions", QUESTIONS, &TEST, rows);
}

#[test]
fn annotations() {
    let mut rows = list_of("annotations");
    let answers = |count| json!(vec![json!({"answer": "x"}); count]);
    rows.extend([
        lacking(
            "missing answers",
            "annotations",
            "answers",
            &["has no \"answers\"", "line 1 column"],
        ),
        first(
            "wrong type: answers are text",
            "annotations",
            "answers",
            json!("yes"),
            &["line 1 column"],
        ),
        first(
            "wrong shape: no answer",
            "annotations",
            "answers",
            answers(0),
            &["has 0 answers, not 1 to 255"],
        ),
        first(
            "absurd size: 100,000 answers",
            "annotations",
            "answers",
            answers(100_000),
            &["has 100000 answers, not 1 to 255"],
        ),
        first(
            "missing text of an answer",
            "annotations",
            "answers",
            json!([{}]),
            &["has no \"answer\""],
        ),
        lacking(
            "missing answer type",
            "annotations",
            "answer_type",
            &["has no \"answer_type\""],
        ),
        lacking(
            "missing question type",
            "annotations",
            "question_type",
            &["has no \"question_type\""],
        ),
        first(
            "an annotation without question",
            "annotations",
            "question_id",
            json!(5),
            &["5", "val2014_questions"],
        ),
        edit(
            "a question without annotation",
            |json| drop(json["annotations"].as_array_mut().unwrap().pop()),
            &["not annotated", "val2014_questions"],
        ),
        edit(
            "missing: every annotation",
            |json| json["annotations"] = json!([]),
            &["has no annotation"],
        ),
    ]);
    check(&world(), "annotations of val", ANNOTATIONS, &VAL, rows);
}

#[test]
fn annotations_to_train_on() {
    let train = "datasets/vqa/v2_mscoco_train2014_annotations.json";
    let rows = vec![
        first(
            "an annotation without question",
            "annotations",
            "question_id",
            json!(5),
            &["annotates question 5", "train2014_questions"],
        ),
        first(
            "an annotation of another image",
            "annotations",
            "image_id",
            json!(77),
            &["1 images of", "77"],
        ),
        edit(
            "missing: every annotation",
            |json| json["annotations"] = json!([]),
            &["there is no question to train on"],
        ),
    ];
    check(
        &world(),
        "annotations to train on",
        train,
        &["--RUN=train", "--SPLIT=train", "--VERSION=v"],
        rows,
    );
    let val = vec![first(
        "an annotation without question",
        "annotations",
        "question_id",
        json!(5),
        &["5", "val2014_questions"],
    )];
    check(
        &world(),
        "annotations of val, in training",
        ANNOTATIONS,
        &["--RUN=train", "--SPLIT=train", "--VERSION=v"],
        val,
    );
}

#[test]
fn zip_of_json() {
    const NAME: &str = "v2_OpenEnded_mscoco_test2015_questions.json";
    let world = world();
    let plain = world.root.join(QUESTIONS);
    let sound = std::fs::read(&plain).unwrap();
    std::fs::remove_file(plain).unwrap();
    let archive = "datasets/vqa/v2_Questions_Test_mscoco.zip";
    std::fs::write(world.root.join(archive), zip(&[(NAME, &sound)])).unwrap();
    let bomb = zip(&[(NAME, &vec![b' '; 200 << 20])]);
    let mut rows = vec![
        bytes("empty", "", &["not valid JSON"]),
        cut(&["zip"]),
        bytes("wrong type: text", "PK\x03\x04 is how it begins", &["zip"]),
        bytes(
            "wrong member",
            zip(&[("other.json", &sound)]),
            &["has no member v2_OpenEnded_mscoco_test2015_questions.json"],
        ),
        bytes(
            "the member twice",
            zip(&[(NAME, &sound), (&format!("copy/{NAME}"), &sound)]),
            &["several .json members"],
        ),
        bytes(
            "an empty member",
            zip(&[(NAME, b"")]),
            &["not valid JSON", NAME],
        ),
        bytes(
            "a damaged member",
            with_directory_field(&zip(&[(NAME, &sound)]), 16, &[0; 4]),
            &[NAME],
        ),
        bytes(
            "an encrypted member",
            with_directory_field(&zip(&[(NAME, &sound)]), 8, &[1]),
            &[NAME],
        ),
        bytes(
            "a member compressed otherwise",
            with_directory_field(&zip(&[(NAME, &sound)]), 10, &[93]),
            &[NAME],
        ),
        bytes(
            "absurd size: a directory that claims 4 GB",
            with_size(&zip(&[(NAME, &sound)]), u32::MAX - 1),
            &[NAME],
        ),
        bytes("zip bomb", bomb.clone(), &["inflates to more than", NAME]),
        bytes(
            "zip bomb that claims little",
            with_size(&bomb, 1000),
            &[NAME, "longer than the 1000 bytes"],
        ),
    ];
    rows.extend(zips_of_too_many(&["zip"]));
    check(&world, "zip of JSON", archive, &TEST, rows);
}
