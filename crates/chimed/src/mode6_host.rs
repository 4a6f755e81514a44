//! Mode 6 for `ntpq` and its like: sockets of its own, and what the workers of the NTP server hand over, since the
//! protocol shares the server's port.

use crate::desks::{Desk, View};
use crate::runtime_config;
use crate::tally::Tally;
use crate::time_plane::PlaneCommand;
use chime_config::{NtpServer, Ntpq};
use chime_control::mode6::{self, Facts, Kernel, Listening, Restriction, Rights, Variable, Verdict};
use chime_control::{Handling, Snapshot};
use chime_server::{KeyTable, Subnet};
use chime_sys::poll::{Interest, WakeReceiver, Waker, waker};
use chime_sys::udp::{LocalAddress, UdpOptions, UdpSocket};
use chime_sys::{adjust, clock, random};
use chime_time::MonoTime;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tracing::{debug, info, warn};

/// Requests of the server's workers that may wait; further ones are lost, and ntpq asks again.
const HANDED_MAX: usize = 64;
/// Requests taken from one place before the others have their turn.
const TURN: usize = 16;
/// Octets of answers that all other machines together get at once.
const BUDGET_OCTETS: f64 = 65_536.0;
/// Octets of answers that all other machines together get in a second, in the long run. A sender's address can be
/// forged: this is what somebody can have us send to others, and ntpq with ten sources asks for less.
const BUDGET_OCTETS_PER_SECOND: f64 = 8_192.0;

/// Who may do what: the longest network that has the address decides, and this machine may everything unless a rule says
/// otherwise.
#[derive(Clone, Debug)]
pub struct Access(Vec<(Subnet, Rights)>);

impl Access {
    /// The rules of the configuration.
    #[must_use]
    pub fn new(ntpq: &Ntpq) -> Self {
        let mut rules: Vec<(Subnet, Rights)> = ntpq
            .rules
            .iter()
            .map(|rule| {
                let rights = Rights { query: rule.query, modify: rule.modify, clients: rule.clients };
                (rule.subnet, rights)
            })
            .collect();
        let loopback =
            [Subnet::new(Ipv4Addr::LOCALHOST.into(), 8), Ok(Subnet::host(Ipv6Addr::LOCALHOST.into()))];
        rules.extend(loopback.into_iter().flatten().map(|subnet| (subnet, Rights::ALL)));
        // Stable: of rules for the same network the operator's come before the built-in ones.
        rules.sort_by_key(|(subnet, _)| std::cmp::Reverse(subnet.prefix()));
        Self(rules)
    }

    /// What `from` may do.
    #[must_use]
    pub fn rights(&self, from: IpAddr) -> Rights {
        let host = Subnet::host(from.to_canonical());
        self.0.iter().find(|(subnet, _)| subnet.covers(&host)).map_or(Rights::NONE, |(_, rights)| *rights)
    }

    /// The rules in NTPsec's words, and what holds for everybody else.
    fn restrictions(&self) -> Vec<Restriction> {
        let flags = |rights: &Rights| {
            let words =
                [("noquery", rights.query), ("nomodify", rights.modify), ("nomrulist", rights.clients)];
            words.iter().filter(|(_, may)| !may).map(|(word, _)| *word).collect::<Vec<_>>().join(" ")
        };
        let everybody = [(Subnet::ALL_V4, Rights::NONE), (Subnet::ALL_V6, Rights::NONE)];
        let rules = self
            .0
            .iter()
            .chain(everybody.iter().filter(|(all, _)| !self.0.iter().any(|(one, _)| one == all)));
        rules
            .map(|(subnet, rights)| Restriction {
                address: subnet.address(),
                mask: mask(subnet),
                flags: flags(rights),
            })
            .collect()
    }
}

fn mask(subnet: &Subnet) -> IpAddr {
    let prefix = u32::from(subnet.prefix());
    match subnet.address() {
        IpAddr::V4(_) => Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into(),
    }
}

/// A request that came to a worker of the server.
#[derive(Debug)]
pub struct Handed {
    /// Number of the listener.
    listener: usize,
    from: SocketAddr,
    destination: Option<LocalAddress>,
    octets: Vec<u8>,
}

/// The workers' end: takes requests of those who may ask, and costs nothing for others.
#[derive(Debug)]
pub struct HandOver {
    access: Access,
    sender: SyncSender<Handed>,
    waker: Waker,
    tally: Arc<Tally>,
}

