//! Symmetric mode: two engines as each other's peers. RFC 5905 §9, RFC 9769 §3.

use super::world::config;
use crate::{
    AskedFields, Authentication, Command, DiscardReason, Engine, Event, ExchangeId, Input, Request,
    SourceConfig, SourceKind, SourceMode, SourceReport, TimestampSource, Timestamped, Transmit,
};
use chime_discipline::{ClockCommand, LocalReference};
use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration, PollExponent};
use chime_wire::mac::{MacAlgorithm, SymmetricKey};
use chime_wire::{Header, Mode};
use std::net::SocketAddr;
use std::sync::Arc;

const ONE_WAY: f64 = 0.003;
/// How late after its transmit timestamp a packet really leaves; seconds.
const LATE: f64 = 0.0005;
const BEGIN: i64 = 1_795_187_154;

/// One engine and its clock.
struct Side {
    engine: Engine,
    address: SocketAddr,
    /// System clock minus true time.
    error: f64,
    /// Commanded.
    frequency: f64,
    /// By how much the oscillator is fast.
    oscillator: f64,
    socket: Option<ExchangeId>,
    events: Vec<Event>,
    sent: Vec<Vec<u8>>,
}

/// What becomes of a packet: sender, number, octets.
type Path = Box<dyn FnMut(usize, usize, Vec<u8>) -> Vec<Vec<u8>>>;

/// Two sides and the packets between them.
struct Pair {
    now: MonoTime,
    sides: [Side; 2],
    /// When, to whom, octets.
    pending: Vec<(MonoTime, usize, Vec<u8>)>,
    /// Loses or forges packets: number of the sender, octets.
    path: Path,
    packets: usize,
}

fn key() -> SymmetricKey {
    SymmetricKey::new(7, MacAlgorithm::Sha1, b"a secret of two peers").expect("a good key")
}

fn peer(name: &str, poll: i8) -> SourceConfig {
    SourceConfig {
        mode: SourceMode::Symmetric { local_port: 123 },
        authentication: Authentication::Key(7),
        iburst: false,
        poll_min: PollExponent::new(poll),
        poll_max: PollExponent::new(poll),
        ..SourceConfig::server(name)
    }
}

impl Side {
    fn new(address: &str, source: SourceConfig, error: f64, is_reference: bool) -> Self {
        let mut config = config(vec![source]);
        config.keys = Arc::new(vec![key()]);
        config.discipline.minimum_agreeing_sources = 1;
        config.discipline.local =
            is_reference.then(|| LocalReference { stratum: 5, ..LocalReference::default() });
        let system = NtpDate::from_unix(BEGIN, 0) + NtpDuration::from_secs_f64(error);
        let mono = MonoTime::from_nanos(1_000_000_000_000);
        let address: SocketAddr = address.parse().expect("an address");
        let engine =
            Engine::new(config, [address.ip().to_string().as_bytes()[8]; 32], ClockReading { mono, system });
        let (frequency, oscillator) = (0.0, 0.0);
        Self { engine, address, error, frequency, oscillator, socket: None, events: vec![], sent: vec![] }
    }

    fn source(&self, now: MonoTime) -> SourceReport {
        let report = self.engine.report(self.reading(now));
        report.sources.into_iter().next().expect("there is a source")
    }

    fn reading(&self, now: MonoTime) -> ClockReading {
        let elapsed = now.seconds_since(MonoTime::from_nanos(1_000_000_000_000));
        ClockReading {
            mono: now,
            system: NtpDate::from_unix(BEGIN, 0) + NtpDuration::from_secs_f64(elapsed + self.error),
        }
    }

    fn discarded(&self, reason: DiscardReason) -> usize {
        self.events
            .iter()
            .filter(|event| matches!(event, Event::Discarded { reason: other, .. } if *other == reason))
            .count()
    }
}

impl Pair {
    fn new(sources: [SourceConfig; 2], errors: [f64; 2]) -> Self {
        let [one, two] = sources;
        let sides = [
            Side::new("192.0.2.1:123", one, errors[0], true),
            Side::new("192.0.2.2:123", two, errors[1], false),
        ];
        let path = Box::new(|_, _, octets| vec![octets]);
        Self { now: MonoTime::from_nanos(1_000_000_000_000), sides, pending: vec![], path, packets: 0 }
    }

    fn usual(interleaved: [bool; 2], polls: [i8; 2]) -> Self {
        let side = |name, at: usize| SourceConfig { interleaved: interleaved[at], ..peer(name, polls[at]) };
        Self::new([side("192.0.2.2", 0), side("192.0.2.1", 1)], [0.0, 0.02])
    }

