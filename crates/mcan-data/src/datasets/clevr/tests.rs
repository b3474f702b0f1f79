use super::*;
use crate::datasets::benchmark;
use crate::formats::bank::ImageKey;
use crate::testing::{shared, write_bytes, write_json};
use serde_json::{Value, json};
use std::fs;

const WORLD: &str = "golden/openvqa/world_clevr/data/clevr";

fn question(answer: &str, function: &str) -> Value {
    let program = [json!({"function": "scene"}), json!({"function": function})];
    json!({"image_index": 7, "question": "Is it red?", "answer": answer, "program": program})
}

fn file(questions: &[Value]) -> QuestionFile {
    QuestionFile::read(&write_json(&json!({"questions": questions})).1, &[]).unwrap()
}

fn golden() -> Option<Box<dyn QuestionFiles>> {
    let raw = shared(WORLD)?.join("raw");
    let split = |split: &Split| SplitFiles {
        split: split.name,
        questions: Some(raw.join(split.questions)),
        annotations: None,
    };
    Some(
        Clevr
            .read(&SPLITS.iter().map(split).collect::<Vec<_>>())
            .unwrap(),
    )
}

#[test]
fn the_answers_of_openvqa_have_the_scores_of_openvqa() {
    let Some(run) = shared("golden/openvqa/clevr_mcan_small") else {
        return;
    };
    let Some(mut files) = golden() else { return };
    let answers = read_answers(&run.join("results/cache/result_run_golden.txt")).unwrap();
    let numbered = (0..)
        .map(|number: i64| number.into())
        .zip(answers.iter().map(String::as_str));
    let scores = files
        .metric(Clevr.evaluated_split(), Measure::Official)
        .unwrap()
        .score(&numbered.collect::<Vec<_>>())
        .unwrap();
    let expected: Value =
        serde_json::from_slice(&fs::read(run.join("expected.json")).unwrap()).unwrap();
    let lines: Vec<&str> = expected["val"]["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    assert_eq!(scores.printed.lines().collect::<Vec<_>>(), lines);
    let logged = lines.join("\n");
    assert_eq!(scores.logged.replace(" :", ""), logged + "\n\n");
    assert!(scores.logged.starts_with(Clevr.log_start()));

    let questions = shared(WORLD)
        .unwrap()
        .join("raw/questions/CLEVR_val_questions.json");
    let file = run.join("results/cache/result_run_golden.txt");
    assert_eq!(
        Clevr
            .score(&file, &questions, None, Measure::Official)
            .unwrap(),
        scores.printed + "\n"
    );
}

#[test]
fn answer_files_come_back_byte_for_byte() {
    let Some(run) = shared("golden/openvqa/clevr_mcan_small/results") else {
        return;
    };
    for name in [
        "cache/result_run_golden.txt",
        "result_test/result_run_golden_epoch3.txt",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.txt");
        let answers = read_answers(&run.join(name)).unwrap();
        write_answers(&copy, answers.iter().map(String::as_str)).unwrap();
        assert!(
            fs::read(copy).unwrap() == fs::read(run.join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn the_golden_world_has_the_sizes_of_openvqa() {
    let Some(files) = golden() else { return };
    let splits = Clevr
        .vocabulary_splits()
        .iter()
        .filter_map(|split| files.words(split));
    let words = Vocabulary::new(Clevr.special_words(Convention::Reference), splits.flatten());
    let answers = files.count_answers(Clevr.answer_splits()).unwrap();
    let longest = files.longest_question().unwrap();
    let training = files
        .for_training(
            &["train"],
            &words,
            &answers,
            longest,
            LossKind::CrossEntropy,
        )
        .unwrap();
    assert_eq!(training.len(), 158);
    let val = files
        .for_answering(Clevr.evaluated_split(), &words, longest)
        .unwrap();
    assert_eq!(val.len(), 96);
    assert_eq!(val.image_id(0).to_string(), "val/0");
    let both = files
        .for_training(
            &["train", "val"],
            &words,
            &answers,
            longest,
            LossKind::CrossEntropy,
        )
        .unwrap();
    assert_eq!(
        both.distinct_images().len(),
        training.distinct_images().len() + val.distinct_images().len(),
        "image 0 of val is not image 0 of train"
    );
}

#[test]
fn the_grid_of_an_image_is_read() {
    use crate::data::features::FeatureStore;
    use crate::data::streams::Needs;
    use std::collections::BTreeMap;
    let (Some(files), Some(world)) = (golden(), shared(WORLD)) else {
        return;
    };
    let none = BTreeMap::new();
    let features = world.join("feats");
    let places = Places {
        dataset: None,
        features: Some(&features),
        question_files: &none,
        annotation_files: &none,
        feature_folders: &none,
    };
    let words = Vocabulary::new(&["PAD", "UNK"], []);
    let dataset = files
        .for_answering(Clevr.evaluated_split(), &words, 3)
        .unwrap();
    let needs = Needs {
        grid: true,
        ..Needs::default()
    };
    let place = |kind| places.feature_places(&Clevr, &[Clevr.evaluated_split()], kind);
    let sizes = StreamSizes {
        grid: Some((25, 24)),
        ..StreamSizes::default()
    };
    let streams = Clevr.streams(sizes);
    let store = FeatureStore::open(&dataset, &streams, needs, &place).unwrap();
    let grid = store.stream(StreamKind::Grid).unwrap();
    assert!(grid.missing().is_empty());
    let mut values = grid.no_values(0);
    assert_eq!(grid.append(0, &mut values, None).unwrap(), 25);
}

#[test]
fn only_question_types_that_occur_have_a_line() {
    let evaluator =
        Evaluator::new(&file(&[question("yes", "exist"), question("no", "exist")])).unwrap();
    let answers = [(1.into(), "yes"), (0.into(), "yes")];
    let scores = evaluator.score(&answers).unwrap();
    assert_eq!(scores.printed, "Overall 1 / 2 = 50.00\nExist 1 / 2 = 50.00");
    assert_eq!(
        scores.logged,
        "Overall : 1 / 2 = 50.00\nExist : 1 / 2 = 50.00\n\n"
    );
    for (answers, reason) in [
        (&answers[..1], "1 of the 2 questions"),
        (
            &[(0.into(), "a"), (0.into(), "a")][..],
            "question 0 is answered twice",
        ),
        (&[(2.into(), "a")][..], "has 2 questions"),
    ] {
        let message = evaluator.score(answers).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn an_error_in_a_question_file_names_file_and_question() {
    let cases = [
        (
            r#"{"questions": [{"question": "a"}]}"#,
            "question 0 has no \"image_index\"",
        ),
        (
            r#"{"questions": [{"image_index": 1}]}"#,
            "question 0 has no \"question\"",
        ),
        (
            r#"{"questions": [{"image_index": -1, "question": "a"}]}"#,
            "question 0 has the image_index -1",
        ),
        (
            r#"{"questions": [{"image_index": 1, "question": "a", "program": [{}]}]}"#,
            "no \"function\"",
        ),
        (r#"{"info": 1}"#, "questions"),
    ];
    for (text, reason) in cases {
        let (_folder, path) = write_bytes("mine.json", text.as_bytes());
        let message = format!("{:#}", QuestionFile::read(&path, &[]).err().unwrap());
        assert!(
            message.contains("mine.json") && message.contains(reason),
            "{reason}: {message}"
        );
    }
    let unanswered = json!({"image_index": 7, "question": "a"});
    for (question, reason) in [
        (unanswered, "no \"answer\""),
        (question("a", "scene"), "no question type"),
    ] {
        let message = Evaluator::new(&file(&[question]))
            .err()
            .unwrap()
            .to_string();
        assert!(
            message.contains("question 0") && message.contains(reason),
            "{message}"
        );
    }
    assert!(Evaluator::new(&file(&[])).is_err());
}

#[test]
fn an_answer_that_the_model_does_not_know_cannot_be_learned() {
    let files = Files(vec![("train", file(&[question("yes", "exist")]))]);
    let words = Vocabulary::new(&["PAD", "UNK"], []);
    let no = AnswerList::from_answers(vec!["no".into()]).unwrap();
    let message = files
        .for_training(&["train"], &words, &no, 9, LossKind::CrossEntropy)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("\"yes\"") && message.contains("question 0"),
        "{message}"
    );
    let training = crate::datasets::files::training(benchmark("clevr").unwrap(), "train+val+vg");
    let message = training.unwrap_err().to_string();
    assert!(
        message.contains("--SPLIT") && message.contains("train or train+val"),
        "{message}"
    );
}

#[test]
fn numbered_files_are_images_of_their_split() {
    let names = feature_files(Clevr.evaluated_split());
    let key = |name| names.key(name).map_err(|e| e.to_string());
    assert_eq!(key("12.npz"), Ok(Some(ImageKey::Number(12))));
    assert_eq!(key("mean.txt"), Ok(None));
    for wrong in ["val_12.npz", "mean.npz", "4294967296.npz"] {
        assert!(key(wrong).unwrap_err().contains(wrong), "{wrong}");
    }
    assert_eq!(
        names.image_id(&ImageKey::Number(12)),
        Some(Id::InSplit("val", 12).into())
    );
}
