//! MFB and MFH: "Multi-modal Factorized Bilinear Pooling with Co-Attention Learning for Visual Question Answering" (Yu et
//! al., ICCV 2017) and "Beyond Bilinear: Generalized Multimodal Factorized High-Order Pooling for Visual Question
//! Answering" (Yu et al., TNNLS 2018), as OpenVQA computes them.
//!
//! Letters of shapes: B questions; T padded words; R packed rows; D `HIDDEN_SIZE`; F feature size; L `LSTM_OUT_SIZE`; K
//! `MFB_K`; O `MFB_O`; Q and I `Q_GLIMPSES` and `I_GLIMPSES`.
//!
//! Both mask no padding: the LSTM runs over all T words, and the padding of an image takes part in a norm and in a softmax,
//! one row with its multiplicity for all of it.

use super::images::{ImageFeatures, Images};
use super::{Family, Model, Shapes, Shown, Sizes, Widths, matrix, require_rates, require_sizes};
use crate::config::{ConfigError, FamilyKeys, Keys, ModelValues};
use crate::data::streams::{Needs, Padding, StreamSpec, Streams};
use crate::nn::layers::{Cell, Embedding, Linear, Mlp, Recurrent, each_row};
use crate::nn::ops;
use crate::nn::packed::PackedBatch;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use crate::nn::ragged::Ragged;
use anyhow::{Result, bail, ensure};
use mcan_data::keys;
use tch::{Kind, Tensor};

keys! {
    /// Sizes of MFB and MFH.
    pub(crate) struct MfbKeys: Model {
        /// MFH: two blocks of pooling, the second with the products of the first
        high_order: bool = false;
        /// Hidden width of the attention
        hidden_size: usize = 512;
        /// K, products that are summed to one value
        mfb_k: usize = 5;
        /// O, values of a joint representation
        mfb_o: usize = 1000;
        /// Width of a word in the LSTM
        lstm_out_size: usize = 1024;
        /// Probability that dropout zeroes a value
        dropout_r: f64 = 0.1 => may_change;
        /// Attention distributions over regions
        i_glimpses: usize = 2;
        /// Attention distributions over words
        q_glimpses: usize = 2;
        /// Width of a word vector
        word_embed_size: usize = 300;
    }
}

/// The family of MFB and MFH: all that the rest of the program knows of it.
pub(crate) const FAMILY: Family = Family {
    keys: FamilyKeys {
        name: "mfb",
        keys: MfbKeys::KEYS,
        derived: &[],
        check: |values| checked(values).map(drop),
    },
    needs: |_, streams| {
        regions(streams)?;
        Ok(Needs {
            regions: true,
            padding: Padding::Observed,
            ..Needs::default()
        })
    },
    build: |values, sizes, path| Ok(Box::new(Mfb::new(&checked(values)?, sizes, path)?)),
    sizes_of,
    canonical_name: str::to_owned,
    sign: "backbone.i_att.mfb.proj_i.weight",
    published: |shapes| match matrix(shapes, FIRST_OF_MFH) {
        Ok(_) => "mfh",
        Err(_) => "mfb",
    },
};

const FIRST_OF_MFH: &str = "backbone.mfh1.proj_i.weight";

/// The regions of a data set that has regions alone.
fn regions(streams: Streams) -> Result<StreamSpec> {
    match (streams.regions, streams.grid) {
        (Some(regions), None) => Ok(regions),
        _ => bail!(
            "MFB and MFH read the regions of a data set without a grid, such as vqa; for gqa and clevr use another model \
             (--MODEL=mcan_small)"
        ),
    }
}

fn checked(values: &ModelValues) -> Result<MfbKeys, ConfigError> {
    let keys: MfbKeys = values
        .keys()
        .map_err(|error| ConfigError::new("MODEL", error.to_string()))?;
    require_sizes(&[
        ("HIDDEN_SIZE", keys.hidden_size),
        ("MFB_K", keys.mfb_k),
        ("MFB_O", keys.mfb_o),
        ("LSTM_OUT_SIZE", keys.lstm_out_size),
        ("I_GLIMPSES", keys.i_glimpses),
        ("Q_GLIMPSES", keys.q_glimpses),
        ("WORD_EMBED_SIZE", keys.word_embed_size),
    ])?;
    require_rates(&[("DROPOUT_R", keys.dropout_r)])?;
    Ok(keys)
}

