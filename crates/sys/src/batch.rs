//! Many datagrams per system call, for servers: `recvmmsg` and `sendmmsg` with buffers made once.
//!
//! A worker owns one [`ReceiveBatch`] and one [`SendBatch`], and allocates nothing while it serves:
//!
//! ```no_run
//! use chime_sys::batch::{ReceiveBatch, SendBatch};
//! # fn respond(request: &[u8], response: &mut [u8]) -> usize { 0 }
//! # fn serve(socket: chime_sys::udp::UdpSocket) -> std::io::Result<()> {
//! let (mut requests, mut responses) = (ReceiveBatch::new(32, 2048), SendBatch::new(32, 2048));
//! requests.receive(&socket)?;
//! for request in requests.datagrams() {
//!     responses.push(request.from, request.destination, |buffer| respond(request.octets, buffer));
//! }
//! responses.send(&socket);
//! # Ok(()) }
//! ```

use crate::address::RawAddress;
use crate::clock;
use crate::control_message::{self, ControlBuffer};
use crate::descriptor::{check, zeroed};
use crate::udp::{LocalAddress, Timestamped, UdpSocket, best_stamp};
use chime_time::{ClockReading, MonoTime, NtpDate};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// The most datagrams in a batch; the kernel takes no more than 1024 in one call.
pub const SLOTS_MAX: usize = 1024;

/// Buffers for received datagrams.
pub struct ReceiveBatch {
    memory: Memory,
    headers: Vec<libc::mmsghdr>,
    received: usize,
    read_at: ClockReading,
}

// SAFETY: the headers hold pointers into the value's own vectors, set anew before each use and never followed
// otherwise; moving the value to another thread moves everything that they point to.
unsafe impl Send for ReceiveBatch {}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct BatchDatagram<'a> {
    /// What arrived, cut to the size of the buffer.
    pub octets: &'a [u8],
    /// Whether it was longer than the buffer.
    pub truncated: bool,
    /// Who sent it.
    pub from: SocketAddr,
    /// Where it was sent to, if the socket asks for that.
    pub destination: Option<LocalAddress>,
    /// When it arrived.
    pub received: Timestamped,
}

impl ReceiveBatch {
    /// Makes room for `slots` datagrams (1 to [`SLOTS_MAX`]) of up to `octets_max` octets each.
    #[must_use]
    pub fn new(slots: usize, octets_max: usize) -> Self {
        let slots = slots.clamp(1, SLOTS_MAX);
        let never = ClockReading { mono: MonoTime::ZERO, system: NtpDate::default() };
        Self {
            memory: Memory::new(slots, octets_max),
            headers: empty_headers(slots),
            received: 0,
            read_at: never,
        }
    }

    /// Receives as many datagrams as wait, at most as many as there are slots; returns their number, at least 1.
    /// `WouldBlock` when there is none.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        self.memory.full_lengths();
        self.memory.point(&mut self.headers);
        #[expect(clippy::cast_possible_truncation, reason = "at most SLOTS_MAX")]
        let slots = self.headers.len() as libc::c_uint;
        // SAFETY: each header points to memory of this value, of the length beside the pointer, set just now; no
        // timeout is given.
        let result = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), slots, 0, std::ptr::null_mut())
        };
        self.received = usize::try_from(check(result)?).unwrap_or(0).min(self.headers.len());
        self.read_at = clock::read();
        Ok(self.received)
    }

    /// The datagrams of the last call that came from an IPv4 or IPv6 address.
    pub fn datagrams(&self) -> impl Iterator<Item = BatchDatagram<'_>> {
        (0..self.received).filter_map(|slot| self.datagram(slot))
    }

    /// The clocks as they were just after the last call.
    #[must_use]
    pub const fn read_at(&self) -> ClockReading {
        self.read_at
    }

    fn datagram(&self, slot: usize) -> Option<BatchDatagram<'_>> {
        let header = &self.headers[slot];
        let mut address = self.memory.addresses[slot];
        address.octets = header.msg_hdr.msg_namelen;
        let control = &self.memory.controls[slot].0;
        #[cfg_attr(target_env = "gnu", expect(clippy::unnecessary_cast, reason = "a u32 with musl"))]
        let control_octets = (header.msg_hdr.msg_controllen as usize).min(control.len());
        let control = control_message::read(&control[..control_octets]);
        let buffer = self.memory.buffer(slot);
        Some(BatchDatagram {
            octets: &buffer[..(header.msg_len as usize).min(buffer.len())],
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            from: address.to_socket_addr()?,
            destination: control.destination,
            received: best_stamp(&control, self.read_at),
        })
    }
}

