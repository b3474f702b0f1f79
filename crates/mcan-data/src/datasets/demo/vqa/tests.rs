use super::*;
use crate::datasets::demo::tests::{SMALL, read_json};
use crate::datasets::demo::world::MAX_COUNT;
use ndarray::{Array2, arr0};
use ndarray_npy::ReadNpyExt;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use zip::ZipArchive;

fn small_world() -> (tempfile::TempDir, DemoReport) {
    let root = tempfile::tempdir().unwrap();
    let report = write(root.path(), &SMALL).unwrap();
    (root, report)
}

#[test]
fn every_official_file_exists_and_the_files_agree() {
    let (root, report) = small_world();
    let expected = DemoReport {
        images: 20,
        train_questions: 72,
        val_questions: 30,
        test_questions: 18,
        answers: 23,
    };
    assert_eq!(report, expected);
    let vqa = root.path().join("vqa");
    for (questions, annotations, split, count) in [
        (
            "v2_OpenEnded_mscoco_train2014_questions",
            "v2_mscoco_train2014_annotations",
            "train2014",
            72,
        ),
        (
            "v2_OpenEnded_mscoco_val2014_questions",
            "v2_mscoco_val2014_annotations",
            "val2014",
            30,
        ),
        ("VG_questions", "VG_annotations", "train2014", 12),
        ("v2_OpenEnded_mscoco_test2015_questions", "", "test2015", 18),
        (
            "v2_OpenEnded_mscoco_test-dev2015_questions",
            "",
            "test2015",
            12,
        ),
    ] {
        let asked = read_json(&vqa.join(format!("{questions}.json")));
        let asked = asked["questions"].as_array().unwrap();
        let ids: HashSet<u64> = asked
            .iter()
            .map(|q| q["question_id"].as_u64().unwrap())
            .collect();
        assert_eq!((asked.len(), ids.len()), (count, count), "{questions}");
        for question in asked {
            let id = question["image_id"].as_u64().unwrap();
            let features = root.path().join(format!(
                "coco_extract/{split}/COCO_{split}_{id:012}.jpg.npz"
            ));
            assert!(features.is_file(), "{}", features.display());
            assert!(
                !question["question"].as_str().unwrap().contains('{'),
                "{question}"
            );
        }
        if !annotations.is_empty() {
            let answered = read_json(&vqa.join(format!("{annotations}.json")));
            for (question, answer) in asked
                .iter()
                .zip(answered["annotations"].as_array().unwrap())
            {
                assert_eq!(question["question_id"], answer["question_id"]);
                assert_eq!(question["image_id"], answer["image_id"]);
                assert_eq!(answer["answers"].as_array().unwrap().len(), 10);
            }
        }
    }
}

#[test]
fn the_answer_dictionary_maps_both_ways_and_has_every_true_answer() {
    let (root, _) = small_world();
    let dictionary = read_json(&root.path().join("vqa/answer_dict.json"));
    let index_of = dictionary[0].as_object().unwrap();
    for (answer, index) in index_of {
        assert_eq!(
            dictionary[1][index.to_string()],
            Value::from(answer.as_str())
        );
    }
    for question in asked(400) {
        assert!(index_of.contains_key(question.truth), "{}", question.truth);
    }
}

#[test]
fn features_are_deflated_in_fortran_order_or_stored_in_c_order_with_the_same_values() {
    let root = tempfile::tempdir().unwrap();
    let mut random = random(3, 0);
    let painter = Painter::new(REGION_WIDTH, &mut random);
    let regions = painter.regions(&Scene::draw(&mut random), &mut random);
    let count = regions.boxes.len();
    for deflated in [true, false] {
        let path = root.path().join("x.npz");
        files::write_features(&path, &regions, deflated).unwrap();
        let mut archive = ZipArchive::new(File::open(&path).unwrap()).unwrap();
        assert_eq!(
            archive.by_name("x.npy").unwrap().compression() == zip::CompressionMethod::Deflated,
            deflated
        );
        let x = Array2::<f32>::read_npy(archive.by_name("x.npy").unwrap()).unwrap();
        assert_eq!(
            (x.shape(), x.is_standard_layout()),
            ([REGION_WIDTH, count].as_slice(), !deflated)
        );
        assert!(x.t().iter().eq(&regions.features));
        let boxes = Array2::<f32>::read_npy(archive.by_name("bbox.npy").unwrap()).unwrap();
        assert!(boxes.iter().eq(regions.boxes.as_flattened()));
        let num_bbox =
            ndarray::Array0::<i64>::read_npy(archive.by_name("num_bbox.npy").unwrap()).unwrap();
        assert_eq!(num_bbox, arr0(count as i64));
    }
}

