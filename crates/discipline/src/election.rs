//! The selection from beginning to end: who may vote, who tells the truth, who is followed. RFC 5905 §11.2.

use crate::cluster::{self, Survivor};
use crate::correction::ClockPoint;
use crate::leap::smeared;
use crate::selection::{self, CorrectnessInterval};
use crate::source::{Candidate, Source};
use crate::{Leap, SelectionState, Settings, SourceId};
use chime_time::MonoTime;

/// Score from which on another source takes over: being a little better has to last, being much better does not.
const SCORE_TAKEOVER: f64 = 10.0;
/// Scores end here, so that a source that was good for long is forgotten soon enough.
const SCORE_MAX: f64 = 1000.0;

/// What came out of a selection.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// No source is selectable.
    Nobody,
    /// Other sources are about to have enough samples.
    Waiting,
    /// The sources that vote do not agree.
    NoMajority { selectable: usize },
    /// They agree, but are too few, or a required one is missing.
    TooFew { agreeing: usize, required: usize },
    /// These are followed.
    Chosen(Choice),
}

/// What is known at the time of a selection beside the sources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: MonoTime,
    pub(crate) clock: ClockPoint,
    /// Leap seconds may be smeared now.
    pub(crate) smear_season: bool,
    /// A source is required that is not there yet.
    pub(crate) requires: bool,
}

/// The sources to follow.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) selected: Candidate,
    /// All that agree.
    pub(crate) truechimers: Vec<Candidate>,
    /// All that are combined, the selected one among them, with the distances that weigh them.
    pub(crate) combined: Vec<(Candidate, f64)>,
    /// Where true time may lie if most of those that vote are right, whoever of them that is.
    pub(crate) possible: CorrectnessInterval,
    /// What most of the truechimers announce.
    pub(crate) leap: Leap,
    /// Whether their time is smeared around leap seconds.
    pub(crate) smeared: bool,
}

/// Sets the state of every source and says whom to follow. `followed`: the source selected so far. `is_waiting` is
/// asked with the number of selectable sources when the choice could be made but may be too early.
pub(crate) fn elect(
    sources: &mut [Source],
    followed: Option<SourceId>,
    moment: Moment,
    settings: &Settings,
    is_waiting: impl FnOnce(&[Source], usize) -> bool,
) -> Outcome {
    let Moment { now, clock, smear_season, requires } = moment;
    let mut candidates = candidates(sources, now, clock, settings);
    if candidates.is_empty() {
        candidates = orphan(sources, now, clock, settings);
    }
    if smear_season {
        smeared::notice_drift(sources, &candidates);
    }
    let smeared = smeared::separate(sources, &mut candidates);
    if candidates.is_empty() {
        return Outcome::Nobody;
    }
    if is_waiting(sources, candidates.len()) {
        set_states(sources, &candidates, SelectionState::WaitsForSamples);
        return Outcome::Waiting;
    }
    let Some((truechimers, possible)) = truechimers(sources, &candidates) else {
        return Outcome::NoMajority { selectable: candidates.len() };
    };
    let required = settings.minimum_agreeing_sources.max(1);
    if truechimers.len() < required || lacks_required(sources, &truechimers, requires) {
        set_states(sources, &truechimers, SelectionState::WaitsForSources);
        return Outcome::TooFew { agreeing: truechimers.len(), required };
    }
    let leap = leap(sources, &truechimers);
    let preferred = preferred(sources, &truechimers);
    let ranked = rank(sources, &preferred, settings);
    let selected = select(sources, &ranked, followed, settings);
    let combined = survivors(sources, &ranked, selected, settings);
    Outcome::Chosen(Choice { selected: ranked[selected].0, truechimers, combined, possible, leap, smeared })
}

fn set_states(sources: &mut [Source], candidates: &[Candidate], state: SelectionState) {
    for candidate in candidates {
        sources[candidate.index].state = state;
    }
}

