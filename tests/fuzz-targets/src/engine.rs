//! Targets for `chime-engine`: its saved state, and the whole engine over a course of inputs.

use crate::nts::keys;
use chime_discipline::{ClockCommand, ClockFailure};
use chime_engine::{
    Authentication, Command, Config, Engine, EstablishmentId, ExchangeId, Input, KeFailure, LookupId,
    Request, ResolveFailure, SavedClock, SendFailure, SourceConfig, SourceMatch, SourceMode, Timestamped,
    Transmit, decode_clock, decode_nts_state, encode_clock, encode_nts_state,
};
use chime_ke::KeOutcome;
use chime_nts::{AeadAlgorithm, Cookie, NtsRequest};
use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration};
use chime_wire::{MacAlgorithm, SymmetricKey};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// State files, as they are and with header and checksum put right.
pub fn saved_state(octets: &[u8]) {
    let _ = (decode_nts_state(octets), decode_clock(octets));
    for empty in [encode_nts_state(&[]).to_vec(), encode_clock(&SavedClock::default())] {
        // As far as the version, of the kind and of today.
        let mut file = empty[..10].to_vec();
        file.extend_from_slice(&u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes());
        file.extend_from_slice(octets);
        let checksum = Sha256::digest(&file);
        file.extend_from_slice(&checksum);
        let _ = decode_clock(&file);
        if let Ok(associations) = decode_nts_state(&file) {
            let again = decode_nts_state(&encode_nts_state(&associations)).expect("what we wrote");
            assert_eq!(again, associations);
        }
    }
}

/// The most that an engine may ask for after one input before it must wait.
const WISHES_MAX: usize = 4096;

/// Reads octets as a course of events in the life of an engine with a plain source, a keyed and an NTS source in
/// interleaved mode, and a peer.
pub fn engine(octets: &[u8]) {
    let mut world = World::new();
    let mut rest = octets;
    for _ in 0..512 {
        let [event, argument, behind @ ..] = rest else { return };
        rest = world.happen(*event, *argument, behind);
        world.drain();
    }
}

struct World {
    engine: Engine,
    now: MonoTime,
    system: NtpDate,
    exchanges: Vec<(ExchangeId, SocketAddr, Vec<u8>)>,
    lookups: Vec<LookupId>,
    establishments: Vec<EstablishmentId>,
    clock: Vec<ClockCommand>,
    /// How many cookies were handed out, which all differ.
    cookies: u64,
    /// Those that were sent, or may be on disk: none of them may be sent again.
    unusable: Unusable,
    saves: u32,
}

