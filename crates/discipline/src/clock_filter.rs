//! The clock filter of one source: its recent samples and the line through them. RFC 5905 §10.
//!
//! Deviation: RFC 5905 keeps eight samples and believes the one with the shortest round trip. Here every sample
//! counts, weighted by how much longer than the shortest its round trip was, and the line through them gives offset
//! and frequency with their uncertainties. Old samples leave as soon as the line is no longer straight.

use crate::correction::{ClockPoint, Correction};
use crate::regression::{self, Line, RegressionPoint, SlopePrior};
use crate::{Sample, SampleVerdict};
use chime_time::{MonoTime, NtpDuration};
use std::collections::VecDeque;

/// Samples kept of one source.
pub(crate) const SAMPLES_MAX: usize = 64;
/// Samples below which no estimate is believed.
pub(crate) const SAMPLES_MIN: usize = 3;
/// Samples that are kept even when the line through them is not straight.
const SAMPLES_KEPT_MIN: usize = 6;
/// Residuals with a mean square below this share of what the queues may cause do not show a bend: when all queueing is on
/// one direction and its share is known, what is left is small and smooth.
const SCATTER_NEGLIGIBLE: f64 = 0.01;

/// Samples in a row that contradict the line until the line is given up for them.
const CONTRADICTIONS_MAX: usize = SAMPLES_MIN;
/// By how much the frequency of an oscillator may change from one sample to the next, s per s: a change of temperature.
const OSCILLATOR_CHANGE: f64 = 2e-6;
/// Contradictions smaller than this are left to the run test, seconds.
const CONTRADICTION_MARGIN: f64 = 5e-5;

/// A sample, relative to the free oscillator.
#[derive(Clone, Copy, Debug)]
struct StoredSample {
    at: MonoTime,
    /// As measured, less the steps made since.
    measured: NtpDuration,
    /// As measured, for reports.
    reported: NtpDuration,
    point: ClockPoint,
    delay: f64,
    dispersion: f64,
    root_delay: f64,
    root_dispersion: f64,
}

/// The line through the samples.
#[derive(Clone, Copy, Debug)]
struct Fit {
    line: Line,
    /// The newest sample: the origin of the line.
    origin: StoredSample,
    samples: usize,
    span: f64,
    delay_min: f64,
    /// Mean queueing delay on one way.
    jitter: f64,
}

/// What the filter knows at one instant; seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct FilterEstimate {
    /// Remote minus local; positive means that our clock is behind.
    pub(crate) offset: f64,
    /// Standard error of the offset.
    pub(crate) offset_error: f64,
    /// Frequency that our oscillator lacks: what must be commanded to follow the source, s per s.
    pub(crate) frequency: f64,
    /// Standard error of the frequency.
    pub(crate) skew: f64,
    /// Standard deviation of the samples.
    pub(crate) standard_deviation: f64,
    /// Samples in the regression, runs of their residuals, time between oldest and newest.
    pub(crate) samples: usize,
    pub(crate) runs: usize,
    pub(crate) span: f64,
    /// Round trip to the primary source.
    pub(crate) root_delay: f64,
    /// Error bound without half of that.
    pub(crate) root_dispersion: f64,
}

/// The last sample, for reports; seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct LastSample {
    pub(crate) age: f64,
    pub(crate) measured: f64,
    pub(crate) adjusted: f64,
    pub(crate) delay: f64,
    /// Half the root delay plus the root dispersion.
    pub(crate) error: f64,
}

/// What the rest of the daemon knows about the oscillator's frequency when a source starts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct FrequencyBelief {
    /// Frequency that the oscillator lacks, s per s.
    pub(crate) frequency: f64,
    /// Standard error of it; positive.
    pub(crate) skew: f64,
    pub(crate) at: MonoTime,
}

/// How fast an old belief about the frequency loses its worth, s per s per second: 36 ppm in an hour.
const BELIEF_FADING: f64 = 1e-8;

impl FrequencyBelief {
    fn prior(&self, now: MonoTime) -> SlopePrior {
        let fading = BELIEF_FADING * now.seconds_since(self.at).max(0.0);
        SlopePrior { slope: self.frequency, variance: self.skew * self.skew + fading * fading }
    }
}

/// The samples of one source.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClockFilter {
    samples: VecDeque<StoredSample>,
    /// Samples that contradict the line, the newest ones of all.
    contradictions: Vec<StoredSample>,
    fit: Option<Fit>,
    bent: bool,
    /// What was believed before the first sample; later beliefs would contain these very samples.
    belief: Option<FrequencyBelief>,
}

