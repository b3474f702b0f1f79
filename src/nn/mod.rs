//! Layers, packed batches, optimizers: what models are built from. No configuration, no data set.

pub mod layers;
pub mod lstm;
pub mod optim;
pub mod packed;
pub mod parameters;
pub mod ragged;
mod staging;
pub mod table;
