//! What the daemon keeps on disk, and what happens when that is damaged: nothing bad.
//!
//! A file is replaced whole ([`crate::replaced_file`]). One that cannot be read or understood is reported, with its path and
//! the reason, and set aside under the name `….damaged-N`; the daemon goes on as if it had never been. A write that fails
//! leaves the old file alone, is reported once, and is tried again by [`Store::retry`]. Of several daemons with one directory
//! only the first writes; the others read, say so, and write once it has ended.
//!
//! Start at [`Store::open`], [`Store::load`] and [`Store::save`]; take [`Store::poll_report`] after each for the log.

use crate::directory_claim::DirectoryClaim;
use crate::replaced_file::{Disk, Medium, Mode, replace, with_suffix};
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use zeroize::Zeroizing;

/// The largest file that is read; the largest of ours, the associations, take some hundred kilobytes.
pub const FILE_OCTETS_MAX: u64 = 16 << 20;

/// Damaged copies kept of one file. The first ones stay, as they are nearest to the cause; the last is overwritten.
pub const DAMAGED_COPIES_MAX: u32 = 5;

/// Reports kept until they are taken; further ones are dropped, as the first tell what is wrong.
const REPORTS_MAX: usize = 64;

/// The files of the state directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum StateFile {
    /// The server's cookie keys.
    CookieKeys,
    /// Keys and cookies of the associations with NTS servers.
    Associations,
    /// The frequency correction, for a quick start.
    Drift,
    /// The last time that was known to be good, for clocks without a battery.
    LastGoodTime,
    /// The addresses that names had, for starts without a name service.
    ServerNames,
    /// The last samples of each source, for a restart while the clock runs on.
    Samples,
}

impl StateFile {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CookieKeys,
        Self::Associations,
        Self::Drift,
        Self::LastGoodTime,
        Self::ServerNames,
        Self::Samples,
    ];

    /// The file's name in the state directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CookieKeys => "cookie-keys",
            Self::Associations => "associations",
            Self::Drift => "drift",
            Self::LastGoodTime => "last-good-time",
            Self::ServerNames => "server-names",
            Self::Samples => "samples",
        }
    }

    /// Whether the file holds keys, and nobody but the daemon may read it.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::CookieKeys | Self::Associations)
    }

    const fn mode(self) -> u32 {
        if self.is_secret() { 0o600 } else { 0o644 }
    }
}

/// Something about the files that the operator must know. `Display` makes the log line.
#[derive(Debug)]
pub enum Report {
    /// A file could not be understood, and was set aside (or could not even be, where `set_aside` is `None`).
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why it is of no use.
        reason: String,
        /// Where it is now.
        set_aside: Option<PathBuf>,
    },
    /// Another daemon has the directory, or who has it cannot be told: nothing is written for now.
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Why nothing is written.
        error: io::Error,
    },
    /// A file could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file with keys can be read by others; the next write makes it private.
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file could not be written. Told once, until it can.
    NotWritten {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file whose contents may be used only once stays on the disk.
    NotTakenAway {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file that could not be written has been.
    WrittenAgain {
        /// The file.
        path: PathBuf,
    },
}

impl Report {
    /// Whether this is good news.
    #[must_use]
    pub const fn is_recovery(&self) -> bool {
        matches!(self, Self::WrittenAgain { .. })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { path, reason, set_aside: Some(aside) } => {
                write!(
                    f,
                    "{}: {reason}; set aside as {}, going on without it",
                    path.display(),
                    aside.display()
                )
            }
            Self::Damaged { path, reason, set_aside: None } => {
                write!(f, "{}: {reason}; going on without it (it could not be set aside)", path.display())
            }
            Self::InUse { directory, error } => write!(
                f,
                "{}: {error}: nothing is written there until that ends; give each its own (directory in [state])",
                directory.display()
            ),
            Self::Unreadable { path, error } => {
                write!(f, "{}: cannot be read: {error}; going on without it", path.display())
            }
            Self::TooOpen { path, mode } => {
                write!(
                    f,
                    "{}: holds keys, but others can read it (mode {mode:04o}): chmod 0600",
                    path.display()
                )
            }
            Self::NotWritten { path, error } => {
                write!(
                    f,
                    "{}: cannot be written: {error}; the old contents stay, trying again",
                    path.display()
                )
            }
            Self::NotTakenAway { path, error } => {
                write!(
                    f,
                    "{}: cannot be removed: {error}; not used, as it could be used a second time then",
                    path.display()
                )
            }
            Self::WrittenAgain { path } => write!(f, "{}: written again", path.display()),
        }
    }
}

