//! The sizes of an MCAN, taken from the shapes of a checkpoint, so that `--MODEL` need not be given again.

use super::keys::McanKeys;
use crate::config::ModelValues;
use crate::models::{Shapes, matrix};
use anyhow::{Context, Result, ensure};

/// The possible names of the layer that maps image features to the width of the network.
const ADAPTERS: [&str; 3] = [
    "img_feat_linear.weight",
    "adapter.frcn_linear.weight",
    "adapter.grid_linear.weight",
];

/// `given`, with each size that the shapes show taken from there. Heads and dropout do not show in shapes and are kept.
///
/// # Errors
/// A parameter that is absent, or sizes from which no network can be built.
pub(super) fn sizes_of(shapes: &Shapes, given: &ModelValues) -> Result<ModelValues> {
    let adapter = ADAPTERS.iter().find_map(|name| matrix(shapes, name).ok());
    let adapter = adapter
        .with_context(|| format!("it has no parameter {}, so it is not an MCAN", ADAPTERS[0]));
    let [hidden_size, img_feat_size] = adapter?;
    let [_, word_embed_size] = matrix(shapes, "embedding.weight")?;
    let [flat_mlp_size, _] = matrix(shapes, "attflat_img.mlp.fc.linear.weight")?;
    let [flat_glimpses, _] = matrix(shapes, "attflat_img.mlp.linear.weight")?;
    let [flat_out_size, _] = matrix(shapes, "attflat_img.linear_merge.weight")?;
    let [ff_size, _] = matrix(shapes, "backbone.enc_list.0.ffn.mlp.fc.linear.weight")?;
    let layer = layers(shapes, "enc_list");
    ensure!(
        layer == layers(shapes, "dec_list"),
        "it has {layer} encoder layers, but {} decoder layers",
        layers(shapes, "dec_list")
    );
    let keys = McanKeys {
        layer,
        hidden_size,
        ff_size,
        flat_mlp_size,
        flat_glimpses,
        flat_out_size,
        word_embed_size,
        img_feat_size,
        ..given.keys()?
    };
    keys.validate()?;
    let mut values = given.clone();
    values.set_keys(&keys)?;
    Ok(values)
}

/// Number of layers in a list of the backbone.
fn layers(shapes: &Shapes, list: &str) -> usize {
    let prefix = format!("backbone.{list}.");
    let number = |(name, _): &(String, _)| {
        let number = name.strip_prefix(&prefix)?.split('.').next()?;
        number.parse().ok()
    };
    let last: Option<usize> = shapes.iter().filter_map(number).max();
    last.map_or(0, |last| last.saturating_add(1))
}
