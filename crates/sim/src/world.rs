//! The world: true time, one client with its engine and clock, servers, and the network between them.

use crate::disk::Disk;
use crate::ladder;
use crate::network::QueueLevel;
use crate::server::{address, failure};
use crate::{Adversary, Burst, Chance, Lie, Manner, Path, SimulatedClock, SimulatedServer};
use chime_discipline::{ClockCommand, SystemState};
use chime_engine::{
    Config, Engine, EstablishKeys, EstablishmentId, Event, ExchangeId, Input, LookupId, Request,
    ResolveFailure, SendFailure, Timestamped, Transmit,
};
use chime_nts::NtsRequest;
use chime_time::{Frequency, NtpDate, NtpDuration};
use chime_wire::LeapIndicator;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How late the client's timers ring, seconds.
const TIMER_LATENESS: f64 = 1e-4;
/// How long the resolver takes; seconds.
const RESOLVE_SECONDS: f64 = 0.02;
/// How long a connection that nobody answers takes to fail; seconds.
const CONNECT_SECONDS: f64 = 5.0;
/// Round trips of a TLS session.
const HANDSHAKE_ROUND_TRIPS: f64 = 4.0;
/// How long an adversary who sees a request takes to answer it; seconds.
const ADVERSARY_SECONDS: f64 = 1e-5;
/// A server that is wrong by more than this is clearly wrong: more than half the round trip of drawn worlds.
const LIE_SECONDS: f64 = 0.1;
/// Within this time a client notices that a server has become wrong: two of the longest intervals; seconds.
const NOTICED_SECONDS: f64 = 2100.0;
/// Our own address; others see it until a translator on the way gives us another one.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// Something that happens in the world, at a time that a scenario says.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// The server with this number restarts and has lost its cookie keys.
    LoseKeys(usize),
    /// The server makes a new cookie key and keeps the old ones.
    RotateKeys(usize),
    /// The server stops or starts to answer.
    Up(usize, bool),
    /// The server's clock is wrong by so many seconds from now on.
    ServerError(usize, f64),
    /// The server is at another address, and its name too.
    Readdress(usize),
    /// The way to and from all servers changes.
    Paths(Path),
    /// All links go down or up.
    Network(bool),
    /// Another process steps the client's clock, seconds; whether the daemon is told at once.
    StepClock(f64, bool),
    /// Another process sets the clock's frequency, s per s; the daemon hears of it when it next looks.
    RetuneClock(f64),
    /// True time passes a leap second, which is inserted or left out, and so do all servers, who announced it until now.
    LeapSecond(bool),
    /// The oscillator runs faster by so many s per s from now on.
    ChangeOscillator(f64),
    /// The machine sleeps so many seconds and wakes with its clock wrong by as many as the second number says.
    Suspend(f64, f64),
    /// Whether the clock may be set.
    Permit(bool),
    /// Somebody settles on the way, or leaves.
    Adversary(Option<Adversary>),
    /// The server treats its clients in another manner.
    Manner(usize, Manner),
    /// The way to and from one server changes.
    Path(usize, Path),
    /// Key establishment with the server fails, or works again.
    EstablishmentFails(usize, bool),
    /// The client's address changes as others see it, and what is on the way to it is lost.
    NatRebinding,
    /// The daemon cannot write its state, or can again.
    DiskFull(bool),
    /// The daemon is killed: it says nothing to anybody, and the clock keeps its frequency.
    Kill,
    /// The daemon ends in order: it leaves the clock without a slew, and writes all that it knows.
    Stop,
    /// The daemon starts again with what it had written.
    Start,
}

/// What is on its way.
#[derive(Debug)]
enum Pending {
    ToServer { exchange: ExchangeId, to: SocketAddr, octets: Vec<u8> },
    ToClient { exchange: ExchangeId, from: SocketAddr, octets: Vec<u8> },
    Resolved { lookup: LookupId, name: String },
    Established(EstablishKeys),
}

