//! The sizes of a network, read off the shapes of its parameters, so that nobody has to repeat `--MODEL`.

use super::keys::McanKeys;
use anyhow::{Context, Result, ensure};

/// `given` with every size replaced that the parameter shapes show. The number of heads leaves no trace in the shapes
/// and stays, as does the dropout.
///
/// # Errors
/// When a parameter that shows a size is absent or has another number of dimensions, or the sizes make no network.
pub fn sizes_of(shapes: &[(String, Vec<i64>)], given: &McanKeys) -> Result<McanKeys> {
    let matrix = |name: &str| -> Result<[usize; 2]> {
        let (_, shape) = shapes
            .iter()
            .find(|(n, _)| n == name)
            .with_context(|| format!("it has no parameter {name}, so it is no MCAN"))?;
        let [rows, columns] = shape[..] else {
            anyhow::bail!("its {name} is no matrix but has shape {shape:?}")
        };
        Ok([usize::try_from(rows)?, usize::try_from(columns)?])
    };
    let [hidden_size, img_feat_size] = matrix("img_feat_linear.weight")?;
    let [_, word_embed_size] = matrix("embedding.weight")?;
    let [flat_mlp_size, _] = matrix("attflat_img.mlp.fc.linear.weight")?;
    let [flat_glimpses, _] = matrix("attflat_img.mlp.linear.weight")?;
    let [flat_out_size, _] = matrix("attflat_img.linear_merge.weight")?;
    let [ff_size, _] = matrix("backbone.enc_list.0.ffn.mlp.fc.linear.weight")?;
    let layers = |list: &str| {
        let prefix = format!("backbone.{list}.");
        let numbers = shapes
            .iter()
            .filter_map(|(name, _)| name.strip_prefix(&prefix)?.split('.').next()?.parse().ok());
        numbers
            .max()
            .map_or(0, |last: usize| last.saturating_add(1))
    };
    let layer = layers("enc_list");
    ensure!(
        layer == layers("dec_list"),
        "it has {layer} encoder layers, but {} decoder layers",
        layers("dec_list")
    );
    let sizes = McanKeys {
        layer,
        hidden_size,
        ff_size,
        flat_mlp_size,
        flat_glimpses,
        flat_out_size,
        word_embed_size,
        img_feat_size,
        ..given.clone()
    };
    sizes.validate()?;
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::super::Net;
    use super::*;
    use tch::Device;

    #[test]
    fn the_sizes_of_a_network_are_read_off_its_parameters() {
        let sizes = McanKeys {
            layer: 3,
            hidden_size: 12,
            ff_size: 48,
            multi_head: 2,
            flat_mlp_size: 5,
            flat_glimpses: 2,
            flat_out_size: 7,
            word_embed_size: 9,
            img_feat_size: 11,
            dropout_r: 0.2,
        };
        let net = Net::new(&sizes, 20, 4, 1, Device::Cpu);
        let given = McanKeys {
            multi_head: 2,
            dropout_r: 0.2,
            ..McanKeys::default()
        };
        assert_eq!(sizes_of(&net.parameters.shapes(), &given).unwrap(), sizes);
        let error = sizes_of(&net.parameters.shapes()[1..], &given)
            .unwrap_err()
            .to_string();
        assert!(error.contains("embedding.weight"), "{error}");
    }
}
