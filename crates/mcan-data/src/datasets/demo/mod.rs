//! The demo: small made-up data sets in the official file formats, for a first run without the real data.
//!
//! `world` makes images and their features. Each data set has a writer in a folder of its own, which asks questions about
//! the images, and an entry in `SETS`. A model needs the image features and the question for a good answer: the answers
//! are balanced, so that either of the two alone predicts few of them.

mod clevr;
mod files;
mod gqa;
#[cfg(test)]
mod tests;
mod vqa;
mod world;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// All data sets of the demo.
static SETS: [&DemoSet; 3] = [&vqa::SET, &gqa::SET, &clevr::SET];

/// The number of questions about each image, about as many as in VQA-v2.
const QUESTIONS_PER_IMAGE: usize = 6;
/// The largest number of images of a split.
const MAX_IMAGES: usize = 10_000;

/// The demo data set in the format of one benchmark.
pub struct DemoSet {
    /// The value of `--DATASET`.
    dataset: &'static str,
    /// The folder of question files, below the root.
    pub questions: &'static str,
    /// The folder of the feature folders, below the root.
    pub features: &'static str,
    /// The feature folders in `features`.
    pub feature_folders: &'static [&'static str],
    /// Writes all files below a root.
    write: fn(&Path, &DemoOptions) -> Result<DemoReport>,
}

/// The size and the seed of a demo data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// The seed; the same seed gives the same files, byte for byte.
    pub seed: u64,
    /// Images of the split to train on.
    pub train_images: usize,
    /// Images of the split that is evaluated.
    pub val_images: usize,
    /// Images of every other split.
    pub test_images: usize,
}

impl Default for DemoOptions {
    /// A data set that a tiny model learns in a few minutes on two cores, that of VQA-v2 in less than one.
    fn default() -> Self {
        DemoOptions {
            seed: 0,
            train_images: 600,
            val_images: 120,
            test_images: 60,
        }
    }
}

impl DemoOptions {
    /// The numbers of images of train, of the evaluated split, and of test.
    fn images(&self) -> [usize; 3] {
        [self.train_images, self.val_images, self.test_images]
    }
}

/// The size of a demo data set that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoReport {
    /// Images.
    pub images: usize,
    /// Questions to train on, without Visual Genome's.
    pub train_questions: usize,
    /// Questions of the split that is evaluated.
    pub val_questions: usize,
    /// Questions of the test split.
    pub test_questions: usize,
    /// Answers to choose from.
    pub answers: usize,
}

/// The demo of the data set of this name.
///
/// # Errors
/// A data set without a demo.
pub fn find(dataset: &str) -> Result<&'static DemoSet> {
    let found = SETS.into_iter().find(|set| set.dataset == dataset);
    found.with_context(|| {
        let known = SETS.map(|set| set.dataset).join(", ");
        format!("DATASET = {dataset}: the demo has no such data set, only {known}")
    })
}

/// Writes the demo of a data set into its folders below `root`. Files of the same names are replaced.
///
/// # Errors
/// A data set without a demo, a number of images that is not from 1 to 10000, or a file that cannot be written. The error
/// names it.
pub fn write(root: &Path, dataset: &str, options: &DemoOptions) -> Result<DemoReport> {
    let set = find(dataset)?;
    for (split, images) in ["train", "val", "test"].into_iter().zip(options.images()) {
        ensure!(
            (1..=MAX_IMAGES).contains(&images),
            "a demo data set has 1 to {MAX_IMAGES} {split} images, not {images}"
        );
    }
    (set.write)(root, options)
}

/// The random generator of number `stream`. Each image has its own, so that the order of the threads does not matter.
fn random(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}
