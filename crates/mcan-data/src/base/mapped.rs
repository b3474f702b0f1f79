//! Files mapped into memory: all memory maps of the program.
//!
//! When another program cuts a mapped file short, or its disk fails, reading the lost part raises SIGBUS, which would end
//! the program without a message. The handler here ends the program with a message that names the file.
#![allow(
    unsafe_code,
    reason = "memory maps, and the handler of the signal that they can raise"
)]

use super::{files, memory};
use anyhow::{Context, Result, ensure};
use memmap2::{Mmap, MmapOptions};
use signal_hook::consts::SIGBUS;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::SystemTime;
use tracing::debug;

/// A file in memory, read-only.
#[derive(Debug)]
pub struct Mapped {
    content: Content,
    file: File,
    path: PathBuf,
    modified: Option<SystemTime>,
    /// The slot that holds `message`; none when all slots are taken.
    slot: Option<&'static Slot>,
    message: Box<str>,
}

/// The bytes of a file.
#[derive(Debug)]
enum Content {
    /// Mapped: the system reads what is used.
    Map(Mmap),
    /// Read whole: a pipe, or a file on a file system without memory maps.
    Read(Vec<u8>),
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Content::Map(map) => map,
            Content::Read(bytes) => bytes,
        }
    }
}

/// The facts about a map that the signal handler reads, because it may neither lock nor allocate.
#[derive(Debug)]
struct Slot {
    /// First address; 0: unused, 1: about to be used.
    start: AtomicUsize,
    end: AtomicUsize,
    message: AtomicPtr<u8>,
    message_bytes: AtomicUsize,
}

const UNUSED: usize = 0;
const RESERVED: usize = 1;

static SLOTS: [Slot; 64] = [const {
    Slot {
        start: AtomicUsize::new(UNUSED),
        end: AtomicUsize::new(0),
        message: AtomicPtr::new(std::ptr::null_mut()),
        message_bytes: AtomicUsize::new(0),
    }
}; 64];

impl Mapped {
    /// Maps the file at `path`. Reads it if it is a pipe, or if its file system has no memory maps.
    ///
    /// # Errors
    /// The file cannot be opened or read, is a folder or a device, or does not fit into memory. The message names the file.
    pub fn open(path: &Path) -> Result<Mapped> {
        Self::open_with(path, map)
    }

    fn open_with(path: &Path, map: impl Fn(&File) -> std::io::Result<Mmap>) -> Result<Mapped> {
        handle_bus_errors();
        let file = files::open(path)?;
        let cannot = || format!("cannot read {}", path.display());
        let found = file.metadata().with_context(cannot)?;
        // A pipe cannot be mapped, and neither can a file whose size the system does not know.
        let can_be_mapped = found.is_file() && found.len() > 0;
        let content = match map(&file) {
            Ok(map) if can_be_mapped => Content::Map(map),
            refused => {
                let file = file.try_clone().with_context(cannot)?;
                let most = most_in_memory();
                if let Some(error) = refused.err().filter(|_| can_be_mapped) {
                    note_that_it_is_read(path, &error);
                    ensure!(
                        found.len() <= most,
                        "{} has {} MB, which must be read into memory, because its file system has no memory maps; \
                         only {} MB is free: copy the file to another disk",
                        path.display(),
                        found.len().div_ceil(1_000_000),
                        most / 1_000_000
                    );
                }
                Content::Read(files::read_open(file, path, most)?)
            }
        };
        let message = format!(
            "mcan: {} was cut short by another program while it was in use, or its disk failed; restore the file and \
             start again (a training continues from its last checkpoint with --RESUME=True)\n",
            path.display()
        );
        let modified = found.modified().ok();
        let mut mapped = Mapped {
            content,
            file,
            path: path.into(),
            modified,
            slot: None,
            message: message.into_boxed_str(),
        };
        mapped.register();
        debug!(path = %path.display(), bytes = mapped.len(), "file opened");
        Ok(mapped)
    }

