//! Filters for several oscillators side by side: how much the frequency wanders is found out, not configured.
//!
//! An interacting multiple model (H. Blom, Y. Bar-Shalom, IEEE Transactions on Automatic Control 33, 1988): each filter
//! assumes another random walk of the frequency; how well it foresaw the exchanges decides how much it counts. Weight
//! moves to neighbours only, so that a filter whose time has come again starts from one that was right.

use super::gaussian::{Gaussian, Part, Row};
use super::saved::{ReadWords, Words};
use super::truncated::exponential_excess;

/// Number of filters.
pub(crate) const MODELS: usize = 11;
/// Smallest random walk of the frequency, s per s in each second. Each of the others is half a decade above the one before.
const WANDER_MIN: f64 = 1e-11;
/// Probability that the oscillator becomes a neighbour's, for each exchange and neighbour.
const TRANSITION: f64 = 0.0025;
/// Filters that count less are left out until a neighbour's weight reaches them.
const WEIGHT_MIN: f64 = 1e-6;
/// A neighbour with less of a share adds nothing to a filter that can be told from rounding.
const SHARE_MIN: f64 = 1e-5;
/// Legs of an exchange: there and back, and two base delays.
const LEGS_MAX: usize = 4;
/// An excess of more mean ones than this is not of the usual tail: the farther it is, the less it says.
const TAILS_MAX: f64 = 6.0;
/// So many times the tail and the base delay are no queue.
const UNKNOWN_TAILS: f64 = 1000.0;
/// See [`UNKNOWN_TAILS`].
const UNKNOWN_PATHS: f64 = 10.0;
/// How often the frequency of an oscillator jumps (its temperature, a virtual machine that moved), for each second, and by how
/// much: standard deviation in s per s.
const JUMP: (f64, f64) = (1e-7, 1e-5);
/// Advantage that a jump must have over everything else before it is believed, natural logarithm. A small one is what a filter has
/// that is mistaken about something else: it would be mistaken for good, as each exchange that refutes it became a jump.
const JUMP_ODDS: f64 = 10.0;
/// Exchanges before which it is the delays that are not known yet.
const JUMP_EXCHANGES_MIN: u32 = 16;
/// Where exchanges resemble the ones before them, so that less than this share of one is its own, what looks like a jump is a queue.
const JUMP_SHARE_MIN: f64 = 0.5;
/// Measurements tell at least this share of what they told a filter; the smallest share that keeps the factors exact.
const INFORMATION_MIN: f64 = 1e-12;

/// State 0: offset, remote minus local, positive when our clock is behind, seconds. State 1: frequency that the free
/// oscillator lacks, s per s. Then for each source its base delay on one way and half of the difference between the
/// base delays there and back, seconds.
pub(crate) const OFFSET: usize = 0;
/// See [`OFFSET`].
pub(crate) const FREQUENCY: usize = 1;

/// State of the base delay of source number `source`.
pub(crate) const fn base(source: usize) -> usize {
    2 + 2 * source
}

/// State of the asymmetry of source number `source`.
pub(crate) const fn asymmetry(source: usize) -> usize {
    3 + 2 * source
}

/// One direction of an exchange, as a measurement of the states.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg<const N: usize> {
    /// Excess delay = `measured` + `row` · states.
    pub(crate) row: Row<N>,
    /// What the time stamps show, seconds.
    pub(crate) measured: f64,
    /// Mean of the exponential tail of the excess, seconds; infinite: the excess is not negative, that is all.
    pub(crate) tail: f64,
    /// Variance of the softness of the edge: time stamps and delays that are not exponential, seconds².
    pub(crate) softness: f64,
    /// Share of its evidence that counts, in (0, 1]: less than 1 where exchanges resemble the ones before them.
    pub(crate) share: f64,
}

/// How the excess delays of one direction are distributed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Queues {
    /// Their mean, seconds.
    pub(crate) mean: f64,
    /// Variance of the softness of the edge, seconds².
    pub(crate) softness: f64,
    /// Share of an exchange's evidence that is its own.
    pub(crate) share: f64,
}

