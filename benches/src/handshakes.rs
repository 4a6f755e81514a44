//! A crowd that has an NTS-KE server make full handshakes and takes nothing of them: a hello that was recorded once is said
//! again and again, the server answers with a key agreement, its certificate and a signature, and the connection is cut.
//! So a client pays for a connection only, and a server for everything.

use crate::key_establishment::configuration;
use crate::sandbox::{CROWD, SERVER_TALK_ADDRESS, pin_to_load_core};
use anyhow::{Context, Result, ensure};
use chime_nts::record::NTS_KE_PORT;
use chime_sys::clock;
use chime_sys::epoll::EpollSet;
use chime_sys::poll::Interest;
use nix::errno::Errno;
use nix::libc::linger;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, connect, recv, send, setsockopt, socket,
    sockopt,
};
use rustls::pki_types::{IpAddr, ServerName};
use rustls::{ClientConnection, NamedGroup};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Few addresses, each of a network of its own.
const ADDRESSES: usize = 4;
/// Connections at a time: fewer than a server of ours takes, or lets an address have, so that it has to work for all of them.
const HELD: usize = 1024;
const READY_AT_ONCE: usize = 256;
/// In the first octet of what a server says when it goes on with a handshake, and does not refuse it.
const HANDSHAKE_RECORD: u8 = 0x16;

/// What a crowd has done; its threads count, others read.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    /// Those that the server answered.
    pub(crate) answered: AtomicU64,
    /// Those that it cut, or refused.
    pub(crate) refused: AtomicU64,
}

impl Handshakes {
    /// Has the server make as many as one thread on the core of the load can start, until told otherwise.
    pub(crate) fn start_until(&self, stop: &AtomicBool) -> Result<()> {
        pin_to_load_core()?;
        // Of the same core: requests, and those who see how they fare.
        chime_sys::limits::yield_to_others(19)?;
        let hello = recorded_hello()?;
        let mut set = EpollSet::new(READY_AT_ONCE)?;
        let mut held: Vec<Option<OwnedFd>> = Vec::new();
        let begin = |set: &EpollSet, number: usize| -> Result<OwnedFd> {
            let socket = connecting(number)?;
            set.add(&socket, Interest::WRITE, number as u64)?;
            Ok(socket)
        };
        for number in 0..HELD {
            held.push(Some(begin(&set, number)?));
        }
        while !stop.load(Ordering::Relaxed) {
            set.wait(clock::mono_now().saturating_add(Duration::from_millis(100)))?;
            let ready: Vec<_> = set.ready().collect();
            for (token, readiness) in ready {
                let number = usize::try_from(token)?;
                let Some(socket) = &held[number] else { continue };
                if !readiness.readable {
                    // It has its connection. What is refused now is told by the next event.
                    let _refused = send(socket.as_raw_fd(), &hello, MsgFlags::MSG_NOSIGNAL);
                    set.change(socket, Interest::READ, token)?;
                    continue;
                }
                let mut first = [0];
                let taken = recv(socket.as_raw_fd(), &mut first, MsgFlags::MSG_DONTWAIT);
                let is_answered = taken == Ok(1) && first == [HANDSHAKE_RECORD];
                let count = if is_answered { &self.answered } else { &self.refused };
                count.fetch_add(1, Ordering::Relaxed);
                held[number] = None;
                held[number] = Some(begin(&set, number)?);
            }
        }
        Ok(())
    }
}

/// What a client says first.
fn recorded_hello() -> Result<Vec<u8>> {
    let name = ServerName::IpAddress(IpAddr::V4(SERVER_TALK_ADDRESS.into()));
    let mut client = ClientConnection::new(configuration(NamedGroup::X25519)?, name)?;
    let mut hello = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut hello)?;
    }
    ensure!(!hello.is_empty(), "a client says nothing");
    Ok(hello)
}

/// A connection under way, which is cut when it is closed: nobody waits for its end.
fn connecting(number: usize) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    let [first, second] = CROWD;
    let network = u8::try_from(number % ADDRESSES + 1)?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(first, second, network, 1, 0))?;
    let [a, b, c, d] = SERVER_TALK_ADDRESS;
    match connect(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, NTS_KE_PORT)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error).context("cannot connect"),
    }
}
