//! Steering the system clock: steps, frequency, and the kernel's own idea of how good its time is.
//!
//! [`KernelClock`] does it; [`ObserveOnly`] says that it does not, for daemons that only watch. What was really set
//! is returned, because the kernel rounds. Nothing is read or set before a method is called.

use crate::clock;
use crate::descriptor::zeroed;
use crate::tick::{TickFrequency, TickScale};
use chime_time::{Frequency, NtpDuration};
use std::io;

/// The most error that the kernel shows: `NTP_PHASE_LIMIT`, 16 s. At this it calls its clock unsynchronised.
const ERROR_MICROSECONDS_MAX: f64 = 16e6;

/// The leap second that the kernel is to make at the end of the UTC day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LeapSecond {
    /// None.
    #[default]
    None,
    /// 23:59:60 is inserted.
    Insert,
    /// 23:59:59 is left out.
    Delete,
}

/// What programs read from the kernel about its clock (`ntp_gettime`, `adjtimex`).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KernelStatus {
    /// Whether the clock follows a reference; false sets `STA_UNSYNC`.
    pub synchronized: bool,
    /// The leap second to come.
    pub leap: LeapSecond,
    /// The largest possible error of the reference: seconds, not negative. The kernel lets it grow by 500 ppm.
    pub max_error: f64,
    /// The expected error: seconds, not negative.
    pub est_error: f64,
    /// What is still to be corrected, in seconds; positive means that our clock is behind.
    ///
    /// Its magnitude is added to both errors: they are to hold for the clock as it stands, not for where it goes.
    /// The kernel's own `offset` field stays zero, as it is what the kernel's own loop would still slew.
    pub offset: f64,
}

/// Why the clock could not be set.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// This daemon was told to leave the clock alone.
    #[error("the clock is not steered here")]
    NotSteered,
    /// The process lacks `CAP_SYS_TIME`.
    #[error("not permitted to set the clock (CAP_SYS_TIME is missing)")]
    NotPermitted,
    /// The kernel refused.
    #[error("the kernel refused to set the clock: {0}")]
    Refused(io::Error),
}

impl From<io::Error> for ClockError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted,
            _ => Self::Refused(error),
        }
    }
}

/// What somebody else did to the pace of a clock that we steer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ForeignAdjustment {
    /// The frequency correction that was found.
    pub frequency: Frequency,
    /// What the kernel was still to slew for somebody else, in seconds; positive moves the clock forward. It was stopped.
    pub slew: f64,
}

/// A clock that may be steered.
pub trait ClockDriver {
    /// Moves the clock by `by`, at once; positive moves it forward. Returns by how much it was moved.
    fn step(&mut self, by: NtpDuration) -> Result<NtpDuration, ClockError>;

    /// Sets the frequency correction against the hardware's own pace, in all; positive speeds the clock up.
    /// Returns what was set.
    fn set_frequency(&mut self, frequency: Frequency) -> Result<Frequency, ClockError>;

    /// Tells the kernel how good its time is.
    fn set_status(&mut self, status: &KernelStatus) -> Result<(), ClockError>;

    /// Tells the kernel the difference TAI minus UTC, in seconds.
    fn set_tai_offset(&mut self, seconds: i32) -> Result<(), ClockError>;

    /// Whether the methods above do anything.
    fn steers(&self) -> bool;

    /// The frequency correction in force.
    fn frequency(&mut self) -> Frequency;

    /// The largest frequency correction of either sign that can be set.
    fn frequency_max(&self) -> Frequency;

    /// Whether somebody else changed the frequency or began a slew since we last set it. Their slew is stopped; their
    /// frequency stays until the next [`ClockDriver::set_frequency`].
    fn take_foreign_adjustment(&mut self) -> Option<ForeignAdjustment> {
        None
    }
}

/// Frequencies that differ by less are the same, rounded: in units of 2⁻¹⁶ ppm.
const FREQ_ROUNDING: i64 = 16;

/// The kernel's clock, `CLOCK_REALTIME`, through `adjtimex`.
#[derive(Debug)]
pub struct KernelClock {
    scale: TickScale,
    setting: TickFrequency,
}

