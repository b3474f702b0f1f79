//! Layers over the words of a question: embedding, and recurrent networks.

use crate::nn::ops;
use crate::nn::parameters::Path;
use tch::{Cuda, Tensor};

/// A table of word vectors.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// (words, E)
    pub(crate) weight: Tensor,
}

impl Embedding {
    /// Standard normal, PyTorch's default.
    pub fn new(mut path: Path, words: usize, size: usize) -> Embedding {
        Embedding {
            weight: path.normal("weight", &[words as i64, size as i64]),
        }
    }

    /// The vectors of words.
    ///
    /// # Shapes
    /// ids (S) or (B, T) -> (S, E) or (B, T, E)
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        let (padding_index, scale_by_frequency, sparse) = (-1, false, false);
        Tensor::embedding(&self.weight, ids, padding_index, scale_by_frequency, sparse)
    }
}

/// A one-layer recurrent network that starts from a zero state: an LSTM (Hochreiter and Schmidhuber, 1997) or a GRU (Cho
/// et al., 2014; the reset gate is applied after the recurrent product, as in PyTorch).
#[derive(Debug)]
pub struct Recurrent {
    cell: Cell,
    /// `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`
    weights: [Tensor; 4],
}

/// The cell of a [`Recurrent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Four gates.
    Lstm,
    /// Three gates.
    Gru,
}

impl Cell {
    /// (gates, number of the cell in cuDNN)
    fn shape(self) -> (i64, i64) {
        match self {
            Cell::Lstm => (4, 2),
            Cell::Gru => (3, 3),
        }
    }
}

impl Recurrent {
    /// Uniform in ±1/sqrt(`hidden`), PyTorch's default.
    pub fn new(cell: Cell, mut path: Path, inputs: usize, hidden: usize) -> Recurrent {
        let bound = 1.0 / (hidden as f64).sqrt();
        let (inputs, hidden) = (inputs as i64, hidden as i64);
        let (gates, number) = cell.shape();
        let weights = [
            path.uniform("weight_ih_l0", &[gates * hidden, inputs], bound),
            path.uniform("weight_hh_l0", &[gates * hidden, hidden], bound),
            path.uniform("bias_ih_l0", &[gates * hidden], bound),
            path.uniform("bias_hh_l0", &[gates * hidden], bound),
        ];
        if path.device().is_cuda() && Cuda::cudnn_is_available() {
            // cuDNN needs the weights in one block of memory. Otherwise it copies them at each step, with a warning.
            let (per_layer, no_projection, layers) = (4, 0, 1);
            let _ = tch::no_grad(|| {
                Tensor::internal_cudnn_rnn_flatten_weight(
                    &weights,
                    per_layer,
                    inputs,
                    number,
                    hidden,
                    no_projection,
                    layers,
                    true,
                    false,
                )
            });
        }
        Recurrent { cell, weights }
    }

    /// The outputs at all positions.
    ///
    /// # Shapes
    /// x (B, L, in) -> (B, L, D)
    pub fn forward(&self, x: &Tensor) -> Tensor {
        match self.cell {
            Cell::Lstm => ops::lstm(x, &self.weights),
            Cell::Gru => ops::gru(x, &self.weights),
        }
    }
}
