//! Files that are whole or absent: written to a temporary sibling, synced, then renamed over the target.
//!
//! Everything this program leaves behind for others to read goes through [`write()`]; only the log is appended to.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes `path` through `body`, creating its folder when missing; on any error the old file, if there is one, stays.
///
/// # Errors
/// Whatever `body` returns, and any failure to create, sync or rename, each naming `path`.
pub fn write<T>(path: &Path, body: impl FnOnce(&mut BufWriter<&File>) -> Result<T>) -> Result<T> {
    let cannot = || format!("cannot write {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).with_context(cannot)?;
    let sibling = tempfile::Builder::new().prefix(".partial-").tempfile_in(folder).with_context(cannot)?;
    let mut writer = BufWriter::with_capacity(1 << 20, sibling.as_file());
    let value = body(&mut writer).with_context(cannot)?;
    writer.flush().with_context(cannot)?;
    drop(writer);
    sibling.as_file().sync_all().with_context(cannot)?;
    make_readable(sibling.as_file()).with_context(cannot)?;
    sibling.persist(path).map_err(|e| e.error).with_context(cannot)?;
    // The rename itself survives a power cut only when the folder is synced too.
    File::open(folder).and_then(|f| f.sync_all()).with_context(cannot)?;
    Ok(value)
}

/// Temporary files are private to their owner; results are shared like any other new file.
#[cfg(unix)]
fn make_readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_file: &File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_body_leaves_the_old_file_and_no_sibling() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/answer.json");
        write(&path, |w| Ok(w.write_all(b"old")?)).unwrap();
        let failed = write(&path, |w| -> Result<()> {
            w.write_all(b"half of the ne")?;
            anyhow::bail!("disk on fire")
        });
        let message = format!("{:#}", failed.unwrap_err());
        assert!(message.contains("answer.json") && message.contains("disk on fire"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
