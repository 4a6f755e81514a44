//! Reading the clocks.
//!
//! The system clock is `CLOCK_REALTIME`; [`MonoTime`] is backed by `CLOCK_MONOTONIC`, whose origin is the boot.
//! That clock is never set and does not count suspended time, but **slewing shows in it**: it runs at the same
//! steered rate as the system clock, so that a difference of the two changes only when the clock is stepped. (The
//! raw clock would not show slewing, but timers, timeouts and simulators know only this one.) A frequency `f`
//! commanded for `t` seconds of this scale has therefore moved the clock by `t·f/(1+f)` against the hardware.

use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration, Precision};
use std::time::Duration;

/// Readings after which a pair is taken as tight as it gets.
const READING_ATTEMPTS_MAX: usize = 4;

/// A pair read within this many nanoseconds is good at once; a read through the vDSO takes some 30 ns.
const READING_NANOS_GOOD: u64 = 500;

/// A reading of the system clock comes at most so long after that of the pair before it; more is a step.
const LAST_READING_WITHIN: Duration = Duration::from_millis(100);

/// How old a kernel timestamp may be when we read its datagram; older ones do not belong to this clock's past.
const STAMP_AGE_MAX: NtpDuration = NtpDuration::from_seconds(1);

/// How far in the future a kernel timestamp may lie: rounding only.
const STAMP_LEAD_MAX: NtpDuration = NtpDuration::from_nanos(10_000);

/// Differences looked at when the precision is measured.
const PRECISION_READINGS: usize = 100;

/// Reads the monotonic and the system clock together.
#[must_use]
pub fn read() -> ClockReading {
    read_with_error().0
}

/// Reads the two clocks together, and tells within what the pair is one instant: half the time the reading took.
#[must_use]
pub fn read_with_error() -> (ClockReading, Duration) {
    let mut best: Option<(u64, ClockReading)> = None;
    for _ in 0..READING_ATTEMPTS_MAX {
        let before = mono_now().as_nanos();
        let system = system_now();
        let took = mono_now().as_nanos().saturating_sub(before);
        if best.is_none_or(|(least, _)| took < least) {
            best = Some((took, ClockReading { mono: MonoTime::from_nanos(before + took / 2), system }));
        }
        if took <= READING_NANOS_GOOD {
            break;
        }
    }
    // The loop ran at least once; the alternative keeps this free of panics.
    let (took, reading) =
        best.unwrap_or_else(|| (u64::MAX, ClockReading { mono: mono_now(), system: system_now() }));
    (reading, Duration::from_nanos(took.div_ceil(2)))
}

/// Reads the two clocks together, the system clock last of all: for a stamp of what happens right after.
///
/// Where a reading is a system call (a virtual machine without a clock that its programs can read, say), the attempts of
/// [`read`] take tens of microseconds, by which the stamp would be early.
#[must_use]
pub fn read_at_last() -> ClockReading {
    moved_to(read(), system_now()).unwrap_or_else(read)
}

/// The pair at a later reading of the system clock; `None` when that clock was stepped between the two.
fn moved_to(pair: ClockReading, system: NtpDate) -> Option<ClockReading> {
    let waited = u64::try_from((system - pair.system).to_nanos()).ok()?;
    let is_plausible = Duration::from_nanos(waited) <= LAST_READING_WITHIN;
    let mono = MonoTime::from_nanos(pair.mono.as_nanos().saturating_add(waited));
    is_plausible.then_some(ClockReading { mono, system })
}

/// The monotonic clock: nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
pub fn mono_now() -> MonoTime {
    let now = gettime(libc::CLOCK_MONOTONIC);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    MonoTime::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(nanos_of(&now))))
}

/// How long the machine has been suspended since the boot: `CLOCK_BOOTTIME` minus `CLOCK_MONOTONIC`, within
/// microseconds. `None` where there is no such clock.
#[must_use]
pub fn suspended() -> Option<Duration> {
    let before = mono_now().as_nanos();
    let boot = try_gettime(libc::CLOCK_BOOTTIME).ok()?;
    let after = mono_now().as_nanos();
    let boot = u64::try_from(boot.tv_sec).ok()?.checked_mul(1_000_000_000)? + u64::from(nanos_of(&boot));
    Some(Duration::from_nanos(boot.saturating_sub(before + after.saturating_sub(before) / 2)))
}

