//! `--RUN=score`: the scores of an answer file, without a model.

use super::form::Form;
use super::metric::{Accuracy, Evaluator, Matching};
use super::results::read_answers_of;
use crate::datasets::Measure;
use crate::datasets::vqa2::{AnnotationFile, QuestionFile};
use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::Path;

/// The scores of an answer file.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::datasets) struct ScoreReport {
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
pub(in crate::datasets) fn score(
    result_file: &Path,
    questions: &Path,
    annotations: &Path,
    form: Form,
    measure: Measure,
) -> Result<ScoreReport> {
    // Reading the annotations takes longest; the other files are read at the same time.
    let (annotations, (questions, answers)) = rayon::join(
        || AnnotationFile::read_as(annotations, form),
        || {
            rayon::join(
                || QuestionFile::read_as(questions, form),
                || read_answers_of(result_file, form.layout),
            )
        },
    );
    let (annotations, questions, answers) = (annotations?, questions?, answers?);
    for i in 0..annotations.annotations().len() {
        let id = annotations.question_id(i);
        if questions.position_of(&id).is_none() {
            let (theirs, ours) = (annotations.name(), questions.name());
            bail!(
                "{theirs} annotates question {id}, which is not in {ours}; are they of one split?"
            );
        }
    }
    let evaluator = Evaluator::new(&annotations, measure)?;
    let cannot = || format!("cannot score {}", result_file.display());
    let asked = answers.iter().map(|(id, _)| id.clone());
    evaluator.check_questions(asked).with_context(cannot)?;
    let answers: Vec<_> = answers
        .iter()
        .map(|(id, answer)| (id.clone(), answer.as_str()))
        .collect();
    let numbered = evaluator.numbered(&answers).with_context(cannot)?;
    let pairs = || numbered.iter().copied();
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
        let types = &self.accuracy.per_question_type;
        if !types.is_empty() {
            writeln!(f, "Per Question Type Accuracy is the following:")?;
        }
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
            Form::VQA2,
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
        let message = score(
            &results,
            &questions,
            &annotations,
            Form::VQA2,
            Measure::Official,
        )
        .unwrap_err()
        .to_string();
        assert!(
            message.contains("annotates question 1, which is not in")
                && message.contains("one split"),
            "{message}"
        );
    }
}
