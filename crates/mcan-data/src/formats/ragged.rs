//! Rows of different lengths in one flat vector, so that a million short lists take two allocations.

/// Rows of different lengths. Row `i` is `flat[ends[i - 1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RaggedVec<T> {
    flat: Vec<T>,
    ends: Vec<usize>,
}

impl<T> RaggedVec<T> {
    /// No rows yet.
    pub fn new() -> Self {
        Self {
            flat: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: impl IntoIterator<Item = T>) {
        self.flat.extend(row);
        self.ends.push(self.flat.len());
    }

    /// Row `i`. Panics if there is no such row, as a slice does.
    pub fn row(&self, i: usize) -> &[T] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.flat[start..self.ends[i]]
    }
}