#[derive(Default)]
struct Unusable {
    sent: BTreeSet<Vec<u8>>,
    saved: BTreeSet<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let (now, system) = (MonoTime::from_nanos(1_000_000_000), NtpDate::from_unix(1_795_200_000, 0));
        let key = SymmetricKey::new(1, MacAlgorithm::Sha1, b"a secret of the fuzzer").expect("a good key");
        let keyed = SourceConfig {
            authentication: Authentication::Key(1),
            interleaved: true,
            ..SourceConfig::server("192.0.2.2")
        };
        let peer = SourceConfig {
            mode: SourceMode::Symmetric { local_port: 123 },
            interleaved: true,
            ..SourceConfig::server("192.0.2.4")
        };
        let nts = SourceConfig { interleaved: true, ..SourceConfig::nts("nts.example.org") };
        let config = Config {
            sources: vec![SourceConfig::server("192.0.2.1"), keyed, nts, peer],
            keys: Arc::new(vec![key]),
            ..Config::default()
        };
        let engine = Engine::new(config, [9; 32], ClockReading { mono: now, system });
        let mut world = Self {
            engine,
            now,
            system,
            exchanges: Vec::new(),
            lookups: Vec::new(),
            establishments: Vec::new(),
            clock: Vec::new(),
            cookies: 0,
            unusable: Unusable::default(),
            saves: 0,
        };
        world.drain();
        world
    }

    fn reading(&self) -> Timestamped {
        Timestamped::by_daemon(ClockReading { mono: self.now, system: self.system })
    }

    fn wait(&mut self, seconds: f64) {
        self.now = self.now.add_secs_f64(seconds);
        self.system = self.system + NtpDuration::from_secs_f64(seconds);
        self.engine.handle_timeout(self.now);
    }

    /// One event; gives what of `rest` it did not use.
    fn happen<'o>(&mut self, event: u8, argument: u8, rest: &'o [u8]) -> &'o [u8] {
        match event % 12 {
            0 | 1 => return self.answer(event, argument, rest),
            2 => self.wait(f64::from(argument)),
            3 => {
                // The engine's own deadline: each timeout must make progress.
                let due = self.engine.poll_timeout();
                if let Some(due) = due.filter(|due| *due > self.now) {
                    self.wait(due.seconds_since(self.now));
                } else {
                    self.engine.handle_timeout(self.now);
                }
            }
            4 => self.resolve(argument),
            5 => self.establish(argument),
            6 => self.apply(argument),
            7 => self.engine.handle_input(self.now, Input::NetworkChanged),
            8 => {
                let by = NtpDuration::from_secs_f64((f64::from(argument) - 128.0) * 10.0);
                self.system = self.system + by;
                self.engine.handle_input(self.now, Input::ClockStepped { by });
            }
            9 if argument.is_multiple_of(2) => {
                let slept = NtpDuration::from_seconds(i64::from(argument));
                self.system = self.system + slept;
                self.engine.handle_input(self.now, Input::Suspended { slept });
            }
            9 => {
                let frequency = chime_time::Frequency::from_ppm((f64::from(argument) - 128.0) * 10.0);
                let slew = if argument.is_multiple_of(3) { 1e-3 } else { 0.0 };
                self.engine.handle_input(self.now, Input::ClockAdjusted { frequency, slew, since: self.now });
            }
            10 => self.command(argument),
            _ => {
                if let Some((exchange, ..)) = self.exchange(argument) {
                    let failure = SendFailure::Refused;
                    self.engine.handle_input(self.now, Input::ExchangeFailed { exchange, failure });
                }
            }
        }
        rest
    }

    fn exchange(&self, argument: u8) -> Option<(ExchangeId, SocketAddr, Vec<u8>)> {
        self.exchanges.get(usize::from(argument) % self.exchanges.len().max(1)).cloned()
    }

    /// A datagram to one of the open exchanges: the next octets as they are, or made to fit the request.
    fn answer<'o>(&mut self, event: u8, argument: u8, rest: &'o [u8]) -> &'o [u8] {
        let (length, rest) = crate::first(rest);
        let (octets, rest) = rest.split_at(rest.len().min(usize::from(length)));
        let Some((exchange, from, request)) = self.exchange(argument) else { return rest };
        let mut octets = octets.to_vec();
        if event.is_multiple_of(12) && octets.len() >= 48 {
            // To a peer a packet of its own mode, 1.
            let mode = if request[0] & 7 == 1 { 1 } else { 4 };
            octets[0] = octets[0] & 0xc0 | request[0] & 0x38 | mode;
            // The argument's high bit: an interleaved answer, if that was asked for.
            let echo = if argument & 0x80 != 0 && request[24..32] != [0; 8] { 32..40 } else { 40..48 };
            octets[24..32].copy_from_slice(&request[echo]);
            octets.extend_from_slice(&request[48..]);
        }
        self.now = self.now.add_secs_f64(0.001);
        self.system = self.system + NtpDuration::from_secs_f64(0.001);
        let received = self.reading();
        let input = Input::Datagram { exchange, from, local: None, received, path: None, octets: &octets };
        self.engine.handle_input(self.now, input);
        rest
    }

    fn resolve(&mut self, argument: u8) {
        let Some(lookup) = self.lookups.pop() else { return };
        let v4 = IpAddr::V4(Ipv4Addr::new(198, 51, 100, argument));
        let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(argument)));
        let result = match argument % 4 {
            0 => Err(ResolveFailure::NotFound),
            1 => Err(ResolveFailure::Temporary),
            2 => Ok(vec![v4, v6]),
            _ => Ok(vec![v6; 40]),
        };
        self.engine.handle_input(self.now, Input::Resolved { lookup, result });
    }

    fn establish(&mut self, argument: u8) {
        let Some(establishment) = self.establishments.pop() else { return };
        let address = Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, argument)), 4460));
        let result = if argument.is_multiple_of(3) {
            Err(KeFailure {
                kind: "timeout".into(),
                text: "no answer in time".into(),
                network: argument.is_multiple_of(2),
            })
        } else {
            Ok(KeOutcome {
                keys: keys(AeadAlgorithm::Aes128GcmSiv),
                alternative_keys: argument.is_multiple_of(2).then(|| keys(AeadAlgorithm::Aes128GcmSiv)),
                cookies: (0..=argument % 8).map(|_| self.fresh_cookie()).collect(),
                ntp_server: argument.is_multiple_of(5).then(|| "ntp.example.org".to_owned()),
                ntp_port: argument.is_multiple_of(7).then_some(11123),
                certificate_not_before: 1_700_000_000,
                certificate_not_after: 1_700_000_000 + i64::from(argument) * 1_000_000,
                certificate_chain: Vec::new(),
                warnings: Vec::new(),
            })
        };
        self.engine.handle_input(self.now, Input::KeFinished { establishment, address, result });
    }

    fn fresh_cookie(&mut self) -> Cookie {
        self.cookies += 1;
        let mut octets = [0; 72];
        octets[..8].copy_from_slice(&self.cookies.to_be_bytes());
        Cookie::new(&octets).expect("a good length")
    }

    /// The disk takes every other file; of the others nobody knows what became of them. RFC 8915 §5.7.
    fn save(&mut self) {
        let saved = self.engine.set_nts_state_aside();
        let cookies = saved.iter().flat_map(|one| &one.cookies).map(|cookie| cookie.as_bytes().to_vec());
        self.saves += 1;
        if self.saves.is_multiple_of(2) {
            self.engine.nts_state_saved();
            self.unusable.saved.clear();
        }
        self.unusable.saved.extend(cookies);
    }

    fn apply(&mut self, argument: u8) {
        let Some(command) = self.clock.pop() else { return };
        let result = match argument % 4 {
            0 => Err(ClockFailure::NotPermitted),
            _ => Ok(command),
        };
        if let Ok(ClockCommand::Step { by }) = result {
            self.system = self.system + by;
        }
        self.engine.handle_input(self.now, Input::ClockApplied { result });
    }

    fn command(&mut self, argument: u8) {
        let command = match argument % 8 {
            0 => Command::Online(SourceMatch::All),
            1 => Command::Offline(SourceMatch::All),
            2 => Command::Burst { matching: SourceMatch::All, good: argument, total: argument },
            3 => Command::Refresh,
            4 => Command::MakeStep,
            5 => Command::Reselect,
            6 => Command::ResetSources,
            _ => Command::RemoveSource(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + argument % 3))),
        };
        self.engine.handle_input(self.now, Input::Control(command));
    }

    /// Takes every wish, and remembers those that are to be answered.
    fn drain(&mut self) {
        for wishes in 0.. {
            assert!(wishes < WISHES_MAX, "the engine never stops wishing");
            if let Some(Transmit { token, to, octets, .. }) = self.engine.poll_transmit() {
                assert!(octets.len() >= 48);
                if let Ok(request) = NtsRequest::parse(&octets) {
                    assert!(!self.unusable.saved.contains(request.cookie), "it may be on disk");
                    assert!(self.unusable.sent.insert(request.cookie.to_vec()), "it was sent before");
                }
                let exchange = token.exchange();
                let sent = Ok(self.reading());
                self.engine.handle_input(self.now, Input::Transmitted { token, sent });
                self.exchanges.retain(|(open, ..)| *open != exchange);
                self.exchanges.push((exchange, to, octets));
            } else if let Some(request) = self.engine.poll_request() {
                match request {
                    Request::Resolve { lookup, .. } => self.lookups.push(lookup),
                    Request::EstablishKeys(wanted) => self.establishments.push(wanted.establishment),
                    Request::CancelEstablishment(gone) => self.establishments.retain(|open| *open != gone),
                    Request::CloseExchange(gone) => self.exchanges.retain(|(open, ..)| *open != gone),
                    Request::ReadReferenceClock(_) | Request::Compensate(_) => {}
                    Request::SaveState => self.save(),
                }
            } else if let Some(command) = self.engine.poll_clock() {
                self.clock.push(command);
            } else if self.engine.poll_event().is_none() {
                return;
            }
        }
    }
}
