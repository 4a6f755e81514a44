//! Asking: requests, their sockets and their deadlines. RFC 5905 §13, RFC 8915 §5.7, RFC 9109.

use crate::association::{Association, Credentials, Exchange, NtsProof, Outcome, Proof};
use crate::engine::Engine;
use crate::nts_state::{NtsState, REQUEST_OCTETS_MAX};
use crate::polling::{BURST_SECONDS, UNREACHABLE_POLLS};
use crate::timers::Timer;
use crate::{
    AskedFields, Event, ExchangeId, Request, SendFailure, SourceMatch, SourceRefusal, TimestampSource,
    Timestamped, Transmit, TxToken,
};
use chime_discipline::SourceId;
use chime_nts::client::write_nts_request;
use chime_nts::{AeadAlgorithm, COOKIE_OCTETS_MAX};
use chime_time::{MonoTime, NtpShort, NtpTimestamp};
use chime_wire::{
    DecodeError, EXCHANGE_FIELD_OCTETS, FieldWriter, HEADER_OCTETS, Header, LeapIndicator, Mode, ReferenceId,
};

/// How long an answer is waited for at most, unless longer round trips are allowed; seconds.
const ANSWER_SECONDS_MAX: f64 = 5.0;
/// The same, however long a round trip is allowed to be: an open exchange has a socket of its own.
const ANSWER_SECONDS_LONGEST: f64 = 60.0;
/// The part of the poll interval after which the wait ends, so that one exchange is over before the next begins.
const ANSWER_INTERVAL_PART: f64 = 0.95;
/// Share of the interval by which requests are late at random, so that clients do not march in step. Never early: the
/// interval is what the operator and the server agreed to.
pub(crate) const INTERVAL_LATENESS: f64 = 1.0 / 32.0;
/// Room for a request: one with placeholders is at most [`REQUEST_OCTETS_MAX`], and one long cookie always fits.
const REQUEST_ROOM: usize = REQUEST_OCTETS_MAX + COOKIE_OCTETS_MAX + 2 * EXCHANGE_FIELD_OCTETS;

impl Engine {
    /// The poll timer of an association rang: ends what is open and asks again.
    pub(crate) fn poll(&mut self, now: MonoTime, id: SourceId) {
        let Some(index) = self.association_index(id) else { return };
        if let Some(later) = self.separated(now, index) {
            self.timers.set(Timer::Poll(id), later);
            return;
        }
        self.end_exchange(now, id);
        let Some(index) = self.association_index(id) else { return };
        let key = self.associations[index].source;
        if self.source_index(key).is_none_or(|source| !self.sources[source].is_active()) {
            return;
        }
        if self.associations[index].peer.is_some() {
            self.poll_peer(now, id);
        } else {
            self.ask(now, index);
        }
        self.drive_source(now, key);
    }

    /// When the request may leave that is due: another one has just left. Quick polls give way for less long.
    fn separated(&self, now: MonoTime, index: usize) -> Option<MonoTime> {
        let interval = self.associations[index].polling.interval_seconds();
        let separation = self.config.poll_separation_seconds.min(interval / 8.0);
        let allowed = self.asked_at?.add_secs_f64(separation);
        (allowed > now).then_some(allowed)
    }

    /// Sends one request and sets the timers; without a cookie there is nothing to send and polling rests until there
    /// are new keys.
    fn ask(&mut self, now: MonoTime, index: usize) {
        self.expire_old_keys(now, index);
        let exchange = ExchangeId(self.number());
        let ahead = self.associations[index].polling.goes_ahead();
        match self.write_request(now, index, exchange) {
            Ok(Some(octets)) => {
                let association = &mut self.associations[index];
                association.counters.sent += 1;
                self.asked_at = Some(now);
                let interval = association.polling.sent();
                if let Some(open) = &mut association.exchange {
                    open.ahead = ahead;
                }
                let (id, to) = (association.id, association.remote);
                let deadline = (interval * ANSWER_INTERVAL_PART).min(self.answer_seconds_max(index));
                self.transmits.push_back(Transmit {
                    token: TxToken { exchange },
                    to,
                    octets,
                    from_port: None,
                });
                self.timers.set(Timer::ExchangeDeadline(id), now.add_secs_f64(deadline));
                let pause = interval * self.random.jitter(1.0, 1.0 + INTERVAL_LATENESS);
                self.timers.set(Timer::Poll(id), now.add_secs_f64(pause));
            }
            Ok(None) => {}
            Err(error) => {
                // A cookie that no request can carry; the next one may be shorter.
                let association = &mut self.associations[index];
                association.last_error = Some(format!("cannot make a request: {error}"));
                let at = now.add_secs_f64(association.polling.interval_seconds().max(BURST_SECONDS));
                self.timers.set(Timer::Poll(association.id), at);
            }
        }
    }

