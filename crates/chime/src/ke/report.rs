//! What a key establishment looked like: for people, and as JSON.

use std::fmt::Write;

use chime_control::Paint;
use chime_ke::{CertificateInfo, KeError, KeOutcome, KeStage, RecordTrace, utc};
use chime_nts::AeadAlgorithm;
use chime_nts::record::record_type;
use chime_time::MonoTime;
use serde::Serialize;

use super::attempt::{KeAttempt, Times};

/// Everything that is shown.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct KeReport {
    host: String,
    port: u16,
    /// Whether keys and cookies were established.
    pub(super) ok: bool,
    connections: Vec<ConnectionReport>,
    tls: Option<TlsReport>,
    certificates: Vec<CertificateReport>,
    request: Vec<RecordReport>,
    response: Vec<RecordReport>,
    result: Option<ResultReport>,
    error: Option<ErrorReport>,
    milliseconds: Milliseconds,
}

/// How long each step took; absent: it was not reached.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
struct Milliseconds {
    lookup: Option<f64>,
    tcp: Option<f64>,
    tls: Option<f64>,
    records: Option<f64>,
    total: Option<f64>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct ConnectionReport {
    address: String,
    /// `connected`, `not tried`, `abandoned`, or what the system said.
    result: String,
    milliseconds: Option<f64>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct TlsReport {
    version: String,
    cipher_suite: Option<String>,
    key_exchange_group: Option<String>,
    application_protocol: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct CertificateReport {
    subject: String,
    issuer: String,
    names: Vec<String>,
    /// Unix seconds.
    not_before: i64,
    /// Unix seconds.
    not_after: i64,
    /// What `--pin` takes.
    public_key_sha256: String,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct RecordReport {
    record_type: u16,
    name: &'static str,
    critical: bool,
    octets: usize,
    content: String,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct ResultReport {
    aead: u16,
    aead_name: String,
    /// The AEAD number in the exporter context; two while it is undecided which one the server means.
    exporter_contexts: Vec<u16>,
    cookies: Vec<usize>,
    ntp_server: String,
    ntp_port: u16,
    warnings: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct ErrorReport {
    /// A short stable name.
    kind: &'static str,
    /// Where it happened.
    step: String,
    message: String,
    hint: Option<String>,
}

const NTP_PORT: u16 = 123;

impl KeReport {
    pub(super) fn of(host: &str, port: u16, attempt: &KeAttempt) -> Self {
        let trace = &attempt.trace;
        let tls = trace.tls_version.as_ref().map(|version| TlsReport {
            version: version.clone(),
            cipher_suite: trace.cipher_suite.clone(),
            key_exchange_group: trace.key_exchange_group.clone(),
            application_protocol: trace.alpn.clone(),
        });
        let outcome = attempt.outcome.as_ref();
        let result = outcome.and_then(|outcome| outcome.as_ref().ok()).map(|good| {
            let reached =
                attempt.connected.map_or_else(|| host.to_owned(), |address| address.ip().to_string());
            ResultReport::of(good, &reached)
        });
        Self {
            host: clean(host),
            port,
            ok: result.is_some(),
            connections: connections(attempt),
            tls,
            certificates: trace.certificates.iter().map(CertificateReport::of).collect(),
            request: trace.request.iter().map(RecordReport::of).collect(),
            response: trace.response.iter().map(RecordReport::of).collect(),
            result,
            error: ErrorReport::of(attempt),
            milliseconds: Milliseconds::of(&attempt.times),
        }
    }

    /// The report for people.
    pub(super) fn text(&self, paint: Paint) -> String {
        let mut out = String::new();
        let title = format!("NTS key establishment with {}, port {}", self.host, self.port);
        line(&mut out, format_args!("{}\n", paint.strong(&title)));
        self.write_connections(&mut out, paint);
        self.write_tls(&mut out, paint);
        write_records(&mut out, paint, "Sent", &self.request);
        write_records(&mut out, paint, "Received", &self.response);
        if let Some(result) = &self.result {
            result.write(&mut out, paint);
        }
        match &self.error {
            None => line(
                &mut out,
                format_args!("\n{} {}", paint.good("Keys established"), in_total(self.milliseconds.total)),
            ),
            Some(error) => error.write(&mut out, paint),
        }
        out
    }

    fn write_connections(&self, out: &mut String, paint: Paint) {
        let columns = self.connections.iter().map(|connection| connection.address.len()).max().unwrap_or(0);
        for (number, connection) in self.connections.iter().enumerate() {
            let result = match connection.result.as_str() {
                "connected" => paint.good("connected"),
                other => paint.warning(other),
            };
            let after = connection.milliseconds.map(|time| format!("  ({time:.1} ms)")).unwrap_or_default();
            let address = &connection.address;
            entry(out, paint, "TCP", number == 0, format_args!("{address:columns$}  {result}{after}"));
        }
    }

    fn write_tls(&self, out: &mut String, paint: Paint) {
        if let Some(tls) = &self.tls {
            let parts = [&tls.cipher_suite, &tls.key_exchange_group, &tls.application_protocol];
            let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
            let time = self.milliseconds.tls.map(|time| format!("  ({time:.1} ms)")).unwrap_or_default();
            entry(out, paint, "TLS", true, format_args!("{}, {}{time}", tls.version, parts.join(", ")));
        }
        for (number, certificate) in self.certificates.iter().enumerate() {
            let title = if number == 0 { "Certificate" } else { "Issued by" };
            entry(out, paint, title, true, format_args!("{}", certificate.subject));
            let detail = |name: &str, value: &str| format!("  {} {value}", paint.faint(&format!("{name:6}")));
            if !certificate.names.is_empty() {
                entry(
                    out,
                    paint,
                    "",
                    false,
                    format_args!("{}", detail("names", &certificate.names.join(", "))),
                );
            }
            entry(out, paint, "", false, format_args!("{}", detail("issuer", &certificate.issuer)));
            let dates = format!("{} to {}", utc(certificate.not_before), utc(certificate.not_after));
            entry(out, paint, "", false, format_args!("{}", detail("valid", &dates)));
            if number == 0 {
                let key = format!("sha256:{}", certificate.public_key_sha256);
                entry(out, paint, "", false, format_args!("{}", detail("key", &key)));
            }
        }
    }
}

impl Milliseconds {
    fn of(times: &Times) -> Self {
        let step = |from: Option<MonoTime>, to: Option<MonoTime>| Some(to?.seconds_since(from?) * 1000.0);
        let started = Some(times.started);
        Self {
            lookup: step(started, times.resolved),
            tcp: step(times.resolved, times.connected),
            tls: step(times.connected, times.tls_finished),
            records: step(times.tls_finished, times.ended),
            total: step(started, times.ended),
        }
    }
}

fn connections(attempt: &KeAttempt) -> Vec<ConnectionReport> {
    let attempts = attempt.race.iter().flat_map(|race| race.attempts());
    let report = |attempt: &chimed::tcp_race::Attempt| {
        let (result, ended) = match (&attempt.started, &attempt.ended) {
            (None, _) => ("not tried".to_owned(), None),
            (Some(_), None) => ("no answer before another one".to_owned(), None),
            (Some(_), Some((at, Ok(())))) => ("connected".to_owned(), Some(*at)),
            (Some(_), Some((at, Err(error)))) => (error.clone(), Some(*at)),
        };
        let milliseconds =
            attempt.started.zip(ended).map(|(started, ended)| ended.seconds_since(started) * 1000.0);
        ConnectionReport { address: attempt.address.ip().to_string(), result, milliseconds }
    };
    let mut reports: Vec<_> = attempts.map(report).collect();
    if attempt.connected.is_none() {
        for report in reports.iter_mut().filter(|report| report.result.starts_with("no answer")) {
            "no answer".clone_into(&mut report.result);
        }
    }
    reports
}

impl CertificateReport {
    fn of(info: &CertificateInfo) -> Self {
        Self {
            subject: clean(if info.subject.is_empty() { "(no subject)" } else { &info.subject }),
            issuer: clean(&info.issuer),
            names: info.names.iter().map(|name| clean(name)).collect(),
            not_before: info.not_before,
            not_after: info.not_after,
            public_key_sha256: info.public_key_hex(),
        }
    }
}

impl RecordReport {
    fn of(record: &RecordTrace) -> Self {
        Self {
            record_type: record.record_type,
            name: record.name(),
            critical: record.critical,
            octets: record.octets,
            content: clean(&record.content),
        }
    }
}

impl ResultReport {
    fn of(outcome: &KeOutcome, reached: &str) -> Self {
        let aead = outcome.keys.algorithm();
        let mut exporter_contexts = vec![aead.id()];
        if outcome.alternative_keys.is_some() {
            exporter_contexts.push(AeadAlgorithm::AesSivCmac256.id());
        }
        Self {
            aead: aead.id(),
            aead_name: aead.to_string(),
            exporter_contexts,
            cookies: outcome.cookies.iter().map(|cookie| cookie.as_bytes().len()).collect(),
            ntp_server: outcome
                .ntp_server
                .as_ref()
                .map_or_else(|| reached.to_owned(), |server| clean(server)),
            ntp_port: outcome.ntp_port.unwrap_or(NTP_PORT),
            warnings: outcome.warnings.iter().map(ToString::to_string).collect(),
        }
    }

    fn write(&self, out: &mut String, paint: Paint) {
        let undecided = if self.exporter_contexts.len() > 1 {
            " (keys also kept in the way of chrony before 4.6.1)"
        } else {
            ""
        };
        entry(out, paint, "AEAD", true, format_args!("{} {}{undecided}", self.aead, self.aead_name));
        let cookies = format!("{} of {} octets", self.cookies.len(), lengths(&self.cookies));
        entry(out, paint, "Cookies", true, format_args!("{cookies}"));
        entry(out, paint, "NTP server", true, format_args!("{}, port {}", self.ntp_server, self.ntp_port));
        for (number, warning) in self.warnings.iter().enumerate() {
            entry(out, paint, "Odd", number == 0, format_args!("{}", paint.warning(warning)));
        }
    }
}

impl ErrorReport {
    fn of(attempt: &KeAttempt) -> Option<Self> {
        match (&attempt.addresses, &attempt.outcome) {
            (Err(error), _) => Some(Self {
                kind: "lookup",
                step: "looking up the name".to_owned(),
                message: error.to_string(),
                hint: None,
            }),
            (_, Some(Err(error))) => Some(Self {
                kind: error.kind(),
                step: step(attempt, error).to_owned(),
                message: clean(&error.to_string()),
                hint: hint(attempt, error),
            }),
            _ => None,
        }
    }

    fn write(&self, out: &mut String, paint: Paint) {
        line(out, format_args!("\n{} ({}): {}", paint.bad("FAILED"), self.step, self.message));
        if let Some(hint) = &self.hint {
            line(out, format_args!("{hint}"));
        }
    }
}

/// Where it went wrong.
const fn step(attempt: &KeAttempt, error: &KeError) -> &'static str {
    match error {
        KeError::InvalidServerName(_) | KeError::NoTrustAnchors => "before connecting",
        _ if error.is_certificate() => "checking the certificate",
        _ if attempt.connected.is_none() => "connecting",
        _ if attempt.times.tls_finished.is_none() => "TLS handshake",
        _ => "reading the answer",
    }
}

/// What can be done about it.
fn hint(attempt: &KeAttempt, error: &KeError) -> Option<String> {
    let leaf = attempt.trace.certificates.first();
    let pin = || leaf.map(|leaf| format!("--pin sha256:{}", leaf.public_key_hex()));
    match error {
        KeError::SelfSigned => Some(format!("If this key is the right one, trust it with {}.", pin()?)),
        KeError::UnknownIssuer { .. } => {
            Some("If the authority is one of yours, trust its certificate with --ca FILE.".to_owned())
        }
        KeError::Expired { .. } | KeError::NotYetValid { .. } => {
            Some(format!("This computer's clock says {}.", utc(attempt.unix_now)))
        }
        KeError::NoTrustAnchors => Some(
            "Install the system's certificate authorities (ca-certificates), or use --ca or --pin."
                .to_owned(),
        ),
        KeError::NotTls | KeError::NoAlpn => {
            Some("Is this the port of an NTS-KE server? The usual one is 4460.".to_owned())
        }
        KeError::Connect(_) | KeError::Timeout if attempt.connected.is_none() => {
            Some("Is TCP to this port let through by every firewall on the way?".to_owned())
        }
        // RFC 8446 has no second attempt with less; one of ours would let anybody on the way choose the weaker key exchange.
        KeError::Timeout | KeError::ConnectionLost(_) if attempt.trace.stage == KeStage::Handshake => Some(
            "Our first message has a post-quantum key share and takes two TCP segments: some old firewalls lose it."
                .to_owned(),
        ),
        _ => None,
    }
}

fn write_records(out: &mut String, paint: Paint, title: &str, records: &[RecordReport]) {
    let mut rest = records;
    while let Some(record) = rest.first() {
        // Cookies come by the dozen and all look the same.
        let is_cookie = |record: &RecordReport| record.record_type == record_type::NEW_COOKIE;
        let count =
            if is_cookie(record) { rest.iter().take_while(|record| is_cookie(record)).count() } else { 1 };
        let octets: Vec<usize> = rest[..count].iter().map(|record| record.octets).collect();
        let text = match (record.name, &record.content) {
            (name, _) if is_cookie(record) => format!("{count} × {name}, {} octets", lengths(&octets)),
            ("unknown record", _) => {
                format!("unknown record {}, {} octets", record.record_type, record.octets)
            }
            (name, content) if content.is_empty() => name.to_owned(),
            (name, content) => format!("{name}: {content}"),
        };
        let critical = if record.critical { "" } else { " (not critical)" };
        let critical = if is_cookie(record) { "" } else { critical };
        let is_first = rest.len() == records.len();
        entry(out, paint, title, is_first, format_args!("{text}{}", paint.faint(critical)));
        rest = &rest[count..];
    }
}

/// One length when all are the same, else the range.
fn lengths(lengths: &[usize]) -> String {
    match (lengths.iter().min(), lengths.iter().max()) {
        (Some(min), Some(max)) if min == max => min.to_string(),
        (Some(min), Some(max)) => format!("{min} to {max}"),
        _ => "no".to_owned(),
    }
}

fn in_total(milliseconds: Option<f64>) -> String {
    milliseconds.map(|time| format!("in {time:.1} ms")).unwrap_or_default()
}

/// A line with its title in the first column, if it is the first of its kind.
fn entry(out: &mut String, paint: Paint, title: &str, is_first: bool, text: std::fmt::Arguments<'_>) {
    let title = paint.faint(&format!("{:12}", if is_first { title } else { "" }));
    line(out, format_args!("{title} {text}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}"); // a String takes everything
}

/// Without control characters, which a stranger could steer the terminal with.
fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_once_when_they_are_alike() {
        assert_eq!(lengths(&[100; 8]), "100");
        assert_eq!(lengths(&[64, 100, 80]), "64 to 100");
    }

    #[test]
    fn a_stranger_does_not_get_at_the_terminal() {
        assert_eq!(clean("CN=\u{1b}[2Jevil\r\n"), "CN=\u{fffd}[2Jevil\u{fffd}\u{fffd}");
    }
}
