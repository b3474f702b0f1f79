use super::*;
use crate::testing::shared;
use serde_json::{Value, json};
use std::fs;

/// A question with all that the metric reads; `changes` replace entries.
fn question(question: &str, answer: &str, changes: Value) -> Value {
    let mut raw = json!({
        "question": question,
        "imageId": "n1",
        "answer": answer,
        "isBalanced": true,
        "types": {"structural": "query", "semantic": "attr", "detailed": "directOf"},
        "semantic": [{"operation": "select", "argument": "man (2)"}, {"operation": "query", "argument": "name"}],
        "groups": {"global": "color", "local": "3"},
        "entailed": [],
    });
    if let (Value::Object(raw), Value::Object(changes)) = (&mut raw, changes) {
        raw.extend(changes);
    }
    raw
}

fn written(folder: &Path, value: &Value) -> std::path::PathBuf {
    let path = folder.join("file.json");
    fs::write(&path, value.to_string()).unwrap();
    path
}

fn file(value: &Value) -> Result<QuestionFile> {
    let folder = tempfile::tempdir().unwrap();
    QuestionFile::read(&written(folder.path(), value), true)
}

fn printed(evaluator: &Evaluator, answers: &[(&str, &str)]) -> String {
    let answers: Vec<(QuestionId, &str)> = answers
        .iter()
        .map(|(id, answer)| (QuestionId::from(*id), *answer))
        .collect();
    evaluator.all_scores(&answers).unwrap()
}

#[test]
fn ids_are_texts_and_keep_their_zeros() {
    let file = file(&json!({
        "07": question("What color is the man?", "t-shirt", json!({})),
        "7": question("Is it?", "no", json!({"types": {"structural": "verify", "semantic": "obj", "detailed": "exist"}})),
    }))
    .unwrap();
    assert_eq!(
        (file.position("07"), file.position("7")),
        (Some(0), Some(1))
    );
    assert_eq!(file.longest_question(), 5);
    let details = file.details(0).unwrap();
    assert_eq!(
        (details.steps, details.words),
        (1, 5),
        "the last step names what is asked for"
    );
    let files = Files(vec![("train", file)]);
    let answers = files.count_answers(&["train"]).unwrap();
    assert!(answers.answers().eq(["t shirt", "no"]), "{answers:?}");
    let words = Vocabulary::new(&["PAD", "UNK", "CLS"], files.words("train").unwrap());
    let dataset = files
        .for_training(&["train"], &words, &answers, 3, LossKind::CrossEntropy)
        .unwrap();
    assert_eq!(dataset.question_id(0), &"07".into());
    assert_eq!(
        (dataset.words(0), dataset.targets(1)),
        (&[3, 4, 5][..], &[(1, 1.0)][..])
    );
}

#[test]
fn all_metrics_of_the_original_on_its_own_answers() {
    for run in ["gqa_mcan_small_frcn_bbox", "gqa_butd"] {
        let stored = shared(&format!("golden/openvqa/{run}"));
        let world = shared("golden/openvqa/world_gqa/data/gqa/raw");
        let (Some(stored), Some(world)) = (stored, world) else {
            return;
        };
        let expected = stored.join("gqa_val_all_metrics.json");
        let Ok(expected) = fs::read(expected) else {
            continue;
        };
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let scores = Gqa
            .score(
                &stored.join("results/cache/result_run_golden_val_all.json"),
                &world.join("questions1.2/val_all_questions.json"),
                Some(&world.join("eval/val_choices.json")),
                Measure::Official,
            )
            .unwrap();
        let lines: Vec<&str> = expected["lines"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert!(scores.starts_with(&lines.join("\n")), "{scores}");
    }
}

#[test]
fn answers_that_only_lack_their_form_are_said() {
    let file =
        file(&json!({"1": question("What is it?", "t-shirt", json!({"groups": null}))})).unwrap();
    let evaluator = Evaluator::new(file, None).unwrap();
    let scores = printed(&evaluator, &[("1", "t shirt")]);
    assert!(
        scores.contains("Open: 0.00%") && !scores.contains("Distribution"),
        "{scores}"
    );
    assert!(
        scores.contains(
            "1 answers count as wrong for their form alone, such as \"t shirt\" for \"t-shirt\""
        ),
        "{scores}"
    );
}

#[test]
fn files_that_cannot_be_used_are_errors_with_the_question() {
    for (changes, reason) in [
        (json!({"imageId": null}), "question 1 has no \"imageId\""),
        (json!({"question": null}), "question 1 has no \"question\""),
        (
            json!({"types": {"structural": "query"}}),
            "question 1 has no \"types.semantic\"",
        ),
        (
            json!({"semantic": 3}),
            "semantic: it has the number 3 where a list is expected",
        ),
        (json!({"isBalanced": "yes"}), "isBalanced: it has"),
    ] {
        let error = file(&json!({"1": question("What?", "a", changes)}))
            .err()
            .unwrap();
        let message = format!("{error:#}");
        assert!(
            message.contains(reason) && message.contains("file.json"),
            "{message}"
        );
    }
    let list = format!("{:#}", file(&json!([1])).err().unwrap());
    assert!(
        list.contains("an object with an entry for each id"),
        "{list}"
    );
    let unbalanced =
        file(&json!({"1": question("What?", "a", json!({"isBalanced": false}))})).unwrap();
    let message = Evaluator::new(unbalanced, None).err().unwrap().to_string();
    assert!(message.contains("no balanced question"), "{message}");
    let balanced = file(&json!({"1": question("What?", "a", json!({}))})).unwrap();
    let missing = Evaluator::new(balanced, None)
        .unwrap()
        .score(&[])
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("1 of the 1 questions") && missing.contains("question 1"),
        "{missing}"
    );
}

