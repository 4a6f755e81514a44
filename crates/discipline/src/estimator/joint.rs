//! Several sources in one estimate: one clock, and for each source the base delay and the asymmetry of its path.
//!
//! Sources that disagree by a constant do not pull the clock back and forth: as all see the same clock, the disagreement
//! becomes the asymmetry of their paths, and every exchange with any of them improves the one estimate of offset and
//! frequency. Asymmetries are taken to be about a tenth of the base delay, either way: nearer sources decide.

use super::bank::{self, Bank, FREQUENCY, Moments, OFFSET};
use super::gaussian::Gaussian;
use super::{Estimator, Exchange, base_noise};
use crate::SourceId;
use crate::correction::ClockPoint;

/// Sources of one estimate; the nearest ones are taken.
pub(crate) const MEMBERS_MAX: usize = 4;
/// Offset, frequency, and two for each source.
const STATES: usize = 2 + 2 * MEMBERS_MAX;
/// Standard deviation of asymmetries as a share of the base delay.
const ASYMMETRY_SHARE: f64 = 0.1;
/// What a source said before it became a member is believed with this multiple of its variance: it saw the same
/// oscillator as the others did.
const PAST_CAUTION: f64 = 2.0;

/// A source to be estimated with others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) id: SourceId,
    pub(crate) estimator: &'a Estimator,
    /// What the offsets of the estimator have to be increased by to be comparable with those of others, seconds.
    pub(crate) anchor: f64,
    /// Its newest exchange, when that is new.
    pub(crate) fresh: Option<Exchange>,
    /// By how much less everything counts with each of its exchanges.
    pub(crate) fading: f64,
}

/// The joint estimate.
#[derive(Clone, Debug)]
pub(crate) struct Joint {
    /// In the order of their states.
    members: Vec<Member>,
    bank: Bank<STATES>,
    point: ClockPoint,
    /// What was taken off all offsets.
    anchor: f64,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    id: SourceId,
    /// Which softness its base delay belongs to.
    softness: usize,
}

impl Joint {
    /// Starts with the surest of the sources. `None` without any.
    pub(crate) fn new(candidates: &[Candidate<'_>]) -> Option<Self> {
        let variance = |candidate: &Candidate<'_>| candidate.estimator.moments().offset_variance;
        let surest = candidates.iter().min_by(|a, b| variance(a).total_cmp(&variance(b)))?;
        let mut bank = surest.estimator.bank().map(Gaussian::widened::<STATES>);
        // At the newest of what they know.
        let points = candidates.iter().map(|candidate| candidate.estimator.point());
        let point = points.max_by(|a, b| a.free.total_cmp(&b.free))?;
        let from = surest.estimator.point();
        // What was measured is offset and asymmetry together: each alone is uncertain, their sum is not.
        let spread = asymmetry_variance(surest.estimator);
        let mut apart = [0.0; STATES];
        (apart[OFFSET], apart[bank::asymmetry(0)]) = (-1.0, 1.0);
        bank.advance(point.free - from.free, point.correction - from.correction, &[(spread, apart)]);
        let member = Member { id: surest.id, softness: surest.estimator.softness_in_use() };
        let mut this = Self { members: vec![member], bank, point, anchor: surest.anchor };
        candidates
            .iter()
            .filter(|candidate| candidate.id != surest.id)
            .for_each(|candidate| this.join(candidate));
        Some(this)
    }

    /// Whether a source is in it.
    pub(crate) fn has(&self, id: SourceId) -> bool {
        self.place(id).is_some()
    }

    /// The members.
    pub(crate) fn members(&self) -> impl Iterator<Item = SourceId> + '_ {
        self.members.iter().map(|member| member.id)
    }