/// The sizes that the shapes of a checkpoint show. The rate of dropout does not show in shapes and is kept.
fn sizes_of(shapes: &Shapes, given: &ModelValues) -> Result<Shown> {
    let [_, word_embed_size] = matrix(shapes, "embedding.weight")?;
    let [q_glimpses, hidden_size] = matrix(shapes, "backbone.q_att.mlp.linear.weight")?;
    let [_, lstm_out_size] = matrix(shapes, "backbone.q_att.mlp.fc.linear.weight")?;
    let [i_glimpses, _] = matrix(shapes, "backbone.i_att.mlp.linear.weight")?;
    let [_, mfb_o] = matrix(shapes, "backbone.i_att.mlp.fc.linear.weight")?;
    let [products, width] = matrix(shapes, FAMILY.sign)?;
    ensure!(
        mfb_o > 0 && products.is_multiple_of(mfb_o),
        "it has {products} products for {mfb_o} values of a joint representation"
    );
    let keys = MfbKeys {
        high_order: matrix(shapes, FIRST_OF_MFH).is_ok(),
        hidden_size,
        mfb_k: products / mfb_o,
        mfb_o,
        lstm_out_size,
        i_glimpses,
        q_glimpses,
        word_embed_size,
        ..given.keys()?
    };
    let mut values = given.clone();
    values.set_keys(&keys)?;
    checked(&values)?;
    Ok(Shown {
        values,
        widths: Widths {
            regions: Some(width),
            grid: None,
        },
    })
}

/// The whole network.
#[derive(Debug)]
struct Mfb {
    images: Images,
    embedding: Embedding,
    lstm: Recurrent,
    /// The MLP of the attention over words.
    q_att: Mlp,
    i_att: ImageAttention,
    /// One block (MFB), or two (MFH).
    fusion: Vec<Pooling>,
    proj: Linear,
    dropout_r: f64,
}

impl Mfb {
    fn new(keys: &MfbKeys, sizes: &Sizes, mut root: Path) -> Result<Mfb> {
        let width = regions(sizes.streams)?.width;
        let (hidden, lstm, p) = (keys.hidden_size, keys.lstm_out_size, keys.dropout_r);
        // In `state_dict` order.
        Linear::new(root.sub("adapter.frcn_linear").unused(), width, hidden);
        let embedding = Embedding::new(root.sub("embedding"), sizes.words, keys.word_embed_size);
        let rnn = Recurrent::new(Cell::Lstm, root.sub("lstm"), keys.word_embed_size, lstm);
        let mut backbone = root.sub("backbone");
        let q_att = Mlp::new(backbone.sub("q_att.mlp"), lstm, hidden, keys.q_glimpses, p);
        let i_att = ImageAttention::new(backbone.sub("i_att"), width, keys);
        let names: &[&str] = match keys.high_order {
            true => &["mfh1", "mfh2"],
            false => &["mfb"],
        };
        let attended = width * keys.i_glimpses;
        let fusion = names
            .iter()
            .map(|name| Pooling::new(backbone.sub(name), attended, keys));
        let fusion = fusion.collect();
        Ok(Mfb {
            images: Images::as_they_are(width),
            embedding,
            lstm: rnn,
            q_att,
            i_att,
            fusion,
            proj: Linear::new(root.sub("proj"), names.len() * keys.mfb_o, sizes.answers),
            dropout_r: p,
        })
    }
}

impl Model for Mfb {
    /// The answers' logits of z = MFB(v, q), or of the two z of MFH; q and v are what the question attends to among its words
    /// and in its image.
    fn forward(&self, batch: &PackedBatch, pass: &Pass) -> Result<Tensor> {
        let p = self.dropout_r;
        let words = self.embedding.forward(&batch.padded_word_ids()); // (B, T, E)
        let h = pass.dropout(self.lstm.forward(&pass.dropout(words, p)), p); // (B, T, L)
        let logits = each_row(&h, |h| self.q_att.forward(h, pass)); // (B, T, Q)
        let weights = logits.softmax(1, Kind::Float);
        let q = weights.transpose(1, 2).matmul(&h).flatten(1, 2); // (B, L Q)
        let v = self
            .i_att
            .forward(&self.images.of(batch, pass)?, &q, p, pass); // (B, F I)

        let (mut fused, mut products) = (Vec::new(), None);
        for pooling in &self.fusion {
            let of_v = pooling.proj_i.forward(&v, pass).to_kind(Kind::Float); // (B, K O)
            let of_q = pooling.proj_q.forward(&q, pass).to_kind(Kind::Float); // (B, K O)
            let both = match &products {
                Some(before) => of_v * of_q * before,
                None => of_v * of_q,
            };
            let both = pass.dropout(both, p);
            let u = pooling.summed(&both); // (B, O)
            let squares = square(&u).sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
            fused.push(u / root(&squares));
            products = Some(both);
        }
        Ok(self
            .proj
            .forward(&Tensor::cat(&fused, 1), pass)
            .to_kind(Kind::Float)) // (B, answers)
    }

