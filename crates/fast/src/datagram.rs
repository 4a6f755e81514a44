//! The frames that are handed over: Ethernet, IP and UDP around a request, and around its answer.
//!
//! The program has looked at most of it already. Workers look again, as nothing tells them which program it was, and at the
//! checksum besides, which takes reading all octets.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::Range;

const ETHERNET_OCTETS: usize = 14;
const UDP_OCTETS: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const HOPS: u8 = 64;
/// What a sum of words is that includes its own checksum.
const SUM_RIGHT: u16 = 0xffff;

/// Where in a frame its datagram is, and between whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// The sender.
    pub from: SocketAddr,
    /// Who was asked.
    pub to: SocketAddr,
    /// What was sent.
    pub payload: Range<usize>,
}

impl Datagram {
    /// Reads the headers of a frame. `None`: it is no UDP over IPv4 without options or fragments, or IPv6 without
    /// extension headers, its lengths do not fit, or a checksum is wrong.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (from, to, udp_at) = match frame.get(12..ETHERNET_OCTETS)? {
            [0x08, 0x00] => ipv4(frame)?,
            [0x86, 0xdd] => ipv6(frame)?,
            _ => return None,
        };
        let udp = frame.get(udp_at..)?;
        let header: &[u8; UDP_OCTETS] = udp.first_chunk()?;
        let [from_port, to_port, octets, checksum] = words(header);
        if usize::from(octets) != udp.len() || !is_sum_right(from, to, udp, checksum) {
            return None;
        }
        let payload = udp_at + UDP_OCTETS..frame.len();
        Some(Self { from: SocketAddr::new(from, from_port), to: SocketAddr::new(to, to_port), payload })
    }

    /// Writes the headers of an answer whose payload stands where that of the request does, and is so many octets long.
    /// Gives the length of the frame: at most that of the request's.
    #[must_use]
    pub fn write_headers(&self, request: &[u8], answer: &mut [u8], payload_octets: usize) -> Option<usize> {
        let udp_at = self.payload.start.checked_sub(UDP_OCTETS)?;
        let end = self.payload.start.checked_add(payload_octets).filter(|end| *end <= self.payload.end)?;
        let answer = answer.get_mut(..end)?;
        let udp_octets = u16::try_from(end - udp_at).ok()?;
        answer.get_mut(..6)?.copy_from_slice(request.get(6..12)?);
        answer.get_mut(6..12)?.copy_from_slice(request.get(..6)?);
        answer.get_mut(12..ETHERNET_OCTETS)?.copy_from_slice(request.get(12..ETHERNET_OCTETS)?);
        let ip = answer.get_mut(ETHERNET_OCTETS..udp_at)?;
        match (self.to.ip(), self.from.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => write_ipv4(ip, from, to, udp_octets)?,
            (IpAddr::V6(from), IpAddr::V6(to)) => write_ipv6(ip, from, to, udp_octets)?,
            _ => return None,
        }
        let udp = answer.get_mut(udp_at..)?;
        for (at, word) in [(0, self.to.port()), (2, self.from.port()), (4, udp_octets), (6, 0)] {
            udp.get_mut(at..at + 2)?.copy_from_slice(&word.to_be_bytes());
        }
        let sum = !fold(pseudo_header(self.to.ip(), self.from.ip(), udp.len()) + sum(udp));
        // 0 is written as the other zero. RFC 768.
        let sum = if sum == 0 { u16::MAX } else { sum };
        udp.get_mut(6..8)?.copy_from_slice(&sum.to_be_bytes());
        Some(end)
    }
}

/// The two addresses, and where UDP begins.
fn ipv4(frame: &[u8]) -> Option<(IpAddr, IpAddr, usize)> {
    let header: &[u8; 20] = frame.get(ETHERNET_OCTETS..)?.first_chunk()?;
    let [version, total, _, fragment, protocol, ..]: [u16; 10] = words(header);
    let is_good = version >> 8 == 0x45
        && usize::from(total) == frame.len() - ETHERNET_OCTETS
        && fragment & 0xbfff == 0
        && protocol & 0xff == u16::from(PROTOCOL_UDP)
        && fold(sum(header)) == SUM_RIGHT;
    let address = |at: usize| Some(Ipv4Addr::from(*header.get(at..)?.first_chunk::<4>()?));
    is_good.then_some((address(12)?.into(), address(16)?.into(), ETHERNET_OCTETS + header.len()))
}

