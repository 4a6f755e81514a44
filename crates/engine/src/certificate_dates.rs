//! Certificates need a clock and the clock needs certificates: how their dates are judged when our clock may be wrong.
//!
//! While our clock is not known to be right, key establishment does not look at the certificate's dates (everything else
//! about it is checked), and the keys are *provisional*. Their answers are authentic in the sense that somebody who once
//! held the certificate's key sent them. Before such an answer becomes a sample, [`judge`] asks:
//!
//! 1. Is the certificate's last second before the **lower bound** of the true time (build date, last good time on disk)?
//!    Then it has expired, whatever anybody measures. This needs no answer at all and refuses the keys at once.
//! 2. Is the measured time before the lower bound? Then the server lies or is broken. An attacker with the key of an
//!    expired certificate must offer a time within its dates, so as soon as the lower bound is later than those dates
//!    there is nothing left that it could offer: a time inside is refused here, a time outside by rule 3.
//! 3. Is the measured time outside of the certificate's dates? Then it is expired, or not valid yet, *at the measured time*.
//!
//! A lower bound older than an expired certificate leaves a gap that one source alone cannot close. With several, the
//! first samples wait for a [`quorum`] of the authenticated sources, and [`majority`] decides: provisional certificates
//! that are not valid at the majority's time are refused before anything enters the discipline. Once the clock is
//! synchronised, what is still provisional is judged a last time, against our own clock.

use crate::DiscardReason;

/// The dates of a certificate chain; Unix seconds, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CertificateDates {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

/// How far before the lower bound a measured time may lie: our own record of the last good time has an error, too.
const LOWER_BOUND_SLACK_SECONDS: i64 = 60;

/// Judges a certificate by a measured time and the lower bound of the true time, both Unix seconds.
pub(crate) fn judge(dates: CertificateDates, measured: i64, lower_bound: i64) -> Result<(), DiscardReason> {
    judge_by_lower_bound(dates, lower_bound)?;
    if measured < lower_bound.saturating_sub(LOWER_BOUND_SLACK_SECONDS) {
        Err(DiscardReason::BeforeLowerBound)
    } else if measured < dates.not_before {
        Err(DiscardReason::CertificateNotYetValid)
    } else if measured > dates.not_after {
        Err(DiscardReason::CertificateExpired)
    } else {
        Ok(())
    }
}

/// Refuses a certificate that has certainly expired; needs no measurement.
pub(crate) const fn judge_by_lower_bound(
    dates: CertificateDates,
    lower_bound: i64,
) -> Result<(), DiscardReason> {
    if dates.not_after < lower_bound { Err(DiscardReason::CertificateExpired) } else { Ok(()) }
}

/// What one source says about our clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Claim {
    /// Remote minus local; seconds, positive = our clock is behind. Not a duration: a clock of 1970 may be more behind
    /// than durations can say.
    pub(crate) offset: f64,
    /// The round trip plus the server's own error bound: the true offset is within this of `offset`; seconds.
    pub(crate) error: f64,
}

/// How many claims are needed before any is believed, of `sources` authenticated sources: more than half.
pub(crate) const fn quorum(sources: usize) -> usize {
    sources / 2 + 1
}

/// The offset on which more than half of the claims agree, if there is one: the middle of the range where most
/// intervals overlap.
pub(crate) fn majority(claims: &[Claim]) -> Option<f64> {
    let mut edges: Vec<(f64, i32)> = Vec::with_capacity(claims.len() * 2);
    for claim in claims {
        edges.push((claim.offset - claim.error, -1));
        edges.push((claim.offset + claim.error, 1));
    }
    // At one point the starts (-1) come first, so that intervals that touch overlap.
    edges.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
    let (mut depth, mut best, mut range) = (0usize, 0usize, None);
    for (index, (at, kind)) in edges.iter().enumerate() {
        if *kind < 0 {
            depth += 1;
            if depth > best {
                best = depth;
                range = edges.get(index + 1).map(|(end, _)| (*at, *end));
            }
        } else {
            depth = depth.saturating_sub(1);
        }
    }
    let (low, high) = range.filter(|_| best >= quorum(claims.len()))?;
    Some(f64::midpoint(low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i64 = 31_557_600;
    const DATES: CertificateDates = CertificateDates { not_before: 50 * YEAR, not_after: 51 * YEAR };

    #[test]
    fn a_valid_certificate_is_believed_at_both_of_its_ends() {
        assert_eq!(judge(DATES, 50 * YEAR, 49 * YEAR), Ok(()));
        assert_eq!(judge(DATES, 51 * YEAR, 49 * YEAR), Ok(()));
        assert_eq!(judge(DATES, 50 * YEAR - 1, 49 * YEAR), Err(DiscardReason::CertificateNotYetValid));
        assert_eq!(judge(DATES, 51 * YEAR + 1, 49 * YEAR), Err(DiscardReason::CertificateExpired));
    }

    #[test]
    fn an_expired_certificate_has_no_time_left_that_it_could_offer() {
        for measured in [0, 50 * YEAR, 51 * YEAR, 52 * YEAR, 60 * YEAR, i64::MAX] {
            assert!(judge(DATES, measured, 51 * YEAR + 1).is_err(), "{measured}");
        }
    }

    #[test]
    fn a_time_before_the_lower_bound_is_refused() {
        let bound = 50 * YEAR + 1000;
        assert_eq!(judge(DATES, bound - 61, bound), Err(DiscardReason::BeforeLowerBound));
        assert_eq!(judge(DATES, bound - 60, bound), Ok(()));
    }

    const fn claim(offset: f64, error: f64) -> Claim {
        Claim { offset, error }
    }

    #[test]
    fn the_majority_decides_and_a_tie_does_not() {
        assert_eq!(majority(&[]), None);
        let lone = majority(&[claim(5.0, 0.1)]).expect("one of one is a majority");
        assert!((lone - 5.0).abs() < 1e-6);
        assert_eq!(majority(&[claim(5.0, 0.1), claim(-1e6, 0.1)]), None);
        let honest = [claim(5.0, 0.1), claim(-1e6, 0.1), claim(5.05, 0.1)];
        let agreed = majority(&honest).expect("two of three agree");
        assert!((agreed - 5.025).abs() < 1e-6, "{agreed}");
    }
}
