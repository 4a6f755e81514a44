//! `[[server]]`, `[[nts-ke-server]]` and `[keyset]`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use chime_nts::AeadAlgorithm;
use chime_server::Policy;
use toml::de::DeValue;

use super::table::{Parsed, TableReader, Value};
use super::values::{
    access_rule, aeads, boolean, fault, integer, ip_address, list, network_terms, number, path,
    socket_address, string, subnet, text, word, wrong_type,
};
use crate::model::parse_address;
use crate::{
    AccessNetworks, Broadcast, CertificatePair, Diagnostic, FastPath, KeySet, Model, NtpOverPtp, NtpServer,
    NtsKeServer, Origin, RateLimitSettings, Refusal, RequireNts, Severity,
};

const FAST_PATHS: &[(&str, FastPath)] = &[
    ("none", FastPath::None),
    ("xdp", FastPath::Xdp),
    ("xdp-driver", FastPath::XdpDriver),
    ("xdp-generic", FastPath::XdpGeneric),
];

/// One `[[server]]`.
pub(in crate::dialects) fn read_server(table: &mut TableReader<'_, '_, '_, '_>) -> Option<NtpServer> {
    const ENTRIES_MAX: usize = 1 << 24;
    const CUTOFF_MAX_MS: u64 = 3_600_000;
    table.ours(&[
        "access-rules",
        "client-records",
        "fast-path",
        "interface",
        "network-terms",
        "ntp-signd-directory",
        "rate-limit",
    ]);
    let listen = table.require("listen", socket_address);
    let mut server = NtpServer::new(listen.unwrap_or_else(|| ([0, 0, 0, 0], 0).into()));
    server.allow = read_access(table, "allowlist");
    server.deny = read_access(table, "denylist");
    server.interface = table.read("interface", text);
    let entries = table.within("rate-limiting-cache-size", 0..=ENTRIES_MAX);
    server.rate_limit_entries = entries.unwrap_or(server.rate_limit_entries);
    let cutoff = table.within("rate-limiting-cutoff-ms", 0..=CUTOFF_MAX_MS);
    server.rate_limit_cutoff = Duration::from_millis(cutoff.unwrap_or(0));
    table.set("client-records", boolean, &mut server.client_records);
    table.set("require-nts", require_nts, &mut server.require_nts);
    read_rules(table, &mut server);
    let mut is_answered = true;
    if let Some(versions) = table.read("accept-ntp-versions", list(integer(1..=5_u8))) {
        server.versions = accepted(table, versions, &[1, 2, 3, 4]);
        is_answered = !server.versions.is_empty();
    }
    table.set("network-terms", list(network_terms), &mut server.terms);
    server.signing_directory = table.read("ntp-signd-directory", path);
    table.set("fast-path", word(FAST_PATHS), &mut server.fast_path);
    listen.filter(|_| is_answered).map(|_| server)
}

/// `access-rules` and `rate-limit`: what chrony has for the two lists and the shortest spacing.
fn read_rules(table: &mut TableReader<'_, '_, '_, '_>, server: &mut NtpServer) {
    server.rules = table.read("access-rules", list(access_rule));
    if server.rules.is_some() && (server.allow.is_some() || server.deny.is_some()) {
        let message = "`access-rules` take the place of `allowlist` and `denylist`".to_owned();
        table.error_at("access-rules", message, Some("give the rules or the lists".to_owned()));
    }
    table.table("rate-limit", "rate-limit", |limit| {
        server.rate_limit = read_rate_limit(limit);
        if let Some(settings) = &mut server.rate_limit {
            settings.kiss = limit.read("kiss", integer(RATE_EXPONENTS));
        }
        if server.rate_limit_entries == 0 {
            server.rate_limit_entries = Policy::CLIENTS_DEFAULT;
        }
    });
}

/// Binary exponents of the shares of requests beyond a limit.
const RATE_EXPONENTS: RangeInclusive<u8> = 0..=8;

/// A rate limit with credit for bursts; without kisses.
pub(super) fn read_rate_limit(limit: &mut TableReader<'_, '_, '_, '_>) -> Option<RateLimitSettings> {
    const INTERVAL_MAX: f64 = 86_400.0;
    let interval = limit.require("interval", number(1e-6..=INTERVAL_MAX, " seconds"));
    let burst = limit.read("burst", integer(1..=u8::MAX)).unwrap_or(8);
    let leak = limit.read("leak", integer(RATE_EXPONENTS));
    let interval = Duration::from_secs_f64(interval?);
    Some(RateLimitSettings { interval, burst, leak, kiss: None })
}