impl<const N: usize> Leg<N> {
    /// From us to source number `source`: T2 − T1 = base + asymmetry + excess + offset.
    pub(crate) fn forward(source: usize, measured: f64, queues: Queues) -> Self {
        let mut row = [0.0; N];
        row[OFFSET] = -1.0;
        row[base(source)] = -1.0;
        row[asymmetry(source)] = -1.0;
        Self::new(row, measured, queues)
    }

    /// From source number `source` to us: T4 − T3 = base − asymmetry + excess − offset.
    pub(crate) fn backward(source: usize, measured: f64, queues: Queues) -> Self {
        let mut row = [0.0; N];
        row[OFFSET] = 1.0;
        row[base(source)] = -1.0;
        row[asymmetry(source)] = 1.0;
        Self::new(row, measured, queues)
    }

    /// With a packet that crossed the network so many seconds before the instant of the estimate (there), or after it (back).
    pub(crate) const fn apart(mut self, seconds: f64) -> Self {
        self.row[FREQUENCY] = seconds;
        self
    }

    fn new(row: Row<N>, measured: f64, Queues { mean, softness, share }: Queues) -> Self {
        Self { row, measured, tail: mean / share, softness, share }
    }

    /// The base delays there and back, which cannot be negative either.
    pub(crate) fn not_negative(source: usize, sign: f64) -> Self {
        let mut row = [0.0; N];
        row[base(source)] = 1.0;
        row[asymmetry(source)] = sign;
        Self { row, measured: 0.0, tail: f64::INFINITY, softness: 0.0, share: 1.0 }
    }
}

/// What the filters together made of an exchange.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Outcome {
    /// Expected excess delays of the first two legs, seconds.
    pub(crate) excess: [f64; 2],
    /// Natural logarithm of the density that they gave to the exchange.
    pub(crate) log_evidence: f64,
    /// The same of what was its own, see [`Leg::share`].
    own: f64,
}

/// Expected values and covariance of the whole bank.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Moments {
    pub(crate) offset: f64,
    pub(crate) offset_variance: f64,
    pub(crate) frequency: f64,
    pub(crate) frequency_variance: f64,
    pub(crate) covariance: f64,
    /// Random walk of the frequency: expected square, (s per s)² in each second.
    pub(crate) wander_square: f64,
    /// Expected value of its logarithm.
    pub(crate) log_wander: f64,
}

impl Moments {
    /// Variance of the offset after so many seconds without a measurement, seconds².
    pub(crate) fn offset_variance_after(&self, seconds: f64) -> f64 {
        let t = seconds.abs();
        let line = self.offset_variance + t * (2.0 * self.covariance + t * self.frequency_variance);
        line.max(0.0) + self.wander_square * t * t * t / 3.0
    }
}

/// The filters.
#[derive(Clone, Debug)]
pub(crate) struct Bank<const N: usize> {
    models: [Gaussian<N>; MODELS],
    /// They sum up to 1; 0 for one that is left out.
    weights: [f64; MODELS],
    /// Seconds that passed before the exchange that is next.
    elapsed: f64,
    /// Exchanges taken over so far.
    exchanges: u32,
}

fn wander(model: usize) -> f64 {
    WANDER_MIN * 10f64.powf(model as f64 / 2.0)
}

impl<const N: usize> Bank<N> {
    /// All filters alike.
    pub(crate) fn new(belief: Gaussian<N>) -> Self {
        Self { models: [belief; MODELS], weights: [1.0 / MODELS as f64; MODELS], elapsed: 0.0, exchanges: 0 }
    }

    /// A bank over more or fewer states, made from each filter of this one.
    pub(crate) fn map<const M: usize>(&self, change: impl Fn(&Gaussian<N>) -> Gaussian<M>) -> Bank<M> {
        Bank {
            models: std::array::from_fn(|model| change(&self.models[model])),
            weights: self.weights,
            elapsed: self.elapsed,
            exchanges: self.exchanges,
        }
    }

