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
    /// The unit of the boxes of the rows, unless the configuration says otherwise; none if rows have no boxes.
    pub boxes: Option<BoxUnit>,
}

/// The unit of the corners of boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoxUnit {
    /// Pixels, as stored.
    Pixels,
    /// Shares of the width and of the height of the image.
    Shares,
}

/// What a model does with padding: the rows that fill images up to [`StreamSpec::padded_to`], and rows of zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// It is masked, and so left out. An image that is only padding keeps all of it, and is attended to uniformly.
    #[default]
    Masked,
    /// It is masked, and the model cannot use an image that is only padding.
    MaskedAlways,
    /// It takes part. One row stands for all padding of an image, with the number of rows that it stands for. A row of zeros
    /// is not padding if the model reads its box.
    Observed,
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
    /// The boxes of the regions, in this unit.
    pub boxes: Option<BoxUnit>,
    /// What the model does with padding.
    pub padding: Padding,
}
