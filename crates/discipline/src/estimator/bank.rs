//! Filters for several oscillators side by side: how much the frequency wanders is found out, not configured.
//!
//! An interacting multiple model (H. Blom, Y. Bar-Shalom, IEEE Transactions on Automatic Control 33, 1988): each filter
//! assumes another random walk of the frequency; how well it foresaw the exchanges decides how much it counts. Weight
//! moves to neighbours only, so that a filter whose time has come again starts from one that was right.

use super::gaussian::{Gaussian, Part, Row};
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
}

impl<const N: usize> Leg<N> {
    /// From us to source number `source`: T2 − T1 = base + asymmetry + excess + offset.
    pub(crate) fn forward(source: usize, measured: f64, tail: f64, softness: f64) -> Self {
        let mut row = [0.0; N];
        row[OFFSET] = -1.0;
        row[base(source)] = -1.0;
        row[asymmetry(source)] = -1.0;
        Self { row, measured, tail, softness }
    }

    /// From source number `source` to us: T4 − T3 = base − asymmetry + excess − offset.
    pub(crate) fn backward(source: usize, measured: f64, tail: f64, softness: f64) -> Self {
        let mut row = [0.0; N];
        row[OFFSET] = 1.0;
        row[base(source)] = -1.0;
        row[asymmetry(source)] = 1.0;
        Self { row, measured, tail, softness }
    }

    /// The base delays there and back, which cannot be negative either.
    pub(crate) fn not_negative(source: usize, sign: f64) -> Self {
        let mut row = [0.0; N];
        row[base(source)] = 1.0;
        row[asymmetry(source)] = sign;
        Self { row, measured: 0.0, tail: f64::INFINITY, softness: 0.0 }
    }
}

/// What the filters together made of an exchange.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Outcome {
    /// Expected excess delays of the first two legs, seconds.
    pub(crate) excess: [f64; 2],
    /// Natural logarithm of the density that they gave to the exchange.
    pub(crate) log_evidence: f64,
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
}

fn wander(model: usize) -> f64 {
    WANDER_MIN * 10f64.powf(model as f64 / 2.0)
}

impl<const N: usize> Bank<N> {
    /// All filters alike.
    pub(crate) fn new(belief: Gaussian<N>) -> Self {
        Self { models: [belief; MODELS], weights: [1.0 / MODELS as f64; MODELS] }
    }

    /// A bank over more or fewer states, made from each filter of this one.
    pub(crate) fn map<const M: usize>(&self, change: impl Fn(&Gaussian<N>) -> Gaussian<M>) -> Bank<M> {
        Bank { models: std::array::from_fn(|model| change(&self.models[model])), weights: self.weights }
    }

    /// Lets time pass: `elapsed` seconds of the free oscillator in which the clock was moved forward by `corrected`
    /// seconds. `noise`: what else became uncertain, each a variance and a direction.
    pub(crate) fn advance(&mut self, elapsed: f64, corrected: f64, noise: &[(f64, Row<N>)]) {
        let (before, weights) = (self.models, self.weights);
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

    /// Takes over an exchange. `tempering`: share of its evidence that counts, less than 1 when exchanges resemble the ones
    /// before them.
    pub(crate) fn observe(&mut self, legs: &[Leg<N>], tempering: f64) -> Outcome {
        let mut excess = [[0.0; 2]; MODELS];
        let mut evidence = [f64::NEG_INFINITY; MODELS];
        // The same for all filters: what they foresaw is compared.
        let tails: [f64; LEGS_MAX] =
            std::array::from_fn(|number| legs.get(number).map_or(0.0, |leg| self.tail(leg)));
        for model in self.active() {
            let belief = &mut self.models[model];
            let mut sum = 0.0;
            for ((leg, tail), number) in legs.iter().zip(tails).zip(0..) {
                let leg = &Leg { tail, ..*leg };
                let (mean, log_evidence) = take(belief, leg);
                if let Some(excess) = excess[model].get_mut(number) {
                    *excess = mean;
                }
                sum += log_evidence;
            }
            if belief.is_finite() && !sum.is_nan() {
                evidence[model] = sum;
            }
        }
        self.weigh(&evidence, &excess, tempering)
    }

    /// The tail with which a leg is taken over: as long as the excess that is expected makes it at least.
    fn tail(&self, leg: &Leg<N>) -> f64 {
        let expected = leg.measured + (0..N).map(|state| leg.row[state] * self.mean(state)).sum::<f64>();
        leg.tail.max(expected / TAILS_MAX)
    }

    fn weigh(&mut self, evidence: &[f64; MODELS], excess: &[[f64; 2]; MODELS], tempering: f64) -> Outcome {
        let best = evidence.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if best == f64::NEG_INFINITY {
            return Outcome { log_evidence: best, ..Outcome::default() };
        }
        let sum: f64 = (0..MODELS)
            .filter(|&m| self.weights[m] > 0.0)
            .map(|m| self.weights[m] * (evidence[m] - best).exp())
            .sum();
        for (weight, evidence) in self.weights.iter_mut().zip(evidence) {
            if *weight > 0.0 {
                *weight *= (tempering * (evidence - best)).exp();
            }
        }
        self.normalize();
        let mut outcome = Outcome { excess: [0.0; 2], log_evidence: best + sum.ln() };
        for model in self.active() {
            for (total, excess) in outcome.excess.iter_mut().zip(excess[model]) {
                *total += self.weights[model] * excess;
            }
        }
        outcome
    }

    fn normalize(&mut self) {
        let sum: f64 = self.weights.iter().sum();
        self.weights.iter_mut().for_each(|weight| *weight /= sum);
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
    // Covariance of offset and frequency after a walk of that time: q·[[t³/3, t²/2], [t²/2, t]], in factors.
    let walk = wander(model).powi(2) * elapsed;
    let (mut alone, mut together) = ([0.0; N], [0.0; N]);
    alone[OFFSET] = 1.0;
    (together[OFFSET], together[FREQUENCY]) = (elapsed / 2.0, 1.0);
    let mut all = [(0.0, [0.0; N]); 8];
    all[0] = (walk * elapsed * elapsed / 12.0, alone);
    all[1] = (walk, together);
    let count = noise.len().min(all.len() - 2);
    all[2..2 + count].copy_from_slice(&noise[..count]);
    Gaussian::propagated(parts, elapsed, &all[..2 + count])
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
