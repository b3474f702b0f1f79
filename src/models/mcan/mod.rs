//! The network of "Deep Modular Co-Attention Networks for Visual Question Answering" (Yu et al., CVPR 2019), computed on
//! packed sequences: no work on padding that cannot be observed.
//!
//! Letters of shapes: B questions; R, S packed rows; L, M longest sequence; D `HIDDEN_SIZE`; H heads; K = D / H;
//! G glimpses; F `IMG_FEAT_SIZE`. The residual stream is float32; products run in [`Pass::product`].

pub mod attention;
pub mod keys;
pub mod shapes;
#[cfg(test)]
mod tests;

use crate::native::random::Generator;
use crate::nn::layers::{LayerNorm, Linear, Pass, or_oom};
use crate::nn::lstm::Lstm;
use crate::nn::packed::PackedBatch;
use crate::nn::parameters::{Parameters, Path};
use attention::{AttFlat, Sa, Sequences, Sga};
use keys::McanKeys;
use tch::{Device, Kind, Tensor};

/// The whole network.
#[derive(Debug)]
pub struct Net {
    /// All parameters, in `state_dict` order.
    pub parameters: Parameters,
    embedding: Tensor,
    lstm: Lstm,
    img_feat_linear: Linear,
    enc_list: Vec<Sa>,
    dec_list: Vec<Sga>,
    attflat_img: AttFlat,
    attflat_lang: AttFlat,
    proj_norm: LayerNorm,
    proj: Linear,
}

impl Net {
    /// A network with fresh parameters, those that `seed` means.
    ///
    /// `words` and `answers` are the sizes of the vocabulary and of the answer list.
    pub fn new(config: &McanKeys, words: usize, answers: usize, seed: u64, device: Device) -> Net {
        let (mut parameters, mut generator) = (Parameters::default(), or_oom(Generator::new(seed)));
        let mut root = Path::root(&mut parameters, &mut generator, device);
        let embedding = root
            .sub("embedding")
            .normal("weight", &[words as i64, config.word_embed_size as i64]);
        let lstm = Lstm::new(
            root.sub("lstm"),
            config.word_embed_size,
            config.hidden_size,
            device,
        );
        let img_feat_linear = Linear::new(
            root.sub("img_feat_linear"),
            config.img_feat_size,
            config.hidden_size,
        );
        let mut backbone = root.sub("backbone");
        let enc_list = (0..config.layer)
            .map(|i| Sa::new(backbone.sub("enc_list").sub(i), config))
            .collect();
        let dec_list = (0..config.layer)
            .map(|i| Sga::new(backbone.sub("dec_list").sub(i), config))
            .collect();
        let attflat_img = AttFlat::new(root.sub("attflat_img"), config);
        let attflat_lang = AttFlat::new(root.sub("attflat_lang"), config);
        let proj_norm = LayerNorm::new(root.sub("proj_norm"), config.flat_out_size);
        let proj = Linear::new(root.sub("proj"), config.flat_out_size, answers);
        Net {
            parameters,
            embedding,
            lstm,
            img_feat_linear,
            enc_list,
            dec_list,
            attflat_img,
            attflat_lang,
            proj_norm,
            proj,
        }
    }

    /// How many answers it chooses from.
    pub fn answers(&self) -> usize {
        self.proj.bias.numel()
    }

    /// Answer logits; the reference's prediction is their sigmoid.
    ///
    /// Questions share the rows of their image up to the first guided attention where the batch says so; batches for
    /// training do not, as dropout is drawn anew for each question.
    ///
    /// # Shapes
    /// -> (B, answers), float32
    pub fn forward(&self, batch: &PackedBatch, pass: &Pass) -> Tensor {
        let (words, regions) = (&batch.words, batch.regions());
        let embedded = Tensor::embedding(&self.embedding, &batch.word_ids, -1, false, false); // (S, WORD_EMBED_SIZE)
        let mut x = words.unpad(&self.lstm.forward(&words.pad(&embedded))); // (S, D)
        for sa in &self.enc_list {
            x = sa.forward(
                Sequences {
                    rows: &x,
                    layout: words,
                },
                pass,
            );
        }
        let x = Sequences {
            rows: &x,
            layout: words,
        };

        let mut y = self
            .img_feat_linear
            .forward(&batch.features, pass)
            .to_kind(Kind::Float); // (R of distinct images, D)
        for (i, sga) in self.dec_list.iter().enumerate() {
            y = match i {
                0 => batch.expand(sga.unguided(
                    Sequences {
                        rows: &y,
                        layout: &batch.shared,
                    },
                    pass,
                )),
                _ => sga.unguided(
                    Sequences {
                        rows: &y,
                        layout: regions,
                    },
                    pass,
                ),
            };
            y = sga.guided(
                Sequences {
                    rows: &y,
                    layout: regions,
                },
                x,
                pass,
            ); // (R, D)
        }

        let lang = self.attflat_lang.forward(x, pass); // (B, FLAT_OUT_SIZE)
        let img = self.attflat_img.forward(
            Sequences {
                rows: &y,
                layout: regions,
            },
            pass,
        ); // (B, FLAT_OUT_SIZE)
        let fused = self
            .proj_norm
            .forward(&(lang.to_kind(Kind::Float) + img), pass);
        self.proj.forward(&fused, pass).to_kind(Kind::Float)
    }
}
