//! The NTS Authenticator and Encrypted Extension Fields field. RFC 8915 §5.6.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |         Nonce Length          |       Ciphertext Length       |
//! |            Nonce, padded with zeros to a multiple of four     |
//! |         Ciphertext, padded with zeros to a multiple of four   |
//! |                      Additional Padding                       |
//! ```

use crate::{AEAD_TAG_OCTETS, Aead, AeadAlgorithm, AeadError};
use chime_wire::{DATAGRAM_OCTETS_MAX, DecodeError, ExtensionFields, FieldWriter, field_type};

const LENGTHS_OCTETS: usize = 4;

/// Room for the longest plaintext that a datagram can carry.
pub(crate) type PlaintextRoom = [u8; DATAGRAM_OCTETS_MAX];

/// What stands in an authenticator field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authenticator<'a> {
    /// The packet up to the field.
    associated_data: &'a [u8],
    nonce: &'a [u8],
    ciphertext: &'a [u8],
    /// Octets of the field's body behind the lengths.
    room: usize,
}

impl<'a> Authenticator<'a> {
    /// Reads the body of the field that begins at `offset` of `packet`; `None` when the lengths in it exceed it,
    /// or when there is no nonce: RFC 5297 §6 and RFC 8452 §6 want one.
    pub(crate) fn parse(packet: &'a [u8], offset: usize, body: &'a [u8]) -> Option<Self> {
        let (lengths, rest) = body.split_first_chunk::<LENGTHS_OCTETS>()?;
        let length = |at: usize| usize::from(u16::from_be_bytes([lengths[at], lengths[at + 1]]));
        let (nonce_octets, ciphertext_octets) = (length(0), length(2));
        let nonce = rest.get(..nonce_octets).filter(|nonce| !nonce.is_empty())?;
        let ciphertext = rest.get(nonce_octets.next_multiple_of(4)..)?.get(..ciphertext_octets)?;
        Some(Self { associated_data: &packet[..offset], nonce, ciphertext, room: rest.len() })
    }

    /// Whether a request leaves room for a nonce of the length that the server may use in its answer. RFC 8915 §5.6.
    pub(crate) fn leaves_room_for_nonce(&self, algorithm: AeadAlgorithm) -> bool {
        let nonce = self.nonce.len().max(algorithm.nonce_octets()).next_multiple_of(4);
        nonce + self.ciphertext.len().next_multiple_of(4) <= self.room
    }

    /// Whether nothing is encrypted, as in most requests.
    pub(crate) const fn is_empty(&self) -> bool {
        self.ciphertext.len() <= AEAD_TAG_OCTETS
    }

    /// Opens the field and gives the encrypted fields, which lie in `room` then.
    pub(crate) fn open<'room>(&self, aead: &Aead, room: &'room mut [u8]) -> Result<&'room [u8], AeadError> {
        let octets = aead.open(self.nonce, self.associated_data, self.ciphertext, room)?;
        Ok(&room[..octets])
    }
}

/// Appends an authenticator field to a packet; the encrypted fields are those that `fields` yields.
///
/// # Errors
/// [`DecodeError::BufferTooShort`] when the packet does not fit; [`DecodeError::FieldLength`] for a nonce of a length that
/// is not [`AeadAlgorithm::nonce_octets`].
pub(crate) fn write<'f>(
    writer: &mut FieldWriter<'_>,
    aead: &Aead,
    nonce: &[u8],
    fields: impl Iterator<Item = (u16, &'f [u8])> + Clone,
) -> Result<(), DecodeError> {
    if nonce.len() != aead.algorithm().nonce_octets() {
        return Err(DecodeError::FieldLength);
    }
    let text_octets: usize = fields.clone().map(|(_, body)| field_octets(body)).sum();
    let sealed_octets = text_octets + AEAD_TAG_OCTETS;
    let body_octets = LENGTHS_OCTETS + nonce.len() + sealed_octets;
    let (associated_data, body) =
        writer.reserve_field_after(field_type::NTS_AUTHENTICATOR, body_octets, 0)?;
    let length =
        |octets: usize| u16::try_from(octets).map(u16::to_be_bytes).map_err(|_| DecodeError::FieldLength);
    body[..2].copy_from_slice(&length(nonce.len())?);
    body[2..4].copy_from_slice(&length(sealed_octets)?);
    body[LENGTHS_OCTETS..][..nonce.len()].copy_from_slice(nonce);
    let room = &mut body[LENGTHS_OCTETS + nonce.len()..][..sealed_octets];
    let mut text = FieldWriter::new(&mut room[aead.algorithm().text_offset()..], 0);
    for (field_type, body) in fields {
        text.put_field(field_type, body, 0)?;
    }
    aead.seal_in_place(nonce, associated_data, room).map_err(|_| DecodeError::BufferTooShort)
}

/// Octets of the field that carries `body`.
fn field_octets(body: &[u8]) -> usize {
    (body.len() + chime_wire::EXTENSION_FIELD_HEADER_OCTETS)
        .next_multiple_of(4)
        .max(chime_wire::EXTENSION_FIELD_OCTETS_MIN)
}

/// The fields of a decrypted plaintext. RFC 8915 §5.6: the same form as in the clear.
pub(crate) const fn encrypted_fields(plaintext: &[u8]) -> ExtensionFields<'_> {
    ExtensionFields::new(plaintext, 0)
}
