//! One worker: accepts, and serves its connections.

use super::connection::Connection;
use super::counters::{KeCounters, add};
use super::fairness::Turns;
use super::places::Places;
use super::waiting::Waiting;
use super::{CERTIFICATES_CHECK_INTERVAL, Desk};
use crate::serving::Shared;
use crate::tcp_race::is_not_now;
use chime_server::Access;
use chime_sys::clock;
use chime_sys::limits::yield_to_others;
use chime_sys::poll::{Interest, PollSet, Readiness, WakeReceiver};
use chime_sys::tcp::{TcpListener, is_out_of_resources};
use chime_time::MonoTime;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Connections accepted at one socket in one turn.
const ACCEPTS_PER_TURN_MAX: usize = 32;

/// How long connections are served in one turn, until newcomers are looked after and the order is made anew: some fifteen
/// handshakes. A good client takes three turns. Looking at a thousand that wait for theirs takes a twentieth of that.
const TURN: Duration = Duration::from_millis(2);

/// The same in the caller's loop, which has NTP to answer between turns.
const TURN_OF_LOOP: Duration = Duration::from_micros(500);

/// How far these threads stand back behind those that answer NTP, where there is not processor time enough for all.
const NICE: u8 = 10;

/// How long nothing is accepted after the system had no descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A descriptor of the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeToken {
    /// A listening socket.
    Listener(usize),
    /// A connection.
    Connection(usize),
}

/// Serves NTS-KE on its sockets, in one thread.
pub struct KeWorker {
    number: usize,
    listeners: Vec<(TcpListener, Arc<Desk>)>,
    places: Places,
    turns: Turns,
    /// What the kernel waits for; none where the caller's loop polls.
    waiting: Option<Waiting>,
    shared: Arc<Shared>,
    counters: Arc<KeCounters>,
    accept_again: MonoTime,
    next_certificate_check: MonoTime,
}

impl std::fmt::Debug for KeWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeWorker({:?})", self.addresses())
    }
}

impl KeWorker {
    pub(super) fn new(number: usize, shared: Arc<Shared>, counters: Arc<KeCounters>) -> Self {
        Self {
            number,
            listeners: Vec::new(),
            places: Places::default(),
            turns: Turns::new(clock::mono_now()),
            waiting: None,
            shared,
            counters,
            accept_again: MonoTime::ZERO,
            next_certificate_check: clock::mono_now().saturating_add(CERTIFICATES_CHECK_INTERVAL),
        }
    }

    pub(super) fn add_listener(&mut self, socket: TcpListener, desk: Arc<Desk>) {
        self.listeners.push((socket, desk));
    }

    pub(super) fn desks(&self) -> impl Iterator<Item = &Arc<Desk>> {
        self.listeners.iter().map(|(_, desk)| desk)
    }

    pub(super) const fn counters(&self) -> &Arc<KeCounters> {
        &self.counters
    }

