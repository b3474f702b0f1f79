//! The models, as equations.
//!
//! A model is one file or folder. It declares a [`Family`]: its name, its keys, what it needs of a batch, and how it is
//! built. [`FAMILIES`] lists them; no other file of the program names a model.

mod butd;
pub mod mcan;
mod network;

pub(crate) use network::NamedRows;
pub use network::Network;

use crate::config::{ConfigError, FamilyKeys, ModelValues, Schema};
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

/// A model family: everything that the rest of the program knows of it.
pub(crate) struct Family {
    /// The name of the family and its configuration keys.
    pub(crate) keys: FamilyKeys,
    /// What the model needs of a batch of a data set with these streams.
    pub(crate) needs: fn(&ModelValues, Streams) -> Result<Needs>,
    /// Builds the model, whose parameters are created below the path.
    pub(crate) build: fn(&ModelValues, &Sizes, Path) -> Result<Box<dyn Model>>,
    /// The given values, with each size that the shapes of a checkpoint show taken from there.
    pub(crate) sizes_of: fn(&Shapes, &ModelValues) -> Result<ModelValues>,
    /// The model's name for a tensor of a checkpoint, which may come from a program with other names.
    pub(crate) canonical_name: fn(&str) -> String,
}

/// All families.
pub(crate) const FAMILIES: [&Family; 2] = [&mcan::FAMILY, &butd::FAMILY];

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
