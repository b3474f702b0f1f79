//! What a run tells: the log in the reference's format, and progress on standard error.

mod log;
mod progress;

pub use log::{Log, LogState, python_float};
pub use progress::Progress;
