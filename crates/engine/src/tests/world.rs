//! A world for one engine: a clock, names, NTP servers and key establishment servers.

use crate::{
    Command, Config, DiscardReason, Engine, EngineReport, EstablishKeys, Event, Input, KeFailure, KeOutcome,
    Request, ResolveFailure, SendFailure, SourceConfig, SourceReport, TimestampSource, Timestamped, Transmit,
};
use chime_discipline::ClockCommand;
use chime_nts::{
    AeadAlgorithm, AeadKey, Cookie, CookieKey, KeyRing, NtsKeys, NtsRequest, write_nts_nak,
    write_nts_response,
};
use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration, NtpShort, NtpTimestamp, PollExponent};
use chime_wire::{FieldWriter, HEADER_OCTETS, Header, LeapIndicator, Mode, ReferenceId};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// What the true time is when a world begins; Unix seconds. 20 November 2026.
pub(super) const BEGIN: i64 = 1_795_187_154;
/// When the program of these worlds was built: half a year before.
pub(super) const BUILD: i64 = BEGIN - 15_000_000;
/// One way to every server; seconds.
const ONE_WAY: f64 = 0.010;
const YEAR: i64 = 31_557_600;

/// A datagram that a server sends.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) after: f64,
    pub(super) from: SocketAddr,
    pub(super) octets: Vec<u8>,
}

/// One request as the server sees it.
pub(super) struct Asked<'a> {
    pub(super) octets: &'a [u8],
    /// How many requests this server got before.
    pub(super) number: usize,
    /// The true time at the server.
    pub(super) time: NtpDate,
    pub(super) address: SocketAddr,
    pub(super) ring: &'a KeyRing,
}

type Behaviour = Box<dyn FnMut(&Asked<'_>) -> Vec<Answer>>;

/// How a key establishment ends.
type KeBehaviour =
    Box<dyn FnMut(&EstablishKeys, &KeyRing) -> (Option<SocketAddr>, Result<KeOutcome, KeFailure>)>;

enum Pending {
    Datagram(crate::ExchangeId, Answer),
    Resolved(crate::LookupId, String),
    Ke(Box<EstablishKeys>),
}

/// Everything around one engine.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now: MonoTime,
    /// System clock minus true time.
    pub(super) clock_error: NtpDuration,
    /// How fast the system clock gains, as commanded; s per s.
    frequency: f64,
    pub(super) names: BTreeMap<String, Vec<IpAddr>>,
    servers: BTreeMap<SocketAddr, (Behaviour, usize)>,
    ke_servers: BTreeMap<String, KeBehaviour>,
    pub(super) ring: KeyRing,
    pending: Vec<(MonoTime, u64, Pending)>,
    sequence: u64,
    pub(super) events: Vec<Event>,
    pub(super) timed_events: Vec<(f64, Event)>,
    pub(super) sent: Vec<(f64, SocketAddr, Vec<u8>)>,
    pub(super) establishments: Vec<(f64, EstablishKeys)>,
    pub(super) lookups: Vec<(f64, String)>,
    pub(super) commands: Vec<ClockCommand>,
    pub(super) saves: usize,
    pub(super) open_sockets: i64,
    pub(super) network_is_down: bool,
    /// Whether the kernel says when requests left; otherwise only the daemon does.
    pub(super) kernel_stamps: bool,
}

pub(super) fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address with a port")
}

pub(super) fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

/// Sources that say nothing about it are asked every 16 s, so that the minutes of these worlds hold enough exchanges.
pub(super) fn config(mut sources: Vec<SourceConfig>) -> Config {
    let limits = |source: &SourceConfig| (source.poll_min, source.poll_max);
    let default = limits(&SourceConfig::server(""));
    for source in sources.iter_mut().filter(|source| limits(source) == default) {
        source.poll_min = PollExponent::new(4);
    }
    let mut config = Config { sources, ..Config::default() };
    config.known_time.build_unix_seconds = BUILD;
    // These worlds' monotonic clock is true time itself.
    config.discipline.mono_is_slewed = false;
    config
}

