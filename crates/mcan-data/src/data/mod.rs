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
pub enum Values {
    /// From `.npz` files or an f32 bank.
    F32(Vec<f32>),
    /// From an f16 bank; widened on the device.
    F16(Vec<half::f16>),
    /// Row numbers of a table that the device holds (`--PRELOAD=gpu`).
    Rows(Vec<i64>),
}

/// The feature rows of one stream, regions or grid cells, of the distinct images of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureRows {
    /// (sum of n_i, F) values, row after row.
    pub values: Values,
    /// (sum of n_i, 4) corners x1, y1, x2, y2 of the regions, where the model asks for them.
    pub boxes: Option<Vec<f32>>,
    /// (I) rows n_i of each image, at least 1.
    pub counts: Vec<usize>,
    /// (I) images whose every row is zero or absent.
    pub all_padding: Vec<bool>,
    /// Rows that the reference computes for every image, its padding included.
    pub padded_to: usize,
}

/// Some questions with what the model needs to answer them, packed: row counts instead of padding.
///
/// A batch has B questions about I images: I = B, or fewer where consecutive questions share an image and sharing is
/// on. It holds the rows that are not padding, and how many rows the reference would have had; the model says whether
/// it observes the difference.
///
/// A question without a word keeps `words_padded_to` words of id 0, and an image without a row keeps `padded_to` zero
/// rows, because the reference attends uniformly over exactly those; `no_words` and `all_padding` mark them.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// (B) positions in the [`Dataset`], which give question ids in order.
    pub samples: Vec<usize>,
    /// (I) image ids, for messages.
    pub image_ids: Vec<u64>,
    /// (B) which of the I images each question is about.
    pub image_of: Vec<usize>,
    /// Regions of a detector, where the model needs them.
    pub regions: Option<FeatureRows>,
    /// Cells of a feature map, where the model needs them.
    pub grid: Option<FeatureRows>,
    /// (sum of t_b) word ids.
    pub words: Vec<i64>,
    /// (B) words t_b of each question, at least 1.
    pub word_counts: Vec<usize>,
    /// (B) questions without a word.
    pub no_words: Vec<bool>,
    /// Words that the reference computes for every question, its padding included.
    pub words_padded_to: usize,
    /// Sparse (row in the batch, answer, score) triples; empty when the run has no annotations.
    pub targets: Vec<(u32, u32, f32)>,
}
