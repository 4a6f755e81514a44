//! Waiting: `poll(2)`, with one timer descriptor for deadlines finer than a millisecond.
//!
//! The set is filled anew before each wait; that is cheap for the few dozen descriptors of a time daemon and
//! leaves no state to go stale. Readiness is level-triggered: one read per report is enough.

use crate::clock;
use crate::descriptor::{check, check_octets, set_cloexec_and_nonblocking};
use crate::signals;
use chime_time::MonoTime;
use std::io;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// What to wait for on a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest(libc::c_short);

impl Interest {
    /// Something can be read, or a connection accepted.
    pub const READ: Self = Self(libc::POLLIN);
    /// Something can be written, or a connection attempt has ended. Ask for it only while that is pending.
    pub const WRITE: Self = Self(libc::POLLOUT);
    /// The error queue has a report: a transmit timestamp or an ICMP error.
    pub const ERRORS: Self = Self(libc::POLLPRI);
}

impl Interest {
    /// Whether all of `part` is in it.
    pub(crate) const fn contains(self, part: Self) -> bool {
        self.0 & part.0 == part.0
    }
}

impl BitOr for Interest {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// A read will not block; it may end with an error or with the end of the stream.
    pub readable: bool,
    /// A write will not block, or a connection attempt has ended, perhaps in failure.
    pub writable: bool,
    /// An error is waiting: for UDP call [`recv_error`](crate::udp::UdpSocket::recv_error), once.
    pub errors: bool,
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// At least one descriptor is ready.
    Ready,
    /// The deadline has come; nothing is ready.
    TimedOut,
    /// A signal came: look at [`signals::take`].
    Interrupted,
}

/// The descriptors to wait for, each with a token that says what it is to the caller.
#[derive(Debug)]
pub struct PollSet<T> {
    fds: Vec<libc::pollfd>,
    tokens: Vec<T>,
    timer: Option<Timer>,
}

impl<T: Copy> PollSet<T> {
    /// A set whose deadlines are kept to the next millisecond.
    #[must_use]
    pub const fn new() -> Self {
        Self { fds: Vec::new(), tokens: Vec::new(), timer: None }
    }

    /// A set whose deadlines are kept as exactly as the kernel can, with a timer descriptor.
    ///
    /// Give the timer to [`signals::wake_by`] so that a signal just before a wait is not slept over.
    pub fn with_timer() -> io::Result<Self> {
        Ok(Self { timer: Some(Timer::new()?), ..Self::new() })
    }

    /// The timer of the set, if it has one.
    #[must_use]
    pub const fn timer(&self) -> Option<&Timer> {
        self.timer.as_ref()
    }

    /// Forgets all descriptors.
    pub fn clear(&mut self) {
        self.fds.clear();
        self.tokens.clear();
    }

    /// Adds a descriptor. It must stay open until the wait is over.
    pub fn add(&mut self, descriptor: &impl AsFd, interest: Interest, token: T) {
        let fd = descriptor.as_fd().as_raw_fd();
        self.fds.push(libc::pollfd { fd, events: interest.0, revents: 0 });
        self.tokens.push(token);
    }

    /// Waits until a descriptor is ready, the deadline has come or a signal arrived; without a deadline, for ever.
    pub fn wait(&mut self, deadline: Option<MonoTime>) -> io::Result<Wake> {
        if let Some(timer) = &self.timer {
            timer.arm(deadline)?;
            self.fds.push(libc::pollfd { fd: timer.fd(), events: libc::POLLIN, revents: 0 });
        }
        // After arming and before waiting: a signal from here on makes poll return, by EINTR or by the timer.
        // Only where signals are taken: other threads would turn round and round until the one that takes them has time.
        let interrupted = self.timer.is_some() && signals::pending();
        let wake = if interrupted { Ok(Wake::Interrupted) } else { self.poll(deadline) };
        if self.timer.is_some() {
            self.fds.pop();
        }
        wake
    }

    /// The descriptors that the last wait found ready.
    pub fn ready(&self) -> impl Iterator<Item = (T, Readiness)> + '_ {
        self.fds.iter().zip(&self.tokens).filter(|(fd, _)| fd.revents != 0).map(|(fd, token)| {
            let has = |events: libc::c_short| fd.revents & events != 0;
            let failed = has(libc::POLLERR | libc::POLLHUP | libc::POLLNVAL);
            let readable = has(libc::POLLIN) || (failed && fd.events & libc::POLLIN != 0);
            let writable = has(libc::POLLOUT) || (failed && fd.events & libc::POLLOUT != 0);
            (*token, Readiness { readable, writable, errors: has(libc::POLLPRI | libc::POLLERR) })
        })
    }

    fn poll(&mut self, deadline: Option<MonoTime>) -> io::Result<Wake> {
        let timeout = deadline.map_or(-1, |deadline| milliseconds_until(deadline, clock::mono_now()));
        // SAFETY: the pointer and the number describe the vector, which is not touched during the call.
        let ready = unsafe { libc::poll(self.fds.as_mut_ptr(), self.fds.len() as libc::nfds_t, timeout) };
        match check(ready) {
            Ok(0) => {
                self.fds.iter_mut().for_each(|fd| fd.revents = 0);
                Ok(Wake::TimedOut)
            }
            Ok(ready) => {
                let by_timer = self.timer.is_some() && self.fds.last().is_some_and(|fd| fd.revents != 0);
                Ok(match (ready, by_timer) {
                    (1, true) if signals::pending() => Wake::Interrupted,
                    (1, true) => Wake::TimedOut,
                    _ => Wake::Ready,
                })
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.fds.iter_mut().for_each(|fd| fd.revents = 0);
                Ok(Wake::Interrupted)
            }
            Err(error) => Err(error),
        }
    }
}