    fn run_for(&mut self, seconds: f64) {
        let end = self.now.add_secs_f64(seconds);
        self.drain();
        loop {
            let deadlines = self.sides.iter().filter_map(|side| side.engine.poll_timeout());
            let arrivals = self.pending.iter().map(|(at, ..)| *at);
            let Some(next) = deadlines.chain(arrivals).min().filter(|next| *next <= end) else { break };
            self.advance(next);
            for side in &mut self.sides {
                if side.engine.poll_timeout().is_some_and(|at| at <= self.now) {
                    side.engine.handle_timeout(self.now);
                }
            }
            self.deliver();
            self.drain();
        }
        self.advance(end);
    }

    fn advance(&mut self, to: MonoTime) {
        let elapsed = to.seconds_since(self.now).max(0.0);
        for side in &mut self.sides {
            side.error += elapsed * (side.frequency + side.oscillator);
        }
        self.now = self.now.max(to);
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.pending).into_iter().partition(|(at, ..)| *at <= now);
        self.pending = later;
        let due: Vec<(MonoTime, usize, Vec<u8>)> = due;
        for (_, to, octets) in due {
            let from = self.sides[1 - to].address;
            let side = &mut self.sides[to];
            let Some(exchange) = side.socket else { continue };
            let received = Timestamped { at: side.reading(now), source: TimestampSource::Kernel };
            let local = Some(side.address.ip());
            side.engine.handle_input(
                now,
                Input::Datagram { exchange, from, local, received, path: None, octets: &octets },
            );
        }
    }

    fn drain(&mut self) {
        for at in 0..2 {
            loop {
                let side = &mut self.sides[at];
                if let Some(Transmit { token, octets, from_port, .. }) = side.engine.poll_transmit() {
                    assert_eq!(from_port, Some(123));
                    assert!(
                        side.socket.is_none_or(|socket| socket == token.exchange()),
                        "one socket for all packets"
                    );
                    side.socket = Some(token.exchange());
                    let exchange = token.exchange();
                    let sent = Ok(Timestamped::by_daemon(side.reading(self.now)));
                    side.engine.handle_input(self.now, Input::Transmitted { token, sent });
                    // The kernel's stamp: when it really leaves.
                    let leaves = self.now.add_secs_f64(LATE);
                    let left = side.reading(leaves);
                    let sent = Timestamped { at: left, source: TimestampSource::Kernel };
                    side.engine.handle_input(self.now, Input::TransmitTimestamp { exchange, sent });
                    side.sent.push(octets.clone());
                    self.packets += 1;
                    for octets in (self.path)(at, self.packets, octets) {
                        self.pending.push((leaves.add_secs_f64(ONE_WAY), 1 - at, octets));
                    }
                } else if let Some(request) = side.engine.poll_request() {
                    if let Request::CloseExchange(exchange) = request {
                        assert_eq!(side.socket.take(), Some(exchange));
                    }
                } else if let Some(command) = side.engine.poll_clock() {
                    match command {
                        ClockCommand::Step { by } => side.error += by.as_secs_f64(),
                        ClockCommand::SetFrequency { frequency } => side.frequency = frequency.as_ratio(),
                        ClockCommand::SetStatus { .. } | ClockCommand::SetTaiOffset { .. } => {}
                    }
                    side.engine.handle_input(self.now, Input::ClockApplied { result: Ok(command) });
                } else if let Some(event) = side.engine.poll_event() {
                    side.events.push(event);
                } else {
                    break;
                }
            }
        }
    }

    fn synchronized(&self) -> [bool; 2] {
        self.sides.each_ref().map(|side| side.engine.report(side.reading(self.now)).tracking.synchronized)
    }

    fn report(&self, at: usize) -> SourceReport {
        self.sides[at].source(self.now)
    }
}

#[test]
fn the_one_without_time_follows_the_one_that_has_it_and_not_the_other_way() {
    let mut pair = Pair::usual([false; 2], [4, 4]);
    pair.run_for(600.0);
    assert_eq!(pair.synchronized(), [false, true], "the first serves its own clock");
    let (one, two) = (pair.report(0), pair.report(1));
    assert_eq!((one.kind, two.kind), (SourceKind::Peer, SourceKind::Peer));
    assert_eq!((two.stratum, two.ntp.mode, two.state), (5, 1, '*'));
    assert!(pair.sides[1].error.abs() < 4e-4, "{}", pair.sides[1].error);
    // The first hears that the second follows it: test D.
    assert!(pair.sides[0].discarded(DiscardReason::Loop) > 5);
    assert_eq!(one.ntp.tests & 1, 0);
    assert_eq!(two.ntp.tests, 0x3ff);
    assert!(!two.ntp.interleaved);
}

