//! What comes back: from octets to a sample, one stage after the other. RFC 5905 §9.2, RFC 8915 §5.7.
//!
//! Nothing in a datagram is believed before it is shown to answer our own open request: sender, origin timestamp, unique
//! identifier, authenticator. What does not fit is counted by its reason and ignored; the wait for the right answer goes
//! on until the exchange's deadline.

use crate::asking::INTERVAL_LATENESS;
use crate::association::{Association, Exchange, LastAnswer, Outcome, Proof};
use crate::engine::Engine;
use crate::establishing::DENIED_SECONDS;
use crate::frequency_transfer::{Held, ServerScale};
use crate::interleaved::{AnswerMode, Completed, Timestamps};
use crate::packet_tests::{
    DelayLimits, Measurement, PacketTests, RESPONSE_SECONDS_MAX, Test, is_own_server, measure, measure_apart,
    reference_id, test_delay, test_header, test_loop,
};
use crate::timers::Timer;
use crate::{
    AskedFields, DiscardReason, Event, ExchangeId, NetworkPath, RemovalReason, SourceConfig, Timestamped,
};
use arrayvec::ArrayVec;
use chime_discipline::{Leap, Sample, SelectionState, SourceId};
use chime_nts::client::{NtsResponseError, is_nts_nak, verify_nts_response};
use chime_nts::{COOKIES_MAX, Cookie};
use chime_time::{MonoTime, NtpDuration};
use chime_wire::mac::SymmetricKey;
use chime_wire::{ExchangeFields, Header, KissCode, LeapIndicator, Mode, NetworkCorrection, Packet};
use std::net::{IpAddr, SocketAddr};

/// How many samples a standard deviation needs before test C means something.
const DEVIATION_SAMPLES_MIN: usize = 4;

/// A datagram and how it came.
pub(crate) struct Datagram<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) received: Timestamped,
    pub(crate) path: Option<NetworkPath>,
    pub(crate) octets: &'a [u8],
}

/// An answer that is proven to be one.
struct Authentic {
    header: Header,
    mode: AnswerMode,
    cookies: ArrayVec<Cookie, COOKIES_MAX>,
}

impl Engine {
    pub(crate) fn handle_datagram(&mut self, now: MonoTime, exchange: ExchangeId, datagram: &Datagram<'_>) {
        let Some(index) = self.exchange_owner(exchange) else {
            self.stray_discards.count(DiscardReason::UnknownExchange);
            let (from, reason) = (datagram.from, DiscardReason::UnknownExchange);
            return self.event(Event::Discarded { exchange, association: None, from, reason });
        };
        let association = &mut self.associations[index];
        let id = association.id;
        association.counters.count_received(datagram.received.source);
        if association.peer.is_some() {
            if let Err(reason) = self.handle_peer_datagram(now, index, datagram) {
                self.discard(exchange, id, datagram.from, reason);
            }
            return;
        }
        let verdict = match &association.exchange {
            Some(open) => authenticate(open, association.remote, datagram, &self.config.keys),
            None => Err(DiscardReason::UnknownExchange),
        };
        let result = match verdict {
            Ok(authentic) => self.answered(now, index, authentic, datagram),
            Err(DiscardReason::NtsNak) => {
                if let Some(open) = &mut association.exchange {
                    open.outcome = Outcome::Nak;
                }
                Err(DiscardReason::NtsNak)
            }
            Err(reason) => Err(reason),
        };
        if let Err(reason) = result {
            self.discard(exchange, id, datagram.from, reason);
        }
        if let Some(index) = self.association_index(id) {
            self.end_if_complete(now, index);
        }
    }

