//! The system clock as the time plane holds it: carries commands out and notices when others interfere.

use chime_discipline::{ClockCommand, ClockFailure, Leap};
use chime_engine::Input;
use chime_sys::adjust::{ClockDriver, ClockError, ForeignAdjustment, KernelStatus, LeapSecond};
use chime_sys::clock;
use chime_time::{ClockReading, Frequency, MonoTime, NtpDate, NtpDuration};
use std::time::Duration;

/// The system clock went that far from the monotonic one without us: somebody stepped it. Well above what two readings
/// can be apart, well below what would harm.
const FOREIGN_STEP_MIN: NtpDuration = NtpDuration::from_nanos(10_000_000);

/// The same when the kernel said that the clock was set.
const FOREIGN_STEP_MIN_TOLD: NtpDuration = NtpDuration::from_nanos(20_000);

/// A reading that took long says little; only differences of so many times its error count.
const READING_ERRORS: u32 = 4;

/// Suspensions shorter than this are none: two clocks were read one after the other.
const SUSPENSION_MIN: Duration = Duration::from_millis(10);

/// How often it is asked whether others changed the clock's pace.
const PACE_INTERVAL: Duration = Duration::from_secs(1);

/// A leap second that the kernel makes is a step of this, give or take what a reading may be wrong.
const LEAP_SECOND: NtpDuration = NtpDuration::from_seconds(1);
const LEAP_SECOND_TOLERANCE: NtpDuration = NtpDuration::from_nanos(1_000_000);

/// A clock driver, what it was told last, and where the clock should be.
pub struct ClockShell {
    driver: Box<dyn ClockDriver>,
    frequency: Frequency,
    /// What to leave the clock at.
    rest: Option<Frequency>,
    /// The system clock when the monotonic one showed zero: as long as nobody steps it this stays as it is.
    base: NtpDate,
    /// How long the machine has been suspended since the boot, where that can be told.
    slept: Option<Duration>,
    /// When the pace of the clock was last seen to be ours.
    ours_at: MonoTime,
    /// The leap second that the kernel was told to make.
    leap: LeapSecond,
    /// What is added to every frequency because of the temperature: as if the oscillator were that much faster.
    compensation: Frequency,
    /// Whether the kernel is told when its clock is right.
    marks_kernel: bool,
    /// What others did to the frequency, found when ours was set again; told at the next look.
    overwritten: Option<ForeignAdjustment>,
}

impl ClockShell {
    /// Takes a driver over; `now` is the state from which interference is judged.
    #[must_use]
    pub fn new(mut driver: Box<dyn ClockDriver>, now: ClockReading) -> Self {
        let frequency = driver.frequency();
        let slept = clock::suspended();
        Self {
            driver,
            frequency,
            rest: None,
            compensation: Frequency::ZERO,
            base: base(now),
            slept,
            ours_at: now.mono,
            leap: LeapSecond::None,
            marks_kernel: true,
            overwritten: None,
        }
    }

    /// Tells the kernel when its clock is right, as it does by itself, or never: then the kernel leaves the real-time clock
    /// alone.
    #[must_use]
    pub fn marking_kernel(mut self, marks: bool) -> Self {
        self.marks_kernel = marks;
        self
    }

    /// Whether commands do anything.
    #[must_use]
    pub fn steers(&self) -> bool {
        self.driver.steers()
    }

    /// The frequency that the clock runs at by our command, slew included.
    #[must_use]
    pub const fn commanded(&self) -> Frequency {
        self.frequency
    }

    /// The greatest frequency of either sign that can be commanded.
    #[must_use]
    pub fn frequency_max(&self) -> Frequency {
        self.driver.frequency_max()
    }

    /// Has the clock left at `frequency`, its best one without any slew, when this value is dropped. A slew that nobody
    /// ends would move the clock by up to 8 % of the time that passes.
    pub const fn rest_at(&mut self, frequency: Frequency) {
        self.rest = Some(frequency);
    }

    /// Has the oscillator made faster by `compensation` from now on, whatever is commanded beside it.
    ///
    /// # Errors
    /// When the clock cannot be told.
    pub fn compensate(&mut self, compensation: Frequency) -> Result<(), ClockFailure> {
        if !self.driver.steers() || compensation == self.compensation {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.compensation, compensation);
        self.set_frequency(self.frequency).map(drop).inspect_err(|_| self.compensation = before)
    }