    /// How long an answer of this association is waited for at most; seconds.
    fn answer_seconds_max(&self, index: usize) -> f64 {
        let source = self.source_index(self.associations[index].source);
        source.map_or(ANSWER_SECONDS_MAX, |source| {
            self.sources[source].config.max_delay_seconds.clamp(ANSWER_SECONDS_MAX, ANSWER_SECONDS_LONGEST)
        })
    }

    /// Writes a request and opens its exchange. `None` when there is no cookie or no key.
    fn write_request(
        &mut self,
        now: MonoTime,
        index: usize,
        id: ExchangeId,
    ) -> Result<Option<Vec<u8>>, DecodeError> {
        let key = self.associations[index].source;
        let version =
            self.source_index(key).map_or(4, |source| self.sources[source].config.version.clamp(1, 4));
        let origin = self.random_timestamp();
        let reference = self.interleaved_reference(index, origin);
        let mut buffer = [0; REQUEST_ROOM];
        let is_nts = self.associations[index].nts().is_some();
        let version = if is_nts { 4 } else { version };
        let poll = if self.config.announce_poll {
            self.associations[index].polling.exponent().exponent()
        } else {
            0
        };
        let header = Header { poll, ..request_header(version, origin, reference) };
        buffer[..HEADER_OCTETS].copy_from_slice(&header.encode());
        let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
        if version == 4 {
            self.source_index(key)
                .map_or_else(AskedFields::default, |at| self.sources[at].config.fields)
                .empty()
                .append(&mut writer)?;
        }
        let unique_identifier = self.random.public_octets::<32>();
        let nonce = self.random.public_octets::<16>();
        let association = &mut self.associations[index];
        let proof = match &mut association.credentials {
            Credentials::None => Proof::None,
            Credentials::Key(number) => {
                let number = *number;
                let Some(symmetric) = self.config.keys.iter().find(|key| key.id() == number) else {
                    self.refuse_source(key, SourceRefusal::UnknownKey(number));
                    return Ok(None);
                };
                symmetric.append_mac(&mut writer, version)?;
                Proof::Key(number)
            }
            Credentials::Nts(nts) => {
                let Some(parts) = nts.take_request_parts() else { return Ok(None) };
                let keys = nts.keys();
                let nonce = &nonce[..keys.algorithm().nonce_octets().min(nonce.len())];
                let cookie = parts.cookie.as_bytes();
                write_nts_request(
                    &mut writer,
                    &unique_identifier,
                    cookie,
                    parts.placeholders,
                    &keys.c2s,
                    nonce,
                )?;
                Proof::Nts(Box::new(NtsProof {
                    unique_identifier,
                    s2c: keys.s2c.clone(),
                    cookie: parts.cookie,
                    placeholders: parts.placeholders,
                }))
            }
        };
        let octets = writer.written().to_vec();
        let is_short = association.nts().is_some_and(NtsState::is_short);
        association.exchange = Some(Exchange {
            id,
            asked_at: now,
            origin,
            interleaved_origin: reference.map(|reference| reference.receive),
            version,
            proof,
            sent: None,
            outcome: Outcome::Waiting,
            ahead: false,
            disturbed: false,
        });
        if is_short {
            self.save_soon(now);
        }
        Ok(Some(octets))
    }

    /// What makes a request an interleaved one, where that is wanted and there is an exchange to refer to.
    fn interleaved_reference(&mut self, index: usize, origin: NtpTimestamp) -> Option<InterleavedReference> {
        let source = self.source_index(self.associations[index].source)?;
        if !self.sources[source].config.interleaved {
            return None;
        }
        let remote_receive = self.associations[index].completed.as_mut()?.refer()?;
        let receive = self.random_timestamp();
        // The two must differ, or the answer would not tell its mode. RFC 9769 §2.
        (receive != origin).then_some(InterleavedReference { origin: remote_receive, receive })
    }

