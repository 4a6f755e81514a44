//! The sockets of chrony's command protocol: reports to everybody on this machine over UDP, everything over a Unix
//! socket. A thread of its own answers from what the time plane published.

use chime_control::Snapshot;
use chime_control::chrony::{self, Permission, Verdict};
use chime_engine::Command;
use chime_sys::poll::{self, Interest, PollSet, WakeReceiver, Waker};
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tracing::{debug, error, warn};

/// Permissions of the Unix socket: the daemon's user and group, and root.
const SOCKET_MODE: u32 = 0o660;
/// Permissions of its folder when it has to be made.
const FOLDER_MODE: u32 = 0o750;
/// Requests taken from one socket before the others have their turn.
const TURN: usize = 16;

/// The open sockets; they can be opened while the daemon still has privileges.
#[derive(Debug, Default)]
pub struct Sockets {
    unix: Option<(PathBuf, UnixDatagram)>,
    udp: Vec<UdpSocket>,
}

/// What the replies are made of.
pub struct Sources {
    /// The state as it is now; with the server's clients when the argument says so.
    pub snapshot: Box<dyn Fn(bool) -> Snapshot + Send>,
    /// Queues a command for the time plane; whether that could be done.
    pub command: Box<dyn Fn(Command) -> bool + Send>,
    /// Counts requests.
    pub packets: Arc<AtomicU64>,
}

/// Ends the thread and removes the socket's file when dropped.
#[derive(Debug)]
pub struct Handle {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Sockets {
    /// Opens what can be opened, with the Unix socket for `owner` (user and group), and says what cannot: the daemon
    /// keeps time without.
    #[must_use]
    pub fn open(path: Option<&Path>, listen: &[SocketAddr], owner: Option<(u32, u32)>) -> Self {
        let unix = path.and_then(|path| {
            let socket = open_unix(path, owner);
            let socket =
                socket.inspect_err(|error| warn!("{}: {error}; chronyc cannot use it", path.display()));
            Some((path.to_owned(), socket.ok()?))
        });
        let udp = listen.iter().filter_map(|address| {
            let socket = open_udp(*address);
            socket.inspect_err(|error| warn!("cannot listen on {address} for chronyc: {error}")).ok()
        });
        Self { unix, udp: udp.collect() }
    }

    /// The UDP addresses that were really bound.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

/// Starts the thread; `None` when there is no socket.
///
/// # Errors
/// When the system gives no pipe or thread.
pub fn spawn(sockets: Sockets, sources: Sources) -> io::Result<Option<Handle>> {
    if sockets.unix.is_none() && sockets.udp.is_empty() {
        return Ok(None);
    }
    let (waker, wake) = poll::waker()?;
    let run = move || {
        if let Err(error) = serve(&sockets, &sources, &wake) {
            error!("chronyc is not answered any more: {error}");
        }
        if let Some((path, _)) = &sockets.unix
            && let Err(error) = fs::remove_file(path)
        {
            debug!("{}: {error}", path.display());
        }
    };
    let thread = std::thread::Builder::new().name("chronyc".to_owned()).spawn(run)?;
    Ok(Some(Handle { waker, thread: Some(thread) }))
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.waker.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the thread that answers chronyc has panicked");
        }
    }
}

#[derive(Clone, Copy)]
enum Token {
    Stop,
    Unix,
    Udp(usize),
}

fn serve(sockets: &Sockets, sources: &Sources, wake: &WakeReceiver) -> io::Result<()> {
    let mut set = PollSet::new();
    loop {
        set.clear();
        set.add(wake, Interest::READ, Token::Stop);
        if let Some((_, socket)) = &sockets.unix {
            set.add(socket, Interest::READ, Token::Unix);
        }
        for (number, socket) in sockets.udp.iter().enumerate() {
            set.add(socket, Interest::READ, Token::Udp(number));
        }
        set.wait(None)?;
        for (token, _) in set.ready() {
            match token {
                Token::Stop => return Ok(()),
                Token::Unix => sockets.unix.iter().for_each(|(_, socket)| answer_unix(socket, sources)),
                Token::Udp(number) => {
                    sockets.udp.get(number).into_iter().for_each(|socket| answer_udp(socket, sources));
                }
            }
        }
    }
}

fn answer_unix(socket: &UnixDatagram, sources: &Sources) {
    let mut room = [0; chrony::REQUEST_ROOM];
    for _ in 0..TURN {
        let (octets, peer) = match socket.recv_from(&mut room) {
            Ok(received) => received,
            Err(error) => return note(&error),
        };
        // Who has no address could not learn what became of the request, and chronyd does nothing for them.
        let Some(path) = peer.as_pathname() else { continue };
        if let Some(reply) = answer(&room[..octets], Permission::Everything, sources)
            && let Err(error) = socket.send_to(&reply, path)
        {
            debug!("a reply to {} is lost: {error}", path.display());
        }
    }
}

