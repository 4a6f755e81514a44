//! A normal distribution of a few states, with its covariance in factors that stay sound for years.
//!
//! The covariance is U·D·Uᵀ, U upper triangular with a unit diagonal, D diagonal and not negative. Measurements follow
//! Bierman, time updates and mixtures Thornton's modified weighted Gram-Schmidt (G. J. Bierman, Factorization Methods
//! for Discrete Sequential Estimation, 1977, ch. V and VI). Variances from 1e-2 to 1e-24 s² live in one matrix: as a plain
//! matrix it loses its positive eigenvalues to rounding within hours.

use super::saved::{ReadWords, Words};

/// Columns that a time update may combine: three mixed distributions with their means, and noise.
const COLUMNS_MAX: usize = 56;

/// A belief about `N` states at the most, of which `states` are in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gaussian<const N: usize> {
    states: usize,
    /// Expected values.
    pub(crate) mean: [f64; N],
    /// Above the diagonal: U.
    upper: [[f64; N]; N],
    /// D.
    diagonal: [f64; N],
}

/// One part of a mixture that becomes a single distribution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a, const N: usize> {
    /// Its probability; those of all parts sum up to 1.
    pub(crate) weight: f64,
    pub(crate) belief: &'a Gaussian<N>,
}

/// What one direction of an exchange measures: a state vector times this, with signs only.
pub(crate) type Row<const N: usize> = [f64; N];

impl<const N: usize> Gaussian<N> {
    /// Independent states: expected values and variances.
    pub(crate) fn independent(states: &[(f64, f64)]) -> Self {
        let mut this =
            Self { states: states.len(), mean: [0.0; N], upper: [[0.0; N]; N], diagonal: [0.0; N] };
        for (index, &(mean, variance)) in states.iter().enumerate() {
            (this.mean[index], this.diagonal[index]) = (mean, variance);
        }
        this
    }

    /// The covariance of two states.
    pub(crate) fn covariance(&self, a: usize, b: usize) -> f64 {
        (a.max(b)..self.states).map(|k| self.factor(a, k) * self.factor(b, k) * self.diagonal[k]).sum()
    }

    /// Entry of U with its diagonal.
    fn factor(&self, row: usize, column: usize) -> f64 {
        if row == column { 1.0 } else { self.upper[row][column] }
    }

    /// Expected value of a measurement.
    pub(crate) fn project(&self, row: &Row<N>) -> f64 {
        (0..self.states).map(|i| row[i] * self.mean[i]).sum()
    }

    /// Variance of what a measurement would show, without its own noise.
    pub(crate) fn projected_variance(&self, row: &Row<N>) -> f64 {
        (0..self.states).map(|k| self.projected_factor(row, k).powi(2) * self.diagonal[k]).sum()
    }

    /// Entry `k` of Uᵀ·row.
    fn projected_factor(&self, row: &Row<N>, k: usize) -> f64 {
        row[k] + (0..k).map(|i| self.upper[i][k] * row[i]).sum::<f64>()
    }

    /// Takes over a scalar measurement: `row` · state was found to be higher by `innovation` than expected, with a
    /// noise of variance `noise`. Bierman's update; exact, and never makes a variance negative.
    pub(crate) fn measure(&mut self, row: &Row<N>, innovation: f64, noise: f64) {
        let n = self.states;
        let mut gain = [0.0; N];
        let mut total = noise;
        for k in 0..n {
            let factor = self.projected_factor(row, k);
            let weighted = factor * self.diagonal[k];
            let before = total;
            total += factor * weighted;
            if total <= 0.0 {
                continue;
            }
            let share = -factor / before;
            self.diagonal[k] *= before / total;
            gain[k] = weighted;
            for (row, gain) in self.upper.iter_mut().zip(&mut gain).take(k) {
                let upper = row[k];
                if before > 0.0 {
                    row[k] = upper + *gain * share;
                }
                *gain += weighted * upper;
            }
        }
        if total > 0.0 {
            for (mean, gain) in self.mean.iter_mut().zip(gain).take(n) {
                *mean += gain / total * innovation;
            }
        }
    }

