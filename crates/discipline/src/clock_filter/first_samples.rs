//! The first samples of a source: which of them are of one clock.
//!
//! Two points are always on a line. When the server's clock was set between them, or is wrong by chance, that line is no
//! frequency, and a clock that follows it is soon further off than it ever was. So samples that no oscillator explains do
//! not count together: those on one line do, when they are more than all others that were heard. Three of them may say that
//! the frequency is one that no oscillator should have, as they do on a machine whose clock really is that fast.

use super::{
    CONTRADICTION_MARGIN, ClockFilter, FrequencyBelief, OSCILLATOR_CHANGE, SAMPLES_MIN, SCATTER_SIGMAS,
    StoredSample,
};

/// Samples of one line from which on the estimate says what contradicts it.
const FIRST_SAMPLES: usize = 8;
/// Samples on one line that are no accident, whatever else the source said.
const LINE_SURE: usize = 5;
/// Samples that are remembered until they are on a line.
const STRAYS_MAX: usize = 8;
/// Frequencies that differ from what is believed by more than this are no oscillator's unless three samples say so, s per s.
pub(super) const FREQUENCY_ERROR_PLAUSIBLE: f64 = 1e-3;
/// Frequencies that are believed of nothing: a clock that is slow by a tenth lacks more than a tenth.
const FREQUENCY_ERROR_MAX: f64 = 0.25;

impl ClockFilter {
    /// Stores a sample while there are fewer than [`FIRST_SAMPLES`]; gives whether it is believed.
    pub(super) fn add_first(&mut self, sample: StoredSample, floor: f64, belief: FrequencyBelief) -> bool {
        let believed = self.samples.len();
        let heard: Vec<StoredSample> =
            self.samples.iter().chain(&self.contradictions).chain([&sample]).copied().collect();
        let line = line_of_most(&heard, belief);
        let places = &line.places;
        let goes_on = places.iter().filter(|&&place| place < believed).count() == believed;
        // Other samples displace those that were believed only for what is new about them.
        let for_it =
            if goes_on { places.len() } else { places.iter().filter(|&&place| place >= believed).count() };
        let others = heard.len() - places.len();
        let unlikely = usize::from(!line.is_plausible && self.strays + others > 0);
        if for_it < (self.strays + others + unlikely + 1).min(LINE_SURE) {
            self.contradictions.push(sample);
            if self.contradictions.len() > STRAYS_MAX {
                self.contradictions.remove(0);
                self.strays += 1;
            }
            return false;
        }
        self.contradictions.clear();
        self.strays += others;
        let from = if goes_on { believed } else { 0 };
        if !goes_on {
            (self.samples, self.tracking) = Default::default();
        }
        places
            .iter()
            .filter(|&&place| place >= from)
            .for_each(|&place| self.take(heard[place], floor, belief));
        if !self.is_young() {
            self.strays = 0;
        }
        true
    }

    /// By how much a sample differs from the one before, beyond what a frequency makes plausible, seconds.
    pub(super) fn leap_to(&self, sample: &StoredSample, belief: FrequencyBelief) -> f64 {
        self.last().map_or(0.0, |last| {
            let span = elapsed(last, sample);
            let unexpected = moved(last, sample) - belief.frequency * span;
            (unexpected.abs() - FREQUENCY_ERROR_PLAUSIBLE * span).max(0.0)
        })
    }

    /// Whether the few samples that make the estimate are contradicted: it says nothing about the frequency then.
    pub(crate) fn is_dubious(&self) -> bool {
        self.is_young() && self.is_contradicted()
    }

    /// Whether the samples are still so few that they may be on a line by chance, unless no more of them are to be kept.
    pub(crate) fn is_young(&self) -> bool {
        self.samples.len() < FIRST_SAMPLES.min(self.samples_max.max(SAMPLES_MIN))
    }
}

/// Samples that are on one line.
struct Line {
    /// Which ones, oldest first.
    places: Vec<usize>,
    /// Whether the oscillator can have that frequency, as far as it is known.
    is_plausible: bool,
}

/// Of all lines through the newest of the samples the one that most of them are on.
fn line_of_most(heard: &[StoredSample], belief: FrequencyBelief) -> Line {
    let newest = heard.len() - 1;
    let mut best = Line { places: vec![newest], is_plausible: true };
    for oldest in 0..newest {
        let places: Vec<usize> =
            (oldest..=newest).filter(|&place| is_on_line(heard, oldest, place)).collect();
        let is_plausible = is_plausible(&heard[oldest], &heard[newest], belief);
        let is_possible = is_plausible || places.len() > 2 && is_possible(&heard[oldest], &heard[newest]);
        if is_possible && (places.len(), is_plausible) >= (best.places.len(), best.is_plausible) {
            best = Line { places, is_plausible };
        }
    }
    best
}

/// Whether a sample can be on the line from an older one to the newest.
fn is_on_line(heard: &[StoredSample], oldest: usize, place: usize) -> bool {
    let newest = heard.len() - 1;
    place == oldest || place == newest || beyond_line([&heard[oldest], &heard[place], &heard[newest]]) <= 0.0
}

/// By how much the second of three samples is off the line of the others, beyond what they can all be wrong by, seconds.
pub(super) fn beyond_line([first, sample, last]: [&StoredSample; 3]) -> f64 {
    let span = elapsed(first, last);
    let share = if span > 0.0 { elapsed(first, sample) / span } else { 0.0 };
    let bend = moved(first, sample) - share * moved(first, last);
    let ends = (1.0 - share) * error(first) + share * error(last);
    (bend.abs() - error(sample) - ends - OSCILLATOR_CHANGE * span).max(0.0)
}

/// Whether the oscillator can have the frequency of the line through two samples, as far as it is known.
fn is_plausible(one: &StoredSample, other: &StoredSample, belief: FrequencyBelief) -> bool {
    let span = elapsed(one, other);
    let unexpected = moved(one, other) - belief.frequency * span;
    unexpected.abs() <= error(one) + error(other) + FREQUENCY_ERROR_PLAUSIBLE * span
}

/// Whether any clock can have it.
fn is_possible(one: &StoredSample, other: &StoredSample) -> bool {
    moved(one, other).abs() <= FREQUENCY_ERROR_MAX * elapsed(one, other)
}

/// What a sample can be wrong by, seconds.
fn error(sample: &StoredSample) -> f64 {
    let stamps = SCATTER_SIGMAS * sample.softness;
    sample.delay.max(0.0) / 2.0 + sample.dispersion + stamps + sample.unsteady() + CONTRADICTION_MARGIN
}

/// By how much the oscillator fell behind from one sample to the other, seconds.
fn moved(one: &StoredSample, other: &StoredSample) -> f64 {
    (other.measured - one.measured).as_secs_f64() + other.point.correction - one.point.correction
}

/// Seconds of the oscillator.
fn elapsed(one: &StoredSample, other: &StoredSample) -> f64 {
    (other.point.free - one.point.free).max(0.0)
}