/// One question about each of this number of scenes.
fn asked(scenes: usize) -> Vec<Question> {
    let mut random = random(2, 0);
    let mut ask = |_| {
        let scene = Scene::draw(&mut random);
        Asker {
            scene: &scene,
            random: &mut random,
        }
        .ask(1, 1)
    };
    (0..scenes).map(&mut ask).collect()
}

/// The share of right answers when each question gets the most frequent answer among questions with equal `known`.
fn best_guess<K: Ord>(questions: &[Question], known: impl Fn(&Question) -> K) -> f64 {
    let mut counts: BTreeMap<K, BTreeMap<&str, usize>> = BTreeMap::new();
    for question in questions {
        *counts
            .entry(known(question))
            .or_default()
            .entry(question.truth)
            .or_default() += 1;
    }
    let right: usize = counts
        .values()
        .filter_map(|answers| answers.values().max())
        .sum();
    right as f64 / questions.len() as f64
}

#[test]
fn the_question_alone_or_the_image_alone_predicts_few_answers() {
    let questions = asked(40_000);
    let image_blind = best_guess(&questions, |question| question.text.clone());
    assert!((0.2..0.4).contains(&image_blind), "{image_blind}");
    let mut random = random(4, 0);
    for _ in 0..20 {
        let scene = Scene::draw(&mut random);
        let mut asker = Asker {
            scene: &scene,
            random: &mut random,
        };
        let about_it: Vec<Question> = (0..2000).map(|k| asker.ask(1, k)).collect();
        let question_blind = best_guess(&about_it, |_| ());
        assert!(question_blind < 0.3, "{question_blind} {scene:?}");
    }
}

#[test]
fn yes_and_no_are_equally_frequent_for_every_phrasing_and_so_are_counts() {
    let questions = asked(100_000);
    for question_type in ["is there a", "can you", "is there", "is the"] {
        let answers: Vec<_> = questions
            .iter()
            .filter(|q| q.question_type == question_type)
            .map(|q| q.truth)
            .collect();
        let yes =
            answers.iter().filter(|truth| **truth == "yes").count() as f64 / answers.len() as f64;
        assert!((0.47..0.53).contains(&yes), "{question_type}: {yes}");
    }
    let counts: Vec<_> = questions
        .iter()
        .filter(|q| q.answer_type == "number")
        .map(|q| q.truth)
        .collect();
    for count in 1..=MAX_COUNT {
        let share = counts
            .iter()
            .filter(|truth| **truth == count.to_string())
            .count() as f64
            / counts.len() as f64;
        assert!((0.22..0.28).contains(&share), "{count}: {share}");
    }
}

#[test]
fn the_true_answer_is_the_most_frequent_of_ten_and_annotators_differ() {
    let questions = asked(4000);
    let mut unanimous = 0;
    for question in &questions {
        assert_eq!(question.answers.len(), 10);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for answer in &question.answers {
            *counts.entry(answer).or_default() += 1;
        }
        let truth = counts.remove(question.truth).unwrap_or(0);
        assert!(
            truth >= 3 && counts.values().all(|count| *count < truth),
            "{question:?}"
        );
        unanimous += usize::from(truth == 10);
    }
    let share = unanimous as f64 / questions.len() as f64;
    assert!((0.1..0.3).contains(&share), "{share}");
}
