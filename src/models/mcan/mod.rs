//! MCAN: "Deep Modular Co-Attention Networks for Visual Question Answering" (Yu et al., CVPR 2019), as the reference
//! and OpenVQA compute it. The units SA and SGA and their cascade are in `units.rs`; MHAtt and AttFlat are
//! [layers](crate::nn::layers).
//!
//! Letters of shapes: B questions; R, S packed rows of images and words; D `HIDDEN_SIZE`; F feature size; E word vector
//! size. MCAN masks padding, so padding is left out.

mod adapter;
pub mod keys;
mod shapes;
#[cfg(test)]
mod tests;
mod units;

use super::{Family, Model, Sizes};
use crate::config::ModelValues;
use crate::data::streams::{Needs, Streams};
use crate::nn::layers::{AttFlat, AttFlatSizes, Embedding, LayerNorm, Linear, Lstm, Sequences};
use crate::nn::packed::{ImageRows, PackedBatch};
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use adapter::Adapter;
use anyhow::Result;
use keys::McanKeys;
use tch::{Kind, Tensor};
use units::Backbone;

/// The family MCAN: all that the rest of the program knows of it.
pub(crate) const FAMILY: Family = Family {
    keys: keys::FAMILY_KEYS,
    needs,
    build: |values, sizes, path| Ok(Box::new(Mcan::new(&values.keys()?, sizes, path)?)),
    sizes_of: shapes::sizes_of,
    canonical_name: str::to_owned,
};

/// The regions if the data set has them, else the grid.
fn needs(_: &ModelValues, streams: Streams) -> Result<Needs> {
    Ok(Needs {
        regions: streams.regions.is_some(),
        grid: streams.regions.is_none(),
        boxes: false,
    })
}

/// The whole network.
#[derive(Debug)]
struct Mcan {
    embedding: Embedding,
    lstm: Lstm,
    adapter: Adapter,
    backbone: Backbone,
    attflat_img: AttFlat,
    attflat_lang: AttFlat,
    proj_norm: LayerNorm,
    proj: Linear,
}

impl Mcan {
    fn new(keys: &McanKeys, sizes: &Sizes, mut root: Path) -> Result<Mcan> {
        let &McanKeys {
            hidden_size,
            dropout_r,
            word_embed_size,
            flat_out_size,
            ..
        } = keys;
        let flat = AttFlatSizes {
            input: hidden_size,
            mlp: keys.flat_mlp_size,
            glimpses: keys.flat_glimpses,
            output: flat_out_size,
        };
        // In `state_dict` order.
        Ok(Mcan {
            embedding: Embedding::new(root.sub("embedding"), sizes.words, word_embed_size),
            lstm: Lstm::new(root.sub("lstm"), word_embed_size, hidden_size),
            adapter: Adapter::new(&mut root, hidden_size, sizes)?,
            backbone: Backbone::new(root.sub("backbone"), keys),
            attflat_img: AttFlat::new(root.sub("attflat_img"), flat, dropout_r),
            attflat_lang: AttFlat::new(root.sub("attflat_lang"), flat, dropout_r),
            proj_norm: LayerNorm::new(root.sub("proj_norm"), flat_out_size),
            proj: Linear::new(root.sub("proj"), flat_out_size, sizes.answers),
        })
    }
}

impl Model for Mcan {
    /// Computes the logits s; the answer probabilities are their sigmoids.
    fn forward(&self, batch: &PackedBatch, pass: &Pass) -> Result<Tensor> {
        let words = &batch.words;
        let embedded = self.embedding.forward(&batch.word_ids); // (S, E)
        let y = words.unpad(&self.lstm.forward(&words.pad(&embedded))); // (S, D)
        let image = self.adapter.stream(batch)?;
        let x = ImageRows::distinct(self.adapter.forward(image, pass), image); // (R, D)

        let y = Sequences {
            rows: &y,
            layout: words,
        };
        let (x, y) = self.backbone.forward(x, y, pass); // (R, D), (S, D)

        // Multimodal fusion and output classifier (section 4.3, eq. 5 and 6): z = LayerNorm(W_xᵀ x̃ + W_yᵀ ỹ); s is a
        // linear layer on z.
        let y = Sequences {
            rows: &y,
            layout: words,
        };
        let lang = self.attflat_lang.forward(y, pass); // W_yᵀ ỹ, (B, FLAT_OUT_SIZE)
        let img = self.attflat_img.forward(x.sequences(), pass); // W_xᵀ x̃, (B, FLAT_OUT_SIZE)
        let z = self
            .proj_norm
            .forward(&(lang.to_kind(Kind::Float) + img), pass);
        Ok(self.proj.forward(&z, pass).to_kind(Kind::Float)) // (B, answers)
    }

    fn word_embedding(&self) -> &Tensor {
        &self.embedding.weight
    }
}
