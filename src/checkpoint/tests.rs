use super::*;
use std::path::PathBuf;

/// A file of the shared folder, or none with a word why.
fn shared(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("MCAN_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = folder.join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

fn assert_same(a: &Checkpoint, b: &Checkpoint) {
    let names = |c: &Checkpoint| c.state_dict.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    for ((name, a), (_, b)) in a.state_dict.iter().zip(&b.state_dict) {
        assert_eq!(a.kind(), b.kind(), "{name}");
        assert!(a.equal(b), "{name}");
    }
    assert_eq!(a.lr_base, b.lr_base);
    assert_eq!(a.mcan, b.mcan);
    assert_eq!(a.optimizer.is_some(), b.optimizer.is_some());
    let (Some(a), Some(b)) = (&a.optimizer, &b.optimizer) else { return };
    assert_eq!((a.lr, a.betas, a.eps, a.weight_decay), (b.lr, b.betas, b.eps, b.weight_decay));
    assert_eq!(a.moments.len(), b.moments.len());
    for (a, b) in a.moments.iter().zip(&b.moments) {
        assert_eq!(a.is_some(), b.is_some());
        let (Some(a), Some(b)) = (a, b) else { continue };
        assert_eq!(a.step, b.step);
        assert!(a.exp_avg.equal(&b.exp_avg) && a.exp_avg_sq.equal(&b.exp_avg_sq));
    }
}

#[test]
fn the_older_format_and_multi_gpu_names_give_the_same_as_the_zip_format() {
    let Some(folder) = shared("golden/world/ckpts") else { return };
    let zip = load(&folder.join("ckpt_golden/epoch3.pkl")).unwrap();
    assert_eq!(zip.state_dict.len(), 107);
    assert_eq!(zip.state_dict[0].0, "embedding.weight");
    assert_eq!(zip.state_dict[0].1.size(), [93, 300]);
    assert_eq!(zip.optimizer.as_ref().unwrap().moments.len(), 107);
    assert_eq!(zip.lr_base, Some(0.002));
    assert_same(&zip, &load(&folder.join("ckpt_legacy/epoch3.pkl")).unwrap());
    assert_same(&zip, &load(&folder.join("ckpt_multigpu/epoch3.pkl")).unwrap());
    let init = load(&folder.join("ckpt_init/epoch0.pkl")).unwrap();
    assert!(init.optimizer.unwrap().moments.iter().all(Option::is_none));
    assert!(load_weights(&folder.join("ckpt_golden/epoch3.pkl")).unwrap().optimizer.is_none());
}

/// A checkpoint with every type of tensor, a parameter that was never updated, and a run.
fn sample() -> Checkpoint {
    let kinds = [
        tch::Kind::Float,
        tch::Kind::Double,
        tch::Kind::Half,
        tch::Kind::BFloat16,
        tch::Kind::Int64,
        tch::Kind::Int,
        tch::Kind::Int16,
        tch::Kind::Int8,
        tch::Kind::Uint8,
        tch::Kind::Bool,
    ];
    let plain = Tensor::arange(6, (tch::Kind::Float, tch::Device::Cpu)).reshape([2, 3]);
    let mut state_dict: Vec<_> = kinds.iter().map(|&kind| (format!("layer.{kind:?}"), plain.to_kind(kind))).collect();
    state_dict.push(("turned".into(), plain.transpose(0, 1)));
    state_dict.push(("none".into(), Tensor::zeros([0, 3], (tch::Kind::Float, tch::Device::Cpu))));
    state_dict.push(("scalar".into(), Tensor::from(2.5f32)));
    let moments = Moments { step: 3.0, exp_avg: plain.shallow_clone(), exp_avg_sq: &plain * 2.0 };
    Checkpoint {
        state_dict,
        optimizer: Some(AdamState {
            lr: 1e-4,
            betas: (0.9, 0.98),
            eps: 1e-9,
            weight_decay: 0.0,
            moments: vec![None, Some(moments)],
        }),
        lr_base: Some(1e-4),
        mcan: Some(RunState {
            epoch: 3,
            step: 70_000,
            batch: 12,
            loss_sum: 0.1 + 0.2,
            seed: u64::MAX,
            data_size: 443_757,
            config: serde_json::json!({"HIDDEN_SIZE": 512, "LR_DECAY_LIST": [10, 12], "OPT_EPS": 1e-9, "AMP": null,
                "nested": {"on": true, "name": "größe", "neg": -5}}),
            vocabulary: vec!["PAD".into(), "UNK".into(), "naïve".into(), "".into()],
            answers: vec!["yes".into(), "no".into()],
        }),
    }
}

#[test]
fn what_is_saved_is_loaded_and_the_same_state_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a/epoch1.pkl"), folder.path().join("b/epoch1.pkl"));
    save(&first, &sample()).unwrap();
    let loaded = load(&first).unwrap();
    assert_same(&sample(), &loaded);
    save(&second, &loaded).unwrap();
    assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap());
    assert!(load_weights(&first).unwrap().mcan.is_some());
}