/// The sources that can be selected on their own merits; the others get their state.
fn candidates(
    sources: &mut [Source],
    now: MonoTime,
    clock: ClockPoint,
    settings: &Settings,
) -> Vec<Candidate> {
    let mut candidates = Vec::with_capacity(sources.len());
    let reachable = sources.iter().filter(|source| source.reach != 0 && !source.options.no_select);
    let ages = reachable.filter_map(|source| source.filter.oldest_at()).map(|at| now.seconds_since(at));
    let oldest = ages.fold(0.0, f64::max);
    for (index, source) in sources.iter_mut().enumerate() {
        match source.candidate(index, (now, clock, oldest), settings) {
            Ok(candidate) => candidates.push(candidate),
            Err(state) => {
                source.state = state;
                source.score = 1.0;
            }
        }
    }
    candidates
}

/// Of the servers that serve their own time, as we do, the one that all follow: the one with the lowest reference identifier,
/// unless that is us.
fn orphan(sources: &mut [Source], now: MonoTime, clock: ClockPoint, settings: &Settings) -> Vec<Candidate> {
    let Some(local) = settings.local else { return Vec::new() };
    let orphans = sources
        .iter()
        .enumerate()
        .filter(|(_, source)| source.state == SelectionState::Orphan && source.stratum == local.stratum);
    let Some((index, lowest)) = orphans.min_by_key(|(_, source)| source.reference_id) else {
        return Vec::new();
    };
    if lowest.our_reference_id.is_none_or(|ours| ours < lowest.reference_id) {
        return Vec::new();
    }
    let settings = Settings { local: None, ..*settings };
    sources[index].candidate(index, (now, clock, 0.0), &settings).into_iter().collect()
}

/// The candidates that agree with the majority of those that vote: of the trusted ones when there are any. And where true
/// time may lie if any majority is right.
fn truechimers(
    sources: &mut [Source],
    candidates: &[Candidate],
) -> Option<(Vec<Candidate>, CorrectnessInterval)> {
    let any_trusted = candidates.iter().any(|c| sources[c.index].options.trust);
    let votes = |source: &Source| !any_trusted || source.options.trust;
    let intervals: Vec<_> =
        candidates.iter().filter(|c| votes(&sources[c.index])).map(|c| c.interval).collect();
    let (Some(agreed), Some(possible)) = (selection::intersect(&intervals), selection::possible(&intervals))
    else {
        set_states(sources, candidates, SelectionState::Falseticker);
        return None;
    };
    let mut truechimers = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let source = &mut sources[candidate.index];
        // Who has no vote must agree entirely: one that only touches what the trusted ones say would pull them away.
        let agrees = if votes(source) {
            candidate.interval.covers(&agreed)
        } else {
            candidate.interval.covers(&agreed) || agreed.covers(&candidate.interval)
        };
        if agrees {
            truechimers.push(*candidate);
        } else {
            let voted = votes(source);
            source.state = if voted { SelectionState::Falseticker } else { SelectionState::Untrusted };
            source.score = 1.0;
        }
    }
    Some((truechimers, possible))
}

/// Whether the operator requires sources of which none is a truechimer; `requires`: whether one is required that is not here.
fn lacks_required(sources: &[Source], truechimers: &[Candidate], requires: bool) -> bool {
    (requires || sources.iter().any(|source| source.options.require && !source.options.no_select))
        && !truechimers.iter().any(|candidate| sources[candidate.index].options.require)
}

/// A leap second counts when more than half of the truechimers announce it; of the trusted ones when there are any, as only
/// these vote: a reference clock may follow them through a leap second of which it cannot tell.
fn leap(sources: &[Source], truechimers: &[Candidate]) -> Leap {
    let all = || truechimers.iter().map(|candidate| &sources[candidate.index]);
    let any_trusted = all().any(|source| source.options.trust);
    let voters = || all().filter(|source| !any_trusted || source.options.trust);
    let announced = |leap: Leap| 2 * voters().filter(|source| source.leap == leap).count() > voters().count();
    [Leap::Insert, Leap::Delete].into_iter().find(|&leap| announced(leap)).unwrap_or(Leap::NoWarning)
}

