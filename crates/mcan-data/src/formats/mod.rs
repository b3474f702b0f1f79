//! Readers and writers of file formats. Each treats its file as untrusted: sizes are checked before memory is taken.

pub mod bank;
pub mod dtype;
pub mod json;
pub(crate) mod npy;
pub mod npz;
pub mod pickle;
pub mod pt;
pub mod python_json;
pub mod ragged;
pub mod strings;
pub mod tar;
