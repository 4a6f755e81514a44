//! What workers count, and how others read it.

use chime_ke::server::KeServerResult;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many results there are.
const RESULTS: usize = KeServerResult::ALL.len();

/// What sessions took in all, microseconds: by the clock, and of the processor.
pub(super) type KeTimes = [u64; 2];

/// What the NTS-KE server did since it was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeServingStats {
    /// Sessions by result, in the order of [`KeServerResult::ALL`].
    pub results: [u64; RESULTS],
    /// What those took whose times are measured, in the same order; last those that were cut because they took too long.
    pub times: [KeTimes; RESULTS + 1],
    /// Sessions that were cut because they took too long.
    pub timed_out: u64,
    /// Connections closed at once because of the access list.
    pub denied: u64,
    /// Connections closed at once because there were too many, from that address or in all.
    pub over_limit: u64,
    /// Connections closed without an answer, the oldest first, to make room for newcomers.
    pub evicted: u64,
    /// Connections that the kernel could not give us.
    pub accept_failures: u64,
    /// Cookies given.
    pub cookies: u64,
    /// Connections now.
    pub connections: usize,
    /// When the first of the certificates ends; Unix seconds.
    pub certificate_not_after: Option<i64>,
}

impl KeServingStats {
    /// How many sessions ended that way.
    #[must_use]
    pub fn count(&self, result: KeServerResult) -> u64 {
        self.by_result().find(|(own, _)| *own == result).map_or(0, |(_, count)| count)
    }

    /// Every result with its count.
    pub fn by_result(&self) -> impl Iterator<Item = (KeServerResult, u64)> {
        KeServerResult::ALL.into_iter().zip(self.results)
    }
}

/// The numbers of all workers. A few connections in a second share them without notice.
#[derive(Debug, Default)]
pub(super) struct KeCounters {
    results: [AtomicU64; RESULTS],
    times: [[AtomicU64; 2]; RESULTS + 1],
    pub(super) timed_out: AtomicU64,
    pub(super) denied: AtomicU64,
    pub(super) over_limit: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) accept_failures: AtomicU64,
    pub(super) cookies: AtomicU64,
}

impl KeCounters {
    pub(super) fn count(&self, result: KeServerResult) {
        if let Some(position) = KeServerResult::ALL.iter().position(|own| *own == result) {
            add(&self.results[position], 1);
        }
    }

    /// `result`: `None` when the time was over.
    pub(super) fn count_times(&self, result: Option<KeServerResult>, seconds: [f64; 2]) {
        let place = result.and_then(|result| KeServerResult::ALL.iter().position(|own| *own == result));
        for (counter, seconds) in self.times[place.unwrap_or(RESULTS)].iter().zip(seconds) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            add(counter, (seconds * 1e6) as u64);
        }
    }

    pub(super) fn read(&self) -> KeServingStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KeServingStats {
            results: self.results.each_ref().map(read),
            times: self.times.each_ref().map(|times| times.each_ref().map(read)),
            timed_out: read(&self.timed_out),
            denied: read(&self.denied),
            over_limit: read(&self.over_limit),
            evicted: read(&self.evicted),
            accept_failures: read(&self.accept_failures),
            cookies: read(&self.cookies),
            ..KeServingStats::default()
        }
    }
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
