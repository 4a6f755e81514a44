//! One worker: requests in, answers out, in batches.

use super::at_once::{AtOnce, Pressure};
use super::carrier::Carrier;
use super::departures::Departures;
use super::follow_up::FollowUps;
use super::frames::FrameDesk;
use super::signing::{Signer, SigningDesk};
use super::stats::{ServingStats, WorkerCounters};
use super::{Listener, Order, Orders, ServingSettings, Shared};
use crate::card_clocks::{CardLines, Convertible};
use crate::mode6_host::HandOver;
use arrayvec::ArrayVec;
use chime_server::{
    AnswerMark, Arrival, Begun, ClientRecord, Environment, NTS_REQUESTS_MAX, PendingNts, Policy, Published,
    Responder, ResponseKind, ServerTime, SilenceReason, TransmitTimes, Verdict, restamp_transmit,
};
use chime_sys::affinity::pin_this_thread;
use chime_sys::batch::{BatchedRequest, ServerBatch};
use chime_sys::frame_socket::FRAMES_AT_ONCE;
use chime_sys::poll::{Interest, PollSet, Readiness, Wake};
use chime_sys::udp::UdpSocket;
use chime_sys::{TimestampSource, Timestamped};
use chime_sys::{clock, signals};
use chime_time::{ClockReading, NtpDate, NtpDuration, NtpTimestamp};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;

/// Requests that are received at once. With more, the last ones of a batch wait longer than a system call costs.
pub(super) const BATCH_REQUESTS: usize = 64;
/// Octets of the longest request that is answered: eight of the longest cookies in use, and a long identifier.
const REQUEST_OCTETS_MAX: usize = 2048;
/// A request that waited longer than this is not answered: its client has given up, or will take the answer for that of a
/// server far away, and another one can be answered in time meanwhile.
const LATENESS_MAX: NtpDuration = NtpDuration::from_nanos(100_000_000);
/// Batches from one socket before the others have their turn.
const BATCHES_AT_ONCE: usize = 16;

/// What a worker waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    /// The socket of listener number so-and-so.
    Listener(usize),
    /// The frames of queue number so-and-so.
    Frames(usize),
    /// The line on which it is told things.
    Orders,
}

/// Answers requests on its sockets, in one thread.
pub struct Worker {
    pub(super) desks: Vec<Desk>,
    /// Where requests come past the sockets.
    pub(super) frame_desks: Vec<FrameDesk>,
    pub(super) shared: Arc<Shared>,
    pub(super) outside: Outside,
    batch: ServerBatch,
    /// What each request of the batch is answered with.
    kinds: [(ResponseKind, Carrier); BATCH_REQUESTS],
    pub(super) stats: ServingStats,
    counters: Arc<WorkerCounters>,
    /// What its sockets were opened by.
    pub(super) settings: Arc<ServingSettings>,
    /// The processor to be pinned to.
    cpu: Option<u16>,
    /// Whether other sockets are to be waited for than before.
    has_other_sockets: bool,
}

/// A socket and who answers there.
pub(super) struct Desk {
    number: usize,
    /// The PTP domain, where requests are PTP messages.
    pub(super) ptp_domain: Option<u8>,
    /// None while the port is closed: what is known of clients outlives that.
    socket: Option<UdpSocket>,
    pub(super) responder: Responder,
    signer: Option<Arc<Signer>>,
    pub(super) signing: Option<SigningDesk>,
    follow_ups: FollowUps,
}

impl Desk {
    /// Serves through this socket from now on, or through none.
    fn set_socket(&mut self, socket: Option<UdpSocket>) {
        self.follow_ups.forget();
        let signer = self.signer.clone().zip(socket.as_ref());
        self.signing = signer.and_then(|(signer, socket)| SigningDesk::new(signer, socket));
        self.socket = socket;
    }
}

