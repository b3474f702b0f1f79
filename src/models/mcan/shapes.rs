//! The sizes of an MCAN, read off the shapes of its parameters, so that nobody has to repeat `--MODEL`.

use super::keys::McanKeys;
use crate::config::ModelValues;
use crate::models::{Shapes, matrix};
use anyhow::{Context, Result, ensure};

/// The layers that bring image features to the width of the network, by program and data set.
const ADAPTERS: [&str; 3] = [
    "img_feat_linear.weight",
    "adapter.frcn_linear.weight",
    "adapter.grid_linear.weight",
];

/// `given` with every size replaced that the shapes show. Heads and dropout leave no trace in the shapes and stay.
///
/// # Errors
/// A parameter that shows a size is absent, or the sizes make no network.
pub(super) fn sizes_of(shapes: &Shapes, given: &ModelValues) -> Result<ModelValues> {
    let adapter = ADAPTERS.iter().find_map(|name| matrix(shapes, name).ok());
    let adapter =
        adapter.with_context(|| format!("it has no parameter {}, so it is no MCAN", ADAPTERS[0]));
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

/// How many layers a list of the backbone has.
fn layers(shapes: &Shapes, list: &str) -> usize {
    let prefix = format!("backbone.{list}.");
    let number = |(name, _): &(String, _)| {
        let number = name.strip_prefix(&prefix)?.split('.').next()?;
        number.parse().ok()
    };
    let last: Option<usize> = shapes.iter().filter_map(number).max();
    last.map_or(0, |last| last.saturating_add(1))
}
