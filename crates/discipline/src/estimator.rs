//! What the exchanges with one source say about our clock: offset and frequency, and how sure that is.
//!
//! Each exchange is *two* measurements, one for each direction, of delays that cannot be negative: the request's is
//! base + queue + offset, the answer's base + queue − offset. The shortest ones of each direction confine the clock far
//! better than the mean of all offsets does, and better the more there are (by 1/n rather than by 1/√n). The base delays
//! are states like offset and frequency, so that queues on one direction only need no special case.
//!
//! - [`truncated`]: one delay; exponential queues make it a Kalman filter with closed formulas.
//! - [`gaussian`]: the states of one filter, in factors that stay sound.
//! - [`bank`]: eleven filters that differ in how much the oscillator wanders.
//! - Here: four banks that differ in how sharp the edge of the delays is, one of which is believed; the mean delays; the
//!   start; changes of the path.
//! - [`correlation`]: slow queues, in which exchanges are no independent witnesses.
//! - [`saved`]: what is written down for the next run.
//!
//! docs/estimator.md has the derivation, what else was tried, and the figures.

pub(crate) mod bank;
mod correlation;
mod gaussian;
pub(crate) mod joint;
mod rise;
pub(crate) mod saved;
mod scatter;
mod truncated;

use crate::Lever;
use crate::correction::ClockPoint;
use bank::{Bank, FREQUENCY, Leg, Moments, Outcome, Queues};
use correlation::Correlation;
use gaussian::Gaussian;
use rise::Rise;

/// Exchanges with which the filters are begun anew each time: the first ones say what the delays are like.
const START_EXCHANGES: usize = 8;
/// How often the first exchanges are taken over again where what their delays are depends on the frequency: more changes nothing.
const APART_PASSES: usize = 2;
/// Exchanges whose excess delay is more than so many typical ones do not count at the start.
const START_EXCESS_MAX: f64 = 12.0;
/// Exchanges whose time stamps are this many times as uncertain as others' say nothing about what these are like.
const VAGUENESS_MAX: f64 = 12.0;
/// The mean queueing delay is not believed to be less than this share of the shortest delay after so many exchanges, one,
/// two, …: so few may be alike by chance, and what is known about frequency and offset is sharper the shorter the queues.
const START_JITTER_MIN: [f64; 4] = [0.1, 0.25, 0.25, 0.25];
/// But the longer the path, the less it says about queues: it does not count where it would take less than this probability
/// for the delays to be so much alike.
const ALIKE_BY_CHANCE: f64 = 1e-3;
/// The softness of an edge, as a share of the mean queueing delay: from exponential to nearly normal.
const SOFTNESS: [f64; 4] = [0.0, 0.15, 0.5, 2.0];
/// Natural logarithm of what is believed of each softness beforehand.
const SOFTNESS_PRIOR: [f64; 4] = [0.0, -5.0, -7.0, -10.0];
/// Share of the evidence for a softness that is left after another exchange.
const EVIDENCE_KEPT: f64 = 0.999;
/// Evidence against a softness never counts more than this, so that it can come back.
const EVIDENCE_MIN: f64 = -40.0;
/// Advantage that another softness must have before it is believed.
const HYSTERESIS: f64 = 3.0;
/// Exchanges over which mean queueing delays are averaged.
const JITTER_MEMORY: f64 = 100.0;
/// Until there are so many, the newest ones count by this multiple of a plain mean: the first ones are taken for alike in
/// both directions, which they may not be.
const JITTER_HASTE: f64 = 2.5;
/// An excess counts at most as so many mean ones: a burst is not the mean.
const JITTER_CLIP: f64 = 6.0;
/// Excess delays of one way tell its correlation while their mean is less than the other's divided by this.
const OWN_WAY: f64 = 2.0;
/// Exchanges for which the shortest delays are remembered.
const BASE_MEMORY: f64 = 1000.0;
/// A mean queueing delay is not believed to be less than this, seconds.
const JITTER_MIN: f64 = 2e-9;
/// Beyond its uncertainty a base delay sinks by this multiple of the mean queueing delay before the path is said to have
/// changed; and by the second divided by the number of exchanges, as a few may all have had long queues.
const DROP_MARGIN: (f64, f64) = (1.0, 20.0);
/// Beyond its uncertainty all round trips must be longer than the base delay by this multiple of the mean queueing delay
/// before the path may have become longer.
const RISE_MARGIN: f64 = 4.0;
/// Standard errors of the base delay that are no change of the path.
const CHANGE_SIGMAS: f64 = 6.0;
/// Uncertainty of base and asymmetry after a change of the path, as a multiple of the change.
const CHANGE_SPREAD: f64 = 1.5;
/// Standard errors of the belief about the frequency beyond which the first exchanges overrule it.
const BELIEF_SIGMAS: f64 = 5.0;

