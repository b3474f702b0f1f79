//! The questions of one run in memory: word ids, image ids and targets, without padding and without features.

use crate::data::answers::{AnswerList, Target};
use crate::data::loader::Samples;
use crate::data::vocab::Vocabulary;
use crate::datasets::vqa2::{AnnotationFile, QuestionFile};
use crate::formats::ragged::Ragged;
use anyhow::{Result, bail};

/// One sample, for data that does not come from files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The id in the answer file.
    pub question_id: i64,
    /// COCO image id.
    pub image_id: u64,
    /// Word ids, no padding.
    pub words: Vec<u32>,
    /// Answers that score; empty when there is no annotation.
    pub targets: Vec<Target>,
}

/// Samples in a fixed order: that of the annotations when training, that of the questions when answering.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    question_ids: Vec<i64>,
    image_ids: Vec<u64>,
    words: Ragged<u32>,
    targets: Ragged<Target>,
}

impl Dataset {
    /// The annotated questions of one or more splits (`train+val+vg`), one split after the other.
    ///
    /// As in the reference, a question id means the question of the last of these files that has it, for the annotations
    /// of every split: ids are supposed to be unique across files.
    ///
    /// # Errors
    /// An annotation whose question is in none of the question files.
    pub fn for_training(
        splits: &[(&QuestionFile, &AnnotationFile)],
        vocabulary: &Vocabulary,
        answers: &AnswerList,
        max_token: usize,
    ) -> Result<Self> {
        let mut dataset = Self::default();
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
            let indices = answers.indices_of(annotations);
            for (i, annotation) in annotations.annotations().iter().enumerate() {
                let Some((asked, word_ids, at)) = find(annotation.question_id) else {
                    let (theirs, ours) = (annotations.name(), questions.name());
                    bail!(
                        "{theirs} annotates question {}, which is not in {ours}",
                        annotation.question_id
                    );
                };
                dataset.question_ids.push(annotation.question_id);
                dataset.image_ids.push(annotation.image_id);
                dataset.words.push(
                    asked
                        .words(at)
                        .iter()
                        .take(max_token)
                        .map(|word| word_ids[*word as usize]),
                );
                let given = annotations
                    .answers(i)
                    .iter()
                    .map(|answer| indices[*answer as usize]);
                dataset.targets.push(AnswerList::targets(given));
            }
        }
        Ok(dataset)
    }

    /// Every question of a file, without targets.
    pub fn for_answering(
        questions: &QuestionFile,
        vocabulary: &Vocabulary,
        max_token: usize,
    ) -> Self {
        let word_ids = ids_of(questions, vocabulary);
        let mut dataset = Self::default();
        for (i, question) in questions.questions().iter().enumerate() {
            dataset.question_ids.push(question.question_id);
            dataset.image_ids.push(question.image_id);
            dataset.words.push(
                questions
                    .words(i)
                    .iter()
                    .take(max_token)
                    .map(|word| word_ids[*word as usize]),
            );
            dataset.targets.push([]);
        }
        dataset
    }

    /// Exactly these samples.
    pub fn from_samples(samples: impl IntoIterator<Item = Sample>) -> Self {
        let mut dataset = Self::default();
        for sample in samples {
            dataset.question_ids.push(sample.question_id);
            dataset.image_ids.push(sample.image_id);
            dataset.words.push(sample.words);
            dataset.targets.push(sample.targets);
        }
        dataset
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.question_ids.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.question_ids.is_empty()
    }

    /// The question of sample `i`.
    pub fn question_id(&self, i: usize) -> i64 {
        self.question_ids[i]
    }

    /// The questions of all samples.
    pub fn question_ids(&self) -> &[i64] {
        &self.question_ids
    }

    /// The COCO image of sample `i`.
    pub fn image_id(&self, i: usize) -> u64 {
        self.image_ids[i]
    }

    /// The COCO images of all samples, with repetitions.
    pub fn image_ids(&self) -> &[u64] {
        &self.image_ids
    }

    /// The word ids of sample `i`: at most `MAX_TOKEN`, no padding, none when the question has no word.
    pub fn words(&self, i: usize) -> &[u32] {
        self.words.row(i)
    }

    /// The answers that score in sample `i`, each once; none when nobody gave an answer of the list.
    pub fn targets(&self, i: usize) -> &[Target] {
        self.targets.row(i)
    }
}

