//! The system clock as the time plane holds it: carries commands out and notices when others interfere.

use chime_discipline::{ClockCommand, ClockFailure, Leap};
use chime_engine::Input;
use chime_sys::adjust::{ClockDriver, ClockError, KernelStatus, LeapSecond};
use chime_time::{ClockReading, Frequency, NtpDuration};

/// The system clock went that far from the monotonic one without us: somebody stepped it. Well above what two readings
/// can be apart, well below what would harm.
const FOREIGN_STEP_MIN: NtpDuration = NtpDuration::from_nanos(10_000_000);

/// A clock driver, what it was told last, and where the clock should be.
pub struct ClockShell {
    driver: Box<dyn ClockDriver>,
    frequency: Frequency,
    /// What to leave the clock at.
    rest: Option<Frequency>,
    last: ClockReading,
}

impl ClockShell {
    /// Takes a driver over; `now` is the state from which interference is judged.
    #[must_use]
    pub fn new(mut driver: Box<dyn ClockDriver>, now: ClockReading) -> Self {
        let frequency = driver.frequency();
        Self { driver, frequency, rest: None, last: now }
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

    /// Carries a command out; gives what was really done.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn apply(&mut self, command: ClockCommand) -> Result<ClockCommand, ClockFailure> {
        match command {
            ClockCommand::Step { by } => {
                let by = self.driver.step(by).map_err(failure)?;
                self.last.system = self.last.system + by;
                Ok(ClockCommand::Step { by })
            }
            ClockCommand::SetFrequency { frequency } => {
                self.frequency = self.driver.set_frequency(frequency).map_err(failure)?;
                Ok(ClockCommand::SetFrequency { frequency: self.frequency })
            }
            ClockCommand::SetStatus { synchronized, leap, max_error, est_error, offset } => {
                let leap = match leap {
                    Leap::Insert => LeapSecond::Insert,
                    Leap::Delete => LeapSecond::Delete,
                    Leap::NoWarning | Leap::Unsynchronized => LeapSecond::None,
                };
                let status = KernelStatus { synchronized, leap, max_error, est_error, offset };
                self.driver.set_status(&status).map(|()| command).map_err(failure)
            }
        }
    }

    /// Compares the two clocks since the last look: they run at one rate, so a difference is somebody's step. Time spent
    /// suspended shows in the same way, because the monotonic clock stands still then.
    pub fn look_for_interference(&mut self, now: ClockReading) -> Option<Input<'static>> {
        let elapsed = now.mono.saturating_since(self.last.mono);
        let nanos = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
        let by = now.system - (self.last.system + NtpDuration::from_nanos(nanos));
        self.last = now;
        (by.abs() >= FOREIGN_STEP_MIN).then_some(Input::ClockStepped { by })
    }
}

impl Drop for ClockShell {
    /// Also when the daemon ends by an error or a panic.
    fn drop(&mut self) {
        if let Some(rest) = self.rest.filter(|rest| self.driver.steers() && *rest != self.frequency)
            && let Err(error) = self.driver.set_frequency(rest)
        {
            tracing::error!("the clock was left with a slew: {error}");
        }
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
    use chime_sys::adjust::ObserveOnly;
    use chime_time::{MonoTime, NtpDate};
    use std::cell::Cell;
    use std::rc::Rc;

    fn reading(mono: f64, system: f64) -> ClockReading {
        ClockReading {
            mono: MonoTime::ZERO.add_secs_f64(mono),
            system: NtpDate::from_unix(1_795_000_000, 0) + NtpDuration::from_secs_f64(system),
        }
    }

    #[test]
    fn a_step_by_somebody_else_is_noticed_once_and_a_few_milliseconds_are_not() {
        let mut shell = ClockShell::new(Box::new(ObserveOnly), reading(0.0, 0.0));
        assert!(shell.look_for_interference(reading(10.0, 10.009)).is_none());
        let Some(Input::ClockStepped { by }) = shell.look_for_interference(reading(20.0, 3620.009)) else {
            panic!("an hour is a step");
        };
        assert!((by.as_secs_f64() - 3600.0).abs() < 1e-6);
        assert!(shell.look_for_interference(reading(30.0, 3630.009)).is_none());
        assert!(shell.look_for_interference(reading(31.0, 3621.009)).is_some(), "and backwards");
    }

    /// A clock whose frequency the test can see.
    struct Watched(Rc<Cell<Frequency>>);

    impl ClockDriver for Watched {
        fn step(&mut self, by: NtpDuration) -> Result<NtpDuration, ClockError> {
            Ok(by)
        }

        fn set_frequency(&mut self, frequency: Frequency) -> Result<Frequency, ClockError> {
            self.0.set(frequency);
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
    }

    #[test]
    fn a_slew_ends_with_the_daemon() {
        let kernel = Rc::new(Cell::new(Frequency::from_ppm(3.0)));
        let mut shell = ClockShell::new(Box::new(Watched(kernel.clone())), reading(0.0, 0.0));
        let slew = ClockCommand::SetFrequency { frequency: Frequency::from_ppm(83_333.0) };
        assert_eq!(shell.apply(slew), Ok(slew));
        shell.rest_at(Frequency::from_ppm(-12.0));
        drop(shell);
        assert_eq!(kernel.get(), Frequency::from_ppm(-12.0));
        drop(ClockShell::new(Box::new(Watched(kernel.clone())), reading(0.0, 0.0)));
        assert_eq!(kernel.get(), Frequency::from_ppm(-12.0), "who never steered leaves it alone");
    }

    #[test]
    fn a_clock_that_is_only_watched_refuses_commands() {
        let mut shell = ClockShell::new(Box::new(ObserveOnly), reading(0.0, 0.0));
        let step = ClockCommand::Step { by: NtpDuration::from_seconds(1) };
        assert_eq!(shell.apply(step), Err(ClockFailure::Unsupported));
        assert!(!shell.steers());
    }
}
