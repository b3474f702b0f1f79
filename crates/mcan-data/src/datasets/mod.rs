//! The data sets: each with its files and its metric.

pub mod demo;
pub mod vqa2;
