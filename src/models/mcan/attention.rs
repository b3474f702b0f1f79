//! The blocks of the paper that look at whole sequences: multi-head attention, the SA and SGA units, and the
//! attention-weighted pooling. Names in comments are those of Yu et al., section 3; names of fields are the reference's.

use super::keys::McanKeys;
use crate::native::{self, varlen};
use crate::nn::layers::{Backend, LayerNorm, Linear, Mlp, Pass, or_oom};
use crate::nn::packed::{Ragged, split_heads};
use crate::nn::parameters::Path;
use tch::{Kind, Tensor};

/// Packed rows and how they lie in sequences.
#[derive(Clone, Copy)]
pub struct Sequences<'a> {
    /// (R, `HIDDEN_SIZE`)
    pub rows: &'a Tensor,
    /// B sequences of R rows in all.
    pub layout: &'a Ragged,
}

/// Multi-head scaled dot-product attention.
#[derive(Debug)]
pub struct MhAtt {
    linear_v: Linear,
    linear_k: Linear,
    linear_q: Linear,
    linear_merge: Linear,
    heads: i64,
    head_size: i64,
    dropout_r: f64,
}

impl MhAtt {
    /// Four linear layers `linear_{v,k,q,merge}`.
    pub fn new(mut path: Path, config: &McanKeys) -> MhAtt {
        let size = config.hidden_size;
        let mut linear = |name| Linear::new(path.sub(name), size, size);
        MhAtt {
            linear_v: linear("linear_v"),
            linear_k: linear("linear_k"),
            linear_q: linear("linear_q"),
            linear_merge: linear("linear_merge"),
            heads: config.multi_head as i64,
            head_size: config.hidden_size_head() as i64,
            dropout_r: config.dropout_r,
        }
    }

    /// Each position of `x` attends to the positions of its own sequence.
    ///
    /// # Shapes
    /// x (R, D) -> (R, D)
    pub fn self_attention(&self, x: Sequences, pass: &Pass) -> Tensor {
        let [linear_vkq, linear_merge] = Linear::ready(
            [
                &[&self.linear_v, &self.linear_k, &self.linear_q],
                &[&self.linear_merge],
            ],
            pass,
        );
        let vkq = linear_vkq.product(x.rows, pass); // (R, 3 D)
        linear_merge.product(&self.attend(&vkq, None, x.layout, x.layout, pass), pass)
    }

    /// Each position of `x` attends to the positions of the sequence of `y` with the same number.
    ///
    /// # Shapes
    /// x (R, D), y (S, D) -> (R, D)
    pub fn cross_attention(&self, x: Sequences, y: Sequences, pass: &Pass) -> Tensor {
        let [linear_vk, linear_q, linear_merge] = Linear::ready(
            [
                &[&self.linear_v, &self.linear_k],
                &[&self.linear_q],
                &[&self.linear_merge],
            ],
            pass,
        );
        let vk = linear_vk.product(y.rows, pass); // (S, 2 D)
        let q = linear_q.product(x.rows, pass); // (R, D)
        linear_merge.product(&self.attend(&vk, Some(&q), x.layout, y.layout, pass), pass)
    }

    /// # Shapes
    /// vk (S, 2 D), q (R, D) -> (R, D); without `q`, (S, 3 D) holds q too
    fn attend(
        &self,
        vk: &Tensor,
        q: Option<&Tensor>,
        queries: &Ragged,
        keys: &Ragged,
        pass: &Pass,
    ) -> Tensor {
        let (query_rows, key_rows) = (queries.rows(), keys.rows());
        match pass.kernels {
            Backend::Native => {
                let mask = pass.mask(self.dropout_r);
                return or_oom(native::attention(
                    vk, q, query_rows, key_rows, self.heads, mask,
                ));
            }
            Backend::Libtorch if varlen::is_available(self.head_size) => {
                let p = pass.dropout_rate(self.dropout_r);
                return or_oom(varlen::attention(
                    vk, q, query_rows, key_rows, self.heads, p,
                ));
            }
            Backend::Libtorch => {}
        }
        let (vk, q) = match q {
            Some(q) => (
                split_heads(&keys.pad(vk), 2, self.heads),
                split_heads(&queries.pad(q), 1, self.heads),
            ),
            None => (split_heads(&keys.pad(vk), 3, self.heads), Vec::new()),
        };
        self.attend_in_grid(
            &vk[0],
            &vk[1],
            q.first().unwrap_or(&vk[vk.len() - 1]),
            queries,
            keys,
            pass,
        )
    }

    /// # Shapes
    /// v, k (B, H, M, K), q (B, H, L, K) -> (R, D)
    fn attend_in_grid(
        &self,
        v: &Tensor,
        k: &Tensor,
        q: &Tensor,
        queries: &Ragged,
        keys: &Ragged,
        pass: &Pass,
    ) -> Tensor {
        let (b, h, l, d_k) = q.size4().unwrap_or_default();
        let q = keys.zero_if_all_padding(q / (d_k as f64).sqrt());
        let scores = q.matmul(&k.transpose(-2, -1)).to_kind(Kind::Float) // (B, H, L, M)
            + keys.key_bias(&[b, 1, 1, keys.longest]);
        let att_map = pass.dropout(scores.softmax(-1, Kind::Float), self.dropout_r); // (B, H, L, M)
        let atted = att_map.to_kind(pass.product).matmul(v); // (B, H, L, K)
        queries.unpad(&atted.transpose(1, 2).reshape([b, l, h * d_k])) // (R, D)
    }
}

