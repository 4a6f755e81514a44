//! `chime query`: measures once, with the daemon's own engine and sockets, and never touches the clock.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use chime_config::{
    AddressFamily, Authentication, AuthenticationPolicy, Model, NtsTrust, Source, parse_address,
};
use chime_engine::{AuthenticationMode, SourceReport};
use chimed::once::{self, Measurement};
use clap::Args;
use serde_json::json;

use crate::exit::Exit;
use crate::terminal::{Terminal, print};

/// What is asked, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct QueryOptions {
    /// Servers, as HOST or HOST:PORT, IPv6 addresses with a port in brackets; with --nts the port of the key establishment
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
    /// With Network Time Security
    #[arg(long)]
    nts: bool,
    /// Trust the certificate authorities of this PEM file too
    #[arg(long, value_name = "FILE", requires = "nts")]
    ca: Option<PathBuf>,
    /// Trust no certificate authorities of the system
    #[arg(long, requires = "nts")]
    no_system_cas: bool,
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// IPv6 only
    #[arg(short = '6')]
    ipv6: bool,
    /// Give up after so long
    #[arg(short = 't', long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Measures, shows what was found, and says by the exit status whether every server gave a time.
pub(crate) fn query(options: &QueryOptions, terminal: Terminal) -> Result<Exit> {
    let model = model(options)?;
    let measurement = once::measure(&model, options.timeout, false)?;
    let sources = &measurement.report.sources;
    let text = if options.json {
        format!("{:#}\n", as_json(&measurement))
    } else {
        sources.iter().map(|source| as_text(source, &measurement, terminal)).collect::<Vec<_>>().join("\n")
    };
    print(&text)?;
    let all = !sources.is_empty() && sources.iter().all(has_time);
    Ok(if all { Exit::Success } else { Exit::Failure })
}

fn model(options: &QueryOptions) -> Result<Model> {
    let sources = options.hosts.iter().map(|host| source(host, options)).collect::<Result<Vec<_>>>()?;
    let mut model = Model { sources, ..Model::default() };
    if options.nts {
        model.authentication = AuthenticationPolicy::Required;
    }
    // Each server is shown for itself; whether they agree is for the reader to see.
    model.synchronization.minimum_agreeing_sources = Some(1);
    Ok(model)
}

fn source(text: &str, options: &QueryOptions) -> Result<Source> {
    let (host, port) = parse_address(text).map_err(|message| anyhow!(message))?;
    let mut source = Source::new(&host);
    if options.nts {
        let usual = NtsTrust::default();
        source.authentication = Authentication::Nts(NtsTrust {
            port: port.unwrap_or(usual.port),
            certificate_authorities: options.ca.iter().cloned().collect(),
            system_cas: !options.no_system_cas,
            ..usual
        });
        source.policy = AuthenticationPolicy::Required;
    } else {
        source.port = port.unwrap_or(source.port);
    }
    source.address_family = match options {
        QueryOptions { ipv4: true, .. } => AddressFamily::V4,
        QueryOptions { ipv6: true, .. } => AddressFamily::V6,
        _ => AddressFamily::Any,
    };
    Ok(source)
}

/// Whether the source gave at least one sample that was believed.
fn has_time(source: &SourceReport) -> bool {
    source.statistics.samples > 0
}

fn as_text(source: &SourceReport, measurement: &Measurement, terminal: Terminal) -> String {
    let paint = terminal.paint;
    let address = source.remote.map(|remote| format!(" ({remote})")).unwrap_or_default();
    let mut out = format!("{}{address}\n", paint.strong(&source.name));
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(out, "  {label:<14} {value}");
    };
    if has_time(source) {
        let (offset, error) = (-source.statistics.offset_seconds, source.error_seconds);
        let side = if offset > 0.0 { "behind" } else { "ahead" };
        line("offset", &format!("{offset:+.6} s: this clock is {side}; error at most {error:.6} s"));
        line("round trip", &format!("{:.6} s", source.ntp.delay_seconds));
        let samples = source.statistics.samples;
        line(
            "measured",
            &format!("{samples} times, deviation {:.6} s", source.statistics.standard_deviation_seconds),
        );
        line("stratum", &source.stratum.to_string());
        line("authenticated", &authentication(source, terminal));
    } else {
        line("no time", &paint.bad(&reasons(source, measurement)));
    }
    out
}

fn authentication(source: &SourceReport, terminal: Terminal) -> String {
    let report = &source.authentication;
    match report.mode {
        AuthenticationMode::None => terminal.paint.warning("no"),
        AuthenticationMode::Key => terminal.paint.good("yes, with a symmetric key"),
        AuthenticationMode::Nts => format!(
            "{}; {} cookies of {} octets left, AEAD {} with {} bits",
            terminal.paint.good("yes, with NTS"),
            report.cookies,
            report.cookie_octets,
            report.key_type,
            report.key_bits
        ),
    }
}

/// Why there is no time, as far as it is known: keys, answers that were refused, or silence.
fn reasons(source: &SourceReport, measurement: &Measurement) -> String {
    let mut found = Vec::new();
    for establishment in &measurement.report.establishments {
        if establishment.source == source.source {
            found.extend(establishment.last_error.clone());
        }
    }
    for discard in &source.discards {
        found.push(format!("{} answers refused: {}", discard.count, discard.reason));
    }
    found.extend(source.last_error.clone().filter(|error| !found.contains(error)));
    if found.is_empty() {
        let silent = if source.ntp.total_tx == 0 { "nothing could be asked" } else { "no answer" };
        found.push(silent.to_owned());
    }
    found.join("; ")
}

fn as_json(measurement: &Measurement) -> serde_json::Value {
    let each = |source: &SourceReport| {
        let address: Option<IpAddr> = source.remote.map(|remote| remote.ip());
        let measured = has_time(source);
        json!({
            "name": source.name,
            "address": address,
            "port": source.remote.map(|remote| remote.port()),
            "measured": measured,
            // NTP's sign, as in `ntpdata`: positive when our clock is behind.
            "offset_seconds": measured.then_some(-source.statistics.offset_seconds),
            "error_seconds": measured.then_some(source.error_seconds),
            "delay_seconds": measured.then_some(source.ntp.delay_seconds),
            "samples": source.statistics.samples,
            "stratum": source.stratum,
            "authentication": source.authentication,
            "reason": (!measured).then(|| reasons(source, measurement)),
        })
    };
    measurement.report.sources.iter().map(each).collect()
}

fn seconds(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: f64 = 3600.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("must be a number of seconds above 0 and at most 3600".to_owned()),
    }
}
