//! Pulses: which second they begin.

use chime_time::{NtpDuration, SECOND_UNITS};

/// Share of the time between two pulses by which what completes them may be wrong: nearer to the half nobody could say
/// which pulse it was.
const ERROR_SHARE_MAX: f64 = 0.4;

/// How pulses come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pulses {
    /// Pulses in each second; positive.
    pub rate: u32,
    /// Width of a pulse, seconds; 0 when only one of its edges is reported.
    pub width: f64,
}

impl Pulses {
    /// Time between two of them, seconds.
    #[must_use]
    pub fn interval(&self) -> f64 {
        1.0 / f64::from(self.rate.max(1))
    }

    /// Error that what completes them may have, seconds: with both edges reported half of the shorter way to the other edge.
    #[must_use]
    pub fn error_max(&self) -> f64 {
        let interval = self.interval();
        let usual = ERROR_SHARE_MAX * interval;
        if self.width > 0.0 { usual.min(self.width.min(interval - self.width) / 2.0) } else { usual }
    }
}

/// What a pulse says of the offset: `offset` less as many intervals as bring it near zero; seconds, positive when our
/// clock is behind, at most half of the time between two pulses.
#[must_use]
pub fn wrapped(offset: NtpDuration, pulses: Pulses) -> f64 {
    // Whole seconds are whole intervals, and would cost precision.
    let fraction = NtpDuration::from_bits(offset.to_bits() % SECOND_UNITS).as_secs_f64();
    let interval = pulses.interval();
    fraction - (fraction / interval).round() * interval
}

/// The offset of a pulse in full: `offset` and as many intervals as bring it next to `reference`, what another clock says
/// our offset is, with an error of at most `reference_error`. `None` when that is too far from any of them to tell which it
/// was. All in seconds, positive when our clock is behind.
#[must_use]
pub fn align(offset: f64, pulses: Pulses, reference: f64, reference_error: f64) -> Option<f64> {
    let interval = pulses.interval();
    let aligned = offset + ((reference - offset) / interval).round() * interval;
    let far = (aligned - reference).abs() + reference_error;
    (far <= pulses.error_max()).then_some(aligned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EACH_SECOND: Pulses = Pulses { rate: 1, width: 0.0 };

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn a_pulse_says_how_far_the_nearest_one_is() {
        let wrapped = |offset, pulses| wrapped(NtpDuration::from_secs_f64(offset), pulses);
        assert!(close(wrapped(-0.25, EACH_SECOND), -0.25), "our clock is ahead");
        assert!(close(wrapped(-0.9, EACH_SECOND), 0.1), "our clock is behind");
        assert!(close(wrapped(1_000_000_000.25, Pulses { rate: 5, ..EACH_SECOND }), 0.05));
    }

    #[test]
    fn another_clock_says_which_second_it_was() {
        assert!(align(-0.25, EACH_SECOND, 11.6, 0.0).is_some_and(|offset| close(offset, 11.75)));
        assert!(align(-0.25, EACH_SECOND, -3.1, 0.1).is_some_and(|offset| close(offset, -3.25)));
        let near_limit = |reference, error| align(0.0, EACH_SECOND, reference, error).is_some();
        assert!(near_limit(0.399, 0.0) && !near_limit(0.401, 0.0));
        assert!(near_limit(0.3, 0.099) && !near_limit(0.3, 0.101));
    }

    #[test]
    fn with_both_edges_it_must_be_nearer() {
        let wide = Pulses { rate: 1, width: 0.2 };
        assert!(align(0.0, wide, 0.09, 0.0).is_some() && align(0.0, wide, 0.11, 0.0).is_none());
        let inverted = Pulses { rate: 1, width: 0.9 };
        assert!(align(0.0, inverted, 0.04, 0.0).is_some() && align(0.0, inverted, 0.06, 0.0).is_none());
    }

    proptest! {
        #[test]
        fn an_aligned_offset_is_the_pulse_and_near_the_reference(
            raw in -0.5..0.5, reference in -1e9..1e9, rate in 1_u32..1000, error in 0.0..0.1
        ) {
            let pulses = Pulses { rate, width: 0.0 };
            if let Some(aligned) = align(raw, pulses, reference, error) {
                prop_assert!((aligned - reference).abs() <= pulses.error_max());
                let turns = (aligned - raw) / pulses.interval();
                prop_assert!((turns - turns.round()).abs() < 1e-3);
            }
        }
    }
}
