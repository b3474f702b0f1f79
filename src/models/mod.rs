//! The models: equations, nothing else.

pub mod mcan;
