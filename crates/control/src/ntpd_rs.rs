//! What ntpd-rs shows of itself at its observation socket, so that an unmodified `ntp-ctl status` and
//! `ntp-metrics-exporter` show this daemon.
//!
//! A reader connects, sends nothing, and gets the length of a JSON text in eight octets, most significant first, and the
//! text. The names of the members are ntpd-rs's; all of those that any release of its tools asks for are there, and they
//! ignore the others.

use chime_engine::{AuthenticationMode, LeapReport, SourceKind, SourceReport};
use serde::Serialize;

use crate::Snapshot;

/// Octets of the longest text that the tools read.
pub const TEXT_OCTETS_MAX: usize = 1 << 20;

/// Seconds between the origins of NTP time (1900) and Unix time (1970). RFC 5905 §6.
const UNIX_ORIGIN_SECONDS: f64 = 2_208_988_800.0;
/// Unanswered polls beyond which ntpd-rs counts no further, as its reach register has as many bits.
const UNANSWERED_MAX: u32 = 8;
/// What ntpd-rs has for a clock that follows nobody.
const STRATUM_UNSYNCHRONIZED: u8 = 16;
/// Its reference identifier then: the letters XNON.
const REFERENCE_NONE: [u8; 4] = *b"XNON";

/// The octets to write to whoever connects: length and text.
#[must_use]
pub fn observation(snapshot: &Snapshot) -> Vec<u8> {
    // Numbers, strings and lists of these are always written; an empty text would make the tools say so.
    let text = serde_json::to_vec(&Observation::of(snapshot)).unwrap_or_default();
    let mut octets = (text.len() as u64).to_be_bytes().to_vec();
    octets.extend(text);
    octets
}

#[derive(Serialize)]
struct Observation {
    program: Program,
    system: System,
    sources: Vec<Source>,
    servers: Vec<Server>,
}

#[derive(Serialize)]
struct Program {
    version: String,
    build_commit: &'static str,
    build_commit_date: &'static str,
    uptime_seconds: f64,
    now: Timestamp,
}

/// An NTP timestamp without era, as a number.
#[derive(Serialize)]
struct Timestamp {
    timestamp: u64,
}

#[derive(Serialize)]
struct System {
    stratum: u8,
    reference_id: u32,
    accumulated_steps_threshold: Option<f64>,
    precision: f64,
    root_delay: f64,
    /// Of releases before 1.3.
    root_dispersion: f64,
    root_variance_base_time: Timestamp,
    root_variance_base: f64,
    root_variance_linear: f64,
    root_variance_quadratic: f64,
    root_variance_cubic: f64,
    leap_indicator: &'static str,
    accumulated_steps: f64,
}

#[derive(Serialize)]
struct Source {
    offset: f64,
    uncertainty: f64,
    delay: f64,
    remote_delay: f64,
    remote_uncertainty: f64,
    last_update: Timestamp,
    unanswered_polls: u32,
    poll_interval: i8,
    nts_cookies: Option<u8>,
    name: String,
    address: String,
    id: u32,
}

#[derive(Serialize)]
struct Server {
    address: String,
    stats: ServerStats,
}

#[derive(Serialize, Default)]
struct ServerStats {
    received_packets: u64,
    accepted_packets: u64,
    denied_packets: u64,
    ignored_packets: u64,
    rate_limited_packets: u64,
    response_send_errors: u64,
    nts_received_packets: u64,
    nts_accepted_packets: u64,
    nts_denied_packets: u64,
    nts_rate_limited_packets: u64,
    nts_nak_packets: u64,
}

impl Observation {
    fn of(snapshot: &Snapshot) -> Self {
        let program = &snapshot.program;
        Self {
            program: Program {
                version: program.version.clone(),
                build_commit: "-",
                build_commit_date: "-",
                uptime_seconds: finite(program.uptime_seconds),
                now: timestamp(snapshot.engine.unix_seconds),
            },
            system: System::of(snapshot),
            sources: snapshot.engine.sources.iter().filter_map(|one| Source::of(snapshot, one)).collect(),
            servers: servers(snapshot),
        }
    }
}

