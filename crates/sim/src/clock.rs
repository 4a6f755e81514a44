//! A computer's clock: an oscillator that is a little wrong and wanders, and the kernel's steering on top of it.

use crate::Chance;
use chime_discipline::{ClockCommand, ClockFailure, Leap};
use chime_engine::ClockIdentity;
use chime_time::{ClockReading, Frequency, MonoTime, NtpDate, NtpDuration};
use serde::Deserialize;
use std::time::Duration;

/// Seconds on the monotonic clock at the start of the world: the machine booted a while ago.
const BOOTED_SECONDS: f64 = 10.0;
/// The most that sines and ramps may change a frequency by, s per s.
const FREQUENCY_CHANGE_MAX: f64 = 1e-3;
const DAY_SECONDS: f64 = 86_400.0;

/// A frequency that goes up and down, as with the temperature of a day.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sine {
    /// Greatest deviation, s per s.
    pub amplitude: f64,
    /// Seconds from one maximum to the next.
    pub period: f64,
}

impl Sine {
    /// Whether such a clock can be simulated.
    pub(crate) fn is_possible(&self) -> bool {
        self.amplitude.abs() <= FREQUENCY_CHANGE_MAX && self.period >= 1.0
    }

    fn at(self, time: f64) -> f64 {
        self.amplitude * (std::f64::consts::TAU * time / self.period).sin()
    }
}

/// A frequency that moves from one value to another: the temperature of a room, or of a machine that was switched on.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// By how much it moves, s per s.
    pub by: f64,
    /// For how long, seconds.
    pub lasting: f64,
    /// When it begins, seconds after the start.
    #[serde(default)]
    pub at: f64,
    /// Whether it is fast at first and slower and slower, with `lasting` as its time constant, instead of steady.
    #[serde(default)]
    pub settling: bool,
}

impl Ramp {
    /// Whether such a clock can be simulated.
    pub(crate) fn is_possible(&self) -> bool {
        self.by.abs() <= FREQUENCY_CHANGE_MAX && self.lasting >= 1.0 && (0.0..=1e8).contains(&self.at)
    }

    fn at(self, time: f64) -> f64 {
        let share = (time - self.at).max(0.0) / self.lasting;
        self.by * if self.settling { 1.0 - (-share).exp() } else { share.min(1.0) }
    }
}

/// What the frequency does of itself beside its random walk.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Course {
    pub(crate) sines: Vec<Sine>,
    /// What it gains in a day, s per s, as quartz does that grows old.
    pub(crate) ageing: f64,
    pub(crate) ramps: Vec<Ramp>,
}

impl Course {
    /// What it adds to the frequency at `time`, seconds after the start.
    fn at(&self, time: f64) -> f64 {
        let sines: f64 = self.sines.iter().map(|sine| sine.at(time)).sum();
        let ramps: f64 = self.ramps.iter().map(|ramp| ramp.at(time)).sum();
        sines + ramps + self.ageing * time / DAY_SECONDS
    }
}

/// The clock of the machine on which the engine runs. Behaves as Linux does: the monotonic clock is not stepped, but
/// slewed together with the system clock.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    start: NtpDate,
    time: f64,
    error: f64,
    mono: f64,
    oscillator: f64,
    frequency: f64,
    wander: f64,
    next_wander: f64,
    course: Course,
    /// What [`Self::course`] has added to the oscillator so far.
    followed: f64,
    resolution: f64,
    stamp_noise: f64,
    permitted: bool,
    slept: f64,
    steps: Vec<f64>,
    /// The leap second that the kernel was told to make.
    armed: Leap,
}

impl SimulatedClock {
    /// A clock that shows `error` seconds more than true time, which starts at `start`; its oscillator runs
    /// `oscillator` s per s too fast, and that changes by `wander` in a random direction each second.
    #[must_use]
    pub fn new(start: NtpDate, error: f64, oscillator: f64, wander: f64) -> Self {
        Self {
            start,
            time: 0.0,
            error,
            mono: BOOTED_SECONDS,
            oscillator,
            frequency: 0.0,
            wander,
            next_wander: 1.0,
            course: Course::default(),
            followed: 0.0,
            resolution: 0.0,
            stamp_noise: 0.0,
            permitted: true,
            slept: 0.0,
            steps: Vec::new(),
            armed: Leap::NoWarning,
        }
    }