    fn random_timestamp(&mut self) -> NtpTimestamp {
        // Zero means "unknown", and an answer that echoes nothing would fit it.
        NtpTimestamp::from_bits(u64::from_be_bytes(self.random.public_octets()).max(1))
    }

    pub(crate) fn handle_transmitted(
        &mut self,
        now: MonoTime,
        exchange: ExchangeId,
        sent: Result<Timestamped, SendFailure>,
    ) {
        match sent {
            Ok(sent) => {
                self.note_reading(&sent);
                self.handle_transmit_timestamp(now, exchange, sent);
            }
            Err(failure) => self.sending_failed(now, exchange, failure),
        }
    }

    /// Notes T1; a stamp of the kernel or the card replaces the daemon's.
    pub(crate) fn handle_transmit_timestamp(
        &mut self,
        now: MonoTime,
        exchange: ExchangeId,
        sent: Timestamped,
    ) {
        let Some(index) = self.exchange_owner(exchange) else { return };
        let association = &mut self.associations[index];
        association.counters.count_sent(sent.source);
        if association.peer.is_some() {
            return self.peer_packet_left(index, sent);
        }
        let is_better = |old: Timestamped| sent.source >= old.source;
        if let Some(open) = &mut association.exchange
            && open.sent.is_none_or(is_better)
        {
            open.sent = Some(sent);
        }
        // In interleaved mode a stamp that comes after the answer is not too late.
        if let Some(completed) = &mut association.completed
            && completed.exchange == exchange
            && is_better(completed.sent)
        {
            completed.sent = sent;
        }
        self.end_if_complete(now, index);
    }

    /// An exchange of which everything is known, answer and time of departure, need not stay open until its deadline.
    pub(crate) fn end_if_complete(&mut self, now: MonoTime, index: usize) {
        let association = &self.associations[index];
        let is_complete = association.exchange.as_ref().is_some_and(|open| {
            open.outcome == Outcome::Answered
                && open.sent.is_some_and(|sent| sent.source != TimestampSource::Daemon)
        });
        if is_complete {
            self.timers.set(Timer::ExchangeDeadline(association.id), now);
        }
    }

    /// The request never left: nobody saw its cookie, so it may be used after all.
    fn sending_failed(&mut self, now: MonoTime, exchange: ExchangeId, failure: SendFailure) {
        let Some(index) = self.exchange_owner(exchange) else { return };
        let association = &mut self.associations[index];
        let (id, to) = (association.id, association.remote);
        if association.peer.is_some() {
            association.last_error = Some(failure.to_string());
            self.peer_packet_failed(index);
            return self.event(Event::SendFailed { association: id, to, failure });
        }
        let proof = association.exchange.take().map(|exchange| exchange.proof);
        if let (Some(Proof::Nts(proof)), Some(nts)) = (proof, association.nts_mut()) {
            nts.put_back(proof.cookie);
        }
        association.last_error = Some(failure.to_string());
        self.timers.cancel(Timer::ExchangeDeadline(id));
        self.requests.push_back(Request::CloseExchange(exchange));
        self.event(Event::SendFailed { association: id, to, failure });
        self.missed(now, id);
        let key = self.association_index(id).map(|index| self.associations[index].source);
        if let Some(source) = key.and_then(|key| self.source_index(key))
            && self.sources[source].config.offline_on_failure
        {
            let key = self.sources[source].key;
            self.set_online(now, &SourceMatch::Key(key), false);
        }
    }

    /// The network says that the request cannot arrive. A stranger can say that as well, so it is shown and no more.
    pub(crate) fn handle_exchange_failed(&mut self, exchange: ExchangeId, failure: SendFailure) {
        let Some(index) = self.exchange_owner(exchange) else { return };
        let association = &mut self.associations[index];
        association.last_error = Some(failure.to_string());
        let event = Event::SendFailed { association: association.id, to: association.remote, failure };
        self.event(event);
    }

    pub(crate) fn exchange_deadline(&mut self, now: MonoTime, id: SourceId) {
        let asked_at = self.association_index(id).and_then(|index| {
            let exchange = self.associations[index].exchange.as_ref()?;
            Some(exchange.asked_at)
        });
        self.end_exchange(now, id);
        let (Some(index), Some(asked_at)) = (self.association_index(id), asked_at) else { return };
        // The next poll may have been set when the server was thought to be near; or it is due sooner, as there was no answer.
        let polling = &self.associations[index].polling;
        let due = asked_at.add_secs_f64(polling.interval_seconds());
        let is_wrong = |at: &MonoTime| *at < due || polling.is_hurried();
        if self.timers.get(Timer::Poll(id)).is_some_and(|at| is_wrong(&at)) {
            self.timers.set(Timer::Poll(id), due.max(now));
        }
    }

