//! What ought to happen, worked out from the octets and the recorded keys.
//!
//! This is a second, plain reading of docs/choices.md and of the RFCs, which shares nothing with the crates under test but
//! the AEADs (and these are checked by vectors of their own). The checks compare the crates with it, and it with
//! what the recorded peers did.

use chime_nts::{AeadAlgorithm, AeadKey};

pub(crate) const UNIQUE_IDENTIFIER: u16 = 0x0104;
pub(crate) const COOKIE: u16 = 0x0204;
pub(crate) const PLACEHOLDER: u16 = 0x0304;
pub(crate) const AUTHENTICATOR: u16 = 0x0404;
pub(crate) const HEADER_OCTETS: usize = 48;

/// What a server does about a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Answers with time, authenticated, and this number of cookies.
    Time(usize),
    /// Answers that the cookie or the authenticator was not accepted.
    Nak,
    /// Does not answer.
    Silence,
    /// No NTS at all.
    Plain,
}

/// An extension field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) kind: u16,
    pub(crate) offset: usize,
    pub(crate) body: &'a [u8],
}

impl Field<'_> {
    pub(crate) const fn end(&self) -> usize {
        self.offset + 4 + self.body.len()
    }
}

/// The fields from `offset` on as far as they can be read with lengths of at least `octets_min`, and where the reading ended.
pub(crate) fn fields(octets: &[u8], mut offset: usize, octets_min: usize) -> (Vec<Field<'_>>, usize) {
    let mut found = Vec::new();
    while let Some(&[high, low, length_high, length_low]) =
        octets.get(offset..).and_then(|rest| rest.first_chunk::<4>())
    {
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        if length < octets_min.max(4) || !length.is_multiple_of(4) || offset + length > octets.len() {
            break;
        }
        found.push(Field {
            kind: u16::from_be_bytes([high, low]),
            offset,
            body: &octets[offset + 4..offset + length],
        });
        offset += length;
    }
    (found, offset)
}

/// The fields of a version 4 packet, when RFC 7822 leaves no octet over; a MAC counts as left over.
fn whole_fields(packet: &[u8]) -> Option<Vec<Field<'_>>> {
    let (found, end) = fields(packet, HEADER_OCTETS, 16);
    let last_is_long_enough = found.last().is_none_or(|last| last.body.len() + 4 >= 28);
    (end == packet.len() && last_is_long_enough).then_some(found)
}

/// The lengths of an authenticator and what they cover.
pub(crate) struct Authenticator<'a> {
    pub(crate) nonce: &'a [u8],
    pub(crate) ciphertext: &'a [u8],
    pub(crate) octets_behind: usize,
}

impl<'a> Authenticator<'a> {
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        let [nonce_high, nonce_low, text_high, text_low, rest @ ..] = body else { return None };
        let nonce_octets = usize::from(u16::from_be_bytes([*nonce_high, *nonce_low]));
        let text_octets = usize::from(u16::from_be_bytes([*text_high, *text_low]));
        let text_start = nonce_octets.next_multiple_of(4);
        let text_end = text_start.checked_add(text_octets)?;
        let ciphertext = rest.get(text_start..text_end)?;
        let octets_behind = rest.len().saturating_sub(text_end.next_multiple_of(4));
        Some(Self { nonce: &rest[..nonce_octets], ciphertext, octets_behind })
    }

    /// The plaintext, when the key is right.
    pub(crate) fn open(&self, key: &AeadKey, associated_data: &[u8]) -> Option<Vec<u8>> {
        if self.nonce.is_empty() {
            return None;
        }
        let mut room = vec![0; self.ciphertext.len()];
        let octets = key.open(self.nonce, associated_data, self.ciphertext, &mut room).ok()?;
        room.truncate(octets);
        Some(room)
    }

    /// RFC 8915 §5.6: a request leaves room for a nonce of the length that answers need.
    fn leaves_room(&self, algorithm: AeadAlgorithm) -> bool {
        let wanted = if algorithm == AeadAlgorithm::Aes128GcmSiv { 12 } else { 16 };
        self.nonce.len().next_multiple_of(4) + self.octets_behind >= wanted
    }
}

