//! The probabilities of all answers, as a `.npz` file.

use crate::base::atomic;
use crate::data::QuestionId;
use crate::formats::npz::{Storage, Writer};
use anyhow::{Context, Result, ensure};
use std::io::{Seek, Write};
use std::path::Path;

/// Writes the probabilities of Q questions as an uncompressed `.npz` file for NumPy: `question_id` (Q), i64 or text, and
/// `pred` (Q, `answer_count`), f32.
///
/// Each item of `rows` has some whole rows. An item is written as soon as it comes, so that the rows need not be in memory
/// all at once.
///
/// # Errors
/// An item with a part of a row, another number of rows than of question ids, or a file that cannot be written.
pub fn write_predictions<R: AsRef<[f32]>>(
    path: &Path,
    question_ids: &[QuestionId],
    answer_count: usize,
    rows: impl IntoIterator<Item = R>,
) -> Result<()> {
    atomic::write(path, |writer| {
        // `pred` of the test split has 5.6 GB.
        let mut archive = Writer::new(writer, Storage::Large);
        write_ids(&mut archive, question_ids)?;
        let shape = [question_ids.len(), answer_count];
        archive.start("pred", "<f4", false, &shape)?;
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
                "{} probabilities are not whole rows of {answer_count}",
                piece.len()
            );
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
            archive.write(&bytes)?;
            written += piece.len();
        }
        ensure!(
            written == expected,
            "there are {written} probabilities; {answer_count} for each of {} questions are expected",
            question_ids.len()
        );
        archive.finish()
    })
}

/// Writes the array of ids: i64 if all ids are numbers, else texts padded to the length of the longest one.
fn write_ids<W: Write + Seek>(archive: &mut Writer<W>, ids: &[QuestionId]) -> Result<()> {
    let numbers: Option<Vec<i64>> = ids.iter().map(|id| id.0.number()).collect();
    let shape = [ids.len()];
    let bytes: Vec<u8> = match numbers {
        Some(numbers) => {
            archive.start("question_id", "<i8", false, &shape)?;
            numbers.iter().flat_map(|id| id.to_le_bytes()).collect()
        }
        None => {
            let texts: Vec<Vec<char>> = ids
                .iter()
                .map(|id| id.to_string().chars().collect())
                .collect();
            let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
            archive.start("question_id", &format!("<U{longest}"), false, &shape)?;
            let padded = |text: &Vec<char>| {
                let missing = longest - text.len();
                let codes: Vec<u32> = text.iter().map(|&c| c as u32).collect();
                codes.into_iter().chain(std::iter::repeat_n(0, missing))
            };
            let codes = texts.iter().flat_map(padded);
            codes.flat_map(u32::to_le_bytes).collect()
        }
    };
    archive.write(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    fn ids<const N: usize>(numbers: [i64; N]) -> [QuestionId; N] {
        numbers.map(QuestionId::from)
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
    fn predictions_are_an_npz_file_that_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pred.npz");
        let wrong = write_predictions(&path, &ids([1, 2]), 3, [[0.5_f32; 3]]).unwrap_err();
        assert!(
            format!("{wrong:#}")
                .contains("there are 3 probabilities; 3 for each of 2 questions are expected"),
            "{wrong:#}"
        );
        let wrong = write_predictions(&path, &ids([1, 2]), 4, [[0.5_f32; 3]]).unwrap_err();
        assert!(
            format!("{wrong:#}").contains("3 probabilities are not whole rows of 4"),
            "{wrong:#}"
        );
        assert!(!path.exists());

        write_predictions(
            &path,
            &ids([7, -8, 9]),
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

    #[test]
    fn text_ids_keep_leading_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pred.npz");
        write_predictions(&path, &["07".into(), "123".into()], 1, [[0.5_f32; 2]]).unwrap();
        let bytes = member(&path, "question_id.npy");
        assert!(String::from_utf8_lossy(&bytes).contains("'<U3'"));
        let codes: Vec<u8> = bytes[bytes.len() - 24..]
            .iter()
            .copied()
            .step_by(4)
            .collect();
        assert_eq!(codes, b"07\x00123");
    }
}
