//! The files of VQA-v2: questions and annotations in JSON, features in `.npz`.

use super::questions::Question;
use crate::base::atomic;
use crate::datasets::demo::files::{by_columns, write_array, write_json, write_number};
use crate::datasets::demo::world::Regions;
use crate::formats::npz::{Storage, Writer};
use anyhow::Result;
use serde_json::{Value, json};
use std::path::Path;

/// Writes a question file of `subtype` (`train2014`, ...), in the given order.
pub(super) fn write_questions(path: &Path, subtype: &str, questions: &[Question]) -> Result<()> {
    let entry = |q: &Question| json!({"image_id": q.image_id, "question": q.text, "question_id": q.question_id});
    let mut file = header(subtype);
    file["task_type"] = json!("Open-Ended");
    file["questions"] = questions.iter().map(entry).collect();
    write_json(path, &file)
}

/// Writes an annotation file of `subtype`, in the given order.
pub(super) fn write_annotations(path: &Path, subtype: &str, questions: &[Question]) -> Result<()> {
    let mut file = header(subtype);
    file["annotations"] = questions.iter().map(annotation).collect();
    write_json(path, &file)
}

fn annotation(question: &Question) -> Value {
    let answers: Value = question
        .answers
        .iter()
        .zip(1..)
        .map(|(answer, id)| {
            let confidence = if answer == question.truth {
                "yes"
            } else {
                "maybe"
            };
            json!({"answer": answer, "answer_confidence": confidence, "answer_id": id})
        })
        .collect();
    json!({
        "question_type": question.question_type,
        "multiple_choice_answer": question.truth,
        "answers": answers,
        "image_id": question.image_id,
        "answer_type": question.answer_type,
        "question_id": question.question_id,
    })
}

fn header(subtype: &str) -> Value {
    json!({
        "info": {"description": "A made-up data set for a first run of mcan.", "version": "2.0"},
        "data_type": "mscoco",
        "data_subtype": subtype,
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    })
}

/// Writes the features of one image, deflated in Fortran order as published, or stored in C order.
pub(super) fn write_features(path: &Path, regions: &Regions, deflated: bool) -> Result<()> {
    let count = regions.boxes.len();
    let width = regions.features.len() / count;
    // The regions are the columns of (F, count). For one column both orders are equal, and NumPy writes C order.
    let fortran_order = deflated && count > 1;
    let (storage, x) = match deflated {
        true => (Storage::Deflated, regions.features.clone()),
        false => (Storage::Plain, by_columns(&regions.features, width)),
    };
    atomic::write(path, |file| {
        let mut archive = Writer::new(file, storage);
        write_array(&mut archive, "x", fortran_order, &[width, count], &x)?;
        write_number(&mut archive, "image_w", regions.width)?;
        let boxes = regions.boxes.as_flattened();
        write_array(&mut archive, "bbox", false, &[count, 4], boxes)?;
        write_number(&mut archive, "num_bbox", count as i64)?;
        write_number(&mut archive, "image_h", regions.height)?;
        archive.finish()
    })
}
