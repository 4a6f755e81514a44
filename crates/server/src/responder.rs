//! From a request to an answer. RFC 5905 §9.2 (fast transmit), RFC 8915 §5.7.

mod nts;

use crate::{
    Access, AnswerMark, ClientRecord, ClientTable, Policy, RateDecision, Refusal, RequireNts, ResponseKind,
    ServerCounters, ServerTime, SilenceReason, TransmitTimes,
};
use chime_nts::KeyRing;
use chime_time::{MonoTime, NtpShort, NtpTimestamp};
use chime_wire::{
    FieldWriter, HEADER_OCTETS, Header, KissCode, LeapIndicator, Mac, Mode, Packet, ReferenceId, field_type,
};
use core::net::IpAddr;
use std::sync::Arc;

/// Octets of a clock reading in a header: where the transmit timestamp stands. RFC 5905 §7.3.
const TRANSMIT_AT: core::ops::Range<usize> = 40..48;

/// How a request came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Who sent it, or says so.
    pub from: IpAddr,
    /// When, by the system clock.
    pub received: NtpTimestamp,
    /// When, for limits and errors that grow; a value read once for a batch of requests is good enough.
    pub mono: MonoTime,
}

/// What the rest of the daemon published for those who answer.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    /// The state of the clock.
    pub time: &'a ServerTime,
    /// The keys of our cookies; `None` when NTS is not served.
    pub keys: Option<&'a KeyRing>,
}

/// What answering takes from the outside, as late as possible.
pub trait Environment {
    /// The system clock now: asked for just before an answer is sealed.
    fn system_time(&mut self) -> NtpTimestamp;

    /// Fills `octets` with random ones that nobody can foretell.
    fn fill_random(&mut self, octets: &mut [u8]);
}

/// What to do about a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Send the first octets of the buffer to where the request came from.
    Respond {
        /// How many; never more than the request had.
        octets: usize,
        /// What they are.
        kind: ResponseKind,
    },
    /// Send nothing.
    Silence(SilenceReason),
}

/// Answers requests; one for each worker.
#[derive(Clone, Debug)]
pub struct Responder {
    policy: Arc<Policy>,
    clients: ClientTable,
    nak_clients: ClientTable,
    counters: ServerCounters,
    transmit_times: Option<Arc<TransmitTimes>>,
    interleaving: Interleaving,
}

/// What interleaved mode made of the last answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Interleaving {
    /// The answer whose real transmit time the client may ask for.
    follow_up: Option<AnswerMark>,
    /// Whether the answer tells when the one before left.
    is_interleaved: bool,
}

/// What the client is to be told when its request is in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Time,
    Kiss(KissCode, ResponseKind),
}

/// Clients that a NAK was sent to, remembered for the limit on these.
const NAK_CLIENTS: usize = 256;

impl Responder {
    /// Starts with no client known. `hash_key` is secret and random.
    #[must_use]
    pub fn new(policy: Arc<Policy>, hash_key: [u64; 2]) -> Self {
        let clients = ClientTable::new(policy.clients_max, policy.rate_limit, hash_key);
        let nak_clients = ClientTable::new(NAK_CLIENTS, Some(policy.nts_nak_limit), hash_key);
        Self {
            policy,
            clients,
            nak_clients,
            counters: ServerCounters::default(),
            transmit_times: None,
            interleaving: Interleaving::default(),
        }
    }

    /// Serves interleaved mode as well, from what `times` remembers. RFC 9769 §2.
    #[must_use]
    pub fn with_transmit_times(self, times: Arc<TransmitTimes>) -> Self {
        Self { transmit_times: Some(times), ..self }
    }

    /// The mark of the last answer, when its client may want to know when it really left: to be noted in the
    /// [`TransmitTimes`] once that is known, corrected as the timestamps in answers are ([`ServerTime::corrected`]).
    pub const fn take_follow_up(&mut self) -> Option<AnswerMark> {
        self.interleaving.follow_up.take()
    }