/// A round trip that was timed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Exchange {
    /// The clock in the middle of it.
    pub(crate) point: ClockPoint,
    /// Remote minus local, relative to a fixed value; positive: our clock is behind; seconds.
    pub(crate) offset: f64,
    /// Round trip, seconds.
    pub(crate) delay: f64,
    /// What a single time stamp is uncertain by, seconds.
    pub(crate) floor: f64,
    /// What the frequency does to the delay.
    pub(crate) lever: Lever,
}

impl Exchange {
    /// The same with the delay that it has when the oscillator lacks this frequency.
    const fn assuming(self, frequency: f64) -> Self {
        let delay = self.delay + self.lever.change(frequency);
        Self { delay, lever: Lever { frequency, ..self.lever }, ..self }
    }

    /// Its two directions, as measurements of the states, with source number `source`; and that base delays are not negative.
    fn legs<const N: usize>(&self, source: usize, queues: (Queues, Queues)) -> [Leg<N>; 4] {
        // T2 − T1 and T4 − T3 by a clock that lacks nothing; the frequency is a state.
        let Self { offset, lever, .. } = *self;
        let half = self.assuming(0.0).delay / 2.0;
        [
            Leg::forward(source, half + offset, queues.0).apart(lever.seconds / 2.0),
            Leg::backward(source, half - offset, queues.1).apart(lever.seconds / 2.0),
            Leg::not_negative(source, 1.0),
            Leg::not_negative(source, -1.0),
        ]
    }
}

/// What is believed about the frequency before the first exchange.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct FrequencyPrior {
    /// Frequency that the oscillator lacks, s per s.
    pub(crate) frequency: f64,
    /// Its variance.
    pub(crate) variance: f64,
}

/// Mean queueing delays, seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Jitter {
    forward: f64,
    backward: f64,
}

/// The bank of one softness.
#[derive(Clone, Debug)]
struct Variant {
    bank: Bank<4>,
    jitter: Jitter,
    /// Evidence, not more than 0.
    score: f64,
}

/// The properties of a path that a filter over several sources needs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct PathBelief {
    /// Expected base delay on one way and its variance; seconds, seconds².
    pub(crate) base: (f64, f64),
    /// The same of the asymmetry.
    pub(crate) asymmetry: (f64, f64),
    /// There and back.
    pub(crate) queues: (Queues, Queues),
    /// Variance that the last exchange added to base and asymmetry, as the path had changed.
    pub(crate) changed: f64,
}

/// The estimator of one source.
#[derive(Clone, Debug)]
pub(crate) struct Estimator {
    variants: [Variant; SOFTNESS.len()],
    chosen: usize,
    /// The first exchanges, until there are enough of them.
    start: Vec<Exchange>,
    prior: FrequencyPrior,
    last: Exchange,
    count: u64,
    correlation: Correlation,
    /// The same of the excess delays there and back.
    ways: [Correlation; 2],
    /// The newest exchanges, while all of them were slower than any before.
    rise: Option<Rise>,
    changed: f64,
}

impl Estimator {
    /// Starts with one exchange.
    pub(crate) fn new(exchange: Exchange, prior: FrequencyPrior) -> Self {
        let belief = Gaussian::independent(&[(0.0, 0.0)]);
        let variant = Variant {
            bank: Bank::new(belief),
            jitter: Jitter { forward: JITTER_MIN, backward: JITTER_MIN },
            score: 0.0,
        };
        let mut this = Self {
            variants: std::array::from_fn(|_| variant.clone()),
            chosen: 0,
            start: vec![exchange],
            prior,
            last: exchange,
            count: 1,
            correlation: Correlation::default(),
            ways: [Correlation::default(); 2],
            rise: None,
            changed: 0.0,
        };
        this.begin();
        this
    }

