//! Many datagrams in one system call: what a server receives, and what it answers.
//!
//! A [`ServerBatch`] belongs to one thread. It receives up to so many requests at once, gives room for an answer beside
//! each of them, and sends the answers back to where the requests came from, from the address that was asked.

use crate::address::RawAddress;
use crate::clock;
use crate::control_message::{self, ControlBuffer};
use crate::descriptor::{check, set_option, zeroed};
use crate::udp::{HardwareStamp, LocalAddress, Timestamped, UdpSocket, best_stamp};
use chime_time::ClockReading;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

/// Octets of control data for one received datagram: a timestamp (64), a card (32) and an address (40).
const RECEIVED_CONTROL_OCTETS: usize = 192;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct ReceivedControlBuffer([u8; RECEIVED_CONTROL_OCTETS]);

/// A request in a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchedRequest<'a> {
    /// What was sent, at most as many octets as the batch has room for.
    pub octets: &'a [u8],
    /// Whether it was longer than that.
    pub truncated: bool,
    /// Who sent it.
    pub from: SocketAddr,
    /// When it arrived; the kernel's stamp where there is one.
    pub received: Timestamped,
    /// When the network card saw it.
    pub hardware: Option<HardwareStamp>,
    /// What an answer has to be sent from, where the kernel told.
    pub destination: Option<LocalAddress>,
}

/// Requests that were received together, and their answers.
pub struct ServerBatch {
    room_octets: usize,
    requests: Box<[u8]>,
    answers: Box<[u8]>,
    addresses: Box<[RawAddress]>,
    received_controls: Box<[ReceivedControlBuffer]>,
    answer_controls: Box<[ControlBuffer]>,
    received_parts: Box<[libc::iovec]>,
    answer_parts: Box<[libc::iovec]>,
    received_headers: Box<[libc::mmsghdr]>,
    answer_headers: Box<[libc::mmsghdr]>,
    /// Which request each of the queued answers belongs to.
    queued: Vec<usize>,
    /// How many requests there are.
    received: usize,
    /// How many of the headers the kernel has written to, so that they must be written anew.
    used: usize,
    now: ClockReading,
}

// SAFETY: the pointers in the headers and parts are only ever followed by the kernel, during calls that borrow the
// whole value mutably; they point to memory that the value owns and that does not move with it.
unsafe impl Send for ServerBatch {}

impl std::fmt::Debug for ServerBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerBatch({} received, {} answers queued)", self.received, self.queued.len())
    }
}

impl ServerBatch {
    /// Room for `requests` (at least 1, at most 1024) of `octets` each, and for answers of the same length. It is all
    /// the memory that is ever taken.
    #[must_use]
    pub fn new(requests: usize, octets: usize) -> Self {
        let slots = requests.clamp(1, 1024);
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: mmsghdr is plain old data, for which all zeroes is a valid value.
        let header: libc::mmsghdr = unsafe { zeroed() };
        Self {
            room_octets: octets,
            requests: vec![0; slots * octets].into(),
            answers: vec![0; slots * octets].into(),
            addresses: vec![RawAddress::empty(); slots].into(),
            received_controls: vec![ReceivedControlBuffer([0; RECEIVED_CONTROL_OCTETS]); slots].into(),
            answer_controls: vec![ControlBuffer::new(); slots].into(),
            received_parts: vec![part; slots].into(),
            answer_parts: vec![part; slots].into(),
            received_headers: vec![header; slots].into(),
            answer_headers: vec![header; slots].into(),
            queued: Vec::with_capacity(slots),
            received: 0,
            used: slots,
            now: clock::read(),
        }
    }

