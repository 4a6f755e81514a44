//! The state of the clock as the program has it: a straight line, and until when it holds.

use crate::layout::{TIME_SLOT_OCTETS, time_slot};
use chime_server::ServerTime;
use chime_time::{ClockReading, DAY_SECONDS, NtpDuration};
use chime_wire::{LeapIndicator, Mode, ReferenceId};

/// For how long a state is used, nanoseconds; below 2³², by which products fit into 64 bits. Whoever publishes does it
/// several times as often.
pub const VALID_NANOS: u64 = 4_000_000_000;

/// The fastest change of a correction that is served, seconds per second; a clock that is worked on harder is left to the
/// sockets. It keeps the factor of [`time_slot::RATE`] below a half.
const CORRECTION_RATE_MAX: f64 = 0.1;
/// The fastest growth of the error that is served, seconds per second.
const DISPERSION_RATE_MAX: f64 = 0.1;

/// Units of a timestamp (2⁻³² s) in a nanosecond, beyond the 4 that a shift gives.
const UNITS_REST: f64 = 4_294_967_296.0 / 1e9 - 4.0;
/// Scale of [`time_slot::RATE`]: units of a timestamp in 2³¹ nanoseconds.
pub(crate) const RATE_SHIFT: i32 = 31;
/// Scale of [`time_slot::DISPERSION_RATE`]: units in 2³⁰ nanoseconds.
pub(crate) const DISPERSION_SHIFT: i32 = 30;

/// One instant on the clock that the program reads and on those that everybody else does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FastReading {
    /// `CLOCK_TAI`, nanoseconds. It makes the steps of the system clock, but for leap seconds; the monotonic clock makes
    /// none. As long as both go on alike, nobody has stepped anything.
    pub tai_nanos: u64,
    /// The others.
    pub clocks: ClockReading,
}

/// What the program knows of the time, as it is in its map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeSlot([u8; TIME_SLOT_OCTETS]);

impl TimeSlot {
    /// Nobody is answered.
    pub const STALE: Self = Self([0; TIME_SLOT_OCTETS]);

    /// What is said of a clock in the state `time`, from `now` on. A leap second ends it, since the system clock makes a
    /// step that `CLOCK_TAI` does not; a clock that is smeared, smoothed or slewed beyond measure is not served.
    #[must_use]
    pub fn new(time: &ServerTime, now: &FastReading) -> Self {
        let served = time.is_ours()
            && time.correction_rate.abs() <= CORRECTION_RATE_MAX
            && time.dispersion_rate <= DISPERSION_RATE_MAX;
        if !served {
            return Self::STALE;
        }
        let (system, mono) = (now.clocks.system, now.clocks.mono);
        let synchronized = time.is_synchronized();
        let leap = if synchronized { time.leap } else { LeapIndicator::Unsynchronized };
        let grown = mono.seconds_since(time.at).max(0.0) * time.dispersion_rate.max(0.0);
        let dispersion = (time.root_dispersion + NtpDuration::from_secs_f64(grown)).to_bits().max(0);
        let reference_id = if synchronized { time.reference_id } else { ReferenceId::default() };
        let mut slot = Self::STALE;
        slot.put(time_slot::TAI_BASE, &now.tai_nanos.to_ne_bytes());
        slot.put(time_slot::MONO_BASE, &mono.as_nanos().to_ne_bytes());
        slot.put(time_slot::VALID, &valid_nanos(leap, now).to_ne_bytes());
        slot.put(time_slot::TIME_BASE, &time.corrected(system.timestamp(), mono).to_bits().to_ne_bytes());
        slot.put(time_slot::RATE, &rate(time.correction_rate).to_ne_bytes());
        slot.put(time_slot::DISPERSION, &dispersion.to_ne_bytes());
        slot.put(time_slot::DISPERSION_RATE, &dispersion_rate(time.dispersion_rate).to_ne_bytes());
        slot.put(time_slot::FIRST, &[leap.to_bits() << 6 | Mode::Server.to_bits()]);
        slot.put(time_slot::STRATUM, &[if synchronized { time.stratum } else { 0 }]);
        slot.put(time_slot::PRECISION, &time.precision.to_be_bytes());
        slot.put(time_slot::ROOT_DELAY, &time.root_delay.to_bits().to_be_bytes());
        slot.put(time_slot::REFERENCE_ID, &reference_id.0);
        slot.put(time_slot::REFERENCE, &time.reference.to_be_bytes());
        slot
    }

