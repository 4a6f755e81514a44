//! Answers with NTS: what our client makes of them.

use crate::checks::Checks;
use crate::hex::Hex;
use crate::oracle::{self, Belief, HEADER_OCTETS, Refusal, UNIQUE_IDENTIFIER};
use crate::vector::Vector;
use arrayvec::ArrayVec;
use chime_nts::{AeadKey, NtsKeys, NtsResponseError, is_nts_nak, verify_nts_response};
use chime_wire::{Header, Mode, Packet};

/// Judges an answer to `request` with our client's functions, in the order in which the engine uses them.
pub(crate) fn our_belief(packet: &[u8], request: &[u8], s2c: &AeadKey) -> Belief {
    examine(packet, request, s2c).unwrap_or_else(Belief::Refused)
}

fn examine(packet: &[u8], request: &[u8], s2c: &AeadKey) -> Result<Belief, Refusal> {
    let header = Packet::parse(packet).map_err(|_| Refusal::Malformed)?.header;
    if header.version != 4 || header.mode != Mode::Server {
        return Err(Refusal::Mode);
    }
    let sent = Header::decode(request).map_err(|_| Refusal::Origin)?;
    if header.origin != sent.transmit {
        return Err(Refusal::Origin);
    }
    let identifier = unique_identifier(request).ok_or(Refusal::NoUniqueIdentifier)?;
    if is_nts_nak(packet, identifier) {
        return Ok(Belief::Nak);
    }
    let mut cookies = ArrayVec::new();
    verify_nts_response(packet, identifier, s2c, &mut cookies).map_err(refusal)?;
    Ok(Belief::Believed(cookies.iter().map(|cookie| cookie.as_bytes().to_vec()).collect()))
}

/// The recorder's own identifiers; some of its requests cannot be parsed by us, so it is looked for plainly.
fn unique_identifier(request: &[u8]) -> Option<&[u8]> {
    let (fields, _) = oracle::fields(request, HEADER_OCTETS, 4);
    fields.into_iter().find(|field| field.kind == UNIQUE_IDENTIFIER).map(|field| field.body)
}

const fn refusal(error: NtsResponseError) -> Refusal {
    match error {
        NtsResponseError::Malformed(_) => Refusal::Malformed,
        NtsResponseError::NotServerMode => Refusal::Mode,
        NtsResponseError::NoUniqueIdentifier => Refusal::NoUniqueIdentifier,
        NtsResponseError::UniqueIdentifierMismatch => Refusal::UniqueIdentifier,
        NtsResponseError::NoAuthenticator => Refusal::NoAuthenticator,
        NtsResponseError::AfterAuthenticator => Refusal::AfterAuthenticator,
        NtsResponseError::AuthenticatorFailed => Refusal::Authenticator,
        NtsResponseError::Plaintext => Refusal::Plaintext,
    }
}

/// Checks our reading of one answer against the oracle's, and gives it.
pub(crate) fn check_belief(packet: &[u8], request: &[u8], s2c: &AeadKey, checks: &mut Checks) -> Belief {
    let ours = our_belief(packet, request, s2c);
    checks.equal("our client", &ours, &oracle::judge_answer(packet, request, s2c));
    ours
}

/// The answer of a real server to a request of the recorder.
pub(crate) fn check_recorded(
    vector: &Vector,
    request: &[u8],
    packet: &[u8],
    keys: &NtsKeys,
    checks: &mut Checks,
) {
    if packet.first().is_some_and(|first| first & 7 == 6) {
        return; // a control message; its framing is checked with those
    }
    let belief = check_belief(packet, request, &keys.s2c, checks);
    if unique_identifier(request).is_none() {
        checks.that(!matches!(belief, Belief::Believed(_)), || "believed without an identifier".to_owned());
        return;
    }
    let verified = vector.verified.as_ref();
    let opens = verified.and_then(|verified| verified.authenticator_opens) == Some(true);
    match &belief {
        Belief::Believed(cookies) => {
            checks.that(opens, || "believed, and the recorder could not open it".to_owned());
            let recorded = verified.and_then(|verified| verified.new_cookies.as_deref()).unwrap_or_default();
            let recorded: Vec<_> = recorded.iter().map(|Hex(cookie)| cookie.clone()).take(8).collect();
            checks.equal("new cookies", cookies, &recorded);
        }
        Belief::Nak => checks.equal("verdict", &vector.verdict(), &"nak"),
        Belief::Refused(reason) => {
            // A real server's authenticated answer may only be refused because it echoes another identifier or none.
            let identifier = matches!(reason, Refusal::UniqueIdentifier | Refusal::NoUniqueIdentifier);
            checks
                .that(!opens || identifier, || format!("refused for {reason:?}, and the recorder opened it"));
        }
    }
}
