//! Helpers for the tests of both packages.

use std::path::{Path, PathBuf};

/// A file or folder below `MCAN_SHARED` (default `../shared` beside the checkout), or `None` after saying that the
/// test is skipped.
pub fn shared(path: &str) -> Option<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root =
        std::env::var_os("MCAN_SHARED").map_or_else(|| checkout.join("../shared"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!(
        "skipped: {} is not there (MCAN_SHARED names the folder of reference outputs)",
        found.display()
    );
    None
}