    /// Lets time pass: `elapsed` seconds of the free oscillator in which the clock was moved forward by `corrected`
    /// seconds. `noise`: what else became uncertain, each a variance and a direction.
    pub(crate) fn advance(&mut self, elapsed: f64, corrected: f64, noise: &[(f64, Row<N>)]) {
        let (before, weights) = (self.models, self.weights);
        self.elapsed = elapsed;
        for model in 0..MODELS {
            let sources = [model.checked_sub(1), Some(model), Some(model + 1).filter(|&next| next < MODELS)];
            let stays =
                1.0 - TRANSITION * sources.iter().flatten().filter(|&&other| other != model).count() as f64;
            let flow = |from: usize| weights[from] * if from == model { stays } else { TRANSITION };
            let total: f64 = sources.into_iter().flatten().map(flow).sum();
            if total < WEIGHT_MIN {
                self.weights[model] = 0.0;
                continue;
            }
            let mut parts = [Part { weight: 0.0, belief: &before[model] }; 3];
            let mut count = 0;
            for from in sources.into_iter().flatten().filter(|&from| flow(from) > SHARE_MIN * total) {
                parts[count] = Part { weight: flow(from), belief: &before[from] };
                count += 1;
            }
            let kept: f64 = parts[..count].iter().map(|part| part.weight).sum();
            parts[..count].iter_mut().for_each(|part| part.weight /= kept);
            self.models[model] = propagated(&parts[..count], model, elapsed, noise);
            self.models[model].mean[OFFSET] -= corrected;
            self.weights[model] = total;
        }
        self.normalize();
    }

    /// Believes everything less, by this factor of all variances.
    pub(crate) fn fade(&mut self, factor: f64) {
        if factor > 1.0 {
            self.models.iter_mut().for_each(|model| model.scale(factor));
        }
    }

    /// Takes over an exchange.
    pub(crate) fn observe(&mut self, legs: &[Leg<N>]) -> Outcome {
        // The same for all filters: what they foresaw is compared.
        let tails: [f64; LEGS_MAX] =
            std::array::from_fn(|number| legs.get(number).map_or(0.0, |leg| self.tail(leg)));
        let expected = (self.most_likely(), self.weights);
        self.exchanges = self.exchanges.saturating_add(1);
        let mut seen = [Seen::NOTHING; MODELS];
        for model in self.active() {
            seen[model] = take_all(&mut self.models[model], legs, tails);
        }
        let outcome = self.weigh(&seen);
        self.jump(legs, tails, expected, outcome)
    }

    /// Copy of the filter that counts most.
    fn most_likely(&self) -> Gaussian<N> {
        let best = (0..MODELS).max_by(|&a, &b| self.weights[a].total_cmp(&self.weights[b]));
        self.models[best.unwrap_or(0)]
    }

    /// Allows for a jump of the frequency before this exchange, where that explains it better: the states are what they are
    /// after one, and the oscillator wanders no more than before. `expected`: most likely belief before the exchange and weights.
    fn jump(
        &mut self,
        legs: &[Leg<N>],
        tails: [f64; LEGS_MAX],
        (belief, weights): (Gaussian<N>, [f64; MODELS]),
        outcome: Outcome,
    ) -> Outcome {
        let prior = (JUMP.0 * self.elapsed).ln();
        // No belief gives an exchange more than the density at the edges.
        let density =
            |(leg, tail): (&Leg<N>, f64)| if tail.is_finite() { -leg.share * tail.ln() } else { 0.0 };
        let most: f64 = legs.iter().zip(tails).map(density).sum();
        let is_queue = legs.iter().any(|leg| leg.share < JUMP_SHARE_MIN);
        let is_young = self.exchanges <= JUMP_EXCHANGES_MIN;
        if is_queue || is_young || self.elapsed <= 0.0 || prior + most < outcome.own + JUMP_ODDS {
            return outcome;
        }
        let noise = walk(JUMP.1 * JUMP.1, self.elapsed);
        let mut jumped = Gaussian::propagated(&[Part { weight: 1.0, belief: &belief }], 0.0, &noise);
        let seen = take_all(&mut jumped, legs, tails);
        let odds = prior + seen.own - outcome.own;
        if !jumped.is_finite() || odds.is_nan() || odds < JUMP_ODDS {
            return outcome;
        }
        (self.models, self.weights) = ([jumped; MODELS], weights);
        Outcome { excess: seen.excess, log_evidence: prior + seen.log_evidence, own: prior + seen.own }
    }

