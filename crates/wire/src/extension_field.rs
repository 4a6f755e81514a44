//! Extension fields. RFC 7822, with the lengths of RFC 8915.

use crate::DecodeError;

/// Octets of a field's type and length.
pub const EXTENSION_FIELD_HEADER_OCTETS: usize = 4;
/// The shortest field, its header included. RFC 7822 §3.
pub const EXTENSION_FIELD_OCTETS_MIN: usize = 16;

/// The field types that we know. RFC 8915 §7.6.
pub mod field_type {
    /// Unique Identifier, RFC 8915 §5.3.
    pub const UNIQUE_IDENTIFIER: u16 = 0x0104;
    /// NTS Cookie, RFC 8915 §5.4.
    pub const NTS_COOKIE: u16 = 0x0204;
    /// NTS Cookie Placeholder, RFC 8915 §5.5.
    pub const NTS_COOKIE_PLACEHOLDER: u16 = 0x0304;
    /// NTS Authenticator and Encrypted Extension Fields, RFC 8915 §5.6.
    pub const NTS_AUTHENTICATOR: u16 = 0x0404;
    /// Network Correction, draft-ietf-ntp-over-ptp.
    pub const NETWORK_CORRECTION: u16 = 0x010a;
    /// Monotonic receive timestamp and root values: experimental, chrony's.
    pub const MONOTONIC_RECEIVE: u16 = 0xf323;
}

/// One field of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtensionField<'a> {
    /// The type; see [`field_type`].
    pub field_type: u16,
    /// What follows the field's type and length, padding included.
    pub body: &'a [u8],
    /// Where the field begins, in octets from the start of what was given to [`ExtensionFields::new`].
    pub offset: usize,
}

impl ExtensionField<'_> {
    /// Where the field ends: the offset of what comes behind it.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offset + EXTENSION_FIELD_HEADER_OCTETS + self.body.len()
    }
}

/// Walks over the fields that fill `octets` from `offset` to its end; stops for good at the first error.
#[derive(Clone, Debug)]
pub struct ExtensionFields<'a> {
    octets: &'a [u8],
    offset: usize,
}

impl<'a> ExtensionFields<'a> {
    /// Starts at `offset` within `octets`; an offset behind the end yields nothing.
    #[must_use]
    pub const fn new(octets: &'a [u8], offset: usize) -> Self {
        Self { octets, offset }
    }

    /// Where the next field would begin.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    fn read(&self) -> Result<ExtensionField<'a>, DecodeError> {
        let rest = &self.octets[self.offset..];
        let header: &[u8; 4] = rest.first_chunk().ok_or(DecodeError::FieldLength)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length < EXTENSION_FIELD_OCTETS_MIN || length % 4 != 0 {
            return Err(DecodeError::FieldLength);
        }
        let body = rest.get(EXTENSION_FIELD_HEADER_OCTETS..length).ok_or(DecodeError::FieldLength)?;
        Ok(ExtensionField {
            field_type: u16::from_be_bytes([header[0], header[1]]),
            body,
            offset: self.offset,
        })
    }
}

impl<'a> Iterator for ExtensionFields<'a> {
    type Item = Result<ExtensionField<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.octets.len() {
            return None;
        }
        let field = self.read();
        self.offset = field.as_ref().map_or(self.octets.len(), ExtensionField::end);
        Some(field)
    }
}

/// Appends octets and fields to a packet in a buffer of fixed size.
#[derive(Debug)]
pub struct FieldWriter<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl<'a> FieldWriter<'a> {
    /// Starts behind the `length` octets that `buffer` already holds.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], length: usize) -> Self {
        debug_assert!(length <= buffer.len());
        Self { buffer, length }
    }

    /// How many octets the packet has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether the packet has no octets.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The packet so far.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// Appends octets as they are.
    ///
    /// # Errors
    /// [`DecodeError::BufferTooShort`]; nothing is written then.
    pub fn put(&mut self, octets: &[u8]) -> Result<(), DecodeError> {
        self.reserve(octets.len())?.copy_from_slice(octets);
        Ok(())
    }

    /// Appends a field whose body is `body`, padded with zeros to a multiple of four and to `octets_min` in all.
    ///
    /// # Errors
    /// [`DecodeError::BufferTooShort`]; nothing is written then.
    pub fn put_field(&mut self, field_type: u16, body: &[u8], octets_min: usize) -> Result<(), DecodeError> {
        let room = self.reserve_field(field_type, body.len(), octets_min)?;
        room[..body.len()].copy_from_slice(body);
        room[body.len()..].fill(0);
        Ok(())
    }

    /// Appends a field's header and gives its body, padding included, to be filled; at least `body_octets` long.
    ///
    /// # Errors
    /// [`DecodeError::BufferTooShort`]; nothing is written then.
    pub fn reserve_field(
        &mut self,
        field_type: u16,
        body_octets: usize,
        octets_min: usize,
    ) -> Result<&mut [u8], DecodeError> {
        self.reserve_field_after(field_type, body_octets, octets_min).map(|(_, body)| body)
    }

    /// As [`Self::reserve_field`], together with the packet before the field: what an authenticator covers.
    ///
    /// # Errors
    /// [`DecodeError::BufferTooShort`]; nothing is written then.
    pub fn reserve_field_after(
        &mut self,
        field_type: u16,
        body_octets: usize,
        octets_min: usize,
    ) -> Result<(&[u8], &mut [u8]), DecodeError> {
        let wanted =
            (body_octets + EXTENSION_FIELD_HEADER_OCTETS).max(octets_min).max(EXTENSION_FIELD_OCTETS_MIN);
        let octets = wanted.next_multiple_of(4);
        let length = u16::try_from(octets).map_err(|_| DecodeError::FieldLength)?;
        let start = self.length;
        self.reserve(octets)?;
        let (before, room) = self.buffer[..self.length].split_at_mut(start);
        room[..2].copy_from_slice(&field_type.to_be_bytes());
        room[2..4].copy_from_slice(&length.to_be_bytes());
        Ok((before, &mut room[EXTENSION_FIELD_HEADER_OCTETS..]))
    }

    fn reserve(&mut self, octets: usize) -> Result<&mut [u8], DecodeError> {
        let end = self.length.checked_add(octets).ok_or(DecodeError::BufferTooShort)?;
        let room = self.buffer.get_mut(self.length..end).ok_or(DecodeError::BufferTooShort)?;
        self.length = end;
        Ok(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut buffer = [0xaa; 64];
        let mut writer = FieldWriter::new(&mut buffer, 0);
        writer.put_field(0x2f01, &[7; 5], 0).expect("there is room");
        writer.put_field(field_type::NTS_COOKIE, &[9; 24], 0).expect("there is room");
        assert_eq!(writer.put_field(1, &[0; 30], 0), Err(DecodeError::BufferTooShort));
        let length = writer.len();
        let fields: std::vec::Vec<_> =
            ExtensionFields::new(&buffer[..length], 0).map(Result::unwrap).collect();
        assert_eq!((fields[0].field_type, fields[0].body.len(), fields[0].offset), (0x2f01, 12, 0));
        assert_eq!((fields[1].body, fields[1].offset, fields[1].end()), (&[9u8; 24][..], 16, 44));
    }

    #[test]
    fn impossible_lengths_end_the_walk() {
        for length in [0u8, 3, 4, 12, 15, 17, 18, 24] {
            let packet = [0x2f, 1, 0, length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let mut fields = ExtensionFields::new(&packet, 0);
            assert_eq!(fields.next(), Some(Err(DecodeError::FieldLength)), "length {length}");
            assert_eq!(fields.next(), None);
        }
    }
}
