//! Helpers for the tests of both packages.

use std::path::{Path, PathBuf};
#[cfg(test)]
use {serde_json::Value, tempfile::TempDir};

/// A file or folder of reference outputs, below `MCAN_SHARED` (default `../shared` beside the checkout). If it is missing,
/// prints that the test is skipped and gives `None`.
pub fn shared(path: &str) -> Option<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root =
        std::env::var_os("MCAN_SHARED").map_or_else(|| checkout.join("../shared"), PathBuf::from);
    let found = root.join(path);
    if crate::base::files::exists(&found).unwrap_or(false) {
        return Some(found);
    }
    crate::note!(
        "skipped: {} is not there (MCAN_SHARED names the folder of reference outputs)",
        found.display()
    );
    None
}

/// Writes JSON to a file in a folder of its own.
#[cfg(test)]
pub(crate) fn write_json(value: &Value) -> (TempDir, PathBuf) {
    write_bytes("file.json", value.to_string().as_bytes())
}

/// Writes a file of this name to a folder of its own.
#[cfg(test)]
pub(crate) fn write_bytes(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}
