//! Variables of the system, with NTPsec's names and units: milliseconds, ppm, NTP timestamps in hexadecimal.

use super::reply::Items;
use super::{ErrorCode, Facts, names, peer};
use crate::{KeServerReport, Snapshot};
use chime_engine::{AuthenticationMode, LeapReport, SourceReport, TrackingReport};
use std::net::SocketAddr;

/// Sent when no names are given, in this order.
const DEFAULT: &str = "leap,stratum,precision,rootdelay,rootdisp,rootdist,refid,reftime,tc,peer,offset,frequency,\
    sys_jitter,clk_jitter,clock,processor,system,release,version,clk_wander,daemon_version,tai,mintc";
/// Known, but not part of an answer when they have no value: there is no list of leap seconds.
const WITHOUT_VALUE: [&str; 2] = ["leapsec", "expire"];
/// Seconds between the origins of NTP time and Unix time. RFC 5905 §6.
const UNIX_ORIGIN_SECONDS: f64 = 2_208_988_800.0;

/// A value and how it is written.
enum Value {
    Plain(String),
    Quoted(String),
}

/// Leap indicator, 0 to 3.
pub(super) const fn leap(tracking: &TrackingReport) -> u8 {
    match tracking.leap {
        LeapReport::Normal => 0,
        LeapReport::Insert => 1,
        LeapReport::Delete => 2,
        LeapReport::Unsynchronized => 3,
    }
}

/// The status word. Events are not counted; the last one is what the state says it was.
pub(super) fn status(snapshot: &Snapshot) -> u16 {
    const CLOCK_SYNC: u16 = 5;
    const RESTART: u16 = 6;
    const NO_SYSTEM_PEER: u16 = 8;
    let tracking = &snapshot.engine.tracking;
    let event = match (tracking.synchronized, snapshot.program.clock_updates) {
        (true, _) => CLOCK_SYNC,
        (false, 0) => RESTART,
        (false, _) => NO_SYSTEM_PEER,
    };
    status_at(tracking, event)
}

/// The status word when `event` was the last thing that happened.
pub(crate) fn status_at(tracking: &TrackingReport, event: u16) -> u16 {
    const SOURCE_LOCAL: u16 = 5;
    const SOURCE_NTP: u16 = 6;
    let source = match (tracking.synchronized, tracking.stratum) {
        (true, _) => SOURCE_NTP,
        (false, 0) => 0,
        (false, _) => SOURCE_LOCAL,
    };
    u16::from(leap(tracking)) << 14 | source << 8 | 1 << 4 | event
}

/// The variables that `list` names, or the usual ones.
pub(super) fn variables(facts: &Facts<'_>, list: &str) -> Result<Items, ErrorCode> {
    let mut items = Items::default();
    let is_default = names(list).next().is_none();
    let own = facts.variables.iter().filter(|one| is_default && one.is_default).map(|one| one.name.as_str());
    let own = own.filter(|name| !names(DEFAULT).any(|ours| ours == *name));
    for name in names(if is_default { DEFAULT } else { list }).chain(own) {
        match variable(facts, name) {
            Some(Value::Plain(value)) => items.add(name, value),
            Some(Value::Quoted(value)) => items.add_quoted(name, &value),
            None if WITHOUT_VALUE.contains(&name) => &mut items,
            None => return Err(ErrorCode::Variable),
        };
    }
    Ok(items)
}

fn variable(facts: &Facts<'_>, name: &str) -> Option<Value> {
    let quoted = match name {
        "processor" => facts.processor.to_owned(),
        "system" => facts.system.split('/').next().unwrap_or_default().to_owned(),
        "release" => facts.system.split_once('/').map_or("", |(_, release)| release).to_owned(),
        "version" | "daemon_version" => format!("chimed {}", facts.snapshot.program.version),
        "peeradr" => system_peer(facts.snapshot)
            .and_then(|source| source.remote)
            .unwrap_or(SocketAddr::from(([0; 4], 0)))
            .to_string(),
        "sys_var_list" => DEFAULT.to_owned(),
        _ => return plain(facts, name).or_else(|| own(facts, name)).map(Value::Plain),
    };
    Some(Value::Quoted(quoted))
}