    fn place(&self, id: SourceId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    /// Adds a source, with what it knows about its path and the clock.
    pub(crate) fn join(&mut self, candidate: &Candidate<'_>) {
        if self.members.len() == MEMBERS_MAX || self.has(candidate.id) {
            return;
        }
        let estimator = candidate.estimator;
        let (path, moments) = (estimator.path(), estimator.moments());
        let spread = asymmetry_variance(estimator);
        let place = self.members.len();
        self.bank = self.bank.map(|belief| {
            let with_base = belief.extended(path.base.0, path.base.1).unwrap_or(*belief);
            with_base.extended(path.asymmetry.0, path.asymmetry.1 + spread).unwrap_or(with_base)
        });
        self.members.push(Member { id: candidate.id, softness: estimator.softness_in_use() });
        let from = estimator.point();
        let elapsed = self.point.free - from.free;
        let offset = candidate.anchor - self.anchor + moments.offset + moments.frequency * elapsed
            - (self.point.correction - from.correction);
        let mut row = [0.0; STATES];
        (row[OFFSET], row[bank::asymmetry(place)]) = (1.0, 1.0);
        let variance = PAST_CAUTION * moments.offset_variance_after(elapsed);
        // Its offset was found with the asymmetry that it assumed.
        let measured = offset + path.asymmetry.0;
        self.bank = self.bank.map(|belief| {
            let mut belief = *belief;
            let innovation = measured - belief.project(&row);
            belief.measure(&row, innovation, variance);
            belief
        });
    }

    /// Removes a source; what it said about the clock stays.
    pub(crate) fn leave(&mut self, id: SourceId) {
        let Some(place) = self.place(id) else { return };
        self.members.remove(place);
        let gone = [bank::base(place), bank::asymmetry(place)];
        let states = 2 + 2 * (self.members.len() + 1);
        let mut keep = [0; STATES];
        let mut count = 0;
        for state in (0..states).filter(|state| !gone.contains(state)) {
            keep[count] = state;
            count += 1;
        }
        self.bank = self.bank.map(|belief| belief.marginal(&keep[..count]));
    }

    /// Takes over what is new of a member.
    pub(crate) fn observe(&mut self, candidate: &Candidate<'_>) {
        let Some(mut exchange) = candidate.fresh else { return };
        let softness = candidate.estimator.softness_in_use();
        if self.place(candidate.id).is_some_and(|place| self.members[place].softness != softness) {
            // Another sharpness of the edge means another base delay.
            self.leave(candidate.id);
            self.join(candidate);
        }
        let Some(place) = self.place(candidate.id) else { return };
        exchange.offset += candidate.anchor - self.anchor;
        let path = candidate.estimator.path();
        let mut elapsed = exchange.point.free - self.point.free;
        let mut corrected = exchange.point.correction - self.point.correction;
        if elapsed < 0.0 {
            // It is a little older than what another source said: as it would have been then.
            exchange.offset += -elapsed * self.bank.mean(FREQUENCY) + corrected;
            (elapsed, corrected) = (0.0, 0.0);
        } else {
            self.point = exchange.point;
        }
        let unit = |state: usize| std::array::from_fn(|i| if i == state { 1.0 } else { 0.0 });
        let noise = base_noise(f64::midpoint(path.queues.0.mean, path.queues.1.mean)) + path.changed;
        let noise = [(noise, unit(bank::base(place))), (path.changed, unit(bank::asymmetry(place)))];
        self.bank.advance(elapsed, corrected, &noise);
        // Of several members each makes all forget its share.
        self.bank.fade(candidate.fading.powf(1.0 / self.members.len() as f64));
        self.bank.observe(&exchange.legs(place, path.queues));
    }

    /// What is known about the clock at [`Self::point`]; offsets relative to [`Self::anchor`].
    pub(crate) fn moments(&self) -> Moments {
        self.bank.moments()
    }

    /// The clock at the newest exchange.
    pub(crate) const fn point(&self) -> ClockPoint {
        self.point
    }

    /// What was taken off all offsets, seconds.
    pub(crate) const fn anchor(&self) -> f64 {
        self.anchor
    }

    /// The clock was stepped forward by so many seconds.
    pub(crate) fn step(&mut self, by: f64) {
        self.anchor -= by;
    }

    /// Whether every number in it is one.
    pub(crate) fn is_sound(&self) -> bool {
        self.bank.is_sound()
    }
}

fn asymmetry_variance(estimator: &Estimator) -> f64 {
    (ASYMMETRY_SHARE * estimator.path().base.0).powi(2).max(1e-18)
}
