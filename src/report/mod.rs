//! Reports of a run: the log in the reference's format, progress on standard error, and the time profile.

mod log;
mod profile;
mod progress;

pub(crate) use log::{Log, LogState};
pub(crate) use profile::{Phase, Profile};
pub(crate) use progress::Progress;