/// A variable of the operator's own, which takes the place of none of ours; written as it is, as ntpd does.
fn own(facts: &Facts<'_>, name: &str) -> Option<String> {
    facts.variables.iter().rfind(|one| one.name == name).map(|one| one.value.clone())
}

fn plain(facts: &Facts<'_>, name: &str) -> Option<String> {
    match name.split_once('_').map(|(family, _)| family) {
        Some("ss") => system_statistics(facts.snapshot, facts.requests, name),
        Some("mru") => clients(facts, name),
        Some("mssntp") => signing(facts.snapshot, name),
        Some("nts") => nts(facts.snapshot, name),
        Some("io" | "iostats") => traffic(facts, name),
        Some("timer" | "timerstats") => timers(facts, name),
        _ => clock(facts, name).or_else(|| kernel(facts, name)).or_else(|| keys(facts, name)).or_else(|| {
            matches!(name, "total_rbuf" | "free_rbuf" | "used_rbuf" | "rbuf_lowater").then(|| number(0))
        }),
    }
}

fn clock(facts: &Facts<'_>, name: &str) -> Option<String> {
    let snapshot = facts.snapshot;
    let (tracking, program) = (&snapshot.engine.tracking, &snapshot.program);
    let selected = system_peer(snapshot);
    Some(match name {
        "leap" => leap(tracking).to_string(),
        "stratum" => stratum(tracking.stratum).to_string(),
        "precision" => program.precision.to_string(),
        "rootdelay" => milliseconds(tracking.root_delay_seconds),
        "rootdisp" => milliseconds(tracking.root_dispersion_seconds),
        "rootdist" => milliseconds(tracking.root_delay_seconds / 2.0 + tracking.root_dispersion_seconds),
        "refid" => reference_id(tracking.stratum, tracking.reference_id, "INIT"),
        "reftime" => hex_unix(tracking.reference_unix_seconds),
        "tc" => selected.map_or(0, |source| source.poll).to_string(),
        "mintc" => {
            snapshot.engine.sources.iter().map(|source| source.poll_min).min().unwrap_or(0).to_string()
        }
        "peer" => selected.map_or(0, peer::id).to_string(),
        "peermode" => u8::from(selected.is_some()).saturating_mul(3).to_string(),
        "offset" => fine_milliseconds(tracking.system_offset_seconds),
        "frequency" => format!("{:.6}", finite(-tracking.frequency_ppm)),
        "sys_jitter" => {
            fine_milliseconds(selected.map_or(0.0, |source| source.statistics.standard_deviation_seconds))
        }
        "clk_jitter" => fine_milliseconds(tracking.rms_offset_seconds),
        "clk_wander" => format!("{:.6}", finite(tracking.skew_ppm)),
        "clk_wander_threshold" => "0.000".to_owned(),
        "clock" => hex(facts.now.to_bits()),
        "lockclock" => number(u64::from(!program.steers_clock)),
        "tai" => facts.kernel.tai_offset_seconds.to_string(),
        _ => return None,
    })
}

fn kernel(facts: &Facts<'_>, name: &str) -> Option<String> {
    const STATUS_UNSYNCHRONIZED: u64 = 0x40;
    let kernel = &facts.kernel;
    Some(match name {
        // The rest of a slew is ours and not the kernel's.
        "koffset" => fine_milliseconds(0.0),
        "kfreq" => format!("{:.3}", finite(kernel.frequency_ppm)),
        "kmaxerr" => milliseconds(kernel.max_error_seconds),
        "kesterr" => milliseconds(kernel.estimated_error_seconds),
        "kstflags" => number(if kernel.synchronized { 0 } else { STATUS_UNSYNCHRONIZED }),
        "ktimeconst" => number(0),
        "kprecis" => "0.001".to_owned(),
        "kfreqtol" => "500".to_owned(),
        // There is no discipline by pulses in the kernel.
        "kppsfreq" | "kppsjitter" | "kppsstab" => "0.000".to_owned(),
        "kppscalibdur" | "kppsjitexc" | "kppscalibs" | "kppscaliberrs" | "kppsstbexc" => number(0),
        _ => return None,
    })
}

