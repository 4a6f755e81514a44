//! Steering: from the combined estimate to steps and frequencies. RFC 5905 §11.3.
//!
//! Deviation: RFC 5905 mixes a phase-locked and a frequency-locked loop. Here the clock follows the estimate itself:
//! the frequency is set to the estimated one, and the offset is worked off by a slew, an extra frequency with a
//! deadline. There is no loop that could oscillate; calmness comes from the estimate.

mod estimate;
mod jumps;

use self::estimate::{BALANCED_SHARE, Estimate};
use self::jumps::{Change, Jumps};
use crate::combine::Combined;
use crate::correction::Correction;
use crate::{ClockCommand, CorrectionTime, Settings, StepPolicy};
use chime_time::{Frequency, MonoTime, NtpDuration};

/// Bounds of the length of a slew, seconds: shorter ones would end before the timer that ends them can be trusted, and
/// what takes longer is planned anew long before.
const SLEW_SECONDS: (f64, f64) = (0.5, 1e4);
/// A rest of this share of a slew is left to the next update (timers are late).
const SLEW_REST: f64 = 0.02;
/// Offsets not worth a slew, seconds.
const OFFSET_NEGLIGIBLE: f64 = 1e-9;

/// What to do about an estimate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Decision {
    /// Slew.
    Slew,
    /// Step by so many seconds.
    Step(f64),
    /// Beyond a panic threshold: do nothing.
    Refuse { by: f64, accumulated: bool },
}

/// The state of the steering.
#[derive(Clone, Debug)]
pub(crate) struct ClockDiscipline {
    pub(crate) correction: Correction,
    pub(crate) estimate: Option<Estimate>,
    /// What the sources say while that is not believed.
    refused: Option<Estimate>,
    /// By how much others stepped the clock since the last update, seconds; positive forward.
    foreign_steps: f64,
    /// The frequency correction without slew, s per s.
    pub(crate) frequency: f64,
    pub(crate) skew: f64,
    /// The frequency and its standard error as they were known before the few samples that the clock follows now.
    trusted: (f64, f64),
    /// When the slew ends, and what it was meant to correct.
    slew: Option<(MonoTime, f64)>,
    jumps: Jumps,
    /// Seconds between the samples of the selected source.
    interval: f64,
    pub(crate) updates: u64,
    pub(crate) steps: u64,
    pub(crate) accumulated_steps: f64,
}

impl ClockDiscipline {
    pub(crate) fn new(settings: &Settings, frequency: f64, skew: f64, now: MonoTime) -> Self {
        let limit = settings.max_drift.as_ratio().abs();
        let frequency = if frequency.is_finite() { frequency.clamp(-limit, limit) } else { 0.0 };
        let in_use = if settings.steer { frequency } else { 0.0 };
        Self {
            correction: Correction::new(now, settings.mono_is_slewed, in_use),
            estimate: None,
            refused: None,
            foreign_steps: 0.0,
            frequency,
            skew,
            trusted: (frequency, skew),
            slew: None,
            jumps: Jumps::default(),
            interval: 0.0,
            updates: 0,
            steps: 0,
            accumulated_steps: 0.0,
        }
    }

    /// Takes over a new estimate. `interval`: seconds between the samples of the selected source.
    pub(crate) fn adopt(&mut self, now: MonoTime, combined: &Combined, interval: f64, settings: &Settings) {
        assert!(
            [combined.offset, combined.offset_error, combined.frequency, combined.skew]
                .iter()
                .all(|value| value.is_finite()),
            "an estimate that steers the clock must be a number: {combined:?}"
        );
        if combined.skew <= settings.max_update_skew.as_ratio() {
            let walk = (combined.wander_square * self.interval).sqrt();
            let change = Change {
                by: combined.frequency - self.frequency,
                error: self.skew.hypot(combined.skew).hypot(walk),
                usual: settings.max_clock_error.as_ratio(),
                updates: self.updates,
            };
            self.jumps.note(now, &change);
            let limit = settings.max_drift.as_ratio().abs();
            self.frequency = combined.frequency.clamp(-limit, limit);
            self.skew = combined.skew;
        }
        self.estimate = Some(self.estimate_of(now, combined));
        self.refused = None;
        self.foreign_steps = 0.0;
        self.interval = interval;
        self.updates += 1;
    }

