//! NTS-KE records: the language of key establishment inside TLS (RFC 8915 §4).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-------------------------------------------------------------+
//! |C|         Record Type         |          Body Length          |
//! +-+-----------------------------+-------------------------------+
//! |                        Record Body ...                        |
//! ```
//!
//! [`Records`] walks over the records of octets at hand. [`MessageReader`] collects a message that arrives in
//! pieces of any size, up to a limit, and says where its End of Message record ends. [`RecordWriter`] writes.
//! What the records mean is decided in `chime-ke`.

/// The TCP port of NTS key establishment (RFC 8915 §7.1).
pub const NTS_KE_PORT: u16 = 4460;

/// The ALPN protocol id of NTS key establishment (RFC 8915 §4).
pub const ALPN_PROTOCOL: &[u8] = b"ntske/1";

/// Octets of a record before its body.
pub const RECORD_HEADER_OCTETS: usize = 4;

/// The longest message a client reads: far more than any server needs for eight cookies; octets.
pub const RESPONSE_OCTETS_MAX: usize = 64 * 1024;

/// The longest request a server reads: what chrony's server takes; octets.
pub const REQUEST_OCTETS_MAX: usize = 16 * 1024;

/// The critical bit of the record type field.
const CRITICAL_BIT: u16 = 0x8000;

/// Record types (RFC 8915 §4.1 and §7.6), without the critical bit.
pub mod record_type {
    /// End of Message: critical, empty, the last of its message (RFC 8915 §4.1.1).
    pub const END_OF_MESSAGE: u16 = 0;
    /// NTS Next Protocol Negotiation: critical, a list of 16-bit protocol ids (RFC 8915 §4.1.2).
    pub const NEXT_PROTOCOL: u16 = 1;
    /// Error: critical, a 16-bit code (RFC 8915 §4.1.3).
    pub const ERROR: u16 = 2;
    /// Warning: critical, a 16-bit code (RFC 8915 §4.1.4).
    pub const WARNING: u16 = 3;
    /// AEAD Algorithm Negotiation: a list of 16-bit algorithm ids (RFC 8915 §4.1.5).
    pub const AEAD_ALGORITHM: u16 = 4;
    /// New Cookie for NTPv4: opaque octets (RFC 8915 §4.1.6).
    pub const NEW_COOKIE: u16 = 5;
    /// NTPv4 Server Negotiation: a name or an address literal in ASCII (RFC 8915 §4.1.7).
    pub const NTP_SERVER: u16 = 6;
    /// NTPv4 Port Negotiation: a 16-bit UDP port (RFC 8915 §4.1.8).
    pub const NTP_PORT: u16 = 7;
    /// Compliant AES-128-GCM-SIV Exporter Context: empty, not critical. Says that the sender puts 30, as
    /// RFC 8915 §5.1 wants it, and not 15 as old versions of chrony did, into the exporter context.
    pub const COMPLIANT_GCM_SIV_EXPORT: u16 = 1024;

    /// The name of a record type, in the words of RFC 8915.
    #[must_use]
    pub const fn name(record_type: u16) -> &'static str {
        match record_type {
            END_OF_MESSAGE => "End of Message",
            NEXT_PROTOCOL => "Next Protocol Negotiation",
            ERROR => "Error",
            WARNING => "Warning",
            AEAD_ALGORITHM => "AEAD Algorithm Negotiation",
            NEW_COOKIE => "New Cookie",
            NTP_SERVER => "NTPv4 Server Negotiation",
            NTP_PORT => "NTPv4 Port Negotiation",
            COMPLIANT_GCM_SIV_EXPORT => "Compliant AES-128-GCM-SIV Exporter Context",
            _ => "unknown record",
        }
    }
}

/// Codes of an Error record (RFC 8915 §4.1.3).
pub mod error_code {
    /// The peer did not know a record that was marked critical.
    pub const UNRECOGNIZED_CRITICAL_RECORD: u16 = 0;
    /// The request was malformed.
    pub const BAD_REQUEST: u16 = 1;
    /// The server failed for a reason of its own.
    pub const INTERNAL_SERVER_ERROR: u16 = 2;
}

/// One record, borrowed from the octets it was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Whether a receiver that does not know the type must refuse the message.
    pub critical: bool,
    /// The record type, 0 to 32767; see [`record_type`].
    pub record_type: u16,
    /// The body, 0 to 65535 octets.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The body as a list of 16-bit numbers; `None` when its length is odd.
    #[must_use]
    pub fn numbers(&self) -> Option<impl Iterator<Item = u16> + Clone + use<'a>> {
        let (pairs, rest) = self.body.as_chunks::<2>();
        rest.is_empty().then(|| pairs.iter().map(|pair| u16::from_be_bytes(*pair)))
    }

    /// The body as exactly one 16-bit number.
    #[must_use]
    pub fn number(&self) -> Option<u16> {
        <[u8; 2]>::try_from(self.body).ok().map(u16::from_be_bytes)
    }
}

/// The octets end in the middle of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the message ends in the middle of a record")]
pub struct RecordTruncated;