impl HandOver {
    /// Takes a request that came to listener number `listener`.
    pub fn take(&self, listener: usize, octets: &[u8], from: SocketAddr, destination: Option<LocalAddress>) {
        if octets.len() > mode6::REQUEST_OCTETS_MAX {
            return self.tally.count(Handling::Malformed);
        }
        if !self.access.rights(from.ip()).query {
            return self.tally.count(Handling::Restricted);
        }
        let handed = Handed { listener, from, destination, octets: octets.to_vec() };
        match self.sender.try_send(handed) {
            Ok(()) => self.waker.wake(),
            Err(_) => self.tally.count(Handling::Lost),
        }
    }
}

/// Tells the time plane; whether that could be done.
pub type Tell = Box<dyn Fn(PlaneCommand) -> bool + Send>;

/// The protocol, on its sockets.
pub struct Mode6 {
    own: Vec<UdpSocket>,
    /// Sockets of the server, by listener, to answer from.
    servers: Vec<UdpSocket>,
    handed: Receiver<Handed>,
    wake: WakeReceiver,
    access: Access,
    restrictions: Vec<Restriction>,
    control_key: Option<u32>,
    variables: Vec<Variable>,
    keys: KeyTable,
    secret: [u8; 16],
    system: String,
    budget: Budget,
    tally: Arc<Tally>,
    tell: Option<Tell>,
}

/// What the protocol is opened with.
pub struct Opening<'a> {
    /// The configuration.
    pub ntpq: &'a Ntpq,
    /// The NTP servers, whose sockets take the requests to their addresses.
    pub servers: &'a [NtpServer],
    /// Symmetric keys.
    pub keys: KeyTable,
}

impl Mode6 {
    /// Opens the sockets that the NTP servers do not have already, and says which it cannot; the daemon keeps time
    /// without. Gives the workers' end, too.
    ///
    /// # Errors
    /// When the system gives no pipe or randomness.
    pub fn open(opening: Opening<'_>) -> io::Result<(Self, HandOver)> {
        let Opening { ntpq, servers, keys } = opening;
        let tally = Arc::new(Tally::default());
        let mut own = Vec::new();
        for address in ntpq.listen.iter().filter(|address| !is_served(**address, servers)) {
            match UdpSocket::bound_to(*address, &UdpOptions::default()) {
                Ok(socket) => own.push(socket),
                Err(error) => warn!("cannot listen on {address} for ntpq: {error}"),
            }
        }
        let (sender, handed) = sync_channel(HANDED_MAX);
        let (waker, wake) = waker()?;
        let mut secret = [0; 16];
        random::fill(&mut secret)?;
        let access = Access::new(ntpq);
        let desk = Self {
            own,
            servers: Vec::new(),
            handed,
            wake,
            restrictions: access.restrictions(),
            access: access.clone(),
            control_key: ntpq.control_key,
            variables: ntpq.variables.clone(),
            keys,
            secret,
            system: system(),
            budget: Budget { octets: BUDGET_OCTETS, at: clock::mono_now() },
            tally: tally.clone(),
            tell: None,
        };
        Ok((desk, HandOver { access, sender, waker, tally }))
    }

    /// What is answered through: the server's sockets in the order of its listeners, and the time plane for changes.
    #[must_use]
    pub fn connected(self, servers: Vec<UdpSocket>, tell: Tell) -> Self {
        Self { servers, tell: Some(tell), ..self }
    }

