//! A crowd that connects to the NTS-KE server and says nothing, or the first octets of a hello, and clients who want keys
//! meanwhile: how many of these get them and how long that takes, and what memory the crowd costs.

use crate::key_establishment::{configuration, establish, wait_for};
use crate::measure::percentiles;
use crate::sandbox::{CROWD, SERVER_TALK_ADDRESS, pin_to_load_core};
use crate::servers::Server;
use anyhow::{Context, Result, bail};
use chime_nts::record::NTS_KE_PORT;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, connect, send, socket,
};
use rustls::NamedGroup;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Connections that the crowd attempts.
const ATTEMPTS: usize = 100_000;
/// Of which it holds so many at a time at most.
const HELD_MAX: usize = 16_000;
/// One in so many begins a hello and does not go on.
const SLOW_ONE_IN: usize = 4;
/// How often the crowd rests, so that good clients, who have the same core, get their turn there.
const BURST: usize = 20;
const REST: Duration = Duration::from_millis(1);
/// Establishments before the crowd comes.
const AT_REST: usize = 50;
const GOOD_CLIENTS_PAUSE: Duration = Duration::from_millis(20);

/// What one server did.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Idle {
    pub(crate) server: &'static str,
    pub(crate) attempted: usize,
    pub(crate) attempted_per_second: f64,
    /// Good clients during that time, and those of them who got keys.
    pub(crate) good_clients: usize,
    pub(crate) good_clients_served: usize,
    /// Median and 99th percentile of the time that took; milliseconds.
    pub(crate) milliseconds_at_rest: [f64; 2],
    pub(crate) milliseconds: [f64; 2],
    /// The server's memory before, and at most; kibibytes.
    pub(crate) resident_before: u64,
    pub(crate) resident_peak: u64,
}

/// Has the crowd come to a server.
pub(crate) fn measure(server: &Server) -> Result<Idle> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let held = HELD_MAX.min(usize::try_from(hard)? / 2);
    wait_for(server, 15)?;
    let config = configuration(NamedGroup::X25519)?;
    let try_one = || {
        let begun = Instant::now();
        establish(&config, 15).ok().map(|_| begun.elapsed().as_secs_f64() * 1e3)
    };
    let at_rest: Vec<f64> = (0..AT_REST).filter_map(|_| try_one()).collect();
    let resident_before = resident(server, "VmRSS:")?;
    let over = AtomicBool::new(false);
    let (crowd, good) = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let took = attempt_all(held);
            over.store(true, Ordering::Relaxed);
            took
        });
        let mut good = Vec::new();
        while !over.load(Ordering::Relaxed) {
            good.push(try_one());
            sleep(GOOD_CLIENTS_PAUSE);
        }
        (crowd.join(), good)
    });
    let Ok(seconds) = crowd else { bail!("the crowd ended by a panic") };
    let served: Vec<f64> = good.iter().copied().flatten().collect();
    Ok(Idle {
        server: server.name(),
        attempted: ATTEMPTS,
        attempted_per_second: ATTEMPTS as f64 / seconds?,
        good_clients: good.len(),
        good_clients_served: served.len(),
        milliseconds_at_rest: percentiles(at_rest),
        milliseconds: percentiles(served),
        resident_before,
        resident_peak: resident(server, "VmHWM:")?,
    })
}

/// Attempts all connections, the last of which stay open until the end; gives how long that took, in seconds.
fn attempt_all(held_max: usize) -> Result<f64> {
    pin_to_load_core()?;
    let begun = Instant::now();
    let mut held = VecDeque::new();
    for number in 0..ATTEMPTS {
        held.push_back(attempt(number)?);
        if held.len() > held_max {
            held.pop_front();
        }
        if number % BURST == 0 {
            sleep(REST);
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// One connection, from an address that has a few of them in all.
fn attempt(number: usize) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    let octet = |number: usize| u8::try_from(number % 250 + 1);
    let [first, second] = CROWD;
    bind(socket.as_raw_fd(), &SockaddrIn::new(first, second, octet(number / 250)?, octet(number)?, 0))?;
    let [a, b, c, d] = SERVER_TALK_ADDRESS;
    match connect(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, NTS_KE_PORT)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error).context("cannot connect"),
    }
    if number.is_multiple_of(SLOW_ONE_IN) {
        // Refused where the connection is not there yet, or not any more.
        let _refused = send(socket.as_raw_fd(), &[0x16, 3, 1, 2], MsgFlags::MSG_NOSIGNAL);
    }
    Ok(socket)
}

/// What the server's processes have in memory.
fn resident(server: &Server, label: &str) -> Result<u64> {
    let of = |process: u32| -> Result<u64> {
        let status =
            std::fs::read_to_string(format!("/proc/{process}/status")).context("the server has ended")?;
        crate::footprint::kibibytes(&status, label)
    };
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.process()));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| of(child.parse().ok()?).ok());
    Ok(of(server.process())? + children.sum::<u64>())
}
