//! Associations and their variables, with NTPsec's names and units, in the order of its table.

use super::reply::Items;
use super::system::{fine_milliseconds, finite, hex, hex_unix, milliseconds, reference_id, stratum};
use super::{ErrorCode, Facts, names};
use crate::Snapshot;
use chime_engine::{AuthenticationMode, DiscardReason, SourceKind, SourceReport};
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

/// In NTPsec's order, which is that of answers whatever was asked. The second half is sent only when asked for.
const DEFAULT: [&str; 35] = [
    "srcadr",
    "srcport",
    "dstadr",
    "dstport",
    "leap",
    "hmode",
    "stratum",
    "ppoll",
    "hpoll",
    "precision",
    "rootdelay",
    "rootdisp",
    "refid",
    "reftime",
    "rec",
    "xmt",
    "reach",
    "unreach",
    "delay",
    "offset",
    "jitter",
    "dispersion",
    "keyid",
    "filtdelay",
    "filtoffset",
    "pmode",
    "filtdisp",
    "flash",
    "mode",
    "headway",
    "bias",
    "srchost",
    "ntscookies",
    "",
    "",
];
const ON_REQUEST: [&str; 18] = [
    "config",
    "authenable",
    "authentic",
    "org",
    "timer",
    "received",
    "sent",
    "peer_var_list",
    "timerec",
    "timereach",
    "badauth",
    "bogusorg",
    "oldpkt",
    "seldisp",
    "selbroken",
    "candidate",
    "recent",
    "",
];

/// What ntpd shows as both ports of a reference clock.
const NTP_PORT: u16 = 123;
/// A poll exponent that is not known, for ntpq.
const POLL_UNKNOWN: i8 = 99;
/// Dispersion of a source that never answered; seconds, as in NTPsec.
const DISPERSION_UNKNOWN_SECONDS: f64 = 15.937_5;
/// Stages of NTPsec's filter.
const STAGES: usize = 8;

/// The number of an association: never 0, and not that of another one before there were some thousands.
pub(super) fn id(source: &SourceReport) -> u16 {
    const UNRESOLVED: u16 = 0x8000;
    if source.remote.is_some() {
        resolved_id(source.id)
    } else {
        // Eight bits of the place in a pool lie under the number of the source.
        UNRESOLVED | u16::try_from(source.id % 0x8000).unwrap_or(0)
    }
}

/// The same of one that has an address.
pub(crate) fn resolved_id(number: u32) -> u16 {
    u16::try_from(number % 0x7fff).unwrap_or(0) + 1
}

/// What ntpq is to see: all associations, and of the places of a pool that are free one.
pub(super) fn visible(snapshot: &Snapshot) -> impl Iterator<Item = &SourceReport> {
    let mut free = None;
    snapshot.engine.sources.iter().filter(move |source| {
        let is_free = source.remote.is_none() && source.kind == SourceKind::Pool;
        !is_free || free.replace(source.source) != Some(source.source)
    })
}

pub(super) fn find(snapshot: &Snapshot, wanted: u16) -> Option<&SourceReport> {
    visible(snapshot).find(|source| id(source) == wanted)
}

/// Numbers and status words, two octets each.
pub(super) fn list(snapshot: &Snapshot) -> Vec<u8> {
    visible(snapshot).flat_map(|source| [id(source), status(source)]).flat_map(u16::to_be_bytes).collect()
}

/// The status word. Events are not counted; the last one is what the state says it was.
pub(crate) fn status(source: &SourceReport) -> u16 {
    const MOBILIZE: u16 = 1;
    const UNREACHABLE: u16 = 3;
    const REACHABLE: u16 = 4;
    const SYSTEM_PEER: u16 = 10;
    let is_member = source.kind == SourceKind::Pool && source.remote.is_some();
    let event = match (source.state, source.reach, source.ntp.answered) {
        ('*', ..) => SYSTEM_PEER,
        (_, 0, true) => UNREACHABLE,
        (_, 0, false) => MOBILIZE,
        _ => REACHABLE,
    };
    let flags = u16::from(!is_member) << 7
        | u16::from(source.authentication.mode != AuthenticationMode::None) << 6
        | u16::from(source.ntp.total_valid_rx > 0) << 5
        | u16::from(source.reach != 0) << 4;
    (flags | selection(source)) << 8 | 1 << 4 | event
}

/// What the selection made of it, in NTPsec's words.
fn selection(source: &SourceReport) -> u16 {
    match source.state {
        '*' => 6,
        '+' => 4,
        // Good, but of no use while others are better.
        'P' | 'W' | 'U' => 5,
        'D' | 'L' => 3,
        'x' => 1,
        _ => 0,
    }
}

/// The variables that `list` names, or the usual ones.
pub(super) fn variables(facts: &Facts<'_>, source: &SourceReport, list: &str) -> Result<Items, ErrorCode> {
    let mut wanted: Vec<&str> = names(list).collect();
    let known = || DEFAULT.iter().chain(&ON_REQUEST).filter(|name| !name.is_empty());
    if wanted.iter().any(|name| !known().any(|one| one == name)) {
        return Err(ErrorCode::Variable);
    }
    if wanted.is_empty() {
        wanted = DEFAULT.to_vec();
    }
    let mut items = Items::default();
    for name in known().filter(|name| wanted.contains(name)) {
        add(facts, source, name, &mut items);
    }
    Ok(items)
}