/// One `[[broadcast]]`. RFC 5905 §9, mode 5.
pub(in crate::dialects) fn read_broadcast(table: &mut TableReader<'_, '_, '_, '_>) -> Option<Broadcast> {
    const INTERVAL_MAX: u64 = 131_072;
    let to = table.require("address", broadcast_address);
    let mut broadcast = Broadcast::new(to.unwrap_or_else(|| ([255, 255, 255, 255], 123).into()));
    let interval = table.read("interval", integer(1..=INTERVAL_MAX));
    broadcast.interval = interval.map_or(broadcast.interval, Duration::from_secs);
    broadcast.key = table.read("key", integer(1..=u32::MAX));
    table.set("ttl", integer(1..=u8::MAX), &mut broadcast.ttl);
    broadcast.local = table.read("bind-address", ip_address);
    broadcast.interface = table.read("interface", text);
    if broadcast.local.is_some_and(|local| local.is_ipv4() != broadcast.to.is_ipv4()) {
        let message = "`bind-address` and `address` are of different families".to_owned();
        table.error_at("bind-address", message, None);
    }
    to.map(|_| broadcast)
}

/// `[ntp-over-ptp]`.
pub(in crate::dialects) fn read_ntp_over_ptp(table: &mut TableReader<'_, '_, '_, '_>) -> NtpOverPtp {
    let mut ptp = NtpOverPtp::default();
    table.set("port", integer(1..=u16::MAX), &mut ptp.port);
    table.set("domain", integer(0..=u8::MAX), &mut ptp.domain);
    ptp
}

/// `IP[:PORT]`, port 123 unless given.
fn broadcast_address(value: &Value<'_>) -> Parsed<SocketAddr> {
    let (host, port) = parse_address(string(value)?).map_err(|message| fault(value, message))?;
    let address = host.parse().map_err(|_| fault(value, format!("\"{host}\" is not an IP address")))?;
    Ok(SocketAddr::new(address, port.unwrap_or(123)))
}

/// One `[[nts-ke-server]]`. RFC 8915 §4.
pub(in crate::dialects) fn read_ke_server(table: &mut TableReader<'_, '_, '_, '_>) -> Option<NtsKeServer> {
    const TIMEOUT_MAX_MS: u64 = 60_000;
    const CONNECTIONS_MAX: usize = 65_536;
    table.ours(&["access-rules", "aeads", "certificate", "rate-limit"]);
    let listen = read_ke_listen(table);
    let chain = table.require("certificate-chain-path", path);
    let key = table.require("private-key-path", path);
    let mut more = Vec::new();
    table.each("certificate", "[[nts-ke-server.certificate]]", |pair| {
        let chain = pair.require("certificate-chain-path", path);
        let key = pair.require("private-key-path", path);
        more.extend(chain.zip(key).map(|(chain, key)| CertificatePair { chain, key }));
    });
    let timeout = table.within("key-exchange-timeout-ms", 1..=TIMEOUT_MAX_MS);
    let connections = table.within("concurrent-connections", 1..=CONNECTIONS_MAX);
    let ntp_server = table.read("ntp-server", ntp_server);
    let ntp_port = table.read("ntp-port", integer(1..=u16::MAX));
    let versions = table.read("accept-ntp-versions", list(integer(4..=5_u8)));
    let is_answered = versions.is_none_or(|versions| !accepted(table, versions, &[4]).is_empty());
    let pools = "connections of NTS pools are not supported by this version";
    table.ignore(&["longlived-connections"], pools);
    let is_nobody = |value: &DeValue<'_>| value.as_array().is_some_and(|tokens| tokens.is_empty());
    table.ignore_unless("accepted-pool-authentication-tokens", is_nobody, pools);
    let rules = table.read("access-rules", list(access_rule));
    let aeads = table.read("aeads", aeads).unwrap_or_else(|| AeadAlgorithm::OFFERED.to_vec());
    let mut rate_limit = None;
    table.table("rate-limit", "rate-limit", |limit| rate_limit = read_rate_limit(limit));
    let place = table.place();
    let (listen, chain, key) = (listen.filter(|_| is_answered)?, chain?, key?);
    let mut certificates = vec![CertificatePair { chain, key }];
    certificates.append(&mut more);
    Some(NtsKeServer {
        listen,
        certificates,
        // ntpd-rs gives 1 s, which a client behind a slow link cannot keep: two round trips and
        // a lost segment are 2 s already.
        timeout: Duration::from_millis(timeout.unwrap_or(5000)),
        connections_max: connections.unwrap_or(crate::KE_CONNECTIONS_MAX_DEFAULT),
        ntp_server,
        ntp_port,
        aeads,
        rate_limit,
        rules,
        origin: Some(Origin { file: place.file, line: place.line }),
    })
}

/// `listen`; the migration guides of ntpd-rs say that its port may be left away.
fn read_ke_listen(table: &mut TableReader<'_, '_, '_, '_>) -> Option<SocketAddr> {
    const PORT: u16 = 4460;
    let tolerant = table.is_tolerant();
    let alone = |value: &Value<'_>| {
        let given = value.get_ref().as_str().filter(|_| tolerant)?;
        given.trim_matches(['[', ']']).parse().ok().map(|address| SocketAddr::new(address, PORT))
    };
    let listen = table.require("listen", |value| match alone(value) {
        Some(address) => Ok((address, true)),
        None => socket_address(value).map(|address| (address, false)),
    });
    if let Some((address, true)) = listen {
        table.warn_at("listen", format!("`listen` needs a port for ntpd-rs; {address} is used"));
    }
    listen.map(|(address, _)| address)
}

