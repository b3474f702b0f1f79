use super::*;
use crate::datasets::vqa2::read_answers;
use crate::datasets::vqa2::tests::{annotation_file, shared};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

/// One question with these answers by annotators 1, 2, ...
fn evaluator(answers: &[&str]) -> Evaluator {
    evaluator_of(
        answers
            .iter()
            .zip(1..)
            .map(|(answer, id)| json!({"answer": answer, "answer_id": id}))
            .collect(),
    )
}

fn evaluator_of(answers: Value) -> Evaluator {
    Evaluator::new(&annotation_file(&json!({"annotations": [
        {"question_id": 1, "image_id": 1, "question_type": "what", "answer_type": "other", "answers": answers}
    ]})), Measure::Official)
    .unwrap()
}

fn exact(evaluator: &Evaluator, answer: &str) -> f64 {
    evaluator
        .accuracy([(1, answer)], Matching::Exact)
        .unwrap()
        .overall
}

#[test]
fn ten_answers_give_thirds_averaged_over_leaving_one_out() {
    let evaluator = evaluator(&[
        "dog", "dog", "dog", "dog", "cat", "cat", "cat", "fox", "fox", "owl",
    ]);
    let expected = [
        ("dog", 100.0),
        ("cat", 90.0),
        ("fox", 60.0),
        ("owl", 30.0),
        ("cow", 0.0),
    ];
    for (answer, accuracy) in expected {
        assert_eq!(exact(&evaluator, answer), accuracy, "{answer}");
    }
}

#[test]
fn annotated_answers_lose_punctuation_only_if_annotators_differ_and_never_articles() {
    let differ = evaluator(&[
        "dog.", "dog.", "dog.", "dog.", "the fox", "the fox", "the fox", "the fox", "owl!", "owl!",
    ]);
    assert_eq!(exact(&differ, "\n\tThe dog? "), 100.0);
    assert_eq!(exact(&differ, "the fox"), 0.0);
    // The mark at the end of the annotated answer became a space, which the answer under test does not have.
    assert_eq!(exact(&differ, "owl!"), 0.0);
    let agree = evaluator(&["dog."; 10]);
    assert_eq!(exact(&agree, "dog."), 0.0);
}

#[test]
fn answers_that_are_equal_in_every_field_are_left_out_together() {
    let same = json!({"answer": "dog", "answer_id": 1, "answer_confidence": "yes"});
    let other = json!({"answer": "dog", "answer_confidence": "yes", "answer_id": 2});
    let evaluator = evaluator_of(
        json!([same, same, same, other, {"answer": "x", "answer_id": 2, "answer_confidence": "yes"}]),
    );
    // Leaving out one of the three leaves one dog; leaving out the fourth leaves three; leaving out x leaves four.
    let expected: f64 = 100.0 * (1.0 / 3.0 * 3.0 + 2.0) / 5.0;
    assert_eq!(exact(&evaluator, "dog"), round2(expected));
}

#[test]
fn equal_stems_ignore_inflection_word_by_word() {
    let evaluator = evaluator(&[
        "red dogs", "red dogs", "red dogs", "red dogs", "a", "b", "c", "d", "e", "f",
    ]);
    assert_eq!(exact(&evaluator, "red dog"), 0.0);
    assert_eq!(
        evaluator
            .accuracy([(1, "red dog")], Matching::Stems)
            .unwrap()
            .overall,
        100.0
    );
    assert_eq!(
        evaluator
            .accuracy([(1, "red cat")], Matching::Stems)
            .unwrap()
            .overall,
        0.0
    );
}

#[test]
fn rounding_is_that_of_python() {
    // From Python 3: round(x, 2).
    let cases = [
        (2.675, 2.67),
        (0.125, 0.12),
        (0.375, 0.38),
        (1.005, 1.0),
        (27.16666666, 27.17),
        (100.0, 100.0),
    ];
    for (x, rounded) in cases {
        assert_eq!(round2(x), rounded, "{x}");
    }
}

#[test]
fn there_must_be_one_answer_for_each_annotated_question() {
    let annotation = |id| json!({"question_id": id, "image_id": 1, "question_type": "a", "answer_type": "b", "answers": [{"answer": "c"}]});
    let evaluator = Evaluator::new(
        &annotation_file(&json!({"annotations": (1..9).map(annotation).collect::<Vec<_>>()})),
        Measure::Official,
    )
    .unwrap();
    let wrong = evaluator
        .accuracy([(1, "c"), (77, "c"), (8, "d"), (1, "e")], Matching::Exact)
        .unwrap_err()
        .to_string();
    let faults =
        "file.json: 1 not annotated (77), 1 there twice (1), 6 missing (2, 3, 4, 5, 6, ...)";
    assert!(wrong.ends_with(faults), "{wrong}");
}