    /// How many requests the batch has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.addresses.len()
    }

    /// The clocks as they were read after the last [`Self::receive`].
    #[must_use]
    pub const fn now(&self) -> ClockReading {
        self.now
    }

    /// Receives what waits on the socket, at most as many as there is room for, without waiting; gives how many. What
    /// the batch held before is forgotten.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.queued.clear();
        self.received = 0;
        self.renew_headers();
        let slots = libc::c_uint::try_from(self.capacity()).unwrap_or(1);
        // SAFETY: each header points to a part, an address and a control buffer of this value, with their lengths;
        // they are alive and borrowed mutably during the call.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.received_headers.as_mut_ptr(),
                slots,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        match check(result) {
            Ok(received) => {
                self.received = usize::try_from(received).unwrap_or(0).min(self.capacity());
                self.used = self.received;
                self.now = clock::read();
                Ok(self.received)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Request number `index` of those received, and the room for its answer. `None` when there is no such request, or
    /// when the kernel gave no address for it.
    pub fn exchange(&mut self, index: usize) -> Option<(BatchedRequest<'_>, &mut [u8])> {
        self.exchanges(index)
            .next()
            .filter(|(number, ..)| *number == index)
            .map(|(_, request, room)| (request, room))
    }

    /// The requests from number `first` on, each with its number and the room for its answer; those for which the kernel
    /// gave no address are left out.
    pub fn exchanges(
        &mut self,
        first: usize,
    ) -> impl Iterator<Item = (usize, BatchedRequest<'_>, &mut [u8])> + '_ {
        let (room_octets, now, received) = (self.room_octets, self.now, self.received);
        let requests = self.requests.chunks_exact(room_octets.max(1));
        let rooms = self.answers.chunks_exact_mut(room_octets.max(1));
        let received_parts = self.received_headers.iter().zip(&self.received_controls).zip(&self.addresses);
        let answer_parts = self.answer_headers.iter_mut().zip(&mut self.answer_controls);
        let all = requests.zip(rooms).zip(received_parts.zip(answer_parts)).enumerate();
        all.take(received).skip(first).filter_map(move |(number, (octets, kernel))| {
            let ((octets, room), (((header, control), address), (answer_header, answer_control))) =
                (octets, kernel);
            let mut address = *address;
            address.octets = header.msg_hdr.msg_namelen;
            let from = address.to_socket_addr()?;
            #[cfg_attr(target_env = "gnu", expect(clippy::unnecessary_cast, reason = "a u32 with musl"))]
            let control_octets = (header.msg_hdr.msg_controllen as usize).min(RECEIVED_CONTROL_OCTETS);
            let control = control_message::read(&control.0[..control_octets]);
            let source = control.destination.map(|destination| LocalAddress {
                address: destination.address,
                // Routing decides how an answer leaves, except where an address means nothing without its interface.
                interface: if is_link_local(destination.address) { destination.interface } else { 0 },
            });
            let source_octets =
                source.map_or(0, |source| control_message::write_source(answer_control, source));
            answer_header.msg_hdr.msg_controllen = source_octets as _;
            let length = usize::try_from(header.msg_len).unwrap_or(0).min(octets.len());
            let request = BatchedRequest {
                octets: &octets[..length],
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                from,
                received: best_stamp(&control, now),
                hardware: control.hardware_stamp(),
                destination: source,
            };
            Some((number, request, room))
        })
    }

    /// Queues the first `octets` of the room beside request number `index` as its answer. A request is answered once;
    /// what does not belong to a request of this batch is ignored.
    pub fn answer(&mut self, index: usize, octets: usize) {
        if index < self.received && octets <= self.room_octets && self.queued.len() < self.queued.capacity() {
            self.answer_parts[index].iov_len = octets;
            self.queued.push(index);
        }
    }

    /// The same as [`Self::answer`], and the kernel is asked to tell on the socket's error queue when it left; needs
    /// [`UdpOptions::stamps_on_request`](crate::udp::UdpOptions). Call it after [`Self::exchange`] of the same request.
    /// `by_card`: by the network card, too.
    pub fn answer_stamped(&mut self, index: usize, octets: usize, by_card: bool) {
        if index < self.received {
            let header = &mut self.answer_headers[index].msg_hdr;
            #[cfg_attr(target_env = "gnu", expect(clippy::unnecessary_cast, reason = "a u32 with musl"))]
            let written = header.msg_controllen as usize;
            let written =
                control_message::append_stamp_request(&mut self.answer_controls[index], written, by_card);
            header.msg_controllen = written as _;
        }
        self.answer(index, octets);
    }

    /// How many answers are queued.
    #[must_use]
    pub const fn queued(&self) -> usize {
        self.queued.len()
    }

    /// The queued answers, each with the number of its request.
    pub fn answers_mut(&mut self) -> impl Iterator<Item = (usize, &mut [u8])> + '_ {
        let Self { answers, queued, answer_parts, room_octets, .. } = self;
        // Requests are answered in the order in which they came, so the rooms follow each other.
        let first = queued.first().copied().unwrap_or(0);
        let mut rooms = answers.chunks_exact_mut((*room_octets).max(1)).enumerate().skip(first);
        queued.iter().filter_map(move |index| {
            let (_, room) = rooms.find(|(at, _)| at == index)?;
            Some((*index, &mut room[..answer_parts[*index].iov_len]))
        })
    }

    /// Sends the queued answers; gives how many the kernel did not take. Never waits and never tries again: an answer
    /// that is late is worth nothing.
    pub fn send(&mut self, socket: &UdpSocket) -> usize {
        let total = self.queued.len();
        for (at, index) in self.queued.iter().copied().enumerate() {
            // Answers move up to be next to each other: `at` is never greater than `index`.
            let address = &mut self.addresses[index];
            let part = &mut self.answer_parts[index];
            part.iov_base = self.answers[index * self.room_octets..].as_mut_ptr().cast();
            let control_octets = self.answer_headers[index].msg_hdr.msg_controllen;
            let header = &mut self.answer_headers[at].msg_hdr;
            header.msg_name = address.as_mut_ptr().cast();
            header.msg_namelen = self.received_headers[index].msg_hdr.msg_namelen;
            header.msg_iov = &raw mut *part;
            header.msg_iovlen = 1;
            header.msg_controllen = control_octets;
            header.msg_control = match control_octets {
                0 => std::ptr::null_mut(),
                _ => self.answer_controls[index].0.as_mut_ptr().cast(),
            };
        }
        self.queued.clear();
        send_all(socket, &mut self.answer_headers[..total])
    }

    /// Writes the headers that the kernel has changed since they were last written.
    fn renew_headers(&mut self) {
        for index in 0..self.used {
            let part = &mut self.received_parts[index];
            part.iov_base = self.requests[index * self.room_octets..].as_mut_ptr().cast();
            part.iov_len = self.room_octets;
            let address = &mut self.addresses[index];
            let header = &mut self.received_headers[index].msg_hdr;
            header.msg_name = address.as_mut_ptr().cast();
            header.msg_namelen = crate::address::ADDRESS_OCTETS_MAX;
            header.msg_iov = &raw mut *part;
            header.msg_iovlen = 1;
            header.msg_control = self.received_controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = RECEIVED_CONTROL_OCTETS as _;
            header.msg_flags = 0;
        }
        self.used = 0;
    }
}

/// Sends one message; gives how many that were.
fn send_one(socket: &UdpSocket, header: &libc::mmsghdr) -> usize {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the caller has filled in the header; sendmsg only reads what it points to.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header.msg_hdr, flags) };
    usize::from(sent >= 0)
}

