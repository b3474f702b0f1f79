//! The samples of a run, made of question and annotation files.

use super::targets::{indices_of, targets};
use super::{AnnotationFile, QuestionFile};
use crate::data::answers::AnswerList;
use crate::data::vocab::Vocabulary;
use crate::data::{Dataset, ImageId};
use anyhow::{Result, bail};

/// The annotated questions of one or more splits (such as `train+val+vg`), split after split.
///
/// Question ids should be unique across files. If several files have an id, the question of the last file counts for the
/// annotations of every split, as in the reference.
///
/// # Errors
/// An annotation whose question is in none of the question files.
pub(super) fn for_training(
    splits: &[(&QuestionFile, &AnnotationFile)],
    vocabulary: &Vocabulary,
    answers: &AnswerList,
    max_token: usize,
) -> Result<Dataset> {
    let mut dataset = Dataset::default();
    let word_ids: Vec<Vec<u32>> = splits
        .iter()
        .map(|(questions, _)| ids_of(questions, vocabulary))
        .collect();
    let find = |id| {
        let files = splits.iter().zip(&word_ids).rev();
        files
            .into_iter()
            .find_map(|((questions, _), ids)| Some((questions, ids, questions.position(id)?)))
    };
    for &(questions, annotations) in splits {
        let indices = indices_of(answers, annotations.strings());
        for (i, annotation) in annotations.annotations().iter().enumerate() {
            let Some((asked, word_ids, at)) = find(annotation.question_id) else {
                let (theirs, ours) = (annotations.name(), questions.name());
                bail!(
                    "{theirs} annotates question {}, which is not in {ours}",
                    annotation.question_id
                );
            };
            let words = asked.words(at).iter().take(max_token);
            let given = annotations.answers(i).iter();
            dataset.push(
                annotation.question_id.into(),
                id_of_image(annotation.image_id),
                words.map(|word| word_ids[*word as usize]),
                targets(given.map(|answer| indices[*answer as usize])),
            );
        }
    }
    Ok(dataset)
}

/// Every question of a file, without targets.
pub(super) fn for_answering(
    questions: &QuestionFile,
    vocabulary: &Vocabulary,
    max_token: usize,
) -> Dataset {
    let word_ids = ids_of(questions, vocabulary);
    let mut dataset = Dataset::default();
    for (i, question) in questions.questions().iter().enumerate() {
        let words = questions.words(i).iter().take(max_token);
        let words = words.map(|word| word_ids[*word as usize]);
        dataset.push(
            question.question_id.into(),
            id_of_image(question.image_id),
            words,
            [],
        );
    }
    dataset
}

/// The id of a COCO image.
fn id_of_image(number: u64) -> ImageId {
    // Not truncated: a file with a larger number is refused.
    ImageId::from(number as i64)
}

