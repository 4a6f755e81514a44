//! `[[source]]` and `[source-defaults]`.

use std::net::IpAddr;

use toml::de::DeValue;

use super::late;
use super::table::{Fault, Parsed, TableReader, Value};
use super::values::{
    aeads, authentication_policy, boolean, fault, integer, ip_address, list, number, one_or_list, path,
    sha256, string, text, word, wrong_type,
};
use crate::model::parse_address;
use crate::{
    AddressFamily, Authentication, AuthenticationPolicy, ClientSockets, Diagnostic, Model, NtpVersion,
    NtsTrust, Origin, PollLimits, Refresh, Severity, Source, SourceKind,
};

/// What `[source-defaults]` says; applied when all files are read.
#[derive(Default)]
pub(in crate::dialects) struct SourceDefaults {
    poll: PollWish,
    pub(in crate::dialects) sockets: ClientSockets,
    pub(in crate::dialects) refresh: Refresh,
}

impl SourceDefaults {
    /// Those of ntpd-rs: 16 s to 1024 s.
    pub(in crate::dialects) fn ntpd_rs() -> Self {
        Self { poll: PollWish { min: Some(4), max: Some(10), initial: Some(4) }, ..Self::default() }
    }
}

/// Poll limits of which any may be left to the defaults.
#[derive(Clone, Copy, Default)]
struct PollWish {
    min: Option<i8>,
    max: Option<i8>,
    initial: Option<i8>,
}

/// The head of a table, kept for messages that can only be given when all files are read.
pub(in crate::dialects) struct Place(pub(in crate::dialects) Diagnostic);

/// A source whose defaults are not yet known.
pub(in crate::dialects) struct SourceDraft {
    source: Source,
    poll: PollWish,
    policy: Option<AuthenticationPolicy>,
    place: Place,
    /// The program that the file is of takes limits in any order.
    any_limits: bool,
}

impl SourceDraft {
    pub(in crate::dialects) fn is_authenticated(&self) -> bool {
        self.source.is_authenticated()
    }

