mod kernels;

use super::*;
use crate::config::ModelValues;
use crate::data::streams::{StreamSpec, Streams};
use crate::data::{Batch, Convention, FeatureRows, Values};
use crate::models::{Network, Sizes};
use crate::native::random::Generator;
use crate::nn::packed::{Packer, StreamSource};
use tch::Device;

const SIZES: McanKeys = McanKeys {
    layer: 2,
    hidden_size: 16,
    ff_size: 64,
    multi_head: 4,
    dropout_r: 0.1,
    flat_mlp_size: 8,
    flat_glimpses: 2,
    flat_out_size: 12,
    word_embed_size: 10,
    img_feat_size: 6,
    use_bbox_feat: None,
    use_aux_feat: None,
    bboxfeat_emb_size: 4,
};

/// A network of these sizes, for a data set of regions and the reference's names.
fn network(keys: &McanKeys, words: usize, answers: usize, seed: u64, device: Device) -> Network {
    let mut values = ModelValues::default();
    values.family = "mcan".into();
    values.set_keys(keys).unwrap();
    let regions = StreamSpec {
        padded_to: 5,
        width: keys.img_feat_size,
        boxes: None,
    };
    let sizes = Sizes {
        words,
        answers,
        streams: Streams {
            regions: Some(regions),
            grid: None,
        },
        convention: Convention::Reference,
    };
    Network::new(&values, &sizes, seed, device).unwrap()
}

fn net() -> Network {
    network(&SIZES, 20, 7, 1, Device::Cpu)
}

fn net_without_dropout(multi_head: usize, device: Device) -> Network {
    network(
        &McanKeys {
            multi_head,
            dropout_r: 0.0,
            ..SIZES
        },
        20,
        7,
        1,
        device,
    )
}

/// Questions 0 and 1 about image 0 of 3 regions, question 2, which has no word, about image 1, which has no region.
fn batch(shared: bool) -> Batch {
    let rows = |image: usize| -> Vec<f32> {
        match image {
            0 => (0..18).map(|i| (i as f32 * 0.7).sin()).collect(),
            _ => vec![0.0; 5 * 6],
        }
    };
    let images: &[usize] = if shared { &[0, 1] } else { &[0, 0, 1] };
    Batch {
        samples: vec![0, 1, 2],
        image_ids: images.iter().map(|&image| (image as i64).into()).collect(),
        image_of: if shared { vec![0, 0, 1] } else { vec![0, 1, 2] },
        regions: Some(FeatureRows {
            values: Values::F32(images.iter().flat_map(|&image| rows(image)).collect()),
            boxes: None,
            counts: images
                .iter()
                .map(|&image| if image == 0 { 3 } else { 5 })
                .collect(),
            all_padding: images.iter().map(|&image| image == 1).collect(),
            multiplicity: None,
            padded_to: 5,
        }),
        grid: None,
        words: vec![4, 5, 6, 7, 0, 0, 0, 0],
        word_counts: vec![3, 1, 4],
        no_words: vec![false, false, true],
        words_padded_to: 4,
        targets: vec![(0, 2, 1.0), (2, 0, 0.3)],
    }
}

fn packed_on(device: Device, batch: Batch) -> anyhow::Result<PackedBatch> {
    Packer {
        device,
        pin_mem: true,
        answers: 7,
        regions: Some(StreamSource {
            feature_size: SIZES.img_feat_size,
            table: None,
        }),
        grid: None,
    }
    .pack(batch)
}

fn packed(batch: Batch) -> anyhow::Result<PackedBatch> {
    packed_on(Device::Cpu, batch)
}

fn logits(net: &Network, batch: &Batch, pass: &Pass) -> Tensor {
    net.forward(&packed(batch.clone()).unwrap(), pass).unwrap()
}

fn training(pass: u64) -> Pass {
    Pass::training(Kind::Float, 7, pass, Device::Cpu).unwrap()
}

fn evaluate(net: &Network, batch: &Batch) -> Tensor {
    tch::no_grad(|| logits(net, batch, &Pass::evaluation(Kind::Float, Device::Cpu)))
}

