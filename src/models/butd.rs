//! BUTD: "Bottom-Up and Top-Down Attention for Image Captioning and Visual Question Answering" (Anderson et al., CVPR
//! 2018, section 3.3), as OpenVQA computes it.
//!
//! Letters of shapes: B questions; T padded words; R packed rows; D `HIDDEN_SIZE`; I the width of a region in the
//! attention: that of its features, or D behind an adapter.
//!
//! BUTD masks no padding, so padding is observed: the LSTM runs over all T words, and the padding of an image takes part
//! in the softmax. One row stands for it, with its multiplicity. In training, dropout is drawn once for that row; OpenVQA
//! draws it for each copy.

use super::adapter;
use super::classifier::{self, Classifier, DropoutLinear};
use super::images::{ImageFeatures, ImageKeys, Images, widths};
use super::{Family, Model, Shapes, Shown, Sizes, matrix, require_rates, require_sizes};
use crate::config::{ConfigError, FamilyKeys, Keys, ModelValues, require};
use crate::data::streams::Padding;
use crate::nn::layers::{Cell, Embedding, Recurrent, WeightNormLinear};
use crate::nn::ops;
use crate::nn::packed::PackedBatch;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use anyhow::Result;
use mcan_data::keys;
use tch::Tensor;

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
        /// Width of a region in the attention: that of its features, or HIDDEN_SIZE where the data set has a grid
        img_feat_size: Option<usize> = None => absent("computed"), may_change;
        /// Use the boxes of regions as features, where the data set has a grid too
        use_bbox_feat: bool = false;
        /// Width of an embedded box
        bboxfeat_emb_size: usize = 2048;
        /// Use the grid beside the regions; only False
        use_aux_feat: bool = false;
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
    needs: |values, streams| checked(values)?.images().needs(streams, Padding::Observed),
    build: |values, sizes, path| Ok(Box::new(Butd::new(&checked(values)?, sizes, path)?)),
    sizes_of,
    canonical_name: |name| classifier::canonical_name(name, "nonlinear.mlp.0"),
    sign: "backbone.v_att.linear_q.weight_v",
    published: |_| "butd",
};

fn checked(values: &ModelValues) -> Result<ButdKeys, ConfigError> {
    let keys: ButdKeys = values
        .keys()
        .map_err(|error| ConfigError::new("MODEL", error.to_string()))?;
    require_sizes(&[
        ("HIDDEN_SIZE", keys.hidden_size),
        ("FLAT_OUT_SIZE", keys.flat_out_size),
        ("WORD_EMBED_SIZE", keys.word_embed_size),
        ("BBOXFEAT_EMB_SIZE", keys.bboxfeat_emb_size),
    ])?;
    require_rates(&[
        ("DROPOUT_R", keys.dropout_r),
        ("CLASSIFER_DROPOUT_R", keys.classifer_dropout_r),
    ])?;
    require(!keys.use_aux_feat, "USE_AUX_FEAT", || {
        "USE_AUX_FEAT = True: BUTD reads regions or a grid, not both".into()
    })?;
    Ok(keys)
}

impl ButdKeys {
    fn images(&self) -> ImageKeys {
        ImageKeys {
            given: self.img_feat_size,
            use_boxes: self.use_bbox_feat,
            box_size: self.bboxfeat_emb_size,
            hidden: self.hidden_size,
        }
    }
}

/// The sizes that the shapes of a checkpoint show. Dropout rates do not show in shapes and are kept.
fn sizes_of(shapes: &Shapes, given: &ModelValues) -> Result<Shown> {
    let [_, word_embed_size] = matrix(shapes, "embedding.weight")?;
    let [hidden_size, _] = matrix(shapes, "backbone.v_att.linear_q.weight_v")?;
    let [input, _] = matrix(shapes, "backbone.v_att.linear_v.weight_v")?;
    let [flat_out_size, _] = matrix(shapes, "classifer.0.weight_v")?;
    let adapter = adapter::Shown::of(shapes)?;
    let given_keys: ButdKeys = given.keys()?;
    let keys = ButdKeys {
        hidden_size,
        flat_out_size,
        word_embed_size,
        img_feat_size: Some(input),
        use_bbox_feat: adapter.uses.boxes,
        bboxfeat_emb_size: adapter.box_size.unwrap_or(given_keys.bboxfeat_emb_size),
        ..given_keys
    };
    let mut values = given.clone();
    values.set_keys(&keys)?;
    checked(&values)?;
    Ok(Shown {
        values,
        widths: widths(&adapter, input),
    })
}

