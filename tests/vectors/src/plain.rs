//! Requests without NTS: plain ones, those with symmetric keys, and those of modes 6 and 7.

use crate::checks::Checks;
use crate::harness::Harness;
use crate::hex::encode;
use crate::vector::{MacSeen, Vector};
use chime_wire::{ControlMessage, Header, MacAlgorithm, Packet, SymmetricKey};

/// The keys of the recordings, as a key file.
const KEY_FILE: &str = "\
    1 MD5 ASCII:golden-md5-key\n\
    2 SHA1 HEX:000102030405060708090a0b0c0d0e0f10111213\n\
    3 SHA256 HEX:202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f\n\
    4 AES128 HEX:2b7e151628aed2a6abf7158809cf4f3c\n\
    5 AES256 HEX:603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4\n\
    6 SHA384 HEX:505152535455565758595a5b5c5d5e5f\n\
    7 SHA512 HEX:606162636465666768696a6b6c6d6e6f\n";

/// The keys of the recordings.
pub(crate) fn recorded_keys() -> Vec<SymmetricKey> {
    chime_wire::keyfile::parse(KEY_FILE).map(|key| key.expect("the file above is right")).collect()
}

/// What a server does about a request without NTS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    /// Time, in a packet of this mode, with a digest of so many octets from this key.
    Time {
        mode: u8,
        mac: Option<(u32, usize)>,
    },
    Silence,
}

/// Kinds `plain` and `legacy-mac`.
pub(crate) fn check(vector: &Vector, checks: &mut Checks) {
    let Some(request) = checks.field("ntp_request", vector.ntp_request.as_deref()) else { return };
    check_request(request, vector.mac.as_ref(), checks);
    let expected = expected_answer(request);
    match vector.verdict() {
        "time" | "silence" => {}
        "mode2" => checks.that(expected == Answer::Time { mode: 2, mac: None }, || format!("{expected:?}")),
        other => checks.that(false, || format!("a verdict that is not known: {other}")),
    }
    if let Some(response) = vector.ntp_response.as_deref() {
        check_recorded_answer(vector, request, response, checks);
    }
}

/// Our server's answer to a request, and the MAC in it if the vector knows about one.
pub(crate) fn check_request(request: &[u8], mac: Option<&MacSeen>, checks: &mut Checks) {
    let expected = expected_answer(request);
    let answer = Harness::new(recorded_keys()).ask(request);
    let got = answer.as_deref().map_or(Answer::Silence, |answer| read_answer(request, answer, checks));
    checks.equal("our server", &got, &expected);
    let Some(mac) = mac else { return };
    let key = mac.key.as_deref().zip(mac.algorithm.as_deref());
    if let (Some((secret, algorithm)), Some(covers), Some(digest)) =
        (key, mac.covers.as_deref(), mac.digest.as_deref())
    {
        let key = algorithm.parse::<MacAlgorithm>().map_err(|error| error.to_string());
        let Some(algorithm) = checks.take(key) else { return };
        let key = SymmetricKey::new(mac.key_id, algorithm, secret).map_err(|error| error.to_string());
        let Some(key) = checks.take(key) else { return };
        let mut whole = [0; 64];
        let octets = key.digest(covers, &mut whole);
        let right = whole[..octets].starts_with(digest);
        // A recorded digest that is not ours must be one that our server does not accept.
        checks.that(right || expected == Answer::Silence, || format!("digest {}", encode(&whole[..octets])));
    }
}

/// From the octets: RFC 5905, RFC 7822 and docs/choices.md, read plainly.
fn expected_answer(request: &[u8]) -> Answer {
    let [first, ..] = request else { return Answer::Silence };
    let (version, mode) = (first >> 3 & 7, first & 7);
    if request.len() < 48 || !(1..=4).contains(&version) || !matches!(mode, 1 | 3) {
        return Answer::Silence;
    }
    let mut end = 48;
    while version == 4 && request.len() - end >= 28 {
        let length = usize::from(u16::from_be_bytes([request[end + 2], request[end + 3]]));
        let is_nts = matches!(request[end..end + 2], [1..=4, 4]);
        if is_nts || length < 16 || length % 4 != 0 || length > request.len() - end {
            return Answer::Silence;
        }
        end += length;
    }
    let mode = if mode == 1 { 2 } else { 4 };
    let (covered, mac) = request.split_at(end);
    let Some((id, digest)) = mac.split_first_chunk::<4>() else {
        return if mac.is_empty() { Answer::Time { mode, mac: None } } else { Answer::Silence };
    };
    let id = u32::from_be_bytes(*id);
    let Some(key) = recorded_keys().into_iter().find(|key| key.id() == id) else { return Answer::Silence };
    let mut whole = [0; 64];
    let octets = key.digest(covered, &mut whole);
    let octets = if version == 4 { octets.min(20) } else { octets };
    if *digest == whole[..octets] { Answer::Time { mode, mac: Some((id, octets)) } } else { Answer::Silence }
}

