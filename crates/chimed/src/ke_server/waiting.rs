//! What a worker with a thread of its own waits for: thousands of connections, most of which never say anything.

use super::connection::Connection;
use super::worker::KeToken;
use chime_sys::epoll::EpollSet;
use chime_sys::poll::{Interest, Readiness, WakeReceiver};
use chime_sys::tcp::TcpListener;
use chime_time::MonoTime;
use std::io;

/// Sockets reported at a time: whoever is not among these has no turn, and so as many as there may be connections by default.
const READY_AT_ONCE: usize = super::CONNECTIONS_MAX_DEFAULT;

/// Tokens of the kernel: listeners count from 0, connections from here.
const FIRST_CONNECTION: u64 = 1 << 32;
const WAKE: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Waiting {
    set: EpollSet,
    listeners_watched: Vec<bool>,
}

impl Waiting {
    /// For the end of a worker, and so many listeners, none of which is watched yet.
    pub(super) fn new(wake: &WakeReceiver, listeners: usize) -> io::Result<Self> {
        let set = EpollSet::new(READY_AT_ONCE)?;
        set.add(wake, Interest::READ, WAKE)?;
        Ok(Self { set, listeners_watched: vec![false; listeners] })
    }

    /// Has a listener watched, or not.
    pub(super) fn watch_listener(
        &mut self,
        index: usize,
        socket: &TcpListener,
        wanted: bool,
    ) -> io::Result<()> {
        let Some(watched) = self.listeners_watched.get_mut(index).filter(|watched| **watched != wanted)
        else {
            return Ok(());
        };
        *watched = wanted;
        if wanted { self.set.add(socket, Interest::READ, index as u64) } else { self.set.remove(socket) }
    }

    pub(super) fn add_connection(&self, slot: usize, connection: &Connection) -> io::Result<()> {
        self.set.add(connection, connection.interest(), FIRST_CONNECTION + slot as u64)
    }

    pub(super) fn change_connection(&self, slot: usize, connection: &Connection) -> io::Result<()> {
        self.set.change(connection, connection.interest(), FIRST_CONNECTION + slot as u64)
    }

    /// Waits; `ready` is then what has something to do. Gives whether the worker was woken.
    pub(super) fn wait(
        &mut self,
        deadline: MonoTime,
        ready: &mut Vec<(KeToken, Readiness)>,
    ) -> io::Result<bool> {
        self.set.wait(deadline)?;
        ready.clear();
        ready.extend(self.set.ready().filter_map(|(token, readiness)| Some((token_of(token)?, readiness))));
        Ok(self.set.ready().any(|(token, _)| token == WAKE))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "both were made from positions in memory")]
const fn token_of(token: u64) -> Option<KeToken> {
    match token {
        WAKE => None,
        FIRST_CONNECTION.. => Some(KeToken::Connection((token - FIRST_CONNECTION) as usize)),
        _ => Some(KeToken::Listener(token as usize)),
    }
}
