//! Hearing at once that somebody set the system clock, or that the machine was suspended and runs again.
//!
//! A timer on the system clock that never expires and is cancelled by every discontinuous change of that clock
//! (`TFD_TIMER_CANCEL_ON_SET`, Linux 3.0). Only a hint: what happened is found out by comparing clocks.

use crate::clock;
use crate::descriptor::{check, check_octets, set_cloexec_and_nonblocking};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The watch, to be put into a poll set for reading.
#[derive(Debug)]
pub struct ClockWatch(OwnedFd);

impl ClockWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// Where the kernel has no such timers; changes are then noticed with the next look at the clocks.
    pub fn open() -> io::Result<Self> {
        // The boot clock is as old as these timers. Simulators that replace libc have neither, and would not refuse the
        // flag but end the program.
        if clock::suspended().is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: timerfd_create takes plain numbers.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, 0) })?;
        set_cloexec_and_nonblocking(fd);
        // SAFETY: the descriptor was just opened and nobody else owns it.
        let watch = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        watch.arm()?;
        Ok(watch)
    }

    fn arm(&self) -> io::Result<()> {
        let never = libc::timespec { tv_sec: libc::time_t::MAX, tv_nsec: 0 };
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::itimerspec { it_interval: none, it_value: never };
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: the pointer is to a value alive during the call; the old value is not asked for.
        let result = unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), flags, &raw const value, std::ptr::null_mut())
        };
        check(result).map(drop)
    }

    /// Whether the clock was changed since the last time this was asked.
    pub fn take_change(&self) -> bool {
        let mut count = [0u8; 8];
        // SAFETY: the pointer and the length describe the array.
        let read = unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        match check_octets(read) {
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {
                // Some kernels go on watching by themselves, and the others must be asked to.
                let _failed = self.arm();
                true
            }
            Ok(_) | Err(_) => false,
        }
    }
}

impl AsFd for ClockWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_sets_is_quiet() {
        // What it says of one that is set, tests/guest shows: here nobody may.
        let watch = ClockWatch::open().expect("this kernel is newer than 3.0");
        assert!(!watch.take_change());
    }
}
