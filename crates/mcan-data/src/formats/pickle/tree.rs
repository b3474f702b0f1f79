//! Makes the tree of values out of the table of objects.

use super::names::Global;
use super::read::{Id, Object, Reader};
use super::{MAX_DEPTH, Value};
use anyhow::{Context, Result, ensure};

impl Reader<'_> {
    /// The object as a tree of values. `budget` is the number of values that it may still have.
    pub(super) fn tree(&self, id: Id, depth: usize, budget: &mut usize) -> Result<Value> {
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
            Object::Global(Global::Dtype(dtype)) => Value::str(dtype.name()),
            Object::Global(_) => Value::Opaque("type".into()),
            Object::Storage(_) => Value::Opaque("torch.Storage".into()),
        })
    }
}