    /// What is counted.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// The addresses that are listened on beside the server's.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.own.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    fn serve(&mut self, number: usize, view: View<'_>) {
        let mut room = [0; mode6::REQUEST_OCTETS_MAX + 1];
        for _ in 0..TURN {
            let Some(socket) = self.own.get(number) else { return };
            let datagram = match socket.recv(&mut room) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return debug!("receiving from ntpq: {error}"),
            };
            let answer = self.answer(&room[..datagram.octets], datagram.from, view);
            if let Some(socket) = self.own.get(number) {
                send(socket, &answer, datagram.from, None);
            }
        }
    }

    fn serve_handed(&mut self, view: View<'_>) {
        // In this order: what comes after the wakes were taken brings its own.
        self.wake.drain();
        while let Ok(handed) = self.handed.try_recv() {
            let answer = self.answer(&handed.octets, handed.from, view);
            if let Some(socket) = self.servers.get(handed.listener) {
                send(socket, &answer, handed.from, handed.destination);
            }
        }
    }

    /// The datagrams of the answer; none for those who get none.
    fn answer(&mut self, request: &[u8], from: SocketAddr, view: View<'_>) -> Vec<Vec<u8>> {
        let (answer, handling) = self.respond(request, from, view);
        let octets: usize = answer.iter().map(Vec::len).sum();
        let affordable =
            from.ip().to_canonical().is_loopback() || self.budget.take(octets, clock::mono_now());
        if !affordable {
            self.tally.count(Handling::RateLimited);
            return Vec::new();
        }
        self.tally.count(handling);
        answer
    }

    fn respond(&self, request: &[u8], from: SocketAddr, view: View<'_>) -> (Vec<Vec<u8>>, Handling) {
        let rights = self.access.rights(from.ip());
        if !rights.query {
            return (Vec::new(), Handling::Restricted);
        }
        let snapshot = view(mode6::asks_for_clients(request));
        let listening = self.listening(&snapshot);
        let facts = Facts {
            snapshot: &snapshot,
            now: clock::system_now().timestamp(),
            processor: std::env::consts::ARCH,
            system: &self.system,
            keys: &self.keys,
            control_key: self.control_key,
            secret: &self.secret,
            listening: &listening,
            restrictions: &self.restrictions,
            variables: &self.variables,
            kernel: kernel(),
            requests: self.tally.read().requests(),
            clients_max: snapshot.server.clients_max,
        };
        let verdict = mode6::respond(request, from, rights, &facts);
        let handling = verdict.handling();
        let answer = match verdict {
            Verdict::Silence(why) => {
                debug!("{from} is not answered (mode 6): {why:?}");
                Vec::new()
            }
            Verdict::Reply(datagrams) => datagrams,
            Verdict::Configure { text, reply } => reply.configured(&self.configure(&text, from, &snapshot)),
        };
        (answer, handling)
    }

    /// Carries a configuration out as far as it goes; gives what became of it.
    fn configure(&self, text: &str, from: SocketAddr, snapshot: &Snapshot) -> String {
        info!("{from} configures (mode 6): {text}");
        let commands = match runtime_config::read(text, snapshot) {
            Ok(commands) => commands,
            Err(refusal) => {
                warn!("{from} configures (mode 6): {refusal}");
                return refusal;
            }
        };
        let told = commands.into_iter().all(|command| self.tell.as_ref().is_some_and(|tell| tell(command)));
        if told { "Config Succeeded".to_owned() } else { "the daemon is stopping".to_owned() }
    }

    fn listening(&self, snapshot: &Snapshot) -> Vec<Listening> {
        let addresses = snapshot.server.listening.iter().copied().chain(self.addresses());
        addresses.map(|address| Listening { address, name: interface(address) }).collect()
    }
}

impl Desk for Mode6 {
    fn descriptors(&self) -> Vec<(BorrowedFd<'_>, Interest)> {
        let own = self.own.iter().map(|socket| (socket.as_fd(), Interest::READ));
        own.chain([(self.wake.as_fd(), Interest::READ)]).collect()
    }

    fn handle_ready(&mut self, number: usize, view: View<'_>) {
        if number < self.own.len() {
            self.serve(number, view);
        } else {
            self.serve_handed(view);
        }
    }
}

/// What may still be sent to other machines.
struct Budget {
    octets: f64,
    at: MonoTime,
}

impl Budget {
    fn take(&mut self, octets: usize, now: MonoTime) -> bool {
        let grown = now.saturating_since(self.at).as_secs_f64() * BUDGET_OCTETS_PER_SECOND;
        self.octets = (self.octets + grown).min(BUDGET_OCTETS);
        self.at = now;
        #[expect(clippy::cast_precision_loss, reason = "an answer has less than 2^17 octets")]
        let wanted = octets as f64;
        let affordable = wanted <= self.octets;
        if affordable {
            self.octets -= wanted;
        }
        affordable
    }
}

fn send(socket: &UdpSocket, datagrams: &[Vec<u8>], to: SocketAddr, from: Option<LocalAddress>) {
    for datagram in datagrams {
        if let Err(error) = socket.send_to(datagram, to, from) {
            return debug!("an answer to ntpq at {to} is lost: {error}");
        }
    }
}

/// Whether the server's own socket takes what is sent to this address.
fn is_served(address: SocketAddr, servers: &[NtpServer]) -> bool {
    servers.iter().any(|server| {
        let listen = server.listen;
        let everywhere = listen.ip().is_unspecified() && listen.is_ipv4() == address.is_ipv4();
        listen.port() == address.port() && (everywhere || listen.ip() == address.ip())
    })
}

fn interface(address: SocketAddr) -> String {
    let name = match address {
        SocketAddr::V4(address) if address.ip().is_unspecified() => "v4wildcard",
        SocketAddr::V6(address) if address.ip().is_unspecified() => "v6wildcard",
        _ if address.ip().is_loopback() => "lo",
        _ => "",
    };
    name.to_owned()
}

/// Name and release of the system.
fn system() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux/{}", release.trim())
}

