//! The discipline at leap seconds: whoever makes the clock pass one, the samples survive it.
//!
//! At a leap second all good clocks are stepped, so an offset between two of them does not change. When the kernel makes
//! it, or we step the clock, nothing is to be done to samples; when the clock is slewed instead, what the sources show
//! has moved and the clock has not.

use super::Discipline;
use crate::clock_discipline::ClockDiscipline;
use crate::leap::{LeapAction, LeapFacts, smeared};
use crate::{
    ClockCommand, DisciplineEvent, Leap, LeapMode, LeapOutcome, LeapStatus, LeapTable, SourceId, StepEvidence,
};
use chime_time::{ClockReading, LeapSecond, MonoTime, NtpDate, NtpDuration};

/// While a leap second is slewed, offsets up to this are its rest and no reason for a step; seconds.
const SLEW_REST_MAX: f64 = 1.5;
/// Below this it is over; seconds.
const SLEW_OVER: f64 = 0.05;

impl Discipline {
    /// Takes the list of leap seconds, or hears that there is none any more.
    pub fn set_leap_table(&mut self, table: Option<LeapTable>) {
        self.leap.table = table;
    }

    /// Notes whether the packets of a source say that it smears leap seconds.
    pub fn set_smeared(&mut self, id: SourceId, smeared: bool) {
        if let Some(source) = self.source_mut(id)
            && source.says_smeared != smeared
        {
            source.says_smeared = smeared;
            self.dirty = true;
        }
    }

    /// Does what leap seconds ask for at the date that both clocks show. Call it after everything else that was told, and
    /// when [`Discipline::poll_timeout`] has passed.
    pub fn tend_leap_seconds(&mut self, clock: ClockReading) {
        let before = self.leap.armed();
        while let Some(action) = self.leap.tend(&self.leap_facts(clock)) {
            self.obey(clock.mono, action);
        }
        self.commands.status_due |= self.settings.steer && self.leap.armed() != before;
        self.tell_tai_offset(clock.system);
        self.note_smear_season(clock.system);
    }

    /// Whether a step that was seen of the clock is the leap second: then it is noted, and the samples stay. `clock` as it
    /// would be without the step, `by` in seconds.
    pub fn is_leap_second(&mut self, clock: ClockReading, by: f64) -> bool {
        let Some(leap) = self.leap.step_seen(clock.mono, clock.system, by) else { return false };
        self.push_event(DisciplineEvent::LeapSecondPassed { leap, outcome: LeapOutcome::ByKernel });
        let more = if leap.insert { 1 } else { -1 };
        self.kernel_tai_offset = self.kernel_tai_offset.map(|seconds| seconds + more);
        self.commands.status_due = self.settings.steer;
        let after = clock.system + NtpDuration::from_secs_f64(by);
        self.tell_tai_offset(after);
        true
    }

    /// What is known about leap seconds at `date`.
    #[must_use]
    pub fn leap_status(&self, date: NtpDate) -> LeapStatus {
        LeapStatus {
            next: self.leap.next(),
            last: self.leap.last(date),
            tai_offset: self.leap.tai_offset(date),
            table: self.leap.table.as_ref().map(LeapTable::expires),
            follows_smeared: self.follows_smeared,
        }
    }

    /// Whether leap seconds may be smeared now, by servers that do that: a day before one and a day after it.
    #[must_use]
    pub const fn is_smear_season(&self) -> bool {
        self.smear_season
    }

    fn leap_facts(&self, clock: ClockReading) -> LeapFacts {
        LeapFacts {
            now: clock.mono,
            date: clock.system,
            vote: self.reference.as_ref().map_or(Leap::NoWarning, |reference| reference.leap),
            synchronized: self.is_synchronized,
            smeared: self.follows_smeared,
            by_kernel: !self.settings.steer || self.settings.leap_mode == LeapMode::System,
        }
    }