#[test]
fn initial_values_are_distributed_as_in_pytorch() {
    let sizes = McanKeys {
        hidden_size: 64,
        ff_size: 256,
        word_embed_size: 50,
        img_feat_size: 80,
        ..SIZES
    };
    let net = network(&sizes, 200, 90, 1, Device::Cpu);
    let shapes = net.parameters.shapes();
    for ((name, shape), values) in shapes.iter().zip(&net.parameters.tensors) {
        let (std, most) = (
            values.std(false).double_value(&[]),
            values.abs().max().double_value(&[]),
        );
        let fan_in = || match name.strip_suffix("bias") {
            Some(layer) => shapes
                .iter()
                .find(|(n, _)| *n == format!("{layer}weight"))
                .map(|(_, s)| s[1])
                .unwrap(),
            None => shape[1],
        };
        match name {
            _ if name == "embedding.weight" => assert!((std - 1.0).abs() < 0.05, "{name}: {std}"),
            _ if name.ends_with("a_2") => assert_eq!((std, most), (0.0, 1.0), "{name}"),
            _ if name.ends_with("b_2") => assert_eq!(most, 0.0, "{name}"),
            _ => {
                let inputs = if name.starts_with("lstm") {
                    64
                } else {
                    fan_in()
                };
                let bound = 1.0 / (inputs as f64).sqrt();
                assert!(most <= bound, "{name}: {most} exceeds {bound}");
                if values.numel() > 500 {
                    // Uniform: the standard deviation is the bound over the root of three.
                    assert!(
                        (std / bound * 3f64.sqrt() - 1.0).abs() < 0.1,
                        "{name}: {std}"
                    );
                }
            }
        }
    }
}

#[test]
fn sharing_images_between_questions_changes_nothing() {
    let net = net();
    assert!(evaluate(&net, &batch(true)).allclose(
        &evaluate(&net, &batch(false)),
        1e-5,
        1e-6,
        false
    ));
}

#[test]
fn a_question_answered_alone_is_answered_as_in_a_batch() {
    let (net, whole) = (net(), batch(false));
    let alone = Batch {
        samples: vec![1],
        image_ids: vec![0.into()],
        image_of: vec![0],
        regions: Some(FeatureRows {
            values: match whole.regions.as_ref().map(|rows| &rows.values) {
                Some(Values::F32(values)) => Values::F32(values[..18].to_vec()),
                _ => unreachable!(),
            },
            boxes: None,
            counts: vec![3],
            all_padding: vec![false],
            multiplicity: None,
            padded_to: 5,
        }),
        grid: None,
        words: vec![7],
        word_counts: vec![1],
        no_words: vec![false],
        words_padded_to: 4,
        targets: Vec::new(),
    };
    assert!(evaluate(&net, &alone).get(0).allclose(
        &evaluate(&net, &whole).get(1),
        1e-5,
        1e-6,
        false
    ));
}

#[test]
fn a_sequence_of_padding_is_attended_to_uniformly() {
    let net = net();
    let before = evaluate(&net, &batch(false));
    let mut random = Generator::new(2).unwrap();
    tch::no_grad(|| {
        for (name, values) in net.parameters.names.iter().zip(&net.parameters.tensors) {
            if name.contains("linear_q")
                || name.contains("linear_k")
                || name.starts_with("attflat_img.mlp")
            {
                values
                    .shallow_clone()
                    .copy_(&random.normal(&values.size()).unwrap());
            }
        }
    });
    let after = evaluate(&net, &batch(false));
    // Uniform weights do not depend on queries, keys or pooling logits; any other weights do.
    assert!(
        after.get(2).allclose(&before.get(2), 1e-5, 1e-6, false),
        "{before} {after}"
    );
    assert!(!after.get(0).allclose(&before.get(0), 1e-2, 1e-2, false));
}

#[test]
fn padding_gives_queries_and_keys_no_gradient() {
    let net = net();
    logits(&net, &batch(false), &training(1))
        .get(2)
        .sum(Kind::Float)
        .backward();
    for (name, values) in net.parameters.names.iter().zip(&net.parameters.tensors) {
        let gradient = values.grad().abs().max().double_value(&[]);
        if name.contains("linear_q") || name.contains("linear_k") {
            assert_eq!(gradient, 0.0, "{name}");
        } else if name.contains("linear_v.weight") {
            assert!(gradient > 0.0, "{name}");
        }
    }
}

#[test]
fn dropout_depends_on_the_pass_and_on_nothing_else() {
    let net = net();
    let pass = |number| logits(&net, &batch(false), &training(number));
    assert!(pass(3).equal(&pass(3)));
    assert!(!pass(3).allclose(&pass(4), 1e-4, 1e-4, false));
}

#[test]
fn targets_become_dense_rows() {
    let dense = packed(batch(false)).unwrap().targets();
    assert_eq!(dense.size(), [3, 7]);
    assert_eq!(
        (dense.double_value(&[0, 2]), dense.double_value(&[2, 0])),
        (1.0, 0.3f32 as f64)
    );
    assert_eq!(dense.count_nonzero(None::<i64>).int64_value(&[]), 2);
}

#[test]
fn a_batch_that_contradicts_itself_is_an_error() {
    let mut wrong = batch(false);
    wrong.regions.as_mut().unwrap().counts[0] = 4;
    assert!(packed(wrong).is_err());
}