    /// Changes what is served for whom. Clients stay known; the size of their table stays as it was.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        self.clients.set_limit(policy.rate_limit);
        self.nak_clients.set_limit(Some(policy.nts_nak_limit));
        self.policy = policy;
    }

    /// What was answered, and what was not, so far.
    #[must_use]
    pub const fn counters(&self) -> &ServerCounters {
        &self.counters
    }

    /// The clients that are remembered, in no particular order.
    pub fn clients(&self) -> impl Iterator<Item = ClientRecord> + '_ {
        self.clients.clients()
    }

    /// How many clients were forgotten to make room for others.
    #[must_use]
    pub const fn clients_replaced(&self) -> u64 {
        self.clients.replaced()
    }

    /// Answers `request`, or says why not. The answer is written to the start of `response`, which should have room
    /// for as many octets as the request has.
    pub fn respond<E: Environment>(
        &mut self,
        request: &[u8],
        arrival: &Arrival,
        published: &Published<'_>,
        environment: &mut E,
        response: &mut [u8],
    ) -> Verdict {
        self.counters.received += 1;
        self.interleaving = Interleaving::default();
        let verdict = match self.answer(request, arrival, published, environment, response) {
            // The last word, whatever the code above made: never more octets than were asked with.
            Ok((octets, _)) if octets > request.len() => Verdict::Silence(SilenceReason::ResponseTooLong),
            Ok((octets, kind)) => Verdict::Respond { octets, kind },
            Err(reason) => Verdict::Silence(reason),
        };
        match verdict {
            Verdict::Respond { kind, .. } => {
                self.counters.count_response(kind);
                self.counters.interleaved += u64::from(self.interleaving.is_interleaved);
            }
            Verdict::Silence(reason) => {
                self.counters.count_silence(reason);
                self.interleaving = Interleaving::default();
            }
        }
        verdict
    }

    fn answer<E: Environment>(
        &mut self,
        request: &[u8],
        arrival: &Arrival,
        published: &Published<'_>,
        environment: &mut E,
        response: &mut [u8],
    ) -> Result<(usize, ResponseKind), SilenceReason> {
        check_request(request, &self.policy)?;
        let message = self.admit(arrival, environment)?;
        let packet = Packet::parse(request).map_err(|_| SilenceReason::Malformed)?;
        let mut exchange = Exchange {
            packet,
            arrival,
            published,
            environment,
            response,
            transmit_times: self.transmit_times.as_deref(),
            interleaving: &mut self.interleaving,
        };
        if exchange.has_nts_field() {
            return nts::respond(&mut exchange, message, &mut self.nak_clients);
        }
        let message = match (message, self.policy.require_nts) {
            (Message::Time, RequireNts::Ignore) => return Err(SilenceReason::NtsRequired),
            (Message::Time, RequireNts::Deny) => Message::Kiss(KissCode::DENY, ResponseKind::KissDeny),
            (message, _) => message,
        };
        match exchange.packet.mac() {
            Some(mac) => respond_keyed(&mut exchange, message, mac, &self.policy),
            None => {
                let octets = exchange.write_header(message)?;
                let is_interleaved = exchange.interleaving.is_interleaved;
                let time = if is_interleaved { ResponseKind::Interleaved } else { ResponseKind::Plain };
                Ok((octets, message.kind(time)))
            }
        }
    }

    /// Access list, then rate limit.
    fn admit<E: Environment>(
        &mut self,
        arrival: &Arrival,
        environment: &mut E,
    ) -> Result<Message, SilenceReason> {
        let access = self.policy.access.check(arrival.from);
        if access == Access::Refuse(Refusal::Ignore) {
            return Err(SilenceReason::AccessDenied);
        }
        match self.clients.check(arrival.from, arrival.mono, &mut |octets| environment.fill_random(octets)) {
            RateDecision::Drop => Err(SilenceReason::RateLimited),
            _ if access != Access::Allow => Ok(Message::Kiss(KissCode::DENY, ResponseKind::KissDeny)),
            RateDecision::Kiss => Ok(Message::Kiss(KissCode::RATE, ResponseKind::KissRate)),
            RateDecision::Answer => Ok(Message::Time),
        }
    }
}

/// Writes `time` into an answer just before it is sent, when it is one that nothing is sealed in. Workers that send in
/// batches use it, so that the time an answer waited for the others of its batch is not in its timestamp.
pub fn restamp_transmit(response: &mut [u8], kind: ResponseKind, time: NtpTimestamp) {
    if let (ResponseKind::Plain, Some(octets)) = (kind, response.get_mut(TRANSMIT_AT)) {
        octets.copy_from_slice(&time.to_be_bytes());
    }
}

/// What can be told from the first octets, before anything is spent on the packet.
fn check_request(request: &[u8], policy: &Policy) -> Result<(), SilenceReason> {
    let first = *request.first().ok_or(SilenceReason::TooShort)?;
    let mode = Mode::from_bits(first);
    match mode {
        Mode::Control => Err(SilenceReason::Control),
        Mode::Private => Err(SilenceReason::Private),
        _ if request.len() < HEADER_OCTETS => Err(SilenceReason::TooShort),
        _ if !policy.versions.contains(first >> 3 & 7) => Err(SilenceReason::Version),
        Mode::Client | Mode::SymmetricActive => Ok(()),
        _ => Err(SilenceReason::Mode),
    }
}

impl Message {
    const fn kind(self, time: ResponseKind) -> ResponseKind {
        match self {
            Self::Time => time,
            Self::Kiss(_, kind) => kind,
        }
    }
}

