//! What a delay that cannot be negative says about the clock: moments and evidence of a truncated normal.
//!
//! A packet's excess delay e ≥ 0 is exponential with mean j. Believed to be normal with mean m and variance s² before the
//! packet is seen, it is normal with mean m − s²/j, truncated to e ≥ 0, afterwards: the product of the two densities is
//! exactly that. So the edge at zero, which says more about time than the average does, costs no more than closed formulas.

use std::f64::consts::FRAC_1_SQRT_2;

/// Beyond this many standard deviations on the wrong side of the edge series are exact where differences cancel.
const ASYMPTOTIC_FROM: f64 = 12.0;
/// From here on a continued fraction gives the scaled error function without overflow.
const FRACTION_FROM: f64 = 3.0;
/// √(2/π)
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

/// What is believed about an excess delay after it is known to be not negative; seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Excess {
    /// Expected value; positive.
    pub(crate) mean: f64,
    /// Variance; positive, less than before.
    pub(crate) variance: f64,
    /// Natural logarithm of the density that the belief gave to what was seen.
    pub(crate) log_evidence: f64,
}

/// Of an excess that was believed to have `mean` and `variance`, and is exponential with a mean of `tail`; all positive
/// but `mean`. An infinite `tail` says nothing but that the excess is not negative; its evidence is a probability.
pub(crate) fn exponential_excess(mean: f64, variance: f64, tail: f64) -> Excess {
    let sigma = variance.sqrt();
    let shifted = mean - variance / tail;
    let alpha = -shifted / sigma;
    let (expected, left) = truncated(shifted, sigma, alpha);
    Excess { mean: expected, variance: left, log_evidence: log_evidence(mean, variance, tail, alpha) }
}

/// Mean and variance of a normal distribution around `mean` that is cut off below zero, `alpha` = −mean / sigma.
fn truncated(mean: f64, sigma: f64, alpha: f64) -> (f64, f64) {
    if alpha > ASYMPTOTIC_FROM {
        let square = 1.0 / (alpha * alpha);
        let expected = sigma / alpha * (1.0 - square * (2.0 - 10.0 * square));
        let variance = sigma * sigma * square * (1.0 - square * (6.0 - 50.0 * square));
        return (expected, variance);
    }
    let hazard = inverse_mills_ratio(alpha);
    (mean + sigma * hazard, sigma * sigma * (1.0 - hazard * (hazard - alpha)))
}

/// Density by upper tail of the standard normal distribution.
fn inverse_mills_ratio(alpha: f64) -> f64 {
    SQRT_2_OVER_PI / scaled_erfc(alpha * FRAC_1_SQRT_2)
}

/// Each branch avoids the difference of large numbers that the other would be there.
fn log_evidence(mean: f64, variance: f64, tail: f64, alpha: f64) -> f64 {
    let scale = if tail.is_finite() { -tail.ln() } else { 0.0 };
    if alpha >= 0.0 {
        scale - mean * mean / (2.0 * variance) + (scaled_erfc(alpha * FRAC_1_SQRT_2) / 2.0).ln()
    } else {
        let upper = libm::erfc(alpha * FRAC_1_SQRT_2) / 2.0;
        scale - mean / tail + variance / (2.0 * tail * tail) + upper.ln()
    }
}

/// exp(x²)·erfc(x). For very negative `x` infinite, of which the callers take the reciprocal.
fn scaled_erfc(x: f64) -> f64 {
    if x < FRACTION_FROM {
        return (x * x).exp() * libm::erfc(x);
    }
    // Laplace's continued fraction; 24 terms are exact from 3 on.
    let mut tail = x;
    for term in (1..=24).rev() {
        tail = x + f64::from(term) / 2.0 / tail;
    }
    const SQRT_PI: f64 = 1.772_453_850_905_516;
    1.0 / (SQRT_PI * tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by numerical integration.
    fn integrated(mean: f64, variance: f64, tail: f64) -> (f64, f64, f64) {
        let sigma = variance.sqrt();
        let peak = (mean - variance / tail).max(0.0);
        let width = if mean - variance / tail < 0.0 {
            (variance / (variance / tail - mean)).min(sigma)
        } else {
            sigma
        };
        let (from, to) = ((peak - 12.0 * sigma).max(0.0), peak + 40.0 * width);
        let steps = 400_000;
        let (mut zero, mut one, mut two) = (0.0, 0.0, 0.0);
        let at = |e: f64| -(e - mean).powi(2) / (2.0 * variance) - e / tail - tail.ln();
        let top = at(peak);
        for i in 0..steps {
            let e = from + (to - from) * (f64::from(i) + 0.5) / f64::from(steps);
            let density = (at(e) - top).exp();
            zero += density;
            one += density * e;
            two += density * e * e;
        }
        let expected = one / zero;
        let norm = (std::f64::consts::TAU * variance).sqrt();
        let evidence = (zero * (to - from) / f64::from(steps) / norm).ln() + top;
        (expected, two / zero - expected * expected, evidence)
    }

    #[test]
    fn moments_and_evidence_are_those_of_the_integral() {
        for (mean, variance, tail) in [
            (1.0f64, 1.0f64, 1.0f64),
            (-3.0, 1.0, 1.0),
            (5.0, 0.01, 2.0),
            (-0.5, 0.04, 0.1),
            (0.0, 4.0, 0.5),
            (-2.0, 0.01, 1.0),
        ] {
            let got = exponential_excess(mean, variance, tail);
            let (expected, left, evidence) = integrated(mean, variance, tail);
            assert!((got.mean / expected - 1.0).abs() < 1e-4, "{mean} {variance} {tail}: {got:?} {expected}");
            assert!((got.variance / left - 1.0).abs() < 2e-3, "{mean} {variance} {tail}: {got:?} {left}");
            assert!(
                (got.log_evidence - evidence).abs() < 1e-3,
                "{mean} {variance} {tail}: {got:?} {evidence}"
            );
        }
    }

    #[test]
    fn nothing_breaks_far_from_the_edge() {
        for mean in [-1e3, -1.0, -1e-9, 0.0, 1e-9, 1.0, 1e3] {
            for variance in [1e-24, 1e-12, 1e-3, 1.0] {
                for tail in [1e-9, 1e-3, 1.0, f64::INFINITY] {
                    let got = exponential_excess(mean, variance, tail);
                    let what = format!("{mean} {variance} {tail}: {got:?}");
                    assert!(got.mean >= 0.0 && got.mean.is_finite(), "{what}");
                    assert!(got.variance >= 0.0 && got.variance <= variance * (1.0 + 1e-9), "{what}");
                    assert!(!got.log_evidence.is_nan(), "{what}");
                }
            }
        }
    }

    #[test]
    fn the_branches_meet() {
        for (alpha, name) in [
            (ASYMPTOTIC_FROM, "series"),
            (FRACTION_FROM * std::f64::consts::SQRT_2, "fraction"),
            (0.0, "evidence"),
        ] {
            let at = |alpha: f64| exponential_excess(-alpha + 1.0, 1.0, 1.0);
            let (below, above) = (at(alpha - 1e-9), at(alpha + 1e-9));
            assert!((below.mean / above.mean - 1.0).abs() < 1e-4, "{name}");
            assert!((below.variance / above.variance - 1.0).abs() < 1e-3, "{name}");
            assert!((below.log_evidence - above.log_evidence).abs() < 1e-6, "{name}");
        }
    }
}
