//! From a request to an answer. RFC 5905 §9.2 (fast transmit), RFC 8915 §5.7.

mod asked;
mod nts;

use crate::{
    Access, AnswerMark, ClientRecord, ClientTable, Policy, RateDecision, RateLimitSettings, Refusal,
    RequireNts, ResponseKind, ServerCounters, ServerTime, SilenceReason, Terms, TransmitTimes, Unsigned,
    signing_key,
};
use arrayvec::ArrayVec;
use asked::Asked;
use chime_nts::{BATCH_REQUESTS_MAX, KeyRing, NtsBatch, NtsRequest, NtsRequestError};
use chime_time::{MonoTime, NtpDuration, NtpTimestamp};
use chime_wire::{ExchangeFields, FieldWriter, HEADER_OCTETS, Header, KissCode, Mode, Packet};
use core::net::IpAddr;
pub use nts::PendingNts;
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
    /// How long it took to be received, and transparent clocks held it; `None`: it came by no way that could tell.
    pub correction: Option<NtpDuration>,
}

impl Arrival {
    /// A request that came by UDP.
    #[must_use]
    pub const fn new(from: IpAddr, received: NtpTimestamp, mono: MonoTime) -> Self {
        Self { from, received, mono, correction: None }
    }
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

    /// How long after [`Self::system_time`] the answer number `index` of those that [`Responder::finish`] seals will leave, as
    /// far as that can be foretold; not negative. It is added to the time that the answer tells.
    fn sealed_until_departure(&self, index: usize) -> NtpDuration {
        let _ = index;
        NtpDuration::ZERO
    }

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
    nts: NtsBatch,
    counters: ServerCounters,
    transmit_times: Option<Arc<TransmitTimes>>,
    interleaving: Interleaving,
}

/// What became of a request at once.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nothing is allocated for a packet")]
pub enum Begun<'a> {
    /// All that was to be done.
    Done(Verdict),
    /// A request whose answer Samba has to sign before it is sent. Whether it was handed over is to be told to
    /// [`Responder::count_signing`].
    Sign(Unsigned),
    /// A request with NTS fields, to be finished together with others by [`Responder::finish`].
    Nts(PendingNts<'a>),
}

/// How many requests with NTS fields are finished together at most.
pub const NTS_REQUESTS_MAX: usize = BATCH_REQUESTS_MAX;

/// What interleaved mode made of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Interleaving {
    /// The answer whose real transmit time the client may ask for.
    follow_up: Option<AnswerMark>,
    /// Whether the answer tells when the one before left.
    is_interleaved: bool,
}

