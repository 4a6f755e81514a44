//! The first samples of a source: which of them are of one clock.
//!
//! Two points are always on a line. When the server's clock was set between them, or one of them is wrong, that line is no
//! frequency, and a clock that follows it is soon further off than it ever was. So samples that no oscillator explains do
//! not count together: the majority does, unless three of them agree on the frequency, as they do on a machine whose
//! clock really is that fast.

use super::{CONTRADICTION_MARGIN, ClockFilter, FrequencyBelief, SCATTER_SIGMAS, StoredSample};

/// Frequencies that differ from what is believed by more than this are no oscillator's unless three samples say so, s per s.
pub(super) const FREQUENCY_ERROR_PLAUSIBLE: f64 = 1e-3;
/// Frequencies that are believed of nothing: a clock that is slow by a tenth lacks more than a tenth.
const FREQUENCY_ERROR_MAX: f64 = 0.25;

impl ClockFilter {
    /// Stores a sample while there are fewer than make an estimate; gives whether it agrees with those.
    pub(super) fn add_first(&mut self, sample: StoredSample, floor: f64, belief: FrequencyBelief) -> bool {
        let Some(last) = self.samples.back().copied() else {
            self.take(sample, floor, belief);
            return true;
        };
        let agrees = |one: &StoredSample| {
            let moved = moved(one, &sample) - belief.frequency * elapsed(one, &sample);
            moved.abs() <= error(one) + error(&sample) + FREQUENCY_ERROR_PLAUSIBLE * elapsed(one, &sample)
        };
        if agrees(&last) {
            self.contradictions.clear();
            self.take(sample, floor, belief);
            return true;
        }
        match self.contradictions.last() {
            Some(before) if is_line(&last, before, &sample) => {
                self.contradictions.push(sample);
                self.take_contradictions(floor, belief);
                return true;
            }
            Some(before) if !agrees(before) => self.contradictions.clear(),
            _ => {}
        }
        self.contradictions.push(sample);
        if self.contradictions.len() > self.samples.len() {
            (self.samples, self.tracking) = Default::default();
            self.take_contradictions(floor, belief);
        }
        false
    }
}

/// What a sample can be wrong by, seconds.
fn error(sample: &StoredSample) -> f64 {
    sample.delay / 2.0 + sample.dispersion + SCATTER_SIGMAS * sample.softness + CONTRADICTION_MARGIN
}

/// By how much the oscillator fell behind from one sample to the other, seconds.
fn moved(one: &StoredSample, other: &StoredSample) -> f64 {
    (other.measured - one.measured).as_secs_f64() + other.point.correction - one.point.correction
}

/// Seconds of the oscillator.
fn elapsed(one: &StoredSample, other: &StoredSample) -> f64 {
    (other.point.free - one.point.free).max(0.0)
}

/// Whether three samples are of one frequency that a clock can have.
fn is_line(first: &StoredSample, middle: &StoredSample, last: &StoredSample) -> bool {
    let (before, after) = (elapsed(first, middle), elapsed(middle, last));
    if before <= 0.0 || after <= 0.0 {
        return false;
    }
    let ratio = after / before;
    let bend = moved(middle, last) - ratio * moved(first, middle);
    let possible = error(last) + error(middle) + ratio * (error(middle) + error(first));
    bend.abs() <= possible && moved(first, last).abs() <= FREQUENCY_ERROR_MAX * (before + after)
}
