//! The keys of MMNasNet.

use crate::config::{ConfigError, KeyType, Kind, ModelValues, require};
use crate::models::{
    Shapes, Shown, Widths, items, matrix, require_divisible, require_rates, require_sizes,
};
use anyhow::{Result, bail};
use mcan_data::keys;
use serde::{Deserialize, Serialize};

keys! {
    /// Sizes of MMNasNet.
    pub(crate) struct NasKeys: Model {
        /// The blocks of the encoder and of the decoder: {enc: [SA, FFN, ...], dec: [GA, FFN, RSA, SA, ...]}
        arch: Arch = Arch::default() => absent("the published one");
        /// Width of every block
        hidden_size: usize = 512;
        /// Attention heads of SA and GA
        multi_head: usize = 8;
        /// Width of an attention head of RSA
        rel_hbase: usize = 64;
        /// Width of a relation
        rel_size: usize = 64;
        /// Probability that dropout zeroes a value
        dropout_r: f64 = 0.1 => may_change;
        /// Hidden width of the pooling MLPs
        flat_mlp_size: usize = 512;
        /// Attention distributions per pooling
        flat_glimpses: usize = 1;
        /// Width of a pooled sequence
        flat_out_size: usize = 1024;
        /// Width of a word vector
        word_embed_size: usize = 300;
        /// Has no effect, as in OpenVQA: FFN is 4 HIDDEN_SIZE wide
        ff_size: usize = 2048 => may_change;
        /// Has no effect: boxes are used as relations
        bboxfeat_emb_size: usize = 2048 => may_change;
        /// Use boxes as features too; only False
        use_bbox_feat: bool = false;
        /// Use the grid beside the regions; only False
        use_aux_feat: bool = false;
    }
}

/// A block of MMNasNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Block {
    /// Self-attention.
    Sa,
    /// Relation self-attention.
    Rsa,
    /// Guided attention: from the regions to the words.
    Ga,
    /// Feed-forward network.
    Ffn,
}

/// The blocks of both parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "{enc: [blocks], dec: [blocks]}")]
pub(crate) struct Arch {
    /// Of the encoder, over the words.
    pub(super) enc: Vec<Block>,
    /// Of the decoder, over the regions.
    pub(super) dec: Vec<Block>,
}

impl KeyType for Arch {
    const KIND: Kind = Kind::Other("lists of blocks SA, RSA, GA, FFN");
}

impl Default for Arch {
    /// The architecture that was found by the search of the paper (figure 5), which both published sizes have.
    fn default() -> Arch {
        use Block::{Ffn, Ga, Rsa, Sa};
        Arch {
            enc: vec![Sa, Sa, Sa, Sa, Ffn, Ffn, Ffn, Ffn, Sa, Ffn, Ffn, Ffn],
            dec: vec![
                Ga, Ga, Ffn, Ffn, Ga, Ffn, Rsa, Ga, Ffn, Ga, Rsa, Ffn, Rsa, Sa, Ffn, Rsa, Ga, Ffn,
            ],
        }
    }
}

pub(super) fn checked(values: &ModelValues) -> Result<NasKeys, ConfigError> {
    let keys: NasKeys = values
        .keys()
        .map_err(|error| ConfigError::new("MODEL", error.to_string()))?;
    require_sizes(&[
        ("HIDDEN_SIZE", keys.hidden_size),
        ("MULTI_HEAD", keys.multi_head),
        ("REL_HBASE", keys.rel_hbase),
        ("REL_SIZE", keys.rel_size),
        ("FLAT_MLP_SIZE", keys.flat_mlp_size),
        ("FLAT_GLIMPSES", keys.flat_glimpses),
        ("FLAT_OUT_SIZE", keys.flat_out_size),
        ("WORD_EMBED_SIZE", keys.word_embed_size),
    ])?;
    require_rates(&[("DROPOUT_R", keys.dropout_r)])?;
    let hidden = ("HIDDEN_SIZE", keys.hidden_size);
    require_divisible(hidden, ("MULTI_HEAD", keys.multi_head))?;
    require_divisible(hidden, ("REL_HBASE", keys.rel_hbase))?;
    let of_words = |block: &Block| matches!(block, Block::Sa | Block::Ffn);
    require(keys.arch.enc.iter().all(of_words), "ARCH", || {
        "ARCH: the encoder can have the blocks SA and FFN; RSA and GA are for the decoder".into()
    })?;
    for (key, value) in [
        ("USE_BBOX_FEAT", keys.use_bbox_feat),
        ("USE_AUX_FEAT", keys.use_aux_feat),
    ] {
        require(!value, key, || {
            format!("{key} = True: MMNasNet reads regions, and their boxes as relations only")
        })?;
    }
    Ok(keys)
}

/// The sizes that the shapes of a checkpoint show. Heads of SA and GA, and dropout, do not show and are kept; which blocks
/// are SA and which GA does not show either, so that `ARCH` has to be given if it is not the published one.
pub(super) fn sizes_of(shapes: &Shapes, given: &ModelValues) -> Result<Shown> {
    let [_, word_embed_size] = matrix(shapes, "embedding.weight")?;
    let [hidden_size, width] = matrix(shapes, "adapter.frcn_linear.weight")?;
    let [flat_mlp_size, _] = matrix(shapes, "attflat_img.mlp.fc.linear.weight")?;
    let [flat_glimpses, _] = matrix(shapes, "attflat_img.mlp.linear.weight")?;
    let [flat_out_size, _] = matrix(shapes, "attflat_img.linear_merge.weight")?;
    let [rel_size, _] = matrix(shapes, "linear_rel.weight")?;
    let given_keys: NasKeys = given.keys()?;
    check_arch(shapes, "enc", &given_keys.arch.enc)?;
    check_arch(shapes, "dec", &given_keys.arch.dec)?;
    let of_relations = shapes
        .iter()
        .find(|(name, _)| name.ends_with("mhatt.linear_r.weight"));
    let rel_hbase = match of_relations {
        Some((name, _)) => hidden_size / matrix(shapes, name)?[0].max(1),
        None => given_keys.rel_hbase,
    };
    let keys = NasKeys {
        hidden_size,
        rel_hbase,
        rel_size,
        flat_mlp_size,
        flat_glimpses,
        flat_out_size,
        word_embed_size,
        ..given_keys
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

/// Checks that the blocks of a checkpoint can be those of `ARCH`.
fn check_arch(shapes: &Shapes, part: &str, blocks: &[Block]) -> Result<()> {
    let list = format!("backbone.{part}_list.");
    let has = |i: usize, layer: &str| {
        let name = format!("{list}{i}.{layer}.weight");
        shapes.iter().any(|(known, _)| *known == name)
    };
    let kinds: Vec<&str> = (0..items(shapes, &list))
        .map(
            |i| match (has(i, "mhatt.linear_r"), has(i, "mhatt.linear_q")) {
                (true, _) => "RSA",
                (_, true) => "SA or GA",
                _ => "FFN",
            },
        )
        .collect();
    let fits = |(kind, block): (&&str, &Block)| match block {
        Block::Rsa => *kind == "RSA",
        Block::Ffn => *kind == "FFN",
        Block::Sa | Block::Ga => *kind == "SA or GA",
    };
    if kinds.len() != blocks.len() || !kinds.iter().zip(blocks).all(fits) {
        bail!(
            "its {part} has the blocks {}, and ARCH says otherwise; give its ARCH with --CFG",
            kinds.join(", ")
        )
    }
    Ok(())
}
