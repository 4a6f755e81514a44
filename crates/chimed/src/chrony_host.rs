//! The sockets of chrony's command protocol: reports to everybody on this machine over UDP, everything over a Unix
//! socket.

use crate::desks::{Desk, View};
use crate::runtime_access::RuntimeAccess;
use crate::tally::Tally;
use crate::time_plane::{PlaneCommand, Tell, TypedTime};
use chime_control::chrony::{self, OpenReports, Outcome, Permission, Table, Verdict};
use chime_control::{Handling, Snapshot};
use chime_engine::{Command, NTP_PORT, SourceMatch};
use chime_server::{AccessRule, ClientTable, RateDecision};
use chime_sys::poll::Interest;
use chime_sys::udp::{UdpOptions, UdpSocket};
use chime_sys::unix_datagram::UnixDatagram;
use chime_sys::{clock, random};
use chime_time::NtpDate;
use chime_wire::mac::SymmetricKey;
use std::cell::{Cell, RefCell};
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{debug, error, warn};

/// Permissions of the Unix socket: the daemon's user and group, and root.
const SOCKET_MODE: u32 = 0o660;
/// Permissions of its folder when it has to be made.
const FOLDER_MODE: u32 = 0o750;
/// Requests taken from one socket before the others have their turn.
const TURN: usize = 16;

/// The open sockets; they can be opened while the daemon still has privileges. The file of the Unix socket is removed in
/// the end.
#[derive(Debug)]
pub struct Sockets {
    unix: Option<(PathBuf, Arc<UnixDatagram>)>,
    udp: Vec<UdpSocket>,
    rules: Vec<AccessRule>,
    open: OpenReports,
}

/// Where sockets are wanted, and who is answered.
#[derive(Clone, Debug, Default)]
pub struct Wish<'a> {
    /// The Unix socket.
    pub path: Option<&'a Path>,
    /// UDP addresses.
    pub listen: &'a [SocketAddr],
    /// Who beside this machine is answered over UDP.
    pub rules: &'a [AccessRule],
    /// What is shown over UDP.
    pub open: OpenReports,
    /// The only interface for UDP.
    pub interface: Option<&'a str>,
    /// User and group of the Unix socket.
    pub owner: Option<(u32, u32)>,
}

/// Answers chronyc.
pub struct ChronyDesk {
    sockets: Sockets,
    ways: Ways,
    access: RefCell<Lists>,
    /// Whether the last request told the time plane or a server something. That ends a turn: where the desk lives in the time plane's
    /// loop, whoever asks next sees what came of it.
    told: Cell<bool>,
}

/// What the desk can do beside answering.
pub struct Ways {
    /// Queues something for the time plane; whether that could be done.
    pub tell: Box<dyn Fn(PlaneCommand) -> bool + Send>,
    /// Counts what becomes of datagrams.
    pub tally: Arc<Tally>,
    /// Who gets the time; `None` without a server.
    pub ntp_access: Option<RuntimeAccess>,
    /// Who asks over UDP, and how often others are answered; `None`: always.
    pub clients: Option<SharedClients>,
    /// Has the counts of these clients of the servers begin again.
    pub reset_clients: ResetClients,
    /// Reads the symmetric keys again; `None` when that failed.
    pub read_keys: Box<dyn Fn() -> Option<Vec<SymmetricKey>> + Send>,
}

/// Has the counts of these clients of the servers begin again.
pub type ResetClients = Box<dyn Fn(&[IpAddr]) + Send>;

/// Who asks over UDP, for the desk and for reports.
pub type SharedClients = Arc<Mutex<ClientTable>>;

/// The access lists, which commands change.
struct Lists {
    ntp: Option<RuntimeAccess>,
    command: RuntimeAccess,
}

impl Sockets {
    /// Opens what can be opened and says what cannot: the daemon keeps time without.
    #[must_use]
    pub fn open(wish: &Wish<'_>) -> Self {
        let unix = wish.path.and_then(|path| {
            let socket = open_unix(path, wish.owner);
            let socket = socket.inspect_err(|error| {
                warn!("Could not open command socket on {} : {error}; chronyc cannot use it", path.display());
            });
            Some((path.to_owned(), Arc::new(socket.ok()?)))
        });
        let options = UdpOptions {
            packet_info: true,
            free_bind: true,
            interface: wish.interface.map(str::to_owned),
            ..UdpOptions::default()
        };
        let udp = wish.listen.iter().filter_map(|address| {
            let socket = UdpSocket::bound_to(*address, &options);
            socket.inspect_err(|error| error!("Could not open command socket on {address} : {error}")).ok()
        });
        Self { unix, udp: udp.collect(), rules: wish.rules.to_vec(), open: wish.open }
    }

