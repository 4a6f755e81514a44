//! Opening the sockets: a stale socket file is replaced, anything else in its place is not.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Where the control plane listens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// HTTP over this Unix socket; `None`: not at all.
    pub socket: Option<PathBuf>,
    /// Permission bits of the socket.
    pub socket_mode: u32,
    /// User and group of the socket, when it is opened before the daemon gives up its privileges.
    pub socket_owner: Option<(u32, u32)>,
    /// `/metrics` over TCP; `None`: not at all.
    pub metrics: Option<SocketAddr>,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process answers on the Unix socket.
    #[error("another daemon listens on {0}")]
    InUse(PathBuf),
    /// Something that is not a socket has the path; it is left alone.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// The system refused the Unix socket.
    #[error("cannot listen on {0}: {1}")]
    Socket(PathBuf, #[source] io::Error),
    /// The system refused the TCP socket.
    #[error("cannot listen on {0} for metrics: {1}")]
    Metrics(SocketAddr, #[source] io::Error),
}

/// The open sockets; they can be opened while the daemon still has privileges.
#[derive(Debug, Default)]
pub struct Sockets {
    pub(crate) unix: Option<(PathBuf, UnixListener)>,
    pub(crate) tcp: Option<TcpListener>,
}

impl Sockets {
    /// Opens what the settings ask for.
    ///
    /// # Errors
    /// When one of the sockets cannot be opened; the daemon can run without it.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        let tcp = settings.metrics.map(open_tcp).transpose()?;
        let unix = settings
            .socket
            .as_deref()
            .map(|path| {
                let listener = open_unix(path, settings)?;
                Ok((path.to_owned(), listener))
            })
            .transpose()?;
        Ok(Self { unix, tcp })
    }

    /// The TCP address that was really bound, when port 0 was asked for.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

fn open_tcp(address: SocketAddr) -> Result<TcpListener, OpenError> {
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|error| OpenError::Metrics(address, error))
}

fn open_unix(path: &Path, settings: &Settings) -> Result<UnixListener, OpenError> {
    remove_stale(path)?;
    let open = || {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        if let Some((user, group)) = settings.socket_owner {
            chown(path, Some(user), Some(group))?;
        }
        fs::set_permissions(path, Permissions::from_mode(settings.socket_mode))?;
        Ok(listener)
    };
    open().map_err(|error| OpenError::Socket(path.to_owned(), error))
}

/// Removes the socket that a daemon which did not end in peace has left behind.
fn remove_stale(path: &Path) -> Result<(), OpenError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::Socket(path.to_owned(), error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(OpenError::NotASocket(path.to_owned()));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(OpenError::InUse(path.to_owned()));
    }
    fs::remove_file(path).map_err(|error| OpenError::Socket(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &Path) -> Settings {
        Settings { socket: Some(path.to_owned()), socket_mode: 0o660, ..Settings::default() }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control.sock");
        let first = Sockets::open(&settings(&path)).expect("the path is free");
        let mode = fs::metadata(&path).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(Sockets::open(&settings(&path)), Err(OpenError::InUse(_))));
        drop(first);
        assert!(path.exists(), "dropping leaves the file, as a crash does");
        Sockets::open(&settings(&path)).expect("nobody listens any more");
    }

    #[test]
    fn another_file_in_the_place_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("precious");
        fs::write(&path, "data").expect("it can be written");
        assert!(matches!(Sockets::open(&settings(&path)), Err(OpenError::NotASocket(_))));
        assert_eq!(fs::read(&path).expect("it is still there"), b"data");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Sockets::open(&settings(Path::new("/nonexistent/control.sock")))
            .expect_err("there is no such directory");
        assert!(error.to_string().starts_with("cannot listen on /nonexistent/control.sock: No such"));
    }
}
