//! The packet header. RFC 5905 §7.3.

use crate::DecodeError;
use chime_time::{NtpShort, NtpTimestamp};
use core::fmt;

/// Octets of the header, before extension fields and MAC.
pub const HEADER_OCTETS: usize = 48;

/// Warning of a leap second at the end of the month, or of a clock that is not synchronised. RFC 5905 figure 9.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LeapIndicator {
    /// No warning.
    #[default]
    NoWarning,
    /// The last minute of the month has 61 seconds.
    Insert,
    /// The last minute of the month has 59 seconds.
    Delete,
    /// The clock is not synchronised.
    Unsynchronized,
}

impl LeapIndicator {
    /// From the two bits of the header; higher bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::NoWarning,
            1 => Self::Insert,
            2 => Self::Delete,
            _ => Self::Unsynchronized,
        }
    }

    /// The two bits of the header.
    #[must_use]
    pub const fn to_bits(self) -> u8 {
        self as u8
    }
}

/// What a packet is for. RFC 5905 figure 10.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// 0, reserved.
    Reserved,
    /// 1, symmetric active.
    SymmetricActive,
    /// 2, symmetric passive.
    SymmetricPassive,
    /// 3, a client's request.
    Client,
    /// 4, a server's answer.
    Server,
    /// 5, broadcast.
    Broadcast,
    /// 6, NTP control message (RFC 9327).
    Control,
    /// 7, reserved for private use.
    Private,
}

impl Mode {
    /// From the three bits of the header; higher bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Reserved,
            1 => Self::SymmetricActive,
            2 => Self::SymmetricPassive,
            3 => Self::Client,
            4 => Self::Server,
            5 => Self::Broadcast,
            6 => Self::Control,
            _ => Self::Private,
        }
    }

    /// The three bits of the header.
    #[must_use]
    pub const fn to_bits(self) -> u8 {
        self as u8
    }
}

/// Who a server follows: an address or its hash, a code of four characters, or a kiss code. RFC 5905 §7.3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ReferenceId(pub [u8; 4]);

impl ReferenceId {
    /// The kiss code, when the stratum says that this is one.
    #[must_use]
    pub const fn kiss_code(self) -> KissCode {
        KissCode(self.0)
    }
}

impl fmt::Debug for ReferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// The four characters with which a server refuses. RFC 5905 §7.4, RFC 8915 §5.7.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KissCode(pub [u8; 4]);

impl KissCode {
    /// Access denied by the server: stop asking.
    pub const DENY: Self = Self(*b"DENY");
    /// Access denied by policy: stop asking.
    pub const RSTR: Self = Self(*b"RSTR");
    /// Too many requests: ask less often.
    pub const RATE: Self = Self(*b"RATE");
    /// The cookie or the authenticator was not accepted. RFC 8915 §5.7.
    pub const NTSN: Self = Self(*b"NTSN");
}

impl fmt::Debug for KissCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// The fields of an NTP packet before extension fields and MAC. RFC 5905 §7.3.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// |LI | VN  |Mode |    Stratum    |     Poll      |   Precision   |
/// |                          Root Delay                           |
/// |                       Root Dispersion                         |
/// |                         Reference ID                          |
/// |                  Reference Timestamp (64)                     |
/// |                   Origin Timestamp (64)                       |
/// |                   Receive Timestamp (64)                      |
/// |                  Transmit Timestamp (64)                      |
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Leap indicator.
    pub leap: LeapIndicator,
    /// Version number, 1 to 4.
    pub version: u8,
    /// Mode.
    pub mode: Mode,
    /// Stratum as it stands in the packet: 0 unspecified or kiss code, 1 primary, 2 to 15 secondary, 16 unsynchronised.
    pub stratum: u8,
    /// Poll exponent as it stands in the packet; log2 seconds, not clamped.
    pub poll: i8,
    /// Precision exponent as it stands in the packet; log2 seconds, not clamped.
    pub precision: i8,
    /// Round trip to the primary source.
    pub root_delay: NtpShort,
    /// Greatest error relative to the primary source.
    pub root_dispersion: NtpShort,
    /// Reference identifier or kiss code.
    pub reference_id: ReferenceId,
    /// When the server's clock was last set or corrected.
    pub reference: NtpTimestamp,
    /// T1 as the client sent it, in an answer.
    pub origin: NtpTimestamp,
    /// T2, when the request arrived, by the server's clock.
    pub receive: NtpTimestamp,
    /// T3 in an answer, T1 (or, from a careful client, random bits) in a request.
    pub transmit: NtpTimestamp,
}