impl KernelClock {
    /// Takes the clock over: reads its frequency, stops any slew in progress and any loop of the kernel's own, and
    /// marks it unsynchronised until [`ClockDriver::set_status`] says otherwise. The frequency stays as it is.
    pub fn take_over() -> Result<Self, ClockError> {
        let scale = tick_scale();
        let state = kernel_state()?;
        let setting = TickFrequency { tick: state.tick, freq: state.freq };
        stop_slews()?;
        Ok(Self { scale, setting })
    }
}

impl ClockDriver for KernelClock {
    fn step(&mut self, by: NtpDuration) -> Result<NtpDuration, ClockError> {
        let (seconds, nanos) = seconds_and_nanos(by);
        let result = adjust(|timex| {
            timex.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
            timex.time.tv_sec = seconds;
            // The field is called microseconds, and holds nanoseconds with ADJ_NANO.
            timex.time.tv_usec = nanos;
        });
        match result {
            Ok(_) => Ok(by),
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS)) =>
            {
                step_by_setting(by)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn set_frequency(&mut self, frequency: Frequency) -> Result<Frequency, ClockError> {
        let wanted = self.scale.split(frequency, self.setting.tick);
        adjust(|timex| {
            timex.modes = libc::ADJ_TICK | libc::ADJ_FREQUENCY;
            timex.tick = libc::c_long::from(wanted.tick);
            timex.freq = libc::c_long::from(wanted.freq);
        })?;
        self.setting = wanted;
        Ok(self.scale.frequency(wanted))
    }

    fn set_status(&mut self, status: &KernelStatus) -> Result<(), ClockError> {
        let fields = status_fields(status);
        adjust(|timex| {
            timex.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
            timex.status = fields.status;
            timex.maxerror = fields.max_error;
            timex.esterror = fields.est_error;
        })?;
        Ok(())
    }

    fn set_tai_offset(&mut self, seconds: i32) -> Result<(), ClockError> {
        adjust(|timex| {
            timex.modes = libc::ADJ_TAI;
            timex.constant = libc::c_long::from(seconds);
        })?;
        Ok(())
    }

    fn steers(&self) -> bool {
        true
    }

    fn frequency(&mut self) -> Frequency {
        self.scale.frequency(self.setting)
    }

    fn frequency_max(&self) -> Frequency {
        self.scale.frequency_max()
    }

    fn take_foreign_adjustment(&mut self) -> Option<ForeignAdjustment> {
        let state = adjust(|_| {}).ok()?;
        // Reading what adjtime() has left needs no privilege; who cannot tell has none.
        let single = adjust(|timex| timex.modes = libc::ADJ_OFFSET_SS_READ).map_or(0, |timex| timex.offset);
        let loop_unit = if state.status & libc::STA_NANO != 0 { 1e-9 } else { 1e-6 };
        let slew = single as f64 * 1e-6 + state.offset as f64 * loop_unit;
        let found = TickFrequency {
            tick: i32::try_from(state.tick).unwrap_or(self.setting.tick),
            freq: i32::try_from(state.freq).unwrap_or(self.setting.freq),
        };
        let freq_difference = i64::from(found.freq).abs_diff(i64::from(self.setting.freq));
        let is_ours = found.tick == self.setting.tick && freq_difference <= FREQ_ROUNDING.unsigned_abs();
        if is_ours && slew == 0.0 && state.status & (libc::STA_PLL | libc::STA_FLL) == 0 {
            return None;
        }
        // Without the privilege nothing could be set either, and that is reported then.
        let _unstopped = stop_slews();
        self.setting.tick = found.tick;
        Some(ForeignAdjustment { frequency: self.scale.frequency(found), slew })
    }
}

/// Stops what is under way of `adjtime()` and of the kernel's own loop.
fn stop_slews() -> io::Result<()> {
    // An old-fashioned adjtime() in progress.
    adjust(|timex| timex.modes = libc::ADJ_OFFSET_SINGLESHOT)?;
    // The kernel takes an offset only while its loop runs: zero it with the loop on, then turn the loop off.
    adjust(|timex| {
        timex.modes = libc::ADJ_OFFSET | libc::ADJ_STATUS;
        timex.status = libc::STA_PLL | libc::STA_UNSYNC;
    })?;
    adjust(|timex| {
        timex.modes = libc::ADJ_STATUS;
        timex.status = libc::STA_UNSYNC;
    })?;
    Ok(())
}

/// A clock that is watched and not touched.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObserveOnly;

impl ClockDriver for ObserveOnly {
    fn step(&mut self, _by: NtpDuration) -> Result<NtpDuration, ClockError> {
        Err(ClockError::NotSteered)
    }

