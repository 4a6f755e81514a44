//! The lines of NTPsec's statistics files, in their exact layout.
//!
//! Each begins with the modified Julian day and the seconds of the day, in UTC by the system clock. Offsets have NTP's
//! sign: positive when our clock is behind.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chime_engine::{SourceKind, SourceReport, TrackingReport};

use crate::Snapshot;
use crate::mode6::{self, finite};
use crate::ntpd_words::KeyServing;

/// The modified Julian day of the origin of Unix time.
const UNIX_ORIGIN_MJD: i64 = 40_587;

/// Names of the server's counts of an hour in `sysstats`, in the order of its columns.
pub const SYSTEM_COUNTS: [&str; 11] = [
    "ss_received",
    "ss_processed",
    "ss_thisver",
    "ss_oldver",
    "ss_restricted",
    "ss_badformat",
    "ss_badauth",
    "ss_declined",
    "ss_limited",
    "ss_kodsent",
    "ss_ver1",
];

/// Names of the counts of an hour in `ntsstats`, in the order of its columns.
pub const NTS_COUNTS: [&str; 15] = [
    "nts_client_send",
    "nts_client_recv_good",
    "nts_client_recv_bad",
    "nts_server_send",
    "nts_server_recv_good",
    "nts_server_recv_bad",
    "nts_cookie_make",
    "nts_cookie_not_server",
    "nts_cookie_decode_total",
    "nts_cookie_decode_current",
    "nts_cookie_decode_old",
    "nts_cookie_decode_old2",
    "nts_cookie_decode_older",
    "nts_cookie_decode_too_old",
    "nts_cookie_decode_error",
];

/// Names of the counts of an hour in `ntskestats`; two times follow each of the first three.
pub const NTS_KE_COUNTS: [&str; 5] = [
    "nts_ke_serves_good",
    "nts_ke_serves_nossl",
    "nts_ke_serves_bad",
    "nts_ke_probes_good",
    "nts_ke_probes_bad",
];

/// Names of the two times that follow each of the first three.
const NTS_KE_TIMES: [[&str; 2]; 3] = [
    ["nts_ke_serves_good_wall", "nts_ke_serves_good_cpu"],
    ["nts_ke_serves_nossl_wall", "nts_ke_serves_nossl_cpu"],
    ["nts_ke_serves_bad_wall", "nts_ke_serves_bad_cpu"],
];

/// What the process has used since its start.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Usage {
    /// Processor time of its own; seconds.
    pub user_seconds: f64,
    /// Processor time of the kernel for it; seconds.
    pub system_seconds: f64,
    /// Faults without and with input, swaps, blocks read and written, switches made and suffered, signals: in the order
    /// of the file.
    pub counts: [i64; 8],
    /// The most memory that it had; kilobytes.
    pub memory_kilobytes: i64,
}

/// Counts by name, and times in microseconds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Totals(BTreeMap<&'static str, u64>);

impl Totals {
    /// All counts of the hourly files, now.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let names = SYSTEM_COUNTS.iter().chain(&NTS_COUNTS).chain(&NTS_KE_COUNTS);
        let counts = names.map(|name| (*name, mode6::count(snapshot, name)));
        let times = NTS_KE_TIMES.as_flattened().iter();
        let times = times.map(|name| (*name, mode6::session_micros(&snapshot.ke_server, name).unwrap_or(0)));
        Self(counts.chain(times).collect())
    }

    fn since(&self, before: &Self, name: &str) -> u64 {
        let total = |totals: &Self| totals.0.get(name).copied().unwrap_or(0);
        total(self).saturating_sub(total(before))
    }

    fn columns(&self, before: &Self, names: &[&str]) -> String {
        names.iter().map(|name| format!(" {}", self.since(before, name))).collect()
    }
}

/// A line of `loopstats` after an update of the clock; `poll_exponent` is that of the source that is followed.
#[must_use]
pub fn update(unix_seconds: f64, tracking: &TrackingReport, poll_exponent: i8) -> String {
    format!(
        "{} {:.9} {:.6} {:.9} {:.6} {poll_exponent}",
        when(unix_seconds),
        finite(-tracking.last_offset_seconds),
        finite(-tracking.frequency_ppm),
        finite(tracking.rms_offset_seconds),
        finite(tracking.skew_ppm),
    )
}

