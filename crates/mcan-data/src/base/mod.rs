//! Tools of every room: atomic files, memory maps, locks, texts of failures, printing.

pub mod atomic;
pub mod errors;
pub mod lock;
pub mod mapped;
pub mod output;