    fn set_frequency(&mut self, _frequency: Frequency) -> Result<Frequency, ClockError> {
        Err(ClockError::NotSteered)
    }

    fn set_status(&mut self, _status: &KernelStatus) -> Result<(), ClockError> {
        Err(ClockError::NotSteered)
    }

    fn set_tai_offset(&mut self, _seconds: i32) -> Result<(), ClockError> {
        Err(ClockError::NotSteered)
    }

    fn steers(&self) -> bool {
        false
    }

    /// None: whoever steers the clock, it is not us, and what we measure is against the clock as it runs.
    fn frequency(&mut self) -> Frequency {
        Frequency::ZERO
    }

    fn frequency_max(&self) -> Frequency {
        tick_scale().frequency_max()
    }
}

/// What the kernel says about its clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KernelState {
    /// The frequency correction in force.
    pub frequency: Frequency,
    /// Whether `STA_UNSYNC` is not set.
    pub synchronized: bool,
    /// The largest possible error, in seconds.
    pub max_error: f64,
    /// The expected error, in seconds.
    pub est_error: f64,
    /// TAI minus UTC, in seconds; 0 when nobody told the kernel.
    pub tai_offset: i32,
    tick: i32,
    freq: i32,
}

/// Reads what the kernel says about its clock; needs no privilege and changes nothing.
pub fn kernel_state() -> io::Result<KernelState> {
    let timex = adjust(|_| {})?;
    let tick = i32::try_from(timex.tick).unwrap_or(0);
    let freq = i32::try_from(timex.freq).unwrap_or(0);
    Ok(KernelState {
        frequency: tick_scale().frequency(TickFrequency { tick, freq }),
        synchronized: timex.status & libc::STA_UNSYNC == 0,
        max_error: timex.maxerror as f64 * 1e-6,
        est_error: timex.esterror as f64 * 1e-6,
        tai_offset: timex.tai,
        tick,
        freq,
    })
}

/// One call of `adjtimex`, with the fields that `fill` sets; returns what the kernel then says.
fn adjust(fill: impl FnOnce(&mut libc::timex)) -> io::Result<libc::timex> {
    // SAFETY: timex is plain old data, for which all zeroes is a valid value: no modes, so that nothing is set.
    let mut timex: libc::timex = unsafe { zeroed() };
    fill(&mut timex);
    // SAFETY: the pointer is to a timex alive during the call.
    if unsafe { libc::adjtimex(&raw mut timex) } < 0 { Err(io::Error::last_os_error()) } else { Ok(timex) }
}

/// Steps by setting the time outright, for kernels that cannot add; what passes in between is lost, so it is measured.
fn step_by_setting(by: NtpDuration) -> Result<NtpDuration, ClockError> {
    let before = clock::read();
    let target = before.system + by;
    let time = libc::timespec {
        tv_sec: target.unix_seconds() as libc::time_t,
        tv_nsec: libc::c_long::from(target.subsec_nanos()),
    };
    // SAFETY: the pointer is to a timespec alive during the call.
    if unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) } < 0 {
        return Err(io::Error::last_os_error().into());
    }
    let after = clock::read();
    let passed = after.mono.saturating_since(before.mono);
    let passed = NtpDuration::from_nanos(i64::try_from(passed.as_nanos()).unwrap_or(0));
    Ok(after.system - before.system - passed)
}

fn tick_scale() -> TickScale {
    // SAFETY: sysconf takes and returns plain numbers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    TickScale::per_second(i32::try_from(ticks).unwrap_or(100))
}

/// Whole seconds, rounded down, and the nanoseconds above them.
fn seconds_and_nanos(by: NtpDuration) -> (libc::time_t, libc::suseconds_t) {
    let nanos = by.to_nanos();
    (nanos.div_euclid(1_000_000_000) as libc::time_t, nanos.rem_euclid(1_000_000_000) as libc::suseconds_t)
}

