//! `mcan` trains and evaluates Deep Modular Co-Attention Networks (Yu et al., CVPR 2019) on VQA-v2.

pub mod atomic;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod data;
pub mod distributed;
pub mod engine;
pub mod evaluation;
pub mod model;
pub mod native;
pub mod optimizer;
pub mod paths;
pub mod report;
pub mod text;
