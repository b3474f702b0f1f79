//! The official file formats: question and annotation JSON, the answer dictionary, and features as `.npz`.

use super::questions::Question;
use super::world::{FEATURE_SIZE, Regions};
use crate::base::atomic;
use crate::formats::npy;
use anyhow::Result;
use serde_json::{Value, json};
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A question file of `subtype` (`train2014`, ...), in the order given.
pub fn write_questions(path: &Path, subtype: &str, questions: &[Question]) -> Result<()> {
    let entry = |q: &Question| json!({"image_id": q.image_id, "question": q.text, "question_id": q.question_id});
    let mut file = header(subtype);
    file["task_type"] = json!("Open-Ended");
    file["questions"] = questions.iter().map(entry).collect();
    write_json(path, &file)
}

/// An annotation file of `subtype`, in the order given.
pub fn write_annotations(path: &Path, subtype: &str, questions: &[Question]) -> Result<()> {
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
        "info": {"description": "A made-up world for trying mcan out.", "version": "2.0"},
        "data_type": "mscoco",
        "data_subtype": subtype,
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    })
}

/// `[answer -> index, index -> answer]`, as the reference publishes it.
pub fn write_answer_dict(path: &Path, answers: &[&str]) -> Result<()> {
    let index_of: serde_json::Map<_, _> = answers
        .iter()
        .zip(0..)
        .map(|(a, i): (_, u64)| (a.to_string(), i.into()))
        .collect();
    let answer_of: serde_json::Map<_, _> = answers
        .iter()
        .zip(0..)
        .map(|(a, i): (_, u64)| (i.to_string(), json!(a)))
        .collect();
    write_json(path, &json!([index_of, answer_of]))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    atomic::write(path, |file| Ok(serde_json::to_writer(file, value)?))
}

/// The features of one image: deflated and in Fortran order like the published ones, or stored and in C order.
pub fn write_features(path: &Path, regions: &Regions, deflated: bool) -> Result<()> {
    let count = regions.boxes.len();
    let features = &regions.features;
    // Region after region is column after column of (FEATURE_SIZE, count). One column is the same in both orders, and
    // NumPy then writes C order.
    let fortran_order = deflated && count > 1;
    let x: Vec<f32> = if deflated {
        features.clone()
    } else {
        let row = |feature| features[feature..].iter().step_by(FEATURE_SIZE).copied();
        (0..FEATURE_SIZE).flat_map(row).collect()
    };
    let x = array(
        "<f4",
        fortran_order,
        &[FEATURE_SIZE, count],
        x.iter().map(|v| v.to_le_bytes()),
    )?;
    let boxes = regions.boxes.as_flattened().iter().map(|v| v.to_le_bytes());
    let scalar = |value: i64| array("<i8", false, &[], [value.to_le_bytes()]);
    let members = [
        ("x", x),
        ("image_w", scalar(regions.width)?),
        ("bbox", array("<f4", false, &[count, 4], boxes)?),
        ("num_bbox", scalar(count as i64)?),
        ("image_h", scalar(regions.height)?),
    ];
    let method = if deflated {
        CompressionMethod::Deflated
    } else {
        CompressionMethod::Stored
    };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        archive.start_file(format!("{name}.npy"), options)?;
        archive.write_all(&bytes)?;
    }
    let bytes = archive.finish()?.into_inner();
    atomic::write(path, |file| Ok(file.write_all(&bytes)?))
}

/// A `.npy` array of the values of `values`, each as its bytes.
fn array<const N: usize>(
    descr: &str,
    fortran_order: bool,
    shape: &[usize],
    values: impl IntoIterator<Item = [u8; N]>,
) -> Result<Vec<u8>> {
    let mut bytes = npy::header(descr, fortran_order, shape)?;
    bytes.extend(values.into_iter().flatten());
    Ok(bytes)
}
