//! NTP control messages, mode 6: the header and where data and MAC lie. RFC 9327 §2.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |LI | VN  |Mode |R|E|M| opcode  |       Sequence Number         |
//! |            Status             |       Association ID          |
//! |            Offset             |            Count              |
//! |        Data, Count octets, padded with zeros                  |
//! |        MAC (optional)                                         |
//! ```

use crate::{DecodeError, KEY_ID_OCTETS, Mac, Mode};

/// Octets of the header.
pub const CONTROL_HEADER_OCTETS: usize = 12;

/// A control message: a request, or one fragment of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlMessage<'a> {
    /// Version as it stands in the packet; ntpq sends 2.
    pub version: u8,
    /// R: an answer.
    pub is_response: bool,
    /// E: an answer that is an error; the high octet of the status has its code.
    pub is_error: bool,
    /// M: more fragments of the answer follow.
    pub has_more: bool,
    /// What is asked for, 0 to 31.
    pub opcode: u8,
    /// Echoed in every fragment of the answer.
    pub sequence: u16,
    /// Status of the system or of the association; 0 in requests.
    pub status: u16,
    /// Which association is meant; 0 is the system.
    pub association_id: u16,
    /// Where in the whole answer this fragment's data belongs; octets.
    pub offset: u16,
    /// The data without padding.
    pub data: &'a [u8],
    mac_offset: usize,
    octets: &'a [u8],
}

impl<'a> ControlMessage<'a> {
    /// Reads a datagram of mode 6.
    ///
    /// # Errors
    /// [`DecodeError::HeaderTruncated`], [`DecodeError::Mode`] for another mode, [`DecodeError::Count`] when there is less
    /// data than the header says, [`DecodeError::Trailer`] for octets behind the data that are neither padding nor a MAC.
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, rest) =
            octets.split_first_chunk::<CONTROL_HEADER_OCTETS>().ok_or(DecodeError::HeaderTruncated)?;
        if Mode::from_bits(header[0]) != Mode::Control {
            return Err(DecodeError::Mode);
        }
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let data = rest.get(..usize::from(word(10))).ok_or(DecodeError::Count)?;
        Ok(Self {
            version: header[0] >> 3 & 7,
            is_response: header[1] & 0x80 != 0,
            is_error: header[1] & 0x40 != 0,
            has_more: header[1] & 0x20 != 0,
            opcode: header[1] & 0x1f,
            sequence: word(2),
            status: word(4),
            association_id: word(6),
            offset: word(8),
            data,
            mac_offset: mac_offset(octets, CONTROL_HEADER_OCTETS + data.len()).ok_or(DecodeError::Trailer)?,
            octets,
        })
    }

    /// What a MAC covers.
    #[must_use]
    pub fn authenticated_octets(&self) -> &'a [u8] {
        &self.octets[..self.mac_offset]
    }

    /// The MAC, if there is one.
    #[must_use]
    pub fn mac(&self) -> Option<Mac<'a>> {
        let (key_id, digest) = self.octets[self.mac_offset..].split_first_chunk::<KEY_ID_OCTETS>()?;
        Some(Mac { key_id: u32::from_be_bytes(*key_id), digest })
    }
}

/// Where the MAC begins, or the end of the message if it has none; `None` if neither fits.
///
/// Data is padded to a multiple of four, and by some senders to a multiple of eight when a MAC follows. If 24 octets could
/// be either padding and a short MAC or a long MAC, it is padding when they begin with zeros: no key has the number 0.
fn mac_offset(octets: &[u8], data_end: usize) -> Option<usize> {
    let is_mac = |start: usize| octets.len().checked_sub(start).is_some_and(|mac| matches!(mac, 20 | 24));
    let key_is_zero = |start: usize| octets.get(start..start + KEY_ID_OCTETS) == Some(&[0; KEY_ID_OCTETS]);
    let (narrow, wide) = (data_end.next_multiple_of(4), data_end.next_multiple_of(8));
    if is_mac(narrow) && !(is_mac(wide) && key_is_zero(narrow)) {
        return Some(narrow);
    }
    if is_mac(wide) {
        return Some(wide);
    }
    (octets.len() - data_end < 8).then_some(octets.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn message(data: &[u8], trailer: &[u8]) -> Vec<u8> {
        let count = u8::try_from(data.len()).expect("short");
        [&[0x16, 0xe2, 0, 9, 1, 2, 3, 4, 5, 6, 0, count][..], data, trailer].concat()
    }

    #[test]
    fn every_field_of_the_header_is_read() {
        let octets = message(b"leap=0", &[0, 0]);
        let read = ControlMessage::decode(&octets).expect("well-formed");
        assert_eq!(
            (read.version, read.is_response, read.is_error, read.has_more, read.opcode),
            (2, true, true, true, 2)
        );
        assert_eq!((read.sequence, read.status, read.association_id, read.offset), (9, 0x102, 0x304, 0x506));
        assert_eq!((read.data, read.mac()), (&b"leap=0"[..], None));
        assert_eq!(read.authenticated_octets(), octets);
    }

    #[test]
    fn a_mac_is_found_behind_both_paddings() {
        for (data, padding) in
            [(&b"ifstats"[..], 5), (b"ifstats", 1), (b"", 0), (b"1234", 0), (b"12345678", 4)]
        {
            for digest in [16, 20] {
                let trailer = [std::vec![0; padding], std::vec![0, 0, 0, 2], std::vec![7; digest]].concat();
                let octets = message(data, &trailer);
                let read = ControlMessage::decode(&octets).expect("well-formed");
                assert_eq!(
                    read.mac().map(|mac| (mac.key_id, mac.digest.len())),
                    Some((2, digest)),
                    "{data:?} {padding}"
                );
                assert_eq!(read.authenticated_octets().len(), octets.len() - 4 - digest);
            }
        }
    }

    #[test]
    fn what_is_not_a_control_message_is_refused() {
        assert_eq!(ControlMessage::decode(&[0x16; 11]).err(), Some(DecodeError::HeaderTruncated));
        assert_eq!(ControlMessage::decode(&[0x23; 12]).err(), Some(DecodeError::Mode));
        let mut over = message(b"abcd", b"");
        over[11] = 5;
        assert_eq!(ControlMessage::decode(&over).err(), Some(DecodeError::Count));
        assert_eq!(ControlMessage::decode(&message(b"abcd", &[1; 9])).err(), Some(DecodeError::Trailer));
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_without_a_panic(octets in proptest::collection::vec(0u8..=255, 0..80), count: u8) {
            let mut octets = octets;
            if let Some(read) = ControlMessage::decode(&octets).ok().and_then(|message| message.mac()) {
                proptest::prop_assert!(matches!(read.digest.len(), 16 | 20));
            }
            if octets.len() >= 12 {
                (octets[0], octets[10], octets[11]) = (0x16, 0, count);
                let _ = ControlMessage::decode(&octets).map(|message| message.mac());
            }
        }
    }
}