impl Header {
    /// Reads the header at the start of `packet`.
    ///
    /// # Errors
    /// [`DecodeError::HeaderTruncated`] under 48 octets, [`DecodeError::Version`] outside of versions 1 to 4.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let octets: &[u8; HEADER_OCTETS] = packet.first_chunk().ok_or(DecodeError::HeaderTruncated)?;
        let version = octets[0] >> 3 & 7;
        if !(1..=4).contains(&version) {
            return Err(DecodeError::Version);
        }
        let word = |at: usize| [octets[at], octets[at + 1], octets[at + 2], octets[at + 3]];
        let timestamp = |at: usize| {
            let (high, low) = (u32::from_be_bytes(word(at)), u32::from_be_bytes(word(at + 4)));
            NtpTimestamp::from_bits(u64::from(high) << 32 | u64::from(low))
        };
        Ok(Self {
            leap: LeapIndicator::from_bits(octets[0] >> 6),
            version,
            mode: Mode::from_bits(octets[0]),
            stratum: octets[1],
            poll: octets[2].cast_signed(),
            precision: octets[3].cast_signed(),
            root_delay: NtpShort::from_bits(u32::from_be_bytes(word(4))),
            root_dispersion: NtpShort::from_bits(u32::from_be_bytes(word(8))),
            reference_id: ReferenceId(word(12)),
            reference: timestamp(16),
            origin: timestamp(24),
            receive: timestamp(32),
            transmit: timestamp(40),
        })
    }

    /// The header's 48 octets.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_OCTETS] {
        let mut octets = [0; HEADER_OCTETS];
        octets[0] = self.leap.to_bits() << 6 | (self.version & 7) << 3 | self.mode.to_bits();
        octets[1] = self.stratum;
        octets[2] = self.poll.cast_unsigned();
        octets[3] = self.precision.cast_unsigned();
        octets[4..8].copy_from_slice(&self.root_delay.to_bits().to_be_bytes());
        octets[8..12].copy_from_slice(&self.root_dispersion.to_bits().to_be_bytes());
        octets[12..16].copy_from_slice(&self.reference_id.0);
        octets[16..24].copy_from_slice(&self.reference.to_be_bytes());
        octets[24..32].copy_from_slice(&self.origin.to_be_bytes());
        octets[32..40].copy_from_slice(&self.receive.to_be_bytes());
        octets[40..48].copy_from_slice(&self.transmit.to_be_bytes());
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decoded_encodes_to_the_same_octets() {
        let mut packet = [0u8; 60];
        for (value, octet) in (0..).zip(packet.iter_mut()) {
            *octet = value;
        }
        packet[0] = 0xe3; // leap 3, version 4, mode 3
        let header = Header::decode(&packet).expect("48 octets of version 4 are a header");
        assert_eq!(header.mode, Mode::Client);
        assert_eq!(header.leap, LeapIndicator::Unsynchronized);
        assert_eq!(header.encode(), packet[..48]);
    }

    #[test]
    fn short_packets_and_strange_versions_are_refused() {
        assert_eq!(Header::decode(&[0x23; 47]), Err(DecodeError::HeaderTruncated));
        assert_eq!(Header::decode(&[0x03; 48]), Err(DecodeError::Version));
        assert_eq!(Header::decode(&[0x2b; 48]), Err(DecodeError::Version));
    }
}
