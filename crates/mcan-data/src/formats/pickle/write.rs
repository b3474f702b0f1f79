//! Writes values as pickles of protocol 2, as `torch.save` does.

use super::names::storage_class;
use super::{TensorView, Value};
use std::collections::HashMap;

/// The pickle of a value. A string or name that comes again is referred to. The bytes depend on the value alone.
pub fn write(value: &Value) -> Vec<u8> {
    let mut writer = Writer {
        out: vec![0x80, 2],
        memo: HashMap::new(),
    };
    writer.value(value);
    writer.out.push(b'.');
    writer.out
}

struct Writer {
    out: Vec<u8>,
    /// The bytes that make an object, and its number in the memo.
    memo: HashMap<Vec<u8>, u32>,
}

impl Writer {
    fn value(&mut self, value: &Value) {
        match value {
            Value::None => self.out.push(b'N'),
            Value::Bool(truth) => self.out.push(if *truth { 0x88 } else { 0x89 }),
            Value::Int(number) => self.int(*number),
            Value::Float(number) => {
                self.out.push(b'G');
                self.out.extend(number.to_be_bytes());
            }
            Value::Str(text) => self.text(text),
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::Tuple(items) => self.tuple(items),
            Value::List(items) => self.list(items),
            Value::Dict(entries) => {
                self.out.push(b'}');
                self.entries(entries);
            }
            Value::OrderedDict(entries) => {
                self.global("collections", "OrderedDict");
                self.out.extend(b")R");
                self.entries(entries);
            }
            Value::Tensor(view) => self.tensor(view),
            // Its parts are not known.
            Value::Opaque(name) => self.text(name),
        }
    }

    fn int(&mut self, number: i128) {
        match number {
            0..=0xff => self.out.extend([b'K', number as u8]),
            0x100..=0xffff => {
                self.out.push(b'M');
                self.out.extend((number as u16).to_le_bytes());
            }
            _ if i32::try_from(number).is_ok() => {
                self.out.push(b'J');
                self.out.extend((number as i32).to_le_bytes());
            }
            _ => {
                // The fewest bytes whose sign extension gives the number back.
                let bytes = number.to_le_bytes();
                let fits = |n: &usize| (number << (128 - 8 * n)) >> (128 - 8 * n) == number;
                let length = (1..16).find(fits).unwrap_or(16);
                self.out.extend([0x8a, length as u8]);
                self.out.extend(&bytes[..length]);
            }
        }
    }

    /// Protocol 2 has no bytes. Python writes them as Latin-1 text with the function that turns the text into bytes.
    fn bytes(&mut self, bytes: &[u8]) {
        self.global("_codecs", "encode");
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        self.text(&text);
        self.text("latin1");
        self.out.extend([0x86, b'R']);
    }

    fn text(&mut self, text: &str) {
        // A text of more than 4 GB needs the opcode of protocol 4.
        let mut code = match u32::try_from(text.len()) {
            Ok(length) => [&b"X"[..], &length.to_le_bytes()].concat(),
            Err(_) => [&[0x8d][..], &(text.len() as u64).to_le_bytes()].concat(),
        };
        code.extend(text.as_bytes());
        self.memoized(code);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.memoized(format!("c{module}\n{name}\n").into_bytes());
    }

    /// An object that is written once and referred to afterwards.
    fn memoized(&mut self, code: Vec<u8>) {
        let (short, long, number) = match self.memo.get(&code) {
            Some(&number) => (b'h', b'j', number),
            None => {
                let number = self.memo.len() as u32;
                self.out.extend(&code);
                self.memo.insert(code, number);
                (b'q', b'r', number)
            }
        };
        match u8::try_from(number) {
            Ok(number) => self.out.extend([short, number]),
            Err(_) => {
                self.out.push(long);
                self.out.extend(number.to_le_bytes());
            }
        }
    }

    fn list(&mut self, items: &[Value]) {
        self.out.push(b']');
        if !items.is_empty() {
            self.out.push(b'(');
            items.iter().for_each(|item| self.value(item));
            self.out.push(b'e');
        }
    }

    fn tuple(&mut self, items: &[Value]) {
        if items.len() > 3 {
            self.out.push(b'(');
        }
        items.iter().for_each(|item| self.value(item));
        self.out
            .push([b')', 0x85, 0x86, 0x87, b't'][items.len().min(4)]);
    }

    fn entries(&mut self, entries: &[(Value, Value)]) {
        if entries.is_empty() {
            return;
        }
        self.out.push(b'(');
        for (key, value) in entries {
            self.value(key);
            self.value(value);
        }
        self.out.push(b'u');
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks)`.
    fn tensor(&mut self, view: &TensorView) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.out.extend(b"((");
        self.text("storage");
        self.global("torch", storage_class(view.dtype));
        self.text(&view.storage);
        self.text("cpu");
        self.int(view.storage_numel.into());
        self.out.extend(b"tQ");
        self.int(view.offset.into());
        for numbers in [&view.shape, &view.stride] {
            let numbers = numbers.iter().map(|&number| Value::Int(number.into()));
            self.tuple(&numbers.collect::<Vec<_>>());
        }
        self.out.push(0x89);
        self.global("collections", "OrderedDict");
        self.out.extend(b")RtR");
    }
}
