//! Adam with a state that can be saved, and the learning rate as a pure function of step and epoch.

mod adam;
mod schedule;

pub use adam::Adam;
pub use schedule::Schedule;
