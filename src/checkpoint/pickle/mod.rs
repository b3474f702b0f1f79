//! Python's pickle as data: what a checkpoint's `data.pkl` says, without ever running any of it.
//!
//! [`read()`] takes the opcodes of protocols 2 to 4 and the few global names that PyTorch writes for tensors and plain
//! containers, and refuses every other one by name. [`write()`] gives protocol 2, the one that `torch.save` uses. Where
//! a tensor's bytes lie is the business of [`super::archive`]; here a tensor is only a view of a storage's key.

mod names;
mod read;
mod write;

pub use read::{Pickle, read};
pub use write::write;

use super::tensor::TensorView;
use std::sync::Arc;

/// Values nested deeper than this are refused (what PyTorch saves for a model is about six deep).
pub const MAX_DEPTH: usize = 64;
/// A pickle that makes more objects than this is refused; a checkpoint of the largest model makes some ten thousand.
pub const MAX_OBJECTS: usize = 1 << 21;
/// Integers of more bytes than this are refused (object ids and seeds have eight, the format's magic number ten).
pub const MAX_INT_BYTES: usize = 16;

/// A Python value, as far as checkpoints hold such.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 16 bytes.
    Int(i128),
    /// A float.
    Float(f64),
    /// A string (one of Python 2 that is no UTF-8 is taken as Latin-1).
    Str(Arc<str>),
    /// `bytes`.
    Bytes(Arc<[u8]>),
    /// A tuple, or a `torch.Size`.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// A dict in its order.
    Dict(Vec<(Value, Value)>),
    /// A `collections.OrderedDict` in its order; its attributes (`_metadata`) are dropped.
    OrderedDict(Vec<(Value, Value)>),
    /// A tensor or parameter: a view of a storage.
    Tensor(Arc<TensorView>),
}

impl Value {
    /// A string.
    pub fn str(text: &str) -> Value {
        Value::Str(text.into())
    }

    /// A dict with string keys.
    pub fn dict<'a>(items: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
        Value::Dict(
            items
                .into_iter()
                .map(|(key, value)| (Value::str(key), value))
                .collect(),
        )
    }

    /// The entries of either kind of dict.
    pub fn entries(&self) -> Option<&[(Value, Value)]> {
        match self {
            Value::Dict(entries) | Value::OrderedDict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a string key of a dict; the last one where a key is repeated, as in Python.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries()?
            .iter()
            .rev()
            .find(|(k, _)| k.as_str() == Some(key))
            .map(|(_, value)| value)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list or tuple.
    pub fn as_items(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The integer, when it fits the type asked for.
    pub fn as_int<T: TryFrom<i128>>(&self) -> Option<T> {
        match self {
            Value::Int(value) => T::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A float, or an integer as one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            Value::Int(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// What to call it in a message.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Str(_) => "a string",
            Value::Bytes(_) => "bytes",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) | Value::OrderedDict(_) => "a dict",
            Value::Tensor(_) => "a tensor",
        }
    }
}

#[cfg(test)]
mod tests;
