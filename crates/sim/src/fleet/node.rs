//! One node of a fleet: a clock, an engine, and what it says to those who ask.

use super::Fleet;
use crate::{Chance, SimulatedClock};
use chime_discipline::ClockCommand;
use chime_engine::{
    Config, Engine, ExchangeId, Input, LookupId, Request, ResolveFailure, SourceConfig, Timestamped,
    server_time,
};
use chime_server::{Arrival, Environment, Published, Responder, ServerTime, Verdict};
use chime_time::{ClockReading, Frequency, NtpDate, NtpDuration, NtpShort, NtpTimestamp};
use chime_wire::ReferenceId;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How late timers ring, seconds.
const TIMER_LATENESS: f64 = 1e-4;
/// Octets that an answer has room for.
const RESPONSE_OCTETS: usize = 1024;

/// A node; those of the first stratum have clocks that are right and follow nobody.
pub(super) struct Node {
    pub(super) level: usize,
    pub(super) turn: u64,
    pub(super) requests: u64,
    /// Infinite until it was.
    pub(super) synchronised_at: f64,
    clock: SimulatedClock,
    engine: Option<Engine>,
    /// What the clock was last told to run at.
    frequency: Frequency,
    open: BTreeSet<ExchangeId>,
    chance: Chance,
}

/// What a node wants of the world.
pub(super) enum Wish {
    Send { exchange: ExchangeId, to: usize, octets: Vec<u8> },
    Resolve { lookup: LookupId, name: String },
}

/// The address of a node: its number in 10.0.0.0/8.
pub(super) fn address(number: usize) -> IpAddr {
    let [_, a, b, c] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    Ipv4Addr::new(10, a, b, c).into()
}

fn number_of(address: IpAddr) -> Option<usize> {
    let IpAddr::V4(v4) = address else { return None };
    let [ten, a, b, c] = v4.octets();
    (ten == 10).then_some(u32::from_be_bytes([0, a, b, c]) as usize)
}

fn name_of(number: usize) -> String {
    format!("node{number}.example")
}

struct FleetEnvironment<'a> {
    transmit: NtpTimestamp,
    chance: &'a mut Chance,
}

impl Environment for FleetEnvironment<'_> {
    fn system_time(&mut self) -> NtpTimestamp {
        self.transmit
    }

    fn fill_random(&mut self, octets: &mut [u8]) {
        self.chance.fill(octets);
    }
}

impl Node {
    pub(super) fn new(
        fleet: &Fleet,
        number: usize,
        level: usize,
        parents: &[usize],
        start: NtpDate,
        chance: &mut Chance,
    ) -> Self {
        let mut own = Chance::new(u64::from_be_bytes(chance.octets()) ^ number as u64);
        let mut within = |limit: f64| limit * (2.0 * own.uniform() - 1.0);
        let (offset, frequency, wander) = if parents.is_empty() {
            (0.0, 0.0, 0.0)
        } else {
            (within(fleet.offset), within(fleet.frequency), fleet.wander)
        };
        let clock = SimulatedClock::new(start, offset, frequency, wander);
        let engine = (!parents.is_empty()).then(|| {
            let sources = parents.iter().map(|parent| SourceConfig::server(&name_of(*parent))).collect();
            let mut config = Config { sources, own_addresses: vec![address(number)], ..Config::default() };
            config.known_time.build_unix_seconds = start.unix_seconds() - 30 * 86_400;
            Engine::new(config, own.octets(), clock.read())
        });
        let synchronised_at = if parents.is_empty() { 0.0 } else { f64::INFINITY };
        Self {
            level,
            turn: 0,
            requests: 0,
            synchronised_at,
            clock,
            engine,
            frequency: Frequency::from_ratio(0.0),
            open: BTreeSet::new(),
            chance: own,
        }
    }

    /// Lets its clock run until `time`.
    pub(super) fn advance(&mut self, time: f64) {
        self.clock.advance(time, &mut self.chance);
    }

    /// Its clock minus true time, seconds.
    pub(super) const fn error(&self) -> f64 {
        self.clock.error()
    }

    /// The bound of the error that it claims at its own stratum, seconds; `None` while it claims none.
    pub(super) fn bound(&self) -> Option<f64> {
        let Some(engine) = &self.engine else { return Some(0.0) };
        let state = engine.discipline().system(self.clock.read().mono);
        (state.synchronized && usize::from(state.stratum) == self.level + 1).then(|| state.root_distance())
    }

    pub(super) fn wake(&mut self, time: f64) {
        self.advance(time);
        let now = self.clock.read().mono;
        if let Some(engine) =
            self.engine.as_mut().filter(|engine| engine.poll_timeout().is_some_and(|at| at <= now))
        {
            engine.handle_timeout(now);
        }
    }