    /// Lets the oscillator also follow a course, which changes once a second.
    #[must_use]
    pub(crate) fn with_course(mut self, course: Course) -> Self {
        self.course = course;
        self
    }

    /// Time stamps are multiples of `resolution` (a clock that counts ticks) and err by a normally distributed time
    /// with standard deviation `noise`; both in seconds, 0 = exact.
    #[must_use]
    pub const fn with_stamps(mut self, resolution: f64, noise: f64) -> Self {
        self.resolution = resolution;
        self.stamp_noise = noise;
        self
    }

    /// The oscillator runs `by` s per s faster from now on.
    pub fn change_oscillator(&mut self, by: f64) {
        self.oscillator += by;
    }

    /// True seconds since the start of the world.
    #[must_use]
    pub const fn time(&self) -> f64 {
        self.time
    }

    /// System clock minus true time, seconds.
    #[must_use]
    pub const fn error(&self) -> f64 {
        self.error
    }

    /// By how much the steered clock is too fast, slews included; s per s.
    #[must_use]
    pub fn frequency_error(&self) -> f64 {
        self.rate() - 1.0
    }

    /// By how much the oscillator itself is too fast; s per s.
    #[must_use]
    pub const fn oscillator(&self) -> f64 {
        self.oscillator
    }

    /// The steps that were commanded, seconds.
    #[must_use]
    pub fn steps(&self) -> &[f64] {
        &self.steps
    }

    /// Both clocks now.
    #[must_use]
    pub fn read(&self) -> ClockReading {
        let system =
            self.start + NtpDuration::from_secs_f64(self.time) + NtpDuration::from_secs_f64(self.error);
        ClockReading { mono: MonoTime::ZERO.add_secs_f64(self.mono), system }
    }

    /// What a daemon that starts or ends sees of it.
    #[must_use]
    pub fn identity(&self) -> ClockIdentity {
        ClockIdentity {
            boot: "simulated".to_owned(),
            now: self.read(),
            slept: Duration::from_secs_f64(self.slept),
            frequency: Frequency::from_ratio(self.frequency),
        }
    }

    /// A time stamp of a packet that leaves or arrives now, as inexact as this machine's are.
    pub fn stamp(&self, chance: &mut Chance) -> ClockReading {
        let exact = self.read();
        if self.stamp_noise <= 0.0 && self.resolution <= 0.0 {
            return exact;
        }
        let noise = if self.stamp_noise > 0.0 { self.stamp_noise * chance.normal() } else { 0.0 };
        // The stamp is that of another instant: of one that is `shift` later.
        let shift = if self.resolution > 0.0 {
            // Of the error and the time since the start, so that no digit is lost to the date.
            let shown = self.time + self.error + noise;
            noise - shown.rem_euclid(self.resolution)
        } else {
            noise
        };
        ClockReading {
            mono: MonoTime::ZERO.add_secs_f64(self.mono + shift),
            system: exact.system + NtpDuration::from_secs_f64(shift),
        }
    }

    /// The true time at which the monotonic clock shows `mono`, if nothing changes until then; never in the past.
    #[must_use]
    pub fn time_of(&self, mono: MonoTime) -> f64 {
        let wait = mono.seconds_since(self.read().mono).max(0.0);
        // A nanosecond more than needed: deadlines have nanoseconds, and waking early once more would help nobody.
        self.time + wait / self.rate() + 1e-9
    }

