//! The files of the demo: questions and annotations in JSON, features in `.npz`.

use super::questions::Question;
use super::world::{FEATURE_SIZE, Regions};
use crate::base::atomic;
use crate::formats::npz::{Storage, Writer};
use anyhow::Result;
use serde_json::{Value, json};
use std::io::{Seek, Write};
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

fn write_json(path: &Path, value: &Value) -> Result<()> {
    atomic::write(path, |file| Ok(serde_json::to_writer(file, value)?))
}

/// Writes the features of one image, deflated in Fortran order as published, or stored in C order.
pub(super) fn write_features(path: &Path, regions: &Regions, deflated: bool) -> Result<()> {
    let count = regions.boxes.len();
    let features = &regions.features;
    // The regions are the columns of (FEATURE_SIZE, count). For one column both orders are equal, and NumPy writes C order.
    let fortran_order = deflated && count > 1;
    let x: Vec<f32> = if deflated {
        features.clone()
    } else {
        let row = |feature| features[feature..].iter().step_by(FEATURE_SIZE).copied();
        (0..FEATURE_SIZE).flat_map(row).collect()
    };
    let storage = match deflated {
        true => Storage::Deflated,
        false => Storage::Plain,
    };
    atomic::write(path, |file| {
        let mut archive = Writer::new(file, storage);
        archive.start("x", "<f4", fortran_order, &[FEATURE_SIZE, count])?;
        archive.write(&bytes_of(&x))?;
        write_number(&mut archive, "image_w", regions.width)?;
        archive.start("bbox", "<f4", false, &[count, 4])?;
        archive.write(&bytes_of(regions.boxes.as_flattened()))?;
        write_number(&mut archive, "num_bbox", count as i64)?;
        write_number(&mut archive, "image_h", regions.height)?;
        archive.finish()
    })
}

fn write_number<W: Write + Seek>(archive: &mut Writer<W>, name: &str, number: i64) -> Result<()> {
    archive.start(name, "<i8", false, &[])?;
    archive.write(&number.to_le_bytes())
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
