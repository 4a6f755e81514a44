//! The discipline as the engine sees it: samples in, commands and reports out.

mod commanding;
mod interference;
mod joining;
mod leap_seconds;
mod measuring;
mod operator;
mod reports;
mod saved_frequency;

use crate::clock_discipline::{ClockDiscipline, Decision};
use crate::combine::Combined;
use crate::command_queue::CommandQueue;
use crate::election::{self, Choice, Moment, Outcome};
use crate::estimator::joint::Joint;
use crate::fallback::Fallback;
use crate::leap::LeapWatch;
use crate::manual::Manual;
use crate::patience::{self, Patience};
use crate::reference::Reference;
use crate::source::{POLLS_TOLD, Source};
use crate::{DisciplineEvent, SavedFrequency, Settings, SourceId, StepEvidence, StepRefusal};
use chime_time::MonoTime;
use std::collections::VecDeque;

/// Events kept for a caller that does not fetch them; the oldest go first.
const EVENTS_MAX: usize = 256;
/// What is believed about an oscillator of which nothing is known: error of 0 ± 100 ppm.
const SKEW_UNKNOWN: f64 = 1e-4;
/// Temperature differs from run to run: what was saved is not trusted more than this, s per s.
const SKEW_SAVED_MIN: f64 = 1e-6;