/// What our server ought to do about a request, when `is_genuine` says which cookies are good ones.
pub(crate) fn judge_request(packet: &[u8], c2s: &AeadKey, is_genuine: impl Fn(&[u8]) -> bool) -> Outcome {
    if packet.len() < HEADER_OCTETS || packet[0] & 0x3f != 4 << 3 | 3 {
        return Outcome::Silence;
    }
    let Some(fields) = whole_fields(packet) else { return Outcome::Silence };
    let of = |kind| fields.iter().filter(move |field| field.kind == kind);
    let is_nts = |kind| matches!(kind, UNIQUE_IDENTIFIER | COOKIE | PLACEHOLDER | AUTHENTICATOR);
    if !fields.iter().any(|field| is_nts(field.kind)) {
        return Outcome::Plain;
    }
    let counts = [UNIQUE_IDENTIFIER, COOKIE, AUTHENTICATOR].map(|kind| of(kind).count());
    let (Some(identifier), Some(cookie), Some(last)) =
        (of(UNIQUE_IDENTIFIER).next(), of(COOKIE).next(), fields.last())
    else {
        return Outcome::Silence;
    };
    let lengths_fit = (12..=512).contains(&identifier.body.len()) && cookie.body.len() <= 512;
    let placeholders_fit = of(PLACEHOLDER).all(|field| field.body.len() == cookie.body.len());
    if counts != [1, 1, 1] || last.kind != AUTHENTICATOR || !lengths_fit || !placeholders_fit {
        return Outcome::Silence;
    }
    let authenticator = Authenticator::read(last.body).filter(|found| found.leaves_room(c2s.algorithm()));
    let plaintext = authenticator.and_then(|found| found.open(c2s, &packet[..last.offset]));
    let Some(plaintext) = plaintext.filter(|_| is_genuine(cookie.body)) else { return Outcome::Nak };
    let (inner, end) = self::fields(&plaintext, 0, 16);
    let inner_placeholders: Vec<_> = inner.iter().filter(|field| field.kind == PLACEHOLDER).collect();
    if end != plaintext.len() || inner_placeholders.iter().any(|field| field.body.len() != cookie.body.len())
    {
        return Outcome::Silence;
    }
    Outcome::Time((1 + of(PLACEHOLDER).count() + inner_placeholders.len()).min(8))
}

/// What our client ought to make of an answer to a request with NTS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Belief {
    /// Believed, with the cookies in it.
    Believed(Vec<Vec<u8>>),
    /// An NTS NAK for this request; noted.
    Nak,
    /// Refused: the first of these reasons that applies.
    Refused(Refusal),
}

/// Why our client ought not to believe an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    Malformed,
    Mode,
    Origin,
    NoUniqueIdentifier,
    UniqueIdentifier,
    NoAuthenticator,
    AfterAuthenticator,
    Authenticator,
    Plaintext,
}

/// Judges an answer to `request`, the origin timestamp and everything below it.
pub(crate) fn judge_answer(packet: &[u8], request: &[u8], s2c: &AeadKey) -> Belief {
    match examine_answer(packet, request, s2c) {
        Ok(belief) => belief,
        Err(refusal) => Belief::Refused(refusal),
    }
}

fn examine_answer(packet: &[u8], request: &[u8], s2c: &AeadKey) -> Result<Belief, Refusal> {
    if packet.len() < HEADER_OCTETS || packet[0] >> 3 & 7 != 4 && packet.len() != HEADER_OCTETS {
        return Err(Refusal::Malformed);
    }
    let (fields, end) = self::fields(packet, HEADER_OCTETS, 16);
    let rest = packet.len() - end;
    let last_is_short = rest == 0 && fields.last().is_some_and(|last| last.body.len() + 4 < 28);
    if !matches!(rest, 0 | 4 | 20 | 24) || last_is_short {
        return Err(Refusal::Malformed);
    }
    if packet[0] & 0x3f != 4 << 3 | 4 {
        return Err(Refusal::Mode);
    }
    if request.len() < HEADER_OCTETS || packet[24..32] != request[40..48] {
        return Err(Refusal::Origin);
    }
    let authenticator = fields.iter().find(|field| field.kind == AUTHENTICATOR);
    let wanted =
        self::fields(request, HEADER_OCTETS, 4).0.into_iter().find(|field| field.kind == UNIQUE_IDENTIFIER);
    let wanted = wanted.ok_or(Refusal::NoUniqueIdentifier)?.body;
    let covered = authenticator.map_or(packet.len(), |field| field.offset);
    let mut identifiers =
        fields.iter().filter(|field| field.kind == UNIQUE_IDENTIFIER && field.offset < covered).peekable();
    identifiers.peek().ok_or(Refusal::NoUniqueIdentifier)?;
    if identifiers.any(|field| field.body != wanted) {
        return Err(Refusal::UniqueIdentifier);
    }
    let is_kiss = packet[1] == 0 && packet[12..16] == *b"NTSN";
    let authenticator = match authenticator {
        None if is_kiss => return Ok(Belief::Nak),
        None => return Err(Refusal::NoAuthenticator),
        Some(field) if field.end() != packet.len() => return Err(Refusal::AfterAuthenticator),
        Some(field) => field,
    };
    let plaintext = Authenticator::read(authenticator.body)
        .and_then(|found| found.open(s2c, &packet[..authenticator.offset]))
        .ok_or(Refusal::Authenticator)?;
    let (inner, end) = self::fields(&plaintext, 0, 16);
    if end != plaintext.len() {
        return Err(Refusal::Plaintext);
    }
    let usable = |field: &&Field<'_>| field.kind == COOKIE && field.body.len() <= 1024;
    let cookies = inner.iter().filter(usable).map(|field| field.body.to_vec()).take(8).collect();
    Ok(Belief::Believed(cookies))
}
