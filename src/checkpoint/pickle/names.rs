//! The names that a pickle may use, and the data that each stands for. Nothing is ever called.

use super::read::{Id, Object, Reader};
use super::{MAX_DEPTH, Value};
use crate::checkpoint::tensor::{TensorView, element_bytes, kind_named};
use anyhow::{Context, Result, bail, ensure};
use std::sync::Arc;
use tch::Kind;

/// The names a pickle may use. None of them is ever called: each stands for a shape of data.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildTensorV3,
    RebuildParameter,
    Size,
    Device,
    Encode,
    /// A storage class; `None` is the untyped one.
    StorageClass(Option<Kind>),
    Dtype(Kind),
}

#[derive(Clone)]
pub(super) struct Storage {
    kind: Option<Kind>,
    pub(super) key: Arc<str>,
    /// First element and number of elements, in elements of `kind`.
    start: i64,
    numel: i64,
}

impl Reader<'_> {
    pub(super) fn global(&mut self) -> Result<()> {
        let (module, name) = (self.line()?, self.line()?);
        self.push(Object::Global(allowed(&module, &name)?))
    }

    fn line(&mut self) -> Result<String> {
        let rest = self.rest();
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .context("a name has no end; the file is cut off")?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    pub(super) fn stack_global(&mut self) -> Result<()> {
        let parts = self.pop_n(2)?;
        let (Object::Leaf(Value::Str(module)), Object::Leaf(Value::Str(name))) =
            (self.object(parts[0])?, self.object(parts[1])?)
        else {
            bail!("a name is no string; the file is damaged");
        };
        let global = allowed(module, name)?;
        self.push(Object::Global(global))
    }

    /// A name and its arguments: the data they stand for.
    pub(super) fn reduce(&mut self) -> Result<()> {
        let parts = self.pop_n(2)?;
        let (&Object::Global(global), Object::Tuple(arguments)) =
            (self.object(parts[0])?, self.object(parts[1])?)
        else {
            bail!(
                "something that is no name of the list would be called; the file is damaged or hostile"
            );
        };
        let arguments = arguments.clone();
        self.charge(arguments.len())?;
        match (global, &arguments[..]) {
            (Global::OrderedDict, []) => self.push(Object::Dict {
                ordered: true,
                entries: Vec::new(),
            }),
            (Global::OrderedDict, &[items]) => self.dict_of_pairs(items),
            (Global::RebuildTensor, &[storage, offset, shape, stride, ..]) => {
                self.tensor(storage, None, [offset, shape, stride])
            }
            (Global::RebuildTensorV3, &[storage, offset, shape, stride, _, _, dtype, ..]) => {
                match self.object(dtype)? {
                    &Object::Global(Global::Dtype(kind)) => {
                        self.tensor(storage, Some(kind), [offset, shape, stride])
                    }
                    _ => bail!("a tensor has no dtype; the file is damaged"),
                }
            }
            // The tensor itself, the name of a device, the sizes: the first argument says it all.
            (Global::RebuildParameter | Global::Device, &[data, ..]) | (Global::Size, &[data]) => {
                self.stack.push(data);
                Ok(())
            }
            (Global::Encode, &[text, ..]) => match self.object(text)? {
                Object::Leaf(Value::Str(text)) => {
                    let text = text.clone();
                    self.charge(text.len())?;
                    let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
                    self.leaf(Value::Bytes(
                        bytes
                            .context("bytes are spelled with wide characters")?
                            .into(),
                    ))
                }
                _ => bail!("bytes are spelled by what is no string; the file is damaged"),
            },
            _ => bail!(
                "a name of the list has {} arguments it never has; the file is damaged",
                arguments.len()
            ),
        }
    }

    /// Python 2's `OrderedDict([[key, value], ...])`.
    fn dict_of_pairs(&mut self, items: Id) -> Result<()> {
        let Object::List(items) = self.object(items)? else {
            bail!("an OrderedDict is made of what is no list; the file is damaged");
        };
        let items = items.clone();
        self.charge(items.len())?;
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            match self.object(item)? {
                Object::List(pair) | Object::Tuple(pair) if pair.len() == 2 => {
                    entries.push((pair[0], pair[1]))
                }
                _ => bail!("an OrderedDict is made of what are no pairs; the file is damaged"),
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
        dtype: Option<Kind>,
        [offset, shape, stride]: [Id; 3],
    ) -> Result<()> {
        let Object::Storage(storage) = self.object(storage)?.clone() else {
            bail!("a tensor has no storage; the file is damaged");
        };
        let kind = dtype
            .or(storage.kind)
            .context("a tensor of an untyped storage has no dtype; the file is damaged")?;
        // A storage of bytes counts bytes; its tensors count their elements.
        let storage_numel = match storage.kind {
            Some(_) => storage
                .start
                .checked_add(storage.numel)
                .context("a view of a storage overflows")?,
            None => storage.numel / element_bytes(kind)? as i64,
        };
        let offset = self
            .number(offset)?
            .checked_add(storage.start)
            .context("a tensor's offset overflows")?;
        let (shape, stride) = (self.numbers(shape)?, self.numbers(stride)?);
        self.charge(shape.len() + stride.len())?;
        let view = TensorView {
            kind,
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

    /// Attributes of an object. Ours have none that matter; `_metadata` of a state dict is the only one seen.
    pub(super) fn build(&mut self) -> Result<()> {
        self.pop()?;
        match self.object(self.top()?)? {
            Object::Dict { .. } | Object::Leaf(Value::Tensor(_)) => Ok(()),
            _ => bail!(
                "attributes are given to what is neither dict nor tensor; the file is damaged"
            ),
        }
    }

    /// `("storage", class, key, device, elements[, (key, start, elements) of a view])`.
    pub(super) fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let Object::Tuple(parts) = self.object(id)? else {
            bail!("a storage is described by what is no tuple; the file is damaged");
        };
        let (&[tag, class, key, _device, numel], view) = match parts.len() {
            5 | 6 => (
                parts
                    .first_chunk::<5>()
                    .context("a storage is not described")?,
                parts.get(5),
            ),
            n => bail!("a storage is described by {n} parts, not 5 or 6; the file is damaged"),
        };
        let (
            Object::Leaf(tag),
            &Object::Global(Global::StorageClass(kind)),
            Object::Leaf(Value::Str(key)),
        ) = (self.object(tag)?, self.object(class)?, self.object(key)?)
        else {
            bail!("a storage has no class or no key; the file is damaged");
        };
        ensure!(
            tag.as_str() == Some("storage"),
            "an external object is no storage; the file is damaged"
        );
        let mut storage = Storage {
            kind,
            key: key.clone(),
            start: 0,
            numel: self.number(numel)?,
        };
        if let Some(&view) = view
            && let Object::Tuple(view) = self.object(view)?
        {
            let &[_, start, numel] = &view[..] else {
                bail!(
                    "a view of a storage is described by {} parts, not 3; the file is damaged",
                    view.len()
                );
            };
            (storage.start, storage.numel) = (self.number(start)?, self.number(numel)?);
        }
        ensure!(
            storage.start >= 0 && storage.numel >= 0,
            "a storage has a negative size; the file is damaged"
        );
        self.storages.entry(storage.key.clone()).or_insert(kind);
        self.push(Object::Storage(storage))
    }
}

/// The names that stand for data; everything else a pickle may call is refused, by name.
fn allowed(module: &str, name: &str) -> Result<Global> {
    let storage = || {
        name.ends_with("Storage")
            .then(|| kind_named(name))
            .flatten()
    };
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "Size") => Global::Size,
        ("torch", "device") => Global::Device,
        ("_codecs", "encode") => Global::Encode,
        ("torch.storage", "UntypedStorage") | ("torch", "UntypedStorage") => {
            Global::StorageClass(None)
        }
        ("torch" | "torch.cuda", _) if storage().is_some() => Global::StorageClass(storage()),
        ("torch", _) => match kind_named(name).filter(|_| !name.ends_with("Storage")) {
            Some(kind) => Global::Dtype(kind),
            None => return foreign(module, name),
        },
        _ => return foreign(module, name),
    })
}

fn foreign(module: &str, name: &str) -> Result<Global> {
    /// Names longer than this are shown in part.
    const SHOWN: usize = 80;
    let full: String = format!("{module}.{name}").chars().take(SHOWN).collect();
    bail!(
        "it uses the Python name {full:?}, which is neither tensor nor plain data and is never run here; \
         load the file with the program that wrote it and save its state_dict alone"
    )
}
