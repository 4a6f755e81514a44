//! A leap second in the guest: a world outside that passes one, and a look at what the guest's daemon serves meanwhile.
//!
//! Outside is the host's clock, moved to shortly before the end of June 2030, and it repeats the last second of that month.
//! The guest's kernel has no say in that: it is told by its daemon, which knows from a list or from the server.

use crate::lab::{GUEST_ADDRESS, HOST_ADDRESS, PROBE};
use crate::probe::{self, now_nanos};
use crate::turncoat::{self, HEADER_OCTETS, UNIX_SECONDS};
use anyhow::{Context, Result};
use chime_discipline::write_leap_seconds_list;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// 1 July 2030, 00:00 UTC.
const MIDNIGHT: i128 = 1_909_094_400;

/// When the leap second is over, in seconds after the guest first asks for the time.
pub(crate) const LEAPS_AFTER: i128 = 26;

/// TAI minus UTC from then on.
pub(crate) const TAI_OFFSET: i32 = 38;

const SECOND: i128 = 1_000_000_000;

/// How often the guest's server is asked.
const QUESTION_INTERVAL: Duration = Duration::from_millis(250);

/// How a guest is to pass the leap second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaping {
    /// The word for it in the configuration.
    pub(crate) mode: &'static str,
    /// Whether it knows from a list; otherwise the server announces it.
    pub(crate) listed: bool,
    /// How long the clock may take to be right again, in seconds.
    pub(crate) until_right: f64,
}

/// The time outside.
#[derive(Debug, Default)]
struct World(OnceLock<i128>);

impl World {
    /// Nanoseconds since 1970, and whether the leap second is over.
    fn now(&self) -> (i128, bool) {
        let host = now_nanos();
        let shift = *self.0.get_or_init(|| (MIDNIGHT - LEAPS_AFTER) * SECOND - host);
        let even = host + shift;
        let leaps = even >= MIDNIGHT * SECOND;
        (if leaps { even - SECOND } else { even }, even >= (MIDNIGHT + 1) * SECOND)
    }

    /// Seconds since midnight; negative before it.
    fn seconds_past_midnight(&self) -> f64 {
        let (now, _) = self.now();
        (now - MIDNIGHT * SECOND) as f64 * 1e-9
    }
}

/// What the guest's server said once.
#[derive(Clone, Copy, Debug)]
struct Served {
    /// Seconds since midnight outside.
    at: f64,
    leap: u8,
    /// Its time minus the truth, in seconds.
    error: f64,
}

/// The world outside while it runs.
#[derive(Debug)]
pub(crate) struct Outside(Arc<Mutex<Vec<Served>>>);

/// Serves the time outside to the guest and to its probe, and asks the guest's server, for as long as the process lives.
pub(crate) fn start(leaping: Leaping) -> Result<Outside> {
    let world = Arc::new(World::default());
    let clock = world.clone();
    probe::serve_time(PROBE, move || clock.now().0)?;
    let socket = UdpSocket::bind((HOST_ADDRESS, 123)).context("the server cannot listen on UDP port 123")?;
    let clock = world.clone();
    thread::spawn(move || {
        let mut request = [0; 2048];
        while let Ok((octets, from)) = socket.recv_from(&mut request) {
            let (received, is_over) = clock.now();
            let leap = u8::from(!leaping.listed && !is_over);
            if octets >= HEADER_OCTETS {
                let packet = turncoat::answer(&request, received, leap, || clock.now().0);
                let _lost = socket.send_to(&packet, from);
            }
        }
    });
    let served = Arc::new(Mutex::new(Vec::new()));
    let notes = served.clone();
    let socket = UdpSocket::bind((HOST_ADDRESS, 0)).context("no socket to ask the guest from")?;
    socket.connect((GUEST_ADDRESS, 123))?;
    socket.set_read_timeout(Some(QUESTION_INTERVAL))?;
    thread::spawn(move || {
        loop {
            thread::sleep(QUESTION_INTERVAL);
            if let Some(one) = ask(&socket, &world) {
                notes.lock().unwrap_or_else(PoisonError::into_inner).push(one);
            }
        }
    });
    Ok(Outside(served))
}

/// Asks the guest's server once; nothing when it does not answer, or says that it knows no time.
fn ask(socket: &UdpSocket, world: &World) -> Option<Served> {
    /// An answer that took longer says more about the machine.
    const ROUND_TRIP_MAX: i128 = SECOND / 500;
    world.0.get()?;
    let mut request = [0; HEADER_OCTETS];
    request[0] = 0o043;
    request[40..48].copy_from_slice(&now_nanos().to_be_bytes()[8..]);
    let before = world.now().0;
    socket.send(&request).ok()?;
    let mut answer = [0; 512];
    loop {
        let octets = socket.recv(&mut answer).ok()?;
        if octets >= HEADER_OCTETS && answer[24..32] == request[40..48] {
            break;
        }
    }
    let after = world.now().0;
    if !(0..ROUND_TRIP_MAX).contains(&(after - before)) || answer[0] >> 6 == 3 {
        return None;
    }
    let transmit = u64::from_be_bytes(answer[40..48].try_into().ok()?);
    let told = unix_nanos(transmit);
    Some(Served {
        at: world.seconds_past_midnight(),
        leap: answer[0] >> 6,
        error: (told - (before + after) / 2) as f64 * 1e-9,
    })
}