    /// The frequency was found from more samples than may agree by chance.
    pub(crate) fn trust_frequency(&mut self) {
        self.trusted = (self.frequency, self.skew);
    }

    /// The frequency as it is known without the few samples that the clock may follow, and its standard error; s per s.
    pub(crate) const fn trusted_frequency(&self) -> (f64, f64) {
        self.trusted
    }

    /// Few samples said what the frequency is, and others contradict them: that is undone, with what it did to the clock.
    /// `None` when nothing has to be done.
    pub(crate) fn distrust_frequency(&mut self, now: MonoTime, settings: &Settings) -> Option<ClockCommand> {
        if self.frequency == self.trusted.0 {
            return None;
        }
        (self.frequency, self.skew) = self.trusted;
        if let Some(estimate) = &mut self.estimate {
            estimate.frequency = self.frequency;
        }
        Some(self.plan(now, settings))
    }

    /// By how much the oscillator's frequency may change before the next measurement, s per s: as the settings say, or as it did
    /// within the last days.
    pub(crate) fn oscillator_change(&self, now: MonoTime, settings: &Settings) -> f64 {
        settings.max_clock_error.as_ratio().max(self.jumps.expected(now))
    }

    /// Takes note of an estimate that is not believed: it is shown, and an operator can have it, but nothing follows it.
    pub(crate) fn refuse(&mut self, now: MonoTime, combined: &Combined) {
        self.refused = Some(self.estimate_of(now, combined));
    }

    /// The correction that is refused, at `now`, in seconds; positive means that our clock would be behind.
    pub(crate) fn refused_offset(&self, now: MonoTime) -> Option<f64> {
        self.refused.as_ref().map(|refused| refused.offset_at(self.correction.at(now)))
    }

    /// The operator believes what was refused.
    pub(crate) fn accept_refused(&mut self) {
        if let Some(refused) = self.refused.take() {
            self.estimate = Some(refused);
        }
    }

    fn estimate_of(&self, now: MonoTime, combined: &Combined) -> Estimate {
        Estimate {
            point: self.correction.at(now),
            offset: combined.offset,
            error: combined.offset_error,
            standard_deviation: combined.standard_deviation,
            frequency: self.frequency,
            wander_square: combined.wander_square,
        }
    }

    /// What to do about an offset of so many seconds. `startup`: the clock never followed a source before.
    ///
    /// A threshold is there to doubt the sources. When the clock was stepped by others, and the sources say what they said
    /// before that, there is nothing to doubt about them: only what they changed their mind by counts.
    pub(crate) fn decide(&self, offset: f64, startup: bool, policy: &StepPolicy) -> Decision {
        let panic = if startup { policy.startup_panic } else { policy.running_panic };
        let is_in_force = self.updates >= u64::from(policy.panic_after);
        // Who counts refusals wants each to count.
        let foreign = if policy.refusals_max.is_some() { 0.0 } else { self.foreign_steps };
        let unexplained = offset + foreign;
        if is_in_force && panic.is_exceeded_by(offset) && panic.is_exceeded_by(unexplained) {
            return Decision::Refuse { by: offset, accumulated: false };
        }
        let may_step = policy.allows_steps_after(self.updates);
        if !may_step || !policy.is_step(offset) {
            return Decision::Slew;
        }
        let sum = self.accumulated_steps + offset.abs();
        if !startup && policy.accumulated_panic.is_some_and(|limit| sum > limit) {
            return Decision::Refuse { by: offset, accumulated: true };
        }
        Decision::Step(offset)
    }

    /// The frequency to run at from `now` on: that of the estimate and a slew that works off what remains.
    pub(crate) fn plan(&mut self, now: MonoTime, settings: &Settings) -> ClockCommand {
        let remaining = self.offset(now).unwrap_or(0.0);
        let limit = settings.max_slew.as_ratio().abs();
        let rate = if remaining.abs() > OFFSET_NEGLIGIBLE {
            (remaining / self.slew_seconds(remaining, settings)).clamp(-limit, limit)
        } else {
            0.0
        };
        self.slew = None;
        if rate != 0.0 {
            // On a scale that is slewed itself the end comes later by the frequency then in use.
            let stretch = if settings.mono_is_slewed { 1.0 + self.frequency + rate } else { 1.0 };
            self.slew = Some((now.add_secs_f64(remaining / rate * stretch), remaining));
        }
        set_frequency(self.frequency + rate)
    }

