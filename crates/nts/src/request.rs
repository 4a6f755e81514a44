//! The server's side of NTS in NTP packets: requests read, answers written. RFC 8915 §5.7.
//!
//! A server calls [`NtsRequest::from_packet`], opens the cookie with its [`crate::KeyRing`], calls
//! [`NtsRequest::verify`], and writes its header and [`write_nts_response`], or [`write_nts_nak`]. What is neither
//! answered in time nor by a NAK gets silence; a packet with any NTS field never gets unauthenticated time.

use crate::authenticator::{self, Authenticator, PlaintextRoom, encrypted_fields};
use crate::{
    AEAD_TAG_OCTETS, Aead, AeadAlgorithm, AeadError, AeadKey, COOKIES_MAX, Cookie, CookieError, KeyRing,
    NtsKeys,
};
use chime_wire::{
    DATAGRAM_OCTETS_MAX, DecodeError, EXTENSION_FIELD_HEADER_OCTETS, ExtensionField, FieldWriter,
    HEADER_OCTETS, Mode, Packet, field_type,
};

/// Octets of the shortest unique identifier that is answered. RFC 8915 §5.3 asks for 32; peers take any that fit a field.
pub const UNIQUE_IDENTIFIER_OCTETS_MIN: usize = 12;
/// Octets of the longest unique identifier that is answered.
pub const UNIQUE_IDENTIFIER_OCTETS_MAX: usize = 512;
/// Octets of the longest cookie that a NAK is sent for; longer ones were never ours.
pub const REQUEST_COOKIE_OCTETS_MAX: usize = 512;

/// Why an NTS request gets no answer at all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum NtsSilence {
    /// The packet cannot be read.
    #[error("malformed packet: {0}")]
    Malformed(DecodeError),
    /// NTS fields in a packet that is not a client's.
    #[error("NTS fields in a packet that is not a client's request")]
    Mode,
    /// No unique identifier.
    #[error("no unique identifier")]
    NoUniqueIdentifier,
    /// More than one unique identifier.
    #[error("more than one unique identifier")]
    SecondUniqueIdentifier,
    /// A unique identifier of more than [`UNIQUE_IDENTIFIER_OCTETS_MAX`].
    #[error("the unique identifier has an impossible length")]
    UniqueIdentifierLength,
    /// No cookie.
    #[error("no cookie")]
    NoCookie,
    /// More than one cookie.
    #[error("more than one cookie")]
    SecondCookie,
    /// A cookie of more than [`REQUEST_COOKIE_OCTETS_MAX`].
    #[error("the cookie has an impossible length")]
    CookieLength,
    /// A placeholder that is not as long as the cookie. RFC 8915 §5.5.
    #[error("a placeholder is not as long as the cookie")]
    PlaceholderLength,
    /// No authenticator.
    #[error("no authenticator")]
    NoAuthenticator,
    /// A field, a MAC or a second authenticator behind the authenticator.
    #[error("octets behind the authenticator")]
    AfterAuthenticator,
    /// What was encrypted are not extension fields.
    #[error("the encrypted part is not made of extension fields")]
    Plaintext,
    /// An encrypted part longer than any datagram that we take.
    #[error("the encrypted part is too long")]
    TooLong,
}

/// Why an NTS request gets an NTS NAK. RFC 8915 §5.7.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum NakReason {
    /// The cookie did not open.
    #[error("{0}")]
    Cookie(#[source] CookieError),
    /// The authenticator's lengths do not fit it, or leave no room for a nonce. RFC 8915 §5.6.
    #[error("the authenticator's lengths are impossible")]
    AuthenticatorLengths,
    /// The authenticator did not open.
    #[error("the authenticator is wrong")]
    Unauthentic,
}

/// What to do with a packet that is not a good NTS request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum NtsRequestError {
    /// No NTS field in it: a plain request.
    #[error("no NTS fields")]
    NotNts,
    /// Not answered.
    #[error("{0}")]
    Silence(NtsSilence),
    /// Answered by an NTS NAK.
    #[error("{0}")]
    Nak(NakReason),
}

impl From<NtsSilence> for NtsRequestError {
    fn from(reason: NtsSilence) -> Self {
        Self::Silence(reason)
    }
}

impl From<NakReason> for NtsRequestError {
    fn from(reason: NakReason) -> Self {
        Self::Nak(reason)
    }
}

/// A request with every NTS field where it belongs; not verified yet.
#[derive(Clone, Debug)]
pub struct NtsRequest<'a> {
    /// The body of the unique identifier field, to be echoed.
    pub unique_identifier: &'a [u8],
    /// The body of the cookie field.
    pub cookie: &'a [u8],
    /// Placeholders outside of the encrypted part.
    pub placeholders: usize,
    packet_octets: usize,
    authenticator: Option<Authenticator<'a>>,
}

