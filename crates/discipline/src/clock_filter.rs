//! The clock filter of one source: its recent samples, for reports, and what the estimator makes of all of them.
//! RFC 5905 §10.
//!
//! Deviation: RFC 5905 keeps eight samples and believes the one with the shortest round trip. Here every sample
//! counts, each direction for itself; see [`crate::estimator`].

mod first_samples;
mod unsteadiness;

use first_samples::FREQUENCY_ERROR_PLAUSIBLE;
use unsteadiness::Unsteadiness;

use crate::correction::{ClockPoint, Correction};
use crate::estimator::bank::Moments;
use crate::estimator::saved::SavedEstimate;
use crate::estimator::{Estimator, Exchange, FrequencyPrior};
use crate::{Lever, Sample, SampleVerdict};
use chime_time::{MonoTime, NtpDuration};
use std::collections::VecDeque;

/// Samples kept of one source.
pub(crate) const SAMPLES_MAX: usize = 64;
/// Samples below which no estimate is believed.
pub(crate) const SAMPLES_MIN: usize = 3;

/// Samples in a row that contradict the estimate until it is given up for them.
const CONTRADICTIONS_MAX: usize = SAMPLES_MIN;
/// By how much the frequency of an oscillator may change from one sample to the next, s per s: a change of temperature.
const OSCILLATOR_CHANGE: f64 = 2e-6;
/// By how many standard deviations of the usual samples a sample may differ that no queue explains: delays are not quite
/// exponential.
const SCATTER_SIGMAS: f64 = 10.0;
/// While little is known, the error bound has room for so many times what the estimate differs from the newest sample by.
const RESIDUALS_POSSIBLE: f64 = 3.0;
/// Contradictions smaller than this are left to the estimator, seconds.
const CONTRADICTION_MARGIN: f64 = 5e-5;
/// Time stamps are uncertain by this share of the clock's precision: the standard deviation of what rounding to it does.
const PRECISION_SHARE: f64 = 0.25;
/// The two directions of a measurement that has none are one and the same: each is as uncertain as makes both together as
/// uncertain as the measurement. What [`crate::estimator`] adds as the shortest queue is allowed for.
const BOTH_WAYS: f64 = 1.26;
/// Standard errors of the estimate that the error bound contains.
const ERROR_SIGMAS: f64 = 5.0;

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
    /// What its time stamps are uncertain by beyond the precision of the clock.
    softness: f64,
    /// Standard error that an unsteady server gives it; 0 with any other.
    vagueness: f64,
    /// By how much it differed from what was expected, seconds.
    residual: f64,
    /// In seconds of the oscillator.
    lever: Lever,
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
    /// Random walk of the frequency, squared, (s per s)² in each second.
    pub(crate) wander_square: f64,
    /// Standard deviation of the samples.
    pub(crate) standard_deviation: f64,
    /// By how much samples contradict the estimate again and again.
    pub(crate) unrest: f64,
    /// Samples in memory.
    pub(crate) samples: usize,
    /// Those of them that are shown, runs of their residuals, time between oldest and newest.
    pub(crate) shown: usize,
    pub(crate) runs: usize,
    pub(crate) span: f64,
    /// Round trip to the primary source.
    pub(crate) root_delay: f64,
    /// Error bound without half of that.
    pub(crate) root_dispersion: f64,
    /// What the error bound lacks if not the estimate is right but the newest samples, which contradict it.
    pub(crate) doubt: f64,
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
}

impl From<FrequencyBelief> for FrequencyPrior {
    fn from(belief: FrequencyBelief) -> Self {
        Self { frequency: belief.frequency, variance: belief.skew * belief.skew }
    }
}

/// The estimator, with the value that its offsets are relative to: those of a clock that nobody has set yet are too large
/// for it.
#[derive(Clone, Debug)]
struct Tracking {
    estimator: Estimator,
    anchor: NtpDuration,
}

/// How often samples contradicted what was expected. One jump, which so many contradict until it is believed, is none; a
/// source that jumps to and fro is not to be followed from one place to the next.
#[derive(Clone, Copy, Debug, Default)]
struct Unrest {
    /// Contradictions, less the samples that were none.
    count: usize,
    /// The largest of them, seconds.
    size: f64,
}

impl Unrest {
    /// Counts from here on are as good as any: a source that was restless for long is believed after so many good samples.
    const COUNT_MAX: usize = 4 * CONTRADICTIONS_MAX;

