//! Symmetric mode: two daemons that may follow each other, each sending at its own pace. RFC 5905 §9, RFC 9769 §3.
//!
//! Only configured peers are listened to; a stranger in symmetric mode is answered by the server, without state. A packet
//! makes a measurement when it shows that it is about our last one: by its origin timestamp, and where there is a key by its
//! MAC. Other packets of a peer only start or restart the exchange of timestamps, and an old one that somebody plays again
//! does not even do that.
//!
//! ```text
//! basic         origin = transmit timestamp of the packet heard last, receive = when it came, transmit = now
//! interleaved   origin = receive timestamp of the packet heard last,  receive = when it came, transmit = when our last
//!                                                                                             packet really left
//! ```

use crate::answer::{Datagram, held, verify_mac};
use crate::association::{Association, Credentials};
use crate::engine::Engine;
use crate::frequency_transfer::Held;
use crate::interleaved::{AnswerMode, Completed, Timestamps};
use crate::polling::BURST_SECONDS;
use crate::timers::Timer;
use crate::{
    AskedFields, DiscardReason, ExchangeId, NetworkPath, SourceMode, SourceRefusal, Timestamped, Transmit,
    TxToken,
};
use chime_discipline::{Leap, SourceId};
use chime_time::{ClockReading, MonoTime, NtpDuration, NtpShort, NtpTimestamp};
use chime_wire::{
    DecodeError, EXCHANGE_FIELD_OCTETS, ExchangeFields, FieldWriter, HEADER_OCTETS, Header, LeapIndicator,
    Mode, MonotonicReceive, NetworkCorrection, ReferenceId,
};
use std::net::SocketAddr;

/// Room for a header, the fields and the longest MAC.
const PACKET_ROOM: usize = HEADER_OCTETS + 2 * EXCHANGE_FIELD_OCTETS + 4 + 64;
/// How much intervals vary: plus or minus.
const INTERVAL_JITTER: f64 = 0.02;

/// What is remembered of the packets that went to and fro.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Peer {
    /// The socket, on the server's own port; open as long as the association lives.
    pub(crate) socket: ExchangeId,
    sent: Option<SentPacket>,
    heard: Option<HeardPacket>,
    /// The exchange that the packet heard last ended, when it is known which packet of ours that was about.
    completed: Option<Completed>,
    /// Packets sent since the last valid one was heard.
    sent_since: u32,
    /// Whether there was just one packet of ours between the last two valid ones of the peer's. RFC 9769 §3.
    alternates: bool,
    /// Whether the peer has ever sent a valid packet in interleaved mode.
    interleaves: bool,
    /// Whether a valid packet came since the last poll.
    answered: bool,
    /// Whether a packet was ever sent.
    started: bool,
}

/// Our last packet.
#[derive(Clone, Copy, PartialEq, Debug)]
struct SentPacket {
    /// What it said.
    transmit: NtpTimestamp,
    receive: NtpTimestamp,
    /// When the packet came that it told about.
    heard_at: Option<Timestamped>,
    /// When it left; by our clock, and by our clock with what is left to correct.
    left: Option<(Timestamped, NtpTimestamp)>,
    /// Whether a measurement was made of it.
    used: bool,
}

/// The packet of the peer's that we heard last.
#[derive(Clone, Copy, PartialEq, Debug)]
struct HeardPacket {
    receive: NtpTimestamp,
    transmit: NtpTimestamp,
    at: Timestamped,
    /// The same with what was left to correct.
    corrected: NtpTimestamp,
    /// And on the scale without corrections.
    monotonic: NtpTimestamp,
    path: Option<NetworkPath>,
}

impl Peer {
    pub(crate) const fn new(socket: ExchangeId) -> Self {
        Self {
            socket,
            sent: None,
            heard: None,
            completed: None,
            sent_since: 0,
            alternates: false,
            interleaves: false,
            answered: false,
            started: false,
        }
    }

    /// Our clock was stepped: timestamps from before mean nothing any more.
    pub(crate) const fn forget(&mut self) {
        self.sent = None;
        self.heard = None;
        self.completed = None;
        self.alternates = false;
    }

    /// The packet could not be sent.
    const fn not_sent(&mut self) {
        self.sent = None;
    }

    /// Whether the next packet is an interleaved one: both know which packet it is about. RFC 9769 §3.
    fn may_interleave(&self, is_configured: bool) -> bool {
        (is_configured || self.interleaves) && self.alternates && self.sent_since == 0
    }

    /// Notes a valid packet.
    const fn heard_valid(&mut self, mode: AnswerMode) {
        self.alternates = self.sent_since == 1;
        self.sent_since = 0;
        self.answered = true;
        self.interleaves |= matches!(mode, AnswerMode::Interleaved);
    }