fn kernel() -> Kernel {
    adjust::kernel_state().map_or_else(
        |_| Kernel::default(),
        |state| Kernel {
            frequency_ppm: state.frequency.as_ppm(),
            max_error_seconds: state.max_error,
            estimated_error_seconds: state.est_error,
            synchronized: state.synchronized,
            tai_offset_seconds: state.tai_offset,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_config::NtpqRule;
    use std::net::UdpSocket as StdSocket;
    use std::sync::mpsc;
    use std::time::Duration;

    fn ntpq(rules: &[(&str, u8, bool)]) -> Ntpq {
        let rules = rules.iter().map(|(address, prefix, query)| NtpqRule {
            subnet: Subnet::new(address.parse().expect("an address"), *prefix).expect("a network"),
            query: *query,
            modify: false,
            clients: *query,
        });
        Ntpq {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            rules: rules.collect(),
            control_key: Some(1),
            variables: Vec::new(),
        }
    }

    fn rights(access: &Access, from: &str) -> Rights {
        access.rights(from.parse().expect("an address"))
    }

    #[test]
    fn only_this_machine_may_ask_unless_configured() {
        let access = Access::new(&ntpq(&[]));
        assert_eq!(rights(&access, "127.0.0.1"), Rights::ALL);
        assert_eq!(rights(&access, "127.1.2.3"), Rights::ALL);
        assert_eq!(rights(&access, "::1"), Rights::ALL);
        assert_eq!(rights(&access, "::ffff:127.0.0.1"), Rights::ALL);
        for stranger in ["192.0.2.1", "::2", "fe80::1", "0.0.0.0"] {
            assert_eq!(rights(&access, stranger), Rights::NONE, "{stranger}");
        }
    }

    #[test]
    fn the_longest_network_decides() {
        let access =
            Access::new(&ntpq(&[("192.0.2.0", 24, true), ("192.0.2.7", 32, false), ("::1", 128, false)]));
        assert!(rights(&access, "192.0.2.1").query);
        assert!(!rights(&access, "192.0.2.7").query);
        assert!(!rights(&access, "::1").query, "the operator may close what is open by itself");
        let shown = access.restrictions();
        assert_eq!(shown[0].flags, "noquery nomodify nomrulist");
        assert!(
            shown.iter().any(|one| one.mask == IpAddr::from([255, 255, 255, 0]) && one.flags == "nomodify")
        );
        assert!(shown.iter().any(|one| one.mask == IpAddr::from([0; 4])));
    }

    #[test]
    fn others_have_a_budget_that_comes_back_with_time() {
        let start = MonoTime::ZERO;
        let mut budget = Budget { octets: BUDGET_OCTETS, at: start };
        assert!(budget.take(60_000, start));
        assert!(!budget.take(60_000, start));
        assert!(!budget.take(60_000, start.add_secs_f64(5.0)));
        assert!(budget.take(60_000, start.add_secs_f64(8.0)));
    }

    #[test]
    fn a_server_on_all_addresses_takes_what_comes_to_this_one() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let servers = [NtpServer::new(address("0.0.0.0:123"))];
        assert!(is_served(address("127.0.0.1:123"), &servers));
        assert!(!is_served(address("[::1]:123"), &servers));
        assert!(!is_served(address("127.0.0.1:1123"), &servers));
    }

    #[test]
    fn a_question_on_its_own_socket_and_one_that_was_handed_over_are_answered() {
        let ntpq = ntpq(&[]);
        let opening = Opening { ntpq: &ntpq, servers: &[], keys: KeyTable::default() };
        let (desk, hand_over) = Mode6::open(opening).expect("a socket");
        let tally = desk.tally();
        let (sender, _commands) = mpsc::channel();
        let server = UdpSocket::bound_to(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &UdpOptions::default());
        let desk = desk.connected(
            vec![server.expect("a socket")],
            Box::new(move |command| sender.send(command).is_ok()),
        );
        let address = desk.addresses()[0];
        let view = Box::new(|_| Snapshot::default());
        let _handle = crate::desks::spawn(vec![Box::new(desk)], view).expect("a thread");
        let client = StdSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let request = [0xd6, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut room = [0; 600];
        for garbage in [&request[..11], &[0x16; 12], &[0x1b; 48]] {
            client.send_to(garbage, address).expect("sent");
        }
        client.send_to(&request, address).expect("sent");
        let octets = client.recv(&mut room).expect("an answer");
        assert!(octets > 100 && room[..4] == [0xd6, 0x82, 0, 7], "{:?}", &room[..12]);
        hand_over.take(0, &request, client.local_addr().expect("bound"), None);
        client.recv(&mut room).expect("an answer");
        hand_over.take(0, &request, SocketAddr::from(([192, 0, 2, 1], 123)), None);
        let handled = tally.read();
        let counted =
            [Handling::Answered, Handling::Malformed, Handling::Restricted].map(|how| handled.of(how));
        assert_eq!(counted, [2, 3, 1]);
    }
}