    /// As it is in the map.
    #[must_use]
    pub const fn octets(&self) -> &[u8; TIME_SLOT_OCTETS] {
        &self.0
    }

    fn put(&mut self, at: i16, octets: &[u8]) {
        let at = usize::from(at.unsigned_abs());
        self.0[at..at + octets.len()].copy_from_slice(octets);
    }
}

/// Until the system clock may make the step of a leap second: at the end of a day (RFC 5905 §7.3), by its own reckoning.
fn valid_nanos(leap: LeapIndicator, now: &FastReading) -> u64 {
    if !matches!(leap, LeapIndicator::Insert | LeapIndicator::Delete) {
        return VALID_NANOS;
    }
    let system = now.clocks.system;
    let second = system.unix_seconds().rem_euclid(DAY_SECONDS);
    // A second less than the day has: it may be the one that is deleted.
    let seconds = u64::try_from(DAY_SECONDS - 1 - second).unwrap_or(0);
    VALID_NANOS.min((seconds * 1_000_000_000).saturating_sub(u64::from(system.subsec_nanos())))
}

/// How many units of a timestamp a nanosecond has beyond 4, on a clock whose correction changes at this rate.
#[expect(clippy::cast_possible_truncation, reason = "less than 2^31, by CORRECTION_RATE_MAX")]
fn rate(correction_rate: f64) -> i64 {
    let units = UNITS_REST + (UNITS_REST + 4.0) * correction_rate;
    (units * f64::from(1u32 << RATE_SHIFT)).round() as i64
}

/// How many units the error grows by in a nanosecond; rounded up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^30")]
fn dispersion_rate(seconds_per_second: f64) -> u64 {
    ((UNITS_REST + 4.0) * seconds_per_second.max(0.0) * f64::from(1u32 << DISPERSION_SHIFT)).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_time::{MonoTime, NtpDate, NtpTimestamp};

    /// Seconds before the end of the last day of 2016, as UTC counts them.
    fn before_midnight(seconds: i64) -> FastReading {
        let system = NtpDate::from_unix(1_483_228_800 - seconds, 250_000_000);
        FastReading { tai_nanos: 5, clocks: ClockReading { mono: MonoTime::from_nanos(9), system } }
    }

    fn valid(time: &ServerTime, now: &FastReading) -> u64 {
        let octets = &TimeSlot::new(time, now).0[8..16];
        u64::from_ne_bytes(octets.try_into().expect("eight"))
    }

    fn time() -> ServerTime {
        ServerTime::local(2, -20, MonoTime::ZERO, NtpTimestamp::ZERO)
    }

    #[test]
    fn a_state_ends_before_a_leap_second() {
        for leap in [LeapIndicator::Insert, LeapIndicator::Delete] {
            let time = ServerTime { leap, ..time() };
            assert_eq!(valid(&time, &before_midnight(3600)), VALID_NANOS);
            assert_eq!(valid(&time, &before_midnight(4)), 2_750_000_000);
            assert_eq!(valid(&time, &before_midnight(2)), 750_000_000);
            assert_eq!(valid(&time, &before_midnight(1)), 0);
            assert_eq!(valid(&time, &before_midnight(0)), VALID_NANOS, "the next day");
        }
        assert_eq!(valid(&time(), &before_midnight(1)), VALID_NANOS);
    }

    #[test]
    fn what_cannot_be_said_by_a_straight_line_is_left_to_the_sockets() {
        for rate in [-0.2, 0.2, f64::NAN] {
            let slewed = ServerTime { correction_rate: rate, ..time() };
            assert_eq!(TimeSlot::new(&slewed, &before_midnight(9)), TimeSlot::STALE);
            let unsure = ServerTime { dispersion_rate: rate.abs(), ..time() };
            assert_eq!(TimeSlot::new(&unsure, &before_midnight(9)), TimeSlot::STALE);
        }
        let slewed = ServerTime { correction_rate: 0.1, ..time() };
        assert_eq!(valid(&slewed, &before_midnight(9)), VALID_NANOS);
    }
}