    /// The tail with which a leg is taken over: as long as the excess that is expected makes it at least. But where more is unknown
    /// than the path and many tails take, it is the clock that is, and no excess is long.
    fn tail(&self, leg: &Leg<N>) -> f64 {
        let project = |belief: &Gaussian<N>| leg.measured + belief.project(&leg.row);
        let expected: f64 = self.active().map(|m| self.weights[m] * project(&self.models[m])).sum();
        if expected <= TAILS_MAX * leg.tail {
            return leg.tail;
        }
        let variance =
            |belief: &Gaussian<N>| belief.projected_variance(&leg.row) + (project(belief) - expected).powi(2);
        let variance: f64 = self.active().map(|m| self.weights[m] * variance(&self.models[m])).sum();
        // The base delay of this way.
        let path = -(2..N).map(|state| leg.row[state] * self.mean(state)).sum::<f64>();
        let unknown = (UNKNOWN_PATHS * path).max(UNKNOWN_TAILS * leg.tail);
        if variance.sqrt() > unknown { leg.tail } else { expected / TAILS_MAX }
    }

    fn weigh(&mut self, seen: &[Seen; MODELS]) -> Outcome {
        let best = seen.iter().map(|seen| seen.log_evidence).fold(f64::NEG_INFINITY, f64::max);
        if best == f64::NEG_INFINITY {
            return Outcome { log_evidence: best, own: best, ..Outcome::default() };
        }
        let sum: f64 = (0..MODELS)
            .filter(|&m| self.weights[m] > 0.0)
            .map(|m| self.weights[m] * (seen[m].log_evidence - best).exp())
            .sum();
        let greatest = seen.iter().map(|seen| seen.own).fold(f64::NEG_INFINITY, f64::max);
        for (weight, seen) in self.weights.iter_mut().zip(seen) {
            if *weight > 0.0 {
                *weight *= (seen.own - greatest).exp();
            }
        }
        let own = self.normalize().ln() + greatest;
        let mut outcome = Outcome { excess: [0.0; 2], log_evidence: best + sum.ln(), own };
        for model in self.active() {
            for (total, excess) in outcome.excess.iter_mut().zip(seen[model].excess) {
                *total += self.weights[model] * excess;
            }
        }
        outcome
    }

    /// Gives what they summed up to.
    fn normalize(&mut self) -> f64 {
        let sum: f64 = self.weights.iter().sum();
        self.weights.iter_mut().for_each(|weight| *weight /= sum);
        sum
    }

    fn active(&self) -> impl Iterator<Item = usize> + use<N> {
        let weights = self.weights;
        (0..MODELS).filter(move |&model| weights[model] > 0.0)
    }

    /// Expected value of a state.
    pub(crate) fn mean(&self, state: usize) -> f64 {
        self.active().map(|model| self.weights[model] * self.models[model].mean[state]).sum()
    }

    /// Covariance of two states.
    pub(crate) fn covariance(&self, a: usize, b: usize) -> f64 {
        let (mean_a, mean_b) = (self.mean(a), self.mean(b));
        self.active()
            .map(|model| {
                let belief = &self.models[model];
                let spread = (belief.mean[a] - mean_a) * (belief.mean[b] - mean_b);
                self.weights[model] * (belief.covariance(a, b) + spread)
            })
            .sum()
    }

    /// What is known about the clock.
    pub(crate) fn moments(&self) -> Moments {
        Moments {
            offset: self.mean(OFFSET),
            offset_variance: self.covariance(OFFSET, OFFSET),
            frequency: self.mean(FREQUENCY),
            frequency_variance: self.covariance(FREQUENCY, FREQUENCY),
            covariance: self.covariance(OFFSET, FREQUENCY),
            wander_square: self.active().map(|model| self.weights[model] * wander(model).powi(2)).sum(),
            log_wander: self.active().map(|model| self.weights[model] * wander(model).ln()).sum(),
        }
    }

    /// A value is so much more in all filters.
    pub(super) fn shift(&mut self, state: usize, by: f64) {
        self.models.iter_mut().for_each(|model| model.mean[state] += by);
    }

    /// Writes it down.
    pub(super) fn write(&self, words: &mut Words) {
        words.count(self.exchanges);
        words.count(self.active().count());
        for model in self.active() {
            words.count(model);
            words.number(self.weights[model]);
            self.models[model].write(words);
        }
    }

