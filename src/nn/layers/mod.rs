//! Layers: parameters with names as in a `state_dict`, and the operation of [`ops`](super::ops) that uses them.

mod attention;
mod linear;
mod norm;
mod recurrent;
mod relation;
mod weight_norm;

pub use attention::{AttFlat, AttFlatSizes, MhAtt, Sequences};
pub(crate) use linear::each_row;
pub use linear::{Linear, Mlp};
pub use norm::LayerNorm;
pub(crate) use recurrent::Embedding;
pub use recurrent::{Cell, Recurrent};
pub(crate) use relation::{RelationAttention, Relations};
pub(crate) use weight_norm::WeightNormLinear;