    fn word_embedding(&self) -> &Tensor {
        &self.embedding.weight
    }
}

/// The norm of values with this sum of squares, at least 1e-12; below, its gradient is 0.
fn root(squares: &Tensor) -> Tensor {
    squares.clamp_min(1e-24).sqrt()
}

fn square(x: &Tensor) -> Tensor {
    x * x
}

/// Factorised bilinear pooling of v and q (Yu et al., 2017, eq. 4): sums of K products of their projections.
#[derive(Debug)]
struct Pooling {
    /// (K O, width of v)
    proj_i: Linear,
    /// (K O, L Q)
    proj_q: Linear,
    k: i64,
}

impl Pooling {
    /// Named `proj_i` and `proj_q`.
    fn new(mut path: Path, width: usize, keys: &MfbKeys) -> Pooling {
        let products = keys.mfb_k * keys.mfb_o;
        let question = keys.lstm_out_size * keys.q_glimpses;
        Pooling {
            proj_i: Linear::new(path.sub("proj_i"), width, products),
            proj_q: Linear::new(path.sub("proj_q"), question, products),
            k: keys.mfb_k as i64,
        }
    }

    /// The signed root of the sum of each K neighbours: sign(s) √|s|, whose gradient is 0 at 0.
    ///
    /// # Shapes
    /// products (R, K O) -> (R, O)
    fn summed(&self, products: &Tensor) -> Tensor {
        let products = products.view([products.size()[0], -1, self.k]);
        let s = products.sum_dim_intlist([2i64].as_slice(), false, Kind::Float);
        s.relu().sqrt() - s.neg().relu().sqrt()
    }
}

/// Attention over regions (Yu et al., 2017, section 4.2): softmax(MLP(MFB(xᵢ, q))) for each of I glimpses.
#[derive(Debug)]
struct ImageAttention {
    mfb: Pooling,
    mlp: Mlp,
}

impl ImageAttention {
    /// Named `mfb` and `mlp`.
    fn new(mut path: Path, width: usize, keys: &MfbKeys) -> ImageAttention {
        let (middle, glimpses, p) = (keys.hidden_size, keys.i_glimpses, keys.dropout_r);
        ImageAttention {
            mfb: Pooling::new(path.sub("mfb"), width, keys),
            mlp: Mlp::new(path.sub("mlp"), keys.mfb_o, middle, glimpses, p),
        }
    }

    /// The weighted sums of the regions of each question's image.
    ///
    /// # Shapes
    /// q (B, L Q) -> (B, F I)
    fn forward(&self, images: &ImageFeatures, q: &Tensor, p: f64, pass: &Pass) -> Tensor {
        let layout = images.layout.questions();
        let x = pass.dropout(images.x.shallow_clone(), p); // (R_s, F)
        let of_x = self.mfb.proj_i.forward(&x, pass).to_kind(Kind::Float); // (R_s, K O)
        let of_q = self.mfb.proj_q.forward(q, pass).to_kind(Kind::Float); // (B, K O)
        let both = images.layout.expand(&of_x) * layout.repeat(&of_q); // (R, K O)
        let u = self.mfb.summed(&pass.dropout(both, p)); // (R, O)
        let z = &u / layout.repeat(&norms(&u, images, layout)); // (R, O)
        let logits = self.mlp.forward(&z, pass).to_kind(Kind::Float); // (R, I)
        let logits = images.with_multiplicity(logits);
        ops::weighted_sum(&logits, &images.layout.expand(&x), layout)
    }
}

/// The norm of all values of the rows of each question's image, with their multiplicities.
///
/// # Shapes
/// u (R, O) -> (B, 1)
fn norms(u: &Tensor, images: &ImageFeatures, layout: &Ragged) -> Tensor {
    let squares = square(u).sum_dim_intlist([1i64].as_slice(), true, Kind::Float); // (R, 1)
    let zeros = squares.zeros_like();
    let counted = squares * images.with_multiplicity(zeros).exp(); // (R, 1)
    let sums = layout
        .pad(&counted)
        .sum_dim_intlist([1i64].as_slice(), false, Kind::Float); // (B, 1)
    root(&sums)
}

#[cfg(test)]
mod tests;
