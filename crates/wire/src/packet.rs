//! A whole packet: header, extension fields, MAC. RFC 5905 §7.3, RFC 7822 §3.

use crate::{DecodeError, EXTENSION_FIELD_HEADER_OCTETS, ExtensionFields, HEADER_OCTETS, Header};

/// Octets of a MAC's key identifier, and of a crypto-NAK, which is nothing else. RFC 5905 §7.3.
pub const KEY_ID_OCTETS: usize = 4;
/// The shortest extension field that may end a packet which has no MAC. RFC 7822 §3 (7.5.1.4).
pub const LAST_FIELD_OCTETS_MIN: usize = 28;

/// The message authentication code at the end of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mac<'a> {
    /// Which key it was made with.
    pub key_id: u32,
    /// 16 or 20 octets in version 4, up to 64 before it; empty in a crypto-NAK.
    pub digest: &'a [u8],
}

impl Mac<'_> {
    /// Whether this is a crypto-NAK: a key identifier of zero and nothing behind it. RFC 5905 §7.3.
    #[must_use]
    pub const fn is_crypto_nak(&self) -> bool {
        self.key_id == 0 && self.digest.is_empty()
    }
}

/// A packet of version 1 to 4 whose every octet is accounted for.
///
/// Where the fields end and the MAC begins is decided here, once, by what RFC 7822 §3 says about the octets that remain
/// behind the header and behind each field:
///
/// ```text
/// remaining   version 4                          versions 1 to 3
///         0   end of the packet                  end of the packet
///         4   crypto-NAK                         crypto-NAK
///    20, 24   MAC of 16 or 20 octets             MAC of 16 or 20 octets
/// 36, 52, 68  an extension field                 MAC of 32, 48 or 64 octets
///     >= 28   an extension field                 refused
///     other   refused                            refused
/// ```
///
/// The longer MACs of version 3 are what chrony sends when a digest has more than 20 octets; version 4 cuts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// The first 48 octets, decoded.
    pub header: Header,
    octets: &'a [u8],
    fields_end: usize,
}

impl<'a> Packet<'a> {
    /// Reads a packet and checks that header, fields and MAC fill it.
    ///
    /// # Errors
    /// What [`Header::decode`] refuses; [`DecodeError::FieldLength`] for a field of an impossible length;
    /// [`DecodeError::Trailer`] for octets at the end that are neither a field nor a MAC.
    pub fn parse(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let header = Header::decode(octets)?;
        let fields_end = if header.version == 4 { fields_end(octets)? } else { HEADER_OCTETS };
        if is_mac_length(octets.len() - fields_end, header.version) {
            Ok(Self { header, octets, fields_end })
        } else {
            Err(DecodeError::Trailer)
        }
    }

    /// The whole packet.
    #[must_use]
    pub const fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// The extension fields; each of them is well-formed. Offsets count from the start of the packet.
    #[must_use]
    pub fn fields(&self) -> ExtensionFields<'a> {
        ExtensionFields::new(&self.octets[..self.fields_end], HEADER_OCTETS)
    }

    /// Where the fields end, in octets from the start: what a MAC covers, and where it begins.
    #[must_use]
    pub const fn fields_end(&self) -> usize {
        self.fields_end
    }

    /// The MAC, if there is one.
    #[must_use]
    pub fn mac(&self) -> Option<Mac<'a>> {
        let (key_id, digest) = self.octets[self.fields_end..].split_first_chunk::<KEY_ID_OCTETS>()?;
        Some(Mac { key_id: u32::from_be_bytes(*key_id), digest })
    }
}

/// Walks over the fields of a version 4 packet up to where a MAC begins.
fn fields_end(octets: &[u8]) -> Result<usize, DecodeError> {
    let mut offset = HEADER_OCTETS;
    while octets.len() - offset >= LAST_FIELD_OCTETS_MIN {
        let field = ExtensionFields::new(octets, offset).next().ok_or(DecodeError::FieldLength)??;
        debug_assert!(field.end() >= offset + EXTENSION_FIELD_HEADER_OCTETS);
        offset = field.end();
    }
    Ok(offset)
}

