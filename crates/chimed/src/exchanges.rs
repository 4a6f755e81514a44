//! The sockets of requests under way: one for each exchange, on a random port (RFC 9109), unless a port is configured.

mod over_ptp;

use crate::card_clocks::{CardLines, Convertible};
use crate::wiring;
use chime_config::{ClientSockets, Model};
use chime_engine::{
    ExchangeId, Input, NTP_PORT, NetworkPath, SendFailure, TimestampSource, Timestamped, Transmit,
};
use chime_sys::Timestamped as Stamp;
use chime_sys::poll::{Interest, PollSet, Readiness};
use chime_sys::udp::{Datagram, ErrorReport, UdpOptions, UdpSocket, hold_timestamps};
use chime_time::NtpDuration;
use chime_wire::DATAGRAM_OCTETS_MAX;
use over_ptp::OverPtp;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// Datagrams and reports read from one socket in one turn of the loop. A flood on one exchange must not hold up the
/// rest; what is left is still there in the next turn.
const READS_PER_TURN_MAX: usize = 16;

/// Requests on a shared socket whose transmit stamps may still come.
const SENT_REMEMBERED_MAX: usize = 64;

/// The open sockets.
#[derive(Debug)]
pub struct Exchanges {
    sockets: BTreeMap<ExchangeId, Own>,
    cards: Arc<CardLines>,
    /// How long a card's transmit stamp is waited for when the answer is there.
    card_timeout: Duration,
    /// One for each family, where a port is given or there are no descriptors left.
    shared: [Option<Shared>; 2],
    /// Never read: while it lives the kernel stamps what arrives, also the first answer to a socket just opened.
    _hold: Option<UdpSocket>,
    options: UdpOptions,
    local: ClientSockets,
    over_ptp: OverPtp,
    peer_port: u16,
    buffer: Vec<u8>,
    /// The same trouble with the configured port is told once.
    port_refused: bool,
}

/// Which socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExchangeSocket {
    /// The one of an exchange.
    Own(ExchangeId),
    /// The shared one of a family, by its number.
    Shared(usize),
}

/// The socket of one exchange.
#[derive(Debug)]
struct Own {
    socket: UdpSocket,
    /// Whether a network card is still to tell when the request left.
    awaits_card: bool,
}

/// A socket of several exchanges.
#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    /// Whose answer is waited for from where.
    waiting: BTreeMap<SocketAddr, ExchangeId>,
    /// The exchanges of the last requests, in order, and the number of the first on this socket.
    sent: VecDeque<ExchangeId>,
    first: u32,
}

impl Exchanges {
    /// No sockets yet; they will leave from where `local` says.
    #[must_use]
    pub fn new(local: ClientSockets) -> Self {
        let interface = local.interface.clone();
        Self {
            sockets: BTreeMap::new(),
            cards: Arc::default(),
            card_timeout: Duration::ZERO,
            shared: [None, None],
            _hold: hold_timestamps().ok(),
            options: UdpOptions {
                transmit_timestamps: true,
                packet_info: true,
                interface,
                ..UdpOptions::default()
            },
            local,
            over_ptp: OverPtp::default(),
            peer_port: NTP_PORT,
            buffer: vec![0; DATAGRAM_OCTETS_MAX],
            port_refused: false,
        }
    }