/// One client and everything around it.
#[derive(Debug)]
pub struct World {
    /// The program under test.
    pub engine: Engine,
    /// The clock that it steers.
    pub clock: SimulatedClock,
    /// The servers, called `ntp0.example`, `ntp1.example`, …
    pub servers: Vec<SimulatedServer>,
    /// All events so far.
    pub events: Vec<Event>,
    /// Requests that the client sent.
    pub requests: u64,
    /// Octets of the conversation, for comparing worlds.
    pub fingerprint: u64,
    /// The client's datagrams in readable lines, when asked for with [`World::record_ladder`].
    pub ladder: Vec<String>,
    is_recording: bool,
    is_running: bool,
    disk: Disk,
    seen_as: IpAddr,
    /// What the daemon starts with, again and again.
    config: Config,
    start: NtpDate,
    paths: Vec<Path>,
    /// For each server the slow queues there and back.
    queues: Vec<[QueueLevel; 2]>,
    bursts: Vec<Burst>,
    moves: u8,
    network_up: bool,
    adversary: Option<Adversary>,
    /// What happens next, by the bits of its time (which order as the times do, as none is negative) and a number.
    queue: BTreeMap<(u64, u64), Pending>,
    queued: u64,
    open: BTreeSet<ExchangeId>,
    cancelled: BTreeSet<EstablishmentId>,
    /// All that were ever sent, by this daemon and those before it.
    cookies: BTreeSet<Vec<u8>>,
    chance: Chance,
}

impl World {
    /// Puts a client and servers into a world. `paths` has one entry for each server.
    #[must_use]
    pub fn new(
        engine: Engine,
        clock: SimulatedClock,
        servers: Vec<SimulatedServer>,
        paths: Vec<Path>,
        chance: Chance,
    ) -> Self {
        assert_eq!(servers.len(), paths.len(), "one path leads to each server");
        let start = clock.read().system - NtpDuration::from_secs_f64(clock.error());
        let mut disk = Disk::default();
        disk.daemon_starts(clock.time());
        Self {
            config: engine.config().clone(),
            engine,
            clock,
            servers,
            events: Vec::new(),
            requests: 0,
            fingerprint: 0,
            ladder: Vec::new(),
            is_recording: false,
            is_running: true,
            disk,
            seen_as: CLIENT,
            start,
            queues: vec![[QueueLevel::default(); 2]; paths.len()],
            paths,
            bursts: Vec::new(),
            moves: 0,
            network_up: true,
            adversary: None,
            queue: BTreeMap::new(),
            queued: 0,
            open: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            cookies: BTreeSet::new(),
            chance,
        }
    }

    /// True time.
    #[must_use]
    pub fn now(&self) -> NtpDate {
        self.start + NtpDuration::from_secs_f64(self.clock.time())
    }

    /// Writes down from now on what the client sends and receives.
    pub const fn record_ladder(&mut self) {
        self.is_recording = true;
    }

    /// Congestion that comes in its time.
    pub fn set_bursts(&mut self, bursts: &[Burst]) {
        self.bursts = bursts.to_vec();
    }

    /// The interval of its own error that the client believes in: seconds that its clock is fast by at least and at
    /// most; `None` while it does not say that it is synchronised.
    #[must_use]
    pub fn believed_error(&self) -> Option<(f64, f64)> {
        let state = self.state().filter(|state| state.synchronized)?;
        Some((-state.root_distance(), state.root_distance()))
    }

    /// What the client knows about its clock; `None` while it does not run.
    #[must_use]
    pub fn state(&self) -> Option<SystemState> {
        self.is_running.then(|| self.engine.discipline().system(self.clock.read().mono))
    }

    /// The server with this reference identifier in our answers, if its clock is clearly wrong and has been for longer
    /// than any client needs to notice.
    #[must_use]
    pub fn liar_with(&self, reference_id: [u8; 4]) -> Option<usize> {
        let time = self.clock.time();
        self.servers.iter().position(|server| {
            // A clock that jumps is right in between.
            let steady = Lie { jumps: None, ..server.lie };
            let is_wrong = |time| (server.error + steady.error_at(time)).abs() > LIE_SECONDS;
            let always = server.lie.at <= 0.0 && is_wrong(0.0);
            server.address == IpAddr::V4(reference_id.into())
                && is_wrong(time)
                && (always || is_wrong((time - NOTICED_SECONDS).max(0.0)))
        })
    }

    /// The least and the greatest poll exponent of the client's associations.
    #[must_use]
    pub fn polls(&self) -> Option<(i8, i8)> {
        if !self.is_running {
            return None;
        }
        let sources = self.engine.report(self.clock.read()).sources;
        let polls = sources.iter().filter(|source| source.remote.is_some()).map(|source| source.poll);
        polls.clone().min().zip(polls.max())
    }

    /// How often the daemon could not write its state.
    #[must_use]
    pub const fn disk_failures(&self) -> u64 {
        self.disk.failures
    }

    /// The name of a server.
    #[must_use]
    pub fn name(index: usize) -> String {
        format!("ntp{index}.example")
    }

