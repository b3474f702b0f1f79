//! The sizes of an MCAN, taken from the shapes of a checkpoint, so that `--MODEL` need not be given again.

use super::keys::McanKeys;
use crate::config::ModelValues;
use crate::models::{Shapes, Shown, Widths, adapter, items, matrix};
use anyhow::{Context, Result, ensure};

/// `given`, with each size that the shapes show taken from there. Heads and dropout do not show in shapes and are kept.
///
/// # Errors
/// A parameter that is absent, or sizes from which no network can be built.
pub(super) fn sizes_of(shapes: &Shapes, given: &ModelValues) -> Result<Shown> {
    let given_keys: McanKeys = given.keys()?;
    let of_reference = matrix(shapes, "img_feat_linear.weight").ok();
    let adapter = adapter::Shown::of(shapes)?;
    let hidden_size = of_reference.map(|[hidden, _]| hidden).or(adapter.hidden);
    let hidden_size =
        hidden_size.context("it has no parameter img_feat_linear.weight or adapter.frcn_linear.weight, so it is not an MCAN")?;
    let width = of_reference.map(|[_, width]| width);
    let width = width.or(adapter.widths.regions).or(adapter.widths.grid);
    let [_, word_embed_size] = matrix(shapes, "embedding.weight")?;
    let [flat_mlp_size, _] = matrix(shapes, "attflat_img.mlp.fc.linear.weight")?;
    let [flat_glimpses, _] = matrix(shapes, "attflat_img.mlp.linear.weight")?;
    let [flat_out_size, _] = matrix(shapes, "attflat_img.linear_merge.weight")?;
    let [ff_size, _] = matrix(shapes, "backbone.enc_list.0.ffn.mlp.fc.linear.weight")?;
    let [layer, decoder] =
        ["enc", "dec"].map(|part| items(shapes, &format!("backbone.{part}_list.")));
    ensure!(
        layer == decoder,
        "it has {layer} encoder layers, but {decoder} decoder layers"
    );
    // A key that the reference does not have stays as it was where the adapter is not used.
    let used = |given: Option<bool>, shown: bool| match (given, shown) {
        (None, false) => None,
        _ => Some(shown),
    };
    let keys = McanKeys {
        layer,
        hidden_size,
        ff_size,
        flat_mlp_size,
        flat_glimpses,
        flat_out_size,
        word_embed_size,
        img_feat_size: width.unwrap_or(given_keys.img_feat_size),
        use_bbox_feat: used(given_keys.use_bbox_feat, adapter.uses.boxes),
        use_aux_feat: used(given_keys.use_aux_feat, adapter.uses.grid),
        bboxfeat_emb_size: adapter.box_size.unwrap_or(given_keys.bboxfeat_emb_size),
        ..given_keys
    };
    keys.validate()?;
    let mut values = given.clone();
    values.set_keys(&keys)?;
    let widths = match of_reference {
        Some(_) => Widths::default(),
        None => adapter.widths,
    };
    Ok(Shown { values, widths })
}