/// For each distinct word of a file, its id in the vocabulary.
fn ids_of(questions: &QuestionFile, vocabulary: &Vocabulary) -> Vec<u32> {
    questions
        .distinct_words()
        .map(|word| vocabulary.id(word))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::answers::Target;
    use crate::datasets::vqa2;
    use crate::datasets::vqa2::tests::{annotation_file, question_file, shared};
    use serde_json::json;
    use std::path::PathBuf;

    const MAX_TOKEN: usize = 14;

    fn vocabulary_of<'a>(files: impl IntoIterator<Item = &'a QuestionFile>) -> Vocabulary {
        let words = files.into_iter().flat_map(QuestionFile::distinct_words);
        Vocabulary::new(&["PAD", "UNK"], words)
    }

    #[test]
    fn the_golden_world_has_the_sizes_that_the_reference_printed() {
        let Some(world) = shared("golden/world/datasets/vqa") else {
            return;
        };
        let (questions, annotations, vocabulary, answers) = golden(&world);
        let [train, val, test, vg] = &questions[..] else {
            unreachable!()
        };
        let [train_answers, val_answers, vg_answers] = &annotations[..] else {
            unreachable!()
        };
        assert_eq!((vocabulary.len(), answers.len()), (93, 45));
        let size = |splits: &[_]| {
            for_training(splits, &vocabulary, &answers, MAX_TOKEN)
                .unwrap()
                .len()
        };
        assert_eq!(size(&[(train, train_answers)]), 240);
        assert_eq!(
            size(&[(train, train_answers), (val, val_answers), (vg, vg_answers)]),
            376
        );
        let val = for_answering(val, &vocabulary, MAX_TOKEN);
        assert_eq!((val.len(), val.question_id(119)), (120, &111004.into()));
        assert_eq!(for_answering(test, &vocabulary, MAX_TOKEN).len(), 60);
    }

    fn golden(
        world: &std::path::Path,
    ) -> (
        Vec<QuestionFile>,
        Vec<AnnotationFile>,
        Vocabulary,
        AnswerList,
    ) {
        let paths = |names: &[&str]| {
            names
                .iter()
                .map(|name| world.join(name))
                .collect::<Vec<PathBuf>>()
        };
        let questions = ["train2014", "val2014", "test2015"]
            .map(|split| format!("v2_OpenEnded_mscoco_{split}_questions.json"));
        let (questions, annotations) = vqa2::read_all(
            &paths(&[
                &questions[0],
                &questions[1],
                &questions[2],
                "VG_questions.json",
            ]),
            &paths(&[
                "v2_mscoco_train2014_annotations.json",
                "v2_mscoco_val2014_annotations.json",
                "VG_annotations.json",
            ]),
        )
        .unwrap();
        let vocabulary = vocabulary_of(&questions);
        (
            questions,
            annotations,
            vocabulary,
            AnswerList::load(&world.join("answer_dict.json")).unwrap(),
        )
    }

    /// Compares with the samples that the reference makes of `train+val+vg`, written by tests/data/golden_samples.py.
    #[test]
    fn every_golden_sample_has_the_words_and_targets_of_the_reference() {
        let Some(world) = shared("golden/world/datasets/vqa") else {
            return;
        };
        let (questions, annotations, vocabulary, answers) = golden(&world);
        let splits = [0, 1, 3]
            .into_iter()
            .zip(&annotations)
            .map(|(q, a)| (&questions[q], a))
            .collect::<Vec<_>>();
        let dataset = for_training(&splits, &vocabulary, &answers, MAX_TOKEN).unwrap();
        type Expected = (i64, u64, Vec<u32>, Vec<Target>);
        let expected: Vec<Expected> =
            serde_json::from_str(include_str!("../../../tests/data/golden_samples.json")).unwrap();
        assert_eq!(dataset.len(), expected.len());
        for (i, (question_id, image_id, words, targets)) in expected.into_iter().enumerate() {
            assert_eq!(
                (dataset.question_id(i), dataset.image_id(i)),
                (&question_id.into(), &id_of_image(image_id))
            );
            assert_eq!(dataset.words(i), words, "words of question {question_id}");
            let mut sorted = dataset.targets(i).to_vec();
            sorted.sort_by_key(|target| target.0);
            assert_eq!(sorted, targets, "targets of question {question_id}");
        }
    }

    #[test]
    fn of_several_questions_with_one_id_that_of_the_last_file_counts() {
        let asked = |text: &str| {
            question_file(
                &json!({"questions": [{"question_id": 1, "image_id": 7, "question": text}]}),
            )
        };
        let answered = |id: i64| {
            annotation_file(
                &json!({"annotations": [{"question_id": id, "image_id": 7, "answers": [{"answer": "Yes."}]}]}),
            )
        };
        let (train, vg, annotations) = (asked("why not"), asked("what"), answered(1));
        let vocabulary = vocabulary_of([&train, &vg]);
        let answers = AnswerList::from_answers(vec!["no".into(), "yes".into()]).unwrap();
        let both = for_training(
            &[(&train, &annotations), (&vg, &annotations)],
            &vocabulary,
            &answers,
            1,
        )
        .unwrap();
        assert_eq!((both.words(0), both.words(1)), (&[4][..], &[4][..]));
        assert_eq!(both.targets(1), [(1, 0.3)]);

        let stray = for_training(&[(&train, &answered(5))], &vocabulary, &answers, 14)
            .unwrap_err()
            .to_string();
        assert!(
            stray.contains("annotates question 5, which is not in"),
            "{stray}"
        );
    }
}