/// `CLOCK_TAI` in nanoseconds, and the other clocks at that instant. It differs from the system clock by whole seconds, which
/// change with leap seconds only. `None` where there is no such clock, or the system clock is being stepped.
#[must_use]
pub fn read_with_tai() -> Option<(u64, ClockReading)> {
    for _ in 0..READING_ATTEMPTS_MAX {
        let before = read();
        let tai = try_gettime(libc::CLOCK_TAI).ok()?;
        let after = system_now();
        let tai_date = date_of(&tai);
        // Less than a millisecond lies between the readings, so this rounds to the one number of seconds that it can be.
        let difference = (tai_date - after).as_secs_f64().round();
        let is_tight = (after - before.system).as_secs_f64().abs() < 1e-3;
        let system = tai_date - NtpDuration::from_secs_f64(difference);
        if let (true, Some(reading)) = (is_tight, moved_to(before, system)) {
            let seconds = u64::try_from(tai.tv_sec).ok()?;
            let nanos = seconds.checked_mul(1_000_000_000)? + u64::from(nanos_of(&tai));
            return Some((nanos, reading));
        }
    }
    None
}

/// The system clock: `CLOCK_REALTIME`.
#[must_use]
pub fn system_now() -> NtpDate {
    date_of(&gettime(libc::CLOCK_REALTIME))
}

/// Places a kernel timestamp of the system clock on both scales, going back from a reading made after it.
///
/// `None` when the stamp is no instant shortly before the reading: the clock was stepped between the two, or the
/// stamp was made by some other clock. A step of less than a second between the two cannot be seen here.
#[must_use]
pub fn place_stamp(stamp: NtpDate, now: ClockReading) -> Option<ClockReading> {
    let age = now.system - stamp;
    if age > STAMP_AGE_MAX || age < -STAMP_LEAD_MAX {
        return None;
    }
    let nanos = u64::try_from(age.to_nanos()).unwrap_or(0);
    Some(ClockReading {
        mono: MonoTime::from_nanos(now.mono.as_nanos().saturating_sub(nanos)),
        system: stamp,
    })
}

/// The resolution that the kernel states for the system clock; 1 ns with high-resolution timers.
#[must_use]
pub fn resolution() -> Duration {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec, alive during the call.
    if unsafe { libc::clock_getres(libc::CLOCK_REALTIME, &raw mut resolution) } < 0 {
        return Duration::from_nanos(1);
    }
    Duration::new(u64::try_from(resolution.tv_sec).unwrap_or(0), nanos_of(&resolution))
}

/// Measures the precision of the system clock: the least time between two readings that differ. RFC 5905 §7.3.
#[must_use]
pub fn measure_precision() -> Precision {
    let mut least = i64::MAX;
    let mut last = system_now();
    for _ in 0..PRECISION_READINGS {
        let now = system_now();
        let nanos = (now - last).to_nanos();
        if nanos > 0 {
            least = least.min(nanos);
        }
        last = now;
    }
    if least == i64::MAX {
        // A clock that stands still while it is read this often is a simulated one: take its word.
        least = i64::try_from(resolution().as_nanos()).unwrap_or(i64::MAX);
    }
    precision_of_nanos(least)
}

/// The exponent of the smallest power of two seconds that is not below `nanos`: we never claim more than we have.
fn precision_of_nanos(nanos: i64) -> Precision {
    let seconds = nanos.clamp(1, 1_000_000_000) as f64 * 1e-9;
    #[expect(clippy::cast_possible_truncation, reason = "between -30 and 0")]
    let exponent = seconds.log2().ceil() as i8;
    Precision::new(exponent)
}

/// The date of a timespec of the system clock.
pub(crate) fn date_of(time: &libc::timespec) -> NtpDate {
    #[expect(clippy::useless_conversion, reason = "time_t is narrower on some targets")]
    NtpDate::from_unix(i64::from(time.tv_sec), nanos_of(time))
}

fn nanos_of(time: &libc::timespec) -> u32 {
    u32::try_from(time.tv_nsec).unwrap_or(0).min(999_999_999)
}