    fn discard(&mut self, exchange: ExchangeId, id: SourceId, from: SocketAddr, reason: DiscardReason) {
        match self.association_index(id) {
            Some(index) => {
                let association = &mut self.associations[index];
                association.discards.count(reason);
                if !matches!(
                    reason,
                    DiscardReason::AwaitingJudgement | DiscardReason::SentAhead | DiscardReason::Counted
                ) {
                    association.last_error = Some(format!("answer refused: {reason}"));
                }
            }
            None => self.stray_discards.count(reason),
        }
        self.event(Event::Discarded { exchange, association: Some(id), from, reason });
    }

    /// The answer is authentic: the exchange is over, whatever it says.
    fn answered(
        &mut self,
        now: MonoTime,
        index: usize,
        authentic: Authentic,
        datagram: &Datagram<'_>,
    ) -> Result<(), DiscardReason> {
        let association = &mut self.associations[index];
        let (id, key) = (association.id, association.source);
        let Some(open) = &mut association.exchange else { return Err(DiscardReason::UnknownExchange) };
        open.outcome = Outcome::Answered;
        let (sent, disturbed, exchange, ahead) = (open.sent, open.disturbed, open.id, open.ahead);
        let placeholders = match &open.proof {
            Proof::Nts(proof) => Some(proof.placeholders),
            Proof::None | Proof::Key(_) => None,
        };
        if let (Some(placeholders), Some(nts)) = (placeholders, association.nts_mut()) {
            nts.answered(authentic.cookies, placeholders);
            association.keys_back_off.reset();
            if let Some(source) = self.source_index(key) {
                self.sources[source].establishment.attempts = 0;
            }
            self.save_later(now);
        }
        let header = authentic.header;
        if let Some(code) = kiss_code(&header) {
            let reason = self.kissed(now, id, &header, code);
            self.missed(now, id);
            return Err(reason);
        }
        let fields = self.fields_of(id, datagram);
        let moved = self.hear_scale(id, &header, &fields);
        let Some(sent) = sent else {
            self.missed(now, id);
            return Err(DiscardReason::NoTransmitTimestamp);
        };
        if disturbed {
            self.reached(id);
            return Err(DiscardReason::ClockStepped);
        }
        let mode = authentic.mode;
        let received = datagram.received;
        let sampled = mode == AnswerMode::Basic && !ahead;
        let held = held(&fields, datagram.path);
        let fresh = Completed::new(exchange, sent, received, &header, sampled).with_held(held);
        let Some(index) = self.association_index(id) else { return Err(DiscardReason::NotStored) };
        let before = self.associations[index].completed.replace(fresh);
        let timestamps = match (mode, before) {
            (AnswerMode::Basic, _) => {
                Timestamps { header, sent, received, held, mode, sampled: false, ahead }
            }
            (AnswerMode::Interleaved, Some(before)) => {
                Timestamps { ahead, ..before.complete(&header).moved(moved) }
            }
            // The clock was stepped since the request.
            (AnswerMode::Interleaved, None) => return Err(DiscardReason::ClockStepped),
        };
        self.measured(now, id, (&timestamps, &fields), datagram.local)
    }

    /// The fields of an authentic packet that were asked for; others say nothing.
    pub(crate) fn fields_of(&self, id: SourceId, datagram: &Datagram<'_>) -> ExchangeFields {
        let key = self.association_index(id).map(|index| self.associations[index].source);
        let asked =
            key.and_then(|key| self.source_index(key)).map(|source| self.sources[source].config.fields);
        let asked = asked.unwrap_or_default();
        if asked == AskedFields::default() {
            return ExchangeFields::default();
        }
        let fields =
            Packet::parse(datagram.octets).map_or_else(|_| Default::default(), |it| ExchangeFields::of(&it));
        ExchangeFields {
            correction: fields.correction.filter(|_| asked.correction),
            monotonic: fields.monotonic.filter(|_| asked.monotonic),
        }
    }

    /// Takes over what an authentic packet says of its sender's corrections; gives by how much that moved its time forward.
    pub(crate) fn hear_scale(
        &mut self,
        id: SourceId,
        header: &Header,
        fields: &ExchangeFields,
    ) -> NtpDuration {
        let Some(index) = self.association_index(id) else { return NtpDuration::ZERO };
        let association = &mut self.associations[index];
        let moved = ServerScale::hear(&mut association.server_scale, header.receive, fields.monotonic);
        association.median.source_moved(moved);
        self.discipline.source_moved(id, moved);
        moved
    }

