//! One worker: accepts, and serves its connections.

use super::connection::{Connection, Fate};
use super::counters::{KeCounters, add};
use super::{CERTIFICATES_CHECK_INTERVAL, Desk};
use crate::serving::Shared;
use crate::tcp_race::is_not_now;
use chime_server::Access;
use chime_sys::clock;
use chime_sys::poll::{Interest, PollSet, Readiness, Wake, WakeReceiver};
use chime_sys::tcp::{TcpListener, is_out_of_resources};
use chime_time::MonoTime;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Connections accepted at one socket in one turn.
const ACCEPTS_PER_TURN_MAX: usize = 32;

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
    /// Slots are used again; tokens are their positions.
    connections: Vec<Option<Connection>>,
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
            connections: Vec::new(),
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
        for (index, (socket, desk)) in self.listeners.iter().enumerate() {
            // A full house lets newcomers wait in the kernel's queue: none of ours lasts longer than its timeout.
            if now >= self.accept_again && !desk.admission.is_full() {
                set.add(socket, Interest::READ, token(KeToken::Listener(index)));
            }
        }
        for (slot, connection) in self.connections.iter().enumerate() {
            if let Some(connection) = connection {
                set.add(connection, connection.interest(), token(KeToken::Connection(slot)));
            }
        }
    }

    /// A socket is ready.
    pub fn handle_ready(&mut self, token: KeToken, readiness: Readiness, now: MonoTime) {
        match token {
            KeToken::Listener(index) => self.accept(index, now),
            KeToken::Connection(slot) => self.serve(slot, readiness, now),
        }
    }

    /// Does what is due; early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        for slot in &mut self.connections {
            if let Some(connection) = slot
                && now >= connection.deadline()
            {
                connection.handle_timeout(&self.counters);
                *slot = None;
            }
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
        let deadlines = self.connections.iter().flatten().map(Connection::deadline);
        let paused = (now < self.accept_again).then_some(self.accept_again);
        // A place that another worker's connection leaves is not announced: look again soon.
        let full = self.desks().any(|desk| desk.admission.is_full());
        let look_again = full.then(|| now.saturating_add(EXHAUSTED_PAUSE));
        deadlines.chain(paused).chain(look_again).fold(self.next_certificate_check, MonoTime::min)
    }

    /// Serves until `stop` is set and the worker is woken.
    pub(super) fn run(mut self, wake: &WakeReceiver, stop: &AtomicBool) {
        let mut set = PollSet::new();
        while !stop.load(Ordering::Acquire) {
            let now = clock::mono_now();
            set.clear();
            self.register(&mut set, Some, now);
            set.add(wake, Interest::READ, None);
            match set.wait(Some(self.poll_timeout(now))) {
                Ok(Wake::Ready) => {
                    let now = clock::mono_now();
                    for (token, readiness) in set.ready() {
                        match token {
                            Some(token) => self.handle_ready(token, readiness, now),
                            None => wake.drain(),
                        }
                    }
                }
                Ok(Wake::TimedOut | Wake::Interrupted) => {}
                Err(error) => {
                    tracing::error!("a thread that serves NTS-KE ends: poll failed: {error}");
                    return;
                }
            }
            self.handle_timeout(clock::mono_now());
        }
    }

    fn accept(&mut self, index: usize, now: MonoTime) {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            let Some((socket, desk)) = self.listeners.get(index) else { return };
            if desk.admission.is_full() {
                return;
            }
            let (stream, peer) = match socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if is_not_now(&error) => return,
                Err(error) => {
                    add(&self.counters.accept_failures, 1);
                    if is_out_of_resources(&error) {
                        self.accept_again = now.saturating_add(EXHAUSTED_PAUSE);
                        return;
                    }
                    continue;
                }
            };
            // Both close the connection at once, without a word.
            if desk.access.load().check(peer.ip()) != Access::Allow {
                add(&self.counters.denied, 1);
            } else if let Some(ticket) = desk.admission.admit(peer.ip()) {
                let connection = Connection::new(stream, desk.clone(), ticket, now);
                self.add_connection(connection);
            } else {
                add(&self.counters.over_limit, 1);
            }
        }
    }

    fn add_connection(&mut self, connection: Connection) {
        match self.connections.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(connection),
            None => self.connections.push(Some(connection)),
        }
    }

    fn serve(&mut self, slot: usize, readiness: Readiness, now: MonoTime) {
        let Some(place) = self.connections.get_mut(slot) else { return };
        let Some(connection) = place else { return };
        if connection.handle_ready(readiness, now, &self.shared, &self.counters) == Fate::Close {
            *place = None;
        }
    }
}
