//! From the configuration model to what the planes are started with.

use crate::plain_file::{self, LARGE_OCTETS_MAX};
use crate::reference_clocks;
use crate::trust::Trusts;
use anyhow::{Context, Result};
use chime_config::{
    AddressFamily, Authentication, AuthenticationPolicy, KeyFormat, Model, Source, SourceKind,
};
use chime_engine::{AskedFields, Config, KnownTime, NTP_PORT, NtsSource, SourceConfig, SourceMode};
use chime_time::PollExponent;
use chime_wire::mac::SymmetricKey;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tracing::warn;

/// When this program was built, Unix seconds: the true time is later. Set by the build script.
pub const BUILD_UNIX_SECONDS: &str = env!("CHIMED_BUILD_UNIX_SECONDS");

/// What is known about the true time before any server is asked, apart from what an earlier run saved.
#[must_use]
pub fn known_time() -> KnownTime {
    KnownTime { build_unix_seconds: BUILD_UNIX_SECONDS.parse().unwrap_or(0), ..KnownTime::default() }
}

/// What the engine is told; `steer` is false for `-x` and `-Q`.
///
/// # Errors
/// When the key file cannot be read.
pub fn engine_config(model: &Model, trusts: &Trusts, steer: bool) -> Result<Config> {
    let keys = symmetric_keys(model)?;
    let mut discipline = model.discipline_settings();
    discipline.steer = steer;
    discipline.precision =
        model.synchronization.precision.unwrap_or_else(chime_sys::clock::measure_precision);
    Ok(Config {
        sources: {
            let port = peer_port(model);
            model.sources.iter().map(|source| source_config(source, trusts, port)).collect()
        },
        reference_clocks: reference_clocks::engine_configs(model),
        authentication: match model.authentication {
            AuthenticationPolicy::Required => chime_engine::AuthenticationPolicy::Required,
            AuthenticationPolicy::Preferred => chime_engine::AuthenticationPolicy::Preferred,
            AuthenticationPolicy::Mixed => chime_engine::AuthenticationPolicy::Mixed,
            AuthenticationPolicy::Ignored => chime_engine::AuthenticationPolicy::Ignored,
        },
        discipline,
        own_servers: model.servers.iter().map(|server| server.listen).collect(),
        keys: Arc::new(keys),
        known_time: known_time(),
        refresh_seconds: model.refresh.names,
        nts_refresh_seconds: model.refresh.nts_keys,
        unchecked_dates_updates: model.synchronization.unchecked_certificate_updates,
        ..Config::default()
    })
}

/// The port from which we send to peers, and broadcast: that of our server; not that for PTP messages, from which what goes
/// there leaves.
#[must_use]
pub fn peer_port(model: &Model) -> u16 {
    let ports = model.servers.iter().map(|server| server.listen.port());
    ports.into_iter().find(|port| model.ptp_domain_at(*port).is_none()).unwrap_or(NTP_PORT)
}

/// One source; `local_port`: see [`peer_port`].
#[must_use]
pub fn source_config(source: &Source, trusts: &Trusts, local_port: u16) -> SourceConfig {
    let exponent = PollExponent::new;
    SourceConfig {
        port: source.port,
        mode: match &source.kind {
            SourceKind::Server => SourceMode::Server,
            SourceKind::Peer => SourceMode::Symmetric { local_port },
            SourceKind::Pool { count, ignore } => {
                SourceMode::Pool { count: u8::try_from(*count).unwrap_or(u8::MAX), ignore: ignore.clone() }
            }
        },
        authentication: match &source.authentication {
            Authentication::None => chime_engine::Authentication::None,
            Authentication::Key(id) => chime_engine::Authentication::Key(*id),
            Authentication::Nts(trust) => chime_engine::Authentication::Nts(NtsSource {
                port: trust.port,
                // A number that nobody has trusts nobody.
                trust: trusts.number_of(trust).unwrap_or(u32::MAX),
                aeads: trust.aeads.clone(),
                ..NtsSource::default()
            }),
        },
        iburst: source.iburst,
        poll_min: exponent(source.poll.min),
        poll_max: exponent(source.poll.max),
        poll_initial: Some(exponent(source.poll.initial)),
        options: source.options(),
        version: source.version.number(),
        address_family: match source.address_family {
            AddressFamily::Any => chime_engine::AddressFamily::Any,
            AddressFamily::V4 => chime_engine::AddressFamily::V4,
            AddressFamily::V6 => chime_engine::AddressFamily::V6,
        },
        max_delay_seconds: source.max_delay,
        max_delay_ratio: source.max_delay_ratio,
        max_delay_deviation_ratio: source.max_delay_deviation_ratio,
        max_delay_quantile: source.max_delay_quantile,
        min_delay_seconds: source.min_delay,
        jitter_asymmetry: source.jitter_asymmetry,
        burst: source.burst,
        presend_from: source.presend.map(exponent),
        median_filter: source.median_filter,
        poll_target: source.poll_target,
        offline_on_failure: source.offline_on_failure,
        online: source.online,
        interleaved: source.interleaved,
        fields: AskedFields { monotonic: source.frequency_transfer, correction: source.network_correction },
        ..SourceConfig::server(&source.name)
    }
}