/// The whole network.
#[derive(Debug)]
struct Butd {
    embedding: Embedding,
    rnn: Recurrent,
    images: Images,
    attention: TopDownAttention,
    q_net: WeightNormLinear,
    v_net: WeightNormLinear,
    classifier: Classifier,
}

impl Butd {
    fn new(keys: &ButdKeys, sizes: &Sizes, mut root: Path) -> Result<Butd> {
        let (embed, hidden, flat_out) =
            (keys.word_embed_size, keys.hidden_size, keys.flat_out_size);
        // In `state_dict` order.
        let embedding = Embedding::new(root.sub("embedding"), sizes.words, embed);
        let rnn = Recurrent::new(Cell::Lstm, root.sub("rnn"), embed, hidden);
        let images = keys.images().build(root.sub("adapter"), sizes)?;
        let (input, mut backbone) = (images.width, root.sub("backbone"));
        Ok(Butd {
            embedding,
            rnn,
            attention: TopDownAttention::new(backbone.sub("v_att"), input, hidden, keys.dropout_r),
            q_net: WeightNormLinear::new(backbone.sub("q_net").into_sub("mlp.0"), hidden, hidden),
            v_net: WeightNormLinear::new(backbone.sub("v_net").into_sub("mlp.0"), input, hidden),
            classifier: Classifier::new(
                root.sub("classifer"),
                [hidden, flat_out, sizes.answers],
                keys.classifer_dropout_r,
            ),
            images,
        })
    }
}

impl Model for Butd {
    /// h = ELU(q_net(q)) ∘ ELU(v_net(v)); logits = W₃ dropout(ReLU(W₀ h))
    fn forward(&self, batch: &PackedBatch, pass: &Pass) -> Result<Tensor> {
        let words = self.embedding.forward(&batch.padded_word_ids()); // (B, T, E)
        let q = self.rnn.forward(&words).select(1, -1); // (B, D)
        let images = self.images.of(batch, pass)?;
        let v = self.attention.forward(&images, &q, pass); // (B, I)
        let h = self.q_net.forward(&q, pass).elu() * self.v_net.forward(&v, pass).elu(); // (B, D)
        Ok(self.classifier.forward(&h, pass)) // (B, answers)
    }

    fn word_embedding(&self) -> &Tensor {
        &self.embedding.weight
    }
}

/// Top-down attention: the question gives each region a weight.
///
/// aᵢ = w ELU(W dropout[V xᵢ, U q]);  v = Σ softmax(a)ᵢ xᵢ
#[derive(Debug)]
struct TopDownAttention {
    linear_q: WeightNormLinear,
    linear_v: WeightNormLinear,
    nonlinear: DropoutLinear,
    linear: WeightNormLinear,
}

impl TopDownAttention {
    fn new(mut path: Path, input: usize, hidden: usize, dropout_r: f64) -> TopDownAttention {
        TopDownAttention {
            linear_q: WeightNormLinear::new(path.sub("linear_q"), hidden, hidden),
            linear_v: WeightNormLinear::new(path.sub("linear_v"), input, input),
            nonlinear: DropoutLinear::new(path.sub("nonlinear"), input + hidden, hidden, dropout_r),
            linear: WeightNormLinear::new(path.sub("linear"), hidden, 1),
        }
    }

    /// The weighted sum of each question's regions.
    ///
    /// # Shapes
    /// q (B, D) -> (B, I)
    fn forward(&self, images: &ImageFeatures, q: &Tensor, pass: &Pass) -> Tensor {
        let layout = images.layout;
        let v = layout.expand(&self.linear_v.forward(&images.x, pass)); // (R, I)
        let q = layout.questions().repeat(&self.linear_q.forward(q, pass)); // (R, D)
        let hidden = self.nonlinear.forward(&Tensor::cat(&[v, q], 1), pass).elu(); // (R, D)
        let a = images.with_multiplicity(self.linear.forward(&hidden, pass)); // (R, 1)
        ops::weighted_sum(&a, &layout.expand(&images.x), layout.questions())
    }
}