    /// Reads what [`write`](Self::write) wrote. `None` when it is no bank.
    pub(super) fn read(words: &mut ReadWords<'_>) -> Option<Self> {
        let exchanges = words.next()?;
        let mut this = Self {
            models: [Gaussian::independent(&[(0.0, 0.0); N]); MODELS],
            weights: [0.0; MODELS],
            elapsed: 0.0,
            exchanges,
        };
        for _ in 0..words.next::<u32>()? {
            let model: usize = words.next().filter(|model| *model < MODELS)?;
            this.weights[model] = words.number().filter(|weight| (0.0..=1.0).contains(weight))?;
            this.models[model] = Gaussian::read(words)?;
        }
        let sum: f64 = this.weights.iter().sum();
        ((sum - 1.0).abs() < WEIGHT_MIN && this.is_sound()).then_some(this)
    }

    /// Whether every number in it is one.
    pub(crate) fn is_sound(&self) -> bool {
        self.weights.iter().all(|weight| weight.is_finite())
            && self.active().all(|model| self.models[model].is_finite())
    }
}

/// One filter after a time in which the frequency walked at random.
fn propagated<const N: usize>(
    parts: &[Part<'_, N>],
    model: usize,
    elapsed: f64,
    noise: &[(f64, Row<N>)],
) -> Gaussian<N> {
    let mut all = [(0.0, [0.0; N]); 8];
    all[..2].copy_from_slice(&walk(wander(model).powi(2) * elapsed, elapsed));
    let count = noise.len().min(all.len() - 2);
    all[2..2 + count].copy_from_slice(&noise[..count]);
    Gaussian::propagated(parts, elapsed, &all[..2 + count])
}

/// What a frequency adds that in `elapsed` seconds walked at random, or jumped at any time, and gained `variance` (s per s)² by
/// that: covariance variance·[[t²/3, t/2], [t/2, 1]] of offset and frequency, in factors.
fn walk<const N: usize>(variance: f64, elapsed: f64) -> [(f64, Row<N>); 2] {
    let (mut alone, mut together) = ([0.0; N], [0.0; N]);
    alone[OFFSET] = 1.0;
    (together[OFFSET], together[FREQUENCY]) = (elapsed / 2.0, 1.0);
    [(variance * elapsed * elapsed / 12.0, alone), (variance, together)]
}

/// What one filter made of an exchange.
#[derive(Clone, Copy)]
struct Seen {
    excess: [f64; 2],
    log_evidence: f64,
    /// Of what was its own, see [`Leg::share`].
    own: f64,
}

impl Seen {
    const NOTHING: Self = Self { excess: [0.0; 2], log_evidence: f64::NEG_INFINITY, own: f64::NEG_INFINITY };
}

/// One exchange in one filter.
fn take_all<const N: usize>(belief: &mut Gaussian<N>, legs: &[Leg<N>], tails: [f64; LEGS_MAX]) -> Seen {
    let mut seen = Seen { log_evidence: 0.0, own: 0.0, ..Seen::NOTHING };
    for ((leg, tail), number) in legs.iter().zip(tails).zip(0..) {
        let (mean, log_evidence) = take(belief, &Leg { tail, ..*leg });
        if let Some(excess) = seen.excess.get_mut(number) {
            *excess = mean;
        }
        seen.log_evidence += log_evidence;
        seen.own += leg.share * log_evidence;
    }
    if !belief.is_finite() || seen.own.is_nan() {
        (seen.log_evidence, seen.own) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    }
    seen
}

/// One leg in one filter: the expected excess and the evidence.
fn take<const N: usize>(belief: &mut Gaussian<N>, leg: &Leg<N>) -> (f64, f64) {
    let known = belief.projected_variance(&leg.row);
    let variance = known + leg.softness;
    let expected = leg.measured + belief.project(&leg.row);
    if known <= 0.0 || variance <= 0.0 {
        return (expected, 0.0);
    }
    let excess = exponential_excess(expected, variance, leg.tail);
    // A scalar measurement with the noise that leaves the variance of the truncated normal.
    let gained = (variance - excess.variance).max(INFORMATION_MIN * variance);
    let noise = (variance / gained * variance - known).max(0.0);
    belief.measure(&leg.row, (excess.mean - expected) * variance / gained, noise);
    (excess.mean, excess.log_evidence)
}