    /// Whether nothing could be opened, or was to be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unix.is_none() && self.udp.is_empty()
    }

    /// The UDP addresses that were really bound.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.unix
            && let Err(error) = fs::remove_file(path)
        {
            debug!("{}: {error}", path.display());
        }
    }
}

impl ChronyDesk {
    /// A desk at these sockets.
    #[must_use]
    pub fn new(sockets: Sockets, mut ways: Ways) -> Self {
        let command = RuntimeAccess::new(sockets.rules.clone(), Box::new(|_| true));
        let access = RefCell::new(Lists { ntp: ways.ntp_access.take(), command });
        Self { sockets, ways, access, told: Cell::new(false) }
    }

    fn answer_unix(&self, view: View<'_>) {
        let Some((_, socket)) = &self.sockets.unix else { return };
        let mut room = [0; chrony::REQUEST_ROOM];
        for _ in 0..TURN {
            let (octets, peer) = match socket.recv_from(&mut room) {
                Ok(received) => received,
                Err(error) => return note(&error),
            };
            // Who has no address could not learn what became of the request, and chronyd does nothing for them.
            let Some(path) = peer else {
                self.ways.tally.count(Handling::Lost);
                continue;
            };
            if !self.answers_later(&room[..octets], socket, &path, view)
                && let Some(reply) = self.answer(&room[..octets], Permission::Everything, view)
                && let Err(error) = socket.send_to(&reply, &path)
            {
                debug!("a reply to {} is lost: {error}", path.display());
            }
            if self.told.take() {
                return;
            }
        }
    }

    /// Whether a request takes the time plane to answer: the reply is sent when that has done what is asked.
    fn answers_later(&self, request: &[u8], socket: &Arc<UnixDatagram>, path: &Path, view: View<'_>) -> bool {
        if !chrony::is_answered_later(request) {
            return false;
        }
        let Verdict::Wish { wish, replier } = chrony::respond(request, &view(false), Permission::Everything)
        else {
            return false;
        };
        let (socket, path, tally) = (Arc::clone(socket), path.to_owned(), Arc::clone(&self.ways.tally));
        let send = move |reply: &[u8], succeeded: bool| {
            tally.count(if succeeded { Handling::Answered } else { Handling::Refused });
            if let Err(error) = socket.send_to(reply, &path) {
                debug!("a reply to {} is lost: {error}", path.display());
            }
        };
        let command = match wish {
            chrony::Wish::SetTime { unix_seconds, nanoseconds } => PlaneCommand::SetTime(TypedTime {
                time: NtpDate::from_unix(unix_seconds, nanoseconds),
                tell: Box::new(move |correction: Option<_>| {
                    send(&replier.time_was_set(correction), correction.is_some());
                }),
            }),
            chrony::Wish::WriteRealTimeClock => {
                PlaneCommand::WriteRealTimeClock(Tell(Box::new(move |written| {
                    let outcome = if written { Outcome::Done } else { Outcome::NotWritten };
                    send(&replier.reply(outcome), written);
                })))
            }
            _ => return false,
        };
        self.tell(command)
    }

    fn answer_udp(&self, number: usize, view: View<'_>) {
        let Some(socket) = self.sockets.udp.get(number) else { return };
        let mut room = [0; chrony::REQUEST_ROOM];
        for _ in 0..TURN {
            let datagram = match socket.recv(&mut room) {
                Ok(datagram) => datagram,
                Err(error) => return note(&error),
            };
            let (peer, request) = (datagram.from, &room[..datagram.octets]);
            if let Some(handling) = self.rejects(request, peer.ip()) {
                self.ways.tally.count(handling);
                continue;
            }
            if let Some(reply) = self.answer(request, Permission::Reports(self.sockets.open), view)
                && let Err(error) = socket.send_to(&reply, peer, datagram.destination)
            {
                debug!("a reply to {peer} is lost: {error}");
            }
        }
    }

    /// Queues something for the time plane; gives whether that could be done.
    fn tell(&self, command: PlaneCommand) -> bool {
        self.told.set(true);
        (self.ways.tell)(command)
    }