/// [`KernelStatus`] in the kernel's units.
struct StatusFields {
    status: libc::c_int,
    max_error: libc::c_long,
    est_error: libc::c_long,
}

fn status_fields(status: &KernelStatus) -> StatusFields {
    let leap = match status.leap {
        LeapSecond::None => 0,
        LeapSecond::Insert => libc::STA_INS,
        LeapSecond::Delete => libc::STA_DEL,
    };
    let unsynchronized = if status.synchronized { 0 } else { libc::STA_UNSYNC };
    StatusFields {
        status: leap | unsynchronized,
        max_error: microseconds(status.max_error + status.offset.abs()),
        est_error: microseconds(status.est_error + status.offset.abs()),
    }
}

/// Rounded up, and what is not a number is as bad as it gets: we never claim less error than we have.
#[expect(clippy::cast_possible_truncation, reason = "between 0 and 16 million")]
fn microseconds(seconds: f64) -> libc::c_long {
    if seconds.is_nan() {
        return ERROR_MICROSECONDS_MAX as libc::c_long;
    }
    (seconds * 1e6).ceil().clamp(0.0, ERROR_MICROSECONDS_MAX) as libc::c_long
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: KernelStatus = KernelStatus {
        synchronized: true,
        leap: LeapSecond::None,
        max_error: 0.01,
        est_error: 1e-4,
        offset: 0.0,
    };

    #[test]
    fn errors_hold_for_the_clock_as_it_stands_and_round_up() {
        let fields = status_fields(&KernelStatus { offset: -0.002, est_error: 1.000_000_1e-4, ..GOOD });
        assert_eq!((fields.status, fields.max_error, fields.est_error), (0, 12_000, 2_101));
        let fields = status_fields(&KernelStatus { max_error: 60.0, est_error: f64::NAN, ..GOOD });
        assert_eq!((fields.max_error, fields.est_error), (16_000_000, 16_000_000));
        assert_eq!(status_fields(&KernelStatus { max_error: -1.0, ..GOOD }).max_error, 0);
    }

    #[test]
    fn the_status_bits_say_what_is_known() {
        let bits = |synchronized, leap| status_fields(&KernelStatus { synchronized, leap, ..GOOD }).status;
        assert_eq!(bits(true, LeapSecond::Insert), libc::STA_INS);
        assert_eq!(bits(true, LeapSecond::Delete), libc::STA_DEL);
        assert_eq!(bits(false, LeapSecond::None), libc::STA_UNSYNC);
    }

    #[test]
    fn a_step_back_is_whole_seconds_back_and_nanoseconds_forward() {
        assert_eq!(seconds_and_nanos(NtpDuration::from_nanos(-1)), (-1, 999_999_999));
        assert_eq!(seconds_and_nanos(NtpDuration::from_nanos(86_400_000_000_001)), (86_400, 1));
        assert_eq!(seconds_and_nanos(NtpDuration::from_seconds(-2)), (-2, 0));
    }

    #[test]
    fn watching_sets_nothing() {
        let mut clock = ObserveOnly;
        assert!(!clock.steers());
        assert!(matches!(clock.step(NtpDuration::from_seconds(1)), Err(ClockError::NotSteered)));
        assert!(matches!(clock.set_frequency(Frequency::from_ppm(1.0)), Err(ClockError::NotSteered)));
        assert!(matches!(clock.set_status(&GOOD), Err(ClockError::NotSteered)));
        assert!((clock.frequency_max().as_ppm() - 1e5).abs() < 1e-6);
    }

    #[test]
    fn the_kernel_can_be_asked_without_privilege() {
        let state = kernel_state().unwrap();
        assert!(state.frequency.as_ppm().abs() <= 1e5 + 500.0, "{state:?}");
        assert!(state.max_error >= 0.0);
    }

    #[test]
    fn a_missing_privilege_has_its_own_error() {
        let error = ClockError::from(io::Error::from_raw_os_error(libc::EPERM));
        assert!(matches!(error, ClockError::NotPermitted));
        assert!(matches!(
            ClockError::from(io::Error::from_raw_os_error(libc::EINVAL)),
            ClockError::Refused(_)
        ));
    }
}
