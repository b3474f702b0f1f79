//! Placeholder.
/// Placeholder.
pub struct Dataset;
