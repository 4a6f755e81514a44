//! Whom the clock follows: when the sources are asked, how many must have spoken, and what is said when nobody is chosen.

use super::{Discipline, Trouble, UpdateSummary};
use crate::election::{self, Choice, Moment, Outcome};
use crate::patience::{self, Patience};
use crate::source::{POLLS_TOLD, Source};
use crate::{DisciplineEvent, Settings};
use chime_time::MonoTime;

/// A single measurement sets the clock only when it is good to this, seconds, or to a share of what it corrects.
const FIRST_DISTANCE_MAX: f64 = 0.1;
const FIRST_DISTANCE_SHARE: f64 = 0.25;

impl Discipline {
    pub(super) fn run_election(&mut self, now: MonoTime) -> UpdateSummary {
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
}

/// How many agree on a first correction. One whose measurement says so little that it agrees with almost everybody is no
/// voice, and the next ones are worth waiting for.
fn agreeing_at_first_sight(choice: &Choice) -> usize {
    let vague = FIRST_DISTANCE_MAX.max(FIRST_DISTANCE_SHARE * choice.selected.estimate.offset.abs());
    choice.truechimers.iter().filter(|candidate| candidate.root_distance <= vague).count()
}
