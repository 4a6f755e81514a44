//! Requests with NTS fields: answered in time with NTS, with an NTS NAK, or not at all. RFC 8915 §5.7.

use super::{Environment, Exchange, Message};
use crate::{ClientTable, RateDecision, ResponseKind, SilenceReason};
use arrayvec::ArrayVec;
use chime_nts::{
    COOKIES_MAX, Cookie, KeyRing, NONCE_OCTETS_MAX, NtsKeys, NtsRequest, NtsRequestError, write_nts_nak,
    write_nts_response,
};
use chime_wire::{FieldWriter, KissCode};

pub(super) fn respond<E: Environment>(
    exchange: &mut Exchange<'_, E>,
    message: Message,
    nak_clients: &mut ClientTable,
) -> Result<(usize, ResponseKind), SilenceReason> {
    let ring = exchange.published.keys.ok_or(SilenceReason::NtsNotServed)?;
    let packet = exchange.packet;
    let request = NtsRequest::from_packet(&packet).map_err(|_| SilenceReason::NtsMalformed)?;
    match request.accept(ring) {
        Ok((keys, cookies)) => answer(exchange, message, &request, (ring, &keys, cookies)),
        Err(NtsRequestError::Nak(_)) => nak(exchange, &request, nak_clients),
        Err(NtsRequestError::Silence(_) | NtsRequestError::NotNts) => Err(SilenceReason::NtsMalformed),
    }
}

/// A sealed answer with `cookies` fresh cookies. Kisses are sealed, too: others an NTS client would not believe.
fn answer<E: Environment>(
    exchange: &mut Exchange<'_, E>,
    message: Message,
    request: &NtsRequest<'_>,
    (ring, keys, cookies): (&KeyRing, &NtsKeys, usize),
) -> Result<(usize, ResponseKind), SilenceReason> {
    let mut fresh = ArrayVec::<Cookie, COOKIES_MAX>::new();
    for _ in 0..cookies.min(COOKIES_MAX) {
        let mut nonce = [0; 16];
        exchange.environment.fill_random(&mut nonce);
        fresh.push(ring.seal_cookie(keys, nonce));
    }
    let mut nonce = [0; NONCE_OCTETS_MAX];
    let nonce = &mut nonce[..keys.algorithm().nonce_octets()];
    exchange.environment.fill_random(nonce);
    let octets = exchange.write_header(message)?;
    let mut writer = FieldWriter::new(exchange.response, octets);
    write_nts_response(&mut writer, request.unique_identifier, &keys.s2c, nonce, &fresh)
        .map_err(|_| SilenceReason::ResponseTooLong)?;
    Ok((writer.len(), message.kind(ResponseKind::Nts)))
}

/// "I do not know this cookie": nothing secret in it, so anyone could have it sent to anyone; hence its own limit.
fn nak<E: Environment>(
    exchange: &mut Exchange<'_, E>,
    request: &NtsRequest<'_>,
    nak_clients: &mut ClientTable,
) -> Result<(usize, ResponseKind), SilenceReason> {
    let arrival = exchange.arrival;
    let random = &mut |octets: &mut [u8]| exchange.environment.fill_random(octets);
    if nak_clients.check(arrival.from, arrival.mono, random) != RateDecision::Answer {
        return Err(SilenceReason::NtsNakLimited);
    }
    let octets = exchange.write_header(Message::Kiss(KissCode::NTSN, ResponseKind::NtsNak))?;
    let mut writer = FieldWriter::new(exchange.response, octets);
    write_nts_nak(&mut writer, request.unique_identifier).map_err(|_| SilenceReason::ResponseTooLong)?;
    Ok((writer.len(), ResponseKind::NtsNak))
}