    /// A kiss code that is authentic, or as authentic as the source can be. RFC 5905 §7.4, RFC 8915 §5.7.
    fn kissed(&mut self, now: MonoTime, id: SourceId, header: &Header, code: KissCode) -> DiscardReason {
        let Some(index) = self.association_index(id) else { return DiscardReason::KissOther };
        let (remote, key) = (self.associations[index].remote, self.associations[index].source);
        self.event(Event::Kiss { association: id, remote, code });
        match code {
            KissCode::RATE => {
                let polling = &mut self.associations[index].polling;
                polling.rate_limited(header.poll);
                let next = now.add_secs_f64(polling.interval_seconds() * self.random.jitter(1.0, 1.1));
                self.timers.set(Timer::Poll(id), next);
                DiscardReason::KissRate
            }
            KissCode::DENY | KissCode::RSTR => {
                self.denied(now, index);
                self.drive_source(now, key);
                DiscardReason::KissDeny
            }
            _ => DiscardReason::KissOther,
        }
    }

    /// The server refuses service: it is left alone for an hour. A pool uses another server instead.
    fn denied(&mut self, now: MonoTime, index: usize) {
        let association = &mut self.associations[index];
        let (id, key, remote) = (association.id, association.source, association.remote);
        let until = now.add_secs_f64(DENIED_SECONDS);
        association.denied_until = Some(until);
        association.last_error = Some("the server refuses service (DENY or RSTR)".to_owned());
        self.timers.set(Timer::Poll(id), until);
        self.discipline.set_reach(id, 0);
        self.discipline.reset_source(id);
        let address = association.nts().and_then(|nts| nts.ke_address).unwrap_or_else(|| remote.ip());
        let Some(source) = self.source_index(key) else { return };
        self.sources[source].resolution.avoid(now, address);
        self.sources[source].establishment.back_off.wait_at_least(now, DENIED_SECONDS);
        let in_use = self.addresses_in_use(key);
        let others = !self.sources[source].resolution.candidates(now, &in_use).is_empty();
        if self.sources[source].is_pool() && others {
            self.sources[source].establishment.back_off.reset();
            self.remove_association(now, id, RemovalReason::Denied);
        }
    }

    /// Offset, delay, the packet tests, and what they lead to.
    pub(crate) fn measured(
        &mut self,
        now: MonoTime,
        id: SourceId,
        (timestamps, fields): (&Timestamps, &ExchangeFields),
        local: Option<IpAddr>,
    ) -> Result<(), DiscardReason> {
        let (pivot, precision) = (self.era_pivot(now), self.discipline.settings().precision);
        let Timestamps { header, sent, received, held, .. } = timestamps;
        let stamps = (sent.at, received.at);
        let is_peer = self.association_index(id).is_some_and(|index| self.associations[index].peer.is_some());
        // Where a peer or transparent clocks held the packets, a slew went on for much longer than the delay that is left.
        let measurement = if is_peer || held.is_some() {
            let change = |from, to| self.discipline.expected_change(from, to);
            measure_apart(header, stamps, pivot, precision, (change, self.discipline.frequency_taken()))
        } else {
            measure(header, stamps, pivot, precision)
        };
        let measurement = measurement.without_held(*held).with_root(fields.monotonic);
        self.judge(now, id, timestamps, &measurement, local)
    }

    /// The packet tests of a measurement, and what they lead to.
    pub(crate) fn judge(
        &mut self,
        now: MonoTime,
        id: SourceId,
        timestamps: &Timestamps,
        measurement: &Measurement,
        local: Option<IpAddr>,
    ) -> Result<(), DiscardReason> {
        let result = self.judge_alone(now, id, timestamps, measurement, local);
        self.use_filtered(now, id);
        result
    }

