//! One connection of a server.

use super::Desk;
use super::admission::Ticket;
use super::counters::{KeCounters, add};
use crate::serving::Shared;
use crate::tcp_race::is_not_now;
use chime_control::ntpd_words::KeyServing;
use chime_ke::ServerSession;
use chime_ke::server::KeServerResult;
use chime_nts::{COOKIES_MAX, Cookie, KeyRing, NtsKeys};
use chime_sys::poll::{Interest, Readiness};
use chime_sys::tcp::TcpStream;
use chime_sys::usage::{self, ThreadUsage};
use chime_sys::{clock, random};
use chime_time::MonoTime;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// How long a client is given to close after the answer. Closing first would lose the answer if it had sent more.
const LINGER: Duration = Duration::from_millis(500);

/// Reads of one turn, so that one client does not hold up the rest.
const READS_PER_TURN_MAX: usize = 4;

/// Octets that are read and dropped after the answer before the connection is closed all the same.
const DROPPED_OCTETS_MAX: usize = 64 * 1024;

/// A client's connection.
pub(super) struct Connection {
    stream: TcpStream,
    /// None until the client has said something: whoever only connects costs a place, and not the kilobytes of TLS.
    session: Option<Box<ServerSession>>,
    desk: Arc<Desk>,
    deadline: MonoTime,
    unsent: Vec<u8>,
    /// After everything has been said: how many octets were dropped since.
    lingering: Option<usize>,
    counted: bool,
    ticket: Ticket,
    peer: SocketAddr,
    begun: MonoTime,
    /// Processor time, where somebody wants to know.
    used: ThreadUsage,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Continue,
    Close,
}

impl Connection {
    pub(super) fn new(
        (stream, peer): (TcpStream, SocketAddr),
        desk: Arc<Desk>,
        ticket: Ticket,
        now: MonoTime,
    ) -> Self {
        let deadline = now.saturating_add(desk.timeout);
        Self {
            stream,
            session: None,
            desk,
            deadline,
            unsent: Vec::new(),
            lingering: None,
            counted: false,
            ticket,
            peer,
            begun: now,
            used: ThreadUsage::default(),
        }
    }

    pub(super) const fn deadline(&self) -> MonoTime {
        self.deadline
    }

    /// Whether everything has been said, or decided.
    pub(super) const fn is_answered(&self) -> bool {
        self.counted
    }

    /// Whose connection it is, as limits and turns have it.
    pub(super) const fn network(&self) -> IpAddr {
        self.ticket.network()
    }

    pub(super) fn interest(&self) -> Interest {
        if self.unsent.is_empty() { Interest::READ } else { Interest::READ | Interest::WRITE }
    }

    /// Reads, answers and sends what there is, and tells whoever wants to know how it ended.
    pub(super) fn handle_ready(
        &mut self,
        readiness: Readiness,
        now: MonoTime,
        shared: &Shared,
        counters: &KeCounters,
    ) -> Fate {
        let was_counted = self.counted;
        if was_counted || !self.desk.is_timed() {
            return self.advance(readiness, now, shared, counters);
        }
        let used = || usage::of_this_thread().unwrap_or_default();
        let before = used();
        let fate = self.advance(readiness, now, shared, counters);
        self.used = used().since(before, self.used);
        if let Some(session) = self.session.as_ref().filter(|_| self.counted) {
            self.tell(session.result(), counters);
        }
        fate
    }

    /// `result`: `None` when the time was over.
    fn tell(&self, result: Option<KeServerResult>, counters: &KeCounters) {
        let seconds = clock::mono_now().saturating_since(self.begun).as_secs_f64();
        if self.desk.is_timed() {
            counters.count_times(result, [seconds, self.used.user_seconds + self.used.system_seconds]);
        }
        let Some(log) = &self.desk.key_log else { return };
        let failure = match result {
            Some(KeServerResult::Accepted) => None,
            Some(result) => Some(result.kind().replace('_', " ")),
            None => Some("timed out".to_owned()),
        };
        let cipher_suite = self.session.as_ref().and_then(|session| session.cipher_suite());
        log.tell(&KeyServing {
            peer: self.peer,
            cipher_suite: cipher_suite.as_deref(),
            failure: failure.as_deref(),
            seconds,
            user_seconds: self.used.user_seconds,
            system_seconds: self.used.system_seconds,
        });
    }

