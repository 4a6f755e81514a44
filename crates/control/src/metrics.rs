//! The snapshot as `OpenMetrics` text, for a scraper.
//!
//! Written by hand: all values are at hand in one snapshot, so a registry of counters that are
//! kept alive between scrapes would only be a second copy of the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};

use chime_engine::{AuthenticationMode, LeapReport, SourceKind, SourceReport};

use crate::text::sign;
use crate::{Handling, Snapshot};

/// The media type of [`openmetrics`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics; ends with `# EOF`.
#[must_use]
pub fn openmetrics(snapshot: &Snapshot) -> String {
    let mut out = Exposition::default();
    program(&mut out, snapshot);
    clock(&mut out, snapshot);
    sources(&mut out, snapshot);
    let establishments = establishment_counts(snapshot);
    key_establishments(&mut out, &establishments);
    server(&mut out, snapshot);
    control(&mut out, snapshot);
    names_of_guides(&mut out, snapshot, &establishments);
    out.text.push_str("# EOF\n");
    out.text
}

fn program(out: &mut Exposition, snapshot: &Snapshot) {
    let program = &snapshot.program;
    out.family("build", "info", "Version of the daemon.");
    out.sample("build_info", &[("version", &program.version)], 1);
    out.gauge("uptime_seconds", "Time since the daemon started.", program.uptime_seconds);
    let age = program.report_age_seconds;
    out.gauge("report_age_seconds", "Time since the daemon's clock loop last reported.", age);
    out.gauge(
        "steers_clock",
        "Whether the system clock is steered (0 with -x).",
        f64::from(u8::from(program.steers_clock)),
    );
    out.family("clock_updates", "counter", "Clock updates since the start.");
    out.sample("clock_updates_total", &[], program.clock_updates);
    out.family("clock_steps", "counter", "Steps of the clock since the start.");
    out.sample("clock_steps_total", &[], program.clock_steps);
    out.gauge(
        "correction_refused",
        "Whether a correction beyond the panic thresholds is being refused.",
        f64::from(u8::from(program.quarantined)),
    );
    out.family("clock_interferences", "counter", "Steps, slews and frequencies set by other programs.");
    out.sample("clock_interferences_total", &[], program.interferences);
    if let Some(refused) = snapshot.engine.tracking.refused_correction_seconds {
        out.gauge("refused_correction_seconds", "The correction that is being refused.", refused);
    }
}

fn clock(out: &mut Exposition, snapshot: &Snapshot) {
    let tracking = &snapshot.engine.tracking;
    let flag = |value: bool| f64::from(u8::from(value));
    out.gauge("synchronized", "Whether the clock is synchronised.", flag(tracking.synchronized));
    out.gauge(
        "authenticated",
        "Whether the last clock update came from authenticated sources only.",
        flag(tracking.authenticated),
    );
    out.gauge("stratum", "Stratum; 0 when not synchronised.", f64::from(tracking.stratum));
    out.family("leap_status", "stateset", "Leap status.");
    for (name, leap) in [
        ("normal", LeapReport::Normal),
        ("insert", LeapReport::Insert),
        ("delete", LeapReport::Delete),
        ("unsynchronized", LeapReport::Unsynchronized),
    ] {
        let set = u8::from(tracking.leap == leap);
        out.sample("leap_status", &[("truechimer_leap_status", name)], set);
    }
    leap_seconds(out, snapshot);
    let offset = tracking.system_offset_seconds;
    out.gauge("offset_seconds", "What is left to correct; positive: the clock is behind.", offset);
    if let Some(bound) = snapshot.error_bound_seconds() {
        out.gauge("error_bound_seconds", "Largest error that the clock can have.", bound);
    }
    let last = -tracking.last_offset_seconds;
    out.gauge("last_offset_seconds", "Offset at the last update; positive: the clock was behind.", last);
    out.gauge("rms_offset_seconds", "Long-term average of the offset.", tracking.rms_offset_seconds);
    let frequency = tracking.frequency_ppm;
    out.gauge("frequency_ppm", "Frequency error of the free clock; positive: it runs fast.", frequency);
    out.gauge("skew_ppm", "Error bound of the frequency.", tracking.skew_ppm);
    out.gauge("root_delay_seconds", "Round trip to the primary source.", tracking.root_delay_seconds);
    let dispersion = tracking.root_dispersion_seconds;
    out.gauge("root_dispersion_seconds", "Dispersion to the primary source.", dispersion);
    let unauthenticated = count(snapshot.engine.unauthenticated_in_use.len());
    out.gauge(
        "unauthenticated_sources_in_use",
        "Unauthenticated sources that move the clock.",
        unauthenticated,
    );
}