/// Counts since the start; they are never reset, so that both forms of a name have the same value.
fn system_statistics(snapshot: &Snapshot, requests: u64, name: &str) -> Option<String> {
    let server = &snapshot.server;
    let responses = |kinds: &[&str]| kinds.iter().filter_map(|kind| server.responses.get(*kind)).sum::<u64>();
    let silences = |kinds: &[&str]| kinds.iter().filter_map(|kind| server.silences.get(*kind)).sum::<u64>();
    Some(number(match name.strip_suffix("_r").unwrap_or(name) {
        "ss_uptime" | "ss_reset" => return Some(seconds(snapshot.program.uptime_seconds)),
        "ss_numctlreq" => requests,
        "ss_received" => server.received,
        // Control messages have a version, and are no requests for the time.
        "ss_thisver" => {
            server.received.saturating_sub(server.old_versions + silences(&["version", "control"]))
        }
        "ss_oldver" => server.old_versions,
        // Versions below 4 are counted together.
        "ss_ver1" | "ss_ver1client" | "ss_ver1zero" | "ss_ver1symm" => 0,
        "ss_badformat" => silences(&["too_short", "malformed", "nts_malformed"]),
        "ss_badauth" => silences(&["unknown_key", "wrong_mac"]),
        "ss_declined" => silences(&["mode", "version", "private", "nts_required", "nts_not_served"]),
        "ss_restricted" => silences(&["access_denied"]) + responses(&["kiss_deny"]),
        "ss_limited" => silences(&["rate_limited", "nts_nak_limited"]) + responses(&["kiss_rate"]),
        "ss_kodsent" => responses(&["kiss_rate", "kiss_deny", "nts_nak"]),
        "ss_processed" => responses(&["plain_time", "interleaved_time", "key_time", "nts_time"]),
        _ => return None,
    }))
}

