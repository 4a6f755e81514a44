//! What the operator decides about the discipline.

use crate::LeapMode;
use chime_time::{Frequency, Precision};

/// How the clock is disciplined; the defaults are those of a host with several network sources.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Greatest frequency used to slew the clock (on top of the frequency correction).
    pub max_slew: Frequency,
    /// Greatest frequency error that the oscillator can have.
    pub max_drift: Frequency,
    /// When the clock is stepped instead of slewed.
    pub step: StepPolicy,
    /// How long a correction takes.
    pub correction_time: CorrectionTime,
    /// Estimates of the frequency with a greater standard error are not used.
    pub max_update_skew: Frequency,
    /// Samples that a source must have given before it can be selected; at least 1. One is enough to show a time, three
    /// to trust a clock to it.
    pub samples_min: usize,
    /// The same for the first correction after a start or a disturbance, while the step policy allows a step: the clock
    /// may be anything then, and one good measurement is better than that. At least 1, at most `samples_min` counts.
    pub first_samples_min: usize,
    /// Samples that count of a source that has no [`crate::SourceOptions::samples_max`] of its own.
    pub samples_max: u32,
    /// At the start, how long the first selectable source waits for others to be heard, seconds.
    pub patience: f64,
    /// Sources that must agree before the clock is touched; at least 1.
    pub minimum_agreeing_sources: usize,
    /// A source with a greater root distance (seconds) is not selectable. RFC 5905 §11.1 (MAXDIST).
    pub max_distance: f64,
    /// Our own clock counts as synchronised while its root distance is not greater than this, seconds.
    pub holdover_distance: f64,
    /// The correctness interval of a source reaches at least so far to both sides, seconds: whoever is less exact than it says
    /// still agrees with the others. RFC 5905 §11.2 (MINDISP, ntpd's `mindist`).
    pub min_distance: f64,
    /// A source with a greater standard deviation of its samples (seconds) is not selectable.
    pub max_jitter: f64,
    /// Only sources of these strata are selectable: the lowest and the highest one.
    pub strata: (u8, u8),
    /// Seconds added to the distance of a source for each stratum above the lowest one.
    pub stratum_weight: f64,
    /// Sources up to this many times as distant as the selected one are combined with it; 0 combines none.
    pub combine_limit: f64,
    /// So many of those to be combined are never cut off for disagreeing a little; at least 1. RFC 5905 §7.2 (NMIN).
    pub survivors_min: usize,
    /// Seconds added to the distance of the sources that are not selected, so that equal ones do not take turns.
    pub reselect_distance: f64,
    /// How fast the oscillator may change unnoticed: dispersion grows at least at this rate.
    pub max_clock_error: Frequency,
    /// Precision of the system clock.
    pub precision: Precision,
    /// Whether the time may be typed in.
    pub manual: bool,
    /// Serve our own time when no source can be followed.
    pub local: Option<LocalReference>,
    /// Long-term averages of the frequency, for the time without sources; `None`: the last frequency stays.
    pub fallback: Option<FallbackDrift>,
    /// Who makes the clock pass over a leap second.
    pub leap_mode: LeapMode,
    /// Whether the clock is steered at all; otherwise no command is ever given and offsets are only reported.
    pub steer: bool,
    /// Whether [`chime_time::MonoTime`] is the time since boot as *slewed* by the frequency that we set (Linux:
    /// `CLOCK_MONOTONIC`), rather than that of the free oscillator (`CLOCK_MONOTONIC_RAW`).
    pub mono_is_slewed: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_slew: Frequency::from_ppm(83_333.333),
            max_drift: Frequency::from_ppm(100_000.0),
            step: StepPolicy::default(),
            correction_time: CorrectionTime::default(),
            max_update_skew: Frequency::from_ppm(1000.0),
            samples_min: 3,
            first_samples_min: 1,
            samples_max: 0,
            patience: 10.0,
            minimum_agreeing_sources: 1,
            max_distance: 3.0,
            holdover_distance: 3.0,
            min_distance: 0.0,
            max_jitter: 1.0,
            strata: (0, 15),
            stratum_weight: 1e-3,
            combine_limit: 3.0,
            survivors_min: 3,
            reselect_distance: 1e-4,
            max_clock_error: Frequency::from_ppm(1.0),
            precision: Precision::new(-24),
            manual: false,
            local: None,
            fallback: None,
            leap_mode: LeapMode::System,
            steer: true,
            mono_is_slewed: true,
        }
    }
}

/// How long it takes to work an offset off.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum CorrectionTime {
    /// Most of the interval between updates where queues make the estimate uncertain, as haste would only disturb the
    /// frequency; an eighth of it where the oscillator wanders off from one update to the next.
    #[default]
    Balanced,
    /// This share of the interval between updates, whatever the offset is: short enough to be over before the next
    /// update, long enough to hardly disturb the frequency.
    Share(f64),
    /// For an offset as large as its standard error this many times the interval between updates, for a larger one
    /// proportionally less (chrony's `corrtimeratio`).
    Ratio(f64),
}