/// Walks over records; after the first error there is nothing more.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Starts at the first record of `octets`.
    #[must_use]
    pub const fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordTruncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((record, rest)) = split_record(self.rest) else {
            self.rest = &[];
            return Some(Err(RecordTruncated));
        };
        self.rest = rest;
        Some(Ok(record))
    }
}

/// The first record of `octets` and what follows; `None` when the record is not complete.
fn split_record(octets: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (&[type_high, type_low, length_high, length_low], rest) = octets.split_first_chunk::<4>()?;
    let type_field = u16::from_be_bytes([type_high, type_low]);
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let (body, rest) = rest.split_at_checked(length)?;
    let record =
        Record { critical: type_field & CRITICAL_BIT != 0, record_type: type_field & !CRITICAL_BIT, body };
    Some((record, rest))
}

/// The message is longer than the limit, or announces a record that would make it so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the message is longer than {octets_max} octets")]
pub struct MessageTooLong {
    /// The limit; octets.
    pub octets_max: usize,
}

/// Collects one message that arrives in pieces of any size.
///
/// Memory is bounded by the limit: a record that would not fit is refused as soon as its header is seen.
#[derive(Clone, Debug)]
pub struct MessageReader {
    octets: Vec<u8>,
    /// Where the first record begins that has not been seen whole.
    next_record: usize,
    complete: bool,
    octets_max: usize,
}

impl MessageReader {
    /// A reader of a message of at most `octets_max` octets.
    #[must_use]
    pub const fn new(octets_max: usize) -> Self {
        Self { octets: Vec::new(), next_record: 0, complete: false, octets_max }
    }

    /// Takes the next piece; true once an End of Message record has been seen whole.
    ///
    /// Octets behind that record stay in [`Self::octets`] as far as the limit allows, so that a reader can refuse
    /// them.
    ///
    /// # Errors
    /// [`MessageTooLong`] when the message is, or is announced to become, longer than the limit.
    pub fn push(&mut self, piece: &[u8]) -> Result<bool, MessageTooLong> {
        let too_long = MessageTooLong { octets_max: self.octets_max };
        if self.octets.len() + piece.len() > self.octets_max {
            return if self.complete { Ok(true) } else { Err(too_long) };
        }
        self.octets.extend_from_slice(piece);
        while !self.complete {
            let rest = &self.octets[self.next_record..];
            let Some((&[_, _, length_high, length_low], _)) = rest.split_first_chunk::<4>() else { break };
            let length = usize::from(u16::from_be_bytes([length_high, length_low]));
            let end = self.next_record + RECORD_HEADER_OCTETS + length;
            if end > self.octets_max {
                return Err(too_long);
            }
            let Some((record, _)) = split_record(rest) else { break };
            self.complete = record.record_type == record_type::END_OF_MESSAGE;
            self.next_record = end;
        }
        Ok(self.complete)
    }

    /// Whether an End of Message record has been seen whole.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Everything that has come so far.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// A body of more than 65535 octets cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a record body is longer than 65535 octets")]
pub struct BodyTooLong;

/// Writes records one after the other.
#[derive(Clone, Default, Debug)]
pub struct RecordWriter {
    octets: Vec<u8>,
}

impl RecordWriter {
    /// An empty message.
    #[must_use]
    pub const fn new() -> Self {
        Self { octets: Vec::new() }
    }

    /// Appends a record with any body.
    ///
    /// # Errors
    /// [`BodyTooLong`] over 65535 octets; nothing is written then.
    pub fn record(
        &mut self,
        critical: bool,
        record_type: u16,
        body: &[u8],
    ) -> Result<&mut Self, BodyTooLong> {
        let length = u16::try_from(body.len()).map_err(|_| BodyTooLong)?;
        self.header(critical, record_type, length);
        self.octets.extend_from_slice(body);
        Ok(self)
    }

    /// Appends a record whose body is one 16-bit number.
    pub fn number(&mut self, critical: bool, record_type: u16, number: u16) -> &mut Self {
        self.header(critical, record_type, 2);
        self.octets.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends a record whose body is a list of 16-bit numbers; what is beyond 32767 numbers is left out.
    pub fn numbers(
        &mut self,
        critical: bool,
        record_type: u16,
        numbers: impl IntoIterator<Item = u16>,
    ) -> &mut Self {
        const NUMBERS_MAX: usize = 32_767;
        let body: Vec<u8> = numbers.into_iter().take(NUMBERS_MAX).flat_map(u16::to_be_bytes).collect();
        let length = u16::try_from(body.len()).expect("at most 65534 octets");
        self.header(critical, record_type, length);
        self.octets.extend_from_slice(&body);
        self
    }

    /// Appends a record without a body.
    pub fn empty(&mut self, critical: bool, record_type: u16) -> &mut Self {
        self.header(critical, record_type, 0);
        self
    }

    /// Appends the End of Message record and gives the message.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.empty(true, record_type::END_OF_MESSAGE);
        self.octets
    }