impl World {
    pub(super) fn new(sources: Vec<SourceConfig>) -> Self {
        Self::with_config(config(sources), 0.0)
    }

    /// A world whose system clock is `clock_error` seconds ahead.
    pub(super) fn with_config(config: Config, clock_error: f64) -> Self {
        let now = MonoTime::from_nanos(1_000_000_000_000);
        let clock_error = NtpDuration::from_secs_f64(clock_error);
        let system = NtpDate::from_unix(BEGIN, 0) + clock_error;
        let engine = Engine::new(config, [42; 32], ClockReading { mono: now, system });
        let ring = KeyRing::new(CookieKey::new(7, [9; 32], NtpDate::from_unix(BEGIN, 0)));
        Self {
            engine,
            now,
            clock_error,
            frequency: 0.0,
            names: BTreeMap::new(),
            servers: BTreeMap::new(),
            ke_servers: BTreeMap::new(),
            ring,
            pending: Vec::new(),
            sequence: 0,
            events: Vec::new(),
            timed_events: Vec::new(),
            sent: Vec::new(),
            establishments: Vec::new(),
            lookups: Vec::new(),
            commands: Vec::new(),
            saves: 0,
            open_sockets: 0,
            network_is_down: false,
            kernel_stamps: false,
        }
    }

    pub(super) fn name(&mut self, name: &str, addresses: &[&str]) {
        self.names.insert(name.to_owned(), addresses.iter().map(|address| ip(address)).collect());
    }

