//! Replacing a file whole: at any moment, after a crash too, there is either the old one or the new one.
//!
//! Written to a temporary name beside it, synced, renamed; then the directory is synced, as a name is only sure once that is on
//! the disk.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// Who may read and write the new file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// These bits, whatever the umask or a default ACL says: files in a directory of our own.
    Exactly(u32),
    /// What the umask leaves of these bits: files where the operator or another program wants them.
    AtMost(u32),
}

impl Mode {
    /// A file where the operator wants it, and that all may read.
    pub const PUBLIC: Self = Self::AtMost(0o644);

    const fn bits(self) -> u32 {
        match self {
            Self::Exactly(bits) | Self::AtMost(bits) => bits,
        }
    }
}

/// Where files are written: the disk, or in tests one that fills up, or loses power.
pub trait Medium {
    /// A file that is being written.
    type Sink: Sink;

    /// Makes a new file, which must not exist.
    ///
    /// # Errors
    /// When that is not possible.
    fn create_new(&self, path: &Path, mode: Mode) -> io::Result<Self::Sink>;

    /// Gives a file another name, whose file is gone then.
    ///
    /// # Errors
    /// When that is not possible.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When that is not possible.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Waits until the names in the directory of this file are on the medium.
    ///
    /// # Errors
    /// When the medium refuses.
    fn sync_directory_of(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait Sink: Write {
    /// Waits until everything written is on the medium.
    ///
    /// # Errors
    /// When the medium refuses.
    fn sync(&mut self) -> io::Result<()>;
}

/// The real disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Medium for Disk {
    type Sink = File;

    fn create_new(&self, path: &Path, mode: Mode) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode.bits()).open(path)?;
        if let Mode::Exactly(bits) = mode {
            file.set_permissions(Permissions::from_mode(bits))?;
        }
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// File systems that cannot do that are none's fault, and neither are directories that may be written but not read.
    fn sync_directory_of(&self, path: &Path) -> io::Result<()> {
        let directory = match path.parent() {
            Some(directory) if directory.as_os_str().is_empty() => Path::new("."),
            Some(directory) => directory,
            None => return Ok(()),
        };
        let Ok(directory) = File::open(directory) else { return Ok(()) };
        match directory.sync_all() {
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

impl Sink for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Writes a new file beside the old one and puts it in its place.
///
/// # Errors
/// When the medium refuses; the old file is there still, unless it is only unsure which of both a crash would leave.
pub fn replace(medium: &impl Medium, path: &Path, octets: &[u8], mode: Mode) -> io::Result<()> {
    let temporary = with_suffix(path, ".new");
    // What a crash left behind.
    match medium.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = medium.create_new(&temporary, mode).and_then(|mut sink| {
        sink.write_all(octets)?;
        sink.sync()
    });
    let replaced = written.and_then(|()| medium.rename(&temporary, path));
    if replaced.is_err() {
        let _absent = medium.remove(&temporary);
        return replaced;
    }
    medium.sync_directory_of(path)
}

/// Of a file that is replaced again and again it is said once that this is not possible, and once that it is again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refusal {
    is_told: bool,
}

/// What is to be said about it.
#[derive(PartialEq, Eq, Debug)]
enum News {
    Refused,
    WrittenAgain,
}

impl Refusal {
    /// The file was replaced, or not: what is new about that is said. `Some`: it was.
    pub fn tell<T>(&mut self, path: &Path, written: io::Result<T>) -> Option<T> {
        let (news, path) = (self.news(&written), path.display());
        match (news, &written) {
            (Some(News::Refused), Err(error)) => {
                warn!("{path}: cannot be written: {error}; the old contents stay, trying again");
            }
            (Some(News::WrittenAgain), _) => info!("{path}: written again"),
            _ => {}
        }
        written.ok()
    }

    fn news<T>(&mut self, written: &io::Result<T>) -> Option<News> {
        let was_told = std::mem::replace(&mut self.is_told, written.is_err());
        match (was_told, written) {
            (false, Err(_)) => Some(News::Refused),
            (true, Ok(_)) => Some(News::WrittenAgain),
            _ => None,
        }
    }
}

/// The path with something after its name.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
pub(crate) mod tests;