#[test]
fn interleaved_packets_take_off_what_late_transmit_timestamps_add() {
    let error = |interleaved| {
        let mut pair = Pair::usual([interleaved; 2], [4, 4]);
        pair.run_for(1500.0);
        assert_eq!(pair.report(1).ntp.interleaved, interleaved);
        assert!(pair.report(1).ntp.total_interleaved_rx > 50 || !interleaved);
        pair.sides[1].error.abs()
    };
    let (basic, interleaved) = (error(false), error(true));
    // The peer's packets leave late; ours do as well, but of those we know it.
    assert!((basic - LATE / 2.0).abs() < 5e-5, "{basic}");
    assert!(interleaved < 2e-5, "{interleaved}");
}

#[test]
fn one_side_that_asks_for_interleaved_packets_is_enough() {
    let mut pair = Pair::usual([true, false], [4, 4]);
    pair.run_for(600.0);
    assert!(pair.report(0).ntp.total_interleaved_rx > 10 && pair.report(1).ntp.total_interleaved_rx > 10);
    assert!(pair.sides[1].error.abs() < 5e-5, "{}", pair.sides[1].error);
}

#[test]
fn a_peer_that_sends_twice_as_often_is_not_left_with_packets_that_complete_nothing() {
    for polls in [[5, 4], [4, 5], [6, 4]] {
        let mut pair = Pair::usual([true; 2], polls);
        pair.run_for(2000.0);
        assert!(pair.synchronized()[1], "{polls:?}");
        assert!(pair.report(1).ntp.total_good_rx > 20, "{polls:?}");
    }
}

/// The error of the second clock (seconds) and of its rate (s/s) a poll after the first was moved by 0.1 s.
fn after_a_correction_of_the_other(interleaved: bool, monotonic: bool) -> (f64, f64) {
    let fields = AskedFields { monotonic, correction: false };
    let side = |name| SourceConfig { interleaved, fields, ..peer(name, 4) };
    let mut pair = Pair::new([side("192.0.2.2"), side("192.0.2.1")], [0.0, 0.02]);
    pair.run_for(1500.0);
    assert!(pair.sides[1].error.abs() < 5e-4, "{}", pair.sides[1].error);
    let now = pair.now;
    pair.sides[0].engine.handle_input(now, Input::Control(Command::SlewByHand(0.1)));
    pair.run_for(24.0);
    let error = pair.sides[1].error - pair.sides[0].error;
    let report = pair.sides[1].engine.report(pair.sides[1].reading(pair.now));
    (error, report.tracking.frequency_ppm * 1e-6)
}

#[test]
fn a_correction_of_the_other_side_is_followed_at_once_where_it_says_so() {
    for interleaved in [false, true] {
        let (error, rate) = after_a_correction_of_the_other(interleaved, true);
        assert!(error.abs() < 5e-4 && rate.abs() < 1e-6, "interleaved {interleaved}: {error} s, {rate}");
        let (error, _) = after_a_correction_of_the_other(interleaved, false);
        assert!(error.abs() > 0.05, "it cannot be told from a mistake, interleaved {interleaved}: {error} s");
    }
}

