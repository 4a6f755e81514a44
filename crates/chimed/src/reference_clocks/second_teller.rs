//! The machine's battery-backed clock as a reference clock: it shows seconds, and most tell when one begins.

use crate::real_time_clock::RtcDevice;
use chime_engine::Reading;
use chime_time::NtpDate;
use std::io;
use std::os::fd::BorrowedFd;

/// What is shown may be up to half a second from the middle of the second that is shown.
const HALF_SECOND: f64 = 0.5;
const HALF_SECOND_NANOS: u32 = 500_000_000;

/// A real-time clock that is followed.
#[derive(Debug)]
pub(super) struct SecondTeller {
    device: Box<dyn RtcDevice>,
    /// Whether it tells when a second begins.
    tells: bool,
    /// The first word may be of a second that is past.
    is_first: bool,
}

impl SecondTeller {
    /// Has the device tell when a second begins, if it can.
    pub(super) fn new(device: Box<dyn RtcDevice>) -> Self {
        let tells = device.descriptor().is_some() && device.tell_updates(true).is_ok();
        Self { device, tells, is_first: true }
    }

    pub(super) const fn tells(&self) -> bool {
        self.tells
    }

    /// What becomes readable when a second begins; `None`: it does not tell.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.device.descriptor().filter(|_| self.tells)
    }

    /// The time by one that does not tell when a second begins; nothing by others.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn poll(&self, now: impl Fn() -> NtpDate) -> io::Result<Option<Reading>> {
        if self.tells {
            return Ok(None);
        }
        let at = now();
        let middle = NtpDate::from_unix(self.device.read()?, HALF_SECOND_NANOS);
        Ok(Some(Reading { dispersion: HALF_SECOND, ..Reading::time(at, middle - at) }))
    }

    /// The time when it has told that a second begins. The device is read once: it must have been said to be readable.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn receive(&mut self, now: impl Fn() -> NtpDate) -> io::Result<Option<Reading>> {
        let at = now();
        if !self.device.take_update()? || std::mem::take(&mut self.is_first) {
            return Ok(None);
        }
        Ok(Some(Reading::time(at, NtpDate::from_unix(self.device.read()?, 0) - at)))
    }
}

impl Drop for SecondTeller {
    fn drop(&mut self) {
        if self.tells {
            // Closing it ends that as well.
            let _result = self.device.tell_updates(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::rc::Rc;

    const SECOND: i64 = 1_795_771_119;

    /// A clock that shows one second, and has told of it.
    #[derive(Debug)]
    struct Shows {
        tells: bool,
        asked_to_tell: Rc<Cell<bool>>,
        readable: File,
    }

    impl RtcDevice for Shows {
        fn read(&self) -> io::Result<i64> {
            Ok(SECOND)
        }

        fn set(&self, _unix_seconds: i64) -> io::Result<()> {
            Err(io::Error::from(io::ErrorKind::PermissionDenied))
        }

        fn tell_updates(&self, on: bool) -> io::Result<()> {
            self.asked_to_tell.set(on);
            if self.tells { Ok(()) } else { Err(io::Error::from(io::ErrorKind::InvalidInput)) }
        }

        fn take_update(&self) -> io::Result<bool> {
            Ok(true)
        }

        fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            Some(self.readable.as_fd())
        }
    }

    fn teller(tells: bool) -> (SecondTeller, Rc<Cell<bool>>) {
        let asked_to_tell = Rc::new(Cell::new(false));
        let readable = File::open("/dev/null").expect("it is everywhere");
        let device = Shows { tells, asked_to_tell: Rc::clone(&asked_to_tell), readable };
        (SecondTeller::new(Box::new(device)), asked_to_tell)
    }

    /// A quarter of a second after the one that is shown began, by a clock that is a second ahead.
    fn now() -> NtpDate {
        NtpDate::from_unix(SECOND + 1, 250_000_000)
    }

    #[test]
    fn one_that_tells_is_read_when_it_has_told_of_its_second_second() {
        let (mut teller, asked_to_tell) = teller(true);
        assert!(teller.descriptor().is_some() && asked_to_tell.get());
        assert!(teller.poll(now).expect("nothing is read").is_none());
        assert!(teller.receive(now).expect("it is there").is_none(), "the first may be past");
        let reading = teller.receive(now).expect("it is there").expect("a reading");
        assert_eq!(reading, Reading::time(now(), NtpDate::from_unix(SECOND, 0) - now()));
        drop(teller);
        assert!(!asked_to_tell.get());
    }

    #[test]
    fn one_that_does_not_tell_is_read_to_the_second() {
        let (teller, _) = teller(false);
        assert!(teller.descriptor().is_none());
        let reading = teller.poll(now).expect("it is there").expect("a reading");
        let middle = Reading::time(now(), NtpDate::from_unix(SECOND, 500_000_000) - now());
        assert_eq!(reading, Reading { dispersion: 0.5, ..middle });
    }
}
