//! Layers: parameters with names as in a `state_dict`, and the operation of [`ops`](super::ops) that uses them.

mod attention;
mod linear;
mod lstm;
mod norm;
mod weight_norm;

pub use attention::{AttFlat, AttFlatSizes, MhAtt, Sequences};
pub use linear::{Linear, Mlp};
pub(crate) use lstm::Embedding;
pub use lstm::Lstm;
pub use norm::LayerNorm;
pub(crate) use weight_norm::WeightNormLinear;