    /// Takes over an exchange; what is known already counts `fading` times less.
    pub(crate) fn add(&mut self, exchange: Exchange, fading: f64) {
        self.count += 1;
        self.changed = 0.0;
        if self.start.len() < START_EXCHANGES && !self.start.is_empty() {
            self.start.push(exchange);
            self.begin();
        } else {
            self.start.clear();
            let exchange = exchange.assuming(self.line().1);
            let correlation = self.correlation;
            self.correlation.add(exchange.delay);
            self.variants.iter_mut().for_each(|variant| variant.bank.fade(fading));
            self.watch(exchange, correlation);
            self.process(exchange);
        }
        if !self.variants.iter().all(|variant| variant.bank.is_sound()) {
            *self = Self::new(exchange, self.prior);
        }
    }

    /// Begins with what all exchanges so far say about the delays, and takes them over again.
    fn begin(&mut self) {
        let (all, ways) = (std::mem::take(&mut self.start), self.ways);
        self.begin_with(&all, (self.prior.frequency, self.prior.variance));
        let is_apart = all.iter().any(|exchange| exchange.lever.seconds != 0.0);
        for _ in 0..if is_apart { APART_PASSES } else { 0 } {
            // The delays are known when the frequency is, and that is what the offsets tell.
            let moments = self.moments();
            self.ways = ways;
            self.begin_with(&all, (moments.frequency, moments.frequency_variance));
        }
        self.start = all;
    }

    /// The same with delays as they are with this frequency, of which the variance is known.
    fn begin_with(&mut self, all: &[Exchange], (frequency, variance): (f64, f64)) {
        let all: Vec<Exchange> = all.iter().map(|exchange| exchange.assuming(frequency)).collect();
        self.correlation = Correlation::default();
        all.iter().for_each(|exchange| self.correlation.add(exchange.delay));
        let sharpest = all.iter().map(|exchange| exchange.floor).fold(f64::INFINITY, f64::min);
        let is_sharp = |exchange: &&Exchange| exchange.floor <= VAGUENESS_MAX * sharpest;
        let sharp: Vec<Exchange> = all.iter().filter(is_sharp).copied().collect();
        // A few of many are a mishap; where most are vague, they know the frequency that the few cannot tell.
        let start = if 2 * sharp.len() > all.len() { sharp } else { all };
        let count = start.len() as f64;
        let floor = start.iter().map(|exchange| exchange.floor).fold(0.0, f64::max);
        let delays = start.iter().map(|exchange| exchange.delay);
        let shortest = delays.fold(f64::INFINITY, f64::min).max(0.0) / 2.0;
        let lever = start.iter().map(|exchange| exchange.lever.seconds.abs() / 2.0).fold(0.0, f64::max);
        let unknown_delay = lever * lever * variance;
        let mean = start.iter().map(|exchange| exchange.delay).sum::<f64>() / count / 2.0;
        // The shortest of n is about mean/n above the base; a few say little about how much that is.
        let unknown = START_JITTER_MIN.get(start.len() - 1).map_or(0.0, |share| share * shortest);
        let unknown = unknown.min(largest_mean(&start, shortest));
        let typical = typical_excess(&start, shortest, mean);
        let jitter = (typical * count / (count - 0.6)).max(unknown).max(jitter_min(floor));
        // The base is not far below the shortest delay, and never negative.
        let margin = (0.9 * jitter / count.sqrt()).min(shortest / 2.0);
        // What was far slower than that says nothing about the clock, but would be taken to do so while the clock may be
        // anything: the tail is believed to be short.
        let excess = |exchange: &Exchange| exchange.delay / 2.0 - shortest;
        let kept: Vec<Exchange> =
            start.iter().filter(|exchange| excess(exchange) <= START_EXCESS_MAX * jitter).copied().collect();
        let unsteady = scatter::unexplained(&kept, shortest, jitter);
        let first = kept[0];
        let own_excess = excess(&first).max(0.0);
        let offset_error = (4.0 * jitter + own_excess / 2.0).hypot(unsteady);
        let states = [
            (first.offset, offset_error * offset_error),
            (self.prior.frequency, self.frequency_variance(&kept, offset_error)),
            (shortest - margin, (0.7 * margin).powi(2) + unknown_delay),
            (0.0, 0.0),
        ];
        let bank = Bank::new(Gaussian::independent(&states));
        for variant in &mut self.variants {
            variant.bank = bank.clone();
            variant.jitter = Jitter { forward: jitter, backward: jitter };
            variant.score = 0.0;
        }
        self.chosen = 0;
        self.last = first;
        // One exchange alone is what the states were made of.
        if kept.len() > 1 {
            let vague = |exchange: &Exchange| Exchange { floor: exchange.floor.hypot(unsteady), ..*exchange };
            kept.iter().for_each(|exchange| self.process(vague(exchange)));
        }
    }