    /// Commands a frequency, the compensation beside it; gives what was set without the compensation.
    fn set_frequency(&mut self, frequency: Frequency) -> Result<Frequency, ClockFailure> {
        if self.compensation == Frequency::ZERO {
            return self.driver.set_frequency(frequency).map_err(failure);
        }
        let both = Frequency::from_ppm(frequency.as_ppm() + self.compensation.as_ppm());
        let set = self.driver.set_frequency(both).map_err(failure)?;
        Ok(Frequency::from_ppm(set.as_ppm() - self.compensation.as_ppm()))
    }

    /// Leaves the clock without a slew, at the frequency to rest at.
    pub fn leave(&mut self) {
        if let Some(rest) = self.rest.filter(|rest| self.driver.steers() && *rest != self.frequency) {
            match self.set_frequency(rest) {
                Ok(set) => (self.frequency, self.rest) = (set, None),
                Err(error) => tracing::error!("the clock was left with a slew: {error}"),
            }
        }
    }

    /// Carries a command out; gives what was really done.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn apply(&mut self, command: ClockCommand) -> Result<ClockCommand, ClockFailure> {
        match command {
            ClockCommand::Step { by } => {
                let by = self.driver.step(by).map_err(failure)?;
                self.base = self.base + by;
                Ok(ClockCommand::Step { by })
            }
            ClockCommand::SetFrequency { frequency } => {
                // What others set goes when ours is set, but not before it was seen.
                self.overwritten = self.driver.take_foreign_adjustment().or(self.overwritten.take());
                self.frequency = self.set_frequency(frequency)?;
                Ok(ClockCommand::SetFrequency { frequency: self.frequency })
            }
            ClockCommand::SetTaiOffset { seconds } => {
                self.driver.set_tai_offset(seconds).map(|()| command).map_err(failure)
            }
            ClockCommand::SetStatus { synchronized, leap, max_error, est_error, offset } => {
                let leap = match leap {
                    Leap::Insert => LeapSecond::Insert,
                    Leap::Delete => LeapSecond::Delete,
                    Leap::NoWarning | Leap::Unsynchronized => LeapSecond::None,
                };
                self.leap = leap;
                let synchronized = synchronized && self.marks_kernel;
                let status = KernelStatus { synchronized, leap, max_error, est_error, offset };
                self.driver.set_status(&status).map(|()| command).map_err(failure)
            }
        }
    }

    /// Looks for what others did to the clock. `error`: within what the two readings of `now` are one instant. `told`: the
    /// kernel said that the clock was set, by us or by somebody else.
    ///
    /// The two clocks run at one rate, so a change of their difference is somebody's step, or time spent suspended, when the
    /// monotonic clock stands still.
    pub fn look_for_interference(
        &mut self,
        now: ClockReading,
        error: Duration,
        told: bool,
    ) -> Vec<Input<'static>> {
        let mut found = Vec::new();
        let by = base(now) - self.base;
        let least = if told { FOREIGN_STEP_MIN_TOLD } else { FOREIGN_STEP_MIN };
        let error = i64::try_from((error * READING_ERRORS).as_nanos()).unwrap_or(i64::MAX);
        if by.abs() >= least.max(NtpDuration::from_nanos(error)) {
            self.base = base(now);
            found.extend(self.explain(by));
        }
        if now.mono.saturating_since(self.ours_at) >= PACE_INTERVAL {
            found.extend(self.look_at_pace(now.mono));
        }
        found
    }

    /// Whether a step by so much is the leap second that the kernel was told to make. Only for words: the engine, which
    /// has to hear of it, finds that out for itself.
    #[must_use]
    pub fn is_ordered_leap_second(&self, by: NtpDuration) -> bool {
        match self.leap {
            LeapSecond::None => false,
            LeapSecond::Insert => (by + LEAP_SECOND).abs() <= LEAP_SECOND_TOLERANCE,
            LeapSecond::Delete => (by - LEAP_SECOND).abs() <= LEAP_SECOND_TOLERANCE,
        }
    }

    /// What moved the clock by so much.
    fn explain(&mut self, by: NtpDuration) -> impl Iterator<Item = Input<'static>> {
        let slept = self.suspension();
        let rest = by - slept;
        let suspended = (slept > NtpDuration::ZERO).then_some(Input::Suspended { slept });
        // The kernel slept for as long as it says, within its own rounding.
        let least = if suspended.is_some() { FOREIGN_STEP_MIN } else { NtpDuration::ZERO };
        let stepped = (rest.abs() > least).then_some(Input::ClockStepped { by: rest });
        suspended.into_iter().chain(stepped)
    }

    /// For how long the machine was suspended since this was last asked; zero where that cannot be told.
    fn suspension(&mut self) -> NtpDuration {
        let (Some(before), Some(after)) = (self.slept, clock::suspended()) else { return NtpDuration::ZERO };
        self.slept = Some(after);
        let slept = after.saturating_sub(before);
        if slept < SUSPENSION_MIN {
            return NtpDuration::ZERO;
        }
        NtpDuration::from_nanos(i64::try_from(slept.as_nanos()).unwrap_or(i64::MAX))
    }

    fn look_at_pace(&mut self, now: MonoTime) -> Option<Input<'static>> {
        let since = std::mem::replace(&mut self.ours_at, now);
        let Some(foreign) = self.driver.take_foreign_adjustment() else {
            let slew = self.overwritten.take()?.slew;
            return Some(Input::ClockAdjusted { frequency: self.frequency, slew, since });
        };
        self.overwritten = None;
        // What is compensated goes on being so, and is no part of what the discipline believes.
        self.frequency = Frequency::from_ppm(foreign.frequency.as_ppm() - self.compensation.as_ppm());
        Some(Input::ClockAdjusted { frequency: self.frequency, slew: foreign.slew, since })
    }
}