/// The value of a variable that counts, `ss_…` or `nts_…`; 0 when it is none of these.
pub(crate) fn count(snapshot: &Snapshot, name: &str) -> u64 {
    let text = system_statistics(snapshot, 0, name).or_else(|| nts(snapshot, name));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn clients(facts: &Facts<'_>, name: &str) -> Option<String> {
    /// Octets of a client in the server's table.
    const CLIENT_OCTETS: u64 = 64;
    let server = &facts.snapshot.server;
    let ages = facts.snapshot.clients.iter().filter_map(|client| client.ntp.last_age_seconds);
    let known = ages.clone().count() as u64;
    Some(number(match name {
        "mru_enabled" => return Some("0x3".to_owned()),
        "mru_hashslots" | "mru_depth" | "mru_deepest" => known,
        "mru_mindepth" | "mru_minage" | "mru_maxage" | "mru_none" | "mru_recycleold" => 0,
        "mru_maxdepth" => facts.clients_max,
        "mru_mem" => (known * CLIENT_OCTETS).div_ceil(1024),
        "mru_maxmem" => facts.clients_max * CLIENT_OCTETS / 1024,
        "mru_exists" => server.received.saturating_sub(known + server.clients_forgotten),
        "mru_new" => known + server.clients_forgotten,
        "mru_recyclefull" => server.clients_forgotten,
        "mru_oldest_age" => {
            return Some(seconds(ages.fold(0.0, f64::max)));
        }
        _ => return None,
    }))
}

/// Results of key establishments that ntpd counts as without TLS.
const WITHOUT_TLS: [&str; 4] = ["no_alpn", "old_tls", "certificate_refused", "tls_failed"];

/// What the key establishments of a kind took, by the name of the variable; microseconds.
pub(crate) fn session_micros(ke: &KeServerReport, name: &str) -> Option<u64> {
    let is_of: fn(&str) -> bool = match name.rsplit_once('_')?.0 {
        "nts_ke_serves_good" => |result| result == "accepted",
        "nts_ke_serves_nossl" => |result| WITHOUT_TLS.contains(&result),
        "nts_ke_serves_bad" => |result| result != "accepted" && !WITHOUT_TLS.contains(&result),
        _ => return None,
    };
    let of_them = ke.times.iter().filter(|(result, _)| is_of(result)).map(|(_, times)| times);
    Some(match name.ends_with("_wall") {
        true => of_them.map(|times| times.wall_micros).sum(),
        false => of_them.map(|times| times.processor_micros).sum(),
    })
}

/// Answers for members of a Windows domain. What Samba makes of them, and how long it takes, only its thread knows: those
/// that were handed over count as good.
fn signing(snapshot: &Snapshot, name: &str) -> Option<String> {
    let signed = snapshot.server.responses.get("signed_time").copied().unwrap_or(0);
    let lost = snapshot.server.silences.get("cannot_sign").copied().unwrap_or(0);
    Some(match name {
        "mssntp_serves" => number(signed + lost),
        "mssntp_serves_good" => number(signed),
        "mssntp_serves_err" => number(lost),
        "mssntp_serves_no" | "mssntp_serves_bad" => number(0),
        "mssntp_serves_good_wall"
        | "mssntp_serves_good_slowest"
        | "mssntp_serves_bad_wall"
        | "mssntp_serves_bad_slowest" => "0.000".to_owned(),
        _ => return None,
    })
}

/// NTS as a client and as a server. Names of old releases, too.
fn nts(snapshot: &Snapshot, name: &str) -> Option<String> {
    let (server, ke) = (&snapshot.server, &snapshot.ke_server);
    let ours = || {
        let sources = snapshot.engine.sources.iter();
        sources
            .filter(|source| source.authentication.mode == AuthenticationMode::Nts)
            .map(|source| &source.ntp)
    };
    let probes = || snapshot.engine.establishments.iter();
    let served = server.responses.get("nts_time").copied().unwrap_or(0);
    let refused = server.responses.get("nts_nak").copied().unwrap_or(0)
        + server.silences.get("nts_nak_limited").copied().unwrap_or(0);
    let malformed = server.silences.get("nts_malformed").copied().unwrap_or(0);
    let sessions = ke.results.get("accepted").copied().unwrap_or(0);
    let without_tls: u64 = WITHOUT_TLS.iter().filter_map(|kind| ke.results.get(*kind)).sum();
    let [current, old, old2, older, too_old] = server.cookies_opened;
    Some(number(match name {
        "nts_client_send" => ours().map(|ntp| ntp.total_tx).sum(),
        "nts_client_recv_good" | "nts_client_recv" => ours().map(|ntp| ntp.total_valid_rx).sum(),
        "nts_client_recv_bad" => ours().map(|ntp| ntp.total_rx.saturating_sub(ntp.total_valid_rx)).sum(),
        "nts_server_recv_good" | "nts_server_recv" | "nts_server_send" => served,
        "nts_server_recv_bad" => refused + malformed,
        "nts_cookie_make" => server.cookies_made + sessions * 8,
        "nts_cookie_not_server" => server.silences.get("nts_not_served").copied().unwrap_or(0),
        "nts_cookie_decode_total" => current + old + old2 + older + too_old + refused,
        "nts_cookie_decode_current" | "nts_cookie_decode" => current,
        "nts_cookie_decode_old" => old,
        "nts_cookie_decode_old2" => old2,
        "nts_cookie_decode_older" => older + too_old,
        // An unknown key and a wrong authenticator are not told apart.
        "nts_cookie_decode_too_old" => 0,
        "nts_cookie_decode_error" => refused,
        "nts_ke_serves_good" | "nts_ke_serves" => sessions,
        "nts_ke_serves_nossl" => without_tls,
        "nts_ke_serves_bad" => ke.accepted.saturating_sub(sessions + without_tls),
        name if name.ends_with("_wall") || name.ends_with("_cpu") => {
            return session_micros(ke, name).map(|micros| format!("{:.3}", micros as f64 * 1e-6));
        }
        "nts_ke_probes_good" | "nts_ke_probes" => probes().map(|one| one.succeeded).sum(),
        "nts_ke_probes_bad" => probes().flat_map(|one| &one.failed).map(|(_, count)| count).sum(),
        _ => return None,
    }))
}

/// Datagrams of the server and of our own requests.
fn traffic(facts: &Facts<'_>, name: &str) -> Option<String> {
    let (server, sources) = (&facts.snapshot.server, &facts.snapshot.engine.sources);
    let received = server.received + sources.iter().map(|source| source.ntp.total_rx).sum::<u64>();
    Some(number(match name {
        "iostats_reset" => return Some(seconds(facts.snapshot.program.uptime_seconds)),
        "io_received" => received,
        "io_sent" => {
            server.responses.values().sum::<u64>()
                + sources.iter().map(|source| source.ntp.total_tx).sum::<u64>()
        }
        "io_dropped" | "io_sendfailed" => 0,
        // Control messages are among them, and not ignored.
        "io_ignored" => server.dropped.saturating_sub(server.silences.get("control").copied().unwrap_or(0)),
        "io_wakeups" | "io_goodwakeups" | "io_pkt_reads" => received,
        "io_ref_reads" => 0,
        _ => return None,
    }))
}

fn timers(facts: &Facts<'_>, name: &str) -> Option<String> {
    Some(match name {
        "timerstats_reset" => seconds(facts.snapshot.program.uptime_seconds),
        "timer_overruns" => number(0),
        "timer_xmts" => number(facts.snapshot.engine.sources.iter().map(|source| source.ntp.total_tx).sum()),
        _ => return None,
    })
}

/// `authinfo`: what the server's requests with a MAC came to. Types of keys are not counted apart.
fn keys(facts: &Facts<'_>, name: &str) -> Option<String> {
    let server = &facts.snapshot.server;
    let good = server.responses.get("key_time").copied().unwrap_or(0);
    let silences = |kind: &str| server.silences.get(kind).copied().unwrap_or(0);
    let (wrong, unknown) = (silences("wrong_mac"), silences("unknown_key"));
    Some(number(match name {
        "authreset" => return Some(seconds(facts.snapshot.program.uptime_seconds)),
        "authdelay" => return Some("0.000".to_owned()),
        "authkeys" => facts.keys.len() as u64,
        "authfreek" | "authcmacencrypts" | "authcmacdecrypts" | "authcmacfails" => 0,
        "authklookups" => good + wrong + unknown,
        "authknotfound" => unknown,
        "authencrypts" | "authdigestencrypts" => good,
        "authdecrypts" | "authdigestdecrypts" => good + wrong,
        "authdigestfails" => wrong,
        _ => return None,
    }))
}

/// The source that the clock follows.
pub(super) fn system_peer(snapshot: &Snapshot) -> Option<&SourceReport> {
    snapshot.engine.sources.iter().find(|source| source.state == '*')
}

/// 16 for none, as in NTP's own variables.
pub(super) const fn stratum(stratum: u8) -> u8 {
    if stratum == 0 { 16 } else { stratum }
}

/// Dotted from stratum 2 on, letters before; `none` when there is nothing. RFC 5905 §7.3.
pub(super) fn reference_id(stratum: u8, id: [u8; 4], none: &str) -> String {
    if (2..16).contains(&stratum) {
        let [a, b, c, d] = id;
        return format!("{a}.{b}.{c}.{d}");
    }
    let letters = crate::text::reference_id_letters(id);
    if letters.is_empty() { none.to_owned() } else { letters }
}

pub(super) fn milliseconds(seconds: f64) -> String {
    format!("{:.3}", finite(seconds * 1e3))
}

pub(super) fn fine_milliseconds(seconds: f64) -> String {
    format!("{:.6}", finite(seconds * 1e3))
}

pub(super) fn hex(bits: u64) -> String {
    format!("{:#010x}.{:08x}", bits >> 32, bits & 0xffff_ffff)
}

/// An instant, given in Unix seconds; 0 is none.
pub(super) fn hex_unix(unix_seconds: f64) -> String {
    if unix_seconds == 0.0 || !unix_seconds.is_finite() {
        return hex(0);
    }
    let seconds = (unix_seconds + UNIX_ORIGIN_SECONDS).rem_euclid(4_294_967_296.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between zero and 2^32")]
    hex((seconds * 4_294_967_296.0) as u64)
}

fn seconds(seconds: f64) -> String {
    format!("{:.0}", finite(seconds).max(0.0))
}

fn number(number: u64) -> String {
    number.to_string()
}

pub(crate) const fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}
