//! Key establishments of the time plane: TCP connections and their sessions, for a loop around poll(2).
//!
//! Carries octets and keeps deadlines; what to establish and when to try again is the engine's decision.

use crate::ke_connection::KeConnection;
use crate::tcp_race::{ADDRESSES_MAX, TcpRace};
use chime_config::ClientSockets;
use chime_engine::{EstablishKeys, EstablishmentId, Input, KeFailure};
use chime_ke::{CertificateDates, ClientConfig, ClientRequest, ClientSession, KeError, KeOutcome};
use chime_sys::poll::{PollSet, Readiness};
use chime_time::MonoTime;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How long an establishment may take, from the first attempt to connect to the end of the answer. Small servers with
/// one connection at a time (NTPsec) and slow machines need several seconds.
pub const ESTABLISHMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// The key establishments under way.
#[derive(Debug, Default)]
pub struct KeClients {
    /// By a number that is never used for two at once.
    establishments: BTreeMap<usize, Establishment>,
    next_number: usize,
    local: ClientSockets,
    finished: VecDeque<Input<'static>>,
}

#[derive(Debug)]
struct Establishment {
    wish: EstablishKeys,
    config: ClientConfig,
    deadline: MonoTime,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// TCP connections are being tried.
    Connecting(TcpRace),
    /// One is made and TLS is spoken on it.
    Talking {
        connection: Box<KeConnection>,
        address: SocketAddr,
        others: Vec<SocketAddr>,
        local: ClientSockets,
    },
}

/// How an establishment ended, and with whom.
type Ending = (Option<SocketAddr>, Result<KeOutcome, KeError>);

impl KeClients {
    /// None yet; their connections will leave from where `local` says.
    #[must_use]
    pub fn new(local: ClientSockets) -> Self {
        Self { local, ..Self::default() }
    }

    /// Starts an establishment; its end comes out of [`Self::finished`].
    pub fn start(&mut self, wish: EstablishKeys, config: ClientConfig, now: MonoTime) {
        // What is wrong with the wish itself is found before a packet is sent.
        if let Err(error) = new_session(&wish, &config) {
            return self.finish(wish.establishment, (None, Err(error)));
        }
        let addresses = wish.addresses.iter().map(|address| SocketAddr::new(*address, wish.port));
        let progress = Progress::Connecting(TcpRace::start_from(self.local.clone(), addresses, now));
        let deadline = now.saturating_add(ESTABLISHMENT_TIMEOUT);
        let number = self.next_number;
        self.next_number = (number + 1) % (usize::MAX / ADDRESSES_MAX);
        self.establishments.insert(number, Establishment { wish, config, deadline, progress });
        self.step(number, now);
    }

    /// Gives an establishment up; nothing is reported of it.
    pub fn cancel(&mut self, establishment: EstablishmentId) {
        self.establishments.retain(|_, own| own.wish.establishment != establishment);
    }

    /// Adds all sockets to what the loop waits for. Call it before each wait.
    pub fn register<T: Copy>(&self, set: &mut PollSet<T>, token: impl Fn(usize) -> T) {
        for (number, establishment) in &self.establishments {
            match &establishment.progress {
                Progress::Connecting(race) => {
                    race.register(set, |attempt| token(number * ADDRESSES_MAX + attempt));
                }
                Progress::Talking { connection, .. } => {
                    set.add(&**connection, connection.interest(), token(number * ADDRESSES_MAX));
                }
            }
        }
    }

    /// A socket is ready; `socket` is what [`Self::register`] made the token from.
    pub fn handle_ready(&mut self, socket: usize, readiness: Readiness, now: MonoTime) {
        let (number, attempt) = (socket / ADDRESSES_MAX, socket % ADDRESSES_MAX);
        let Some(establishment) = self.establishments.get_mut(&number) else { return };
        match &mut establishment.progress {
            Progress::Connecting(race) => race.handle_ready(attempt, now),
            Progress::Talking { connection, .. } => connection.handle_ready(readiness),
        }
        self.step(number, now);
    }

    /// Does what is due; early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        let due = self.establishments.iter().filter(|(_, own)| own.poll_timeout() <= now);
        let due: Vec<usize> = due.map(|(number, _)| *number).collect();
        for number in due {
            if let Some(Establishment { progress: Progress::Connecting(race), .. }) =
                self.establishments.get_mut(&number)
            {
                race.handle_timeout(now);
            }
            self.step(number, now);
        }
    }

    /// When [`Self::handle_timeout`] is due. Changes after each call but this.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.establishments.values().map(Establishment::poll_timeout).min()
    }

    /// Takes the end of an establishment, for the engine.
    pub fn finished(&mut self) -> Option<Input<'static>> {
        self.finished.pop_front()
    }

    /// Looks whether an establishment has come further, or to its end.
    fn step(&mut self, number: usize, now: MonoTime) {
        let Some(establishment) = self.establishments.get_mut(&number) else { return };
        if let Some(ending) = establishment.step(now) {
            let establishment = establishment.wish.establishment;
            self.establishments.remove(&number);
            self.finish(establishment, ending);
        }
    }

    fn finish(&mut self, establishment: EstablishmentId, (address, result): Ending) {
        let result = result.map_err(|error| KeFailure::from(&error));
        self.finished.push_back(Input::KeFinished { establishment, address, result });
    }
}

impl Establishment {
    fn poll_timeout(&self) -> MonoTime {
        let race = match &self.progress {
            Progress::Connecting(race) => race.poll_timeout(),
            Progress::Talking { .. } => None,
        };
        race.map_or(self.deadline, |race| race.min(self.deadline))
    }

    fn step(&mut self, now: MonoTime) -> Option<Ending> {
        if let Progress::Connecting(race) = &mut self.progress
            && let Some((stream, address)) = race.winner()
        {
            let others = race.unproven().collect();
            let local = race.local().clone();
            match new_session(&self.wish, &self.config) {
                Ok(session) => {
                    let connection = Box::new(KeConnection::start(stream, session));
                    self.progress = Progress::Talking { connection, address, others, local };
                }
                Err(error) => return Some((Some(address), Err(error))),
            }
        }
        match &mut self.progress {
            Progress::Connecting(race) => {
                if let Some(reason) = race.lost() {
                    return Some((None, Err(KeError::Connect(reason))));
                }
            }
            Progress::Talking { connection, address, others, local } => match connection.outcome() {
                // A site that is down behind an open port: the others may be up.
                Some(Err(KeError::ConnectionLost(_))) if !others.is_empty() => {
                    let (others, local) = (std::mem::take(others), std::mem::take(local));
                    self.progress = Progress::Connecting(TcpRace::start_from(local, others, now));
                }
                Some(outcome) => return Some((Some(*address), outcome)),
                None => {}
            },
        }
        (now >= self.deadline).then(|| (self.address(), Err(KeError::Timeout)))
    }

    /// The address that was reached.
    const fn address(&self) -> Option<SocketAddr> {
        match &self.progress {
            Progress::Connecting(_) => None,
            Progress::Talking { address, .. } => Some(*address),
        }
    }
}

fn new_session(wish: &EstablishKeys, config: &ClientConfig) -> Result<ClientSession, KeError> {
    let request = ClientRequest {
        server_name: wish.server_name.clone(),
        aeads: wish.aeads.clone(),
        dates: if wish.check_dates { CertificateDates::Check } else { CertificateDates::Ignore },
    };
    ClientSession::new(config, &request, wish.unix_now_lower_bound)
}