/// Sends messages, leaving out those that the kernel refuses; gives how many these are.
fn send_all(socket: &UdpSocket, mut headers: &mut [libc::mmsghdr]) -> usize {
    let mut refused = 0;
    while !headers.is_empty() {
        let count = libc::c_uint::try_from(headers.len()).unwrap_or(1);
        let flags = (libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) as _;
        // SAFETY: the caller has filled in `count` headers; sendmmsg reads what they point to, writes their lengths.
        let result = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags) };
        let sent = match check(result) {
            Ok(sent) => usize::try_from(sent).unwrap_or(0),
            // Simulators that replace libc's calls have no batches: their descriptors are not the kernel's.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => send_one(socket, &headers[0]),
            Err(_) => 0,
        };
        // Less than all means that the next one was refused.
        let done = (sent + 1).min(headers.len());
        refused += done - sent.min(done);
        headers = &mut headers[done..];
    }
    refused
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Has the kernel choose among the sockets of a port ([`UdpOptions::reuse_port`](crate::udp::UdpOptions)) by the
/// address of the sender, so that each client always meets the same of the `sockets`, whatever port it asks from, and
/// a limit per address needs no memory shared between threads. `seed` keeps strangers from choosing whom they meet. To be
/// called on one socket of the group, when all are bound.
pub fn spread_by_sender(socket: &UdpSocket, sockets: u32, seed: u32) -> io::Result<()> {
    let filter = match socket.local_addr()? {
        SocketAddr::V4(_) => sender_filter(&[12], sockets, seed),
        SocketAddr::V6(_) => sender_filter(&[8, 12, 16, 20], sockets, seed),
    };
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // The kernel copies the program during the call.
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, program)
}