impl System {
    /// ntpd-rs adds variances up, we add dispersions up: (d + r t)² has the terms d², 2 d r and r².
    fn of(snapshot: &Snapshot) -> Self {
        let (program, tracking) = (&snapshot.program, &snapshot.engine.tracking);
        let dispersion = finite(tracking.root_dispersion_seconds);
        let rate = if tracking.synchronized { finite(program.root_dispersion_rate) } else { 0.0 };
        let is_known = tracking.stratum != 0;
        Self {
            stratum: if is_known { tracking.stratum } else { STRATUM_UNSYNCHRONIZED },
            reference_id: u32::from_be_bytes(if is_known { tracking.reference_id } else { REFERENCE_NONE }),
            accumulated_steps_threshold: program.accumulated_steps_threshold_seconds,
            precision: finite(2_f64.powi(i32::from(program.precision))),
            root_delay: finite(tracking.root_delay_seconds),
            root_dispersion: dispersion,
            root_variance_base_time: timestamp(snapshot.engine.unix_seconds),
            root_variance_base: dispersion * dispersion,
            root_variance_linear: 2.0 * dispersion * rate,
            root_variance_quadratic: rate * rate,
            root_variance_cubic: 0.0,
            leap_indicator: match tracking.leap {
                LeapReport::Normal => "NoWarning",
                LeapReport::Insert => "Leap61",
                LeapReport::Delete => "Leap59",
                LeapReport::Unsynchronized => "Unknown",
            },
            accumulated_steps: finite(program.accumulated_steps_seconds),
        }
    }
}

impl Source {
    /// A source without address is no source yet, as in ntpd-rs; a reference clock has the path of its device.
    fn of(snapshot: &Snapshot, source: &SourceReport) -> Option<Self> {
        if source.kind == SourceKind::ReferenceClock {
            let anywhere = std::net::SocketAddr::from(([0; 4], 0));
            let with_address =
                SourceReport { remote: Some(anywhere), kind: SourceKind::Server, ..source.clone() };
            let device = source.device.clone();
            return Self::of(snapshot, &with_address).map(|one| Self {
                name: device.clone(),
                address: device,
                ..one
            });
        }
        let remote = source.remote?;
        let is_nts = source.authentication.mode == AuthenticationMode::Nts;
        let port = if is_nts {
            let establishments = &snapshot.engine.establishments;
            establishments
                .iter()
                .find(|one| one.source == source.source)
                .map_or(remote.port(), |one| one.port)
        } else {
            remote.port()
        };
        let age = source.last_sample_age_seconds.unwrap_or(0.0);
        Some(Self {
            // Theirs is ours with the sign of NTP: positive when our clock is behind.
            offset: -finite(source.statistics.offset_seconds),
            uncertainty: finite(
                source.statistics.standard_deviation_seconds.max(source.statistics.offset_error_seconds),
            ),
            delay: finite(source.ntp.delay_seconds),
            remote_delay: finite(source.ntp.root_delay_seconds),
            remote_uncertainty: finite(source.ntp.root_dispersion_seconds),
            last_update: timestamp(snapshot.engine.unix_seconds - age),
            unanswered_polls: source.reach.trailing_zeros().min(UNANSWERED_MAX),
            poll_interval: source.poll,
            nts_cookies: is_nts.then_some(source.authentication.cookies),
            name: match source.name.parse() {
                Ok(address) => std::net::SocketAddr::new(address, port).to_string(),
                Err(_) => format!("{}:{port}", source.name),
            },
            address: remote.to_string(),
            id: source.id,
        })
    }
}

