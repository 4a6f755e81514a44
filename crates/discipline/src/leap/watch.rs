//! From "a leap second is known" to "it is over": what is announced, what the kernel is told, and when the clock passes it.
//!
//! Known (from the table, or from a majority of the truechimers) -> announced to clients during the last day -> armed in
//! the kernel -> happens -> over. What is over is not believed a second time, however long others still announce it.

use super::LeapTable;
use crate::Leap;
use chime_time::{DAY_SECONDS, LeapSecond, MonoTime, NtpDate, end_of_month};

/// The kernel is told when the leap second is nearer than this, seconds: less than the day at whose end the kernel makes
/// it, so that a clock that is somewhat off cannot have it make one a day early.
const ARMED_SECONDS: i64 = DAY_SECONDS - 3600;
/// So short before a leap second it is not called off any more: servers whose clocks are a little ahead of ours have
/// passed it already and announce it no longer.
const SETTLED_SECONDS: i64 = 60;
/// One that becomes known later than this before it happens is left to the sources' steps; seconds.
const NOTICE_SECONDS_MIN: i64 = 2;
/// How long the kernel may take to make the leap second, seconds. It does so with its timer's next tick.
const KERNEL_PATIENCE: f64 = 2.0;
/// While it is waited for, the clock is looked at so often, seconds.
const LOOK_INTERVAL: f64 = 0.1;
/// By how much what was seen of a step may differ from a second; seconds.
const STEP_TOLERANCE: f64 = 0.1;
/// A step that is seen so long after the leap second is another one's; seconds. A busy machine sees it late.
const STEP_SEEN_SECONDS_MAX: i64 = 60;
/// Samples nearer to a leap second than this are not used, seconds: not every server passes it at the same instant.
const CLOSE_SECONDS: f64 = 5.0;

/// Where a leap second is known from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LeapKnowledge {
    /// More than half of the truechimers announce it.
    Sources,
    /// A leap second file or time zone lists it.
    Table,
}

/// A leap second that is to come, or was the last one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KnownLeap {
    /// Which.
    pub leap: LeapSecond,
    /// Where from.
    pub knowledge: LeapKnowledge,
    /// Since when, by our clock; Unix seconds.
    pub known_since: i64,
}

/// What the watch is told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct LeapFacts {
    /// Our clocks; the system clock as it would be without a leap second that was not told of yet.
    pub(crate) now: MonoTime,
    pub(crate) date: NtpDate,
    /// What more than half of the truechimers announce.
    pub(crate) vote: Leap,
    pub(crate) synchronized: bool,
    /// Whether the clock follows sources that smear: there are no leap seconds in their time.
    pub(crate) smeared: bool,
    /// Whether the kernel is to make it, or whoever steers this clock in our place.
    pub(crate) by_kernel: bool,
}

/// What is to be done, or told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeapAction {
    /// It became known.
    Announced(KnownLeap),
    /// It is not believed any more.
    Withdrawn(KnownLeap),
    /// Its instant has come, and the clock is ours to correct.
    Happens(LeapSecond),
    /// The kernel did not make it.
    Missed(LeapSecond),
    /// Most sources announce one that the complete table does not have.
    Contradicted(LeapSecond),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    Quiet,
    Known(KnownLeap),
    /// Its instant has come: the kernel's step is waited for.
    Waiting {
        known: KnownLeap,
        until: MonoTime,
    },
}

/// The state.
#[derive(Debug)]
pub(crate) struct LeapWatch {
    pub(crate) table: Option<LeapTable>,
    phase: Phase,
    /// The last one that the clock has passed.
    done: Option<KnownLeap>,
    /// When that was, or when the next one comes.
    moments: [Option<MonoTime>; 2],
    contradicted: Option<LeapSecond>,
    announced: Leap,
    armed: Leap,
    next_look: Option<MonoTime>,
}

impl Default for LeapWatch {
    fn default() -> Self {
        Self {
            table: None,
            phase: Phase::Quiet,
            done: None,
            moments: [None; 2],
            contradicted: None,
            announced: Leap::NoWarning,
            armed: Leap::NoWarning,
            next_look: None,
        }
    }
}

