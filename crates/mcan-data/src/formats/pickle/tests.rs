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

/// The value that a pickle of one object of another type is read as.
fn opaque(name: &str) -> Value {
    Value::Opaque(name.into())
}

#[test]
fn an_object_of_another_type_is_skipped_and_never_made() {
    for (what, pickle, name) in [
        (
            "a call",
            &b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR."[..],
            "os.system",
        ),
        (
            "a name",
            b"\x80\x04\x8c\x10allennlp.metrics\x8c\x03AUC\x93.",
            "allennlp.metrics.AUC",
        ),
        (
            "NEWOBJ, BUILD",
            b"\x80\x02cargparse\nNamespace\n)\x81}X\x02\0\0\0lrK\x01sb.",
            "argparse.Namespace",
        ),
        ("NEWOBJ_EX", b"\x80\x04ca\nB\n)}\x92.", "a.B"),
        (
            "items of a list",
            b"\x80\x02ca\nL\n)\x81K\x01a(K\x02K\x03e.",
            "a.L",
        ),
        (
            "items of a dict",
            b"\x80\x02ca\nD\n)RK\x01K\x02s(K\x03K\x04u.",
            "a.D",
        ),
        (
            "a call of a result",
            b"\x80\x02cfunctools\npartial\n)R)R.",
            "functools.partial",
        ),
        ("INST", b"(K\x01ia\nOld\n.", "a.Old"),
        ("OBJ", b"(ca\nOld\nK\x01o}b.", "a.Old"),
        ("a set", b"\x80\x04\x8f(K\x01K\x02\x90.", "set"),
        ("a frozen set", b"\x80\x04(K\x01\x91.", "frozenset"),
        ("an extension", b"\x80\x02\x82\x05.", "copyreg extension 5"),
        ("a buffer", b"\x80\x05\x97\x98.", "buffer"),
        (
            "a name of an object elsewhere",
            b"Pabc\n.",
            "persistent object",
        ),
        ("the same in protocol 1", b"K\x05Q.", "persistent object"),
        (
            "an integer of 17 bytes",
            b"\x80\x02\x8a\x11AAAAAAAAAAAAAAAAA.",
            "int",
        ),
        ("an escaped text", b"S'a\\n'\n.", "str"),
    ] {
        let pickle = read(pickle).map(|pickle| pickle.value);
        assert_eq!(
            pickle.unwrap_or_else(|e| panic!("{what}: {e:#}")),
            opaque(name),
            "{what}"
        );
    }
}

#[test]
fn what_stands_beside_a_skipped_object_is_read() {
    // {'best': numpy scalar, 'epoch': 4}
    let pickle = read(
        b"\x80\x02}(X\x04\0\0\0bestcnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\0\0\0f8\x89\x88\x87R(K\x03tb\
          C\x01x\x86RX\x05\0\0\0epochK\x04u.",
    );
    let value = pickle.unwrap().value;
    assert_eq!(
        value.get("best"),
        Some(&opaque("numpy.core.multiarray.scalar"))
    );
    assert_eq!(value.get("epoch"), Some(&Value::Int(4)));
}

#[test]
fn the_texts_of_protocol_0_are_read() {
    let value = read(b"(dp0\nS'a'\np1\nI7\nsVb\nL8L\nsg1\nF1.5\nsS'c'\nI01\ns.")
        .unwrap()
        .value;
    let (seven, eight) = (Value::Int(7), Value::Int(8));
    assert_eq!(
        value.entries().map(|entries| entries[0].1.clone()),
        Some(seven)
    );
    assert_eq!(value.get("b"), Some(&eight));
    assert_eq!(value.get("a"), Some(&Value::Float(1.5)));
    assert_eq!(value.get("c"), Some(&Value::Bool(true)));
}

#[test]
fn a_default_dict_is_a_dict_and_protocol_5_has_byte_arrays() {
    let dict = read(b"\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RK\x01K\x02s.");
    let entries = vec![(Value::Int(1), Value::Int(2))];
    assert_eq!(dict.unwrap().value, Value::OrderedDict(entries));
    let bytes = read(b"\x80\x05\x96\x02\0\0\0\0\0\0\0ab.").unwrap().value;
    assert_eq!(bytes, Value::Bytes(b"ab"[..].into()));
}

#[test]
fn bytes_that_are_no_opcode_are_refused() {
    assert_says(&error_of(b"\x80\x02}\xff."), &["0xff", "byte 3"]);
    assert_says(&error_of(b"\x80\x06N."), &["protocol 6"]);
    assert_says(&error_of(b"\x80\x02K\x01)R."), &["would be called"]);
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