/// A classic BPF program: hashes the words at these offsets of the network header to a number below `sockets`.
fn sender_filter(offsets: &[u32], sockets: u32, seed: u32) -> Vec<libc::sock_filter> {
    /// `SKF_NET_OFF` of linux/filter.h: offsets from here count from the start of the network header.
    const NETWORK_HEADER: u32 = 0xfff0_0000;
    let step = |code: u32, k: u32| libc::sock_filter {
        #[expect(clippy::cast_possible_truncation, reason = "operation codes are below 256")]
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let mut program = vec![step(libc::BPF_LD | libc::BPF_IMM, seed), step(libc::BPF_MISC | libc::BPF_TAX, 0)];
    for offset in offsets {
        program.extend([
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NETWORK_HEADER + offset),
            step(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0),
            step(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, 0x9e37_79b1),
            step(libc::BPF_MISC | libc::BPF_TAX, 0),
            step(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 15),
            step(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0),
            step(libc::BPF_MISC | libc::BPF_TAX, 0),
        ]);
    }
    program.extend([
        step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, sockets.max(1)),
        step(libc::BPF_RET | libc::BPF_A, 0),
    ]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::{ErrorReport, TimestampSource, UdpOptions};
    use std::net::UdpSocket as StdSocket;
    use std::time::Duration;

    fn server(address: &str, reuse_port: bool) -> UdpSocket {
        let options = UdpOptions { packet_info: true, reuse_port, ..UdpOptions::default() };
        UdpSocket::bound_to(address.parse().unwrap(), &options).unwrap()
    }

    fn receive_some(batch: &mut ServerBatch, socket: &UdpSocket) -> usize {
        for _ in 0..200 {
            match batch.receive(socket).unwrap() {
                0 => std::thread::sleep(Duration::from_millis(5)),
                received => return received,
            }
        }
        0
    }

    #[test]
    fn requests_come_together_and_answers_go_back_from_the_address_that_was_asked() {
        for (any, asked, port_of) in [("0.0.0.0:0", "127.0.0.9", "127.0.0.1:0"), ("[::]:0", "::1", "[::1]:0")]
        {
            let Ok(client) = StdSocket::bind(port_of) else { continue };
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let socket = server(any, false);
            let to = SocketAddr::new(asked.parse().unwrap(), socket.local_addr().unwrap().port());
            let mut batch = ServerBatch::new(8, 64);
            for round in 0..3u8 {
                for n in 0..5u8 {
                    client.send_to(&[round, n, 7], to).unwrap();
                }
                assert_eq!(receive_some(&mut batch, &socket), 5);
                for index in [0, 2, 3] {
                    let (request, room) = batch.exchange(index).unwrap();
                    assert_eq!(request.octets, [round, u8::try_from(index).unwrap(), 7]);
                    assert_eq!((request.from, request.truncated), (client.local_addr().unwrap(), false));
                    assert!(request.received.source >= TimestampSource::Daemon);
                    room[..2].copy_from_slice(&request.octets[..2]);
                    batch.answer(index, 2);
                }
                for (index, answer) in batch.answers_mut() {
                    assert_eq!(usize::from(answer[1]), index);
                    answer[0] += 100;
                }
                assert_eq!(batch.send(&socket), 0);
                for index in [0, 2, 3] {
                    let mut answer = [0; 64];
                    let (octets, from) = client.recv_from(&mut answer).unwrap();
                    assert_eq!((&answer[..octets], from), (&[round + 100, index][..], to));
                }
            }
        }
    }

    #[test]
    fn the_kernel_tells_when_answers_left_that_asked_for_it() {
        let client = StdSocket::bind("127.0.0.1:0").unwrap();
        let options = UdpOptions { packet_info: true, stamps_on_request: true, ..UdpOptions::default() };
        let socket = UdpSocket::bound_to("0.0.0.0:0".parse().unwrap(), &options).unwrap();
        let to = SocketAddr::new("127.0.0.9".parse().unwrap(), socket.local_addr().unwrap().port());
        let mut batch = ServerBatch::new(8, 64);
        for round in 0..3u32 {
            for _ in 0..4 {
                client.send_to(&[1], to).unwrap();
            }
            assert_eq!(receive_some(&mut batch, &socket), 4);
            for index in 0..4 {
                batch.exchange(index).unwrap();
                if index % 2 == 1 { batch.answer_stamped(index, 1, false) } else { batch.answer(index, 1) }
            }
            let before = clock::read();
            assert_eq!(batch.send(&socket), 0);
            let mut numbers = Vec::new();
            for _ in 0..200 {
                match socket.recv_error() {
                    Ok(ErrorReport::Transmitted { number: Some(number), sent, .. }) => {
                        assert_eq!(sent.source, TimestampSource::Kernel);
                        assert!(sent.at.system >= before.system && sent.at.system <= clock::read().system);
                        numbers.push(number);
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(_) if numbers.len() == 2 => break,
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
            // After the restart in each round they count from 0.
            assert_eq!(numbers, [0, 1], "round {round}");
            socket.restart_stamp_numbers().unwrap();
        }
    }

    #[test]
    fn long_datagrams_are_cut_and_marked() {
        let client = StdSocket::bind("127.0.0.1:0").unwrap();
        let socket = server("127.0.0.1:0", false);
        client.send_to(&[1; 65], socket.local_addr().unwrap()).unwrap();
        let mut batch = ServerBatch::new(2, 64);
        assert_eq!(receive_some(&mut batch, &socket), 1);
        let (request, _) = batch.exchange(0).unwrap();
        assert_eq!((request.octets.len(), request.truncated), (64, true));
        assert!(batch.exchange(1).is_none());
        assert_eq!(batch.receive(&socket).unwrap(), 0);
    }

    #[test]
    fn answers_that_cannot_be_sent_are_left_out_and_the_others_go() {
        let clients = [(); 3].map(|()| StdSocket::bind("127.0.0.1:0").unwrap());
        let socket = server("127.0.0.1:0", false);
        for client in &clients {
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.send_to(&[1], socket.local_addr().unwrap()).unwrap();
        }
        let mut batch = ServerBatch::new(4, 70_000);
        assert_eq!(receive_some(&mut batch, &socket), 3);
        for (index, octets) in [(0, 1), (1, 70_000), (2, 1)] {
            batch.exchange(index).unwrap();
            batch.answer(index, octets);
        }
        assert_eq!(batch.send(&socket), 1);
        assert!(clients[0].recv(&mut [0; 8]).is_ok() && clients[2].recv(&mut [0; 8]).is_ok());
    }

    #[test]
    fn one_sender_always_meets_the_same_socket() {
        for (any, client) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")] {
            let Ok(_) = StdSocket::bind(client) else { continue };
            let first = server(any, true);
            let address = first.local_addr().unwrap();
            let second = server(&address.to_string(), true);
            for seed in 0..4 {
                spread_by_sender(&first, 2, seed * 77_777).unwrap();
                for _ in 0..16 {
                    StdSocket::bind(client).unwrap().send_to(&[1], address).unwrap();
                }
                std::thread::sleep(Duration::from_millis(50));
                let mut batch = ServerBatch::new(32, 64);
                let counts = [batch.receive(&first).unwrap(), batch.receive(&second).unwrap()];
                assert!(counts == [16, 0] || counts == [0, 16], "{counts:?}");
            }
        }
    }
}
