//! UDP sockets whose datagrams know when they came and went.
//!
//! Receive timestamps come from the kernel where it makes them, transmit timestamps through the socket's error
//! queue: wait for [`Readiness::errors`](crate::poll::Readiness) and call [`UdpSocket::recv_error`]. A socket for
//! one client exchange is [`UdpSocket::connected_to`]; a server's is [`UdpSocket::bound_to`].

use crate::address::{RawAddress, family_of, name_of};
use crate::clock;
use crate::control_message::{self, ControlBuffer, ReceivedControl};
use crate::descriptor::{bind_to_device, check, check_octets, set_option, socket, take_error, zeroed};
use chime_time::{ClockReading, NtpDate};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Who made a timestamp, from the coarsest to the finest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TimestampSource {
    /// We read the clock before sending or after receiving: scheduling delays are in it.
    Daemon,
    /// The kernel, when the datagram passed between its network stack and the driver.
    Kernel,
    /// The network card.
    Hardware,
}

/// An instant on both clocks, and who saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamped {
    /// The instant.
    pub at: ClockReading,
    /// Who saw it.
    pub source: TimestampSource,
}

/// A stamp of a network card, on the card's own clock: comparable with nothing else until that is related.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HardwareStamp {
    /// What the card's clock showed: for a received datagram when its frame began.
    pub at: NtpDate,
    /// The number of the card's interface; 0: not known.
    pub interface: u32,
    /// Octets of the frame, without its check sum; 0: not known.
    pub frame_octets: u32,
}

/// One of this machine's addresses, and the interface of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LocalAddress {
    /// The address that a datagram was sent to, or is to be sent from.
    pub address: IpAddr,
    /// The index of the interface; 0 lets the kernel choose.
    pub interface: u32,
}

/// What to ask of a new socket. What the kernel refuses of it is left out, but for the address.
#[derive(Clone, Debug, Default)]
pub struct UdpOptions {
    /// Ask the network card for its timestamps, too; they are on the card's own clock.
    pub hardware_timestamps: bool,
    /// Ask for transmit timestamps on the error queue.
    pub transmit_timestamps: bool,
    /// Let single datagrams ask for a transmit timestamp ([`ServerBatch::answer_stamped`](crate::batch::ServerBatch)).
    pub stamps_on_request: bool,
    /// Ask for the address each datagram was sent to, needed to answer from it.
    pub packet_info: bool,
    /// Allow broadcast addresses as destinations.
    pub broadcast: bool,
    /// How many routers multicast packets may pass; the kernel's usual value is 1: none.
    pub multicast_ttl: Option<u8>,
    /// Let the port be shared with connected sockets ([`UdpSocket::connected_from`]), which get what their peers send; both
    /// sides must want it (`SO_REUSEADDR`).
    pub share_port: bool,
    /// Let several sockets share the port, the kernel spreading clients over them (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Bind although the address is not there yet (`IP_FREEBIND`).
    pub free_bind: bool,
    /// Octets of the receive queue.
    pub receive_buffer: Option<u32>,
    /// Look for datagrams at the network card for so many microseconds before waiting for its interrupt (`SO_BUSY_POLL`);
    /// more than `net.core.busy_read` takes CAP_NET_ADMIN.
    pub busy_poll_micros: Option<u32>,
    /// The DSCP of outgoing datagrams: 0 to 63.
    pub dscp: Option<u8>,
    /// Send datagrams that routers do not cut to pieces (the DF bit of IPv4). Those need no identification (RFC 6864,
    /// section 4.1), of which making one that nobody can guess takes the kernel a twentieth of the time that an answer takes.
    pub unfragmented: bool,
    /// The interface to use.
    pub interface: Option<String>,
}

/// A received datagram; its octets are at the start of the buffer that was given.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// How many octets arrived, at most as many as the buffer holds.
    pub octets: usize,
    /// Whether the datagram was longer than the buffer.
    pub truncated: bool,
    /// Who sent it.
    pub from: SocketAddr,
    /// Where it was sent to, if [`UdpOptions::packet_info`] was asked for and granted.
    pub destination: Option<LocalAddress>,
    /// When it arrived.
    pub received: Timestamped,
    /// When the network card saw it.
    pub hardware: Option<HardwareStamp>,
}

