//! Pickles that are damaged or mean harm, for checkpoints of both formats.

use super::forge::*;
use super::{Row, bytes};
use mcan::formats::dtype::Dtype;
use mcan::formats::pickle::{self, TensorView, Value};
use std::sync::Arc;

/// A pickle of protocol 2.
fn protocol_2(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

/// A pickle of a state dict with one tensor, a view of a storage of 16 numbers.
pub(super) fn tensor(shape: &[i64], stride: &[i64], storage_numel: i64) -> Vec<u8> {
    let (shape, stride) = (shape.to_vec(), stride.to_vec());
    let view = TensorView {
        dtype: Dtype::F32,
        shape,
        stride,
        offset: 0,
        storage: "0".into(),
        storage_numel,
    };
    let state_dict = Value::OrderedDict(vec![(
        Value::str("proj.weight"),
        Value::Tensor(Arc::new(view)),
    )]);
    pickle::write(&Value::dict([("state_dict", state_dict)]))
}

/// Lists of two references to the list before, as deep as given.
fn doubling(depth: u8) -> Vec<u8> {
    let mut body = b"]q\x00".to_vec();
    for i in 0..depth {
        body.extend([b']', b'(', b'h', i, b'h', i, b'e', b'q', i + 1]);
    }
    protocol_2(&body)
}

/// What is the same in either format.
pub(super) fn hostile_pickles(wrap: fn(&[u8]) -> Vec<u8>) -> Vec<Row> {
    let of = move |what, pickle: Vec<u8>, says| bytes(what, wrap(&pickle), says);
    let deep = [vec![b']'; 1_000_000], vec![b'a'; 999_999]].concat();
    vec![
        of(
            "runs a program",
            protocol_2(b"cposix\nsystem\nX\x02\x00\x00\x00id\x85R"),
            &["posix.system", "not a dict"],
        ),
        of(
            "loads a class",
            protocol_2(b"ctorch.nn\nModule\n)R"),
            &["torch.nn.Module", "not a dict"],
        ),
        of(
            "an opcode of no checkpoint",
            protocol_2(b"\xff"),
            &["0xff is no opcode", "at byte 2"],
        ),
        of(
            "another protocol",
            b"\x80\x06N.".to_vec(),
            &["pickle protocol 6", "at byte 0"],
        ),
        of(
            "wrong type: a list",
            protocol_2(b"]"),
            &["a list, not a dict"],
        ),
        of(
            "wrong type: state_dict is a number",
            protocol_2(b"}X\x0a\x00\x00\x00state_dictK\x05s"),
            &["its `state_dict` is an integer"],
        ),
        of(
            "wrong shape: a view beyond its storage",
            tensor(&[4, 5], &[5, 1], 16),
            &["reaches beyond the 16 elements"],
        ),
        of(
            "wrong shape: negative",
            tensor(&[-4], &[1], 16),
            &["shape [-4]"],
        ),
        of(
            "wrong type: a parameter is nothing",
            protocol_2(b"}X\x0a\x00\x00\x00state_dict}X\x01\x00\x00\x00aNss"),
            &["state_dict holds None under", "\"a\""],
        ),
        of(
            "absurd size: a tensor of 10^15",
            tensor(&[ABSURD as i64], &[1], 16),
            &["1000000000000000"],
        ),
        of(
            "absurd size: one number shown 10^15 times",
            tensor(&[ABSURD as i64], &[0], 16),
            &["more elements than the file can hold"],
        ),
        of(
            "absurd size: a string of 4 GB",
            protocol_2(b"X\xff\xff\xff\xff"),
            &["4294967295 bytes are needed", "at byte 2"],
        ),
        of(
            "absurd size: three million objects",
            protocol_2(&vec![b'N'; 3 << 20]),
            &["makes more than"],
        ),
        of(
            "deeply nested",
            protocol_2(&deep),
            &["nested deeper than 64"],
        ),
        of(
            "holds itself",
            protocol_2(b"]q\x00h\x00a"),
            &["outgrow the file"],
        ),
        of("grows by sharing", doubling(50), &["outgrow the file"]),
    ]
}
