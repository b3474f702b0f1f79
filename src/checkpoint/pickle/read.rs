//! Pickle to values: a stack machine for the opcodes of protocols 2 to 4 that PyTorch's files use.
//!
//! Objects are kept in a table and referred to by number, so that the memo can name a container that is filled later,
//! as Python's does. What the stack holds at the end is then spelled out as a tree, within limits: a container that
//! holds itself, or one shared so often that its tree would outgrow the file, is refused.

use super::names::{Global, Storage};
use super::{MAX_DEPTH, MAX_INT_BYTES, MAX_OBJECTS, Value};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::sync::Arc;
use tch::Kind;

/// One pickle of a file.
pub struct Pickle {
    /// What it says.
    pub value: Value,
    /// Where it ends: the number of bytes read.
    pub end: usize,
    /// The storages that it names, and their element type (`None`: bytes), by key.
    pub storages: HashMap<Arc<str>, Option<Kind>>,
}

/// Reads the pickle that `bytes` begins with.
///
/// # Errors
/// An opcode or name outside the list, anything beyond the limits, and anything damaged, with its position.
pub fn read(bytes: &[u8]) -> Result<Pickle> {
    let mut reader = Reader {
        bytes,
        ..Reader::default()
    };
    loop {
        let at = reader.at;
        match reader.step() {
            Ok(false) => {}
            Ok(true) => break,
            Err(error) => {
                return Err(error.context(format!("its pickle cannot be read at byte {at}")));
            }
        }
    }
    let root = reader.pop()?;
    // A tree without sharing has fewer values than its pickle has bytes.
    let mut budget = reader.at.saturating_mul(4);
    let value = reader.tree(root, 0, &mut budget)?;
    Ok(Pickle {
        value,
        end: reader.at,
        storages: reader.storages,
    })
}

/// Index into the table of objects.
pub(super) type Id = u32;

#[derive(Clone)]
pub(super) enum Object {
    /// Anything without parts.
    Leaf(Value),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict {
        ordered: bool,
        entries: Vec<(Id, Id)>,
    },
    Global(Global),
    Storage(Storage),
}

#[derive(Default)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    objects: Vec<Object>,
    pub(super) stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    pub(super) storages: HashMap<Arc<str>, Option<Kind>>,
    /// Parts copied out of objects that may be referred to many times.
    copied: usize,
}

