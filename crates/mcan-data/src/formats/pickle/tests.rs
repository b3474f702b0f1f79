use super::*;
use crate::formats::dtype::Dtype;
use proptest::prelude::*;

fn values() -> impl Strategy<Value = Value> {
    let view = (prop::collection::vec(0i64..5, 0..4), "[0-9]{1,3}").prop_map(|(shape, key)| {
        Value::Tensor(Arc::new(TensorView::contiguous(
            Dtype::F16,
            shape,
            key.as_str().into(),
        )))
    });
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i128>().prop_map(Value::Int),
        any::<i64>().prop_map(|n| Value::Int(n.into())),
        (-70_000i128..70_000).prop_map(Value::Int),
        any::<f64>()
            .prop_filter("NaN is not equal to itself", |x| !x.is_nan())
            .prop_map(Value::Float),
        "\\PC{0,8}".prop_map(|text| Value::str(&text)),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
        view,
    ];
    leaf.prop_recursive(4, 60, 8, |inner| {
        let pairs = prop::collection::vec((inner.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Tuple),
            prop::collection::vec(inner, 0..8).prop_map(Value::List),
            pairs.clone().prop_map(Value::Dict),
            pairs.prop_map(Value::OrderedDict),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in values()) {
        let bytes = write(&value);
        let pickle = read(&bytes).unwrap();
        prop_assert_eq!(pickle.end, bytes.len());
        prop_assert_eq!(pickle.value, value);
    }

    #[test]
    fn arbitrary_pickles_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }
}

fn error_of(pickle: &[u8]) -> String {
    format!("{:#}", read(pickle).err().unwrap())
}

fn assert_says(message: &str, words: &[&str]) {
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[test]
fn foreign_names_and_opcodes_are_refused_by_name() {
    assert_says(
        &error_of(b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR."),
        &["os.system", "never run"],
    );
    assert_says(
        &error_of(b"\x80\x04\x8c\x10allennlp.metrics\x8c\x03AUC\x93."),
        &["allennlp.metrics.AUC"],
    );
    assert_says(
        &error_of(b"\x80\x02ctorch.nn.modules.linear\nLinear\n."),
        &["torch.nn.modules.linear.Linear"],
    );
    assert_says(&error_of(b"\x80\x02}\x81."), &["0x81", "byte 3"]);
    assert_says(&error_of(b"\x80\x05N."), &["protocol 5"]);
}

#[test]
fn hostile_pickles_are_refused() {
    // A list that holds itself, tuples that double 40 times, a string longer than the file, an empty stack.
    assert_says(&error_of(b"\x80\x02]q\x00h\x00a."), &["outgrow the file"]);
    let doubling: Vec<u8> = (0..40).flat_map(|_| *b"q\x00h\x00\x86").collect();
    assert_says(
        &error_of(&[b"\x80\x02N", &doubling[..], b"."].concat()),
        &["outgrow the file"],
    );
    assert_says(&error_of(b"\x80\x02X\xff\xff\xff\x7fabc."), &["cut off"]);
    assert_says(&error_of(b"\x80\x02(N0."), &["missing on the stack"]);
    assert_says(
        &error_of(&[b"\x80\x02", &[b']'; 200][..], &[b'a'; 199], b"."].concat()),
        &["nested deeper"],
    );
    // One large text that becomes bytes again and again.
    let mut encodes = b"\x80\x02c_codecs\nencode\nq\x00X\x00\x10\x00\x00".to_vec();
    encodes.extend([b'a'; 4096]);
    encodes.extend(b"q\x01");
    (0..500).for_each(|_| encodes.extend(b"h\x00h\x01\x85R0"));
    assert_says(
        &error_of(&[&encodes[..], b"."].concat()),
        &["outgrow the file"],
    );
}
