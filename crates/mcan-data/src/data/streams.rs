//! The kinds of image features, those that a data set offers, and those that a model needs.

use crate::formats::bank::Array;

/// A kind of image features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Regions of a detector.
    Regions,
    /// Cells of a feature map.
    Grid,
}

impl StreamKind {
    /// The array of a bank that holds this kind.
    pub fn array(self) -> Array {
        match self {
            StreamKind::Regions => Array::Regions,
            StreamKind::Grid => Array::Grid,
        }
    }
}

/// The size of one kind of image features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// N, rows of every image in the reference, padding included. Further rows are cut off.
    pub padded_to: usize,
    /// F, values per row.
    pub width: usize,
    /// Whether each row has a box.
    pub boxes: bool,
}

/// The image features that a data set offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Regions of a detector.
    pub regions: Option<StreamSpec>,
    /// Cells of a feature map.
    pub grid: Option<StreamSpec>,
}

impl Streams {
    /// The size of one kind, if the data set offers it.
    pub fn get(&self, kind: StreamKind) -> Option<StreamSpec> {
        match kind {
            StreamKind::Regions => self.regions,
            StreamKind::Grid => self.grid,
        }
    }
}

/// The image features that a model needs of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Regions of a detector.
    pub regions: bool,
    /// Cells of a feature map.
    pub grid: bool,
    /// The boxes of the regions.
    pub boxes: bool,
}
