//! Python's pickle, read as data and never run.
//!
//! [`read()`] knows the opcodes of protocols 0 to 5 and the few Python names that PyTorch writes for tensors and plain
//! containers. An object of any other name becomes [`Value::Opaque`], which has the name and none of the parts, so that
//! a file is read past objects that nobody needs. [`write()`] writes protocol 2, as `torch.save` does. A tensor is a view
//! of a storage, which the pickle names by a key; [`pt`](super::pt) finds the storage.

mod leaves;
mod names;
mod opaque;
mod read;
mod rebuild;
mod tensor;
mod tree;
mod write;

pub use read::{Pickle, read};
pub use tensor::TensorView;
pub use write::write;

use std::borrow::Cow;
use std::sync::Arc;

/// Values may be nested this deep. The state of a model is about six deep.
const MAX_DEPTH: usize = 64;
/// A pickle may make this many objects. A checkpoint of the largest model makes some ten thousand.
const MAX_OBJECTS: usize = 1 << 21;
/// An integer may have this many bytes. Object ids and seeds have eight, the format's magic number has ten.
const MAX_INT_BYTES: usize = 16;

/// A Python value of the types that checkpoints have.
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
    /// A string.
    Str(Arc<str>),
    /// `bytes`.
    Bytes(Arc<[u8]>),
    /// A tuple, or a `torch.Size`.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// A dict, in its order.
    Dict(Vec<(Value, Value)>),
    /// A `collections.OrderedDict`, in its order, without its attributes (`_metadata`).
    OrderedDict(Vec<(Value, Value)>),
    /// A tensor or parameter: a view of a storage.
    Tensor(Arc<TensorView>),
    /// An object of another type, by the name of the type. Its parts were skipped.
    Opaque(Arc<str>),
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

    /// The entries, if it is a dict of either type.
    pub fn entries(&self) -> Option<&[(Value, Value)]> {
        match self {
            Value::Dict(entries) | Value::OrderedDict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a string key of a dict. If the key is repeated, the last value counts, as in Python.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries()?
            .iter()
            .rev()
            .find(|(k, _)| k.as_str() == Some(key))
            .map(|(_, value)| value)
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if it is a list or tuple.
    pub fn as_items(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The integer, if it is one that `T` can hold.
    pub fn as_int<T: TryFrom<i128>>(&self) -> Option<T> {
        match self {
            Value::Int(value) => T::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The number, if it is a float or an integer.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            Value::Int(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The name of its type for messages, with an article.
    pub fn kind_name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
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
            Value::Opaque(name) => {
                return Cow::Owned(format!("an object of the Python type {name:?}"));
            }
        })
    }
}

#[cfg(test)]
mod tests;
