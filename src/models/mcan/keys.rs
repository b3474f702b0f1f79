//! The keys of MCAN.

use crate::config::{ConfigError, FamilyKeys, Key, Keys, ModelValues, Scope, require};
use crate::models::{LARGEST, require_divisible, require_rates, require_sizes};
use mcan_data::keys;
use serde_json::{Map, Value, json};

keys! {
    /// Sizes of MCAN.
    pub struct McanKeys: Model {
        /// Layers of the encoder and of the decoder
        layer: usize = 6;
        /// Width of every layer
        hidden_size: usize = 512;
        /// Attention heads
        multi_head: usize = 8;
        /// Width of the feed-forward networks; 4 HIDDEN_SIZE in configurations of the reference, set in OpenVQA's
        ff_size: usize = 2048 => computed_in_reference(ff_size);
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
        /// Width of a region's feature
        img_feat_size: usize = 2048;
        /// OpenVQA: use the boxes of regions as features
        use_bbox_feat: Option<bool> = None => absent("False"), ours;
        /// OpenVQA: use the grid beside the regions
        use_aux_feat: Option<bool> = None => absent("False"), ours;
        /// OpenVQA: width of an embedded box
        bboxfeat_emb_size: usize = 2048 => ours;
    }
}

/// The family's entry in the schema of the configuration.
pub(crate) const FAMILY_KEYS: FamilyKeys = FamilyKeys {
    name: "mcan",
    keys: McanKeys::KEYS,
    derived: &[HEAD_SIZE],
    check: check_values,
};

const HEAD_SIZE: Key = Key::new::<usize>(
    "HIDDEN_SIZE_HEAD",
    "Width of one attention head",
    Scope::Model,
    || json!(64),
)
.computed(head_size);

fn size(values: &Map<String, Value>, key: &str) -> u64 {
    values.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn ff_size(values: &Map<String, Value>) -> Value {
    json!(size(values, "HIDDEN_SIZE").saturating_mul(4))
}

fn head_size(values: &Map<String, Value>) -> Value {
    let heads = size(values, "MULTI_HEAD");
    json!(size(values, "HIDDEN_SIZE").checked_div(heads).unwrap_or(0))
}

fn check_values(values: &ModelValues) -> Result<(), ConfigError> {
    let keys: McanKeys = values
        .keys()
        .map_err(|error| ConfigError::new("MODEL", error.to_string()))?;
    keys.validate()
}

impl McanKeys {
    /// Checks that a network of these sizes can be built.
    ///
    /// # Errors
    /// The key and its wrong value.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        require_sizes(&[
            ("LAYER", self.layer),
            ("HIDDEN_SIZE", self.hidden_size),
            ("MULTI_HEAD", self.multi_head),
            ("FLAT_MLP_SIZE", self.flat_mlp_size),
            ("FLAT_GLIMPSES", self.flat_glimpses),
            ("FLAT_OUT_SIZE", self.flat_out_size),
            ("WORD_EMBED_SIZE", self.word_embed_size),
            ("IMG_FEAT_SIZE", self.img_feat_size),
            ("BBOXFEAT_EMB_SIZE", self.bboxfeat_emb_size),
        ])?;
        // Four times the largest HIDDEN_SIZE.
        require((1..=4 * LARGEST).contains(&self.ff_size), "FF_SIZE", || {
            format!(
                "FF_SIZE = {}: it must be from 1 to {}",
                self.ff_size,
                4 * LARGEST
            )
        })?;
        require_divisible(
            ("HIDDEN_SIZE", self.hidden_size),
            ("MULTI_HEAD", self.multi_head),
        )?;
        require_rates(&[("DROPOUT_R", self.dropout_r)])
    }
}