    /// How long it takes to work off what remains, if the rate allows.
    fn slew_seconds(&self, remaining: f64, settings: &Settings) -> f64 {
        let seconds = match settings.correction_time {
            CorrectionTime::Balanced => {
                let share = |estimate: Estimate| estimate.balanced_share(self.interval, remaining);
                self.interval * self.estimate.map_or(BALANCED_SHARE.0, share)
            }
            CorrectionTime::Share(share) => self.interval * share,
            CorrectionTime::Ratio(ratio) => {
                let usual = self.estimate.map_or(0.0, |estimate| estimate.usual_correction());
                self.interval * ratio * usual / remaining.abs()
            }
        };
        if seconds.is_finite() { seconds.clamp(SLEW_SECONDS.0, SLEW_SECONDS.1) } else { SLEW_SECONDS.0 }
    }

    /// The frequency to run at when there is nothing to follow: no slew.
    pub(crate) fn coast(&mut self) -> ClockCommand {
        self.slew = None;
        set_frequency(self.frequency)
    }

    /// The slew was not begun.
    pub(crate) fn abandon_slew(&mut self) {
        self.slew = None;
    }

    /// When the slew under way ends.
    pub(crate) fn slew_end(&self) -> Option<MonoTime> {
        self.slew.map(|(end, _)| end)
    }

    /// The end of a slew has come: the frequency to go on with, without slew or with a short one for what the timer's
    /// lateness left.
    pub(crate) fn end_slew(&mut self, now: MonoTime, settings: &Settings) -> ClockCommand {
        let (_, meant) = self.slew.expect("called when a slew is under way");
        let remaining = self.offset(now).unwrap_or(0.0);
        if remaining.abs() > (meant * SLEW_REST).abs().max(OFFSET_NEGLIGIBLE) {
            self.interval = 0.0;
            return self.plan(now, settings);
        }
        self.coast()
    }

    /// The step to make for an offset of so many seconds.
    pub(crate) fn step(by: f64) -> ClockCommand {
        assert!(by.is_finite(), "a step must be a number");
        ClockCommand::Step { by: NtpDuration::from_secs_f64(by) }
    }

    /// The clock was stepped.
    pub(crate) fn stepped(&mut self, by: NtpDuration) {
        let by = by.as_secs_f64();
        for estimate in self.estimate.iter_mut().chain(&mut self.refused) {
            estimate.offset -= by;
        }
        if self.steps > 0 {
            self.accumulated_steps += by.abs();
        }
        self.steps += 1;
    }

    /// Takes what an operator says for the truth: the clock is behind by `offset` seconds now, and needs another frequency.
    pub(crate) fn set_by_hand(&mut self, now: MonoTime, offset: f64, frequency: f64, settings: &Settings) {
        let limit = settings.max_drift.as_ratio().abs();
        self.frequency = frequency.clamp(-limit, limit);
        self.trust_frequency();
        let point = self.correction.at(now);
        let frequency = self.frequency;
        let (error, standard_deviation, wander_square) = (0.0, 0.0, 0.0);
        self.estimate = Some(Estimate { point, offset, error, standard_deviation, frequency, wander_square });
        // As fast as the slew may be.
        self.interval = 0.0;
    }

    /// What the clock is to show moved by `by` seconds, as it does at a leap second.
    pub(crate) fn target_moved(&mut self, by: f64) {
        if let Some(estimate) = &mut self.estimate {
            estimate.offset += by;
        }
    }

    /// What remains to be corrected at `now`, seconds; positive means that our clock is behind.
    pub(crate) fn offset(&self, now: MonoTime) -> Option<f64> {
        self.estimate.as_ref().map(|estimate| estimate.offset_at(self.correction.at(now)))
    }

    /// Somebody else stepped the clock.
    pub(crate) fn stepped_by_others(&mut self, by: NtpDuration) {
        self.foreign_steps += by.as_secs_f64();
    }

