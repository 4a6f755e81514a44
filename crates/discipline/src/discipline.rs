//! The discipline as the engine sees it: samples in, commands and reports out.

mod commanding;
mod electing;
mod following;
mod interference;
mod joining;
mod leap_seconds;
mod measuring;
mod operator;
mod reports;
mod saved_frequency;

use crate::clock_discipline::ClockDiscipline;
use crate::command_queue::CommandQueue;
use crate::estimator::joint::Joint;
use crate::fallback::Fallback;
use crate::leap::LeapWatch;
use crate::manual::Manual;
use crate::patience::Patience;
use crate::reference::Reference;
use crate::source::Source;
use crate::{DisciplineEvent, SavedFrequency, Settings, SourceId, StepEvidence};
use chime_time::MonoTime;
use std::collections::VecDeque;

/// Events kept for a caller that does not fetch them; the oldest go first.
const EVENTS_MAX: usize = 256;
/// What is believed about an oscillator of which nothing is known: error of 0 ± 100 ppm.
const SKEW_UNKNOWN: f64 = 1e-4;
/// Temperature differs from run to run: what was saved is not trusted more than this, s per s.
const SKEW_SAVED_MIN: f64 = 1e-6;

/// Updates of the clock after which it is set by more than a first sight, whoever has few samples still.
const YOUNG_UPDATES_MAX: u64 = 8;

/// All sources, the estimate that is made of them, and the steering of the clock.
///
/// After each call that takes `&mut self`, drain [`poll_command`](Self::poll_command) and
/// [`poll_event`](Self::poll_event); call [`update`](Self::update) after each sample and when
/// [`poll_timeout`](Self::poll_timeout) has passed.
#[derive(Debug)]
pub struct Discipline {
    settings: Settings,
    sources: Vec<Source>,
    clock: ClockDiscipline,
    reference: Option<Reference>,
    selected: Option<SourceId>,
    absent: AbsentSources,
    trouble: Trouble,
    /// Since when corrections are refused.
    quarantined: Option<MonoTime>,
    /// How many corrections were refused.
    refusals: u32,
    fallback: Fallback,
    /// What an operator typed in.
    manual: Manual,
    /// Whether the clock ever followed a source with as many samples as usual; decides which panic thresholds apply.
    was_synchronized: bool,
    /// What the last event and the last status said.
    is_synchronized: bool,
    is_local: bool,
    /// The local reference may be active: our clock was good enough once, if that is asked for.
    may_be_local: bool,
    /// Since when the clock follows nothing and never did, or not since all samples were dropped.
    adrift_since: MonoTime,
    /// Something changed that the selection depends on.
    dirty: bool,
    patience: Patience,
    /// Whether several sources were there when all measurements were dropped, and the clock was not updated since.
    interrupted: bool,
    /// The clock was set by fewer samples than usual, and not all sources have more by now.
    young: bool,
    /// The estimate over several sources, when several are combined.
    joint: Option<Joint>,
    commands: CommandQueue,
    step: Option<StepEvidence>,
    can_step: bool,
    events: VecDeque<DisciplineEvent>,
    /// The frequency is that of an earlier run, and was not measured yet in this one.
    is_frequency_on_trial: bool,
    /// How often others touched the clock, and when lately.
    interferences: u64,
    recent_interferences: VecDeque<MonoTime>,
    leap: LeapWatch,
    /// A leap second is being slewed.
    slews_leap_second: bool,
    /// Leap seconds may be smeared now, by those who do that.
    smear_season: bool,
    follows_smeared: bool,
    /// TAI minus UTC as the kernel was last told.
    tai_offset_told: Option<i32>,
    /// What it has by that, and by the leap seconds that it made since.
    kernel_tai_offset: Option<i32>,
    /// What the kernel was told to make at the end of the day.
    kernel_leap: crate::Leap,
    /// Latest instant heard of.
    now: MonoTime,
}

/// Sources that are configured and cannot be measured yet: their names are not looked up, or there are no keys for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AbsentSources {
    /// How many could vote if they were there: at the start they are waited for like others that were not heard yet.
    pub voters: usize,
    /// Whether any of them is required ([`crate::SourceOptions::require`]): then the clock is left alone while no source
    /// with that option agrees. What keeps a source from being measured may be somebody who wants others to be followed.
    pub required: bool,
}

/// What one [`Discipline::update`] did.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct UpdateSummary {
    /// Whether there was a new estimate of the clock.
    pub updated: bool,
    /// The offset that was found, seconds; positive means that our clock was behind.
    pub offset: f64,
    /// Whether the clock follows sources now.
    pub synchronized: bool,
}

/// Why no source is followed, as last told in an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    /// Not yet, or there is none.
    None,
    Nobody,
    NoMajority,
    TooFew,
}