    /// Multiplies all variances.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.diagonal.iter_mut().for_each(|variance| *variance *= factor);
    }

    /// The distribution with the mean and covariance of a mixture, after `elapsed` seconds in which state 0 grew by state 1
    /// each second, with independent `noise` vectors (each a variance and a column) added. `parts` is not empty and has
    /// at most three entries.
    pub(crate) fn propagated(parts: &[Part<'_, N>], elapsed: f64, noise: &[(f64, [f64; N])]) -> Self {
        let n = parts[0].belief.states;
        let mut mean = [0.0; N];
        for part in parts {
            for (mean, value) in mean.iter_mut().zip(part.belief.mean).take(n) {
                *mean += part.weight * value;
            }
        }
        let mut columns = Columns::<N>::new();
        for part in parts {
            columns.push_belief(part, n);
            if parts.len() > 1 {
                columns.push(part.weight, std::array::from_fn(|i| part.belief.mean[i] - mean[i]));
            }
        }
        for column in &mut columns.columns[..columns.count] {
            column[0] += elapsed * column[1];
        }
        for &(variance, column) in noise {
            columns.push(variance, column);
        }
        mean[0] += elapsed * mean[1];
        let (upper, diagonal) = columns.factorize(n);
        Self { states: n, mean, upper, diagonal }
    }

    /// The same belief in a distribution that has room for more states.
    pub(crate) fn widened<const M: usize>(&self) -> Gaussian<M> {
        let mut wide = Gaussian::independent(&[(0.0, 0.0); N][..self.states]);
        for i in 0..self.states {
            (wide.mean[i], wide.diagonal[i]) = (self.mean[i], self.diagonal[i]);
            wide.upper[i][..self.states].copy_from_slice(&self.upper[i][..self.states]);
        }
        wide
    }

    /// The same belief with one more state, independent of the others; `None` when there is no room.
    pub(crate) fn extended(&self, mean: f64, variance: f64) -> Option<Self> {
        let mut this = *self;
        let index = this.states;
        if index >= N {
            return None;
        }
        this.states += 1;
        (this.mean[index], this.diagonal[index]) = (mean, variance);
        (0..N).for_each(|i| this.upper[i][index] = 0.0);
        Some(this)
    }

    /// The same belief about some of the states only, in the order given.
    pub(crate) fn marginal(&self, keep: &[usize]) -> Self {
        let mut columns = Columns::<N>::new();
        for k in 0..self.states {
            let column = std::array::from_fn(|i| {
                keep.get(i).map_or(0.0, |&row| if row <= k { self.factor(row, k) } else { 0.0 })
            });
            columns.push(self.diagonal[k], column);
        }
        let (upper, diagonal) = columns.factorize(keep.len());
        let mean = std::array::from_fn(|i| keep.get(i).map_or(0.0, |&row| self.mean[row]));
        Self { states: keep.len(), mean, upper, diagonal }
    }

    /// Writes it down: expected values, and then for each state the factors that belong to it.
    pub(super) fn write(&self, words: &mut Words) {
        self.mean[..self.states].iter().for_each(|mean| words.number(*mean));
        for k in 0..self.states {
            (0..k).for_each(|i| words.number(self.upper[i][k]));
            words.number(self.diagonal[k]);
        }
    }

    /// Reads what [`write`](Self::write) wrote of a belief about all `N` states. `None` when it is none.
    pub(super) fn read(words: &mut ReadWords<'_>) -> Option<Self> {
        let mut this = Self::independent(&[(0.0, 0.0); N]);
        for mean in &mut this.mean {
            *mean = words.number()?;
        }
        for k in 0..N {
            for i in 0..k {
                this.upper[i][k] = words.number()?;
            }
            this.diagonal[k] = words.variance()?;
        }
        Some(this)
    }

    /// Whether every number in it is one.
    pub(crate) fn is_finite(&self) -> bool {
        let n = self.states;
        self.mean[..n].iter().chain(&self.diagonal[..n]).all(|value| value.is_finite())
            && self.upper[..n].iter().flatten().all(|value| value.is_finite())
    }
}

/// A matrix A with weights W whose A·W·Aᵀ is a covariance.
struct Columns<const N: usize> {
    count: usize,
    weights: [f64; COLUMNS_MAX],
    columns: [[f64; N]; COLUMNS_MAX],
}

impl<const N: usize> Columns<N> {
    const fn new() -> Self {
        Self { count: 0, weights: [0.0; COLUMNS_MAX], columns: [[0.0; N]; COLUMNS_MAX] }
    }

    fn push(&mut self, weight: f64, column: [f64; N]) {
        if weight > 0.0 {
            (self.weights[self.count], self.columns[self.count]) = (weight, column);
            self.count += 1;
        }
    }

    fn push_belief(&mut self, part: &Part<'_, N>, n: usize) {
        for k in 0..n {
            let mut column = [0.0; N];
            for (i, entry) in column.iter_mut().enumerate().take(k) {
                *entry = part.belief.upper[i][k];
            }
            column[k] = 1.0;
            self.push(part.weight * part.belief.diagonal[k], column);
        }
    }