impl LeapWatch {
    /// Moves on to `facts`; call it until it gives `None`.
    pub(crate) fn tend(&mut self, facts: &LeapFacts) -> Option<LeapAction> {
        let action = match self.phase {
            Phase::Quiet => self.look_for_one(facts),
            Phase::Known(known) => self.pending(facts, known),
            Phase::Waiting { known, until } if facts.now >= until => {
                self.pass(known, facts.now);
                Some(LeapAction::Missed(known.leap))
            }
            Phase::Waiting { .. } => None,
        };
        self.note_consequences(facts);
        action
    }

    /// What clients are told.
    pub(crate) const fn announced(&self) -> Leap {
        self.announced
    }

    /// What the kernel is told to make at the end of the day.
    pub(crate) const fn armed(&self) -> Leap {
        self.armed
    }

    /// When [`Self::tend`] has something to do at the latest.
    pub(crate) const fn next_look(&self) -> Option<MonoTime> {
        self.next_look
    }

    /// Whether a measurement at `at` is too near to a leap second.
    pub(crate) fn is_close(&self, at: MonoTime) -> bool {
        self.moments.iter().flatten().any(|moment| at.seconds_since(*moment).abs() < CLOSE_SECONDS)
    }

    /// The leap second that is to come.
    pub(crate) const fn next(&self) -> Option<KnownLeap> {
        match self.phase {
            Phase::Quiet => None,
            Phase::Known(known) | Phase::Waiting { known, .. } => Some(known),
        }
    }

    /// The last one that the clock passed: seen ourselves, or listed.
    pub(crate) fn last(&self, date: NtpDate) -> Option<KnownLeap> {
        let listed = self.table.as_ref().and_then(|table| table.last_before(date.unix_seconds()));
        let listed =
            listed.map(|leap| KnownLeap { leap, knowledge: LeapKnowledge::Table, known_since: i64::MIN });
        // The clock may still count the second before midnight again.
        listed.into_iter().chain(self.done).max_by_key(|known| known.leap.midnight)
    }

    /// TAI minus UTC as the kernel counts it: changed as soon as the clock has passed a leap second.
    pub(crate) fn tai_offset(&self, date: NtpDate) -> Option<i32> {
        let table = self.table.as_ref()?;
        let unix = date.unix_seconds();
        // Until the clock has passed a leap second the old offset holds, also in the moment after midnight in which the kernel
        // has not made it yet: it counts for itself when it does.
        let unix = self.next().map_or(unix, |known| unix.min(known.leap.midnight - 1));
        let Some(done) = self.done else { return table.tai_offset(unix) };
        let counted = table.tai_offset(unix.max(done.leap.midnight))?;
        let is_listed = table.last_before(done.leap.midnight) == Some(done.leap);
        let step = if done.leap.insert { 1 } else { -1 };
        Some(if is_listed { counted } else { counted + step })
    }

    /// Whether a step by `by` seconds that somebody made to the clock is the leap second: notes that it is over, then.
    /// `date` is the clock without that step.
    pub(crate) fn step_seen(&mut self, now: MonoTime, date: NtpDate, by: f64) -> Option<LeapSecond> {
        let known = self.next()?;
        let since = date.unix_seconds() - known.leap.happens_at();
        let fits = (by - known.leap.step_seconds() as f64).abs() < STEP_TOLERANCE;
        if !fits || !(-1..=STEP_SEEN_SECONDS_MAX).contains(&since) {
            return None;
        }
        self.pass(known, now);
        (self.announced, self.armed, self.next_look) = (Leap::NoWarning, Leap::NoWarning, None);
        Some(known.leap)
    }

    fn look_for_one(&mut self, facts: &LeapFacts) -> Option<LeapAction> {
        if let Some(denied) = self.contradiction(facts).filter(|denied| self.contradicted != Some(*denied)) {
            self.contradicted = Some(denied);
            return Some(LeapAction::Contradicted(denied));
        }
        let known = self.known(facts)?;
        if known.leap.happens_at() - facts.date.unix_seconds() < NOTICE_SECONDS_MIN {
            return None;
        }
        self.phase = Phase::Known(known);
        Some(LeapAction::Announced(known))
    }

