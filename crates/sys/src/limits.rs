//! Limits that the system sets to a process, and a thread's rank among others.

use crate::descriptor::check;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
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
}
