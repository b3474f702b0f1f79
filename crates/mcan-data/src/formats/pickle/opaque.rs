//! Objects of types that are neither tensor nor plain data: they keep the name of their type and lose their parts. Nothing
//! of them is ever run.

use super::Value;
use super::names::Global;
use super::read::{Id, Object, Reader};
use anyhow::{Result, bail};
use std::sync::Arc;

impl Reader<'_> {
    /// Pushes an object of the type `name` without its parts.
    pub(super) fn opaque(&mut self, name: &str) -> Result<()> {
        self.leaf(Value::Opaque(name.into()))
    }

    /// Whether the object on top of the stack lost its parts.
    pub(super) fn top_is_opaque(&self) -> Result<bool> {
        let top = self.object(self.top()?)?;
        Ok(matches!(top, Object::Leaf(Value::Opaque(_))))
    }

    /// Pushes the object that `callable` would make. It keeps the name of what would be called.
    pub(super) fn opaque_result(&mut self, callable: Id) -> Result<()> {
        let name: Arc<str> = match self.object(callable)? {
            Object::Leaf(Value::Opaque(name)) => name.clone(),
            Object::Global(_) => "a class".into(),
            _ => bail!("something that has no name would be called; the file is damaged"),
        };
        self.leaf(Value::Opaque(name))
    }

    /// An instance of a class: `class, arguments` or `class, arguments, named arguments` on the stack (protocol 2 and 4), or
    /// all after the mark (protocol 0 and 1).
    pub(super) fn instance(&mut self, opcode: u8) -> Result<()> {
        let class = match opcode {
            b'i' => {
                self.global()?;
                let class = self.pop()?;
                self.pop_mark()?;
                Some(class)
            }
            b'o' => self.pop_mark()?.first().copied(),
            0x92 => self.pop_n(3)?.first().copied(),
            _ => self.pop_n(2)?.first().copied(),
        };
        let Some(class) = class else {
            bail!("an instance has no class; the file is damaged");
        };
        match self.object(class)? {
            Object::Global(Global::OrderedDict | Global::DefaultDict) => self.push_ordered_dict(),
            _ => self.opaque_result(class),
        }
    }

    /// An object of the registry of `copyreg`, which only the program that wrote the file has.
    pub(super) fn extension(&mut self, opcode: u8) -> Result<()> {
        let width = 1 << (opcode - 0x82);
        let number = self.length(width)?;
        self.opaque(&format!("copyreg extension {number}"))
    }

    /// An object outside of the pickle, named by a line of text. PyTorch names storages otherwise.
    pub(super) fn persistent_line(&mut self) -> Result<()> {
        self.line()?;
        self.opaque("persistent object")
    }
}