    /// Runs until `end` seconds after the start, calling `watch` at every full second.
    pub fn run(&mut self, end: f64, watch: &mut dyn FnMut(&Self)) {
        self.settle();
        while self.clock.time() < end {
            let deadline = self.engine.poll_timeout().filter(|_| self.is_running);
            let wake = deadline.map_or(f64::INFINITY, |at| self.clock.time_of(at) + TIMER_LATENESS);
            let queued = self.queue.first_key_value().map_or(f64::INFINITY, |(key, _)| f64::from_bits(key.0));
            let second = self.clock.time().floor() + 1.0;
            let next = end.min(queued).min(wake).min(second).min(self.clock.next_change());
            self.clock.advance(next, &mut self.chance);
            if next >= second {
                if self.is_running {
                    self.disk.tend(&self.engine, next);
                }
                watch(self);
            }
            if next >= queued {
                if let Some((_, pending)) = self.queue.pop_first() {
                    self.happen(pending);
                }
            } else if deadline.is_some_and(|at| at <= self.clock.read().mono) {
                self.ring();
            }
        }
    }

    /// The client's timer rings.
    fn ring(&mut self) {
        let before = self.engine.poll_timeout();
        self.engine.handle_timeout(self.clock.read().mono);
        let emitted = self.settle();
        let after = self.engine.poll_timeout();
        assert!(
            emitted || after.is_none() || after > before,
            "a timeout makes progress: it was due {before:?} and is due {after:?}"
        );
    }

    /// Lets something happen now.
    pub fn act(&mut self, action: &Action) {
        let date = self.now();
        match action {
            Action::LoseKeys(server) => self.servers[*server].lose_keys(date, &mut self.chance),
            Action::RotateKeys(server) => self.servers[*server].rotate_keys(date, &mut self.chance),
            Action::Up(server, up) => self.servers[*server].up = *up,
            Action::ServerError(server, error) => self.servers[*server].error = *error,
            Action::Readdress(server) => {
                self.moves += 1;
                self.servers[*server].address = address(u8::try_from(*server).unwrap_or(0), self.moves);
            }
            Action::Paths(path) => self.paths.fill(*path),
            Action::Network(up) => {
                self.network_up = *up;
                self.tell(Input::NetworkChanged);
            }
            Action::StepClock(by, noticed) => {
                self.clock.step_by_another_process(*by);
                if *noticed {
                    self.tell(Input::ClockStepped { by: NtpDuration::from_secs_f64(*by) });
                }
            }
            Action::RetuneClock(ratio) => {
                let frequency = Frequency::from_ratio(*ratio);
                let since = self.clock.read().mono;
                self.clock.retune_by_another_process(frequency);
                self.tell(Input::ClockAdjusted { frequency, slew: 0.0, since });
            }
            Action::LeapSecond(insert) => self.pass_leap_second(if *insert { -1 } else { 1 }),
            Action::ChangeOscillator(by) => self.clock.change_oscillator(*by),
            Action::Suspend(seconds, rtc_error) => {
                self.queue.clear();
                self.clock.suspend(*seconds, *rtc_error);
                let slept = NtpDuration::from_secs_f64(*seconds + *rtc_error);
                self.tell(Input::Suspended { slept });
            }
            Action::Permit(permitted) => self.clock.permit(*permitted),
            Action::Adversary(adversary) => self.adversary.clone_from(adversary),
            Action::Manner(server, manner) => self.servers[*server].set_manner(*manner),
            Action::Path(server, path) => self.paths[*server] = *path,
            Action::EstablishmentFails(server, fails) => self.servers[*server].establishment_fails = *fails,
            Action::NatRebinding => {
                self.seen_as = other_address(self.seen_as);
                self.queue.retain(|_, pending| !matches!(pending, Pending::ToClient { .. }));
            }
            Action::DiskFull(full) => self.disk.full = *full,
            Action::Kill => self.is_running = false,
            Action::Stop => self.stop_daemon(),
            Action::Start => self.start_daemon(),
        }
        self.settle();
    }

    /// Everybody but the client passes a leap second; the client's kernel does if it was told to, and the daemon notices.
    fn pass_leap_second(&mut self, step: i64) {
        self.start = self.start + NtpDuration::from_seconds(step);
        for server in &mut self.servers {
            server.leap = LeapIndicator::NoWarning;
        }
        if let Some(by) = self.clock.pass_leap_second(step) {
            self.tell(Input::ClockStepped { by });
        }
    }

    /// Tells the daemon, if it runs, what happened now.
    fn tell(&mut self, input: Input<'_>) {
        if self.is_running {
            self.engine.handle_input(self.clock.read().mono, input);
        }
    }