/// The counts are those of all addresses together, so there is one entry. It is named after the first: the tools of ntpd-rs
/// read nothing at all where they do not find one address and its port.
fn servers(snapshot: &Snapshot) -> Vec<Server> {
    let server = &snapshot.server;
    let Some(address) = server.listening.first() else { return Vec::new() };
    let responses = |kind: &str| server.responses.get(kind).copied().unwrap_or(0);
    let silences = |reasons: &[&str]| reasons.iter().filter_map(|reason| server.silences.get(*reason)).sum();
    let nts = responses("nts_time");
    let nak = responses("nts_nak");
    let stats = ServerStats {
        received_packets: server.received,
        accepted_packets: responses("plain_time")
            + responses("interleaved_time")
            + responses("key_time")
            + nts,
        denied_packets: responses("kiss_deny"),
        ignored_packets: silences(&[
            "too_short",
            "version",
            "mode",
            "control",
            "private",
            "access_denied",
            "nts_required",
            "malformed",
            "unknown_key",
            "wrong_mac",
            "nts_malformed",
            "nts_not_served",
            "response_too_long",
        ]),
        rate_limited_packets: responses("kiss_rate") + silences(&["rate_limited", "nts_nak_limited"]),
        nts_received_packets: nts + nak + silences(&["nts_malformed", "nts_not_served", "nts_nak_limited"]),
        nts_accepted_packets: nts,
        nts_nak_packets: nak,
        ..ServerStats::default()
    };
    vec![Server { address: address.to_string(), stats }]
}

