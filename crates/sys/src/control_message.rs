//! Control messages ("ancillary data") of `recvmsg` and `sendmsg`: timestamps, destination addresses, errors.
//!
//! The walk is done by hand and not with `CMSG_NXTHDR`, so that it is checked against the length that arrived and
//! never depends on the state of the buffer behind it.

use crate::address::{from_in_addr, in_addr};
use crate::clock::date_of;
use crate::udp::{HardwareStamp, LocalAddress};
use chime_time::NtpDate;
use std::mem;
use std::net::{IpAddr, Ipv6Addr};

/// Octets of control data that we give the kernel room for; the most that our options can produce is about 200.
pub(crate) const CONTROL_OCTETS_MAX: usize = 512;

/// Control data, aligned as its headers want it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct ControlBuffer(pub(crate) [u8; CONTROL_OCTETS_MAX]);

impl ControlBuffer {
    pub(crate) const fn new() -> Self {
        Self([0; CONTROL_OCTETS_MAX])
    }
}

/// What the control data of one received message said.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct ReceivedControl {
    /// Software timestamp of the kernel, on the system clock.
    pub(crate) kernel: Option<NtpDate>,
    /// Raw hardware timestamp, on the network card's own clock.
    pub(crate) hardware: Option<NtpDate>,
    /// The card that made it and the length of its frame, where the kernel tells.
    pub(crate) card: Option<CardInfo>,
    /// The address the datagram was sent to, and the interface it came in by.
    pub(crate) destination: Option<LocalAddress>,
    /// What the error queue says about the message.
    pub(crate) error: Option<ExtendedError>,
}

/// The fields of `sock_extended_err` that matter to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ExtendedError {
    pub(crate) errno: u32,
    pub(crate) origin: u8,
    pub(crate) data: u32,
}

/// `struct scm_ts_pktinfo` of linux/net_tstamp.h.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CardInfo {
    /// The number of the interface whose card stamped, which a bridge or a bond would hide.
    pub(crate) interface: u32,
    /// The length of the frame in octets, without its check sum.
    pub(crate) frame_octets: u32,
    reserved: [u32; 2],
}

/// `SCM_TIMESTAMPING_PKTINFO` of asm-generic/socket.h.
const SCM_TIMESTAMPING_PKTINFO: libc::c_int = 58;

impl ReceivedControl {
    /// The hardware stamp with what is known of where it was made.
    pub(crate) fn hardware_stamp(&self) -> Option<HardwareStamp> {
        let at = self.hardware?;
        let by_address = self.destination.map_or(0, |destination| destination.interface);
        let (interface, frame_octets) = match self.card {
            Some(card) if card.interface != 0 => (card.interface, card.frame_octets),
            _ => (by_address, 0),
        };
        Some(HardwareStamp { at, interface, frame_octets })
    }
}

/// Reads the control messages in `control`, which holds exactly the octets that arrived.
pub(crate) fn read(control: &[u8]) -> ReceivedControl {
    let mut received = ReceivedControl::default();
    for (level, kind, data) in Messages(control) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                received.kernel = received.kernel.or_else(|| timespec(data, 0));
                received.hardware = received.hardware.or_else(|| timespec(data, 2));
            }
            (libc::SOL_SOCKET, SCM_TIMESTAMPING_PKTINFO) => received.card = plain::<CardInfo>(data),
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                received.kernel = received.kernel.or_else(|| timespec(data, 0));
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                received.destination = plain::<libc::in_pktinfo>(data).map(|info| LocalAddress {
                    address: IpAddr::V4(from_in_addr(info.ipi_addr)),
                    interface: u32::try_from(info.ipi_ifindex).unwrap_or(0),
                });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                received.destination = plain::<libc::in6_pktinfo>(data).map(|info| LocalAddress {
                    address: IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)),
                    interface: info.ipi6_ifindex,
                });
            }
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                received.error = plain::<libc::sock_extended_err>(data).map(|error| ExtendedError {
                    errno: error.ee_errno,
                    origin: error.ee_origin,
                    data: error.ee_data,
                });
            }
            _ => {}
        }
    }
    received
}

