//! More requests than a server can answer, and the count of those that it did.

use crate::Subject;
use crate::flood::{self, Flood};
use crate::frames::{frame, payload};
use crate::key_establishment::{self, Session};
use crate::measure::{Figure, cpu_nanoseconds, received_packets};
use crate::sandbox::{LOAD_INTERFACE, Network, pin_to_load_core};
use crate::servers::Server;
use anyhow::{Context, Result, bail, ensure};
use chime_nts::{verify_nts_response, write_nts_request};
use chime_wire::{FieldWriter, HEADER_OCTETS, Header, Mode};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, bind, recv, sendmmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Different frames, each from an address of its own.
const FRAMES: u16 = 2048;
/// Different NTS requests; signed beforehand and sent again and again, which no server may remember.
const NTS_REQUESTS: u8 = 128;
const FRAMES_AT_ONCE: usize = 64;
/// Answers that are looked at before the load begins.
const ANSWERS_CHECKED: usize = 8;
/// Answers that are looked at while it lasts.
const ANSWERS_SAMPLED: usize = 256;
/// Until queues and caches are as they will be.
const WARM_UP: Duration = Duration::from_millis(300);

/// A request, and what is needed to check its answer.
struct Request {
    octets: Vec<u8>,
    unique_identifier: [u8; 32],
}

/// Requests to one server, ready to be sent, and what is needed to judge the answers.
pub(crate) struct Load {
    subject: Subject,
    /// None where the answers are no time.
    session: Option<Session>,
    requests: Vec<Request>,
    frames: Vec<Vec<u8>>,
}

/// Asks the server for `time`, at this pace or as often as the core of the load can.
pub(crate) fn measure(
    network: &Network,
    server: &Server,
    (subject, pace): (Subject, Pace),
    time: Duration,
) -> Result<Figure> {
    let in_kernel = server.answers_in_kernel(subject);
    let all_answers = in_kernel.then(|| flood::take_answers(true)).transpose()?;
    let load = Load::new(network, server, subject)?;
    drop(all_answers);
    let _some_answers = in_kernel.then(|| flood::take_answers(false)).transpose()?;
    let floods = in_kernel && pace.offer.is_infinite();
    let flood = floods.then(|| Flood::new(&load.frames[0])).transpose()?;
    load.run(&pace, flood.as_ref(), |sent| {
        let figure = watch(server, sent, time)?;
        // Looked at when all is counted, since looking costs the load's core.
        load.answers_under_load()?;
        // Counted by the burst only: not to be told within a second or two.
        Ok(if floods { Figure { offered_per_second: None, ..figure } } else { figure })
    })
}

/// A load that was interrupted for longer does not make up for all of it: it would be another load, for as long as that takes.
const MADE_UP_FOR_MAX: Duration = Duration::from_millis(5);

/// How a load is offered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Requests per second; infinity for as many as can be made.
    pub(crate) offer: f64,
    /// Frames that leave together.
    pub(crate) at_once: usize,
    /// Whether it rests between bursts and goes before all others in them, as a network card does: a server on its core finds
    /// whole bursts then, and does not hold up each of their frames.
    pub(crate) rests: bool,
}

impl Pace {
    /// So many requests per second, in bursts.
    pub(crate) const fn bursts(offer: f64) -> Self {
        Self { offer, at_once: FRAMES_AT_ONCE, rests: false }
    }
}

const fn aead_of(subject: Subject) -> u16 {
    if matches!(subject, Subject::Nts30) { 30 } else { 15 }
}

fn watch(server: &Server, sent: &AtomicU64, time: Duration) -> Result<Figure> {
    let counters = || -> Result<_> {
        let sent = sent.load(Ordering::Relaxed);
        Ok((received_packets(LOAD_INTERFACE)?, cpu_nanoseconds(server.process())?, sent, Instant::now()))
    };
    let before = counters()?;
    sleep(time);
    let after = counters()?;
    let answered = (after.0 - before.0) as f64;
    ensure!(answered > 0.0, "{} answered nothing under load", server.name());
    let seconds = (after.3 - before.3).as_secs_f64();
    Ok(Figure {
        per_second: answered / seconds,
        cpu_microseconds: (after.1 - before.1) as f64 / 1000.0 / answered,
        offered_per_second: Some((after.2 - before.2) as f64 / seconds),
    })
}

