//! Files that other programs published, against what PyTorch reads in them.

use super::*;
use mcan_data::testing::shared;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

/// Every tensor and plain value of a file, under its dotted path as in `expected.json`.
fn leaves<'a>(value: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    let join = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match value {
        Value::Dict(entries) | Value::OrderedDict(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let key = key
                    .as_str()
                    .map_or_else(|| key.as_int::<i128>().unwrap().to_string(), str::to_owned);
                leaves(value, &join(&key), found);
            }
        }
        Value::List(items) | Value::Tuple(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(i, item)| leaves(item, &format!("{path}[{i}]"), found));
        }
        other => found.push((path.to_owned(), other)),
    }
}

fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = Vec::new();
    tensor::copy_to(tensor, &mut bytes).unwrap();
    bytes
}

fn longs(json: &Json) -> Vec<i64> {
    json.as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_i64().unwrap())
        .collect()
}

fn check_tensor(name: &str, view: &TensorView, tensor: &Tensor, expected: &Json) {
    assert_eq!(view.dtype.name(), expected["dtype"], "{name}");
    assert_eq!(view.shape, longs(&expected["shape"]), "{name}");
    assert_eq!(view.stride, longs(&expected["stride"]), "{name}");
    assert_eq!(view.offset, expected["offset"].as_i64().unwrap(), "{name}");
    assert_eq!(
        (tensor.kind(), tensor.size()),
        (tensor::kind(view.dtype), view.shape.clone()),
        "{name}"
    );
    let digest: String = Sha256::digest(bytes_of(tensor))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(digest, expected["sha256_of_contiguous_le_bytes"], "{name}");
    let flat = tensor.to_kind(tch::Kind::Double).reshape([-1]);
    for (i, first) in expected["first"].as_array().unwrap().iter().enumerate() {
        let first: f64 = first.as_str().unwrap().parse().unwrap();
        assert_eq!(flat.double_value(&[i as i64]), first, "{name}[{i}]");
    }
    let sum: f64 = expected["sum"].as_str().unwrap().parse().unwrap();
    let ours = flat.sum(tch::Kind::Double).double_value(&[]);
    assert!(
        (sum - ours).abs() <= 1e-9 * sum.abs().max(1.0),
        "{name}: {ours}, not {sum}"
    );
}

#[test]
fn every_real_file_holds_what_is_expected_of_it() {
    let Some(list) = shared("real/checkpoints/expected.json") else {
        return;
    };
    let expected: Json = serde_json::from_slice(&std::fs::read(&list).unwrap()).unwrap();
    let mut tensors = 0;
    for (file, expected) in expected.as_object().unwrap() {
        let opened = open(&list.with_file_name(file));
        if expected.get("error").is_some() {
            let message = format!("{:#}", opened.err().unwrap());
            assert!(message.contains(file), "{message}");
            continue;
        }
        let archive = opened.unwrap_or_else(|error| panic!("{file}: {error:#}"));
        let top = if matches!(archive.value, Value::OrderedDict(_)) {
            "OrderedDict"
        } else {
            "dict"
        };
        assert_eq!(top, expected["top"], "{file}");
        let mut found = Vec::new();
        leaves(&archive.value, "", &mut found);
        for (name, text) in expected["other"].as_object().unwrap() {
            // Long lists are abridged there.
            let spelled = text.as_str().unwrap().starts_with("list of")
                || found.iter().any(|(found, _)| found == name);
            assert!(spelled, "{file}: {name}");
        }
        let mut names = Vec::new();
        for (name, value) in found {
            match value {
                Value::Tensor(view) => {
                    check_tensor(
                        &format!("{file}: {name}"),
                        view,
                        &tensor::read(&archive, view).unwrap(),
                        &expected["tensors"][&name],
                    );
                    names.push(name);
                }
                value => {
                    if let Some(text) = expected["other"].get(&name).and_then(Json::as_str) {
                        assert_eq!(python(value), text, "{file}: {name}");
                    }
                }
            }
        }
        assert_eq!(
            names,
            expected["tensors"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>(),
            "{file}"
        );
        tensors += names.len();
    }
    assert_eq!(tensors, 409);
}

/// A plain value as Python's `repr` has it.
fn python(value: &Value) -> String {
    match value {
        Value::None => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-4 => {
            // Python pads the exponent to two digits.
            let text = format!("{number:e}");
            let (digits, exponent) = text.split_once("e-").unwrap();
            format!("{digits}e-{exponent:0>2}")
        }
        Value::Float(number) => format!("{number:?}"),
        Value::Str(text) => format!("'{text}'"),
        Value::Dict(_) => "{}".into(),
        Value::OrderedDict(_) => "OrderedDict()".into(),
        other => panic!("{}", other.kind_name()),
    }
}
