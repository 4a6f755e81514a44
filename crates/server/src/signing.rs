//! Answers that Samba signs: MS-SNTP, by which the members of a Windows domain authenticate the time.
//!
//! The keys are the members' passwords, which Samba alone has. Its `ntp_signd` takes an answer over a socket of the machine
//! and gives it back with the checksum that the member expects. This module knows which requests ask for that, and what is
//! said on that socket.

use chime_wire::{HEADER_OCTETS, Header};

/// Octets of a request that asks for a signed answer, and of the answer: a header, the number of a key, a checksum of MD5.
pub const SIGNED_OCTETS: usize = HEADER_OCTETS + KEY_OCTETS + CHECKSUM_OCTETS;
/// Octets of a message to Samba.
pub const SIGNING_MESSAGE_OCTETS: usize = LENGTH_OCTETS + MESSAGE_HEADER_OCTETS + KEY_OCTETS + HEADER_OCTETS;
/// Octets of the longest message from Samba that is in order.
pub const SIGNING_REPLY_OCTETS_MAX: usize = LENGTH_OCTETS + MESSAGE_HEADER_OCTETS + SIGNED_OCTETS;

const KEY_OCTETS: usize = 4;
const CHECKSUM_OCTETS: usize = 16;
/// Before each message stands how long it is.
const LENGTH_OCTETS: usize = 4;
/// Version, operation and number of a message.
const MESSAGE_HEADER_OCTETS: usize = 12;
/// The version of NTP that Windows asks in.
const VERSION: u8 = 3;
/// Samba's word for: sign this, it goes to a client.
const SIGN_TO_CLIENT: u32 = 0;
/// Samba's word for: here it is.
const SIGNING_SUCCESS: u32 = 3;

/// An answer without its signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsigned {
    /// The answer.
    pub header: [u8; HEADER_OCTETS],
    /// The number of the member's key, as it stood in the request.
    pub key: [u8; KEY_OCTETS],
}

/// Why Samba's reply is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// Samba does not sign for this key: nobody in the domain has it.
    #[error("Samba does not sign for this key")]
    Refused,
    /// Not what a reply looks like, or not the one to this message.
    #[error("this is no reply of Samba's ntp_signd")]
    Malformed,
}

/// The number of the key for which a request wants its answer signed; `None`: it wants no such thing. What is to become the
/// checksum is zero in requests.
#[must_use]
pub fn signing_key(request: &[u8]) -> Option<[u8; KEY_OCTETS]> {
    let request: &[u8; SIGNED_OCTETS] = request.try_into().ok()?;
    let key: [u8; KEY_OCTETS] = request[HEADER_OCTETS..HEADER_OCTETS + KEY_OCTETS].try_into().ok()?;
    let asks = request[0] >> 3 & 7 == VERSION
        && key != [0; KEY_OCTETS]
        && request[HEADER_OCTETS + KEY_OCTETS..] == [0; CHECKSUM_OCTETS];
    asks.then_some(key)
}

impl Unsigned {
    pub(crate) fn new(header: &Header, key: [u8; KEY_OCTETS]) -> Self {
        Self { header: header.encode(), key }
    }

    /// The message that asks Samba to sign; `number` comes back in the reply.
    #[must_use]
    pub fn message(&self, number: u16) -> [u8; SIGNING_MESSAGE_OCTETS] {
        const LENGTH: u32 = 64;
        const { assert!(LENGTH as usize == SIGNING_MESSAGE_OCTETS - LENGTH_OCTETS) };
        let mut message = [0; SIGNING_MESSAGE_OCTETS];
        // The number has half a word here, and a whole one in the reply. Version 0, and all in the order of the network, but for the key: that stays as the request had it.
        for (place, word) in [(0, LENGTH), (4, 0), (8, SIGN_TO_CLIENT), (12, u32::from(number) << 16)] {
            message[place..place + 4].copy_from_slice(&word.to_be_bytes());
        }
        message[16..20].copy_from_slice(&self.key);
        message[20..].copy_from_slice(&self.header);
        message
    }

    /// The octets of a reply that follow its first four, by these; never more than a reply can have.
    ///
    /// # Errors
    /// When no reply is so long.
    pub fn reply_length(first: [u8; LENGTH_OCTETS]) -> Result<usize, SigningError> {
        let length = usize::try_from(u32::from_be_bytes(first)).map_err(|_| SigningError::Malformed)?;
        let possible = MESSAGE_HEADER_OCTETS..=SIGNING_REPLY_OCTETS_MAX - LENGTH_OCTETS;
        if possible.contains(&length) { Ok(length) } else { Err(SigningError::Malformed) }
    }

