//! MMNasNet: "Deep Multimodal Neural Architecture Search" (Yu et al., ACM MM 2020), as OpenVQA computes it. MHAtt, AttFlat
//! and relation attention are [layers](crate::nn::layers).
//!
//! Letters of shapes: B questions; R, S packed rows of images and words; D `HIDDEN_SIZE`; F feature size; E word vector
//! size. MMNasNet masks padding, so padding is left out.

mod keys;

use super::adapter::Adapter;
use super::{Family, Model, Sizes};
use crate::config::{FamilyKeys, Keys};
use crate::data::streams::{BoxUnit, Needs, Padding, StreamSpec, Streams};
use crate::nn::layers::{
    AttFlat, AttFlatSizes, Cell, Embedding, LayerNorm, Linear, MhAtt, Mlp, Recurrent,
    RelationAttention, Relations, Sequences,
};
use crate::nn::packed::{ImageRows, PackedBatch};
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use anyhow::{Context, Result, bail};
use keys::{Block, NasKeys, checked, sizes_of};
use tch::{Kind, Tensor};

/// The family MMNasNet: all that the rest of the program knows of it.
pub(crate) const FAMILY: Family = Family {
    keys: FamilyKeys {
        name: "mmnasnet",
        keys: NasKeys::KEYS,
        derived: &[],
        check: |values| checked(values).map(drop),
    },
    needs: |_, streams| {
        regions(streams)?;
        Ok(Needs {
            regions: true,
            boxes: Some(BoxUnit::Pixels),
            padding: Padding::Masked,
            ..Needs::default()
        })
    },
    build: |values, sizes, path| Ok(Box::new(MmNasNet::new(&checked(values)?, sizes, path)?)),
    sizes_of,
    canonical_name: str::to_owned,
    sign: "linear_rel.weight",
    published: |shapes| match super::matrix(shapes, "adapter.frcn_linear.weight") {
        Ok([1024, _]) => "mmnasnet_large",
        _ => "mmnasnet_small",
    },
};

/// The regions of a data set that has regions with boxes, and no grid.
fn regions(streams: Streams) -> Result<StreamSpec> {
    match (streams.regions, streams.grid) {
        (Some(regions), None) if regions.boxes.is_some() => Ok(regions),
        _ => bail!(
            "MMNasNet reads regions with boxes, of a data set without a grid, such as vqa; for gqa and clevr use another \
             model (--MODEL=mcan_small)"
        ),
    }
}

/// The whole network.
#[derive(Debug)]
struct MmNasNet {
    embedding: Embedding,
    lstm: Recurrent,
    adapter: Adapter,
    enc_list: Vec<SubLayer>,
    dec_list: Vec<SubLayer>,
    linear_rel: Linear,
    attflat_img: AttFlat,
    attflat_lang: AttFlat,
    proj_norm: LayerNorm,
    proj: Linear,
}

impl MmNasNet {
    fn new(keys: &NasKeys, sizes: &Sizes, mut root: Path) -> Result<MmNasNet> {
        let (hidden, embed, p) = (keys.hidden_size, keys.word_embed_size, keys.dropout_r);
        let width = regions(sizes.streams)?.width;
        let flat = AttFlatSizes {
            input: hidden,
            mlp: keys.flat_mlp_size,
            glimpses: keys.flat_glimpses,
            output: keys.flat_out_size,
        };
        // In `state_dict` order.
        let embedding = Embedding::new(root.sub("embedding"), sizes.words, embed);
        let lstm = Recurrent::new(Cell::Lstm, root.sub("lstm"), embed, hidden);
        let adapter = Adapter::of_regions(root.sub("adapter.frcn_linear"), width, hidden);
        let mut list = |blocks: &[Block], name: &str| -> Vec<SubLayer> {
            let mut path = root.sub("backbone").into_sub(name);
            let blocks = blocks.iter().enumerate();
            blocks
                .map(|(i, &block)| SubLayer::new(block, path.sub(i), keys))
                .collect()
        };
        let (enc_list, dec_list) = (
            list(&keys.arch.enc, "enc_list"),
            list(&keys.arch.dec, "dec_list"),
        );
        // Without a block RSA nothing reads the relations.
        let has_relations = keys.arch.dec.contains(&Block::Rsa);
        let relations = root.sub("linear_rel");
        let relations = if has_relations {
            relations
        } else {
            relations.unused()
        };
        let linear_rel = Linear::new(relations, 4, keys.rel_size);
        Ok(MmNasNet {
            embedding,
            lstm,
            adapter,
            enc_list,
            dec_list,
            linear_rel,
            attflat_img: AttFlat::new(root.sub("attflat_img"), flat, p),
            attflat_lang: AttFlat::new(root.sub("attflat_lang"), flat, p),
            proj_norm: LayerNorm::new(root.sub("proj_norm"), keys.flat_out_size),
            proj: Linear::new(root.sub("proj"), keys.flat_out_size, sizes.answers),
        })
    }
}

