//! Exchanges of real clients with the recorder's server: what they asked, our server must answer; what they were told,
//! our client must believe or refuse for the right reason.

use crate::answers::check_belief;
use crate::checks::Checks;
use crate::oracle::{self, Belief, HEADER_OCTETS, Outcome, Refusal, UNIQUE_IDENTIFIER};
use crate::requests::{check_request, has_short_field};
use crate::vector::Vector;
use crate::{establishment, hex, vector};
use chime_nts::NtsKeys;

/// Kind `client-exchange`.
pub(crate) fn check(vector: &Vector, checks: &mut Checks) {
    establishment::check_client_session(
        vector.ke_request.as_deref(),
        vector.ke_response.as_deref(),
        None,
        checks,
    );
    let Some(request) = checks.field("ntp_request", vector.ntp_request.as_deref()) else { return };
    // Where the recorder did not know the cookie it knew no keys either: any will do, since nothing opens.
    let keys = vector.keys().unwrap_or_else(|| vector::keys(15, &[0; 32], &[0; 32]));
    let Some(keys) = checks.take(keys) else { return };
    check_client_request(vector, request, &keys, checks);
    check_answers(vector, request, &keys, checks);
}

fn check_client_request(vector: &Vector, request: &[u8], keys: &NtsKeys, checks: &mut Checks) {
    let (fields, end) = oracle::fields(request, HEADER_OCTETS, 4);
    checks.equal("octets behind the fields", &(request.len() - end), &0);
    if let Some(recorded) = &vector.request_fields {
        let read: Vec<_> =
            fields.iter().map(|field| format!("{:04x}:{}", field.kind, field.body.len() + 4)).collect();
        checks.equal("fields", &read, recorded);
    }
    let identifier = fields.iter().find(|field| field.kind == UNIQUE_IDENTIFIER).map(|field| field.body);
    checks.equal("unique identifier", &identifier, &vector.uid.as_deref());
    let opened = fields
        .last()
        .and_then(|last| oracle::Authenticator::read(last.body)?.open(&keys.c2s, &request[..last.offset]));
    if let Some(opens) = vector.request_authenticator_opens {
        checks.equal("whether the authenticator opens", &opened.is_some(), &opens);
    }
    if let (Some(opened), Some(recorded)) = (&opened, vector.request_plaintext.as_deref()) {
        checks.that(opened == recorded, || format!("opened to {}", hex::encode(opened)));
    }
    let outcome = check_request(vector, request, keys, checks);
    let expected = match vector.placeholders {
        // Where the keys or the cookie are of another establishment than the one recorded: as the recorder found it.
        _ if vector.verdict().starts_with("served nak (") => Outcome::Nak,
        Some(placeholders) => Outcome::Time((1 + placeholders).min(8)),
        None => outcome,
    };
    checks.equal("what a real client asks for", &outcome, &expected);
}

/// Everything that was sent back, in order: forgeries first, then the answer proper.
fn check_answers(vector: &Vector, request: &[u8], keys: &NtsKeys, checks: &mut Checks) {
    let mut beliefs = Vec::new();
    for packet in vector.ntp_response_more.iter().flatten() {
        beliefs.push(check_belief(packet, request, &keys.s2c, checks));
    }
    let served = vector.verdict().strip_prefix("served ").unwrap_or_default();
    checks.that(!served.is_empty(), || format!("a verdict that is not known: {}", vector.verdict()));
    let Some(packet) = vector.ntp_response.as_deref() else {
        checks.equal("an answer missing", &served, &"silent");
        return;
    };
    let belief = check_belief(packet, request, &keys.s2c, checks);
    if served == "forged-then-good" {
        let believed = beliefs.iter().filter(|belief| !matches!(belief, Belief::Refused(_))).count();
        checks.equal("forgeries that were not refused", &believed, &0);
    }
    // With fields as short as these neither side is understood by us, so that the scenario comes to nothing.
    let expected = expectation(served).filter(|_| !has_short_field(request));
    if let Some(expected) = expected {
        checks.that(expected.admits(&belief), || format!("served {served}: {belief:?}, not {expected:?}"));
    }
    check_header(served, packet, checks);
}

/// What is to become of an answer.
#[derive(Clone, Copy, Debug)]
enum Expectation {
    Believed,
    /// Believed, with this number of cookies.
    WithCookies(usize),
    Nak,
    For(Refusal),
}

impl Expectation {
    fn admits(self, belief: &Belief) -> bool {
        match (self, belief) {
            (Self::Believed, Belief::Believed(_)) | (Self::Nak, Belief::Nak) => true,
            (Self::WithCookies(wanted), Belief::Believed(cookies)) => cookies.len() == wanted,
            (Self::For(wanted), Belief::Refused(reason)) => wanted == *reason,
            _ => false,
        }
    }
}

/// By what the recorder's server was told to do. What is not listed is judged by its octets alone.
///
/// Answers from another address or port never reach the association in our client: its sockets are connected. Their
/// octets are good ones.
fn expectation(served: &str) -> Option<Expectation> {
    Some(match served {
        "good" | "dup-response" | "forged-then-good" | "wrong-addr" | "wrong-port" => Expectation::Believed,
        "rate" | "deny" | "rstr" | "kiss-unknown" | "nak-auth" | "stratum16" | "leap3" => {
            Expectation::Believed
        }
        "unknown-ef" | "unknown-inner" | "cookie-longer" | "dup-uid" => Expectation::Believed,
        "extra-cookies" => Expectation::WithCookies(5),
        "no-new-cookies" | "clear-cookies" => Expectation::WithCookies(0),
        "nak" | "nak (unknown cookie)" | "nak (authenticator does not open)" => Expectation::Nak,
        "nak-wrong-uid" | "wrong-uid" | "uid-short" => Expectation::For(Refusal::UniqueIdentifier),
        "nak-no-uid" | "no-uid" | "rate-bare" | "bare" => Expectation::For(Refusal::NoUniqueIdentifier),
        "nak-wrong-origin" | "wrong-origin" | "replay" => Expectation::For(Refusal::Origin),
        "rate-unauth" | "deny-unauth" | "rstr-unauth" | "no-auth" => {
            Expectation::For(Refusal::NoAuthenticator)
        }
        "wrong-tag" | "wrong-key" => Expectation::For(Refusal::Authenticator),
        "trailing-ef" | "trailing-mac" => Expectation::For(Refusal::AfterAuthenticator),
        "cookie-empty" | "inner-garbage" => Expectation::For(Refusal::Plaintext),
        "truncated" | "version3" => Expectation::For(Refusal::Malformed),
        "mode2" => Expectation::For(Refusal::Mode),
        _ => return None,
    })
}

/// What makes a verified answer unfit for synchronisation stands in its header, and we read it there.
fn check_header(served: &str, packet: &[u8], checks: &mut Checks) {
    let Ok(header) = chime_wire::Header::decode(packet) else { return };
    let code = header.reference_id.0.escape_ascii().to_string();
    let kiss = match served {
        "rate" | "rate-unauth" | "rate-bare" => "RATE",
        "deny" | "deny-unauth" => "DENY",
        "rstr" | "rstr-unauth" => "RSTR",
        "kiss-unknown" => "XYZW",
        kiss if kiss.starts_with("nak") => "NTSN",
        "stratum16" => return checks.equal("stratum", &header.stratum, &16),
        "leap3" => return checks.equal("leap", &header.leap, &chime_wire::LeapIndicator::Unsynchronized),
        _ => return,
    };
    checks.equal("kiss code and stratum", &(code.as_str(), header.stratum), &(kiss, 0));
}
