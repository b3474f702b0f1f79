use super::state_dict::Rows;
use super::*;
use crate::formats::dtype::Dtype;
use mcan_data::testing::shared;

mod real_files;

fn assert_same(a: &Checkpoint, b: &Checkpoint) {
    let names = |c: &Checkpoint| {
        c.state_dict
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(a), names(b));
    for ((name, a), (_, b)) in a.state_dict.iter().zip(&b.state_dict) {
        assert_eq!(a.kind(), b.kind(), "{name}");
        assert!(a.equal(b), "{name}");
    }
    assert_eq!((a.lr_base, a.epoch), (b.lr_base, b.epoch));
    assert_eq!(a.mcan, b.mcan);
    assert_eq!(a.optimizer.is_some(), b.optimizer.is_some());
    let (Some(a), Some(b)) = (&a.optimizer, &b.optimizer) else {
        return;
    };
    assert_eq!(
        (a.lr, a.betas, a.eps, a.weight_decay),
        (b.lr, b.betas, b.eps, b.weight_decay)
    );
    assert_eq!(a.moments.len(), b.moments.len());
    for (a, b) in a.moments.iter().zip(&b.moments) {
        assert_eq!(a.is_some(), b.is_some());
        let (Some(a), Some(b)) = (a, b) else { continue };
        assert_eq!(a.step, b.step);
        assert!(a.exp_avg.equal(&b.exp_avg) && a.second.equal(&b.second));
    }
}

#[test]
fn the_older_format_and_multi_gpu_names_give_the_same_as_the_zip_format() {
    let Some(folder) = shared("golden/world/ckpts") else {
        return;
    };
    let zip = load(&folder.join("ckpt_golden/epoch3.pkl")).unwrap();
    assert_eq!(zip.state_dict.len(), 107);
    assert_eq!(zip.state_dict[0].0, "embedding.weight");
    assert_eq!(zip.state_dict[0].1.size(), [93, 300]);
    assert_eq!(zip.optimizer.as_ref().unwrap().moments.len(), 107);
    assert_eq!(zip.lr_base, Some(0.002));
    assert_same(&zip, &load(&folder.join("ckpt_legacy/epoch3.pkl")).unwrap());
    assert_same(
        &zip,
        &load(&folder.join("ckpt_multigpu/epoch3.pkl")).unwrap(),
    );
    let init = load(&folder.join("ckpt_init/epoch0.pkl")).unwrap();
    assert!(init.optimizer.unwrap().moments.iter().all(Option::is_none));
    assert!(
        load_weights(&folder.join("ckpt_golden/epoch3.pkl"))
            .unwrap()
            .optimizer
            .is_none()
    );
}

#[test]
fn what_is_no_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let says = |path: &Path, words: &[&str]| {
        let message = format!("{:#}", load(path).unwrap_err());
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    says(folder.path(), &["is a folder"]);
    says(&folder.path().join("no.pkl"), &["no.pkl", "--CKPT_E"]);
    let path = folder.path().join("epoch7.pkl");
    for (bytes, words) in [
        (&b""[..], ["epoch7.pkl", "empty"]),
        (b"hello", ["epoch7.pkl", "neither a zip archive nor"]),
    ] {
        std::fs::write(&path, bytes).unwrap();
        says(&path, &words);
    }
}

#[test]
fn a_dtype_that_checkpoints_lack_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("complex.pkl");
    let mut checkpoint = sample();
    checkpoint.state_dict[0].1 = plain().to_kind(tch::Kind::ComplexFloat);
    let message = format!("{:#}", save(&path, &checkpoint).unwrap_err());
    assert!(message.contains("ComplexFloat are not kept"), "{message}");
    assert!(!path.exists());
}

fn plain() -> Tensor {
    Tensor::arange(6, (tch::Kind::Float, tch::Device::Cpu)).reshape([2, 3])
}

