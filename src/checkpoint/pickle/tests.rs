use super::*;
use proptest::prelude::*;
use tch::Kind;

fn values() -> impl Strategy<Value = Value> {
    let view = (prop::collection::vec(0i64..5, 0..4), "[0-9]{1,3}").prop_map(|(shape, key)| {
        Value::Tensor(Arc::new(TensorView::contiguous(
            Kind::Half,
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
        let bytes = write(&value).unwrap();
        let pickle = read(&bytes).unwrap();
        prop_assert_eq!(pickle.end, bytes.len());
        prop_assert_eq!(pickle.value, value);
    }

    #[test]
    fn arbitrary_pickles_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }
}