/// Whether `octets` behind the fields are a MAC, a crypto-NAK or nothing.
const fn is_mac_length(octets: usize, version: u8) -> bool {
    matches!(octets, 0 | 4 | 20 | 24) || version < 4 && matches!(octets, 36 | 52 | 68)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn packet(version: u8, trailer: &[u8]) -> Vec<u8> {
        let mut octets = std::vec![0; HEADER_OCTETS];
        octets[0] = version << 3 | 3;
        octets.extend_from_slice(trailer);
        octets
    }

    fn field(octets: u16) -> Vec<u8> {
        let mut field = std::vec![0x2f, 0x01];
        field.extend_from_slice(&octets.to_be_bytes());
        field.resize(usize::from(octets), 0xa5);
        field
    }

    #[test]
    fn a_version_4_packet_may_end_in_a_mac_of_16_or_20_octets_or_a_crypto_nak() {
        for (octets, digest) in [(4, 0), (20, 16), (24, 20)] {
            let octets = packet(4, &std::vec![7; octets]);
            let parsed = Packet::parse(&octets).expect("these lengths are MACs");
            assert_eq!((parsed.fields().count(), parsed.fields_end()), (0, 48));
            let mac = parsed.mac().expect("there is a MAC");
            assert_eq!((mac.key_id, mac.digest.len(), mac.is_crypto_nak()), (0x0707_0707, digest, false));
        }
        assert!(Packet::parse(&packet(4, &[0; 4])).unwrap().mac().unwrap().is_crypto_nak());
    }

    #[test]
    fn other_trailers_of_a_version_4_packet_are_refused() {
        for octets in [1, 2, 3, 5, 8, 12, 16, 19, 21, 23, 25, 27] {
            assert_eq!(
                Packet::parse(&packet(4, &std::vec![0; octets])),
                Err(DecodeError::Trailer),
                "{octets}"
            );
        }
        for octets in [28, 36, 52, 68] {
            assert_eq!(
                Packet::parse(&packet(4, &std::vec![0; octets])),
                Err(DecodeError::FieldLength),
                "{octets}"
            );
        }
    }

    #[test]
    fn the_last_field_without_a_mac_has_at_least_28_octets() {
        assert_eq!(Packet::parse(&packet(4, &field(28))).map(|p| p.fields().count()), Ok(1));
        assert_eq!(Packet::parse(&packet(4, &field(16))), Err(DecodeError::Trailer));
        let both = [field(16), field(28)].concat();
        assert_eq!(Packet::parse(&packet(4, &both)).map(|p| p.fields().count()), Ok(2));
        let with_mac = [field(16), std::vec![1; 24]].concat();
        let octets = packet(4, &with_mac);
        let parsed = Packet::parse(&octets).expect("a field and a MAC");
        assert_eq!((parsed.fields().count(), parsed.fields_end()), (1, 64));
        assert_eq!(parsed.mac().map(|mac| mac.digest.len()), Some(20));
    }

    #[test]
    fn before_version_4_there_are_no_fields_and_digests_are_whole() {
        for (octets, digest) in [(20, 16), (24, 20), (36, 32), (52, 48), (68, 64)] {
            let octets = packet(3, &std::vec![1; octets]);
            assert_eq!(Packet::parse(&octets).unwrap().mac().map(|mac| mac.digest.len()), Some(digest));
        }
        assert_eq!(Packet::parse(&packet(3, &field(28))), Err(DecodeError::Trailer));
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_a_packet_or_an_error(version in 0u8..8, trailer in proptest::collection::vec(0u8..=255, 0..300)) {
            let octets = packet(version, &trailer);
            if let Ok(parsed) = Packet::parse(&octets) {
                let fields: usize = parsed.fields().map(|field| field.expect("checked by parse").body.len() + 4).sum();
                let mac = parsed.mac().map_or(0, |mac| mac.digest.len() + 4);
                proptest::prop_assert_eq!(HEADER_OCTETS + fields + mac, octets.len());
            }
        }
    }
}