    /// Whether a packet that does not fit ours may start the exchange anew: not one from before what we have.
    fn may_restart(&self, header: &Header) -> bool {
        self.heard.is_none_or(|heard| heard.transmit.is_before(header.transmit))
    }
}

/// The three timestamps of a packet that we send.
struct Told {
    origin: NtpTimestamp,
    receive: NtpTimestamp,
    transmit: NtpTimestamp,
}

impl Engine {
    /// A peer's poll timer rang: sends it a packet.
    pub(crate) fn poll_peer(&mut self, now: MonoTime, id: SourceId) {
        let Some(index) = self.association_index(id) else { return };
        let Some(peer) = &mut self.associations[index].peer else { return };
        let was_missed = std::mem::replace(&mut peer.started, true) && !std::mem::take(&mut peer.answered);
        if was_missed {
            self.missed(now, id);
        }
        // It may have given way to another address.
        let Some(index) = self.association_index(id) else { return };
        let interval = match self.write_peer_packet(now, index) {
            Ok(Some((exchange, octets, from_port))) => {
                let association = &mut self.associations[index];
                association.counters.sent += 1;
                let (token, to) = (TxToken { exchange }, association.remote);
                self.transmits.push_back(Transmit { token, to, octets, from_port: Some(from_port) });
                association.polling.sent()
            }
            Ok(None) => self.associations[index].polling.interval_seconds(),
            Err(error) => {
                self.associations[index].last_error = Some(format!("cannot make a packet: {error}"));
                self.associations[index].polling.interval_seconds()
            }
        };
        let jitter = self.random.jitter(1.0 - INTERVAL_JITTER, 1.0 + INTERVAL_JITTER);
        self.timers.set(Timer::Poll(id), now.add_secs_f64(interval.max(BURST_SECONDS / 4.0) * jitter));
    }

    fn write_peer_packet(
        &mut self,
        now: MonoTime,
        index: usize,
    ) -> Result<Option<(ExchangeId, Vec<u8>, u16)>, DecodeError> {
        let key = self.associations[index].source;
        let Some(source) = self.source_index(key) else { return Ok(None) };
        let config = &self.sources[source].config;
        let SourceMode::Symmetric { local_port } = config.mode else { return Ok(None) };
        let (version, is_interleaved, fields) =
            (config.version.clamp(1, 4), config.interleaved, config.fields);
        let scale = self.scale();
        let now_reading = ClockReading { mono: now, system: self.system_date(now) };
        let transmit = self.blur(self.corrected(now_reading));
        let association = &mut self.associations[index];
        let Some(peer) = &mut association.peer else { return Ok(None) };
        let told = peer.tell(transmit, is_interleaved, scale.offset);
        let path = peer.heard.and_then(|heard| heard.path);
        let (socket, poll) = (peer.socket, association.polling.exponent().exponent());
        let header = self.peer_header(now, version, poll, &told);
        let asked = if version == 4 { fields } else { AskedFields::default() };
        let fields = self.told_to_peer(now, asked, &header, path);
        let mut buffer = [0; PACKET_ROOM];
        buffer[..HEADER_OCTETS].copy_from_slice(&header.encode());
        let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
        fields.append(&mut writer)?;
        if let Credentials::Key(number) = self.associations[index].credentials {
            let Some(symmetric) = self.config.keys.iter().find(|key| key.id() == number) else {
                self.refuse_source(key, SourceRefusal::UnknownKey(number));
                return Ok(None);
            };
            symmetric.append_mac(&mut writer, version)?;
        }
        Ok(Some((socket, writer.written().to_vec(), local_port)))
    }

    /// The fields of our packet with this header, about the peer's packet that was heard last.
    fn told_to_peer(
        &self,
        now: MonoTime,
        asked: AskedFields,
        header: &Header,
        path: Option<NetworkPath>,
    ) -> ExchangeFields {
        let (system, scale) = (self.discipline.system(now), self.scale());
        let seconds = NtpDuration::from_secs_f64;
        let is_known = header.leap != LeapIndicator::Unsynchronized && !header.receive.is_zero();
        let monotonic = MonotonicReceive {
            root_delay: seconds(system.root_delay),
            root_dispersion: seconds(system.root_dispersion),
            receive: if is_known { header.receive + scale.offset } else { NtpTimestamp::ZERO },
            epoch: if is_known { scale.epoch } else { 0 },
        };
        let correction = path.map_or(NtpDuration::ZERO, NetworkPath::sum);
        ExchangeFields {
            correction: asked.correction.then_some(NetworkCorrection(correction)),
            monotonic: asked.monotonic.then_some(monotonic),
        }
    }

