//! The demo data set of GQA: `gqa/` has the questions and the choices of val, `gqa_extract/gqa-frcn/` a `.npz` file of region
//! features for each image, and `gqa_extract/gqa-grid/` one with its grid.

mod questions;
#[cfg(test)]
mod tests;

use super::files::{write_grid, write_json, write_regions};
use super::world::{CELL_WIDTH, Painter, REGION_WIDTH, Scene};
use super::{DemoOptions, DemoReport, DemoSet, MAX_IMAGES, QUESTIONS_PER_IMAGE, random};
use anyhow::Result;
use questions::{Asker, Question};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// GQA in the demo.
pub(super) static SET: DemoSet = DemoSet {
    dataset: "gqa",
    questions: "gqa",
    features: "gqa_extract",
    feature_folders: &FOLDERS,
    write,
};

const FOLDERS: [&str; 2] = ["gqa-frcn", "gqa-grid"];
/// The number of ids for the questions about one image: each question entails at most two more.
const IDS_PER_IMAGE: usize = 3 * QUESTIONS_PER_IMAGE;
/// Question ids are the multiples of a prime number, modulo 10^8, so that they are in no order and some begin with zeros.
const ID_STEP: usize = 7_919_191;
const ID_COUNT: usize = 100_000_000;

const _: () = assert!(4 * MAX_IMAGES * IDS_PER_IMAGE < ID_COUNT && !ID_STEP.is_multiple_of(5));

/// A question with the fields of the files.
struct Entry {
    id: String,
    image: String,
    /// Whether it is in the balanced files.
    is_balanced: bool,
    /// The questions whose answers follow from its answer, itself included.
    entailed: Vec<String>,
    question: Question,
}

/// The painters of regions and of grids.
struct Painters {
    regions: Painter,
    grid: Painter,
}

fn write(root: &Path, options: &DemoOptions) -> Result<DemoReport> {
    let mut generator = random(options.seed, 0);
    let painters = Painters {
        regions: Painter::new(REGION_WIDTH, &mut generator),
        grid: Painter::new(CELL_WIDTH, &mut generator),
    };
    let mut images = 0;
    // As in GQA, the images of test-dev and test come from elsewhere and have names of another form.
    let mut split = |count: usize, prefix: &str| -> Result<Vec<Entry>> {
        let numbers = images..images + count;
        images += count;
        let asked = numbers.into_par_iter().map(|number| {
            let name = format!("{prefix}{:05}", 17 * number);
            make_image(&painters, options.seed, number, &name, root)
        });
        Ok(asked
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    };
    let [train, evaluated, others] = options.images();
    let (train, val) = (split(train, "23")?, split(others, "23")?);
    let (testdev, test) = (split(evaluated, "n")?, split(others, "n")?);

    let folder = root.join(SET.questions);
    let write = |name: &str, entries: &[Entry], value: fn(&Entry) -> Option<Value>| {
        let fields = |entry: &Entry| Some((entry.id.clone(), value(entry)?));
        let content: Map<String, Value> = entries.iter().filter_map(fields).collect();
        write_json(&folder.join(name), &content)?;
        anyhow::Ok(content.len())
    };
    let of_train = write(
        "questions1.2/train_balanced_questions.json",
        &train,
        balanced,
    )?;
    write("questions1.2/val_balanced_questions.json", &val, balanced)?;
    write("questions1.2/val_all_questions.json", &val, |entry| {
        Some(entry.json())
    })?;
    write("eval/val_choices.json", &val, |entry| Some(entry.choices()))?;
    let of_testdev = write(
        "questions1.2/testdev_balanced_questions.json",
        &testdev,
        balanced,
    )?;
    write(
        "questions1.2/testdev_all_questions.json",
        &testdev,
        |entry| Some(entry.json()),
    )?;
    let of_test = write(
        "questions1.2/submission_all_questions.json",
        &test,
        |entry| Some(entry.asked()),
    )?;
    let answered = [train, val, testdev];
    let answers = answered.iter().flatten().map(|entry| entry.question.answer);
    Ok(DemoReport {
        images,
        train_questions: of_train,
        val_questions: of_testdev,
        test_questions: of_test,
        answers: answers.collect::<BTreeSet<_>>().len(),
    })
}

/// Draws image `number`, writes its features, and returns the questions about it.
fn make_image(
    painters: &Painters,
    seed: u64,
    number: usize,
    name: &str,
    root: &Path,
) -> Result<Vec<Entry>> {
    let mut random = random(seed, 1 + number as u64);
    let scene = Scene::draw(&mut random);
    let [regions, grid] = FOLDERS;
    let place = |folder: &str| {
        root.join(SET.features)
            .join(folder)
            .join(format!("{name}.npz"))
    };
    write_regions(
        &place(regions),
        &painters.regions.regions(&scene, &mut random),
    )?;
    write_grid(
        &place(grid),
        &painters.grid.grid(&scene, &mut random),
        CELL_WIDTH,
    )?;

    let mut ids = (number * IDS_PER_IMAGE..).map(|k| format!("{:08}", k * ID_STEP % ID_COUNT));
    let mut asker = Asker {
        scene: &scene,
        random: &mut random,
    };
    let mut entries = Vec::new();
    for _ in 0..QUESTIONS_PER_IMAGE {
        let (question, entailed) = asker.ask();
        let first = entries.len();
        for (k, question) in [question].into_iter().chain(entailed).enumerate() {
            let id = ids.next().unwrap_or_default();
            entries.push(Entry {
                entailed: vec![id.clone()],
                id,
                image: name.to_owned(),
                is_balanced: k == 0,
                question,
            });
        }
        let all = entries[first..].iter().map(|entry| entry.id.clone());
        entries[first].entailed = all.collect();
    }
    Ok(entries)
}

/// All fields of a question of the balanced files; none for other questions.
fn balanced(entry: &Entry) -> Option<Value> {
    entry.is_balanced.then(|| entry.json())
}

impl Entry {
    /// All fields.
    fn json(&self) -> Value {
        let question = &self.question;
        let [structural, semantic, detailed] = question.types;
        let (first, rest) = question.answer.split_at(1);
        json!({
            "semantic": question.semantic(),
            "entailed": self.entailed,
            "equivalent": [self.id],
            "question": question.text,
            "imageId": self.image,
            "isBalanced": self.is_balanced,
            "groups": {"global": question.global, "local": format!("{detailed}-{semantic}")},
            "answer": question.answer,
            "semanticStr": question.semantic_str(),
            "annotations": {"question": {}, "answer": {}, "fullAnswer": {}},
            "types": {"structural": structural, "semantic": semantic, "detailed": detailed},
            "fullAnswer": format!("{}{rest}.", first.to_uppercase()),
        })
    }

    /// The fields of a question of the test split.
    fn asked(&self) -> Value {
        json!({
            "isBalanced": self.is_balanced,
            "question": self.question.text,
            "imageId": self.image,
        })
    }

    /// The answers that are of the right kind, and those that make sense.
    fn choices(&self) -> Value {
        json!({"valid": self.question.valid, "plausible": self.question.plausible})
    }
}