    /// Applies the defaults, and judges what depends on them.
    pub(in crate::dialects) fn finish(
        self,
        defaults: &SourceDefaults,
        policy: AuthenticationPolicy,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Source {
        let mut source = self.source;
        source.poll = self.poll.over(defaults.poll);
        if source.poll.min > source.poll.max {
            let mut message = format!(
                "the shortest poll interval of {} (2^{} s) is above the longest (2^{} s)",
                source.name, source.poll.min, source.poll.max
            );
            let severity = if self.any_limits { Severity::Warning } else { Severity::Error };
            if self.any_limits {
                message.push_str("; the shortest is used");
                source.poll.max = source.poll.min;
                source.poll.initial = source.poll.min;
            }
            diagnostics.push(late(severity, &self.place, message));
        }
        // A source can ask for more authentication than the whole, never for less.
        source.policy = match (policy, self.policy) {
            (
                AuthenticationPolicy::Mixed | AuthenticationPolicy::Preferred,
                Some(AuthenticationPolicy::Required),
            ) => AuthenticationPolicy::Required,
            (AuthenticationPolicy::Mixed, Some(own)) => own,
            (global, _) => global,
        };
        if policy == AuthenticationPolicy::Required && self.policy == Some(AuthenticationPolicy::Mixed) {
            let message = format!(
                "{}: authentication is required globally, and a source cannot weaken that",
                source.name
            );
            diagnostics.push(late(Severity::Warning, &self.place, message));
        }
        if source.policy == AuthenticationPolicy::Required && !source.is_authenticated() && !source.no_select
        {
            let message = format!(
                "{} is not authenticated and authentication is required: it will be measured \
                 and never believed",
                source.name
            );
            diagnostics.push(late(Severity::Warning, &self.place, message));
        }
        source
    }
}

impl PollWish {
    fn over(self, defaults: Self) -> PollLimits {
        let plain = PollLimits::default();
        let min = self.min.or(defaults.min);
        let max = self.max.or(defaults.max);
        // One limit given beyond the other's default moves the default, not the wish.
        let limits = match (min, max) {
            (Some(min), Some(max)) => (min, max),
            (Some(min), None) => (min, plain.max.max(min)),
            (None, Some(max)) => (plain.min.min(max), max),
            (None, None) => (plain.min, plain.max),
        };
        let initial = self.initial.or(defaults.initial).unwrap_or(plain.initial);
        PollLimits { min: limits.0, max: limits.1, initial: initial.max(limits.0).min(limits.1) }
    }
}

/// `[source-defaults]`.
pub(in crate::dialects) fn read_defaults(
    table: &mut TableReader<'_, '_, '_, '_>,
    defaults: &mut SourceDefaults,
) {
    table.ours(&["bind-address", "client-port", "interface", "name-refresh", "nts-key-refresh"]);
    let poll = read_poll(table);
    defaults.poll.min = poll.min.or(defaults.poll.min);
    defaults.poll.max = poll.max.or(defaults.poll.max);
    defaults.poll.initial = poll.initial.or(defaults.poll.initial);
    for address in table.read("bind-address", one_or_list(ip_address)).unwrap_or_default() {
        match address {
            IpAddr::V4(v4) => defaults.sockets.v4 = Some(v4),
            IpAddr::V6(v6) => defaults.sockets.v6 = Some(v6),
        }
    }
    table.set("name-refresh", integer(0..=u32::MAX), &mut defaults.refresh.names);
    table.set("nts-key-refresh", integer(0..=u32::MAX), &mut defaults.refresh.nts_keys);
    defaults.sockets.port = table.read("client-port", integer(0..=u16::MAX)).or(defaults.sockets.port);
    let interface = table.read("interface", text);
    defaults.sockets.interface = interface.or(defaults.sockets.interface.take());
}

/// Keys that ntpd-rs does not have.
const OURS: &[&str] = &[
    "aeads",
    "address-family",
    "authentication",
    "burst",
    "copy-reference",
    "frequency-transfer",
    "iburst",
    "interleaved",
    "key",
    "max-delay",
    "max-delay-deviation-ratio",
    "max-delay-quantile",
    "max-delay-ratio",
    "max-unreachable-polls",
    "median-filter",
    "min-delay",
    "min-stratum",
    "network-correction",
    "noselect",
    "offline-on-failure",
    "offset",
    "online",
    "pinned-certificates",
    "pinned-keys",
    "poll-target",
    "port",
    "prefer",
    "presend",
    "require",
    "smeared",
    "system-cas",
    "trust",
];

/// One `[[source]]`; `None` when it lacks what it cannot do without.
pub(in crate::dialects) fn read(table: &mut TableReader<'_, '_, '_, '_>) -> Option<SourceDraft> {
    table.ours(OURS);
    let mode = table.require("mode", mode);
    let address = table.require("address", address);
    // Unknown keys are judged against every mode when the mode itself is wrong.
    let shape = mode.unwrap_or(Mode::ANY);
    let mut source = Source::new("");
    if let Some(address) = &address {
        source.name.clone_from(&address.host);
    }
    read_kind(table, shape, &mut source);
    read_authentication(table, shape, address.as_ref(), &mut source);
    read_common(table, &mut source);
    read_version(table, &mut source);
    let place = table.place();
    source.origin = Some(Origin { file: place.file.clone(), line: place.line });
    let draft = SourceDraft {
        source,
        poll: read_poll(table),
        policy: table.read("authentication", authentication_policy),
        place: Place(place),
        any_limits: table.is_tolerant(),
    };
    mode.and(address).map(|_| draft)
}

/// Warnings about the sources as a whole.
pub(in crate::dialects) fn check(model: &Model, diagnostics: &mut Vec<Diagnostic>) {
    let wanted = model.wanted_associations();
    let needed = model.minimum_agreeing_sources();
    if let Some(first) = model.sources.first().and_then(|source| source.origin.as_ref())
        && wanted < needed
    {
        diagnostics.push(Diagnostic {
            severity: Severity::Warning,
            message: format!(
                "sources configured: {wanted}, sources that must agree: {needed}; the clock will not be \
                 touched"
            ),
            help: Some("add sources or lower `minimum-agreeing-sources`".to_owned()),
            file: first.file.clone(),
            line: first.line,
            column: 1,
            excerpt: "[[source]]".to_owned(),
            width: 10,
        });
    }
}

#[derive(Clone, Copy)]
struct Mode {
    pool: bool,
    nts: bool,
    plain: bool,
    peer: bool,
}

impl Mode {
    const ANY: Self = Self { pool: true, nts: true, plain: true, peer: false };

