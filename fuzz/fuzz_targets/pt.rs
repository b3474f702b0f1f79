#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::formats::pickle::{TensorView, Value};
use mcan_data::formats::pt::Archive;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("file.pt", bytes);
    if let Ok(archive) = Archive::open(&path) {
        visit(&archive.value, &mut |view| check(&archive, view));
    }
});

/// A tensor has bytes for all elements from the first to the last one.
fn check(archive: &Archive, view: &TensorView) {
    if let Ok(elements) = archive.elements(view) {
        let span = usize::try_from(view.span().expect("a sound view")).expect("a small number");
        assert_eq!(elements.len(), span * view.dtype.bytes());
    }
}

fn visit(value: &Value, check: &mut dyn FnMut(&TensorView)) {
    match value {
        Value::Tensor(view) => check(view),
        Value::List(items) | Value::Tuple(items) => {
            items.iter().for_each(|item| visit(item, check));
        }
        Value::Dict(entries) | Value::OrderedDict(entries) => {
            for (key, value) in entries {
                visit(key, check);
                visit(value, check);
            }
        }
        _ => {}
    }
}