    /// Somebody else has had the clock run at `found` since some instant between `since` and `now`; gives by how much the
    /// clock may have been moved by that, seconds.
    pub(crate) fn adjusted_by_others(&mut self, now: MonoTime, found: f64, since: MonoTime) -> f64 {
        let elapsed = now.seconds_since(since).max(0.0);
        let before = self.correction.frequency();
        self.correction.set_frequency(since.add_secs_f64(elapsed / 2.0), found);
        (found - before).abs() * elapsed / 2.0
    }

    /// Forgets the estimate, but not the frequency.
    pub(crate) fn reset(&mut self) {
        self.estimate = None;
        self.refused = None;
        self.interval = 0.0;
        self.slew = None;
    }
}

/// The command for a frequency; the last guard before the clock.
fn set_frequency(frequency: f64) -> ClockCommand {
    assert!(frequency.is_finite() && frequency.abs() < 0.5, "a clock frequency must be a small number");
    ClockCommand::SetFrequency { frequency: Frequency::from_ratio(frequency) }
}

#[cfg(test)]
mod tests {
    use super::jumps::{JUMP_MEMORY, JUMP_UPDATES_MIN};
    use super::*;
    use crate::PanicThreshold;

    fn at(seconds: f64) -> MonoTime {
        MonoTime::ZERO.add_secs_f64(seconds)
    }

    fn discipline() -> (ClockDiscipline, Settings) {
        let correction_time = CorrectionTime::Share(0.25);
        let settings = Settings { mono_is_slewed: false, correction_time, ..Settings::default() };
        (ClockDiscipline::new(&settings, 0.0, 1e-4, at(0.0)), settings)
    }

    fn combined(offset: f64, frequency: f64) -> Combined {
        Combined {
            offset,
            offset_error: 1e-6,
            frequency,
            skew: 1e-8,
            wander_square: 1e-18,
            standard_deviation: 1e-5,
        }
    }

    fn frequency_of(command: ClockCommand) -> f64 {
        match command {
            ClockCommand::SetFrequency { frequency } => frequency.as_ratio(),
            other => panic!("not a frequency: {other:?}"),
        }
    }

    #[test]
    fn steps_only_above_the_threshold_and_within_the_limit_of_updates() {
        let (mut clock, _) = discipline();
        let policy = StepPolicy { updates_limit: Some(1), ..StepPolicy::default() };
        assert_eq!(clock.decide(0.1, true, &policy), Decision::Slew);
        assert_eq!(clock.decide(-0.1001, true, &policy), Decision::Step(-0.1001));
        clock.updates = 1;
        assert_eq!(clock.decide(-0.1001, true, &policy), Decision::Slew);
        let never = StepPolicy { threshold: None, ..policy };
        assert_eq!(clock.decide(500.0, true, &never), Decision::Slew);
        let reluctant = StepPolicy { backward_threshold: Some(0.5), ..StepPolicy::default() };
        assert_eq!(clock.decide(-0.5, true, &reluctant), Decision::Slew);
        assert_eq!(clock.decide(-0.6, true, &reluctant), Decision::Step(-0.6));
        assert_eq!(clock.decide(0.2, true, &reluctant), Decision::Step(0.2));
        let only_back = StepPolicy { threshold: None, ..reluctant };
        assert_eq!(clock.decide(500.0, true, &only_back), Decision::Slew);
        assert_eq!(clock.decide(-0.6, true, &only_back), Decision::Step(-0.6));
    }

    #[test]
    fn panic_thresholds_differ_before_and_after_the_first_synchronisation() {
        let (clock, _) = discipline();
        let policy = StepPolicy {
            startup_panic: PanicThreshold { forward: None, backward: Some(100.0) },
            running_panic: PanicThreshold { forward: Some(10.0), backward: Some(10.0) },
            ..StepPolicy::default()
        };
        assert_eq!(clock.decide(1e9, true, &policy), Decision::Step(1e9));
        assert_eq!(clock.decide(-100.0, true, &policy), Decision::Step(-100.0));
        assert_eq!(clock.decide(-100.1, true, &policy), Decision::Refuse { by: -100.1, accumulated: false });
        assert_eq!(clock.decide(10.0, false, &policy), Decision::Step(10.0));
        assert_eq!(clock.decide(10.1, false, &policy), Decision::Refuse { by: 10.1, accumulated: false });
    }