    /// The addresses that are served, in the order of the listeners.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|(socket, _)| socket.local_addr().ok()).collect()
    }

    /// Adds every socket to what is waited for. Call it before each wait.
    pub fn register<T: Copy>(&self, set: &mut PollSet<T>, token: impl Fn(KeToken) -> T, now: MonoTime) {
        for (index, (socket, _)) in self.listeners.iter().enumerate() {
            if self.can_accept(index, now) {
                set.add(socket, Interest::READ, token(KeToken::Listener(index)));
            }
        }
        for (slot, connection) in self.places.iter() {
            set.add(connection, connection.interest(), token(KeToken::Connection(slot)));
        }
    }

    /// Sockets are ready. Newcomers first, which is cheap, then those who had fewest turns. Who has none this time is to be
    /// reported again.
    pub fn handle_turn(&mut self, ready: &[(KeToken, Readiness)], now: MonoTime) {
        let mut waiting = Vec::with_capacity(ready.len());
        for (token, readiness) in ready {
            match token {
                KeToken::Listener(index) => self.accept(*index, now),
                KeToken::Connection(slot) => waiting.push((*slot, *readiness)),
            }
        }
        let places = &self.places;
        let network = |(slot, _): &(usize, Readiness)| places.get(*slot).map(Connection::network);
        self.turns.sort(&mut waiting, network, now);
        let has_thread = self.waiting.is_some();
        let over = now.saturating_add(if has_thread { TURN } else { TURN_OF_LOOP });
        for (slot, readiness) in waiting {
            if let Some(network) = self.places.get(slot).map(Connection::network) {
                self.turns.count(network);
            }
            self.serve(slot, readiness, now);
            if has_thread {
                // A thread that answers NTP and was woken meanwhile need not wait until the scheduler takes turns, by
                // milliseconds: a handshake is what it waits at most.
                std::thread::yield_now();
            }
            if clock::mono_now() >= over {
                return;
            }
        }
    }

    /// Does what is due; early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        while let Some(connection) = self.places.remove_due(now) {
            connection.count_timeout(&self.counters);
        }
        if now >= self.next_certificate_check {
            self.next_certificate_check = now.saturating_add(CERTIFICATES_CHECK_INTERVAL);
            if self.number == 0 {
                self.desks().for_each(|desk| desk.certificates.reload_if_changed());
            }
        }
    }

    /// When [`Self::handle_timeout`] is due, or [`Self::register`] would register more. Changes after each call.
    #[must_use]
    pub fn poll_timeout(&self, now: MonoTime) -> MonoTime {
        let paused = (now < self.accept_again).then_some(self.accept_again);
        self.places.next_deadline().into_iter().chain(paused).fold(self.next_certificate_check, MonoTime::min)
    }

    /// Serves until `stop` is set and the worker is woken.
    pub(super) fn run(mut self, wake: &WakeReceiver, stop: &AtomicBool) {
        // Refused, it is as it was: all threads alike.
        let _refused = yield_to_others(NICE);
        if let Err(error) = self.run_until(wake, stop) {
            tracing::error!("a thread that serves NTS-KE ends: waiting failed: {error}");
        }
    }

    fn run_until(&mut self, wake: &WakeReceiver, stop: &AtomicBool) -> std::io::Result<()> {
        self.waiting = Some(Waiting::new(wake, self.listeners.len())?);
        let mut ready = Vec::new();
        while !stop.load(Ordering::Acquire) {
            let now = clock::mono_now();
            let deadline = self.poll_timeout(now);
            let can_accept: Vec<_> =
                (0..self.listeners.len()).map(|index| self.can_accept(index, now)).collect();
            let Some(waiting) = &mut self.waiting else { return Ok(()) };
            for ((index, (socket, _)), can_accept) in self.listeners.iter().enumerate().zip(can_accept) {
                waiting.watch_listener(index, socket, can_accept)?;
            }
            if waiting.wait(deadline, &mut ready)? {
                wake.drain();
            }
            let now = clock::mono_now();
            self.handle_turn(&ready, now);
            self.handle_timeout(now);
        }
        Ok(())
    }

    /// Whether there is room for a newcomer, or somebody who can be asked to go. Otherwise newcomers wait in the kernel's
    /// queue: nobody stays longer than the timeout.
    fn can_accept(&self, index: usize, now: MonoTime) -> bool {
        let Some((_, desk)) = self.listeners.get(index) else { return false };
        now >= self.accept_again
            && (!self.is_full(index, desk) || self.places.oldest_unanswered(index).is_some())
    }

    fn is_full(&self, index: usize, desk: &Desk) -> bool {
        self.places.count(index) >= desk.connections_per_worker_max
    }

    fn accept(&mut self, index: usize, now: MonoTime) {
        // A loop that polls comes back at once when there are more; simulators that replace libc give one for each poll.
        let turns = if self.waiting.is_some() { ACCEPTS_PER_TURN_MAX } else { 1 };
        for _ in 0..turns {
            if !self.can_accept(index, now) {
                return;
            }
            let Some((socket, desk)) = self.listeners.get(index) else { return };
            let (stream, peer) = match socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if is_not_now(&error) => return,
                Err(error) => {
                    add(&self.counters.accept_failures, 1);
                    if is_out_of_resources(&error) && !self.evict_oldest(index) {
                        self.accept_again = now.saturating_add(EXHAUSTED_PAUSE);
                        return;
                    }
                    continue;
                }
            };
            // Both close the connection at once, without a word.
            if desk.access.load().check(peer.ip()) != Access::Allow {
                add(&self.counters.denied, 1);
            } else if desk.asks_too_often(peer.ip(), now) {
                add(&self.counters.over_limit, 1);
            } else if let Some(ticket) = desk.admission.admit(peer.ip()) {
                let newcomer = Connection::new((stream, peer), desk.clone(), ticket, now);
                let is_full = self.is_full(index, desk);
                self.take_in(index, newcomer, is_full);
            } else {
                add(&self.counters.over_limit, 1);
            }
        }
    }

    /// Takes a newcomer in; in a full house in the place of whoever has waited longest without having been answered.
    fn take_in(&mut self, index: usize, newcomer: Connection, is_full: bool) {
        if is_full {
            self.evict_oldest(index);
        }
        let slot = self.places.add(index, newcomer);
        let watched = match (&self.waiting, self.places.get(slot)) {
            (Some(waiting), Some(connection)) => waiting.add_connection(slot, connection),
            _ => Ok(()),
        };
        if watched.is_err() {
            add(&self.counters.accept_failures, 1);
            self.places.remove(slot);
        }
    }

    /// Whether there was one.
    fn evict_oldest(&mut self, index: usize) -> bool {
        let oldest = self.places.oldest_unanswered(index).and_then(|slot| self.places.remove(slot));
        add(&self.counters.evicted, u64::from(oldest.is_some()));
        oldest.is_some()
    }

    fn serve(&mut self, slot: usize, readiness: Readiness, now: MonoTime) {
        let Some(before) = self.places.get(slot).map(Connection::interest) else { return };
        let (shared, counters) = (&self.shared, &self.counters);
        let stays =
            self.places.serve(slot, |connection| connection.handle_ready(readiness, now, shared, counters));
        if let (Some(connection), Some(waiting)) = (stays, &self.waiting)
            && connection.interest() != before
            && waiting.change_connection(slot, connection).is_err()
        {
            self.places.remove(slot);
        }
    }
}
