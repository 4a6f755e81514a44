//! How true the transmit timestamps are: by when the kernel saw an answer leave, under several loads.
//!
//! Both ends of the cable are of one kernel, which stamps a frame when it takes it from the sender, within the call that
//! sends. Server and load have one clock. So the difference is the server's own doing, but for the fraction of a
//! microsecond that the kernel takes between the socket and the cable.

use crate::Subject;
use crate::frames::payload;
use crate::load::{Load, Pace, open_cable};
use crate::measure::percentiles;
use crate::sandbox::{Network, pin_to_load_core};
use crate::servers::{self, Identity, Program, Server};
use anyhow::{Context, Result, bail, ensure};
use chime_time::{NtpDate, NtpTimestamp};
use chime_wire::Header;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockProtocol, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Requests per second, one by one; then as many as can be made, in bursts.
const OFFERS: [f64; 4] = [10_000.0, 50_000.0, 100_000.0, f64::INFINITY];
/// Answers that are looked at in one measurement.
const ANSWERS: usize = 4_000;
/// Between two looks.
const PAUSE: Duration = Duration::from_micros(200);
const SUBJECTS: [Subject; 2] = [Subject::Plain, Subject::Nts15];
const PROGRAMS: [Program; 2] = [Program::Chimed, Program::Chronyd];

/// What was found of one server under one load.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Stamps {
    pub(crate) subject: Subject,
    pub(crate) server: &'static str,
    /// Requests offered per second; none for as many as can be made.
    pub(crate) offered_per_second: Option<f64>,
    /// Median and 99th percentile of how far the transmit timestamp is from the time of leaving; nanoseconds, without sign.
    pub(crate) error_nanoseconds: [f64; 2],
    /// The median with its sign: positive when the answer left after the time that it tells.
    pub(crate) late_nanoseconds: f64,
}

/// Measures ours and chronyd in turn under each load, `runs` times.
pub(crate) fn measure(
    network: &Network,
    identity: &Identity,
    programs: &[Program],
    runs: usize,
) -> Result<Vec<Stamps>> {
    let programs: Vec<_> = PROGRAMS.into_iter().filter(|program| programs.contains(program)).collect();
    let mut found = Vec::new();
    for subject in SUBJECTS {
        for offer in OFFERS {
            let mut errors: Vec<_> =
                programs.iter().map(|program| (program, [const { Vec::new() }; 3])).collect();
            for _ in 0..runs {
                for (program, errors) in &mut errors {
                    let server = servers::start(**program, identity)?;
                    let values = errors_of(network, &server, subject, offer)?;
                    let [late, _] = percentiles(values.clone());
                    let [median, last] = percentiles(values.into_iter().map(f64::abs).collect());
                    for (all, value) in errors.iter_mut().zip([median, last, late]) {
                        all.push(value);
                    }
                }
            }
            for (program, errors) in errors {
                let [median, last, late] = errors.map(|values| percentiles(values)[0]);
                found.push(Stamps {
                    subject,
                    server: program.name(),
                    offered_per_second: offer.is_finite().then_some(offer),
                    error_nanoseconds: [median, last],
                    late_nanoseconds: late,
                });
            }
        }
    }
    Ok(found)
}

/// When answers left, less when they say so; nanoseconds.
fn errors_of(network: &Network, server: &Server, subject: Subject, offer: f64) -> Result<Vec<f64>> {
    let load = Load::new(network, server, subject)?;
    let pace = if offer.is_finite() { Pace { offer, at_once: 1, rests: false } } else { Pace::bursts(offer) };
    load.run(&pace, None, |_| {
        // On the server's core the one who looks would be what answers wait for.
        let looks = Looks { pause: PAUSE, answers_max: ANSWERS, time_max: Duration::from_secs(10) };
        let error = |header: &Header, left: NtpTimestamp| (left - header.transmit).as_secs_f64() * 1e9;
        let errors = std::thread::scope(|scope| match scope.spawn(|| look(&load, looks, error)).join() {
            Ok(errors) => errors,
            Err(_) => bail!("who looks at answers ended by a panic"),
        })?;
        ensure!(errors.len() >= ANSWERS, "only {} answers to be seen under load", errors.len());
        Ok(errors)
    })
}

/// How often, and how long, answers are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looks {
    /// Between two looks.
    pub(crate) pause: Duration,
    /// So many answers are enough.
    pub(crate) answers_max: usize,
    pub(crate) time_max: Duration,
}

/// Looks at a few answers every now and then, from the load's core and without waiting for any: a socket that takes them
/// all, and a thread that is woken by each, would cost the server's core more than the server does. Gives what is
/// `seen` in each and when it left.
pub(crate) fn look(
    load: &Load,
    looks: Looks,
    seen: impl Fn(&Header, NtpTimestamp) -> f64,
) -> Result<Vec<f64>> {
    pin_to_load_core()?;
    let cable = open_cable(SockProtocol::EthAll)?;
    // Room for some ten; what does not fit is dropped at once.
    setsockopt(&cable, sockopt::RcvBuf, &8192)?;
    setsockopt(&cable, sockopt::ReceiveTimestampns, &true)?;
    let deadline = Instant::now() + looks.time_max;
    let (mut values, mut buffer) = (Vec::with_capacity(ANSWERS), [0; 2048]);
    while values.len() < looks.answers_max && Instant::now() < deadline {
        std::thread::sleep(looks.pause);
        // The first one came after the longest of pauses more often than others, so it counts not.
        let mut is_first = true;
        while let Some((octets, left)) = receive(&cable, &mut buffer)? {
            let Some((client, answer)) = payload(&buffer[..octets]) else { continue };
            load.check_of(client, answer)?;
            if !is_first {
                values.push(seen(&Header::decode(answer)?, left));
            }
            is_first = false;
        }
    }
    Ok(values)
}

/// A frame and when it came, if there is one.
fn receive(cable: &OwnedFd, buffer: &mut [u8]) -> Result<Option<(usize, NtpTimestamp)>> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(TimeSpec);
    let Ok(message) =
        recvmsg::<()>(cable.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)
    else {
        return Ok(None);
    };
    let stamp = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
        _ => None,
    });
    let stamp = stamp.context("the kernel gave no stamp for a frame")?;
    let date = NtpDate::from_unix(stamp.tv_sec(), u32::try_from(stamp.tv_nsec())?);
    Ok(Some((message.bytes, date.timestamp())))
}
