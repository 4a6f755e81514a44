//! Waiting for thousands of descriptors: `epoll(7)`, whose cost grows with what happens and not with what there is.
//!
//! For threads of their own with many connections. The time plane, and everything that a simulator may load, stays with
//! [`crate::poll::PollSet`]. Readiness is level-triggered here, too: what is not dealt with is reported again, after others.

use crate::clock;
use crate::poll::{Interest, Readiness, Wake, milliseconds_until};
use chime_time::MonoTime;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::AsFd;

/// Descriptors that stay registered until they are removed or closed, each with a token that says what it is.
#[derive(Debug)]
pub struct EpollSet {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    ready: usize,
}

impl EpollSet {
    /// A set that reports up to `at_once` descriptors with each wait.
    pub fn new(at_once: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); at_once.max(1)], ready: 0 })
    }

    /// Adds a descriptor. Closing it removes it.
    pub fn add(&self, descriptor: &impl AsFd, interest: Interest, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(descriptor, EpollEvent::new(flags(interest), token))?)
    }

    /// Waits for something else on a descriptor that was added.
    pub fn change(&self, descriptor: &impl AsFd, interest: Interest, token: u64) -> io::Result<()> {
        Ok(self.epoll.modify(descriptor, &mut EpollEvent::new(flags(interest), token))?)
    }

    /// Removes a descriptor that stays open.
    pub fn remove(&self, descriptor: &impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(descriptor)?)
    }

    /// Waits until a descriptor is ready or the deadline has come.
    pub fn wait(&mut self, deadline: MonoTime) -> io::Result<Wake> {
        let timeout = EpollTimeout::try_from(milliseconds_until(deadline, clock::mono_now()));
        self.ready = 0;
        match self.epoll.wait(&mut self.events, timeout.unwrap_or(EpollTimeout::MAX)) {
            Ok(0) => Ok(Wake::TimedOut),
            Ok(ready) => {
                self.ready = ready;
                Ok(Wake::Ready)
            }
            Err(Errno::EINTR) => Ok(Wake::Interrupted),
            Err(error) => Err(error.into()),
        }
    }

    /// The descriptors that the last wait found ready.
    pub fn ready(&self) -> impl Iterator<Item = (u64, Readiness)> + '_ {
        self.events[..self.ready].iter().map(|event| {
            let failed = event.events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
            let has = |flag| event.events().contains(flag);
            let readiness = Readiness {
                readable: has(EpollFlags::EPOLLIN) || failed,
                writable: has(EpollFlags::EPOLLOUT) || failed,
                errors: has(EpollFlags::EPOLLERR),
            };
            (event.data(), readiness)
        })
    }
}

fn flags(interest: Interest) -> EpollFlags {
    let flag = |part, flag| if interest.contains(part) { flag } else { EpollFlags::empty() };
    flag(Interest::READ, EpollFlags::EPOLLIN) | flag(Interest::WRITE, EpollFlags::EPOLLOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::waker;
    use std::time::Duration;

    fn soon() -> MonoTime {
        clock::mono_now().saturating_add(Duration::from_millis(20))
    }

    #[test]
    fn what_is_not_dealt_with_is_reported_again_until_it_is_removed_or_closed() {
        let mut set = EpollSet::new(8).unwrap();
        assert_eq!(set.wait(soon()).unwrap(), Wake::TimedOut);
        let (waker, receiver) = waker().unwrap();
        set.add(&receiver, Interest::READ, 7).unwrap();
        waker.wake();
        for _ in 0..2 {
            assert_eq!(set.wait(soon()).unwrap(), Wake::Ready);
            let ready: Vec<_> = set.ready().collect();
            assert_eq!(ready, [(7, Readiness { readable: true, writable: false, errors: false })]);
        }
        set.change(&receiver, Interest::WRITE, 8).unwrap();
        assert_eq!(set.wait(soon()).unwrap(), Wake::TimedOut, "the end of a pipe that is read from");
        set.change(&receiver, Interest::READ, 9).unwrap();
        assert_eq!(set.wait(soon()).unwrap(), Wake::Ready);
        assert_eq!(set.ready().next().map(|(token, _)| token), Some(9));
        set.remove(&receiver).unwrap();
        assert_eq!(set.wait(soon()).unwrap(), Wake::TimedOut);
        set.add(&receiver, Interest::READ, 7).unwrap();
        drop(receiver);
        assert_eq!(set.wait(soon()).unwrap(), Wake::TimedOut);
        assert_eq!(set.ready().count(), 0);
    }
}