/// Buffers for datagrams to send.
pub struct SendBatch {
    memory: Memory,
    headers: Vec<libc::mmsghdr>,
    used: usize,
}

// SAFETY: as for ReceiveBatch.
unsafe impl Send for SendBatch {}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SendOutcome {
    /// Datagrams handed to the network.
    pub sent: usize,
    /// Datagrams that the kernel refused: no route, a full queue.
    pub failed: usize,
}

impl SendBatch {
    /// Makes room for `slots` datagrams (1 to [`SLOTS_MAX`]) of up to `octets_max` octets each.
    #[must_use]
    pub fn new(slots: usize, octets_max: usize) -> Self {
        let slots = slots.clamp(1, SLOTS_MAX);
        Self { memory: Memory::new(slots, octets_max), headers: empty_headers(slots), used: 0 }
    }

    /// How many datagrams wait to be sent.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds a datagram to `to`, from the local address `from`: `write` fills the buffer that it is given and
    /// returns how many octets to send, 0 for none. Returns false, and does not call it, when all slots are taken.
    pub fn push(
        &mut self,
        to: SocketAddr,
        from: Option<LocalAddress>,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        let slot = self.used;
        if slot >= self.headers.len() {
            return false;
        }
        let buffer = self.memory.buffer_mut(slot);
        let octets = write(buffer).min(buffer.len());
        if octets == 0 {
            return true;
        }
        self.memory.lengths[slot] = octets;
        self.memory.addresses[slot] = RawAddress::from(to);
        self.memory.control_lengths[slot] =
            from.map_or(0, |from| control_message::write_source(&mut self.memory.controls[slot], from));
        self.used += 1;
        true
    }

    /// Sends all that wait. A datagram that the kernel refuses is left out and the others go on; a full send queue
    /// loses the rest, as a network would.
    pub fn send(&mut self, socket: &UdpSocket) -> SendOutcome {
        self.memory.point(&mut self.headers);
        let mut outcome = SendOutcome::default();
        let mut next = 0;
        while next < self.used {
            #[expect(clippy::cast_possible_truncation, reason = "at most SLOTS_MAX")]
            let count = (self.used - next) as libc::c_uint;
            // SAFETY: each header points to memory of this value, of the length beside the pointer, set above; the
            // first is within the vector and `count` does not go past its end.
            let result = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    self.headers.as_mut_ptr().add(next),
                    count,
                    libc::MSG_NOSIGNAL,
                )
            };
            match check(result).map(usize::try_from) {
                Ok(Ok(sent)) if sent > 0 => {
                    outcome.sent += sent;
                    next += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outcome.failed += self.used - next;
                    break;
                }
                _ => {
                    outcome.failed += 1;
                    next += 1;
                }
            }
        }
        self.used = 0;
        outcome
    }
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReceiveBatch({} of {} slots)", self.received, self.headers.len())
    }
}

impl std::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendBatch({} of {} slots)", self.used, self.headers.len())
    }
}

/// What the message headers point to: one of each for every slot.
struct Memory {
    octets_max: usize,
    octets: Vec<u8>,
    lengths: Vec<usize>,
    parts: Vec<libc::iovec>,
    addresses: Vec<RawAddress>,
    controls: Vec<ControlBuffer>,
    control_lengths: Vec<usize>,
}

impl Memory {
    fn new(slots: usize, octets_max: usize) -> Self {
        let nowhere = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self {
            octets_max,
            octets: vec![0; slots * octets_max],
            lengths: vec![octets_max; slots],
            parts: vec![nowhere; slots],
            addresses: vec![RawAddress::empty(); slots],
            controls: vec![ControlBuffer::new(); slots],
            control_lengths: vec![0; slots],
        }
    }

    fn buffer(&self, slot: usize) -> &[u8] {
        &self.octets[slot * self.octets_max..][..self.octets_max]
    }

    fn buffer_mut(&mut self, slot: usize) -> &mut [u8] {
        &mut self.octets[slot * self.octets_max..][..self.octets_max]
    }

    /// Offers the kernel all of the memory.
    fn full_lengths(&mut self) {
        self.lengths.fill(self.octets_max);
        self.control_lengths.fill(control_message::CONTROL_OCTETS_MAX);
        self.addresses.iter_mut().for_each(|address| address.octets = crate::address::ADDRESS_OCTETS_MAX);
    }