/// JSON has no infinities: a number that is none is shown as 0.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// An instant, given in Unix seconds.
fn timestamp(unix_seconds: f64) -> Timestamp {
    let seconds = (finite(unix_seconds) + UNIX_ORIGIN_SECONDS).rem_euclid(4_294_967_296.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between zero and 2^32, and casts saturate"
    )]
    let timestamp = (seconds * 4_294_967_296.0) as u64;
    Timestamp { timestamp }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::EstablishmentReport;
    use serde_json::Value;

    fn read(snapshot: &Snapshot) -> Value {
        let octets = observation(snapshot);
        let (length, text) = octets.split_first_chunk::<8>().expect("a length");
        assert_eq!(u64::from_be_bytes(*length), text.len() as u64);
        serde_json::from_slice(text).expect("JSON")
    }

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.engine.unix_seconds = 1_795_187_091.5;
        let mut source = SourceReport {
            id: 3,
            source: 7,
            name: "ntp-a.test".to_owned(),
            remote: Some("10.78.0.1:123".parse().expect("an address")),
            reach: 0b1100,
            last_sample_age_seconds: Some(1.5),
            ..SourceReport::default()
        };
        source.authentication.mode = AuthenticationMode::Nts;
        source.authentication.cookies = 8;
        source.statistics.offset_seconds = -0.25;
        source.statistics.skew_ppm = f64::INFINITY;
        snapshot.engine.establishments =
            vec![EstablishmentReport { source: 7, port: 4460, ..EstablishmentReport::default() }];
        snapshot.engine.sources = vec![source, SourceReport::default()];
        snapshot
    }

    #[test]
    fn the_members_are_those_of_a_captured_text() {
        let captured = r#"{"program":{"version":"1.9.0","build_commit":"46ec","build_commit_date":"2026-06-12","uptime_seconds":69.7,"now":{"timestamp":17197806880698570234}},
            "system":{"stratum":5,"reference_id":172883969,"accumulated_steps_threshold":null,"precision":3.8e-6,"root_delay":4.1e-6,"root_variance_base_time":{"timestamp":17197806581345865020},"root_variance_base":0.00007,"root_variance_linear":0.0003,"root_variance_quadratic":49.9,"root_variance_cubic":1e-8,"leap_indicator":"NoWarning","accumulated_steps":0.0},
            "sources":[{"offset":-9.3e-6,"uncertainty":0.006,"delay":0.00003,"remote_delay":0.0,"remote_uncertainty":0.011,"last_update":{"timestamp":17197806864170957790},"unanswered_polls":0,"poll_interval":4,"nts_cookies":8,"name":"ntp-a.test:4460","address":"10.78.0.1:123","id":3}],
            "servers":[{"address":"0.0.0.0:123","stats":{"received_packets":1,"accepted_packets":1,"denied_packets":0,"ignored_packets":0,"rate_limited_packets":0,"response_send_errors":0,"nts_received_packets":1,"nts_accepted_packets":1,"nts_denied_packets":0,"nts_rate_limited_packets":0,"nts_nak_packets":0}}]}"#;
        let captured: Value = serde_json::from_str(captured).expect("JSON");
        let mut snapshot = snapshot();
        snapshot.server.listening = vec!["0.0.0.0:123".parse().expect("an address")];
        has_members(&read(&snapshot), &captured, "");
    }

    #[test]
    fn a_server_at_several_addresses_is_one_that_the_tools_can_read() {
        let mut snapshot = snapshot();
        snapshot.server.listening =
            ["[::]:123", "0.0.0.0:123"].map(|it| it.parse().expect("an address")).to_vec();
        let servers = read(&snapshot)["servers"].as_array().expect("a list").clone();
        let addresses: Vec<_> = servers.iter().filter_map(|server| server["address"].as_str()).collect();
        assert_eq!(addresses, ["[::]:123"]);
    }

    /// Whether `ours` has every member of `captured` with a value of the same kind.
    fn has_members(ours: &Value, captured: &Value, place: &str) {
        match captured {
            Value::Object(members) => {
                for (name, value) in members {
                    let found = ours.get(name).unwrap_or_else(|| panic!("{place}.{name} is missing"));
                    has_members(found, value, &format!("{place}.{name}"));
                }
            }
            Value::Array(list) => has_members(&ours[0], &list[0], place),
            Value::Number(number) => {
                assert!(ours.is_number() && (number.is_f64() || ours.as_f64().is_some()), "{place}: {ours}")
            }
            Value::String(_) => assert!(ours.is_string(), "{place}: {ours}"),
            Value::Null | Value::Bool(_) => {}
        }
    }

    #[test]
    fn a_source_is_shown_with_the_sign_of_ntp_and_the_port_of_its_keys() {
        let read = read(&snapshot());
        let sources = read["sources"].as_array().expect("a list");
        assert_eq!(sources.len(), 1, "one has no address yet");
        assert_eq!(sources[0]["offset"], 0.25);
        assert_eq!(sources[0]["name"], "ntp-a.test:4460");
        assert_eq!(sources[0]["unanswered_polls"], 2);
        assert_eq!(sources[0]["nts_cookies"], 8);
        // 0x6b006193.8 of Unix time is 0xee… of NTP time; one and a half seconds before is a whole one.
        let now = read["program"]["now"]["timestamp"].as_u64().expect("a number");
        assert_eq!(now, (1_795_187_091 + 2_208_988_800_u64) << 32 | 1 << 31);
        let last = sources[0]["last_update"]["timestamp"].as_u64().expect("a number");
        assert_eq!(now - last, 3 << 31);
    }

    #[test]
    fn a_clock_that_follows_nobody_has_stratum_16_and_no_leap_status() {
        let read = read(&Snapshot::default());
        assert_eq!(read["system"]["stratum"], 16);
        assert_eq!(read["system"]["reference_id"], 0x584e_4f4e);
        assert_eq!(read["system"]["leap_indicator"], "Unknown");
        assert_eq!(read["servers"], serde_json::json!([]));
    }

    #[test]
    fn the_dispersion_grows_as_ours_does() {
        let mut snapshot = snapshot();
        let tracking = &mut snapshot.engine.tracking;
        (tracking.synchronized, tracking.root_dispersion_seconds) = (true, 0.01);
        snapshot.program.root_dispersion_rate = 1e-4;
        let read = read(&snapshot);
        let term = |name: &str| read["system"][name].as_f64().expect("a number");
        let after = |t: f64| {
            (term("root_variance_base")
                + term("root_variance_linear") * t
                + term("root_variance_quadratic") * t * t)
                .sqrt()
        };
        assert!((after(0.0) - 0.01).abs() < 1e-12 && (after(100.0) - 0.02).abs() < 1e-12);
    }
}
