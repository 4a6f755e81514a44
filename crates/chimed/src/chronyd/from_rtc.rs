//! `-s`: the clock is set from the real-time clock, or from the time when the drift file was written, before anything else
//! begins.

use crate::plain_file::{self, SMALL_OCTETS_MAX};
use crate::real_time_clock::{RtcDevice, middle, open_device};
use chime_config::{Model, RealTimeClock};
use chime_discipline::{FirstLook, FirstSetting, RtcEstimate, first_setting};
use chime_sys::adjust::{ClockDriver, ClockError, KernelClock};
use chime_sys::clock;
use chime_time::{NtpDate, NtpDuration};
use std::time::Duration;
use std::{io, thread};
use tracing::{error, info, warn};

/// How often the clock is read while its next second is waited for.
const READ_INTERVAL: Duration = Duration::from_millis(1);
/// After so many readings no other second will come.
const READINGS_MAX: u32 = 2500;

/// Sets the clock, if it `steers`; gives what is left to slew, in seconds forward. What cannot be done is said, and the
/// daemon starts without.
#[must_use]
pub fn set_clock(model: &Model, steers: bool) -> Option<f64> {
    let wish = &model.chrony.real_time_clock;
    let last = model
        .chrony
        .drift_file
        .as_ref()
        .and_then(|drift| plain_file::written(&drift.path))
        .map(NtpDate::unix_seconds_f64);
    let look = open_device(wish).and_then(|device| {
        let second = next_second(&device, clock::system_now, thread::sleep);
        let second = second.inspect_err(|error| warn!("Could not read RTC : {error}"));
        second.ok().map(|(rtc, at)| FirstLook { rtc, ours: at.unix_seconds_f64(), known: coefficients(wish) })
    });
    let setting = first_setting(look, clock::system_now().unix_seconds_f64(), last);
    if look.is_some() && matches!(setting, FirstSetting::StepToLast(_)) {
        warn!("RTC time before last driftfile modification (ignored)");
    }
    if wish.file.is_some() && look.is_some_and(|look| look.known.is_none()) {
        warn!("No valid rtcfile coefficients");
    }
    carry_out(setting, steers)
}

fn carry_out(setting: FirstSetting, steers: bool) -> Option<f64> {
    let (forward, done) = match setting {
        FirstSetting::Leave => return None,
        FirstSetting::Slew(forward) => {
            let how = if steers { "slew" } else { "ignored" };
            info!("System clock off from RTC by {:.6} seconds ({how})", -forward);
            return steers.then_some(forward);
        }
        FirstSetting::Step(forward) => (forward, "System time set from RTC"),
        FirstSetting::StepToLast(forward) => (forward, "System time restored from driftfile"),
    };
    let stepped = if steers {
        KernelClock::take_over().and_then(|mut clock| clock.step(NtpDuration::from_secs_f64(forward)))
    } else {
        Err(ClockError::NotSteered)
    };
    match stepped {
        Ok(_) => info!("{done}"),
        Err(error) => error!("Could not step system clock : {error}"),
    }
    None
}

/// What the file knows of the real-time clock.
fn coefficients(wish: &RealTimeClock) -> Option<RtcEstimate> {
    RtcEstimate::parse(&plain_file::read_text(wish.file.as_ref()?, SMALL_OCTETS_MAX).ok()?)
}

/// The next second that the clock begins, and when that was by the clock that `now` reads.
///
/// # Errors
/// When it cannot be read, or stands still.
fn next_second(
    device: &impl RtcDevice,
    now: impl Fn() -> NtpDate,
    sleep: impl Fn(Duration),
) -> io::Result<(i64, NtpDate)> {
    let mut before = now();
    let first = device.read()?;
    for _ in 0..READINGS_MAX {
        sleep(READ_INTERVAL);
        let (shown, after) = (device.read()?, now());
        if shown != first {
            return Ok((shown, middle(before, after)));
        }
        before = after;
    }
    Err(io::Error::other("it stands still"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::os::fd::BorrowedFd;

    /// A clock that shows the seconds of `now` (in milliseconds), or always the first.
    #[derive(Debug)]
    struct Clock<'a>(&'a Cell<i64>, bool);

    impl RtcDevice for Clock<'_> {
        fn read(&self) -> io::Result<i64> {
            Ok(if self.1 { self.0.get() / 1000 } else { 7 })
        }

        fn set(&self, _unix_seconds: i64) -> io::Result<()> {
            Ok(())
        }

        fn tell_updates(&self, _on: bool) -> io::Result<()> {
            Ok(())
        }

        fn take_update(&self) -> io::Result<bool> {
            Ok(false)
        }

        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    #[test]
    fn the_next_second_is_waited_for_and_one_that_stands_still_is_given_up() {
        let millis = Cell::new(1_795_771_119_250_i64);
        let start = NtpDate::from_unix(1_795_771_119, 250_000_000);
        let now = || start + NtpDuration::from_nanos((millis.get() - 1_795_771_119_250) * 1_000_000);
        let sleep = |_| millis.set(millis.get() + 1);
        let (second, at) = next_second(&Clock(&millis, true), now, sleep).expect("it goes");
        assert_eq!(second, 1_795_771_120);
        assert!((at - NtpDate::from_unix(1_795_771_120, 0)).as_secs_f64().abs() < 2e-3);
        assert!(next_second(&Clock(&millis, false), now, sleep).is_err());
    }

    #[test]
    fn without_control_of_the_clock_nothing_is_slewed_later() {
        assert_eq!(carry_out(FirstSetting::Slew(0.25), false), None);
        assert_eq!(carry_out(FirstSetting::Slew(0.25), true), Some(0.25));
        assert_eq!(carry_out(FirstSetting::Step(5.0), false), None);
        assert_eq!(carry_out(FirstSetting::Leave, true), None);
    }
}