#[test]
fn annotations_without_types_and_files_without_questions_are_errors() {
    let lacking = json!({"annotations": [{"question_id": 3, "image_id": 1, "answer_type": "b", "answers": [{"answer": "c"}]}]});
    let message = Evaluator::new(&annotation_file(&lacking), Measure::Official)
        .err()
        .unwrap()
        .to_string();
    assert!(
        message.contains("question 3 has no \"question_type\""),
        "{message}"
    );
    let message = Evaluator::new(
        &annotation_file(&json!({"annotations": []})),
        Measure::Official,
    )
    .err()
    .unwrap()
    .to_string();
    assert!(message.contains("no annotation"), "{message}");
}

#[test]
fn real_answers_have_every_accuracy_of_the_official_evaluation() {
    let Some(folder) = shared("real/evaluation") else {
        return;
    };
    let path = |part: &str| folder.join(format!("smallval_annotator1.{part}.json"));
    let value =
        |part: &str| serde_json::from_slice::<Value>(&fs::read(path(part)).unwrap()).unwrap();
    let evaluator = Evaluator::new(
        &AnnotationFile::read(&path("annotations")).unwrap(),
        Measure::Official,
    )
    .unwrap();
    let answers = read_answers(&path("results")).unwrap();
    let pairs = answers
        .iter()
        .map(|entry| (entry.question_id, &*entry.answer));
    let accuracy = evaluator.accuracy(pairs.clone(), Matching::Exact).unwrap();

    let expected = value("accuracy");
    let same = |ours: &[(String, f64)], theirs: &Value| {
        let ours: BTreeMap<_, _> = ours.iter().cloned().collect();
        assert_eq!(ours, serde_json::from_value(theirs.clone()).unwrap());
    };
    assert_eq!(accuracy.overall, expected["overall"].as_f64().unwrap());
    same(&accuracy.per_answer_type, &expected["perAnswerType"]);
    same(&accuracy.per_question_type, &expected["perQuestionType"]);
    let scores = evaluator.question_scores(pairs, Matching::Exact).unwrap();
    let ids = evaluator.question_ids.iter().map(i64::to_string);
    let percents = scores.iter().map(|score| round2(100.0 * score));
    let per_question: Vec<_> = ids.zip(percents).collect();
    assert_eq!(per_question.len(), 589);
    same(&per_question, &value("evalQA"));
}

proptest! {
    #[test]
    fn stems_never_score_less_and_accuracy_stays_a_percentage(
        truths in prop::collection::vec("(dogs?|runs|running|run|the|1,0|a-b ?)( dogs?)?", 1..12),
        answer in "(dogs?|runs|running|run|the|1,0|a-b ?)( dogs?)?",
    ) {
        let evaluator = evaluator(&truths.iter().map(String::as_str).collect::<Vec<_>>());
        let exact = exact(&evaluator, &answer);
        let stems = evaluator.accuracy([(1, &*answer)], Matching::Stems).unwrap().overall;
        prop_assert!(0.0 <= exact && exact <= stems && stems <= 100.0);
    }
}

#[test]
fn answers_that_few_gave_have_measures_of_their_own() {
    let answers =
        |texts: &[&str]| -> Value { texts.iter().map(|text| json!({"answer": text})).collect() };
    let annotation = |id: i64, texts: &[&str]| json!({"question_id": id, "image_id": 1, "question_type": "a", "answer_type": "b", "answers": answers(texts)});
    let file = annotation_file(
        &json!({"annotations": [annotation(1, &["red"]), annotation(2, &["cat", "dog", "dog"])]}),
    );
    for (measure, given, expected) in [
        (Measure::Official, ["red", "dog"], 11.11),
        (Measure::Exact, ["Red.", "dog"], 100.0),
        (Measure::Exact, ["red", "cat"], 50.0),
        (Measure::Share, ["red", "cat"], 66.67),
        (Measure::Share, ["blue", "dog"], 33.33),
    ] {
        let evaluator = Evaluator::new(&file, measure).unwrap();
        let accuracy = evaluator
            .accuracy([(1, given[0]), (2, given[1])], Matching::Exact)
            .unwrap();
        assert_eq!(accuracy.overall, expected, "{measure:?} {given:?}");
    }
}
