//! The named parameters of the network, in the order of the reference's `state_dict`, and their initial values.
//!
//! tch's own `nn` is not used: its variable store has no order, and its defaults differ from PyTorch's.

use super::pass::or_oom;
use crate::native::random::Generator;
use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// Parameters in `state_dict` order. Clones of a tensor share its memory, so the layers hold the same parameters.
#[derive(Debug, Default)]
pub struct Parameters {
    /// Names as in the reference, such as `backbone.enc_list.0.mhatt.linear_v.weight`.
    pub names: Vec<String>,
    /// Leaf tensors, float32. They require a gradient, but for those that the model does not use.
    pub tensors: Vec<Tensor>,
}

impl Parameters {
    /// (name, shape) of each parameter.
    pub(crate) fn shapes(&self) -> Vec<(String, Vec<i64>)> {
        self.names
            .iter()
            .cloned()
            .zip(self.tensors.iter().map(Tensor::size))
            .collect()
    }

    /// The parameters that the model uses.
    pub(crate) fn used(&self) -> Vec<Tensor> {
        let used = self.tensors.iter().filter(|tensor| tensor.requires_grad());
        used.map(Tensor::shallow_clone).collect()
    }

    /// Copies `values` (one per parameter, same shapes) into the parameters.
    ///
    /// # Errors
    /// When the number of tensors or a shape differs.
    pub(crate) fn assign(&self, values: &[Tensor]) -> Result<()> {
        ensure!(
            values.len() == self.tensors.len(),
            "{} tensors for {} parameters",
            values.len(),
            self.tensors.len()
        );
        tch::no_grad(|| {
            for ((name, parameter), value) in self.names.iter().zip(&self.tensors).zip(values) {
                ensure!(
                    parameter.size() == value.size(),
                    "{name}: {:?} is not {:?}",
                    value.size(),
                    parameter.size()
                );
                parameter.shallow_clone().f_copy_(value)?;
            }
            Ok(())
        })
    }
}

/// A place in the tree of parameters, such as `backbone.enc_list.0`, where layers create theirs.
pub struct Path<'a> {
    parameters: &'a mut Parameters,
    /// Absent when only names and shapes are wanted.
    generator: Option<&'a mut Generator>,
    prefix: String,
    device: Device,
    is_used: bool,
}

impl<'a> Path<'a> {
    /// The root of the tree. A new parameter is drawn from `generator` and appended to `parameters`. The generator is
    /// on the CPU, so that a seed means the same network on every device.
    pub fn root(
        parameters: &'a mut Parameters,
        generator: &'a mut Generator,
        device: Device,
    ) -> Path<'a> {
        Path {
            parameters,
            generator: Some(generator),
            prefix: String::new(),
            device,
            is_used: true,
        }
    }

    /// A root whose parameters have names and shapes but no memory of their own, to count them or to compare them with
    /// a checkpoint.
    pub(crate) fn shapes_only(parameters: &'a mut Parameters) -> Path<'a> {
        Path {
            parameters,
            generator: None,
            prefix: String::new(),
            device: Device::Cpu,
            is_used: true,
        }
    }

    /// The device of the parameters.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// The child of this name.
    pub(crate) fn sub(&mut self, name: impl std::fmt::Display) -> Path<'_> {
        let prefix = format!("{}{name}.", self.prefix);
        Path {
            parameters: self.parameters,
            generator: self.generator.as_deref_mut(),
            prefix,
            device: self.device,
            is_used: self.is_used,
        }
    }

    /// The same place for parameters that the model has, but does not use: they get no gradient, and no moments in the
    /// optimizer.
    pub(crate) fn unused(self) -> Path<'a> {
        Path {
            is_used: false,
            ..self
        }
    }

    /// The child of this name; consumes the path.
    pub(crate) fn into_sub(self, name: impl std::fmt::Display) -> Path<'a> {
        let prefix = format!("{}{name}.", self.prefix);
        Path { prefix, ..self }
    }

    /// A parameter drawn uniformly from ±`bound`.
    pub(crate) fn uniform(&mut self, name: &str, shape: &[i64], bound: f64) -> Tensor {
        let initial = match &mut self.generator {
            Some(generator) => or_oom(generator.uniform(shape, bound)),
            None => without_memory(shape),
        };
        self.add(name, initial)
    }

    /// A parameter drawn from the standard normal distribution.
    pub(crate) fn normal(&mut self, name: &str, shape: &[i64]) -> Tensor {
        let initial = match &mut self.generator {
            Some(generator) => or_oom(generator.normal(shape)),
            None => without_memory(shape),
        };
        self.add(name, initial)
    }

    /// A parameter filled with one value.
    pub(crate) fn constant(&mut self, name: &str, shape: &[i64], value: f64) -> Tensor {
        let initial = match self.generator {
            Some(_) => Tensor::full(shape, value, (Kind::Float, Device::Cpu)),
            None => without_memory(shape),
        };
        self.add(name, initial)
    }

    fn add(&mut self, name: &str, initial: Tensor) -> Tensor {
        let tensor = initial
            .to_device(self.device)
            .set_requires_grad(self.is_used);
        self.parameters.names.push(format!("{}{name}", self.prefix));
        self.parameters.tensors.push(tensor.shallow_clone());
        tensor
    }
}

/// A tensor of this shape whose elements all share one number in memory.
fn without_memory(shape: &[i64]) -> Tensor {
    let implicit = false;
    Tensor::zeros([], (Kind::Float, Device::Cpu)).expand(shape, implicit)
}