/// The state directory.
#[derive(Debug)]
pub struct Store<M: Medium = Disk> {
    medium: M,
    directory: PathBuf,
    cookie_keys: Option<PathBuf>,
    claim: DirectoryClaim,
    unwritten: Vec<Unwritten>,
    /// Files that are there and could not be read: what replaces them must not be the end of what they hold.
    unread: Vec<StateFile>,
    reports: VecDeque<Report>,
}

/// Contents that could not be written yet.
#[derive(Debug)]
struct Unwritten {
    file: StateFile,
    octets: Zeroizing<Vec<u8>>,
}

impl Store {
    /// Opens the state directory, making it if need be; where that fails, each file will say so.
    ///
    /// `cookie_keys` is the path of the cookie keys, when they are not to be kept in the directory.
    #[must_use]
    pub fn open(directory: &Path, cookie_keys: Option<&Path>) -> Self {
        let mut store = Self::on(Disk, directory, cookie_keys);
        if let Err(error) = store.claim.hold() {
            store.report(Report::InUse { directory: directory.to_owned(), error });
        }
        store
    }

    /// Another value for the same files, to write some of them elsewhere; each file must be written by one of both.
    #[must_use]
    pub fn sibling(&self) -> Self {
        let claim = self.claim.clone();
        Self { claim, ..Self::on(Disk, &self.directory, self.cookie_keys.as_deref()) }
    }

