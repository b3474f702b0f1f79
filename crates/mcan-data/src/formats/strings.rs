//! Numbers distinct strings, so that a million repeated words or answers take little memory.

use anyhow::Result;

/// Distinct strings, numbered in order of first appearance.
pub(crate) type Strings = indexmap::IndexSet<String, rustc_hash::FxBuildHasher>;

/// The number of `string`, which is added if it is new.
///
/// # Errors
/// There are more than 2^32 strings.
pub(crate) fn intern(strings: &mut Strings, string: &str) -> Result<u32> {
    let at = match strings.get_index_of(string) {
        Some(at) => at,
        None => strings.insert_full(string.to_owned()).0,
    };
    Ok(u32::try_from(at)?)
}
