//! Carrying out one key establishment, with the times of its steps.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use chime_ke::client::ClientRequest;
use chime_ke::{ClientConfig, ClientSession, KeError, KeOutcome, KeStage, KeTrace};
use chime_sys::clock::{mono_now, system_now};
use chime_sys::poll::{PollSet, Readiness};
use chime_sys::resolver::{Family, ResolveError, look_up};
use chime_sys::tcp::TcpStream;
use chime_time::MonoTime;
use chimed::ke_connection::KeConnection;
use chimed::tcp_race::TcpRace;

/// What was done and what came of it.
#[derive(Debug)]
pub(super) struct KeAttempt {
    /// The addresses of the host, in the order in which they are tried.
    pub(super) addresses: Result<Vec<SocketAddr>, ResolveError>,
    /// The TCP connections, when it came to that.
    pub(super) race: Option<TcpRace>,
    /// The address that was reached.
    pub(super) connected: Option<SocketAddr>,
    /// What the session saw, when it came to one.
    pub(super) trace: KeTrace,
    /// How it ended; the only missing one is that of a host without addresses.
    pub(super) outcome: Option<Result<KeOutcome, KeError>>,
    pub(super) times: Times,
    /// The time at which certificates were judged; Unix seconds.
    pub(super) unix_now: i64,
}

/// When each step was done.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Times {
    pub(super) started: MonoTime,
    pub(super) resolved: Option<MonoTime>,
    pub(super) connected: Option<MonoTime>,
    pub(super) tls_finished: Option<MonoTime>,
    pub(super) ended: Option<MonoTime>,
}

/// Establishes keys with `host`; gives up when `timeout` has passed after the look-up of the name.
pub(super) fn make(
    host: &str,
    port: u16,
    family: Family,
    config: &ClientConfig,
    timeout: Duration,
) -> KeAttempt {
    let started = mono_now();
    let addresses = look_up(host, family).map(|addresses| {
        families_in_turn(addresses)
            .into_iter()
            .map(|address| SocketAddr::new(address, port))
            .collect::<Vec<_>>()
    });
    let resolved = mono_now();
    let mut attempt = KeAttempt {
        addresses,
        race: None,
        connected: None,
        trace: KeTrace::default(),
        outcome: None,
        times: Times { started, resolved: Some(resolved), ..Times::default() },
        unix_now: system_now().unix_seconds(),
    };
    if attempt.addresses.is_ok() {
        let outcome = attempt.establish(host, config, resolved.saturating_add(timeout));
        attempt.outcome = Some(outcome);
    }
    attempt.times.ended = Some(mono_now());
    attempt
}

impl KeAttempt {
    fn establish(
        &mut self,
        host: &str,
        config: &ClientConfig,
        deadline: MonoTime,
    ) -> Result<KeOutcome, KeError> {
        let session = ClientSession::new(config, &ClientRequest::new(host), self.unix_now)?;
        let stream = self.connect(deadline)?;
        self.talk(KeConnection::start(stream, session), deadline)
    }

    fn connect(&mut self, deadline: MonoTime) -> Result<TcpStream, KeError> {
        let addresses = self.addresses.as_deref().unwrap_or_default();
        let race = self.race.insert(TcpRace::start(addresses.iter().copied(), mono_now()));
        loop {
            if let Some((stream, address)) = race.winner() {
                self.connected = Some(address);
                self.times.connected = Some(mono_now());
                return Ok(stream);
            }
            if let Some(reason) = race.lost() {
                return Err(KeError::Connect(reason));
            }
            let mut set = PollSet::new();
            race.register(&mut set, |number| number);
            let ready = wait(&mut set, deadline.min(race.poll_timeout().unwrap_or(deadline)))?;
            ready.iter().for_each(|(number, _)| race.handle_ready(*number, mono_now()));
            race.handle_timeout(mono_now());
            if ready.is_empty() && mono_now() >= deadline {
                return Err(KeError::Timeout);
            }
        }
    }

    fn talk(&mut self, mut connection: KeConnection, deadline: MonoTime) -> Result<KeOutcome, KeError> {
        let outcome = loop {
            if self.times.tls_finished.is_none() && connection.session().stage() != KeStage::Handshake {
                self.times.tls_finished = Some(mono_now());
            }
            if let Some(outcome) = connection.outcome() {
                break outcome;
            }
            if mono_now() >= deadline {
                break Err(KeError::Timeout);
            }
            let mut set = PollSet::new();
            set.add(&connection, connection.interest(), ());
            match wait(&mut set, deadline) {
                Ok(ready) => ready.iter().for_each(|((), readiness)| connection.handle_ready(*readiness)),
                Err(error) => break Err(error),
            }
        };
        self.trace = connection.session().trace();
        outcome
    }
}

/// Waits; gives what is ready, which is nothing when the deadline came.
fn wait<T: Copy>(set: &mut PollSet<T>, deadline: MonoTime) -> Result<Vec<(T, Readiness)>, KeError> {
    set.wait(Some(deadline)).map_err(|error| KeError::Connect(format!("cannot wait: {error}")))?;
    Ok(set.ready().collect())
}

/// The addresses with IPv6 and IPv4 in turn, beginning with the family that the system prefers. RFC 8305 §4.
fn families_in_turn(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v4 = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair.iter().all(Option::is_none) {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_in_the_order_of_the_system() {
        let read = |texts: &[&str]| {
            texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<IpAddr>>()
        };
        let mixed =
            families_in_turn(read(&["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2"]));
        assert_eq!(mixed, read(&["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"]));
        assert_eq!(families_in_turn(read(&["192.0.2.1"])), read(&["192.0.2.1"]));
        assert_eq!(families_in_turn(Vec::new()), Vec::<IpAddr>::new());
    }
}
