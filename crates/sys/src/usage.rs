//! What this process has used of the machine.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use std::io;

/// What getrusage(2) says of all threads since the start.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ProcessUsage {
    /// Processor time of its own; seconds.
    pub user_seconds: f64,
    /// Processor time of the kernel for it; seconds.
    pub system_seconds: f64,
    /// Faults that needed no input.
    pub minor_faults: i64,
    /// Faults that needed input.
    pub major_faults: i64,
    /// Blocks read.
    pub blocks_read: i64,
    /// Blocks written.
    pub blocks_written: i64,
    /// Switches to others because it waited.
    pub voluntary_switches: i64,
    /// Switches to others because its time was over.
    pub involuntary_switches: i64,
    /// The most memory that it had; kilobytes.
    pub memory_kilobytes: i64,
}

/// What this process has used.
///
/// # Errors
/// As the system has them: never, on Linux.
pub fn of_this_process() -> io::Result<ProcessUsage> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(ProcessUsage {
        user_seconds: usage.user_time().num_microseconds() as f64 * 1e-6,
        system_seconds: usage.system_time().num_microseconds() as f64 * 1e-6,
        minor_faults: usage.minor_page_faults(),
        major_faults: usage.major_page_faults(),
        blocks_read: usage.block_reads(),
        blocks_written: usage.block_writes(),
        voluntary_switches: usage.voluntary_context_switches(),
        involuntary_switches: usage.involuntary_context_switches(),
        memory_kilobytes: usage.max_rss(),
    })
}

/// Processor time of one thread, seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ThreadUsage {
    /// Its own.
    pub user_seconds: f64,
    /// The kernel's for it.
    pub system_seconds: f64,
}

impl ThreadUsage {
    /// What was used since `before`, and `sum` besides.
    #[must_use]
    pub fn since(self, before: Self, sum: Self) -> Self {
        Self {
            user_seconds: sum.user_seconds + (self.user_seconds - before.user_seconds).max(0.0),
            system_seconds: sum.system_seconds + (self.system_seconds - before.system_seconds).max(0.0),
        }
    }
}

/// What the calling thread has used since its start.
///
/// # Errors
/// As the system has them: never, on Linux.
pub fn of_this_thread() -> io::Result<ThreadUsage> {
    // getrusage(2) tells what was used up to the thread's last interruption, which may be none of what is asked for; reading its
    // clock brings that up to now.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok(ThreadUsage {
        user_seconds: usage.user_time().num_microseconds() as f64 * 1e-6,
        system_seconds: usage.system_time().num_microseconds() as f64 * 1e-6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_something_and_ever_more() {
        let first = of_this_process().expect("the system says");
        let second = of_this_process().expect("the system says");
        assert!(first.memory_kilobytes > 100 && first.minor_faults > 0, "{first:?}");
        assert!(second.user_seconds + second.system_seconds >= first.user_seconds + first.system_seconds);
    }

    #[test]
    fn a_moment_of_work_shows_at_once() {
        let total = |usage: ThreadUsage| usage.user_seconds + usage.system_seconds;
        for _ in 0..100 {
            let before = of_this_thread().expect("the system says");
            let work = (0..20_000_u64).fold(1_u64, |sum, number| std::hint::black_box(sum ^ number));
            let after = of_this_thread().expect("the system says");
            assert!(total(after) > total(before), "{before:?} {after:?} {work}");
        }
    }

    #[test]
    fn what_threads_use_adds_up() {
        let first = of_this_thread().expect("the system says");
        let sum = ThreadUsage { user_seconds: 1.0, system_seconds: 2.0 };
        let later = ThreadUsage { user_seconds: first.user_seconds + 0.5, ..first };
        let used = later.since(first, sum);
        assert!((used.user_seconds - 1.5).abs() < 1e-9 && (used.system_seconds - 2.0).abs() < 1e-9);
    }
}
