//! Atomic files: each is written to a temporary file beside it, synced, then renamed, so that it is whole or absent.
//!
//! All output files go through [`write()`], except the log, which is appended to. A killed program leaves its temporary
//! file behind. The next write in that folder removes the file, unless a living program holds a lock on it. Files of other
//! programs are never removed: the names of ours are unmistakable.

use super::files;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;
use tempfile::NamedTempFile;

#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;

/// The names of temporary files: this, [`RANDOM`] letters and digits, and [`SUFFIX`].
const PREFIX: &str = ".mcan-";
const RANDOM: usize = 6;
const SUFFIX: &str = ".partial";

/// Writes the file at `path` with `body`, and makes its folder if it is missing. After an error the old file is unchanged.
///
/// # Errors
/// Those of `body`, and each failure to create, sync or rename. Each names `path`.
pub fn write<T>(path: &Path, body: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
    write_and(path, body, |temporary| {
        temporary.persist(path).map(drop).map_err(|e| e.error)
    })
}

/// As [`write()`], but never replaces a file: another program may have made one since the caller has looked.
///
/// # Errors
/// Those of [`write()`]; and when there is a file of this name.
pub fn write_new<T>(path: &Path, body: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
    write_and(path, body, |temporary| {
        temporary
            .persist_noclobber(path)
            .map(drop)
            .map_err(|e| e.error)
    })
}

fn write_and<T>(
    path: &Path,
    body: impl FnOnce(&mut Writer) -> Result<T>,
    name: impl FnOnce(NamedTempFile) -> std::io::Result<()>,
) -> Result<T> {
    let cannot = || format!("cannot write {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    make_folder(folder).with_context(cannot)?;
    remove_orphans(folder);
    let temporary = temporary_file(folder).with_context(cannot)?;
    let mut writer = Writer {
        buffer: BufWriter::with_capacity(1 << 20, temporary.as_file()),
        position: 0,
        failed: false,
    };
    let value = body(&mut writer).with_context(cannot)?;
    ensure!(!writer.failed, "{}", cannot());
    writer.flush().with_context(cannot)?;
    drop(writer);
    sync(temporary.as_file()).with_context(cannot)?;
    name(temporary).with_context(cannot)?;
    sync_folder(folder).with_context(cannot)?;
    Ok(value)
}

/// Makes `folder` and all missing folders above it, and syncs them, so that they survive a power cut.
///
/// # Errors
/// When a folder cannot be made or synced.
pub fn make_folder(folder: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        // `create_dir_all` says what is wrong with a folder that cannot be looked at.
        .take_while(|folder| files::exists(folder).is_ok_and(|there| !there))
        .collect();
    fs::create_dir_all(folder)?;
    missing
        .into_iter()
        .filter_map(Path::parent)
        .try_for_each(sync_folder)
}

/// Syncs `folder`, so that new and renamed files in it survive a power cut, where the file system can do that.
///
/// # Errors
/// When the names do not reach the disk.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    match File::open(folder) {
        // Files can be made in a folder that must not be listed; it cannot be synced.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        opened => sync(&opened?),
    }
}

/// Syncs `file`, where the file system can do that.
///
/// # Errors
/// When the content does not reach the disk.
pub fn sync(file: &File) -> std::io::Result<()> {
    file.sync_all().or_else(|error| {
        // Some systems say of a folder that it is not open for writing.
        let unable = [
            libc::EINVAL,
            libc::ENOSYS,
            libc::EOPNOTSUPP,
            libc::ENOTTY,
            libc::EBADF,
        ];
        let code = error.raw_os_error().unwrap_or(0);
        if unable.contains(&code) {
            Ok(())
        } else {
            Err(error)
        }
    })
}

/// The buffered file that a body writes to.
///
/// After the first error, which the body gets, the writer drops all further bytes without an error: a zip writer that
/// cannot end its archive would print a complaint to standard error.
pub struct Writer<'a> {
    buffer: BufWriter<&'a File>,
    /// Position of the next byte; it advances after an error too.
    position: u64,
    failed: bool,
}

impl Writer<'_> {
    /// Remembers a failure.
    fn note_failure<T>(&mut self, done: std::io::Result<T>) -> std::io::Result<T> {
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
        self.note_failure(done)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let done = if self.failed {
            Ok(())
        } else {
            self.buffer.flush()
        };
        self.note_failure(done)
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
        self.note_failure(done)
    }
}

/// Makes a temporary file in `folder`. It is removed when it is dropped, and locked while its program lives.
///
/// # Errors
/// When no file can be made there.
pub fn temporary_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    loop {
        let file = builder().tempfile_in(folder)?;
        // Where files cannot be locked, `remove_orphans` removes none.
        let _ = file.as_file().lock();
        // Another program may have removed the file as an orphan before it was locked.
        let is_removed = |error: std::io::Error| error.kind() == ErrorKind::NotFound;
        if !fs::symlink_metadata(file.path()).is_err_and(is_removed) {
            return Ok(file);
        }
    }
}

/// Removes the temporary files of programs that were killed.
pub fn remove_orphans(folder: &Path) {
    for entry in files::entries(folder).into_iter().flatten() {
        if is_temporary(&entry.file_name().to_string_lossy())
            && entry.file_type().is_ok_and(|kind| kind.is_file())
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

/// Whether a temporary file of this program has this name.
fn is_temporary(name: &str) -> bool {
    let middle = name.strip_prefix(PREFIX);
    let middle = middle.and_then(|rest| rest.strip_suffix(SUFFIX));
    middle.is_some_and(|middle| {
        middle.len() == RANDOM && middle.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Options of temporary files. They become results, so they get the permissions of any new file (umask); by default only
/// their owner could read them.
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).rand_bytes(RANDOM).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(fs::Permissions::from_mode(0o666));
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_body_leaves_the_old_file_and_no_temporary_file() {
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

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_synced_is_no_error() {
        let null = File::open("/dev/null").unwrap();
        assert!(null.sync_all().is_err());
        sync(&null).unwrap();
    }

    #[test]
    fn temporary_files_of_killed_programs_are_removed_and_those_of_living_programs_stay() {
        let folder = tempfile::tempdir().unwrap();
        let orphan = folder.path().join(".mcan-a1B2c3.partial");
        let others = [
            ".partial-results.json",
            ".mcan-notes.partial",
            ".mcan-a1B2c3",
        ];
        let others = others.map(|name| folder.path().join(name));
        for file in others.iter().chain([&orphan]) {
            fs::write(file, "half").unwrap();
        }
        let living = temporary_file(folder.path()).unwrap();
        write(&folder.path().join("a"), |w| Ok(w.write_all(b"a")?)).unwrap();
        assert!(!orphan.exists() && living.path().exists());
        assert!(others.iter().all(|file| file.exists()));
    }

    #[test]
    fn a_new_file_replaces_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.json");
        write_new(&path, |w| Ok(w.write_all(b"first")?)).unwrap();
        let message = format!(
            "{:#}",
            write_new(&path, |w| Ok(w.write_all(b"second")?)).unwrap_err()
        );
        assert!(message.contains("answers.json"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[cfg(unix)]
    #[test]
    fn a_written_file_has_the_permissions_of_any_new_file() {
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