    fn stop_daemon(&mut self) {
        let now = self.clock.read().mono;
        let ppm = self.engine.discipline().system(now).frequency_ppm;
        let frequency = Frequency::from_ppm(ppm);
        // One that is not permitted to touch the clock leaves it as it is.
        let _refused = self.clock.apply(ClockCommand::SetFrequency { frequency });
        self.disk.daemon_ends(&self.engine, self.clock.identity());
        self.is_running = false;
    }

    /// The daemon starts with what is on disk. Nothing that was on its way to the old one reaches the new one.
    fn start_daemon(&mut self) {
        let now = self.clock.read();
        let (config, nts) = self.disk.load(self.config.clone());
        self.engine = Engine::new(config, self.chance.octets(), now);
        self.engine.restore_nts_state(now.mono, nts);
        self.disk.restore_samples(&mut self.engine, &self.clock.identity());
        self.queue.retain(|_, pending| matches!(pending, Pending::ToServer { .. }));
        self.open.clear();
        self.cancelled.clear();
        self.disk.daemon_starts(self.clock.time());
        self.is_running = true;
    }

    /// Fetches everything that the engine has to say and does it; whether there was anything.
    fn settle(&mut self) -> bool {
        if !self.is_running {
            return false;
        }
        let mut any = false;
        loop {
            let mut quiet = true;
            while let Some(transmit) = self.engine.poll_transmit() {
                quiet = false;
                self.transmit(transmit);
            }
            while let Some(request) = self.engine.poll_request() {
                quiet = false;
                self.request(request);
            }
            while let Some(command) = self.engine.poll_clock() {
                quiet = false;
                let result = self.clock.apply(command);
                self.engine.handle_input(self.clock.read().mono, Input::ClockApplied { result });
            }
            while let Some(event) = self.engine.poll_event() {
                quiet = false;
                self.events.push(event);
            }
            if quiet {
                return any;
            }
            any = true;
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        let Transmit { token, to, octets, .. } = transmit;
        let exchange = token.exchange();
        let (reading, stamp) = (self.clock.read(), self.clock.stamp(&mut self.chance));
        let sent = if self.network_up {
            self.requests += 1;
            self.note("c>s", &octets);
            if let Ok(request) = NtsRequest::parse(&octets) {
                assert!(
                    self.cookies.insert(request.cookie.to_vec()),
                    "a cookie is sent once (RFC 8915 §5.7)"
                );
            }
            self.open.insert(exchange);
            self.send(exchange, to, &octets);
            Ok(Timestamped::by_daemon(stamp))
        } else {
            Err(SendFailure::Unreachable)
        };
        self.engine.handle_input(reading.mono, Input::Transmitted { token, sent });
    }

    /// A request leaves: the adversary sees it first.
    fn send(&mut self, exchange: ExchangeId, to: SocketAddr, octets: &[u8]) {
        let date = self.now();
        let injections = match &mut self.adversary {
            Some(adversary) => adversary.on_request(octets, date, &mut self.chance),
            None => Vec::new(),
        };
        for injection in injections {
            self.later(ADVERSARY_SECONDS, Pending::ToClient { exchange, from: to, octets: injection });
        }
        let Some(server) = self.server_at(to.ip()) else { return };
        let (path, (congestion, queued)) = (self.paths[server], self.traffic(server, false));
        for (delay, octets) in path.carry(path.there, congestion, octets, &mut self.chance) {
            self.later(queued + delay, Pending::ToServer { exchange, to, octets });
        }
    }

    /// What other traffic does to a datagram now: by what its queueing delay is multiplied, and the delay of the slow
    /// queue, seconds.
    fn traffic(&mut self, server: usize, back: bool) -> (f64, f64) {
        let time = self.clock.time();
        let congestion = self.bursts.iter().map(|burst| burst.factor(time, back)).product();
        let path = &self.paths[server];
        let queue = if back { path.back.queue } else { path.there.queue };
        let queued = queue.map_or(0.0, |queue| {
            let level = &mut self.queues[if queue.shared { 0 } else { server }][usize::from(back)];
            level.delay(&queue, time, &mut self.chance)
        });
        (congestion, queued)
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Resolve { lookup, name, .. } => {
                self.later(RESOLVE_SECONDS, Pending::Resolved { lookup, name });
            }
            Request::EstablishKeys(keys) => {
                let server = keys.addresses.iter().find_map(|address| self.server_at(*address));
                let seconds = match server {
                    Some(server) if self.network_up && self.servers[server].up => {
                        let path = self.paths[server];
                        HANDSHAKE_ROUND_TRIPS * (path.there.base + path.back.base)
                    }
                    _ => CONNECT_SECONDS,
                };
                self.later(seconds, Pending::Established(keys));
            }
            Request::CancelEstablishment(establishment) => {
                self.cancelled.insert(establishment);
            }
            Request::CloseExchange(exchange) => {
                self.open.remove(&exchange);
            }
            // There are none in these worlds.
            Request::ReadReferenceClock(_) | Request::Compensate(_) => {}
            Request::SaveState => self.disk.save_nts(&mut self.engine),
        }
    }