/// Something that the error queue of a socket held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorReport {
    /// A datagram was handed to the network card at this time.
    Transmitted {
        /// The number of the datagram on its socket, from 0, where the kernel tells.
        number: Option<u32>,
        /// When it went.
        sent: Timestamped,
        /// When the network card sent it; in a report of its own, after the kernel's.
        hardware: Option<HardwareStamp>,
        /// The number of the interface by which it went; 0: not known.
        interface: u32,
    },
    /// The network says that a datagram could not be delivered. Anyone can forge that who guesses the ports.
    Undeliverable {
        /// The error number, as for `connect`: `ECONNREFUSED`, `EHOSTUNREACH`, …
        errno: i32,
        /// The destination of the datagram.
        to: Option<SocketAddr>,
    },
    /// A report of a kind that we did not ask for.
    Other,
}

/// Keeps the kernel's receive timestamps turned on for as long as the socket that it returns lives.
///
/// The kernel stamps arriving packets only while some socket wants it, and turns that on and off a moment late:
/// without this, an answer that comes within some microseconds to the only such socket has no stamp.
pub fn hold_timestamps() -> io::Result<UdpSocket> {
    let options = UdpOptions::default();
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let (stamp_flags, timestamps) = enable_timestamps(&fd, &options);
    Ok(UdpSocket { fd, stamp_flags, timestamps })
}

/// A UDP socket, nonblocking and closed on exec.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    /// What was granted of `SOF_TIMESTAMPING_*`; 0: at most the older `SO_TIMESTAMPNS`.
    stamp_flags: libc::c_uint,
    timestamps: bool,
}

impl UdpSocket {
    /// Opens a socket bound to `local`. An IPv6 socket takes IPv6 only.
    pub fn bound_to(local: SocketAddr, options: &UdpOptions) -> io::Result<Self> {
        let socket = Self::open(&local, options)?;
        socket.bind(local)?;
        Ok(socket)
    }

    /// Opens a socket that exchanges datagrams with `remote` only, from a source port that the kernel chooses at
    /// random (RFC 9109 §3), and from the address `local` if that is given. ICMP errors are reported to it.
    pub fn connected_to(remote: SocketAddr, local: Option<IpAddr>, options: &UdpOptions) -> io::Result<Self> {
        let socket = Self::open(&remote, options)?;
        socket.report_icmp(remote.is_ipv4());
        if let Some(local) = local {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        let raw = RawAddress::from(remote);
        // SAFETY: the pointer and the length describe `raw`, alive during the call.
        check(unsafe { libc::connect(socket.fd.as_raw_fd(), raw.as_ptr(), raw.octets) })?;
        Ok(socket)
    }

    /// Opens a socket that exchanges datagrams with `remote` only, from the given local address and port, which other sockets
    /// may serve for everybody else: those with [`UdpOptions::share_port`], also of other users.
    pub fn connected_from(local: SocketAddr, remote: SocketAddr, options: &UdpOptions) -> io::Result<Self> {
        let options = UdpOptions { share_port: true, reuse_port: false, ..options.clone() };
        let socket = Self::open(&remote, &options)?;
        socket.report_icmp(remote.is_ipv4());
        socket.bind(local)?;
        let raw = RawAddress::from(remote);
        // SAFETY: the pointer and the length describe `raw`, alive during the call.
        check(unsafe { libc::connect(socket.fd.as_raw_fd(), raw.as_ptr(), raw.octets) })?;
        Ok(socket)
    }

    /// Opens a socket that may send to anyone of the family, from a port of the kernel's choice.
    pub fn unconnected(ipv6: bool, options: &UdpOptions) -> io::Result<Self> {
        let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        Self::bound_to(SocketAddr::new(any, 0), options)
    }

    /// The same socket once more, for somebody who only sends.
    pub fn try_clone(&self) -> io::Result<Self> {
        let (stamp_flags, timestamps) = (self.stamp_flags, self.timestamps);
        Ok(Self { fd: self.fd.try_clone()?, stamp_flags, timestamps })
    }

    /// The local address and port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        name_of(self.fd.as_raw_fd(), libc::getsockname)
    }