    fn obey(&mut self, now: MonoTime, action: LeapAction) {
        match action {
            LeapAction::Announced(known) => self.push_event(DisciplineEvent::LeapSecondAnnounced(known)),
            LeapAction::Withdrawn(known) => self.push_event(DisciplineEvent::LeapSecondWithdrawn(known)),
            LeapAction::Contradicted(leap) => self.push_event(DisciplineEvent::LeapSecondContradicted(leap)),
            LeapAction::Missed(leap) => {
                self.sources_passed(leap);
                self.pass(now, leap, LeapOutcome::NotByKernel);
            }
            LeapAction::Happens(leap) => self.make_leap_second(now, leap),
        }
    }

    fn make_leap_second(&mut self, now: MonoTime, leap: LeapSecond) {
        match self.settings.leap_mode {
            LeapMode::Ignore => self.pass(now, leap, LeapOutcome::Ignored),
            LeapMode::Step if self.can_step => {
                self.sources_passed(leap);
                let by = leap.step_seconds() as f64;
                let error = self.clock.estimate.as_ref().map_or(0.0, |estimate| estimate.error);
                self.step = Some(StepEvidence { by, error, sources: Vec::new() });
                self.command(ClockDiscipline::step(by));
                self.pass(now, leap, LeapOutcome::Step);
            }
            LeapMode::Step | LeapMode::Slew | LeapMode::System => {
                self.sources_passed(leap);
                self.slews_leap_second = true;
                let command = self.clock.plan(now, &self.settings);
                self.command(command);
                self.pass(now, leap, LeapOutcome::Slew);
            }
        }
    }

    fn pass(&mut self, now: MonoTime, leap: LeapSecond, outcome: LeapOutcome) {
        self.push_event(DisciplineEvent::LeapSecondPassed { leap, outcome });
        self.commands.status_due = self.settings.steer;
        self.note_synchronization(now);
    }

    /// The sources have passed the leap second and our clock has not: their time moved against ours.
    fn sources_passed(&mut self, leap: LeapSecond) {
        let by = leap.step_seconds();
        // Smeared time does not jump.
        for source in self.sources.iter_mut().filter(|source| !source.is_smeared()) {
            source.filter.step(NtpDuration::from_seconds(-by));
            source.history.step(NtpDuration::from_seconds(-by));
        }
        if let Some(joint) = &mut self.joint {
            joint.step(-(by as f64));
        }
        self.clock.target_moved(by as f64);
    }

    /// Whether an offset is what is left of a leap second that is being slewed.
    pub(super) fn is_rest_of_leap_second(&mut self, offset: f64) -> bool {
        self.slews_leap_second &= offset.abs() > SLEW_OVER;
        self.slews_leap_second && offset.abs() < SLEW_REST_MAX
    }

    fn tell_tai_offset(&mut self, date: NtpDate) {
        let wanted = self.leap.tai_offset(date).filter(|_| self.is_synchronized);
        if let Some(seconds) = wanted.filter(|_| wanted != self.tai_offset_told) {
            self.tai_offset_told = wanted;
            self.command(ClockCommand::SetTaiOffset { seconds });
        }
    }

    /// Keeps track of whether smears may be under way, and forgets who drifted when they are over.
    fn note_smear_season(&mut self, date: NtpDate) {
        let since = |leap: LeapSecond| date.unix_seconds() - leap.midnight;
        let next = self.leap.next().map(|known| since(known.leap));
        let last = self.leap.last(date).map(|known| since(known.leap));
        self.smear_season = [next, last].into_iter().flatten().any(smeared::is_season);
        if !self.smear_season {
            self.sources.iter_mut().for_each(|source| source.drifts_as_smeared = false);
        }
    }

    /// Tells of sources that turned out to smear, and of the kind that is followed.
    pub(super) fn note_smeared(&mut self, follows: Option<bool>) {
        let mut events = Vec::new();
        for source in &mut self.sources {
            let is_smeared = source.is_smeared();
            if is_smeared && !source.is_told_smeared {
                events.push(DisciplineEvent::SmearedSource(source.id));
            }
            source.is_told_smeared = is_smeared;
        }
        if let Some(follows) = follows.filter(|follows| *follows != self.follows_smeared) {
            self.follows_smeared = follows;
            events.push(DisciplineEvent::FollowsSmeared(follows));
        }
        events.into_iter().for_each(|event| self.push_event(event));
    }
}