    /// That of the belief, or more when the first exchanges contradict it.
    fn frequency_variance(&self, start: &[Exchange], offset_error: f64) -> f64 {
        let (first, last) = (start[0], start[start.len() - 1]);
        let elapsed = last.point.free - first.point.free;
        if elapsed <= 0.0 {
            return self.prior.variance;
        }
        let moved = last.offset + last.point.correction - first.offset - first.point.correction;
        let difference = (moved / elapsed - self.prior.frequency).abs();
        let error = BELIEF_SIGMAS * (self.prior.variance.sqrt() + 2.0 * offset_error / elapsed);
        if difference > error {
            self.prior.variance.max(difference * difference)
        } else {
            self.prior.variance
        }
    }

    /// What the time stamps of the last exchange are uncertain by, seconds.
    pub(crate) const fn floor(&self) -> f64 {
        self.last.floor
    }

    /// One exchange through all banks.
    fn process(&mut self, exchange: Exchange) {
        let elapsed = exchange.point.free - self.last.point.free;
        let corrected = exchange.point.correction - self.last.point.correction;
        self.last = exchange;
        let shares = self.shares();
        let weight = self.jitter_weight();
        let floor = exchange.floor;
        let jitter_min = jitter_min(floor);
        let mut excess = [0.0; 2];
        let chosen = self.chosen;
        for ((number, variant), softness) in self.variants.iter_mut().enumerate().zip(SOFTNESS) {
            variant.advance(elapsed, corrected, self.changed);
            let outcome = variant.observe(exchange, variant.queues(softness, floor, shares));
            if number == chosen {
                excess = outcome.excess;
            }
            if jitter_min <= VAGUENESS_MAX * variant.jitter.mean() {
                variant.learn(outcome.excess, weight, jitter_min);
            }
        }
        for (way, excess) in self.ways.iter_mut().zip(excess) {
            way.add(excess);
        }
        self.choose();
    }

    /// Share of an exchange's evidence that is its own, there and back. Round trips tell it for both, and do not depend on any
    /// clock. A way whose queues are much the shorter ones is no part of that: its own excess delays tell.
    fn shares(&self) -> (f64, f64) {
        let share = self.correlation.share();
        let Jitter { forward, backward } = self.variants[self.chosen].jitter;
        let of = |own: f64, other: f64, way: &Correlation| {
            let apart = (1.0 - OWN_WAY * own / other).max(0.0);
            share + apart * (way.share() - share).max(0.0)
        };
        (of(forward, backward, &self.ways[0]), of(backward, forward, &self.ways[1]))
    }

    /// Looks for a change of the path: base and asymmetry are uncertain then. No error of any clock can make a round trip
    /// shorter: when it is, the path is. When it is longer, that may be a queue, but not forever. `correlation` is the one
    /// without this exchange.
    fn watch(&mut self, exchange: Exchange, correlation: Correlation) {
        if self.count <= START_EXCHANGES as u64 {
            return;
        }
        let variant = &self.variants[self.chosen];
        let (base, error) = variant.base(exchange.lever);
        let jitter = variant.jitter.mean();
        let softness = variant.softness(SOFTNESS[self.chosen], self.floor());
        let uncertain = CHANGE_SIGMAS * (error + softness.0.max(softness.1).sqrt());
        let queues = (DROP_MARGIN.0 + DROP_MARGIN.1 / self.count as f64) * jitter;
        let delay = exchange.delay / 2.0;
        let drop = base - delay;
        if drop > uncertain + queues {
            (self.rise, self.changed) = (None, (CHANGE_SPREAD * drop).powi(2));
            return;
        }
        let margin = uncertain / 2.0 + RISE_MARGIN * jitter;
        let goes_on = self.rise.take().filter(|rise| rise.is_slow(delay));
        let begun = || (-drop > margin).then(|| Rise::new(base, margin, self.jitters(), correlation));
        let Some(mut rise) = goes_on.or_else(begun) else { return };
        rise.add(delay);
        match rise.by() {
            Some(by) => self.rise_by(by, &rise),
            None => self.rise = Some(rise),
        }
    }

    /// The path became longer, by so many seconds on each way: all is as it was before, but for the base delays.
    fn rise_by(&mut self, by: f64, rise: &Rise) {
        self.changed = (CHANGE_SPREAD * by).powi(2);
        self.correlation = rise.correlation();
        for (variant, jitter) in self.variants.iter_mut().zip(rise.jitters()) {
            variant.jitter = jitter;
        }
    }

