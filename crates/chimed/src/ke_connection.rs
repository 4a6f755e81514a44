//! One TCP connection with a key establishment session on it, as a client.

use crate::tcp_race::is_not_now;
use chime_ke::{ClientSession, KeError, KeOutcome};
use chime_sys::poll::{Interest, Readiness};
use chime_sys::tcp::TcpStream;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// Reads of one turn of the loop, so that a flood on one connection does not hold up the rest.
const READS_PER_TURN_MAX: usize = 8;

/// Carries octets between a connection and a session.
#[derive(Debug)]
pub struct KeConnection {
    stream: TcpStream,
    session: ClientSession,
    /// What is to be sent and was not taken yet.
    unsent: Vec<u8>,
}

impl KeConnection {
    /// Begins the session on a connection that was just made.
    #[must_use]
    pub fn start(stream: TcpStream, session: ClientSession) -> Self {
        let mut connection = Self { stream, session, unsent: Vec::new() };
        connection.send();
        connection
    }

    /// What to wait for.
    #[must_use]
    pub fn interest(&self) -> Interest {
        if self.unsent.is_empty() { Interest::READ } else { Interest::READ | Interest::WRITE }
    }

    /// The connection is ready: reads and sends.
    pub fn handle_ready(&mut self, readiness: Readiness) {
        if readiness.readable {
            self.receive();
        }
        self.send();
    }

    /// Takes the outcome, once there is one. The connection can be dropped then.
    pub fn outcome(&mut self) -> Option<Result<KeOutcome, KeError>> {
        self.session.outcome()
    }

    /// The session, for its trace.
    #[must_use]
    pub const fn session(&self) -> &ClientSession {
        &self.session
    }

    fn receive(&mut self) {
        let mut piece = [0; 16_384];
        for _ in 0..READS_PER_TURN_MAX {
            if self.session.is_finished() {
                return;
            }
            match self.stream.read(&mut piece) {
                Ok(0) => self.session.read_eof(),
                Ok(octets) => self.session.read(&piece[..octets]),
                Err(error) if is_not_now(&error) => return,
                Err(error) => self.session.connection_failed(&error.to_string()),
            }
        }
    }

    /// Sends what the session has to say, as far as the connection takes it. After the outcome this is one last try:
    /// nothing depends on the server's hearing of it.
    fn send(&mut self) {
        self.session.write(&mut self.unsent);
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(octets) => drop(self.unsent.drain(..octets)),
                Err(error) if is_not_now(&error) => return,
                Err(error) => {
                    self.unsent.clear();
                    // What the server said before it closed may still wait to be read, and says more than this error.
                    self.receive();
                    return self.session.connection_failed(&error.to_string());
                }
            }
        }
    }
}

impl AsFd for KeConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
