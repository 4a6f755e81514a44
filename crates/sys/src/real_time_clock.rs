//! The machine's battery-backed clock, by the requests of Linux (rtc(4)).

use crate::device;
use crate::ioctl::{ioctl, plain, reads, writes};
use crate::local_time;
use chime_time::{DAY_SECONDS, date_of_day, day_of_date};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const UPDATES_ON: u64 = plain(b'p', 0x03);
const UPDATES_OFF: u64 = plain(b'p', 0x04);
const READ_TIME: u64 = reads(b'p', 0x09, size_of::<Time>());
const SET_TIME: u64 = writes(b'p', 0x0a, size_of::<Time>());
/// In what is read from the device: a second began.
const UPDATE: usize = 0x10;

/// How the driver of the clock that PCs have names itself.
const PC_CLOCK: &str = "rtc_cmos";

/// `struct rtc_time`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
struct Time {
    second: i32,
    minute: i32,
    hour: i32,
    day: i32,
    /// From 0.
    month: i32,
    /// Since 1900.
    year: i32,
    week_day: i32,
    year_day: i32,
    is_summer: i32,
}

impl Time {
    /// Seconds since 1970 by what it shows, as if that were UTC; `None` when it shows nothing that can be.
    fn shown(&self) -> Option<i64> {
        let sound = (0..12).contains(&self.month)
            && (1..=31).contains(&self.day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second);
        let day = sound.then(|| {
            day_of_date(i64::from(self.year) + 1900, i64::from(self.month) + 1, i64::from(self.day))
        })?;
        let of_day = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        Some(day * DAY_SECONDS + of_day)
    }

    /// What is to be shown; `None` for times that no clock shows.
    fn showing(seconds: i64) -> Option<Self> {
        let number = |number: i64| i32::try_from(number).ok();
        let of_day = seconds.rem_euclid(DAY_SECONDS);
        let (year, month, day) = date_of_day(seconds.div_euclid(DAY_SECONDS));
        Some(Self {
            second: number(of_day % 60)?,
            minute: number(of_day / 60 % 60)?,
            hour: number(of_day / 3600)?,
            day: number(day)?,
            month: number(month - 1)?,
            year: number(year.checked_sub(1900)?)?,
            ..Self::default()
        })
    }
}

/// An open real-time clock. One process at a time can have it.
#[derive(Debug)]
pub struct RealTimeClockDevice {
    file: File,
    keeps_utc: bool,
}

impl RealTimeClockDevice {
    /// Opens a device that keeps UTC, or local time.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open(path: &Path, keeps_utc: bool) -> io::Result<Self> {
        Ok(Self { file: device::open(path)?.into(), keeps_utc })
    }

    /// The second that it shows; Unix seconds.
    ///
    /// # Errors
    /// When it cannot be read, or shows no time.
    pub fn read(&self) -> io::Result<i64> {
        let mut time = Time::default();
        // SAFETY: the request writes one structure of this layout.
        unsafe { ioctl(self.file.as_fd(), READ_TIME, &mut time) }?;
        let shown = time.shown().ok_or_else(|| io::Error::other("it shows no time"))?;
        Ok(if self.keeps_utc { shown } else { from_local(shown) })
    }

    /// Has it show a second, from now on.
    ///
    /// # Errors
    /// When it cannot be set; that takes CAP_SYS_TIME.
    pub fn set(&self, unix_seconds: i64) -> io::Result<()> {
        let ahead = if self.keeps_utc { 0 } else { local_time::offset_seconds(unix_seconds) };
        let time = Time::showing(unix_seconds.saturating_add(ahead));
        let mut time = time.ok_or_else(|| io::Error::other("no real-time clock shows that time"))?;
        // SAFETY: the request reads one structure of this layout.
        unsafe { ioctl(self.file.as_fd(), SET_TIME, &mut time) }.map(drop)
    }

    /// By how much it is ahead of the second that it was set to a moment ago, seconds: the clock of a PC begins the next second
    /// half a second after it was set.
    #[must_use]
    pub fn ahead_when_set(&self) -> f64 {
        let name = self.file.metadata().and_then(|file| {
            let (major, minor) = (libc::major(file.rdev()), libc::minor(file.rdev()));
            fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/name"))
        });
        ahead_by_name(&name.unwrap_or_default())
    }

    /// Has it tell when a second begins, or not any more.
    ///
    /// # Errors
    /// When it cannot.
    pub fn tell_updates(&self, on: bool) -> io::Result<()> {
        let request = if on { UPDATES_ON } else { UPDATES_OFF };
        // SAFETY: the request has no argument.
        unsafe { ioctl(self.file.as_fd(), request, &mut ()) }.map(drop)
    }

    /// Whether a second began since this was last asked. Never waits.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn take_update(&self) -> io::Result<bool> {
        let mut told = [0; size_of::<usize>()];
        match (&self.file).read(&mut told) {
            Ok(_) => Ok(usize::from_ne_bytes(told) & UPDATE != 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for RealTimeClockDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn ahead_by_name(name: &str) -> f64 {
    if name.split_ascii_whitespace().next() == Some(PC_CLOCK) { 0.5 } else { 0.0 }
}

/// Unix seconds of what a clock shows here. In the hour that is there twice it is one of the two.
fn from_local(shown: i64) -> i64 {
    let near = shown - local_time::offset_seconds(shown);
    shown - local_time::offset_seconds(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_kernel_headers() {
        assert_eq!((UPDATES_ON, UPDATES_OFF), (0x7003, 0x7004));
        assert_eq!((READ_TIME, SET_TIME), (0x8024_7009, 0x4024_700a));
    }

    #[test]
    fn what_is_shown_is_a_time_and_back() {
        for seconds in [0, 951_782_399, 951_782_400, 1_795_771_119, 4_107_542_399] {
            let time = Time::showing(seconds).expect("it can be shown");
            assert_eq!(time.shown(), Some(seconds), "{time:?}");
        }
        let time = Time::showing(1_795_771_119).expect("it can be shown");
        assert_eq!((time.year, time.month, time.day), (126, 10, 27));
        assert!(Time::showing(i64::MAX).is_none());
        for broken in [Time { day: 0, ..time }, Time { month: 12, ..time }, Time { second: 60, ..time }] {
            assert_eq!(broken.shown(), None, "a clock whose battery is empty shows anything: {broken:?}");
        }
    }

    #[test]
    fn local_time_comes_back_as_what_it_was() {
        for seconds in [1_784_000_000, 1_795_771_119] {
            assert_eq!(from_local(seconds + local_time::offset_seconds(seconds)), seconds);
        }
    }

    #[test]
    fn a_pcs_clock_is_half_a_second_ahead_when_it_was_set() {
        assert_eq!(ahead_by_name("rtc_cmos 00:01\n"), 0.5);
        assert_eq!(ahead_by_name("rtc_cmos_not\n"), 0.0);
        assert_eq!(ahead_by_name("rtc-ds1307 1-0068\n"), 0.0);
        let null = RealTimeClockDevice::open(Path::new("/dev/null"), true).expect("it can be opened");
        assert_eq!(null.ahead_when_set(), 0.0);
    }

    #[test]
    fn what_is_no_clock_is_refused() {
        assert!(RealTimeClockDevice::open(Path::new("/dev/no-such-clock"), true).is_err());
        let null = RealTimeClockDevice::open(Path::new("/dev/null"), true).expect("it can be opened");
        assert!(null.read().is_err() && null.set(0).is_err() && null.tell_updates(true).is_err());
        assert!(!null.take_update().expect("it can be read"));
    }
}
