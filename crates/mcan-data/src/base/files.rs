//! Looking at the files of users, and reading them whole.
//!
//! The methods of the standard library take every error for absence: a link to a disk that is not mounted, or a network
//! file system that fails once, would look as if the file did not exist, and the program would make one of its own. Here
//! only what is certainly absent is absent; everything else is an error that names the path. Clippy forbids the others.

#![allow(clippy::disallowed_methods, reason = "they are wrapped here")]

use super::memory;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{DirEntry, File, Metadata};
use std::io::{ErrorKind, Read};
use std::path::Path;

#[cfg(unix)]
use std::os::unix::fs::FileTypeExt;

/// What has this path, links followed; `None` if nothing has.
///
/// # Errors
/// A link that leads nowhere, or a path that the system cannot tell about.
pub fn look(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(found) => return Ok(Some(found)),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot look at {}", path.display()));
        }
        Err(_) => {}
    }
    // A folder above may be the link that leads nowhere.
    for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
        if let Ok(target) = std::fs::read_link(part) {
            ensure!(
                std::fs::metadata(part).is_ok(),
                "{} is a link to {}, which is not there; is its disk mounted?",
                part.display(),
                target.display()
            );
        }
        if std::fs::symlink_metadata(part).is_ok() {
            break;
        }
    }
    Ok(None)
}

/// Whether something has this path.
///
/// # Errors
/// Those of [`look`].
pub fn exists(path: &Path) -> Result<bool> {
    Ok(look(path)?.is_some())
}

/// Whether a file has this path: something that is no folder, so also a pipe.
///
/// # Errors
/// Those of [`look`].
pub fn is_file(path: &Path) -> Result<bool> {
    Ok(look(path)?.is_some_and(|found| !found.is_dir()))
}

/// Whether a folder has this path.
///
/// # Errors
/// Those of [`look`].
pub fn is_folder(path: &Path) -> Result<bool> {
    Ok(look(path)?.is_some_and(|found| found.is_dir()))
}

/// What is in a folder; nothing if there is no such folder.
///
/// # Errors
/// A folder that cannot be listed.
pub fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    if !exists(folder)? {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect);
    entries.with_context(|| format!("cannot list {}", folder.display()))
}

/// Opens a file or a pipe.
///
/// # Errors
/// Nothing there, a folder, a device, or a file that may not be read; the message has the path.
pub fn open(path: &Path) -> Result<File> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let found = file
        .metadata()
        .with_context(|| format!("cannot look at {shown}"))?;
    ensure!(!found.is_dir(), "{shown} is a folder, not a file");
    #[cfg(unix)]
    {
        let kind = found.file_type();
        let is_device = kind.is_char_device() || kind.is_block_device();
        ensure!(!is_device, "{shown} is a device, not a file");
    }
    Ok(file)
}

/// Reads a file or pipe that has at most `most` bytes.
///
/// # Errors
/// Those of [`open`]; a longer file; no memory for it.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    read_open(open(path)?, path, most)
}

/// Reads `file`, which was opened at `path`, to its end. It has at most `most` bytes.
///
/// # Errors
/// A longer file, one that cannot be read, no memory for it.
pub(crate) fn read_open(file: File, path: &Path, most: u64) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let claimed = file.metadata().with_context(cannot)?.len();
    let mut bytes = Vec::new();
    // Some file systems do not know the size of a file, and a pipe has none.
    let known = usize::try_from(claimed.min(most)).unwrap_or(0);
    let reserved = memory::fallible(|| bytes.try_reserve_exact(known.saturating_add(1)));
    reserved
        .map_err(|_| no_memory(claimed))
        .with_context(cannot)?;
    // What is longer than it said, such as a pipe, grows with the same care.
    let mut file = file.take(most.saturating_add(1));
    loop {
        let grown = memory::fallible(|| bytes.try_reserve(1));
        grown
            .map_err(|_| no_memory(bytes.len() as u64))
            .with_context(cannot)?;
        let room = bytes.capacity() - bytes.len();
        let read = file.by_ref().take(room as u64).read_to_end(&mut bytes);
        if read.with_context(cannot)? == 0 {
            break;
        }
    }
    if bytes.len() as u64 > most {
        bail!(
            "{} is longer than {most} bytes, the most that such a file has; is it another file?",
            path.display()
        );
    }
    Ok(bytes)
}

/// The error of memory that ran out when `bytes` were asked for.
pub fn no_memory(bytes: u64) -> anyhow::Error {
    let megabytes = bytes.div_ceil(1_000_000);
    anyhow::anyhow!("memory ran out: {megabytes} MB more was needed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn only_what_is_certainly_absent_is_absent() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(!exists(&at("none")).unwrap() && !exists(&at("none/file")).unwrap());
        assert!(entries(&at("none")).unwrap().is_empty());
        symlink("/not/mounted", at("link")).unwrap();
        for path in [at("link"), at("link/file"), at("link/deep/file")] {
            let message = format!("{:#}", exists(&path).unwrap_err());
            assert!(
                message.contains("link is a link to /not/mounted"),
                "{message}"
            );
        }
        assert!(entries(&at("link")).is_err());
        symlink("round", at("round")).unwrap();
        let message = format!("{:#}", is_file(&at("round")).unwrap_err());
        assert!(
            message.contains("cannot look at") && message.contains("round"),
            "{message}"
        );
        std::fs::write(at("file"), "x").unwrap();
        assert!(is_file(&at("file")).unwrap() && !is_folder(&at("file")).unwrap());
        // A file where a folder is meant is no absence either.
        assert!(exists(&at("file/inside")).is_err());
        symlink(at("file"), at("good")).unwrap();
        assert!(is_file(&at("good")).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_named_and_a_long_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let message = |path: &Path| format!("{:#}", read(path, 4).unwrap_err());
        assert!(message(folder.path()).contains("is a folder"));
        assert!(message(Path::new("/dev/zero")).contains("/dev/zero is a device"));
        std::fs::write(&path, "12345").unwrap();
        assert!(
            message(&path).contains("longer than 4 bytes"),
            "{}",
            message(&path)
        );
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
    }
}