impl<'a> NtsRequest<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`NtsRequestError::NotNts`] or [`NtsRequestError::Silence`], never a NAK.
    pub fn parse(octets: &'a [u8]) -> Result<Self, NtsRequestError> {
        Self::from_packet(&Packet::parse(octets).map_err(NtsSilence::Malformed)?)
    }

    /// Reads the NTS fields of a packet.
    ///
    /// # Errors
    /// [`NtsRequestError::NotNts`] or [`NtsRequestError::Silence`], never a NAK.
    pub fn from_packet(packet: &Packet<'a>) -> Result<Self, NtsRequestError> {
        if !packet.fields().flatten().any(|field| is_nts_field(&field)) {
            return Err(NtsRequestError::NotNts);
        }
        if packet.header.mode != Mode::Client {
            return Err(NtsSilence::Mode.into());
        }
        let fields = NtsFields::collect(packet)?;
        let unique_identifier = fields.unique_identifier.ok_or(NtsSilence::NoUniqueIdentifier)?;
        let cookie = fields.cookie.ok_or(NtsSilence::NoCookie)?;
        let authenticator = fields.authenticator.ok_or(NtsSilence::NoAuthenticator)?;
        if authenticator.end() != packet.octets().len() {
            return Err(NtsSilence::AfterAuthenticator.into());
        }
        check_lengths(unique_identifier, cookie)?;
        let placeholders = count_placeholders(packet.fields(), cookie.len())?;
        Ok(Self {
            unique_identifier,
            cookie,
            placeholders,
            packet_octets: packet.octets().len(),
            authenticator: Authenticator::parse(packet.octets(), authenticator.offset, authenticator.body),
        })
    }

    /// Verifies the authenticator with the keys that the cookie carried, and gives how many cookies are asked for: one,
    /// and one for each placeholder, at most [`COOKIES_MAX`].
    ///
    /// # Errors
    /// [`NtsRequestError::Nak`] or [`NtsRequestError::Silence`].
    pub fn verify(&self, keys: &NtsKeys) -> Result<usize, NtsRequestError> {
        let authenticator = self.authenticator_for(keys.algorithm())?;
        let aead = keys.c2s.expand();
        let encrypted = if authenticator.is_empty() {
            self.encrypted_placeholders(&authenticator, &aead, &mut [])?
        } else {
            // Clearing this much room costs as much as the rest; most requests have nothing encrypted.
            let mut room: PlaintextRoom = [0; DATAGRAM_OCTETS_MAX];
            self.encrypted_placeholders(&authenticator, &aead, &mut room)?
        };
        Ok((1 + self.placeholders + encrypted).min(COOKIES_MAX))
    }

    /// The authenticator, when its lengths are possible.
    pub(crate) fn authenticator_for(
        &self,
        algorithm: AeadAlgorithm,
    ) -> Result<Authenticator<'a>, NtsRequestError> {
        self.authenticator
            .filter(|authenticator| authenticator.leaves_room_for_nonce(algorithm))
            .ok_or(NakReason::AuthenticatorLengths.into())
    }

    fn encrypted_placeholders(
        &self,
        authenticator: &Authenticator<'_>,
        aead: &Aead,
        room: &mut [u8],
    ) -> Result<usize, NtsRequestError> {
        let plaintext = authenticator.open(aead, room).map_err(|error| match error {
            AeadError::BufferTooShort => NtsRequestError::Silence(NtsSilence::TooLong),
            _ => NtsRequestError::Nak(NakReason::Unauthentic),
        })?;
        Ok(count_placeholders(encrypted_fields(plaintext), self.cookie.len())?)
    }

    /// Opens the cookie with `ring`, verifies the request with the keys that were in it, and gives these and how many
    /// cookies to answer with: as many as are asked for, but never so many that the answer, a header with what
    /// [`write_nts_response`] appends, would be longer than the request.
    ///
    /// # Errors
    /// [`NtsRequestError::Nak`] or [`NtsRequestError::Silence`].
    pub fn accept(&self, ring: &KeyRing) -> Result<(NtsKeys, usize), NtsRequestError> {
        let keys = ring.open_cookie(self.cookie).map_err(NakReason::Cookie)?;
        let cookies = self.cookies_that_fit(ring, keys.algorithm(), self.verify(&keys)?);
        Ok((keys, cookies))
    }

    /// A request leaves room for as many cookies as it asks for when they are as long as the one that it brought, which
    /// holds unless an older version of us, or another program, made that one.
    pub(crate) fn cookies_that_fit(&self, ring: &KeyRing, algorithm: AeadAlgorithm, wanted: usize) -> usize {
        let overhead = HEADER_OCTETS
            + (EXTENSION_FIELD_HEADER_OCTETS + self.unique_identifier.len())
            + (EXTENSION_FIELD_HEADER_OCTETS + 4 + algorithm.nonce_octets() + AEAD_TAG_OCTETS);
        let cookie_field = EXTENSION_FIELD_HEADER_OCTETS + ring.fresh_cookie_octets(algorithm);
        wanted.min(self.packet_octets.saturating_sub(overhead) / cookie_field)
    }
}