/// The two addresses, and where UDP begins.
fn ipv6(frame: &[u8]) -> Option<(IpAddr, IpAddr, usize)> {
    let header: &[u8; 40] = frame.get(ETHERNET_OCTETS..)?.first_chunk()?;
    let [version, _, octets, next] = words(header);
    let is_good = version >> 12 == 6
        && usize::from(octets) == frame.len() - ETHERNET_OCTETS - header.len()
        && next >> 8 == u16::from(PROTOCOL_UDP);
    let address = |at: usize| Some(Ipv6Addr::from(*header.get(at..)?.first_chunk::<16>()?));
    is_good.then_some((address(8)?.into(), address(24)?.into(), ETHERNET_OCTETS + header.len()))
}

/// As the kernel makes them for answers of sockets: no class, nothing to put together again.
fn write_ipv4(header: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, udp_octets: u16) -> Option<()> {
    let header: &mut [u8; 20] = header.try_into().ok()?;
    let [high, low] = udp_octets.checked_add(20)?.to_be_bytes();
    header[..12].copy_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, HOPS, PROTOCOL_UDP, 0, 0]);
    header[12..16].copy_from_slice(&from.octets());
    header[16..].copy_from_slice(&to.octets());
    let sum = !fold(sum(header));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// No class and no flow label.
fn write_ipv6(header: &mut [u8], from: Ipv6Addr, to: Ipv6Addr, udp_octets: u16) -> Option<()> {
    let header: &mut [u8; 40] = header.try_into().ok()?;
    let [high, low] = udp_octets.to_be_bytes();
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, PROTOCOL_UDP, HOPS]);
    header[8..24].copy_from_slice(&from.octets());
    header[24..].copy_from_slice(&to.octets());
    Some(())
}

/// Words of 16 bits in the order of the network.
fn words<const OCTETS: usize, const WORDS: usize>(octets: &[u8; OCTETS]) -> [u16; WORDS] {
    let mut words = [0; WORDS];
    for (word, pair) in words.iter_mut().zip(octets.as_chunks::<2>().0) {
        *word = u16::from_be_bytes(*pair);
    }
    words
}

/// Whether the checksum of UDP is right, or not made: over IPv4 that may be left out. A virtual cable does not finish what
/// its sender leaves to network cards: then there is the sum of the addresses alone. What is damaged has that with no greater
/// probability than the right one.
fn is_sum_right(from: IpAddr, to: IpAddr, udp: &[u8], checksum: u16) -> bool {
    let pseudo = pseudo_header(from, to, udp.len());
    match checksum {
        0 => from.is_ipv4(),
        checksum => fold(pseudo + sum(udp)) == SUM_RIGHT || checksum == fold(pseudo),
    }
}

/// RFC 768, RFC 8200 §8.1.
fn pseudo_header(from: IpAddr, to: IpAddr, udp_octets: usize) -> u64 {
    let addresses = [from, to].map(|address| match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    });
    addresses.iter().sum::<u64>() + u64::from(PROTOCOL_UDP) + udp_octets as u64
}

/// The sum of words in the order of the network, not folded yet. RFC 1071.
fn sum(octets: &[u8]) -> u64 {
    let (chunks, rest) = octets.as_chunks::<4>();
    let sum: u64 = chunks.iter().map(|chunk| u64::from(u32::from_be_bytes(*chunk))).sum();
    let (pairs, last) = rest.as_chunks::<2>();
    let sum = sum + pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>();
    sum + last.iter().map(|octet| u64::from(*octet) << 8).sum::<u64>()
}

fn fold(mut sum: u64) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(folded) => return folded,
            Err(_) => sum = (sum & 0xffff) + (sum >> 16),
        }
    }
}
