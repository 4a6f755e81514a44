//! Limits that the system sets to a process, its hold on memory, and a thread's rank among others.

use crate::descriptor::check;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::io;

/// Has this process open up to `wanted` descriptors, if it may: gives how many it may open now, which is less where the
/// hard limit is, and more where it could before.
///
/// # Errors
/// When the system does not tell, or refuses.
pub fn allow_descriptors(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = wanted.min(hard);
    if limit <= soft {
        return Ok(soft);
    }
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard)?;
    Ok(limit)
}

/// Has the calling thread yield to the others where there is not time enough for all; `nice` is 0 to 19, and 19 yields most.
///
/// # Errors
/// When the system refuses.
pub fn yield_to_others(nice: u8) -> io::Result<()> {
    // SAFETY: setpriority takes plain numbers. For Linux the "process" 0 is the calling thread.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice.min(19).into()) }).map(drop)
}

/// Has the calling thread run before all ordinary ones whenever it has something to do (`SCHED_FIFO`). Threads and processes
/// that it starts later are ordinary ones: what serves strangers must not hold up the machine. Of 1 to 99, 99 goes before all.
///
/// # Errors
/// When the system has no such priority, or refuses: it takes `CAP_SYS_NICE`, or a high enough `RLIMIT_RTPRIO`.
pub fn run_before_others(priority: u8) -> io::Result<()> {
    // All fields but this are for other policies; some systems have none of them.
    // SAFETY: the structure is made of numbers, for all of which zero is a value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority.into();
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the structure is there, and is only read. For Linux the "process" 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) }).map(drop)
}

/// Keeps the process's memory from being paged out, now and later: late answers are wrong answers. The limit of locked
/// memory is lifted first, as without that every allocation beyond it would fail once privileges are given up.
///
/// # Errors
/// When the system refuses: it takes `CAP_SYS_RESOURCE` and `CAP_IPC_LOCK`, or no limit (`RLIMIT_MEMLOCK`) from the start.
pub fn lock_memory() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    // SAFETY: mlockall takes plain numbers.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_descriptors_are_allowed_up_to_the_hard_limit_and_never_fewer() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(allow_descriptors(1).unwrap(), soft);
        assert_eq!(allow_descriptors(u64::MAX).unwrap(), hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }

    #[test]
    fn a_thread_that_yields_leaves_the_others_as_they_are() {
        // SAFETY: getpriority takes plain numbers.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        let yielding = std::thread::spawn(move || yield_to_others(19).map(|()| nice()));
        assert_eq!(yielding.join().unwrap().unwrap(), 19);
        assert_eq!(nice(), before);
    }

    /// Whether that is permitted depends on who runs the tests; what an ordinary thread is stays one either way.
    #[test]
    fn a_thread_that_runs_before_others_starts_ordinary_ones() {
        // SAFETY: sched_getscheduler takes a plain number.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let first = std::thread::spawn(move || {
            let allowed = run_before_others(1);
            let started = std::thread::spawn(policy).join().unwrap();
            (allowed.is_ok(), policy(), started)
        });
        let (allowed, own, started) = first.join().unwrap();
        let wanted = if allowed { libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK } else { libc::SCHED_OTHER };
        assert_eq!((own, started), (wanted, libc::SCHED_OTHER));
        assert_eq!(policy(), libc::SCHED_OTHER, "the other threads");
    }
}