    /// Ends the open exchange of an association: closes its socket and draws conclusions from silence.
    pub(crate) fn end_exchange(&mut self, now: MonoTime, id: SourceId) {
        let Some(index) = self.association_index(id) else { return };
        let Some(exchange) = self.associations[index].exchange.take() else { return };
        self.timers.cancel(Timer::ExchangeDeadline(id));
        self.requests.push_back(Request::CloseExchange(exchange.id));
        if exchange.outcome == Outcome::Answered {
            return;
        }
        if let Proof::Nts(proof) = &exchange.proof {
            if exchange.outcome == Outcome::Nak {
                self.nts_nak(now, index);
            } else if let Some(nts) = self.associations[index].nts_mut() {
                nts.unanswered(proof.placeholders);
            }
        }
        self.missed(now, id);
    }

    /// Nothing better than an NTSN came: the other key set of AEAD 30, or new keys. RFC 8915 §5.7.
    fn nts_nak(&mut self, now: MonoTime, index: usize) {
        let association = &mut self.associations[index];
        let (id, remote, key) = (association.id, association.remote, association.source);
        let Some(nts) = association.nts_mut() else { return };
        let other_keys_tried = nts.refused();
        if other_keys_tried {
            self.timers.set_no_later(Timer::Poll(id), now.add_secs_f64(BURST_SECONDS));
        } else {
            association.last_error = Some("the server does not accept the cookies (NTSN)".to_owned());
        }
        self.event(Event::NtsNak { association: id, remote, other_keys_tried });
        self.drive_source(now, key);
    }

    /// A poll without a good answer: the reach register shifts, and after a while other addresses are tried.
    pub(crate) fn missed(&mut self, now: MonoTime, id: SourceId) {
        let Some(index) = self.association_index(id) else { return };
        let association = &mut self.associations[index];
        let became_unreachable = association.polling.missed();
        association.polling.hurry(self.discipline.poll_advice(now, id));
        let (remote, reach) = (association.remote, association.polling.reach());
        let confirmed = association.confirmed;
        self.associations[index].median.note_poll();
        self.discipline.set_reach(id, reach);
        if became_unreachable && confirmed {
            self.event(Event::Unreachable { association: id, remote });
        }
        self.use_filtered(now, id);
        self.reconsider(now, id);
        self.discipline.update(now);
    }

    /// Whether so many polls went unanswered that the register ran empty once more.
    pub(crate) fn ran_empty(association: &Association) -> bool {
        let unanswered = association.polling.unanswered();
        unanswered > 0 && unanswered.is_multiple_of(UNREACHABLE_POLLS)
    }
}

/// The two timestamps with which a request asks for an interleaved answer. RFC 9769 §2.
#[derive(Clone, Copy, Debug)]
struct InterleavedReference {
    /// The server's receive timestamp of the exchange whose transmit timestamp is wanted.
    origin: NtpTimestamp,
    /// Random; an interleaved answer returns it.
    receive: NtpTimestamp,
}

/// The header of a request says as little as possible: the transmit timestamp is random and everything else is zero, but
/// for the precision that stands for "no statement", and for what interleaved mode needs. RFC 9109,
/// draft-ietf-ntp-data-minimization.
const fn request_header(
    version: u8,
    transmit: NtpTimestamp,
    reference: Option<InterleavedReference>,
) -> Header {
    let (origin, receive) = match reference {
        Some(reference) => (reference.origin, reference.receive),
        None => (NtpTimestamp::ZERO, NtpTimestamp::ZERO),
    };
    Header {
        leap: LeapIndicator::NoWarning,
        version,
        mode: Mode::Client,
        stratum: 0,
        poll: 0,
        precision: 0x20,
        root_delay: NtpShort::ZERO,
        root_dispersion: NtpShort::ZERO,
        reference_id: ReferenceId([0; 4]),
        reference: NtpTimestamp::ZERO,
        origin,
        receive,
        transmit,
    }
}

const _: () = assert!(AeadAlgorithm::AesSivCmac512.nonce_octets() <= 16);
