//! Tools of every room: atomic files, looking at and reading files, memory maps, locks, texts of failures, printing.

pub mod atomic;
pub mod errors;
pub mod files;
pub mod lock;
pub mod mapped;
pub mod output;