impl Samples for Dataset {
    fn len(&self) -> usize {
        self.len()
    }

    fn question_id(&self, position: usize) -> i64 {
        self.question_id(position)
    }

    fn image_id(&self, position: usize) -> u64 {
        self.image_id(position)
    }

    fn words(&self, position: usize) -> &[u32] {
        self.words(position)
    }

    fn targets(&self, position: usize) -> &[Target] {
        self.targets(position)
    }
}

/// For each distinct word of a file its id in the vocabulary.
fn ids_of(questions: &QuestionFile, vocabulary: &Vocabulary) -> Vec<u32> {
    questions
        .distinct_words()
        .map(|word| vocabulary.id(word))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::vqa2;
    use crate::datasets::vqa2::tests::{annotation_file, question_file, shared};
    use serde_json::json;
    use std::path::PathBuf;

    const MAX_TOKEN: usize = 14;

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
            Dataset::for_training(splits, &vocabulary, &answers, MAX_TOKEN)
                .unwrap()
                .len()
        };
        assert_eq!(size(&[(train, train_answers)]), 240);
        assert_eq!(
            size(&[(train, train_answers), (val, val_answers), (vg, vg_answers)]),
            376
        );
        let val = Dataset::for_answering(val, &vocabulary, MAX_TOKEN);
        assert_eq!((val.len(), val.question_id(119)), (120, 111004));
        assert_eq!(
            Dataset::for_answering(test, &vocabulary, MAX_TOKEN).len(),
            60
        );
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
        let vocabulary = Vocabulary::from_questions(&questions);
        (
            questions,
            annotations,
            vocabulary,
            AnswerList::load(&world.join("answer_dict.json")).unwrap(),
        )
    }

    /// What the reference makes of every sample of `train+val+vg`; written by tests/data/golden_samples.py.
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
        let dataset = Dataset::for_training(&splits, &vocabulary, &answers, MAX_TOKEN).unwrap();
        type Expected = (i64, u64, Vec<u32>, Vec<Target>);
        let expected: Vec<Expected> =
            serde_json::from_str(include_str!("../../tests/data/golden_samples.json")).unwrap();
        assert_eq!(dataset.len(), expected.len());
        for (i, (question_id, image_id, words, targets)) in expected.into_iter().enumerate() {
            assert_eq!(
                (dataset.question_id(i), dataset.image_id(i)),
                (question_id, image_id)
            );
            assert_eq!(dataset.words(i), words, "words of question {question_id}");
            let mut sorted = dataset.targets(i).to_vec();
            sorted.sort_by_key(|target| target.0);
            assert_eq!(sorted, targets, "targets of question {question_id}");
        }
    }

    #[test]
    fn an_id_means_the_question_of_the_last_file_that_has_it() {
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
        let vocabulary = Vocabulary::from_questions([&train, &vg]);
        let answers = AnswerList::from_answers(vec!["no".into(), "yes".into()]).unwrap();
        let both = Dataset::for_training(
            &[(&train, &annotations), (&vg, &annotations)],
            &vocabulary,
            &answers,
            1,
        )
        .unwrap();
        assert_eq!((both.words(0), both.words(1)), (&[4][..], &[4][..]));
        assert_eq!(both.targets(1), [(1, 0.3)]);

        let stray = Dataset::for_training(&[(&train, &answered(5))], &vocabulary, &answers, 14)
            .unwrap_err()
            .to_string();
        assert!(
            stray.contains("annotates question 5, which is not in"),
            "{stray}"
        );
    }

    #[test]
    fn samples_given_by_hand_come_back() {
        let sample = Sample {
            question_id: 3,
            image_id: 4,
            words: vec![5],
            targets: vec![(6, 1.0)],
        };
        let dataset = Dataset::from_samples([Sample::default(), sample]);
        assert!(
            dataset.words(0).is_empty() && dataset.targets(0).is_empty() && !dataset.is_empty()
        );
        assert_eq!(
            (dataset.question_ids(), dataset.image_ids()),
            (&[0, 3][..], &[0, 4][..])
        );
        assert_eq!(
            (dataset.words(1), dataset.targets(1)),
            (&[5][..], &[(6, 1.0)][..])
        );
    }
}
