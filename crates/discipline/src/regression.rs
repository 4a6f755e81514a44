//! A weighted straight line through samples, with a prior for its slope, a term for one-sided queues, and the test
//! that says whether a straight line is what the samples lie on.

/// One sample as the regression sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct RegressionPoint {
    /// Oscillator time relative to the newest sample, seconds; not positive.
    pub(crate) x: f64,
    /// Offset relative to the newest sample, seconds.
    pub(crate) y: f64,
    /// Round trip beyond the shortest one, seconds; not negative.
    pub(crate) excess: f64,
    /// Variance of `y`, seconds²; positive.
    pub(crate) variance: f64,
}

/// What is believed about the slope before any sample: mean and variance, s per s.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct SlopePrior {
    pub(crate) slope: f64,
    pub(crate) variance: f64,
}

/// The line and how sure it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Line {
    /// Value at `x = 0`, seconds.
    pub(crate) offset: f64,
    /// Variance of the value at `x = 0`, seconds².
    pub(crate) offset_variance: f64,
    /// s per s.
    pub(crate) slope: f64,
    /// Variance of the slope.
    pub(crate) slope_variance: f64,
    /// Covariance of value and slope at `x = 0`.
    pub(crate) covariance: f64,
    /// Standard deviation of the samples about the line, seconds.
    pub(crate) standard_deviation: f64,
    /// Runs of residuals with the same sign.
    pub(crate) runs: usize,
    /// Mean square of the residuals in units of the variances that the samples claim.
    pub(crate) scatter: f64,
    /// Sum of the excess delays, each with the share (in magnitude) that its sample has in the value at `x = 0`, seconds:
    /// if all excess is on one direction, the value is wrong by half of this.
    pub(crate) excess: f64,
    /// Scatter, seconds², that the variances of the samples do not explain: each sample weighs as much as in the line,
    /// so that long queues do not count as scatter. Not negative.
    pub(crate) unexplained_variance: f64,
}

impl Line {
    /// Variance of the line's value `x` seconds after the newest sample, seconds².
    pub(crate) fn variance_at(&self, x: f64) -> f64 {
        (self.offset_variance + x * (2.0 * self.covariance + x * self.slope_variance)).max(0.0)
    }
}

/// Prior samples that the claimed variances are worth when they are compared with the residuals: with three real
/// ones the scatter alone says little.
const VARIANCE_PRIOR_SAMPLES: f64 = 3.0;
/// Standard deviation of the share of the excess delay that lands in the offset: ±1/2 when all queueing is on one
/// direction, 0 on average when it is alike on both.
const ASYMMETRY_PRIOR_SD: f64 = 0.2;
/// Share of the scatter that may be left over when the excess delays are said to explain it.
const UNEXPLAINED_SHARE_MAX: f64 = 0.1;
/// Samples from which on the share is estimated at all.
const ASYMMETRY_SAMPLES_MIN: usize = 6;

/// Fits the line. `None` without samples, or when the numbers are beyond what `f64` can hold.
pub(crate) fn fit(points: &[RegressionPoint], prior: SlopePrior) -> Option<Line> {
    let mut weight = 0.0;
    let (mut x_mean, mut y_mean, mut e_mean) = (0.0, 0.0, 0.0);
    for point in points {
        let w = 1.0 / point.variance;
        weight += w;
        x_mean += w * point.x;
        y_mean += w * point.y;
        e_mean += w * point.excess;
    }
    (x_mean, y_mean, e_mean) = (x_mean / weight, y_mean / weight, e_mean / weight);

    // Slopes of y and of the excess over x; the prior pulls only the first.
    let prior_weight = 1.0 / prior.variance;
    let (mut xx, mut xy, mut xe) = (0.0, 0.0, 0.0);
    for point in points {
        let (w, x) = (1.0 / point.variance, point.x - x_mean);
        xx += w * x * x;
        xy += w * x * (point.y - y_mean);
        xe += w * x * (point.excess - e_mean);
    }
    let y_slope = (xy + prior_weight * prior.slope) / (xx + prior_weight);
    let e_slope = xe / (xx + prior_weight);
    let asymmetry = asymmetry(points, (x_mean, y_mean, e_mean), (y_slope, e_slope));

    let slope = y_slope - asymmetry * e_slope;
    let offset = y_mean - asymmetry * e_mean - slope * x_mean;
    let residual = |point: &RegressionPoint| point.y - offset - slope * point.x - asymmetry * point.excess;
    let (mut chi_square, mut square) = (0.0, 0.0);
    for point in points {
        let r = residual(point);
        chi_square += r * r / point.variance;
        square += r * r;
    }
    let freedom = (points.len() as f64 - 2.0).max(0.0);
    let scale = (chi_square + VARIANCE_PRIOR_SAMPLES) / (freedom + VARIANCE_PRIOR_SAMPLES);
    let slope_variance = scale / (xx + prior_weight);
    let line = Line {
        offset,
        offset_variance: scale / weight + x_mean * x_mean * slope_variance,
        slope,
        slope_variance,
        covariance: -x_mean * slope_variance,
        standard_deviation: (square / freedom.max(1.0)).sqrt(),
        runs: count_runs(points.iter().map(residual)),
        scatter: chi_square / freedom.max(1.0),
        excess: points
            .iter()
            .map(|point| {
                let share = 1.0 / weight - x_mean * (point.x - x_mean) / (xx + prior_weight);
                share.abs() * point.excess / point.variance
            })
            .sum(),
        unexplained_variance: unexplained_variance(points.len() as f64, weight, chi_square),
    };
    line.is_finite().then_some(line)
}

