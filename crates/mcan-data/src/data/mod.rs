//! Questions, answers and image features, from the files on disk to ragged batches in host memory.
//!
//! This room knows no device and no tensor. A [`Batch`] is made of packed vectors without padding; `nn::packed` turns them
//! into tensors.

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
    /// (sum of n_i, 4) corners x1, y1, x2, y2 of the regions, if the model needs them.
    pub boxes: Option<Vec<f32>>,
    /// (I) rows n_i of each image, at least 1.
    pub counts: Vec<usize>,
    /// (I) whether an image is only padding, which is masked.
    pub all_padding: Vec<bool>,
    /// (sum of n_i) rows that each row stands for, if the model observes padding: 1, or the number of an image's padding rows.
    pub multiplicity: Option<Vec<f32>>,
    /// Rows of every image in the reference, padding included.
    pub padded_to: usize,
}

/// Questions with their words, features and targets, packed: row counts instead of padding.
///
/// A batch has B questions about I images: I = B, or fewer where consecutive questions share an image and sharing is
/// on. It holds the rows that are not padding, and the number of rows that the reference would have. If the model observes
/// padding, one more row of an image stands for its padding.
///
/// A question without a word keeps `words_padded_to` words with the id of padding, and an image without a row keeps
/// `padded_to` zero rows, because the reference attends uniformly to all of them. `no_words` and `all_padding` mark such
/// questions and images.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// (B) positions of the questions in the [`Dataset`].
    pub samples: Vec<usize>,
    /// (I) image ids, for messages.
    pub image_ids: Vec<ImageId>,
    /// (B) index of the image, of the I images, that each question is about.
    pub image_of: Vec<usize>,
    /// Regions of a detector, if the model needs them.
    pub regions: Option<FeatureRows>,
    /// Cells of a feature map, if the model needs them.
    pub grid: Option<FeatureRows>,
    /// (sum of t_b) word ids.
    pub words: Vec<i64>,
    /// (B) number of words t_b of each question, at least 1.
    pub word_counts: Vec<usize>,
    /// (B) whether a question has no word.
    pub no_words: Vec<bool>,
    /// Words of every question in the reference, padding included.
    pub words_padded_to: usize,
    /// Sparse targets: (row in the batch, answer, score); empty when the run has no annotations.
    pub targets: Vec<(u32, u32, f32)>,
}