fn requests(subject: Subject, session: Option<&Session>) -> Result<Vec<Request>> {
    let mut plain = [0; HEADER_OCTETS];
    plain[0] = 4 << 3 | 3;
    plain[2] = 6;
    if subject == Subject::Plain {
        plain[40..].fill(0x5a);
        return Ok(vec![Request { octets: plain.to_vec(), unique_identifier: [0; 32] }]);
    }
    let session = session.context("a server without NTS cannot be asked for it")?;
    let algorithm = session.keys.algorithm();
    ensure!(algorithm.id() == aead_of(subject), "the server chose AEAD {}", algorithm.id());
    (0..NTS_REQUESTS)
        .map(|number| {
            let unique_identifier = [number; 32];
            plain[40..].fill(number);
            let mut octets = [0; 1024];
            octets[..HEADER_OCTETS].copy_from_slice(&plain);
            let mut writer = FieldWriter::new(&mut octets, HEADER_OCTETS);
            let cookie = &session.cookies[usize::from(number) % session.cookies.len()];
            let nonce = &[number; 16][..algorithm.nonce_octets()];
            write_nts_request(
                &mut writer,
                &unique_identifier,
                cookie.as_bytes(),
                0,
                &session.keys.c2s,
                nonce,
            )?;
            Ok(Request { octets: writer.written().to_vec(), unique_identifier })
        })
        .collect()
}

impl Load {
    /// Frames that ask for `subject`. A server that answers fast and wrong is no use: its first answers are verified.
    pub(crate) fn new(network: &Network, server: &Server, subject: Subject) -> Result<Self> {
        let session =
            server.tells_time().then(|| key_establishment::wait_for(server, aead_of(subject))).transpose()?;
        let (log, must_say) = (server.log(), server.must_say(subject));
        ensure!(log.contains(must_say), "{} does not say \"{must_say}\": {log}", server.name());
        let requests = requests(subject, session.as_ref())?;
        let frames = (0..FRAMES)
            .map(|client| {
                frame(network.server_mac, client, &requests[usize::from(client) % requests.len()].octets)
            })
            .collect();
        let load = Self { subject, session, requests, frames };
        load.first_answers()?;
        Ok(load)
    }

