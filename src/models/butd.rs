//! BUTD: "Bottom-Up and Top-Down Attention for Image Captioning and Visual Question Answering" (Anderson et al., CVPR
//! 2018, section 3.3), as OpenVQA computes it.
//!
//! Letters of shapes: B questions; T padded words; n regions of an image, N its padded number; R packed rows; D
//! `HIDDEN_SIZE`; F feature size; I the width of a region in the attention: F, or D behind an adapter.
//!
//! BUTD masks no padding, so padding is observed: the LSTM runs over all T words, and all N rows take part in the
//! softmax. The N - n padded rows of an image are equal, so one row with its multiplicity stands for them. In training,
//! dropout is drawn once for that row; OpenVQA draws it for each copy.

use super::{Family, Model, Shapes, Sizes, matrix};
use crate::config::{ConfigError, FamilyKeys, Keys, ModelValues, require};
use crate::data::streams::{Needs, Streams};
use crate::nn::layers::{Embedding, Linear, Lstm, WeightNormLinear};
use crate::nn::packed::{PackedBatch, PackedFeatures};
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use anyhow::{Context, Result};
use mcan_data::keys;
use tch::{Kind, Tensor};

#[cfg(test)]
mod tests;

keys! {
    /// Sizes of BUTD.
    pub(crate) struct ButdKeys: Model {
        /// Width of the question and of the joint representation
        hidden_size: usize = 512;
        /// Probability that dropout zeroes a value before the attention
        dropout_r: f64 = 0.2 => may_change;
        /// Probability that dropout zeroes a value in the classifier
        classifer_dropout_r: f64 = 0.5 => may_change;
        /// Hidden width of the classifier
        flat_out_size: usize = 1024;
        /// Width of a word vector
        word_embed_size: usize = 300;
        /// Width of a region's feature
        img_feat_size: usize = 2048;
    }
}

/// The family BUTD: all that the rest of the program knows of it.
pub(crate) const FAMILY: Family = Family {
    keys: FamilyKeys {
        name: "butd",
        keys: ButdKeys::KEYS,
        derived: &[],
        check: |values| checked(values).map(drop),
    },
    needs: |_, streams| Ok(needs(streams)),
    build: |values, sizes, path| Ok(Box::new(Butd::new(&checked(values)?, sizes, path)?)),
    sizes_of,
    canonical_name,
};

/// The regions if the data set has them, else the grid.
fn needs(streams: Streams) -> Needs {
    Needs {
        regions: streams.regions.is_some(),
        grid: streams.regions.is_none(),
        boxes: false,
    }
}

fn checked(values: &ModelValues) -> Result<ButdKeys, ConfigError> {
    const LARGEST: usize = 1 << 20; // far above any network, and a product of two cannot overflow
    let keys: ButdKeys = values
        .keys()
        .map_err(|error| ConfigError::new("MODEL", error.to_string()))?;
    for (key, value) in [
        ("HIDDEN_SIZE", keys.hidden_size),
        ("FLAT_OUT_SIZE", keys.flat_out_size),
        ("WORD_EMBED_SIZE", keys.word_embed_size),
    ] {
        require((1..=LARGEST).contains(&value), key, || {
            format!("{key} = {value}: it must be from 1 to {LARGEST}")
        })?;
    }
    for (key, value) in [
        ("DROPOUT_R", keys.dropout_r),
        ("CLASSIFER_DROPOUT_R", keys.classifer_dropout_r),
    ] {
        require((0.0..1.0).contains(&value), key, || {
            format!("{key} = {value}: it must be in [0, 1)")
        })?;
    }
    Ok(keys)
}

