//! Reads the format before PyTorch 1.6: five pickles in a row (a magic number, a version, a dict about the machine, the
//! object, the keys of the storages), then for each key the number of elements (64 bits) and the elements.

use super::Storage;
use crate::formats::dtype::Dtype;
use crate::formats::pickle::{self, Pickle, Value};
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// `torch.serialization.MAGIC_NUMBER`.
const MAGIC_NUMBER: i128 = 0x1950a86a20f9469cfc6c;
/// `torch.serialization.PROTOCOL_VERSION`.
const PROTOCOL_VERSION: i128 = 1001;

/// The object and the places of its storages.
pub(super) fn read(bytes: &[u8]) -> Result<(Value, HashMap<Arc<str>, Storage>)> {
    let (object, keys, mut at) = pickles(bytes)?;
    let mut storages = HashMap::new();
    for key in keys {
        let Value::Str(key) = key else {
            bail!("the key of a storage is no string; the file is damaged")
        };
        let dtype = object
            .storages
            .get(&key)
            .with_context(|| {
                format!(
                    "storage {key:?} belongs to no tensor of a known type, so its size is not known; save the \
                     state_dict alone"
                )
            })?;
        let range = storage(bytes, at, dtype.map_or(1, Dtype::bytes)).with_context(|| {
            format!("it ends within storage {key:?}; copy or download it again")
        })?;
        at = range.end;
        let unchecked_crc = Cell::new(None);
        storages.insert(
            key,
            Storage {
                range,
                unchecked_crc,
            },
        );
    }
    Ok((object.value, storages))
}

/// The object, the keys of its storages, and where the pickles end.
fn pickles(bytes: &[u8]) -> Result<(Pickle, Vec<Value>, usize)> {
    let mut at = 0;
    let mut next = || -> Result<Pickle> {
        let pickle = pickle::read(bytes.get(at..).unwrap_or_default())?;
        at += pickle.end;
        Ok(pickle)
    };
    ensure!(
        next()?.value == Value::Int(MAGIC_NUMBER),
        "it is a pickle, but not one of torch.save; name a checkpoint that torch.save wrote"
    );
    let version = next()?.value;
    ensure!(
        version == Value::Int(PROTOCOL_VERSION),
        "its format version is {version:?}, but only {PROTOCOL_VERSION} is known"
    );
    let machine = next()?.value;
    ensure!(
        machine.get("little_endian") != Some(&Value::Bool(false)),
        "it was saved on a big-endian machine; save it again on another"
    );
    let object = next()?;
    match next()?.value {
        Value::List(keys) => Ok((object, keys, at)),
        _ => bail!("its list of storages is missing; copy or download it again"),
    }
}

/// The place of a storage whose number of elements is at `at`; none if it does not end within the file.
fn storage(bytes: &[u8], at: usize, element_bytes: usize) -> Option<Range<usize>> {
    let numel = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    let start = at + size_of::<u64>();
    let end = usize::try_from(numel)
        .ok()?
        .checked_mul(element_bytes)?
        .checked_add(start)?;
    (end <= bytes.len()).then_some(start..end)
}