    pub(super) fn server(
        &mut self,
        address: &str,
        behaviour: impl FnMut(&Asked<'_>) -> Vec<Answer> + 'static,
    ) {
        self.servers.insert(at(address), (Box::new(behaviour), 0));
    }

    pub(super) fn ke(
        &mut self,
        name: &str,
        behaviour: impl FnMut(&EstablishKeys, &KeyRing) -> (Option<SocketAddr>, Result<KeOutcome, KeFailure>)
        + 'static,
    ) {
        self.ke_servers.insert(name.to_owned(), Box::new(behaviour));
    }

    /// A world with one good NTS server, "nts.example" at 192.0.2.1.
    pub(super) fn with_nts_server() -> Self {
        let mut world = Self::new(vec![SourceConfig::nts("nts.example")]);
        world.name("nts.example", &["192.0.2.1"]);
        world.server("192.0.2.1:123", good_nts);
        world.ke("nts.example", good_ke);
        world
    }

    pub(super) fn seconds(&self) -> f64 {
        self.now.seconds_since(MonoTime::from_nanos(1_000_000_000_000))
    }

    pub(super) fn true_time(&self) -> NtpDate {
        NtpDate::from_unix(BEGIN, 0) + NtpDuration::from_secs_f64(self.seconds())
    }

    pub(super) fn reading(&self) -> ClockReading {
        ClockReading { mono: self.now, system: self.true_time() + self.clock_error }
    }

    fn stamp(&self) -> Timestamped {
        Timestamped::by_daemon(self.reading())
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(self.now, input);
        self.drain();
    }

    pub(super) fn command(&mut self, command: Command) {
        self.input(Input::Control(command));
    }

    pub(super) fn report(&self) -> EngineReport {
        self.engine.report(self.reading())
    }

    pub(super) fn source(&self) -> SourceReport {
        self.report().sources.into_iter().next().expect("there is a source")
    }

    /// How many datagrams were discarded for this reason so far.
    pub(super) fn discarded(&self, reason: DiscardReason) -> usize {
        let is_this =
            |event: &&Event| matches!(event, Event::Discarded { reason: other, .. } if *other == reason);
        self.events.iter().filter(is_this).count()
    }

    pub(super) fn samples(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Sampled { .. })).count()
    }

    /// Placeholders of each NTS request so far.
    pub(super) fn placeholders(&self) -> Vec<usize> {
        let count = |octets: &[u8]| NtsRequest::parse(octets).map_or(0, |request| request.placeholders);
        self.sent.iter().map(|(_, _, octets)| count(octets)).collect()
    }

    /// Cookies of all NTS requests so far.
    pub(super) fn cookies_sent(&self) -> Vec<Vec<u8>> {
        let cookie = |octets: &[u8]| NtsRequest::parse(octets).map(|request| request.cookie.to_vec()).ok();
        self.sent.iter().filter_map(|(_, _, octets)| cookie(octets)).collect()
    }

    pub(super) fn run_for(&mut self, seconds: f64) {
        let end = self.now.add_secs_f64(seconds);
        self.drain();
        let (mut steps, mut for_nothing) = (0, 0);
        loop {
            let deadline = self.engine.poll_timeout();
            let arrival = self.pending.iter().map(|(at, ..)| *at).min();
            let Some(next) = [deadline, arrival].into_iter().flatten().min().filter(|next| *next <= end)
            else {
                break;
            };
            self.advance(next);
            if arrival.is_some_and(|at| at <= self.now) {
                self.deliver();
            } else {
                self.engine.handle_timeout(self.now);
                assert!(
                    self.engine.poll_timeout().is_none_or(|at| at > self.now),
                    "a timeout makes progress"
                );
                let soon = self.now.add_secs_f64(2e-3);
                let is_soon = self.engine.poll_timeout().is_some_and(|at| at < soon);
                for_nothing = if is_soon { for_nothing + 1 } else { 0 };
                assert!(for_nothing < 1000, "the engine wakes again and again for nothing");
            }
            self.drain();
            steps += 1;
            assert!(steps < 200_000, "the engine spins");
        }
        self.advance(end);
    }

    /// Lets time pass; the system clock runs as fast as it was told to.
    pub(super) fn advance(&mut self, to: MonoTime) {
        let elapsed = to.saturating_since(self.now).as_secs_f64();
        self.clock_error += NtpDuration::from_secs_f64(elapsed * self.frequency);
        self.now = self.now.max(to);
    }

    /// Everything under way is lost.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }

    fn deliver(&mut self) {
        let (index, _) = self
            .pending
            .iter()
            .enumerate()
            .min_by_key(|(_, (at, sequence, _))| (*at, *sequence))
            .expect("something is pending");
        let (_, _, pending) = self.pending.remove(index);
        match pending {
            Pending::Datagram(exchange, answer) => {
                let received = self.stamp();
                let (from, local) = (answer.from, Some(ip("198.51.100.1")));
                let octets = &answer.octets;
                self.engine.handle_input(
                    self.now,
                    Input::Datagram { exchange, from, local, received, path: None, octets },
                );
            }
            Pending::Resolved(lookup, name) => {
                let result = self.names.get(&name).cloned().ok_or(ResolveFailure::NotFound);
                self.engine.handle_input(self.now, Input::Resolved { lookup, result });
            }
            Pending::Ke(request) => {
                let (address, result) = match self.ke_servers.get_mut(&request.server_name) {
                    Some(behaviour) => behaviour(&request, &self.ring),
                    None => (None, Err(failure("connect", true))),
                };
                let establishment = request.establishment;
                self.engine.handle_input(self.now, Input::KeFinished { establishment, address, result });
            }
        }
    }

    fn pend(&mut self, seconds: f64, pending: Pending) {
        self.sequence += 1;
        self.pending.push((self.now.add_secs_f64(seconds), self.sequence, pending));
    }

    fn drain(&mut self) {
        loop {
            if let Some(transmit) = self.engine.poll_transmit() {
                self.transmit(transmit);
            } else if let Some(request) = self.engine.poll_request() {
                self.request(request);
            } else if let Some(command) = self.engine.poll_clock() {
                match command {
                    ClockCommand::Step { by } => self.clock_error += by,
                    ClockCommand::SetFrequency { frequency } => self.frequency = frequency.as_ratio(),
                    ClockCommand::SetStatus { .. } | ClockCommand::SetTaiOffset { .. } => {}
                }
                self.commands.push(command);
                self.engine.handle_input(self.now, Input::ClockApplied { result: Ok(command) });
            } else if let Some(event) = self.engine.poll_event() {
                self.timed_events.push((self.seconds(), event.clone()));
                self.events.push(event);
            } else {
                return;
            }
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        let Transmit { token, to, octets, .. } = transmit;
        let exchange = token.exchange();
        self.open_sockets += 1;
        if self.network_is_down {
            let sent = Err(SendFailure::Unreachable);
            return self.engine.handle_input(self.now, Input::Transmitted { token, sent });
        }
        self.sent.push((self.seconds(), to, octets.clone()));
        let mut sent = self.stamp();
        if self.kernel_stamps {
            sent.source = TimestampSource::Kernel;
        }
        let sent = Ok(sent);
        self.engine.handle_input(self.now, Input::Transmitted { token, sent });
        let time = self.true_time() + NtpDuration::from_secs_f64(ONE_WAY);
        if let Some((behaviour, number)) = self.servers.get_mut(&to) {
            let asked = Asked { octets: &octets, number: *number, time, address: to, ring: &self.ring };
            *number += 1;
            for answer in behaviour(&asked) {
                // A little jitter, the same in each run.
                let jitter = 1e-5 * f64::from(octets[47] % 16);
                self.pend(2.0 * ONE_WAY + jitter + answer.after, Pending::Datagram(exchange, answer));
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Resolve { lookup, name, .. } => {
                self.lookups.push((self.seconds(), name.clone()));
                self.pend(0.005, Pending::Resolved(lookup, name));
            }
            Request::EstablishKeys(request) => {
                self.establishments.push((self.seconds(), request.clone()));
                self.pend(0.05, Pending::Ke(Box::new(request)));
            }
            Request::CancelEstablishment(id) => self.pending.retain(
                |(_, _, pending)| !matches!(pending, Pending::Ke(request) if request.establishment == id),
            ),
            Request::CloseExchange(_) => self.open_sockets -= 1,
            // There are none in these worlds.
            Request::ReadReferenceClock(_) | Request::Compensate(_) => {}
            Request::SaveState => self.saves += 1,
        }
    }
}

pub(super) fn failure(kind: &str, network: bool) -> KeFailure {
    KeFailure { kind: kind.to_owned(), text: format!("{kind} failed"), network }
}

pub(super) fn keys(algorithm: AeadAlgorithm, fill: u8) -> NtsKeys {
    let key = |fill| AeadKey::new(algorithm, &vec![fill; algorithm.key_octets()]).expect("the right length");
    NtsKeys { c2s: key(fill), s2c: key(fill ^ 0x80) }
}

/// A key establishment that succeeds, with a certificate that is valid a year before and after the beginning.
pub(super) fn outcome(request: &EstablishKeys, ring: &KeyRing) -> KeOutcome {
    outcome_with(request, ring, BEGIN - YEAR, BEGIN + YEAR)
}

pub(super) fn outcome_with(
    request: &EstablishKeys,
    ring: &KeyRing,
    not_before: i64,
    not_after: i64,
) -> KeOutcome {
    let fill = request.establishment.0.to_le_bytes()[0];
    let keys = keys(AeadAlgorithm::AesSivCmac256, fill);
    let cookies = (0..8).map(|nonce| ring.seal_cookie(&keys, [fill ^ nonce << 4; 16])).collect();
    KeOutcome {
        keys,
        alternative_keys: None,
        cookies,
        ntp_server: None,
        ntp_port: None,
        certificate_not_before: not_before,
        certificate_not_after: not_after,
        certificate_chain: Vec::new(),
        warnings: Vec::new(),
    }
}

pub(super) fn reached(request: &EstablishKeys) -> Option<SocketAddr> {
    request.addresses.first().map(|address| SocketAddr::new(*address, request.port))
}

pub(super) fn good_ke(
    request: &EstablishKeys,
    ring: &KeyRing,
) -> (Option<SocketAddr>, Result<KeOutcome, KeFailure>) {
    (reached(request), Ok(outcome(request, ring)))
}

/// The header of a good answer.
pub(super) fn good_header(asked: &Asked<'_>) -> Header {
    let request = Header::decode(asked.octets).expect("a request has a header");
    Header {
        leap: LeapIndicator::NoWarning,
        version: request.version,
        mode: Mode::Server,
        stratum: 1,
        poll: 6,
        precision: -25,
        root_delay: NtpShort::ZERO,
        root_dispersion: NtpShort::from_bits(16),
        reference_id: ReferenceId(*b"GPS\0"),
        reference: asked.time.timestamp(),
        origin: request.transmit,
        receive: asked.time.timestamp(),
        transmit: asked.time.timestamp() + NtpDuration::from_nanos(1000),
    }
}

pub(super) fn answer(asked: &Asked<'_>, octets: Vec<u8>) -> Answer {
    Answer { after: 0.0, from: asked.address, octets }
}

/// An answer without authentication.
pub(super) fn plain_answer(asked: &Asked<'_>, change: impl FnOnce(&mut Header)) -> Answer {
    let mut header = good_header(asked);
    change(&mut header);
    answer(asked, header.encode().to_vec())
}

pub(super) fn good_plain(asked: &Asked<'_>) -> Vec<Answer> {
    vec![plain_answer(asked, |_| ())]
}

/// How an authenticated answer differs from a good one.
#[derive(Default)]
pub(super) struct Changes<'c> {
    pub(super) header: Option<&'c dyn Fn(&mut Header)>,
    /// Instead of as many as were asked for.
    pub(super) cookies: Option<Vec<Cookie>>,
    pub(super) unique_identifier: Option<Vec<u8>>,
    pub(super) key: Option<&'c dyn Fn(&NtsKeys) -> AeadKey>,
}

