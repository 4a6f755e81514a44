//! Who may write into a state directory: the first daemon that opens it, for as long as it runs.
//!
//! Two that write into one directory would lose each other's keys: each replaces the files by what it knows. The claim is an
//! advisory lock on the directory itself, which ends with the process however that ends, and leaves nothing behind.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The right to write into a directory, shared by all who write for this daemon.
#[derive(Clone, Debug)]
pub(crate) struct DirectoryClaim {
    directory: PathBuf,
    /// The directory while it is claimed.
    held: Arc<Mutex<Option<File>>>,
}

impl DirectoryClaim {
    /// Nothing is claimed yet.
    pub(crate) fn on(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), held: Arc::default() }
    }

    /// Claims the directory, unless that was done. A directory that cannot be opened, or is in a file system without locks,
    /// is nobody's: what is wrong with it shows when a file is written.
    ///
    /// # Errors
    /// When another daemon has it.
    pub(crate) fn hold(&self) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(());
        }
        let Ok(directory) = File::open(&self.directory) else { return Ok(()) };
        match directory.try_lock() {
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another daemon keeps its state in this directory",
            )),
            Ok(()) => {
                *held = Some(directory);
                Ok(())
            }
            Err(TryLockError::Error(_)) => Ok(()),
        }
    }
}
