//! Several addresses of one server, raced: the first TCP connection wins. RFC 8305 ("happy eyeballs").
//!
//! Attempts start one after the other, a quarter of a second apart, or at once when the one before failed. So a family
//! without a route costs nothing, and one that swallows packets a quarter of a second.

use chime_config::ClientSockets;
use chime_sys::poll::{Interest, PollSet};
use chime_sys::tcp::TcpStream;
use chime_time::MonoTime;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an attempt is waited for before the next one starts beside it. RFC 8305 §5.
pub const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The most addresses that are tried.
pub const ADDRESSES_MAX: usize = 16;

/// One attempt, for those who want to know.
#[derive(Debug)]
pub struct Attempt {
    /// The address and port.
    pub address: SocketAddr,
    /// When it started; `None`: not yet.
    pub started: Option<MonoTime>,
    /// When it ended and how; `None`: it is under way, or another one won.
    pub ended: Option<(MonoTime, Result<(), String>)>,
    stream: Option<TcpStream>,
}

/// A race of TCP connections.
#[derive(Debug)]
pub struct TcpRace {
    attempts: Vec<Attempt>,
    local: ClientSockets,
    next_start: MonoTime,
    winner: Option<(TcpStream, SocketAddr)>,
}

impl TcpRace {
    /// Starts with the first address. Addresses beyond [`ADDRESSES_MAX`] are left out.
    #[must_use]
    pub fn start(addresses: impl IntoIterator<Item = SocketAddr>, now: MonoTime) -> Self {
        Self::start_from(ClientSockets::default(), addresses, now)
    }

    /// The same, with connections that leave from where `local` says.
    #[must_use]
    pub fn start_from(
        local: ClientSockets,
        addresses: impl IntoIterator<Item = SocketAddr>,
        now: MonoTime,
    ) -> Self {
        let attempt = |address| Attempt { address, started: None, ended: None, stream: None };
        let attempts = addresses.into_iter().take(ADDRESSES_MAX).map(attempt).collect();
        let mut race = Self { attempts, local, next_start: now, winner: None };
        race.handle_timeout(now);
        race
    }

    /// Adds the sockets to what is waited for; the token is made from the number of the attempt, below
    /// [`ADDRESSES_MAX`].
    pub fn register<T: Copy>(&self, set: &mut PollSet<T>, token: impl Fn(usize) -> T) {
        for (number, attempt) in self.attempts.iter().enumerate() {
            if let Some(stream) = &attempt.stream {
                set.add(stream, Interest::WRITE, token(number));
            }
        }
    }

    /// The socket of attempt `number` is ready: it is connected, or failed.
    pub fn handle_ready(&mut self, number: usize, now: MonoTime) {
        let Some(attempt) = self.attempts.get_mut(number) else { return };
        let Some(stream) = attempt.stream.take() else { return };
        match stream.connect_result() {
            Ok(()) => {
                attempt.ended = Some((now, Ok(())));
                self.winner = Some((stream, attempt.address));
                self.attempts.iter_mut().for_each(|attempt| attempt.stream = None);
            }
            Err(error) => {
                attempt.ended = Some((now, Err(error.to_string())));
                self.next_start = now;
                self.handle_timeout(now);
            }
        }
    }

    /// Starts what is due; early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        while self.winner.is_none() && now >= self.next_start {
            let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.started.is_none()) else {
                return;
            };
            attempt.started = Some(now);
            let local = self.local.address_for(attempt.address);
            match TcpStream::connect(attempt.address, local, self.local.interface.as_deref()) {
                Ok(stream) => {
                    attempt.stream = Some(stream);
                    self.next_start = now.saturating_add(CONNECTION_ATTEMPT_DELAY);
                }
                Err(error) => attempt.ended = Some((now, Err(error.to_string()))),
            }
        }
    }

    /// When [`Self::handle_timeout`] is due. Changes after each `handle_` call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let waiting = self.winner.is_none() && self.attempts.iter().any(|attempt| attempt.started.is_none());
        waiting.then_some(self.next_start)
    }

    /// Takes the connection that won, once.
    pub fn winner(&mut self) -> Option<(TcpStream, SocketAddr)> {
        self.winner.take()
    }

    /// The error of the last attempt, once all have failed.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        let mut failures = self.attempts.iter().map(|attempt| match &attempt.ended {
            Some((at, Err(error))) => Some((*at, attempt.address, error)),
            _ => None,
        });
        if self.attempts.is_empty() {
            return Some("there is no address".to_owned());
        }
        let last = failures.try_fold(None, |last: Option<(MonoTime, SocketAddr, &String)>, failure| {
            let failure = failure?;
            Some(Some(last.filter(|last| last.0 > failure.0).unwrap_or(failure)))
        })?;
        last.map(|(_, address, error)| format!("{address}: {error}"))
    }

    /// Where connections leave from.
    #[must_use]
    pub const fn local(&self) -> &ClientSockets {
        &self.local
    }

    /// The attempts so far and those that wait.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The addresses that have not failed and did not win: another try may be made with them.
    pub fn unproven(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.attempts.iter().filter(|attempt| attempt.ended.is_none()).map(|attempt| attempt.address)
    }
}

