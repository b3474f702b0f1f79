use super::*;
use crate::config::ModelValues;
use crate::data::streams::Padding;
use crate::models::Network;
use crate::models::testing::{self, Features, Plain, assert_computes, network, packed};
use std::collections::BTreeMap;
use tch::{Device, Kind};

const KEYS: ButdKeys = ButdKeys {
    hidden_size: 6,
    dropout_r: 0.2,
    classifer_dropout_r: 0.5,
    flat_out_size: 9,
    word_embed_size: 4,
    img_feat_size: None,
    use_bbox_feat: false,
    bboxfeat_emb_size: 3,
    use_aux_feat: false,
};
fn values(keys: &ButdKeys) -> ModelValues {
    testing::values("butd", keys)
}

/// The model as its paper and OpenVQA write it, with all N rows `x` (B, N, I) of each image.
fn plain(layers: &Plain, x: &Tensor) -> Tensor {
    let q = layers.lstm(&layers.embedded(), "rnn").select(1, 3); // (B, D)
    let of_q = layers.normed(&q, "backbone.v_att.linear_q").unsqueeze(1);
    let of_x = layers.normed(x, "backbone.v_att.linear_v");
    let joined = Tensor::cat(&[&of_x, &of_q.expand([-1, 4, -1], false)], 2);
    let hidden = layers
        .normed(&joined, "backbone.v_att.nonlinear.mlp.1")
        .elu();
    let weights = layers
        .normed(&hidden, "backbone.v_att.linear")
        .softmax(1, Kind::Float); // (B, N, 1)
    let v = (weights * x).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    let of_q = layers.normed(&q, "backbone.q_net.mlp.0").elu();
    let h = of_q * layers.normed(&v, "backbone.v_net.mlp.0").elu();
    layers.normed(&layers.normed(&h, "classifer.0").relu(), "classifer.3")
}

#[test]
fn one_row_of_padding_stands_for_all_of_it() {
    let values = values(&ButdKeys {
        dropout_r: 0.0,
        classifer_dropout_r: 0.0,
        ..KEYS
    });
    let padding = Padding::Observed;
    assert_computes(&values, Features::Regions, padding, |layers| {
        plain(layers, &layers.features())
    });
    assert_computes(&values, Features::Grid, padding, |layers| {
        plain(
            layers,
            &layers.linear(&layers.features(), "adapter.grid_linear"),
        )
    });
}

#[test]
fn a_checkpoint_shows_its_sizes_and_dropout_stays() {
    let given = values(&ButdKeys {
        hidden_size: 7,
        flat_out_size: 7,
        word_embed_size: 7,
        dropout_r: 0.1,
        ..KEYS
    });
    let found: ButdKeys = sizes_of(
        &network(&values(&KEYS), Features::Regions)
            .parameters
            .shapes(),
        &given,
    )
    .unwrap()
    .values
    .keys()
    .unwrap();
    assert_eq!(
        (
            found.hidden_size,
            found.flat_out_size,
            found.word_embed_size,
            found.dropout_r
        ),
        (6, 9, 4, 0.1)
    );
    let message = sizes_of(&[], &given).unwrap_err().to_string();
    assert!(message.contains("embedding.weight"), "{message}");
}

#[test]
fn names_of_every_version_are_those_of_the_model() {
    for name in [
        "backbone.v_att.nonlinear.mlp.0.weight_g",
        "backbone.v_att.nonlinear.mlp.0.parametrizations.weight.original0",
        "backbone.v_att.nonlinear.mlp.1.weight_g",
    ] {
        assert_eq!(
            (FAMILY.canonical_name)(name),
            "backbone.v_att.nonlinear.mlp.1.weight_g"
        );
    }
    assert_eq!(
        (FAMILY.canonical_name)("classifer.0.parametrizations.weight.original1"),
        "classifer.0.weight_v"
    );
}

#[test]
fn impossible_values_are_named() {
    for (keys, part) in [
        (
            ButdKeys {
                hidden_size: 0,
                ..KEYS
            },
            "HIDDEN_SIZE = 0",
        ),
        (
            ButdKeys {
                flat_out_size: 1 << 30,
                ..KEYS
            },
            "FLAT_OUT_SIZE",
        ),
        (
            ButdKeys {
                classifer_dropout_r: 1.0,
                ..KEYS
            },
            "CLASSIFER_DROPOUT_R = 1",
        ),
    ] {
        let message = checked(&values(&keys)).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_checkpoint_whose_weight_norm_was_removed_computes_the_same() {
    let net = network(&values(&KEYS), Features::Regions);
    let names = net.parameters.shapes().into_iter().map(|(name, _)| name);
    let tensors = net.parameters.tensors.iter().map(Tensor::detach);
    let of: BTreeMap<String, Tensor> = names.zip(tensors).collect();
    let mut removed = Vec::new();
    for (name, tensor) in &of {
        if let Some(weight) = name.strip_suffix("_v") {
            let scale = &of[&format!("{weight}_g")] * 3.0 / tensor.norm();
            let weight = weight.replace("nonlinear.mlp.1", "nonlinear.mlp.0");
            removed.push((weight, tensor * scale));
        } else if !name.ends_with("_g") {
            removed.push((name.clone(), tensor.shallow_clone()));
        }
    }
    let shapes: Vec<_> = removed
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.size()))
        .collect();
    assert_eq!(crate::models::recognise(&shapes).unwrap().model, "butd");
    let other = network(&values(&KEYS), Features::Regions);
    other.assign(&removed).unwrap();
    for (name, tensor) in &of {
        if name.ends_with("_g") {
            let _ = tch::no_grad(|| tensor.shallow_clone().f_mul_scalar_(3.0)).unwrap();
        }
    }
    let logits = |net: &Network| {
        net.forward(
            &packed(Features::Regions, Padding::Observed),
            &Pass::evaluation(Kind::Float, Device::Cpu),
        )
        .unwrap()
    };
    let distance = (logits(&net) - logits(&other)).abs().max();
    assert!(f64::try_from(&distance).unwrap() < 1e-5, "{distance}");
}