/// Only those that the operator prefers, when there are any among the truechimers.
fn preferred(sources: &mut [Source], truechimers: &[Candidate]) -> Vec<Candidate> {
    let is_preferred = |sources: &[Source], c: &Candidate| sources[c.index].options.prefer;
    if !truechimers.iter().any(|c| is_preferred(sources, c)) {
        return truechimers.to_vec();
    }
    let (preferred, others): (Vec<_>, Vec<_>) =
        truechimers.iter().copied().partition(|c| is_preferred(sources, c));
    set_states(sources, &others, SelectionState::NotPreferred);
    preferred
}

/// Adds the distance by which truechimers are compared: the root distance, and something for each stratum.
fn rank(sources: &[Source], candidates: &[Candidate], settings: &Settings) -> Vec<(Candidate, f64)> {
    let lowest = candidates.iter().map(|c| sources[c.index].stratum).min().unwrap_or(1);
    candidates
        .iter()
        .map(|candidate| {
            let above = f64::from(sources[candidate.index].stratum.saturating_sub(lowest));
            (*candidate, (candidate.root_distance + settings.stratum_weight * above).max(1e-9))
        })
        .collect()
}

/// The place in `ranked` of the source to follow: the one followed so far, unless another one has been better.
fn select(
    sources: &mut [Source],
    ranked: &[(Candidate, f64)],
    followed: Option<SourceId>,
    settings: &Settings,
) -> usize {
    let nearest = (0..ranked.len()).min_by(|&a, &b| ranked[a].1.total_cmp(&ranked[b].1)).unwrap_or(0);
    let Some(current) = ranked.iter().position(|(c, _)| Some(sources[c.index].id) == followed) else {
        reset_scores(sources, ranked);
        return nearest;
    };
    for (place, (candidate, distance)) in ranked.iter().enumerate() {
        let source = &mut sources[candidate.index];
        if place != current && source.fresh {
            let ratio = ranked[current].1 / (distance + settings.reselect_distance);
            source.score = (source.score * ratio).clamp(1.0, SCORE_MAX);
        }
    }
    let score = |place: usize| sources[ranked[place].0.index].score;
    let best = (0..ranked.len())
        .filter(|&place| place != current)
        .max_by(|&a, &b| score(a).total_cmp(&score(b)))
        .filter(|&place| score(place) > SCORE_TAKEOVER);
    if let Some(best) = best {
        reset_scores(sources, ranked);
        return best;
    }
    current
}

fn reset_scores(sources: &mut [Source], ranked: &[(Candidate, f64)]) {
    for (candidate, _) in ranked {
        sources[candidate.index].score = 1.0;
    }
}

/// Those near enough to be combined with the selected one and not cut off by the cluster algorithm.
fn survivors(
    sources: &mut [Source],
    ranked: &[(Candidate, f64)],
    selected: usize,
    settings: &Settings,
) -> Vec<(Candidate, f64)> {
    let distance_max = ranked[selected].1 * settings.combine_limit;
    let selected_index = ranked[selected].0.index;
    let mut near: Vec<(Candidate, f64)> = Vec::with_capacity(ranked.len());
    for (candidate, distance) in ranked {
        if candidate.index == selected_index || *distance <= distance_max {
            near.push((*candidate, *distance));
        } else {
            sources[candidate.index].state = SelectionState::NotCombined;
        }
    }
    let members: Vec<Survivor> = near
        .iter()
        .map(|(candidate, distance)| Survivor {
            offset: candidate.estimate.offset,
            jitter: candidate.estimate.standard_deviation,
            distance: *distance,
        })
        .collect();
    let place = near.iter().position(|(c, _)| c.index == selected_index).unwrap_or(0);
    let kept = cluster::prune(&members, place, settings.survivors_min);
    for ((candidate, _), kept) in near.iter().zip(&kept) {
        sources[candidate.index].state = match kept {
            _ if candidate.index == selected_index => SelectionState::Selected,
            true => SelectionState::Combined,
            false => SelectionState::Outlier,
        };
    }
    near.into_iter().zip(kept).filter_map(|(member, kept)| kept.then_some(member)).collect()
}
