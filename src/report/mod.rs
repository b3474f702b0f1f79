//! What a run tells: the log in the reference's format, and progress on standard error, and
//! where the time went.

mod log;
mod profile;
mod progress;

pub use log::{Log, LogState, python_float};
pub use profile::{Phase, Profile};
pub use progress::Progress;