impl<'a> Reader<'a> {
    /// Runs one opcode; true at the end.
    fn step(&mut self) -> Result<bool> {
        let [opcode] = self.array()?;
        match opcode {
            0x80 => {
                let [version] = self.array()?;
                ensure!(
                    (2..=4).contains(&version),
                    "pickle protocol {version} is not supported; save it with 2, 3 or 4"
                );
            }
            0x95 => drop(self.array::<8>()?), // a frame: only a hint for buffering
            b'.' => return Ok(true),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.leaf(Value::None)?,
            0x88 => self.leaf(Value::Bool(true))?,
            0x89 => self.leaf(Value::Bool(false))?,
            b'J' => self.int_of(4)?,
            b'K' => self.unsigned(1)?,
            b'M' => self.unsigned(2)?,
            0x8a => {
                let length = self.length(1)?;
                self.int_of(length)?;
            }
            0x8b => {
                let length = self.length(4)?;
                self.int_of(length)?;
            }
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.leaf(Value::Float(number))?;
            }
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'U' => self.text_of_python_2(1)?,
            b'T' => self.text_of_python_2(4)?,
            b'C' => self.byte_string(1)?,
            b'B' => self.byte_string(4)?,
            0x8e => self.byte_string(8)?,
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => self.memoize()?,
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'c' => self.global()?,
            0x93 => self.stack_global()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            b'Q' => self.persistent()?,
            _ => return self.container(opcode).map(|()| false),
        }
        Ok(false)
    }

    /// The opcodes that make and fill containers.
    fn container(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85..=0x87 => {
                let items = self.pop_n(usize::from(opcode - 0x84))?;
                self.push(Object::Tuple(items))
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Object::Tuple(items))
            }
            b']' => self.push(Object::List(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Object::List(items))
            }
            b'a' => {
                let items = self.pop_n(1)?;
                self.append(items)
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)
            }
            b'}' => self.push(Object::Dict {
                ordered: false,
                entries: Vec::new(),
            }),
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Object::Dict {
                    ordered: false,
                    entries: Vec::new(),
                })?;
                self.set(items)
            }
            b's' => {
                let items = self.pop_n(2)?;
                self.set(items)
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(items)
            }
            _ => bail!(
                "opcode {opcode:#04x} is none that PyTorch's checkpoints use; the file is damaged or no checkpoint"
            ),
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        match self.objects.get_mut(top as usize) {
            Some(Object::List(list)) => list.extend(items),
            _ => bail!("items are appended to what is no list; the file is damaged"),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        ensure!(
            items.len().is_multiple_of(2),
            "a key has no value; the file is damaged"
        );
        match self.objects.get_mut(top as usize) {
            Some(Object::Dict { entries, .. }) => {
                entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])))
            }
            _ => bail!("a key is set in what is no dict; the file is damaged"),
        }
        Ok(())
    }

    // ---- the stack, the table and the memo

    pub(super) fn push(&mut self, object: Object) -> Result<()> {
        ensure!(
            self.objects.len() < MAX_OBJECTS,
            "it makes more than {MAX_OBJECTS} objects, which no checkpoint does"
        );
        self.stack.push(self.objects.len() as Id);
        self.objects.push(object);
        Ok(())
    }

    pub(super) fn leaf(&mut self, value: Value) -> Result<()> {
        self.push(Object::Leaf(value))
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<Id> {
        Ok(self.pop_n(1)?[0])
    }

    pub(super) fn pop_n(&mut self, n: usize) -> Result<Vec<Id>> {
        ensure!(
            self.stack.len() >= self.floor() + n,
            "a value is missing on the stack; the file is damaged"
        );
        Ok(self.stack.split_off(self.stack.len() - n))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self
            .marks
            .pop()
            .context("a mark is missing on the stack; the file is damaged")?;
        // Pops never go below the last mark, so it lies inside the stack.
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    pub(super) fn top(&self) -> Result<Id> {
        ensure!(
            self.stack.len() > self.floor(),
            "a value is missing on the stack; the file is damaged"
        );
        self.stack
            .last()
            .copied()
            .context("a value is missing on the stack; the file is damaged")
    }

    pub(super) fn object(&self, id: Id) -> Result<&Object> {
        self.objects
            .get(id as usize)
            .context("an object is missing; the file is damaged")
    }

    fn put(&mut self, width: usize) -> Result<()> {
        let (number, top) = (self.length(width)?, self.top()?);
        self.memo.insert(u32::try_from(number)?, top);
        Ok(())
    }

    fn memoize(&mut self) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(u32::try_from(self.memo.len())?, top);
        Ok(())
    }

    fn get(&mut self, width: usize) -> Result<()> {
        let number = self.length(width)?;
        let known = u32::try_from(number)
            .ok()
            .and_then(|number| self.memo.get(&number).copied());
        ensure!(
            self.stack.len() < MAX_OBJECTS,
            "it refers to more than {MAX_OBJECTS} objects, which no checkpoint does"
        );
        self.stack.push(known.with_context(|| {
            format!("memo {number} is used before it is set; the file is damaged")
        })?);
        Ok(())
    }

    /// Counts what is copied out of shared objects: a few bytes that refer to a large one again and again must not
    /// grow without bound. No file of PyTorch comes near one copied part for each of its bytes.
    pub(super) fn charge(&mut self, parts: usize) -> Result<()> {
        self.copied = self.copied.saturating_add(parts);
        ensure!(
            self.copied <= self.bytes.len(),
            "its values share parts so often that they outgrow the file"
        );
        Ok(())
    }

    // ---- bytes

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let bytes = self
            .at
            .checked_add(n)
            .and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.with_context(|| {
            format!("{n} bytes are needed, but the pickle is cut off; copy the file again")
        })?;
        self.at += n;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    /// A little-endian number of up to eight bytes without sign.
    fn length(&mut self, width: usize) -> Result<usize> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        Ok(usize::try_from(u64::from_le_bytes(bytes))?)
    }

    fn unsigned(&mut self, width: usize) -> Result<()> {
        let number = self.length(width)?;
        self.leaf(Value::Int(number as i128))
    }

    /// A little-endian number with sign.
    fn int_of(&mut self, width: usize) -> Result<()> {
        ensure!(
            width <= MAX_INT_BYTES,
            "an integer of {width} bytes is longer than {MAX_INT_BYTES}"
        );
        let bytes = self.take(width)?;
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut extended = [if negative { 0xff } else { 0 }; MAX_INT_BYTES];
        extended[..width].copy_from_slice(bytes);
        self.leaf(Value::Int(i128::from_le_bytes(extended)))
    }

    fn text(&mut self, width: usize) -> Result<()> {
        let length = self.length(width)?;
        let text = std::str::from_utf8(self.take(length)?)
            .context("a string is no UTF-8; the file is damaged")?;
        self.leaf(Value::str(text))
    }

    /// A `str` of Python 2, which is bytes: UTF-8 where it can be, else Latin-1, which always can.
    fn text_of_python_2(&mut self, width: usize) -> Result<()> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        self.leaf(match std::str::from_utf8(bytes) {
            Ok(text) => Value::str(text),
            Err(_) => Value::str(
                &bytes
                    .iter()
                    .map(|&byte| char::from(byte))
                    .collect::<String>(),
            ),
        })
    }

    fn byte_string(&mut self, width: usize) -> Result<()> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        self.leaf(Value::Bytes(bytes.into()))
    }

    // ---- the result

    fn tree(&self, id: Id, depth: usize, budget: &mut usize) -> Result<Value> {
        ensure!(
            depth < MAX_DEPTH,
            "its values are nested deeper than {MAX_DEPTH}, which no checkpoint's are"
        );
        *budget = budget
            .checked_sub(1)
            .context("its values share parts so often that they outgrow the file")?;
        let mut items = |ids: &[Id]| {
            ids.iter()
                .map(|&id| self.tree(id, depth + 1, budget))
                .collect::<Result<Vec<_>>>()
        };
        Ok(match self.object(id)? {
            Object::Leaf(value) => value.clone(),
            Object::Tuple(ids) => Value::Tuple(items(ids)?),
            Object::List(ids) => Value::List(items(ids)?),
            Object::Dict { ordered, entries } => {
                let pairs = entries.iter().map(|&(key, value)| {
                    Ok((
                        self.tree(key, depth + 1, budget)?,
                        self.tree(value, depth + 1, budget)?,
                    ))
                });
                let pairs = pairs.collect::<Result<Vec<_>>>()?;
                if *ordered {
                    Value::OrderedDict(pairs)
                } else {
                    Value::Dict(pairs)
                }
            }
            Object::Global(Global::Dtype(kind)) => {
                Value::str(crate::checkpoint::tensor::dtype_name(*kind)?)
            }
            Object::Global(_) => {
                bail!("a class stands where data should; save the state dict, not the model")
            }
            Object::Storage(storage) => bail!(
                "storage {:?} stands where data should; save tensors",
                storage.key
            ),
        })
    }
}