/// The system clock when the monotonic one showed zero.
fn base(now: ClockReading) -> NtpDate {
    let nanos = i64::try_from(now.mono.as_nanos()).unwrap_or(i64::MAX);
    now.system - NtpDuration::from_nanos(nanos)
}

impl Drop for ClockShell {
    /// Also when the daemon ends by an error or a panic.
    fn drop(&mut self) {
        self.leave();
    }
}

fn failure(error: ClockError) -> ClockFailure {
    match error {
        ClockError::NotSteered => ClockFailure::Unsupported,
        ClockError::NotPermitted => ClockFailure::NotPermitted,
        ClockError::Refused(error) => ClockFailure::System(error.raw_os_error().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_sys::adjust::{ForeignAdjustment, ObserveOnly};
    use std::cell::Cell;
    use std::rc::Rc;

    fn reading(mono: f64, system: f64) -> ClockReading {
        ClockReading {
            mono: MonoTime::ZERO.add_secs_f64(mono),
            system: NtpDate::from_unix(1_795_000_000, 0) + NtpDuration::from_secs_f64(system),
        }
    }

    /// What is found with readings that are good to a microsecond.
    fn look(shell: &mut ClockShell, mono: f64, system: f64, told: bool) -> Vec<Input<'static>> {
        shell.look_for_interference(reading(mono, system), Duration::from_micros(1), told)
    }

    fn stepped_by(found: &[Input<'_>]) -> Option<f64> {
        match found {
            [] => None,
            [Input::ClockStepped { by }] => Some(by.as_secs_f64()),
            other => panic!("not a step: {other:?}"),
        }
    }

    #[test]
    fn a_step_by_somebody_else_is_noticed_once_and_a_few_milliseconds_only_when_told() {
        let mut shell = ClockShell::new(Box::new(ObserveOnly), reading(0.0, 0.0));
        assert!(look(&mut shell, 10.0, 10.009, false).is_empty());
        let by = stepped_by(&look(&mut shell, 20.0, 3620.009, false)).expect("an hour is a step");
        assert!((by - 3600.009).abs() < 1e-6);
        assert!(look(&mut shell, 30.0, 3630.009, false).is_empty());
        assert!(stepped_by(&look(&mut shell, 31.0, 3621.009, false)).is_some(), "and backwards");
        let by = stepped_by(&look(&mut shell, 41.0, 3631.0091, true)).expect("the kernel said so");
        assert!((by - 1e-4).abs() < 1e-6);
        assert!(look(&mut shell, 51.0, 3641.0091, true).is_empty(), "it was ours, or nothing");
        let vague = shell.look_for_interference(reading(61.0, 3651.1), Duration::from_millis(50), true);
        assert!(vague.is_empty(), "we were interrupted between the readings");
        assert!(stepped_by(&look(&mut shell, 62.0, 3652.1, false)).is_some(), "nothing is forgotten");
    }

    #[test]
    fn the_leap_second_that_was_ordered_is_told_and_known_for_what_it_is() {
        let status = |leap| ClockCommand::SetStatus {
            synchronized: true,
            leap,
            max_error: 0.0,
            est_error: 0.0,
            offset: 0.0,
        };
        for (leap, by, is_leap) in [
            (Leap::Insert, -1.0, true),
            (Leap::Insert, 1.0, false),
            (Leap::Insert, -1.1, false),
            (Leap::NoWarning, -1.0, false),
        ] {
            let kernel = Rc::new(Cell::new(Frequency::ZERO));
            let mut shell = ClockShell::new(Box::new(Watched(kernel, Cell::default())), reading(0.0, 0.0));
            assert!(shell.apply(status(leap)).is_ok());
            let told = stepped_by(&look(&mut shell, 10.0, 10.0 + by, true)).expect("the engine waits for it");
            let told = NtpDuration::from_secs_f64(told);
            assert_eq!(shell.is_ordered_leap_second(told), is_leap, "{leap:?} {by}");
            assert!(look(&mut shell, 20.0, 20.0 + by, true).is_empty());
        }
    }

    #[test]
    fn a_step_of_our_own_is_not_noticed() {
        let kernel = Rc::new(Cell::new(Frequency::ZERO));
        let mut shell = ClockShell::new(Box::new(Watched(kernel, Cell::default())), reading(0.0, 0.0));
        let step = ClockCommand::Step { by: NtpDuration::from_seconds(-7) };
        assert_eq!(shell.apply(step), Ok(step));
        assert!(look(&mut shell, 10.0, 3.0, true).is_empty());
    }

    #[test]
    fn another_pace_is_noticed_with_the_time_since_when_it_may_be() {
        let kernel = Rc::new(Cell::new(Frequency::from_ppm(3.0)));
        let mut shell =
            ClockShell::new(Box::new(Watched(kernel.clone(), Cell::default())), reading(0.0, 0.0));
        let ours = ClockCommand::SetFrequency { frequency: Frequency::from_ppm(5.0) };
        assert_eq!(shell.apply(ours), Ok(ours));
        assert!(look(&mut shell, 10.0, 10.0, false).is_empty());
        kernel.set(Frequency::from_ppm(500.0));
        assert!(look(&mut shell, 10.5, 10.5, false).is_empty(), "not asked that often");
        let found = look(&mut shell, 40.0, 40.0, false);
        let [Input::ClockAdjusted { frequency, since, .. }] = found[..] else { panic!("{found:?}") };
        assert_eq!((frequency, since), (Frequency::from_ppm(500.0), reading(10.0, 0.0).mono));
        assert_eq!(shell.commanded(), frequency, "what servers reckon with");
        assert!(look(&mut shell, 50.0, 50.0, false).is_empty(), "told once");
    }

    /// A clock whose frequency the test can see.
    struct Watched(Rc<Cell<Frequency>>, Cell<Option<Frequency>>);

    impl ClockDriver for Watched {
        fn step(&mut self, by: NtpDuration) -> Result<NtpDuration, ClockError> {
            Ok(by)
        }

        fn set_frequency(&mut self, frequency: Frequency) -> Result<Frequency, ClockError> {
            self.0.set(frequency);
            self.1.set(Some(frequency));
            Ok(frequency)
        }

        fn set_status(&mut self, _status: &KernelStatus) -> Result<(), ClockError> {
            Ok(())
        }

        fn set_tai_offset(&mut self, _seconds: i32) -> Result<(), ClockError> {
            Ok(())
        }

        fn steers(&self) -> bool {
            true
        }

        fn frequency(&mut self) -> Frequency {
            self.0.get()
        }

        fn frequency_max(&self) -> Frequency {
            Frequency::from_ppm(100_000.0)
        }

        fn take_foreign_adjustment(&mut self) -> Option<ForeignAdjustment> {
            let found = self.0.get();
            let is_foreign = self.1.get().is_some_and(|set| set != found);
            self.1.set(Some(found));
            is_foreign.then_some(ForeignAdjustment { frequency: found, slew: 0.0 })
        }
    }

    /// A clock that is told how good it is, and nothing else.
    struct Told(Rc<Cell<Option<KernelStatus>>>);

    impl ClockDriver for Told {
        fn step(&mut self, by: NtpDuration) -> Result<NtpDuration, ClockError> {
            ObserveOnly.step(by)
        }

        fn set_frequency(&mut self, frequency: Frequency) -> Result<Frequency, ClockError> {
            ObserveOnly.set_frequency(frequency)
        }

        fn set_status(&mut self, status: &KernelStatus) -> Result<(), ClockError> {
            self.0.set(Some(*status));
            Ok(())
        }

        fn set_tai_offset(&mut self, seconds: i32) -> Result<(), ClockError> {
            ObserveOnly.set_tai_offset(seconds)
        }

        fn steers(&self) -> bool {
            true
        }

        fn frequency(&mut self) -> Frequency {
            Frequency::ZERO
        }

        fn frequency_max(&self) -> Frequency {
            ObserveOnly.frequency_max()
        }
    }

    #[test]
    fn the_kernel_is_told_that_its_clock_is_right_only_where_it_may_set_the_real_time_clock() {
        for marks in [true, false] {
            let told = Rc::new(Cell::new(None));
            let shell = ClockShell::new(Box::new(Told(told.clone())), reading(0.0, 0.0));
            let command = ClockCommand::SetStatus {
                synchronized: true,
                leap: Leap::Insert,
                max_error: 0.25,
                est_error: 0.125,
                offset: 0.0,
            };
            assert_eq!(shell.marking_kernel(marks).apply(command), Ok(command));
            let status = told.get().expect("it was told");
            assert_eq!((status.synchronized, status.leap), (marks, LeapSecond::Insert));
            assert!((status.max_error - 0.25).abs() < 1e-12, "the errors hold in any case");
        }
    }

    #[test]
    fn a_slew_ends_with_the_daemon() {
        let kernel = Rc::new(Cell::new(Frequency::from_ppm(3.0)));
        let mut shell =
            ClockShell::new(Box::new(Watched(kernel.clone(), Cell::default())), reading(0.0, 0.0));
        let slew = ClockCommand::SetFrequency { frequency: Frequency::from_ppm(83_333.0) };
        assert_eq!(shell.apply(slew), Ok(slew));
        shell.rest_at(Frequency::from_ppm(-12.0));
        drop(shell);
        assert_eq!(kernel.get(), Frequency::from_ppm(-12.0));
        drop(ClockShell::new(Box::new(Watched(kernel.clone(), Cell::default())), reading(0.0, 0.0)));
        assert_eq!(kernel.get(), Frequency::from_ppm(-12.0), "who never steered leaves it alone");
    }

    #[test]
    fn a_compensation_is_in_every_frequency_and_in_no_report() {
        let kernel = Rc::new(Cell::new(Frequency::from_ppm(0.0)));
        let mut shell =
            ClockShell::new(Box::new(Watched(kernel.clone(), Cell::default())), reading(0.0, 0.0));
        let command = ClockCommand::SetFrequency { frequency: Frequency::from_ppm(10.0) };
        shell.apply(command).expect("it can be set");
        shell.compensate(Frequency::from_ppm(2.0)).expect("it can be set");
        assert!((kernel.get().as_ppm() - 12.0).abs() < 1e-9);
        let Ok(ClockCommand::SetFrequency { frequency }) = shell.apply(command) else {
            panic!("it can be set")
        };
        assert!((kernel.get().as_ppm() - 12.0).abs() < 1e-9 && (frequency.as_ppm() - 10.0).abs() < 1e-9);
        assert!((shell.commanded().as_ppm() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_clock_that_is_only_watched_refuses_commands() {
        let mut shell = ClockShell::new(Box::new(ObserveOnly), reading(0.0, 0.0));
        let step = ClockCommand::Step { by: NtpDuration::from_seconds(1) };
        assert_eq!(shell.apply(step), Err(ClockFailure::Unsupported));
        assert!(!shell.steers());
    }
}