    #[test]
    fn the_sum_of_steps_has_a_limit_that_does_not_count_the_first() {
        let (mut clock, _) = discipline();
        let policy = StepPolicy { accumulated_panic: Some(10.0), ..StepPolicy::default() };
        clock.stepped(NtpDuration::from_seconds(500));
        assert_eq!(clock.decide(9.0, false, &policy), Decision::Step(9.0));
        clock.stepped(NtpDuration::from_seconds(9));
        assert_eq!(clock.decide(2.0, false, &policy), Decision::Refuse { by: 2.0, accumulated: true });
    }

    #[test]
    fn who_jumped_may_jump_again() {
        let (mut clock, settings) = discipline();
        let usual = settings.max_clock_error.as_ratio();
        (clock.updates, clock.skew) = (JUMP_UPDATES_MIN, 1e-4);
        let mut changes = |seconds: f64, frequency: f64| {
            clock.adopt(at(seconds), &combined(0.0, frequency), 64.0, &settings);
            clock.oscillator_change(at(seconds), &settings)
        };
        assert_eq!(changes(0.0, 2e-5), usual, "nothing was known before");
        assert_eq!(changes(64.0, 2.09e-5), usual, "that much is always possible");
        assert!((changes(128.0, 1.09e-5) - 2e-5).abs() < 1e-9);
        assert!((changes(192.0, 1.59e-5) - 2e-5).abs() < 1e-7, "a smaller one says nothing new");
        assert!((changes(192.0 + JUMP_MEMORY, 1.59e-5) - 2e-5 / std::f64::consts::E).abs() < 1e-7);
        assert_eq!(changes(1e6, 1.59e-5), usual);
    }

    #[test]
    fn the_ratio_counts_usual_corrections_and_not_what_is_unknown_yet() {
        let settings = Settings { correction_time: CorrectionTime::Ratio(100.0), ..Settings::default() };
        let slew_seconds = |offset_error: f64| {
            let (mut clock, _) = discipline();
            clock.adopt(at(0.0), &Combined { offset_error, ..combined(1e-3, 0.0) }, 64.0, &settings);
            clock.slew_seconds(1e-3, &settings)
        };
        assert!((slew_seconds(1e-6) - 64.0 * 100.0 * 1e-3).abs() < 1e-9);
        assert!((slew_seconds(1e-3) - 64.0 * 100.0 * 1e-2).abs() < 1e-9, "samples scatter by 10 µs only");
    }

    #[test]
    fn a_slew_ends_where_the_offset_does() {
        let (mut clock, settings) = discipline();
        clock.adopt(at(10.0), &combined(1e-3, 2e-5), 16.0, &settings);
        let frequency = frequency_of(clock.plan(at(10.0), &settings));
        assert!((frequency - (2e-5 + 1e-3 / 4.0)).abs() < 1e-12);
        clock.correction.set_frequency(at(10.0), frequency);
        let end = clock.slew_end().unwrap();
        assert!((end.seconds_since(at(14.0))).abs() < 1e-6);
        assert!(clock.offset(end).unwrap().abs() < 1e-9);
        assert!((frequency_of(clock.end_slew(end, &settings)) - 2e-5).abs() < 1e-15);
        assert_eq!(clock.slew_end(), None);
    }

    #[test]
    fn a_late_timer_leaves_a_short_slew_back() {
        let (mut clock, settings) = discipline();
        clock.adopt(at(10.0), &combined(0.09, 0.0), 2.0, &settings);
        let frequency = frequency_of(clock.plan(at(10.0), &settings));
        assert!((frequency - 83_333.333e-6).abs() < 1e-12, "limited by the greatest slew");
        clock.correction.set_frequency(at(10.0), frequency);
        let late = clock.slew_end().unwrap().add_secs_f64(0.05);
        let back = frequency_of(clock.end_slew(late, &settings));
        assert!(back < 0.0 && clock.slew_end().is_some());
    }

    #[test]
    fn a_vague_frequency_is_not_used() {
        let (mut clock, settings) = discipline();
        let vague = Combined { skew: 2e-3, ..combined(0.0, 5e-4) };
        clock.adopt(at(1.0), &vague, 16.0, &settings);
        assert_eq!(clock.frequency, 0.0);
        clock.adopt(at(2.0), &combined(0.0, 0.3), 16.0, &settings);
        assert_eq!(clock.frequency, settings.max_drift.as_ratio());
    }
}