impl Model for MmNasNet {
    /// Y goes through the encoder, then X through the decoder, guided by the final Y (section 3.2); fusion and classifier are
    /// those of MCAN.
    fn forward(&self, batch: &PackedBatch, pass: &Pass) -> Result<Tensor> {
        let words = &batch.words;
        let embedded = self.embedding.forward(&batch.word_ids); // (S, E)
        let mut y = words.unpad(&self.lstm.forward(&words.pad(&embedded))); // (S, D)
        for block in &self.enc_list {
            let rows = Sequences {
                rows: &y,
                layout: words,
            };
            y = block.forward(rows, None, pass)?; // (S, D)
        }
        let y = Sequences {
            rows: &y,
            layout: words,
        };
        let (x, layout) = self.adapter.forward(batch, pass)?;
        let mut x = ImageRows::distinct(x, layout).per_question(); // (R, D)
        let regions = batch.regions.as_ref().context("the batch has no regions")?;
        let boxes = regions.boxes.as_ref().context("the batch has no boxes")?;
        let boxes = layout.expand(boxes); // (R, 4)
        let relations = Relations::new(&boxes, layout.questions(), &self.linear_rel, pass);
        for block in &self.dec_list {
            let guide = Guide {
                words: y,
                relations: &relations,
            };
            x = x.with(block.forward(x.sequences(), Some(&guide), pass)?); // (R, D)
        }
        let lang = self.attflat_lang.forward(y, pass); // (B, FLAT_OUT_SIZE)
        let img = self.attflat_img.forward(x.sequences(), pass); // (B, FLAT_OUT_SIZE)
        let z = lang.to_kind(Kind::Float) + img;
        let z = self.proj_norm.forward(&z, pass);
        Ok(self.proj.forward(&z, pass).to_kind(Kind::Float)) // (B, answers)
    }

    fn word_embedding(&self) -> &Tensor {
        &self.embedding.weight
    }
}

/// What guides the blocks of the decoder.
struct Guide<'a> {
    /// The final words.
    words: Sequences<'a>,
    relations: &'a Relations,
}

/// A block with its residual connection and norm: norm(x + dropout(f(x))).
#[derive(Debug)]
struct SubLayer {
    function: Function,
    norm: LayerNorm,
    dropout_r: f64,
}

/// The function f of a block (section 3.1).
#[derive(Debug)]
enum Function {
    Sa(MhAtt),
    Ga(MhAtt),
    Rsa(RelationAttention),
    Ffn(Mlp),
}

impl SubLayer {
    /// Named `mhatt` or `mlp`, and `norm`.
    fn new(block: Block, mut path: Path, keys: &NasKeys) -> SubLayer {
        let (size, p) = (keys.hidden_size, keys.dropout_r);
        let attention = |path: Path| MhAtt::new(path, size, keys.multi_head, p);
        let function = match block {
            Block::Sa => Function::Sa(attention(path.sub("mhatt"))),
            Block::Ga => Function::Ga(attention(path.sub("mhatt"))),
            Block::Rsa => Function::Rsa(RelationAttention::new(
                path.sub("mhatt"),
                size,
                size / keys.rel_hbase,
                keys.rel_size,
                p,
            )),
            Block::Ffn => Function::Ffn(Mlp::new(path.sub("mlp"), size, 4 * size, size, p)),
        };
        SubLayer {
            function,
            norm: LayerNorm::new(path.sub("norm"), size),
            dropout_r: p,
        }
    }

    /// # Shapes
    /// x (R, D) -> (R, D), float32
    fn forward(&self, x: Sequences, guide: Option<&Guide>, pass: &Pass) -> Result<Tensor> {
        let guide = || guide.context("the block is one of the decoder");
        let f = match &self.function {
            Function::Sa(attention) => attention.self_attention(x, pass),
            Function::Ga(attention) => attention.cross_attention(x, guide()?.words, pass),
            Function::Rsa(attention) => attention.forward(x, guide()?.relations, pass),
            Function::Ffn(mlp) => mlp.forward(x.rows, pass),
        };
        Ok(self.norm.add_norm(x.rows, f, self.dropout_r, pass))
    }
}

#[cfg(test)]
mod tests;