fn leap_seconds(out: &mut Exposition, snapshot: &Snapshot) {
    let leap = &snapshot.engine.leap_seconds;
    if let Some(seconds) = leap.tai_offset_seconds {
        out.gauge("tai_offset_seconds", "TAI minus UTC.", seconds.into());
    }
    // What is not known has no sample: a date of 1970 would be a lie.
    #[expect(clippy::cast_precision_loss, reason = "a date needs far fewer than 53 bits")]
    if let Some(next) = leap.next {
        let at = next.unix_seconds as f64;
        out.gauge("leap_second_next_seconds", "Unix time at which the next leap second has passed.", at);
    }
    #[expect(clippy::cast_precision_loss, reason = "a date needs far fewer than 53 bits")]
    if let Some(expires) = leap.list_expires_unix_seconds {
        let help = "Unix time from which on the list of leap seconds may lack some.";
        out.gauge("leap_list_expires_seconds", help, expires as f64);
    }
    let problems = count(snapshot.program.leap_table.problems.len());
    out.gauge(
        "leap_list_problems",
        "Lists of leap seconds that are configured and cannot be used.",
        problems,
    );
}

/// One metric of each source: name, help, value.
type SourceMetric = (&'static str, &'static str, fn(&SourceReport) -> Option<f64>);

const SOURCE_METRICS: &[SourceMetric] = &[
    ("source_reach", "Reach register: one bit for each of the last eight polls.", |s| Some(s.reach.into())),
    ("source_reachable", "Whether the last eight polls had an answer.", |s| {
        Some(f64::from(u8::from(s.reach != 0)))
    }),
    ("source_selected", "1: selected, 0.5: combined with the selected one, 0: neither.", |s| {
        Some(match sign(s.state) {
            '*' => 1.0,
            '+' => 0.5,
            _ => 0.0,
        })
    }),
    ("source_falseticker", "Whether the source disagrees with the majority.", |s| {
        Some(f64::from(u8::from(s.state == 'x')))
    }),
    ("source_stratum", "Stratum of the source; 0 before its first sample.", |s| Some(s.stratum.into())),
    ("source_poll_interval_seconds", "Interval between polls.", |s| Some(2_f64.powi(s.poll.into()))),
    ("source_offset_seconds", "Offset of the last sample; positive: our clock is behind.", |s| {
        s.last_sample_age_seconds.map(|_| -s.offset_seconds)
    }),
    ("source_error_seconds", "Error bound of the last sample.", |s| {
        s.last_sample_age_seconds.map(|_| s.error_seconds)
    }),
    ("source_delay_seconds", "Round trip of the last answer.", |s| {
        s.ntp.answered.then_some(s.ntp.delay_seconds)
    }),
    ("source_last_sample_age_seconds", "Time since the last sample.", |s| s.last_sample_age_seconds),
    ("source_authenticated", "Whether answers of the source are authenticated.", |s| {
        Some(f64::from(u8::from(s.authentication.mode != AuthenticationMode::None)))
    }),
    ("source_nts_cookies", "NTS cookies held, 0 to 8.", |s| {
        (s.authentication.mode == AuthenticationMode::Nts).then(|| s.authentication.cookies.into())
    }),
    ("source_interleaved", "Whether the last answer was in interleaved mode.", |s| {
        s.ntp.answered.then(|| f64::from(u8::from(s.ntp.interleaved)))
    }),
    ("source_certificate_not_after_seconds", "Unix time at which the server's certificate expires.", |s| {
        #[expect(clippy::cast_precision_loss, reason = "a date needs far fewer than 53 bits")]
        s.authentication.certificate_not_after.map(|at| at as f64)
    }),
];

