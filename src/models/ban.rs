//! BAN: "Bilinear Attention Networks" (Kim et al., NeurIPS 2018), as OpenVQA computes it.
//!
//! Letters of shapes: B questions; T padded words; R packed rows; L longest image; D `HIDDEN_SIZE`; I the width of a region
//! in the attention: that of its features, or D behind an adapter; G `GLIMPSE`; H `BA_HIDDEN_SIZE`.
//!
//! BAN masks no words: the GRU runs over all T. Rows of images that are zero are masked; behind an adapter padding is not
//! zero, so that it takes part, one row with its multiplicity for all of it.

use super::adapter;
use super::classifier::{self, Classifier, DropoutLinear};
use super::images::{ImageFeatures, ImageKeys, Images, widths};
use super::{Family, Model, Shapes, Shown, Sizes, items, matrix, require_rates, require_sizes};
use crate::config::{ConfigError, FamilyKeys, Keys, ModelValues, require};
use crate::data::streams::Padding;
use crate::nn::layers::{Cell, Embedding, Recurrent, each_row};
use crate::nn::packed::PackedBatch;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use anyhow::{Result, ensure};
use mcan_data::keys;
use tch::{Kind, Tensor};

keys! {
    /// Sizes of BAN.
    pub(crate) struct BanKeys: Model {
        /// Bilinear attention maps, and residual steps
        glimpse: usize = 8;
        /// Width of the question and of the joint representation
        hidden_size: usize = 1024;
        /// Rank of the bilinear pooling, in units of HIDDEN_SIZE
        k_times: usize = 3;
        /// Rank of the bilinear attention; K_TIMES HIDDEN_SIZE
        ba_hidden_size: Option<usize> = None => absent("K_TIMES HIDDEN_SIZE"), may_change;
        /// Probability that dropout zeroes an input of a layer
        dropout_r: f64 = 0.2 => may_change;
        /// Probability that dropout zeroes a value in the classifier and in the attention
        classifer_dropout_r: f64 = 0.5 => may_change;
        /// Hidden width of the classifier
        flat_out_size: usize = 2048;
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

/// The family BAN: all that the rest of the program knows of it.
pub(crate) const FAMILY: Family = Family {
    keys: FamilyKeys {
        name: "ban",
        keys: BanKeys::KEYS,
        derived: &[],
        check: |values| checked(values).map(drop),
    },
    needs: |values, streams| {
        checked(values)?
            .images()
            .needs(streams, Padding::MaskedAlways)
    },
    build: |values, sizes, path| Ok(Box::new(Ban::new(&checked(values)?, sizes, path)?)),
    sizes_of,
    canonical_name: |name| classifier::canonical_name(name, ".mlp.0"),
    sign: "backbone.BiAtt.logits.h_mat_v",
    published: |shapes| match items(shapes, "backbone.q_prj.") {
        4 => "ban_4",
        _ => "ban_8",
    },
};

fn checked(values: &ModelValues) -> Result<BanKeys, ConfigError> {
    let keys: BanKeys = values
        .keys()
        .map_err(|error| ConfigError::new("MODEL", error.to_string()))?;
    require_sizes(&[
        ("GLIMPSE", keys.glimpse),
        ("HIDDEN_SIZE", keys.hidden_size),
        ("K_TIMES", keys.k_times),
        ("FLAT_OUT_SIZE", keys.flat_out_size),
        ("WORD_EMBED_SIZE", keys.word_embed_size),
        ("BBOXFEAT_EMB_SIZE", keys.bboxfeat_emb_size),
    ])?;
    let (rank, product) = (keys.rank(), keys.k_times * keys.hidden_size);
    require_sizes(&[("BA_HIDDEN_SIZE", rank)])?;
    require(rank == product, "BA_HIDDEN_SIZE", || {
        format!(
            "BA_HIDDEN_SIZE = {rank}: it must be K_TIMES = {} times HIDDEN_SIZE = {}; leave it out",
            keys.k_times, keys.hidden_size
        )
    })?;
    require_rates(&[
        ("DROPOUT_R", keys.dropout_r),
        ("CLASSIFER_DROPOUT_R", keys.classifer_dropout_r),
    ])?;
    require(!keys.use_aux_feat, "USE_AUX_FEAT", || {
        "USE_AUX_FEAT = True: BAN reads regions or a grid, not both".into()
    })?;
    Ok(keys)
}

impl BanKeys {
    /// H
    fn rank(&self) -> usize {
        let product = self.k_times * self.hidden_size;
        self.ba_hidden_size.unwrap_or(product)
    }

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
    let attention = "backbone.BiAtt.logits";
    let [rank, hidden_size] = matrix(shapes, &format!("{attention}.q_net.mlp.1.weight_v"))?;
    let [_, input] = matrix(shapes, &format!("{attention}.v_net.mlp.1.weight_v"))?;
    let [flat_out_size, _] = matrix(shapes, "classifer.0.weight_v")?;
    ensure!(
        hidden_size > 0 && rank.is_multiple_of(hidden_size),
        "its attention has rank {rank}, which is no multiple of its width {hidden_size}"
    );
    let adapter = adapter::Shown::of(shapes)?;
    let given_keys: BanKeys = given.keys()?;
    let keys = BanKeys {
        glimpse: items(shapes, "backbone.q_prj."),
        hidden_size,
        k_times: rank / hidden_size,
        ba_hidden_size: Some(rank),
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
struct Ban {
    embedding: Embedding,
    rnn: Recurrent,
    images: Images,
    attention: BilinearAttention,
    /// b_net: for each glimpse, the factors of its joint representation.
    joint: Vec<LowRank>,
    /// q_prj
    projections: Vec<DropoutLinear>,
    k_times: i64,
    classifier: Classifier,
}

impl Ban {
    fn new(keys: &BanKeys, sizes: &Sizes, mut root: Path) -> Result<Ban> {
        let (hidden, p) = (keys.hidden_size, keys.dropout_r);
        // In `state_dict` order.
        let embedding = Embedding::new(root.sub("embedding"), sizes.words, keys.word_embed_size);
        let rnn = Recurrent::new(Cell::Gru, root.sub("rnn"), keys.word_embed_size, hidden);
        let images = keys.images().build(root.sub("adapter"), sizes)?;
        let (input, mut backbone) = (images.width, root.sub("backbone"));
        let attention = BilinearAttention::new(backbone.sub("BiAtt.logits"), input, keys);
        let mut list = backbone.sub("b_net");
        let joint = (0..keys.glimpse).map(|g| LowRank::new(&mut list.sub(g), input, keys));
        let joint = joint.collect();
        let mut list = backbone.sub("q_prj");
        let projections =
            (0..keys.glimpse).map(|g| DropoutLinear::new(list.sub(g), hidden, hidden, p));
        let projections = projections.collect();
        Ok(Ban {
            embedding,
            rnn,
            images,
            attention,
            joint,
            projections,
            k_times: keys.k_times as i64,
            classifier: Classifier::new(
                root.sub("classifer"),
                [hidden, keys.flat_out_size, sizes.answers],
                keys.classifer_dropout_r,
            ),
        })
    }
}

impl Model for Ban {
    /// For each glimpse g with its attention map A_g (section 3.2): f_g = joint representation of Q, X and A_g, and
    /// Q ← W_g f_g 1ᵀ + Q (eq. 12). Then the classifier of the sum of Q over the words.
    fn forward(&self, batch: &PackedBatch, pass: &Pass) -> Result<Tensor> {
        let words = self.embedding.forward(&batch.padded_word_ids()); // (B, T, E)
        let mut q = self.rnn.forward(&words); // (B, T, D)
        let images = self.images.of(batch, pass)?;
        let maps = self.attention.forward(&images, &q, pass); // (B, G, T, L)
        for (g, (joint, projection)) in self.joint.iter().zip(&self.projections).enumerate() {
            let f = joint.pool(&images, &q, &maps.select(1, g as i64), pass); // (B, H)
            let f = f.view([f.size()[0], -1, self.k_times]).sum_dim_intlist(
                [2i64].as_slice(),
                false,
                Kind::Float,
            ); // (B, D)
            // A new tensor: the gradient needs the old one.
            let residual = projection.forward(&f, pass).unsqueeze(1); // (B, 1, D)
            q = &q + residual; // (B, T, D)
        }
        let q = q.sum_dim_intlist([1i64].as_slice(), false, Kind::Float); // (B, D)
        Ok(self.classifier.forward(&q, pass)) // (B, answers)
    }

    fn word_embedding(&self) -> &Tensor {
        &self.embedding.weight
    }
}

/// The two factors of low-rank bilinear pooling (section 2): σ(U x) and σ(V q), both of rank H; σ is ReLU.
#[derive(Debug)]
struct LowRank {
    v_net: DropoutLinear,
    q_net: DropoutLinear,
}

impl LowRank {
    /// Named `v_net` and `q_net`.
    fn new(path: &mut Path, input: usize, keys: &BanKeys) -> LowRank {
        let (hidden, rank, p) = (keys.hidden_size, keys.rank(), keys.dropout_r);
        LowRank {
            v_net: DropoutLinear::new(path.sub("v_net"), input, rank, p),
            q_net: DropoutLinear::new(path.sub("q_net"), hidden, rank, p),
        }
    }

    /// # Shapes
    /// -> (R, H) a row for each row of the questions' images
    fn of_images(&self, images: &ImageFeatures, pass: &Pass) -> Tensor {
        images
            .layout
            .expand(&self.v_net.forward(&images.x, pass).relu())
    }

    /// # Shapes
    /// q (B, T, D) -> (B, T, H)
    fn of_words(&self, q: &Tensor, pass: &Pass) -> Tensor {
        each_row(q, |q| self.q_net.forward(q, pass)).relu()
    }

    /// The joint representation under an attention map (eq. 5): f_k = Σᵢₜ A_ti σ(U xᵢ)_k σ(V qₜ)_k.
    ///
    /// # Shapes
    /// q (B, T, D), map (B, T, L) -> (B, H)
    fn pool(&self, images: &ImageFeatures, q: &Tensor, map: &Tensor, pass: &Pass) -> Tensor {
        let v = images.layout.questions().pad(&self.of_images(images, pass)); // (B, L, H)
        let attended = map.matmul(&v); // (B, T, H)
        (attended * self.of_words(q, pass)).sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
    }
}

/// The bilinear attention maps (eq. 7): softmax over all pairs of a word and a region of
/// Σ_k h_gk σ(U xᵢ)_k σ(V qₜ)_k + b_g.
#[derive(Debug)]
struct BilinearAttention {
    /// (1, G, 1, 1)
    h_bias: Tensor,
    /// ()
    h_mat_g: Tensor,
    /// (1, G, 1, H)
    h_mat_v: Tensor,
    factors: LowRank,
    /// Of dropout on σ(U x).
    dropout_r: f64,
}

impl BilinearAttention {
    /// `h_bias` and v of `h_mat` are drawn from the standard normal distribution; the weight norm's g is the norm of v.
    fn new(mut path: Path, input: usize, keys: &BanKeys) -> BilinearAttention {
        let (glimpses, rank) = (keys.glimpse as i64, keys.rank() as i64);
        let h_bias = path.normal("h_bias", &[1, glimpses, 1, 1]);
        let h_mat_g = path.constant("h_mat_g", &[], 0.0);
        let h_mat_v = path.normal("h_mat_v", &[1, glimpses, 1, rank]);
        tch::no_grad(|| h_mat_g.shallow_clone().copy_(&h_mat_v.norm()));
        BilinearAttention {
            h_bias,
            h_mat_g,
            h_mat_v,
            factors: LowRank::new(&mut path, input, keys),
            dropout_r: keys.classifer_dropout_r,
        }
    }

    /// # Shapes
    /// q (B, T, D) -> (B, G, T, L); 0 at padding of the longest image
    fn forward(&self, images: &ImageFeatures, q: &Tensor, pass: &Pass) -> Tensor {
        let layout = images.layout.questions();
        let v = pass.dropout(self.factors.of_images(images, pass), self.dropout_r); // (R, H)
        let q = self.factors.of_words(q, pass).unsqueeze(1); // (B, 1, T, H)
        let h = &self.h_mat_v * (&self.h_mat_g / self.h_mat_v.norm()); // (1, G, 1, H)
        // h is multiplied into the words, of which there are fewer than regions.
        let (b, l, t) = (layout.batch, layout.longest, q.size()[2]);
        let q = (q * h).view([b, -1, v.size()[1]]); // (B, G T, H)
        let logits = q.matmul(&layout.pad(&v).transpose(1, 2)); // (B, G T, L)
        let logits = logits.view([b, -1, t, l]) + &self.h_bias; // (B, G, T, L)
        let zeros = Tensor::zeros([v.size()[0], 1], (Kind::Float, v.device()));
        let weights = layout.pad(&images.with_multiplicity(zeros)); // (B, L, 1)
        let bias = weights.view([b, 1, 1, l]) + layout.key_bias(&[b, 1, 1, l]);
        let maps = (logits + bias).view([b, -1, t * l]).softmax(2, Kind::Float);
        maps.view([b, -1, t, l])
    }
}

#[cfg(test)]
mod tests;