    fn advance(
        &mut self,
        readiness: Readiness,
        now: MonoTime,
        shared: &Shared,
        counters: &KeCounters,
    ) -> Fate {
        if self.lingering.is_some() {
            return self.linger();
        }
        if !readiness.readable && self.session.is_none() {
            return Fate::Continue;
        }
        let desk = &self.desk;
        let session = self.session.get_or_insert_with(|| {
            Box::new(ServerSession::new(&desk.certificates.config()).serving(desk.aeads.clone()))
        });
        if readiness.readable && receive(&mut self.stream, session) == Fate::Close {
            session.read_eof();
        }
        if let Some(request) = session.take_request() {
            match make_cookies(shared.keys.load().as_deref(), &request.keys) {
                Some(cookies) => {
                    add(&counters.cookies, cookies.len() as u64);
                    session.respond(&cookies, desk.ntp_server.as_deref(), desk.ntp_port);
                }
                None => session.refuse(),
            }
        }
        let sent = send(&mut self.stream, session, &mut self.unsent);
        if let (Some(result), false) = (session.result(), self.counted) {
            counters.count(result);
            self.counted = true;
        }
        if sent == Fate::Close {
            return Fate::Close;
        }
        if session.is_finished() && self.unsent.is_empty() {
            return self.begin_to_linger(now);
        }
        Fate::Continue
    }

    /// The time is over; what the session had not said is not said.
    pub(super) fn count_timeout(&self, counters: &KeCounters) {
        if self.lingering.is_none() && !self.counted {
            add(&counters.timed_out, 1);
            self.tell(None, counters);
        }
    }

    fn begin_to_linger(&mut self, now: MonoTime) -> Fate {
        if self.stream.shutdown_write().is_err() {
            return Fate::Close;
        }
        self.lingering = Some(0);
        self.deadline = self.deadline.min(now.saturating_add(LINGER));
        self.linger()
    }

    /// Drops what the client still sends, until it closes.
    fn linger(&mut self) -> Fate {
        let mut piece = [0; 8192];
        loop {
            let dropped = self.lingering.get_or_insert(0);
            match self.stream.read(&mut piece) {
                Ok(octets @ 1..) if *dropped < DROPPED_OCTETS_MAX => *dropped += octets,
                Err(error) if is_not_now(&error) => return Fate::Continue,
                Ok(_) | Err(_) => return Fate::Close,
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn receive(stream: &mut TcpStream, session: &mut ServerSession) -> Fate {
    let mut piece = [0; 8192];
    for _ in 0..READS_PER_TURN_MAX {
        match stream.read(&mut piece) {
            Ok(0) => return Fate::Close,
            Ok(octets) => session.read(&piece[..octets]),
            Err(error) if is_not_now(&error) => break,
            Err(_) => return Fate::Close,
        }
    }
    Fate::Continue
}

fn send(stream: &mut TcpStream, session: &mut ServerSession, unsent: &mut Vec<u8>) -> Fate {
    session.write(unsent);
    while !unsent.is_empty() {
        match stream.write(unsent) {
            Ok(octets) => drop(unsent.drain(..octets)),
            Err(error) if is_not_now(&error) => break,
            Err(_) => {
                session.read_eof();
                return Fate::Close;
            }
        }
    }
    Fate::Continue
}

/// Eight cookies that nobody can link, or none when there are no keys or no random octets.
fn make_cookies(ring: Option<&KeyRing>, keys: &NtsKeys) -> Option<Vec<Cookie>> {
    let ring = ring?;
    let mut nonces = [[0; 16]; COOKIES_MAX];
    random::fill(nonces.as_flattened_mut()).ok()?;
    Some(ring.seal_cookies(keys, &nonces))
}