    fn later(&mut self, seconds: f64, pending: Pending) {
        self.queued += 1;
        let at = self.clock.time() + seconds;
        assert!(at.is_finite() && at >= 0.0, "the queue orders by the bits of times that are not negative");
        self.queue.insert((at.to_bits(), self.queued), pending);
    }

    fn happen(&mut self, pending: Pending) {
        if !self.is_running && !matches!(pending, Pending::ToServer { .. }) {
            return;
        }
        match pending {
            Pending::ToServer { exchange, to, octets } => self.serve(exchange, to, &octets),
            Pending::ToClient { exchange, from, octets } => self.receive(exchange, from, &octets),
            Pending::Resolved { lookup, name } => {
                let result = self.resolve(&name);
                self.engine.handle_input(self.clock.read().mono, Input::Resolved { lookup, result });
            }
            Pending::Established(request) => self.establish(&request),
        }
        self.settle();
    }

    fn serve(&mut self, exchange: ExchangeId, to: SocketAddr, octets: &[u8]) {
        let (date, time) = (self.now(), self.clock.time());
        let Some(index) = self.server_at(to.ip()).filter(|_| self.network_up) else { return };
        let answer = self.servers[index].respond(octets, self.seen_as, (date, time), &mut self.chance);
        let Some((processing, mut octets)) = answer else { return };
        if let Some(adversary) = &mut self.adversary {
            octets = adversary.on_response(&octets, &mut self.chance);
        }
        let (path, (congestion, queued)) = (self.paths[index], self.traffic(index, true));
        for (delay, octets) in path.carry(path.back, congestion, &octets, &mut self.chance) {
            self.later(processing + queued + delay, Pending::ToClient { exchange, from: to, octets });
        }
    }

    fn receive(&mut self, exchange: ExchangeId, from: SocketAddr, octets: &[u8]) {
        if !self.network_up || !self.open.contains(&exchange) {
            return;
        }
        self.note("s>c", octets);
        let received = Timestamped::by_daemon(self.clock.stamp(&mut self.chance));
        let input = Input::Datagram { exchange, from, local: Some(CLIENT), received, path: None, octets };
        self.engine.handle_input(self.clock.read().mono, input);
    }

    fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveFailure> {
        if !self.network_up {
            return Err(ResolveFailure::Temporary);
        }
        let index = (0..self.servers.len()).find(|&index| Self::name(index) == name);
        index.map(|index| vec![self.servers[index].address]).ok_or(ResolveFailure::NotFound)
    }

    fn establish(&mut self, request: &EstablishKeys) {
        if self.cancelled.remove(&request.establishment) {
            return;
        }
        let reached = request
            .addresses
            .iter()
            .find_map(|&ip| self.server_at(ip).map(|index| (index, SocketAddr::new(ip, request.port))))
            .filter(|&(index, _)| self.network_up && self.servers[index].up);
        let (address, result) = match reached {
            Some((index, address)) => {
                (Some(address), self.servers[index].establish(request, &mut self.chance))
            }
            None => (None, Err(failure("timeout", "the server does not answer", true))),
        };
        let input = Input::KeFinished { establishment: request.establishment, address, result };
        self.engine.handle_input(self.clock.read().mono, input);
    }

    fn server_at(&self, address: IpAddr) -> Option<usize> {
        self.servers.iter().position(|server| server.address == address)
    }

    /// Mixes octets into the fingerprint (FNV-1a), and writes a line about them.
    fn note(&mut self, way: &str, octets: &[u8]) {
        if self.is_recording {
            self.ladder.push(ladder::line(self.clock.time(), way, octets));
        }
        for octet in octets {
            self.fingerprint = (self.fingerprint ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Another address of the same network.
fn other_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Ipv4Addr::new(a, b, c, d.wrapping_add(1)).into()
        }
        IpAddr::V6(_) => address,
    }
}