    fn judge_alone(
        &mut self,
        now: MonoTime,
        id: SourceId,
        timestamps: &Timestamps,
        measurement: &Measurement,
        local: Option<IpAddr>,
    ) -> Result<(), DiscardReason> {
        let Timestamps { header, sent, received, mode, sampled, ahead, .. } = timestamps;
        if let Some(local) = local {
            self.discipline.set_our_reference_id(id, reference_id(local));
        }
        let mut tests = self.run_tests(now, id, header, measurement, local);
        if *ahead || *sampled {
            tests.fail(Test::Delay);
        }
        let Some(index) = self.association_index(id) else { return Err(DiscardReason::NotStored) };
        let association = &mut self.associations[index];
        association.last = Some(LastAnswer {
            header: *header,
            measurement: *measurement,
            local,
            mode: *mode,
            tests,
            transmitted_by: sent.source,
            received_by: received.source,
            received: received.at.system.timestamp(),
        });
        association.note_recent(measurement);
        association.counters.valid += u64::from(tests.is_valid());
        association.counters.interleaved += u64::from(*mode == AnswerMode::Interleaved);
        if tests.is_synchronized() {
            self.reached(id);
        } else {
            self.missed(now, id);
        }
        if let Some(reason) = tests.failure() {
            let reason = match reason {
                DiscardReason::Delay if *ahead => DiscardReason::SentAhead,
                // The first interleaved answer after a basic one tells more of an exchange that counted already.
                DiscardReason::Delay if *sampled => DiscardReason::Counted,
                reason => reason,
            };
            self.discipline_hears_of_unsynchronised(now, id, header, measurement, reason);
            return Err(reason);
        }
        if let Err(reason) = self.admit(now, id, measurement, header) {
            self.discipline.update(now);
            return Err(reason);
        }
        self.sample(now, id, header, measurement)
    }

    fn run_tests(
        &mut self,
        now: MonoTime,
        id: SourceId,
        header: &Header,
        measurement: &Measurement,
        local: Option<IpAddr>,
    ) -> PacketTests {
        let mut tests = PacketTests::default();
        let Some(index) = self.association_index(id) else { return tests };
        let source = self.source_index(self.associations[index].source);
        let config = source.map(|source| &self.sources[source].config);
        let association = &mut self.associations[index];
        // Tests 1, 2 and 5 were passed on the way here: a duplicate finds its exchange answered, and a foreign origin or a
        // missing proof never comes this far.
        for test in [Test::NotDuplicate, Test::Origin, Test::Authentic] {
            tests.pass(test);
        }
        test_header(header, &mut tests);
        let recent = association.delays.shortest_and_median();
        let quantile = config.filter(|config| config.max_delay_quantile > 0.0);
        let longest = quantile.and_then(|config| association.delays.quantile(config.max_delay_quantile));
        let delay = measurement.delay.as_secs_f64().max(0.0);
        association.delays.push(delay);
        association.polling.took(delay);
        let is_self = is_own_server(association.remote, local, &self.config.own_servers);
        let statistics = self.discipline.source_report(now, id);
        let enough = statistics.filter(|statistics| statistics.samples >= DEVIATION_SAMPLES_MIN);
        let limits = DelayLimits {
            max: config.map_or(3.0, |config| config.max_delay_seconds),
            ratio: config.map_or(0.0, |config| config.max_delay_ratio),
            deviation_ratio: config.map_or(0.0, |config| config.max_delay_deviation_ratio),
            // A peer answers when its own poll comes.
            response_max: if config.is_some_and(SourceConfig::is_peer) {
                f64::INFINITY
            } else {
                RESPONSE_SECONDS_MAX
            },
            recent,
            known_shortest: config.map_or(0.0, |config| config.min_delay_seconds),
            quantile: longest,
            without_deviation: quantile.is_some(),
            standard_deviation: enough.map(|statistics| statistics.standard_deviation),
        };
        test_delay(header, measurement, &limits, &mut tests);
        let own = self.config.own_addresses.iter().copied().chain(local);
        test_loop(header, is_self, own, &mut tests);
        tests
    }

