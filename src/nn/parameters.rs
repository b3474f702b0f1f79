//! The named parameters of the network, in the order of the reference's `state_dict`, and their initial values.
//!
//! tch's own `nn` is not used: its variable store has no order, and its defaults differ from PyTorch's.

use super::layers::or_oom;
use crate::native::random::Generator;
use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// Parameters in `state_dict` order. Clones of a tensor share its memory, so the layers hold the same parameters.
#[derive(Debug, Default)]
pub struct Parameters {
    /// Names as in the reference, such as `backbone.enc_list.0.mhatt.linear_v.weight`.
    pub names: Vec<String>,
    /// Leaf tensors that require a gradient, float32.
    pub tensors: Vec<Tensor>,
}

impl Parameters {
    /// (name, shape) of each parameter.
    pub fn shapes(&self) -> Vec<(String, Vec<i64>)> {
        self.names
            .iter()
            .cloned()
            .zip(self.tensors.iter().map(Tensor::size))
            .collect()
    }

    /// Copies `values` (one per parameter, same shapes) into the parameters.
    ///
    /// # Errors
    /// When the number of tensors or a shape differs.
    pub fn assign(&self, values: &[Tensor]) -> Result<()> {
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
    generator: &'a mut Generator,
    prefix: String,
    device: Device,
}

impl<'a> Path<'a> {
    /// The root; what is created under it is drawn from `generator`, which is of the CPU so that a seed means the same
    /// network on every device, and is appended to `parameters`.
    pub fn root(
        parameters: &'a mut Parameters,
        generator: &'a mut Generator,
        device: Device,
    ) -> Path<'a> {
        Path {
            parameters,
            generator,
            prefix: String::new(),
            device,
        }
    }

    /// The child of this name.
    pub fn sub(&mut self, name: impl std::fmt::Display) -> Path<'_> {
        let prefix = format!("{}{name}.", self.prefix);
        Path {
            parameters: self.parameters,
            generator: self.generator,
            prefix,
            device: self.device,
        }
    }

    /// A parameter drawn uniformly from ±`bound`.
    pub fn uniform(&mut self, name: &str, shape: &[i64], bound: f64) -> Tensor {
        let initial = or_oom(self.generator.uniform(shape, bound));
        self.add(name, initial)
    }

    /// A parameter drawn from the standard normal distribution.
    pub fn normal(&mut self, name: &str, shape: &[i64]) -> Tensor {
        let initial = or_oom(self.generator.normal(shape));
        self.add(name, initial)
    }

    /// A parameter filled with one value.
    pub fn constant(&mut self, name: &str, shape: &[i64], value: f64) -> Tensor {
        self.add(name, Tensor::full(shape, value, (Kind::Float, Device::Cpu)))
    }

    fn add(&mut self, name: &str, initial: Tensor) -> Tensor {
        let tensor = initial.to_device(self.device).set_requires_grad(true);
        self.parameters.names.push(format!("{}{name}", self.prefix));
        self.parameters.tensors.push(tensor.shallow_clone());
        tensor
    }
}