    /// Hands the directory and our files in it to a user, before privileges are given up; what is not there is not
    /// missed.
    pub fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        let paths = StateFile::ALL.into_iter().map(|file| self.path(file));
        for path in std::iter::once(self.directory.clone()).chain(paths) {
            match std::os::unix::fs::lchown(&path, Some(uid), Some(gid)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl<M: Medium> Store<M> {
    fn on(medium: M, directory: &Path, cookie_keys: Option<&Path>) -> Self {
        // A failure shows when a file is written; a daemon that only reads needs no directory.
        let _failure = DirBuilder::new().recursive(true).mode(0o755).create(directory);
        Self {
            medium,
            directory: directory.to_owned(),
            cookie_keys: cookie_keys.map(Path::to_owned),
            claim: DirectoryClaim::on(directory),
            unwritten: Vec::new(),
            unread: Vec::new(),
            reports: VecDeque::new(),
        }
    }

    /// Where a file is kept.
    #[must_use]
    pub fn path(&self, file: StateFile) -> PathBuf {
        match (&self.cookie_keys, file) {
            (Some(path), StateFile::CookieKeys) => path.clone(),
            _ => self.directory.join(file.name()),
        }
    }

    /// Reads a file, by `decode`. `None` when there is none, or none of use: then a report says why.
    pub fn load<T, E: fmt::Display>(
        &mut self,
        file: StateFile,
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Option<T> {
        let path = self.path(file);
        let octets = match read(&path) {
            Ok(Found { mode, octets }) => {
                if file.is_secret() && mode & 0o077 != 0 {
                    self.report(Report::TooOpen { path: path.clone(), mode });
                }
                octets
            }
            Err(ReadFailure::Absent) => return None,
            Err(ReadFailure::Unreadable(error)) => {
                // It may be readable the next time.
                if !self.unread.contains(&file) {
                    self.unread.push(file);
                }
                self.report(Report::Unreadable { path, error });
                return None;
            }
            Err(ReadFailure::Foreign(reason)) => {
                self.set_aside(path, reason.to_owned());
                return None;
            }
        };
        match decode(&octets) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.set_aside(path, reason.to_string());
                None
            }
        }
    }

    /// Replaces a file; true when that is done. Otherwise it is reported, if it was not yet, and the contents wait
    /// for [`Store::retry`].
    pub fn save(&mut self, file: StateFile, octets: &[u8]) -> bool {
        let path = self.path(file);
        let result = self.claim.hold().and_then(|()| {
            self.keep_unread(file, &path);
            replace(&self.medium, &path, octets, Mode::Exactly(file.mode()))
        });
        let waiting = self.unwritten.iter().position(|unwritten| unwritten.file == file);
        match (result, waiting) {
            (Ok(()), None) => true,
            (Ok(()), Some(waiting)) => {
                self.unwritten.remove(waiting);
                self.report(Report::WrittenAgain { path });
                true
            }
            (Err(_), Some(waiting)) => {
                self.unwritten[waiting].octets = Zeroizing::new(octets.to_vec());
                false
            }
            (Err(error), None) => {
                self.unwritten.push(Unwritten { file, octets: Zeroizing::new(octets.to_vec()) });
                self.report(Report::NotWritten { path, error });
                false
            }
        }
    }

    /// Tries again to write what could not be written; true when nothing of that is left. Once a minute is enough.
    pub fn retry(&mut self) -> bool {
        for file in self.unwritten.iter().map(|unwritten| unwritten.file).collect::<Vec<_>>() {
            let Some(position) = self.unwritten.iter().position(|unwritten| unwritten.file == file) else {
                continue;
            };
            let octets = std::mem::take(&mut self.unwritten[position].octets);
            self.save(file, &octets);
        }
        !self.is_behind()
    }

    /// Whether there is anything that could not be written.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Removes a file, whose contents may be used once, before they are; without success it is emptied. True when no crash
    /// can bring it back.
    pub fn take_away(&mut self, file: StateFile) -> bool {
        let path = self.path(file);
        let taken = self.claim.hold().and_then(|()| match self.medium.remove(&path) {
            Ok(()) => self.medium.sync_directory_of(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(_) => OpenOptions::new().write(true).truncate(true).open(&path)?.sync_all(),
        });
        match taken {
            Ok(()) => true,
            Err(error) => {
                self.report(Report::NotTakenAway { path, error });
                false
            }
        }
    }

    /// When a file was last written, by the clock of then.
    #[must_use]
    pub fn modified(&self, file: StateFile) -> Option<SystemTime> {
        fs::metadata(self.path(file)).and_then(|metadata| metadata.modified()).ok()
    }

    /// Takes the oldest report.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// A file that could not be read is set aside before another takes its place.
    fn keep_unread(&mut self, file: StateFile, path: &Path) {
        if self.unread.contains(&file) {
            self.unread.retain(|unread| *unread != file);
            if path.exists() {
                self.set_aside(path.to_owned(), "could not be read, and is replaced".to_owned());
            }
        }
    }

    fn set_aside(&mut self, path: PathBuf, reason: String) {
        if self.claim.hold().is_err() {
            return self.report(Report::Damaged { path, reason, set_aside: None });
        }
        let aside = (1..=DAMAGED_COPIES_MAX)
            .map(|number| with_suffix(&path, &format!(".damaged-{number}")))
            .find(|aside| fs::symlink_metadata(aside).is_err())
            .unwrap_or_else(|| with_suffix(&path, &format!(".damaged-{DAMAGED_COPIES_MAX}")));
        let set_aside = self.medium.rename(&path, &aside).is_ok().then_some(aside);
        self.report(Report::Damaged { path, reason, set_aside });
    }

    fn report(&mut self, report: Report) {
        if self.reports.len() < REPORTS_MAX {
            self.reports.push_back(report);
        }
    }
}

struct Found {
    mode: u32,
    octets: Zeroizing<Vec<u8>>,
}

enum ReadFailure {
    Absent,
    Unreadable(io::Error),
    Foreign(&'static str),
}

impl From<io::Error> for ReadFailure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Absent } else { Self::Unreadable(error) }
    }
}

fn read(path: &Path) -> Result<Found, ReadFailure> {
    // Looked at first: opening a pipe would wait for somebody to write into it.
    if !fs::metadata(path)?.is_file() {
        return Err(ReadFailure::Foreign("not a regular file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > FILE_OCTETS_MAX {
        return Err(ReadFailure::Foreign("too long for a state file"));
    }
    // Room for all of it at once: growing would leave copies of keys in freed memory.
    let mut octets = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    file.take(FILE_OCTETS_MAX).read_to_end(&mut octets)?;
    Ok(Found { mode: metadata.mode() & 0o7777, octets })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
