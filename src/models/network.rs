//! A model with its parameters.

use super::{Model, Sizes, family};
use crate::checkpoint::state_dict::{Rows, match_shapes};
use crate::config::ModelValues;
use crate::native::random::Generator;
use crate::nn::packed::PackedBatch;
use crate::nn::parameters::{Parameters, Path};
use crate::nn::pass::Pass;
use anyhow::Result;
use tch::{Device, Tensor};

/// A model of any family with its parameters.
#[derive(Debug)]
pub struct Network {
    /// All parameters, in `state_dict` order.
    pub parameters: Parameters,
    model: Box<dyn Model>,
    answers: usize,
    canonical_name: fn(&str) -> String,
}

impl Network {
    /// A network whose initial parameters are drawn from `seed`.
    ///
    /// # Errors
    /// Values or sizes from which the model cannot be built.
    pub fn new(values: &ModelValues, sizes: &Sizes, seed: u64, device: Device) -> Result<Network> {
        let (mut parameters, mut generator) = (Parameters::default(), Generator::new(seed)?);
        let root = Path::root(&mut parameters, &mut generator, device);
        let family = family(values)?;
        Ok(Network {
            model: (family.build)(values, sizes, root)?,
            parameters,
            answers: sizes.answers,
            canonical_name: family.canonical_name,
        })
    }

    /// Copies the tensors of a checkpoint into the parameters.
    ///
    /// # Errors
    /// The tensors are not those of this network: see [`match_shapes`].
    pub(crate) fn assign(&self, state_dict: &[(String, Tensor)]) -> Result<()> {
        let rows = Rows {
            words: self.word_embedding().size()[0],
            answers: self.answers as i64,
        };
        let shapes = self.parameters.shapes();
        let values = match_shapes(state_dict, &shapes, rows, self.canonical_name)?;
        self.parameters.assign(&values)
    }

    /// Names and shapes of the parameters of such a network. They take no memory.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub(crate) fn shapes(values: &ModelValues, sizes: &Sizes) -> Result<Vec<(String, Vec<i64>)>> {
        let mut parameters = Parameters::default();
        (family(values)?.build)(values, sizes, Path::shapes_only(&mut parameters))?;
        Ok(parameters.shapes())
    }

    /// Number of values in the parameters of such a network.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub(crate) fn parameter_count(values: &ModelValues, sizes: &Sizes) -> Result<u64> {
        let shapes = Network::shapes(values, sizes)?;
        Ok(shapes
            .iter()
            .map(|(_, shape)| shape.iter().product::<i64>() as u64)
            .sum())
    }

    /// Number of answers that it chooses from.
    pub(crate) fn answers(&self) -> usize {
        self.answers
    }

    /// Computes the logit of each answer: see [`Model::forward`].
    ///
    /// # Errors
    /// A batch without the features that the model needs.
    pub fn forward(&self, batch: &PackedBatch, pass: &Pass) -> Result<Tensor> {
        self.model.forward(batch, pass)
    }

    /// (words, E) the word embedding.
    pub(crate) fn word_embedding(&self) -> &Tensor {
        self.model.word_embedding()
    }
}
