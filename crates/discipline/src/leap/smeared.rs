//! Sources that smear leap seconds, and those that do not: one kind is followed, never both.
//!
//! A smearing server spreads the second over hours, during which its time differs from UTC by up to a second, and says
//! nothing of it in its leap indicator. It is known for one because the operator says so, because its reference
//! identifier does (chrony and this program: 127.127.1.255; ntpd: 254 and the offset), or because it drifts away from
//! those that announce the leap second.

use crate::source::{Candidate, Source};
use crate::{Leap, SelectionState};
use chime_time::DAY_SECONDS;

/// Drift against the others from which on a source smears: half of the slowest smear in use, 1 s in 24 h. S per s.
const DRIFT_MIN: f64 = 5e-6;
/// The drift of fast smears ends here: nobody follows a clock that is slewed faster; s per s.
const DRIFT_MAX: f64 = 1e-3;
/// Standard errors by which the drift must be certain.
const DRIFT_SIGMAS: f64 = 4.0;
/// A smeared clock is never further from UTC than the second, and a little; seconds.
const DEVIATION_MAX: f64 = 1.05;
/// Sources that must agree on a frequency when none of them announces the leap second.
const QUORUM: usize = 3;

/// Whether smears may be under way, `seconds` after a leap second (negative before it): they last up to a day on either
/// side.
pub(crate) const fn is_season(seconds: i64) -> bool {
    seconds.abs() <= DAY_SECONDS
}

/// Marks sources that drift away from the others as smearing ones do. Only during the season.
pub(crate) fn notice_drift(sources: &mut [Source], candidates: &[Candidate]) {
    let announces = |c: &&Candidate| matches!(sources[c.index].leap, Leap::Insert | Leap::Delete);
    let announcing: Vec<Candidate> = candidates.iter().filter(announces).copied().collect();
    let honest = if announcing.is_empty() { candidates } else { &announcing };
    if announcing.is_empty() && candidates.len() < QUORUM {
        return;
    }
    let frequency = median(honest.iter().map(|c| c.estimate.frequency));
    let offset = median(honest.iter().map(|c| c.estimate.offset));
    for candidate in candidates {
        let source = &mut sources[candidate.index];
        let drift = (candidate.estimate.frequency - frequency).abs();
        let is_certain = drift > DRIFT_SIGMAS * candidate.estimate.skew;
        let deviation = (candidate.estimate.offset - offset).abs();
        if !matches!(source.leap, Leap::Insert | Leap::Delete)
            && is_certain
            && (DRIFT_MIN..DRIFT_MAX).contains(&drift)
            && deviation < DEVIATION_MAX
        {
            source.drifts_as_smeared = true;
        }
    }
}

/// Keeps the candidates of one kind: the smeared ones when more than half of all usable sources are, else the others.
/// Gives whether it is the smeared ones. Those of the other kind get their state.
pub(crate) fn separate(sources: &mut [Source], candidates: &mut Vec<Candidate>) -> bool {
    let usable = sources.iter().filter(|source| !source.options.no_select).count();
    let smeared = sources.iter().filter(|source| !source.options.no_select && source.is_smeared()).count();
    let follows_smeared = 2 * smeared > usable;
    candidates.retain(|candidate| {
        let source = &mut sources[candidate.index];
        let keep = source.is_smeared() == follows_smeared;
        if !keep {
            (source.state, source.score) = (SelectionState::Smeared, 1.0);
        }
        keep
    });
    follows_smeared
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