impl ClockFilter {
    /// Stores a sample and renews the line. `floor`: what a single time stamp is uncertain by, seconds. `belief`: what
    /// is known about the frequency without this source; counts with the first sample only.
    pub(crate) fn add(
        &mut self,
        sample: &Sample,
        offset_correction: f64,
        correction: &Correction,
        floor: f64,
        belief: FrequencyBelief,
    ) -> SampleVerdict {
        if self.last().is_some_and(|last| sample.at <= last.at) {
            return SampleVerdict::NotNewer;
        }
        let measured = sample.offset + NtpDuration::from_secs_f64(offset_correction);
        if measured == NtpDuration::MAX || measured == NtpDuration::MIN {
            return SampleVerdict::OutOfRange;
        }
        let sample = StoredSample::new(sample, measured, correction);
        if self.contradicts(&sample) {
            self.contradictions.push(sample);
            if self.contradictions.len() < CONTRADICTIONS_MAX {
                return SampleVerdict::Stored;
            }
            // Now it is the line that is wrong: somebody stepped a clock, or the path changed.
            self.samples = std::mem::take(&mut self.contradictions).into();
        } else {
            self.contradictions.clear();
            if self.samples.len() == SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back(sample);
        }
        let belief = *self.belief.get_or_insert(belief);
        self.renew(floor, belief.prior(sample.at));
        SampleVerdict::Stored
    }

    /// Whether a sample cannot be true if the line is: the line's value lies outside of what the round trip leaves
    /// possible, half of it to each side, by more than the line and the oscillator are uncertain.
    fn contradicts(&self, sample: &StoredSample) -> bool {
        let Some(fit) = self.fit.as_ref().filter(|fit| fit.samples >= SAMPLES_MIN) else { return false };
        let elapsed = sample.point.free - fit.origin.point.free;
        let expected = fit.line.offset + fit.line.slope * elapsed
            - (sample.point.correction - fit.origin.point.correction);
        let difference = (sample.measured - fit.origin.measured).as_secs_f64() - expected;
        let uncertainty = 2.0 * error_sigmas(fit.samples) * fit.line.variance_at(elapsed).sqrt()
            + elapsed.abs() * OSCILLATOR_CHANGE
            + CONTRADICTION_MARGIN;
        difference.abs() > sample.delay / 2.0 + sample.dispersion + uncertainty
    }

    /// Fits the line, dropping the oldest samples until it is straight.
    fn renew(&mut self, floor: f64, prior: SlopePrior) {
        self.bent = false;
        loop {
            self.fit = self.fit_all(floor, prior);
            let Some(fit) = &self.fit else { return };
            let is_bent =
                fit.line.scatter > SCATTER_NEGLIGIBLE && regression::is_bent(fit.samples, fit.line.runs);
            if fit.samples <= SAMPLES_KEPT_MIN || !is_bent {
                return;
            }
            self.bent = true;
            self.samples.pop_front();
        }
    }

    fn fit_all(&self, floor: f64, prior: SlopePrior) -> Option<Fit> {
        let origin = *self.samples.back()?;
        let oldest = self.samples.front()?;
        let count = self.samples.len() as f64;
        let delay_min = self.samples.iter().map(|sample| sample.delay).fold(f64::INFINITY, f64::min);
        let typical = typical(self.samples.iter().map(|sample| sample.delay - delay_min));
        // Of an excess e the offset gets anything between -e/2 and e/2: variance e²/12. The shortest round trip has an
        // excess of its own: with queues of mean j on both ways, e² is about 2j²/n for the shortest of n, and the
        // typical excess is 1.83j. Few samples may all have come through like queues, and then look better than they are.
        let base = floor * floor + typical * typical / (20.0 * count) * (1.0 + 10.0 / count);
        let mut points: Vec<RegressionPoint> = self
            .samples
            .iter()
            .map(|sample| {
                let excess = sample.delay - delay_min;
                let x = sample.point.free - origin.point.free;
                RegressionPoint {
                    x,
                    y: (sample.measured - origin.measured).as_secs_f64()
                        + (sample.point.correction - origin.point.correction),
                    excess,
                    variance: base + excess * excess / 12.0 + wander_variance(WANDER_GOOD, x),
                }
            })
            .collect();
        let mut line = regression::fit(&points, prior)?;
        // Scatter that queues do not explain is the oscillator's own, and alike in all samples.
        if line.unexplained_variance > 0.0 {
            points.iter_mut().for_each(|point| point.variance += line.unexplained_variance);
            line = regression::fit(&points, prior)?;
        }
        let span = origin.at.seconds_since(oldest.at);
        Some(Fit { line, origin, samples: points.len(), span, delay_min, jitter: typical / 1.83 })
    }

