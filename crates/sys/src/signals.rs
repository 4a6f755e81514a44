//! Signals as flags: a handler does nothing but set one, and wake the loop.

use crate::descriptor::check;
use crate::poll::Timer;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// The signals that the daemon acts on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM: stop cleanly.
    Terminate,
    /// SIGINT: stop cleanly, from a terminal.
    Interrupt,
    /// SIGHUP: read the configuration again.
    HangUp,
    /// SIGUSR1: the operator asks for a report.
    User1,
    /// SIGQUIT: stop cleanly, for daemons that take it so.
    Quit,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Terminate, Self::Interrupt, Self::HangUp, Self::User1, Self::Quit];

    const fn number(self) -> libc::c_int {
        match self {
            Self::Terminate => libc::SIGTERM,
            Self::Interrupt => libc::SIGINT,
            Self::HangUp => libc::SIGHUP,
            Self::User1 => libc::SIGUSR1,
            Self::Quit => libc::SIGQUIT,
        }
    }

    fn flag(self) -> &'static AtomicBool {
        static FLAGS: [AtomicBool; 5] = [const { AtomicBool::new(false) }; 5];
        &FLAGS[self as usize]
    }
}

/// The timer that handlers set off; -1 when there is none.
static WAKE_FD: AtomicI32 = AtomicI32::new(-1);

/// Whether any flag may be set: one look for the loop.
static PENDING: AtomicBool = AtomicBool::new(false);

/// Keeps the timer open as long as a handler may use it: for ever.
static WAKE_TIMER: OnceLock<Timer> = OnceLock::new();

/// Installs the handlers. System calls that wait are interrupted by them (no `SA_RESTART`).
pub fn install(signals: &[Signal]) -> io::Result<()> {
    for signal in signals {
        // SAFETY: sigaction is plain old data, for which all zeroes is a valid value: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handle as *const () as libc::sighandler_t;
        // SAFETY: the pointer is to an action alive during the call; the handler does only what signals allow.
        check(unsafe { libc::sigaction(signal.number(), &raw const action, std::ptr::null_mut()) })?;
    }
    Ok(())
}

/// Has the handlers set off `timer`, so that a signal that comes just before a wait ends that wait at once.
///
/// Only the first timer given is used; the process keeps it open.
pub fn wake_by(timer: &Timer) {
    let timer = WAKE_TIMER.get_or_init(|| timer.clone());
    WAKE_FD.store(timer.fd(), Ordering::SeqCst);
}

/// Blocks the daemon's signals in the calling thread, so that they reach the time plane's thread only.
pub fn block_in_this_thread() -> io::Result<()> {
    // SAFETY: sigset_t is plain old data and is initialised by sigemptyset; the pointers live during the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in Signal::ALL {
            libc::sigaddset(&raw mut set, signal.number());
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Whether any signal came since its flag was taken.
#[must_use]
pub fn pending() -> bool {
    PENDING.load(Ordering::SeqCst)
}

/// Whether this signal came since the last call; clears its flag.
#[must_use]
pub fn take(signal: Signal) -> bool {
    let came = signal.flag().swap(false, Ordering::SeqCst);
    // Cleared before the flags are looked at: a handler that runs in between sets it again.
    PENDING.store(false, Ordering::SeqCst);
    if Signal::ALL.iter().any(|signal| signal.flag().load(Ordering::SeqCst)) {
        PENDING.store(true, Ordering::SeqCst);
    }
    came
}

/// Async-signal-safe: atomics, and one system call that keeps errno.
extern "C" fn handle(number: libc::c_int) {
    for signal in Signal::ALL {
        if signal.number() == number {
            signal.flag().store(true, Ordering::SeqCst);
        }
    }
    PENDING.store(true, Ordering::SeqCst);
    let fd = WAKE_FD.load(Ordering::SeqCst);
    if fd < 0 {
        return;
    }
    let soon = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec { tv_sec: 0, tv_nsec: 1 },
    };
    // SAFETY: errno's location is valid for the thread; the timer stays open; the value lives during the call.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        libc::timerfd_settime(fd, 0, &raw const soon, std::ptr::null_mut());
        *errno = saved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::poll::{PollSet, Wake};
    use std::time::Duration;

    // One test for all: flags, handlers and the timer belong to the process.
    #[test]
    fn a_signal_ends_a_wait_even_when_it_comes_before() {
        let mut set = PollSet::<()>::with_timer().unwrap();
        wake_by(set.timer().unwrap());
        install(&[Signal::User1]).unwrap();
        let in_an_hour = Some(clock::mono_now().saturating_add(Duration::from_secs(3600)));
        // SAFETY: raise sends a signal, for which there is a handler, to this thread.
        unsafe { libc::raise(libc::SIGUSR1) };
        assert!(pending());
        assert_eq!(set.wait(in_an_hour).unwrap(), Wake::Interrupted);
        let soon = Some(clock::mono_now().saturating_add(Duration::from_millis(1)));
        assert_eq!(
            PollSet::<()>::new().wait(soon).unwrap(),
            Wake::TimedOut,
            "another thread's set sleeps on"
        );
        assert!(take(Signal::User1));
        assert!(!take(Signal::User1) && !pending());

        // From another thread, somewhere around the start of the wait.
        let thread = std::thread::spawn(|| {
            // SAFETY: the signal has a handler; any thread of the process may get it.
            unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) };
        });
        let mut woken = set.wait(in_an_hour).unwrap();
        thread.join().unwrap();
        while !pending() {
            woken = set.wait(in_an_hour).unwrap();
        }
        assert!(take(Signal::User1), "{woken:?}");
    }
}