    /// What becomes of a request over UDP that is not looked into. As with chronyd, only requests count for the limit.
    fn rejects(&self, request: &[u8], peer: IpAddr) -> Option<Handling> {
        if !self.admits(peer) {
            return Some(Handling::Restricted);
        }
        (chrony::is_request(request) && self.asks_too_often(peer)).then_some(Handling::RateLimited)
    }

    /// This machine, and who is allowed by rules.
    fn admits(&self, peer: IpAddr) -> bool {
        is_this_machine(peer) || self.access.borrow().command.admits(peer)
    }

    /// This machine never does. Whoever asks is remembered.
    fn asks_too_often(&self, peer: IpAddr) -> bool {
        let Some(clients) = &self.ways.clients else { return false };
        let (mut clients, now) = (clients.lock().unwrap_or_else(PoisonError::into_inner), clock::mono_now());
        if is_this_machine(peer) {
            clients.count(peer, now);
            return false;
        }
        let mut random = |octets: &mut [u8]| {
            if let Err(error) = random::fill(octets) {
                debug!("no randomness: {error}; nobody is answered beyond the limit");
                octets.fill(u8::MAX);
            }
        };
        clients.check(peer, now, &mut random) != RateDecision::Answer
    }

    /// The reply to a request, which has been carried out and counted.
    fn answer(&self, request: &[u8], permission: Permission, view: View<'_>) -> Option<Vec<u8>> {
        let reply = self.reply(request, permission, view);
        self.ways.tally.count(chrony::handling(request, reply.as_deref()));
        reply
    }

    fn reply(&self, request: &[u8], permission: Permission, view: View<'_>) -> Option<Vec<u8>> {
        if !chrony::is_request(request) {
            return None;
        }
        let with_clients = chrony::asks_for_clients(request, permission);
        let snapshot = view(with_clients);
        match chrony::respond(request, &snapshot, permission) {
            Verdict::Silence => None,
            Verdict::Reply(reply) => Some(reply),
            // Not queued: the daemon is stopping, and chronyc will find nobody.
            Verdict::Command { command, reply } => self.tell(PlaneCommand::Engine(command)).then_some(reply),
            Verdict::ResetClients { reply, addresses } => {
                (self.ways.reset_clients)(&addresses);
                if let Some(clients) = &self.ways.clients {
                    clients.lock().unwrap_or_else(PoisonError::into_inner).reset_counts(&addresses);
                }
                Some(reply)
            }
            Verdict::Wish { wish, replier } => Some(replier.reply(self.fulfil(wish, &snapshot))),
        }
    }

    fn fulfil(&self, wish: chrony::Wish, snapshot: &Snapshot) -> Outcome {
        let tell = |command| if self.tell(command) { Outcome::Done } else { Outcome::Failed };
        match wish {
            chrony::Wish::AddSource(config) => tell(PlaneCommand::AddConfigured(config)),
            chrony::Wish::OnOffline => self.turn_on_or_off(snapshot),
            chrony::Wish::Access { table, rule } => {
                let mut lists = self.access.borrow_mut();
                let Lists { ntp, command } = &mut *lists;
                let list = match table {
                    Table::Ntp => ntp.as_mut(),
                    Table::Command => Some(command),
                };
                // Ports may be opened and closed by it, which a worker in the time plane's loop does at its next turn.
                self.told.set(true);
                // Where no server is configured, nobody could be answered.
                if list.is_some_and(|list| list.add(rule)) { Outcome::Done } else { Outcome::Failed }
            }
            chrony::Wish::CheckAccess { table, address } => {
                let lists = self.access.borrow();
                let admitted = match table {
                    Table::Ntp => lists.ntp.as_ref().is_some_and(|list| list.admits(address)),
                    Table::Command => lists.command.admits(address),
                };
                if admitted { Outcome::AccessAllowed } else { Outcome::AccessDenied }
            }
            // Over the Unix socket only, and answered above.
            chrony::Wish::SetTime { .. } | chrony::Wish::WriteRealTimeClock => Outcome::Failed,
            chrony::Wish::TrimRealTimeClock => tell(PlaneCommand::TrimRealTimeClock),
            chrony::Wish::Smooth { begin } => tell(PlaneCommand::Smooth { begin }),
            chrony::Wish::Dump => tell(PlaneCommand::Save),
            chrony::Wish::Rekey => match (self.ways.read_keys)() {
                Some(keys) => {
                    let serves_with_them = self.access.borrow().ntp.iter().all(RuntimeAccess::refresh);
                    let asks_with_them = tell(PlaneCommand::Engine(Command::SetKeys(Arc::new(keys))));
                    tell(PlaneCommand::ReadCookieKeys);
                    if serves_with_them { asks_with_them } else { Outcome::Failed }
                }
                None => Outcome::Failed,
            },
            chrony::Wish::CycleLogs => tell(PlaneCommand::CycleLogs),
            chrony::Wish::ReloadSources => tell(PlaneCommand::ReloadSources),
            chrony::Wish::Shutdown => tell(PlaneCommand::Stop),
        }
    }