    /// What our packet says of our clock. RFC 5905 §9.2, figure 20.
    fn peer_header(&self, now: MonoTime, version: u8, poll: i8, told: &Told) -> Header {
        let system = self.discipline.system(now);
        let seconds = NtpDuration::from_secs_f64;
        let header = Header {
            leap: LeapIndicator::Unsynchronized,
            version,
            mode: Mode::SymmetricActive,
            stratum: 0,
            poll,
            precision: self.discipline.settings().precision.exponent(),
            root_delay: NtpShort::ZERO,
            root_dispersion: NtpShort::ZERO,
            reference_id: ReferenceId::default(),
            reference: NtpTimestamp::ZERO,
            origin: told.origin,
            receive: told.receive,
            transmit: told.transmit,
        };
        if system.leap == Leap::Unsynchronized || !(1..16).contains(&system.stratum) {
            return header;
        }
        let since_update = system.reference_at.map_or(0.0, |at| now.seconds_since(at).max(0.0));
        let reading = ClockReading { mono: now, system: self.system_date(now) };
        Header {
            leap: match system.leap {
                Leap::NoWarning => LeapIndicator::NoWarning,
                Leap::Insert => LeapIndicator::Insert,
                Leap::Delete => LeapIndicator::Delete,
                Leap::Unsynchronized => LeapIndicator::Unsynchronized,
            },
            stratum: system.stratum,
            root_delay: NtpShort::from_duration_ceil(seconds(system.root_delay)),
            root_dispersion: NtpShort::from_duration_ceil(seconds(system.root_dispersion)),
            reference_id: ReferenceId(system.reference_id),
            reference: self.corrected(reading) - seconds(since_update),
            ..header
        }
    }

    /// A reading of our clock with what is left to correct, as the server's timestamps have it.
    fn corrected(&self, reading: ClockReading) -> NtpTimestamp {
        let left = self.discipline.system(reading.mono).system_offset;
        (reading.system + NtpDuration::from_secs_f64(left)).timestamp()
    }

    /// Random bits below our precision, so that nobody can tell the timestamp from the time alone.
    fn blur(&mut self, timestamp: NtpTimestamp) -> NtpTimestamp {
        let precision = i32::from(self.discipline.settings().precision.exponent());
        let bits = u32::try_from((32 + precision).clamp(1, 16)).unwrap_or(1);
        let mask = (1u64 << bits) - 1;
        let random = u64::from_be_bytes(self.random.public_octets()) & mask;
        NtpTimestamp::from_bits((timestamp.to_bits() & !mask | random).max(1))
    }

    /// Notes when our packet really left.
    pub(crate) fn peer_packet_left(&mut self, index: usize, stamp: Timestamped) {
        let corrected = self.corrected(stamp.at);
        let Some(sent) = self.associations[index].peer.as_mut().and_then(|peer| peer.sent.as_mut()) else {
            return;
        };
        if sent.left.is_none_or(|(old, _)| stamp.source >= old.source) {
            sent.left = Some((stamp, corrected));
        }
    }

    /// Our packet never left.
    pub(crate) fn peer_packet_failed(&mut self, index: usize) {
        if let Some(peer) = &mut self.associations[index].peer {
            peer.not_sent();
        }
    }

    /// A datagram on a peer's socket.
    pub(crate) fn handle_peer_datagram(
        &mut self,
        now: MonoTime,
        index: usize,
        datagram: &Datagram<'_>,
    ) -> Result<(), DiscardReason> {
        let (id, key) = (self.associations[index].id, self.associations[index].source);
        if self.source_index(key).is_none_or(|source| !self.sources[source].is_active()) {
            return Err(DiscardReason::UnknownExchange);
        }
        let header = self.authentic_peer_header(&self.associations[index], datagram)?;
        let corrected = self.corrected(datagram.received.at);
        let monotonic = corrected + self.scale().offset;
        let fields = self.fields_of(id, datagram);
        let Some(peer) = &mut self.associations[index].peer else {
            return Err(DiscardReason::UnknownExchange);
        };
        if peer
            .heard
            .is_some_and(|heard| heard.transmit == header.transmit && heard.receive == header.receive)
        {
            return Err(DiscardReason::Duplicate);
        }
        let held = held(&fields, datagram.path);
        let fitting = peer.fit(&header, (datagram.received, held));
        if fitting.is_some() || peer.may_restart(&header) {
            let (receive, transmit) = (header.receive, header.transmit);
            let (at, path) = (datagram.received, datagram.path);
            peer.heard = Some(HeardPacket { receive, transmit, at, corrected, monotonic, path });
        }
        if let Some(fitting) = &fitting {
            peer.heard_valid(fitting.mode);
        }
        let moved = match &fitting {
            Some(_) => self.hear_scale(id, &header, &fields),
            None => NtpDuration::ZERO,
        };
        match fitting {
            Some(Fitting { timestamps: Some(timestamps), .. }) => {
                self.measured(now, id, (&timestamps.moved(moved), &fields), datagram.local)
            }
            Some(_) => Ok(()),
            // The peer has not heard from us yet, or began anew: our next packet tells it where we are.
            None if header.origin.is_zero() => Ok(()),
            None => Err(DiscardReason::OriginMismatch),
        }
    }

