//! The Python names that stand for a form of data. No name is ever called.

use super::Value;
use super::read::{Object, Reader};
use crate::formats::dtype::Dtype;
use anyhow::{Result, bail};

/// A name of the list.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    DefaultDict,
    RebuildTensor,
    RebuildTensorV3,
    RebuildParameter,
    Size,
    Device,
    Encode,
    /// A storage class; the untyped one has no dtype.
    StorageClass(Option<Dtype>),
    Dtype(Dtype),
}

impl Reader<'_> {
    pub(super) fn global(&mut self) -> Result<()> {
        let (module, name) = (self.line()?, self.line()?);
        self.push(named(&module, &name))
    }

    pub(super) fn stack_global(&mut self) -> Result<()> {
        let parts = self.pop_n(2)?;
        let (Object::Leaf(Value::Str(module)), Object::Leaf(Value::Str(name))) =
            (self.object(parts[0])?, self.object(parts[1])?)
        else {
            bail!("a name is no string; the file is damaged");
        };
        let object = named(module, name);
        self.push(object)
    }
}

/// The class of a storage in PyTorch.
pub(super) fn storage_class(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::F32 => "FloatStorage",
        Dtype::F64 => "DoubleStorage",
        Dtype::I8 => "CharStorage",
        Dtype::I16 => "ShortStorage",
        Dtype::I32 => "IntStorage",
        Dtype::I64 => "LongStorage",
        Dtype::U8 => "ByteStorage",
        Dtype::Bool => "BoolStorage",
    }
}

/// The meaning of a name: a form of data, or an object that is skipped.
fn named(module: &str, name: &str) -> Object {
    let of = |name_of: fn(Dtype) -> &'static str| {
        let mut all = Dtype::ALL.into_iter();
        all.find(|&dtype| name_of(dtype) == name)
    };
    let global = match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
        ("torch._utils", "_rebuild_tensor_v3") => Some(Global::RebuildTensorV3),
        ("collections", "defaultdict") => Some(Global::DefaultDict),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Some(Global::RebuildParameter)
        }
        ("torch", "Size") => Some(Global::Size),
        ("torch", "device") => Some(Global::Device),
        ("_codecs", "encode") => Some(Global::Encode),
        ("torch" | "torch.storage", "UntypedStorage") => Some(Global::StorageClass(None)),
        ("torch" | "torch.cuda", _) if name.ends_with("Storage") => {
            of(storage_class).map(|dtype| Global::StorageClass(Some(dtype)))
        }
        ("torch", _) => of(Dtype::name).map(Global::Dtype),
        _ => None,
    };
    match global {
        Some(global) => Object::Global(global),
        None => Object::Leaf(Value::Opaque(shown(module, name).into())),
    }
}

fn shown(module: &str, name: &str) -> String {
    /// Longer names are shown in part.
    const MOST_CHARACTERS: usize = 80;
    let full = format!("{module}.{name}");
    full.chars().take(MOST_CHARACTERS).collect()
}