/// Writes the control message that sets the source address of a datagram; returns the octets written.
pub(crate) fn write_source(control: &mut ControlBuffer, source: LocalAddress) -> usize {
    match source.address {
        IpAddr::V4(address) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: i32::try_from(source.interface).unwrap_or(0),
                ipi_spec_dst: in_addr(address),
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write(control, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(address) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                ipi6_ifindex: source.interface,
            };
            write(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

/// Appends the control message that asks for a transmit timestamp of one datagram; returns the octets written so far.
/// `hardware`: by the network card, too.
pub(crate) fn append_stamp_request(control: &mut ControlBuffer, written: usize, hardware: bool) -> usize {
    let by_card = if hardware { libc::SOF_TIMESTAMPING_TX_HARDWARE } else { 0 };
    let wish = libc::SOF_TIMESTAMPING_TX_SOFTWARE | by_card;
    write_at(control, written, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, wish)
}

const HEADER_OCTETS: usize = mem::size_of::<libc::cmsghdr>();

/// Header and data are each padded to the size of a long, on every Linux target.
const fn aligned(octets: usize) -> usize {
    octets.next_multiple_of(mem::size_of::<libc::c_ulong>())
}

fn write<T: Copy>(control: &mut ControlBuffer, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    write_at(control, 0, level, kind, value)
}

/// Writes a message behind the first `start` octets, which are whole messages; returns the octets written in all.
fn write_at<T: Copy>(
    control: &mut ControlBuffer,
    start: usize,
    level: libc::c_int,
    kind: libc::c_int,
    value: T,
) -> usize {
    let data = aligned(HEADER_OCTETS);
    let total = data + aligned(mem::size_of::<T>());
    assert!(start + total <= CONTROL_OCTETS_MAX, "the structures take some dozen octets");
    control.0[start..start + total].fill(0);
    // SAFETY: cmsghdr is plain old data, for which all zeroes is a valid value.
    let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
    #[cfg_attr(
        not(target_env = "gnu"),
        expect(clippy::cast_possible_truncation, reason = "some dozen octets")
    )]
    {
        header.cmsg_len = (data + mem::size_of::<T>()) as _;
    }
    header.cmsg_level = level;
    header.cmsg_type = kind;
    // SAFETY: both values lie within the buffer, as asserted above; the writes need no alignment.
    unsafe {
        control.0.as_mut_ptr().add(start).cast::<libc::cmsghdr>().write_unaligned(header);
        control.0.as_mut_ptr().add(start + data).cast::<T>().write_unaligned(value);
    }
    start + total
}

/// Walks over (level, type, data) of control messages.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (libc::c_int, libc::c_int, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = plain::<libc::cmsghdr>(self.0)?;
        #[cfg_attr(target_env = "gnu", expect(clippy::unnecessary_cast, reason = "a u32 with musl"))]
        let length = header.cmsg_len as usize;
        let data = self.0.get(aligned(HEADER_OCTETS)..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((header.cmsg_level, header.cmsg_type, data))
    }
}

/// The structure at the start of `data`, when it is long enough.
fn plain<T: KernelStructure>(data: &[u8]) -> Option<T> {
    if data.len() < mem::size_of::<T>() {
        return None;
    }
    // SAFETY: the octets are there, the read needs no alignment, and any octets are a valid value of these types.
    Some(unsafe { data.as_ptr().cast::<T>().read_unaligned() })
}

/// Structures made of integers only, so that any octets are a value.
///
/// # Safety
/// Implement only for such types.
unsafe trait KernelStructure: Copy {}
// SAFETY: integers only.
unsafe impl KernelStructure for libc::cmsghdr {}
// SAFETY: integers only.
unsafe impl KernelStructure for libc::in_pktinfo {}
// SAFETY: integers only.
unsafe impl KernelStructure for libc::in6_pktinfo {}
// SAFETY: integers only.
unsafe impl KernelStructure for libc::sock_extended_err {}
// SAFETY: integers only.
unsafe impl KernelStructure for libc::timespec {}
// SAFETY: integers only.
unsafe impl KernelStructure for CardInfo {}

/// The timestamp number `index` in `data`; all zeroes means that there is none.
fn timespec(data: &[u8], index: usize) -> Option<NtpDate> {
    let time = plain::<libc::timespec>(data.get(index * mem::size_of::<libc::timespec>()..)?)?;
    (time.tv_sec != 0 || time.tv_nsec != 0).then(|| date_of(&time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: Copy>(level: libc::c_int, kind: libc::c_int, value: T) -> Vec<u8> {
        let mut buffer = ControlBuffer::new();
        let octets = write(&mut buffer, level, kind, value);
        buffer.0[..octets].to_vec()
    }

    fn stamp(seconds: i64) -> libc::timespec {
        libc::timespec { tv_sec: seconds, tv_nsec: 5 }
    }

    #[test]
    fn timestamps_and_destination_are_read_from_one_buffer() {
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut control = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, [stamp(7), none, stamp(9)]);
        let source = LocalAddress { address: "192.0.2.7".parse().unwrap(), interface: 3 };
        let info = libc::in_pktinfo {
            ipi_ifindex: 3,
            ipi_spec_dst: in_addr([0; 4].into()),
            ipi_addr: in_addr([192, 0, 2, 7].into()),
        };
        control.extend(message(libc::IPPROTO_IP, libc::IP_PKTINFO, info));
        let received = read(&control);
        assert_eq!(received.kernel, Some(NtpDate::from_unix(7, 5)));
        assert_eq!(received.hardware, Some(NtpDate::from_unix(9, 5)));
        assert_eq!(received.destination, Some(source));
        let stamp = received.hardware_stamp().unwrap();
        assert_eq!((stamp.interface, stamp.frame_octets), (3, 0));
        let card = CardInfo { interface: 2, frame_octets: 90, reserved: [0; 2] };
        control.extend(message(libc::SOL_SOCKET, SCM_TIMESTAMPING_PKTINFO, card));
        let stamp = read(&control).hardware_stamp().unwrap();
        assert_eq!((stamp.interface, stamp.frame_octets), (2, 90), "behind a bridge");
    }

    #[test]
    fn no_length_makes_the_reader_leave_its_buffer() {
        let whole = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, stamp(7));
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]).kernel, None, "{cut}");
        }
        for length in [0usize, 1, 15, 16, 17, 4096, usize::MAX] {
            let mut lying = whole.clone();
            lying[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(read(&lying).kernel, None, "{length}");
        }
    }

    #[test]
    fn an_ipv6_source_is_written_as_the_kernel_reads_it() {
        let mut control = ControlBuffer::new();
        let source = LocalAddress { address: "2001:db8::7".parse().unwrap(), interface: 2 };
        let octets = write_source(&mut control, source);
        assert_eq!(read(&control.0[..octets]).destination, Some(source));
    }
}
