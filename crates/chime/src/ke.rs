//! `chime ke`: one key establishment, step by step, and what went wrong in plain words.

mod attempt;
mod report;

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use chime_ke::{ClientConfig, ClientTrust, PublicKeyPin, TrustAnchors};
use chime_nts::record::NTS_KE_PORT;
use chime_sys::resolver::Family;
use chimed::trust::{provider, read_certificates, system_anchors};
use clap::Args;

use crate::exit::Exit;
use crate::terminal::{Terminal, print};

/// What to try, and whom to trust.
#[derive(Args, Clone, Debug)]
pub(crate) struct KeOptions {
    /// Name or address of the key establishment server
    #[arg(value_name = "HOST[:PORT]")]
    target: Target,
    /// Trust the certificates of this PEM file too (may be repeated)
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// Do not trust the system's certificate authorities
    #[arg(long)]
    no_system_cas: bool,
    /// Accept only the key with this SHA-256, whoever issued its certificate (may be repeated)
    #[arg(long, value_name = "SHA256")]
    pin: Vec<PublicKeyPin>,
    /// Over IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Over IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Give up after so long
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = timeout)]
    timeout: Duration,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A host and a port.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Target {
    host: String,
    port: u16,
}

/// Why a target cannot be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum TargetError {
    #[error("a host name or address is needed")]
    NoHost,
    #[error("the port must be a number from 1 to 65535")]
    Port,
}

impl FromStr for Target {
    type Err = TargetError;

    /// Reads `name`, `name:port`, `192.0.2.1:port`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:port`.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (host, port) =
            if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
                match rest {
                    "" => (host, None),
                    rest => (host, Some(rest.strip_prefix(':').ok_or(TargetError::Port)?)),
                }
            } else if text.parse::<IpAddr>().is_ok() {
                (text, None)
            } else {
                text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
            };
        if host.trim().is_empty() {
            return Err(TargetError::NoHost);
        }
        let port = port.map_or(Ok(NTS_KE_PORT), |port| port.parse().map_err(|_| TargetError::Port))?;
        if port == 0 { Err(TargetError::Port) } else { Ok(Self { host: host.to_owned(), port }) }
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: f64 = 3600.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("must be a number of seconds above 0 and up to {SECONDS_MAX}")),
    }
}

/// Establishes keys once and shows how it went; succeeds when it did.
pub(crate) fn run(options: &KeOptions, terminal: Terminal) -> Result<Exit> {
    let config = ClientConfig::new(&provider(), trust(options)?);
    let family = match (options.ipv4, options.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    let Target { host, port } = &options.target;
    let attempt = attempt::make(host, *port, family, &config, options.timeout);
    let report = report::KeReport::of(host, *port, &attempt);
    if options.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(&report.text(terminal.paint))?;
    }
    Ok(if report.ok { Exit::Success } else { Exit::Failure })
}

fn trust(options: &KeOptions) -> Result<ClientTrust> {
    let mut extra = Vec::new();
    for path in &options.ca {
        extra.extend(read_certificates(path)?);
    }
    let (extra_roots, unusable) = TrustAnchors::from_certificates(extra);
    if unusable > 0 {
        bail!("{unusable} of the certificates given with --ca cannot be used as authorities");
    }
    Ok(ClientTrust {
        system_roots: (!options.no_system_cas).then(system_anchors),
        extra_roots: Arc::new(extra_roots),
        pinned_certificates: Vec::new(),
        pinned_keys: options.pin.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_in_every_spelling() {
        let read = |text: &str| text.parse::<Target>().map(|target| (target.host, target.port));
        let is = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(read("nts.test"), is("nts.test", 4460));
        assert_eq!(read("nts.test:123"), is("nts.test", 123));
        assert_eq!(read("192.0.2.1:4461"), is("192.0.2.1", 4461));
        assert_eq!(read("2001:db8::1"), is("2001:db8::1", 4460));
        assert_eq!(read("[2001:db8::1]"), is("2001:db8::1", 4460));
        assert_eq!(read("[2001:db8::1]:4461"), is("2001:db8::1", 4461));
        assert_eq!(read(""), Err(TargetError::NoHost));
        assert_eq!(read(":4460"), Err(TargetError::NoHost));
        for bad in ["nts.test:", "nts.test:0", "nts.test:65536", "nts.test:ntp", "[::1]4460", "[::1]:"] {
            assert_eq!(read(bad), Err(TargetError::Port), "{bad}");
        }
    }

    #[test]
    fn timeouts_are_sensible() {
        assert_eq!(timeout("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "x", "inf", "NaN", "1e9"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
