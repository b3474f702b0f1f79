//! The files that hold a model's answers: `[{"answer": str, "question_id": int}, ...]`, the format of the VQA challenge,
//! byte for byte as the reference writes it, and the probabilities behind them as `.npz`.

use crate::base::atomic;
use crate::formats::json::{JsonFile, Text};
use crate::formats::python_json::write_python_json;
use anyhow::{Context, Result, bail, ensure};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use std::io::{Seek, Write};
use std::path::Path;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// An answer as it is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which question.
    pub question_id: i64,
    /// The answer in full.
    pub answer: String,
}

#[derive(Deserialize)]
#[serde(expecting = "an answer: an object with question_id and answer")]
struct RawAnswer<'a> {
    question_id: Option<i64>,
    #[serde(borrow)]
    answer: Option<Text<'a>>,
}

/// Reads an answer file.
///
/// # Errors
/// Each with the file and the place in it: not JSON, not a list, a missing or ill-typed key, a question answered twice.
pub fn read_answers(path: &Path) -> Result<Vec<Answer>> {
    let source = JsonFile::open(path)?;
    let (mut answers, mut seen) = (Vec::new(), FxHashSet::default());
    source.for_each(|raw: RawAnswer| {
        let question_id = raw
            .question_id
            .context("an answer has no \"question_id\"")?;
        let answer = raw
            .answer
            .with_context(|| format!("the entry of question {question_id} has no \"answer\""))?;
        if !seen.insert(question_id) {
            bail!("question {question_id} is answered twice");
        }
        answers.push(Answer {
            question_id,
            answer: answer.to_string(),
        });
        Ok(())
    })?;
    Ok(answers)
}

/// Writes an answer file, in the order given.
///
/// # Errors
/// The file cannot be written.
pub fn write_answers<'a>(
    path: &Path,
    answers: impl IntoIterator<Item = (i64, &'a str)>,
) -> Result<()> {
    /// The order of the keys is the reference's.
    #[derive(Serialize)]
    struct Entry<'a> {
        answer: &'a str,
        question_id: i64,
    }
    let entries = answers.into_iter().map(|(question_id, answer)| Entry {
        answer,
        question_id,
    });
    atomic::write(path, |writer| {
        Ok(write_python_json(writer, &Sequence::new(entries))?)
    })
}

/// An iterator that serialises as a list, once.
struct Sequence<I>(std::cell::Cell<Option<I>>);

impl<I> Sequence<I> {
    fn new(items: I) -> Self {
        Self(std::cell::Cell::new(Some(items)))
    }
}

impl<I: Iterator<Item: Serialize>> Serialize for Sequence<I> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.take().into_iter().flatten())
    }
}

/// Writes `question_id` i64 (Q) and `pred` f32 (Q, `answer_count`), not compressed, so that NumPy can read it. `rows` are
/// pieces of any number of whole rows; they are written as they come, so they need not be in memory all at once.
///
/// # Errors
/// A piece that is not whole rows, rows that are not as many as question ids, or the file cannot be written.
pub fn write_predictions<R: AsRef<[f32]>>(
    path: &Path,
    question_ids: &[i64],
    answer_count: usize,
    rows: impl IntoIterator<Item = R>,
) -> Result<()> {
    atomic::write(path, |writer| {
        let mut archive = ZipWriter::new(writer);
        start_array(
            &mut archive,
            "question_id",
            "<i8",
            &format!("({},)", question_ids.len()),
        )?;
        archive.write_all(
            &question_ids
                .iter()
                .flat_map(|id| id.to_le_bytes())
                .collect::<Vec<_>>(),
        )?;
        start_array(
            &mut archive,
            "pred",
            "<f4",
            &format!("({}, {answer_count})", question_ids.len()),
        )?;
        let expected = question_ids
            .len()
            .checked_mul(answer_count)
            .context("too many probabilities")?;
        let (mut written, mut bytes) = (0_usize, Vec::new());
        for piece in rows {
            let piece = piece.as_ref();
            let whole = answer_count > 0 && piece.len() % answer_count == 0;
            ensure!(
                whole,
                "{} probabilities are not rows of {answer_count}",
                piece.len()
            );
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
            archive.write_all(&bytes)?;
            written += piece.len();
        }
        ensure!(
            written == expected,
            "there are {written} probabilities, not {answer_count} for each of {} questions",
            question_ids.len()
        );
        archive.finish()?;
        Ok(())
    })
}