    /// Lets time pass until true time is `time`.
    pub fn advance(&mut self, time: f64, chance: &mut Chance) {
        while self.time < time {
            let until = time.min(self.next_wander);
            let elapsed = until - self.time;
            self.error += (self.rate() - 1.0) * elapsed;
            self.mono += self.rate() * elapsed;
            self.time = until;
            if until >= self.next_wander {
                self.oscillator += self.wander * chance.normal();
                let course = self.course.at(self.next_wander);
                self.oscillator += course - self.followed;
                self.followed = course;
                self.next_wander += 1.0;
            }
        }
    }

    /// When advancing must pause because the rate changes.
    #[must_use]
    pub const fn next_change(&self) -> f64 {
        self.next_wander
    }

    /// Does what the engine wants.
    ///
    /// # Errors
    /// [`ClockFailure::NotPermitted`] while the clock is not permitted to be set.
    pub fn apply(&mut self, command: ClockCommand) -> Result<ClockCommand, ClockFailure> {
        if !self.permitted {
            return Err(ClockFailure::NotPermitted);
        }
        match command {
            ClockCommand::Step { by } => {
                self.error += by.as_secs_f64();
                self.steps.push(by.as_secs_f64());
            }
            ClockCommand::SetFrequency { frequency } => self.frequency = frequency.as_ratio(),
            ClockCommand::SetStatus { leap, .. } => self.armed = leap,
            ClockCommand::SetTaiOffset { .. } => {}
        }
        Ok(command)
    }

    /// Whether commands are carried out from now on.
    pub const fn permit(&mut self, permitted: bool) {
        self.permitted = permitted;
    }

    /// Another process steps the clock.
    pub fn step_by_another_process(&mut self, by: f64) {
        self.error += by;
    }

    /// Another process sets the frequency.
    pub fn retune_by_another_process(&mut self, frequency: Frequency) {
        self.frequency = frequency.as_ratio();
    }

    /// True time passes a leap second now: by `step` seconds, -1 for one that is inserted. The kernel makes it too if it was
    /// told to; gives by how much it has moved the clock then.
    pub fn pass_leap_second(&mut self, step: i64) -> Option<NtpDuration> {
        let by = NtpDuration::from_seconds(step);
        self.start = self.start + by;
        let wanted = if step < 0 { Leap::Insert } else { Leap::Delete };
        if self.armed == wanted {
            self.armed = Leap::NoWarning;
            return Some(by);
        }
        self.error -= step as f64;
        None
    }

    /// The machine sleeps: neither oscillator nor monotonic clock run, and the system clock is set from a
    /// battery-backed clock that is wrong by `rtc_error` seconds.
    pub fn suspend(&mut self, seconds: f64, rtc_error: f64) {
        self.time += seconds;
        self.slept += seconds;
        self.next_wander = self.next_wander.max(self.time.floor() + 1.0);
        self.error += rtc_error;
    }