/// One request on its way to its answer.
struct Exchange<'a, E> {
    packet: Packet<'a>,
    arrival: &'a Arrival,
    published: &'a Published<'a>,
    environment: &'a mut E,
    response: &'a mut [u8],
    transmit_times: Option<&'a TransmitTimes>,
    interleaving: &'a mut Interleaving,
}

impl<E: Environment> Exchange<'_, E> {
    fn has_nts_field(&self) -> bool {
        self.packet.fields().flatten().any(|field| {
            matches!(
                field.field_type,
                field_type::UNIQUE_IDENTIFIER
                    | field_type::NTS_COOKIE
                    | field_type::NTS_COOKIE_PLACEHOLDER
                    | field_type::NTS_AUTHENTICATOR
            )
        })
    }

    /// Writes the header, the clock read now; gives its octets.
    fn write_header(&mut self, message: Message) -> Result<usize, SilenceReason> {
        let header = self.header(message);
        let header = if message == Message::Time { self.interleaved(header) } else { header };
        let room = self.response.get_mut(..HEADER_OCTETS).ok_or(SilenceReason::ResponseTooLong)?;
        room.copy_from_slice(&header.encode());
        Ok(HEADER_OCTETS)
    }

    /// Has an answer tell when the one before left, if the request asks for that and it is known; and has the time of this
    /// one noted. Clients of basic mode send a zero origin and get what they always got. RFC 9769 §2.
    fn interleaved(&mut self, basic: Header) -> Header {
        let request = &self.packet.header;
        let is_asked_for = request.mode == Mode::Client
            && !request.origin.is_zero()
            && !request.receive.is_zero()
            && request.receive != request.transmit;
        let Some(times) = self.transmit_times.filter(|_| is_asked_for) else { return basic };
        self.interleaving.follow_up = Some(times.mark(self.arrival.from, basic.receive));
        match times.find(times.mark(self.arrival.from, request.origin)) {
            None => basic,
            Some(transmit) => {
                self.interleaving.is_interleaved = true;
                Header { origin: request.receive, transmit, ..basic }
            }
        }
    }

    /// RFC 5905 §9.2, figure 20; kisses §7.4.
    fn header(&mut self, message: Message) -> Header {
        let request = &self.packet.header;
        let time = self.published.time;
        let mono = self.arrival.mono;
        let answer = Header {
            leap: LeapIndicator::Unsynchronized,
            version: request.version,
            mode: if request.mode == Mode::SymmetricActive { Mode::SymmetricPassive } else { Mode::Server },
            stratum: 0,
            poll: request.poll,
            precision: time.precision,
            root_delay: NtpShort::ZERO,
            root_dispersion: NtpShort::ZERO,
            reference_id: ReferenceId::default(),
            reference: NtpTimestamp::ZERO,
            origin: request.transmit,
            receive: time.corrected(self.arrival.received, mono),
            transmit: time.corrected(self.environment.system_time(), mono),
        };
        match message {
            Message::Kiss(code, _) => Header { reference_id: ReferenceId(code.0), ..answer },
            Message::Time => Header {
                leap: if time.is_synchronized() { time.leap } else { LeapIndicator::Unsynchronized },
                stratum: if time.is_synchronized() { time.stratum } else { 0 },
                root_delay: time.root_delay,
                root_dispersion: time.root_dispersion(mono),
                // With stratum 0 an identifier would be read as a kiss code.
                reference_id: if time.is_synchronized() { time.reference_id } else { ReferenceId::default() },
                reference: time.reference,
                ..answer
            },
        }
    }
}

/// A request with a MAC: answered with one of the same key, when it is right. RFC 5905 §7.3, RFC 8573. An unknown key
/// gets silence and no crypto-NAK, as from chrony.
fn respond_keyed<E: Environment>(
    exchange: &mut Exchange<'_, E>,
    message: Message,
    mac: Mac<'_>,
    policy: &Policy,
) -> Result<(usize, ResponseKind), SilenceReason> {
    let key = policy.keys.get(mac.key_id).ok_or(SilenceReason::UnknownKey)?;
    let version = exchange.packet.header.version;
    let covered = &exchange.packet.octets()[..exchange.packet.fields_end()];
    if !key.verify(covered, mac.digest, version) {
        return Err(SilenceReason::WrongMac);
    }
    let octets = exchange.write_header(message)?;
    let mut writer = FieldWriter::new(exchange.response, octets);
    key.append_mac(&mut writer, version).map_err(|_| SilenceReason::ResponseTooLong)?;
    Ok((writer.len(), message.kind(ResponseKind::Keyed)))
}

#[cfg(test)]
mod tests;