    /// What is known at `now`; `clock` is the correction at that time. `None` without samples.
    pub(crate) fn estimate(&self, now: MonoTime, clock: ClockPoint, drift: f64) -> Option<FilterEstimate> {
        let fit = self.fit.as_ref()?;
        let (line, origin) = (&fit.line, &fit.origin);
        let elapsed = clock.free - origin.point.free;
        let offset = origin.measured.as_secs_f64() + line.offset + line.slope * elapsed
            - (clock.correction - origin.point.correction);
        let offset_error = line.variance_at(elapsed).sqrt();
        let age = now.seconds_since(origin.at).max(0.0);
        let skew = line.slope_variance.sqrt();
        Some(FilterEstimate {
            offset,
            offset_error,
            frequency: line.slope,
            skew,
            standard_deviation: line.standard_deviation,
            samples: fit.samples,
            runs: line.runs,
            span: fit.span,
            // Of a round trip up to a half may be in the offset: of the shortest one certainly, and of what longer ones
            // took as far as they have a say in the line.
            root_delay: origin.root_delay + fit.delay_min + line.excess,
            root_dispersion: origin.root_dispersion
                + origin.dispersion
                + error_sigmas(fit.samples) * offset_error
                + 3.0 * wander_variance(WANDER_POOR, age.max(fit.span / fit.samples as f64)).sqrt()
                + age * drift,
        })
    }

    /// The last sample as reports show it.
    pub(crate) fn last_sample(&self, now: MonoTime, clock: ClockPoint) -> Option<LastSample> {
        let last = self.last()?;
        Some(LastSample {
            age: now.seconds_since(last.at).max(0.0),
            measured: last.reported.as_secs_f64(),
            adjusted: last.measured.as_secs_f64() - (clock.correction - last.point.correction),
            delay: last.delay,
            error: (last.root_delay + last.delay) / 2.0 + last.root_dispersion + last.dispersion,
        })
    }

    /// Time between the last two samples, seconds.
    pub(crate) fn interval(&self) -> Option<f64> {
        let newest = self.samples.len().checked_sub(2)?;
        Some(self.samples[newest + 1].at.seconds_since(self.samples[newest].at))
    }

    fn last(&self) -> Option<&StoredSample> {
        self.contradictions.last().or(self.samples.back())
    }

    /// Whether the newest samples contradict the others.
    pub(crate) const fn is_contradicted(&self) -> bool {
        !self.contradictions.is_empty()
    }

    /// Number of samples in use.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether the newest sample showed that the line was not straight.
    pub(crate) const fn is_bent(&self) -> bool {
        self.bent
    }

    /// The interval between samples at which the wander of a poor oscillator matters about as much as the queues, seconds:
    /// longer ones lose accuracy, shorter ones gain little.
    pub(crate) fn balanced_interval(&self) -> Option<f64> {
        self.fit.as_ref().map(|fit| (0.4 * fit.jitter / WANDER_POOR).powf(2.0 / 3.0))
    }

    /// The clock was stepped forward by `by`: every offset is smaller by that.
    pub(crate) fn step(&mut self, by: NtpDuration) {
        for sample in self.samples.iter_mut().chain(&mut self.contradictions) {
            sample.measured -= by;
        }
        if let Some(fit) = &mut self.fit {
            fit.origin.measured -= by;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Random walk of the frequency, s per s in each second, that even good oscillators have: old samples say less about
/// now than new ones at least by this.
const WANDER_GOOD: f64 = 1e-9;
/// The same for an oscillator that bears changes of temperature badly: error bounds and poll intervals assume it.
const WANDER_POOR: f64 = 1e-8;

/// Variance of what such a random walk does to the offset in so many seconds, seconds².
fn wander_variance(wander: f64, seconds: f64) -> f64 {
    wander * wander * seconds.abs().powi(3) / 3.0
}

/// The geometric mean of mean and median, 0 without values: one datagram that was overtaken by others counts little, and
/// three that happen to be alike do not hide that the fourth was not. Sums of two exponential delays of mean 1 have mean
/// 2 and median 1.68, which makes 1.83.
fn typical(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let median = *values.select_nth_unstable_by(middle, f64::total_cmp).1;
    (mean * median).sqrt()
}

/// Standard errors of the estimate that the error bound contains: with few samples more, as their scatter may look
/// smaller than it is (the quantiles of Student's distribution grow about like this).
fn error_sigmas(samples: usize) -> f64 {
    let freedom = (samples as f64 - 2.0).max(1.0);
    3.0 + 12.0 / freedom
}

impl StoredSample {
    fn new(sample: &Sample, measured: NtpDuration, correction: &Correction) -> Self {
        let seconds = |duration: NtpDuration| duration.as_secs_f64().max(0.0);
        let delay = seconds(sample.delay);
        // The offset is the mean of what it was when the request was sent and when the response arrived; when a slew
        // began or ended in between, that is not its value in the middle.
        let sent = correction.at(sample.at.add_secs_f64(-delay / 2.0));
        let received = correction.at(sample.at.add_secs_f64(delay / 2.0));
        Self {
            at: sample.at,
            measured,
            reported: sample.offset,
            point: ClockPoint {
                free: sent.free.midpoint(received.free),
                correction: sent.correction.midpoint(received.correction),
            },
            // Our clock measured the round trip, with the slew in it.
            delay: (delay - (received.correction - sent.correction)).max(0.0),
            dispersion: seconds(sample.dispersion),
            root_delay: seconds(sample.root_delay),
            root_dispersion: seconds(sample.root_dispersion),
        }
    }
}