/// An authenticated answer; `None` when the request cannot be answered (which no test expects).
pub(super) fn nts_answer(asked: &Asked<'_>, changes: &Changes<'_>) -> Answer {
    let request = NtsRequest::parse(asked.octets).expect("an NTS request");
    let (keys, count) = request.accept(asked.ring).expect("a good cookie and authenticator");
    let mut header = good_header(asked);
    if let Some(change) = changes.header {
        change(&mut header);
    }
    let fresh = |at: usize| {
        let mut nonce = [0xc0; 16];
        nonce[..8].copy_from_slice(&asked.octets[40..48]);
        nonce[8] = at.to_le_bytes()[0];
        asked.ring.seal_cookie(&keys, nonce)
    };
    let cookies = changes.cookies.clone().unwrap_or_else(|| (0..count).map(fresh).collect());
    let identifier = changes.unique_identifier.clone().unwrap_or_else(|| request.unique_identifier.to_vec());
    let key = changes.key.map_or_else(|| keys.s2c.clone(), |choose| choose(&keys));
    let mut buffer = [0; 4096];
    buffer[..HEADER_OCTETS].copy_from_slice(&header.encode());
    let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
    let nonce = &[0x55; 16][..keys.algorithm().nonce_octets()];
    write_nts_response(&mut writer, &identifier, &key, nonce, &cookies).expect("there is room");
    answer(asked, writer.written().to_vec())
}

pub(super) fn good_nts(asked: &Asked<'_>) -> Vec<Answer> {
    vec![nts_answer(asked, &Changes::default())]
}

/// An unauthenticated kiss code; with the unique identifier if asked for.
pub(super) fn kiss(asked: &Asked<'_>, code: &[u8; 4], unique_identifier: Option<&[u8]>) -> Answer {
    let mut header = good_header(asked);
    (header.stratum, header.reference_id) = (0, ReferenceId(*code));
    (header.receive, header.leap) = (NtpTimestamp::ZERO, LeapIndicator::Unsynchronized);
    let mut buffer = [0; 256];
    buffer[..HEADER_OCTETS].copy_from_slice(&header.encode());
    let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
    if let Some(identifier) = unique_identifier {
        write_nts_nak(&mut writer, identifier).expect("there is room");
    }
    answer(asked, writer.written().to_vec())
}

pub(super) fn identifier(asked: &Asked<'_>) -> Vec<u8> {
    NtsRequest::parse(asked.octets).expect("an NTS request").unique_identifier.to_vec()
}

pub(super) fn nak(asked: &Asked<'_>) -> Answer {
    kiss(asked, b"NTSN", Some(&identifier(asked)))
}
