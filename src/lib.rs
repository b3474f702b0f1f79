//! `mcan` trains and evaluates Deep Modular Co-Attention Networks (Yu et al., CVPR 2019) on VQA-v2.

pub mod atomic;
pub mod cli;
pub mod config;
pub mod checkpoint;
pub mod data;
pub mod evaluation;
pub mod text;
