//! The format before PyTorch 1.6: five pickles in a row (a magic number, a version, a dict about the machine, the object,
//! the keys of the storages), then for each key its number of elements and the elements.

use super::Member;
use crate::checkpoint::pickle::{self, Value};
use crate::checkpoint::tensor::element_bytes;
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

/// `torch.serialization.MAGIC_NUMBER`.
const MAGIC_NUMBER: i128 = 0x1950a86a20f9469cfc6c;
/// `torch.serialization.PROTOCOL_VERSION`.
const PROTOCOL_VERSION: i128 = 1001;

pub(super) fn read(bytes: &[u8]) -> Result<(Value, HashMap<Arc<str>, Member>)> {
    let mut at = 0;
    let mut next = || -> Result<_> {
        let pickle = pickle::read(bytes.get(at..).unwrap_or_default())?;
        at += pickle.end;
        Ok((pickle, at))
    };
    ensure!(
        next()?.0.value == Value::Int(MAGIC_NUMBER),
        "it is a pickle, but not one of torch.save; name a checkpoint that torch.save wrote"
    );
    let version = next()?.0.value;
    ensure!(
        version == Value::Int(PROTOCOL_VERSION),
        "its format version is {version:?}, but only 1001 is known"
    );
    let machine = next()?.0.value;
    ensure!(
        machine.get("little_endian") != Some(&Value::Bool(false)),
        "it was saved on a big-endian machine; save it again on another"
    );
    let (object, _) = next()?;
    let (keys, mut at) = next()?;
    let Value::List(keys) = keys.value else {
        bail!("its list of storages is missing; copy or download it again")
    };
    let mut storages = HashMap::new();
    for key in keys {
        let Value::Str(key) = key else {
            bail!("the key of a storage is no string; the file is damaged")
        };
        let kind = object
            .storages
            .get(&key)
            .with_context(|| format!("storage {key:?} belongs to no tensor"))?;
        let width = kind.map_or(Ok(1), element_bytes)?;
        let cut_off = || format!("it ends within storage {key:?}; copy or download it again");
        let numel = bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .with_context(cut_off)?;
        let start = at + size_of::<u64>();
        let end = usize::try_from(u64::from_le_bytes(*numel))
            .ok()
            .and_then(|n| n.checked_mul(width)?.checked_add(start));
        at = end
            .filter(|&end| end <= bytes.len())
            .with_context(cut_off)?;
        storages.insert(
            key,
            Member {
                range: start..at,
                unchecked_crc: Cell::new(None),
            },
        );
    }
    Ok((object.value, storages))
}