    /// Whether the kernel granted receive timestamps.
    #[must_use]
    pub fn has_kernel_timestamps(&self) -> bool {
        self.timestamps
    }

    /// Sends one datagram to the connected peer; returns the clock as it was just before.
    pub fn send(&self, octets: &[u8]) -> io::Result<Timestamped> {
        self.send_message(octets, None, None)
    }

    /// Sends one datagram, from the local address `from` if that is given; returns the clock as it was just before.
    pub fn send_to(
        &self,
        octets: &[u8],
        to: SocketAddr,
        from: Option<LocalAddress>,
    ) -> io::Result<Timestamped> {
        self.send_message(octets, Some(to), from)
    }

    /// Receives one datagram. `WouldBlock` when there is none; `ConnectionRefused` and its like when the network
    /// reported an error since the last call.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        let message = self.receive(buffer, 0)?;
        let now = clock::read();
        let from = message.from.ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        Ok(Datagram {
            octets: message.octets,
            truncated: message.truncated,
            from,
            destination: message.control.destination,
            received: best_stamp(&message.control, now),
            hardware: message.control.hardware_stamp(),
        })
    }

    /// Whether the error queue has a report, or an error waits on the socket.
    #[must_use]
    pub fn has_report(&self) -> bool {
        self.poll_report(0)
    }

    fn poll_report(&self, millis: libc::c_int) -> bool {
        let mut one = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
        // SAFETY: the pointer is to one pollfd, alive during the call.
        let ready = unsafe { libc::poll(&raw mut one, 1, millis) };
        ready > 0 && one.revents & (libc::POLLPRI | libc::POLLERR) != 0
    }

    /// Takes one report from the error queue; call it once for each time that poll tells of errors.
    /// `WouldBlock` when there is none.
    pub fn recv_error(&self) -> io::Result<ErrorReport> {
        // Room for a whole datagram: kernels and simulators that do not know the wish for the timestamp alone
        // loop the frame back.
        let mut looped = [0; 2048];
        match self.receive(&mut looped, libc::MSG_ERRQUEUE) {
            Ok(message) => Ok(report_of(&message.control, message.from, clock::read())),
            // An error can wait on the socket without a report; untaken, it would make poll return for ever.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match take_error(&self.fd)? {
                Some(pending) => Ok(ErrorReport::Undeliverable {
                    errno: pending.raw_os_error().unwrap_or(libc::EIO),
                    to: None,
                }),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Has the numbers of transmit stamps begin at 0 again: after a datagram that the kernel refused, nobody knows whether
    /// it had one. For sockets with [`UdpOptions::stamps_on_request`]; what is on the error queue keeps its number.
    pub fn restart_stamp_numbers(&self) -> io::Result<()> {
        let unnumbered = self.stamp_flags & !NUMBERED;
        set_option(&self.fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, unnumbered)?;
        set_option(&self.fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, self.stamp_flags)
    }

    /// Whether the network card's stamps were asked for and granted; which cards make some is another question.
    #[must_use]
    pub const fn wants_hardware_stamps(&self) -> bool {
        self.stamp_flags & libc::SOF_TIMESTAMPING_RAW_HARDWARE != 0
    }

    /// Waits until the error queue has a report, no longer than `limit`; gives whether it has.
    #[must_use]
    pub fn wait_for_report(&self, limit: std::time::Duration) -> bool {
        let millis = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        self.poll_report(millis)
    }

    fn open(address: &SocketAddr, options: &UdpOptions) -> io::Result<Self> {
        let fd = socket(family_of(address), libc::SOCK_DGRAM, 0)?;
        if address.is_ipv6() {
            set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        if options.share_port {
            set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        }
        if options.reuse_port {
            set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        if let Some(interface) = &options.interface {
            bind_to_device(&fd, interface)?;
        }
        if let Some(micros) = options.busy_poll_micros {
            set_option(&fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, micros)?;
        }
        let (stamp_flags, timestamps) = enable_timestamps(&fd, options);
        enable_extras(&fd, address.is_ipv4(), options);
        Ok(Self { fd, stamp_flags, timestamps })
    }

    fn bind(&self, local: SocketAddr) -> io::Result<()> {
        let raw = RawAddress::from(local);
        // SAFETY: the pointer and the length describe `raw`, alive during the call.
        check(unsafe { libc::bind(self.fd.as_raw_fd(), raw.as_ptr(), raw.octets) }).map(drop)
    }

    /// Has ICMP errors put on the error queue; without it only "connection refused" is told.
    fn report_icmp(&self, ipv4: bool) {
        let (level, name) = if ipv4 {
            (libc::IPPROTO_IP, libc::IP_RECVERR)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        };
        let _refused = set_option(&self.fd, level, name, 1);
    }

    fn send_message(
        &self,
        octets: &[u8],
        to: Option<SocketAddr>,
        from: Option<LocalAddress>,
    ) -> io::Result<Timestamped> {
        let mut address = to.map(RawAddress::from);
        let mut control = ControlBuffer::new();
        let mut part = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
        // SAFETY: msghdr is plain old data, for which all zeroes is a valid value.
        let mut header: libc::msghdr = unsafe { zeroed() };
        if let Some(address) = &mut address {
            header.msg_name = address.as_mut_ptr().cast();
            header.msg_namelen = address.octets;
        }
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if let Some(from) = from {
            header.msg_controllen = control_message::write_source(&mut control, from) as _;
            header.msg_control = control.0.as_mut_ptr().cast();
        }
        let before = clock::read_at_last();
        // SAFETY: every pointer in the header is to something alive during the call, with its length beside it;
        // sendmsg only reads.
        let sent = unsafe { libc::sendmsg(self.fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        match check_octets(sent)? {
            sent if sent == octets.len() => Ok(Timestamped { at: before, source: TimestampSource::Daemon }),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn receive(&self, buffer: &mut [u8], flags: libc::c_int) -> io::Result<Message> {
        let mut address = RawAddress::empty();
        let mut control = ControlBuffer::new();
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: msghdr is plain old data, for which all zeroes is a valid value.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_name = address.as_mut_ptr().cast();
        header.msg_namelen = address.octets;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        // SAFETY: every pointer in the header is to memory of the length beside it, alive during the call.
        let octets = check_octets(unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, flags) })?;
        address.octets = header.msg_namelen;
        #[cfg_attr(target_env = "gnu", expect(clippy::unnecessary_cast, reason = "a u32 with musl"))]
        let control_octets = (header.msg_controllen as usize).min(control.0.len());
        Ok(Message {
            octets: octets.min(buffer.len()),
            truncated: header.msg_flags & libc::MSG_TRUNC != 0,
            from: address.to_socket_addr(),
            control: control_message::read(&control.0[..control_octets]),
        })
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

struct Message {
    octets: usize,
    truncated: bool,
    from: Option<SocketAddr>,
    control: ReceivedControl,
}

/// The kernel's timestamp when there is one that belongs to this clock's recent past, our own reading otherwise.
pub(crate) fn best_stamp(control: &ReceivedControl, now: ClockReading) -> Timestamped {
    match control.kernel.and_then(|stamp| clock::place_stamp(stamp, now)) {
        Some(at) => Timestamped { at, source: TimestampSource::Kernel },
        None => Timestamped { at: now, source: TimestampSource::Daemon },
    }
}

/// `SO_EE_ORIGIN_*` of linux/errqueue.h.
const ORIGIN_TIMESTAMPING: u8 = 4;

fn report_of(control: &ReceivedControl, to: Option<SocketAddr>, now: ClockReading) -> ErrorReport {
    let stamped = control.kernel.is_some() || control.hardware.is_some();
    let interface = control.destination.map_or(0, |destination| destination.interface);
    match control.error {
        // The transmit stamp without its number is what a simulator gives.
        None if stamped => ErrorReport::Transmitted {
            number: None,
            sent: best_stamp(control, now),
            hardware: control.hardware_stamp(),
            interface,
        },
        Some(error) if error.origin == ORIGIN_TIMESTAMPING && stamped => ErrorReport::Transmitted {
            number: Some(error.data),
            sent: best_stamp(control, now),
            hardware: control.hardware_stamp(),
            interface,
        },
        Some(error) if error.origin != ORIGIN_TIMESTAMPING => {
            ErrorReport::Undeliverable { errno: i32::try_from(error.errno).unwrap_or(libc::EIO), to }
        }
        _ => ErrorReport::Other,
    }
}

/// Transmit stamps come with the number of their datagram, and without a copy of it.
const NUMBERED: libc::c_uint = libc::SOF_TIMESTAMPING_OPT_ID | libc::SOF_TIMESTAMPING_OPT_TSONLY;

/// With stamps of network cards, they come after the kernel's and not instead of them, and both with the interface; that
/// is told only with a copy of the datagram.
const FROM_CARDS: libc::c_uint = libc::SOF_TIMESTAMPING_RAW_HARDWARE
    | libc::SOF_TIMESTAMPING_RX_HARDWARE
    | libc::SOF_TIMESTAMPING_OPT_PKTINFO
    | libc::SOF_TIMESTAMPING_OPT_CMSG
    | libc::SOF_TIMESTAMPING_OPT_TX_SWHW;

/// Asks for timestamps, from the most wishes to the fewest; gives the flags that were granted, and whether there are receive
/// timestamps.
fn enable_timestamps(fd: &OwnedFd, options: &UdpOptions) -> (libc::c_uint, bool) {
    let mut flags = libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_RX_SOFTWARE;
    if options.transmit_timestamps {
        flags |= libc::SOF_TIMESTAMPING_TX_SOFTWARE | NUMBERED;
    } else if options.stamps_on_request {
        flags |= NUMBERED;
    }
    let mut hardware = flags & !libc::SOF_TIMESTAMPING_OPT_TSONLY | FROM_CARDS;
    if options.transmit_timestamps {
        hardware |= libc::SOF_TIMESTAMPING_TX_HARDWARE;
    }
    let wishes = if options.hardware_timestamps { hardware } else { flags };
    let least = libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_RX_SOFTWARE;
    let granted = [wishes, flags, least]
        .into_iter()
        .find(|wish| set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, *wish).is_ok());
    if granted.is_some() && options.transmit_timestamps {
        // So that poll tells of them as POLLPRI; POLLERR comes anyway.
        let _refused = set_option(fd, libc::SOL_SOCKET, libc::SO_SELECT_ERR_QUEUE, 1);
    }
    let receives = granted.is_some() || set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1).is_ok();
    (granted.unwrap_or(0), receives)
}

/// Options that are welcome but not needed.
fn enable_extras(fd: &OwnedFd, ipv4: bool, options: &UdpOptions) {
    let wish = |asked: bool, level, name, value: libc::c_int| {
        if asked {
            let _refused = set_option(fd, level, name, value);
        }
    };
    let traffic_class = options.dscp.map_or(0, |dscp| libc::c_int::from(dscp & 63) << 2);
    let has_dscp = options.dscp.is_some();
    if ipv4 {
        wish(options.packet_info, libc::IPPROTO_IP, libc::IP_PKTINFO, 1);
        wish(options.free_bind, libc::IPPROTO_IP, libc::IP_FREEBIND, 1);
        wish(has_dscp, libc::IPPROTO_IP, libc::IP_TOS, traffic_class);
        // What the network tells of the path can be forged, and is believed in neither case: RFC 9109 has company.
        let discovery = if options.unfragmented { libc::IP_PMTUDISC_PROBE } else { libc::IP_PMTUDISC_DONT };
        wish(true, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discovery);
    } else {
        wish(options.packet_info, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1);
        wish(options.free_bind, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, 1);
        wish(has_dscp, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, traffic_class);
    }
    wish(options.broadcast, libc::SOL_SOCKET, libc::SO_BROADCAST, 1);
    if let Some(ttl) = options.multicast_ttl {
        let (level, name) = if ipv4 {
            (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS)
        };
        wish(true, level, name, ttl.into());
    }
    if let Some(octets) = options.receive_buffer {
        wish(true, libc::SOL_SOCKET, libc::SO_RCVBUF, i32::try_from(octets).unwrap_or(i32::MAX));
    }
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;
