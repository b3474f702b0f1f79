//! The answer list that is counted in the annotations if there is no `answer_dict.json`.

use super::AnnotationFile;
use crate::data::answers::AnswerList;
use crate::text::normalize_answer;
use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

/// An answer of the list occurs more often than this.
pub(super) const ANSWER_FREQUENCY: u32 = 8;

/// Counts the answer list as `answer_dict.json` of the reference was made: the normalised `multiple_choice_answer`s that
/// occur more than 8 times in these files, in order of first appearance.
///
/// # Errors
/// An annotation without `multiple_choice_answer`, or no answer that occurs so often.
pub fn count_answers<'a>(
    files: impl IntoIterator<Item = &'a AnnotationFile>,
) -> Result<AnswerList> {
    count_frequent_answers(files, ANSWER_FREQUENCY)
}

/// Counts the answers that occur more than `frequency` times; otherwise as [`count_answers`].
///
/// # Errors
/// Those of [`count_answers`].
pub(super) fn count_frequent_answers<'a>(
    files: impl IntoIterator<Item = &'a AnnotationFile>,
    frequency: u32,
) -> Result<AnswerList> {
    let mut seen: IndexMap<String, u32, FxBuildHasher> = IndexMap::default();
    let mut names = Vec::new();
    for file in files {
        names.push(file.name());
        for (number, count) in count_choices(file)? {
            *seen
                .entry(normalize_answer(file.string(number)))
                .or_default() += count;
        }
    }
    let frequent = seen.into_iter().filter(|(_, count)| *count > frequency);
    let answers: Vec<String> = frequent.map(|(answer, _)| answer).collect();
    if answers.is_empty() {
        bail!(
            "no answer occurs more than {frequency} times in {}; supply an answer_dict.json",
            names.join(" and ")
        );
    }
    AnswerList::from_answers(answers)
}

/// The number of times that each string is a `multiple_choice_answer`, in order of first appearance.
fn count_choices(file: &AnnotationFile) -> Result<IndexMap<u32, u32, FxBuildHasher>> {
    let mut counts = IndexMap::default();
    for annotation in file.annotations() {
        let choice = annotation.multiple_choice_answer.with_context(|| {
            format!(
                "{}: question {} has no \"multiple_choice_answer\"",
                file.name(),
                annotation.question_id
            )
        })?;
        *counts.entry(choice).or_default() += 1;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::vqa2::tests::annotation_file;
    use serde_json::json;

    #[test]
    fn a_list_has_the_choices_that_occur_more_than_eight_times_in_all_files() {
        let choices = |answers: &[(&str, usize)]| {
            let all = answers
                .iter()
                .flat_map(|&(answer, times)| std::iter::repeat_n(answer, times));
            let entry = |(id, answer)| json!({"question_id": id, "image_id": 1, "multiple_choice_answer": answer, "answers": [{"answer": "x"}]});
            annotation_file(&json!({"annotations": (0..).zip(all).map(entry).collect::<Vec<_>>()}))
        };
        let (train, val) = (
            choices(&[("the dog", 5), ("rare", 8), ("two", 9)]),
            choices(&[("yes", 9), ("Dog.", 4)]),
        );
        let built = count_answers([&train, &val]).unwrap();
        assert!(built.answers().eq(["dog", "2", "yes"]));
        let none = count_answers([&choices(&[("rare", 8)])])
            .unwrap_err()
            .to_string();
        assert!(
            none.contains("more than 8 times") && none.contains("file.json"),
            "{none}"
        );
        let lacking = annotation_file(
            &json!({"annotations": [{"question_id": 5, "image_id": 1, "answers": [{"answer": "x"}]}]}),
        );
        let lacking = count_answers([&lacking]).unwrap_err().to_string();
        assert!(
            lacking.contains("question 5 has no \"multiple_choice_answer\""),
            "{lacking}"
        );
    }
}
