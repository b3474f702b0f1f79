//! One run per version at a time: a lock on the checkpoint folder that dies with the process that holds it.

use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Name of the lock file. It stays behind, empty of meaning: what counts is whether a living process has it locked.
const FILE_NAME: &str = ".lock";

/// Held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks `folder`, which is made when missing.
    ///
    /// # Errors
    /// Another process holds it, which is named as far as it is known; or the folder cannot be written to.
    pub fn take(folder: &Path) -> Result<Lock> {
        let path = folder.join(FILE_NAME);
        let cannot = || format!("cannot write in {}", folder.display());
        crate::base::atomic::make_folder(folder).with_context(cannot)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                // It may not have come to write its name yet.
                let owner = if owner.is_empty() {
                    "just begun"
                } else {
                    owner.trim()
                };
                bail!(
                    "another run ({owner}) is training in {}; wait for it to end, or choose another --VERSION",
                    folder.display()
                );
            }
            Err(TryLockError::Error(error)) => crate::note!(
                "{} cannot be locked ({error}): nothing keeps a second run of this version from starting",
                folder.display()
            ),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .with_context(cannot)?;
        writeln!(
            file,
            "process {}, begun {}",
            std::process::id(),
            chrono::Local::now().format("%Y-%m-%d %H:%M:%S")
        )
        .with_context(cannot)?;
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let first = Lock::take(&folder).unwrap();
        let message = Lock::take(&folder).unwrap_err().to_string();
        let owner = format!("process {}", std::process::id());
        assert!(
            message.contains(&owner) && message.contains("--VERSION"),
            "{message}"
        );
        drop(first);
        Lock::take(&folder).unwrap();
    }
}
