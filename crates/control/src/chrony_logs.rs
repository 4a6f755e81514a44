//! The lines of chronyd's log files, in their exact layout.
//!
//! Times are UTC by the system clock. Signs of offsets differ from file to file, as they do in chronyd's: positive is
//! *slow* in `measurements.log`, *fast* in `statistics.log` and `tracking.log`.

use std::fmt::Write as _;
use std::net::IpAddr;

use chime_discipline::Leap;
use chime_engine::{LeapReport, SourceReport, TimestampSource, TrackingReport};

use crate::{CivilDate, RealTimeClockReport};
use chime_time::NtpDate;

/// The heading of `measurements.log`.
pub const MEASUREMENTS: &str = "   Date (UTC) Time     IP Address   L St 123 567 ABCD  LP RP Score    Offset  Peer del. Peer disp.  Root del. Root disp. Refid     MTxRx";
/// The heading of `statistics.log`.
pub const STATISTICS: &str = "   Date (UTC) Time     IP Address    Std dev'n Est offset  Offset sd  Diff freq   Est skew  Stress  Ns  Bs  Nr  Asym";
/// The heading of `tracking.log`.
pub const TRACKING: &str = "   Date (UTC) Time     IP Address   St   Freq ppm   Skew ppm     Offset L Co  Offset sd Rem. corr. Root delay Root disp. Max. error";
/// The heading of `selection.log`.
pub const SELECTION: &str =
    "   Date (UTC) Time     IP Address   S EOpts Reach Score Last sample  Low end   High end";

/// The heading of `refclocks.log`.
pub const REFCLOCKS: &str = "   Date (UTC) Time         Refid  DP L P  Raw offset   Cooked offset      Disp.";

/// The heading of `rtc.log`.
pub const RTC: &str = "   Date (UTC) Time   RTC fast (s) Val   Est fast (s)   Slope (ppm)  Ns  Nr Meas";

/// The heading of `tempcomp.log`.
pub const TEMPCOMP: &str = "   Date (UTC) Time        Temp.       Comp.";

/// The tests 1, 2, 3, 5, 6 and 7: what fails one of them is in `rawmeasurements` only.
const PACKET_TESTS: u16 = 0b11_1111_0000;

/// The lines in front of entries: the heading between two rules of its length.
#[must_use]
pub fn banner(heading: &str) -> String {
    let rule = "=".repeat(heading.len());
    format!("{rule}\n{heading}\n{rule}\n")
}

/// Whether `measurements` has a line for the last answer of `source`, and not `rawmeasurements` only.
#[must_use]
pub const fn is_valid(source: &SourceReport) -> bool {
    source.ntp.tests & PACKET_TESTS == PACKET_TESTS
}

/// A line of `measurements.log` about the last answer of `source`, which came at `unix_seconds`.
#[must_use]
pub fn measurement(unix_seconds: f64, source: &SourceReport) -> String {
    let ntp = &source.ntp;
    let test = |bit: u16| char::from(b'0' + u8::from(ntp.tests & (1 << bit) != 0));
    let tests = |high: u16, count: u16| (0..count).map(|at| test(high - at)).collect::<String>();
    let refid = u32::from_be_bytes(ntp.reference_id);
    format!(
        "{} {} {} {:2} {} {} {}  {:2} {:2} {:4.2} {} {} {} {} {} {refid:08X} {}{} {} {}",
        when(unix_seconds),
        address(source),
        leap_bits(ntp.leap),
        ntp.stratum,
        tests(9, 3),
        tests(6, 3),
        tests(3, 4),
        source.poll,
        ntp.poll,
        source.selection.score,
        exp(ntp.offset_seconds),
        exp(ntp.delay_seconds),
        exp(ntp.dispersion_seconds),
        exp(ntp.root_delay_seconds),
        exp(ntp.root_dispersion_seconds),
        ntp.mode,
        if ntp.interleaved { 'I' } else { 'B' },
        stamp(ntp.tx_timestamping),
        stamp(ntp.rx_timestamping),
    )
}

/// A line of `statistics.log` about `source`.
#[must_use]
pub fn statistics(unix_seconds: f64, source: &SourceReport) -> String {
    let statistics = &source.statistics;
    format!(
        "{} {} {} {} {} {} {} {} {:3} {:3} {:3} {:5.2}",
        when(unix_seconds),
        address(source),
        exp(statistics.standard_deviation_seconds),
        exp(statistics.offset_seconds),
        exp(statistics.offset_error_seconds),
        exp(statistics.frequency_ppm * 1e-6),
        exp(statistics.skew_ppm * 1e-6),
        exponent(0.0, 1, 7),
        statistics.samples,
        0,
        statistics.runs,
        source.ntp.jitter_asymmetry,
    )
}

