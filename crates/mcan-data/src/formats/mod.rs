//! Readers and writers of file formats. Each treats its file as untrusted: sizes are checked before memory is taken.

pub mod bank;
pub mod dtype;
pub mod hdf5;
pub mod json;
pub mod magic;
pub(crate) mod npy;
pub mod npz;
pub mod pickle;
pub mod pt;
pub(crate) mod python_json;
pub(crate) mod ragged;
pub(crate) mod strings;
pub(crate) mod tar;
pub(crate) mod yaml;