/// A sub-layer's dropout, residual connection and norm.
#[derive(Debug)]
struct Residual {
    norm: LayerNorm,
    dropout_r: f64,
}

impl Residual {
    fn new(path: Path, config: &McanKeys) -> Residual {
        Residual {
            norm: LayerNorm::new(path, config.hidden_size),
            dropout_r: config.dropout_r,
        }
    }

    /// # Shapes
    /// x, sub_layer (R, D) -> (R, D)
    fn add_norm(&self, x: &Tensor, sub_layer: Tensor, pass: &Pass) -> Tensor {
        self.norm.add_norm(x, sub_layer, self.dropout_r, pass)
    }
}

fn ffn(mut path: Path, config: &McanKeys) -> Mlp {
    Mlp::new(
        path.sub("mlp"),
        config.hidden_size,
        config.ff_size,
        config.hidden_size,
        config.dropout_r,
    )
}

/// Self-attention unit (SA): attention self_attention the words, then a feed-forward network.
#[derive(Debug)]
pub struct Sa {
    mhatt: MhAtt,
    ffn: Mlp,
    norm1: Residual,
    norm2: Residual,
}

impl Sa {
    /// Named `mhatt`, `ffn`, `norm1`, `norm2`.
    pub fn new(mut path: Path, config: &McanKeys) -> Sa {
        Sa {
            mhatt: MhAtt::new(path.sub("mhatt"), config),
            ffn: ffn(path.sub("ffn"), config),
            norm1: Residual::new(path.sub("norm1"), config),
            norm2: Residual::new(path.sub("norm2"), config),
        }
    }

    /// # Shapes
    /// x (R, D) -> (R, D)
    pub fn forward(&self, x: Sequences, pass: &Pass) -> Tensor {
        let x = self
            .norm1
            .add_norm(x.rows, self.mhatt.self_attention(x, pass), pass);
        self.norm2.add_norm(&x, self.ffn.forward(&x, pass), pass)
    }
}

/// Self- and guided-attention unit (SGA): attention self_attention the regions, then to the words, then a feed-forward network.
#[derive(Debug)]
pub struct Sga {
    mhatt1: MhAtt,
    mhatt2: MhAtt,
    ffn: Mlp,
    norm1: Residual,
    norm2: Residual,
    norm3: Residual,
}

impl Sga {
    /// Named `mhatt1`, `mhatt2`, `ffn`, `norm1`, `norm2`, `norm3`.
    pub fn new(mut path: Path, config: &McanKeys) -> Sga {
        Sga {
            mhatt1: MhAtt::new(path.sub("mhatt1"), config),
            mhatt2: MhAtt::new(path.sub("mhatt2"), config),
            ffn: ffn(path.sub("ffn"), config),
            norm1: Residual::new(path.sub("norm1"), config),
            norm2: Residual::new(path.sub("norm2"), config),
            norm3: Residual::new(path.sub("norm3"), config),
        }
    }

    /// The part that does not see the question, and can be shared by all questions about an image.
    ///
    /// # Shapes
    /// y (R, D) -> (R, D)
    pub fn unguided(&self, y: Sequences, pass: &Pass) -> Tensor {
        self.norm1
            .add_norm(y.rows, self.mhatt1.self_attention(y, pass), pass)
    }

    /// The rest, guided by the words `x`.
    ///
    /// # Shapes
    /// y (R, D), x (S, D) -> (R, D)
    pub fn guided(&self, y: Sequences, x: Sequences, pass: &Pass) -> Tensor {
        let y = self
            .norm2
            .add_norm(y.rows, self.mhatt2.cross_attention(y, x, pass), pass);
        self.norm3.add_norm(&y, self.ffn.forward(&y, pass), pass)
    }
}

/// Attention-weighted pooling of a sequence into one vector.
#[derive(Debug)]
pub struct AttFlat {
    mlp: Mlp,
    linear_merge: Linear,
}

impl AttFlat {
    /// Named `mlp` and `linear_merge`.
    pub fn new(mut path: Path, config: &McanKeys) -> AttFlat {
        let (size, glimpses) = (config.hidden_size, config.flat_glimpses);
        AttFlat {
            mlp: Mlp::new(
                path.sub("mlp"),
                size,
                config.flat_mlp_size,
                glimpses,
                config.dropout_r,
            ),
            linear_merge: Linear::new(
                path.sub("linear_merge"),
                size * glimpses,
                config.flat_out_size,
            ),
        }
    }

    /// # Shapes
    /// x (R, D) -> (B, `FLAT_OUT_SIZE`)
    pub fn forward(&self, x: Sequences, pass: &Pass) -> Tensor {
        let layout = x.layout;
        let logits = layout.pad(&self.mlp.forward(x.rows, pass).to_kind(Kind::Float)); // (B, L, G)
        let logits = layout.zero_if_all_padding(logits)
            + layout.key_bias(&[layout.batch, layout.longest, 1]);
        let att = logits.softmax(1, Kind::Float); // (B, L, G)
        let pooled = att.transpose(1, 2).matmul(&layout.pad(x.rows)); // (B, G, D)
        self.linear_merge
            .forward(&pooled.view([layout.batch, -1]), pass)
    }
}