    /// Points every header to its slot. Done before each call: the kernel writes lengths into the headers, and
    /// pointers made earlier would not survive the borrows in between.
    fn point(&mut self, headers: &mut [libc::mmsghdr]) {
        let octets = self.octets.as_mut_ptr();
        for (slot, header) in headers.iter_mut().enumerate() {
            // SAFETY: the slot lies within the octets, which has room for `octets_max` in every slot.
            let start = unsafe { octets.add(slot * self.octets_max) };
            self.parts[slot] = libc::iovec { iov_base: start.cast(), iov_len: self.lengths[slot] };
            let message = &mut header.msg_hdr;
            message.msg_name = self.addresses[slot].as_mut_ptr().cast();
            message.msg_namelen = self.addresses[slot].octets;
            message.msg_control = match self.control_lengths[slot] {
                0 => std::ptr::null_mut(),
                _ => self.controls[slot].0.as_mut_ptr().cast(),
            };
            message.msg_controllen = self.control_lengths[slot] as _;
            message.msg_flags = 0;
            header.msg_len = 0;
        }
        let parts = self.parts.as_mut_ptr();
        for (slot, header) in headers.iter_mut().enumerate() {
            // SAFETY: there is a part for every slot.
            header.msg_hdr.msg_iov = unsafe { parts.add(slot) };
            header.msg_hdr.msg_iovlen = 1;
        }
    }
}

fn empty_headers(slots: usize) -> Vec<libc::mmsghdr> {
    // SAFETY: mmsghdr is plain old data, for which all zeroes is a valid value.
    vec![unsafe { zeroed() }; slots]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{Interest, PollSet};
    use crate::udp::UdpOptions;
    use std::time::Duration;

    fn receive_some(batch: &mut ReceiveBatch, socket: &UdpSocket) -> usize {
        let deadline = clock::mono_now().saturating_add(Duration::from_secs(5));
        let mut set = PollSet::new();
        set.add(socket, Interest::READ, ());
        loop {
            match batch.receive(socket) {
                Ok(count) => return count,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(clock::mono_now() < deadline, "nothing came");
            set.wait(Some(deadline)).unwrap();
        }
    }

    fn echo(local: &str) {
        let options = UdpOptions { packet_info: true, ..UdpOptions::default() };
        let server = UdpSocket::bound_to(local.parse().unwrap(), &options).unwrap();
        let client = UdpSocket::bound_to(local.parse().unwrap(), &options).unwrap();
        let (mut inward, mut outward) = (ReceiveBatch::new(4, 8), SendBatch::new(4, 8));
        for text in [&b"one"[..], b"four", b"a long one"] {
            client.send_to(text, server.local_addr().unwrap(), None).unwrap();
        }
        let mut seen = 0;
        while seen < 3 {
            seen += receive_some(&mut inward, &server);
            for request in inward.datagrams() {
                assert_eq!(request.truncated, request.octets == b"a long o");
                assert_eq!(request.from, client.local_addr().unwrap());
                assert_eq!(request.destination.unwrap().address, server.local_addr().unwrap().ip());
                outward.push(request.from, request.destination, |buffer| {
                    buffer[..request.octets.len()].copy_from_slice(request.octets);
                    request.octets.len()
                });
            }
            let waiting = outward.len();
            assert_eq!(outward.send(&server), SendOutcome { sent: waiting, failed: 0 });
        }
        let mut answers = Vec::new();
        while answers.len() < 3 {
            receive_some(&mut inward, &client);
            answers.extend(inward.datagrams().map(|answer| answer.octets.to_vec()));
        }
        assert_eq!(answers, [&b"one"[..], b"four", b"a long o"]);
        assert!(outward.is_empty());
    }

    #[test]
    fn a_batch_is_answered_over_ipv4() {
        echo("127.0.0.1:0");
    }

    #[test]
    fn a_batch_is_answered_over_ipv6() {
        echo("[::1]:0");
    }

    #[test]
    fn a_refused_datagram_does_not_keep_back_the_others() {
        let socket = UdpSocket::bound_to("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
        let good = socket.local_addr().unwrap();
        let bad = "[::1]:9".parse().unwrap(); // another family than the socket's
        let mut batch = SendBatch::new(3, 8);
        let one = |buffer: &mut [u8]| {
            buffer[0] = 1;
            1
        };
        assert!([bad, good, bad].into_iter().all(|to| batch.push(to, None, one)));
        assert!(!batch.push(good, None, |_| unreachable!("all slots are taken")));
        assert_eq!(batch.send(&socket), SendOutcome { sent: 1, failed: 2 });
    }
}
