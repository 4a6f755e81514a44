//! Frames that go around the network stack: AF_XDP sockets.
//!
//! An XDP program hands frames of one receive queue to a [`FrameSocket`] (through a map of kind
//! [`MapKind::Sockets`](crate::bpf::MapKind)); what is answered goes out through the same queue. Frames lie in memory
//! of fixed size that the kernel writes to, or the network card itself where its driver can do that. One half of its
//! chunks is for what comes, the other for answers, each beside the request that it belongs to. A socket belongs to
//! one thread.

mod ring;

use crate::bpf::XdpMode;
use crate::clock;
use crate::descriptor::{check, set_option, socket};
use chime_time::{ClockReading, MonoTime};
use ring::{End, Mapping, Ring};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Frames that are received at once.
pub const FRAMES_AT_ONCE: usize = 64;
/// Octets of a chunk of memory; what the kernel keeps before a frame (256) and the longest frame of Ethernet fit.
const CHUNK_OCTETS: u32 = 2048;
/// Frames that may wait, or be worked on: three milliseconds of full load. More would only make answers late.
const CHUNKS_RECEIVED: u32 = 1024;
/// Answers that may be on their way.
const CHUNKS_SENT: u32 = 512;
/// Octets that a program may put before a frame: [`ReceivedFrame::stamp`].
const STAMP_OCTETS: u64 = 8;
/// System calls in which the kernel has to take what is to be sent; it takes 32 frames in each.
const SEND_ATTEMPTS_MAX: usize = 8;

/// A frame that has come.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedFrame<'a> {
    /// From the Ethernet header on, without checksum.
    pub octets: &'a [u8],
    /// When it came, by the monotonic clock, if the program has written that in the eight octets before the frame, in
    /// the machine's order and not 0.
    pub stamp: Option<MonoTime>,
}

/// A frame of the batch, and the chunk for its answer.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    frame: libc::xdp_desc,
    stamp: u64,
    /// `None`: on its way with an answer.
    room: Option<u64>,
    /// Octets of the answer that is queued.
    queued: Option<u32>,
}

/// The frames of one receive queue that a program hands over, and a way to send.
#[derive(Debug)]
pub struct FrameSocket {
    fd: OwnedFd,
    is_zero_copy: bool,
    fill: Ring<u64>,
    completion: Ring<u64>,
    received: Ring<libc::xdp_desc>,
    sent: Ring<libc::xdp_desc>,
    /// Chunks for answers that are not in use.
    free: Vec<u64>,
    batch: Vec<Exchange>,
    now: ClockReading,
    /// After the rings: the kernel has no use for it any more once they and the socket are closed.
    memory: Mapping,
}

// SAFETY: the pointers in rings and memory point to mappings that the value owns, which do not move with it; only the
// kernel shares them, by the rules of the rings.
unsafe impl Send for FrameSocket {}

impl FrameSocket {
    /// Opens a socket for queue number `queue` of an interface, on which the program works in such a way. Takes
    /// CAP_NET_RAW; some three megabytes are all the memory that is ever taken.
    ///
    /// # Errors
    /// Among others `InvalidInput` when there is no such queue, `Unsupported` where such sockets are not there or not
    /// allowed, `OutOfMemory` when no more memory may be locked.
    pub fn open(interface: u32, queue: u32, mode: XdpMode) -> io::Result<Self> {
        Self::try_open(interface, queue, mode).map_err(|error| {
            let kind = match error.raw_os_error() {
                Some(libc::EAFNOSUPPORT) => io::ErrorKind::Unsupported,
                Some(libc::ENOBUFS) => io::ErrorKind::OutOfMemory,
                _ => return error,
            };
            io::Error::new(kind, error)
        })
    }

