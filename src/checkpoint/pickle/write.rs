//! Values to pickle protocol 2, the way `torch.save` does it.

use super::Value;
use crate::checkpoint::tensor::{TensorView, storage_name};
use anyhow::Result;
use std::collections::HashMap;

/// The pickle of a value. Strings and names that come again are referred to; the bytes depend on the value alone.
///
/// # Errors
/// A tensor of a type that checkpoints do not hold.
pub fn write(value: &Value) -> Result<Vec<u8>> {
    let mut writer = Writer {
        out: vec![0x80, 2],
        memo: HashMap::new(),
    };
    writer.value(value)?;
    writer.out.push(b'.');
    Ok(writer.out)
}

struct Writer {
    out: Vec<u8>,
    /// The bytes that make an object -> its number in the memo.
    memo: HashMap<Vec<u8>, u32>,
}

impl Writer {
    fn value(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::None => self.out.push(b'N'),
            Value::Bool(truth) => self.out.push(if *truth { 0x88 } else { 0x89 }),
            Value::Int(number) => self.int(*number),
            Value::Float(number) => {
                self.out.push(b'G');
                self.out.extend(number.to_be_bytes());
            }
            Value::Str(text) => self.text(text),
            Value::Bytes(bytes) => {
                // Protocol 2 has no bytes: Python writes the Latin-1 text they spell, and how to turn it back.
                self.global("_codecs", "encode");
                self.text(
                    &bytes
                        .iter()
                        .map(|&byte| char::from(byte))
                        .collect::<String>(),
                );
                self.text("latin1");
                self.out.extend([0x86, b'R']);
            }
            Value::Tuple(items) => self.tuple(items)?,
            Value::List(items) => {
                self.out.push(b']');
                if !items.is_empty() {
                    self.out.push(b'(');
                    items.iter().try_for_each(|item| self.value(item))?;
                    self.out.push(b'e');
                }
            }
            Value::Dict(entries) => {
                self.out.push(b'}');
                self.entries(entries)?;
            }
            Value::OrderedDict(entries) => {
                self.global("collections", "OrderedDict");
                self.out.extend(b")R");
                self.entries(entries)?;
            }
            Value::Tensor(view) => self.tensor(view)?,
        }
        Ok(())
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

    fn text(&mut self, text: &str) {
        // A Rust string that Python could not hold does not exist; one over 4 GB has the opcode of protocol 4.
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

    fn memoized(&mut self, code: Vec<u8>) {
        let fresh = self.memo.len() as u32;
        let known = self.memo.get(&code).copied();
        let (short, long) = if known.is_some() {
            (b'h', b'j')
        } else {
            (b'q', b'r')
        };
        let number = known.unwrap_or(fresh);
        if known.is_none() {
            self.out.extend(&code);
            self.memo.insert(code, fresh);
        }
        match u8::try_from(number) {
            Ok(number) => self.out.extend([short, number]),
            Err(_) => {
                self.out.push(long);
                self.out.extend(number.to_le_bytes());
            }
        }
    }

    fn tuple(&mut self, items: &[Value]) -> Result<()> {
        if items.len() > 3 {
            self.out.push(b'(');
        }
        items.iter().try_for_each(|item| self.value(item))?;
        self.out
            .push([b')', 0x85, 0x86, 0x87, b't'][items.len().min(4)]);
        Ok(())
    }

    fn entries(&mut self, entries: &[(Value, Value)]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.out.push(b'(');
        for (key, value) in entries {
            self.value(key)?;
            self.value(value)?;
        }
        self.out.push(b'u');
        Ok(())
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks)`.
    fn tensor(&mut self, view: &TensorView) -> Result<()> {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.out.extend(b"((");
        self.text("storage");
        self.global("torch", storage_name(view.kind)?);
        self.text(&view.storage);
        self.text("cpu");
        self.int(view.storage_numel.into());
        self.out.extend(b"tQ");
        self.int(view.offset.into());
        for numbers in [&view.shape, &view.stride] {
            self.tuple(
                &numbers
                    .iter()
                    .map(|&n| Value::Int(n.into()))
                    .collect::<Vec<_>>(),
            )?;
        }
        self.out.push(0x89);
        self.global("collections", "OrderedDict");
        self.out.extend(b")RtR");
        Ok(())
    }
}
