//! Whatever comes in, nothing panics, and time goes on.

use super::world::{config, failure, ip, keys};
use crate::{
    Command, Engine, EstablishmentId, ExchangeId, Input, KeOutcome, LookupId, Request, ResolveFailure,
    SendFailure, SourceConfig, SourceMatch, SourceMode, TimestampSource, Timestamped, TxToken,
};
use chime_discipline::{ClockCommand, ClockFailure};
use chime_nts::{AeadAlgorithm, Cookie};
use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration};
use proptest::prelude::*;
use std::net::SocketAddr;

/// What happens next, as far as chance decides.
#[derive(Clone, Debug)]
enum Step {
    Wait(f64),
    Datagram { from_server: bool, octets: Vec<u8>, echo_origin: bool },
    Sent(bool),
    Resolved(u8),
    Established(u8),
    Clock(i64),
    Control(u8),
    Network,
    Suspended,
    Applied(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let octets = proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        (0.0..100.0).prop_map(Step::Wait),
        (any::<bool>(), octets, any::<bool>()).prop_map(|(from_server, octets, echo_origin)| {
            Step::Datagram { from_server, octets, echo_origin }
        }),
        any::<bool>().prop_map(Step::Sent),
        any::<u8>().prop_map(Step::Resolved),
        any::<u8>().prop_map(Step::Established),
        any::<i64>().prop_map(Step::Clock),
        any::<u8>().prop_map(Step::Control),
        Just(Step::Network),
        Just(Step::Suspended),
        any::<bool>().prop_map(Step::Applied),
    ]
}

struct Chaos {
    engine: Engine,
    now: MonoTime,
    system: NtpDate,
    tokens: Vec<(TxToken, SocketAddr, Vec<u8>)>,
    exchanges: Vec<(ExchangeId, SocketAddr, Vec<u8>)>,
    lookups: Vec<LookupId>,
    establishments: Vec<EstablishmentId>,
    commands: Vec<ClockCommand>,
}

impl Chaos {
    fn new() -> Self {
        let pool = SourceConfig {
            mode: SourceMode::Pool { count: 3, ignore: Vec::new() },
            ..SourceConfig::nts("pool.example")
        };
        let sources = vec![
            SourceConfig::nts("nts.example"),
            SourceConfig::server("ntp.example"),
            SourceConfig::server("192.0.2.9"),
            pool,
        ];
        let (now, system) = (MonoTime::from_nanos(5_000_000_000), NtpDate::from_unix(1_795_187_154, 0));
        let engine = Engine::new(config(sources), [3; 32], ClockReading { mono: now, system });
        Self {
            engine,
            now,
            system,
            tokens: Vec::new(),
            exchanges: Vec::new(),
            lookups: Vec::new(),
            establishments: Vec::new(),
            commands: Vec::new(),
        }
    }

    fn stamp(&self) -> Timestamped {
        Timestamped {
            at: ClockReading { mono: self.now, system: self.system },
            source: TimestampSource::Kernel,
        }
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit() {
            self.exchanges.push((transmit.token.exchange(), transmit.to, transmit.octets.clone()));
            self.tokens.push((transmit.token, transmit.to, transmit.octets));
        }
        while let Some(request) = self.engine.poll_request() {
            match request {
                Request::Resolve { lookup, .. } => self.lookups.push(lookup),
                Request::EstablishKeys(request) => self.establishments.push(request.establishment),
                _ => {}
            }
        }
        while let Some(command) = self.engine.poll_clock() {
            self.commands.push(command);
        }
        while self.engine.poll_event().is_some() {}
        let _ = self.engine.report(self.stamp().at);
    }

