//! The table of everything that waits for an instant. The engine's deadline is its minimum.

use crate::SourceKey;
use chime_discipline::SourceId;
use chime_time::MonoTime;
use std::collections::BTreeMap;

/// What waits. The order is the order in which things due at one instant happen: an exchange ends before the next begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Timer {
    /// No answer came: the exchange ends.
    ExchangeDeadline(SourceId),
    /// Read a reference clock.
    ReferenceClock(SourceId),
    /// Send the next request.
    Poll(SourceId),
    /// Look the source's name up.
    Resolve(SourceKey),
    /// Establish keys for the source.
    Establish(SourceKey),
    /// A running key establishment never reported back.
    EstablishmentOverdue(SourceKey),
    /// The network changed several times in a row.
    NetworkSettles,
    /// Ask for the state to be saved.
    Save,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    deadlines: BTreeMap<Timer, MonoTime>,
}

/// The shortest wait: a timer set for the past rings a little later, so that no mistake can make the loop spin.
pub(crate) const WAIT_SECONDS_MIN: f64 = 0.001;

impl Timers {
    /// Sets or moves a timer.
    pub(crate) fn set(&mut self, timer: Timer, at: MonoTime) {
        self.deadlines.insert(timer, at);
    }

    /// Sets a timer unless it would ring sooner anyway.
    pub(crate) fn set_no_later(&mut self, timer: Timer, at: MonoTime) {
        let deadline = self.deadlines.entry(timer).or_insert(at);
        *deadline = (*deadline).min(at);
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        self.deadlines.remove(&timer);
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<MonoTime> {
        self.deadlines.get(&timer).copied()
    }

    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.deadlines.values().copied().min()
    }

    /// Takes out everything that is due, in order.
    pub(crate) fn take_due(&mut self, now: MonoTime) -> Vec<Timer> {
        let due: Vec<Timer> =
            self.deadlines.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| *timer).collect();
        for timer in &due {
            self.deadlines.remove(timer);
        }
        due
    }

    /// Moves everything that is due again behind `now`; called at the end of `handle_timeout`, so that each call makes
    /// progress.
    pub(crate) fn defer_due(&mut self, now: MonoTime) {
        let earliest = now.add_secs_f64(WAIT_SECONDS_MIN);
        for at in self.deadlines.values_mut().filter(|at| **at <= now) {
            *at = earliest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> MonoTime {
        MonoTime::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn an_exchange_ends_before_the_next_begins() {
        let mut timers = Timers::default();
        timers.set(Timer::Poll(SourceId(1)), at(5));
        timers.set(Timer::ExchangeDeadline(SourceId(1)), at(5));
        timers.set(Timer::Save, at(6));
        assert_eq!(timers.next(), Some(at(5)));
        assert!(timers.take_due(at(4)).is_empty());
        assert_eq!(timers.take_due(at(5)), [Timer::ExchangeDeadline(SourceId(1)), Timer::Poll(SourceId(1))]);
        assert_eq!(timers.next(), Some(at(6)));
    }

    #[test]
    fn what_is_set_for_the_past_rings_later() {
        let mut timers = Timers::default();
        timers.set(Timer::Save, at(1));
        timers.defer_due(at(9));
        assert!(timers.next().expect("it is set") > at(9));
        timers.set_no_later(Timer::Save, at(3));
        timers.set_no_later(Timer::Save, at(4));
        assert_eq!(timers.get(Timer::Save), Some(at(3)));
        timers.cancel(Timer::Save);
        assert_eq!(timers.next(), None);
    }
}
