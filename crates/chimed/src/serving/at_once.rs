//! How many answers are sent and sealed at once.
//!
//! When the last one of many leaves is harder to foretell than when a single one does: what interrupts the processor counts
//! for all that are still to go. Some together cost less, so they go so where there is always more to do than is done, and not
//! where requests have but waited for an interruption to end.

/// From so many requests in a batch on, it is a large one.
const REQUESTS_MANY: usize = 32;
/// After so many large batches, or more of them than others, speed is what counts. They have more requests than wait in a socket's
/// queue after any interruption.
const LARGE_BATCHES_MANY: u8 = 64;

/// How many answers are sent and sealed at once. Sealed ones are sent before others are sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AtOnce {
    pub(super) sent: usize,
    pub(super) sealed: usize,
}

impl AtOnce {
    /// More than eight cost hardly less each, and what interrupts the processor while they are sent counts for more of them.
    pub(super) const MANY: Self = Self { sent: 8, sealed: chime_server::NTS_REQUESTS_MAX };
    const FEW: Self = Self { sent: 1, sealed: 2 };
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pressure {
    /// By how much large batches were more than others lately, up to twice [`LARGE_BATCHES_MANY`].
    large_batches: u8,
}

impl Pressure {
    /// A batch of so many requests has come: how these are to be answered.
    pub(super) fn add(&mut self, requests: usize) -> AtOnce {
        self.large_batches = match requests {
            ..REQUESTS_MANY => self.large_batches.saturating_sub(1),
            _ => (self.large_batches + 1).min(2 * LARGE_BATCHES_MANY),
        };
        let is_much = requests >= REQUESTS_MANY && self.large_batches >= LARGE_BATCHES_MANY;
        if is_much { AtOnce::MANY } else { AtOnce::FEW }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_go_together_when_large_batches_do_not_end() {
        let mut pressure = Pressure::default();
        for _ in 1..LARGE_BATCHES_MANY {
            assert_eq!(pressure.add(64), AtOnce::FEW);
        }
        assert_eq!(pressure.add(32), AtOnce::MANY);
        assert_eq!(pressure.add(31), AtOnce::FEW);
    }

    #[test]
    fn small_batches_among_large_ones_are_answered_one_by_one_and_change_nothing_for_the_others() {
        let mut pressure = Pressure::default();
        for _ in 0..1000 {
            pressure.add(64);
        }
        for _ in 0..LARGE_BATCHES_MANY {
            assert_eq!(pressure.add(1), AtOnce::FEW);
        }
        assert_eq!(pressure.add(64), AtOnce::MANY);
        for _ in 0..3 {
            pressure.add(1);
        }
        assert_eq!(pressure.add(64), AtOnce::FEW);
    }
}