/// A line of `peerstats` after a measurement.
#[must_use]
pub fn measurement(unix_seconds: f64, source: &SourceReport) -> String {
    let ntp = &source.ntp;
    format!(
        "{} {} {:x} {:.9} {:.9} {:.9} {:.9}",
        when(unix_seconds),
        address(source),
        mode6::source_status(source),
        finite(ntp.offset_seconds),
        finite(ntp.delay_seconds),
        finite(ntp.dispersion_seconds),
        finite(source.statistics.standard_deviation_seconds),
    )
}

/// A line of `rawstats` after an answer: its four timestamps and its header.
#[must_use]
pub fn answer(unix_seconds: f64, source: &SourceReport) -> String {
    let ntp = &source.ntp;
    // What is kept of an answer are its last two timestamps and the differences to the others.
    let (transmit, destination) = (ntp.transmit_bits, ntp.received_bits);
    let receive = before(transmit, ntp.response_seconds);
    let origin = before(destination, ntp.delay_seconds + ntp.response_seconds);
    let local = ntp.local.map_or_else(|| "0.0.0.0".to_owned(), |local| local.to_canonical().to_string());
    let unanswered = (source.reach >> 1).trailing_zeros().min(7);
    format!(
        "{} {} {local} {} {} {} {} {} {} {} {} {} {} {:.6} {:.6} {} {} 0 {:x}",
        when(unix_seconds),
        address(source),
        stamp(origin),
        stamp(receive),
        stamp(transmit),
        stamp(destination),
        ntp.leap,
        ntp.version,
        ntp.mode,
        ntp.stratum,
        ntp.poll,
        ntp.precision,
        finite(ntp.root_delay_seconds),
        finite(ntp.root_dispersion_seconds),
        reference_id(ntp.stratum, ntp.reference_id),
        if source.reach > 1 { unanswered } else { 0 },
        refusal(source),
    )
}

/// A line of `protostats`: an event, as it is in the log behind `PROTO: `.
#[must_use]
pub fn event(unix_seconds: f64, text: &str) -> String {
    format!("{} {text}", when(unix_seconds))
}

/// A line of `clockstats`: what a reference clock says, by its driver and what that reads.
#[must_use]
pub fn clock(unix_seconds: f64, (driver, device): (&str, &str), text: &str) -> String {
    format!("{} {} {text}", when(unix_seconds), mode6::clock_name(driver, device))
}

/// A line of `sysstats`: the server's counts since the last one, `seconds` ago at most.
#[must_use]
pub fn system(unix_seconds: f64, uptime: f64, now: &Totals, before: &Totals) -> String {
    format!("{} {:.0}{}", when(unix_seconds), finite(uptime), now.columns(before, &SYSTEM_COUNTS))
}

/// A line of `ntsstats`.
#[must_use]
pub fn nts(unix_seconds: f64, uptime: f64, now: &Totals, before: &Totals) -> String {
    format!("{} {:.0}{}", when(unix_seconds), finite(uptime), now.columns(before, &NTS_COUNTS))
}

/// A line of `ntskestats`.
#[must_use]
pub fn nts_ke(unix_seconds: f64, uptime: f64, now: &Totals, before: &Totals) -> String {
    let (served, probes) = NTS_KE_COUNTS.split_at(3);
    let seconds = |name| now.since(before, name) as f64 * 1e-6;
    let columns = served.iter().zip(NTS_KE_TIMES);
    let served: String = columns
        .map(|(name, [wall, processor])| {
            format!(" {} {:.3} {:.3}", now.since(before, name), seconds(wall), seconds(processor))
        })
        .collect();
    format!("{} {:.0}{served}{}", when(unix_seconds), finite(uptime), now.columns(before, probes))
}

/// A line of `ntskelog`: one key establishment.
#[must_use]
pub fn key_serving(unix_seconds: f64, served: &KeyServing<'_>) -> String {
    let tag = match (served.failure, served.cipher_suite) {
        (None, _) => "OK",
        (Some(_), Some(_)) => "KE",
        (Some(_), None) => "TLS",
    };
    let cipher = served.cipher().filter(|_| served.failure.is_none());
    format!(
        "{} {tag:3} {:.3} {:.3} {:.3} {} {}",
        when(unix_seconds),
        served.seconds,
        served.user_seconds * 1e3,
        served.system_seconds * 1e3,
        served.peer,
        cipher.as_deref().or(served.failure).unwrap_or_default(),
    )
}

