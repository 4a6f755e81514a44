//! The truth: a small UDP server that answers with the host's clock, and the guest's side that asks it.

use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Questions of one comparison; the answer with the smallest round trip counts.
const QUESTIONS: u64 = 20;

/// How long to wait for an answer.
const ANSWER_WAIT: Duration = Duration::from_millis(200);

/// Starts to answer on `address`, for as long as the process lives.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    serve_time(address, now_nanos)
}

/// The same with another clock: nanoseconds since 1970.
pub(crate) fn serve_time(address: SocketAddr, clock: impl Fn() -> i128 + Send + 'static) -> Result<()> {
    let socket = UdpSocket::bind(address).with_context(|| format!("the probe cannot listen on {address}"))?;
    thread::spawn(move || {
        let mut question = [0; 8];
        loop {
            if let Ok((8, from)) = socket.recv_from(&mut question) {
                let mut answer = [0; 24];
                answer[..8].copy_from_slice(&question);
                answer[8..].copy_from_slice(&clock().to_be_bytes());
                let _lost = socket.send_to(&answer, from);
            }
        }
    });
    Ok(())
}

/// A comparison of our clock with the probe's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    /// Our clock minus the probe's, in seconds.
    pub(crate) error: f64,
    /// The round trip, in seconds.
    pub(crate) round_trip: f64,
    /// When: our clock in the middle of the round trip, in nanoseconds since 1970.
    pub(crate) at: i128,
}

/// Asks the probe, and takes the best of some answers.
pub(crate) fn compare(probe: SocketAddr) -> Result<Comparison> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(probe)?;
    socket.set_read_timeout(Some(ANSWER_WAIT))?;
    let best = (0..QUESTIONS)
        .filter_map(|number| ask(&socket, number))
        .min_by(|one, other| one.round_trip.total_cmp(&other.round_trip));
    match best {
        Some(best) => Ok(best),
        None => bail!("the probe at {probe} does not answer"),
    }
}

fn ask(socket: &UdpSocket, number: u64) -> Option<Comparison> {
    let (before, started) = (now_nanos(), Instant::now());
    socket.send(&number.to_be_bytes()).ok()?;
    let mut answer = [0; 24];
    loop {
        let octets = socket.recv(&mut answer).ok()?;
        // Late answers to earlier questions are passed over.
        if octets == answer.len() && answer[..8] == number.to_be_bytes() {
            break;
        }
    }
    // The round trip by a clock that nobody sets: the daemon may step the other one at any time.
    let round_trip = started.elapsed();
    let theirs = i128::from_be_bytes(answer[8..].try_into().ok()?);
    let middle = before + i128::try_from(round_trip.as_nanos() / 2).ok()?;
    Some(Comparison {
        error: (middle - theirs) as f64 * 1e-9,
        round_trip: round_trip.as_secs_f64(),
        at: middle,
    })
}

/// The system clock, in nanoseconds since 1970.
pub(crate) fn now_nanos() -> i128 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_compared_with_itself_is_right() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        serve(free).unwrap();
        let comparison = compare(free).unwrap();
        assert!(comparison.error.abs() <= comparison.round_trip, "{comparison:?}");
        assert!(comparison.round_trip < 0.1, "{comparison:?}");
    }
}
