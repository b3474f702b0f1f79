//! Rows of different lengths in one flat vector: a million short lists without a million allocations.

/// Row `i` of a `RaggedVec` is `flat[ends[i - 1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RaggedVec<T> {
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

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Row `i`; panics like a slice when there is none.
    pub fn row(&self, i: usize) -> &[T] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.flat[start..self.ends[i]]
    }
}