/// The timestamp of an era before 2036.
fn unix_nanos(timestamp: u64) -> i128 {
    ((i128::from(timestamp) * SECOND) >> 32) - UNIX_SECONDS * SECOND
}

/// The list that the guest's daemon reads.
pub(crate) fn list() -> String {
    /// 1 January 2017.
    const LAST: (i64, i32) = (1_483_228_800, TAI_OFFSET - 1);
    let midnight = i64::try_from(MIDNIGHT).unwrap_or(i64::MAX);
    write_leap_seconds_list(&[LAST, (midnight, TAI_OFFSET)], midnight + 180 * 86_400)
}

/// The lines of the daemon's configuration: how to pass the leap second, and a server to be looked at.
pub(crate) fn configuration(leaping: Leaping, list: &Path) -> String {
    let file = if leaping.listed { format!("file = \"{}\"\n", list.display()) } else { String::new() };
    format!("\n[leap-seconds]\nmode = \"{}\"\n{file}\n[[server]]\nlisten = \"0.0.0.0:123\"\n", leaping.mode)
}

impl Outside {
    /// What is wrong with what the guest's server said; prints the figures.
    pub(crate) fn judge(&self, leaping: Leaping) -> Vec<String> {
        let served = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        judge(&served, leaping)
    }
}

/// A served time that is off by more is wrong, in seconds.
const SERVED_ERROR_MAX: f64 = 2e-3;

/// Answers around the leap second itself, in which the two clocks may be on different sides of it, in seconds.
const BLUR: f64 = 1.2;

/// How long after it a server may still announce what has just happened, in seconds.
const ANNOUNCED_AFTER_MAX: f64 = 5.0;

fn judge(served: &[Served], leaping: Leaping) -> Vec<String> {
    let mut complaints = Vec::new();
    // The guest's clock is right by then, and its server has heard of the leap second.
    let before: Vec<&Served> = served.iter().filter(|one| (-15.0..-BLUR).contains(&one.at)).collect();
    let after: Vec<&Served> = served.iter().filter(|one| one.at > leaping.until_right.max(BLUR)).collect();
    let unannounced = before.iter().filter(|one| one.leap != 1).count();
    let announced = after.iter().filter(|one| one.at > ANNOUNCED_AFTER_MAX && one.leap != 0).count();
    let worst = before.iter().chain(&after).map(|one| one.error.abs()).fold(0.0, f64::max);
    println!(
        "  served before: {} answers, {} with the announcement; after: {} answers, {announced} with it; at most {:.1} µs off",
        before.len(),
        before.len() - unannounced,
        after.len(),
        worst * 1e6
    );
    if before.len() < 20 || after.len() < 20 {
        complaints.push(format!("only {} and {} answers of the guest's server", before.len(), after.len()));
    }
    if unannounced > 0 {
        complaints.push(format!("{unannounced} answers before the leap second did not announce it"));
    }
    if announced > 0 {
        complaints.push(format!("{announced} answers announced it when it was over"));
    }
    if worst > SERVED_ERROR_MAX {
        complaints.push(format!("the served time was off by {worst:.6} s"));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_second_happens_twice_outside() {
        let world = |seconds: i128| {
            let world = World::default();
            // The host shows some instant; the world is so many seconds from its midnight.
            world.0.set((MIDNIGHT + seconds) * SECOND - now_nanos()).expect("it is new");
            (world.seconds_past_midnight(), world.now().1)
        };
        for (seconds, shown, over) in [(-2, -2.0, false), (0, -1.0, false), (1, 0.0, true), (9, 8.0, true)] {
            let (at, is_over) = world(seconds);
            assert!((at - shown).abs() < 0.5 && is_over == over, "{seconds}: {at}");
        }
    }

    #[test]
    fn a_server_that_announces_too_little_or_too_long_is_found() {
        let leaping = Leaping { mode: "step", listed: true, until_right: 2.0 };
        let served = |leap_of: fn(f64) -> u8, error: f64| -> Vec<Served> {
            let at = |number: i32| f64::from(number) * 0.25;
            (-80..80).map(|number| Served { at: at(number), leap: leap_of(at(number)), error }).collect()
        };
        let right = |at: f64| u8::from(at < 0.0);
        assert!(judge(&served(right, 1e-5), leaping).is_empty());
        assert_eq!(judge(&served(right, 1.0), leaping).len(), 1);
        assert_eq!(judge(&served(|_| 0, 0.0), leaping).len(), 1);
        assert_eq!(judge(&served(|_| 1, 0.0), leaping).len(), 1);
        assert_eq!(judge(&[], leaping).len(), 1);
    }

    #[test]
    fn timestamps_and_the_list_are_of_this_era() {
        assert_eq!(unix_nanos(2_208_988_801 << 32), SECOND);
        assert!(list().contains("\n4118083200 38\n#h "), "{}", list());
    }
}