/// Has a server at the unspecified IPv6 address answer over IPv4 as well, as `[::]:123` does in ntpd-rs: our sockets are
/// of one family each, so that addresses are what they seem, and an operator who writes `[::]` means everybody.
///
/// Not where the IPv4 address is configured on its own, nor with port 0, which would be another port for each family.
pub fn serve_both_families(model: &mut Model) {
    let taken: Vec<SocketAddr> = model.servers.iter().map(|server| server.listen).collect();
    let servers = model.servers.iter();
    let twins: Vec<_> = servers
        .filter_map(|server| {
            let listen = ipv4_twin(server.listen, &taken)?;
            Some(chime_config::NtpServer { listen, ..server.clone() })
        })
        .collect();
    model.servers.extend(twins);
    let taken: Vec<SocketAddr> = model.nts_ke_servers.iter().map(|server| server.listen).collect();
    let servers = model.nts_ke_servers.iter();
    let twins: Vec<_> = servers
        .filter_map(|server| {
            let listen = ipv4_twin(server.listen, &taken)?;
            Some(chime_config::NtsKeServer { listen, ..server.clone() })
        })
        .collect();
    model.nts_ke_servers.extend(twins);
}

/// The IPv4 address that `listen` stands for as well.
fn ipv4_twin(listen: SocketAddr, taken: &[SocketAddr]) -> Option<SocketAddr> {
    let twin = SocketAddr::from((Ipv4Addr::UNSPECIFIED, listen.port()));
    let wanted = listen.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && listen.port() != 0;
    let conflict = taken.iter().any(|other| other.is_ipv4() && other.port() == listen.port());
    (wanted && !conflict).then_some(twin)
}

/// The symmetric keys of the configured key file.
///
/// # Errors
/// When the file cannot be read.
pub fn symmetric_keys(model: &Model) -> Result<Vec<SymmetricKey>> {
    let Some(path) = model.key_file.as_deref() else {
        return Ok(Vec::new());
    };
    let needed = model.sources.iter().any(|source| matches!(source.authentication, Authentication::Key(_)));
    // Distributions ship chrony.conf with a key file that need not exist.
    if !needed && matches!(path.try_exists(), Ok(false)) {
        warn!("{}: there is no such key file, and no source needs it", path.display());
        return Ok(Vec::new());
    }
    read_keys(path, model.key_format)
}

/// The keys of a key file in chrony's format. A line with a mistake is reported and left out, as chrony does.
fn read_keys(path: &Path, format: KeyFormat) -> Result<Vec<SymmetricKey>> {
    let text = plain_file::read_text(path, LARGE_OCTETS_MAX)
        .with_context(|| format!("{}: the keys cannot be read", path.display()))?;
    let mut keys = Vec::new();
    let found = match format {
        KeyFormat::Chrony => chime_wire::keyfile::parse(&text),
        KeyFormat::Ntpsec => chime_wire::keyfile::parse_ntpsec(&text),
    };
    for key in found {
        match key {
            Ok(key) => keys.push(key),
            Err(error) => warn!("{}: {error}", path.display()),
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_config::NtpServer;

    fn addresses(listen: &[&str]) -> Vec<String> {
        let servers =
            listen.iter().map(|address| NtpServer::new(address.parse().expect("an address"))).collect();
        let mut model = Model { servers, ..Model::default() };
        serve_both_families(&mut model);
        model.servers.iter().map(|server| server.listen.to_string()).collect()
    }

    #[test]
    fn a_server_for_everybody_answers_over_both_families() {
        assert_eq!(addresses(&["[::]:123"]), ["[::]:123", "0.0.0.0:123"]);
        assert_eq!(addresses(&["[::]:123", "192.0.2.1:123"]), ["[::]:123", "192.0.2.1:123"]);
        assert_eq!(addresses(&["[::]:0"]), ["[::]:0"]);
        assert_eq!(addresses(&["[::1]:123", "0.0.0.0:124"]), ["[::1]:123", "0.0.0.0:124"]);
    }
}