    const fn of(pool: bool, nts: bool) -> Self {
        let plain = !nts;
        Self { pool, nts, plain, peer: false }
    }
}

const MODES: &[(&str, Mode)] = &[
    ("server", Mode::of(false, false)),
    ("nts", Mode::of(false, true)),
    ("pool", Mode::of(true, false)),
    ("nts-pool", Mode::of(true, true)),
    ("peer", Mode { peer: true, ..Mode::of(false, false) }),
];

fn mode(value: &Value<'_>) -> Parsed<Mode> {
    if let Some(other @ ("sock" | "pps" | "csptp")) = value.get_ref().as_str() {
        let message = format!("\"{other}\" sources are not supported by this version");
        return Err(fault(value, message));
    }
    word(MODES)(value)
}

struct Address {
    host: String,
    port: Option<u16>,
}

/// `HOST[:PORT]`; with more than one colon it is IPv6, in brackets when there is a port.
fn address(value: &Value<'_>) -> Parsed<Address> {
    let (host, port) = parse_address(string(value)?).map_err(|message| fault(value, message))?;
    Ok(Address { host, port })
}

fn read_kind(table: &mut TableReader<'_, '_, '_, '_>, mode: Mode, source: &mut Source) {
    const COUNT_MAX: usize = 16;
    if mode.pool {
        let count = table.within("count", 1..=COUNT_MAX).unwrap_or(4);
        let ignore = table.read("ignore", list(ip_address)).unwrap_or_default();
        source.kind = SourceKind::Pool { count, ignore };
    } else {
        if mode.peer {
            // Each of two peers sends at its own pace; a burst would only be heard.
            source.kind = SourceKind::Peer;
            source.iburst = false;
        }
        belongs(table, &["count", "ignore"], "a source with mode \"pool\" or \"nts-pool\"");
    }
}

fn read_authentication(
    table: &mut TableReader<'_, '_, '_, '_>,
    mode: Mode,
    address: Option<&Address>,
    source: &mut Source,
) {
    let port = table.read("port", integer(1..=u16::MAX));
    let address_port = address.and_then(|address| address.port);
    if mode.nts {
        let mut trust = NtsTrust::default();
        trust.port = address_port.unwrap_or(trust.port);
        table.set("certificate-authority", one_or_list(path), &mut trust.certificate_authorities);
        table.set("system-cas", boolean, &mut trust.system_cas);
        table.set("pinned-certificates", one_or_list(path), &mut trust.pinned_certificates);
        table.set("pinned-keys", one_or_list(sha256), &mut trust.pinned_keys);
        table.set("aeads", aeads, &mut trust.aeads);
        let is_off = |value: &DeValue<'_>| matches!(value, DeValue::Boolean(false));
        table.ignore_unless("enable-srv-resolution", is_off, "names are resolved to addresses only");
        check_trust(table, &trust);
        source.authentication = Authentication::Nts(trust);
        source.port = port.unwrap_or(source.port);
    } else {
        belongs(
            table,
            &["certificate-authority", "system-cas", "pinned-certificates", "pinned-keys", "aeads"],
            "a source with mode \"nts\" or \"nts-pool\"",
        );
        if port.is_some() && address_port.is_some() {
            let message = "`port` is given in `address` too".to_owned();
            table.error_at("port", message, None);
        }
        source.port = port.or(address_port).unwrap_or(source.port);
    }
    if mode.plain {
        if let Some(key) = table.read("key", integer(1..=u32::MAX)) {
            source.authentication = Authentication::Key(key);
        }
    } else {
        belongs(table, &["key"], "a source with mode \"server\", \"pool\" or \"peer\"");
    }
}

fn check_trust(table: &mut TableReader<'_, '_, '_, '_>, trust: &NtsTrust) {
    let nothing = !trust.system_cas
        && trust.certificate_authorities.is_empty()
        && trust.pinned_certificates.is_empty()
        && trust.pinned_keys.is_empty();
    if nothing {
        table.error_at(
            "system-cas",
            "without the system's authorities nothing is trusted here".to_owned(),
            Some("give `certificate-authority`, `pinned-certificates` or `pinned-keys`".to_owned()),
        );
    }
}

fn read_common(table: &mut TableReader<'_, '_, '_, '_>, source: &mut Source) {
    const DELAY_MAX: f64 = 1000.0;
    table.set("iburst", boolean, &mut source.iburst);
    table.set("prefer", boolean, &mut source.prefer);
    table.set("noselect", boolean, &mut source.no_select);
    table.set("trust", boolean, &mut source.trust);
    table.set("require", boolean, &mut source.require);
    table.set("interleaved", boolean, &mut source.interleaved);
    table.set("frequency-transfer", boolean, &mut source.frequency_transfer);
    table.set("network-correction", boolean, &mut source.network_correction);
    table.set("max-delay", number(1e-6..=DELAY_MAX, " seconds"), &mut source.max_delay);
    let ratio = || number(0.0..=1e6, "");
    table.set("max-delay-ratio", ratio(), &mut source.max_delay_ratio);
    table.set("max-delay-deviation-ratio", ratio(), &mut source.max_delay_deviation_ratio);
    table.set("max-delay-quantile", number(0.0..=0.95, ""), &mut source.max_delay_quantile);
    table.set("min-delay", number(0.0..=DELAY_MAX, " seconds"), &mut source.min_delay);
    table.set("jitter-asymmetry", number(-0.5..=0.5, ""), &mut source.jitter_asymmetry);
    table.set("burst", boolean, &mut source.burst);
    source.presend = table.read("presend", integer(-7..=24)).or(source.presend);
    table.set("median-filter", integer(0..=1024), &mut source.median_filter);
    table.set("poll-target", integer(1..=1024), &mut source.poll_target);
    table.set("min-stratum", integer(0..=16), &mut source.min_stratum);
    table.set("max-unreachable-polls", integer(0..=u32::MAX), &mut source.max_unreachable_polls);
    source.max_samples = table.read("max-samples", integer(0..=u32::MAX));
    table.set("copy-reference", boolean, &mut source.copy_reference);
    table.set("offline-on-failure", boolean, &mut source.offline_on_failure);
    table.set("online", boolean, &mut source.online);
    table.set("offset", number(-3600.0..=3600.0, " seconds"), &mut source.offset_correction);
    table.set("smeared", boolean, &mut source.smeared);
    let family =
        word(&[("any", AddressFamily::Any), ("ipv4", AddressFamily::V4), ("ipv6", AddressFamily::V6)]);
    table.set("address-family", family, &mut source.address_family);
    let literal: Option<IpAddr> = source.name.parse().ok();
    let clash = match literal {
        Some(IpAddr::V4(_)) => source.address_family == AddressFamily::V6,
        Some(IpAddr::V6(_)) => source.address_family == AddressFamily::V4,
        None => false,
    };
    if clash {
        let message = "`address-family` excludes the only address of this source".to_owned();
        table.error_at("address-family", message, None);
    }
}

fn read_version(table: &mut TableReader<'_, '_, '_, '_>, source: &mut Source) {
    let nts = matches!(source.authentication, Authentication::Nts(_));
    match table.read("ntp-version", version) {
        Some(Wish::V3) if nts => {
            let message = "NTS needs NTP version 4".to_owned();
            table.error_at("ntp-version", message, None);
        }
        Some(Wish::V3) => source.version = NtpVersion::V3,
        Some(Wish::V5) => {
            let message = "NTP version 5 is still a draft; version 4 is used".to_owned();
            table.warn_at("ntp-version", message);
        }
        Some(Wish::Auto) if table.is_tolerant() => {
            let message = "version 4 is used; the draft of version 5 is never tried".to_owned();
            table.warn_at("ntp-version", message);
        }
        Some(Wish::V4 | Wish::Auto) | None => source.version = NtpVersion::V4,
    }
}

enum Wish {
    V3,
    V4,
    V5,
    Auto,
}

fn version(value: &Value<'_>) -> Parsed<Wish> {
    match value.get_ref() {
        DeValue::Integer(_) => integer(3..=5_u8)(value).map(|number| match number {
            3 => Wish::V3,
            5 => Wish::V5,
            _ => Wish::V4,
        }),
        DeValue::String(word) if word == "auto" => Ok(Wish::Auto),
        DeValue::String(_) => Err(fault(value, "must be 3, 4 or \"auto\"")),
        _ => Err(wrong_type(value, "3, 4 or \"auto\"")),
    }
}

fn read_poll(table: &mut TableReader<'_, '_, '_, '_>) -> PollWish {
    let initial = exponent(table, "initial-poll-interval");
    let mut wish = PollWish { initial, ..PollWish::default() };
    table.table("poll-interval-limits", "poll-interval-limits", |limits| {
        wish.min = exponent(limits, "min");
        wish.max = exponent(limits, "max");
    });
    wish
}

/// An exponent of 2: the range that the protocol can express and a program can keep to.
fn exponent(table: &mut TableReader<'_, '_, '_, '_>, key: &'static str) -> Option<i8> {
    const EXPONENTS: std::ops::RangeInclusive<i8> = -7..=24;
    if table.is_tolerant() {
        return table.within(key, EXPONENTS);
    }
    table.read(key, |value| {
        integer(EXPONENTS)(value).map_err(|faults| {
            let help = Some("poll intervals are powers of 2: 6 means 64 seconds".to_owned());
            let with_help = |fault| Fault { help: help.clone(), ..fault };
            faults.into_iter().map(with_help).collect()
        })
    })
}

/// Reports keys that only make sense elsewhere, so that they are not called misspelt.
fn belongs(table: &mut TableReader<'_, '_, '_, '_>, keys: &[&'static str], home: &str) {
    for key in keys.iter().filter(|key| table.has(key)).copied().collect::<Vec<_>>() {
        let _ = table.value(key);
        table.error_at(key, format!("`{key}` belongs to {home}"), None);
    }
}