/// What the client is to be told when its request is in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
            nts: NtsBatch::new(),
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

    /// Has the counts of these clients begin again.
    pub fn reset_client_counts(&mut self, addresses: &[IpAddr]) {
        self.clients.reset_counts(addresses);
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
        match self.begin(request, arrival, published, environment, response) {
            Begun::Done(verdict) => verdict,
            Begun::Sign(_) => {
                self.count_signing(false);
                Verdict::Silence(SilenceReason::CannotSign)
            }
            Begun::Nts(pending) => {
                let finished = self.finish(&mut [pending], published, environment);
                let Some((verdict, follow_up)) = finished.first() else {
                    return Verdict::Silence(SilenceReason::NtsMalformed);
                };
                self.interleaving.follow_up = *follow_up;
                *verdict
            }
        }
    }

    /// As [`Self::respond`], but for requests with NTS fields, which cost less when several are finished together. Each
    /// of them has to be finished, with the same `published`.
    pub fn begin<'a, E: Environment>(
        &mut self,
        request: &'a [u8],
        arrival: &Arrival,
        published: &Published<'_>,
        environment: &mut E,
        response: &'a mut [u8],
    ) -> Begun<'a> {
        self.counters.received += 1;
        self.interleaving = Interleaving::default();
        let result = match self.prepare(request, arrival, published, environment) {
            Ok(Prepared::Nts(message, nts_request, header, fields)) => {
                let asked = Asked { header, octets: request.len(), arrival: *arrival, fields };
                return Begun::Nts(PendingNts::new(nts_request, asked, message, response));
            }
            Ok(Prepared::Sign(message, key, header)) => {
                let fields = ExchangeFields::default();
                let asked = Asked { header, octets: request.len(), arrival: *arrival, fields };
                let answer = asked.basic(message, published.time, environment.system_time());
                return Begun::Sign(Unsigned::new(&answer, key));
            }
            Ok(Prepared::Other(message, packet)) => {
                self.answer(&packet, message, arrival, published, environment, response)
            }
            Err(reason) => Err(reason),
        };
        let (verdict, interleaving) = self.conclude(request.len(), result);
        self.interleaving = interleaving;
        Begun::Done(verdict)
    }

    /// Counts an answer that was to be signed: whether it was handed over to that.
    pub const fn count_signing(&mut self, handed_over: bool) {
        if handed_over {
            self.counters.count_response(ResponseKind::Signed);
        } else {
            self.counters.count_silence(SilenceReason::CannotSign);
        }
    }

    /// Counts a request that is not answered for a reason that the caller knows.
    pub fn refuse(&mut self, reason: SilenceReason) {
        self.counters.received += 1;
        self.counters.count_silence(reason);
    }

    /// Finishes requests with NTS fields, at most [`NTS_REQUESTS_MAX`]; gives a verdict for each, and what
    /// [`Self::take_follow_up`] gives for a single one.
    pub fn finish<E: Environment>(
        &mut self,
        pending: &mut [PendingNts<'_>],
        published: &Published<'_>,
        environment: &mut E,
    ) -> ArrayVec<(Verdict, Option<AnswerMark>), NTS_REQUESTS_MAX> {
        let desk = nts::Desk {
            batch: &mut self.nts,
            nak_clients: &mut self.nak_clients,
            counters: &mut self.counters,
            transmit_times: self.transmit_times.as_deref().filter(|_| self.policy.client_records),
        };
        let results = nts::respond(pending, desk, published, environment);
        let mut finished = ArrayVec::new();
        for (pending, result) in pending.iter().zip(results) {
            let (verdict, interleaving) = self.conclude(pending.request_octets(), result);
            finished.push((verdict, interleaving.follow_up));
        }
        finished
    }

    /// The last word, whatever the code before made: never more octets than were asked with.
    fn conclude(
        &mut self,
        request_octets: usize,
        result: Result<Answered, SilenceReason>,
    ) -> (Verdict, Interleaving) {
        let answered = result.and_then(|answered| match answered.octets {
            octets if octets > request_octets => Err(SilenceReason::ResponseTooLong),
            _ => Ok(answered),
        });
        match answered {
            Ok(Answered { octets, kind, interleaving }) => {
                self.counters.count_response(kind);
                self.counters.interleaved += u64::from(interleaving.is_interleaved);
                (Verdict::Respond { octets, kind }, interleaving)
            }
            Err(reason) => {
                self.counters.count_silence(reason);
                (Verdict::Silence(reason), Interleaving::default())
            }
        }
    }

    /// What comes before any answer.
    fn prepare<'a, E: Environment>(
        &mut self,
        request: &'a [u8],
        arrival: &Arrival,
        published: &Published<'_>,
        environment: &mut E,
    ) -> Result<Prepared<'a>, SilenceReason> {
        check_request(request, &self.policy)?;
        self.counters.old_versions += u64::from(request[0] >> 3 & 7 < 4);
        let terms = self.policy.terms.as_ref().map_or(Terms::USUAL, |list| list.find(arrival.from));
        if terms.newest_only && request[0] >> 3 & 7 != 4 {
            return Err(SilenceReason::Version);
        }
        if terms.flaky && is_dropped(environment) {
            return Err(SilenceReason::Flaky);
        }
        let message = self.admit(arrival, terms, environment)?;
        let packet = Packet::parse(request).map_err(|_| SilenceReason::Malformed)?;
        if let (true, Some(key)) = (self.policy.signs && terms.signed, signing_key(request)) {
            // Anybody can ask for a signature.
            let message =
                if terms.authenticated { Err(SilenceReason::NtsRequired) } else { self.without_nts(message) };
            return Ok(Prepared::Sign(message?, key, packet.header));
        }
        if request.len() == HEADER_OCTETS && !terms.authenticated {
            return Ok(Prepared::Other(message, packet));
        }
        match NtsRequest::from_packet(&packet) {
            Err(NtsRequestError::NotNts) if terms.authenticated && packet.mac().is_none() => {
                Err(SilenceReason::NtsRequired)
            }
            Err(NtsRequestError::NotNts) => Ok(Prepared::Other(message, packet)),
            _ if published.keys.is_none() => Err(SilenceReason::NtsNotServed),
            Ok(request) => Ok(Prepared::Nts(message, request, packet.header, ExchangeFields::of(&packet))),
            Err(_) => Err(SilenceReason::NtsMalformed),
        }
    }

    /// What a request without NTS fields is told.
    fn without_nts(&self, message: Message) -> Result<Message, SilenceReason> {
        match (message, self.policy.require_nts) {
            (Message::Time, RequireNts::Ignore) => Err(SilenceReason::NtsRequired),
            (Message::Time, RequireNts::Deny) => Ok(Message::Kiss(KissCode::DENY, ResponseKind::KissDeny)),
            (message, _) => Ok(message),
        }
    }

    /// A request without NTS fields. One with a MAC is answered with one of the same key, when it is right (RFC 5905 §7.3,
    /// RFC 8573); an unknown key gets silence and no crypto-NAK, as from chrony.
    fn answer<E: Environment>(
        &self,
        packet: &Packet<'_>,
        message: Message,
        arrival: &Arrival,
        published: &Published<'_>,
        environment: &mut E,
        response: &mut [u8],
    ) -> Result<Answered, SilenceReason> {
        let message = self.without_nts(message)?;
        let version = packet.header.version;
        let key = match packet.mac() {
            None => None,
            Some(mac) => {
                let key = self.policy.keys.get(mac.key_id).ok_or(SilenceReason::UnknownKey)?;
                if !key.verify(&packet.octets()[..packet.fields_end()], mac.digest, version) {
                    return Err(SilenceReason::WrongMac);
                }
                Some(key)
            }
        };
        let fields = ExchangeFields::of(packet);
        let asked = Asked { header: packet.header, octets: packet.octets().len(), arrival: *arrival, fields };
        let transmit_times = self.transmit_times.as_deref().filter(|_| self.policy.client_records);
        let (header, interleaving) =
            asked.answer(message, published.time, environment.system_time(), transmit_times);
        let room = response.get_mut(..HEADER_OCTETS).ok_or(SilenceReason::ResponseTooLong)?;
        room.copy_from_slice(&header.encode());
        let mut writer = FieldWriter::new(response, HEADER_OCTETS);
        if message == Message::Time && !asked.fields.is_empty() {
            let fields = asked.told(&header, published.time);
            fields.append(&mut writer).map_err(|_| SilenceReason::ResponseTooLong)?;
        }
        let Some(key) = key else {
            let time =
                if interleaving.is_interleaved { ResponseKind::Interleaved } else { ResponseKind::Plain };
            return Ok(Answered { octets: writer.len(), kind: message.kind(time), interleaving });
        };
        key.append_mac(&mut writer, version).map_err(|_| SilenceReason::ResponseTooLong)?;
        Ok(Answered { octets: writer.len(), kind: message.kind(ResponseKind::Keyed), interleaving })
    }

    /// Access list, then rate limit.
    fn admit<E: Environment>(
        &mut self,
        arrival: &Arrival,
        terms: Terms,
        environment: &mut E,
    ) -> Result<Message, SilenceReason> {
        let access = self.policy.access.check(arrival.from);
        if access == Access::Refuse(Refusal::Ignore) {
            return Err(SilenceReason::AccessDenied);
        }
        if !self.policy.client_records && self.policy.rate_limit.is_none() {
            return Ok(match access {
                Access::Allow => Message::Time,
                Access::Refuse(_) => Message::Kiss(KissCode::DENY, ResponseKind::KissDeny),
            });
        }
        let limit = self.policy.rate_limit.filter(|_| terms.limited);
        let limit = limit.map(|it| RateLimitSettings { kiss: it.kiss.filter(|_| terms.kiss), ..it });
        let mut random = |octets: &mut [u8]| environment.fill_random(octets);
        match self.clients.check_against(limit, arrival.from, arrival.mono, &mut random) {
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

/// One request in ten, where the terms are flaky.
fn is_dropped<E: Environment>(environment: &mut E) -> bool {
    let mut octet = [0];
    environment.fill_random(&mut octet);
    octet[0] < 26
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

/// A request that may be answered.
enum Prepared<'a> {
    Nts(Message, NtsRequest<'a>, Header, ExchangeFields),
    Sign(Message, [u8; 4], Header),
    Other(Message, Packet<'a>),
}

/// An answer in its room.
#[derive(Clone, Copy, Debug)]
struct Answered {
    octets: usize,
    kind: ResponseKind,
    interleaving: Interleaving,
}

#[cfg(test)]
mod tests;
