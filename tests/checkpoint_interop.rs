//! Checkpoints between this program and real PyTorch: each reads what the other wrote.
//!
//! Needs a Python with PyTorch, named by `MCAN_PYTHON`; skipped without.

mod common;

use common::{run_python, shared};
use mcan::checkpoint::{self, Algorithm, Checkpoint, Moments, OptimizerState, RunState};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

fn golden(name: &str) -> Option<PathBuf> {
    shared("golden/world/ckpts").map(|folder| folder.join(name))
}

#[test]
fn pytorch_loads_what_is_saved_and_its_adam_takes_the_state() {
    let plain = Tensor::arange(6, (Kind::Float, Device::Cpu)).reshape([2, 3]);
    let moments = Moments {
        step: 3.0,
        exp_avg: &plain * 2.0,
        second: &plain * 3.0,
    };
    let kinds = [
        Kind::Double,
        Kind::Half,
        Kind::BFloat16,
        Kind::Int64,
        Kind::Int,
        Kind::Int16,
        Kind::Int8,
        Kind::Uint8,
    ];
    let mut state_dict = vec![
        ("weight".to_owned(), plain.shallow_clone()),
        ("bias".to_owned(), plain.get(0)),
    ];
    state_dict.extend(
        kinds
            .iter()
            .map(|&kind| (format!("{kind:?}"), plain.to_kind(kind))),
    );
    let checkpoint = Checkpoint {
        state_dict,
        optimizer: Some(OptimizerState {
            algorithm: Algorithm::Adam,
            lr: 1e-4,
            betas: (0.9, 0.98),
            eps: 1e-9,
            weight_decay: 0.0,
            moments: vec![Some(moments), None],
        }),
        lr_base: Some(4e-4),
        epoch: Some(1),
        mcan: Some(RunState {
            epoch: 1,
            step: 3,
            batch: 0,
            loss_sum: 0.5,
            seed: u64::MAX,
            data_size: 7,
            data_digest: None,
            max_token: None,
            config: serde_json::json!({"MODEL": "small", "LR_DECAY_LIST": [10, 12], "AMP": null}),
            vocabulary: vec!["PAD".into(), "café".into()],
            answers: (0..70_000).map(|i| i.to_string()).collect(),
        }),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("epoch1.pkl");
    checkpoint::save(&path, &checkpoint).unwrap();
    let script = r#"
import sys, torch, collections, zipfile
assert zipfile.ZipFile(sys.argv[1]).testzip() is None
for options in ({}, {"mmap": True}):
    c = torch.load(sys.argv[1], weights_only=True, **options)
    plain = torch.arange(6, dtype=torch.float32).view(2, 3)
    assert type(c["state_dict"]) is collections.OrderedDict and list(c) == ["state_dict", "optimizer", "lr_base", "epoch", "mcan"]
    names = list(c["state_dict"])
    assert names == "weight bias Double Half BFloat16 Int64 Int Int16 Int8 Uint8".split(), names
    dtypes = [t.dtype for t in c["state_dict"].values()]
    assert dtypes == [torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64,
                      torch.int32, torch.int16, torch.int8, torch.uint8], dtypes
    assert all(torch.equal(t.float(), plain[0] if n == "bias" else plain) for n, t in c["state_dict"].items())
    run = c["mcan"]
    assert (run["epoch"], run["step"], run["loss_sum"], run["seed"], run["data_size"]) == (1, 3, 0.5, 2**64 - 1, 7)
    assert run["config"] == {"MODEL": "small", "LR_DECAY_LIST": [10, 12], "AMP": None}
    assert run["vocabulary"] == ["PAD", "café"] and run["answers"] == [str(i) for i in range(70000)]
    assert (c["lr_base"], c["epoch"]) == (4e-4, 1)
weight, bias = torch.nn.Parameter(plain.clone()), torch.nn.Parameter(plain[0].clone())
adam = torch.optim.Adam([weight, bias], lr=1)
fresh = {k: v for k, v in adam.state_dict()["param_groups"][0].items()}
assert list(fresh) == list(c["optimizer"]["param_groups"][0]), fresh
adam.load_state_dict(c["optimizer"])
group = adam.param_groups[0]
assert (group["lr"], group["betas"], group["eps"]) == (1e-4, (0.9, 0.98), 1e-9)
assert bias not in adam.state and torch.equal(adam.state[weight]["exp_avg_sq"], plain * 3)
assert adam.state[weight]["step"].dtype == torch.float32 and adam.state[weight]["step"].item() == 3
weight.sum().backward(); bias.sum().backward(); adam.step()
print("good")
"#;
    let Some(said) = run_python(script, &[&path]) else {
        return;
    };
    assert_eq!(said.trim(), "good");
}

#[test]
fn golden_files_loaded_and_saved_again_are_the_same_to_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
import sys, torch
def load(path): return torch.load(path, weights_only=True, map_location="cpu")
old, new = load(sys.argv[1]), load(sys.argv[2])
plain = {k.removeprefix("module."): v for k, v in old["state_dict"].items()}
assert list(plain) == list(new["state_dict"]) and len(plain) == 107
assert all(torch.equal(v, new["state_dict"][k]) for k, v in plain.items())
a, b = old["optimizer"], new["optimizer"]
assert a["param_groups"] == b["param_groups"], (a["param_groups"], b["param_groups"])
assert a["state"].keys() == b["state"].keys()
for i, state in a["state"].items():
    assert state.keys() == b["state"][i].keys()
    assert all(torch.equal(v, b["state"][i][k]) and v.dtype == b["state"][i][k].dtype for k, v in state.items())
assert old["lr_base"] == new["lr_base"]
print("good")
"#;
    for name in [
        "ckpt_golden/epoch3.pkl",
        "ckpt_legacy/epoch3.pkl",
        "ckpt_multigpu/epoch3.pkl",
        "ckpt_init/epoch0.pkl",
    ] {
        let Some(path) = golden(name) else { return };
        let again = folder.path().join("again.pkl");
        checkpoint::save(&again, &checkpoint::load(&path).unwrap()).unwrap();
        let Some(said) = run_python(script, &[&path, &again]) else {
            return;
        };
        assert_eq!(said.trim(), "good", "{name}");
    }
}