impl<T: Copy> Default for PollSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The argument of poll: milliseconds, rounded up so that waking is never early.
pub(crate) fn milliseconds_until(deadline: MonoTime, now: MonoTime) -> libc::c_int {
    let nanos = deadline.as_nanos().saturating_sub(now.as_nanos());
    libc::c_int::try_from(nanos.div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}

/// A timer descriptor on the monotonic clock.
#[derive(Clone, Debug)]
pub struct Timer(Arc<OwnedFd>);

impl Timer {
    fn new() -> io::Result<Self> {
        // No flags here: simulators know none. They are set afterwards.
        // SAFETY: timerfd_create takes plain numbers.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) })?;
        set_cloexec_and_nonblocking(fd);
        // SAFETY: the descriptor was just opened and nobody else owns it.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// The number of the descriptor, which stays valid as long as this value lives.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Sets the timer to a deadline, or stops it; either makes the descriptor unreadable until the deadline.
    fn arm(&self, deadline: Option<MonoTime>) -> io::Result<()> {
        let value = deadline.map_or(libc::timespec { tv_sec: 0, tv_nsec: 0 }, timer_value);
        let value =
            libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: the pointer is to a value alive during the call; the old value is not asked for.
        let result = unsafe {
            libc::timerfd_settime(self.fd(), libc::TFD_TIMER_ABSTIME, &raw const value, std::ptr::null_mut())
        };
        check(result).map(drop)
    }
}

/// An absolute timer value; never zero, which would stop the timer.
fn timer_value(deadline: MonoTime) -> libc::timespec {
    let nanos = deadline.as_nanos().max(1);
    #[expect(clippy::cast_possible_wrap, reason = "below 2^34 and below 10^9")]
    let value = libc::timespec {
        tv_sec: (nanos / 1_000_000_000) as libc::time_t,
        tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
    };
    value
}

/// Wakes the thread that waits for the [`WakeReceiver`]; cheap, and safe from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

/// The end to put into the poll set; readable after a [`Waker::wake`] until [`WakeReceiver::drain`].
#[derive(Debug)]
pub struct WakeReceiver(OwnedFd);

/// Makes a waker and its receiver.
pub fn waker() -> io::Result<(Waker, WakeReceiver)> {
    let (receiver, sender) = crate::descriptor::pipe()?;
    set_cloexec_and_nonblocking(receiver.as_raw_fd());
    set_cloexec_and_nonblocking(sender.as_raw_fd());
    Ok((Waker(Arc::new(sender)), WakeReceiver(receiver)))
}

impl Waker {
    /// Wakes the other side. A full pipe means that it has been woken and did not look yet.
    pub fn wake(&self) {
        // SAFETY: the pointer is to one octet.
        let _full = unsafe { libc::write(self.0.as_raw_fd(), [1u8].as_ptr().cast(), 1) };
    }
}

impl WakeReceiver {
    /// Forgets the wakes so far.
    pub fn drain(&self) {
        let mut octets = [0u8; 64];
        // SAFETY: the pointer and the length describe the array.
        while check_octets(unsafe {
            libc::read(self.0.as_raw_fd(), octets.as_mut_ptr().cast(), octets.len())
        })
        .is_ok_and(|count| count == octets.len())
        {}
    }
}

impl AsFd for WakeReceiver {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Flags of signals belong to the process, and another test raises some.
    fn uninterrupted<T: Copy>(set: &mut PollSet<T>, deadline: Option<MonoTime>) -> Wake {
        loop {
            match set.wait(deadline).unwrap() {
                Wake::Interrupted => std::thread::yield_now(),
                wake => return wake,
            }
        }
    }

    #[test]
    fn milliseconds_are_rounded_up() {
        let at = MonoTime::from_nanos;
        assert_eq!(milliseconds_until(at(5), at(5)), 0);
        assert_eq!(milliseconds_until(at(4), at(5)), 0);
        assert_eq!(milliseconds_until(at(6), at(5)), 1);
        assert_eq!(milliseconds_until(at(1_000_005), at(5)), 1);
        assert_eq!(milliseconds_until(at(1_000_006), at(5)), 2);
        assert_eq!(milliseconds_until(at(u64::MAX), at(0)), libc::c_int::MAX);
    }

    #[test]
    fn a_timer_keeps_the_deadline_and_never_wakes_early() {
        for set in [PollSet::<()>::new(), PollSet::with_timer().unwrap()] {
            let mut set = set;
            let deadline = clock::mono_now().saturating_add(Duration::from_micros(2_300));
            assert_eq!(uninterrupted(&mut set, Some(deadline)), Wake::TimedOut);
            assert!(clock::mono_now() >= deadline);
            assert_eq!(uninterrupted(&mut set, Some(deadline)), Wake::TimedOut, "a deadline in the past");
            assert_eq!(uninterrupted(&mut set, Some(MonoTime::ZERO)), Wake::TimedOut);
        }
    }

    #[test]
    fn another_thread_can_wake_a_wait() {
        let (waker, receiver) = waker().unwrap();
        let mut set = PollSet::with_timer().unwrap();
        set.add(&receiver, Interest::READ, 7);
        let thread = std::thread::spawn(move || (0..3).for_each(|_| waker.wake()));
        assert_eq!(uninterrupted(&mut set, None), Wake::Ready);
        let ready: Vec<_> = set.ready().collect();
        assert_eq!(ready, [(7, Readiness { readable: true, writable: false, errors: false })]);
        thread.join().unwrap();
        receiver.drain();
        set.clear();
        set.add(&receiver, Interest::READ, 7);
        // The waker is gone: that end of the stream is readable, and drained it says nothing more than that.
        assert_eq!(uninterrupted(&mut set, Some(clock::mono_now())), Wake::Ready);
    }
}