    fn note(&mut self, contradiction: Option<f64>) {
        match contradiction {
            Some(by) => {
                *self = Self { count: (self.count + 1).min(Self::COUNT_MAX), size: self.size.max(by.abs()) }
            }
            None if self.count <= 1 => *self = Self::default(),
            None => self.count -= 1,
        }
    }

    fn seconds(self) -> f64 {
        if self.count > CONTRADICTIONS_MAX { self.size } else { 0.0 }
    }
}

/// The samples of one source.
#[derive(Clone, Debug)]
pub(crate) struct ClockFilter {
    samples: VecDeque<StoredSample>,
    /// Samples that contradict the estimate, the newest ones of all.
    contradictions: Vec<StoredSample>,
    /// First samples that were on no line with others, and are forgotten.
    strays: usize,
    unrest: Unrest,
    unsteadiness: Unsteadiness,
    tracking: Option<Tracking>,
    /// Samples that are to count; 64 and more: all.
    samples_max: usize,
}

impl Default for ClockFilter {
    fn default() -> Self {
        Self {
            samples: VecDeque::new(),
            contradictions: Vec::new(),
            strays: 0,
            unrest: Unrest::default(),
            unsteadiness: Unsteadiness::default(),
            tracking: None,
            samples_max: SAMPLES_MAX,
        }
    }
}

/// By how much less the older samples count with each new one, so that in the long run all weigh as much as `samples` do: the
/// weights 1, 1 − 1/n, (1 − 1/n)², … sum up to n.
fn fading(samples: usize) -> f64 {
    if samples >= SAMPLES_MAX {
        return 1.0;
    }
    let samples = samples.max(SAMPLES_MIN) as f64;
    samples / (samples - 1.0)
}

impl ClockFilter {
    /// Has so many samples count from now on; 0: all.
    pub(crate) fn limit(&mut self, samples_max: u32) {
        let limit = usize::try_from(samples_max).ok().filter(|limit| (1..SAMPLES_MAX).contains(limit));
        self.samples_max = limit.unwrap_or(SAMPLES_MAX);
    }

    /// By how much less the older samples count with each new one.
    pub(crate) fn fading(&self) -> f64 {
        fading(self.samples_max)
    }

    /// The samples that are shown: never more than count.
    fn shown(&self) -> impl DoubleEndedIterator<Item = &StoredSample> + ExactSizeIterator + Clone {
        self.samples.range(self.samples.len().saturating_sub(self.samples_max)..)
    }