    /// Sources to which there is a route go online, the others offline; as chronyd, whether or not there are any.
    fn turn_on_or_off(&self, snapshot: &Snapshot) -> Outcome {
        for source in &snapshot.engine.sources {
            // One that is offline and was never asked has the address that it was configured with.
            let configured = || source.name.parse().ok().map(|ip| SocketAddr::new(ip, NTP_PORT));
            let Some(remote) = source.remote.or_else(configured) else { continue };
            let matching = match source.remote {
                Some(remote) => SourceMatch::Address { address: remote.ip(), mask: exact_mask(remote.ip()) },
                None => SourceMatch::Key(source.source_key()),
            };
            let command =
                if has_route(remote) { Command::Online(matching) } else { Command::Offline(matching) };
            if !self.tell(PlaneCommand::Engine(command)) {
                return Outcome::Failed;
            }
        }
        Outcome::Done
    }
}

const fn exact_mask(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::BROADCAST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    }
}

/// Connecting a UDP socket sends nothing, and fails without a route.
fn has_route(remote: SocketAddr) -> bool {
    UdpSocket::connected_to(remote, None, &UdpOptions::default()).is_ok()
}

impl Desk for ChronyDesk {
    fn descriptors(&self) -> Vec<(BorrowedFd<'_>, Interest)> {
        let unix = self.sockets.unix.iter().map(|(_, socket)| socket.as_fd());
        let udp = self.sockets.udp.iter().map(|socket| socket.as_fd());
        unix.chain(udp).map(|descriptor| (descriptor, Interest::READ)).collect()
    }

    fn handle_ready(&mut self, number: usize, view: View<'_>) {
        let unix = usize::from(self.sockets.unix.is_some());
        match number.checked_sub(unix) {
            Some(udp) => self.answer_udp(udp, view),
            None => self.answer_unix(view),
        }
    }
}

/// An empty socket is what a turn ends with. Others are errors of earlier replies, such as that nobody waits for them.
fn note(error: &io::Error) {
    if error.kind() != io::ErrorKind::WouldBlock {
        debug!("receiving from chronyc: {error}");
    }
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
    let socket = UnixDatagram::bound_to(path)?;
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
    if std::os::unix::net::UnixDatagram::unbound()?.connect(path).is_ok() {
        return in_the_way("another daemon uses it");
    }
    fs::remove_file(path)
}

