//! How requests, and clients who want keys, fare while a server is flooded with full handshakes. Its core has to do for
//! both.

use crate::Subject;
use crate::handshakes::Handshakes;
use crate::key_establishment::{configuration, establish};
use crate::load::{Load, Pace};
use crate::measure::{percentiles, received_packets};
use crate::sandbox::{LOAD_INTERFACE, Network, pin_to_load_core};
use crate::servers::{self, Identity, Program};
use crate::stamps::{Looks, look};
use anyhow::{Result, bail, ensure};
use rustls::NamedGroup;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Requests per second: a third of what such a server answers when it does nothing else.
const OFFERS: [(Subject, f64); 2] = [(Subject::Plain, 50_000.0), (Subject::Nts15, 30_000.0)];
const PROGRAMS: [Program; 3] = [Program::Chimed, Program::ChimedSingle, Program::Chronyd];
/// Requests that leave together: few, as those in front are waited for by those behind.
const AT_ONCE: usize = 8;
/// From the first handshakes until it is looked at.
const SETTLING: Duration = Duration::from_secs(1);
/// Between two looks at answers.
const PAUSE: Duration = Duration::from_millis(1);
const GOOD_CLIENTS_PAUSE: Duration = Duration::from_millis(20);

/// What one server did.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct KeFlood {
    pub(crate) subject: Subject,
    pub(crate) server: &'static str,
    pub(crate) offered_per_second: f64,
    pub(crate) at_rest: Seen,
    pub(crate) flooded: Seen,
}

/// What was seen of it for a while; medians of several whiles.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Seen {
    /// Requests answered, of one.
    pub(crate) answered: f64,
    /// Median and 99th percentile of the time between the kernel's taking a request and the answer's leaving; microseconds.
    pub(crate) microseconds: [f64; 2],
    /// Handshakes of the flood that were answered.
    pub(crate) handshakes_per_second: f64,
    /// Of good clients, one each 20 ms, those who got keys, and how long that took, in milliseconds, as above.
    pub(crate) good_clients_served: f64,
    pub(crate) milliseconds: [f64; 2],
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) runs: usize,
    pub(crate) time: Duration,
    /// Requests per second, instead of [`OFFERS`].
    pub(crate) offer: Option<f64>,
}

/// Measures ours and chronyd in turn.
pub(crate) fn measure(
    network: &Network,
    identity: &Identity,
    programs: &[Program],
    how: How,
) -> Result<Vec<KeFlood>> {
    let programs: Vec<_> = PROGRAMS.into_iter().filter(|program| programs.contains(program)).collect();
    let mut found = Vec::new();
    for (subject, usual_offer) in OFFERS {
        let offer = how.offer.unwrap_or(usual_offer);
        let mut seen: Vec<_> = programs.iter().map(|program| (program, [const { Vec::new() }; 2])).collect();
        for _ in 0..how.runs {
            for (program, seen) in &mut seen {
                let server = servers::start(**program, identity)?;
                let load = Load::new(network, &server, subject)?;
                let pace = Pace { offer, at_once: AT_ONCE, rests: true };
                let pair = load.run(&pace, None, |sent| with_and_without_flood(&load, sent, how.time))?;
                for (all, one) in seen.iter_mut().zip(pair) {
                    all.push(one);
                }
            }
        }
        for (program, [at_rest, flooded]) in seen {
            let [at_rest, flooded] = [at_rest, flooded].map(|seen| Seen::median(&seen));
            found.push(KeFlood {
                subject,
                server: program.name(),
                offered_per_second: offer,
                at_rest,
                flooded,
            });
        }
    }
    Ok(found)
}

fn with_and_without_flood(load: &Load, sent: &AtomicU64, time: Duration) -> Result<[Seen; 2]> {
    let handshakes = Handshakes::default();
    let at_rest = watch(load, sent, &handshakes, time)?;
    let stop = AtomicBool::new(false);
    scope(|scope| {
        let flood = scope.spawn(|| handshakes.start_until(&stop));
        sleep(SETTLING);
        let flooded = watch(load, sent, &handshakes, time);
        stop.store(true, Ordering::Relaxed);
        match flood.join() {
            Ok(result) => result.and(Ok([at_rest, flooded?])),
            Err(_) => bail!("the flood ended by a panic"),
        }
    })
}

fn watch(load: &Load, sent: &AtomicU64, handshakes: &Handshakes, time: Duration) -> Result<Seen> {
    let counters = || -> Result<_> {
        let done = [sent, &handshakes.answered].map(|count| count.load(Ordering::Relaxed) as f64);
        Ok((done, received_packets(LOAD_INTERFACE)? as f64, Instant::now()))
    };
    let before = counters()?;
    let (waited, good) = scope(|scope| {
        let looks = scope.spawn(|| {
            let looks = Looks { pause: PAUSE, answers_max: usize::MAX, time_max: time };
            look(load, looks, |header, left| (left - header.receive).as_secs_f64() * 1e6)
        });
        let good = scope.spawn(|| good_clients(time));
        (looks.join(), good.join())
    });
    let after = counters()?;
    let (Ok(waited), Ok(good)) = (waited, good) else { bail!("who looks ended by a panic") };
    let (waited, good) = (waited?, good?);
    ensure!(!waited.is_empty() && !good.is_empty(), "too little time to see anything");
    let [sent, answered_handshakes] = [0, 1].map(|which| after.0[which] - before.0[which]);
    let served: Vec<f64> = good.iter().copied().flatten().collect();
    Ok(Seen {
        answered: (after.1 - before.1) / sent,
        microseconds: percentiles(waited),
        handshakes_per_second: answered_handshakes / (after.2 - before.2).as_secs_f64(),
        good_clients_served: served.len() as f64 / good.len() as f64,
        milliseconds: percentiles(served),
    })
}

/// One good client after the other, all from one address that is not the flood's: the milliseconds that each took, if it
/// got keys. They go before the flood, with which they have but their core in common.
fn good_clients(time: Duration) -> Result<Vec<Option<f64>>> {
    pin_to_load_core()?;
    chime_sys::limits::run_before_others(1)?;
    let config = configuration(NamedGroup::X25519)?;
    let begun = Instant::now();
    let mut all = Vec::new();
    while begun.elapsed() < time {
        let one = Instant::now();
        all.push(establish(&config, 15).ok().map(|_| one.elapsed().as_secs_f64() * 1e3));
        sleep(GOOD_CLIENTS_PAUSE);
    }
    Ok(all)
}

impl Seen {
    /// The median of each value for itself.
    fn median(all: &[Self]) -> Self {
        let middle = |value: fn(&Self) -> f64| percentiles(all.iter().map(value).collect())[0];
        Self {
            answered: middle(|seen| seen.answered),
            microseconds: [middle(|seen| seen.microseconds[0]), middle(|seen| seen.microseconds[1])],
            handshakes_per_second: middle(|seen| seen.handshakes_per_second),
            good_clients_served: middle(|seen| seen.good_clients_served),
            milliseconds: [middle(|seen| seen.milliseconds[0]), middle(|seen| seen.milliseconds[1])],
        }
    }
}