/// The clock and the random octets of one worker.
pub(super) struct Outside {
    random: ChaCha12Rng,
    cards: Arc<CardLines>,
    departures: Departures,
    at_once: AtOnce,
    pressure: Pressure,
    /// Whether the answers are sent through a socket, by what was learnt of it.
    is_foretold: bool,
    /// Of those answers that are sealed together: the places among all that are sent, and how many these will be.
    places: ArrayVec<usize, NTS_REQUESTS_MAX>,
    place_count: usize,
    /// When the clock was read for them.
    sealing_since: Option<NtpDate>,
    /// How many sealed ones wait to be sent, and when the clock was read for them.
    sealed: Option<(usize, NtpDate)>,
}

impl Outside {
    fn new(random: ChaCha12Rng, cards: Arc<CardLines>) -> Self {
        Self {
            random,
            cards,
            departures: Departures::default(),
            at_once: AtOnce::MANY,
            pressure: Pressure::default(),
            is_foretold: false,
            places: ArrayVec::new(),
            place_count: 0,
            sealing_since: None,
            sealed: None,
        }
    }

    /// A batch of frames begins, which are sent faster than anything can be foretold.
    pub(super) fn begin_frames(&mut self) {
        self.at_once = AtOnce::MANY;
        self.is_foretold = false;
    }

    /// Answers to requests with these numbers are sealed next, and sent with others, `before` so many of which are those to
    /// requests before a number.
    fn begin_sealing(&mut self, numbers: &[usize], before: impl Fn(usize) -> usize, others: usize) {
        let place = |(index, number): (usize, &usize)| index + before(*number);
        self.places = numbers.iter().enumerate().map(place).collect();
        self.place_count = others + numbers.len();
        self.sealing_since = None;
    }

    fn end_sealing(&mut self) {
        let is_any = self.is_foretold && !self.places.is_empty();
        self.sealed = self.sealing_since.take().filter(|_| is_any).map(|since| (self.places.len(), since));
    }

    /// When a request came, by whoever knows best; and how long that took, where a card has told.
    fn received(&self, request: &BatchedRequest<'_>) -> (Timestamped, Option<NtpDuration>) {
        self.cards.received_in(&Convertible {
            kernel: request.received,
            hardware: request.hardware,
            octets: request.octets.len(),
            ipv6: request.from.is_ipv6(),
        })
    }
}

impl Environment for Outside {
    fn system_time(&mut self) -> NtpTimestamp {
        let now = clock::system_now();
        self.sealing_since = Some(now);
        now.timestamp()
    }

    fn sealed_until_departure(&self, index: usize) -> NtpDuration {
        if !self.is_foretold {
            return NtpDuration::ZERO;
        }
        let place = self.places.get(index).copied().unwrap_or(index);
        self.departures.after_clock(self.places.len(), place, self.place_count)
    }

    fn fill_random(&mut self, octets: &mut [u8]) {
        self.random.fill_bytes(octets);
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Worker({:?})", self.addresses())
    }
}

impl Worker {
    pub(super) fn new(
        listeners: impl Iterator<Item = (UdpSocket, Listener, Option<Arc<Signer>>)>,
        shared: Arc<Shared>,
        times: &Arc<TransmitTimes>,
        (settings, number): (Arc<ServingSettings>, u64),
    ) -> Self {
        let mut random = random(settings.seed, number);
        let desk = |(number, (socket, listener, signer)): (usize, (UdpSocket, Listener, Option<_>))| {
            let hash_key = [random.next_u64(), random.next_u64()];
            let responder = Responder::new(listener.policy, hash_key).with_transmit_times(times.clone());
            let mut desk = Desk {
                number,
                ptp_domain: listener.ptp_domain,
                signing: None,
                signer,
                socket: None,
                responder,
                follow_ups: FollowUps::new(times.clone(), shared.cards.clone()),
            };
            desk.set_socket(Some(socket));
            desk
        };
        let desks = listeners.enumerate().map(desk).collect();
        Self {
            desks,
            frame_desks: Vec::new(),
            outside: Outside::new(random, shared.cards.clone()),
            shared,
            batch: ServerBatch::new(BATCH_REQUESTS, REQUEST_OCTETS_MAX),
            kinds: [(ResponseKind::Plain, Carrier::Udp); BATCH_REQUESTS],
            stats: ServingStats::default(),
            counters: Arc::default(),
            settings,
            cpu: None,
            has_other_sockets: false,
        }
    }