fn sources(out: &mut Exposition, snapshot: &Snapshot) {
    let listed = resolved(snapshot);
    for (name, help, value) in SOURCE_METRICS {
        out.family(name, "gauge", help);
        for (source, address) in &listed {
            if let Some(value) = value(source) {
                out.sample(name, &source_labels(source, address), Number(value));
            }
        }
    }
    out.family("source_discards", "counter", "Datagrams that made no sample, by reason.");
    for (source, address) in &listed {
        for discard in &source.discards {
            let mut labels = source_labels(source, address).to_vec();
            labels.push(("reason", discard.reason.name()));
            out.sample("source_discards_total", &labels, discard.count);
        }
    }
    out.family("stray_datagrams", "counter", "Datagrams that belonged to no source, by reason.");
    for discard in &snapshot.engine.discards {
        out.sample("stray_datagrams_total", &[("reason", discard.reason.name())], discard.count);
    }
    let activity = &snapshot.engine.activity;
    out.family("sources", "gauge", "Sources by activity.");
    for (state, number) in
        [("online", activity.online), ("offline", activity.offline), ("unresolved", activity.unresolved)]
    {
        out.sample("sources", &[("state", state)], number);
    }
}

/// The sources that have an address or a device, each pair of name and address once: a scraper refuses the
/// whole text when a series appears twice.
fn resolved(snapshot: &Snapshot) -> Vec<(&SourceReport, String)> {
    let mut seen = BTreeSet::<(&str, String)>::new();
    let mut listed = Vec::new();
    for source in &snapshot.engine.sources {
        let address = match (source.remote, source.kind) {
            (Some(remote), _) => remote.ip().to_string(),
            (None, SourceKind::ReferenceClock) => format!("{}:{}", source.driver, source.device),
            (None, _) => continue,
        };
        if seen.insert((&source.name, address.clone())) {
            listed.push((source, address));
        }
    }
    listed
}

fn source_labels<'a>(source: &'a SourceReport, address: &'a str) -> [(&'static str, &'a str); 2] {
    [("source", &source.name), ("address", address)]
}

fn key_establishments(out: &mut Exposition, counts: &EstablishmentCounts<'_>) {
    out.family("key_establishments", "counter", "NTS key establishments by server and result.");
    for ((server, result), number) in counts {
        let labels = [("server", server.as_str()), ("result", *result)];
        out.sample("key_establishments_total", &labels, number);
    }
}

/// How a key establishment ends that gives keys.
const SUCCESS: &str = "success";

/// Key establishments by server and result.
type EstablishmentCounts<'s> = BTreeMap<(String, &'s str), u64>;

/// Two sources may share one server.
fn establishment_counts(snapshot: &Snapshot) -> EstablishmentCounts<'_> {
    let mut counts = BTreeMap::new();
    for establishment in &snapshot.engine.establishments {
        let server = format!("{}:{}", establishment.name, establishment.port);
        *counts.entry((server.clone(), SUCCESS)).or_default() += establishment.succeeded;
        for (kind, number) in &establishment.failed {
            *counts.entry((server.clone(), kind.as_str())).or_default() += number;
        }
    }
    counts
}

/// The names that a guide to NTS with chrony has its readers alert on; chrony has no metrics.
fn names_of_guides(out: &mut Exposition, snapshot: &Snapshot, establishments: &EstablishmentCounts<'_>) {
    let tracking = &snapshot.engine.tracking;
    out.prefix = "";
    // Without its sign: the alert is on what is greater than a limit.
    let offset = tracking.system_offset_seconds.abs();
    out.gauge("chrony_offset_seconds", "How far the clock is off, as far as it is known.", offset);
    let synchronized = f64::from(u8::from(tracking.synchronized));
    out.gauge("chrony_sync_status", "Whether the clock is synchronised.", synchronized);
    out.gauge("ntp_stratum", "Stratum; 0 when not synchronised.", f64::from(tracking.stratum));
    let unauthenticated = count(snapshot.engine.unauthenticated_in_use.len());
    out.gauge(
        "chrony_unauthenticated_sources",
        "Unauthenticated sources that move the clock.",
        unauthenticated,
    );
    let (good, bad): (Vec<_>, Vec<_>) =
        establishments.iter().partition(|((_, result), _)| *result == SUCCESS);
    out.family("chrony_nts_ke_success", "counter", "NTS key establishments that succeeded.");
    for ((server, _), number) in &good {
        out.sample("chrony_nts_ke_success_total", &[("server", server)], number);
    }
    out.family("chrony_nts_ke_failure", "counter", "NTS key establishments that failed.");
    for ((server, reason), number) in &bad {
        out.sample("chrony_nts_ke_failure_total", &[("server", server), ("reason", reason)], number);
    }
    for (name, counts) in [("chrony_nts_ke_session_success", &good), ("chrony_nts_ke_session_failure", &bad)]
    {
        out.family(name, "counter", "NTS key establishments by result.");
        out.sample(&format!("{name}_total"), &[], counts.iter().map(|(_, number)| **number).sum::<u64>());
    }
    out.prefix = PREFIX;
}