    fn reached(&mut self, id: SourceId) {
        let Some(index) = self.association_index(id) else { return };
        let association = &mut self.associations[index];
        let was_unreachable = association.polling.answered();
        association.replace = false;
        association.median.note_poll();
        let remote = association.remote;
        self.discipline.set_reach(id, association.polling.reach());
        if was_unreachable {
            self.event(Event::Reachable { association: id, remote });
        }
    }

    /// A source that lost its own synchronisation must not be followed on the strength of older samples.
    fn discipline_hears_of_unsynchronised(
        &mut self,
        now: MonoTime,
        id: SourceId,
        header: &Header,
        measurement: &Measurement,
        reason: DiscardReason,
    ) {
        if reason == DiscardReason::ServerUnsynchronized
            && let Some(sample) = self.make_sample(id, header, measurement)
        {
            self.discipline.add_sample(now, id, Sample { leap: Leap::Unsynchronized, ..sample });
            self.discipline.update(now);
        }
    }

    fn make_sample(&self, id: SourceId, header: &Header, measurement: &Measurement) -> Option<Sample> {
        let association = &self.associations[self.association_index(id)?];
        let source = self.source_index(association.source);
        let config = source.map(|source| &self.sources[source].config);
        let copies = config.is_some_and(|config| config.options.copy_reference);
        let recent = association.delays.shortest_and_median();
        let measurement = config.map_or(*measurement, |config| {
            let shortest = Some(config.min_delay_seconds).filter(|delay| *delay > 0.0);
            let shortest = shortest.or(recent.map(|(shortest, _)| shortest));
            shortest.map_or(*measurement, |it| measurement.without_waiting(config.jitter_asymmetry, it))
        });
        let root = measurement.root;
        Some(Sample {
            at: measurement.at,
            offset: measurement.offset,
            delay: measurement.delay,
            dispersion: measurement.dispersion,
            root_delay: root.map_or(header.root_delay.to_duration(), |root| root.0) + measurement.held,
            root_dispersion: root.map_or(header.root_dispersion.to_duration(), |root| root.1),
            stratum: header.stratum,
            leap: leap(header.leap),
            reference_id: if copies { header.reference_id.0 } else { reference_id(association.remote.ip()) },
            standard_error: 0.0,
            lever: measurement.lever,
        })
    }

    /// Gives a measurement to the discipline.
    fn sample(
        &mut self,
        now: MonoTime,
        id: SourceId,
        header: &Header,
        measurement: &Measurement,
    ) -> Result<(), DiscardReason> {
        let sample = self.make_sample(id, header, measurement).ok_or(DiscardReason::NotStored)?;
        self.discipline.set_smeared(id, says_smeared(header, self.discipline.is_smear_season()));
        let filtered = self.median_filter_of(id) > 1;
        if !filtered {
            self.take_sample(now, id, sample)?;
        }
        let index = self.association_index(id).ok_or(DiscardReason::NotStored)?;
        let association = &mut self.associations[index];
        association.counters.good += 1;
        if filtered {
            association.last_error = None;
            association.median.push(sample);
        }
        Ok(())
    }

    fn median_filter_of(&self, id: SourceId) -> u32 {
        let key = self.association_index(id).map(|index| self.associations[index].source);
        let source = key.and_then(|key| self.source_index(key));
        source.map_or(0, |source| self.sources[source].config.median_filter)
    }