    /// Has the worker's thread pinned to a processor.
    pub(super) fn pinned_to(self, cpu: Option<u16>) -> Self {
        Self { cpu, ..self }
    }

    /// Has it take requests here, too.
    pub(super) fn add_frame_desk(&mut self, desk: FrameDesk) {
        self.frame_desks.push(desk);
    }

    /// The addresses that are served, in the order of the listeners.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets().filter_map(|(_, socket)| socket.local_addr().ok()).collect()
    }

    /// The sockets to wait for, with the numbers of their listeners.
    pub fn sockets(&self) -> impl Iterator<Item = (usize, &UdpSocket)> {
        self.desks.iter().enumerate().filter_map(|(number, desk)| Some((number, desk.socket.as_ref()?)))
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> ServingStats {
        self.counters.read()
    }

    /// The clients that are remembered.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientRecord> {
        super::merge_clients(self.desks.iter().flat_map(|desk| desk.responder.clients()).collect())
    }

    /// Changes the policies, one for each listener, in their order. Missing ones stay.
    pub fn set_policies(&mut self, policies: Vec<Arc<Policy>>) {
        for (desk, policy) in self.desks.iter_mut().zip(policies) {
            desk.responder.set_policy(policy);
        }
    }

    /// The socket of listener number `index` is ready.
    pub(super) fn handle_ready(&mut self, index: usize, readiness: Readiness) {
        if readiness.readable || readiness.errors {
            self.serve_what_waits(index, readiness.errors);
        }
    }

    /// Answers what waits on the socket of listener number `index`, at most some hundred requests; never waits.
    pub fn serve(&mut self, index: usize) {
        self.serve_what_waits(index, false);
    }

    /// `reports`: the socket has some. They are taken whether or not anybody waits for them, or they would wake us for ever.
    fn serve_what_waits(&mut self, index: usize, reports: bool) {
        for _ in 0..BATCHES_AT_ONCE {
            if self.serve_batch(index) < self.batch.capacity() {
                break;
            }
        }
        // What woke us may be stamps of answers sent before. Only now: in simulators looking takes time, and requests are
        // stamped when they are read.
        if let Some(Desk { socket: Some(socket), follow_ups, .. }) = self.desks.get_mut(index)
            && (reports || follow_ups.is_waiting())
        {
            follow_ups.take_stamps(socket, &self.shared.time.load());
        }
        self.write_counters();
    }

    /// Answers what has come past the sockets in queue number `index`, at most some hundred requests; never waits.
    fn serve_frames(&mut self, index: usize) {
        for _ in 0..BATCHES_AT_ONCE {
            if self.serve_frame_batch(index) < FRAMES_AT_ONCE {
                break;
            }
        }
        self.write_counters();
    }

    fn write_counters(&mut self) {
        self.stats.requests = chime_server::ServerCounters::default();
        self.stats.clients_replaced = 0;
        self.stats.transmit_stamps = 0;
        self.stats.card_transmit_stamps = 0;
        for desk in &self.desks {
            self.stats.requests.add(desk.responder.counters());
            self.stats.clients_replaced += desk.responder.clients_replaced();
            self.stats.transmit_stamps += desk.follow_ups.kernel_stamps;
            self.stats.card_transmit_stamps += desk.follow_ups.card_stamps;
        }
        self.counters.write(&self.stats);
    }

    pub(super) fn counters(&self) -> Arc<WorkerCounters> {
        self.counters.clone()
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self, orders: &Orders) {
        // Signals are the time plane's.
        if let Err(error) = signals::block_in_this_thread() {
            tracing::debug!("signals cannot be blocked: {error}");
        }
        if let Some(Err(error)) = self.cpu.map(pin_this_thread) {
            let cpu = self.cpu.unwrap_or_default();
            tracing::error!("cpus: a thread that serves NTP cannot be pinned to processor {cpu}: {error}");
        }
        let mut set = PollSet::new();
        self.has_other_sockets = true;
        loop {
            if std::mem::take(&mut self.has_other_sockets) {
                self.register(&mut set, orders);
            }
            match set.wait(None) {
                Ok(Wake::Ready) => {}
                Ok(Wake::TimedOut | Wake::Interrupted) => continue,
                Err(error) => {
                    tracing::error!("a thread that serves NTP ends: poll failed: {error}");
                    return;
                }
            }
            for (token, readiness) in set.ready() {
                match token {
                    Token::Listener(index) => self.handle_ready(index, readiness),
                    Token::Frames(index) if readiness.readable => self.serve_frames(index),
                    Token::Orders if !self.obey(orders) => return,
                    Token::Frames(_) | Token::Orders => {}
                }
            }
        }
    }

    fn register(&self, set: &mut PollSet<Token>, orders: &Orders) {
        set.clear();
        for (index, socket) in self.sockets() {
            set.add(socket, Interest::READ, Token::Listener(index));
        }
        for (index, desk) in self.frame_desks.iter().enumerate() {
            set.add(desk, Interest::READ, Token::Frames(index));
        }
        set.add(&orders.wake, Interest::READ, Token::Orders);
    }

    /// Carries out what it was told; false: stop.
    pub(super) fn obey(&mut self, orders: &Orders) -> bool {
        orders.wake.drain();
        loop {
            match orders.receiver.try_recv() {
                Ok(Order::Clients(reply)) => drop(reply.send(self.clients())),
                Ok(Order::ResetClients(addresses)) => {
                    self.desks.iter_mut().for_each(|desk| desk.responder.reset_client_counts(&addresses));
                }
                Ok(Order::Policies(policies)) => self.set_policies(policies),
                Ok(Order::Socket { index, socket, done }) => {
                    if let Some(desk) = self.desks.get_mut(index) {
                        desk.set_socket(socket);
                    }
                    self.has_other_sockets = true;
                    drop(done);
                }
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Receives and answers one batch; gives how many requests there were.
    fn serve_batch(&mut self, index: usize) -> usize {
        let Some(Desk { socket: Some(socket), .. }) = self.desks.get(index) else { return 0 };
        let received = match self.batch.receive(socket) {
            Ok(received) => received,
            // ICMP errors and the like, left by answers that were not delivered: taken by the call that told of them.
            Err(_) => return 0,
        };
        let time = **self.shared.time.load();
        let keys = self.shared.keys.load();
        let published = Published { time: &time, keys: keys.as_deref() };
        self.outside.at_once = self.outside.pressure.add(received);
        self.outside.is_foretold = true;
        let mut next = 0;
        while let (true, Some(desk)) = (next < received, self.desks.get_mut(index)) {
            let others = Others {
                control: self.shared.control.get().map(|control| (control, desk.number)),
                signing: desk.signing.as_ref(),
            };
            let (now, end) = (self.batch.now(), self.batch.capacity());
            let (answers, end) = answer(
                (self.batch.exchanges(next), end, now),
                (&mut desk.responder, desk.ptp_domain),
                &published,
                &mut self.outside,
                &mut self.stats,
                &others,
            );
            next = end;
            self.queue(index, answers, &time);
            self.send(index, &time);
        }
        received
    }

    /// Queues these answers; sends as many as are sent at once, unless sealed ones are among them: their places were foretold
    /// for all that wait.
    fn queue(&mut self, index: usize, answers: ArrayVec<Answer, BATCH_REQUESTS>, time: &ServerTime) {
        for answer in answers {
            let Some(desk) = self.desks.get_mut(index) else { return };
            match answer.follow_up {
                None => self.batch.answer(answer.number, answer.octets),
                Some(mark) => {
                    desk.follow_ups.answer(&mut self.batch, answer.number, answer.octets, mark);
                }
            }
            self.kinds[answer.number] = (answer.kind, answer.carrier);
            if self.outside.sealed.is_none() && self.batch.queued() >= self.outside.at_once.sent {
                self.send(index, time);
            }
        }
    }

    fn send(&mut self, index: usize, time: &ServerTime) {
        if let Some(desk) = self.desks.get_mut(index) {
            self.stats.send_failures += send(&mut self.batch, desk, &self.kinds, time, &mut self.outside);
        }
    }
}

/// Random numbers that only the seed tells, others for each `stream`.
pub(super) fn random(seed: [u8; 32], stream: u64) -> ChaCha12Rng {
    let mut random = ChaCha12Rng::from_seed(seed);
    random.set_stream(stream);
    random
}

/// Who takes what a responder does not finish.
#[derive(Default)]
pub(super) struct Others<'a> {
    /// Requests of mode 6, with the number of the listener that they come to.
    pub(super) control: Option<(&'a HandOver, usize)>,
    /// Answers that are to be signed.
    pub(super) signing: Option<&'a SigningDesk>,
}

/// An answer to a request of the batch.
pub(super) struct Answer {
    pub(super) number: usize,
    pub(super) octets: usize,
    pub(super) kind: ResponseKind,
    carrier: Carrier,
    follow_up: Option<AnswerMark>,
}

/// Answers requests of a batch, each with its number and the room for its answer, until there are as many with NTS fields as
/// are finished together, or so many with others among them; gives the answers, in the order of their requests, and the number
/// of the request that comes next, or `end` when there is none. The clocks showed `now` when the batch was received.
pub(super) fn answer<'a>(
    (requests, end, now): (
        impl Iterator<Item = (usize, BatchedRequest<'a>, &'a mut [u8])>,
        usize,
        ClockReading,
    ),
    (responder, ptp_domain): (&mut Responder, Option<u8>),
    published: &Published<'_>,
    outside: &mut Outside,
    stats: &mut ServingStats,
    others: &Others<'_>,
) -> (ArrayVec<Answer, BATCH_REQUESTS>, usize) {
    let mono = now.mono;
    let (mut answers, mut next) = (ArrayVec::new(), end);
    let mut numbers = ArrayVec::<usize, NTS_REQUESTS_MAX>::new();
    let mut carriers = ArrayVec::<Carrier, NTS_REQUESTS_MAX>::new();
    let mut pending = ArrayVec::<PendingNts<'_>, NTS_REQUESTS_MAX>::new();
    for (number, request, room) in requests {
        if request.truncated {
            stats.oversized += 1;
            continue;
        }
        if is_late(&request.received, now) {
            responder.refuse(SilenceReason::Late);
            continue;
        }
        let Ok(carried) = Carrier::open(ptp_domain, request.octets) else {
            responder.refuse(SilenceReason::PtpMalformed);
            continue;
        };
        let (carrier, prefix) = (carried.by, carried.by.prefix_octets());
        let Some(room) = room.get_mut(prefix..) else { continue };
        let (received, duration) = outside.received(&request);
        stats.kernel_timestamps += u64::from(received.source != TimestampSource::Daemon);
        stats.card_timestamps += u64::from(received.source == TimestampSource::Hardware);
        // Of a card's stamp it is known by how much it was moved; the others are of no such precision.
        let correction = duration.filter(|_| carrier != Carrier::Udp);
        let correction = correction.map(|duration| duration + carried.correction);
        let received = received.at.system.timestamp();
        let arrival = Arrival { correction, ..Arrival::new(request.from.ip(), received, mono) };
        match responder.begin(carried.request, &arrival, published, outside, room) {
            Begun::Done(Verdict::Respond { octets, kind }) => {
                let follow_up = responder.take_follow_up();
                answers.push(Answer { number, octets: prefix + octets, kind, carrier, follow_up });
                // Its time cannot be written any more, so it waits for no others.
                if kind == ResponseKind::Keyed {
                    next = number + 1;
                    break;
                }
            }
            Begun::Done(Verdict::Silence(SilenceReason::Control)) => {
                if let Some((control, listener)) = others.control.filter(|_| carrier == Carrier::Udp) {
                    control.take(listener, request.octets, request.from, request.destination);
                }
            }
            Begun::Done(Verdict::Silence(_)) => {}
            Begun::Sign(unsigned) => {
                let signing = others.signing;
                let taken = signing.is_some_and(|it| it.take(unsigned, request.from, request.destination));
                responder.count_signing(taken);
            }
            Begun::Nts(request) => {
                numbers.push(number);
                carriers.push(carrier);
                pending.push(request);
            }
        }
        let sealed_max = outside.at_once.sealed;
        if !pending.is_empty() && answers.len() + pending.len() >= sealed_max {
            next = number + 1;
            break;
        }
    }
    let before = |number: usize| answers.iter().filter(|answer| answer.number < number).count();
    outside.begin_sealing(&numbers, before, answers.len());
    let finished = responder.finish(&mut pending, published, outside);
    outside.end_sealing();
    for ((number, carrier), (verdict, follow_up)) in numbers.into_iter().zip(carriers).zip(finished) {
        if let Verdict::Respond { octets, kind } = verdict {
            let octets = carrier.prefix_octets() + octets;
            answers.push(Answer { number, octets, kind, carrier, follow_up });
        }
    }
    answers.sort_unstable_by_key(|answer| answer.number);
    (answers, next)
}

/// Whether a request waited for too long, as after a stop of the whole machine or when its queue was larger than what is
/// answered in that time. Only the kernel knows when it came.
fn is_late(received: &Timestamped, now: ClockReading) -> bool {
    let waited = now.system - received.at.system;
    received.source != TimestampSource::Daemon && waited > LATENESS_MAX
}

/// Sends what is queued, with the time at which it will leave where that can still be written; gives how many were refused.
fn send(
    batch: &mut ServerBatch,
    desk: &mut Desk,
    kinds: &[(ResponseKind, Carrier)],
    time: &ServerTime,
    outside: &mut Outside,
) -> u64 {
    let count = batch.queued();
    if count == 0 {
        // None of what was sealed came to an answer.
        outside.sealed = None;
        return 0;
    }
    let departures = &mut outside.departures;
    let before = clock::system_now();
    if let Some((count, since)) = outside.sealed.take() {
        departures.sealed(count, before - since);
    }
    let now = time.corrected(before.timestamp(), batch.now().mono);
    for (place, (number, answer)) in batch.answers_mut().enumerate() {
        let (kind, carrier) = kinds[number];
        restamp_transmit(carrier.write(answer), kind, now + departures.after_sending_begins(place, count));
    }
    let Some(socket) = &desk.socket else { return 0 };
    let refused = batch.send(socket);
    departures.sent(count, clock::system_now() - before);
    if desk.follow_ups.is_due() {
        desk.follow_ups.sent(socket, before, refused, time);
    }
    refused as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_time::MonoTime;

    #[test]
    fn what_is_sealed_past_the_sockets_teaches_nothing_about_them() {
        let mut outside = Outside::new(random([0; 32], 0), Arc::default());
        let mut seal = |foretold| {
            outside.begin_frames();
            outside.is_foretold = foretold;
            outside.begin_sealing(&[0, 2], |_| 0, 1);
            let _now = outside.system_time();
            outside.end_sealing();
            outside.sealed.is_some()
        };
        assert_eq!((seal(false), seal(true)), (false, true));
    }

    #[test]
    fn requests_are_late_after_a_tenth_of_a_second_by_the_kernels_stamp() {
        let at = |millis: i64| {
            let system = chime_time::NtpDate::from_unix(1_800_000_000, 0)
                + NtpDuration::from_nanos(millis * 1_000_000);
            ClockReading { mono: MonoTime::ZERO, system }
        };
        let stamp = |millis, source| Timestamped { at: at(millis), source };
        for (came, now, late) in [(0, 0, false), (0, 100, false), (0, 101, true), (50, 0, false)] {
            assert_eq!(is_late(&stamp(came, TimestampSource::Kernel), at(now)), late, "{came} {now}");
            assert!(!is_late(&stamp(came, TimestampSource::Daemon), at(now)));
        }
    }
}