fn server(out: &mut Exposition, snapshot: &Snapshot) {
    let server = &snapshot.server;
    out.family("server_received", "counter", "Datagrams received by the NTP server.");
    out.sample("server_received_total", &[], server.received);
    out.family("server_requests", "counter", "Requests by result and kind.");
    for (result, counts) in [("answered", &server.responses), ("dropped", &server.silences)] {
        for (kind, number) in counts {
            out.sample("server_requests_total", &[("result", result), ("kind", kind)], number);
        }
    }
    out.family("server_interleaved", "counter", "Answers in interleaved mode.");
    out.sample("server_interleaved_total", &[], server.interleaved);
    if let Some(path) = &server.fast_path {
        out.family(
            "server_fast_path_interfaces",
            "gauge",
            "Interfaces where requests are answered before the sockets.",
        );
        for (interface, mode) in &path.interfaces {
            out.sample("server_fast_path_interfaces", &[("interface", interface), ("mode", mode)], 1);
        }
        out.family(
            "server_fast_path_nts_interfaces",
            "gauge",
            "Interfaces where requests with NTS are handed to workers past the sockets.",
        );
        for (interface, mode) in &path.nts_interfaces {
            out.sample("server_fast_path_nts_interfaces", &[("interface", interface), ("mode", mode)], 1);
        }
        out.gauge(
            "server_fast_path_problems",
            "Why sockets answer where they should not have to.",
            count(path.problems.len()),
        );
        out.family(
            "server_fast_path_requests",
            "counter",
            "Requests that the fast path answered, refused (too many), left as its time was stale, or handed to workers (NTS), and what \
             became of these.",
        );
        for (result, number) in [
            ("answered", path.answered),
            ("limited", path.limited),
            ("stale", path.stale),
            ("handed-over", path.handed_over),
            ("answered-by-worker", path.frames_answered),
            ("dropped-by-worker", path.frames_dropped),
        ] {
            out.sample("server_fast_path_requests_total", &[("result", result)], number);
        }
    }
    let clients = snapshot.clients.iter().filter(|client| client.asked_for_time()).count();
    out.gauge("server_clients", "Clients remembered.", count(clients));
    let ke = &snapshot.ke_server;
    out.family("ke_server_connections", "counter", "Connections to the NTS-KE server.");
    for (result, number) in [("accepted", ke.accepted), ("dropped", ke.dropped)] {
        out.sample("ke_server_connections_total", &[("result", result)], number);
    }
    out.family("ke_server_sessions", "counter", "Finished sessions of the NTS-KE server by result.");
    for (result, number) in &ke.results {
        out.sample("ke_server_sessions_total", &[("result", result)], number);
    }
}

fn control(out: &mut Exposition, snapshot: &Snapshot) {
    out.family(
        "control_datagrams",
        "counter",
        "Datagrams of chronyc's and ntpq's protocols, by what became of them.",
    );
    for (protocol, handled) in [("chrony", &snapshot.control.chrony), ("mode6", &snapshot.control.mode6)] {
        for handling in Handling::ALL {
            let labels = [("protocol", protocol), ("result", handling.name())];
            out.sample("control_datagrams_total", &labels, handled.of(handling));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are never 2^53 of anything in memory")]
fn count(number: usize) -> f64 {
    number as f64
}

/// A number as `OpenMetrics` writes it.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_nan() {
            f.write_str("NaN")
        } else if self.0.is_infinite() {
            f.write_str(if self.0 > 0.0 { "+Inf" } else { "-Inf" })
        } else {
            write!(f, "{:?}", crate::text::number::positive_zero(self.0))
        }
    }
}

struct Exposition {
    text: String,
    /// What all names begin with.
    prefix: &'static str,
}

/// What the names of our own metrics begin with.
const PREFIX: &str = "truechimer_";

