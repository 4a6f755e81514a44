//! Limits on log lines: what a stranger can cause again and again is told, but not without bound.
//!
//! [`LogLimit`] is for one kind of line, [`LogLimits`] for one line per key (an address, a source), in bounded memory.

use chime_time::MonoTime;
use std::collections::BTreeMap;
use std::time::Duration;

/// What to do with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Write it, and say that so many like it were left out since the last one, if any were.
    Write {
        /// Lines left out since the last one that was written.
        left_out: u64,
    },
    /// Leave it out.
    LeaveOut,
}

impl Admission {
    /// Calls `write` with the words to append to the line, when it is to be written.
    pub fn write(self, write: impl FnOnce(&str)) {
        match self {
            Self::Write { left_out: 0 } => write(""),
            Self::Write { left_out } => write(&format!(" ({left_out} more like this left out before)")),
            Self::LeaveOut => {}
        }
    }
}

/// A limit for one kind of line: a burst at once, and then one line per interval.
#[derive(Clone, Debug)]
pub struct LogLimit {
    interval: Duration,
    burst: u32,
    credit: u32,
    refilled: Option<MonoTime>,
    left_out: u64,
}

impl LogLimit {
    /// At most `burst` lines (at least 1) at once, and one more for each `interval` that passes.
    #[must_use]
    pub fn new(burst: u32, interval: Duration) -> Self {
        let burst = burst.max(1);
        let interval = interval.max(Duration::from_nanos(1));
        Self { interval, burst, credit: burst, refilled: None, left_out: 0 }
    }

    /// Asks whether a line may be written now.
    pub fn admit(&mut self, now: MonoTime) -> Admission {
        self.refill(now);
        if self.credit == 0 {
            self.left_out = self.left_out.saturating_add(1);
            return Admission::LeaveOut;
        }
        self.credit -= 1;
        Admission::Write { left_out: std::mem::take(&mut self.left_out) }
    }

    /// Lines left out since the last one that was written.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    fn refill(&mut self, now: MonoTime) {
        let since = *self.refilled.get_or_insert(now);
        let intervals = now.saturating_since(since).as_nanos() / self.interval.as_nanos();
        if intervals == 0 {
            return;
        }
        let earned = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_add(earned).min(self.burst);
        // The part of an interval that has begun still counts.
        let begun = now.saturating_since(since).as_nanos() % self.interval.as_nanos();
        let begun = u64::try_from(begun).unwrap_or(0);
        self.refilled = Some(MonoTime::from_nanos(now.as_nanos().saturating_sub(begun)));
    }
}

/// A limit for each key: one line per key and interval, and over all keys no more than `keys_max` per interval.
#[derive(Clone, Debug)]
pub struct LogLimits<K> {
    interval: Duration,
    keys_max: usize,
    said: BTreeMap<K, (MonoTime, u64)>,
    left_out: u64,
}

impl<K: Ord> LogLimits<K> {
    /// Remembers at most `keys_max` keys.
    #[must_use]
    pub const fn new(interval: Duration, keys_max: usize) -> Self {
        Self { interval, keys_max, said: BTreeMap::new(), left_out: 0 }
    }

    /// Asks whether a line about `key` may be written now.
    pub fn admit(&mut self, key: K, now: MonoTime) -> Admission {
        let interval = self.interval;
        if let Some((last, left_out)) = self.said.get_mut(&key) {
            if now.saturating_since(*last) < interval {
                *left_out = left_out.saturating_add(1);
                return Admission::LeaveOut;
            }
            *last = now;
            return Admission::Write { left_out: std::mem::take(left_out) };
        }
        if self.said.len() >= self.keys_max {
            self.said.retain(|_, (last, _)| now.saturating_since(*last) < interval);
        }
        if self.said.len() >= self.keys_max {
            self.left_out = self.left_out.saturating_add(1);
            return Admission::LeaveOut;
        }
        self.said.insert(key, (now, 0));
        Admission::Write { left_out: std::mem::take(&mut self.left_out) }
    }

    /// Forgets a key: the next line about it is written.
    pub fn forget(&mut self, key: &K) {
        self.said.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> MonoTime {
        MonoTime::from_nanos(1_000_000_000).add_secs_f64(seconds)
    }

    #[test]
    fn a_burst_is_written_and_then_one_line_per_interval() {
        let mut limit = LogLimit::new(2, Duration::from_secs(10));
        assert_eq!(limit.admit(at(0.0)), Admission::Write { left_out: 0 });
        assert_eq!(limit.admit(at(0.0)), Admission::Write { left_out: 0 });
        assert_eq!(limit.admit(at(0.0)), Admission::LeaveOut);
        assert_eq!(limit.admit(at(9.9)), Admission::LeaveOut);
        assert_eq!(limit.admit(at(10.0)), Admission::Write { left_out: 2 });
        assert_eq!(limit.admit(at(19.9)), Admission::LeaveOut);
        assert_eq!((limit.left_out(), limit.admit(at(20.1))), (1, Admission::Write { left_out: 1 }));
        assert_eq!(limit.admit(at(29.9)), Admission::LeaveOut);
        assert_eq!(limit.admit(at(30.0)), Admission::Write { left_out: 1 }, "parts of an interval count");
        assert_eq!(limit.admit(at(1e6)), Admission::Write { left_out: 0 });
        assert_eq!(limit.admit(at(1e6)), Admission::Write { left_out: 0 });
        assert_eq!(limit.admit(at(1e6)), Admission::LeaveOut, "quiet does not save up more than a burst");
    }

    #[test]
    fn each_key_has_its_line_and_all_together_are_bounded() {
        let mut limits = LogLimits::new(Duration::from_secs(10), 3);
        let written = (0..100).filter(|key| limits.admit(*key, at(0.0)) != Admission::LeaveOut).count();
        assert_eq!(written, 3);
        assert_eq!(limits.admit(1, at(5.0)), Admission::LeaveOut);
        assert_eq!(limits.admit(1, at(10.0)), Admission::Write { left_out: 1 });
        assert_eq!(limits.admit(77, at(10.0)), Admission::Write { left_out: 97 });
        limits.forget(&1);
        assert_eq!(limits.admit(1, at(10.0)), Admission::Write { left_out: 0 });
    }

    #[test]
    fn the_line_says_how_many_were_left_out() {
        let mut lines = Vec::new();
        for admission in
            [Admission::Write { left_out: 0 }, Admission::LeaveOut, Admission::Write { left_out: 7 }]
        {
            admission.write(|more| lines.push(format!("bad request{more}")));
        }
        assert_eq!(lines, ["bad request", "bad request (7 more like this left out before)"]);
    }
}
