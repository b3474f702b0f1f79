//! Questions, answers and image features, from the files on disk to ragged batches in host memory.
//!
//! Nothing in here knows a device or a tensor: a [`Batch`] is plain vectors, packed (no padding), and the model's
//! `packed` module turns it into tensors.

pub mod answers;
mod convention;
pub mod dataset;
pub mod embeddings;
pub mod features;
pub mod ids;
pub mod loader;
pub mod pack;
pub mod predictions;
pub mod source;
pub mod streams;
mod values;
pub mod vocab;

pub use convention::Convention;
pub use dataset::Dataset;
pub use ids::{Id, ImageId, QuestionId};
pub use values::Values;

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
    pub image_ids: Vec<ImageId>,
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
