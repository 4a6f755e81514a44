//! The command protocols of chronyc and ntpq, as far as this program reads them: headers, lengths, and that what is to be
//! echoed is echoed.

use crate::checks::Checks;
use crate::plain::{check_control_answer, recorded_keys};
use crate::vector::{Datagram, Vector};
use chime_wire::chrony_command::{COMMAND_VERSION, CommandReply, CommandRequest};
use chime_wire::{ControlMessage, DecodeError};

const STATUS_SUCCESS: u16 = 0;
const STATUS_INVALID: u16 = 3;
const STATUS_BAD_VERSION: u16 = 18;

/// Kinds `chronyc` and `chronyc-set`: requests and their replies in turn.
pub(crate) fn check_chronyc(vector: &Vector, checks: &mut Checks) {
    let Some(exchange) = checks.field("exchange", vector.exchange.as_deref()) else { return };
    for pair in exchange.chunks(2) {
        let [request, rest @ ..] = pair else { continue };
        checks.equal("direction", &request.dir.as_str(), &"request");
        let read = CommandRequest::decode(&request.data).map_err(|error| format!("a request: {error}"));
        let Some(asked) = checks.take(read) else { continue };
        checks.equal("version of a request", &asked.version, &COMMAND_VERSION);
        if let [reply] = rest {
            checks.equal("direction", &reply.dir.as_str(), &"reply");
            check_reply(&request.data, &asked, &reply.data, checks);
        }
    }
}

fn check_reply(request: &[u8], asked: &CommandRequest<'_>, reply: &[u8], checks: &mut Checks) {
    checks.that(reply.len() <= request.len(), || format!("a reply of {} octets", reply.len()));
    let read = CommandReply::decode(reply).map_err(|error| format!("a reply: {error}"));
    let Some(told) = checks.take(read) else { return };
    checks.equal("command and sequence", &(told.command, told.sequence), &(asked.command, asked.sequence));
    let carries_data = told.reply != 1;
    checks.that(told.status == STATUS_SUCCESS || !carries_data, || "an error with data".to_owned());
    checks.equal("data in the reply", &!told.payload.is_empty(), &carries_data);
    let bad_version = asked.version != COMMAND_VERSION;
    checks.equal("whether the version is refused", &(told.status == STATUS_BAD_VERSION), &bad_version);
}

/// Kind `cmdmon-raw`: one packet made by hand, and what came back.
pub(crate) fn check_raw(vector: &Vector, checks: &mut Checks) {
    let request = vector.request.as_deref().unwrap_or_default();
    let asked = CommandRequest::decode(request);
    let Some(reply) = vector.reply.as_deref() else {
        checks.equal("verdict", &vector.verdict(), &"silence");
        let dropped = matches!(
            asked,
            Err(DecodeError::HeaderTruncated | DecodeError::Mode | DecodeError::Version | DecodeError::Count)
        );
        checks.that(dropped, || format!("read as {asked:?}, and chronyd dropped it"));
        return;
    };
    let Some(asked) = checks.take(asked.map_err(|error| format!("refused ({error}), and chronyd answered")))
    else {
        return;
    };
    check_reply(request, &asked, reply, checks);
    let Some(told) = CommandReply::decode(reply).ok() else { return };
    checks.equal("status", &format!("reply status {}", told.status).as_str(), &vector.verdict());
    let is_known = asked.command <= 1000;
    checks
        .that(is_known || told.status == STATUS_INVALID, || "an unknown command was carried out".to_owned());
}

/// Kinds `ntpq` and `ntpq-auth`: requests, and one or more fragments of an answer to each.
pub(crate) fn check_ntpq(vector: &Vector, checks: &mut Checks) {
    let Some(exchange) = checks.field("exchange", vector.exchange.as_deref()) else { return };
    if exchange.is_empty() {
        checks.that(true, String::new); // what ntpq refuses without asking
    }
    let mut request: Option<&Datagram> = None;
    let mut answer = Fragments::default();
    for datagram in exchange {
        let read =
            ControlMessage::decode(&datagram.data).map_err(|error| format!("a {}: {error}", datagram.dir));
        let Some(message) = checks.take(read) else { continue };
        check_mac(vector, &message, checks);
        checks.equal("response bit", &message.is_response, &(datagram.dir == "reply"));
        if datagram.dir != "reply" {
            answer.finish(checks);
            request = Some(datagram);
        } else if let Some(request) = checks.field("request before the reply", request) {
            check_control_answer(&request.data, &datagram.data, checks);
            answer.push(&message);
        }
    }
    answer.finish(checks);
}

/// Recorded with keys 1 and 2; an answer to a request with a key has a MAC of the same.
fn check_mac(vector: &Vector, message: &ControlMessage<'_>, checks: &mut Checks) {
    checks.equal("a MAC", &message.mac().is_some(), &(vector.kind == "ntpq-auth"));
    let Some(mac) = message.mac() else { return };
    let key = recorded_keys().into_iter().find(|key| key.id() == mac.key_id);
    let Some(key) = checks.field("key of the MAC", key) else { return };
    // Control messages carry whole digests of up to 20 octets, whatever their version.
    checks.that(key.verify(message.authenticated_octets(), mac.digest, 4), || "the MAC is wrong".to_owned());
}

/// The fragments of one answer: their data join without a gap, and only the last says that there is no more.
#[derive(Default)]
struct Fragments {
    pieces: Vec<(usize, usize, bool)>,
}

impl Fragments {
    fn push(&mut self, message: &ControlMessage<'_>) {
        self.pieces.push((usize::from(message.offset), message.data.len(), message.has_more));
    }

    fn finish(&mut self, checks: &mut Checks) {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.sort_unstable();
        let mut expected = 0;
        for (index, (offset, octets, has_more)) in pieces.iter().enumerate() {
            checks.equal("offset of a fragment", offset, &expected);
            checks.equal("more to come", has_more, &(index + 1 < pieces.len()));
            expected = offset + octets;
        }
    }
}