    /// When it wants to be woken: true time.
    pub(super) fn next_wake(&self) -> Option<f64> {
        let at = self.engine.as_ref()?.poll_timeout()?;
        Some(self.clock.time_of(at) + TIMER_LATENESS)
    }

    /// An answer arrives. Whether anybody waits for it.
    pub(super) fn receive(&mut self, time: f64, exchange: ExchangeId, from: IpAddr, octets: &[u8]) -> bool {
        if !self.open.contains(&exchange) {
            return false;
        }
        self.advance(time);
        let reading = self.clock.read();
        let (from, received) =
            (SocketAddr::new(from, chime_engine::NTP_PORT), Timestamped::by_daemon(reading));
        self.tell(Input::Datagram { exchange, from, local: None, received, path: None, octets }, reading);
        true
    }

    pub(super) fn resolved(&mut self, time: f64, lookup: LookupId, name: &str) {
        self.advance(time);
        let number = name.strip_prefix("node").and_then(|rest| rest.strip_suffix(".example"));
        let number = number.and_then(|number| number.parse().ok());
        let result = number.map(|number| vec![address(number)]).ok_or(ResolveFailure::NotFound);
        self.tell(Input::Resolved { lookup, result }, self.clock.read());
    }

    fn tell(&mut self, input: Input<'_>, now: ClockReading) {
        if let Some(engine) = &mut self.engine {
            engine.handle_input(now.mono, input);
        }
    }

    /// Does what the engine wants of its clock, and gives what it wants of the world.
    pub(super) fn drain(&mut self, time: f64) -> Vec<Wish> {
        self.advance(time);
        let mut wishes = Vec::new();
        let Some(engine) = &mut self.engine else { return wishes };
        loop {
            let mut quiet = true;
            while let Some(transmit) = engine.poll_transmit() {
                quiet = false;
                let (reading, exchange) = (self.clock.read(), transmit.token.exchange());
                let sent = Ok(Timestamped::by_daemon(reading));
                engine.handle_input(reading.mono, Input::Transmitted { token: transmit.token, sent });
                self.open.insert(exchange);
                self.requests += 1;
                if let Some(to) = number_of(transmit.to.ip()) {
                    wishes.push(Wish::Send { exchange, to, octets: transmit.octets });
                }
            }
            while let Some(request) = engine.poll_request() {
                quiet = false;
                match request {
                    Request::Resolve { lookup, name, .. } => wishes.push(Wish::Resolve { lookup, name }),
                    Request::CloseExchange(exchange) => {
                        self.open.remove(&exchange);
                    }
                    // Nothing is written, and no keys are established without NTS.
                    _ => {}
                }
            }
            while let Some(command) = engine.poll_clock() {
                quiet = false;
                let result = self.clock.apply(command);
                if let Ok(ClockCommand::SetFrequency { frequency }) = result {
                    self.frequency = frequency;
                }
                engine.handle_input(self.clock.read().mono, Input::ClockApplied { result });
            }
            while engine.poll_event().is_some() {
                quiet = false;
            }
            if quiet {
                return wishes;
            }
        }
    }

    /// Answers a request that arrives now.
    pub(super) fn answer(
        &mut self,
        request: &[u8],
        from: IpAddr,
        time: f64,
        responder: &mut Responder,
        chance: &mut Chance,
    ) -> Option<Vec<u8>> {
        self.advance(time);
        let reading = self.clock.read();
        let server_time = self.server_time(reading);
        let published = Published { time: &server_time, keys: None };
        let arrival = Arrival::new(from, reading.system.timestamp(), reading.mono);
        let mut environment = FleetEnvironment { transmit: reading.system.timestamp(), chance };
        let mut response = vec![0; RESPONSE_OCTETS];
        match responder.respond(request, &arrival, &published, &mut environment, &mut response) {
            Verdict::Respond { octets, .. } => {
                assert!(octets <= request.len(), "an answer is never longer than its request");
                response.truncate(octets);
                Some(response)
            }
            Verdict::Silence(_) => None,
        }
    }

    fn server_time(&self, now: ClockReading) -> ServerTime {
        let precision = chime_time::Precision::new(-24);
        match &self.engine {
            Some(engine) => {
                server_time(&engine.discipline().system(now.mono), self.frequency, now, precision)
            }
            None => ServerTime {
                root_delay: NtpShort::ZERO,
                root_dispersion: NtpDuration::from_secs_f64(1e-5),
                reference_id: ReferenceId(*b"GPS\0"),
                ..ServerTime::local(1, -24, now.mono, (now.system - NtpDuration::from_seconds(8)).timestamp())
            },
        }
    }
}
