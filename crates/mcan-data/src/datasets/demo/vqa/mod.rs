//! The demo data set of VQA-v2: `vqa/` has questions, annotations and `answer_dict.json`, and
//! `coco_extract/{train2014,val2014,test2015}/` a `.npz` file of region features for each image.
//!
//! Each image of train has a Visual Genome question, too. The first half of the test images belongs to test-dev.

mod files;
mod questions;
#[cfg(test)]
mod tests;

use super::world::{Painter, REGION_WIDTH, Scene};
use super::{DemoOptions, DemoReport, DemoSet, MAX_IMAGES, QUESTIONS_PER_IMAGE, random};
use crate::data::answers::AnswerList;
use anyhow::Result;
use questions::{Asker, Question};
use rayon::prelude::*;
use std::path::Path;

/// VQA-v2 in the demo.
pub(super) static SET: DemoSet = DemoSet {
    dataset: "vqa",
    questions: "vqa",
    features: "coco_extract",
    feature_folders: &FOLDERS,
    write,
};

const FOLDERS: [&str; 3] = ["train2014", "val2014", "test2015"];
/// One of so many feature files is stored in C order, the others are deflated in Fortran order, so that both forms occur.
const STORED_EVERY: usize = 8;
const FIRST_VG_QUESTION_ID: u64 = 900_000_000;

// Question ids stay below those of the Visual Genome questions.
const _: () = assert!((3 * 7 * MAX_IMAGES as u64 + 10) * 1000 < FIRST_VG_QUESTION_ID);

fn write(root: &Path, options: &DemoOptions) -> Result<DemoReport> {
    let counts = options.images();
    let painter = Painter::new(REGION_WIDTH, &mut random(options.seed, 0));
    let mut images = 0;
    let mut splits = Vec::new();
    for (split, count) in FOLDERS.into_iter().zip(counts) {
        let folder = root.join("coco_extract").join(split);
        let numbers = images..images + count;
        images += count;
        let asked: Vec<Vec<Question>> = numbers
            .into_par_iter()
            .map(|number| make_image(&painter, options.seed, split, number, &folder))
            .collect::<Result<_>>()?;
        splits.push(asked);
    }
    let first = splits[0].iter().filter_map(|asked| asked.first());
    let vg: Vec<Question> = first.map(visual_genome).collect();
    let test_dev: Vec<Question> = splits[2][..options.test_images.div_ceil(2)].concat();
    let [train, val, test] = [0, 1, 2].map(|split| splits[split].concat());

    let vqa = root.join("vqa");
    for (name, subtype, questions) in [
        ("v2_OpenEnded_mscoco_train2014", "train2014", &train),
        ("v2_OpenEnded_mscoco_val2014", "val2014", &val),
        ("v2_OpenEnded_mscoco_test2015", "test2015", &test),
        (
            "v2_OpenEnded_mscoco_test-dev2015",
            "test-dev2015",
            &test_dev,
        ),
        ("VG", "vg", &vg),
    ] {
        let path = vqa.join(format!("{name}_questions.json"));
        files::write_questions(&path, subtype, questions)?;
    }
    for (name, subtype, questions) in [
        ("v2_mscoco_train2014", "train2014", &train),
        ("v2_mscoco_val2014", "val2014", &val),
        ("VG", "vg", &vg),
    ] {
        let path = vqa.join(format!("{name}_annotations.json"));
        files::write_annotations(&path, subtype, questions)?;
    }
    let answers = questions::all_answers().map(str::to_owned).collect();
    let answers = AnswerList::from_answers(answers)?;
    answers.save(&vqa.join("answer_dict.json"))?;
    Ok(DemoReport {
        images,
        train_questions: train.len(),
        val_questions: val.len(),
        test_questions: test.len(),
        answers: answers.len(),
    })
}

/// Draws image `number`, writes its features to `folder`, and returns the questions about it.
fn make_image(
    painter: &Painter,
    seed: u64,
    split: &str,
    number: usize,
    folder: &Path,
) -> Result<Vec<Question>> {
    let mut random = random(seed, 1 + number as u64);
    let image_id = 9 + 7 * number as u64;
    let scene = Scene::draw(&mut random);
    let regions = painter.regions(&scene, &mut random);
    let path = folder.join(format!("COCO_{split}_{image_id:012}.jpg.npz"));
    files::write_features(&path, &regions, !number.is_multiple_of(STORED_EVERY))?;
    let mut asker = Asker {
        scene: &scene,
        random: &mut random,
    };
    let ids = (0..QUESTIONS_PER_IMAGE as u64).map(|k| image_id * 1000 + k);
    Ok(ids
        .map(|question_id| asker.ask(image_id, question_id))
        .collect())
}

/// The same question in the style of Visual Genome: one annotator, whose answer is repeated ten times.
fn visual_genome(question: &Question) -> Question {
    Question {
        question_id: FIRST_VG_QUESTION_ID + question.image_id,
        answers: vec![question.truth.to_string(); question.answers.len()],
        ..question.clone()
    }
}
