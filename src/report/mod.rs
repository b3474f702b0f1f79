//! Reports of a run: the log in the reference's format, progress on standard error, and the time profile.

mod log;
mod profile;
mod progress;

pub use log::{Log, LogState, python_float};
pub use profile::{Phase, Profile};
pub use progress::Progress;
