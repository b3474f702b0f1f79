//! The demo: a small made-up data set in the file formats of VQA-v2, for a first run without the real data.
//!
//! `world` makes images and their features, `questions` makes questions and the answers of ten annotators, and `files`
//! writes them. A model needs the image features and the question for a good answer: the answers are balanced, so that
//! either of the two alone predicts few of them.

mod files;
mod questions;
#[cfg(test)]
mod tests;
mod world;

use crate::data::answers::AnswerList;
use anyhow::{Result, ensure};
use questions::{Asker, Question};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::path::Path;
use world::{Painter, Scene};

/// The number of questions about each image, about as many as in VQA-v2.
const QUESTIONS_PER_IMAGE: usize = 6;
/// The largest number of images of a split. With more, question ids would reach those of the Visual Genome questions.
const MAX_IMAGES: usize = 10_000;
/// The feature folders of the splits.
pub const FOLDERS: [&str; 3] = ["train2014", "val2014", "test2015"];
/// One of so many feature files is stored in C order, the others are deflated in Fortran order, so that both forms occur.
const STORED_EVERY: usize = 8;
const FIRST_VG_QUESTION_ID: u64 = 900_000_000;

/// The size and the seed of a demo data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// The seed; the same seed gives the same files, byte for byte.
    pub seed: u64,
    /// Images of `train2014`. Each has a Visual Genome question, too.
    pub train_images: usize,
    /// Images of `val2014`.
    pub val_images: usize,
    /// Images of `test2015`. The first half of them belongs to test-dev, too.
    pub test_images: usize,
}

impl Default for DemoOptions {
    /// A data set that the `tiny` model learns in about a minute on two cores.
    fn default() -> Self {
        DemoOptions {
            seed: 0,
            train_images: 600,
            val_images: 120,
            test_images: 60,
        }
    }
}

/// The size of a demo data set that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoReport {
    /// Feature files.
    pub images: usize,
    /// Questions of `train2014`, without Visual Genome's.
    pub train_questions: usize,
    /// Questions of `val2014`.
    pub val_questions: usize,
    /// Questions of `test2015`.
    pub test_questions: usize,
    /// Entries of `answer_dict.json`.
    pub answers: usize,
}

/// Writes a demo data set to `<root>/vqa/` (questions, annotations, `answer_dict.json`) and
/// `<root>/coco_extract/{train2014,val2014,test2015}/` (a `.npz` file of region features for each image).
///
/// Files of the same names are replaced.
///
/// # Errors
/// A number of images that is not from 1 to 10000, or a file that cannot be written. The error names it.
pub fn write(root: &Path, options: &DemoOptions) -> Result<DemoReport> {
    let counts = [
        options.train_images,
        options.val_images,
        options.test_images,
    ];
    for (split, images) in FOLDERS.into_iter().zip(counts) {
        ensure!(
            (1..=MAX_IMAGES).contains(&images),
            "a demo data set has 1 to {MAX_IMAGES} {split} images, not {images}"
        );
    }
    let painter = Painter::new(&mut random(options.seed, 0));
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

/// The random generator of number `stream`. Each image has its own, so that the order of the threads does not matter.
fn random(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
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
