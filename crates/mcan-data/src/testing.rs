//! Helpers for the tests of both packages.

use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

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

/// A file of its own folder with this JSON.
pub fn write_json(value: &Value) -> (TempDir, PathBuf) {
    write_bytes("file.json", value.to_string().as_bytes())
}

/// A file of its own folder with this name and content.
#[allow(clippy::unwrap_used, reason = "a test that cannot write has failed")]
pub fn write_bytes(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}
