//! Frames of load: Ethernet, IPv4 and UDP around an NTP request, from many addresses and ports.

use crate::sandbox::{SERVER_LOAD_ADDRESS, SOURCES};

const HEADERS_OCTETS: usize = 14 + 20 + 8;
/// Where the octets of the address are that clients differ in.
pub(crate) const ADDRESS_AT: i16 = 28;
/// Where the port of the client is.
pub(crate) const PORT_AT: i16 = 34;
/// Where the checksum of the IPv4 header is.
pub(crate) const CHECKSUM_AT: i16 = 24;
const NTP_PORT: u16 = 123;

/// A frame with `payload` to the server's NTP port, from the client with this number: 65,536 addresses, and ports that
/// change with the address.
pub(crate) fn frame(server_mac: [u8; 6], client: u16, payload: &[u8]) -> Vec<u8> {
    let udp_octets = u16::try_from(8 + payload.len()).expect("a request fits a datagram");
    let [high, low] = client.to_be_bytes();
    let mut ip = [0u8; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(20 + udp_octets).to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&[SOURCES[0], SOURCES[1], high, low]);
    ip[16..].copy_from_slice(&SERVER_LOAD_ADDRESS);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(HEADERS_OCTETS + payload.len());
    frame.extend(server_mac);
    frame.extend([2, 0, 0, 0, 0, 0x98, 8, 0]);
    frame.extend(ip);
    frame.extend((1024 + client % 60_000).to_be_bytes());
    frame.extend(NTP_PORT.to_be_bytes());
    frame.extend(udp_octets.to_be_bytes());
    frame.extend([0, 0]); // no checksum, as IPv4 allows
    frame.extend(payload);
    frame
}

/// Client and payload of a frame that a server sent us, if it is UDP over IPv4 from the NTP port to one of our addresses.
pub(crate) fn payload(frame: &[u8]) -> Option<(u16, &[u8])> {
    let is_ntp =
        frame.get(12..14)? == [8, 0] && *frame.get(23)? == 17 && frame.get(34..36)? == NTP_PORT.to_be_bytes();
    let client = frame.get(30..34)?.strip_prefix(&SOURCES)?.try_into().map(u16::from_be_bytes).ok()?;
    if is_ntp { Some((client, frame.get(HEADERS_OCTETS..)?)) } else { None }
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_sums_to_zero_and_the_payload_is_found() {
        let frame = frame([1; 6], 0x1234, &[7; 48]);
        assert_eq!(checksum(&frame[14..34]), 0);
        assert_eq!(frame[26..30], [10, 98, 0x12, 0x34]);
        let mut answer = frame.clone();
        answer[34..36].copy_from_slice(&NTP_PORT.to_be_bytes());
        answer[30..34].copy_from_slice(&[10, 98, 0x12, 0x34]);
        assert_eq!(payload(&answer), Some((0x1234, &[7; 48][..])));
        assert_eq!(payload(&frame), None);
        assert_eq!(payload(&answer[..20]), None);
    }
}