    fn rate(&self) -> f64 {
        (1.0 + self.oscillator) * (1.0 + self.frequency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_time::Frequency;

    #[test]
    fn a_frequency_that_is_the_opposite_of_the_error_makes_the_clock_run_true() {
        let mut clock = SimulatedClock::new(NtpDate::from_unix(0, 0), 0.5, 1e-4, 0.0);
        let mut chance = Chance::new(1);
        clock.advance(100.0, &mut chance);
        assert!((clock.error() - 0.51).abs() < 1e-9);
        let frequency = Frequency::from_ratio(1.0 / (1.0 + 1e-4) - 1.0);
        assert!(clock.apply(ClockCommand::SetFrequency { frequency }).is_ok());
        clock.advance(200.0, &mut chance);
        assert!((clock.error() - 0.51).abs() < 1e-9);
        assert!((clock.time_of(clock.read().mono.add_secs_f64(5.0)) - 205.0).abs() < 1e-6);
    }

    #[test]
    fn wander_grows_with_the_root_of_time_and_a_sine_comes_back() {
        let start = NtpDate::from_unix(0, 0);
        let mut chance = Chance::new(7);
        let walks = 400;
        let square: f64 = (0..walks)
            .map(|_| {
                let mut clock = SimulatedClock::new(start, 0.0, 0.0, 1e-8);
                clock.advance(400.0, &mut chance);
                clock.oscillator().powi(2)
            })
            .sum();
        let deviation = (square / f64::from(walks)).sqrt();
        assert!(
            (deviation / 2e-7 - 1.0).abs() < 0.1,
            "1e-8 each second, 20 times that after 400 s: {deviation:e}"
        );
        let sine = Sine { amplitude: 1e-6, period: 400.0 };
        let course = Course { sines: vec![sine], ..Course::default() };
        let mut clock = SimulatedClock::new(start, 0.0, 1e-5, 0.0).with_course(course);
        clock.advance(100.0, &mut chance);
        assert!((clock.oscillator() - 1.1e-5).abs() < 1e-12);
        clock.advance(400.0, &mut chance);
        assert!((clock.oscillator() - 1e-5).abs() < 1e-12);
        clock.change_oscillator(1e-6);
        assert!((clock.frequency_error() - 1.1e-5).abs() < 1e-12);
    }

    #[test]
    fn an_oscillator_grows_old_and_is_heated() {
        let ramp = |by, lasting, at, settling| Ramp { by, lasting, at, settling };
        let course = Course {
            ageing: 8.64e-6,
            ramps: vec![ramp(1e-6, 100.0, 200.0, false), ramp(-2e-6, 50.0, 1000.0, true)],
            ..Course::default()
        };
        let mut clock = SimulatedClock::new(NtpDate::from_unix(0, 0), 0.0, 0.0, 0.0).with_course(course);
        let mut chance = Chance::new(1);
        for (time, expected) in
            [(200.0, 2e-8), (250.0, 5.25e-7), (1000.0, 1.1e-6), (1050.0, 1.105e-6 - 2e-6 * 0.632_120_56)]
        {
            clock.advance(time, &mut chance);
            assert!((clock.oscillator() - expected).abs() < 1e-13, "{time}: {:e}", clock.oscillator());
        }
        // While the machine slept, its quartz did not.
        clock.suspend(100_000.0, 0.0);
        clock.advance(101_052.0, &mut chance);
        assert!((clock.oscillator() - (1e-5 + 1.052e-7 - 1e-6)).abs() < 1e-13, "{:e}", clock.oscillator());
    }

    #[test]
    fn stamps_are_multiples_of_the_resolution_and_as_noisy_as_said() {
        let mut chance = Chance::new(3);
        let clock = SimulatedClock::new(NtpDate::from_unix(1000, 0), 0.123_456, 0.0, 0.0);
        assert_eq!(clock.stamp(&mut chance), clock.read());
        let (ticking, noisy) = (clock.clone().with_stamps(0.01, 0.0), clock.with_stamps(0.0, 1e-6));
        let late = ticking.read().system - ticking.stamp(&mut chance).system;
        assert!((late.as_secs_f64() - 0.003_456).abs() < 1e-9, "{late:?}");
        let late = ticking.read().mono.seconds_since(ticking.stamp(&mut chance).mono);
        assert!((late - 0.003_456).abs() < 2e-9, "{late:?}");
        let error = |_| (noisy.stamp(&mut chance).system - noisy.read().system).as_secs_f64().powi(2);
        let deviation = ((0..10_000).map(error).sum::<f64>() / 1e4).sqrt();
        assert!((deviation / 1e-6 - 1.0).abs() < 0.05, "{deviation:e}");
    }

    #[test]
    fn a_step_does_not_move_the_monotonic_clock() {
        let mut clock = SimulatedClock::new(NtpDate::from_unix(1000, 0), 0.0, 0.0, 0.0);
        let before = clock.read();
        let step = ClockCommand::Step { by: NtpDuration::from_seconds(3) };
        assert!(clock.apply(step).is_ok());
        assert_eq!(clock.read().mono, before.mono);
        assert_eq!(clock.read().system - before.system, NtpDuration::from_seconds(3));
        clock.permit(false);
        assert_eq!(clock.apply(step), Err(ClockFailure::NotPermitted));
    }
}
