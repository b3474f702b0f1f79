//! The demo data set of CLEVR: `clevr/questions/` has the questions, and `clevr_extract/{train,val,test}/` a `.npz` file with
//! the grid of each image. The numbers of the images of each split start at 0.

mod questions;
#[cfg(test)]
mod tests;

use super::files::{write_grid, write_json};
use super::world::{CELL_WIDTH, Painter, Scene};
use super::{DemoOptions, DemoReport, DemoSet, random};
use anyhow::Result;
use questions::{Asker, Question};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// CLEVR in the demo.
pub(super) static SET: DemoSet = DemoSet {
    dataset: "clevr",
    questions: "clevr",
    features: "clevr_extract",
    feature_folders: &SPLITS,
    write,
};

/// The number of questions about each image, as in CLEVR. Comparisons take more examples than the questions of the other
/// data sets.
const QUESTIONS_PER_IMAGE: usize = 10;
const SPLITS: [&str; 3] = ["train", "val", "test"];

fn write(root: &Path, options: &DemoOptions) -> Result<DemoReport> {
    let painter = Painter::new(CELL_WIDTH, &mut random(options.seed, 0));
    let (mut images, mut counts) = (0, Vec::new());
    let mut answers = BTreeSet::new();
    for (split, count) in SPLITS.into_iter().zip(options.images()) {
        let folder = root.join(SET.features).join(split);
        let asked = (0..count).into_par_iter().map(|index| {
            let mut random = random(options.seed, (1 + images + index) as u64);
            let scene = Scene::draw(&mut random);
            let grid = painter.grid(&scene, &mut random);
            write_grid(&folder.join(format!("{index}.npz")), &grid, CELL_WIDTH)?;
            let mut asker = Asker {
                scene: &scene,
                random: &mut random,
            };
            Ok((0..QUESTIONS_PER_IMAGE).map(|_| asker.ask()).collect())
        });
        let asked: Vec<Vec<Question>> = asked.collect::<Result<_>>()?;
        let file = root.join(SET.questions).join("questions");
        let file = file.join(format!("CLEVR_{split}_questions.json"));
        write_json(&file, &question_file(split, &asked))?;
        images += count;
        counts.push(count * QUESTIONS_PER_IMAGE);
        answers.extend(asked.iter().flatten().map(|question| question.answer));
    }
    Ok(DemoReport {
        images,
        train_questions: counts[0],
        val_questions: counts[1],
        test_questions: counts[2],
        answers: answers.len(),
    })
}

/// The content of a question file. The questions of test have neither an answer nor a program.
fn question_file(split: &str, asked: &[Vec<Question>]) -> Value {
    let questions = asked.iter().enumerate().flat_map(|(image, questions)| {
        let of_image = questions.iter().enumerate();
        of_image.map(move |(k, question)| {
            let mut entry = json!({
                "image_index": image,
                "image_filename": format!("CLEVR_{split}_{image:06}.png"),
                "split": split,
                "question_index": image * QUESTIONS_PER_IMAGE + k,
                "question": question.text,
            });
            if split != "test" {
                entry["answer"] = json!(question.answer);
                entry["question_family_index"] = json!(question.family);
                entry["program"] = question.program.iter().map(|step| step.json()).collect();
            }
            entry
        })
    });
    json!({
        "info": {"split": split, "license": "Apache-2.0", "version": "1.0", "date": "1/1/2026"},
        "questions": questions.collect::<Value>(),
    })
}