/// Whether an error of a nonblocking call only says that there is nothing to do now.
#[must_use]
pub fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_sys::clock::mono_now;
    use chime_sys::tcp::TcpListener;

    fn listener(address: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(address.parse().expect("an address"), false).expect("loopback");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    /// An address of this machine on which nothing listens.
    fn refusing() -> SocketAddr {
        listener("127.0.0.1:0").1
    }

    fn run(race: &mut TcpRace) -> Option<SocketAddr> {
        let deadline = mono_now().saturating_add(Duration::from_secs(5));
        loop {
            if let Some((_, address)) = race.winner() {
                return Some(address);
            }
            if race.lost().is_some() || mono_now() > deadline {
                return None;
            }
            let mut set = PollSet::new();
            race.register(&mut set, |number| number);
            set.wait(Some(race.poll_timeout().unwrap_or(deadline))).expect("poll works");
            let ready: Vec<_> = set.ready().collect();
            ready.iter().for_each(|(number, _)| race.handle_ready(*number, mono_now()));
            race.handle_timeout(mono_now());
        }
    }

    #[test]
    fn a_refused_address_costs_no_time() {
        let (_open, address) = listener("127.0.0.1:0");
        let start = mono_now();
        let mut race = TcpRace::start([refusing(), refusing(), address], start);
        assert_eq!(run(&mut race), Some(address));
        assert!(mono_now().saturating_since(start) < CONNECTION_ATTEMPT_DELAY);
        assert!(race.attempts()[0].ended.as_ref().is_some_and(|(_, result)| result.is_err()));
        assert_eq!(race.unproven().count(), 0);
    }

    #[test]
    fn both_families_connect() {
        let (_open, address) = listener("[::1]:0");
        assert_eq!(run(&mut TcpRace::start([address], mono_now())), Some(address));
    }

    #[test]
    fn a_connection_leaves_from_the_configured_address() {
        let (open, address) = listener("127.0.0.1:0");
        let local =
            ClientSockets { v4: Some("127.0.0.7".parse().expect("an address")), ..Default::default() };
        let mut race = TcpRace::start_from(local, [address], mono_now());
        assert_eq!(run(&mut race), Some(address));
        let (_, peer) = open.accept().expect("it is connected");
        assert_eq!(peer.ip().to_string(), "127.0.0.7");
        let local = ClientSockets { interface: Some("no-such-if".to_owned()), ..Default::default() };
        assert_eq!(run(&mut TcpRace::start_from(local, [address], mono_now())), None);
    }

    #[test]
    fn when_all_fail_the_last_error_is_told() {
        let last = refusing();
        let mut race = TcpRace::start([refusing(), last], mono_now());
        assert_eq!(run(&mut race), None);
        assert!(race.lost().is_some_and(|text| text.contains(&last.to_string()) && text.contains("refused")));
        assert!(TcpRace::start([], mono_now()).lost().is_some());
    }

    #[test]
    fn an_address_that_swallows_packets_is_passed_after_a_quarter_of_a_second() {
        let now = MonoTime::from_nanos(1_000_000_000);
        let (_open, address) = listener("127.0.0.1:0");
        let mut race = TcpRace::start([address, address], now);
        assert!(race.attempts()[1].started.is_none());
        let due = now.saturating_add(CONNECTION_ATTEMPT_DELAY);
        assert_eq!(race.poll_timeout(), Some(due));
        race.handle_timeout(MonoTime::from_nanos(due.as_nanos() - 1));
        assert!(race.attempts()[1].started.is_none(), "not early");
        race.handle_timeout(due);
        assert_eq!(race.attempts()[1].started, Some(due));
        assert_eq!(race.poll_timeout(), None);
    }
}
