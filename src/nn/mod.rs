//! The parts that models and training are built from: operations, layers, packed batches, losses, optimizers.

pub mod layers;
pub mod loss;
pub(crate) mod ops;
pub mod optim;
pub mod packed;
pub mod parameters;
pub mod pass;
pub(crate) mod ragged;
mod staging;
pub(crate) mod table;