/// A line of `usestats`: what was used since the last one.
#[must_use]
pub fn usage(unix_seconds: f64, uptime: f64, now: &Usage, before: &Usage) -> String {
    let counts: String =
        now.counts.iter().zip(&before.counts).map(|(now, before)| format!(" {}", now - before)).collect();
    format!(
        "{} {:.0} {:.3} {:.3}{counts} {}",
        when(unix_seconds),
        finite(uptime),
        now.user_seconds - before.user_seconds,
        now.system_seconds - before.system_seconds,
        now.memory_kilobytes,
    )
}

/// Modified Julian day and seconds of the day.
fn when(unix_seconds: f64) -> String {
    const DAY: i64 = 86_400_000;
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of any date that a clock can have")]
    let milliseconds = (unix_seconds * 1e3).floor() as i64;
    let (day, rest) = (milliseconds.div_euclid(DAY), milliseconds.rem_euclid(DAY));
    format!("{} {}.{:03}", day + UNIX_ORIGIN_MJD, rest / 1000, rest % 1000)
}

fn address(source: &SourceReport) -> String {
    match source.remote {
        Some(remote) => remote.ip().to_canonical().to_string(),
        None if source.kind == SourceKind::ReferenceClock => {
            mode6::clock_name(&source.driver, &source.device)
        }
        None => source.name.clone(),
    }
}

/// Letters between dots up to stratum 1, an address from there on.
fn reference_id(stratum: u8, id: [u8; 4]) -> String {
    if stratum > 1 {
        IpAddr::from(id).to_string()
    } else {
        format!(".{}.", crate::text::reference_id_letters(id))
    }
}

/// Why the answer is of no use, in the bits of `flash`; 0: it was used.
fn refusal(source: &SourceReport) -> u16 {
    const UNSYNCHRONIZED: u16 = 0x20;
    const HEADER: u16 = 0x40;
    const TESTS_OF_THE_HEADER: [(u16, u16); 3] = [(1 << 7, 4), (1 << 5, UNSYNCHRONIZED), (1 << 4, HEADER)];
    let failed = TESTS_OF_THE_HEADER.iter().filter(|(test, _)| source.ntp.tests & test == 0);
    failed.map(|(_, flag)| flag).fold(0, |flags, flag| flags | flag)
}

/// Seconds of NTP's era and nine digits.
fn stamp(bits: u64) -> String {
    let nanoseconds = ((bits & 0xffff_ffff) * 1_000_000_000) >> 32;
    format!("{}.{nanoseconds:09}", bits >> 32)
}