    /// The same, as a whole configuration says.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let mut exchanges = Self::new(model.client_sockets.clone());
        exchanges.peer_port = wiring::peer_port(model);
        exchanges.over_ptp = OverPtp::new(model.ntp_over_ptp);
        exchanges.options.dscp = model.process.dscp;
        exchanges
    }

    /// The same, with the stamps of these network cards; they are waited for that long.
    #[must_use]
    pub fn with_cards(mut self, cards: Arc<CardLines>, timeout: Duration) -> Self {
        self.options.hardware_timestamps = cards.is_active();
        (self.cards, self.card_timeout) = (cards, timeout);
        self
    }

    /// The port from which packets to peers leave.
    #[must_use]
    pub const fn peer_port(&self) -> u16 {
        self.peer_port
    }

    /// Opens a socket for the request and sends it; gives the fact to report to the engine.
    pub fn transmit(&mut self, transmit: Transmit) -> Input<'static> {
        let exchange = transmit.token.exchange();
        let (to, octets) = (transmit.to, &transmit.octets[..]);
        if let Some(port) = self.over_ptp.port_for(to) {
            let message = self.over_ptp.wrap(to, octets);
            let sent = self.send_to_peer(exchange, to, &message, port);
            let sent = sent.map(stamped).map_err(|error| send_failure(&error));
            return Input::Transmitted { token: transmit.token, sent };
        }
        let sent = match (transmit.from_port, self.local.port.filter(|_| !self.port_refused)) {
            (Some(port), _) => self.send_to_peer(exchange, to, octets, port),
            (None, Some(port)) => self.send_shared(exchange, to, octets, port).or_else(|error| {
                if self.shared[family(to)].is_some() {
                    return Err(error);
                }
                self.port_refused = true;
                warn!("requests cannot leave from port {port}: {error}; each leaves from a random one");
                self.send_own(exchange, to, octets)
            }),
            (None, None) => self.send_own(exchange, to, octets).or_else(|error| {
                if is_out_of_descriptors(&error) {
                    self.send_shared(exchange, to, octets, 0)
                } else {
                    Err(error)
                }
            }),
        };
        let sent = sent.map(stamped).map_err(|error| send_failure(&error));
        Input::Transmitted { token: transmit.token, sent }
    }

    /// From a socket of its own, on a random port.
    fn send_own(&mut self, exchange: ExchangeId, to: SocketAddr, octets: &[u8]) -> io::Result<Stamp> {
        let socket = UdpSocket::connected_to(to, self.local.address_for(to), &self.options)?;
        let sent = socket.send(octets)?;
        self.keep(exchange, socket);
        Ok(sent)
    }

    fn keep(&mut self, exchange: ExchangeId, socket: UdpSocket) {
        self.sockets.insert(exchange, Own { socket, awaits_card: self.cards.is_active() });
    }

    /// From a socket on the server's port: a peer's, which stays open, or that of a request in a PTP message.
    fn send_to_peer(
        &mut self,
        exchange: ExchangeId,
        to: SocketAddr,
        octets: &[u8],
        port: u16,
    ) -> io::Result<Stamp> {
        if let Some(own) = self.sockets.get_mut(&exchange) {
            own.awaits_card = self.cards.is_active();
            return own.socket.send(octets);
        }
        let local = SocketAddr::new(self.local.address_for(to).unwrap_or(any_of(to)), port);
        let socket = UdpSocket::connected_from(local, to, &self.options)?;
        let sent = socket.send(octets)?;
        self.keep(exchange, socket);
        Ok(sent)
    }

    /// From the shared socket of the family, which is opened when it is not yet.
    fn send_shared(
        &mut self,
        exchange: ExchangeId,
        to: SocketAddr,
        octets: &[u8],
        port: u16,
    ) -> io::Result<Stamp> {
        let place = &mut self.shared[family(to)];
        let shared = match place {
            Some(shared) => shared,
            None => {
                let address = SocketAddr::new(self.local.address_for(to).unwrap_or(any_of(to)), port);
                place.insert(Shared {
                    socket: UdpSocket::bound_to(address, &self.options)?,
                    waiting: BTreeMap::new(),
                    sent: VecDeque::new(),
                    first: 0,
                })
            }
        };
        let sent = shared.socket.send_to(octets, to, None)?;
        shared.waiting.insert(to, exchange);
        if shared.sent.len() == SENT_REMEMBERED_MAX {
            shared.sent.pop_front();
            shared.first = shared.first.wrapping_add(1);
        }
        shared.sent.push_back(exchange);
        Ok(sent)
    }

    /// Closes an exchange's socket; a shared one stays.
    pub fn close(&mut self, exchange: ExchangeId) {
        self.sockets.remove(&exchange);
        for shared in self.shared.iter_mut().flatten() {
            shared.waiting.retain(|_, waiting| *waiting != exchange);
        }
    }

    /// Where requests leave from.
    #[must_use]
    pub const fn local(&self) -> &ClientSockets {
        &self.local
    }

    /// Adds every socket to what the loop waits for.
    pub fn register<T: Copy>(&self, set: &mut PollSet<T>, token: impl Fn(ExchangeSocket) -> T) {
        for (exchange, own) in &self.sockets {
            set.add(&own.socket, Interest::READ | Interest::ERRORS, token(ExchangeSocket::Own(*exchange)));
        }
        for (number, shared) in self.shared.iter().enumerate() {
            if let Some(shared) = shared {
                let interest = Interest::READ | Interest::ERRORS;
                set.add(&shared.socket, interest, token(ExchangeSocket::Shared(number)));
            }
        }
    }

    /// Reads what a socket has, and gives each fact to `report`. Transmit stamps come before datagrams: the engine wants to
    /// know when a request left before it looks at the answer.
    pub fn receive(&mut self, which: ExchangeSocket, ready: Readiness, mut report: impl FnMut(Input<'_>)) {
        if ready.errors {
            // One for each wake-up: there is hardly ever more, and simulators answer a second call with a datagram.
            self.take_report(which, &mut report);
        }
        if ready.readable {
            self.wait_for_card(which, &mut report);
            self.take_datagrams(which, &mut report);
        }
    }

    fn socket(&self, which: ExchangeSocket) -> Option<&UdpSocket> {
        match which {
            ExchangeSocket::Own(exchange) => self.sockets.get(&exchange).map(|own| &own.socket),
            ExchangeSocket::Shared(number) => self.shared[number & 1].as_ref().map(|shared| &shared.socket),
        }
    }

    /// Whose packet that is: on a shared socket the one who waits for that address.
    fn owner(&self, which: ExchangeSocket, remote: Option<SocketAddr>) -> Option<ExchangeId> {
        match which {
            ExchangeSocket::Own(exchange) => Some(exchange),
            ExchangeSocket::Shared(number) => {
                self.shared[number & 1].as_ref()?.waiting.get(&remote?).copied()
            }
        }
    }

    /// Takes one report from the socket's error queue; gives whether there was one.
    fn take_report(&mut self, which: ExchangeSocket, report: &mut impl FnMut(Input<'_>)) -> bool {
        let Some(taken) = self.socket(which).map(UdpSocket::recv_error) else { return false };
        match taken {
            Ok(ErrorReport::Transmitted { number, sent, hardware, interface }) => {
                let exchange = match which {
                    ExchangeSocket::Own(exchange) => Some(exchange),
                    ExchangeSocket::Shared(at) => {
                        self.shared[at & 1].as_ref().and_then(|shared| shared.numbered(number))
                    }
                };
                let sent = self.cards.transmitted(sent, hardware);
                let is_last =
                    sent.source == chime_sys::TimestampSource::Hardware || !self.cards.may_stamp(interface);
                if let (ExchangeSocket::Own(exchange), true) = (which, is_last)
                    && let Some(own) = self.sockets.get_mut(&exchange)
                {
                    own.awaits_card = false;
                }
                // A stamp that is of no use leaves the time at which the report was read, which is none.
                if let Some(exchange) = exchange.filter(|_| sent.source != chime_sys::TimestampSource::Daemon)
                {
                    report(Input::TransmitTimestamp { exchange, sent: stamped(sent) });
                }
                true
            }
            Ok(ErrorReport::Undeliverable { errno, to }) => {
                if let Some(exchange) = self.owner(which, to) {
                    let failure = send_failure(&io::Error::from_raw_os_error(errno));
                    report(Input::ExchangeFailed { exchange, failure });
                }
                true
            }
            Ok(ErrorReport::Other) => true,
            Err(_) => false,
        }
    }

    /// Gives a card, which may be slower than the network, a moment to tell when the request left.
    fn wait_for_card(&mut self, which: ExchangeSocket, report: &mut impl FnMut(Input<'_>)) {
        /// The kernel's stamp and the card's.
        const REPORTS_MAX: usize = 2;
        let ExchangeSocket::Own(exchange) = which else { return };
        for _ in 0..REPORTS_MAX {
            let waiting = self.sockets.get(&exchange).filter(|own| own.awaits_card);
            let Some(own) = waiting else { return };
            if !own.socket.wait_for_report(self.card_timeout) || !self.take_report(which, report) {
                break;
            }
        }
        if let Some(own) = self.sockets.get_mut(&exchange) {
            own.awaits_card = false;
        }
    }

    fn take_datagrams(&mut self, which: ExchangeSocket, report: &mut impl FnMut(Input<'_>)) {
        for _ in 0..READS_PER_TURN_MAX {
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = self.socket(which).map(|socket| socket.recv(&mut buffer[..]));
            let goes_on = self.take_datagram(which, received, &buffer, report);
            self.buffer = buffer;
            if !goes_on {
                break;
            }
        }
    }

    /// Reports what was received; gives whether there may be more.
    fn take_datagram(
        &mut self,
        which: ExchangeSocket,
        received: Option<io::Result<Datagram>>,
        buffer: &[u8],
        report: &mut impl FnMut(Input<'_>),
    ) -> bool {
        match received {
            // A datagram longer than any answer that we asked for is cut, and then fails its checks. What nobody
            // waits for on a shared socket is a stranger's.
            Some(Ok(datagram)) => {
                if let Some(exchange) = self.owner(which, Some(datagram.from)) {
                    let (received, duration) = self.cards.received_in(&Convertible {
                        kernel: datagram.received,
                        hardware: datagram.hardware,
                        octets: datagram.octets,
                        ipv6: datagram.from.is_ipv6(),
                    });
                    let octets = &buffer[..datagram.octets];
                    let (octets, held) = match self.over_ptp.port_for(datagram.from) {
                        Some(_) => self.over_ptp.unwrap(datagram.from, octets),
                        None => (octets, NtpDuration::ZERO),
                    };
                    report(Input::Datagram {
                        exchange,
                        from: datagram.from,
                        local: datagram.destination.map(|local| local.address),
                        received: stamped(received),
                        path: duration.map(|receiving| NetworkPath { receiving, held }),
                        octets,
                    });
                }
                true
            }
            Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                if let Some(exchange) = self.owner(which, None) {
                    report(Input::ExchangeFailed { exchange, failure: send_failure(&error) });
                }
                false
            }
            Some(Err(_)) | None => false,
        }
    }
}

impl Shared {
    /// The exchange of the datagram with that number on this socket; without a number, of the last one.
    fn numbered(&self, number: Option<u32>) -> Option<ExchangeId> {
        match number {
            Some(number) => self.sent.get(usize::try_from(number.wrapping_sub(self.first)).ok()?).copied(),
            None => self.sent.back().copied(),
        }
    }
}

/// The place of a family in [`Exchanges::shared`].
const fn family(address: SocketAddr) -> usize {
    if address.is_ipv4() { 0 } else { 1 }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    /// `EMFILE`, `ENFILE`, `ENOBUFS` and `ENOMEM`.
    const ERRNOS: [i32; 4] = [24, 23, 105, 12];
    error.raw_os_error().is_some_and(|errno| ERRNOS.contains(&errno))
}

/// Any address of the same family.
const fn any_of(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// The same stamp in the engine's words.
fn stamped(stamp: chime_sys::Timestamped) -> Timestamped {
    let source = match stamp.source {
        chime_sys::TimestampSource::Daemon => TimestampSource::Daemon,
        chime_sys::TimestampSource::Kernel => TimestampSource::Kernel,
        chime_sys::TimestampSource::Hardware => TimestampSource::Hardware,
    };
    Timestamped { at: stamp.at, source }
}

/// The same failure in the engine's words.
fn send_failure(error: &io::Error) -> SendFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => SendFailure::Refused,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => SendFailure::Unreachable,
        io::ErrorKind::PermissionDenied => SendFailure::NotPermitted,
        _ => SendFailure::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_shared_socket_stamps_belong_to_requests_by_number() {
        let socket = UdpSocket::bound_to(SocketAddr::from(([127, 0, 0, 1], 0)), &UdpOptions::default());
        let mut shared = Shared {
            socket: socket.expect("a socket"),
            waiting: BTreeMap::new(),
            sent: VecDeque::from([ExchangeId(5), ExchangeId(9)]),
            first: u32::MAX,
        };
        assert_eq!(shared.numbered(Some(u32::MAX)), Some(ExchangeId(5)));
        assert_eq!(shared.numbered(Some(0)), Some(ExchangeId(9)));
        assert_eq!((shared.numbered(Some(1)), shared.numbered(None)), (None, Some(ExchangeId(9))));
        shared.sent.clear();
        assert_eq!(shared.numbered(None), None);
        assert!(is_out_of_descriptors(&io::Error::from_raw_os_error(24)));
        assert!(!is_out_of_descriptors(&io::Error::from_raw_os_error(101)));
    }

    #[test]
    fn failures_are_told_in_the_words_of_the_engine() {
        let failure = |errno| send_failure(&io::Error::from_raw_os_error(errno));
        assert_eq!(failure(111), SendFailure::Refused);
        assert_eq!(failure(113), SendFailure::Unreachable);
        assert_eq!(failure(101), SendFailure::Unreachable);
        assert_eq!(failure(1), SendFailure::NotPermitted);
        assert!(matches!(failure(5), SendFailure::Other(_)));
    }
}