/// Which long-term averages of the frequency are kept: over 2^`min` seconds, twice that, and so on up to 2^`max`. When the
/// sources have been lost for as long as an average is old, the clock goes on with that average.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FallbackDrift {
    /// Log2 of the shortest time, in seconds.
    pub min: u8,
    /// Log2 of the longest time, in seconds; not less than `min`.
    pub max: u8,
}

/// When the clock may be stepped.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepPolicy {
    /// Step instead of slewing when the offset is greater than this, seconds; `None`: never step.
    pub threshold: Option<f64>,
    /// The same for steps backward, where it is not `threshold`.
    pub backward_threshold: Option<f64>,
    /// Step only in that many first clock updates; `None`: at any time.
    pub updates_limit: Option<u32>,
    /// Greatest correction accepted while the clock was never synchronised.
    pub startup_panic: PanicThreshold,
    /// Greatest correction accepted afterwards.
    pub running_panic: PanicThreshold,
    /// Clock updates before which neither threshold applies (the second argument of chrony's `maxchange`).
    pub panic_after: u32,
    /// Corrections that are refused before the daemon is to end; `None`: it never is.
    pub refusals_max: Option<u32>,
    /// Greatest sum of the magnitudes of all steps after the first, seconds; `None`: no limit.
    pub accumulated_panic: Option<f64>,
}

impl StepPolicy {
    /// Whether a step is allowed at all after so many updates of the clock.
    #[must_use]
    pub fn allows_steps_after(&self, updates: u64) -> bool {
        self.threshold.or(self.backward_threshold).is_some()
            && self.updates_limit.is_none_or(|limit| updates < u64::from(limit))
    }

    /// Whether a correction by `offset` seconds (positive: forward) is to be a step.
    #[must_use]
    pub fn is_step(&self, offset: f64) -> bool {
        let backward = self.backward_threshold.filter(|_| offset < 0.0);
        backward.or(self.threshold).is_some_and(|threshold| offset.abs() > threshold)
    }
}

impl Default for StepPolicy {
    /// Step above 0.1 s at any time. At start any correction is believed, in both directions: clocks start decades
    /// behind and years ahead, and a machine that then refuses the right time is as lost as one that was given a wrong
    /// one; what keeps liars out is authentication and the majority. Later not more than 1000 s.
    fn default() -> Self {
        Self {
            threshold: Some(0.1),
            backward_threshold: None,
            updates_limit: None,
            startup_panic: PanicThreshold { forward: None, backward: None },
            running_panic: PanicThreshold { forward: Some(1000.0), backward: Some(1000.0) },
            panic_after: 0,
            refusals_max: None,
            accumulated_panic: None,
        }
    }
}

/// Corrections beyond this are refused; seconds, not negative; `None`: without limit.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct PanicThreshold {
    /// For corrections that move the clock forward.
    pub forward: Option<f64>,
    /// For corrections that move the clock backward.
    pub backward: Option<f64>,
}

impl PanicThreshold {
    /// Whether a correction by `offset` seconds (positive: forward) is beyond the threshold.
    #[must_use]
    pub fn is_exceeded_by(&self, offset: f64) -> bool {
        self.limit_of(offset).is_some_and(|limit| offset.abs() > limit)
    }

    /// The limit for corrections of this direction, seconds.
    #[must_use]
    pub const fn limit_of(&self, offset: f64) -> Option<f64> {
        if offset < 0.0 { self.backward } else { self.forward }
    }
}

/// Serving our own time when there is nothing to follow.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LocalReference {
    /// Stratum that we claim: 1 to 15.
    pub stratum: u8,
    /// Reference identifier that we claim.
    pub reference_id: [u8; 4],
    /// Becomes active when our root distance exceeds this, seconds.
    pub distance: f64,
    /// Active only once our root distance was below this, seconds; 0: from the start.
    pub activate: f64,
    /// Among servers that all serve their own time at this stratum, the one with the lowest reference identifier is followed by
    /// the others.
    pub orphan: bool,
    /// Active no sooner than this after the last update of the clock, seconds.
    pub wait_synchronized: f64,
    /// Active no sooner than this after a start without anything to follow, seconds.
    pub wait_unsynchronized: f64,
}

impl LocalReference {
    /// How long the usual orphan waits for others at the start, seconds.
    pub const ORPHAN_WAIT_SECONDS: f64 = 300.0;
    /// The usual reference identifier: an address that no server has, as chronyd and ntpd serve it.
    pub const REFERENCE_ID: [u8; 4] = [127, 127, 1, 1];
}

impl Default for LocalReference {
    fn default() -> Self {
        Self {
            stratum: 10,
            reference_id: Self::REFERENCE_ID,
            distance: 1.0,
            activate: 0.0,
            orphan: false,
            wait_synchronized: 0.0,
            wait_unsynchronized: 0.0,
        }
    }
}

/// What was learnt about the oscillator in an earlier run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SavedFrequency {
    /// The correction that made the clock run true.
    pub frequency: Frequency,
    /// How sure that was: one standard deviation, s per s; not negative.
    pub skew: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_threshold_has_two_sides_and_may_be_infinite() {
        let threshold = PanicThreshold { forward: None, backward: Some(10.0) };
        assert!(!threshold.is_exceeded_by(1e9));
        assert!(!threshold.is_exceeded_by(-10.0));
        assert!(threshold.is_exceeded_by(-10.001));
    }
}
