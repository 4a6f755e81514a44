//! The observation socket of ntpd-rs: whoever connects gets the state as JSON, with its length before it.

use crate::desks::{Desk, View};
use chime_control::ntpd_rs;
use chime_sys::poll::Interest;
use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use tracing::{debug, warn};

/// Readers that have not taken all of it yet; with one more, the oldest gets no rest.
const READERS_MAX: usize = 8;
/// Connections taken before the other desks have their turn.
const TURN: usize = 16;

/// The open socket; its file is removed in the end.
#[derive(Debug)]
pub struct Observation {
    path: PathBuf,
    listener: UnixListener,
    readers: VecDeque<(UnixStream, Vec<u8>)>,
}

impl Observation {
    /// Opens the socket with the permission bits `mode`, for `owner` (user and group). Says why when it cannot: the
    /// daemon keeps time without.
    #[must_use]
    pub fn open(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Option<Self> {
        let open = || -> io::Result<UnixListener> {
            if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
                fs::create_dir_all(folder)?;
                if let Some((user, group)) = owner {
                    chown(folder, Some(user), Some(group))?;
                }
            }
            remove_stale(path)?;
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            fs::set_permissions(path, Permissions::from_mode(mode))?;
            if let Some((user, group)) = owner {
                chown(path, Some(user), Some(group))?;
            }
            Ok(listener)
        };
        let listener = open().inspect_err(|error| {
            warn!("{}: {error}; ntp-ctl and its exporter cannot use it", path.display())
        });
        Some(Self { path: path.to_owned(), listener: listener.ok()?, readers: VecDeque::new() })
    }

    fn accept(&mut self, view: View<'_>) {
        for _ in 0..TURN {
            let reader = match self.listener.accept() {
                Ok((reader, _)) => reader,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return debug!("a reader of {} is lost: {error}", self.path.display()),
            };
            if let Err(error) = reader.set_nonblocking(true) {
                debug!("a reader of {} is lost: {error}", self.path.display());
                continue;
            }
            if let Some(rest) = write(&reader, ntpd_rs::observation(&view(false))) {
                if self.readers.len() == READERS_MAX {
                    self.readers.pop_front();
                }
                self.readers.push_back((reader, rest));
            }
        }
    }
}

impl Desk for Observation {
    fn descriptors(&self) -> Vec<(BorrowedFd<'_>, Interest)> {
        let listener = (self.listener.as_fd(), Interest::READ);
        let readers = self.readers.iter().map(|(reader, _)| (reader.as_fd(), Interest::WRITE));
        std::iter::once(listener).chain(readers).collect()
    }

    fn handle_ready(&mut self, number: usize, view: View<'_>) {
        let Some(reader) = number.checked_sub(1) else { return self.accept(view) };
        if let Some((reader, rest)) = self.readers.remove(reader)
            && let Some(rest) = write(&reader, rest)
        {
            self.readers.push_back((reader, rest));
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            debug!("{}: {error}", self.path.display());
        }
    }
}

/// Writes what the socket takes; gives what is left, or `None` when that is nothing, or nobody reads any more.
fn write(mut reader: &UnixStream, mut octets: Vec<u8>) -> Option<Vec<u8>> {
    let mut written = 0;
    while written < octets.len() {
        match reader.write(&octets[written..]) {
            Ok(0) => return None,
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Some(octets.split_off(written));
            }
            Err(error) => {
                debug!("a reader of the observation socket is gone: {error}");
                return None;
            }
        }
    }
    None
}

/// A socket that nobody listens on is left by a run that was killed; anything else is somebody's.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is not a socket"));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon listens there"));
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desks;
    use chime_control::Snapshot;
    use chime_engine::SourceReport;
    use std::io::Read;
    use std::time::Duration;

    fn read(path: &Path) -> Vec<u8> {
        let mut stream = UnixStream::connect(path).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).expect("it ends");
        octets
    }

    #[test]
    fn whoever_connects_gets_all_of_it_and_the_file_goes_in_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("made/observe");
        let observation = Observation::open(&path, 0o666, None).expect("it can be opened");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o666);
        assert!(Observation::open(&path, 0o666, None).is_none(), "it is in use");
        // More than a socket takes at once.
        let mut snapshot = Snapshot::default();
        let source = SourceReport {
            remote: Some("192.0.2.1:123".parse().expect("an address")),
            ..SourceReport::default()
        };
        snapshot.engine.sources = vec![source; 2000];
        let wanted = ntpd_rs::observation(&snapshot);
        let view = Box::new(move |_| snapshot.clone());
        let handle = desks::spawn(vec![Box::new(observation)], view).expect("a thread").expect("a desk");
        let idle = UnixStream::connect(&path).expect("somebody listens");
        assert_eq!(read(&path), wanted);
        assert_eq!(read(&path), wanted);
        drop((idle, handle));
        assert!(!path.exists());
    }

    #[test]
    fn another_file_in_the_place_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("precious");
        fs::write(&path, "data").expect("it can be written");
        assert!(Observation::open(&path, 0o666, None).is_none());
        assert_eq!(fs::read(&path).expect("it is still there"), b"data");
    }
}