/// The sizes that the shapes of a checkpoint show. Dropout rates do not show in shapes and are kept.
fn sizes_of(shapes: &Shapes, given: &ModelValues) -> Result<ModelValues> {
    let [_, word_embed_size] = matrix(shapes, "embedding.weight")?;
    let [hidden_size, _] = matrix(shapes, "backbone.v_att.linear_q.weight_v")?;
    let [flat_out_size, _] = matrix(shapes, "classifer.0.weight_v")?;
    let keys = ButdKeys {
        hidden_size,
        flat_out_size,
        word_embed_size,
        ..given.keys()?
    };
    let mut values = given.clone();
    values.set_keys(&keys)?;
    checked(&values)?;
    Ok(values)
}

/// The model's name for a tensor. In checkpoints, the position of a layer in `nn.Sequential` depends on whether dropout
/// precedes it, and PyTorch 2 has other names for weight norm.
fn canonical_name(name: &str) -> String {
    name.replace("nonlinear.mlp.0.", "nonlinear.mlp.1.")
        .replace("parametrizations.weight.original0", "weight_g")
        .replace("parametrizations.weight.original1", "weight_v")
}

/// The whole network.
#[derive(Debug)]
struct Butd {
    embedding: Embedding,
    rnn: Lstm,
    /// Maps grid cells to width D; absent for regions.
    adapter: Option<Linear>,
    attention: TopDownAttention,
    q_net: WeightNormLinear,
    v_net: WeightNormLinear,
    classifier: [WeightNormLinear; 2],
    classifier_dropout_r: f64,
}

impl Butd {
    fn new(keys: &ButdKeys, sizes: &Sizes, mut root: Path) -> Result<Butd> {
        let (hidden, flat_out) = (keys.hidden_size, keys.flat_out_size);
        // In `state_dict` order.
        let embedding = Embedding::new(root.sub("embedding"), sizes.words, keys.word_embed_size);
        let rnn = Lstm::new(root.sub("rnn"), keys.word_embed_size, hidden);
        let (adapter, input) = match (sizes.streams.regions, sizes.streams.grid) {
            (Some(regions), _) => (None, regions.width),
            (None, Some(grid)) => {
                let path = root.sub("adapter").into_sub("grid_linear");
                (Some(Linear::new(path, grid.width, hidden)), hidden)
            }
            (None, None) => anyhow::bail!("the data set has no image features"),
        };
        let mut backbone = root.sub("backbone");
        Ok(Butd {
            embedding,
            rnn,
            adapter,
            attention: TopDownAttention::new(backbone.sub("v_att"), input, hidden, keys.dropout_r),
            q_net: WeightNormLinear::new(backbone.sub("q_net").into_sub("mlp.0"), hidden, hidden),
            v_net: WeightNormLinear::new(backbone.sub("v_net").into_sub("mlp.0"), input, hidden),
            classifier: [
                WeightNormLinear::new(root.sub("classifer.0"), hidden, flat_out),
                WeightNormLinear::new(root.sub("classifer.3"), flat_out, sizes.answers),
            ],
            classifier_dropout_r: keys.classifer_dropout_r,
        })
    }

    fn features<'a>(&self, batch: &'a PackedBatch) -> Result<&'a PackedFeatures> {
        let stream = if self.adapter.is_some() {
            &batch.grid
        } else {
            &batch.regions
        };
        stream.as_ref().context("the batch has no image features")
    }
}

impl Model for Butd {
    /// h = ELU(q_net(q)) ∘ ELU(v_net(v)); logits = W₃ dropout(ReLU(W₀ h))
    fn forward(&self, batch: &PackedBatch, pass: &Pass) -> Result<Tensor> {
        let words = self.embedding.forward(&batch.padded_word_ids()); // (B, T, E)
        let q = self.rnn.forward(&words).select(1, -1); // (B, D)
        let features = self.features(batch)?;
        let x = features.rows.to_kind(Kind::Float); // (R_s, F)
        let padding = Tensor::zeros([1, x.size()[1]], (Kind::Float, x.device())); // (1, F)
        let [x, padding] = [x, padding].map(|x| match &self.adapter {
            Some(adapter) => adapter.forward(&x, pass).to_kind(Kind::Float),
            None => x,
        }); // (R_s, I), (1, I)
        let v = self.attention.forward(
            &Regions {
                x,
                padding,
                features,
            },
            &q,
            pass,
        ); // (B, I)
        let h = self.q_net.forward(&q, pass).elu() * self.v_net.forward(&v, pass).elu(); // (B, D)
        let [first, last] = &self.classifier;
        let hidden = pass.dropout(first.forward(&h, pass).relu(), self.classifier_dropout_r);
        Ok(last.forward(&hidden, pass)) // (B, answers)
    }

