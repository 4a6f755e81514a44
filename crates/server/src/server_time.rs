//! What a server says about its clock: published by whoever steers it, read by everyone who answers.

use crate::{Smear, SmoothingCourse};
use chime_time::{MonoTime, NtpDuration, NtpShort, NtpTimestamp};
use chime_wire::{LeapIndicator, MonotonicReceive, ReferenceId};

/// The rate at which the error of a free-running clock is assumed to grow, seconds per second. RFC 5905 §7.2 (PHI).
pub const DISPERSION_RATE: f64 = 15e-6;

/// Stratum from which on a clock counts as not synchronised. RFC 5905 figure 11.
pub const STRATUM_UNSYNCHRONIZED: u8 = 16;

/// The reference identifier of a time that is smeared or smoothed just now, which chrony's servers have as well.
pub const SMEARED_REFERENCE_ID: ReferenceId = ReferenceId([127, 127, 1, 255]);

/// The state of the local clock as answers show it. Small and without references, so that a worker takes one copy for
/// a whole batch of requests.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ServerTime {
    /// Warning of a leap second, or that the clock is not synchronised.
    pub leap: LeapIndicator,
    /// Distance from a primary clock: 1 to 15; 0 and 16 up mean not synchronised and go out as 0. RFC 5905 §7.3.
    pub stratum: u8,
    /// Log2 of the seconds that reading the clock takes; negative.
    pub precision: i8,
    /// Round trip to the primary clock.
    pub root_delay: NtpShort,
    /// Greatest error at [`Self::at`]; grows by [`Self::dispersion_rate`] from then on.
    pub root_dispersion: NtpDuration,
    /// How fast the error grows, seconds per second, not negative.
    pub dispersion_rate: f64,
    /// When the values that change with time were right.
    pub at: MonoTime,
    /// Whom this clock follows.
    pub reference_id: ReferenceId,
    /// When the clock was last corrected, by itself.
    pub reference: NtpTimestamp,
    /// What is still to be added to the system clock at [`Self::at`] to have the best estimate; positive when it is
    /// behind. The timestamps in answers include it.
    pub correction: NtpDuration,
    /// How fast [`Self::correction`] changes: seconds per second of the monotonic clock. It has the other sign than the
    /// correction while that is worked off, and any sign for a clock that is not steered.
    pub correction_rate: f64,
    /// A leap second that is smeared: [`Self::at`] is when that was published, too.
    pub smear: Option<Smear>,
    /// What of the corrections of our clock is served later.
    pub smoothing: Option<SmoothingCourse>,
    /// A scale without our corrections of phase, for clients that ask for it.
    pub scale: Option<MonotonicScale>,
}

/// A time scale that has our frequency and is never set: clients can tell our corrections from their own clock's by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MonotonicScale {
    /// What is to be added to the time that is served; it changes by as much as that is corrected, the other way.
    pub offset: NtpDuration,
    /// Scales with different numbers have nothing in common.
    pub epoch: u32,
}

impl ServerTime {
    /// A clock that nothing is known about: leap indicator 3, stratum 0, errors of a second.
    #[must_use]
    pub fn unsynchronized(precision: i8) -> Self {
        Self {
            leap: LeapIndicator::Unsynchronized,
            stratum: 0,
            precision,
            root_delay: NtpShort::from_duration_ceil(NtpDuration::from_seconds(1)),
            root_dispersion: NtpDuration::from_seconds(1),
            dispersion_rate: 0.0,
            at: MonoTime::ZERO,
            reference_id: ReferenceId::default(),
            reference: NtpTimestamp::ZERO,
            correction: NtpDuration::ZERO,
            correction_rate: 0.0,
            smear: None,
            smoothing: None,
            scale: None,
        }
    }

    /// The local clock served as if it were a reference (`local stratum N`): reference identifier 127.127.1.1, no root
    /// delay or dispersion. `reference` is when it was last believed, by the local clock.
    #[must_use]
    pub fn local(stratum: u8, precision: i8, at: MonoTime, reference: NtpTimestamp) -> Self {
        Self {
            leap: LeapIndicator::NoWarning,
            stratum,
            root_delay: NtpShort::ZERO,
            root_dispersion: NtpDuration::ZERO,
            at,
            reference_id: ReferenceId([127, 127, 1, 1]),
            reference,
            ..Self::unsynchronized(precision)
        }
    }

    /// What a packet that was received then is answered with in a field for [`Self::scale`]; `receive` is its receive timestamp
    /// in that answer. Of a time that is smeared or smoothed there is no such scale.
    #[must_use]
    pub fn monotonic(&self, receive: NtpTimestamp, now: MonoTime) -> MonotonicReceive {
        let scale = self.scale.filter(|_| self.is_ours() && self.is_synchronized());
        let grown = now.seconds_since(self.at).max(0.0) * self.dispersion_rate.max(0.0);
        MonotonicReceive {
            root_delay: self.root_delay.to_duration(),
            root_dispersion: self.root_dispersion + NtpDuration::from_secs_f64(grown),
            receive: scale.map_or(NtpTimestamp::ZERO, |scale| receive + scale.offset),
            epoch: scale.map_or(0, |scale| scale.epoch),
        }
    }

