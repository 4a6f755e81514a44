//! The client's side of NTS in NTP packets: requests written, answers verified. RFC 8915 §5.7.

use crate::authenticator::{self, Authenticator, PlaintextRoom, encrypted_fields};
use crate::{AeadKey, COOKIES_MAX, Cookie};
use arrayvec::ArrayVec;
use chime_wire::{
    DATAGRAM_OCTETS_MAX, DecodeError, ExtensionField, FieldWriter, KissCode, Mode, Packet, field_type,
};
use subtle::ConstantTimeEq;

/// Octets of the unique identifiers that we send. RFC 8915 §5.3.
pub const UNIQUE_IDENTIFIER_OCTETS: usize = 32;

/// Why an answer is not believed. It is counted and ignored; waiting for a better one goes on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum NtsResponseError {
    /// The packet cannot be read.
    #[error("malformed packet: {0}")]
    Malformed(DecodeError),
    /// Not version 4, or not a server's answer.
    #[error("not a version 4 answer of a server")]
    NotServerMode,
    /// No unique identifier.
    #[error("no unique identifier")]
    NoUniqueIdentifier,
    /// The answer to another request, or a forgery.
    #[error("the unique identifier is not that of the request")]
    UniqueIdentifierMismatch,
    /// No authenticator.
    #[error("no authenticator")]
    NoAuthenticator,
    /// A field, a MAC or a second authenticator behind the authenticator, where nothing is authenticated.
    #[error("octets behind the authenticator")]
    AfterAuthenticator,
    /// The authenticator did not open: another key, or something was changed on the way.
    #[error("the authenticator is wrong")]
    AuthenticatorFailed,
    /// What was encrypted are not extension fields.
    #[error("the encrypted part is not made of extension fields")]
    Plaintext,
}

/// Appends the NTS fields of a request to its header: unique identifier, cookie, placeholders, authenticator.
///
/// `unique_identifier` and `nonce` are random and used once; `nonce` has [`crate::AeadAlgorithm::nonce_octets`] octets. A
/// client that has n cookies, this one among them, asks for more with 8 − n placeholders.
///
/// # Errors
/// [`DecodeError::BufferTooShort`] when the request does not fit, [`DecodeError::FieldLength`] for a nonce of another length.
pub fn write_nts_request(
    writer: &mut FieldWriter<'_>,
    unique_identifier: &[u8; UNIQUE_IDENTIFIER_OCTETS],
    cookie: &[u8],
    placeholders: usize,
    c2s: &AeadKey,
    nonce: &[u8],
) -> Result<(), DecodeError> {
    writer.put_field(field_type::UNIQUE_IDENTIFIER, unique_identifier, 0)?;
    writer.put_field(field_type::NTS_COOKIE, cookie, 0)?;
    for _ in 0..placeholders {
        writer.reserve_field(field_type::NTS_COOKIE_PLACEHOLDER, cookie.len(), 0)?.fill(0);
    }
    authenticator::write(writer, &c2s.expand(), nonce, std::iter::empty())
}

/// Verifies an answer and adds the cookies in it to `cookies`, as long as there is room and they are of a length that we
/// take. The origin timestamp is for the caller to check. Cookies outside of the encrypted part are not taken.
///
/// # Errors
/// [`NtsResponseError`]; `cookies` is as it was then, and nothing in the packet may be believed.
pub fn verify_nts_response(
    packet: &[u8],
    unique_identifier: &[u8],
    s2c: &AeadKey,
    cookies: &mut ArrayVec<Cookie, COOKIES_MAX>,
) -> Result<(), NtsResponseError> {
    let packet = Packet::parse(packet).map_err(NtsResponseError::Malformed)?;
    if packet.header.version != 4 || packet.header.mode != Mode::Server {
        return Err(NtsResponseError::NotServerMode);
    }
    check_unique_identifier(&packet, unique_identifier)?;
    let field = authenticator_field(&packet)?;
    let authenticator = Authenticator::parse(packet.octets(), field.offset, field.body)
        .ok_or(NtsResponseError::AuthenticatorFailed)?;
    let mut room: PlaintextRoom = [0; DATAGRAM_OCTETS_MAX];
    let plaintext =
        authenticator.open(&s2c.expand(), &mut room).map_err(|_| NtsResponseError::AuthenticatorFailed)?;
    if encrypted_fields(plaintext).any(|field| field.is_err()) {
        return Err(NtsResponseError::Plaintext);
    }
    let fresh =
        encrypted_fields(plaintext).flatten().filter(|field| field.field_type == field_type::NTS_COOKIE);
    for cookie in fresh.filter_map(|field| Cookie::new(field.body).ok()) {
        if cookies.try_push(cookie).is_err() {
            break;
        }
    }
    Ok(())
}

/// Whether a packet is an NTS NAK for the request with `unique_identifier`. It is not authenticated: whoever saw the
/// request can make one. The origin timestamp is for the caller to check. RFC 8915 §5.7.
#[must_use]
pub fn is_nts_nak(packet: &[u8], unique_identifier: &[u8]) -> bool {
    Packet::parse(packet).is_ok_and(|packet| {
        let header = &packet.header;
        (header.version, header.mode, header.stratum) == (4, Mode::Server, 0)
            && header.reference_id.kiss_code() == KissCode::NTSN
            && check_unique_identifier(&packet, unique_identifier).is_ok()
            && authenticator_field(&packet) == Err(NtsResponseError::NoAuthenticator)
    })
}

/// The identifier is there, and each field of its kind before the authenticator has the right one.
fn check_unique_identifier(packet: &Packet<'_>, wanted: &[u8]) -> Result<(), NtsResponseError> {
    let mut found = false;
    for field in packet.fields().flatten() {
        match field.field_type {
            field_type::UNIQUE_IDENTIFIER if bool::from(field.body.ct_eq(wanted)) => found = true,
            field_type::UNIQUE_IDENTIFIER => return Err(NtsResponseError::UniqueIdentifierMismatch),
            field_type::NTS_AUTHENTICATOR => break,
            _ => {}
        }
    }
    if found { Ok(()) } else { Err(NtsResponseError::NoUniqueIdentifier) }
}

/// The authenticator, which is the last thing in the packet.
fn authenticator_field<'a>(packet: &Packet<'a>) -> Result<ExtensionField<'a>, NtsResponseError> {
    let field = packet
        .fields()
        .flatten()
        .find(|field| field.field_type == field_type::NTS_AUTHENTICATOR)
        .ok_or(NtsResponseError::NoAuthenticator)?;
    if field.end() == packet.octets().len() { Ok(field) } else { Err(NtsResponseError::AfterAuthenticator) }
}

#[cfg(test)]
mod tests;
