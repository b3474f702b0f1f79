use super::*;
use crate::config::ModelValues;
use crate::data::streams::{StreamSpec, Streams};
use crate::data::{Batch, Convention, FeatureRows, Values};
use crate::models::Network;
use crate::nn::packed::{Packer, StreamSource};
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
const STREAM: StreamSpec = StreamSpec {
    padded_to: 4,
    width: 5,
    boxes: None,
};
const WORDS: usize = 8;
const ANSWERS: usize = 3;

fn values(keys: &ButdKeys) -> ModelValues {
    let mut values = ModelValues::default();
    values.family = "butd".into();
    values.set_keys(keys).unwrap();
    values
}

/// A network for a data set of regions, or of a grid.
fn network(has_regions: bool) -> Network {
    let sizes = Sizes {
        words: WORDS,
        answers: ANSWERS,
        streams: Streams {
            regions: has_regions.then_some(STREAM),
            grid: (!has_regions).then_some(STREAM),
        },
        convention: Convention::OpenVqa,
    };
    Network::new(&values(&KEYS), &sizes, 1, Device::Cpu).unwrap()
}

/// Two questions about one image of 2 rows, behind which one row stands for 2 of padding, and one about an image whose 4
/// rows leave no padding.
fn batch(has_regions: bool) -> Batch {
    let value = |numbers: std::ops::Range<i32>| -> Vec<f32> {
        numbers.map(|i| (i as f32 * 0.7).sin()).collect()
    };
    let rows = FeatureRows {
        values: Values::F32([value(0..10), vec![0.0; 5], value(10..30)].concat()),
        boxes: None,
        counts: vec![3, 4],
        all_padding: vec![false, false],
        multiplicity: Some(vec![1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0]),
        padded_to: 4,
    };
    let (regions, grid) = match has_regions {
        true => (Some(rows), None),
        false => (None, Some(rows)),
    };
    Batch {
        samples: vec![0, 1, 2],
        image_ids: vec![10.into(), 20.into()],
        image_of: vec![0, 0, 1],
        regions,
        grid,
        words: vec![4, 5, 6, 7, 3],
        word_counts: vec![3, 1, 1],
        no_words: vec![false; 3],
        words_padded_to: 4,
        targets: Vec::new(),
    }
}

fn packed(has_regions: bool) -> PackedBatch {
    let source = || StreamSource {
        feature_size: STREAM.width,
        table: None,
    };
    let packer = Packer {
        device: Device::Cpu,
        pin_mem: false,
        answers: ANSWERS,
        regions: has_regions.then(source),
        grid: (!has_regions).then(source),
    };
    packer.pack(batch(has_regions)).unwrap()
}

/// The model as its paper and OpenVQA write it: on padded grids, with all 4 rows of each image.
fn plain(net: &Network, has_regions: bool) -> Tensor {
    let names = net.parameters.shapes().into_iter().map(|(name, _)| name);
    let tensors = net.parameters.tensors.iter().map(Tensor::shallow_clone);
    let of: BTreeMap<String, Tensor> = names.zip(tensors).collect();
    let linear = |x: &Tensor, name: &str| {
        let (v, g) = (
            &of[&format!("{name}.weight_v")],
            &of[&format!("{name}.weight_g")],
        );
        x.matmul(&(v * g / v.norm()).tr()) + &of[&format!("{name}.bias")]
    };
    let ids = Tensor::from_slice(&[4i64, 5, 6, 0, 7, 0, 0, 0, 3, 0, 0, 0]).view([3, 4]);
    let weights = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
        .map(|name| &of[&format!("rnn.{name}")]);
    let zero = Tensor::zeros([1, 3, 6], (Kind::Float, Device::Cpu));
    let embedded = of["embedding.weight"]
        .index_select(0, &ids.view([-1]))
        .view([3, 4, 4]);
    let (out, ..) = embedded.lstm(&[&zero, &zero], &weights, true, 1, 0.0, false, false, true);
    let q = out.select(1, 3); // (3, D)

    let rows = Tensor::from_slice(&(0..30).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>())
        .view([6, 5]);
    let first = rows.narrow(0, 0, 2).constant_pad_nd([0, 0, 0, 2]); // (N, F)
    let second = rows.narrow(0, 2, 4);
    let mut x = Tensor::stack(&[&first, &first, &second], 0); // (3, N, F)
    if !has_regions {
        let adapter = |name: &str| &of[&format!("adapter.grid_linear.{name}")];
        x = x.matmul(&adapter("weight").tr()) + adapter("bias");
    }
    let joined = Tensor::cat(
        &[
            linear(&x, "backbone.v_att.linear_v"),
            linear(&q, "backbone.v_att.linear_q")
                .unsqueeze(1)
                .expand([-1, 4, -1], false),
        ],
        2,
    );
    let hidden = linear(&joined, "backbone.v_att.nonlinear.mlp.1").elu();
    let weights = linear(&hidden, "backbone.v_att.linear").softmax(1, Kind::Float); // (3, N, 1)
    let v = (weights * x).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    let h = linear(&q, "backbone.q_net.mlp.0").elu() * linear(&v, "backbone.v_net.mlp.0").elu();
    linear(&linear(&h, "classifer.0").relu(), "classifer.3")
}

#[test]
fn one_row_of_padding_stands_for_all_of_it() {
    for has_regions in [true, false] {
        let net = network(has_regions);
        let pass = Pass::evaluation(Kind::Float, Device::Cpu);
        let ours = tch::no_grad(|| net.forward(&packed(has_regions), &pass).unwrap());
        let theirs = tch::no_grad(|| plain(&net, has_regions));
        let apart = (ours - &theirs).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "regions: {has_regions}; {apart} apart");
        assert!(theirs.abs().max().double_value(&[]) > 1e-2);
    }
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
    let found: ButdKeys = sizes_of(&network(true).parameters.shapes(), &given)
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
    let net = network(true);
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
    let other = network(true);
    other.assign(&removed).unwrap();
    for (name, tensor) in &of {
        if name.ends_with("_g") {
            let _ = tch::no_grad(|| tensor.shallow_clone().f_mul_scalar_(3.0)).unwrap();
        }
    }
    let logits = |net: &Network| {
        net.forward(&packed(true), &Pass::evaluation(Kind::Float, Device::Cpu))
            .unwrap()
    };
    let distance = (logits(&net) - logits(&other)).abs().max();
    assert!(f64::try_from(&distance).unwrap() < 1e-5, "{distance}");
}
