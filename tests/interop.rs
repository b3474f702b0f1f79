//! A step of our Adam and a step of PyTorch's, from the same saved state.

mod common;

use common::run_python;
use mcan::checkpoint::{self, Algorithm, Checkpoint};
use mcan::nn::optim::{HyperParameters, Optimizer};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const HYPER: HyperParameters = HyperParameters {
    algorithm: Algorithm::Adam,
    betas: (0.9, 0.98),
    eps: 1e-9,
};

/// Loads our checkpoint, takes one step of Adam along the gradients in the second file, saves the parameters.
const STEP: &str = r#"
import sys, torch
from collections import OrderedDict
state, grads, out = sys.argv[1:]
ckpt = torch.load(state, weights_only=True)
params = [torch.nn.Parameter(v.clone()) for v in ckpt["state_dict"].values()]
adam = torch.optim.Adam(params, lr=0, betas=(0.9, 0.98), eps=1e-9)
adam.load_state_dict(ckpt["optimizer"])
for p, g in zip(params, torch.load(grads, weights_only=True)["state_dict"].values()):
    p.grad = g
adam.param_groups[0]["lr"] = 0.002
adam.step()
torch.save({"state_dict": OrderedDict(zip(ckpt["state_dict"], (p.data for p in params))),
            "optimizer": adam.state_dict(), "lr_base": ckpt["lr_base"]}, out)
"#;

/// Values between -1 and 1 that look random, and are others for another `start`.
fn values(shape: &[i64], start: i64) -> Tensor {
    let count: i64 = shape.iter().product();
    let angles = Tensor::arange_start(start, start + count, (Kind::Float, Device::Cpu)) * 37.7;
    angles.sin().reshape(shape)
}

/// Makes `gradient` the gradient of `parameter`.
fn set_gradient(parameter: &Tensor, gradient: &Tensor) {
    (parameter * gradient).sum(Kind::Float).backward();
}

fn named(tensors: &[Tensor]) -> Vec<(String, Tensor)> {
    tensors
        .iter()
        .enumerate()
        .map(|(i, t)| (format!("p{i}"), t.detach().copy()))
        .collect()
}

#[test]
fn one_step_of_pytorchs_adam_from_our_checkpoint_is_one_step_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let params: Vec<Tensor> = [&[7i64, 5][..], &[33], &[2, 3, 4]]
        .iter()
        .map(|s| values(s, 0).set_requires_grad(true))
        .collect();
    let mut adam = Optimizer::new(&params, HYPER);
    let step = |adam: &mut Optimizer, grads: &[Tensor]| {
        adam.zero_grad().unwrap();
        params
            .iter()
            .zip(grads)
            .for_each(|(p, g)| set_gradient(p, g));
        adam.step(0.002, -1.0).unwrap();
    };
    let grads_of = |number: i64| -> Vec<Tensor> {
        params
            .iter()
            .map(|p| values(&p.size(), 100 * number))
            .collect()
    };
    for number in 1..=3 {
        step(&mut adam, &grads_of(number));
    }
    let state = |optimizer| Checkpoint {
        state_dict: named(&params),
        optimizer,
        lr_base: Some(0.002),
        epoch: None,
        mcan: None,
    };
    checkpoint::save(&path("state.pkl"), &state(Some(adam.state()))).unwrap();
    let grads = grads_of(4);
    let gradients = Checkpoint {
        state_dict: named(&grads),
        optimizer: None,
        lr_base: None,
        epoch: None,
        mcan: None,
    };
    checkpoint::save(&path("grads.pkl"), &gradients).unwrap();

    let files = ["state.pkl", "grads.pkl", "theirs.pkl"].map(path);
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    if run_python(STEP, &files).is_none() {
        return;
    }
    step(&mut adam, &grads);

    let theirs = checkpoint::load(&path("theirs.pkl")).unwrap();
    let (difference, name) = common::largest_difference(&named(&params), &theirs.state_dict);
    assert!(difference < 1e-6, "{name} differs by {difference}");
    for (ours, theirs) in adam
        .state()
        .moments
        .iter()
        .flatten()
        .zip(theirs.optimizer.unwrap().moments.iter().flatten())
    {
        assert_eq!(ours.step, theirs.step);
        assert!(ours.exp_avg.allclose(&theirs.exp_avg, 1e-5, 1e-7, false));
        assert!(ours.second.allclose(&theirs.second, 1e-5, 1e-7, false));
    }
}