#[test]
fn different_intervals_and_losses_never_mix_timestamps_up() {
    for (polls, seed) in [([4, 6], 1u32), ([6, 4], 2), ([4, 4], 3), ([3, 5], 4)] {
        for interleaved in [[false; 2], [true; 2]] {
            let mut pair = Pair::usual(interleaved, polls);
            let mut state = seed;
            pair.path = Box::new(move |_, _, octets| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match state >> 28 {
                    0..4 => vec![],
                    4 => vec![octets.clone(), octets],
                    _ => vec![octets],
                }
            });
            pair.run_for(6000.0);
            assert!(pair.synchronized()[1], "{polls:?} {interleaved:?}");
            assert!(pair.sides[1].error.abs() < 6e-4, "{polls:?} {interleaved:?}: {}", pair.sides[1].error);
            for (number, event) in pair.sides.iter().flat_map(|side| side.events.iter().enumerate()) {
                if let Event::Sampled { delay, .. } = event {
                    let delay = delay.as_secs_f64();
                    assert!(
                        (2.0 * ONE_WAY - 2e-4..2.0 * ONE_WAY + 2.0 * LATE + 2e-4).contains(&delay),
                        "{polls:?} {interleaved:?} {number} {event:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn packets_without_the_key_or_from_before_change_nothing() {
    let mut pair = Pair::usual([false; 2], [4, 4]);
    let mut recorded: Vec<Vec<u8>> = Vec::new();
    pair.path = Box::new(move |from, _, octets| {
        recorded.push(octets.clone());
        // A liar's packet without a MAC, one with a wrong MAC, and an old one of each side.
        let mut bare = octets[..48].to_vec();
        bare[40] ^= 0x10;
        let mut wrong = octets.clone();
        wrong[42] ^= 1;
        let old = recorded[recorded.len() / 2].clone();
        let _ = from;
        vec![bare, wrong, old.clone(), octets, old]
    });
    pair.run_for(1000.0);
    assert!(pair.synchronized()[1]);
    assert!(pair.sides[1].error.abs() < 5e-4, "{}", pair.sides[1].error);
    assert!(pair.sides[1].discarded(DiscardReason::NoMac) > 50);
    assert!(pair.sides[1].discarded(DiscardReason::MacFailed) > 50);
    assert!(pair.report(1).ntp.total_good_rx > 40);
}

#[test]
fn what_is_not_a_peers_packet_is_refused() {
    let mut pair = Pair::usual([false; 2], [4, 4]);
    for side in &mut pair.sides {
        side.engine = Engine::new(
            {
                let mut config = side.engine.config().clone();
                config.sources[0].authentication = Authentication::None;
                config
            },
            [side.address.ip().to_string().as_bytes()[8]; 32],
            ClockReading { mono: pair.now, system: NtpDate::from_unix(BEGIN, 0) },
        );
        side.error = 0.0;
    }
    pair.path = Box::new(|_, _, octets| {
        let mut other_modes = Vec::new();
        for mode in [0, 3, 4, 5, 6, 7] {
            let mut other = octets.clone();
            other[0] = other[0] & 0xf8 | mode;
            other_modes.push(other);
        }
        other_modes.push(octets[..47].to_vec());
        other_modes.push(octets);
        other_modes
    });
    pair.run_for(300.0);
    let side = &pair.sides[1];
    assert_eq!(side.discarded(DiscardReason::WrongMode), 6 * side.discarded(DiscardReason::Malformed));
    assert!(side.discarded(DiscardReason::Malformed) > 10 && pair.synchronized()[1]);
    assert!(side.sent.iter().all(|octets| octets.len() == 48));
}

#[test]
fn each_packet_of_ours_makes_one_measurement() {
    let mut pair = Pair::usual([false; 2], [6, 4]);
    pair.run_for(2000.0);
    let [one, two] = pair.sides.each_ref().map(|side| side.source(pair.now).ntp);
    assert!(one.total_valid_rx <= one.total_tx && two.total_valid_rx <= two.total_tx);
    // The second sends four times as often; only one of four is answered.
    assert!(two.total_valid_rx * 3 < two.total_tx, "{two:?}");
    assert!(one.total_valid_rx + 3 >= one.total_tx, "{one:?}");
}

#[test]
fn a_silent_peer_becomes_unreachable_and_comes_back() {
    let mut pair = Pair::usual([true; 2], [4, 4]);
    pair.run_for(300.0);
    assert_eq!(pair.report(1).reach, 0o377);
    pair.path = Box::new(|_, _, _| vec![]);
    pair.run_for(200.0);
    assert_eq!(pair.report(1).reach, 0);
    assert!(pair.sides[1].sent.len() > 20, "it is still asked");
    pair.path = Box::new(|_, _, octets| vec![octets]);
    pair.run_for(300.0);
    assert!(pair.report(1).reach > 1 && pair.synchronized()[1]);
}

#[test]
fn the_header_tells_what_a_server_would() {
    let mut pair = Pair::usual([false; 2], [4, 4]);
    pair.run_for(600.0);
    let last = |at: usize| Header::decode(pair.sides[at].sent.last().expect("it sent")).expect("a header");
    let (one, two) = (last(0), last(1));
    assert_eq!((one.mode, one.stratum, one.version, one.poll), (Mode::SymmetricActive, 5, 4, 4));
    assert_eq!((two.stratum, two.reference_id.0), (6, [192, 0, 2, 1]));
    assert!(two.root_delay.to_duration().as_secs_f64() >= 2.0 * ONE_WAY);
    assert!(!two.reference.is_zero() && two.reference.is_before(two.transmit));
    let first = Header::decode(&pair.sides[1].sent[0]).expect("a header");
    assert_eq!((first.stratum, first.leap), (0, chime_wire::LeapIndicator::Unsynchronized));
    assert!(first.origin.is_zero() && first.receive.is_zero() && !first.transmit.is_zero());
}

#[test]
fn a_frequency_that_is_not_known_yet_does_not_pass_for_a_longer_path() {
    // The peers answer when their own polls come: until the frequency is known, what a round trip took is not.
    for oscillator in [-1e-4, 1e-4] {
        for poll in [0, 4] {
            let mut pair = Pair::usual([true; 2], [poll; 2]);
            pair.sides[1].oscillator = oscillator;
            let second = f64::from(1 << poll);
            pair.run_for(30.0 * second);
            let at_first = pair.sides[1].error;
            pair.run_for(30.0 * second);
            let errors = [at_first, pair.sides[1].error];
            assert!(errors.iter().all(|error| error.abs() < 1e-6), "{oscillator} {poll}: {errors:?}");
        }
    }
}
