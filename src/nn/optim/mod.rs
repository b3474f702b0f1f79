//! Optimizers with a state that can be saved, and the learning rate as a pure function of step and epoch.

mod optimizer;
mod schedule;

pub use optimizer::{HyperParameters, Optimizer};
pub(crate) use schedule::{Schedule, ScheduleKeys};
