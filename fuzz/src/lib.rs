//! What the fuzz targets share: a file to hand bytes to readers that take a path.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

// One folder per process: making one for every input would cost more than reading the input.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    tempfile::Builder::new()
        .prefix("mcan-fuzz-")
        .tempdir()
        .expect("a temporary folder")
        .keep()
});

/// The folder of this process, for targets that need several files.
pub fn folder() -> &'static Path {
    &FOLDER
}

/// Writes `bytes` to a file called `name`, and gives its path.
///
/// Readers map their files, so nothing that borrows from an earlier one of that name may still be alive.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("the temporary folder is writable");
    path
}
