//! MCAN: "Deep Modular Co-Attention Networks for Visual Question Answering" (Yu et al., CVPR 2019), as the reference
//! and OpenVQA compute it. The units SA and SGA and their cascade are in `units.rs`; MHAtt and AttFlat are
//! [layers](crate::nn::layers).
//!
//! Letters of shapes: B questions; R, S packed rows of images and words; D `HIDDEN_SIZE`; F feature size; E word vector
//! size. MCAN masks padding, so padding is left out.

pub mod keys;
mod shapes;
#[cfg(test)]
mod tests;
mod units;

use super::adapter::{Adapter, Uses};
use super::{Family, Model, Sizes, matrix};
use crate::data::Convention;
use crate::data::streams::Padding;
use crate::nn::layers::{
    AttFlat, AttFlatSizes, Cell, Embedding, LayerNorm, Linear, Recurrent, Sequences,
};
use crate::nn::packed::{ImageRows, PackedBatch};
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use anyhow::{Result, ensure};
use keys::McanKeys;
use tch::{Kind, Tensor};
use units::Backbone;

/// The family MCAN: all that the rest of the program knows of it.
pub(crate) const FAMILY: Family = Family {
    keys: keys::FAMILY_KEYS,
    needs: |values, streams| uses(&values.keys()?).needs(streams, Padding::Masked),
    build: |values, sizes, path| Ok(Box::new(Mcan::new(&values.keys()?, sizes, path)?)),
    sizes_of: shapes::sizes_of,
    canonical_name: str::to_owned,
    sign: "backbone.enc_list.0.ffn.mlp.fc.linear.weight",
    published: |shapes| {
        let hidden = matrix(shapes, "attflat_img.mlp.fc.linear.weight").map(|[_, hidden]| hidden);
        match (matrix(shapes, "img_feat_linear.weight").is_ok(), hidden) {
            (true, Ok(1024)) => "large",
            (true, _) => "small",
            (false, Ok(1024)) => "mcan_large",
            (false, _) => "mcan_small",
        }
    },
};

/// The features that it reads besides regions.
fn uses(keys: &McanKeys) -> Uses {
    Uses {
        boxes: keys.use_bbox_feat == Some(true),
        grid: keys.use_aux_feat == Some(true),
    }
}

/// The adapter: in the reference one layer `img_feat_linear`, which OpenVQA names `adapter.frcn_linear`.
fn adapter(root: &mut Path, keys: &McanKeys, sizes: &Sizes) -> Result<Adapter> {
    let (hidden, uses) = (keys.hidden_size, uses(keys));
    match (sizes.convention, sizes.streams.regions) {
        (Convention::OpenVqa, _) => {
            let box_size = keys.bboxfeat_emb_size;
            Adapter::new(root.sub("adapter"), sizes, uses, box_size, hidden)
        }
        (Convention::Reference, Some(regions)) => {
            ensure!(
                !uses.boxes && !uses.grid,
                "USE_BBOX_FEAT and USE_AUX_FEAT are for OpenVQA's MCAN: use --MODEL=mcan_small"
            );
            Ok(Adapter::of_regions(
                root.sub("img_feat_linear"),
                regions.width,
                hidden,
            ))
        }
        (Convention::Reference, None) => anyhow::bail!(
            "the reference's MCAN reads regions of a detector, which this data set does not have; use OpenVQA's: \
             --MODEL=mcan_small"
        ),
    }
}

/// The whole network.
#[derive(Debug)]
struct Mcan {
    embedding: Embedding,
    lstm: Recurrent,
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
            lstm: Recurrent::new(Cell::Lstm, root.sub("lstm"), word_embed_size, hidden_size),
            adapter: adapter(&mut root, keys, sizes)?,
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
        let (x, layout) = self.adapter.forward(batch, pass)?;
        let x = ImageRows::distinct(x, layout); // (R, D)

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
