//! Whether a server is wrong by something else each time.
//!
//! Queues make a round trip longer by twice as much as they move its offset, at least. Where offsets scatter by more than
//! that about any line, it is the server's clock that is unsteady, and what the round trips say of the accuracy is worth
//! nothing: a frequency that was found from seconds would be wrong by a thousand ppm, and be used for minutes.

use super::Exchange;

/// Exchanges of which that can be said.
const EXCHANGES_MIN: usize = 3;
/// What queues explain beyond the excess of a round trip over the shortest one: so many mean ones, as the line is theirs, too.
const JITTERS_EXPLAINED: f64 = 3.0;
/// What time stamps explain: so many times what they are uncertain by.
const FLOORS_EXPLAINED: f64 = 5.0;
/// By how much the frequency of an oscillator may change from one exchange to the next, s per s.
const OSCILLATOR_CHANGE: f64 = 2e-6;

/// Standard deviation of what neither queues nor the oscillator explain in the offsets of the first exchanges, seconds.
/// `shortest`: half of the shortest round trip; `jitter`: mean queueing delay of one way.
pub(super) fn unexplained(exchanges: &[Exchange], shortest: f64, jitter: f64) -> f64 {
    if exchanges.len() < EXCHANGES_MIN {
        return 0.0;
    }
    let explained = |exchange: &Exchange| {
        let excess = (exchange.delay / 2.0 - shortest).max(0.0);
        excess + JITTERS_EXPLAINED * jitter + FLOORS_EXPLAINED * exchange.floor
    };
    let line = Line::through(exchanges, explained);
    let span = exchanges[exchanges.len() - 1].point.free - exchanges[0].point.free;
    let bend = OSCILLATOR_CHANGE * span / (exchanges.len() - 1) as f64;
    let left = |exchange: &Exchange| (line.residual(exchange).abs() - explained(exchange) - bend).max(0.0);
    let squares: f64 = exchanges.iter().map(|exchange| left(exchange).powi(2)).sum();
    (squares / (exchanges.len() - 2) as f64).sqrt()
}

/// Offsets of the free oscillator as they should be.
struct Line {
    /// Oscillator's seconds and offset of a point on it.
    middle: (f64, f64),
    frequency: f64,
}

impl Line {
    /// The best line, weighted by what is explained.
    fn through(exchanges: &[Exchange], explained: impl Fn(&Exchange) -> f64) -> Self {
        let weight = |exchange: &Exchange| explained(exchange).powi(-2);
        let total: f64 = exchanges.iter().map(weight).sum();
        let mean = |value: fn(&Exchange) -> f64| {
            exchanges.iter().map(|exchange| weight(exchange) * value(exchange)).sum::<f64>() / total
        };
        let middle = (mean(|exchange| exchange.point.free), mean(free_offset));
        let (mut moment, mut square) = (0.0, 0.0);
        for exchange in exchanges {
            let elapsed = exchange.point.free - middle.0;
            moment += weight(exchange) * elapsed * (free_offset(exchange) - middle.1);
            square += weight(exchange) * elapsed * elapsed;
        }
        let frequency = if square > 0.0 { moment / square } else { 0.0 };
        Self { middle, frequency }
    }

    fn residual(&self, exchange: &Exchange) -> f64 {
        free_offset(exchange) - self.middle.1 - self.frequency * (exchange.point.free - self.middle.0)
    }
}

/// The offset as it would be had nobody corrected the clock, seconds.
fn free_offset(exchange: &Exchange) -> f64 {
    exchange.offset + exchange.point.correction
}

#[cfg(test)]
mod tests {
    use super::super::tests::exponential;
    use super::*;
    use crate::Lever;
    use crate::correction::ClockPoint;

    const JITTER: f64 = 1e-4;

    /// Eight exchanges with a server whose clock is wrong by `error`.
    fn left(seed: u64, mut error: impl FnMut(f64) -> f64) -> f64 {
        let mut exponential = exponential(seed);
        let exchanges: Vec<Exchange> = (0..8)
            .map(|number| {
                let free = 2.0 * f64::from(number);
                let (there, back) = (1e-2 + JITTER * exponential(), 1e-2 + JITTER * exponential());
                let point = ClockPoint { free, correction: 0.0 };
                Exchange {
                    point,
                    offset: error(free) + (there - back) / 2.0,
                    delay: there + back,
                    floor: 1e-9,
                    lever: Lever::default(),
                }
            })
            .collect();
        let shortest = exchanges.iter().map(|exchange| exchange.delay / 2.0).fold(f64::INFINITY, f64::min);
        unexplained(&exchanges, shortest, JITTER)
    }

    #[test]
    fn queues_and_any_frequency_explain_themselves() {
        for seed in 1..500 {
            assert_eq!(left(seed, |free| 0.3 + 0.05 * free), 0.0, "{seed}");
        }
    }

    #[test]
    fn what_they_do_not_explain_is_found() {
        for seed in 1..100 {
            let mut sign = 1.0;
            let found = left(seed, |_| {
                sign = -sign;
                5e-3 * sign
            });
            assert!((3e-3..7e-3).contains(&found), "{seed}: {found}");
        }
    }

    #[test]
    fn two_exchanges_are_always_on_a_line() {
        let exchange = |free, offset| Exchange {
            point: ClockPoint { free, correction: 0.0 },
            offset,
            delay: 1e-3,
            floor: 1e-9,
            lever: Lever::default(),
        };
        let three = [exchange(0.0, 0.0), exchange(2.0, 0.1), exchange(4.0, -0.1)];
        assert_eq!(unexplained(&three[..2], 5e-4, 1e-5), 0.0);
        assert!(unexplained(&three, 5e-4, 1e-5) > 0.05);
    }
}