/// Opens the member of one array and writes its header (npy format 1.0: the text is padded so that data starts at a
/// multiple of 64 bytes).
fn start_array<W: Write + Seek>(
    archive: &mut ZipWriter<W>,
    name: &str,
    descr: &str,
    shape: &str,
) -> Result<()> {
    const PREAMBLE_BYTES: usize = 10;
    // Sizes are known only at the end, and pred of the test split has 5.6 GB.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true);
    archive.start_file(format!("{name}.npy"), options)?;
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let text_bytes = (PREAMBLE_BYTES + text.len() + 1).next_multiple_of(64) - PREAMBLE_BYTES;
    archive.write_all(b"\x93NUMPY\x01\x00")?;
    archive.write_all(&u16::try_from(text_bytes)?.to_le_bytes())?;
    archive.write_all(format!("{text:<width$}\n", width = text_bytes - 1).as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::vqa2::tests::{shared, write_bytes};
    use proptest::prelude::*;
    use std::fs::{self, File};
    use std::io::Read;

    fn pairs(answers: &[Answer]) -> impl Iterator<Item = (i64, &str)> {
        answers
            .iter()
            .map(|entry| (entry.question_id, &*entry.answer))
    }

    #[test]
    fn the_golden_answer_files_come_back_byte_for_byte() {
        for file in [
            "results/cache/result_run_golden.json",
            "results/result_test/result_run_golden_epoch6.json",
        ] {
            let Some(path) = shared(&format!("golden/world/{file}")) else {
                return;
            };
            let folder = tempfile::tempdir().unwrap();
            let copy = folder.path().join("new/copy.json");
            write_answers(&copy, pairs(&read_answers(&path).unwrap())).unwrap();
            assert!(
                fs::read(&path).unwrap() == fs::read(&copy).unwrap(),
                "{file} changed"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_an_answer_file_is_said_with_file_place_and_question() {
        let cases = [
            (
                r#"{"answer": "a", "question_id": 1}"#,
                "invalid type: map, expected a list",
            ),
            (r#"[{"answer": "a"}]"#, "an answer has no \"question_id\""),
            (
                r#"[{"question_id": 1}]"#,
                "the entry of question 1 has no \"answer\"",
            ),
            (r#"[{"question_id": 1.5, "answer": "a"}]"#, "expected i64"),
            (r#"[{"question_id": 1, "answer": 2}]"#, "expected a string"),
            (
                r#"[{"question_id": 1, "answer": "a"}, {"question_id": 1, "answer": "a"}]"#,
                "question 1 is answered twice",
            ),
            (
                r#"[{"question_id": 1, "answer": "a"}"#,
                "not valid JSON: EOF",
            ),
        ];
        for (text, reason) in cases {
            let (_folder, path) = write_bytes("mine.json", text.as_bytes());
            let message = format!("{:#}", read_answers(&path).unwrap_err());
            let place = message.contains("mine.json") && message.contains("at line 1 column");
            assert!(place && message.contains(reason), "{reason}: {message}");
        }
    }

    fn member(path: &Path, name: &str) -> Vec<u8> {
        let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
        let mut bytes = Vec::new();
        archive
            .by_name(name)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn predictions_are_an_npz_that_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pred.npz");
        let wrong = write_predictions(&path, &[1, 2], 3, [[0.5_f32; 3]]).unwrap_err();
        assert!(
            format!("{wrong:#}").contains("there are 3 probabilities, not 3 for each of 2"),
            "{wrong:#}"
        );
        let wrong = write_predictions(&path, &[1, 2], 4, [[0.5_f32; 3]]).unwrap_err();
        assert!(
            format!("{wrong:#}").contains("3 probabilities are not rows of 4"),
            "{wrong:#}"
        );
        assert!(!path.exists());

        write_predictions(
            &path,
            &[7, -8, 9],
            2,
            [vec![0.0, 0.25], vec![0.5, 1.0, 0.125, 2.0]],
        )
        .unwrap();
        let ids: ndarray::Array1<i64> =
            ndarray_npy::ReadNpyExt::read_npy(&*member(&path, "question_id.npy")).unwrap();
        let pred: ndarray::Array2<f32> =
            ndarray_npy::ReadNpyExt::read_npy(&*member(&path, "pred.npy")).unwrap();
        assert_eq!(ids.to_vec(), [7, -8, 9]);
        assert_eq!(
            pred,
            ndarray::arr2(&[[0.0, 0.25], [0.5, 1.0], [0.125, 2.0]])
        );
        assert_eq!(member(&path, "pred.npy").len() - 6 * 4, 128);
    }

    proptest! {
        #[test]
        fn answers_survive_a_round_trip(texts in prop::collection::vec(any::<String>(), 0..6)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("answers.json");
            let answers: Vec<_> = (-2..).zip(texts).map(|(question_id, answer)| Answer { question_id, answer }).collect();
            write_answers(&path, pairs(&answers)).unwrap();
            prop_assert!(fs::read(&path).unwrap().iter().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert_eq!(read_answers(&path).unwrap(), answers);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let (_folder, path) = write_bytes("mine.json", &bytes);
            if let Err(error) = read_answers(&path) {
                let message = format!("{error:#}");
                prop_assert!(message.contains("mine.json"));
            }
        }
    }
}