/// Adds a variable, if it has a value.
fn add(facts: &Facts<'_>, source: &SourceReport, name: &str, items: &mut Items) {
    let ntp = &source.ntp;
    let is_clock = source.kind == SourceKind::ReferenceClock;
    let mut put = |value: &dyn Display| {
        items.add(name, value);
    };
    match name {
        "srcadr" => {
            let address = source.remote.map(|remote| remote.ip().to_canonical());
            address.or_else(|| pseudo_address(source)).iter().for_each(|address| put(address));
        }
        "srcport" | "dstport" if is_clock => put(&NTP_PORT),
        "srcport" => put(&source.remote.map_or(0, |remote| remote.port())),
        "dstadr" if is_clock => put(&Ipv4Addr::LOCALHOST),
        "dstadr" => put(&ntp.local.unwrap_or(IpAddr::from([0; 4])).to_canonical()),
        "dstport" => put(&0),
        "leap" => put(&if ntp.answered { ntp.leap } else { 3 }),
        "hmode" => put(&if source.kind == SourceKind::Peer { 1 } else { 3 }),
        "pmode" => put(&ntp.mode),
        // 0 is no kiss code here.
        "stratum" if is_clock => put(&clock_stratum(source)),
        "stratum" => put(&if ntp.answered { stratum(ntp.stratum) } else { 16 }),
        "ppoll" if is_clock => put(&source.poll),
        "ppoll" => put(&if ntp.answered && (1..=17).contains(&ntp.poll) { ntp.poll } else { POLL_UNKNOWN }),
        "hpoll" => put(&source.poll),
        "precision" => put(&if ntp.answered { ntp.precision } else { facts.snapshot.program.precision }),
        "rootdelay" => put(&milliseconds(ntp.root_delay_seconds)),
        "rootdisp" => put(&milliseconds(ntp.root_dispersion_seconds)),
        "refid" => put(&refid(source)),
        "reftime" => put(&hex_unix(ntp.reference_unix_seconds)),
        "rec" => put(&hex(ntp.received_bits)),
        "xmt" => put(&hex(ntp.transmit_bits)),
        "org" => put(&""),
        "reach" => put(&format_args!("{:#x}", source.reach)),
        "unreach" => put(&source.reach.trailing_zeros()),
        "delay" => put(&fine_milliseconds(ntp.delay_seconds)),
        // NTP's sign: positive when our clock is behind.
        "offset" => put(&fine_milliseconds(-source.offset_seconds)),
        "jitter" => put(&fine_milliseconds(jitter(facts, source))),
        "dispersion" => put(&fine_milliseconds(dispersion(source))),
        "filtdelay" => put(&stages(source, |one| one.delay_seconds, 0.0)),
        "filtoffset" => put(&stages(source, |one| one.offset_seconds, 0.0)),
        "filtdisp" => put(&stages(source, |one| one.dispersion_seconds, 16.0)),
        "flash" => put(&format_args!("{:#x}", flash(source))),
        "headway" => put(&0),
        "keyid" => put(&if source.authentication.mode == AuthenticationMode::Key {
            source.authentication.key_id
        } else {
            0
        }),
        "srchost" if is_clock => {
            items.add_quoted("srchost", &clock_name(&source.driver, &source.device));
        }
        "srchost" => {
            if let Some(name) = hostname(source) {
                items.add_quoted("srchost", name);
            }
        }
        "ntscookies" => put(&cookies(source)),
        "mode" if is_clock => put(&0),
        // Of reference clocks, and what there is not here.
        "mode" | "bias" => {}
        _ => add_count(source, name, items),
    }
}

fn add_count(source: &SourceReport, name: &str, items: &mut Items) {
    let ntp = &source.ntp;
    let discards = |wanted: &[DiscardReason]| -> u64 {
        source.discards.iter().filter(|one| wanted.contains(&one.reason)).map(|one| one.count).sum()
    };
    let age = source.last_sample_age_seconds.map_or(0.0, finite);
    let value = match name {
        "config" => u64::from(source.kind != SourceKind::Pool || source.remote.is_none()),
        "authenable" => u64::from(source.authentication.mode != AuthenticationMode::None),
        "authentic" => u64::from(ntp.total_valid_rx > 0),
        "received" => ntp.total_rx,
        "sent" => ntp.total_tx,
        // The next request is due a poll interval after the last answer, or soon.
        "timer" => {
            let interval = f64::from(source.poll).exp2();
            let left = source.last_sample_age_seconds.map_or(0.0, |age| (interval - finite(age)).max(0.0));
            items.add(name, format_args!("{left:.0}"));
            return;
        }
        "timerec" | "timereach" => {
            items.add(name, format_args!("{age:.0}"));
            return;
        }
        "badauth" => discards(&[
            DiscardReason::NoAuthenticator,
            DiscardReason::AuthenticatorFailed,
            DiscardReason::NtsMalformed,
            DiscardReason::NoMac,
            DiscardReason::MacFailed,
        ]),
        "bogusorg" => discards(&[DiscardReason::OriginMismatch]),
        "oldpkt" => discards(&[DiscardReason::Duplicate, DiscardReason::UnknownExchange]),
        "seldisp" | "selbroken" => 0,
        "candidate" => u64::from(selection(source)),
        "peer_var_list" => {
            items.add_quoted(name, DEFAULT.join(",").trim_end_matches(','));
            return;
        }
        _ => return,
    };
    items.add(name, value);
}