fn answer_udp(socket: &UdpSocket, sources: &Sources) {
    let mut room = [0; chrony::REQUEST_ROOM];
    for _ in 0..TURN {
        let (octets, peer) = match socket.recv_from(&mut room) {
            Ok(received) => received,
            Err(error) => return note(&error),
        };
        if ![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&peer.ip()) {
            continue;
        }
        if let Some(reply) = answer(&room[..octets], Permission::OpenReports, sources)
            && let Err(error) = socket.send_to(&reply, peer)
        {
            debug!("a reply to {peer} is lost: {error}");
        }
    }
}

/// The reply to a request, which has been carried out.
fn answer(request: &[u8], permission: Permission, sources: &Sources) -> Option<Vec<u8>> {
    if !chrony::is_request(request) {
        return None;
    }
    sources.packets.fetch_add(1, Ordering::Relaxed);
    let with_clients = permission == Permission::Everything && chrony::asks_for_clients(request);
    match chrony::respond(request, &(sources.snapshot)(with_clients), permission) {
        Verdict::Silence => None,
        Verdict::Reply(reply) => Some(reply),
        // Not queued: the daemon is stopping, and chronyc will find nobody.
        Verdict::Command { command, reply } => (sources.command)(command).then_some(reply),
    }
}

/// An empty socket is what a turn ends with. Others are errors of earlier replies, such as that nobody waits for them.
fn note(error: &io::Error) {
    if error.kind() != io::ErrorKind::WouldBlock {
        debug!("receiving from chronyc: {error}");
    }
}

fn open_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open_unix(path: &Path, owner: Option<(u32, u32)>) -> io::Result<UnixDatagram> {
    let give = |path: &Path| match owner {
        Some((user, group)) => chown(path, Some(user), Some(group)),
        None => Ok(()),
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))?;
        give(folder)?;
    }
    remove_stale(path)?;
    let socket = UnixDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    give(path)?;
    Ok(socket)
}

/// Removes the socket that a daemon which did not end in peace has left behind, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let in_the_way = |reason| Err(io::Error::new(io::ErrorKind::AddrInUse, reason));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => return in_the_way("exists and is not a socket"),
        Ok(_) => {}
    }
    if UnixDatagram::unbound()?.connect(path).is_ok() {
        return in_the_way("another daemon uses it");
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn request(command: u16, octets: usize) -> Vec<u8> {
        let mut request = vec![0; octets];
        request[..2].copy_from_slice(&[6, 1]);
        request[4..6].copy_from_slice(&command.to_be_bytes());
        request[8..12].copy_from_slice(&[1, 2, 3, 4]);
        request
    }

    fn host(sockets: Sockets) -> (Handle, mpsc::Receiver<Command>, Arc<AtomicU64>) {
        let (sender, commands) = mpsc::channel();
        let packets = Arc::new(AtomicU64::new(0));
        let sources = Sources {
            snapshot: Box::new(|_| Snapshot::default()),
            command: Box::new(move |command| sender.send(command).is_ok()),
            packets: Arc::clone(&packets),
        };
        let handle = spawn(sockets, sources).expect("a thread").expect("a socket");
        (handle, commands, packets)
    }

    #[test]
    fn the_unix_socket_takes_commands_and_is_removed_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("made/chronyd.sock");
        let sockets = Sockets::open(Some(&path), &[], None);
        assert!(Sockets::open(Some(&path), &[], None).unix.is_none(), "it is in use");
        let (handle, commands, packets) = host(sockets);
        let client = UnixDatagram::bind(folder.path().join("client")).expect("a path");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        UnixDatagram::unbound().expect("a socket").send_to(&request(48, 28), &path).expect("sent");
        client.send_to(&request(53, 28), &path).expect("sent");
        let mut reply = [0; 600];
        let octets = client.recv(&mut reply).expect("a reply");
        assert_eq!((octets, &reply[4..10]), (28, &[0, 53, 0, 1, 0, 0][..]));
        let told: Vec<Command> = commands.try_iter().collect();
        assert!(matches!(told[..], [Command::Refresh]), "the other had no address: {told:?}");
        assert_eq!(packets.load(Ordering::Relaxed), 1);
        drop(handle);
        assert!(!path.exists());
    }

    #[test]
    fn udp_is_for_reports() {
        let sockets = Sockets::open(None, &[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], None);
        let address = sockets.addresses()[0];
        let (_handle, commands, _) = host(sockets);
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let ask = |request: &[u8]| {
            client.send_to(request, address).expect("sent");
            let mut reply = [0; 600];
            let octets = client.recv(&mut reply).expect("a reply");
            (octets, reply[9])
        };
        assert_eq!(ask(&request(33, 104)), (104, 0));
        assert_eq!(ask(&request(53, 28)), (28, 2));
        assert!(commands.try_recv().is_err());
    }

    #[test]
    fn another_file_in_the_place_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("precious");
        fs::write(&path, "data").expect("it can be written");
        assert!(Sockets::open(Some(&path), &[], None).unix.is_none());
        assert_eq!(fs::read(&path).expect("it is still there"), b"data");
    }
}