    fn jitters(&self) -> [Jitter; SOFTNESS.len()] {
        std::array::from_fn(|index| self.variants[index].jitter)
    }

    /// Believes in the softness for which there is most evidence.
    fn choose(&mut self) {
        let best = self.variants.iter().map(|variant| variant.score).fold(f64::NEG_INFINITY, f64::max);
        for variant in &mut self.variants {
            variant.score = (variant.score - best).max(EVIDENCE_MIN);
        }
        let total = |index: usize| self.variants[index].score + SOFTNESS_PRIOR[index];
        let best = (0..SOFTNESS.len()).max_by(|&a, &b| total(a).total_cmp(&total(b))).unwrap_or(0);
        if total(best) > total(self.chosen) + HYSTERESIS {
            self.chosen = best;
        }
    }

    /// What is known about the clock at the last exchange.
    pub(crate) fn moments(&self) -> Moments {
        self.bank().moments()
    }

    /// Offset at the last exchange and frequency alone, without what their uncertainty costs to compute.
    pub(crate) fn line(&self) -> (f64, f64) {
        let bank = self.bank();
        (bank.mean(bank::OFFSET), bank.mean(bank::FREQUENCY))
    }

    /// The clock at the last exchange.
    pub(crate) const fn point(&self) -> ClockPoint {
        self.last.point
    }

    /// Whether the first exchanges are over.
    pub(crate) const fn is_settled(&self) -> bool {
        self.count > START_EXCHANGES as u64
    }

    /// Mean queueing delay on one way, seconds, of the way with the shorter queues, and less the more they differ: one way
    /// without queues is enough for an accurate clock, but only frequent samples can show that it has none.
    pub(crate) fn sharper_jitter(&self) -> f64 {
        let Jitter { forward, backward } = self.variants[self.chosen].jitter;
        let (short, long) = (forward.min(backward), forward.max(backward));
        // Small differences are chance.
        let ratio = (1.25 * short / long).min(1.0);
        (f64::midpoint(forward, backward) * ratio * ratio).max(jitter_min(self.last.floor))
    }

    /// Standard deviation that queues give to offsets, seconds.
    pub(crate) fn offset_deviation(&self) -> f64 {
        let jitter = self.variants[self.chosen].jitter;
        jitter.forward.hypot(jitter.backward) / 2.0
    }

    /// Weight of the newest exchange in the mean queueing delays.
    fn jitter_weight(&self) -> f64 {
        (JITTER_HASTE / (self.count as f64 + JITTER_HASTE - 1.0)).max(1.0 / (JITTER_MEMORY + 1.0))
    }

    /// Standard error of the offset because the mean queueing delays are known from so few exchanges, seconds; `moments`
    /// are those of [`moments`](Self::moments). It matters after a long time without exchanges, when queues decide where in
    /// between the clock is: an exponential tail of mean *j* shifts what it multiplies by its variance for each 1/*j*.
    pub(crate) fn tail_error(&self, moments: &Moments) -> f64 {
        let variant = &self.variants[self.chosen];
        let with = |state| variant.bank.covariance(bank::OFFSET, state);
        let (base, asymmetry) = (with(bank::base(0)), with(bank::asymmetry(0)));
        let forward = (moments.offset_variance + base + asymmetry) / variant.jitter.forward;
        let backward = (moments.offset_variance - base + asymmetry) / variant.jitter.backward;
        // One divided by a mean of few varies by more than that mean does.
        let known = (1.0 / self.jitter_weight() - 2.0).max(1.0);
        forward.hypot(backward) / known.sqrt()
    }

    /// Which softness is believed.
    pub(crate) const fn softness_in_use(&self) -> usize {
        self.chosen
    }

    /// What is known about the path.
    pub(crate) fn path(&self) -> PathBelief {
        let variant = &self.variants[self.chosen];
        let (base, asymmetry) = (bank::base(0), bank::asymmetry(0));
        PathBelief {
            base: (variant.bank.mean(base), variant.bank.covariance(base, base)),
            asymmetry: (variant.bank.mean(asymmetry), variant.bank.covariance(asymmetry, asymmetry)),
            queues: variant.queues(SOFTNESS[self.chosen], self.floor(), self.shares()),
            changed: self.changed,
        }
    }

    /// The bank that is believed.
    pub(crate) const fn bank(&self) -> &Bank<4> {
        &self.variants[self.chosen].bank
    }
}

