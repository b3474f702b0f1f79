use super::*;
use crate::data::QuestionId;
use crate::datasets::Metric;
use crate::datasets::clevr::{Evaluator, QuestionFile};
use crate::datasets::demo::tests::{SMALL, read_json};
use crate::datasets::demo::world::CELLS;
use ndarray::Array2;
use ndarray_npy::ReadNpyExt;
use std::collections::BTreeMap;
use std::fs::File;
use zip::{CompressionMethod, ZipArchive};

fn question_path(root: &Path, split: &str) -> std::path::PathBuf {
    root.join(format!("clevr/questions/CLEVR_{split}_questions.json"))
}

#[test]
fn the_files_are_read_and_have_questions_of_every_type() {
    let root = tempfile::tempdir().unwrap();
    let report = write(root.path(), &SMALL).unwrap();
    let counts = [
        report.train_questions,
        report.val_questions,
        report.test_questions,
    ];
    assert_eq!((report.images, counts), (20, [120, 50, 30]));
    for ((split, count), images) in SPLITS.into_iter().zip(counts).zip(SMALL.images()) {
        let file = QuestionFile::read(&question_path(root.path(), split), &[]).unwrap();
        assert_eq!(file.len(), count);
        assert_eq!(
            (file.image_index(0), file.image_index(count - 1)),
            (0, images as u32 - 1)
        );
        for i in 0..count {
            let image = file.image_index(i);
            assert!(
                root.path()
                    .join(format!("clevr_extract/{split}/{image}.npz"))
                    .is_file()
            );
            assert_eq!(file.answer(i).is_some(), split != "test");
            assert_eq!(file.function(i).is_some(), split != "test");
        }
    }
    let file = QuestionFile::read(&question_path(root.path(), "train"), &[]).unwrap();
    let truths = (0..file.len()).map(|i| (QuestionId::from(i as i64), file.answer(i).unwrap()));
    let scores = Evaluator::new(&file)
        .unwrap()
        .score(&truths.collect::<Vec<_>>())
        .unwrap();
    assert_eq!(scores.headline, 100.0);
    // The overall line, and a line for each of five types.
    assert_eq!(scores.printed.lines().count(), 6, "{}", scores.printed);
}

#[test]
fn grids_are_stored_in_fortran_order() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &SMALL).unwrap();
    let file = File::open(root.path().join("clevr_extract/val/2.npz")).unwrap();
    let mut archive = ZipArchive::new(file).unwrap();
    let x = archive.by_name("x.npy").unwrap();
    assert_eq!(x.compression(), CompressionMethod::Stored);
    let x = Array2::<f32>::read_npy(x).unwrap();
    assert_eq!(x.shape(), [CELLS, CELL_WIDTH]);
    assert!(!x.is_standard_layout());
    let painter = Painter::new(CELL_WIDTH, &mut random(SMALL.seed, 0));
    let mut random = random(SMALL.seed, 1 + 12 + 2);
    let scene = Scene::draw(&mut random);
    assert!(x.iter().eq(&painter.grid(&scene, &mut random)));
}

#[test]
fn inputs_of_programs_are_earlier_steps() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &SMALL).unwrap();
    for question in read_json(&question_path(root.path(), "val"))["questions"]
        .as_array()
        .unwrap()
    {
        for (step, node) in question["program"].as_array().unwrap().iter().enumerate() {
            let mut inputs = node["inputs"].as_array().unwrap().iter();
            assert!(
                inputs.all(|input| input.as_u64().unwrap() < step as u64),
                "{question}"
            );
        }
    }
}

/// The number of questions by last function and answer, of one question about each of many scenes.
fn answers() -> BTreeMap<String, BTreeMap<&'static str, usize>> {
    let mut random = random(2, 0);
    let mut counts: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    for _ in 0..30_000 {
        let scene = Scene::draw(&mut random);
        let mut asker = Asker {
            scene: &scene,
            random: &mut random,
        };
        let question = asker.ask();
        let function = question.program.last().unwrap().function.clone();
        *counts
            .entry(function)
            .or_default()
            .entry(question.answer)
            .or_default() += 1;
    }
    counts
}

#[test]
fn no_answer_dominates_a_function() {
    let counts = answers();
    assert_eq!(counts.len(), 11, "{counts:?}");
    for (function, answers) in counts {
        let (total, most) = (
            answers.values().sum::<usize>(),
            answers.values().max().unwrap(),
        );
        let (share, fair) = (*most as f64 / total as f64, 1.0 / answers.len() as f64);
        assert!(share < fair + 0.15, "{function}: {answers:?}");
    }
}