/// A line of `tracking.log` after an update of the clock; `combined`: how many sources it was made of.
#[must_use]
pub fn tracking(unix_seconds: f64, tracking: &TrackingReport, combined: usize, offset_error: f64) -> String {
    let synchronized = tracking.synchronized;
    let (shown, stratum) = match tracking.address.filter(|_| synchronized) {
        Some(address) => (address.to_string(), tracking.stratum),
        None if synchronized => (refid(tracking.reference_id), tracking.stratum),
        None => ("0.0.0.0".to_owned(), 0),
    };
    let error = tracking.root_delay_seconds / 2.0 + tracking.root_dispersion_seconds;
    format!(
        "{} {shown:<15} {stratum:2} {:10.3} {:10.3} {} {} {:2} {} {} {} {} {}",
        when(unix_seconds),
        tracking.frequency_ppm,
        tracking.skew_ppm,
        exp(if synchronized { tracking.last_offset_seconds } else { 0.0 }),
        leap(if synchronized { tracking.leap } else { LeapReport::Unsynchronized }),
        if synchronized { combined } else { 0 },
        exp(if synchronized { offset_error } else { 0.0 }),
        exp(tracking.system_offset_seconds),
        exp(tracking.root_delay_seconds),
        exp(tracking.root_dispersion_seconds),
        exp(error + tracking.system_offset_seconds.abs()),
    )
}

/// A line of `tempcomp.log`: a temperature, and by how much the clock is made faster for it, ppm.
#[must_use]
pub fn temperature(unix_seconds: f64, temperature: f64, ppm: f64) -> String {
    format!("{} {} {}", when(unix_seconds), exponent(temperature, 4, 11), exponent(ppm, 4, 11))
}

/// A line of `rtc.log`: by how much the real-time clock was seen to be fast, seconds, what is known of it since, and how long
/// the next look is away, seconds.
#[must_use]
pub fn real_time_clock(unix_seconds: f64, fast: f64, clock: &RealTimeClockReport, period: u32) -> String {
    format!(
        "{} {fast:14.6} {}  {:14.6}  {:12.3}  {:2}  {:2} {period:4}",
        when(unix_seconds),
        u8::from(clock.known),
        clock.fast_seconds,
        clock.rate_ppm,
        clock.samples,
        clock.runs,
    )
}

/// What a line of `refclocks.log` is about: a reading, or a sample that was made of several.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ReferenceClockEntry<'a> {
    /// When, by the system clock.
    pub at: NtpDate,
    /// The reference identifier.
    pub name: &'a str,
    /// Of a reading: its number since the last sample, whether it is a pulse, and its offset as it was measured, seconds.
    pub reading: Option<(u32, bool, f64)>,
    /// What it says of leap seconds.
    pub leap: Leap,
    /// The offset that counts, seconds, positive: our clock is slow.
    pub offset: f64,
    /// Its dispersion, seconds.
    pub dispersion: f64,
}

/// A line of `refclocks.log`.
#[must_use]
pub fn reference_clock(entry: &ReferenceClockEntry<'_>) -> String {
    let leap = match entry.leap {
        Leap::NoWarning => 'N',
        Leap::Insert => '+',
        Leap::Delete => '-',
        Leap::Unsynchronized => '?',
    };
    let (number, pulse, raw) = match entry.reading {
        Some((number, is_pulse, raw)) => {
            (format!("{number:3}"), u8::from(is_pulse).to_string(), exponent(raw, 6, 13))
        }
        None => ("  -".to_owned(), "-".to_owned(), "      -      ".to_owned()),
    };
    format!(
        "{}.{:06} {:<5} {number} {leap} {pulse} {raw} {} {}",
        when(entry.at.unix_seconds() as f64),
        entry.at.subsec_nanos() / 1000,
        entry.name,
        exponent(entry.offset, 6, 13),
        exp(entry.dispersion),
    )
}

/// A line of `selection.log` about `source`.
#[must_use]
pub fn selection(unix_seconds: f64, source: &SourceReport) -> String {
    let selection = &source.selection;
    let options = selection.effective;
    let option = |is_set: bool, letter: char| if is_set { letter } else { '-' };
    let options: String = [
        '-',
        option(options.no_select, 'N'),
        option(options.prefer, 'P'),
        option(options.trust, 'T'),
        option(options.require, 'R'),
    ]
    .into_iter()
    .collect();
    format!(
        "{} {} {} {options} {:4o} {:5.2} {} {} {}",
        when(unix_seconds),
        address(source),
        source.state,
        source.reach,
        selection.score,
        exp(source.last_sample_age_seconds.unwrap_or(0.0)),
        exp(selection.low_seconds),
        exp(selection.high_seconds),
    )
}