impl Default for Exposition {
    fn default() -> Self {
        Self { text: String::new(), prefix: PREFIX }
    }
}

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let prefix = self.prefix;
        let _ = writeln!(self.text, "# TYPE {prefix}{name} {kind}");
        if let Some(unit) = ["seconds", "ppm"].into_iter().find(|unit| name.ends_with(unit)) {
            let _ = writeln!(self.text, "# UNIT {prefix}{name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {prefix}{name} {help}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], Number(value));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{}{name}", self.prefix);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{}\"", escape(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::{AuthenticationReport, EstablishmentReport, LeapSecondReport};

    fn snapshot() -> Snapshot {
        let source = SourceReport {
            name: "a\"b\\c".to_owned(),
            remote: Some("[2001:db8::1]:123".parse().expect("an address")),
            reach: 255,
            state: '*',
            last_sample_age_seconds: Some(2.0),
            offset_seconds: 0.5,
            authentication: AuthenticationReport {
                mode: AuthenticationMode::Nts,
                cookies: 8,
                ..AuthenticationReport::default()
            },
            ..SourceReport::default()
        };
        let mut snapshot = Snapshot::default();
        snapshot.engine.tracking.system_offset_seconds = -0.25;
        snapshot.engine.sources = vec![source.clone(), source];
        snapshot.engine.establishments = vec![EstablishmentReport {
            name: "ke".to_owned(),
            port: 4460,
            succeeded: 2,
            failed: vec![("expired".to_owned(), 3)],
            ..EstablishmentReport::default()
        }];
        snapshot.server.responses.insert("nts_time".to_owned(), 7);
        snapshot.control.chrony = [(Handling::Malformed, 46)].into_iter().collect();
        let leap = &mut snapshot.engine.leap_seconds;
        leap.tai_offset_seconds = Some(37);
        leap.next = Some(LeapSecondReport { unix_seconds: 1_893_456_000, insert: true, listed: true });
        leap.list_expires_unix_seconds = Some(1_893_400_000);
        snapshot
    }

    #[test]
    fn sources_keys_and_requests_are_labelled() {
        let text = openmetrics(&snapshot());
        for line in [
            r#"truechimer_source_reach{source="a\"b\\c",address="2001:db8::1"} 255.0"#,
            r#"truechimer_source_offset_seconds{source="a\"b\\c",address="2001:db8::1"} -0.5"#,
            r#"truechimer_source_nts_cookies{source="a\"b\\c",address="2001:db8::1"} 8.0"#,
            r#"truechimer_key_establishments_total{server="ke:4460",result="expired"} 3"#,
            r#"truechimer_key_establishments_total{server="ke:4460",result="success"} 2"#,
            r#"truechimer_server_requests_total{result="answered",kind="nts_time"} 7"#,
            r#"truechimer_control_datagrams_total{protocol="chrony",result="malformed"} 46"#,
            r#"truechimer_control_datagrams_total{protocol="mode6",result="refused"} 0"#,
            r#"truechimer_leap_status{truechimer_leap_status="unsynchronized"} 1"#,
            "# UNIT truechimer_offset_seconds seconds",
            "truechimer_tai_offset_seconds 37.0",
            "truechimer_leap_second_next_seconds 1893456000.0",
            "truechimer_leap_list_expires_seconds 1893400000.0",
            "truechimer_leap_list_problems 0.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n---\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        for line in [
            "chrony_offset_seconds 0.25",
            "chrony_sync_status 0.0",
            "ntp_stratum 0.0",
            "chrony_unauthenticated_sources 0.0",
            r#"chrony_nts_ke_success_total{server="ke:4460"} 2"#,
            r#"chrony_nts_ke_failure_total{server="ke:4460",reason="expired"} 3"#,
            "chrony_nts_ke_session_success_total 2",
            "chrony_nts_ke_session_failure_total 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n---\n{text}");
        }
        assert!(!text.contains("error_bound"), "there is none while not synchronised");
    }

    #[test]
    fn no_series_appears_twice_and_each_has_its_family_before_it() {
        let text = openmetrics(&snapshot());
        let mut seen = BTreeSet::new();
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().expect("a name");
                assert!(seen.insert(family), "{family} has two families");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "{line} is not of {family}");
                let series = line.rsplit_once(' ').expect("a value").0;
                let twice = !series.contains('{') && seen.contains(series) && series != family;
                assert!(!twice && (series == family || seen.insert(series)), "{series} twice");
            }
        }
    }

    #[test]
    fn numbers_that_are_none_have_names() {
        assert_eq!(Number(f64::NAN).to_string(), "NaN");
        assert_eq!(Number(f64::NEG_INFINITY).to_string(), "-Inf");
        assert_eq!(Number(1e-9).to_string(), "1e-9");
        assert_eq!(Number(-0.0).to_string(), "0.0");
    }
}
