//! Layers over the words of a question: embedding and LSTM.

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

/// A one-layer LSTM that starts from a zero state.
#[derive(Debug)]
pub struct Lstm {
    /// `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`
    weights: [Tensor; 4],
}

impl Lstm {
    /// Uniform in ±1/sqrt(`hidden`), PyTorch's default.
    pub fn new(mut path: Path, inputs: usize, hidden: usize) -> Lstm {
        let bound = 1.0 / (hidden as f64).sqrt();
        let (inputs, hidden) = (inputs as i64, hidden as i64);
        let weights = [
            path.uniform("weight_ih_l0", &[4 * hidden, inputs], bound),
            path.uniform("weight_hh_l0", &[4 * hidden, hidden], bound),
            path.uniform("bias_ih_l0", &[4 * hidden], bound),
            path.uniform("bias_hh_l0", &[4 * hidden], bound),
        ];
        if path.device().is_cuda() && Cuda::cudnn_is_available() {
            // cuDNN needs the weights in one block of memory. Otherwise it copies them at each step, with a warning.
            let (gates, lstm, no_projection, layers) = (4, 2, 0, 1);
            let _ = tch::no_grad(|| {
                Tensor::internal_cudnn_rnn_flatten_weight(
                    &weights,
                    gates,
                    inputs,
                    lstm,
                    hidden,
                    no_projection,
                    layers,
                    true,
                    false,
                )
            });
        }
        Lstm { weights }
    }

    /// The outputs at all positions.
    ///
    /// # Shapes
    /// x (B, L, in) -> (B, L, D)
    pub fn forward(&self, x: &Tensor) -> Tensor {
        ops::lstm(x, &self.weights)
    }
}
