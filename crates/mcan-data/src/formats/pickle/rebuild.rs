//! Makes data out of names with arguments: tensors, storages, dicts and bytes.

use super::names::Global;
use super::read::{EMPTY_ORDERED_DICT, Id, Object, Reader};
use super::{MAX_DEPTH, TensorView, Value};
use crate::formats::dtype::Dtype;
use anyhow::{Context, Result, bail, ensure};
use std::sync::Arc;

/// A storage, or a view of one. Numbers count elements of `dtype`, or bytes if there is no dtype.
#[derive(Clone)]
pub(super) struct Storage {
    dtype: Option<Dtype>,
    pub(super) key: Arc<str>,
    /// First element of the view.
    start: i64,
    numel: i64,
}

impl Reader<'_> {
    /// Replaces a name and its arguments by the data that they stand for.
    pub(super) fn reduce(&mut self) -> Result<()> {
        let parts = self.pop_n(2)?;
        let (&Object::Global(global), Object::Tuple(arguments)) =
            (self.object(parts[0])?, self.object(parts[1])?)
        else {
            return self.opaque_result(parts[0]);
        };
        let arguments = arguments.clone();
        self.charge(arguments.len())?;
        match (global, &arguments[..]) {
            (Global::OrderedDict, []) | (Global::DefaultDict, _) => self.push_ordered_dict(),
            (Global::OrderedDict, &[items]) => self.dict_of_pairs(items),
            (Global::RebuildTensor, &[storage, offset, shape, stride, ..]) => {
                self.tensor(storage, None, [offset, shape, stride])
            }
            (Global::RebuildTensorV3, &[storage, offset, shape, stride, _, _, dtype, ..]) => {
                match self.object(dtype)? {
                    &Object::Global(Global::Dtype(dtype)) => {
                        self.tensor(storage, Some(dtype), [offset, shape, stride])
                    }
                    _ => bail!("a tensor has no dtype; the file is damaged"),
                }
            }
            // The first argument is the data: the tensor, the name of a device, the sizes.
            (Global::RebuildParameter | Global::Device, &[data, ..]) | (Global::Size, &[data]) => {
                self.stack.push(data);
                Ok(())
            }
            (Global::Encode, &[text, ..]) => self.encoded(text),
            _ => bail!(
                "a name of the list has {} arguments it never has; the file is damaged",
                arguments.len()
            ),
        }
    }

    pub(super) fn push_ordered_dict(&mut self) -> Result<()> {
        self.push(EMPTY_ORDERED_DICT)
    }

    /// The bytes that protocol 2 has as Latin-1 text.
    fn encoded(&mut self, text: Id) -> Result<()> {
        let Object::Leaf(Value::Str(text)) = self.object(text)? else {
            bail!("the text of some bytes is no string; the file is damaged");
        };
        let text = text.clone();
        self.charge(text.len())?;
        let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        let bytes = bytes.context("the text of some bytes has characters beyond Latin-1")?;
        self.leaf(Value::Bytes(bytes.into()))
    }

    /// Python 2's `OrderedDict([[key, value], ...])`.
    fn dict_of_pairs(&mut self, items: Id) -> Result<()> {
        let Object::List(items) = self.object(items)? else {
            bail!("an OrderedDict is made of something that is no list; the file is damaged");
        };
        let items = items.clone();
        self.charge(items.len())?;
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            match self.object(item)? {
                Object::List(pair) | Object::Tuple(pair) if pair.len() == 2 => {
                    entries.push((pair[0], pair[1]))
                }
                _ => bail!(
                    "an OrderedDict is made of a list with something that is no pair; the file is damaged"
                ),
            }
        }
        self.push(Object::Dict {
            ordered: true,
            entries,
        })
    }

    fn tensor(
        &mut self,
        storage: Id,
        dtype: Option<Dtype>,
        [offset, shape, stride]: [Id; 3],
    ) -> Result<()> {
        let storage = match self.object(storage)? {
            Object::Storage(storage) => storage.clone(),
            Object::Leaf(Value::Opaque(name)) => {
                let name = name.clone();
                return self.leaf(Value::Opaque(name));
            }
            _ => bail!("a tensor has no storage; the file is damaged"),
        };
        let dtype = dtype
            .or(storage.dtype)
            .context("a tensor of an untyped storage has no dtype; the file is damaged")?;
        let storage_numel = match storage.dtype {
            Some(_) => storage
                .start
                .checked_add(storage.numel)
                .context("a view of a storage overflows")?,
            None => storage.numel / dtype.bytes() as i64,
        };
        let offset = self
            .number(offset)?
            .checked_add(storage.start)
            .context("a tensor's offset overflows")?;
        let (shape, stride) = (self.numbers(shape)?, self.numbers(stride)?);
        self.charge(shape.len() + stride.len())?;
        let view = TensorView {
            dtype,
            shape,
            stride,
            offset,
            storage: storage.key,
            storage_numel,
        };
        view.span()?;
        self.leaf(Value::Tensor(Arc::new(view)))
    }

    fn number(&self, id: Id) -> Result<i64> {
        match self.object(id)? {
            Object::Leaf(Value::Int(number)) => {
                i64::try_from(*number).context("a size is beyond 64 bits")
            }
            _ => bail!("a size or offset is no integer; the file is damaged"),
        }
    }

    fn numbers(&self, id: Id) -> Result<Vec<i64>> {
        match self.object(id)? {
            Object::Tuple(ids) | Object::List(ids) if ids.len() <= MAX_DEPTH => {
                ids.iter().map(|&id| self.number(id)).collect()
            }
            _ => bail!(
                "a tensor's shape is no tuple of at most {MAX_DEPTH} sizes; the file is damaged"
            ),
        }
    }

    /// Drops the attributes of an object, such as `_metadata` of a state dict.
    pub(super) fn build(&mut self) -> Result<()> {
        self.pop()?;
        self.top().map(drop)
    }

    /// A storage: `("storage", class, key, device, elements[, (key, start, elements) of a view])`.
    pub(super) fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let Object::Tuple(parts) = self.object(id)? else {
            return self.opaque("persistent object");
        };
        // PyTorch names the source of a module in the same way.
        if let Some(&tag) = parts.first()
            && matches!(self.object(tag)?, Object::Leaf(tag) if tag.as_str() != Some("storage"))
        {
            return self.opaque("persistent object");
        }
        let (class, key, numel, view) = match parts[..] {
            [_tag, class, key, _device, numel] => (class, key, numel, None),
            [_tag, class, key, _device, numel, view] => (class, key, numel, Some(view)),
            _ => bail!(
                "the description of a storage has {} parts, not 5 or 6; the file is damaged",
                parts.len()
            ),
        };
        let (&Object::Global(Global::StorageClass(dtype)), Object::Leaf(Value::Str(key))) =
            (self.object(class)?, self.object(key)?)
        else {
            // Such as the storage of complex numbers.
            return self.opaque("storage of another type");
        };
        let (start, numel) = self.extent(numel, view)?;
        let key = key.clone();
        self.storages.entry(key.clone()).or_insert(dtype);
        self.push(Object::Storage(Storage {
            dtype,
            key,
            start,
            numel,
        }))
    }

    /// The first element and the number of elements of a storage with `numel` elements, or of a view of it.
    fn extent(&self, numel: Id, view: Option<Id>) -> Result<(i64, i64)> {
        let (mut start, mut numel) = (0, self.number(numel)?);
        if let Some(view) = view
            && let Object::Tuple(view) = self.object(view)?
        {
            let &[_, view_start, view_numel] = &view[..] else {
                bail!(
                    "the description of a view of a storage has {} parts, not 3; the file is damaged",
                    view.len()
                );
            };
            (start, numel) = (self.number(view_start)?, self.number(view_numel)?);
        }
        ensure!(
            start >= 0 && numel >= 0,
            "a storage has a negative size; the file is damaged"
        );
        Ok((start, numel))
    }
}
