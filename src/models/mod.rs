//! The models: equations, nothing else.

pub mod mcan;

use crate::config::Schema;

/// The model families and data sets that a configuration may name.
pub const SCHEMA: Schema = Schema {
    families: &[mcan::keys::FAMILY_KEYS],
    datasets: &["vqa", "clevr"],
};