fn is_this_machine(peer: IpAddr) -> bool {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desks;
    use chime_control::Snapshot;
    use chime_server::RateLimitSettings;
    use std::net::UdpSocket as Client;
    use std::os::unix::net::UnixDatagram as UnixClient;
    use std::sync::mpsc;
    use std::time::Duration;

    fn request(command: u16, octets: usize) -> Vec<u8> {
        let mut request = vec![0; octets];
        request[..2].copy_from_slice(&[6, 1]);
        request[4..6].copy_from_slice(&command.to_be_bytes());
        request[8..12].copy_from_slice(&[1, 2, 3, 4]);
        request
    }

    fn ways(tell: impl Fn(PlaneCommand) -> bool + Send + 'static, tally: Arc<Tally>) -> Ways {
        Ways {
            tell: Box::new(tell),
            tally,
            ntp_access: None,
            clients: None,
            reset_clients: Box::new(|_| ()),
            read_keys: Box::new(|| None),
        }
    }

    fn host(sockets: Sockets) -> (desks::Handle, mpsc::Receiver<PlaneCommand>, Arc<Tally>) {
        let (sender, commands) = mpsc::channel();
        let tally = Arc::new(Tally::default());
        let desk =
            ChronyDesk::new(sockets, ways(move |command| sender.send(command).is_ok(), Arc::clone(&tally)));
        let handle = desks::spawn(vec![Box::new(desk)], Box::new(|_| Snapshot::default()));
        (handle.expect("a thread").expect("a desk"), commands, tally)
    }

    #[test]
    fn the_unix_socket_takes_commands_and_is_removed_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("made/chronyd.sock");
        let wish = Wish { path: Some(&path), ..Wish::default() };
        let sockets = Sockets::open(&wish);
        assert!(Sockets::open(&wish).is_empty(), "it is in use");
        let (handle, commands, tally) = host(sockets);
        let client = UnixClient::bind(folder.path().join("client")).expect("a path");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        UnixClient::unbound().expect("a socket").send_to(&request(48, 28), &path).expect("sent");
        client.send_to(&request(53, 28), &path).expect("sent");
        let mut reply = [0; 600];
        let octets = client.recv(&mut reply).expect("a reply");
        assert_eq!((octets, &reply[4..10]), (28, &[0, 53, 0, 1, 0, 0][..]));
        let told: Vec<PlaneCommand> = commands.try_iter().collect();
        assert!(
            matches!(told[..], [PlaneCommand::Engine(Command::Refresh)]),
            "the other had no address: {told:?}"
        );
        let handled = tally.read();
        assert_eq!((handled.requests(), handled.of(Handling::Lost)), (1, 1));
        drop(handle);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_asked_after_a_command_waits_for_the_next_turn() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("chronyd.sock");
        let sockets = Sockets::open(&Wish { path: Some(&path), ..Wish::default() });
        let mut desk = ChronyDesk::new(sockets, ways(|_| true, Arc::default()));
        let client = UnixClient::bind(folder.path().join("client")).expect("a path");
        client.set_nonblocking(true).expect("a setting");
        let (report, reload) = (request(33, 104), request(70, 28));
        for one in [&report, &report, &reload, &report] {
            client.send_to(one, &path).expect("sent");
        }
        let mut replies = || {
            desk.handle_ready(0, &|_| Snapshot::default());
            std::iter::from_fn(|| client.recv(&mut [0; 600]).ok()).count()
        };
        assert_eq!([replies(), replies()], [3, 1]);
    }

    #[test]
    fn udp_is_for_reports() {
        let listen = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let sockets = Sockets::open(&Wish { listen: &listen, ..Wish::default() });
        let address = sockets.addresses()[0];
        let (_handle, commands, _) = host(sockets);
        let client = Client::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
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
    fn others_are_answered_only_where_a_rule_lets_them_in() {
        let desk = |rules: &[AccessRule]| {
            let sockets = Sockets::open(&Wish { rules, ..Wish::default() });
            ChronyDesk::new(sockets, ways(|_| true, Arc::default()))
        };
        let (own, other) = (IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::from([192, 0, 2, 1]));
        let closed = desk(&[]);
        assert!(closed.admits(own) && !closed.admits(other));
        let open = desk(&[AccessRule { allow: true, all: false, subnet: None }]);
        assert!(open.admits(other));
        let denied = desk(&[AccessRule { allow: false, all: true, subnet: None }]);
        assert!(denied.admits(own), "this machine is always let in");
    }

    #[test]
    fn others_are_answered_no_more_often_than_the_limit_says() {
        let desk = |limit: Option<RateLimitSettings>| {
            let clients = Some(Arc::new(Mutex::new(ClientTable::new(8, limit, [1, 2]))));
            let ways = Ways { clients, ..ways(|_| true, Arc::default()) };
            ChronyDesk::new(Sockets::open(&Wish::default()), ways)
        };
        let refused =
            |desk: &ChronyDesk, peer: IpAddr| (0..100).filter(|_| desk.asks_too_often(peer)).count();
        let other = IpAddr::from([192, 0, 2, 1]);
        let hourly =
            RateLimitSettings { interval: Duration::from_secs(3600), burst: 8, leak: None, kiss: None };
        let limited = desk(Some(hourly));
        assert_eq!(refused(&limited, other), 92);
        assert_eq!(refused(&limited, IpAddr::V4(Ipv4Addr::LOCALHOST)), 0, "this machine is never limited");
        assert_eq!(refused(&desk(None), other), 0);
        let seen = limited
            .ways
            .clients
            .as_ref()
            .expect("a table")
            .lock()
            .expect("whole")
            .clients()
            .collect::<Vec<_>>();
        assert_eq!((seen.len(), seen.iter().map(|one| one.hits).sum::<u32>()), (2, 200));
    }

    #[test]
    fn another_file_in_the_place_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("precious");
        fs::write(&path, "data").expect("it can be written");
        assert!(Sockets::open(&Wish { path: Some(&path), ..Wish::default() }).is_empty());
        assert_eq!(fs::read(&path).expect("it is still there"), b"data");
    }
}