    fn wait(&mut self, seconds: f64) {
        let end = self.now.add_secs_f64(seconds);
        let mut timeouts = 0;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now);
            assert!(self.engine.poll_timeout().is_none_or(|at| at > self.now), "each timeout makes progress");
            self.drain();
            timeouts += 1;
            assert!(timeouts < 5000, "the engine spins");
        }
        self.now = end;
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Wait(seconds) => return self.wait(seconds),
            Step::Datagram { from_server, octets, echo_origin } => {
                self.datagram(from_server, octets, echo_origin)
            }
            Step::Sent(well) => {
                if let Some((token, ..)) = self.tokens.pop() {
                    let sent = if well { Ok(self.stamp()) } else { Err(SendFailure::Other("no".to_owned())) };
                    self.engine.handle_input(self.now, Input::Transmitted { token, sent });
                }
            }
            Step::Resolved(count) => {
                let lookup = self.lookups.pop().unwrap_or(LookupId(99));
                let addresses = (0..count % 12).map(|last| ip(&format!("192.0.2.{last}"))).collect();
                let result = if count > 200 { Err(ResolveFailure::Temporary) } else { Ok(addresses) };
                self.engine.handle_input(self.now, Input::Resolved { lookup, result });
            }
            Step::Established(kind) => self.established(kind),
            Step::Clock(by) => {
                let by = NtpDuration::from_bits(by);
                self.system = self.system + by;
                self.engine.handle_input(self.now, Input::ClockStepped { by });
            }
            Step::Control(kind) => self.control(kind),
            Step::Network => self.engine.handle_input(self.now, Input::NetworkChanged),
            Step::Suspended => {
                let slept = NtpDuration::from_seconds(600);
                self.system = self.system + slept;
                self.engine.handle_input(self.now, Input::Suspended { slept });
            }
            Step::Applied(well) => {
                if let Some(command) = self.commands.pop() {
                    let result = if well { Ok(command) } else { Err(ClockFailure::NotPermitted) };
                    self.engine.handle_input(self.now, Input::ClockApplied { result });
                }
            }
        }
        self.drain();
    }

    fn datagram(&mut self, from_server: bool, mut octets: Vec<u8>, echo_origin: bool) {
        let Some((exchange, to, request)) = self.exchanges.pop() else { return };
        if echo_origin && octets.len() >= 48 {
            octets[0] = 0x24;
            octets[24..32].copy_from_slice(&request[40..48]);
            octets.truncate(48 + octets.len() / 100 * 40);
        }
        let from = if from_server { to } else { SocketAddr::new(ip("203.0.113.5"), 123) };
        let received = self.stamp();
        self.engine.handle_input(
            self.now,
            Input::Datagram { exchange, from, local: None, received, path: None, octets: &octets },
        );
        if !echo_origin {
            self.exchanges.push((exchange, to, request));
        }
    }

    fn established(&mut self, kind: u8) {
        let establishment = self.establishments.pop().unwrap_or(EstablishmentId(99));
        let outcome = KeOutcome {
            keys: keys(AeadAlgorithm::Aes128GcmSiv, kind),
            alternative_keys: kind.is_multiple_of(3).then(|| keys(AeadAlgorithm::Aes128GcmSiv, kind ^ 1)),
            cookies: (1..=kind % 9).map(|at| Cookie::new(&[at; 100]).expect("a cookie")).collect(),
            ntp_server: kind
                .is_multiple_of(4)
                .then(|| ["192.0.2.77", "x.example", "", "[::1"][usize::from(kind / 64)].to_owned()),
            ntp_port: kind.is_multiple_of(5).then_some(0),
            certificate_not_before: if kind.is_multiple_of(7) { i64::MAX } else { i64::MIN },
            certificate_not_after: i64::MAX,
            certificate_chain: Vec::new(),
            warnings: Vec::new(),
        };
        let result = if kind.is_multiple_of(2) { Ok(outcome) } else { Err(failure("broken", kind % 4 == 1)) };
        let address = (kind % 8 != 6).then(|| SocketAddr::new(ip(&format!("192.0.2.{}", kind % 16)), 4460));
        self.engine.handle_input(self.now, Input::KeFinished { establishment, address, result });
    }

    fn control(&mut self, kind: u8) {
        let command = match kind % 10 {
            0 => Command::Online(SourceMatch::All),
            1 => Command::Offline(SourceMatch::Name("ntp.example".to_owned())),
            2 => Command::Burst { matching: SourceMatch::All, good: kind, total: kind / 2 },
            3 => Command::Refresh,
            4 => Command::MakeStep,
            5 => Command::Reselect,
            6 => Command::ResetSources,
            7 => Command::AddSource(Box::new(SourceConfig::server(&format!("192.0.2.{kind}")))),
            8 => Command::RemoveSource(ip(&format!("192.0.2.{}", kind % 16))),
            _ => Command::Reconfigure(Box::new(config(vec![SourceConfig::nts("nts.example")]))),
        };
        self.engine.handle_input(self.now, Input::Control(command));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_every_timeout_makes_progress(steps in proptest::collection::vec(step(), 1..120)) {
        let mut chaos = Chaos::new();
        for step in steps {
            chaos.take(step);
        }
        chaos.wait(1000.0);
    }
}
