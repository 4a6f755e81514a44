//! Requests with NTS fields: answered in time with NTS, with an NTS NAK, or not at all. RFC 8915 §5.7.

use super::{Answered, Asked, Environment, Interleaving, Message, NTS_REQUESTS_MAX, Published};
use crate::{ClientTable, RateDecision, ResponseKind, ServerCounters, SilenceReason, TransmitTimes};
use arrayvec::ArrayVec;
use chime_nts::{BatchAnswer, COOKIES_MAX, NtsBatch, NtsRequest, NtsRequestError, write_nts_nak};
use chime_wire::{FieldWriter, HEADER_OCTETS, KissCode};

type Results = ArrayVec<Result<Answered, SilenceReason>, NTS_REQUESTS_MAX>;

/// A request with NTS fields that waits for others, with the room for its answer.
#[derive(Debug)]
pub struct PendingNts<'a> {
    request: NtsRequest<'a>,
    asked: Asked,
    message: Message,
    response: &'a mut [u8],
}

impl<'a> PendingNts<'a> {
    pub(super) const fn new(
        request: NtsRequest<'a>,
        asked: Asked,
        message: Message,
        response: &'a mut [u8],
    ) -> Self {
        Self { request, asked, message, response }
    }

    pub(super) const fn request_octets(&self) -> usize {
        self.asked.octets
    }
}

/// What of a responder this takes.
pub(super) struct Desk<'a> {
    pub(super) batch: &'a mut NtsBatch,
    pub(super) nak_clients: &'a mut ClientTable,
    pub(super) counters: &'a mut ServerCounters,
    pub(super) transmit_times: Option<&'a TransmitTimes>,
}

/// Verifies all, then writes all answers; the clock is read once for them, when the last step is all that is left to do.
pub(super) fn respond<E: Environment>(
    pending: &mut [PendingNts<'_>],
    Desk { batch, nak_clients, counters, transmit_times }: Desk<'_>,
    published: &Published<'_>,
    environment: &mut E,
) -> Results {
    let mut results = Results::new();
    let Some(ring) = published.keys else {
        results.extend(pending.iter().take(NTS_REQUESTS_MAX).map(|_| Err(SilenceReason::NtsNotServed)));
        return results;
    };
    let mut requests = ArrayVec::<&NtsRequest<'_>, NTS_REQUESTS_MAX>::new();
    requests.extend(pending.iter().take(NTS_REQUESTS_MAX).map(|pending| &pending.request));
    let outcomes = batch.accept(ring, &requests);
    drop(requests);
    let mut answers = ArrayVec::<BatchAnswer<'_>, NTS_REQUESTS_MAX>::new();
    let mut asked = ArrayVec::<(usize, Asked, Message, Interleaving), NTS_REQUESTS_MAX>::new();
    for (number, (pending, outcome)) in pending.iter_mut().zip(outcomes).enumerate() {
        results.push(match outcome {
            Ok(cookies) => {
                counters.count_cookies(ring.age_of(pending.request.cookie), cookies.min(COOKIES_MAX));
                let identifier = pending.request.unique_identifier;
                let fields = pending.asked.told_ahead(pending.message, published.time);
                let answer = BatchAnswer::new(number, identifier, cookies, pending.response);
                answers.push(answer.with_fields(fields));
                asked.push((number, pending.asked, pending.message, Interleaving::default()));
                Err(SilenceReason::ResponseTooLong)
            }
            Err(NtsRequestError::Nak(_)) => nak(pending, nak_clients, published, environment),
            Err(NtsRequestError::Silence(_) | NtsRequestError::NotNts) => Err(SilenceReason::NtsMalformed),
        });
    }
    batch.prepare(ring, &mut answers, &mut |octets| environment.fill_random(octets));
    let now = environment.system_time();
    for (answer, (number, asked, message, interleaving)) in answers.iter_mut().zip(&mut asked) {
        let now = now + environment.sealed_until_departure(*number);
        if let Some(room) = answer.header_mut() {
            let header;
            (header, *interleaving) = asked.answer(*message, published.time, now, transmit_times);
            *room = header.encode();
        }
    }
    batch.seal(ring, &mut answers);
    for (answer, (number, _, message, interleaving)) in answers.iter().zip(asked) {
        // Kisses are sealed, too: others an NTS client would not believe.
        let kind = message.kind(ResponseKind::Nts);
        results[number] = answer
            .octets()
            .map(|octets| Answered { octets, kind, interleaving })
            .ok_or(SilenceReason::ResponseTooLong);
    }
    results
}

/// "I do not know this cookie": nothing secret in it, so anyone could have it sent to anyone; hence its own limit.
fn nak<E: Environment>(
    pending: &mut PendingNts<'_>,
    nak_clients: &mut ClientTable,
    published: &Published<'_>,
    environment: &mut E,
) -> Result<Answered, SilenceReason> {
    let arrival = pending.asked.arrival;
    let random = &mut |octets: &mut [u8]| environment.fill_random(octets);
    if nak_clients.check(arrival.from, arrival.mono, random) != RateDecision::Answer {
        return Err(SilenceReason::NtsNakLimited);
    }
    let message = Message::Kiss(KissCode::NTSN, ResponseKind::NtsNak);
    let (header, interleaving) =
        pending.asked.answer(message, published.time, environment.system_time(), None);
    let room = pending.response.get_mut(..HEADER_OCTETS).ok_or(SilenceReason::ResponseTooLong)?;
    room.copy_from_slice(&header.encode());
    let mut writer = FieldWriter::new(pending.response, HEADER_OCTETS);
    write_nts_nak(&mut writer, pending.request.unique_identifier)
        .map_err(|_| SilenceReason::ResponseTooLong)?;
    Ok(Answered { octets: writer.len(), kind: ResponseKind::NtsNak, interleaving })
}
