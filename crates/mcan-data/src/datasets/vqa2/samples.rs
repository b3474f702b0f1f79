//! The samples of a run, made of question and annotation files.

use super::targets::{indices_of, targets};
use super::{AnnotationFile, QuestionFile};
use crate::data::answers::AnswerList;
use crate::data::vocab::Vocabulary;
use crate::data::{Dataset, QuestionId};
use crate::datasets::{LossKind, SplitName};
use anyhow::{Result, bail};

/// The question and annotation files of a split.
#[derive(Clone, Copy)]
pub(super) struct SplitOf<'a> {
    /// The split whose folder has the images of these questions; none if they are images of the other splits.
    pub(super) images: Option<SplitName>,
    pub(super) questions: &'a QuestionFile,
    pub(super) annotations: &'a AnnotationFile,
}

/// The annotated questions of one or more splits (such as `train+val+vg`), split after split.
///
/// The ids of some data sets start anew in each split. So an annotation means the question of its own split. If that file
/// lacks the question, the last file that has it counts, as in the reference, and the run says so.
///
/// # Errors
/// An annotation whose question is in none of the question files.
pub(super) fn for_training(
    splits: &[SplitOf],
    vocabulary: &Vocabulary,
    answers: &AnswerList,
    max_token: usize,
    loss: LossKind,
) -> Result<Dataset> {
    let mut dataset = Dataset::default();
    let word_ids: Vec<Vec<u32>> = splits
        .iter()
        .map(|split| ids_of(split.questions, vocabulary))
        .collect();
    let ask =
        |split: usize, id: &QuestionId| Some((split, splits[split].questions.position_of(id)?));
    for (own, split) in splits.iter().enumerate() {
        let indices = indices_of(answers, split.annotations.strings());
        let mut of_others = 0;
        for i in 0..split.annotations.annotations().len() {
            let id = split.annotations.question_id(i);
            let others = || (0..splits.len()).rev().find_map(|other| ask(other, &id));
            let Some((asked, at)) = ask(own, &id).or_else(others) else {
                let (theirs, ours) = (split.annotations.name(), split.questions.name());
                bail!("{theirs} annotates question {id}, which is not in {ours}");
            };
            of_others += usize::from(asked != own);
            let words = splits[asked].questions.words(at).iter().take(max_token);
            let image = split.annotations.image(i);
            let images = split.images.or_else(|| {
                // Images of other splits: of the last that has asked about them.
                let mut others = splits.iter().rev().filter_map(|other| other.images);
                others.find(|other| dataset.has_image_of(&image, other))
            });
            let given = split.annotations.answers(i).iter();
            dataset.push(
                id,
                (image, images),
                words.map(|word| word_ids[asked][*word as usize]),
                targets(given.map(|answer| indices[*answer as usize]), loss),
            );
        }
        if of_others > 0 {
            crate::note!(
                "{}: {of_others} of {} annotations are of questions that {} lacks; those of the other question files are used",
                split.annotations.name(),
                split.annotations.annotations().len(),
                split.questions.name()
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
    for i in 0..questions.questions().len() {
        let words = questions.words(i).iter().take(max_token);
        let words = words.map(|word| word_ids[*word as usize]);
        dataset.push(
            questions.question_id(i),
            (questions.image(i), None),
            words,
            [],
        );
    }
    dataset
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
            for_training(
                splits,
                &vocabulary,
                &answers,
                MAX_TOKEN,
                LossKind::BinaryCrossEntropy,
            )
            .unwrap()
            .len()
        };
        let train = split(Some("train"), train, train_answers);
        assert_eq!(size(&[train]), 240);
        let others = [
            split(Some("val"), val, val_answers),
            split(None, vg, vg_answers),
        ];
        assert_eq!(size(&[train, others[0], others[1]]), 376);
        let val = for_answering(val, &vocabulary, MAX_TOKEN);
        assert_eq!((val.len(), val.question_id(119)), (120, &111004.into()));
        assert_eq!(for_answering(test, &vocabulary, MAX_TOKEN).len(), 60);
    }

    fn split<'a>(
        images: Option<SplitName>,
        questions: &'a QuestionFile,
        annotations: &'a AnnotationFile,
    ) -> SplitOf<'a> {
        SplitOf {
            images,
            questions,
            annotations,
        }
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
            vqa2::form::Form::VQA2,
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
            .map(|(q, a)| {
                split(
                    [Some("train"), Some("val"), None, None][q],
                    &questions[q],
                    a,
                )
            })
            .collect::<Vec<_>>();
        let dataset = for_training(
            &splits,
            &vocabulary,
            &answers,
            MAX_TOKEN,
            LossKind::BinaryCrossEntropy,
        )
        .unwrap();
        type Expected = (i64, u64, Vec<u32>, Vec<Target>);
        let expected: Vec<Expected> =
            serde_json::from_str(include_str!("../../../tests/data/golden_samples.json")).unwrap();
        assert_eq!(dataset.len(), expected.len());
        for (i, (question_id, image_id, words, targets)) in expected.into_iter().enumerate() {
            assert_eq!(
                (dataset.question_id(i), dataset.image_id(i)),
                (&question_id.into(), &(image_id as i64).into())
            );
            // Questions of val have ids of train in this world. The reference takes those of val for the annotations of train.
            let of_val = questions[1].position(question_id).is_some();
            if !(i < annotations[0].annotations().len() && of_val) {
                assert_eq!(dataset.words(i), words, "words of question {question_id}");
            }
            let mut sorted = dataset.targets(i).to_vec();
            sorted.sort_by_key(|target| target.0);
            assert_eq!(sorted, targets, "targets of question {question_id}");
        }
    }

    fn asked(questions: &[(i64, &str)]) -> QuestionFile {
        let question =
            |(id, text): &(i64, &str)| json!({"question_id": id, "image_id": 7, "question": text});
        let questions: Vec<_> = questions.iter().map(question).collect();
        question_file(&json!({"questions": questions}))
    }

    fn answered(id: i64) -> AnnotationFile {
        annotation_file(
            &json!({"annotations": [{"question_id": id, "image_id": 7, "answers": [{"answer": "Yes."}]}]}),
        )
    }

    #[test]
    fn an_annotation_means_the_question_and_the_image_of_its_own_split() {
        let (train, val, annotations) = (asked(&[(1, "why")]), asked(&[(1, "what")]), answered(1));
        let vocabulary = vocabulary_of([&train, &val]);
        let answers = AnswerList::from_answers(vec!["no".into(), "yes".into()]).unwrap();
        let splits = [
            split(Some("train"), &train, &annotations),
            split(Some("val"), &val, &annotations),
            split(None, &val, &annotations),
        ];
        let all = for_training(
            &splits,
            &vocabulary,
            &answers,
            1,
            LossKind::BinaryCrossEntropy,
        )
        .unwrap();
        assert_eq!([0, 1, 2].map(|i| all.words(i)[0]), [2, 3, 3]);
        assert_eq!([0, 1, 2].map(|i| all.image(i)), [0, 1, 1]);
        assert_eq!(all.image_splits(), [Some("train"), Some("val")]);
        assert_eq!(all.targets(1), [(1, 0.3)]);
    }

    #[test]
    fn a_question_that_the_own_file_lacks_is_that_of_the_last_file_that_has_it() {
        let (train, val) = (asked(&[(1, "why")]), asked(&[(1, "what"), (2, "who")]));
        let (first, second, vocabulary) = (answered(2), answered(1), vocabulary_of([&train, &val]));
        let answers = AnswerList::from_answers(vec!["no".into(), "yes".into()]).unwrap();
        let splits = [
            split(Some("train"), &train, &first),
            split(Some("val"), &val, &second),
        ];
        let all = for_training(
            &splits,
            &vocabulary,
            &answers,
            14,
            LossKind::BinaryCrossEntropy,
        )
        .unwrap();
        assert_eq!([all.words(0)[0], all.words(1)[0]], [4, 3]);

        let stray = answered(5);
        let stray = for_training(
            &[split(None, &train, &stray)],
            &vocabulary,
            &answers,
            14,
            LossKind::BinaryCrossEntropy,
        );
        let message = stray.unwrap_err().to_string();
        assert!(
            message.contains("annotates question 5, which is not in"),
            "{message}"
        );
    }
}
