//! The attention units SA and SGA and their cascade (Yu et al., 2019, sections 3 and 4.2).
//!
//! Letters are the paper's: X is the image, and Y the question that guides it. Parameters have the reference's names.

use super::keys::McanKeys;
use crate::nn::layers::{LayerNorm, MhAtt, Mlp, Sequences};
use crate::nn::packed::ImageRows;
use crate::nn::parameters::Path;
use crate::nn::pass::Pass;
use tch::Tensor;

/// The pointwise feed-forward network of a unit: FC(4 D), ReLU, dropout, FC(D).
fn feed_forward(mut path: Path, keys: &McanKeys) -> Mlp {
    let &McanKeys {
        hidden_size,
        ff_size,
        dropout_r,
        ..
    } = keys;
    Mlp::new(
        path.sub("mlp"),
        hidden_size,
        ff_size,
        hidden_size,
        dropout_r,
    )
}

fn attention(path: Path, keys: &McanKeys) -> MhAtt {
    MhAtt::new(path, keys.hidden_size, keys.multi_head, keys.dropout_r)
}

/// The self-attention unit SA(Y) (section 3.1, figure 2a): attention within Y, then a feed-forward network. The output
/// of each is added to its input and normalised.
#[derive(Debug)]
struct Sa {
    mhatt: MhAtt,
    ffn: Mlp,
    norm1: LayerNorm,
    norm2: LayerNorm,
    dropout_r: f64,
}

impl Sa {
    /// Named `mhatt`, `ffn`, `norm1`, `norm2`.
    fn new(mut path: Path, keys: &McanKeys) -> Sa {
        Sa {
            mhatt: attention(path.sub("mhatt"), keys),
            ffn: feed_forward(path.sub("ffn"), keys),
            norm1: LayerNorm::new(path.sub("norm1"), keys.hidden_size),
            norm2: LayerNorm::new(path.sub("norm2"), keys.hidden_size),
            dropout_r: keys.dropout_r,
        }
    }

    /// Y after the unit.
    ///
    /// # Shapes
    /// y (S, D) -> (S, D)
    fn forward(&self, y: Sequences, pass: &Pass) -> Tensor {
        let attended = self.mhatt.self_attention(y, pass);
        let y = self.norm1.add_norm(y.rows, attended, self.dropout_r, pass);
        self.norm2
            .add_norm(&y, self.ffn.forward(&y, pass), self.dropout_r, pass)
    }
}

/// The self- and guided-attention unit SGA(X, Y) (section 3.2, figure 3c): attention within X, attention from X to its
/// guide Y, then a feed-forward network. The output of each is added to its input and normalised.
#[derive(Debug)]
struct Sga {
    mhatt1: MhAtt,
    mhatt2: MhAtt,
    ffn: Mlp,
    norm1: LayerNorm,
    norm2: LayerNorm,
    norm3: LayerNorm,
    dropout_r: f64,
}

impl Sga {
    /// Named `mhatt1`, `mhatt2`, `ffn`, `norm1`, `norm2`, `norm3`.
    fn new(mut path: Path, keys: &McanKeys) -> Sga {
        Sga {
            mhatt1: attention(path.sub("mhatt1"), keys),
            mhatt2: attention(path.sub("mhatt2"), keys),
            ffn: feed_forward(path.sub("ffn"), keys),
            norm1: LayerNorm::new(path.sub("norm1"), keys.hidden_size),
            norm2: LayerNorm::new(path.sub("norm2"), keys.hidden_size),
            norm3: LayerNorm::new(path.sub("norm3"), keys.hidden_size),
            dropout_r: keys.dropout_r,
        }
    }

    /// X after the unit.
    ///
    /// # Shapes
    /// x (R, D), y (S, D) -> (R, D)
    fn forward<'a>(&self, x: ImageRows<'a>, y: Sequences, pass: &Pass) -> ImageRows<'a> {
        let p = self.dropout_r;
        let attended = self.mhatt1.self_attention(x.sequences(), pass);
        let x = x
            .with(self.norm1.add_norm(&x.rows, attended, p, pass))
            .per_question();
        let guided = self.mhatt2.cross_attention(x.sequences(), y, pass);
        let x = x.with(self.norm2.add_norm(&x.rows, guided, p, pass));
        x.with(
            self.norm3
                .add_norm(&x.rows, self.ffn.forward(&x.rows, pass), p, pass),
        )
    }
}

/// The cascade of L MCA layers (section 4.2, eq. 4) in its encoder-decoder form: Y goes through all SA units first, and
/// the final Y⁽ᴸ⁾ guides every SGA unit.
#[derive(Debug)]
pub(super) struct Backbone {
    enc_list: Vec<Sa>,
    dec_list: Vec<Sga>,
}

impl Backbone {
    /// Named `enc_list.i` and `dec_list.i`.
    pub(crate) fn new(mut path: Path, keys: &McanKeys) -> Backbone {
        let (layers, mut list) = (0..keys.layer, path.sub("enc_list"));
        let enc_list = layers.clone().map(|i| Sa::new(list.sub(i), keys)).collect();
        let mut list = path.sub("dec_list");
        let dec_list = layers.map(|i| Sga::new(list.sub(i), keys)).collect();
        Backbone { enc_list, dec_list }
    }

    /// X⁽ᴸ⁾ and Y⁽ᴸ⁾.
    ///
    /// # Shapes
    /// x (R, D), y (S, D) -> (R, D), (S, D)
    pub(crate) fn forward<'a>(
        &self,
        mut x: ImageRows<'a>,
        y: Sequences,
        pass: &Pass,
    ) -> (ImageRows<'a>, Tensor) {
        let (layout, mut rows) = (y.layout, y.rows.shallow_clone());
        for sa in &self.enc_list {
            rows = sa.forward(
                Sequences {
                    rows: &rows,
                    layout,
                },
                pass,
            ); // (S, D)
        }
        for sga in &self.dec_list {
            x = sga.forward(
                x,
                Sequences {
                    rows: &rows,
                    layout,
                },
                pass,
            ); // (R, D)
        }
        (x, rows)
    }
}