/// NTPsec shows here why there is no data.
fn refid(source: &SourceReport) -> String {
    let is_nts = source.authentication.mode == AuthenticationMode::Nts;
    match (source.remote, source.kind) {
        (None, SourceKind::Pool) => "POOL".to_owned(),
        (None, SourceKind::Server) if is_nts => "NTS".to_owned(),
        (None, SourceKind::Server | SourceKind::Peer) => "DNS".to_owned(),
        (None, SourceKind::ReferenceClock) => source.name.clone(),
        (Some(_), _) if source.ntp.answered => {
            reference_id(source.ntp.stratum, source.ntp.reference_id, "INIT")
        }
        (Some(_), _) => "INIT".to_owned(),
    }
}

/// The configured name; not of members of pools, nor where it is an address.
fn hostname(source: &SourceReport) -> Option<&str> {
    let is_member = source.kind == SourceKind::Pool && source.remote.is_some();
    (!is_member && source.name.parse::<IpAddr>().is_err()).then_some(source.name.as_str())
}

/// The stratum of a reference clock: its own, of which 0 is one.
pub(super) fn clock_stratum(source: &SourceReport) -> u8 {
    if source.ntp.answered { source.ntp.stratum } else { 0 }
}

/// The address by which ntpd knows a reference clock, for those drivers that it has.
fn pseudo_address(source: &SourceReport) -> Option<IpAddr> {
    const DRIVERS: [(&str, u8); 3] = [("nmea", 20), ("pps", 22), ("shm", 28)];
    let (_, number) = DRIVERS.iter().find(|(name, _)| source.driver == *name)?;
    let unit = clock_unit(&source.device).parse().unwrap_or(0);
    Some(IpAddr::from([127, 127, *number, unit]))
}

/// The number that a device has, if any; otherwise 0.
fn clock_unit(device: &str) -> &str {
    let device = device.split(':').next().unwrap_or_default();
    let digits = device.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    device.get(digits..).filter(|unit| !unit.is_empty()).unwrap_or("0")
}

/// `SHM(0)`: the driver, and the number that its device has, if any.
pub(crate) fn clock_name(driver: &str, device: &str) -> String {
    format!("{}({})", driver.to_ascii_uppercase(), clock_unit(device))
}

fn cookies(source: &SourceReport) -> i32 {
    let authentication = &source.authentication;
    let has_keys = authentication.mode == AuthenticationMode::Nts && source.remote.is_some();
    if has_keys { i32::from(authentication.cookies) } else { -1 }
}

fn jitter(facts: &Facts<'_>, source: &SourceReport) -> f64 {
    if source.statistics.samples > 1 {
        source.statistics.standard_deviation_seconds
    } else {
        2_f64.powi(i32::from(facts.snapshot.program.precision))
    }
}

fn dispersion(source: &SourceReport) -> f64 {
    if source.ntp.answered { source.ntp.dispersion_seconds } else { DISPERSION_UNKNOWN_SECONDS }
}

/// Eight values in milliseconds, newest first.
fn stages(
    source: &SourceReport,
    value: fn(&chime_engine::RecentReport) -> f64,
    missing_seconds: f64,
) -> String {
    let recent = source.ntp.recent.iter().map(value).chain(std::iter::repeat(missing_seconds));
    recent.take(STAGES).map(|seconds| format!(" {:.2}", finite(seconds * 1e3))).collect()
}

/// What is wrong with it, in the bits of NTP. RFC 5905 §8.
fn flash(source: &SourceReport) -> u16 {
    const STRATUM: u16 = 0x200;
    const DISTANCE: u16 = 0x400;
    const LOOP: u16 = 0x800;
    const UNREACHABLE: u16 = 0x1000;
    let mut flash = 0;
    if !source.ntp.answered {
        flash |= STRATUM | DISTANCE;
    }
    if source.state == 'd' {
        flash |= DISTANCE;
    }
    if source.ntp.answered && source.ntp.tests & 1 == 0 {
        flash |= LOOP;
    }
    if source.reach == 0 {
        flash |= UNREACHABLE;
    }
    flash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_clock_is_called_by_its_driver_and_unit() {
        for (driver, device, name) in [
            ("shm", "1", "SHM(1)"),
            ("pps", "/dev/pps0", "PPS(0)"),
            ("nmea", "/dev/ttyS12", "NMEA(12)"),
            ("sock", "/run/x.sock", "SOCK(0)"),
            ("shm", "", "SHM(0)"),
        ] {
            assert_eq!(clock_name(driver, device), name);
        }
    }
}