fn gettime(clock: libc::clockid_t) -> libc::timespec {
    // Both clocks exist on every kernel since 2.6; without them there is nothing that a time daemon could do.
    try_gettime(clock).unwrap_or_else(|error| panic!("clock_gettime({clock}) failed: {error}"))
}

fn try_gettime(clock: libc::clockid_t) -> std::io::Result<libc::timespec> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec, alive during the call.
    let result = unsafe { libc::clock_gettime(clock, &raw mut now) };
    if result == 0 { Ok(now) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_go_forward_and_are_tight() {
        let (first, error) = read_with_error();
        let (second, _) = read_with_error();
        assert!(second.mono >= first.mono);
        assert!(error < Duration::from_millis(50), "{error:?}");
        assert!(first.system.unix_seconds() > 1_600_000_000);
    }

    #[test]
    fn the_system_clock_is_what_is_read_last() {
        let (before, reading, after) = (system_now(), read_at_last(), system_now());
        assert!(before <= reading.system && reading.system <= after);
        assert!(reading.mono <= mono_now());
    }

    #[test]
    fn a_pair_moves_to_a_later_reading_unless_the_clock_was_stepped() {
        let pair = ClockReading { mono: MonoTime::from_nanos(7_000), system: NtpDate::from_unix(100, 0) };
        let moved = moved_to(pair, NtpDate::from_unix(100, 40_000)).expect("40 µs later");
        assert_eq!(moved.mono, MonoTime::from_nanos(47_000));
        assert_eq!(moved.system, NtpDate::from_unix(100, 40_000));
        assert_eq!(moved_to(pair, NtpDate::from_unix(99, 999_999_000)), None, "stepped back");
        assert_eq!(moved_to(pair, NtpDate::from_unix(101, 0)), None, "stepped forward");
    }

    #[test]
    fn tai_is_whole_seconds_from_the_system_clock() {
        let before = system_now();
        let (nanos, reading) = read_with_tai().expect("Linux has it");
        assert!(reading.system >= before && reading.system <= system_now());
        let nanos_of_second = u32::try_from(nanos % 1_000_000_000).expect("below a second");
        assert!(nanos_of_second.abs_diff(reading.system.subsec_nanos()) <= 1);
        assert!(reading.mono <= mono_now());
    }

    #[test]
    fn time_spent_suspended_does_not_grow_while_we_look() {
        let (first, second) = (suspended().expect("Linux has it"), suspended().expect("still"));
        assert!(first.abs_diff(second) < Duration::from_millis(20), "{first:?} {second:?}");
    }

    #[test]
    fn a_stamp_is_placed_by_its_age() {
        let now =
            ClockReading { mono: MonoTime::from_nanos(5_000_000_000), system: NtpDate::from_unix(100, 0) };
        let placed = place_stamp(NtpDate::from_unix(99, 750_000_000), now).unwrap();
        assert_eq!(placed.mono, MonoTime::from_nanos(4_750_000_000));
        assert_eq!(placed.system, NtpDate::from_unix(99, 750_000_000));
    }

    #[test]
    fn a_stamp_from_before_a_step_is_not_believed() {
        let now =
            ClockReading { mono: MonoTime::from_nanos(5_000_000_000), system: NtpDate::from_unix(100, 0) };
        assert!(place_stamp(NtpDate::from_unix(99, 0), now).is_some());
        assert!(place_stamp(NtpDate::from_unix(98, 999_999_999), now).is_none());
        assert!(place_stamp(NtpDate::from_unix(100, 9_000), now).is_some());
        assert!(place_stamp(NtpDate::from_unix(100, 11_000), now).is_none());
        assert!(place_stamp(NtpDate::from_unix(86_500, 0), now).is_none());
    }

    #[test]
    fn precision_rounds_to_the_coarser_power_of_two() {
        assert_eq!(precision_of_nanos(1).exponent(), -29);
        assert_eq!(precision_of_nanos(954).exponent(), -19);
        assert_eq!(precision_of_nanos(953).exponent(), -20);
        assert_eq!(precision_of_nanos(i64::MAX).exponent(), 0);
        assert!(measure_precision().exponent() <= -10);
    }
}
