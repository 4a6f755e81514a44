//! Requests that come past the sockets, as frames that the fast path's program hands over, and go the same way back.
//!
//! The desk that the address belongs to answers them, by the same rules and out of the same tables as those of its socket.

use super::answering::{Answer, Others, answer};
use super::worker::{BATCH_REQUESTS, Worker};
use arrayvec::ArrayVec;
use chime_fast::{Datagram, ServiceTable, listener_of};
use chime_server::Published;
use chime_sys::batch::BatchedRequest;
use chime_sys::frame_socket::{FRAMES_AT_ONCE, FrameSocket, ReceivedFrame};
use chime_sys::udp::LocalAddress;
use chime_sys::{TimestampSource, Timestamped};
use chime_time::{ClockReading, MonoTime, NtpDuration};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// Answers with something sealed in that are held back to be sent together. Their transmit timestamp cannot be
/// corrected any more, so the first of them goes out that much later than it says: about half a microsecond for each.
const SEALED_HELD_MAX: usize = 16;
const _: () = assert!(FRAMES_AT_ONCE <= BATCH_REQUESTS);
/// A stamp that is older is none: nothing waits so long.
const STAMP_AGE_MAX: NtpDuration = NtpDuration::from_seconds(1);

/// The frames of one receive queue.
#[derive(Debug)]
pub struct FrameDesk {
    socket: FrameSocket,
    /// The program's number of the interface.
    interface: u16,
}

impl FrameDesk {
    /// Takes what this socket gets, which is at the interface with this number.
    #[must_use]
    pub const fn new(socket: FrameSocket, interface: u16) -> Self {
        Self { socket, interface }
    }

    /// Whether the network card itself writes and reads the frames.
    #[must_use]
    pub const fn is_zero_copy(&self) -> bool {
        self.socket.is_zero_copy()
    }

    /// What the frames of the batch are, and which listener each belongs to; nothing where it is not in order.
    fn read(&mut self, table: &ServiceTable) -> ArrayVec<Option<(usize, Datagram)>, FRAMES_AT_ONCE> {
        let mut read = ArrayVec::new();
        // Most ask for the same address.
        let mut known: Option<(SocketAddr, usize)> = None;
        for (_, frame, _) in self.socket.exchanges(0) {
            let datagram = Datagram::parse(frame.octets).and_then(|datagram| {
                let listener = match known {
                    Some((address, listener)) if address == datagram.to => listener,
                    _ => listener_of(table, datagram.to, self.interface)?,
                };
                known = Some((datagram.to, listener));
                Some((listener, datagram))
            });
            read.push(datagram);
        }
        read
    }

    /// Writes the headers of an answer and queues it; false when there is none to be made.
    fn answer(&mut self, datagram: &Datagram, answer: &Answer) -> bool {
        let Some((frame, room)) = self.socket.exchange(answer.number) else { return false };
        let octets = datagram.write_headers(frame.octets, room, answer.octets);
        octets.map(|octets| self.socket.answer(answer.number, octets)).is_some()
    }
}

impl AsFd for FrameDesk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Worker {
    /// Receives and answers one batch; gives how many frames there were.
    pub(super) fn serve_frame_batch(&mut self, index: usize) -> usize {
        let Some(fast) = self.shared.fast.get() else { return 0 };
        let Some(desk) = self.frame_desks.get_mut(index) else { return 0 };
        let (received, dropped) = desk.socket.receive();
        self.stats.frames_dropped += dropped as u64;
        if received == 0 {
            return dropped;
        }
        let requests = desk.read(&fast.table());
        self.stats.frames_dropped += requests.iter().filter(|request| request.is_none()).count() as u64;
        let time = **self.shared.time.load();
        let keys = self.shared.keys.load();
        let published = Published { time: &time, keys: keys.as_deref() };
        self.outside.begin_frames();
        let mut sealed = 0;
        for (number, listener) in self.desks.iter_mut().enumerate() {
            let is_its =
                |request: &Option<(usize, Datagram)>| request.as_ref().is_some_and(|one| one.0 == number);
            let Some(mut next) = requests.iter().position(is_its) else { continue };
            while next < received {
                let now = desk.socket.now();
                let batch = desk.socket.exchanges(next).filter_map(|(at, frame, room)| {
                    let (_, datagram) = requests.get(at)?.as_ref().filter(|one| one.0 == number)?;
                    request(datagram, frame, room, now).map(|(request, room)| (at, request, room))
                });
                let (answers, end) = answer(
                    (batch, received, now),
                    // No listener for PTP messages is past the sockets.
                    (&mut listener.responder, None),
                    &published,
                    &mut self.outside,
                    &mut self.stats,
                    &Others { signing: listener.signing.as_ref(), ..Others::default() },
                );
                next = end;
                for answer in answers {
                    let Some((_, datagram)) = requests.get(answer.number).and_then(Option::as_ref) else {
                        continue;
                    };
                    let queued = desk.answer(datagram, &answer);
                    self.stats.frames_answered += u64::from(queued);
                    self.stats.send_failures += u64::from(!queued);
                    sealed += 1;
                }
                if sealed >= SEALED_HELD_MAX {
                    self.stats.send_failures += desk.socket.send() as u64;
                    sealed = 0;
                }
            }
        }
        self.stats.send_failures += desk.socket.send() as u64;
        received + dropped
    }
}

/// A frame as a request, and the room for the answer, as long as that is and in the same place.
fn request<'a>(
    datagram: &Datagram,
    frame: ReceivedFrame<'a>,
    room: &'a mut [u8],
    now: ClockReading,
) -> Option<(BatchedRequest<'a>, &'a mut [u8])> {
    let request = BatchedRequest {
        octets: frame.octets.get(datagram.payload.clone())?,
        truncated: false,
        from: datagram.from,
        received: received(&frame, now),
        hardware: None,
        destination: Some(LocalAddress { address: datagram.to.ip(), interface: 0 }),
    };
    Some((request, room.get_mut(datagram.payload.clone())?))
}

/// When a frame came: the program has read the monotonic clock, which goes as the system clock does. Within the microsecond
/// that reading the clocks takes, that is the same; without a stamp it is when the worker saw the frame, later by how long that
/// waited.
fn received(frame: &ReceivedFrame<'_>, now: ClockReading) -> Timestamped {
    let age = |mono: MonoTime| {
        let nanos = now.mono.as_nanos().checked_sub(mono.as_nanos())?;
        let age = NtpDuration::from_nanos(i64::try_from(nanos).ok()?);
        (age <= STAMP_AGE_MAX).then_some((mono, age))
    };
    match frame.stamp.and_then(age) {
        Some((mono, age)) => Timestamped {
            at: ClockReading { mono, system: now.system - age },
            source: TimestampSource::Kernel,
        },
        None => Timestamped { at: now, source: TimestampSource::Daemon },
    }
}