    /// Stores a sample and renews the estimate. `floor`: precision of the clock, seconds. `belief`: what is known about the
    /// frequency without this source; counts with the first sample only.
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
        let mut sample = StoredSample::new(sample, measured, correction);
        self.unsteadiness.judge(&mut sample);
        if self.is_young() {
            let leap = self.leap_to(&sample, belief);
            let agrees = self.add_first(sample, floor, belief);
            self.unrest.note((!agrees).then_some(leap));
            return SampleVerdict::Stored;
        }
        let contradicts = self.contradicts(&sample);
        let residual = self.tracking.as_ref().map_or(0.0, |tracking| tracking.residual(&sample));
        self.unrest.note(contradicts.then_some(residual));
        if contradicts {
            self.contradictions.push(sample);
            if self.is_frequency_jump() {
                self.take_contradictions(floor, belief);
                return SampleVerdict::Stored;
            }
            if self.contradictions.len() < CONTRADICTIONS_MAX {
                return SampleVerdict::Stored;
            }
            // Now it is the estimate that is wrong: somebody stepped a clock, or the path changed.
            self.samples.clear();
            let belief = self.tracking.take().map_or(belief, |tracking| tracking.belief());
            for sample in std::mem::take(&mut self.contradictions) {
                self.add_first(sample, floor, belief);
            }
        } else {
            self.contradictions.clear();
            self.take(sample, floor, belief);
        }
        SampleVerdict::Stored
    }

    /// Believes the samples that were held back.
    fn take_contradictions(&mut self, floor: f64, belief: FrequencyBelief) {
        for sample in std::mem::take(&mut self.contradictions) {
            self.take(sample, floor, belief);
        }
    }

    fn take(&mut self, mut sample: StoredSample, floor: f64, belief: FrequencyBelief) {
        match &mut self.tracking {
            Some(tracking) => {
                sample.residual = tracking.residual(&sample);
                tracking.estimator.add(sample.exchange(tracking.anchor, floor), fading(self.samples_max));
            }
            None => {
                let anchor = sample.measured;
                let estimator = Estimator::new(sample.exchange(anchor, floor), belief.into());
                self.tracking = Some(Tracking { estimator, anchor });
            }
        }
        while self.samples.len() >= self.samples_max.clamp(SAMPLES_MIN, SAMPLES_MAX) {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Whether a sample cannot be true if the estimate is: its value lies outside of what queues and routes leave possible, by
    /// more than estimate and oscillator are uncertain.
    fn contradicts(&self, sample: &StoredSample) -> bool {
        let Some(tracking) = &self.tracking else { return false };
        let elapsed = sample.point.free - tracking.estimator.point().free;
        let uncertainty = ERROR_SIGMAS * tracking.estimator.moments().offset_variance_after(elapsed).sqrt()
            + elapsed.abs() * OSCILLATOR_CHANGE
            + CONTRADICTION_MARGIN;
        let explained = tracking.explicable(sample) + sample.dispersion + sample.unsteady();
        tracking.surprise(sample).abs() > explained + uncertainty
    }

    /// Whether the oscillator explains all contradictions: its frequency jumped after the last sample that was none. Unlike a
    /// clock that was stepped, it moves on and on: by as much as that takes for the first one, if it began before it.
    fn is_frequency_jump(&self) -> bool {
        let (Some(tracking), [first, .., newest]) = (&self.tracking, &self.contradictions[..]) else {
            return false;
        };
        let (wrong, more) = (tracking.surprise(first), tracking.surprise(newest) - tracking.surprise(first));
        let noise = tracking.explicable(first).max(tracking.explicable(newest));
        let free = |sample: &StoredSample| sample.point.free;
        let before = free(first) - tracking.estimator.point().free;
        let possible = (more.abs() + noise) * before / (free(newest) - free(first)) + noise;
        // A server that jumps to and fro is no oscillator.
        let plausible = FREQUENCY_ERROR_PLAUSIBLE * (free(newest) - free(first)) + noise;
        more * wrong > 0.0
            && more.abs() <= plausible
            && more.abs() > noise + first.dispersion + newest.dispersion
            && wrong.abs() <= possible
    }

    /// By how much further than the error bound the newest contradiction says that true time may lie, seconds; 0 without one.
    fn doubt(&self) -> f64 {
        let (Some(tracking), Some(sample)) = (&self.tracking, self.contradictions.last()) else { return 0.0 };
        tracking.surprise(sample).abs() + tracking.queued(sample).max(0.0)
    }

    /// What is known at `now`; `clock` is the correction at that time. `None` without samples.
    pub(crate) fn estimate(&self, now: MonoTime, clock: ClockPoint, drift: f64) -> Option<FilterEstimate> {
        let (tracking, newest) = (self.tracking.as_ref()?, self.samples.back()?);
        let moments = tracking.estimator.moments();
        let elapsed = clock.free - tracking.estimator.point().free;
        let offset_error = moments.offset_variance_after(elapsed).sqrt();
        let age = now.seconds_since(newest.at).max(0.0);
        let base = tracking.estimator.path().base.0.max(0.0);
        Some(FilterEstimate {
            offset: tracking.offset(clock),
            offset_error,
            frequency: moments.frequency,
            skew: moments.frequency_variance.sqrt(),
            wander_square: moments.wander_square,
            standard_deviation: tracking.estimator.offset_deviation(),
            unrest: self.unrest.seconds().max(self.unsteadiness.seconds()),
            samples: self.samples.len(),
            shown: self.shown().len(),
            runs: self.runs(),
            span: newest.at.seconds_since(self.shown().next()?.at),
            // Of a round trip without queues up to a half may be in the offset.
            root_delay: newest.root_delay + 2.0 * base,
            root_dispersion: newest.root_dispersion
                + newest.dispersion
                + tracking.error_bound(newest, &moments, elapsed, self.samples.len())
                + age * drift,
            doubt: self.doubt(),
        })
    }

    /// The last sample as reports show it.
    pub(crate) fn last_sample(&self, now: MonoTime, clock: ClockPoint) -> Option<LastSample> {
        let last = self.last()?;
        Some(LastSample {
            age: now.seconds_since(last.at).max(0.0),
            measured: last.reported.as_secs_f64(),
            adjusted: last.measured.as_secs_f64() - (clock.correction - last.point.correction),
            delay: last.delay.max(0.0),
            error: (last.root_delay + last.delay.max(0.0)) / 2.0 + last.root_dispersion + last.dispersion,
        })
    }

    /// Time between the last two samples, seconds.
    pub(crate) fn interval(&self) -> Option<f64> {
        let newest = self.samples.len().checked_sub(2)?;
        Some(self.samples[newest + 1].at.seconds_since(self.samples[newest].at))
    }

    /// When the newest sample was taken.
    pub(crate) fn newest_at(&self) -> Option<MonoTime> {
        self.last().map(|sample| sample.at)
    }

    /// When the oldest sample that is kept was taken.
    pub(crate) fn oldest_at(&self) -> Option<MonoTime> {
        self.samples.front().map(|sample| sample.at)
    }

    fn last(&self) -> Option<&StoredSample> {
        self.contradictions.last().or(self.samples.back())
    }

    /// Whether the newest samples contradict the others.
    pub(crate) const fn is_contradicted(&self) -> bool {
        !self.contradictions.is_empty()
    }

    /// Number of samples in memory.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Runs of residuals with the same sign.
    fn runs(&self) -> usize {
        let signs = self.shown().map(|sample| sample.residual > 0.0);
        let changes = signs.clone().zip(signs.skip(1)).filter(|(a, b)| a != b).count();
        if self.samples.is_empty() { 0 } else { changes + 1 }
    }

    /// The estimator, once there is a sample.
    pub(crate) fn estimator(&self) -> Option<&Estimator> {
        self.tracking.as_ref().map(|tracking| &tracking.estimator)
    }

    /// What the offsets of the estimator are relative to, seconds.
    pub(crate) fn anchor(&self) -> f64 {
        self.tracking.as_ref().map_or(0.0, |tracking| tracking.anchor.as_secs_f64())
    }

    /// The newest sample as the estimator saw it; `None` while it is held back.
    pub(crate) fn newest_exchange(&self) -> Option<Exchange> {
        let (tracking, newest) = (self.tracking.as_ref()?, self.samples.back()?);
        let floor = tracking.estimator.floor() / PRECISION_SHARE;
        self.contradictions.is_empty().then(|| newest.exchange(tracking.anchor, floor))
    }

    /// What is known beyond the samples that are kept, for the next run.
    pub(crate) fn saved_estimate(&self) -> Option<SavedEstimate> {
        let tracking = self.tracking.as_ref().filter(|_| self.contradictions.is_empty())?;
        tracking.estimator.saved()
    }

    /// Takes what an earlier run knew when it had the same newest sample; whether that can be true.
    pub(crate) fn restore_estimate(&mut self, saved: &SavedEstimate) -> bool {
        let is_contradicted = self.is_contradicted();
        let Some(tracking) = self.tracking.as_mut().filter(|_| !is_contradicted) else { return false };
        let Some(restored) = tracking.estimator.restored(saved) else { return false };
        tracking.estimator = restored;
        true
    }

    /// The clock was stepped forward by `by`: every offset is smaller by that.
    pub(crate) fn step(&mut self, by: NtpDuration) {
        for sample in self.samples.iter_mut().chain(&mut self.contradictions) {
            sample.measured -= by;
        }
        self.unsteadiness.step(by);
        if let Some(tracking) = &mut self.tracking {
            tracking.anchor -= by;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self { samples_max: self.samples_max, ..Self::default() };
    }
}

impl Tracking {
    /// The estimate of the offset when the clock is at `clock`, seconds.
    fn offset(&self, clock: ClockPoint) -> f64 {
        self.anchor.as_secs_f64() + self.relative(clock)
    }

    fn relative(&self, clock: ClockPoint) -> f64 {
        let ((offset, frequency), from) = (self.estimator.line(), self.estimator.point());
        offset + frequency * (clock.free - from.free) - (clock.correction - from.correction)
    }

    /// By how much a sample differs from what is expected, seconds.
    fn residual(&self, sample: &StoredSample) -> f64 {
        (sample.measured - self.anchor).as_secs_f64() - self.relative(sample.point)
    }

    /// How wrong the estimate may be beside half of the shortest round trip, `elapsed` seconds of the oscillator after the last
    /// exchange, in seconds.
    fn error_bound(&self, newest: &StoredSample, moments: &Moments, elapsed: f64, samples: usize) -> f64 {
        let (sigmas, error) = (error_sigmas(samples), moments.offset_variance_after(elapsed).sqrt());
        // One exchange alone may be the slowest of all: others are worth waiting for.
        if samples < 2 {
            return sigmas * error;
        }
        let error = error.hypot(self.estimator.tail_error(moments));
        if self.estimator.is_settled() || newest.softness > 0.0 {
            return sigmas * error;
        }
        // While little is known about queues: whatever they did to it, the newest exchange is not wrong by more than half of its
        // round trip. An estimate that is far from it is not worth much.
        let since =
            Moments { offset_variance: 0.0, covariance: 0.0, ..*moments }.offset_variance_after(elapsed);
        let possible = RESIDUALS_POSSIBLE * self.residual(newest).abs() + self.queued(newest).max(0.0);
        (sigmas * error).min(possible + sigmas * since.sqrt())
    }

    /// By how much a sample differs from what is expected of this path, seconds.
    fn surprise(&self, sample: &StoredSample) -> f64 {
        self.residual(sample) - self.estimator.path().asymmetry.0
    }

    /// Round trip of a sample, by what is known of the frequency, seconds.
    fn delay(&self, sample: &StoredSample) -> f64 {
        (sample.delay + sample.lever.change(self.estimator.line().1)).max(0.0)
    }

    /// By how much half the round trip was longer than the base delay, seconds; negative when it was shorter.
    fn queued(&self, sample: &StoredSample) -> f64 {
        self.delay(sample) / 2.0 - self.estimator.path().base.0
    }

    /// How wrong queues and a change of the route can have made a sample, seconds. Half of the round trip at most; where the
    /// path is known, not more than the round trip has changed, as nothing makes one way longer and the other one shorter by
    /// the same.
    fn explicable(&self, sample: &StoredSample) -> f64 {
        let half = self.delay(sample) / 2.0;
        if !self.estimator.is_settled() {
            return half;
        }
        let path = self.estimator.path();
        let unknown = ERROR_SIGMAS * (path.base.1 + path.asymmetry.1).max(0.0).sqrt();
        (self.queued(sample).abs() + unknown + SCATTER_SIGMAS * self.estimator.offset_deviation()).min(half)
    }

    /// What it knows about the frequency, for one that starts again.
    fn belief(&self) -> FrequencyBelief {
        let moments = self.estimator.moments();
        let skew = moments.frequency_variance.sqrt().max(OSCILLATOR_CHANGE);
        FrequencyBelief { frequency: moments.frequency, skew }
    }
}

/// Standard errors of the estimate that the error bound contains: with few samples more, as their scatter may look
/// smaller than it is.
fn error_sigmas(samples: usize) -> f64 {
    let freedom = (samples as f64 - 2.0).max(1.0);
    ERROR_SIGMAS + 10.0 / (freedom * freedom)
}

impl StoredSample {
    fn new(sample: &Sample, measured: NtpDuration, correction: &Correction) -> Self {
        let seconds = |duration: NtpDuration| duration.as_secs_f64().max(0.0);
        let around =
            |seconds: f64| [-0.5, 0.5].map(|share| correction.at(sample.at.add_secs_f64(share * seconds)));
        let lever = sample.lever;
        let is_round_trip = lever.seconds == 0.0;
        let delay = if is_round_trip { seconds(sample.delay) } else { sample.delay.as_secs_f64() };
        // The offset is the mean of what it was when the request was sent and when the response arrived; when a slew
        // began or ended in between, that is not its value in the middle. Where the two are apart, slews are taken out already.
        let [sent, received] = around(if is_round_trip { delay } else { 0.0 });
        let [first, last] = around(lever.seconds);
        let slewed = delay - (received.correction - sent.correction);
        Self {
            at: sample.at,
            measured,
            reported: sample.offset,
            point: ClockPoint {
                free: sent.free.midpoint(received.free),
                correction: sent.correction.midpoint(received.correction),
            },
            // Our clock measured the round trip, with the slew in it.
            delay: if is_round_trip { slewed.max(0.0) } else { delay },
            dispersion: seconds(sample.dispersion),
            root_delay: seconds(sample.root_delay),
            root_dispersion: seconds(sample.root_dispersion),
            softness: BOTH_WAYS
                * if sample.standard_error.is_finite() { sample.standard_error.max(0.0) } else { 0.0 },
            vagueness: 0.0,
            residual: 0.0,
            lever: Lever { seconds: last.free - first.free, ..lever },
        }
    }

    /// As the estimator sees it, relative to `anchor`. `floor`: precision of the clock, seconds; samples that bring their
    /// standard error along were found to be better or worse than that.
    fn exchange(&self, anchor: NtpDuration, floor: f64) -> Exchange {
        Exchange {
            point: self.point,
            offset: (self.measured - anchor).as_secs_f64(),
            delay: self.delay,
            lever: self.lever,
            floor: if self.softness > 0.0 { self.softness } else { floor * PRECISION_SHARE }
                .max(self.vague_floor()),
        }
    }
}
