//! One worker: requests in, answers out, in batches.

use super::answering::{Answer, Others, answer};
use super::carrier::Carrier;
use super::follow_up::FollowUps;
use super::frames::FrameDesk;
use super::outside::{Outside, random};
use super::signing::{Signer, SigningDesk};
use super::stats::{ServingStats, WorkerCounters};
use super::{Listener, Order, Orders, ServingSettings, Shared};
use arrayvec::ArrayVec;
use chime_server::{
    ClientRecord, Policy, Published, Responder, ResponseKind, ServerTime, TransmitTimes, restamp_transmit,
};
use chime_sys::affinity::pin_this_thread;
use chime_sys::batch::ServerBatch;
use chime_sys::frame_socket::FRAMES_AT_ONCE;
use chime_sys::poll::{Interest, PollSet, Readiness, Wake};
use chime_sys::udp::UdpSocket;
use chime_sys::{clock, signals};
use rand_chacha::rand_core::Rng;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;

/// Requests that are received at once. With more, the last ones of a batch wait longer than a system call costs.
pub(super) const BATCH_REQUESTS: usize = 64;
/// Octets of the longest request that is answered: eight of the longest cookies in use, and a long identifier.
const REQUEST_OCTETS_MAX: usize = 2048;
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
