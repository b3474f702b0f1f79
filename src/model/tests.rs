use super::*;
use crate::data::{Batch, Regions};

const SIZES: ModelConfig = ModelConfig {
    layer: 2,
    hidden_size: 16,
    multi_head: 4,
    dropout_r: 0.1,
    flat_mlp_size: 8,
    flat_glimpses: 2,
    flat_out_size: 12,
    word_embed_size: 10,
    img_feat_size: 6,
};

fn net() -> Net {
    tch::manual_seed(1);
    Net::new(&SIZES, 20, 7, Device::Cpu)
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
        image_ids: images.iter().map(|&image| image as u64).collect(),
        image_of: if shared { vec![0, 0, 1] } else { vec![0, 1, 2] },
        regions: Regions::F32(images.iter().flat_map(|&image| rows(image)).collect()),
        region_counts: images.iter().map(|&image| if image == 0 { 3 } else { 5 }).collect(),
        no_regions: images.iter().map(|&image| image == 1).collect(),
        words: vec![4, 5, 6, 7, 0, 0, 0, 0],
        word_counts: vec![3, 1, 4],
        no_words: vec![false, false, true],
        targets: vec![(0, 2, 1.0), (2, 0, 0.3)],
    }
}

fn logits(net: &Net, batch: &Batch, pass: &Pass) -> Tensor {
    net.forward(&PackedBatch::new(batch, SIZES.img_feat_size, Device::Cpu, false).unwrap(), pass)
}

fn evaluate(net: &Net, batch: &Batch) -> Tensor {
    tch::no_grad(|| logits(net, batch, &Pass::evaluation(Kind::Float)))
}

#[test]
fn initial_values_are_distributed_as_in_pytorch() {
    let sizes = ModelConfig { hidden_size: 64, word_embed_size: 50, img_feat_size: 80, ..SIZES };
    let net = Net::new(&sizes, 200, 90, Device::Cpu);
    let shapes = net.parameters.shapes();
    for ((name, shape), values) in shapes.iter().zip(&net.parameters.tensors) {
        let (std, most) = (values.std(false).double_value(&[]), values.abs().max().double_value(&[]));
        let fan_in = || match name.strip_suffix("bias") {
            Some(layer) => shapes.iter().find(|(n, _)| *n == format!("{layer}weight")).map(|(_, s)| s[1]).unwrap(),
            None => shape[1],
        };
        match name {
            _ if name == "embedding.weight" => assert!((std - 1.0).abs() < 0.05, "{name}: {std}"),
            _ if name.ends_with("a_2") => assert_eq!((std, most), (0.0, 1.0), "{name}"),
            _ if name.ends_with("b_2") => assert_eq!(most, 0.0, "{name}"),
            _ => {
                let inputs = if name.starts_with("lstm") { 64 } else { fan_in() };
                let bound = 1.0 / (inputs as f64).sqrt();
                assert!(most <= bound, "{name}: {most} exceeds {bound}");
                if values.numel() > 500 {
                    // Uniform: the standard deviation is the bound over the root of three.
                    assert!((std / bound * 3f64.sqrt() - 1.0).abs() < 0.1, "{name}: {std}");
                }
            }
        }
    }
}

#[test]
fn sharing_images_between_questions_changes_nothing() {
    let net = net();
    assert!(evaluate(&net, &batch(true)).allclose(&evaluate(&net, &batch(false)), 1e-5, 1e-6, false));
}

#[test]
fn a_question_answered_alone_is_answered_as_in_a_batch() {
    let (net, whole) = (net(), batch(false));
    let alone = Batch {
        samples: vec![1],
        image_ids: vec![0],
        image_of: vec![0],
        regions: match &whole.regions {
            Regions::F32(values) => Regions::F32(values[..18].to_vec()),
            Regions::F16(_) => unreachable!(),
        },
        region_counts: vec![3],
        no_regions: vec![false],
        words: vec![7],
        word_counts: vec![1],
        no_words: vec![false],
        targets: Vec::new(),
    };
    assert!(evaluate(&net, &alone).get(0).allclose(&evaluate(&net, &whole).get(1), 1e-5, 1e-6, false));
}

#[test]
fn what_is_nothing_but_padding_is_attended_to_uniformly() {
    let net = net();
    let before = evaluate(&net, &batch(false));
    tch::no_grad(|| {
        for (name, values) in net.parameters.names.iter().zip(&net.parameters.tensors) {
            if name.contains("linear_q") || name.contains("linear_k") || name.starts_with("attflat_img.mlp") {
                let _ = values.shallow_clone().normal_(0.0, 1.0);
            }
        }
    });
    let after = evaluate(&net, &batch(false));
    // Uniform weights do not depend on queries, keys or pooling logits; any other weights do.
    assert!(after.get(2).allclose(&before.get(2), 1e-5, 1e-6, false), "{before} {after}");
    assert!(!after.get(0).allclose(&before.get(0), 1e-2, 1e-2, false));
}

#[test]
fn padding_gives_queries_and_keys_no_gradient() {
    let net = net();
    logits(&net, &batch(false), &Pass::training(Kind::Float, 1, 1, Device::Cpu)).get(2).sum(Kind::Float).backward();
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
    let pass = |number| logits(&net, &batch(false), &Pass::training(Kind::Float, 7, number, Device::Cpu));
    assert!(pass(3).equal(&pass(3)));
    assert!(!pass(3).allclose(&pass(4), 1e-4, 1e-4, false));
}

#[test]
fn targets_become_dense_rows() {
    let packed = PackedBatch::new(&batch(false), SIZES.img_feat_size, Device::Cpu, false).unwrap();
    let dense = packed.targets(7);
    assert_eq!(dense.size(), [3, 7]);
    assert_eq!((dense.double_value(&[0, 2]), dense.double_value(&[2, 0])), (1.0, 0.3f32 as f64));
    assert_eq!(dense.count_nonzero(None::<i64>).int64_value(&[]), 2);
}

#[test]
fn a_batch_that_contradicts_itself_is_an_error() {
    let mut wrong = batch(false);
    wrong.region_counts[0] = 4;
    assert!(PackedBatch::new(&wrong, SIZES.img_feat_size, Device::Cpu, false).is_err());
}