/// The timestamp some seconds before another; wraps with the era.
fn before(bits: u64, seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "saturates: no exchange lasts that long")]
    let units = (finite(seconds) * 4_294_967_296.0).round() as i64;
    if bits == 0 { 0 } else { bits.wrapping_add_signed(-units) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::NtpReport;

    // 2026-11-20 15:03:26.766, the modified Julian day 61364.
    const WHEN: f64 = 1_795_187_006.766_5;

    fn source() -> SourceReport {
        let ntp = NtpReport {
            answered: true,
            local: Some(IpAddr::from([10, 77, 0, 2])),
            version: 4,
            mode: 4,
            stratum: 5,
            precision: -30,
            reference_id: [127, 0, 0, 1],
            tests: 0x3ff,
            offset_seconds: 0.000_079_753,
            delay_seconds: 0.000_321_266,
            response_seconds: 0.000_067_410,
            dispersion_seconds: 7.937_500_003,
            transmit_bits: 4_004_175_806 << 32 | 3_290_414_870,
            received_bits: 4_004_175_806 << 32 | 3_290_762_318,
            total_valid_rx: 1,
            ..NtpReport::default()
        };
        let remote = Some("10.77.0.1:123".parse().expect("an address"));
        SourceReport { ntp, remote, reach: 1, state: '?', ..SourceReport::default() }
    }

    #[test]
    fn a_key_establishment_is_a_line_in_the_log_or_in_its_file() {
        let served = KeyServing {
            peer: "10.77.0.2:59300".parse().expect("an address"),
            cipher_suite: Some("TLS13_AES_256_GCM_SHA384"),
            failure: None,
            seconds: 0.0083,
            user_seconds: 0.001_585,
            system_seconds: 0.0,
        };
        assert_eq!(
            served.line(),
            "NTSs: NTS-KE from 10.77.0.2:59300, OK, Using TLSv1.3:TLS_AES_256_GCM_SHA384(256), took 0.008 sec, CPU: \
             1.585+0.000 ms"
        );
        let entry =
            "61364 54206.766 OK  0.008 1.585 0.000 10.77.0.2:59300 TLSv1.3:TLS_AES_256_GCM_SHA384(256)";
        assert_eq!(key_serving(WHEN, &served), entry);
        let refused = KeyServing { failure: Some("no aead"), ..served };
        assert!(refused.line().ends_with("(256), took 0.008 sec, CPU: 1.585+0.000 ms, no aead"));
        assert!(key_serving(WHEN, &refused).ends_with(" KE  0.008 1.585 0.000 10.77.0.2:59300 no aead"));
        let garbage = KeyServing { failure: Some("old tls"), cipher_suite: None, ..served };
        assert!(garbage.line().contains(", Failed, Using old tls, took 0.008 sec"), "{}", garbage.line());
        assert!(key_serving(WHEN, &garbage).contains(" TLS 0.008 "));
    }

    #[test]
    fn a_measurement_is_the_line_that_ntpd_writes() {
        let line = measurement(WHEN, &source());
        assert_eq!(line, "61364 54206.766 10.77.0.1 b014 0.000079753 0.000321266 7.937500003 0.000000000");
    }

    #[test]
    fn an_answer_has_its_four_timestamps_its_header_and_why_it_was_refused() {
        assert_eq!(
            answer(WHEN, &source()),
            "61364 54206.766 10.77.0.1 10.77.0.2 4004175806.765801632 4004175806.766042002 4004175806.766109412 \
             4004175806.766190308 0 4 4 5 0 -30 0.000000 0.000000 127.0.0.1 0 0 0"
        );
        let mut primary = source();
        primary.ntp.stratum = 1;
        primary.ntp.reference_id = *b"GPS\0";
        primary.ntp.tests = 0x3ff & !(1 << 5);
        primary.reach = 0b1001;
        assert!(answer(WHEN, &primary).ends_with(" .GPS. 2 0 20"), "{}", answer(WHEN, &primary));
    }

    #[test]
    fn an_update_has_the_signs_of_ntp() {
        let tracking = TrackingReport {
            last_offset_seconds: -3.4691e-5,
            frequency_ppm: 1.5,
            rms_offset_seconds: 1.2265e-5,
            ..TrackingReport::default()
        };
        let line = update(WHEN, &tracking, 4);
        assert_eq!(line, "61364 54206.766 0.000034691 -1.500000 0.000012265 0.000000 4");
    }

    #[test]
    fn reference_clocks_are_called_by_their_driver_and_number() {
        let kind = SourceKind::ReferenceClock;
        let source =
            SourceReport { driver: "shm".into(), device: "2".into(), kind, ..SourceReport::default() };
        assert!(measurement(WHEN, &source).starts_with("61364 54206.766 SHM(2) "));
        let line = clock(WHEN, ("nmea", "/dev/gps0"), "$GPZDA,150341.25,20,11,2026,00,00*40");
        assert_eq!(line, "61364 54206.766 NMEA(0) $GPZDA,150341.25,20,11,2026,00,00*40");
    }

    #[test]
    fn hourly_lines_count_since_the_last_one() {
        let snapshot = |received| {
            let mut snapshot = Snapshot::default();
            snapshot.server.received = received;
            snapshot.server.responses.insert("plain_time".into(), received - 1);
            snapshot.ke_server.results.insert("accepted".into(), received / 2);
            let times =
                crate::SessionTimes { wall_micros: received * 1000, processor_micros: received * 250 };
            snapshot.ke_server.times.insert("accepted".into(), times);
            snapshot.ke_server.times.insert("timed-out".into(), times);
            snapshot
        };
        let (first, second) = (Totals::of(&snapshot(10)), Totals::of(&snapshot(16)));
        assert_eq!(system(0.5, 7200.2, &second, &first), "40587 0.500 7200 6 6 6 0 0 0 0 0 0 0 0");
        assert_eq!(nts(0.0, 3600.0, &second, &first), "40587 0.000 3600 0 0 0 0 0 0 24 0 0 0 0 0 0 0 0");
        assert_eq!(
            nts_ke(0.0, 3600.0, &second, &first),
            "40587 0.000 3600 3 0.006 0.002 0 0.000 0.000 0 0.006 0.002 0 0"
        );
        let usage_of = |user_seconds, count| Usage { user_seconds, counts: [count; 8], ..Usage::default() };
        assert_eq!(
            usage(-0.001, 3600.0, &usage_of(2.5, 7), &usage_of(1.25, 5)),
            "40586 86399.999 3600 1.250 0.000 2 2 2 2 2 2 2 2 0"
        );
    }
}