    /// Whether clients may follow this clock.
    #[must_use]
    pub fn is_synchronized(&self) -> bool {
        self.leap != LeapIndicator::Unsynchronized && (1..STRATUM_UNSYNCHRONIZED).contains(&self.stratum)
    }

    /// The greatest error at `now`, never less than it was at [`Self::at`].
    #[must_use]
    pub fn root_dispersion(&self, now: MonoTime) -> NtpShort {
        let grown = now.seconds_since(self.at).max(0.0) * self.dispersion_rate.max(0.0);
        NtpShort::from_duration_ceil(self.root_dispersion + NtpDuration::from_secs_f64(grown))
    }

    /// The best estimate of the time at which the system clock showed `system`, near `now`; smeared and smoothed, where that
    /// is wished.
    #[must_use]
    pub fn corrected(&self, system: NtpTimestamp, now: MonoTime) -> NtpTimestamp {
        let corrected = self.best(system, now);
        if self.is_ours() { corrected } else { corrected + self.offset(system, corrected, now) }
    }

    /// Whether our best estimate is what is served.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.smear.is_none() && self.smoothing.is_none()
    }

    /// What smearing and smoothing add to the time of a clock that shows `system` at `now`.
    #[must_use]
    pub fn served_offset(&self, system: NtpTimestamp, now: MonoTime) -> NtpDuration {
        self.offset(system, self.best(system, now), now)
    }

    fn best(&self, system: NtpTimestamp, now: MonoTime) -> NtpTimestamp {
        let changed = now.seconds_since(self.at).max(0.0) * self.correction_rate;
        system + self.correction + NtpDuration::from_secs_f64(changed)
    }

    fn offset(&self, system: NtpTimestamp, best: NtpTimestamp, now: MonoTime) -> NtpDuration {
        let smeared = self.smear.as_ref().map_or(0.0, |smear| smear.offset(system, best, now));
        let smoothed = self.smoothing.map_or(0.0, |course| course.at(now).offset);
        NtpDuration::from_secs_f64(smeared + smoothed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> MonoTime {
        MonoTime::ZERO.add_secs_f64(seconds)
    }

    #[test]
    fn the_error_grows_with_time_and_never_shrinks() {
        let time = ServerTime {
            root_dispersion: NtpDuration::from_nanos(1_000_000),
            dispersion_rate: DISPERSION_RATE,
            ..ServerTime::local(1, -20, at(100.0), NtpTimestamp::ZERO)
        };
        let seconds = |now: MonoTime| time.root_dispersion(now).to_duration().as_secs_f64();
        assert!((seconds(at(100.0)) - 0.001).abs() < 2e-5);
        assert!((seconds(at(1100.0)) - 0.016).abs() < 2e-5);
        assert!(seconds(at(50.0)) >= 0.001);
    }

    #[test]
    fn the_correction_changes_with_time_and_passes_zero_when_a_slew_is_ended_late() {
        let time = ServerTime {
            correction: NtpDuration::from_nanos(-50_000_000),
            correction_rate: 0.01,
            ..ServerTime::local(1, -20, at(10.0), NtpTimestamp::ZERO)
        };
        let system = NtpTimestamp::from_bits(1 << 40);
        let nanos = |now| (time.corrected(system, now) - system).to_nanos();
        assert_eq!(nanos(at(10.0)), -50_000_000);
        assert_eq!(nanos(at(12.0)), -30_000_000);
        assert_eq!(nanos(at(15.0)), 0);
        assert_eq!(nanos(at(16.0)), 10_000_000);
        assert_eq!(nanos(at(5.0)), -50_000_000, "stamps from before are not guessed");
    }

    #[test]
    fn what_is_smoothed_is_added_to_the_best_estimate() {
        let settings = crate::SmoothingSettings { rate_max: 400e-6, change: 10e-6 };
        let course = SmoothingCourse::new(settings, at(10.0), 0.1, 0.0);
        let plain = ServerTime {
            correction: NtpDuration::from_nanos(-100_000_000),
            ..ServerTime::local(1, -20, at(10.0), NtpTimestamp::ZERO)
        };
        let time = ServerTime { smoothing: Some(course), ..plain };
        let system = NtpTimestamp::from_bits(1 << 40);
        let served = |now: f64| (time.corrected(system, at(now)) - system).as_secs_f64();
        assert!(served(10.0).abs() < 1e-9, "nobody sees the correction");
        assert!((served(310.0) + 0.1).abs() < 1e-9, "and in the end it is made");
        assert!((served(30.0) + 0.002).abs() < 1e-9);
        assert!((time.served_offset(system, at(10.0)).as_secs_f64() - 0.1).abs() < 1e-9);
        assert!(
            plain.is_ours() && !time.is_ours() && plain.served_offset(system, at(11.0)) == NtpDuration::ZERO
        );
    }

    #[test]
    fn only_strata_1_to_15_are_synchronised() {
        for (stratum, synchronized) in [(0, false), (1, true), (15, true), (16, false), (255, false)] {
            assert_eq!(
                ServerTime::local(stratum, -20, at(0.0), NtpTimestamp::ZERO).is_synchronized(),
                synchronized
            );
        }
        assert!(!ServerTime::unsynchronized(-20).is_synchronized());
    }
}
