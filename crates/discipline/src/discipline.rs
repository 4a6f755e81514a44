//! The discipline as the engine sees it: samples in, commands and reports out.

mod joining;
mod leap_seconds;
mod operator;
mod reports;
mod saved_frequency;

use crate::clock_discipline::{ClockDiscipline, Decision};
use crate::clock_filter::FrequencyBelief;
use crate::combine::Combined;
use crate::command_queue::CommandQueue;
use crate::election::{self, Choice, Outcome};
use crate::estimator::joint::Joint;
use crate::fallback::Fallback;
use crate::leap::LeapWatch;
use crate::manual::Manual;
use crate::patience::{self, Patience};
use crate::reference::Reference;
use crate::source::{Candidate, POLLS_TOLD, Source};
use crate::{
    ClockCommand, ClockFailure, DisciplineEvent, Interference, Leap, Sample, SampleVerdict, SavedFrequency,
    Settings, SourceId, SourceOptions, StepEvidence, StepRefusal,
};
use chime_time::{Frequency, MonoTime, NtpDuration};
use std::collections::VecDeque;

/// Events kept for a caller that does not fetch them; the oldest go first.
const EVENTS_MAX: usize = 256;
/// What is believed about an oscillator of which nothing is known: error of 0 ± 100 ppm.
const SKEW_UNKNOWN: f64 = 1e-4;
/// Temperature differs from run to run: what was saved is not trusted more than this, s per s.
const SKEW_SAVED_MIN: f64 = 1e-6;

/// An adjustment by others that may have moved the clock by more than this many seconds makes the samples worthless.
const ADJUSTMENT_NEGLIGIBLE: f64 = 1e-5;
/// For how long it is remembered that others touched the clock, seconds, and how many times at most.
const INTERFERENCES_SECONDS: f64 = 3600.0;
const INTERFERENCES_MAX: usize = 64;