    fn header(&mut self, critical: bool, record_type: u16, length: u16) {
        let type_field = (record_type & !CRITICAL_BIT) | if critical { CRITICAL_BIT } else { 0 };
        self.octets.extend_from_slice(&type_field.to_be_bytes());
        self.octets.extend_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NTP_PROTOCOL_ID;
    use proptest::prelude::*;

    /// The request of chronyd: NTPv4, AEADs 30 and 15, record 1024.
    const REQUEST: [u8; 22] = [0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 4, 0, 30, 0, 15, 4, 0, 0, 0, 0x80, 0, 0, 0];

    fn written_request() -> Vec<u8> {
        let mut writer = RecordWriter::new();
        writer.number(true, record_type::NEXT_PROTOCOL, NTP_PROTOCOL_ID);
        writer.numbers(true, record_type::AEAD_ALGORITHM, [30, 15]);
        writer.empty(false, record_type::COMPLIANT_GCM_SIV_EXPORT);
        writer.finish()
    }

    #[test]
    fn the_writer_writes_what_chronyd_sends() {
        assert_eq!(written_request(), REQUEST);
    }

    #[test]
    fn records_are_read_as_they_were_meant() {
        let records: Vec<_> = Records::new(&REQUEST).collect::<Result<_, _>>().expect("well formed");
        assert_eq!(records.len(), 4);
        assert_eq!(records[0].number(), Some(NTP_PROTOCOL_ID));
        assert!(records[1].critical);
        assert_eq!(records[1].numbers().expect("even").collect::<Vec<_>>(), [30, 15]);
        assert!(records[1].number().is_none(), "two numbers are not one");
        assert_eq!(records[2], Record { critical: false, record_type: 1024, body: &[] });
        assert_eq!(records[3].record_type, record_type::END_OF_MESSAGE);
        assert!(Record { critical: true, record_type: 4, body: &[0, 15, 0] }.numbers().is_none());
    }

    #[test]
    fn every_truncation_is_seen() {
        for length in 1..REQUEST.len() {
            let whole = [6, 14, 18].contains(&length);
            let last = Records::new(&REQUEST[..length]).last().expect("there is something");
            assert_eq!(last.is_ok(), whole, "cut at {length}");
        }
    }

    #[test]
    fn a_message_completes_at_its_last_octet_whatever_the_pieces() {
        for piece in 1..=REQUEST.len() {
            let mut reader = MessageReader::new(REQUEST_OCTETS_MAX);
            let mut taken = 0;
            for chunk in REQUEST.chunks(piece) {
                assert!(!reader.is_complete());
                taken += chunk.len();
                assert_eq!(reader.push(chunk), Ok(taken == REQUEST.len()));
            }
            assert_eq!(reader.octets(), REQUEST);
        }
    }

    #[test]
    fn a_record_over_the_limit_is_refused_when_its_header_is_seen() {
        let limit = MessageTooLong { octets_max: 1000 };
        let mut reader = MessageReader::new(1000);
        assert_eq!(reader.push(&[0x40, 0, 0x03, 0xe4]), Ok(false), "996 octets of body just fit");
        let mut reader = MessageReader::new(1000);
        assert_eq!(reader.push(&[0x40, 0, 0x03, 0xe5]), Err(limit));
        assert_eq!(MessageReader::new(1000).push(&[0; 1001]), Err(limit));
    }

    #[test]
    fn octets_behind_the_end_are_kept_and_bounded() {
        let mut reader = MessageReader::new(REQUEST.len() + 3);
        assert_eq!(reader.push(&REQUEST), Ok(true));
        assert_eq!(reader.push(&[1, 2, 3]), Ok(true));
        assert_eq!(reader.push(&[4]), Ok(true), "dropped, not stored");
        assert_eq!(reader.octets().len(), REQUEST.len() + 3);
    }

    #[test]
    fn a_body_of_65536_octets_is_not_written() {
        let mut writer = RecordWriter::new();
        assert_eq!(writer.record(false, 5, &[0; 65536]).err(), Some(BodyTooLong));
        assert!(writer.record(false, 5, &[0; 65535]).is_ok());
    }

    proptest! {
        #[test]
        fn any_octets_give_records_or_an_error(octets in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut records = Records::new(&octets);
            let mut seen = 0;
            while let Some(Ok(record)) = records.next() {
                seen += RECORD_HEADER_OCTETS + record.body.len();
            }
            prop_assert!(seen <= octets.len());
        }

        #[test]
        fn splitting_never_changes_what_is_read(octets in prop::collection::vec(any::<u8>(), 0..300), piece in 1usize..50) {
            let mut whole = MessageReader::new(200);
            let mut split = MessageReader::new(200);
            let expected = whole.push(&octets);
            let mut last = Ok(false);
            for chunk in octets.chunks(piece) {
                last = split.push(chunk);
                if last.is_err() || split.is_complete() { break; }
            }
            if octets.len() <= 200 {
                prop_assert_eq!(last.is_err(), expected.is_err());
                prop_assert_eq!(split.is_complete(), whole.is_complete());
            }
        }
    }
}
