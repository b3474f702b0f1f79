//! `--RUN=score`: the scores of an answer file, without a model.

use super::metric::{Accuracy, Evaluator, Matching};
use super::read_answers;
use crate::datasets::Measure;
use crate::datasets::vqa2::{AnnotationFile, QuestionFile};
use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::Path;

/// The scores of an answer file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ScoreReport {
    /// The official metric.
    pub(super) accuracy: Accuracy,
    /// The overall accuracy in percent when answers with equal stems (`dog`, `dogs`) count as equal.
    pub(super) stem_overall: f64,
}

/// Scores the answer file against the questions and annotations of a split.
///
/// # Errors
/// A file that cannot be read, an annotation without its question, or answers that are not one for each annotated
/// question.
pub(super) fn score(
    result_file: &Path,
    questions: &Path,
    annotations: &Path,
    measure: Measure,
) -> Result<ScoreReport> {
    // Reading the annotations takes longest; the other files are read at the same time.
    let (annotations, (questions, answers)) = rayon::join(
        || AnnotationFile::read(annotations),
        || {
            rayon::join(
                || QuestionFile::read(questions),
                || read_answers(result_file),
            )
        },
    );
    let (annotations, questions, answers) = (annotations?, questions?, answers?);
    for annotation in annotations.annotations() {
        if questions.position(annotation.question_id).is_none() {
            let (theirs, ours) = (annotations.name(), questions.name());
            bail!(
                "{theirs} annotates question {}, which is not in {ours}; are they of one split?",
                annotation.question_id
            );
        }
    }
    let evaluator = Evaluator::new(&annotations, measure)?;
    let ids: Vec<i64> = answers.iter().map(|entry| entry.question_id).collect();
    evaluator
        .check_questions(&ids)
        .with_context(|| format!("cannot score {}", result_file.display()))?;
    let pairs = || {
        answers
            .iter()
            .map(|entry| (entry.question_id, &*entry.answer))
    };
    let (exact, stems) = rayon::join(
        || evaluator.accuracy(pairs(), Matching::Exact),
        || evaluator.accuracy(pairs(), Matching::Stems),
    );
    Ok(ScoreReport {
        accuracy: exact?,
        stem_overall: stems?.overall,
    })
}

/// The lines of the reference, then its disabled lines for question types, then the diagnostic.
impl fmt::Display for ScoreReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}", self.accuracy)?;
        writeln!(f, "Per Question Type Accuracy is the following:")?;
        let types = &self.accuracy.per_question_type;
        types
            .iter()
            .try_for_each(|(name, value)| writeln!(f, "{name} : {value:.2}"))?;
        let lost = self.stem_overall - self.accuracy.overall;
        writeln!(
            f,
            "\nOverall Accuracy with equal stems counted as equal is: {:.2} (inflection costs {lost:.2})",
            self.stem_overall
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::vqa2::tests::{shared, write_json};
    use serde_json::json;

    #[test]
    fn the_golden_answers_score_what_the_reference_printed() {
        let Some(world) = shared("golden/world") else {
            return;
        };
        let report = score(
            &world.join("results/cache/result_run_golden.json"),
            &world.join("datasets/vqa/v2_OpenEnded_mscoco_val2014_questions.json"),
            &world.join("datasets/vqa/v2_mscoco_val2014_annotations.json"),
            Measure::Official,
        )
        .unwrap();
        let printed = std::fs::read_to_string(world.join("out_val.txt")).unwrap();
        assert!(printed.contains(&report.accuracy.to_string()), "{report}");
        assert!(
            report.to_string().starts_with(
                "Overall Accuracy is: 27.17\n\nPer Answer Type Accuracy is the following:\nother : 5.41\n"
            )
        );
        assert_eq!(
            report.accuracy.log_lines(),
            "Overall Accuracy is: 27.17\nother : 5.41 yes/no : 1.07 number : 93.55 \n\n"
        );
        assert!(report.stem_overall >= report.accuracy.overall);
    }

    #[test]
    fn files_of_different_splits_are_an_error() {
        let answer = json!({"question_id": 1, "image_id": 1, "question_type": "a", "answer_type": "b", "answers": [{"answer": "c"}]});
        let (_a, annotations) = write_json(&json!({"annotations": [answer]}));
        let (_q, questions) =
            write_json(&json!({"questions": [{"question_id": 2, "image_id": 1, "question": "d"}]}));
        let (_r, results) = write_json(&json!([{"question_id": 1, "answer": "c"}]));
        let message = score(&results, &questions, &annotations, Measure::Official)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("annotates question 1, which is not in")
                && message.contains("one split"),
            "{message}"
        );
    }
}