/// A single measurement sets the clock only when it is good to this, seconds, or to a share of what it corrects.
const FIRST_DISTANCE_MAX: f64 = 0.1;
const FIRST_DISTANCE_SHARE: f64 = 0.25;

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
    trouble: Trouble,
    /// Since when corrections are refused.
    quarantined: Option<MonoTime>,
    /// How many corrections were refused.
    refusals: u32,
    fallback: Fallback,
    /// What an operator typed in.
    manual: Manual,
    /// Whether the clock ever followed a source; decides which panic thresholds apply.
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
    /// Latest instant heard of.
    now: MonoTime,
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

    /// Adds a source without samples; one that exists keeps its samples and gets the options.
    pub fn add_source(&mut self, id: SourceId, options: SourceOptions) {
        if self.source(id).is_some() {
            return self.set_source_options(id, options);
        }
        self.sources.push(Source::new(id, options));
        self.dirty = true;
    }

    /// Forgets a source.
    pub fn remove_source(&mut self, id: SourceId) {
        self.sources.retain(|source| source.id != id);
        self.dirty = true;
    }

    /// Changes the options of a source.
    pub fn set_source_options(&mut self, id: SourceId, options: SourceOptions) {
        if let Some(source) = self.source_mut(id) {
            source.options = options;
            self.dirty = true;
        }
    }

    /// Notes by which reference identifier a source knows us: that of the address at which its answers come in.
    pub fn set_our_reference_id(&mut self, id: SourceId, ours: [u8; 4]) {
        if let Some(source) = self.source_mut(id) {
            source.our_reference_id = Some(ours);
        }
    }

    /// Drops the samples of a source: its address changed, or it is another server now.
    pub fn reset_source(&mut self, id: SourceId) {
        if let Some(source) = self.source_mut(id) {
            source.clear();
            self.dirty = true;
        }
    }

    /// Gives one measurement of a source, and sets the newest bit of its reach register. Call
    /// [`update`](Self::update) afterwards.
    pub fn add_sample(&mut self, now: MonoTime, id: SourceId, sample: Sample) -> SampleVerdict {
        self.now = self.now.max(now);
        self.doubt_saved_frequency(id, &sample);
        let belief = FrequencyBelief {
            frequency: self.clock.frequency,
            skew: self.clock.skew.clamp(1e-7, SKEW_UNKNOWN),
        };
        let floor = self.settings.precision.seconds();
        let Some(source) = self.sources.iter_mut().find(|source| source.id == id) else {
            return SampleVerdict::UnknownSource;
        };
        source.reach |= 1;
        source.unreachable_polls = Some(0);
        source.stratum = sample.stratum.max(source.options.stratum_min);
        source.leap = sample.leap;
        source.reference_id = sample.reference_id;
        source.synchronized =
            sample.leap != Leap::Unsynchronized && source.stratum < 16 && sample.has_possible_stratum();
        self.dirty = true;
        if !source.synchronized {
            return SampleVerdict::Unsynchronized;
        }
        if self.leap.is_close(sample.at) {
            return SampleVerdict::LeapSecond;
        }
        let correction = source.options.offset_correction;
        let verdict = source.filter.add(&sample, correction, &self.clock.correction, floor, belief);
        if verdict.is_stored() {
            source.fresh = true;
            source.history.note(sample, self.clock.correction.at(sample.at));
        }
        verdict
    }

    /// The last samples of a source, oldest first, for [`restore_samples`](Self::restore_samples) in the next run: as if the
    /// clock had always run at the frequency that it is left with.
    #[must_use]
    pub fn samples(&self, now: MonoTime, id: SourceId) -> Vec<Sample> {
        let clock = self.clock.correction.at(now);
        let frequency = if self.settings.steer { self.clock.frequency } else { 0.0 };
        self.source(id).map_or_else(Vec::new, |source| {
            source.history.rebased(now, clock, frequency, self.settings.mono_is_slewed)
        })
    }

    /// Gives a source without samples those of an earlier run, oldest first; gives how many were taken. They count once it
    /// has answered in this run. The clock must have run since then as it was left, at the frequency that this run starts
    /// with.
    pub fn restore_samples(&mut self, now: MonoTime, id: SourceId, samples: &[Sample]) -> usize {
        if self.source(id).is_none_or(|source| source.filter.len() > 0) {
            return 0;
        }
        let past = samples.iter().filter(|sample| sample.at < now);
        let taken = past.filter(|sample| self.add_sample(now, id, **sample).is_stored()).count();
        if let Some(source) = self.source_mut(id) {
            (source.reach, source.unreachable_polls, source.fresh) = (0, None, false);
        }
        taken
    }

    /// The samples that a source was given from an earlier run count as if it had gone on: with its reach register.
    pub fn reach_restored(&mut self, now: MonoTime, id: SourceId, reach: u8) {
        if let Some(source) = self.source_mut(id).filter(|source| source.filter.len() > 0) {
            (source.reach, source.unreachable_polls, source.fresh) = (reach, Some(0), true);
            self.dirty = true;
        }
        self.update(now);
    }

    /// Notes the reach register of a source: 8 bits, newest poll in bit 0; 0 makes it unselectable. RFC 5905 §9.2.
    pub fn set_reach(&mut self, id: SourceId, reach: u8) {
        if let Some(source) = self.source_mut(id) {
            let before = source.reach;
            source.reach = reach;
            let told = source.polls + 1 == POLLS_TOLD;
            source.polls = (source.polls + 1).min(POLLS_TOLD);
            source.unreachable_polls = source.unreachable_polls.map(|polls| match reach {
                0 => polls.saturating_add(1),
                _ => 0,
            });
            // Of one that is reachable the register does not matter to the selection, of one that is remembered its age does.
            let remembered = reach == 0 && source.options.unreachable_polls_max > 0;
            self.dirty |= remembered || told || (before == 0) != (reach == 0);
        }
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
        let instant = (now, self.clock.correction.at(now), self.smear_season);
        // Who comes back first after all were gone is no majority either.
        let returning = self.trouble == Trouble::Nobody && self.clock.estimate.is_some();
        let starting = self.clock.estimate.is_none() || returning;
        let samples_min = self.settings.samples_min;
        let patience = patience::seconds(&self.sources, &self.settings, returning);
        let patience_left = &mut self.patience;
        let waits = |sources: &[Source], selectable: usize| {
            starting
                && patience_left.lasts(now, patience)
                && patience::would_gain_by_waiting(sources, selectable, samples_min)
        };
        let outcome = election::elect(&mut self.sources, self.selected, instant, &self.settings, waits);
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

    fn finish_election(&mut self, conclude: impl FnOnce(&mut Self) -> UpdateSummary) -> UpdateSummary {
        let summary = conclude(self);
        if self.clock.estimate.is_some() && self.trouble != Trouble::Nobody {
            self.patience = Patience::Unasked;
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
        let instant = (now, self.clock.correction.at(now), self.smear_season);
        let voters = self.sources.iter().filter(|source| !source.options.no_select).count();
        let waits = |_: &[Source], selectable: usize| 2 * selectable <= voters;
        let outcome = election::elect(&mut self.sources, self.selected, instant, &settings, waits);
        let agreeing = self.sources.iter().filter(|source| source.state.is_truechimer()).count();
        match outcome {
            Outcome::Chosen(choice) if 2 * agreeing > voters && !is_too_vague(&choice.selected) => {
                Some(choice)
            }
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
        if !is_fresh && self.clock.estimate.is_some() {
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
        self.fallback.note(now, self.clock.frequency);
    }

    /// Without sources for long, a long-term average of the frequency is better than the last one.
    fn fall_back(&mut self, now: MonoTime) {
        if !self.is_holding_over() || self.fallback.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if let Some((frequency, over)) = self.fallback.take_over(now) {
            self.clock.frequency = frequency;
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
        if state.synchronized != self.is_synchronized {
            self.is_synchronized = state.synchronized;
            self.was_synchronized |= state.synchronized;
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

    /// The next wish about the clock; the one after it is given once the result of this one was reported to
    /// [`command_applied`](Self::command_applied). May change after any call that takes `&mut self`.
    pub fn poll_command(&mut self) -> Option<ClockCommand> {
        if self.commands.in_flight.is_none() {
            self.commands.in_flight = match self.commands.queue.pop_front() {
                Some(command) => Some(command),
                None => std::mem::take(&mut self.commands.status_due).then(|| self.status(self.now)),
            };
            return self.commands.in_flight;
        }
        None
    }

    /// What the kernel should tell others about the clock at `now`.
    #[must_use]
    pub fn status(&self, now: MonoTime) -> ClockCommand {
        let state = self.system(now);
        let synchronized = state.synchronized;
        ClockCommand::SetStatus {
            synchronized,
            // Losing the sources does not undo what the kernel was asked for.
            leap: match self.leap.armed() {
                Leap::NoWarning if !synchronized => Leap::Unsynchronized,
                armed => armed,
            },
            max_error: state.root_distance(),
            est_error: state.estimated_error + state.system_offset.abs(),
            offset: state.system_offset,
        }
    }

    /// Reports what was done about the last command, as soon as it was done: with the values that the clock really
    /// took, or why not.
    pub fn command_applied(&mut self, now: MonoTime, result: Result<ClockCommand, ClockFailure>) {
        self.now = self.now.max(now);
        let Some(wanted) = self.commands.in_flight.take() else { return };
        match result {
            Ok(applied) => {
                self.commands.forget_failure(&wanted);
                self.note_applied(applied);
            }
            Err(failure) => self.note_failed(wanted, failure),
        }
        self.note_synchronization(self.now);
    }

    fn note_applied(&mut self, applied: ClockCommand) {
        match applied {
            ClockCommand::Step { by } => {
                for source in &mut self.sources {
                    source.filter.step(by);
                    source.history.step(by);
                }
                if let Some(joint) = &mut self.joint {
                    joint.step(by.as_secs_f64());
                }
                self.manual.step(by);
                self.clock.stepped(by);
                if let Some(evidence) = self.step.take() {
                    self.push_event(DisciplineEvent::Stepped(StepEvidence {
                        by: by.as_secs_f64(),
                        ..evidence
                    }));
                }
                let command = self.clock.plan(self.now, &self.settings);
                self.command(command);
                self.commands.status_due = self.settings.steer;
            }
            ClockCommand::SetFrequency { frequency } => {
                self.clock.correction.set_frequency(self.now, frequency.as_ratio());
            }
            ClockCommand::SetStatus { .. } | ClockCommand::SetTaiOffset { .. } => {}
        }
    }

    fn note_failed(&mut self, command: ClockCommand, failure: ClockFailure) {
        match command {
            ClockCommand::Step { .. } => {
                self.step = None;
                self.can_step &= failure != ClockFailure::Unsupported;
            }
            // Tried again at the next update, not at the end of a slew that never began.
            ClockCommand::SetFrequency { .. } => self.clock.abandon_slew(),
            ClockCommand::SetStatus { .. } | ClockCommand::SetTaiOffset { .. } => {}
        }
        if self.commands.is_new_failure(&command, failure) {
            self.push_event(DisciplineEvent::CommandFailed { command, failure });
        }
    }

    /// Somebody else stepped the clock (positive `by`: forward): all samples are dropped, as nobody knows how exactly
    /// `by` was measured. The frequency is kept.
    pub fn clock_stepped_externally(&mut self, now: MonoTime, by: NtpDuration) {
        self.clock.stepped_by_others(by);
        self.note_interference(now, Interference::Stepped { by: by.as_secs_f64() });
        self.reset(now);
    }

    /// The machine slept: what was measured before says nothing about the clock now. The frequency is kept. The clock is
    /// what the hardware made of the time in between, so that the next correction is like the first one.
    pub fn suspended(&mut self, now: MonoTime, slept: NtpDuration) {
        self.was_synchronized = false;
        self.note_interference(now, Interference::Suspended { slept: slept.as_secs_f64() });
        self.reset(now);
    }

    /// Somebody else changed the clock's frequency to `found`, or began a slew, at some time after `since`. What is known
    /// of the samples is re-based; when that cannot be done well enough, they are dropped. Gives whether they were.
    pub fn clock_adjusted_externally(
        &mut self,
        now: MonoTime,
        found: Frequency,
        slew: f64,
        since: MonoTime,
    ) -> bool {
        self.now = self.now.max(now);
        let (found, now) = (found.as_ratio(), self.now);
        if !found.is_finite() || found.abs() >= 0.5 {
            return false;
        }
        let set_ppm = self.clock.correction.frequency() * 1e6;
        let moved = self.clock.adjusted_by_others(now, found, since) + slew.abs();
        self.note_interference(now, Interference::Adjusted { found_ppm: found * 1e6, set_ppm, slew });
        self.commands.status_due = self.settings.steer;
        if moved > ADJUSTMENT_NEGLIGIBLE {
            self.reset(now);
            return true;
        }
        if !self.commands.has_step() {
            let command = self.clock.plan(now, &self.settings);
            self.command(command);
        }
        false
    }

    fn note_interference(&mut self, now: MonoTime, interference: Interference) {
        if !matches!(interference, Interference::Suspended { .. }) {
            self.interferences += 1;
            self.recent_interferences.retain(|at| now.seconds_since(*at) < INTERFERENCES_SECONDS);
            if self.recent_interferences.len() == INTERFERENCES_MAX {
                self.recent_interferences.pop_front();
            }
            self.recent_interferences.push_back(now);
        }
        self.push_event(DisciplineEvent::Interference(interference));
    }

    fn reset(&mut self, now: MonoTime) {
        self.now = self.now.max(now);
        self.sources.iter_mut().for_each(Source::clear);
        self.clock.reset();
        self.joint = None;
        self.reference = None;
        self.adrift_since = self.now;
        self.selected = None;
        self.patience = Patience::Unasked;
        self.young = false;
        self.slews_leap_second = false;
        self.trouble = Trouble::None;
        self.push_event(DisciplineEvent::Reset);
        self.commands.queue.clear();
        let command = self.clock.coast();
        self.command(command);
        self.commands.status_due = self.settings.steer;
        self.dirty = true;
        self.is_synchronized = false;
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

    /// Queues a command, in place of one of the same kind that was not fetched yet.
    fn command(&mut self, command: ClockCommand) {
        if self.settings.steer {
            self.commands.push(command);
        } else {
            self.clock.abandon_slew();
        }
    }
}

/// Whether a first measurement says so little that the next ones are worth waiting for.
fn is_too_vague(candidate: &Candidate) -> bool {
    candidate.root_distance > FIRST_DISTANCE_MAX.max(FIRST_DISTANCE_SHARE * candidate.estimate.offset.abs())
}

#[cfg(test)]
mod tests;