fn when(unix_seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of any date that a clock can have")]
    let CivilDate { year, month, day, hour, minute, second } =
        CivilDate::from_unix(unix_seconds.floor() as i64);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

fn address(source: &SourceReport) -> String {
    let shown = source.remote.map_or_else(|| refid(source.reference_id), |remote| remote.ip().to_string());
    format!("{shown:<15}")
}

/// A reference identifier as text where it is one, as an address otherwise.
fn refid(octets: [u8; 4]) -> String {
    let text: String =
        octets.iter().take_while(|octet| **octet != 0).map(|octet| char::from(*octet)).collect();
    if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic()) {
        text
    } else {
        IpAddr::from(octets).to_string()
    }
}

fn stamp(source: Option<TimestampSource>) -> char {
    match source {
        Some(TimestampSource::Kernel) => 'K',
        Some(TimestampSource::Hardware) => 'H',
        Some(TimestampSource::Daemon) | None => 'D',
    }
}

fn leap(leap: LeapReport) -> char {
    match leap {
        LeapReport::Normal => 'N',
        LeapReport::Insert => '+',
        LeapReport::Delete => '-',
        LeapReport::Unsynchronized => '?',
    }
}

fn leap_bits(bits: u8) -> char {
    char::from(*b"N+-?".get(usize::from(bits & 3)).unwrap_or(&b'?'))
}

/// C's `%10.3e`.
fn exp(value: f64) -> String {
    exponent(value, 3, 10)
}

