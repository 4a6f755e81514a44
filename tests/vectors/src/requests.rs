//! Requests with NTS to real servers: what our server does about the same, and how our client reads the answers.

use crate::answers;
use crate::checks::Checks;
use crate::harness::Harness;
use crate::hex::encode;
use crate::oracle::{self, AUTHENTICATOR, COOKIE, HEADER_OCTETS, Outcome, UNIQUE_IDENTIFIER};
use crate::substitute::with_our_cookies;
use crate::vector::Vector;
use chime_nts::{NtsKeys, NtsRequest, NtsRequestError};

/// Kinds `nts-good`, `nts-bad`, `nts-replay`.
pub(crate) fn check(vector: &Vector, checks: &mut Checks) {
    let Some(request) = checks.field("ntp_request", vector.ntp_request.as_deref()) else { return };
    let Some(keys) = checks.field("keys", vector.keys()).and_then(|keys| checks.take(keys)) else { return };
    let expected = check_request(vector, request, &keys, checks);
    if vector.kind != "nts-bad" && !has_short_field(request) {
        checks.that(matches!(expected, Outcome::Time(_)), || format!("a good request gets {expected:?}"));
    }
    check_agreement(vector, expected, checks);
    if let Some(response) = vector.ntp_response.as_deref() {
        answers::check_recorded(vector, request, response, &keys, checks);
    }
}

/// RFC 7822 §3: no field has fewer than 16 octets. What has one gets silence here; some peers are not so strict.
pub(crate) fn has_short_field(request: &[u8]) -> bool {
    oracle::fields(request, HEADER_OCTETS, 4).0.iter().any(|field| field.body.len() < 12)
}

/// Checks what our server does about a request, and gives what it ought to do: when it made the cookie itself.
pub(crate) fn check_request(vector: &Vector, request: &[u8], keys: &NtsKeys, checks: &mut Checks) -> Outcome {
    let genuine: Vec<_> = vector.genuine_cookies().collect();
    let recorded = oracle::judge_request(request, &keys.c2s, |cookie| genuine.contains(&cookie));
    checks.equal("our reading of the octets as recorded", &our_reading(request, keys, &genuine), &recorded);
    let mut harness = Harness::new(Vec::new());
    let (asked, good) = with_our_cookies(request, keys, &genuine, &mut harness);
    let expected = oracle::judge_request(&asked, &keys.c2s, |cookie| good.iter().any(|good| good == cookie));
    if !has_short_field(request) {
        checks.equal("the recorded request with our cookie", &expected, &recorded);
    }
    let answer = harness.ask(&asked);
    check_our_answer(&asked, answer.as_deref(), keys, expected, &harness, checks);
    expected
}

/// The octets as they were recorded, the cookie opened for us.
fn our_reading(request: &[u8], keys: &NtsKeys, genuine: &[&[u8]]) -> Outcome {
    let judged = NtsRequest::parse(request).and_then(|request| {
        let opens = genuine.contains(&request.cookie);
        if opens { request.verify(keys).map(Outcome::Time) } else { Ok(Outcome::Nak) }
    });
    match judged {
        Ok(outcome) => outcome,
        Err(NtsRequestError::Nak(_)) => Outcome::Nak,
        Err(NtsRequestError::Silence(_)) => Outcome::Silence,
        Err(NtsRequestError::NotNts) => Outcome::Plain,
    }
}

/// The answer that our server made, octet for octet.
fn check_our_answer(
    request: &[u8],
    answer: Option<&[u8]>,
    keys: &NtsKeys,
    expected: Outcome,
    harness: &Harness,
    checks: &mut Checks,
) {
    let Some(answer) = answer else {
        checks.equal("our server", &Outcome::Silence, &expected);
        return;
    };
    checks.that(answer.len() <= request.len(), || format!("an answer of {} octets", answer.len()));
    checks.that(answer[24..32] == request[40..48], || "another origin timestamp".to_owned());
    let identifier = |packet| {
        let (fields, _) = oracle::fields(packet, HEADER_OCTETS, 4);
        fields.into_iter().find(|field| field.kind == UNIQUE_IDENTIFIER).map(|field| field.body.to_vec())
    };
    checks.equal("the unique identifier", &identifier(answer), &identifier(request));
    let got = match answer_cookies(answer, keys) {
        Some(cookies) => {
            let lost =
                cookies.iter().filter(|cookie| harness.ring.open_cookie(cookie).as_ref() != Ok(keys)).count();
            checks.equal("cookies that do not open to the same keys", &lost, &0);
            checks.that(answer[1] == 1, || format!("stratum {}", answer[1]));
            Outcome::Time(cookies.len())
        }
        None if answer[1] == 0 && answer[12..16] == *b"NTSN" => Outcome::Nak,
        None => Outcome::Plain,
    };
    checks.equal("our server", &got, &expected);
}

/// The cookies in an answer whose authenticator opens; `None` when there is no such authenticator.
fn answer_cookies(answer: &[u8], keys: &NtsKeys) -> Option<Vec<Vec<u8>>> {
    let (fields, end) = oracle::fields(answer, HEADER_OCTETS, 16);
    let last = fields.last().filter(|last| last.kind == AUTHENTICATOR && end == answer.len())?;
    let plaintext = oracle::Authenticator::read(last.body)?.open(&keys.s2c, &answer[..last.offset])?;
    let (inner, end) = oracle::fields(&plaintext, 0, 16);
    let cookies =
        inner.iter().filter(|field| field.kind == COOKIE).map(|field| field.body.to_vec()).collect();
    (end == plaintext.len()).then_some(cookies)
}

/// Where peers differ ours is a choice (docs/choices.md), but two differences can be no choice: time for what a peer
/// could not verify, and a NAK for what a peer verified.
fn check_agreement(vector: &Vector, expected: Outcome, checks: &mut Checks) {
    let verdict = vector.verdict();
    let known = ["time", "nak", "silence"].contains(&verdict)
        || verdict.starts_with("mode")
        || verdict.starts_with("kiss:");
    checks.that(known, || format!("a verdict that is not known: {verdict}"));
    let verified = vector.verified.as_ref().and_then(|verified| verified.authenticator_opens) == Some(true);
    match (expected, verdict) {
        (Outcome::Time(_), "nak") => {
            checks.that(false, || "time for what the peer could not verify".to_owned())
        }
        (Outcome::Nak, "time") if verified => {
            checks.that(false, || "a NAK for what the peer verified".to_owned())
        }
        (Outcome::Plain, _) => {
            let request = vector.ntp_request.as_deref().map(encode).unwrap_or_default();
            checks.that(false, || format!("no NTS in {request}"));
        }
        _ => {}
    }
}
