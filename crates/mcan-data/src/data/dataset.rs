//! The questions of a run in memory: word ids, images and targets, without padding and without features.

use super::answers::Target;
use super::ids::{ImageId, QuestionId};
use crate::formats::ragged::RaggedVec;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

/// A question with its image, words and targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The id of the question.
    pub question_id: QuestionId,
    /// The image that the question is about.
    pub image_id: ImageId,
    /// The split whose folder is the image's own, if that is known.
    pub image_split: Option<&'static str>,
    /// Word ids, without padding.
    pub words: Vec<u32>,
    /// Answers with a score; empty without an annotation.
    pub targets: Vec<Target>,
}

/// Samples in a fixed order: the order of the annotations in training, the order of the questions in answering.
///
/// Images are numbered from 0 in order of first appearance, so that their features are found without hashing an id.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    question_ids: Vec<QuestionId>,
    images: Vec<u32>,
    image_ids: Vec<ImageId>,
    /// For each image, the split whose folder is its own.
    image_splits: Vec<Option<&'static str>>,
    image_of_id: FxHashMap<(ImageId, Option<&'static str>), u32>,
    words: RaggedVec<u32>,
    targets: RaggedVec<Target>,
}

impl Dataset {
    /// A dataset of these samples.
    pub fn from_samples(samples: impl IntoIterator<Item = Sample>) -> Self {
        let mut dataset = Self::default();
        dataset.extend(samples);
        dataset
    }

    /// An empty dataset in which the images keep their numbers.
    pub fn without_samples(&self) -> Self {
        Dataset {
            image_ids: self.image_ids.clone(),
            image_splits: self.image_splits.clone(),
            image_of_id: self.image_of_id.clone(),
            ..Dataset::default()
        }
    }

    /// Adds a sample: question id, image, word ids without padding, and answers with a score. `split` is the split whose
    /// folder the image lies in, if that is known: image 7 of another split may be another image.
    pub(crate) fn push(
        &mut self,
        question_id: QuestionId,
        (image_id, split): (ImageId, Option<&'static str>),
        words: impl IntoIterator<Item = u32>,
        targets: impl IntoIterator<Item = Target>,
    ) {
        // Not truncated: memory ends before 2^32 ids.
        let next = self.image_ids.len() as u32;
        let image = *self
            .image_of_id
            .entry((image_id, split))
            .or_insert_with_key(|key| {
                self.image_ids.push(key.0.clone());
                self.image_splits.push(key.1);
                next
            });
        self.question_ids.push(question_id);
        self.images.push(image);
        self.words.push(words);
        self.targets.push(targets);
    }

    /// A text that differs if the samples or their order differ: SHA-256 over all ids, words and targets.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for i in 0..self.len() {
            // With lengths, so that no two sequences of samples give the same bytes.
            let (words, targets) = (self.words(i), self.targets(i));
            let split = self.image_splits[self.image(i)].unwrap_or_default();
            hash.update(format!(
                "{} {split}/{} {} {}\n",
                self.question_id(i),
                self.image_id(i),
                words.len(),
                targets.len()
            ));
            words
                .iter()
                .for_each(|word| hash.update(word.to_le_bytes()));
            for (answer, score) in targets {
                hash.update(answer.to_le_bytes());
                hash.update(score.to_le_bytes());
            }
        }
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.question_ids.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.question_ids.is_empty()
    }

    /// The question id of sample `i`.
    pub fn question_id(&self, i: usize) -> &QuestionId {
        &self.question_ids[i]
    }

    /// The question ids of all samples.
    pub fn question_ids(&self) -> &[QuestionId] {
        &self.question_ids
    }

    /// The number of the image of sample `i`.
    pub fn image(&self, i: usize) -> usize {
        self.images[i] as usize
    }

    /// The image id of sample `i`.
    pub fn image_id(&self, i: usize) -> &ImageId {
        &self.image_ids[self.image(i)]
    }

    /// The ids of the distinct images, by number.
    pub fn distinct_images(&self) -> &[ImageId] {
        &self.image_ids
    }

    /// For each distinct image, by number, the split whose folder is its own, if that is known.
    pub fn image_splits(&self) -> &[Option<&'static str>] {
        &self.image_splits
    }

    /// Whether the image with this id that lies in the folder of `split` is there.
    pub(crate) fn has_image_of(&self, image_id: &ImageId, split: &'static str) -> bool {
        self.image_of_id
            .contains_key(&(image_id.clone(), Some(split)))
    }

    /// The word ids of sample `i`, without padding; empty when the question has no word.
    pub fn words(&self, i: usize) -> &[u32] {
        self.words.row(i)
    }

    /// The targets of sample `i`, one for each answer; empty when no annotator gave an answer of the list.
    pub fn targets(&self, i: usize) -> &[Target] {
        self.targets.row(i)
    }
}

impl Extend<Sample> for Dataset {
    fn extend<I: IntoIterator<Item = Sample>>(&mut self, samples: I) {
        for sample in samples {
            self.push(
                sample.question_id,
                (sample.image_id, sample.image_split),
                sample.words,
                sample.targets,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_and_each_image_has_one_number() {
        let sample = |question: i64, image: i64| Sample {
            question_id: question.into(),
            image_id: image.into(),
            image_split: None,
            words: vec![5; question as usize],
            targets: vec![(6, 1.0)],
        };
        let dataset = Dataset::from_samples([sample(0, 4), sample(3, 9), sample(2, 4)]);
        assert_eq!((dataset.len(), dataset.is_empty()), (3, false));
        assert_eq!(dataset.distinct_images(), [4.into(), 9.into()]);
        assert_eq!([0, 1, 2].map(|i| dataset.image(i)), [0, 1, 0]);
        assert_eq!(dataset.question_id(1), &3.into());
        assert_eq!(dataset.image_id(2), &4.into());
        assert!(dataset.words(0).is_empty());
        assert_eq!(
            (dataset.words(1), dataset.targets(1)),
            (&[5; 3][..], &[(6, 1.0)][..])
        );

        let digest =
            |order: [i64; 2]| Dataset::from_samples(order.map(|id| sample(id, 4))).digest();
        assert!(digest([1, 2]) == digest([1, 2]) && digest([1, 2]) != digest([2, 1]));

        let mut other = dataset.without_samples();
        assert!(other.is_empty());
        other.extend([sample(1, 9)]);
        assert_eq!(other.image(0), 1);
    }
}