/// C's `%WIDTH.DIGITSe`, which has at least two digits in its exponent.
#[must_use]
pub fn exponent(value: f64, digits: usize, width: usize) -> String {
    if !value.is_finite() {
        return format!("{value:width$}");
    }
    let short = format!("{value:.digits$e}");
    let (mantissa, power) = short.split_once('e').unwrap_or((&short, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    let mut text = String::new();
    let _infallible = write!(text, "{mantissa}e{sign}{power:0>2}");
    format!("{text:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::{NtpReport, SelectionOptionsReport, SelectionReport, StatisticsReport};

    // 2026-11-20 15:03:41
    const WHEN: f64 = 1_795_187_021.75;

    #[test]
    fn a_look_at_the_real_time_clock_is_the_line_that_chronyd_writes() {
        let clock = RealTimeClockReport {
            known: true,
            samples: 6,
            runs: 4,
            fast_seconds: -0.798_148,
            rate_ppm: -299.907,
            ..RealTimeClockReport::default()
        };
        let line = real_time_clock(WHEN, -0.798_148, &clock, 30);
        assert_eq!(line, "2026-11-20 15:03:41      -0.798148 1       -0.798148      -299.907   6   4   30");
        let unknown = real_time_clock(WHEN, 2.290_805, &RealTimeClockReport::default(), 15);
        assert_eq!(
            unknown,
            "2026-11-20 15:03:41       2.290805 0        0.000000         0.000   0   0   15"
        );
        assert_eq!(RTC.len(), 79);
    }

    fn source(address: &str) -> SourceReport {
        SourceReport {
            remote: Some(format!("{address}:123").parse().expect("an address")),
            poll: 1,
            reach: 0o377,
            state: '*',
            ..SourceReport::default()
        }
    }

    #[test]
    fn a_measurement_is_the_line_that_chronyd_writes() {
        let ntp = NtpReport {
            stratum: 1,
            tests: 0x3ff,
            poll: 1,
            offset_seconds: 0.500_1,
            delay_seconds: 3.156e-4,
            dispersion_seconds: 8.52e-7,
            root_dispersion_seconds: 2.441e-4,
            reference_id: *b"GPS\0",
            mode: 4,
            tx_timestamping: Some(TimestampSource::Kernel),
            rx_timestamping: Some(TimestampSource::Kernel),
            ..NtpReport::default()
        };
        let mut source = SourceReport { ntp, ..source("127.0.0.13") };
        assert_eq!(
            measurement(WHEN, &source),
            "2026-11-20 15:03:41 127.0.0.13      N  1 111 111 1111   1  1 0.00  5.001e-01  3.156e-04  8.520e-07  \
             0.000e+00  2.441e-04 47505300 4B K K"
        );
        assert!(is_valid(&source));
        source.ntp.tests = 0b11_1111_0001;
        assert!(is_valid(&source) && measurement(WHEN, &source).contains(" 111 111 0001 "));
        source.ntp.tests = 0b11_1101_1111;
        assert!(!is_valid(&source));
    }

    #[test]
    fn statistics_are_the_line_that_chronyd_writes() {
        let statistics = StatisticsReport {
            samples: 3,
            runs: 3,
            frequency_ppm: -3.666,
            skew_ppm: 19_110.0,
            offset_seconds: -0.5,
            offset_error_seconds: 2.131e-5,
            standard_deviation_seconds: 1.893e-5,
            ..StatisticsReport::default()
        };
        let source = SourceReport { statistics, ..source("127.0.0.13") };
        assert_eq!(
            super::statistics(WHEN + 2.0, &source),
            "2026-11-20 15:03:43 127.0.0.13       1.893e-05 -5.000e-01  2.131e-05 -3.666e-06  1.911e-02 0.0e+00   3   \
             0   3  0.00"
        );
    }

    #[test]
    fn an_update_is_the_line_that_chronyd_writes_with_and_without_a_source() {
        let mut report = TrackingReport {
            synchronized: true,
            address: Some("127.0.0.11".parse().expect("an address")),
            stratum: 2,
            leap: LeapReport::Normal,
            frequency_ppm: -0.004,
            skew_ppm: 0.015,
            last_offset_seconds: 2.008e-6,
            system_offset_seconds: 1.021e-8,
            root_delay_seconds: 7.275e-6,
            root_dispersion_seconds: 1.727e-6,
            ..TrackingReport::default()
        };
        assert_eq!(
            tracking(WHEN + 3.0, &report, 1, 2.464e-7),
            "2026-11-20 15:03:44 127.0.0.11       2     -0.004      0.015  2.008e-06 N  1  2.464e-07  1.021e-08  \
             7.275e-06  1.727e-06  5.375e-06"
        );
        report = TrackingReport {
            root_delay_seconds: 1.0,
            root_dispersion_seconds: 1.0,
            frequency_ppm: -0.004,
            skew_ppm: 0.015,
            ..TrackingReport::default()
        };
        assert_eq!(
            tracking(WHEN, &report, 0, 1.0),
            "2026-11-20 15:03:41 0.0.0.0          0     -0.004      0.015  0.000e+00 ?  0  0.000e+00  0.000e+00  \
             1.000e+00  1.000e+00  1.500e+00"
        );
    }

    #[test]
    fn a_selection_is_the_line_that_chronyd_writes() {
        let effective = SelectionOptionsReport {
            prefer: true,
            trust: true,
            require: true,
            ..SelectionOptionsReport::default()
        };
        let selection = SelectionReport { effective, score: 1.0, ..SelectionReport::default() };
        let source = SourceReport { selection, state: 'M', reach: 0, ..source("127.0.0.11") };
        assert_eq!(
            super::selection(WHEN, &source),
            "2026-11-20 15:03:41 127.0.0.11      M --PTR    0  1.00  0.000e+00  0.000e+00  0.000e+00"
        );
    }

    #[test]
    fn readings_and_samples_of_reference_clocks_are_the_lines_that_chronyd_writes() {
        let at = |nanos| NtpDate::from_unix(1_795_187_025, nanos);
        let reading = ReferenceClockEntry {
            at: at(638_028_000),
            name: "GPS",
            reading: Some((7, false, 1.2e-4)),
            leap: Leap::NoWarning,
            offset: 1.223_279e-4,
            dispersion: 1e-8,
        };
        assert_eq!(
            reference_clock(&reading),
            "2026-11-20 15:03:45.638028 GPS     7 N 0  1.200000e-04  1.223279e-04  1.000e-08"
        );
        let sample = ReferenceClockEntry {
            at: NtpDate::from_unix(1_795_187_023, 881_231_000),
            reading: None,
            offset: 1.223_353e-4,
            ..reading
        };
        assert_eq!(
            reference_clock(&sample),
            "2026-11-20 15:03:43.881231 GPS     - N -       -        1.223353e-04  1.000e-08"
        );
    }

    #[test]
    fn a_temperature_is_the_line_that_chronyd_writes() {
        assert_eq!(temperature(WHEN + 483.0, 45_000.0, 0.5), "2026-11-20 15:11:44  4.5000e+04  5.0000e-01");
    }

    #[test]
    fn headings_stand_between_rules_of_their_length() {
        let lines: Vec<String> = banner(TRACKING).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() == TRACKING.len()));
    }

    #[test]
    fn numbers_look_as_in_c() {
        assert_eq!(exp(-1.23e-5), "-1.230e-05");
        assert_eq!(exp(1.0), " 1.000e+00");
        assert_eq!(exp(1e100), "1.000e+100");
        assert_eq!(exponent(1.84e-3, 1, 7), "1.8e-03");
        assert_eq!(exp(f64::NAN).trim(), "NaN");
    }
}