/// `[keyset]`.
pub(in crate::dialects) fn read_keyset(table: &mut TableReader<'_, '_, '_, '_>, keyset: &mut KeySet) {
    const STALE_MAX: usize = 255;
    const INTERVAL_MAX: u64 = 366 * 86_400;
    keyset.stale_keys = table.within("stale-key-count", 0..=STALE_MAX).unwrap_or(keyset.stale_keys);
    let interval = if table.is_tolerant() {
        table.within("key-rotation-interval", 60..=INTERVAL_MAX)
    } else {
        // Zero: the keys are not renewed here.
        table.read("key-rotation-interval", |value| {
            integer(0..=0)(value).or_else(|_| integer(60..=INTERVAL_MAX)(value))
        })
    };
    if let Some(seconds) = interval {
        keyset.rotation_interval = Duration::from_secs(seconds);
    }
    let storage = table.read("key-storage-path", path);
    keyset.storage_path = storage.or(keyset.storage_path.take());
}

/// Warnings about what is served as a whole.
pub(in crate::dialects) fn check(model: &Model, diagnostics: &mut Vec<Diagnostic>) {
    for server in &model.nts_ke_servers {
        let port = server.ntp_port.unwrap_or(123);
        let Some(origin) = &server.origin else {
            continue;
        };
        let served = model.servers.iter().any(|ntp| ntp.listen.port() == port);
        if !served && server.ntp_server.is_none() {
            diagnostics.push(Diagnostic {
                severity: Severity::Warning,
                message: format!(
                    "clients of the key establishment server on {} are sent to UDP port {port}, \
                     and no [[server]] listens there",
                    server.listen
                ),
                help: Some("add a [[server]], or name another one with `ntp-server`".to_owned()),
                file: origin.file.clone(),
                line: origin.line,
                column: 1,
                excerpt: "[[nts-ke-server]]".to_owned(),
                width: 17,
            });
        }
    }
}

/// `{ filter = [..], action = ".." }`, both needed.
fn read_access(table: &mut TableReader<'_, '_, '_, '_>, key: &'static str) -> Option<AccessNetworks> {
    let mut rule = None;
    table.table(key, key, |access| {
        let subnets = access.require("filter", list(subnet));
        let action = word(&[("ignore", Refusal::Ignore), ("deny", Refusal::Deny)]);
        let action = access.require("action", action);
        rule = subnets.zip(action).map(|(subnets, refusal)| AccessNetworks { subnets, refusal });
    });
    rule
}

/// `false`, `true` (as "ignore"), "ignore" or "deny".
fn require_nts(value: &Value<'_>) -> Parsed<RequireNts> {
    match value.get_ref() {
        DeValue::Boolean(true) => Ok(RequireNts::Ignore),
        DeValue::Boolean(false) => Ok(RequireNts::No),
        DeValue::String(_) => word(&[("ignore", RequireNts::Ignore), ("deny", RequireNts::Deny)])(value),
        _ => Err(wrong_type(value, "true, false, \"ignore\" or \"deny\"")),
    }
}

/// A name for the server record: ASCII without blanks. RFC 8915 §4.1.7.
fn ntp_server(value: &Value<'_>) -> Parsed<String> {
    const NAME_OCTETS_MAX: usize = 255;
    let name = string(value)?;
    let fits = !name.is_empty() && name.len() <= NAME_OCTETS_MAX;
    if fits && name.bytes().all(|octet| octet.is_ascii_graphic()) {
        Ok(name.to_owned())
    } else {
        Err(fault(value, "must be a host name or an IP address in ASCII"))
    }
}

/// The versions that are both asked for and known; the others draw a warning. None: ntpd-rs has version 5, for which there
/// is no server here; who writes our own format asks for nothing.
fn accepted(table: &mut TableReader<'_, '_, '_, '_>, mut versions: Vec<u8>, known: &[u8]) -> Vec<u8> {
    const KEY: &str = "accept-ntp-versions";
    versions.sort_unstable();
    versions.dedup();
    let asked = versions.len();
    versions.retain(|version| known.contains(version));
    if versions.is_empty() && table.is_tolerant() {
        let message =
            "no version is left to answer, as version 5 is still a draft: there is no such server here";
        table.warn_at(KEY, message.to_owned());
    } else if versions.is_empty() {
        table.error_at(KEY, format!("`{KEY}` leaves no version to answer"), None);
    } else if versions.len() < asked {
        table.warn_at(KEY, "NTP version 5 is still a draft and not answered".to_owned());
    }
    versions
}
