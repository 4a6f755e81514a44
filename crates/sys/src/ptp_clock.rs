//! Hardware clocks of the kernel's PTP subsystem (`/dev/ptpN`): reading one together with the system clock.

use crate::descriptor::{check, zeroed};
use chime_time::NtpDate;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Readings that the kernel makes in one call, at most: `PTP_MAX_SAMPLES`.
const READINGS_MAX: usize = 25;

/// A hardware clock read between two readings of the system clock; when hardware latched both at once the two are equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PtpReading {
    /// The system clock before.
    pub before: NtpDate,
    /// The hardware clock, in whatever time scale it runs.
    pub hardware: NtpDate,
    /// The system clock after.
    pub after: NtpDate,
}

/// How the clocks are read together, from the best way to the worst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PtpReadingMethod {
    /// `PTP_SYS_OFFSET_PRECISE`: hardware latches both.
    Cross,
    /// `PTP_SYS_OFFSET_EXTENDED`: the system clock is read right around the register.
    Extended,
    /// `PTP_SYS_OFFSET`: one after the other.
    Plain,
}

/// An open hardware clock.
#[derive(Debug)]
pub struct PtpClock {
    fd: OwnedFd,
    method: PtpReadingMethod,
}

impl PtpClock {
    /// Opens `/dev/ptp` + `index` and finds out how it is best read; `cross` allows time stamps that hardware makes of both
    /// clocks at once.
    pub fn open(index: u32, cross: bool) -> io::Result<Self> {
        Self::open_path(&format!("/dev/ptp{index}"), cross)
    }

    /// The same by the device's path.
    pub fn open_path(path: &str, cross: bool) -> io::Result<Self> {
        Self::open_for(libc::O_RDONLY, path, cross)
    }

    /// The same to be told what to do, as [`crate::pulse_input::PulseInput`] does.
    pub fn open_writable(path: &str, cross: bool) -> io::Result<Self> {
        Self::open_for(libc::O_RDWR, path, cross)
    }

    fn open_for(access: libc::c_int, path: &str, cross: bool) -> io::Result<Self> {
        let name = CString::new(path)?;
        // SAFETY: the pointer is to a C string alive during the call.
        let fd = check(unsafe { libc::open(name.as_ptr(), access | libc::O_CLOEXEC) })?;
        // SAFETY: the descriptor was just opened and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let methods = [PtpReadingMethod::Cross, PtpReadingMethod::Extended, PtpReadingMethod::Plain];
        let mut refusal = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        for method in methods.into_iter().skip(usize::from(!cross)) {
            match read_by(method, &fd, 1) {
                Ok(_) => return Ok(Self { fd, method }),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// How it is read.
    #[must_use]
    pub const fn method(&self) -> PtpReadingMethod {
        self.method
    }

    /// Reads it `count` times, at most 25; once where hardware reads both clocks.
    pub fn read(&self, count: usize) -> io::Result<Vec<PtpReading>> {
        read_by(self.method, &self.fd, count.clamp(1, READINGS_MAX))
    }
}

impl AsFd for PtpClock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn read_by(method: PtpReadingMethod, fd: &OwnedFd, count: usize) -> io::Result<Vec<PtpReading>> {
    match method {
        PtpReadingMethod::Cross => read_cross(fd).map(|reading| vec![reading]),
        PtpReadingMethod::Extended => read_extended(fd, count),
        PtpReadingMethod::Plain => read_plain(fd, count),
    }
}

fn read_cross(fd: &OwnedFd) -> io::Result<PtpReading> {
    // SAFETY: the structure is made of integers, for which all zeroes is a valid value.
    let mut pair: libc::ptp_sys_offset_precise = unsafe { zeroed() };
    control(fd, libc::PTP_SYS_OFFSET_PRECISE, &mut pair)?;
    let system = date(&pair.sys_realtime);
    Ok(PtpReading { before: system, hardware: date(&pair.device), after: system })
}

fn read_extended(fd: &OwnedFd, count: usize) -> io::Result<Vec<PtpReading>> {
    // SAFETY: the structure is made of integers, for which all zeroes is a valid value.
    let mut triples: libc::ptp_sys_offset_extended = unsafe { zeroed() };
    triples.n_samples = libc::c_uint::try_from(count).unwrap_or(1);
    control(fd, libc::PTP_SYS_OFFSET_EXTENDED, &mut triples)?;
    let reading = |[before, hardware, after]: &[libc::ptp_clock_time; 3]| PtpReading {
        before: date(before),
        hardware: date(hardware),
        after: date(after),
    };
    Ok(triples.ts.iter().take(count).map(reading).collect())
}

fn read_plain(fd: &OwnedFd, count: usize) -> io::Result<Vec<PtpReading>> {
    // SAFETY: the structure is made of integers, for which all zeroes is a valid value.
    let mut series: libc::ptp_sys_offset = unsafe { zeroed() };
    series.n_samples = libc::c_uint::try_from(count).unwrap_or(1);
    control(fd, libc::PTP_SYS_OFFSET, &mut series)?;
    // System, hardware, system, hardware, … system.
    let reading = |at: usize| PtpReading {
        before: date(&series.ts[2 * at]),
        hardware: date(&series.ts[2 * at + 1]),
        after: date(&series.ts[2 * at + 2]),
    };
    Ok((0..count).map(reading).collect())
}

/// One call of ioctl that fills in `argument`.
fn control<T>(fd: &OwnedFd, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: each request is called with the structure that it is defined with, alive during the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) }).map(drop)
}

fn date(time: &libc::ptp_clock_time) -> NtpDate {
    NtpDate::from_unix(time.sec, time.nsec.min(999_999_999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_hardware_clock_is_refused() {
        for path in ["/dev/null", "/dev/ptp-there-is-none", "/dev/\0"] {
            assert!(PtpClock::open_path(path, true).is_err(), "{path:?}");
            assert!(PtpClock::open_writable(path, false).is_err(), "{path:?}");
        }
    }

    #[test]
    fn the_kernels_words_for_an_instant_are_read() {
        let time = libc::ptp_clock_time { sec: 37, nsec: 500_000_000, reserved: 0 };
        assert_eq!(date(&time), NtpDate::from_unix(37, 500_000_000));
        let wrong = libc::ptp_clock_time { sec: 37, nsec: u32::MAX, reserved: 0 };
        assert_eq!(date(&wrong), NtpDate::from_unix(37, 999_999_999));
    }
}