/// A single measurement sets the clock only when it is good to this, seconds, or to a share of what it corrects.
const FIRST_DISTANCE_MAX: f64 = 0.1;
const FIRST_DISTANCE_SHARE: f64 = 0.25;

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

    fn run_election(&mut self, now: MonoTime) -> UpdateSummary {
        self.doubt_young_frequency(now);
        for source in &mut self.sources {
            let newest = source.filter.newest_at();
            source.age_when_selected = newest.map_or(0.0, |at| now.seconds_since(at));
        }
        if self.may_judge_at_first_sight() {
            let choice = self.elect_at_first_sight(now);
            if let Some(choice) = choice {
                self.young = true;
                self.trouble = Trouble::None;
                return self.finish_election(|this| this.follow(now, &choice));
            }
            // The few that have more samples already are not asked alone.
            if self.young {
                return UpdateSummary::default();
            }
        }
        let moment = self.moment(now);
        // Who comes back first after all were gone is no majority either.
        let returning = self.trouble == Trouble::Nobody && self.clock.estimate.is_some();
        let starting = self.clock.estimate.is_none() || returning;
        let samples_min = self.settings.samples_min;
        let patience = patience::seconds(&self.sources, &self.settings, returning, self.interrupted);
        let (patience_left, absent) = (&mut self.patience, self.absent.voters);
        let waits = |sources: &[Source], selectable: usize| {
            starting
                && patience_left.lasts(now, patience)
                && patience::would_gain_by_waiting(sources, absent, selectable, samples_min)
        };
        let outcome = election::elect(&mut self.sources, self.selected, moment, &self.settings, waits);
        self.note_falsetickers(&outcome);
        self.note_smeared(None);
        self.finish_election(|this| match outcome {
            Outcome::Waiting => UpdateSummary::default(),
            Outcome::Chosen(choice) => {
                this.trouble = Trouble::None;
                this.follow(now, &choice)
            }
            Outcome::Nobody => {
                this.patience = Patience::Unasked;
                this.lose(Trouble::Nobody, DisciplineEvent::CannotSynchronise)
            }
            Outcome::NoMajority { selectable } => {
                this.lose(Trouble::NoMajority, DisciplineEvent::NoMajority { selectable })
            }
            Outcome::TooFew { agreeing, required } => {
                this.lose(Trouble::TooFew, DisciplineEvent::TooFewSources { agreeing, required })
            }
        })
    }

    /// A frequency that only few samples told is given up when they are contradicted.
    fn doubt_young_frequency(&mut self, now: MonoTime) {
        let mut told =
            self.sources.iter().filter(|source| source.filter.len() > 1 && source.reach != 0).peekable();
        if told.peek().is_none() || !told.all(|source| source.filter.is_dubious()) {
            return;
        }
        if let Some(command) = self.clock.distrust_frequency(now, &self.settings) {
            self.command(command);
        }
    }

    fn moment(&self, now: MonoTime) -> Moment {
        let (clock, smear_season) = (self.clock.correction.at(now), self.smear_season);
        Moment { now, clock, smear_season, requires: self.absent.required }
    }

    fn finish_election(&mut self, conclude: impl FnOnce(&mut Self) -> UpdateSummary) -> UpdateSummary {
        let summary = conclude(self);
        if self.clock.estimate.is_some() && self.trouble != Trouble::Nobody {
            self.patience = Patience::Unasked;
            self.interrupted = false;
        }
        for source in &mut self.sources {
            source.fresh = false;
        }
        summary
    }

    /// Whether fewer samples than usual may decide: while the clock may be anything, and may be stepped; and once that was
    /// done, until the sources have as many as usual.
    fn may_judge_at_first_sight(&mut self) -> bool {
        let settings = &self.settings;
        let samples_min = settings.samples_min;
        if settings.first_samples_min >= samples_min {
            return false;
        }
        let collects = |source: &Source| {
            source.reach != 0 && !source.options.no_select && (1..samples_min).contains(&source.filter.len())
        };
        self.young &= self.sources.iter().any(collects);
        self.young || self.clock.estimate.is_none() && settings.step.allows_steps_after(self.clock.updates)
    }

    /// One good measurement is better than none, if more than half of all sources agree: those that are yet to be heard
    /// could not outvote them.
    fn elect_at_first_sight(&mut self, now: MonoTime) -> Option<Choice> {
        let samples_min = self.settings.first_samples_min.max(1);
        let settings = Settings { samples_min, ..self.settings };
        let moment = self.moment(now);
        let present = self.sources.iter().filter(|source| !source.options.no_select).count();
        let voters = present + self.absent.voters;
        let waits = |_: &[Source], selectable: usize| 2 * selectable <= voters;
        let outcome = election::elect(&mut self.sources, self.selected, moment, &settings, waits);
        match outcome {
            Outcome::Chosen(choice) if 2 * agreeing_at_first_sight(&choice) > voters => Some(choice),
            _ => None,
        }
    }

    /// Nobody can be followed: the clock is left alone, and its error bound grows.
    fn lose(&mut self, trouble: Trouble, event: DisciplineEvent) -> UpdateSummary {
        // At the start nobody has had the time to answer.
        let is_new = self.sources.iter().all(|source| source.polls < POLLS_TOLD);
        let had_nobody = self.selected.take().is_none() && self.trouble == Trouble::None && is_new;
        if self.trouble != trouble && !(trouble == Trouble::Nobody && had_nobody) {
            self.push_event(event);
            self.trouble = trouble;
        }
        UpdateSummary::default()
    }

    fn note_falsetickers(&mut self, outcome: &Outcome) {
        if matches!(outcome, Outcome::Nobody | Outcome::NoMajority { .. }) {
            return;
        }
        let mut events = Vec::new();
        for source in &mut self.sources {
            let is_falseticker = source.state == crate::SelectionState::Falseticker;
            if is_falseticker && !source.is_falseticker {
                events.push(DisciplineEvent::Falseticker(source.id));
                source.is_falseticker = true;
            } else if source.is_falseticker && !is_falseticker && source.state.sign() != '?' {
                events.push(DisciplineEvent::Truechimer(source.id));
                source.is_falseticker = false;
            }
        }
        events.into_iter().for_each(|event| self.push_event(event));
    }

    /// Follows the chosen sources when one of them has something new to say.
    fn follow(&mut self, now: MonoTime, choice: &Choice) -> UpdateSummary {
        self.note_smeared(Some(choice.smeared));
        let id = self.sources[choice.selected.index].id;
        if self.selected != Some(id) {
            self.selected = Some(id);
            self.push_event(DisciplineEvent::Selected(id));
        }
        let is_fresh = choice.combined.iter().any(|(candidate, _)| self.sources[candidate.index].fresh);
        let is_dubious =
            choice.combined.iter().all(|(candidate, _)| self.sources[candidate.index].filter.is_dubious());
        if (!is_fresh || is_dubious) && self.clock.estimate.is_some() {
            return UpdateSummary::default();
        }
        let Some(combined) = self.combine(now, choice) else { return UpdateSummary::default() };
        let startup = !self.was_synchronized;
        let mut decision = self.clock.decide(combined.offset, startup, &self.settings.step);
        if self.is_rest_of_leap_second(combined.offset)
            || !self.settings.steer
            || (matches!(decision, Decision::Step(_)) && !self.can_step)
        {
            decision = Decision::Slew;
        }
        if let Decision::Refuse { by, accumulated } = decision {
            self.clock.refuse(now, &combined);
            let refusal = self.refusal(by, startup, accumulated);
            self.enter_quarantine(now, refusal);
            return UpdateSummary { updated: false, offset: combined.offset, synchronized: false };
        }
        if self.quarantined.take().is_some() {
            self.push_event(DisciplineEvent::QuarantineLifted);
        }
        self.adopt(now, choice, &combined);
        if let Decision::Step(by) = decision {
            self.step = Some(self.evidence(by, combined.offset_error, choice));
            self.command(ClockDiscipline::step(by));
        } else {
            let command = self.clock.plan(now, &self.settings);
            self.command(command);
        }
        self.commands.status_due = self.settings.steer;
        UpdateSummary { updated: true, offset: combined.offset, synchronized: false }
    }

    fn adopt(&mut self, now: MonoTime, choice: &Choice, combined: &Combined) {
        let source = &self.sources[choice.selected.index];
        let mut reference = Reference::new(now, source, choice, combined, self.reference.as_ref());
        reference.residual_frequency = combined.frequency - self.clock.frequency;
        if !self.settings.steer {
            // The clock stays as wrong as it is known to be: what is new is the difference from that.
            reference.last_offset -= self.clock.offset(now).unwrap_or(0.0);
        }
        self.reference = Some(reference);
        self.clock.adopt(now, combined, source.filter.interval().unwrap_or(0.0), &self.settings);
        if choice.combined.iter().any(|(candidate, _)| !self.sources[candidate.index].filter.is_young()) {
            self.clock.trust_frequency();
        }
        self.fallback.note(now, self.clock.frequency);
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

    fn evidence(&self, by: f64, error: f64, choice: &Choice) -> StepEvidence {
        let sources = choice
            .combined
            .iter()
            .map(|(candidate, _)| {
                (self.sources[candidate.index].id, candidate.estimate.offset, candidate.root_distance)
            })
            .collect();
        StepEvidence { by, error, sources }
    }

    fn refusal(&mut self, by: f64, startup: bool, accumulated: bool) -> StepRefusal {
        let policy = &self.settings.step;
        let panic = if startup { policy.startup_panic } else { policy.running_panic };
        let limit = if accumulated { policy.accumulated_panic } else { panic.limit_of(by) };
        let is_last = policy.refusals_max.is_some_and(|max| self.refusals >= max);
        self.refusals = self.refusals.saturating_add(1);
        StepRefusal { by, startup, accumulated, limit: limit.unwrap_or(f64::INFINITY), is_last }
    }

    /// A correction beyond the panic thresholds: nothing is done to the clock until it is smaller. What was known of the
    /// clock before is still known, and gets less certain with time, as when there are no sources.
    fn enter_quarantine(&mut self, now: MonoTime, refusal: StepRefusal) {
        let is_counted = self.settings.step.refusals_max.is_some();
        if self.quarantined.is_none() || is_counted {
            self.push_event(DisciplineEvent::StepRefused(refusal));
        }
        if self.quarantined.is_none() {
            self.quarantined = Some(now);
            let command = self.clock.coast();
            self.command(command);
            self.commands.status_due = self.settings.steer;
        }
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

/// How many agree on a first correction. One whose measurement says so little that it agrees with almost everybody is no
/// voice, and the next ones are worth waiting for.
fn agreeing_at_first_sight(choice: &Choice) -> usize {
    let vague = FIRST_DISTANCE_MAX.max(FIRST_DISTANCE_SHARE * choice.selected.estimate.offset.abs());
    choice.truechimers.iter().filter(|candidate| candidate.root_distance <= vague).count()
}

#[cfg(test)]
mod tests;
