//! What BUTD and BAN have in common: linear layers with weight norm after dropout, and the classifier of two of them.

use crate::nn::layers::WeightNormLinear;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use tch::Tensor;

/// A linear layer with weight norm behind dropout.
#[derive(Debug)]
pub(super) struct DropoutLinear {
    pub(super) linear: WeightNormLinear,
    pub(super) dropout_r: f64,
}

impl DropoutLinear {
    /// Named `mlp.1`, or `mlp.0` without dropout: OpenVQA leaves a dropout of 0 out of its sequence of layers.
    pub(super) fn new(path: Path, inputs: usize, outputs: usize, dropout_r: f64) -> DropoutLinear {
        let position = if dropout_r > 0.0 { "mlp.1" } else { "mlp.0" };
        DropoutLinear {
            linear: WeightNormLinear::new(path.into_sub(position), inputs, outputs),
            dropout_r,
        }
    }

    /// W dropout(x) + b
    ///
    /// # Shapes
    /// x (R, in) -> (R, out), float32
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let x = pass.dropout(x.shallow_clone(), self.dropout_r);
        self.linear.forward(&x, pass)
    }
}

/// W₃ dropout(ReLU(W₀ h))
#[derive(Debug)]
pub(super) struct Classifier {
    first: WeightNormLinear,
    last: WeightNormLinear,
    dropout_r: f64,
}

impl Classifier {
    /// Named `0` and `3`.
    pub(super) fn new(
        mut path: Path,
        [inputs, middle, answers]: [usize; 3],
        dropout_r: f64,
    ) -> Classifier {
        Classifier {
            first: WeightNormLinear::new(path.sub("0"), inputs, middle),
            last: WeightNormLinear::new(path.sub("3"), middle, answers),
            dropout_r,
        }
    }

    /// # Shapes
    /// h (B, in) -> (B, answers), float32
    pub(super) fn forward(&self, h: &Tensor, pass: &Pass) -> Tensor {
        let hidden = pass.dropout(self.first.forward(h, pass).relu(), self.dropout_r);
        self.last.forward(&hidden, pass)
    }
}

/// The model's name for a tensor. In checkpoints, the position of a layer in `nn.Sequential` depends on whether dropout
/// precedes it, and PyTorch 2 has other names for weight norm. A weight whose norm was removed has the name of v.
///
/// `without_dropout` is the end of the names of layers without dropout, such as `nonlinear.mlp.0`; with dropout, it ends with
/// 1.
pub(super) fn canonical_name(name: &str, without_dropout: &str) -> String {
    let with_dropout = without_dropout.replace('0', "1");
    let name = name.replace(&format!("{without_dropout}."), &format!("{with_dropout}."));
    // `X.parametrizations.weight.original0` is `X.weight_g`.
    let Some((layer, rest)) = name.split_once("parametrizations.") else {
        return match is_without_norm(&name) {
            true => name + "_v",
            false => name,
        };
    };
    for (theirs, ours) in [(".original0", "_g"), (".original1", "_v")] {
        if let Some(parameter) = rest.strip_suffix(theirs) {
            return format!("{layer}{parameter}{ours}");
        }
    }
    name
}

/// Whether this is the name of a weight of BUTD or BAN whose weight norm was removed, so that v and g are multiplied.
fn is_without_norm(name: &str) -> bool {
    let is_normed = name.starts_with("backbone.") || name.starts_with("classifer.");
    is_normed && (name.ends_with(".weight") || name.ends_with(".h_mat"))
}