    /// Gives to the discipline what a filter makes of several measurements, once it has seen as many polls as it should.
    pub(crate) fn use_filtered(&mut self, now: MonoTime, id: SourceId) {
        let wanted = self.median_filter_of(id);
        let Some(index) = self.association_index(id).filter(|_| wanted > 1) else { return };
        let discipline = &self.discipline;
        let change = |from: MonoTime, to: MonoTime| discipline.expected_change(from, to).0;
        if let Some(sample) = self.associations[index].median.take(wanted, change) {
            // What the discipline does not store has been counted as measured all the same.
            let _stored = self.take_sample(now, id, sample);
        }
    }

    /// Gives a sample to the discipline.
    fn take_sample(&mut self, now: MonoTime, id: SourceId, sample: Sample) -> Result<(), DiscardReason> {
        if !self.discipline.add_sample(now, id, sample).is_stored() {
            return Err(DiscardReason::NotStored);
        }
        let index = self.association_index(id).ok_or(DiscardReason::NotStored)?;
        let association = &mut self.associations[index];
        association.last_error = None;
        association.polling.measured();
        association.polling.adapt(self.discipline.poll_advice(now, id));
        let (authenticated, key) = (association.is_authenticated(), association.source);
        if let Some(source) = self.source_index(key).filter(|source| !self.sources[*source].is_pool()) {
            // Only now is it shown that the keys are of use: a certificate may have been refused in between.
            self.sources[source].establishment.back_off.reset();
        }
        let (offset, delay) = (sample.offset, sample.delay.max(NtpDuration::ZERO));
        self.event(Event::Sampled { association: id, offset, delay, authenticated });
        self.confirm(now, index);
        self.discipline.update(now);
        let state = self.discipline.source_report(now, id).map(|report| report.state);
        self.note_falseticker(now, id, state == Some(SelectionState::Falseticker));
        self.next_poll_follows_interval(now, id);
        Ok(())
    }

    /// When a burst ended or the interval became shorter, the next poll is not where it was set when the request left.
    fn next_poll_follows_interval(&mut self, now: MonoTime, id: SourceId) {
        let Some(index) = self.association_index(id) else { return };
        let association = &mut self.associations[index];
        // A peer's packets come at its own pace, which is not ours.
        if association.polling.burst().is_some() || association.peer.is_some() {
            return;
        }
        if association.polling.offline_after_burst {
            return self.go_offline_after_burst(now, id);
        }
        let association = &self.associations[index];
        let asked_at = association.exchange.as_ref().map_or(now, |exchange| exchange.asked_at);
        let interval =
            association.polling.interval_seconds() * self.random.jitter(1.0, 1.0 + INTERVAL_LATENESS);
        self.timers.set(Timer::Poll(id), asked_at.add_secs_f64(interval));
    }
}

/// For how long transparent clocks held the two packets of an exchange; that of the answer is known by the card's stamp only.
pub(crate) fn held(fields: &ExchangeFields, path: Option<NetworkPath>) -> Option<Held> {
    let (NetworkCorrection(there), path) = (fields.correction?, path?);
    // Both links are taken to be equally fast, and the packets have equal lengths.
    Some(Held { there: there - path.receiving, back: path.held })
}

/// Shows that a datagram answers the open request, in the order of [`DiscardReason`].
fn authenticate(
    open: &Exchange,
    remote: SocketAddr,
    datagram: &Datagram<'_>,
    keys: &[SymmetricKey],
) -> Result<Authentic, DiscardReason> {
    let from = SocketAddr::new(datagram.from.ip().to_canonical(), datagram.from.port());
    if from != SocketAddr::new(remote.ip().to_canonical(), remote.port()) {
        return Err(DiscardReason::WrongSender);
    }
    if open.outcome == Outcome::Answered {
        return Err(DiscardReason::Duplicate);
    }
    let header = Header::decode(datagram.octets).map_err(|_| DiscardReason::Malformed)?;
    if header.version != open.version {
        return Err(DiscardReason::WrongVersion);
    }
    if header.mode != Mode::Server {
        return Err(DiscardReason::WrongMode);
    }
    let mode = if header.origin == open.origin {
        AnswerMode::Basic
    } else if open.interleaved_origin == Some(header.origin) {
        AnswerMode::Interleaved
    } else {
        return Err(DiscardReason::OriginMismatch);
    };
    let mut cookies = ArrayVec::new();
    match &open.proof {
        Proof::None => {}
        Proof::Key(number) => verify_mac(datagram.octets, *number, keys)?,
        Proof::Nts(proof) => {
            let identifier = &proof.unique_identifier;
            if is_nts_nak(datagram.octets, identifier) {
                return Err(DiscardReason::NtsNak);
            }
            verify_nts_response(datagram.octets, identifier, &proof.s2c, &mut cookies)
                .map_err(|error| nts_reason(error, &header))?;
        }
    }
    Ok(Authentic { header, mode, cookies })
}

