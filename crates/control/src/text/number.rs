//! Numbers as chronyc writes them: fixed widths, units that fit.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// An age or a span in four columns: seconds, `m`, `h`, `d`, `y`; `-` for never.
pub(crate) fn interval(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return "   -".to_owned();
    };
    let seconds = whole_seconds(seconds);
    match seconds {
        0..1_200 => format!("{seconds:4}"),
        1_200..36_000 => format!("{:3}m", seconds / 60),
        36_000..345_600 => format!("{:3}h", seconds / 3_600),
        _ if seconds / 86_400 > 999 => format!("{:3}y", seconds / 86_400 / 365),
        _ => format!("{:3}d", seconds / 86_400),
    }
}

/// An age in whole seconds; more than a few centuries is not told apart.
pub(crate) fn whole_seconds(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float to integer casts saturate, and negative ages count as zero"
    )]
    let whole = seconds.round() as u64;
    whole.min(u64::from(u32::MAX) - 1)
}

/// An offset with its sign, seven columns with the unit.
pub(crate) fn offset(seconds: f64) -> String {
    let (value, unit, decimals) = with_unit(seconds);
    format!("{:>7}", format!("{value:+.decimals$}{unit}"))
}

/// A magnitude without sign, six columns with the unit.
pub(crate) fn magnitude(seconds: f64) -> String {
    let (value, unit, decimals) = with_unit(seconds);
    format!("{:>6}", format!("{value:.decimals$}{unit}"))
}

/// A magnitude in a text for people: `85ns`, `2.5us`, `120ms`.
pub(crate) fn human(seconds: f64) -> String {
    let size = seconds.abs();
    let (value, unit) = match () {
        () if size < 1e-6 => return format!("{:.0}ns", size * 1e9),
        () if size < 1e-3 => (size * 1e6, "us"),
        () if size < 1.0 => (size * 1e3, "ms"),
        () if size < 100.0 => (size, "s"),
        () => return magnitude(size).trim_start().to_owned(),
    };
    if value < 99.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// An age in a text for people: `12s`, `20m`.
pub(crate) fn human_age(seconds: f64) -> String {
    let text = interval(Some(seconds));
    let text = text.trim_start();
    if text.ends_with(|c: char| c.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() }
}

/// A frequency in ppm, ten columns.
pub(crate) fn frequency(ppm: f64) -> String {
    let decimals = frequency_decimals(ppm);
    format!("{:10.decimals$}", positive_zero(ppm))
}

/// A frequency in ppm with its sign, ten columns.
pub(crate) fn signed_frequency(ppm: f64) -> String {
    let decimals = frequency_decimals(ppm);
    format!("{:+10.decimals$}", positive_zero(ppm))
}

/// A date: `Fri Nov 20 15:04:04 2026`, UTC.
pub(crate) fn date(unix_seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
    let seconds = unix_seconds.floor() as i64;
    // Beyond the calendar's ends there is nothing better to show than the end.
    let timestamp = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    timestamp.to_zoned(TimeZone::UTC).strftime("%a %b %d %H:%M:%S %Y").to_string()
}

/// C prints a negative zero with its sign; it means nothing to anybody.
pub(crate) fn positive_zero(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}

/// A number of seconds in the unit in which it has at most four digits.
fn with_unit(seconds: f64) -> (f64, &'static str, usize) {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 3_600.0;
    const DAY: f64 = 86_400.0;
    const YEAR: f64 = 365.25 * DAY;
    let seconds = positive_zero(seconds);
    let size = seconds.abs();
    match () {
        () if size < 9_999.5e-9 => (seconds * 1e9, "ns", 0),
        () if size < 9_999.5e-6 => (seconds * 1e6, "us", 0),
        () if size < 9_999.5e-3 => (seconds * 1e3, "ms", 0),
        () if size < 999.5 => (seconds, "s", 1),
        () if size < 99_999.5 => (seconds, "s", 0),
        () if size < 99_999.5 * MINUTE => (seconds / MINUTE, "m", 0),
        () if size < 99_999.5 * HOUR => (seconds / HOUR, "h", 0),
        () if size < 99_999.5 * DAY => (seconds / DAY, "d", 0),
        () => (seconds / YEAR, "y", 0),
    }
}

fn frequency_decimals(ppm: f64) -> usize {
    if ppm.abs() < 99_999.5 { 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_change_unit_as_in_chronyc() {
        let cases = [
            (0.4, "   0"),
            (1_199.0, "1199"),
            (1_200.0, " 20m"),
            (35_999.0, "599m"),
            (36_000.0, " 10h"),
            (345_599.0, " 95h"),
            (345_600.0, "  4d"),
            (999.0 * 86_400.0, "999d"),
            (1_000.0 * 86_400.0, "  2y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(interval(Some(seconds)), text);
        }
        assert_eq!(interval(None), "   -");
        assert_eq!(interval(Some(f64::INFINITY)).len(), 4);
        assert_eq!(interval(Some(f64::NAN)), "   0");
    }

    #[test]
    fn offsets_change_unit_on_both_sides_of_each_threshold() {
        let cases = [
            (0.0, "   +0ns", "   0ns"),
            (-0.0, "   +0ns", "   0ns"),
            (-122e-6, " -122us", " 122us"),
            (9_999.4e-9, "+9999ns", "9999ns"),
            (9_999.6e-9, "  +10us", "  10us"),
            (-8_163e-9, "-8163ns", "8163ns"),
            (9.9994, "+9999ms", "9999ms"),
            (9.9996, " +10.0s", " 10.0s"),
            (-999.4, "-999.4s", "999.4s"),
            (999.6, " +1000s", " 1000s"),
            (99_999.0, "+99999s", "99999s"),
            (100_000.0, " +1667m", " 1667m"),
        ];
        for (seconds, signed, plain) in cases {
            assert_eq!(offset(seconds), signed);
            assert_eq!(magnitude(seconds.abs()), plain);
        }
    }

    #[test]
    fn texts_for_people_have_two_or_three_digits() {
        let cases = [
            (0.0, "0ns"),
            (-2.5e-6, "2.5us"),
            (99.96e-6, "100us"),
            (0.0081, "8.1ms"),
            (12.0, "12.0s"),
            (7200.0, "7200s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text);
        }
        assert_eq!((human_age(12.0), human_age(7200.0)), ("12s".to_owned(), "120m".to_owned()));
    }

    #[test]
    fn frequencies_lose_their_decimals_when_they_are_large() {
        assert_eq!(frequency(0.044), "     0.044");
        assert_eq!(signed_frequency(-0.0284), "    -0.028");
        assert_eq!(signed_frequency(0.0), "    +0.000");
        assert_eq!(frequency(100_000.0), "    100000");
    }

    #[test]
    fn dates_are_utc_and_beyond_the_calendar_harmless() {
        assert_eq!(date(0.0), "Thu Jan 01 00:00:00 1970");
        assert_eq!(date(1_795_187_044.9), "Fri Nov 20 15:04:04 2026");
        for strange in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert!(!date(strange).is_empty());
        }
    }
}