    fn pending(&mut self, facts: &LeapFacts, known: KnownLeap) -> Option<LeapAction> {
        let left = known.leap.happens_at() - facts.date.unix_seconds();
        if left > SETTLED_SECONDS {
            let still = self.known(facts);
            // Losing the sources is no reason to forget what they said.
            if still.map(|still| still.leap) == Some(known.leap) || !facts.synchronized && !facts.smeared {
                return None;
            }
            self.phase = Phase::Quiet;
            return Some(LeapAction::Withdrawn(known));
        }
        if left > 0 {
            return None;
        }
        if left < -STEP_SEEN_SECONDS_MAX {
            // The clock was set past it.
            self.pass(known, facts.now);
            return None;
        }
        if facts.by_kernel {
            self.phase = Phase::Waiting { known, until: facts.now.add_secs_f64(KERNEL_PATIENCE) };
            return None;
        }
        self.pass(known, facts.now);
        Some(LeapAction::Happens(known.leap))
    }

    fn pass(&mut self, known: KnownLeap, now: MonoTime) {
        self.phase = Phase::Quiet;
        self.done = Some(known);
        self.moments[0] = Some(now);
    }

    /// The next leap second as the table has it or, where that is not complete, as the sources have it.
    fn known(&self, facts: &LeapFacts) -> Option<KnownLeap> {
        if !facts.synchronized || facts.smeared {
            return None;
        }
        let unix = facts.date.unix_seconds();
        let listed = self.table.as_ref().and_then(|table| table.next_after(unix));
        let (leap, knowledge) = match listed {
            Some(leap) => (leap, LeapKnowledge::Table),
            None if self.is_table_complete(unix) => return None,
            None => (voted(facts)?, LeapKnowledge::Sources),
        };
        let is_new = self.done.is_none_or(|done| done.leap.midnight < leap.midnight);
        is_new.then_some(KnownLeap { leap, knowledge, known_since: unix })
    }

    fn is_table_complete(&self, unix: i64) -> bool {
        self.table.as_ref().is_some_and(|table| table.is_complete_at(unix))
    }

    fn contradiction(&self, facts: &LeapFacts) -> Option<LeapSecond> {
        let unix = facts.date.unix_seconds();
        if !facts.synchronized || facts.smeared || !self.is_table_complete(unix) {
            return None;
        }
        let voted = voted(facts)?;
        let is_listed = self.table.as_ref().and_then(|table| table.next_after(unix)) == Some(voted);
        (!is_listed && self.done.is_none_or(|done| done.leap.midnight < voted.midnight)).then_some(voted)
    }

    /// What follows from the phase: what is announced and armed, and when to look again.
    fn note_consequences(&mut self, facts: &LeapFacts) {
        (self.announced, self.armed, self.next_look) = (Leap::NoWarning, Leap::NoWarning, None);
        match self.phase {
            Phase::Quiet => self.moments[1] = None,
            Phase::Known(known) => {
                let until = |unix: i64| (NtpDate::from_unix(unix, 0) - facts.date).as_secs_f64();
                let midnight = known.leap.midnight;
                let starts = [midnight - DAY_SECONDS, midnight - ARMED_SECONDS].map(until);
                let happens = until(known.leap.happens_at());
                let word = if known.leap.insert { Leap::Insert } else { Leap::Delete };
                if starts[0] <= 0.0 {
                    self.announced = word;
                }
                if starts[1] <= 0.0 && facts.by_kernel {
                    self.armed = word;
                }
                self.moments[1] = (happens < 1e6).then(|| facts.now.add_secs_f64(happens));
                let next = starts.into_iter().chain([happens]).find(|seconds| *seconds > 0.0);
                self.next_look = Some(facts.now.add_secs_f64(next.unwrap_or(0.0)));
            }
            Phase::Waiting { known, .. } => {
                self.announced = if known.leap.insert { Leap::Insert } else { Leap::Delete };
                self.armed = if facts.by_kernel { self.announced } else { Leap::NoWarning };
                self.next_look = Some(facts.now.add_secs_f64(LOOK_INTERVAL));
            }
        }
    }
}

/// What most sources announce: the end of this month, where that can have a leap second.
fn voted(facts: &LeapFacts) -> Option<LeapSecond> {
    let insert = match facts.vote {
        Leap::Insert => true,
        Leap::Delete => false,
        Leap::NoWarning | Leap::Unsynchronized => return None,
    };
    let (midnight, is_expected) = end_of_month(facts.date.unix_seconds());
    is_expected.then_some(LeapSecond { midnight, insert })
}

#[cfg(test)]
mod tests;