fn nts_reason(error: NtsResponseError, header: &Header) -> DiscardReason {
    let is_kiss = kiss_code(header).is_some();
    match error {
        NtsResponseError::NoUniqueIdentifier | NtsResponseError::NoAuthenticator if is_kiss => {
            DiscardReason::UnauthenticatedKiss
        }
        NtsResponseError::Malformed(_) => DiscardReason::Malformed,
        NtsResponseError::NotServerMode => DiscardReason::WrongMode,
        NtsResponseError::NoUniqueIdentifier => DiscardReason::NoUniqueIdentifier,
        NtsResponseError::UniqueIdentifierMismatch => DiscardReason::UniqueIdentifierMismatch,
        NtsResponseError::NoAuthenticator => DiscardReason::NoAuthenticator,
        NtsResponseError::AuthenticatorFailed => DiscardReason::AuthenticatorFailed,
        NtsResponseError::AfterAuthenticator | NtsResponseError::Plaintext => DiscardReason::NtsMalformed,
    }
}

pub(crate) fn verify_mac(octets: &[u8], number: u32, keys: &[SymmetricKey]) -> Result<(), DiscardReason> {
    let packet = Packet::parse(octets).map_err(|_| DiscardReason::Malformed)?;
    let mac = packet.mac().ok_or(DiscardReason::NoMac)?;
    if mac.is_crypto_nak() {
        return Err(DiscardReason::CryptoNak);
    }
    let key =
        keys.iter().find(|key| key.id() == number && mac.key_id == number).ok_or(DiscardReason::NoMac)?;
    let covered = &octets[..packet.fields_end()];
    if key.verify(covered, mac.digest, packet.header.version) {
        Ok(())
    } else {
        Err(DiscardReason::MacFailed)
    }
}

/// The kiss code of an answer: stratum 0 and four printable characters. RFC 5905 §7.4.
fn kiss_code(header: &Header) -> Option<KissCode> {
    let code = header.reference_id.kiss_code();
    (header.stratum == 0 && code.0.iter().all(u8::is_ascii_graphic)).then_some(code)
}

/// Whether a server's reference identifier says that it smears a leap second: 127.127.1.255 as chrony and this program
/// have it, or 254 and the offset as ntpd has it. The latter may be the digest of an IPv6 address at other times.
fn says_smeared(header: &Header, is_season: bool) -> bool {
    let id = header.reference_id.0;
    id == [127, 127, 1, 255] || (is_season && id[0] == 254)
}

pub(crate) const fn leap(indicator: LeapIndicator) -> Leap {
    match indicator {
        LeapIndicator::NoWarning => Leap::NoWarning,
        LeapIndicator::Insert => Leap::Insert,
        LeapIndicator::Delete => Leap::Delete,
        LeapIndicator::Unsynchronized => Leap::Unsynchronized,
    }
}

impl Association {
    /// What `authdata` shows: whether the latest request was answered with NTSN.
    pub(crate) fn latest_was_nak(&self) -> bool {
        let waiting_nak = self.exchange.as_ref().is_some_and(|open| open.outcome == Outcome::Nak);
        waiting_nak || self.nts().is_some_and(|nts| nts.nak)
    }
}
