//! A small made-up VQA world in the official file formats, for a first run on a machine that has none of the real data.
//!
//! This module owns what such a world looks like (`world`), what is asked about it and what ten annotators answer
//! (`questions`), and how it is laid down on disk (`files`). Every answer follows from the image features and the
//! question together: answers are balanced, so that neither alone gets far. It reads nothing, and writes only files of
//! its own names below the folder that it is given.

mod files;
mod questions;
#[cfg(test)]
mod tests;
mod world;

use anyhow::{Result, ensure};
use questions::{Asker, Question};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::path::Path;
use world::{Painter, Scene};

/// Questions about each image, as many as a COCO image has in VQA-v2, roughly.
pub const QUESTIONS_PER_IMAGE: usize = 6;
/// Most images in one split; the ids of larger worlds would run into those of the Visual Genome questions.
pub const MAX_IMAGES: usize = 10_000;
/// The folders of the splits' features.
pub const FOLDERS: [&str; 3] = ["train2014", "val2014", "test2015"];
/// One image in so many is stored instead of deflated, in C order, so that both forms of `.npz` occur.
const STORED_EVERY: usize = 8;
const FIRST_VG_QUESTION_ID: u64 = 900_000_000;

/// How large a world, and which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// The same seed gives the same files, byte for byte.
    pub seed: u64,
    /// Images of `train2014`, each also with one Visual Genome question.
    pub train_images: usize,
    /// Images of `val2014`.
    pub val_images: usize,
    /// Images of `test2015`; the first half of them are test-dev too.
    pub test_images: usize,
}

impl Default for DemoOptions {
    /// What the `tiny` model learns to answer within a minute or so on two cores.
    fn default() -> Self {
        DemoOptions {
            seed: 0,
            train_images: 600,
            val_images: 120,
            test_images: 60,
        }
    }
}

/// What was written.
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

/// Writes the world to `<root>/vqa/` (all the official questions and annotations, `answer_dict.json`) and
/// `<root>/coco_extract/{train2014,val2014,test2015}/` (one `.npz` of region features per image).
///
/// Files of the same names are replaced, each at once; nothing else is touched.
///
/// # Errors
/// A number of images that is zero or above [`MAX_IMAGES`], or a file that cannot be written, named.
pub fn write(root: &Path, options: &DemoOptions) -> Result<DemoReport> {
    let [train, val, test] = FOLDERS;
    let splits = [
        (train, options.train_images),
        (val, options.val_images),
        (test, options.test_images),
    ];
    for (split, images) in splits {
        ensure!(
            (1..=MAX_IMAGES).contains(&images),
            "a demo world has 1 to {MAX_IMAGES} {split} images, not {images}"
        );
    }
    let painter = Painter::new(&mut random(options.seed, 0));
    let mut next_image = 0;
    let mut worlds = Vec::new();
    for (split, images) in splits {
        let numbers = next_image..next_image + images;
        next_image += images;
        let folder = root.join("coco_extract").join(split);
        let asked: Vec<Vec<Question>> = numbers
            .into_par_iter()
            .map(|number| make_image(&painter, options.seed, split, number, &folder))
            .collect::<Result<_>>()?;
        worlds.push(asked);
    }
    let vg: Vec<Question> = worlds[0]
        .iter()
        .filter_map(|asked| asked.first())
        .map(visual_genome)
        .collect();
    let test_dev: Vec<Question> = worlds[2][..options.test_images.div_ceil(2)].concat();
    let [train, val, test] = [0, 1, 2].map(|split| worlds[split].concat());

    let vqa = root.join("vqa");
    files::write_questions(
        &vqa.join("v2_OpenEnded_mscoco_train2014_questions.json"),
        "train2014",
        &train,
    )?;
    files::write_questions(
        &vqa.join("v2_OpenEnded_mscoco_val2014_questions.json"),
        "val2014",
        &val,
    )?;
    files::write_questions(
        &vqa.join("v2_OpenEnded_mscoco_test2015_questions.json"),
        "test2015",
        &test,
    )?;
    files::write_questions(
        &vqa.join("v2_OpenEnded_mscoco_test-dev2015_questions.json"),
        "test-dev2015",
        &test_dev,
    )?;
    files::write_questions(&vqa.join("VG_questions.json"), "vg", &vg)?;
    files::write_annotations(
        &vqa.join("v2_mscoco_train2014_annotations.json"),
        "train2014",
        &train,
    )?;
    files::write_annotations(
        &vqa.join("v2_mscoco_val2014_annotations.json"),
        "val2014",
        &val,
    )?;
    files::write_annotations(&vqa.join("VG_annotations.json"), "vg", &vg)?;
    let answers = questions::all_answers();
    files::write_answer_dict(&vqa.join("answer_dict.json"), &answers)?;
    Ok(DemoReport {
        images: next_image,
        train_questions: train.len(),
        val_questions: val.len(),
        test_questions: test.len(),
        answers: answers.len(),
    })
}

/// A generator of its own for each image, so that the order in which threads make them does not matter.
fn random(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

/// Draws image `number` of the world, writes its features to `folder`, and returns what is asked about it.
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

/// The same question as Visual Genome has it: one annotator, whose answer is repeated ten times.
fn visual_genome(question: &Question) -> Question {
    Question {
        question_id: FIRST_VG_QUESTION_ID + question.image_id,
        answers: vec![question.truth.to_string(); question.answers.len()],
        ..question.clone()
    }
}