    /// Modified weighted Gram-Schmidt: U and D of the covariance of the first `n` states.
    fn factorize(&mut self, n: usize) -> ([[f64; N]; N], [f64; N]) {
        let (mut upper, mut diagonal) = ([[0.0; N]; N], [0.0; N]);
        let (columns, weights) = (&mut self.columns[..self.count], &self.weights[..self.count]);
        for row in (0..n).rev() {
            // Products of this row with itself and all above it, in one pass over the columns.
            let mut products = [0.0; N];
            for (column, weight) in columns.iter().zip(weights) {
                let weighted = weight * column[row];
                for (product, entry) in products.iter_mut().zip(column).take(row + 1) {
                    *product += weighted * entry;
                }
            }
            diagonal[row] = products[row];
            if products[row] <= 0.0 {
                continue;
            }
            let mut shares = [0.0; N];
            for above in 0..row {
                shares[above] = products[above] / products[row];
                upper[above][row] = shares[above];
            }
            for column in columns.iter_mut() {
                let entry = column[row];
                for (value, share) in column.iter_mut().zip(shares).take(row) {
                    *value -= share * entry;
                }
            }
        }
        (upper, diagonal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Matrix = [[f64; 4]; 4];

    fn matrix(belief: &Gaussian<4>) -> Matrix {
        std::array::from_fn(|a| std::array::from_fn(|b| belief.covariance(a, b)))
    }

    fn assert_close(a: &Matrix, b: &Matrix) {
        for i in 0..4 {
            for j in 0..4 {
                let scale = (a[i][i] * a[j][j]).sqrt().max(1e-30);
                assert!((a[i][j] - b[i][j]).abs() < 1e-9 * scale, "{a:?}\n{b:?}");
            }
        }
    }

    fn correlated() -> Gaussian<4> {
        let mut belief = Gaussian::independent(&[(1.0, 2.0), (0.5, 1.0), (-1.0, 3.0), (0.0, 0.5)]);
        belief.measure(&[1.0, 0.0, 1.0, -1.0], 0.3, 0.2);
        belief.measure(&[-1.0, 0.5, 1.0, 1.0], -0.1, 0.7);
        belief
    }

    #[test]
    fn a_measurement_is_that_of_the_kalman_filter() {
        let mut belief = correlated();
        let before = matrix(&belief);
        let row = [-1.0, 0.0, 1.0, 1.0];
        let ph: [f64; 4] = std::array::from_fn(|i| (0..4).map(|j| before[i][j] * row[j]).sum());
        let total = (0..4).map(|i| row[i] * ph[i]).sum::<f64>() + 0.4;
        assert!((belief.projected_variance(&row) + 0.4 - total).abs() < 1e-12);
        let mean = belief.mean;
        belief.measure(&row, 0.25, 0.4);
        let expected: Matrix =
            std::array::from_fn(|i| std::array::from_fn(|j| before[i][j] - ph[i] * ph[j] / total));
        assert_close(&matrix(&belief), &expected);
        for i in 0..4 {
            assert!((belief.mean[i] - mean[i] - ph[i] / total * 0.25).abs() < 1e-12);
        }
    }

    #[test]
    fn time_and_mixture_are_those_of_the_moments() {
        let (a, b) = (correlated(), Gaussian::independent(&[(0.0, 1.0), (0.1, 0.2), (0.0, 1.0), (0.3, 0.0)]));
        let parts = [Part { weight: 0.7, belief: &a }, Part { weight: 0.3, belief: &b }];
        let mixed = Gaussian::propagated(&parts, 0.0, &[]);
        let (pa, pb) = (matrix(&a), matrix(&b));
        let expected: Matrix = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let spread = 0.7 * 0.3 * (a.mean[i] - b.mean[i]) * (a.mean[j] - b.mean[j]);
                0.7 * pa[i][j] + 0.3 * pb[i][j] + spread
            })
        });
        assert_close(&matrix(&mixed), &expected);
        let later = Gaussian::propagated(
            &[Part { weight: 1.0, belief: &mixed }],
            2.0,
            &[(0.5, [1.0, 1.0, 0.0, 0.0])],
        );
        assert!((later.mean[0] - mixed.mean[0] - 2.0 * mixed.mean[1]).abs() < 1e-12);
        let variance = expected[0][0] + 4.0 * expected[0][1] + 4.0 * expected[1][1] + 0.5;
        assert!((later.covariance(0, 0) - variance).abs() < 1e-9);
        assert!((later.covariance(0, 1) - (expected[0][1] + 2.0 * expected[1][1] + 0.5)).abs() < 1e-9);
    }

    #[test]
    fn states_come_and_go() {
        let belief = correlated();
        let three = belief.marginal(&[0, 1, 3]);
        assert_eq!(three.states, 3);
        assert!((three.covariance(0, 2) - belief.covariance(0, 3)).abs() < 1e-12);
        assert!((three.covariance(2, 2) - belief.covariance(3, 3)).abs() < 1e-12);
        let four = three.extended(7.0, 9.0).unwrap();
        assert!((four.covariance(3, 3) - 9.0).abs() < 1e-12 && four.covariance(0, 3).abs() < 1e-12);
        assert!(four.extended(0.0, 1.0).is_none());
    }

    #[test]
    fn a_certain_state_and_a_certain_measurement_do_no_harm() {
        let mut belief = Gaussian::<4>::independent(&[(0.0, 0.0), (0.0, 0.0), (0.0, 1e-24), (0.0, 1e4)]);
        belief.measure(&[1.0, 0.0, 0.0, 0.0], 1.0, 0.0);
        belief.measure(&[1.0, 0.0, 1.0, 1.0], 1.0, 0.0);
        belief.measure(&[1.0, 0.0, 1.0, 1.0], 0.0, 0.0);
        assert!(belief.is_finite());
        assert!((belief.mean[3] - 1.0).abs() < 1e-12);
    }
}