impl Discipline {
    /// Starts without sources. `saved` is what an earlier run learnt about the oscillator; it is set at once, as the
    /// frequency of the clock is not known otherwise.
    #[must_use]
    pub fn new(settings: Settings, saved: Option<SavedFrequency>, now: MonoTime) -> Self {
        let saved = saved.filter(|saved| saved.frequency.as_ratio().is_finite() && saved.skew.is_finite());
        let (frequency, skew) = saved.map_or((0.0, SKEW_UNKNOWN), |saved| {
            (saved.frequency.as_ratio(), saved.skew.clamp(SKEW_SAVED_MIN, SKEW_UNKNOWN))
        });
        let mut this = Self {
            settings,
            sources: Vec::new(),
            clock: ClockDiscipline::new(&settings, frequency, skew, now),
            reference: None,
            selected: None,
            absent: AbsentSources::default(),
            trouble: Trouble::None,
            quarantined: None,
            refusals: 0,
            fallback: Fallback::new(settings.fallback),
            manual: Manual::default(),
            was_synchronized: false,
            is_synchronized: false,
            is_local: false,
            may_be_local: settings.local.is_some_and(|local| local.activate <= 0.0),
            adrift_since: now,
            dirty: false,
            patience: Patience::Unasked,
            interrupted: false,
            young: false,
            joint: None,
            commands: CommandQueue::default(),
            step: None,
            can_step: true,
            events: VecDeque::new(),
            is_frequency_on_trial: saved.is_some(),
            interferences: 0,
            recent_interferences: VecDeque::new(),
            leap: LeapWatch::default(),
            slews_leap_second: false,
            smear_season: false,
            follows_smeared: false,
            tai_offset_told: None,
            kernel_tai_offset: None,
            kernel_leap: crate::Leap::NoWarning,
            now,
        };
        let command = this.clock.coast();
        this.command(command);
        this.commands.status_due = settings.steer;
        this
    }

    /// The settings in use.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Selects, combines and steers. Early and repeated calls are harmless.
    pub fn update(&mut self, now: MonoTime) -> UpdateSummary {
        self.now = self.now.max(now);
        let now = self.now;
        let mut summary = UpdateSummary::default();
        let patience_over = self.patience.deadline().is_some_and(|deadline| deadline <= now);
        // While a step is on its way the samples cannot be compared with the clock.
        if (self.dirty || patience_over) && !self.commands.has_step() {
            self.dirty = false;
            summary = self.run_election(now);
            // Not every election asks for it; a deadline that stays in the past would have us called for ever.
            if self.patience.deadline().is_some_and(|deadline| deadline <= now) {
                self.patience = Patience::Over;
            }
        }
        if self.clock.slew_end().is_some_and(|end| end <= now) && !self.commands.has_step() {
            let command = self.clock.end_slew(now, &self.settings);
            self.command(command);
        }
        self.fall_back(now);
        self.note_synchronization(now);
        summary.synchronized = self.is_synchronized;
        summary
    }

    /// Without sources for long, a long-term average of the frequency is better than the last one.
    fn fall_back(&mut self, now: MonoTime) {
        if !self.is_holding_over() || self.fallback.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if let Some((frequency, over)) = self.fallback.take_over(now) {
            self.clock.frequency = frequency;
            self.clock.trust_frequency();
            let command = self.clock.coast();
            self.command(command);
            self.push_event(DisciplineEvent::FallbackFrequency { ppm: frequency * 1e6, over });
        }
    }

    /// Whether the clock is steered, but nothing is followed.
    const fn is_holding_over(&self) -> bool {
        self.settings.steer && (self.selected.is_none() || self.quarantined.is_some())
    }

    /// Tells when synchronisation begins or ends, and when the local reference does.
    fn note_synchronization(&mut self, now: MonoTime) {
        let state = self.system(now);
        let close_enough =
            |distance: f64| self.settings.local.is_some_and(|local| distance <= local.activate);
        self.may_be_local |= state.synchronized && close_enough(state.root_distance());
        // What few samples made of the clock is nothing that others are measured by, for a while.
        let is_young = self.young && self.clock.updates < YOUNG_UPDATES_MAX;
        self.was_synchronized |= state.synchronized && !is_young;
        if state.synchronized != self.is_synchronized {
            self.is_synchronized = state.synchronized;
            self.commands.status_due = self.settings.steer;
            if state.synchronized {
                self.push_event(DisciplineEvent::Synchronised);
            } else if self.trouble == Trouble::None && self.quarantined.is_none() {
                self.push_event(DisciplineEvent::CannotSynchronise);
            }
        }
        if state.local_active != self.is_local {
            self.is_local = state.local_active;
            self.push_event(DisciplineEvent::LocalReference { active: state.local_active });
        }
    }

    /// When [`update`](Self::update) must be called next: the end of a slew, or of waiting for slow sources, or something
    /// about a leap second ([`tend_leap_seconds`](Self::tend_leap_seconds)).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let slew_end = self.clock.slew_end().filter(|_| !self.commands.has_step());
        let patience = self.patience.deadline().filter(|_| !self.commands.has_step());
        let fallback = self.fallback.deadline().filter(|_| self.is_holding_over());
        let local = self.local_due().filter(|due| *due > self.now);
        [slew_end, patience, fallback, local, self.leap.next_look()].into_iter().flatten().min()
    }

    /// The next thing that an operator should know. May change after any call that takes `&mut self`.
    pub fn poll_event(&mut self) -> Option<DisciplineEvent> {
        self.events.pop_front()
    }

    fn push_event(&mut self, event: DisciplineEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    #[cfg(test)]
    fn forbid_steps_for_test(&mut self) {
        self.can_step = false;
    }

    fn source(&self, id: SourceId) -> Option<&Source> {
        self.sources.iter().find(|source| source.id == id)
    }

    fn source_mut(&mut self, id: SourceId) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.id == id)
    }
}

#[cfg(test)]
mod tests;
