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
    sizes: Sizes,
    canonical_name: fn(&str) -> String,
}

/// Which rows of a checkpoint belong to the words and answers of a network.
pub(crate) struct NamedRows {
    /// For each word, its row in the checkpoint; none for a word that the checkpoint does not have.
    pub(crate) words: Vec<Option<i64>>,
    /// For each answer, its row in the checkpoint.
    pub(crate) answers: Vec<Option<i64>>,
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
            sizes: *sizes,
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
            answers: self.sizes.answers as i64,
        };
        let shapes = self.parameters.shapes();
        let values = match_shapes(state_dict, &shapes, rows, self.canonical_name)?;
        self.parameters.assign(&values)
    }

    /// Copies the tensors of a checkpoint of a network with the sizes `theirs` into the parameters. Of tensors with a row for
    /// each word or answer, copies the rows that `rows` names; the others keep their values.
    ///
    /// # Errors
    /// The tensors are not those of such a network: see [`match_shapes`].
    pub(crate) fn start_from(
        &self,
        values: &ModelValues,
        state_dict: &[(String, Tensor)],
        theirs: &Sizes,
        rows: &NamedRows,
    ) -> Result<()> {
        let expected = Network::shapes(values, theirs)?;
        let advice = Rows {
            words: theirs.words as i64,
            answers: theirs.answers as i64,
        };
        let found = match_shapes(state_dict, &expected, advice, self.canonical_name)?;
        // A tensor has a row for each word if another number of words gives it another number of rows.
        let (words, answers) = (self.sizes.words + 1, self.sizes.answers + 1);
        let with_word = Network::shapes(
            values,
            &Sizes {
                words,
                ..self.sizes
            },
        )?;
        let with_answer = Network::shapes(
            values,
            &Sizes {
                answers,
                ..self.sizes
            },
        )?;
        let _no_grad = tch::no_grad_guard();
        for (i, parameter) in self.parameters.tensors.iter().enumerate() {
            let (shape, mut parameter) = (parameter.size(), parameter.shallow_clone());
            let rows = match (with_word[i].1 != shape, with_answer[i].1 != shape) {
                (true, _) => &rows.words,
                (_, true) => &rows.answers,
                (false, false) => {
                    parameter.f_copy_(&found[i])?;
                    continue;
                }
            };
            let pairs = (0..)
                .zip(rows)
                .filter_map(|(ours, theirs)| Some((ours, (*theirs)?)));
            let (ours, theirs): (Vec<i64>, Vec<i64>) = pairs.unzip();
            let index = |rows: &[i64], on: Device| Tensor::from_slice(rows).to_device(on);
            let theirs = found[i].f_index_select(0, &index(&theirs, found[i].device()))?;
            let ours = index(&ours, parameter.device());
            let _ = parameter.f_index_copy_(0, &ours, &theirs.to_device(parameter.device()))?;
        }
        Ok(())
    }

    /// The sizes that the network takes from its data.
    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
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
        self.sizes.answers
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
