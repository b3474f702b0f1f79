//! A recurrent layer over the words of a question.

use super::parameters::Path;
use tch::{Cuda, Device, Kind, Tensor};

/// One layer of LSTM over the words, from a zero state.
#[derive(Debug)]
pub struct Lstm {
    /// `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`
    weights: [Tensor; 4],
}

impl Lstm {
    /// Uniform in ±1/sqrt(`hidden`), PyTorch's default.
    pub fn new(mut path: Path, inputs: usize, hidden: usize, device: Device) -> Lstm {
        let bound = 1.0 / (hidden as f64).sqrt();
        let (inputs, hidden) = (inputs as i64, hidden as i64);
        let weights = [
            path.uniform("weight_ih_l0", &[4 * hidden, inputs], bound),
            path.uniform("weight_hh_l0", &[4 * hidden, hidden], bound),
            path.uniform("bias_ih_l0", &[4 * hidden], bound),
            path.uniform("bias_hh_l0", &[4 * hidden], bound),
        ];
        if device.is_cuda() && Cuda::cudnn_is_available() {
            // cuDNN wants them in one piece of memory, and would put them there anew, with a warning, at each step.
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

    /// # Shapes
    /// x (B, L, in) -> (B, L, D)
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (batch, hidden) = (x.size()[0], self.weights[1].size()[1]);
        let zero = Tensor::zeros([1, batch, hidden], (Kind::Float, x.device()));
        let (out, _, _) = x.lstm(
            &[&zero, &zero],
            &self.weights.each_ref(),
            true,
            1,
            0.0,
            true,
            false,
            true,
        );
        out
    }
}
