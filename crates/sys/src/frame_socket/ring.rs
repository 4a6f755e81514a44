//! Memory that we share with the kernel, and the rings in it.
//!
//! A ring has one writer and one reader; each of them alone moves its own counter, and what lies between the counters
//! belongs to the reader. Counters run over all 32 bits, and the number of places is a power of two.

use crate::descriptor::check;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// Pages that are ours until this is dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    octets: usize,
}

impl Mapping {
    /// Fresh pages, all zero.
    pub(super) fn anonymous(octets: usize) -> io::Result<Self> {
        Self::map(octets, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// Pages of a socket, which the kernel writes as well.
    fn of_socket(fd: &OwnedFd, octets: usize, at: libc::off_t) -> io::Result<Self> {
        Self::map(octets, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), at)
    }

    fn map(octets: usize, flags: libc::c_int, fd: libc::c_int, at: libc::off_t) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: without an address the kernel chooses a free one; nothing that exists is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), octets, access, flags, fd, at) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("no address"))?;
        Ok(Self { start, octets })
    }

    pub(super) fn address(&self) -> u64 {
        self.start.as_ptr().addr() as u64
    }

    /// A pointer to `count` values of `T` at `at`, where all of them lie inside, aligned.
    pub(super) fn at<T>(&self, at: u64, count: usize) -> Option<NonNull<T>> {
        let at = usize::try_from(at).ok()?;
        let end = size_of::<T>().checked_mul(count)?.checked_add(at)?;
        // SAFETY: `at` is at most the end of the mapping, as `end` is.
        let pointer = (end <= self.octets).then(|| unsafe { self.start.add(at) })?;
        pointer.cast::<T>().is_aligned().then(|| pointer.cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: these pages were mapped by us, and whatever points into them is part of our owner.
        let _gone = unsafe { libc::munmap(self.start.as_ptr().cast(), self.octets) };
    }
}

/// One end of a ring of `T`, plain numbers that the kernel takes or gives.
#[derive(Debug)]
pub(super) struct Ring<T> {
    /// What we move: the producer's counter when we write, the consumer's when we read.
    ours: NonNull<AtomicU32>,
    theirs: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    places: NonNull<T>,
    mask: u32,
    /// Our counter, of which the other side has not heard yet.
    next: u32,
    /// Where the other side was when we looked last.
    seen: u32,
    /// All of the pointers above point into it.
    _mapping: Mapping,
}

/// Which end of a ring is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Writing,
    Reading,
}

impl<T: Copy> Ring<T> {
    /// Maps a ring of `places` (a power of two) whose size was set before. `offsets` are those of `XDP_MMAP_OFFSETS`.
    pub(super) fn map(
        fd: &OwnedFd,
        at: libc::off_t,
        (offsets, places): (&libc::xdp_ring_offset, u32),
        end: End,
    ) -> io::Result<Self> {
        let octets = size_of::<T>() * places as usize;
        let octets = usize::try_from(offsets.desc).map_err(io::Error::other)? + octets;
        let mapping = Mapping::of_socket(fd, octets, at)?;
        let counter =
            |at| mapping.at::<AtomicU32>(at, 1).ok_or_else(|| io::Error::other("a ring is too small"));
        let (producer, consumer) = (counter(offsets.producer)?, counter(offsets.consumer)?);
        let (ours, theirs) = if end == End::Writing { (producer, consumer) } else { (consumer, producer) };
        let flags = counter(offsets.flags)?;
        let start = mapping.at(offsets.desc, places as usize);
        let start = start.ok_or_else(|| io::Error::other("a ring is too small"))?;
        let mut ring = Self {
            ours,
            theirs,
            flags,
            places: start,
            mask: places - 1,
            next: 0,
            seen: 0,
            _mapping: mapping,
        };
        ring.next = ring.counter(ring.ours).load(Ordering::Relaxed);
        ring.seen = ring.counter(ring.theirs).load(Ordering::Acquire);
        Ok(ring)
    }

    fn counter(&self, at: NonNull<AtomicU32>) -> &AtomicU32 {
        // SAFETY: it lies in our mapping, aligned, and both sides treat it as atomic only.
        unsafe { at.as_ref() }
    }

    /// Where the value with this number lies.
    fn place(&self, number: u32) -> NonNull<T> {
        // SAFETY: the mask keeps it within the places that were mapped.
        unsafe { self.places.add((number & self.mask) as usize) }
    }

    fn look(&mut self) {
        self.seen = self.counter(self.theirs).load(Ordering::Acquire);
    }

    /// Writes a value; false when the ring is full. The kernel sees it after [`Self::publish`]. For the writing end.
    pub(super) fn push(&mut self, value: T) -> bool {
        if self.next.wrapping_sub(self.seen) > self.mask {
            self.look();
        }
        if self.next.wrapping_sub(self.seen) > self.mask {
            return false;
        }
        // SAFETY: the place is not the reader's, as there are fewer values than places.
        unsafe { self.place(self.next).write(value) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Takes a value. The kernel may use its place after [`Self::publish`]. For the reading end.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.next == self.seen {
            self.look();
        }
        if self.next == self.seen {
            return None;
        }
        // SAFETY: the writer has published the value, which is plain numbers, and waits for us to go on.
        let value = unsafe { self.place(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(value)
    }

    /// Tells the other side how far we are.
    pub(super) fn publish(&self) {
        self.counter(self.ours).store(self.next, Ordering::Release);
    }

    /// Whether the other side has seen everything. For the writing end.
    pub(super) fn is_drained(&mut self) -> bool {
        self.look();
        self.seen == self.next
    }

    /// Whether the kernel wants a system call before it goes on.
    pub(super) fn wants_wakeup(&self) -> bool {
        // It may have gone to sleep just before it could see what was published.
        fence(Ordering::SeqCst);
        self.counter(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// Sets the number of places of a ring.
pub(super) fn set_places(fd: &OwnedFd, ring: libc::c_int, places: u32) -> io::Result<()> {
    crate::descriptor::set_option(fd, libc::SOL_XDP, ring, places)
}

/// Where in the rings of a socket is what.
pub(super) fn offsets(fd: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: the offsets are plain numbers, for which all zeroes is a valid value.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { crate::descriptor::zeroed() };
    get_option(fd, libc::XDP_MMAP_OFFSETS, &mut offsets)?;
    Ok(offsets)
}

/// Reads a socket option whose value is a structure of plain numbers.
pub(super) fn get_option<T: Copy>(fd: &OwnedFd, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut octets = crate::address::socklen::<T>();
    // SAFETY: the pointers are to the value and its length, alive during the call.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, name, ptr::from_mut(value).cast(), &raw mut octets)
    };
    check(result)?;
    if octets == crate::address::socklen::<T>() {
        Ok(())
    } else {
        // Linux before 5.4 has no flags in its rings.
        Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel's AF_XDP is too old"))
    }
}