#[test]
fn the_dictionary_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dicts.json");
    let lists = Lists {
        answers: AnswerList::from_answers(vec!["b".into(), "a".into()]).unwrap(),
        words: Some(crate::datasets::WordList {
            vocabulary: Vocabulary::new(&["PAD", "UNK", "CLS"], ["what", "is"]),
            longest: 7,
        }),
    };
    Gqa.save_lists(&path, &lists).unwrap();
    assert_eq!(Gqa.read_lists(&path).unwrap(), lists);
    assert!(
        Gqa.save_lists(&path, &lists).is_err(),
        "no file is replaced"
    );
    for (value, reason) in [
        (
            json!([{"a": 0}, {"0": "a"}, {"PAD": 0, "UNK": 1, "x": 3}, 4]),
            "word \"x\" has id 3; 2 is expected",
        ),
        (
            json!([{"a": 0}, {"0": "a"}, {"PAD": 0, "UNK": 1}, 0]),
            "longest question has 0 words; 1 to 8192",
        ),
        (
            json!([{"a": 0}, {"0": "a"}]),
            "a list of three objects and a number",
        ),
    ] {
        fs::write(&path, value.to_string()).unwrap();
        let message = format!("{:#}", Gqa.read_lists(&path).unwrap_err());
        assert!(
            message.contains(reason) && message.contains("dicts.json"),
            "{message}"
        );
    }
}

#[test]
fn answers_are_written_as_the_challenge_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.json");
    Gqa.write_answers(&path, &[("07".into(), "red")]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, r#"[{"questionId": "07", "prediction": "red"}]"#);
    assert_eq!(
        read_answers(&path).unwrap(),
        [("07".into(), "red".to_owned())]
    );
}

#[test]
fn questions_and_choices_come_in_pieces_too() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: Value| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    };
    for (i, id) in ["9", "03", "5"].into_iter().enumerate() {
        write(
            &format!("all/train_all_questions_{i}.json"),
            json!({id: question("Is it red?", "yes", json!({}))}),
        );
        let choice = json!({id: {"valid": ["yes", "no"], "plausible": ["yes"]}});
        write(&format!("choices/train_choices_{i}.json"), choice);
    }
    let file = QuestionFile::read(&folder.path().join("all"), false).unwrap();
    let ids: Vec<&str> = (0..file.len()).map(|i| file.id(i)).collect();
    assert_eq!(ids, ["9", "03", "5"]);
    let choices = Choices::read(&folder.path().join("choices")).unwrap();
    assert_eq!(choices.of("03").unwrap().plausible, ["yes"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    let message = QuestionFile::read(&folder.path().join("empty"), false).err();
    let message = format!("{:#}", message.unwrap());
    assert!(
        message.contains("empty is a folder without .json files"),
        "{message}"
    );
}
