//! Laws of time: whatever the values, arithmetic neither panics nor loses what it should keep.

use chime_time::{MonoTime, NtpDate, NtpDuration, NtpShort, NtpTimestamp};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_difference_added_again_gives_the_timestamp_in_any_era(a: u64, b: u64) {
        let (a, b) = (NtpTimestamp::from_bits(a), NtpTimestamp::from_bits(b));
        prop_assert_eq!(b + (a - b), a);
        prop_assert_eq!(a - (a - b), b);
        let apart = a - b;
        prop_assert!(apart == NtpDuration::ZERO || apart == NtpDuration::MIN || a.is_before(b) != b.is_before(a));
    }

    #[test]
    fn a_timestamp_is_dated_within_68_years_of_its_pivot(bits: u64, seconds in -1_000_000_000_000i64..1_000_000_000_000, fraction: u32) {
        let pivot = NtpDate::new(seconds, fraction);
        let date = NtpDate::from_timestamp(NtpTimestamp::from_bits(bits), pivot);
        prop_assert_eq!(date.timestamp().to_bits(), bits);
        prop_assert!((date - pivot).abs() <= NtpDuration::MAX);
    }

    #[test]
    fn dates_and_durations_add_up(seconds in -1_000_000_000_000i64..1_000_000_000_000, fraction: u32, units: i64) {
        let date = NtpDate::new(seconds, fraction);
        let duration = NtpDuration::from_bits(units);
        prop_assert_eq!((date + duration) - date, duration);
    }

    #[test]
    fn arithmetic_never_panics(a: i64, b: i64, f: f64, n: i64) {
        let (a, b) = (NtpDuration::from_bits(a), NtpDuration::from_bits(b));
        let _ = (a + b, a - b, -a, a * n, a.half(), a.abs(), a.to_nanos(), NtpDuration::from_nanos(n));
        let _ = (NtpDuration::from_secs_f64(f), NtpShort::from_duration_ceil(a), MonoTime::from_nanos(n.unsigned_abs()).add_secs_f64(f));
        let _ = NtpDate::new(n, 0) + a;
    }

    #[test]
    fn the_short_format_never_claims_less(units in 0i64..(65_535i64 << 32)) {
        let duration = NtpDuration::from_bits(units);
        let short = NtpShort::from_duration_ceil(duration).to_duration();
        prop_assert!(short >= duration && short - duration < NtpDuration::from_bits(1 << 16));
    }

    #[test]
    fn nanoseconds_are_within_half_a_unit(nanos in -2_000_000_000_000_000_000i64..2_000_000_000_000_000_000) {
        prop_assert_eq!(NtpDuration::from_nanos(nanos).to_nanos(), nanos);
    }
}