    /// Shows that a datagram is the peer's.
    fn authentic_peer_header(
        &self,
        association: &Association,
        datagram: &Datagram<'_>,
    ) -> Result<Header, DiscardReason> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        if canonical(datagram.from) != canonical(association.remote) {
            return Err(DiscardReason::WrongSender);
        }
        let header = Header::decode(datagram.octets).map_err(|_| DiscardReason::Malformed)?;
        if !matches!(header.mode, Mode::SymmetricActive | Mode::SymmetricPassive) {
            return Err(DiscardReason::WrongMode);
        }
        match association.credentials {
            Credentials::Key(number) => verify_mac(datagram.octets, number, &self.config.keys)?,
            Credentials::None => {}
            // There is no such source: a peer has no server to get cookies from.
            Credentials::Nts(_) => return Err(DiscardReason::Unauthenticated),
        }
        Ok(header)
    }
}

impl Peer {
    /// The timestamps of our next packet, which leaves about at `transmit`. `scale`: what our scale without corrections is ahead
    /// of our time.
    fn tell(&mut self, transmit: NtpTimestamp, is_configured: bool, scale: NtpDuration) -> Told {
        let left = self.sent.and_then(|sent| sent.left);
        // As if our time had been then what it is now: the two ends of an interval are to be on one scale.
        let receive = |heard: HeardPacket| heard.monotonic - scale;
        let told = match (self.heard, left) {
            (None, _) => Told { origin: NtpTimestamp::ZERO, receive: NtpTimestamp::ZERO, transmit },
            (Some(heard), Some((_, left)))
                if self.may_interleave(is_configured) && left != receive(heard) =>
            {
                Told { origin: heard.receive, receive: receive(heard), transmit: left }
            }
            (Some(heard), _) => Told { origin: heard.transmit, receive: receive(heard), transmit },
        };
        self.sent = Some(SentPacket {
            transmit: told.transmit,
            receive: told.receive,
            heard_at: self.heard.map(|heard| heard.at),
            left: None,
            used: false,
        });
        self.sent_since = self.sent_since.saturating_add(1);
        told
    }

    /// What a packet makes of our last one, which then is used up.
    ///
    /// A basic one tells of our packet by its transmit timestamp, of which there is but one. An interleaved one tells of the
    /// packet that ours was about, and that may be true of several of ours: it completes the exchange before, and begins
    /// another only when there was just one. RFC 9769 §3.
    fn fit(&mut self, header: &Header, (received, held): (Timestamped, Option<Held>)) -> Option<Fitting> {
        let sent = self.sent.as_mut().filter(|_| !header.origin.is_zero())?;
        let left = sent.left.map(|(left, _)| left);
        let mode = match header.origin {
            origin if origin == sent.transmit => AnswerMode::Basic,
            origin if origin == sent.receive => AnswerMode::Interleaved,
            _ => return None,
        };
        if sent.used {
            // A second one about the same of ours: the peer sends more often than we do, and would not know which one an
            // interleaved packet is about.
            self.alternates = false;
            return None;
        }
        sent.used = true;
        let before = self.completed.take().filter(|before| Some(before.received) == sent.heard_at);
        let is_only_one = mode == AnswerMode::Basic || self.sent_since == 1;
        self.completed = left
            .filter(|_| is_only_one)
            .map(|sent| Completed::new(self.socket, sent, received, header, mode == AnswerMode::Basic))
            .map(|completed| completed.with_held(held));
        let timestamps = match mode {
            AnswerMode::Basic => left.map(|sent| Timestamps {
                header: *header,
                sent,
                received,
                held,
                mode,
                sampled: false,
                ahead: false,
            }),
            AnswerMode::Interleaved => before.map(|before| before.complete(header)),
        };
        Some(Fitting { mode, timestamps })
    }
}

/// A packet that fits ours.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Fitting {
    mode: AnswerMode,
    /// What it makes a measurement of, if it does.
    timestamps: Option<Timestamps>,
}
