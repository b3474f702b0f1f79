//! Questions, answers and image features, from the files on disk to ragged batches in host memory.
//!
//! Nothing in here knows a device or a tensor: a [`Batch`] is plain vectors, packed (no padding), and the model's
//! `packed` module turns it into tensors.

pub mod answers;
pub mod dataset;
pub mod embeddings;
pub mod features;
pub mod loader;
pub mod vocab;

pub use dataset::Dataset;

/// One of the three COCO image folders, which are also the question splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// `train2014`
    Train,
    /// `val2014`
    Val,
    /// `test2015` (its test-dev subset shares the images)
    Test,
}

impl Split {
    /// Folder name of the features, and the middle part of the official file names.
    pub fn coco_name(self) -> &'static str {
        match self {
            Split::Train => "train2014",
            Split::Val => "val2014",
            Split::Test => "test2015",
        }
    }
}

/// Image features of a batch, row after row: `IMG_FEAT_SIZE` values each, in the precision that they are stored in, or where
/// those are.
#[derive(Clone, Debug, PartialEq)]
pub enum Regions {
    /// From `.npz` files or an f32 bank.
    F32(Vec<f32>),
    /// From an f16 bank; widened on the device.
    F16(Vec<half::f16>),
    /// Row numbers of a table that the device holds (`--PRELOAD=gpu`).
    Rows(Vec<i64>),
}

/// Some questions with what the model needs to answer them, packed: row counts instead of padding.
///
/// B questions about I images (I = B, or fewer where consecutive questions share an image and sharing is on).
/// A question without a word keeps `MAX_TOKEN` words of id 0 and an image without a region `IMG_FEAT_PAD_SIZE` zero
/// rows, because the reference attends uniformly over exactly those; `no_words` and `no_regions` mark them.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// (B) positions in the [`Dataset`], which give question ids in order.
    pub samples: Vec<usize>,
    /// (I) COCO image ids, for messages.
    pub image_ids: Vec<u64>,
    /// (B) which of the I images each question is about.
    pub image_of: Vec<usize>,
    /// The sum of n_i rows.
    pub regions: Regions,
    /// (I) rows of each image, at least 1.
    pub region_counts: Vec<usize>,
    /// (I) images whose every region is zero or absent.
    pub no_regions: Vec<bool>,
    /// (sum of t_b) word ids.
    pub words: Vec<i64>,
    /// (B) words of each question, at least 1.
    pub word_counts: Vec<usize>,
    /// (B) questions without a word.
    pub no_words: Vec<bool>,
    /// Sparse (row in the batch, answer, score) triples; empty when the run has no annotations.
    pub targets: Vec<(u32, u32, f32)>,
}