    fn word_embedding(&self) -> &Tensor {
        &self.embedding.weight
    }
}

/// The rows of all images, and the row that stands for padding.
struct Regions<'a> {
    /// (R_s, I)
    x: Tensor,
    /// (1, I)
    padding: Tensor,
    features: &'a PackedFeatures,
}

/// Top-down attention: the question gives each region a weight.
///
/// aᵢ = w ELU(W dropout[V xᵢ, U q]);  v = Σ softmax(a)ᵢ xᵢ
#[derive(Debug)]
struct TopDownAttention {
    linear_q: WeightNormLinear,
    linear_v: WeightNormLinear,
    nonlinear: WeightNormLinear,
    linear: WeightNormLinear,
    dropout_r: f64,
}

impl TopDownAttention {
    fn new(mut path: Path, input: usize, hidden: usize, dropout_r: f64) -> TopDownAttention {
        let position = if dropout_r > 0.0 { "mlp.1" } else { "mlp.0" };
        TopDownAttention {
            linear_q: WeightNormLinear::new(path.sub("linear_q"), hidden, hidden),
            linear_v: WeightNormLinear::new(path.sub("linear_v"), input, input),
            nonlinear: WeightNormLinear::new(
                path.sub("nonlinear").into_sub(position),
                input + hidden,
                hidden,
            ),
            linear: WeightNormLinear::new(path.sub("linear"), hidden, 1),
            dropout_r,
        }
    }

    /// The weighted sum of each question's regions.
    ///
    /// # Shapes
    /// q (B, D) -> (B, I)
    fn forward(&self, regions: &Regions, q: &Tensor, pass: &Pass) -> Tensor {
        let Regions {
            x,
            padding,
            features,
        } = regions;
        let layout = features.questions();
        let (linear_v, nonlinear, linear) = (
            self.linear_v.layer(),
            self.nonlinear.layer(),
            self.linear.layer(),
        );
        let score = |v: Tensor, q: &Tensor| {
            let joined = pass.dropout(Tensor::cat(&[v, q.shallow_clone()], 1), self.dropout_r);
            let hidden = nonlinear.forward(&joined, pass).to_kind(Kind::Float).elu();
            linear.forward(&hidden, pass).to_kind(Kind::Float)
        };
        let q = self.linear_q.forward(q, pass); // (B, D)
        let projected = |x: &Tensor| linear_v.forward(x, pass).to_kind(Kind::Float);
        let a = score(features.expand(projected(x)), &layout.repeat(&q)); // (R, 1)
        let of_padding = score(projected(padding).expand([q.size()[0], -1], false), &q); // (B, 1)

        let copies = (features.padded_to - layout.lengths()).to_kind(Kind::Float); // (B)
        let of_padding = of_padding + copies.log().unsqueeze(1); // (B, 1); -inf where there is no padding
        let a = layout.pad(&a).squeeze_dim(2) + layout.key_bias(&[layout.batch, layout.longest]); // (B, L)
        let weights = Tensor::cat(&[a, of_padding], 1).softmax(1, Kind::Float); // (B, L + 1)
        let x = layout.pad(&features.expand(x.shallow_clone())); // (B, L, I)
        let of_regions = weights.narrow(1, 0, layout.longest).unsqueeze(1).matmul(&x); // (B, 1, I)
        of_regions.squeeze_dim(1) + weights.narrow(1, layout.longest, 1) * padding
    }
}