    /// The signed answer, from what follows the first four octets of the reply to message `number`.
    ///
    /// # Errors
    /// When Samba does not sign, or says something else.
    pub fn signed(&self, number: u16, reply: &[u8]) -> Result<[u8; SIGNED_OCTETS], SigningError> {
        let word = |place: usize| {
            reply.get(place..place + 4).and_then(|octets| octets.try_into().ok()).map(u32::from_be_bytes)
        };
        if word(0) != Some(0) || word(8) != Some(u32::from(number)) {
            return Err(SigningError::Malformed);
        }
        if word(4) != Some(SIGNING_SUCCESS) {
            return Err(SigningError::Refused);
        }
        let signed = reply.get(MESSAGE_HEADER_OCTETS..).unwrap_or_default();
        let signed: [u8; SIGNED_OCTETS] = signed.try_into().map_err(|_| SigningError::Malformed)?;
        let is_ours = signed[..HEADER_OCTETS] == self.header
            && signed[HEADER_OCTETS..HEADER_OCTETS + KEY_OCTETS] == self.key;
        if is_ours { Ok(signed) } else { Err(SigningError::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSIGNED: Unsigned = Unsigned { header: [0x1c; HEADER_OCTETS], key: [0xe8, 3, 0, 0x80] };

    fn request(version: u8, key: u32, checksum: [u8; 16]) -> Vec<u8> {
        let mut octets = vec![0; HEADER_OCTETS];
        octets[0] = version << 3 | 3;
        octets.extend(key.to_be_bytes());
        octets.extend(checksum);
        octets
    }

    fn reply(operation: u32, number: u32, signed: &[u8]) -> Vec<u8> {
        let mut octets = [0, operation, number].map(u32::to_be_bytes).concat();
        octets.extend(signed);
        octets
    }

    #[test]
    fn who_asks_with_a_key_and_no_checksum_wants_a_signature() {
        assert_eq!(signing_key(&request(3, 0xe803_0080, [0; 16])), Some([0xe8, 3, 0, 0x80]));
        assert_eq!(signing_key(&request(4, 1, [0; 16])), None, "Windows asks in version 3");
        assert_eq!(signing_key(&request(3, 0, [0; 16])), None, "nobody has key 0");
        assert_eq!(signing_key(&request(3, 1, [1; 16])), None, "this is a MAC");
        let right = request(3, 1, [0; 16]);
        assert_eq!(signing_key(&right[..67]), None);
        assert_eq!(signing_key(&[right, vec![0]].concat()), None);
    }

    #[test]
    fn messages_have_their_length_first_and_the_key_as_it_came() {
        let message = UNSIGNED.message(0x0102);
        assert_eq!(message[..20], [0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0xe8, 3, 0, 0x80]);
        assert_eq!(message[20..], UNSIGNED.header);
    }

    #[test]
    fn only_our_own_answer_comes_back_signed() {
        let signed = [&UNSIGNED.header[..], &UNSIGNED.key, &[7; 16]].concat();
        let good = reply(SIGNING_SUCCESS, 5, &signed);
        assert_eq!(UNSIGNED.signed(5, &good).map(Vec::from), Ok(signed.clone()));
        assert_eq!(UNSIGNED.signed(6, &good), Err(SigningError::Malformed), "the reply to another message");
        assert_eq!(UNSIGNED.signed(5, &reply(4, 5, &[])), Err(SigningError::Refused));
        let mut other = signed.clone();
        other[40] ^= 1;
        assert_eq!(UNSIGNED.signed(5, &reply(SIGNING_SUCCESS, 5, &other)), Err(SigningError::Malformed));
        for length in 0..good.len() {
            assert!(UNSIGNED.signed(5, &good[..length]).is_err(), "{length}");
        }
        let longer = [signed, vec![0; 4]].concat();
        assert!(UNSIGNED.signed(5, &reply(SIGNING_SUCCESS, 5, &longer)).is_err());
    }

    #[test]
    fn no_reply_is_longer_than_a_signed_answer() {
        let length = |length: u32| Unsigned::reply_length(length.to_be_bytes());
        assert_eq!((length(12), length(80)), (Ok(12), Ok(80)));
        for wrong in [0, 11, 81, u32::MAX] {
            assert_eq!(length(wrong), Err(SigningError::Malformed), "{wrong}");
        }
    }
}