    /// Has `watch` look at what happens under this load, which it is told the number of requests of.
    pub(crate) fn run<T>(
        &self,
        pace: &Pace,
        flood: Option<&Flood>,
        watch: impl FnOnce(&AtomicU64) -> Result<T>,
    ) -> Result<T> {
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| send_until(&stop, &sent, (&self.frames, flood), pace));
            sleep(WARM_UP);
            let seen = watch(&sent);
            stop.store(true, Ordering::Relaxed);
            match sender.join() {
                Ok(result) => result.and(seen),
                Err(_) => bail!("the load ended by a panic"),
            }
        })
    }

    fn first_answers(&self) -> Result<()> {
        let cable = open_cable(SockProtocol::EthAll)?;
        setsockopt(&cable, sockopt::ReceiveTimeout, &TimeVal::milliseconds(200))?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let (mut checked, mut buffer) = (0, [0; 2048]);
        for number in (0..self.frames.len()).cycle() {
            ensure!(Instant::now() < deadline, "only {checked} good answers to the first requests");
            send(&cable, &self.frames[number..=number])?;
            while let Ok(octets) = recv(cable.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                let Some((_, answer)) = payload(&buffer[..octets]) else { continue };
                self.check(answer, &self.requests[number % self.requests.len()])?;
                checked += 1;
                break;
            }
            if checked == ANSWERS_CHECKED {
                break;
            }
        }
        Ok(())
    }

    fn answers_under_load(&self) -> Result<()> {
        let cable = open_cable(SockProtocol::EthAll)?;
        setsockopt(&cable, sockopt::ReceiveTimeout, &TimeVal::milliseconds(200))?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let (mut checked, mut buffer) = (0, [0; 2048]);
        while checked < ANSWERS_SAMPLED {
            ensure!(Instant::now() < deadline, "only {checked} answers to be seen under load");
            let Ok(octets) = recv(cable.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { continue };
            let Some((client, answer)) = payload(&buffer[..octets]) else { continue };
            self.check_of(client, answer)?;
            checked += 1;
        }
        Ok(())
    }

    /// Fails unless this is a good answer to what a client asked under load.
    pub(crate) fn check_of(&self, client: u16, answer: &[u8]) -> Result<()> {
        let request = &self.requests[usize::from(client) % self.requests.len()];
        self.check(answer, request).context("under load")
    }

    fn check(&self, answer: &[u8], request: &Request) -> Result<()> {
        ensure!(answer.len() <= request.octets.len(), "an answer of {} octets", answer.len());
        let Some(session) = &self.session else {
            ensure!(answer == request.octets, "an echo of something else");
            return Ok(());
        };
        let header = Header::decode(answer)?;
        let is_time = header.mode == Mode::Server && (1..16).contains(&header.stratum);
        ensure!(
            is_time && header.origin.to_be_bytes() == request.octets[40..48],
            "not an answer in time: {header:?}"
        );
        if self.subject != Subject::Plain {
            let mut cookies = Default::default();
            verify_nts_response(answer, &request.unique_identifier, &session.keys.s2c, &mut cookies)?;
            ensure!(cookies.len() == 1, "an answer with {} cookies", cookies.len());
        }
        Ok(())
    }
}

fn send_until(
    stop: &AtomicBool,
    sent: &AtomicU64,
    (frames, flood): (&[Vec<u8>], Option<&Flood>),
    pace: &Pace,
) -> Result<()> {
    pin_to_load_core()?;
    if pace.rests {
        chime_sys::limits::run_before_others(1)
            .context("only root can have a load that goes before others")?;
    }
    let cable = open_cable(SockProtocol::Raw)?;
    let mut due = Instant::now();
    for batch in frames.chunks(pace.at_once).cycle() {
        while Instant::now() < due {
            if pace.rests {
                sleep(due.saturating_duration_since(Instant::now()));
            }
            std::hint::spin_loop();
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let count = match flood {
            None => send(&cable, batch)? as u64,
            Some(flood) => flood.send().map(|()| u64::from(flood::FRAMES_AT_ONCE))?,
        };
        sent.fetch_add(count, Ordering::Relaxed);
        due += Duration::from_secs_f64(count as f64 / pace.offer);
        due = due.max(Instant::now().checked_sub(MADE_UP_FOR_MAX).unwrap_or(due));
    }
    Ok(())
}

/// Gives how many the kernel took: a full queue takes fewer, which is what saturation means.
fn send(cable: &OwnedFd, frames: &[Vec<u8>]) -> Result<usize> {
    let slices: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
    let to: Vec<Option<LinkAddr>> = vec![None; frames.len()];
    let mut headers = MultiHeaders::<LinkAddr>::preallocate(frames.len(), None);
    match sendmmsg(cable.as_raw_fd(), &mut headers, &slices, &to, [], MsgFlags::empty()) {
        Ok(results) => Ok(results.count()),
        Err(nix::errno::Errno::ENOBUFS | nix::errno::Errno::EAGAIN) => Ok(0),
        Err(error) => Err(error).context("cannot send frames"),
    }
}

/// A raw socket on our end of the cable; it receives only if it is opened for a protocol.
pub(crate) fn open_cable(protocol: SockProtocol) -> Result<OwnedFd> {
    let protocol = (protocol == SockProtocol::EthAll).then_some(protocol);
    let cable = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let address = interfaces
        .filter(|interface| interface.interface_name == LOAD_INTERFACE)
        .find_map(|interface| interface.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {LOAD_INTERFACE}"))?;
    bind(cable.as_raw_fd(), &address)?;
    Ok(cable)
}