    fn try_open(interface: u32, queue: u32, mode: XdpMode) -> io::Result<Self> {
        let fd = socket(libc::AF_XDP, libc::SOCK_RAW, 0)?;
        let chunks = CHUNKS_RECEIVED + CHUNKS_SENT;
        let memory = Mapping::anonymous(chunks as usize * CHUNK_OCTETS as usize)?;
        let area = libc::xdp_umem_reg {
            addr: memory.address(),
            len: u64::from(chunks) * u64::from(CHUNK_OCTETS),
            chunk_size: CHUNK_OCTETS,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set_option(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, area)?;
        for (ring, places) in [
            (libc::XDP_UMEM_FILL_RING, CHUNKS_RECEIVED),
            (libc::XDP_UMEM_COMPLETION_RING, CHUNKS_SENT),
            (libc::XDP_RX_RING, CHUNKS_RECEIVED),
            (libc::XDP_TX_RING, CHUNKS_SENT),
        ] {
            ring::set_places(&fd, ring, places)?;
        }
        let offsets = ring::offsets(&fd)?;
        let at = |place: libc::c_ulonglong| libc::off_t::try_from(place).map_err(io::Error::other);
        let (fill_at, completion_at) =
            (at(libc::XDP_UMEM_PGOFF_FILL_RING)?, at(libc::XDP_UMEM_PGOFF_COMPLETION_RING)?);
        let mut socket = Self {
            is_zero_copy: false,
            fill: Ring::map(&fd, fill_at, (&offsets.fr, CHUNKS_RECEIVED), End::Writing)?,
            completion: Ring::map(&fd, completion_at, (&offsets.cr, CHUNKS_SENT), End::Reading)?,
            received: Ring::map(&fd, libc::XDP_PGOFF_RX_RING, (&offsets.rx, CHUNKS_RECEIVED), End::Reading)?,
            sent: Ring::map(&fd, libc::XDP_PGOFF_TX_RING, (&offsets.tx, CHUNKS_SENT), End::Writing)?,
            free: (CHUNKS_RECEIVED..chunks).map(|chunk| u64::from(chunk * CHUNK_OCTETS)).collect(),
            batch: Vec::with_capacity(FRAMES_AT_ONCE),
            now: clock::read(),
            memory,
            fd,
        };
        for chunk in 0..CHUNKS_RECEIVED {
            socket.fill.push(u64::from(chunk * CHUNK_OCTETS));
        }
        socket.fill.publish();
        socket.bind(interface, queue, mode)?;
        Ok(socket)
    }

    /// Without a wish the kernel takes the driver's way, where that has one, and copies otherwise. The driver's way
    /// goes past programs in generic mode.
    fn bind(&mut self, interface: u32, queue: u32, mode: XdpMode) -> io::Result<()> {
        let copy = if mode == XdpMode::Generic { libc::XDP_COPY } else { 0 };
        let address = libc::sockaddr_xdp {
            sxdp_family: u16::try_from(libc::AF_XDP).map_err(io::Error::other)?,
            sxdp_flags: libc::XDP_USE_NEED_WAKEUP | copy,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let octets = crate::address::socklen::<libc::sockaddr_xdp>();
        // SAFETY: the pointer and the length describe the address, alive during the call.
        check(unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), octets) })?;
        let mut options = libc::xdp_options { flags: 0 };
        ring::get_option(&self.fd, libc::XDP_OPTIONS, &mut options)?;
        self.is_zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
        Ok(())
    }

    /// Whether the network card itself writes and reads the frames.
    #[must_use]
    pub const fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    /// The descriptor, as it stands in a map.
    #[must_use]
    pub fn descriptor(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// The clocks as they were read after the last [`Self::receive`].
    #[must_use]
    pub const fn now(&self) -> ClockReading {
        self.now
    }

    /// Takes what has come, at most [`FRAMES_AT_ONCE`], without waiting; gives how many, and how many more were dropped,
    /// as there was no room for answers. What the batch held before is forgotten.
    pub fn receive(&mut self) -> (usize, usize) {
        self.forget_batch();
        self.take_completed();
        let mut dropped = 0;
        while self.batch.len() + dropped < FRAMES_AT_ONCE {
            let Some(frame) = self.received.pop() else { break };
            // Also of one that is dropped: it would be taken for that of the next frame in the chunk, if that has none.
            let stamp = self.take_stamp(&frame);
            match self.free.pop() {
                Some(room) => {
                    self.batch.push(Exchange { frame, stamp, room: Some(room), queued: None });
                }
                None => {
                    self.give_back(&frame);
                    dropped += 1;
                }
            }
        }
        self.received.publish();
        if dropped > 0 {
            self.fill.publish();
            self.kick();
        }
        self.now = clock::read();
        (self.batch.len(), dropped)
    }

    /// Gives the chunks of the batch back: those of frames to the kernel, those of answers that were not sent to us.
    fn forget_batch(&mut self) {
        while let Some(Exchange { frame, room, .. }) = self.batch.pop() {
            self.give_back(&frame);
            self.free.extend(room);
        }
        self.fill.publish();
        if self.fill.wants_wakeup() {
            // SAFETY: there is nothing to be written to.
            unsafe {
                let flags = libc::MSG_DONTWAIT;
                let (nothing, nobody) = (std::ptr::null_mut(), std::ptr::null_mut());
                libc::recvfrom(self.fd.as_raw_fd(), nothing, 0, flags, nobody, std::ptr::null_mut());
            }
        }
    }

    /// The ring has a place for each of the chunks, so there is always one.
    fn give_back(&mut self, frame: &libc::xdp_desc) {
        self.fill.push(frame.addr - frame.addr % u64::from(CHUNK_OCTETS));
    }

    fn take_completed(&mut self) {
        while let Some(chunk) = self.completion.pop() {
            self.free.push(chunk - chunk % u64::from(CHUNK_OCTETS));
        }
        self.completion.publish();
    }

    /// Reads what stands before a frame, and wipes it out: the next program to use the chunk may write nothing there.
    fn take_stamp(&self, frame: &libc::xdp_desc) -> u64 {
        let before = frame.addr % u64::from(CHUNK_OCTETS) >= STAMP_OCTETS;
        let Some(place) = before.then(|| self.memory.at::<[u8; 8]>(frame.addr - STAMP_OCTETS, 1)).flatten()
        else {
            return 0;
        };
        // SAFETY: the place lies in the chunk of a frame that the kernel has given to us, and in no slice of ours.
        let octets = unsafe { place.replace([0; 8]) };
        u64::from_ne_bytes(octets)
    }

    /// Frame number `index` of those received, and the room for its answer.
    pub fn exchange(&mut self, index: usize) -> Option<(ReceivedFrame<'_>, &mut [u8])> {
        let first = self.exchanges(index).next().filter(|(number, ..)| *number == index);
        first.map(|(_, frame, room)| (frame, room))
    }

    /// The frames from number `first` on, each with its number and the room for its answer.
    pub fn exchanges(
        &mut self,
        first: usize,
    ) -> impl Iterator<Item = (usize, ReceivedFrame<'_>, &mut [u8])> + '_ {
        let memory = &self.memory;
        self.batch.iter().enumerate().skip(first).filter_map(move |(number, exchange)| {
            let octets = exchange.frame.len as usize;
            let frame = memory.at::<u8>(exchange.frame.addr, octets)?;
            let room = memory.at::<u8>(exchange.room?, CHUNK_OCTETS as usize)?;
            // SAFETY: the frame lies in the mapping, in a chunk that the kernel gave to us and that we give back
            // only with the value borrowed mutably, and nothing writes to it meanwhile.
            let octets = unsafe { std::slice::from_raw_parts(frame.as_ptr(), octets) };
            // SAFETY: the room is a whole chunk of the mapping, taken out of the free ones for this exchange alone, and
            // given away only with the value borrowed mutably.
            let room = unsafe { std::slice::from_raw_parts_mut(room.as_ptr(), CHUNK_OCTETS as usize) };
            let stamp = (exchange.stamp != 0).then(|| MonoTime::from_nanos(exchange.stamp));
            Some((number, ReceivedFrame { octets, stamp }, room))
        })
    }

    /// Queues the first `octets` of the room beside frame number `index` as its answer. Each is answered once, and what
    /// does not belong to a frame of this batch is ignored.
    pub fn answer(&mut self, index: usize, octets: usize) {
        let octets = u32::try_from(octets).ok().filter(|octets| *octets <= CHUNK_OCTETS);
        if let (Some(exchange), Some(octets)) = (self.batch.get_mut(index), octets) {
            exchange.queued = Some(octets);
        }
    }

    /// Sends the queued answers; gives how many the kernel did not take. Never waits.
    pub fn send(&mut self) -> usize {
        let (mut queued, mut refused) = (0, 0);
        for exchange in &mut self.batch {
            let (Some(octets), Some(room)) = (exchange.queued.take(), exchange.room) else { continue };
            if self.sent.push(libc::xdp_desc { addr: room, len: octets, options: 0 }) {
                exchange.room = None;
                queued += 1;
            } else {
                refused += 1;
            }
        }
        if queued > 0 {
            self.sent.publish();
            self.kick();
        }
        refused
    }

    /// Has the kernel send what is in the ring.
    fn kick(&mut self) {
        for _ in 0..SEND_ATTEMPTS_MAX {
            if !self.sent.wants_wakeup() {
                return;
            }
            let flags = libc::MSG_DONTWAIT;
            // SAFETY: there is nothing to be read.
            let result =
                unsafe { libc::sendto(self.fd.as_raw_fd(), std::ptr::null(), 0, flags, std::ptr::null(), 0) };
            // That it is to be called again is an error to the kernel, too.
            if self.is_zero_copy || self.sent.is_drained() || result >= 0 {
                return;
            }
        }
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::fs::File;

    const PLACES: u32 = 64;
    const RING_OCTETS: libc::off_t = 1 << 16;
    const STAMP: u64 = 123_456_789;
    /// Where the kernel puts frames: after the room that it keeps in each chunk.
    const FRAME: libc::xdp_desc = libc::xdp_desc { addr: CHUNK_OCTETS as u64 * 3 + 256, len: 60, options: 0 };

    /// A socket whose kernel is the test: its rings are in a file. Beside it the other end of the ring of frames that come.
    fn socket() -> (FrameSocket, Ring<libc::xdp_desc>) {
        let file = File::from(memfd_create("rings", MFdFlags::MFD_CLOEXEC).expect("a file"));
        file.set_len(4 * RING_OCTETS.unsigned_abs()).expect("it grows");
        let fd = OwnedFd::from(file);
        let offsets = libc::xdp_ring_offset { producer: 0, consumer: 64, flags: 128, desc: 192 };
        let at = |number: libc::off_t| number * RING_OCTETS;
        let frames = |number, end| Ring::map(&fd, at(number), (&offsets, PLACES), end).expect("a ring");
        let chunks = |number, end| Ring::map(&fd, at(number), (&offsets, PLACES), end).expect("a ring");
        let (received, kernel) = (frames(2, End::Reading), frames(2, End::Writing));
        let socket = FrameSocket {
            is_zero_copy: false,
            fill: chunks(0, End::Writing),
            completion: chunks(1, End::Reading),
            received,
            sent: frames(3, End::Writing),
            free: Vec::new(),
            batch: Vec::new(),
            now: clock::read(),
            memory: Mapping::anonymous(8 * CHUNK_OCTETS as usize).expect("memory"),
            fd,
        };
        (socket, kernel)
    }

    /// A frame comes, with a stamp before it or without one.
    fn come(socket: &FrameSocket, kernel: &mut Ring<libc::xdp_desc>, is_stamped: bool) {
        if is_stamped {
            let place = socket.memory.at::<u64>(FRAME.addr - STAMP_OCTETS, 1).expect("it lies inside");
            // SAFETY: the place lies in the mapping, aligned, and in no slice.
            unsafe { place.write(STAMP) };
        }
        assert!(kernel.push(FRAME));
        kernel.publish();
    }

    fn stamp(socket: &mut FrameSocket) -> Option<MonoTime> {
        socket.exchange(0).and_then(|(frame, _)| frame.stamp)
    }

    #[test]
    fn a_stamp_belongs_to_one_frame_also_when_that_is_dropped() {
        let (mut socket, mut kernel) = socket();
        socket.free.push(0);
        come(&socket, &mut kernel, true);
        assert_eq!((socket.receive(), stamp(&mut socket)), ((1, 0), Some(MonoTime::from_nanos(STAMP))));
        come(&socket, &mut kernel, false);
        assert_eq!((socket.receive(), stamp(&mut socket)), ((1, 0), None), "the one before had it");
        assert_eq!(socket.receive(), (0, 0));
        let room = socket.free.pop();
        come(&socket, &mut kernel, true);
        assert_eq!(socket.receive(), (0, 1), "there is no room for an answer");
        socket.free.extend(room);
        come(&socket, &mut kernel, false);
        assert_eq!((socket.receive(), stamp(&mut socket)), ((1, 0), None), "the one that was dropped had it");
    }
}
