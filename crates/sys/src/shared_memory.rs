//! System V shared memory, as reference clocks have used it since ntpd: another program writes, we look.

use crate::descriptor::{check, zeroed};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

/// A segment that is mapped until the end of the process: whoever writes may do so at any time.
#[derive(Debug)]
pub struct SharedSegment {
    id: libc::c_int,
    start: NonNull<u8>,
    octets: usize,
}

// SAFETY: the mapping lives as long as the process, and is read and written through volatile accesses only.
unsafe impl Send for SharedSegment {}

/// Who may do what with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentAccess {
    /// Owner.
    pub user: u32,
    /// The nine permission bits, as for files; those to execute mean nothing.
    pub mode: u32,
}

impl SharedSegment {
    /// Opens the segment `key` of at least `octets` octets, and makes it with the permissions `mode` when there is none.
    ///
    /// # Errors
    /// When it is too small, or others own it and do not let us.
    pub fn open(key: i32, octets: usize, mode: u32) -> io::Result<Self> {
        let bits = libc::c_int::try_from(mode & 0o777).unwrap_or(0);
        // SAFETY: shmget takes plain numbers.
        let id = check(unsafe { libc::shmget(key, octets, libc::IPC_CREAT | bits) })?;
        // SAFETY: without an address the kernel chooses a free one.
        let start = unsafe { libc::shmat(id, std::ptr::null(), 0) };
        if start.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("no address"))?;
        Ok(Self { id, start, octets })
    }

    /// Who may write it. `None` where that cannot be found out.
    #[must_use]
    pub fn access(&self) -> Option<SegmentAccess> {
        // SAFETY: shmid_ds is plain old data, for which all zeroes is a valid value.
        let mut state: libc::shmid_ds = unsafe { zeroed() };
        // SAFETY: the pointer is to a structure of the type that the command fills in.
        check(unsafe { libc::shmctl(self.id, libc::IPC_STAT, &raw mut state) }).ok()?;
        Some(SegmentAccess { user: state.shm_perm.uid, mode: u32::from(state.shm_perm.mode) & 0o777 })
    }

    /// Copies the segment as far as `copy` has room; what another process writes meanwhile may be torn.
    pub fn read(&self, copy: &mut [u8]) {
        fence(Ordering::SeqCst);
        for (at, octet) in copy.iter_mut().enumerate().take(self.octets) {
            // SAFETY: `at` is below the size of the mapping, which lives as long as we do.
            *octet = unsafe { self.start.add(at).read_volatile() };
        }
        fence(Ordering::SeqCst);
    }

    /// The `int` at `at`; 0 beyond the end.
    #[must_use]
    pub fn int_at(&self, at: usize) -> i32 {
        let mut octets = [0; 4];
        if at.checked_add(4).is_none_or(|end| end > self.octets) {
            return 0;
        }
        fence(Ordering::SeqCst);
        for (offset, octet) in octets.iter_mut().enumerate() {
            // SAFETY: four octets from `at` on lie in the mapping, as was just checked.
            *octet = unsafe { self.start.add(at + offset).read_volatile() };
        }
        i32::from_ne_bytes(octets)
    }

    /// Writes the `int` at `at`, unless that is beyond the end.
    pub fn set_int_at(&self, at: usize, value: i32) {
        if at.checked_add(4).is_none_or(|end| end > self.octets) {
            return;
        }
        for (offset, octet) in value.to_ne_bytes().into_iter().enumerate() {
            // SAFETY: four octets from `at` on lie in the mapping, as was just checked.
            unsafe { self.start.add(at + offset).write_volatile(octet) };
        }
        fence(Ordering::SeqCst);
    }

    /// Writes octets from `at` on, for tests of those who read; what does not fit is left out.
    pub fn write(&self, at: usize, octets: &[u8]) {
        for (place, octet) in (at..self.octets).zip(octets) {
            // SAFETY: `place` is below the size of the mapping.
            unsafe { self.start.add(place).write_volatile(*octet) };
        }
        fence(Ordering::SeqCst);
    }

    /// Has the kernel forget the segment once nobody has it mapped.
    ///
    /// # Errors
    /// When it is not ours.
    pub fn remove(&self) -> io::Result<()> {
        // SAFETY: the command needs no structure.
        check(unsafe { libc::shmctl(self.id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_writes_the_other_reads() {
        // Nobody else's key: ours begin with the number of the process.
        let key = i32::from_ne_bytes(std::process::id().to_ne_bytes()) ^ 0x3c00_0000;
        let writer = SharedSegment::open(key, 96, 0o600).unwrap();
        let reader = SharedSegment::open(key, 96, 0o600).unwrap();
        writer.write(0, &[7; 96]);
        writer.set_int_at(48, 1);
        let mut copy = [0; 96];
        reader.read(&mut copy);
        assert_eq!((copy[0], copy[95], reader.int_at(48)), (7, 7, 1));
        reader.set_int_at(48, 0);
        assert_eq!(writer.int_at(48), 0);
        assert_eq!(reader.int_at(94), 0, "beyond the end");
        assert_eq!(reader.access().map(|access| access.mode), Some(0o600));
        assert!(SharedSegment::open(key, 1 << 20, 0o600).is_err(), "it is smaller");
        writer.remove().unwrap();
    }
}
