//! The models, as equations.
//!
//! A model is one file or folder. It declares a [`Family`]: its name, its keys, what it needs of a batch, and how it is
//! built. [`FAMILIES`] lists them; no other file of the program names a model.

mod adapter;
mod ban;
mod butd;
mod classifier;
mod images;
pub mod mcan;
mod mfb;
mod mmnasnet;
mod network;
mod recognise;
#[cfg(test)]
mod testing;

pub(crate) use network::NamedRows;
pub use network::Network;
pub(crate) use recognise::recognise;

use crate::config::{ConfigError, FamilyKeys, ModelValues, Schema, require};
use crate::data::Convention;
use crate::data::streams::{Needs, Streams};
use crate::nn::packed::PackedBatch;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use anyhow::Result;
use std::fmt::Debug;
use tch::Tensor;

/// The equations of a network.
pub(crate) trait Model: Debug + Send {
    /// Computes the logit of each answer.
    ///
    /// # Shapes
    /// -> (B, answers), float32
    ///
    /// # Errors
    /// A batch without the features that the model needs.
    fn forward(&self, batch: &PackedBatch, pass: &Pass) -> Result<Tensor>;

    /// (words, E) the word embedding, which may start from word vectors.
    fn word_embedding(&self) -> &Tensor;
}

/// Sizes that a model takes from its data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Words of the vocabulary.
    pub words: usize,
    /// Answers to choose from.
    pub answers: usize,
    /// Streams of the data set.
    pub streams: Streams,
    /// Whose names the parameters have, if the reference and OpenVQA differ.
    pub convention: Convention,
}

/// Names and shapes of a checkpoint's tensors.
pub(crate) type Shapes = [(String, Vec<i64>)];

/// What the shapes of a checkpoint show.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The given values, with each size that shows taken from the shapes.
    pub(crate) values: ModelValues,
    /// Widths of the image features.
    pub(crate) widths: Widths,
}

/// Values per row of each kind of image features, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Widths {
    /// Of a region.
    pub(crate) regions: Option<usize>,
    /// Of a grid cell.
    pub(crate) grid: Option<usize>,
}

/// A model family: everything that the rest of the program knows of it.
pub(crate) struct Family {
    /// The name of the family and its configuration keys.
    pub(crate) keys: FamilyKeys,
    /// What the model needs of a batch of a data set with these streams.
    pub(crate) needs: fn(&ModelValues, Streams) -> Result<Needs>,
    /// Builds the model, whose parameters are created below the path.
    pub(crate) build: fn(&ModelValues, &Sizes, Path) -> Result<Box<dyn Model>>,
    /// What the shapes of a checkpoint show. A value that they do not show is the given one.
    pub(crate) sizes_of: fn(&Shapes, &ModelValues) -> Result<Shown>,
    /// The model's name for a tensor of a checkpoint, which may come from a program with other names.
    pub(crate) canonical_name: fn(&str) -> String,
    /// A parameter, by its canonical name, that no other family has.
    pub(crate) sign: &'static str,
    /// The configuration of the published checkpoint with these shapes: a value of `--MODEL`.
    pub(crate) published: fn(&Shapes) -> &'static str,
}

/// All families.
pub(crate) const FAMILIES: [&Family; 5] = [
    &mcan::FAMILY,
    &butd::FAMILY,
    &ban::FAMILY,
    &mfb::FAMILY,
    &mmnasnet::FAMILY,
];

/// The keys of every family, for the configuration.
pub const SCHEMA: Schema = Schema {
    families: &keys_of_families(),
    default_family: mcan::FAMILY.keys.name,
};

const fn keys_of_families() -> [FamilyKeys; FAMILIES.len()] {
    let mut keys = [FAMILIES[0].keys; FAMILIES.len()];
    let mut i = 1;
    while i < keys.len() {
        keys[i] = FAMILIES[i].keys;
        i += 1;
    }
    keys
}

/// The family of a model.
///
/// # Errors
/// A name that is not in [`FAMILIES`].
pub(crate) fn family(values: &ModelValues) -> Result<&'static Family, ConfigError> {
    let mut families = FAMILIES.into_iter();
    let found = families.find(|family| family.keys.name == values.family);
    found.ok_or_else(|| {
        ConfigError::new(
            "MODEL_USE",
            format!("there is no model {:?}", values.family),
        )
    })
}

/// The largest size of a layer: far above any network, and a product of two cannot overflow.
const LARGEST: usize = 1 << 20;

/// Checks sizes of layers.
fn require_sizes(sizes: &[(&str, usize)]) -> Result<(), ConfigError> {
    for &(key, value) in sizes {
        require((1..=LARGEST).contains(&value), key, || {
            format!("{key} = {value}: it must be from 1 to {LARGEST}")
        })?;
    }
    Ok(())
}

/// Checks probabilities of dropout.
fn require_rates(rates: &[(&str, f64)]) -> Result<(), ConfigError> {
    for &(key, value) in rates {
        require((0.0..1.0).contains(&value), key, || {
            format!("{key} = {value}: it must be in [0, 1)")
        })?;
    }
    Ok(())
}

/// Checks that a width is divisible by a number of parts.
fn require_divisible(whole: (&str, usize), part: (&str, usize)) -> Result<(), ConfigError> {
    let ((key, whole), (of, part)) = (whole, part);
    require(whole.is_multiple_of(part), key, || {
        format!("{key} = {whole} is not divisible by {of} = {part}")
    })
}

/// The numbers of rows and columns of a matrix of a checkpoint.
///
/// # Errors
/// A tensor that is absent or not a matrix.
fn matrix(shapes: &Shapes, name: &str) -> Result<[usize; 2]> {
    let Some((_, shape)) = shapes.iter().find(|(known, _)| known == name) else {
        anyhow::bail!("it has no parameter {name}, so it belongs to another model")
    };
    let [rows, columns] = shape[..] else {
        anyhow::bail!("its {name} is not a matrix: it has shape {shape:?}")
    };
    Ok([usize::try_from(rows)?, usize::try_from(columns)?])
}

/// The number of items of a list in the names of a checkpoint, such as `backbone.enc_list.0.` and so on. A list cannot have
/// more items than the checkpoint has tensors, whatever the numbers in its names say.
fn items(shapes: &Shapes, list: &str) -> usize {
    let number = |(name, _): &(String, _)| {
        let number = name.strip_prefix(list)?.split('.').next()?;
        number.parse().ok()
    };
    let last: Option<usize> = shapes.iter().filter_map(number).max();
    last.map_or(0, |last| last.saturating_add(1).min(shapes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_knows_every_family_by_its_name() {
        let names = |keys: &[FamilyKeys]| keys.iter().map(|keys| keys.name).collect::<Vec<_>>();
        assert_eq!(
            names(SCHEMA.families),
            names(&FAMILIES.map(|family| family.keys))
        );
    }
}
