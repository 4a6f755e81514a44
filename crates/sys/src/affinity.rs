//! Which processors a thread may run on.

use crate::descriptor::check;
use std::io;
use std::mem;

/// Has the calling thread run on this processor alone, counted from 0.
///
/// # Errors
/// When there is no such processor, or this process may not use it.
pub fn pin_this_thread(processor: u16) -> io::Result<()> {
    let processor = usize::from(processor);
    if processor >= 8 * mem::size_of::<libc::cpu_set_t>() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: cpu_set_t is a set of bits, for which all zeroes is a valid value: the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the number was compared with the size of the set above.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the pointer and the length describe `set`, alive during the call; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &raw const set) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_to_a_processor_that_there_is_and_to_no_other() {
        let pinned = std::thread::spawn(|| {
            // The first one that this process may use: in a container it need not be number 0.
            let found = (0..1024).find(|processor| pin_this_thread(*processor).is_ok());
            (found, std::thread::available_parallelism().map(std::num::NonZero::get).ok())
        });
        let (found, parallelism) = pinned.join().unwrap();
        assert!(found.is_some());
        assert_eq!(parallelism, Some(1));
        assert!(pin_this_thread(1023).is_err() && pin_this_thread(u16::MAX).is_err());
    }
}