/// Reads what our server sent and checks what every answer has in common.
fn read_answer(request: &[u8], answer: &[u8], checks: &mut Checks) -> Answer {
    checks.that(answer.len() <= request.len(), || format!("an answer of {} octets", answer.len()));
    checks.that(answer[24..32] == request[40..48], || "another origin timestamp".to_owned());
    checks.equal("version", &(answer[0] >> 3 & 7), &(request[0] >> 3 & 7));
    checks.equal("stratum", &answer[1], &1);
    let mac = answer[48..].split_first_chunk::<4>().map(|(id, digest)| (u32::from_be_bytes(*id), digest));
    if let Some((id, digest)) = mac {
        let right = recorded_keys()
            .iter()
            .any(|key| key.id() == id && key.verify(&answer[..48], digest, answer[0] >> 3 & 7));
        checks.that(right, || "our MAC does not verify".to_owned());
    }
    Answer::Time { mode: answer[0] & 7, mac: mac.map(|(id, digest)| (id, digest.len())) }
}

/// The answer of a real server, as our client reads it.
fn check_recorded_answer(vector: &Vector, request: &[u8], response: &[u8], checks: &mut Checks) {
    let header = Header::decode(response).map_err(|error| format!("the recorded answer: {error}"));
    let Some(header) = checks.take(header) else { return };
    checks.that(response[24..32] == request[40..48], || "another origin timestamp was recorded".to_owned());
    checks.equal("the recorded header, encoded again", &header.encode()[..], &response[..48]);
    let parsed = Packet::parse(response).map_err(|error| format!("the recorded answer: {error}"));
    let Some(packet) = checks.take(parsed) else { return };
    let verified = vector.verified.as_ref();
    let Some(id) = verified.and_then(|verified| verified.mac_key_id) else { return };
    let Some(mac) = checks.field("MAC in the recorded answer", packet.mac()) else { return };
    checks.equal("key of the recorded MAC", &mac.key_id, &id);
    let covered = &response[..packet.fields_end()];
    let right =
        recorded_keys().iter().any(|key| key.id() == id && key.verify(covered, mac.digest, header.version));
    checks.equal("the recorded MAC", &Some(right), &verified.and_then(|verified| verified.mac_right));
}

/// Kind `client-mac`: a real client with a symmetric key, and what it was answered.
pub(crate) fn check_client(vector: &Vector, checks: &mut Checks) {
    let Some(request) = checks.field("ntp_request", vector.ntp_request.as_deref()) else { return };
    let Some(seen) = checks.field("mac", vector.mac.as_ref()) else { return };
    let right = is_authentic(request, seen.key_id);
    checks.equal("the client's MAC", &Some(right), &vector.request_mac_right);
    check_request(request, Some(seen), checks);
    checks.that(!right || expected_answer(request) != Answer::Silence, || {
        "a real client is not answered".to_owned()
    });
    let served = vector.verdict().strip_prefix("served ").unwrap_or_default();
    let Some(response) = vector.ntp_response.as_deref() else {
        return checks.equal("an answer missing", &served, &"peer");
    };
    let accepted = is_authentic(response, seen.key_id) && response[24..32] == request[40..48];
    match served {
        "good" | "good-v3" => checks.that(accepted, || "a good answer is refused".to_owned()),
        "crypto-nak" | "other-key" | "trunc" | "unknown-key" | "no-mac" | "wrong-digest" => {
            checks.that(!accepted, || format!("believed, although served {served}"));
        }
        other => checks.that(false, || format!("a verdict that is not known: {other}")),
    }
}

/// Whether a packet has a right MAC of the key that was agreed on.
fn is_authentic(packet: &[u8], key_id: u32) -> bool {
    let Ok(parsed) = Packet::parse(packet) else { return false };
    let Some(mac) = parsed.mac().filter(|mac| mac.key_id == key_id) else { return false };
    let covered = &packet[..parsed.fields_end()];
    recorded_keys()
        .iter()
        .any(|key| key.id() == key_id && key.verify(covered, mac.digest, parsed.header.version))
}

/// Kinds `mode6` and `mode7`: our server does not answer these unless it is configured, which it is not here.
pub(crate) fn check_control(vector: &Vector, checks: &mut Checks) {
    let Some(request) = checks.field("ntp_request", vector.ntp_request.as_deref()) else { return };
    let answer = Harness::new(recorded_keys()).ask(request);
    checks.that(answer.is_none(), || "answered".to_owned());
    match vector.verdict() {
        "silence" => {}
        "mode6" => {
            let Some(response) = checks.field("ntp_response", vector.ntp_response.as_deref()) else { return };
            check_control_answer(request, response, checks);
        }
        other => checks.that(false, || format!("a verdict that is not known: {other}")),
    }
}

/// One fragment of an answer to a control message.
pub(crate) fn check_control_answer(request: &[u8], response: &[u8], checks: &mut Checks) {
    let read = ControlMessage::decode(response).map_err(|error| format!("the recorded answer: {error}"));
    let Some(answer) = checks.take(read) else { return };
    checks.that(answer.is_response, || "not marked as a response".to_owned());
    // What is asked with a wrong count is answered with an error, so of the request only the header counts.
    let Some([first, operation, sequence_high, sequence_low, ..]) = request.first_chunk::<12>() else {
        return checks.that(false, || "an answer to half a request".to_owned());
    };
    checks.equal("mode of the request", &(first & 7), &6);
    checks.equal("operation", &answer.opcode, &(operation & 0x1f));
    checks.equal("sequence", &answer.sequence, &u16::from_be_bytes([*sequence_high, *sequence_low]));
}
