//! Files that are whole or absent: written to a temporary sibling, synced, then renamed over the target.
//!
//! Everything this program leaves behind for others to read goes through [`write()`]; only the log is appended to. A
//! program that is killed leaves its temporary sibling behind; the next write in that folder removes it, which is safe
//! because a living program has its siblings locked.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;
use tempfile::NamedTempFile;

#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;

/// How the names of temporary siblings begin.
const PREFIX: &str = ".partial-";

/// Writes `path` through `body`, creating its folder when missing; on any error the old file, if there is one, stays.
///
/// # Errors
/// Whatever `body` returns, and any failure to create, sync or rename, each naming `path`.
pub fn write<T>(path: &Path, body: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
    let cannot = || format!("cannot write {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    make_folder(folder).with_context(cannot)?;
    remove_orphans(folder);
    let sibling = sibling(folder).with_context(cannot)?;
    let mut writer = Writer {
        buffer: BufWriter::with_capacity(1 << 20, sibling.as_file()),
        position: 0,
        failed: false,
    };
    let value = body(&mut writer).with_context(cannot)?;
    ensure!(!writer.failed, "{}", cannot());
    writer.flush().with_context(cannot)?;
    drop(writer);
    sibling.as_file().sync_all().with_context(cannot)?;
    sibling
        .persist(path)
        .map_err(|e| e.error)
        .with_context(cannot)?;
    sync_folder(folder).with_context(cannot)?;
    Ok(value)
}

/// Makes `folder` and those above it that are missing, to survive a power cut.
///
/// # Errors
/// When one cannot be made.
pub fn make_folder(folder: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|folder| !folder.exists())
        .collect();
    fs::create_dir_all(folder)?;
    missing
        .into_iter()
        .filter_map(Path::parent)
        .try_for_each(sync_folder)
}

/// Makes sure that a power cut does not undo what was made or renamed in `folder`.
///
/// # Errors
/// When the disk fails.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot do it for folders.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// What a body writes to. After an error, which the body gets, the rest is accepted and dropped: a zip archive that cannot
/// be ended properly would complain on standard error.
pub struct Writer<'a> {
    buffer: BufWriter<&'a File>,
    /// Where the next byte goes, or would go.
    position: u64,
    failed: bool,
}

impl Writer<'_> {
    fn noting<T>(&mut self, done: std::io::Result<T>) -> std::io::Result<T> {
        self.failed |= done
            .as_ref()
            .is_err_and(|error| error.kind() != ErrorKind::Interrupted);
        done
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let done = if self.failed {
            Ok(bytes.len())
        } else {
            self.buffer.write(bytes)
        };
        self.position += *done.as_ref().unwrap_or(&0) as u64;
        self.noting(done)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let done = if self.failed {
            Ok(())
        } else {
            self.buffer.flush()
        };
        self.noting(done)
    }
}

impl Seek for Writer<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let done = match to {
            _ if !self.failed => self.buffer.seek(to),
            SeekFrom::Start(position) => Ok(position),
            SeekFrom::Current(by) | SeekFrom::End(by) => {
                Ok(self.position.saturating_add_signed(by))
            }
        };
        self.position = *done.as_ref().unwrap_or(&self.position);
        self.noting(done)
    }
}

/// A new temporary file in `folder`, removed when dropped, and locked as long as its program lives.
///
/// # Errors
/// When no file can be made there.
pub fn sibling(folder: &Path) -> std::io::Result<NamedTempFile> {
    loop {
        let sibling = builder().prefix(PREFIX).tempfile_in(folder)?;
        // Where files cannot be locked, `remove_orphans` removes none.
        let _ = sibling.as_file().lock();
        // Another program may have taken it for an orphan before it was locked.
        if sibling.path().exists() {
            return Ok(sibling);
        }
    }
}

/// Removes the temporary files of programs that were killed.
pub fn remove_orphans(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && let Ok(file) = File::open(entry.path())
            && !matches!(
                file.try_lock(),
                Err(TryLockError::WouldBlock | TryLockError::Error(_))
            )
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Temporary files are private to their owner, unless said otherwise; these become results, which are shared like any new
/// file of the user's (umask).
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(fs::Permissions::from_mode(0o666));
    builder
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
        assert!(
            message.contains("answer.json") && message.contains("disk on fire"),
            "{message}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_program_left_is_removed_and_what_a_living_one_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let orphan = folder.path().join(".partial-killed");
        fs::write(&orphan, "half").unwrap();
        let living = sibling(folder.path()).unwrap();
        write(&folder.path().join("a"), |w| Ok(w.write_all(b"a")?)).unwrap();
        assert!(!orphan.exists() && living.path().exists());
    }
    #[cfg(unix)]
    #[test]
    fn what_is_written_may_be_read_by_whom_other_new_files_may() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            fs::metadata(folder.path().join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        write(&folder.path().join("ours"), |w| Ok(w.write_all(b"a")?)).unwrap();
        fs::write(folder.path().join("any"), "a").unwrap();
        assert_eq!(mode("ours"), mode("any"));
    }
}
