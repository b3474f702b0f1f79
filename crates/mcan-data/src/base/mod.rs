//! What every room needs: files that are whole or absent, memory maps, locks, error texts, and who prints.

pub mod atomic;
pub mod errors;
pub mod lock;
pub mod mapped;
pub mod output;
