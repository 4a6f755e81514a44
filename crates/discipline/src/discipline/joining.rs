//! Which of the chosen sources are estimated together, and what comes out.

use super::Discipline;
use crate::combine::{self, Combined, Contribution};
use crate::election::Choice;
use crate::estimator::joint::{self, Joint, MEMBERS_MAX};
use crate::source::Source;
use crate::{SelectionState, SourceId};
use chime_time::MonoTime;

/// Standard errors by which the rates of honest sources may differ.
const RATE_SIGMAS: f64 = 6.0;
/// Rates closer than this are alike, s per s: the sources are disciplined clocks themselves.
const RATE_MARGIN: f64 = 5e-8;

impl Discipline {
    /// One estimate from the chosen sources: the joint one once two of them are known well enough, else an average.
    pub(super) fn combine(&mut self, now: MonoTime, choice: &Choice) -> Option<Combined> {
        let contributions: Vec<Contribution> = choice
            .combined
            .iter()
            .map(|&(candidate, distance)| Contribution { estimate: candidate.estimate, distance })
            .collect();
        let average = combine::combine(&contributions)?;
        self.renew_joint(choice);
        let Some(joint) = &self.joint else { return Some(average) };
        let (clock, from, moments) = (self.clock.correction.at(now), joint.point(), joint.moments());
        let elapsed = clock.free - from.free;
        Some(Combined {
            offset: joint.anchor() + moments.offset + moments.frequency * elapsed
                - (clock.correction - from.correction),
            frequency: moments.frequency,
            skew: moments.frequency_variance.sqrt(),
            wander_square: moments.wander_square,
            ..average
        })
    }

    fn renew_joint(&mut self, choice: &Choice) {
        let wanted = self.wanted_members(choice);
        if wanted.len() < 2 {
            self.joint = None;
            return;
        }
        let gone: Vec<SourceId> =
            self.joint.iter().flat_map(Joint::members).filter(|id| !wanted.contains(id)).collect();
        let is_refuted =
            |id: SourceId| self.source(id).is_none_or(is_refuted) || self.is_out_of_step(choice, id);
        if gone.iter().any(|&id| is_refuted(id)) {
            // What it said is not to be believed, and cannot be taken out of what it was mixed into.
            self.joint = None;
        }
        let candidates: Vec<joint::Candidate<'_>> = wanted
            .iter()
            .filter_map(|&id| self.sources.iter().find(|source| source.id == id))
            .filter_map(candidate)
            .collect();
        match &mut self.joint {
            Some(joint) => {
                gone.into_iter().for_each(|id| joint.leave(id));
                for candidate in &candidates {
                    if joint.has(candidate.id) { joint.observe(candidate) } else { joint.join(candidate) }
                }
            }
            None => self.joint = Joint::new(&candidates),
        }
        self.joint.take_if(|joint| !joint.is_sound());
    }

    /// The members so far that are still combined, and the nearest of the others.
    fn wanted_members(&self, choice: &Choice) -> Vec<SourceId> {
        let mut near: Vec<_> = choice
            .combined
            .iter()
            .map(|(candidate, distance)| (&self.sources[candidate.index], *distance))
            .filter(|(source, _)| source.filter.estimator().is_some_and(|estimator| estimator.is_settled()))
            .filter(|(source, _)| !self.is_out_of_step(choice, source.id))
            .collect();
        let is_member = |source: &Source| self.joint.as_ref().is_some_and(|joint| joint.has(source.id));
        near.sort_by(|a, b| is_member(b.0).cmp(&is_member(a.0)).then(a.1.total_cmp(&b.1)));
        near.iter().take(MEMBERS_MAX).map(|(source, _)| source.id).collect()
    }
}

impl Discipline {
    /// Whether the clock of a source runs at another rate than those of most others: a constant difference may be the
    /// asymmetry of a path, a growing one may not. Of two nobody can say which.
    fn is_out_of_step(&self, choice: &Choice, id: SourceId) -> bool {
        let mut rates: Vec<(f64, f64, SourceId)> = choice
            .combined
            .iter()
            .map(|(member, _)| {
                (member.estimate.frequency, member.estimate.skew, self.sources[member.index].id)
            })
            .collect();
        let Some(own) = rates.iter().copied().find(|rate| rate.2 == id) else { return false };
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let middle = rates[rates.len() / 2];
        let error = RATE_SIGMAS * own.1.hypot(middle.1) + RATE_MARGIN;
        rates.len() > 2 && (own.0 - middle.0).abs() > error
    }
}

/// Whether what a source said turned out to be wrong, rather than that it says nothing any more.
fn is_refuted(source: &Source) -> bool {
    matches!(
        source.state,
        SelectionState::Falseticker | SelectionState::Outlier | SelectionState::Unsynchronized
    )
}

fn candidate(source: &Source) -> Option<joint::Candidate<'_>> {
    Some(joint::Candidate {
        id: source.id,
        estimator: source.filter.estimator()?,
        anchor: source.filter.anchor(),
        fresh: source.filter.newest_exchange().filter(|_| source.fresh),
        fading: source.filter.fading(),
    })
}
