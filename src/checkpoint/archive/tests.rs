//! Files of either format: real ones, and damaged ones.

use super::*;
use crate::checkpoint::tensor::dtype_name;
use mcan_data::testing::shared;
use proptest::prelude::*;
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
    let mut bytes = vec![0; tensor.numel() * element_bytes(tensor.kind()).unwrap()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
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
    assert_eq!(dtype_name(view.kind).unwrap(), expected["dtype"], "{name}");
    assert_eq!(view.shape, longs(&expected["shape"]), "{name}");
    assert_eq!(view.stride, longs(&expected["stride"]), "{name}");
    assert_eq!(view.offset, expected["offset"].as_i64().unwrap(), "{name}");
    assert_eq!(
        (tensor.kind(), tensor.size()),
        (view.kind, view.shape.clone()),
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
        let opened = Archive::open(&list.with_file_name(file));
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
                        &archive.tensor(view).unwrap(),
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

/// What opening a file with these bytes says.
fn error_of(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("epoch7.pkl");
    std::fs::write(&path, bytes).unwrap();
    let message = format!("{:#}", Archive::open(&path).err().unwrap());
    assert!(message.contains("epoch7.pkl"), "{message}");
    message
}

fn assert_says(message: &str, words: &[&str]) {
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

const MAGIC: &[u8] =
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

#[test]
fn what_is_no_checkpoint_is_named() {
    assert_says(&error_of(b""), &["empty"]);
    assert_says(&error_of(b"hello, world\n"), &["neither a zip archive nor"]);
    assert_says(
        &error_of(b"\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\":1}}.."),
        &["safetensors"],
    );
    assert_says(&error_of(b"PK\x03\x04 and no more"), &["zip directory"]);
    assert_says(&error_of(b"\x80\x02K\x01."), &["not one of torch.save"]);
    let folder = tempfile::tempdir().unwrap();
    assert_says(
        &format!("{:#}", Archive::open(folder.path()).err().unwrap()),
        &["is a folder"],
    );
    assert_says(
        &format!(
            "{:#}",
            Archive::open(&folder.path().join("no.pkl")).err().unwrap()
        ),
        &["no.pkl", "--CKPT_E"],
    );
}

#[test]
fn foreign_names_and_opcodes_are_refused_by_name() {
    let with = |pickle: &[u8]| error_of(&[MAGIC, pickle].concat());
    assert_says(
        &with(b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR."),
        &["os.system", "never run"],
    );
    assert_says(
        &with(b"\x80\x04\x8c\x10allennlp.metrics\x8c\x03AUC\x93."),
        &["allennlp.metrics.AUC"],
    );
    assert_says(
        &with(b"\x80\x02ctorch.nn.modules.linear\nLinear\n."),
        &["torch.nn.modules.linear.Linear"],
    );
    assert_says(&with(b"\x80\x02}\x81."), &["0x81", "byte 3"]);
    assert_says(&with(b"\x80\x05N."), &["protocol 5"]);
}

#[test]
fn hostile_pickles_are_refused() {
    let with = |pickle: &[u8]| error_of(&[MAGIC, pickle].concat());
    // A list that holds itself; lists of lists that double 40 times; a string longer than the file; a stack run dry.
    assert_says(&with(b"\x80\x02]q\x00h\x00a."), &["outgrow the file"]);
    let doubling: Vec<u8> = (0..40).flat_map(|_| *b"q\x00h\x00\x86").collect();
    assert_says(
        &with(&[b"\x80\x02N", &doubling[..], b"."].concat()),
        &["outgrow the file"],
    );
    assert_says(&with(b"\x80\x02X\xff\xff\xff\x7fabc."), &["cut off"]);
    assert_says(&with(b"\x80\x02(N0."), &["missing on the stack"]);
    assert_says(
        &with(&[b"\x80\x02", &[b']'; 200][..], &[b'a'; 199], b"."].concat()),
        &["nested deeper"],
    );
    // One big text that is turned into bytes again and again.
    let mut encodes = b"\x80\x02c_codecs\nencode\nq\x00X\x00\x10\x00\x00".to_vec();
    encodes.extend([b'a'; 4096]);
    encodes.extend(b"q\x01");
    (0..500).for_each(|_| encodes.extend(b"h\x00h\x01\x85R0"));
    assert_says(&with(&[&encodes[..], b"."].concat()), &["outgrow the file"]);
}

#[test]
fn tensors_beyond_their_storage_or_the_file_are_refused() {
    let tensor = |numel: &[u8], offset: &[u8], shape: &[u8], stride: &[u8]| {
        let storage = [
            b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu",
            numel,
            b"tQ",
        ]
        .concat();
        let rebuild: &[u8] = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n";
        let storage_list = b"\x80\x02](X\x01\0\0\x000e.\x02\0\0\0\0\0\0\0\0\0\x80?\0\0\0@";
        [
            MAGIC,
            rebuild,
            &storage,
            offset,
            shape,
            stride,
            b"\x89}tR.",
            storage_list,
        ]
        .concat()
    };
    let folder = tempfile::tempdir().unwrap();
    let open = |bytes: &[u8]| {
        let path = folder.path().join("epoch8.pkl");
        std::fs::write(&path, bytes).unwrap();
        let archive = Archive::open(&path)?;
        let Value::Tensor(view) = &archive.value else {
            panic!("no tensor")
        };
        archive.tensor(view)
    };
    let good = open(&tensor(b"K\x02", b"K\x00", b"K\x02\x85", b"K\x01\x85")).unwrap();
    assert_eq!(Vec::<f32>::try_from(good).unwrap(), [1.0, 2.0]);
    let reversed_rows = open(&tensor(
        b"K\x02",
        b"K\x00",
        b"K\x01K\x02\x86",
        b"K\x07K\x01\x86",
    ))
    .unwrap();
    assert_eq!(reversed_rows.size(), [1, 2]);
    for (numel, offset, shape, stride, words) in [
        (
            &b"K\x02"[..],
            &b"K\x01"[..],
            &b"K\x02\x85"[..],
            &b"K\x01\x85"[..],
            "reaches beyond",
        ),
        (
            b"K\x02",
            b"K\x00",
            b"K\x02\x85",
            b"J\xff\xff\xff\xff\x85",
            "impossible",
        ),
        (
            b"K\x02",
            b"K\x00",
            b"J\xff\xff\xff\xff\x85",
            b"K\x01\x85",
            "impossible",
        ),
        (
            b"K\x02",
            b"K\x00",
            b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86",
            b"K\x00K\x00\x86",
            "more elements than the file",
        ),
        (b"K\x02", b"K\x00", b"K\x02\x85", b")", "impossible"),
        (b"K\x09", b"K\x00", b"K\x09\x85", b"K\x01\x85", "too few"),
    ] {
        let message = format!(
            "{:#}",
            open(&tensor(numel, offset, shape, stride)).unwrap_err()
        );
        assert_says(&message, &["epoch8.pkl", words]);
    }
}

/// Opens bytes and touches every tensor; the point is that it returns.
fn read_all(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    if let Ok(archive) = Archive::open(path) {
        let mut found = Vec::new();
        leaves_of_any_shape(&archive.value, &mut found);
        for view in found {
            if let Ok(tensor) = archive.tensor(&view) {
                assert!(tensor.numel() as u64 <= bytes.len() as u64 * MAX_EXPANSION);
            }
        }
    }
}

fn leaves_of_any_shape(value: &Value, found: &mut Vec<Arc<TensorView>>) {
    match value {
        Value::Tensor(view) => found.push(view.clone()),
        Value::List(items) | Value::Tuple(items) => items
            .iter()
            .for_each(|item| leaves_of_any_shape(item, found)),
        Value::Dict(entries) | Value::OrderedDict(entries) => {
            entries.iter().for_each(|(key, value)| {
                leaves_of_any_shape(key, found);
                leaves_of_any_shape(value, found);
            })
        }
        _ => {}
    }
}

/// A small file of each format.
fn small_files() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints");
    ["small_zip.pkl", "small_legacy.pkl"]
        .iter()
        .map(|name| std::fs::read(folder.join(name)).unwrap())
        .collect()
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pkl");
    for file in small_files() {
        for length in 1..file.len() {
            std::fs::write(&path, &file[..length]).unwrap();
            assert!(
                Archive::open(&path).is_err(),
                "{length} of {} bytes",
                file.len()
            );
        }
    }
}

#[test]
fn a_flipped_bit_in_a_storage_of_a_zip_is_noticed() {
    let mut file = small_files().swap_remove(0);
    let at = file
        .windows(4)
        .position(|w| w == 2.0f32.to_le_bytes())
        .unwrap();
    file[at] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flipped.pkl");
    std::fs::write(&path, file).unwrap();
    let message = format!("{:#}", crate::checkpoint::load(&path).unwrap_err());
    assert_says(&message, &["flipped.pkl", "checksum"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_bytes_never_panic(start in 0usize..4, rest in prop::collection::vec(any::<u8>(), 0..600)) {
        let folder = tempfile::tempdir().unwrap();
        let start = [&b""[..], b"PK\x03\x04", b"\x80\x02", MAGIC][start];
        read_all(&folder.path().join("any.pkl"), &[start, &rest].concat());
    }

    #[test]
    fn mutated_files_never_panic(
        which in 0usize..2,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut file = small_files().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let folder = tempfile::tempdir().unwrap();
        read_all(&folder.path().join("mutated.pkl"), &file);
    }

    #[test]
    fn mutated_pickles_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let file = small_files().swap_remove(1);
        let mut pickle = file[MAGIC.len()..].to_vec();
        for (at, byte) in changes {
            let at = at.index(pickle.len());
            pickle[at] = byte;
        }
        let _ = crate::checkpoint::pickle::read(&pickle);
    }
}
