//! What the discipline tells about itself.

use super::Discipline;
use crate::clock_filter::SAMPLES_MIN;
use crate::{PollAdvice, SavedFrequency, SourceId, SourceStatistics, SystemState};
use chime_time::{Frequency, MonoTime};

/// A frequency less certain than this is not worth saving, s per s.
const SKEW_SAVE_MAX: f64 = 1e-5;
/// An oscillator's frequency is never known better than this, s per s.
const FREQUENCY_ERROR_MIN: f64 = 1e-7;
/// Exchanges before the poll interval is anything but the shortest.
const SAMPLES_ADVICE_MIN: usize = 16;
/// Intervals grow with this power of (mean queueing delay / wander), and with this factor before the power is taken: where
/// longer ones save requests but are all wander, and shorter ones gain with the square root of their number at best.
const INTERVAL_LAW: (f64, f64) = (1.4, 0.6);
/// Long queues excuse long intervals only up to so much of a wander from one sample to the next: seconds, and a share of
/// the queues.
const WANDER_TOLERATED: (f64, f64) = (1.8e-4, 0.034);
/// When the clock's error is this multiple of the mean queueing delay, a single measurement may change all.
const SWAY_ERROR: f64 = 0.3;
/// Longest interval that is ever advised, seconds: a little less than the usual limit leaves room for a longer one now and
/// then, and the temperature of a room changes within a quarter of an hour.
const INTERVAL_MAX: f64 = 980.0;

impl Discipline {
    /// What the server serves and what `tracking` shows, at `now`.
    #[must_use]
    pub fn system(&self, now: MonoTime) -> SystemState {
        let mut state = SystemState {
            system_offset: self.correction_left(now),
            frequency_ppm: self.clock.frequency * 1e6,
            skew_ppm: self.clock.skew * 1e6,
            selected: self.selected,
            updates: self.clock.updates,
            steps: self.clock.steps,
            accumulated_steps: self.clock.accumulated_steps,
            quarantined: self.quarantined.is_some(),
            interferences: self.interferences,
            recent_interferences: self
                .recent_interferences
                .iter()
                .filter(|at| now.seconds_since(**at) < super::interference::INTERFERENCES_SECONDS)
                .count(),
            refused_correction: self.clock.refused_offset(now),
            ..SystemState::default()
        };
        if let Some(reference) = &self.reference {
            reference.describe(now, &self.clock, &self.settings, &mut state);
            state.leap = self.leap.announced();
            let distance = state.root_distance();
            state.synchronized = distance <= self.settings.holdover_distance;
        }
        // A reading of two clocks together may be a little older than the last event.
        let latest = now.max(self.now);
        let is_allowed = self.may_be_local && self.local_from().is_none_or(|from| from <= latest);
        state.finish(self.settings.local.as_ref(), is_allowed);
        state
    }

    /// What is still to be added to the system clock at `now`, seconds; positive: it is behind. 0 while nothing is known.
    #[must_use]
    pub fn correction_left(&self, now: MonoTime) -> f64 {
        self.clock.offset(now).unwrap_or(0.0)
    }

    /// The instant from which on the local reference may be active, as far as that is a matter of waiting.
    pub(super) fn local_from(&self) -> Option<MonoTime> {
        let local = self.settings.local.as_ref()?;
        Some(match &self.reference {
            Some(reference) => reference.at().add_secs_f64(local.wait_synchronized),
            None => self.adrift_since.add_secs_f64(local.wait_unsynchronized),
        })
    }

    /// When the local reference becomes active, unless the clock is updated before.
    pub(super) fn local_due(&self) -> Option<MonoTime> {
        /// Late enough to be beyond the limit, and not just at it; seconds.
        const BEYOND: f64 = 1e-3;
        let local = self.settings.local.as_ref().filter(|_| self.may_be_local && !self.is_local)?;
        let from = self.local_from()?;
        let state = self.system(self.now);
        if !state.synchronized {
            return Some(from);
        }
        let left = (local.distance - state.root_distance()) / state.root_dispersion_rate;
        left.is_finite().then(|| from.max(self.now.add_secs_f64(left.max(0.0) + BEYOND)))
    }

    /// By how much the offset of a good source is expected to change from one instant to another, seconds, and the standard
    /// error of that: the clock was steered in between, and its frequency is known. Either may be the earlier one.
    #[must_use]
    pub fn expected_change(&self, from: MonoTime, to: MonoTime) -> (f64, f64) {
        let (first, last) = (self.clock.correction.at(from), self.clock.correction.at(to));
        let elapsed = last.free - first.free;
        let change = self.clock.frequency * elapsed - (last.correction - first.correction);
        (change, self.clock.skew.abs().max(FREQUENCY_ERROR_MIN) * elapsed.abs())
    }

    /// The frequency that [`Self::expected_change`] takes the oscillator to lack, s per s.
    #[must_use]
    pub const fn frequency_taken(&self) -> f64 {
        self.clock.frequency
    }

    /// What is known about one source, at `now`.
    #[must_use]
    pub fn source_report(&self, now: MonoTime, id: SourceId) -> Option<SourceStatistics> {
        let clock = self.clock.correction.at(now);
        self.source(id).map(|source| source.report(now, clock, self.clock.frequency, &self.settings))
    }

    /// What the samples of a source say about its poll interval at `now`.
    #[must_use]
    pub fn poll_advice(&self, now: MonoTime, id: SourceId) -> PollAdvice {
        let Some(filter) = self.source(id).map(|source| &source.filter) else { return PollAdvice::Keep };
        if filter.is_contradicted() {
            return PollAdvice::Shortest;
        }
        let Some(estimator) = filter.estimator().filter(|_| filter.len() >= SAMPLES_MIN) else {
            return PollAdvice::Keep;
        };
        let moments = estimator.moments();
        if filter.len() < SAMPLES_ADVICE_MIN {
            // Until the clock may have drifted by as much as one measurement can be wrong.
            let delay = estimator.path().base.0.max(0.0);
            let seconds = delay / 2.0 / moments.frequency_variance.sqrt();
            return if seconds.is_finite() { PollAdvice::Few { seconds } } else { PollAdvice::Keep };
        }
        let (wander, jitter) = (moments.log_wander.exp(), estimator.sharper_jitter());
        let balanced = (INTERVAL_LAW.0 * jitter / wander).powf(INTERVAL_LAW.1);
        // A random walk of the frequency moves the offset by wander·T^1.5 in T seconds.
        let tolerated = ((WANDER_TOLERATED.0 + WANDER_TOLERATED.1 * jitter) / wander).powf(2.0 / 3.0);
        let seconds = balanced.min(tolerated).min(INTERVAL_MAX);
        let age = self.clock.correction.at(now).free - estimator.point().free;
        let error = moments.offset_variance_after(age.max(0.0) + seconds).sqrt();
        let sway = (error / (SWAY_ERROR * jitter)).min(1.0);
        if [seconds, error, sway].iter().all(|value| value.is_finite() && *value > 0.0) {
            PollAdvice::Interval { seconds, error, sway }
        } else {
            PollAdvice::Keep
        }
    }

    /// What is worth saving for the next run, once the frequency is known well enough.
    #[must_use]
    pub fn frequency_to_save(&self) -> Option<SavedFrequency> {
        (self.was_synchronized && self.clock.skew <= SKEW_SAVE_MAX).then(|| SavedFrequency {
            frequency: Frequency::from_ratio(self.clock.frequency),
            skew: self.clock.skew,
        })
    }
}