/// The fields of which there may be one.
#[derive(Default)]
struct NtsFields<'a> {
    unique_identifier: Option<&'a [u8]>,
    cookie: Option<&'a [u8]>,
    authenticator: Option<ExtensionField<'a>>,
}

impl<'a> NtsFields<'a> {
    fn collect(packet: &Packet<'a>) -> Result<Self, NtsSilence> {
        let mut found = Self::default();
        for field in packet.fields() {
            let field = field.map_err(NtsSilence::Malformed)?;
            if found.authenticator.is_some() {
                return Err(NtsSilence::AfterAuthenticator);
            }
            let second = match field.field_type {
                field_type::UNIQUE_IDENTIFIER => {
                    found.unique_identifier.replace(field.body).map(|_| NtsSilence::SecondUniqueIdentifier)
                }
                field_type::NTS_COOKIE => found.cookie.replace(field.body).map(|_| NtsSilence::SecondCookie),
                field_type::NTS_AUTHENTICATOR => {
                    found.authenticator = Some(field);
                    None
                }
                _ => None,
            };
            if let Some(reason) = second {
                return Err(reason);
            }
        }
        Ok(found)
    }
}

const fn is_nts_field(field: &ExtensionField<'_>) -> bool {
    matches!(
        field.field_type,
        field_type::UNIQUE_IDENTIFIER
            | field_type::NTS_COOKIE
            | field_type::NTS_COOKIE_PLACEHOLDER
            | field_type::NTS_AUTHENTICATOR
    )
}

fn check_lengths(unique_identifier: &[u8], cookie: &[u8]) -> Result<(), NtsSilence> {
    if !(UNIQUE_IDENTIFIER_OCTETS_MIN..=UNIQUE_IDENTIFIER_OCTETS_MAX).contains(&unique_identifier.len()) {
        return Err(NtsSilence::UniqueIdentifierLength);
    }
    if cookie.len() > REQUEST_COOKIE_OCTETS_MAX {
        return Err(NtsSilence::CookieLength);
    }
    Ok(())
}

/// Placeholders among `fields`, in the clear or encrypted. RFC 8915 §5.5: as long as the cookie, their content ignored.
fn count_placeholders<'f>(
    fields: impl Iterator<Item = Result<ExtensionField<'f>, DecodeError>>,
    cookie_octets: usize,
) -> Result<usize, NtsSilence> {
    let mut placeholders = 0;
    for field in fields {
        let field = field.map_err(|_| NtsSilence::Plaintext)?;
        if field.field_type == field_type::NTS_COOKIE_PLACEHOLDER {
            if field.body.len() != cookie_octets {
                return Err(NtsSilence::PlaceholderLength);
            }
            placeholders += 1;
        }
    }
    Ok(placeholders)
}

/// Appends the NTS fields of a good answer to its header: the unique identifier, and an authenticator that covers both
/// and has `cookies` encrypted in it. `nonce` has [`crate::AeadAlgorithm::nonce_octets`] octets and is used once.
///
/// # Errors
/// [`DecodeError::BufferTooShort`] when the answer does not fit, [`DecodeError::FieldLength`] for a nonce of another length.
pub fn write_nts_response(
    writer: &mut FieldWriter<'_>,
    unique_identifier: &[u8],
    s2c: &AeadKey,
    nonce: &[u8],
    cookies: &[Cookie],
) -> Result<(), DecodeError> {
    writer.put_field(field_type::UNIQUE_IDENTIFIER, unique_identifier, 0)?;
    let fields = cookies.iter().map(|cookie| (field_type::NTS_COOKIE, cookie.as_bytes()));
    authenticator::write(writer, &s2c.expand(), nonce, fields)
}

/// Appends the only field of an NTS NAK to its header (stratum 0, kiss code NTSN): the unique identifier.
///
/// # Errors
/// [`DecodeError::BufferTooShort`] when the answer does not fit.
pub fn write_nts_nak(writer: &mut FieldWriter<'_>, unique_identifier: &[u8]) -> Result<(), DecodeError> {
    writer.put_field(field_type::UNIQUE_IDENTIFIER, unique_identifier, 0)
}

#[cfg(test)]
mod tests;
