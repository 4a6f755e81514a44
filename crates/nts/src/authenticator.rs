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
use chime_wire::{
    DATAGRAM_OCTETS_MAX, DecodeError, EXTENSION_FIELD_HEADER_OCTETS, ExtensionFields, FieldWriter, field_type,
};
use core::ops::Range;

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

    /// The packet up to the field.
    pub(crate) const fn associated_data(&self) -> &'a [u8] {
        self.associated_data
    }

    /// Of any length but 0.
    pub(crate) const fn nonce(&self) -> &'a [u8] {
        self.nonce
    }

    /// The tag, when nothing is encrypted.
    pub(crate) fn tag_alone(&self) -> Option<&'a [u8; AEAD_TAG_OCTETS]> {
        self.ciphertext.try_into().ok()
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
    write_head(body, nonce, sealed_octets)?;
    let room = &mut body[LENGTHS_OCTETS + nonce.len()..][..sealed_octets];
    let mut text = FieldWriter::new(&mut room[aead.algorithm().text_offset()..], 0);
    for (field_type, body) in fields {
        text.put_field(field_type, body, 0)?;
    }
    aead.seal_in_place(nonce, associated_data, room).map_err(|_| DecodeError::BufferTooShort)
}

/// Writes the lengths and the nonce.
fn write_head(body: &mut [u8], nonce: &[u8], sealed_octets: usize) -> Result<(), DecodeError> {
    let length =
        |octets: usize| u16::try_from(octets).map(u16::to_be_bytes).map_err(|_| DecodeError::FieldLength);
    body[..2].copy_from_slice(&length(nonce.len())?);
    body[2..4].copy_from_slice(&length(sealed_octets)?);
    body[LENGTHS_OCTETS..][..nonce.len()].copy_from_slice(nonce);
    Ok(())
}

/// Where the parts of an authenticator lie that is not sealed yet, as the last field of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthenticatorFrame {
    algorithm: AeadAlgorithm,
    /// Where the field begins.
    start: usize,
    nonce_octets: usize,
    text_octets: usize,
}

impl AuthenticatorFrame {
    /// Appends an authenticator with room for `text_octets` to encrypt (a multiple of four), which the caller fills.
    ///
    /// # Errors
    /// As [`write()`].
    pub(crate) fn lay_out(
        writer: &mut FieldWriter<'_>,
        algorithm: AeadAlgorithm,
        nonce: &[u8],
        text_octets: usize,
    ) -> Result<Self, DecodeError> {
        if nonce.len() != algorithm.nonce_octets() || !text_octets.is_multiple_of(4) {
            return Err(DecodeError::FieldLength);
        }
        let frame = Self { algorithm, start: writer.len(), nonce_octets: nonce.len(), text_octets };
        let sealed_octets = text_octets + AEAD_TAG_OCTETS;
        let body = writer.reserve_field(
            field_type::NTS_AUTHENTICATOR,
            LENGTHS_OCTETS + nonce.len() + sealed_octets,
            0,
        )?;
        write_head(body, nonce, sealed_octets)?;
        Ok(frame)
    }

    /// What the authenticator covers.
    pub(crate) const fn associated_data(&self) -> Range<usize> {
        0..self.start
    }

    pub(crate) const fn nonce(&self) -> Range<usize> {
        let start = self.start + EXTENSION_FIELD_HEADER_OCTETS + LENGTHS_OCTETS;
        start..start + self.nonce_octets
    }

    /// What is encrypted.
    pub(crate) const fn text(&self) -> Range<usize> {
        let start = self.nonce().end + self.algorithm.text_offset();
        start..start + self.text_octets
    }

    pub(crate) const fn tag(&self) -> Range<usize> {
        let start = match self.algorithm.text_offset() {
            0 => self.text().end,
            _ => self.nonce().end,
        };
        start..start + AEAD_TAG_OCTETS
    }

    /// Where the packet ends.
    pub(crate) const fn end(&self) -> usize {
        self.nonce().end + self.text_octets + AEAD_TAG_OCTETS
    }

    /// Seals the field, which has all it needs but the tag.
    pub(crate) fn seal(&self, aead: &Aead, packet: &mut [u8]) -> Result<(), AeadError> {
        let (before, room) = packet.split_at_mut(self.nonce().end);
        let room = room.get_mut(..self.text_octets + AEAD_TAG_OCTETS).ok_or(AeadError::BufferTooShort)?;
        aead.seal_in_place(&before[self.nonce()], &before[self.associated_data()], room)
    }
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