/// Excess delay of one way that is typical of the first exchanges: their mean, unless a few were so slow that it is
/// theirs alone. Sums of two exponential delays of mean 1 have mean 2 and median 1.68.
fn typical_excess(start: &[Exchange], shortest: f64, mean: f64) -> f64 {
    const MEAN_BY_MEDIAN: f64 = 2.0 / 1.68;
    const MEDIANS_MAX: f64 = 2.0;
    let mean = mean - shortest;
    if start.len() < 3 {
        return mean;
    }
    let mut delays: Vec<f64> = start.iter().map(|exchange| exchange.delay / 2.0 - shortest).collect();
    let middle = delays.len() / 2;
    let median = *delays.select_nth_unstable_by(middle, f64::total_cmp).1;
    mean.min(MEDIANS_MAX * MEAN_BY_MEDIAN * median)
}

/// The largest mean queueing delay of which delays that are so much alike are still possible, seconds. Of *n* exponential ones
/// the range is at most *r* with a probability of about (*r* / mean)^(*n* - 1).
fn largest_mean(start: &[Exchange], shortest: f64) -> f64 {
    if start.len() < 2 {
        return f64::INFINITY;
    }
    let range = start.iter().map(|exchange| exchange.delay / 2.0 - shortest).fold(0.0, f64::max);
    range * ALIKE_BY_CHANCE.powf(-1.0 / (start.len() - 1) as f64)
}

/// A mean queueing delay is not believed to be less than this where time stamps are uncertain by `floor`, seconds.
const fn jitter_min(floor: f64) -> f64 {
    JITTER_MIN.max(floor / 2.0)
}

impl Jitter {
    fn mean(self) -> f64 {
        f64::midpoint(self.forward, self.backward)
    }
}

/// Variance that a base delay gains with each exchange: what is remembered of it is about [`BASE_MEMORY`] exchanges.
pub(crate) fn base_noise(jitter: f64) -> f64 {
    2.0 * jitter * jitter / BASE_MEMORY.powi(3)
}

impl Variant {
    fn advance(&mut self, elapsed: f64, corrected: f64, changed: f64) {
        let unit = |state: usize| std::array::from_fn(|i| if i == state { 1.0 } else { 0.0 });
        let noise = [
            (base_noise(self.jitter.mean()) + changed, unit(bank::base(0))),
            (changed, unit(bank::asymmetry(0))),
        ];
        self.bank.advance(elapsed, corrected, &noise);
    }

    fn observe(&mut self, exchange: Exchange, queues: (Queues, Queues)) -> Outcome {
        let legs = exchange.legs(0, queues);
        let asymmetry = bank::asymmetry(0);
        let is_asymmetric = self.bank.covariance(asymmetry, asymmetry) > 0.0;
        let outcome = self.bank.observe(&legs[..if is_asymmetric { 4 } else { 2 }]);
        self.score = EVIDENCE_KEPT * self.score + outcome.log_evidence;
        outcome
    }

    /// Follows the mean queueing delays.
    fn learn(&mut self, excess: [f64; 2], weight: f64, least: f64) {
        let follow = |mean: &mut f64, excess: f64| {
            *mean = (*mean + weight * (excess.min(JITTER_CLIP * *mean) - *mean)).max(least);
        };
        follow(&mut self.jitter.forward, excess[0]);
        follow(&mut self.jitter.backward, excess[1]);
    }

    /// Variances of the edges there and back.
    fn softness(&self, share: f64, floor: f64) -> (f64, f64) {
        let of = |jitter: f64| (share * jitter).powi(2) + floor * floor;
        (of(self.jitter.forward), of(self.jitter.backward))
    }

    /// What its excess delays are like there and back. `softness`: share of the mean; `floor`: of time stamps; `shares`: see
    /// [`Queues::share`].
    fn queues(&self, softness: f64, floor: f64, shares: (f64, f64)) -> (Queues, Queues) {
        let soft = self.softness(softness, floor);
        (
            Queues { mean: self.jitter.forward, softness: soft.0, share: shares.0 },
            Queues { mean: self.jitter.backward, softness: soft.1, share: shares.1 },
        )
    }

    /// Expected base delay, and the standard error of what a round trip differs from it by.
    fn base(&self, lever: Lever) -> (f64, f64) {
        let (state, half) = (bank::base(0), lever.seconds / 2.0);
        let together =
            |other| self.bank.covariance(other, state) - half * self.bank.covariance(other, FREQUENCY);
        (self.bank.mean(state), (together(state) - half * together(FREQUENCY)).max(0.0).sqrt())
    }
}

#[cfg(test)]
mod tests;