    /// Puts the map into a free slot, if there is one.
    fn register(&mut self) {
        if matches!(self.content, Content::Read(_)) {
            return;
        }
        let reserve = |slot: &&Slot| {
            slot.start
                .compare_exchange(UNUSED, RESERVED, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        };
        let Some(slot) = SLOTS.iter().find(reserve) else {
            return;
        };
        let start = self.as_ptr() as usize;
        slot.end.store(start + self.len(), Ordering::Relaxed);
        slot.message
            .store(self.message.as_ptr().cast_mut(), Ordering::Relaxed);
        slot.message_bytes
            .store(self.message.len(), Ordering::Relaxed);
        slot.start.store(start, Ordering::Release);
        self.slot = Some(slot);
    }

    /// Checks that the file has not been changed in place since it was opened. Replacing it by renaming is no change,
    /// because the map keeps the old file.
    ///
    /// # Errors
    /// When the file was changed.
    pub fn check_unchanged(&self) -> Result<()> {
        let found = self.file.metadata()?;
        // Of a file that was read, the system may not know the size.
        let has_unknown_size = found.len() == 0 && matches!(self.content, Content::Read(_));
        let has_its_size = found.len() == self.len() as u64 || has_unknown_size;
        ensure!(
            !found.is_file() || has_its_size && found.modified().ok() == self.modified,
            "{} was changed while it was in use; restore the file and start again",
            self.path.display()
        );
        Ok(())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            slot.start.store(UNUSED, Ordering::Release);
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.content.bytes()
    }
}

/// Maps `file`.
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only, and readers treat its bytes as untrusted input, so they expect any change of the
    // file. If the file is cut short, reading raises SIGBUS, which is handled.
    let shared = unsafe { Mmap::map(file) };
    // Some network file systems have private maps only. SAFETY: as above.
    shared.or_else(|_| unsafe { MmapOptions::new().map_copy_read_only(file) })
}

/// The number of bytes that a file may take when it is read whole: what the machine has free.
fn most_in_memory() -> u64 {
    // A system that does not tell has memory for a file of questions.
    memory::available().unwrap_or(4 << 30)
}

/// Says once in a run that a file system has no memory maps, because that takes time and memory.
fn note_that_it_is_read(path: &Path, error: &std::io::Error) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        crate::note!(
            "{}: its file system has no memory maps ({error}); files there are read into memory",
            path.display()
        );
    });
}

/// Installs the signal handler, once.
fn handle_bus_errors() {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        // SAFETY: the handler only reads atomics and calls write and _exit, which is allowed in signal handlers.
        let registered = unsafe { signal_hook_registry::register_sigaction(SIGBUS, on_bus_error) };
        if let Err(error) = registered {
            crate::note!(
                "cannot handle bus errors ({error}): a file that is cut short ends the program without a message"
            );
        }
    });
}

/// Ends the program with the message of the map that contains the faulting address. Any other fault has its usual effect.
fn on_bus_error(info: &libc::siginfo_t) {
    // SAFETY: this signal carries an address.
    let address = unsafe { info.si_addr() } as usize;
    for slot in &SLOTS {
        let start = slot.start.load(Ordering::Acquire);
        if start > RESERVED && (start..slot.end.load(Ordering::Relaxed)).contains(&address) {
            let message = slot.message.load(Ordering::Relaxed).cast_const().cast();
            // SAFETY: the message belongs to the `Mapped` that the faulting thread is reading, so it is alive.
            unsafe {
                libc::write(
                    libc::STDERR_FILENO,
                    message,
                    slot.message_bytes.load(Ordering::Relaxed),
                )
            };
            signal_hook::low_level::exit(1);
        }
    }
    let _ = signal_hook::low_level::emulate_default_handler(SIGBUS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_changed_while_it_is_mapped_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank");
        std::fs::write(&path, "0123456789").unwrap();
        let mapped = Mapped::open(&path).unwrap();
        assert_eq!(&*mapped, b"0123456789");
        assert!(matches!(mapped.content, Content::Map(_)));
        mapped.check_unchanged().unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "another").unwrap();
        std::fs::rename(&other, &path).unwrap();
        mapped.check_unchanged().unwrap();
        let mapped = Mapped::open(&path).unwrap();
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .set_len(3)
            .unwrap();
        assert!(
            mapped
                .check_unchanged()
                .unwrap_err()
                .to_string()
                .contains("bank was changed")
        );
    }

    #[test]
    fn a_file_that_cannot_be_mapped_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank");
        std::fs::write(&path, "0123456789").unwrap();
        let refused = |_: &File| Err(std::io::Error::from_raw_os_error(libc::ENODEV));
        let mapped = Mapped::open_with(&path, refused).unwrap();
        assert!(matches!(mapped.content, Content::Read(_)) && mapped.slot.is_none());
        assert_eq!(&*mapped, b"0123456789");
        mapped.check_unchanged().unwrap();
        std::fs::write(&path, "changed").unwrap();
        assert!(mapped.check_unchanged().is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_of_unknown_size_is_read() {
        let mapped = Mapped::open(Path::new("/proc/self/status")).unwrap();
        assert!(mapped.starts_with(b"Name:"));
        mapped.check_unchanged().unwrap();
    }

    #[test]
    fn slots_of_dropped_maps_are_free_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "x").unwrap();
        for _ in 0..1000 {
            assert!(Mapped::open(&path).unwrap().slot.is_some());
        }
    }
}