/// A checkpoint with every type of tensor, a parameter that was never updated, and a run.
fn sample() -> Checkpoint {
    let plain = plain();
    let mut state_dict: Vec<_> = Dtype::ALL
        .map(|dtype| (dtype.name().to_owned(), plain.to_kind(tensor::kind(dtype))))
        .into();
    state_dict.push(("turned".into(), plain.transpose(0, 1)));
    state_dict.push((
        "none".into(),
        Tensor::zeros([0, 3], (tch::Kind::Float, tch::Device::Cpu)),
    ));
    state_dict.push(("scalar".into(), Tensor::from(2.5f32)));
    let moments = Moments {
        step: 3.0,
        exp_avg: plain.shallow_clone(),
        second: &plain * 2.0,
    };
    Checkpoint {
        state_dict,
        optimizer: Some(OptimizerState {
            algorithm: Algorithm::Adam,
            lr: 1e-4,
            betas: (0.9, 0.98),
            eps: 1e-9,
            weight_decay: 0.0,
            moments: vec![None, Some(moments)],
        }),
        lr_base: Some(1e-4),
        epoch: Some(3),
        mcan: Some(RunState {
            epoch: 3,
            step: 70_000,
            batch: 12,
            loss_sum: 0.1 + 0.2,
            seed: u64::MAX,
            data_size: 443_757,
            data_digest: Some("00ff".into()),
            max_token: Some(14),
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
    let (first, second) = (
        folder.path().join("a/epoch1.pkl"),
        folder.path().join("b/epoch1.pkl"),
    );
    save(&first, &sample()).unwrap();
    let loaded = load(&first).unwrap();
    assert_same(&sample(), &loaded);
    save(&second, &loaded).unwrap();
    assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap());
    assert!(load_weights(&first).unwrap().mcan.is_some());
}

#[test]
fn files_of_pytorch_with_every_dtype_and_views_load_the_same_in_each_format() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/mcan-data/tests/data/checkpoints");
    let zip = load(&folder.join("small_zip.pkl")).unwrap();
    assert_same(&zip, &load(&folder.join("small_legacy.pkl")).unwrap());
    assert_same(&zip, &load(&folder.join("small_protocol4.pkl")).unwrap());
    let numbers = |name: &str| {
        let tensor = &zip.state_dict.iter().find(|(n, _)| n == name).unwrap().1;
        (
            tensor.size(),
            Vec::<f64>::try_from(tensor.to_kind(tch::Kind::Double).reshape([-1])).unwrap(),
        )
    };
    let dtypes = [
        "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
    ];
    dtypes
        .iter()
        .for_each(|dtype| assert_eq!(numbers(dtype).1, [0.0, 1.0, 2.0, 3.0], "{dtype}"));
    assert_eq!(numbers("bool").1, [0.0, 1.0, 1.0, 1.0]);
    assert_eq!(
        numbers("view"),
        (vec![2, 3], vec![2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    );
    assert_eq!(
        numbers("transposed"),
        (
            vec![4, 3],
            vec![0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]
        )
    );
    assert_eq!(
        numbers("every other"),
        (vec![6], vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0])
    );
    assert_eq!(numbers("expanded"), (vec![2, 3], vec![3.0; 6]));
    assert_eq!(numbers("empty"), (vec![0, 3], vec![]));
    assert_eq!(numbers("scalar"), (vec![], vec![2.5]));
    let moments = zip.optimizer.unwrap().moments;
    assert!(moments[0].as_ref().unwrap().step == 1.0 && moments[1].is_none());
}

fn named(tensors: &[(&str, &[i64])]) -> Vec<(String, Tensor)> {
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (tch::Kind::Half, tch::Device::Cpu));
    tensors
        .iter()
        .map(|(name, shape)| (name.to_string(), zeros(shape)))
        .collect()
}

#[test]
fn all_that_does_not_fit_a_model_is_one_error_that_says_what_to_do() {
    let expected: Vec<(String, Vec<i64>)> = vec![
        ("embedding.weight".into(), vec![9, 4]),
        ("lstm.x".into(), vec![8]),
        ("proj.bias".into(), vec![5]),
    ];
    let rows = Rows {
        words: 9,
        answers: 5,
    };
    let fits = named(&[
        ("proj.bias", &[5]),
        ("embedding.weight", &[9, 4]),
        ("lstm.x", &[8]),
    ]);
    let matched = state_dict::match_shapes(&fits, &expected, rows, str::to_owned).unwrap();
    assert_eq!(
        matched.iter().map(Tensor::size).collect::<Vec<_>>(),
        [vec![9, 4], vec![8], vec![5]]
    );
    assert!(
        matched
            .iter()
            .all(|tensor| tensor.kind() == tch::Kind::Float)
    );
    let says = |held: &[(&str, &[i64])], words: &[&str]| {
        let message = format!(
            "{:#}",
            state_dict::match_shapes(&named(held), &expected, rows, str::to_owned).unwrap_err()
        );
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        message
    };
    let vocabulary = says(
        &[
            ("embedding.weight", &[7, 4]),
            ("lstm.x", &[8]),
            ("proj.bias", &[5]),
        ],
        &[
            "embedding.weight is [7, 4], should be [9, 4]",
            "vocabulary differs",
            "all question files",
        ],
    );
    assert!(!vocabulary.contains("--MODEL"), "{vocabulary}");
    says(
        &[
            ("embedding.weight", &[9, 4]),
            ("lstm.x", &[8]),
            ("proj.bias", &[6]),
        ],
        &["The answers differ", "[6]"],
    );
    says(
        &[
            ("embedding.weight", &[9, 5]),
            ("extra", &[1, 2]),
            ("proj.bias", &[5]),
        ],
        &[
            "missing in it: lstm.x",
            "unknown to the model: extra [1, 2]",
            "[9, 5]",
            "--MODEL",
            "--CFG",
        ],
    );
}

#[test]
fn object_ids_as_keys_and_counts_as_steps_are_mapped_through_the_order_of_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.pkl");
    let one = || Tensor::ones([2], (tch::Kind::Float, tch::Device::Cpu));
    let view = |key: &str| {
        Value::Tensor(Arc::new(TensorView::contiguous(
            Dtype::F32,
            vec![2],
            key.into(),
        )))
    };
    let entry = |a, b, step| {
        Value::dict([
            ("step", Value::Int(step)),
            ("exp_avg", view(a)),
            ("exp_avg_sq", view(b)),
        ])
    };
    let [first, second, third] = [
        139_909_003_426_376,
        139_909_003_339_160,
        139_909_003_475_928,
    ]
    .map(Value::Int);
    let group = Value::dict([
        (
            "params",
            Value::List(vec![first.clone(), second, third.clone()]),
        ),
        ("lr", Value::Float(0.1)),
        (
            "betas",
            Value::Tuple(vec![Value::Float(0.9), Value::Float(0.98)]),
        ),
        ("eps", Value::Float(1e-9)),
        ("weight_decay", Value::Int(0)),
    ]);
    let state = Value::Dict(vec![
        (third, entry("0", "1", 30)),
        (first, entry("2", "3", 10)),
    ]);
    let optimizer = Value::dict([("state", state), ("param_groups", Value::List(vec![group]))]);
    let top = Value::dict([
        ("state_dict", Value::OrderedDict(vec![])),
        ("optimizer", optimizer),
    ]);
    let storages = [4, 5, 2, 3].map(|value| one() * value);
    pt::write(&path, &top, storages.len(), |i, bytes| {
        tensor::copy_to(&storages[i], bytes)
    })
    .unwrap();
    let moments = load(&path).unwrap().optimizer.unwrap().moments;
    let steps: Vec<_> = moments
        .iter()
        .map(|moments| moments.as_ref().map(|moments| moments.step))
        .collect();
    assert_eq!(steps, [Some(10.0), None, Some(30.0)]);
    assert!(moments[0].as_ref().unwrap().second.equal(&(one() * 3)));
}

#[test]
fn bare_weights_load_and_other_optimizers_are_refused_only_when_asked_for() {
    let Some(folder) = shared("real/checkpoints") else {
        return;
    };
    let bare = load(&folder.join("allennlp/basic_classifier__serialization__best.th")).unwrap();
    assert!(bare.state_dict.len() == 9 && bare.optimizer.is_none() && bare.mcan.is_none());
    let resnet = load(&folder.join("resnet_cifar10/resnet20-12fca82f.th")).unwrap();
    assert_eq!(resnet.state_dict[0].0, "conv1.weight");
    let sgd = folder.join("distiller/ssl_checkpoint_trained_dense.pth.tar");
    assert_eq!(load_weights(&sgd).unwrap().state_dict[0].0, "conv1.weight");
    let message = format!("{:#}", load(&sgd).unwrap_err());
    assert!(
        message.contains("neither Adam nor Adamax") && message.contains("ssl_checkpoint"),
        "{message}"
    );
}