/// What is left of the weighted mean square of the residuals when the claimed variances are taken off, if it is more
/// than they are: less may be chance.
fn unexplained_variance(samples: f64, weight: f64, chi_square: f64) -> f64 {
    let freedom = samples - 2.0;
    if freedom < 1.0 {
        return 0.0;
    }
    let claimed = samples / weight;
    let unexplained = claimed * (chi_square / freedom - 1.0);
    if unexplained > claimed { unexplained } else { 0.0 }
}

/// The share of the excess delay that is found in the offset, −1/2 to 1/2: regression of what the line leaves of `y`
/// over what it leaves of the excess. The prior counts as much as the noise that remains lets it: when queues on one
/// direction explain the offsets almost exactly, it must not hold the share back.
fn asymmetry(points: &[RegressionPoint], mean: (f64, f64, f64), slope: (f64, f64)) -> f64 {
    if points.len() < ASYMMETRY_SAMPLES_MIN {
        return 0.0;
    }
    let (mut ee, mut ey, mut yy) = (0.0, 0.0, 0.0);
    for point in points {
        let x = point.x - mean.0;
        let y = point.y - mean.1 - slope.0 * x;
        let e = point.excess - mean.2 - slope.1 * x;
        ee += e * e / point.variance;
        ey += e * y / point.variance;
        yy += y * y / point.variance;
    }
    let unexplained = if ee > 0.0 { (yy - ey * ey / ee).max(0.0) } else { yy };
    let freedom = points.len() as f64 - 3.0;
    let noise = ((unexplained + VARIANCE_PRIOR_SAMPLES) / (freedom + VARIANCE_PRIOR_SAMPLES)).min(1.0);
    // Only when the excess explains nearly everything: with queues on both directions the prior stays as it is.
    let noise = if unexplained < UNEXPLAINED_SHARE_MAX * yy { noise } else { 1.0 };
    (ey / (ee + noise / (ASYMMETRY_PRIOR_SD * ASYMMETRY_PRIOR_SD))).clamp(-0.5, 0.5)
}

impl Line {
    fn is_finite(&self) -> bool {
        [self.offset, self.offset_variance, self.slope, self.slope_variance, self.covariance]
            .iter()
            .chain(&[self.standard_deviation, self.excess, self.unexplained_variance])
            .all(|value| value.is_finite())
    }
}

/// Number of runs of the same sign.
fn count_runs(residuals: impl Iterator<Item = f64>) -> usize {
    let mut runs = 0;
    let mut last = None;
    for residual in residuals {
        let sign = residual > 0.0;
        if last != Some(sign) {
            runs += 1;
            last = Some(sign);
        }
    }
    runs
}

/// Whether so few runs mean that the samples do not lie on a straight line: with random signs, `samples` of them make
/// samples/2 + 1/2 runs with a variance of (samples − 1)/4, and fewer than this in 10 cases of 100.
pub(crate) fn is_bent(samples: usize, runs: usize) -> bool {
    let n = samples as f64;
    (runs as f64) < n.midpoint(1.0) - 1.28 * (n - 1.0).max(0.0).sqrt() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: SlopePrior = SlopePrior { slope: 0.0, variance: 1.0 };

    #[test]
    fn queues_on_one_direction_only_are_taken_off_almost_exactly() {
        let points: Vec<RegressionPoint> = (0..40)
            .map(|i| {
                let excess = 1e-3 * f64::from(i * 7 % 40) / 40.0;
                let variance = 1e-10 + excess * excess / 12.0;
                RegressionPoint { x: 16.0 * f64::from(i - 39), y: 2e-6 - excess / 2.0, excess, variance }
            })
            .collect();
        let line = fit(&points, WIDE).expect("it is a line");
        assert!((line.offset - 2e-6).abs() < 1e-6 && line.scatter < 1e-2, "{line:?}");
    }

    fn point(x: f64, y: f64) -> RegressionPoint {
        RegressionPoint { x, y, excess: 0.0, variance: 1e-12 }
    }

    #[test]
    fn a_straight_line_is_found_exactly() {
        let points: Vec<_> = (-9..=0).map(|i| point(f64::from(i), 3e-5 + 1e-5 * f64::from(i))).collect();
        let line = fit(&points, WIDE).unwrap();
        assert!((line.offset - 3e-5).abs() < 1e-12);
        assert!((line.slope - 1e-5).abs() < 1e-12);
        assert!(line.variance_at(10.0) > line.variance_at(0.0));
    }

    #[test]
    fn the_prior_decides_while_the_samples_cannot() {
        let prior = SlopePrior { slope: 2e-5, variance: 1e-14 };
        let line = fit(&[point(-1.0, 0.0), point(0.0, 1e-4)], prior).unwrap();
        assert!((line.slope - 2e-5).abs() < 2e-6, "{line:?}");
        let line = fit(&[point(0.0, 1e-4)], prior).unwrap();
        assert!((line.slope - 2e-5).abs() < 1e-12);
        assert!(fit(&[], prior).is_none());
    }

    #[test]
    fn queues_on_one_direction_do_not_bend_the_line() {
        // Every excess delay is found half in the offset, as when only the way back has a queue.
        let points: Vec<_> = (-19..=0)
            .map(|i: i32| {
                let excess = f64::from((i * 7).rem_euclid(5)) * 1e-4;
                let variance = 1e-12 + excess * excess / 12.0;
                RegressionPoint { x: f64::from(i), y: 1e-5 + excess / 2.0, excess, variance }
            })
            .collect();
        let line = fit(&points, WIDE).unwrap();
        assert!((line.offset - 1e-5).abs() < 3e-6, "{line:?}");
    }

    #[test]
    fn the_run_test_has_two_sides() {
        assert!(!is_bent(16, 7));
        assert!(is_bent(16, 6));
        assert!(!is_bent(3, 2));
        assert_eq!(count_runs([1.0, 2.0, -1.0, 1.0].into_iter()), 3);
    }
}
