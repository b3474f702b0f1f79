//! Tools of every room: atomic files, looking at and reading files, memory maps, memory, locks, texts of failures, printing.

pub mod atomic;
pub mod clock;
pub(crate) mod configs;
pub mod errors;
pub mod files;
pub mod lock;
pub mod mapped;
pub mod memory;
pub mod output;
