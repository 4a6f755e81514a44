//! The recent round trips of one association, which the delay tests look back on.

use arrayvec::ArrayVec;

/// How many recent round trips count for the shortest and the median. A route that became longer for good is accepted after
/// as many answers.
pub(crate) const DELAYS_KEPT: usize = 8;
/// How many count for a quantile.
const QUANTILE_DELAYS_KEPT: usize = 64;

/// What is to be remembered.
#[derive(Clone, Debug, Default)]
pub(crate) struct DelayWindow {
    /// The last ones, oldest first; seconds.
    delays: ArrayVec<f64, QUANTILE_DELAYS_KEPT>,
}

impl DelayWindow {
    /// The shortest and the median of the last round trips; seconds.
    pub(crate) fn shortest_and_median(&self) -> Option<(f64, f64)> {
        let mut sorted: ArrayVec<f64, DELAYS_KEPT> =
            self.delays.iter().rev().copied().take(DELAYS_KEPT).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.first().map(|shortest| (*shortest, sorted[sorted.len() / 2]))
    }

    /// The round trip that a share of the last ones does not exceed; seconds. `None` while there are too few of them.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.delays.clone();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len() as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
        let place = (share.clamp(0.0, 1.0) * count).ceil().max(1.0) as usize - 1;
        // One of the list has to be below it, and more above than there are places.
        (count * share.min(1.0 - share) >= 0.5).then(|| sorted[place])
    }

    /// Remembers one.
    pub(crate) fn push(&mut self, delay_seconds: f64) {
        if self.delays.is_full() {
            self.delays.remove(0);
        }
        self.delays.push(delay_seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_is_forgotten_after_eight_and_a_quantile_looks_further_back() {
        let mut window = DelayWindow::default();
        assert_eq!((window.shortest_and_median(), window.quantile(0.5)), (None, None));
        window.push(1.0);
        (0..7).for_each(|_| window.push(3.0));
        assert_eq!(window.shortest_and_median(), Some((1.0, 3.0)));
        window.push(3.0);
        assert_eq!(window.shortest_and_median(), Some((3.0, 3.0)));
        assert_eq!(window.quantile(0.1), Some(1.0));
        (0..9).for_each(|_| window.push(2.0));
        assert_eq!(
            (window.quantile(0.05), window.quantile(0.5), window.quantile(0.95)),
            (Some(1.0), Some(2.0), Some(3.0))
        );
    }

    #[test]
    fn a_quantile_of_few_is_none() {
        let mut window = DelayWindow::default();
        (0..4).for_each(|_| window.push(1.0));
        assert_eq!(window.quantile(0.1), None);
        window.push(1.0);
        assert_eq!(window.quantile(0.1), Some(1.0));
    }
}
