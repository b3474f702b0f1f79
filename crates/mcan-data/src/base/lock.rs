//! The lock on a checkpoint folder, so that one run of a version trains at a time. The lock ends with its process.

use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Name of the lock file. The file stays in the folder; only the lock of a living process counts.
const FILE_NAME: &str = ".lock";

/// The lock on a folder, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    /// The name of a run that has ended is of no use.
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

impl Lock {
    /// Locks `folder`, and makes it if it is missing. `instead` says what the user can do if another run holds the lock.
    ///
    /// # Errors
    /// Another process holds the lock (the message names the process if it is known), or the folder is not writable.
    pub fn take(folder: &Path, instead: &str) -> Result<Lock> {
        let path = folder.join(FILE_NAME);
        let cannot = || {
            format!(
                "cannot write in {}; name another folder with --SET CKPTS_PATH=..., or make this one writable",
                folder.display()
            )
        };
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
                // The other process may not have written its name yet.
                let owner = if owner.is_empty() {
                    "just started"
                } else {
                    owner.trim()
                };
                bail!(
                    "another run ({owner}) uses {}; wait for it to end, or {instead}",
                    folder.display()
                );
            }
            Err(TryLockError::Error(error)) => crate::note!(
                "{} cannot be locked ({error}), so a second run of this version could start",
                folder.display()
            ),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .with_context(cannot)?;
        writeln!(
            file,
            "process {}, started {}",
            std::process::id(),
            super::clock::now().format("%Y-%m-%d %H:%M:%S")
        )
        .with_context(cannot)?;
        Ok(Lock { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let first = Lock::take(&folder, "").unwrap();
        let message = Lock::take(&folder, "choose another --VERSION");
        let message = message.unwrap_err().to_string();
        let owner = format!("process {}", std::process::id());
        assert!(
            message.contains(&owner) && message.contains("--VERSION"),
            "{message}"
        );
        drop(first);
        Lock::take(&folder, "").unwrap();
    }
}
