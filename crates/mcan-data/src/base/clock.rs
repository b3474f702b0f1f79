//! The time of day.

use chrono::{DateTime, Local};
use std::time::SystemTime;

/// The time by the clock of the machine, which may be wrong by decades: chrono's own function panics before 1970.
pub fn now() -> DateTime<Local> {
    SystemTime::now().into()
}
