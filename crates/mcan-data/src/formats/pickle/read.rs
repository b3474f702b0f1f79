//! Reads pickles: a stack machine for the opcodes of protocols 0 to 5.
//!
//! Objects are kept in a table and referred to by number, so that the memo can name a container that is filled later, as
//! Python's memo does. At the end, [`Reader::tree`] makes a tree of the object on the stack, within limits: a container
//! that holds itself is refused, and so is one shared so often that its tree would outgrow the file.

use super::names::Global;
use super::rebuild::Storage;
use super::{MAX_OBJECTS, Value};
use crate::formats::dtype::Dtype;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::sync::Arc;

/// One pickle of a file.
pub struct Pickle {
    /// The object.
    pub value: Value,
    /// The number of bytes read.
    pub end: usize,
    /// The types of the storages that the pickle names, by key. A storage without a type consists of bytes.
    pub storages: HashMap<Arc<str>, Option<Dtype>>,
}

/// Reads the pickle at the start of `bytes`.
///
/// # Errors
/// A byte is no opcode, a limit is exceeded, or the pickle is damaged. The error has the position.
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

/// A Python object whose parts are other objects of the table.
#[derive(Clone)]
pub(super) enum Object {
    /// An object without parts.
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

/// The stack machine.
#[derive(Default)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    objects: Vec<Object>,
    pub(super) stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    pub(super) storages: HashMap<Arc<str>, Option<Dtype>>,
    /// Parts copied from objects that may be referred to many times.
    copied: usize,
}

const EMPTY_DICT: Object = Object::Dict {
    ordered: false,
    entries: Vec::new(),
};
pub(super) const EMPTY_ORDERED_DICT: Object = Object::Dict {
    ordered: true,
    entries: Vec::new(),
};

impl Reader<'_> {
    /// Runs one opcode. Returns true at the end of the pickle.
    fn step(&mut self) -> Result<bool> {
        let [opcode] = self.array()?;
        match opcode {
            0x80 => self.protocol()?,
            0x95 => drop(self.array::<8>()?), // a frame: only a hint for buffering
            b'.' => return Ok(true),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            b'p' => self.put_line()?,
            b'g' => self.get_line()?,
            0x94 => self.memoize()?,
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'c' => self.global()?,
            0x93 => self.stack_global()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            b'Q' => self.persistent()?,
            b'P' => self.persistent_line()?,
            0x81 | 0x92 | b'i' | b'o' => self.instance(opcode)?,
            _ => self.scalar(opcode)?,
        }
        Ok(false)
    }

    fn protocol(&mut self) -> Result<()> {
        let [version] = self.array()?;
        ensure!(
            version <= 5,
            "pickle protocol {version} is not supported; save it with one from 2 to 5"
        );
        Ok(())
    }

    /// The opcodes that make numbers, texts and bytes.
    fn scalar(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b'N' => self.leaf(Value::None),
            0x88 => self.leaf(Value::Bool(true)),
            0x89 => self.leaf(Value::Bool(false)),
            b'J' => self.int_of(4),
            b'K' => self.unsigned(1),
            b'M' => self.unsigned(2),
            0x8a => self.long(1),
            0x8b => self.long(4),
            b'G' => self.float(),
            b'X' => self.text(4),
            0x8c => self.text(1),
            0x8d => self.text(8),
            b'U' => self.text_of_python_2(1),
            b'T' => self.text_of_python_2(4),
            b'C' => self.byte_string(1),
            b'B' => self.byte_string(4),
            0x8e | 0x96 => self.byte_string(8),
            b'I' | b'L' => self.integer_line(),
            b'F' => self.float_line(),
            b'S' | b'V' => self.text_line(),
            0x82..=0x84 => self.extension(opcode),
            0x97 => self.opaque("buffer"),
            0x98 => Ok(()), // the buffer on the stack becomes read-only
            _ => self.container(opcode),
        }
    }

    /// The opcodes that make containers.
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
            0x8f => self.opaque("set"),
            0x91 => {
                self.pop_mark()?;
                self.opaque("frozenset")
            }
            b']' => self.push(Object::List(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Object::List(items))
            }
            b'}' => self.push(EMPTY_DICT),
            b'd' => {
                let items = self.pop_mark()?;
                self.push(EMPTY_DICT)?;
                self.set(items)
            }
            _ => self.fill(opcode),
        }
    }

    /// The opcodes that fill containers.
    fn fill(&mut self, opcode: u8) -> Result<()> {
        let items = match opcode {
            b'a' => self.pop_n(1)?,
            b's' => self.pop_n(2)?,
            b'e' | b'u' | 0x90 => self.pop_mark()?,
            _ => bail!("{opcode:#04x} is no opcode; the file is damaged or no checkpoint"),
        };
        // The parts of an object of another type are left out.
        if self.top_is_opaque()? {
            return Ok(());
        }
        match opcode {
            b'a' | b'e' => self.append(items),
            _ => self.set(items),
        }
    }

    fn put_line(&mut self) -> Result<()> {
        let (number, top) = (self.number_line()?, self.top()?);
        self.memo.insert(number, top);
        Ok(())
    }

    fn get_line(&mut self) -> Result<()> {
        let number = self.number_line()?;
        self.recall(number as usize)
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        match self.objects.get_mut(top as usize) {
            Some(Object::List(list)) => list.extend(items),
            _ => bail!("items are appended to something that is no list; the file is damaged"),
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
            _ => bail!("a key is set in something that is no dict; the file is damaged"),
        }
        Ok(())
    }

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

    pub(super) fn pop_mark(&mut self) -> Result<Vec<Id>> {
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
        self.recall(number)
    }

    /// Pushes the object that the memo has under `number`.
    fn recall(&mut self, number: usize) -> Result<()> {
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

    /// Counts the parts that are copied from shared objects, so that a few bytes that refer to a large object again and
    /// again take bounded memory. A file of PyTorch has far fewer copied parts than bytes.
    pub(super) fn charge(&mut self, parts: usize) -> Result<()> {
        self.copied = self.copied.saturating_add(parts);
        ensure!(
            self.copied <= self.bytes.len(),
            "its values share parts so often that they outgrow the file"
        );
        Ok(())
    }
}
