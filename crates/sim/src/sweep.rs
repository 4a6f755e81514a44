//! Worlds drawn from a seed: everything that can vary does, within what a client must bear.

use crate::{
    Action, Adversary, Attack, Chance, Expectation, Jumps, Lie, Limits, Manner, Path, Scenario, Smear,
    micros, millis, minutes,
};
use chime_wire::KissCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// When drawn actions happen, seconds: after the start, and early enough to see the recovery.
const ACTIONS_BETWEEN: (f64, f64) = (600.0, 2000.0);
/// How long drawn worlds last, seconds.
const DURATION: f64 = 4500.0;

/// Of a hundred worlds so many have a majority of liars.
const MAJORITIES_OF_LIARS: f64 = 0.15;
/// A liar is wrong by at least so much, seconds: more than any path of these worlds could make it seem.
const LIE_SECONDS: f64 = 0.3;
/// At most so many incidents befall a world.
const INCIDENTS_MAX: usize = 2;

/// The world of a seed, and what must hold in it.
#[must_use]
pub fn draw(seed: u64) -> Expectation {
    let mut chance = Chance::new(seed ^ 0x7275_6523);
    if chance.happens(MAJORITIES_OF_LIARS) {
        draw_majority_of_liars(&mut chance)
    } else {
        draw_world(&mut chance)
    }
}

/// A world whose servers are right, or most of them.
fn draw_world(chance: &mut Chance) -> Expectation {
    let servers = 1 + chance.below(7);
    let jitter = 10f64.powf(-6.0 + 3.0 * chance.uniform());
    let path = draw_path(jitter, chance);
    let offset = (chance.uniform() - 0.5).signum() * 10f64.powf(-5.0 + 10.0 * chance.uniform());
    let lies = draw_liars(servers, chance);
    let liars = !lies.is_empty();
    let mut scenario = Scenario::client_of(servers)
        .path(path)
        .clock(offset, 2e-4 * (chance.uniform() - 0.5))
        .wander(10f64.powf(-10.0 + 2.0 * chance.uniform()))
        .liars(lies.into_iter())
        .duration(DURATION);
    // Without authentication there is no defence against somebody on the way.
    if chance.happens(0.5) {
        scenario = scenario.nts();
        if chance.happens(0.5) {
            scenario = scenario.adversary(draw_adversary(chance));
        }
    }
    let mut is_noticed = true;
    for _ in 0..=chance.below(INCIDENTS_MAX + 1) {
        let (from, to) = ACTIONS_BETWEEN;
        let time = from + (to - from) * chance.uniform();
        for (delay, action) in draw_incident(servers, path, chance) {
            is_noticed &= !matches!(action, Action::StepClock(_, false));
            scenario = scenario.at(time + delay, action);
        }
    }
    // What nobody can see: the asymmetry of the path, and a liar as long as its lie is within half a round trip.
    let unseen = if liars {
        path.there.base.max(path.back.base)
    } else {
        (path.there.base - path.back.base).abs() / 2.0
    };
    // A datagram that was overtaken by others may be all that the first correction has to go by.
    let overtaken = millis(if path.reordering > 0.0 { 35.0 } else { 5.0 });
    scenario.expect(Limits {
        sync_by: minutes(8.0),
        offset_max: overtaken + unseen + 30.0 * jitter,
        offset_rms: millis(1.0) + unseen + 5.0 * jitter,
        frequency_max: 5e-6 + 0.01 * jitter,
        steps_max: 6,
        recover_within: minutes(25.0),
        bound_holds: false,
        // Nobody can know of a step that another process made before the next answer comes.
        containment: if is_noticed { 0.999 } else { 0.0 },
        follows_no_liar: true,
        ..Limits::default()
    })
}

/// A minority that lies: each in its own way, or all together.
fn draw_liars(servers: usize, chance: &mut Chance) -> Vec<Lie> {
    let count = chance.below(servers.div_ceil(2));
    let size = LIE_SECONDS * 10f64.powf(2.0 * chance.uniform());
    // Liars who agree must not become the majority when incidents befall honest servers.
    if servers - count > count + INCIDENTS_MAX + 1 && chance.happens(0.5) {
        return vec![Lie { offset: size, ..Lie::default() }; count];
    }
    let apart =
        |index: usize| size * (index / 2 + 1) as f64 * if index.is_multiple_of(2) { 1.0 } else { -1.0 };
    let lie = |index| {
        // Not before all servers were heard: a lie that grows from nothing among those few whom a client has heard in its
        // first seconds is their majority's word.
        let at = 100.0 + 2000.0 * chance.uniform();
        match chance.below(4) {
            0 => Lie { drift: apart(index) * 1e-3, at, ..Lie::default() },
            1 => {
                let jumps = Some(Jumps { by: apart(index), every: 60.0 + 1000.0 * chance.uniform() });
                Lie { jumps, at, ..Lie::default() }
            }
            2 => {
                let smear = Some(Smear { by: apart(index), lasting: 100.0 + 3000.0 * chance.uniform() });
                Lie { smear, at, ..Lie::default() }
            }
            _ => {
                Lie { offset: apart(index), at: if chance.happens(0.5) { 0.0 } else { at }, ..Lie::default() }
            }
        }
    };
    (0..count).map(lie).collect()
}

/// A world most of whose servers lie from the start. When they agree nothing on the network can tell, but that others
/// disagree is told; when they do not, no time is believed.
fn draw_majority_of_liars(chance: &mut Chance) -> Expectation {
    let honest = 1 + chance.below(3);
    let liars = honest + 1 + chance.below(2);
    let jitter = 10f64.powf(-6.0 + 2.0 * chance.uniform());
    let mut path = draw_path(jitter, chance);
    path.reordering = 0.0;
    let size = LIE_SECONDS * 10f64.powf(2.0 * chance.uniform());
    let scenario =
        Scenario::client_of(honest + liars).path(path).clock(0.02, 0.0).wander(0.0).duration(DURATION);
    if chance.happens(0.5) {
        let lies = std::iter::repeat_n(Lie { offset: size, ..Lie::default() }, liars);
        let limits = Limits { says_falseticker: true, ..Limits::none() };
        return scenario.liars(lies).expect(limits);
    }
    let limits = Limits { says_no_majority: true, ..Limits::no_synchronisation() };
    scenario.falsetickers(liars, size).expect(limits)
}

fn draw_path(jitter: f64, chance: &mut Chance) -> Path {
    let base = 10f64.powf(-4.0 + 2.5 * chance.uniform());
    let mut path = Path::default();
    let there = if chance.happens(0.5) { 1.0 } else { 0.4 + 1.2 * chance.uniform() };
    (path.there.base, path.back.base) = (base * there, base * (2.0 - there));
    (path.there.jitter, path.back.jitter) = (jitter, jitter);
    if chance.happens(0.5) {
        path.loss = 0.2 * chance.uniform();
        path.duplication = 0.2 * chance.uniform();
        path.reordering = 0.05 * chance.uniform();
    }
    path
}

fn draw_adversary(chance: &mut Chance) -> Adversary {
    let attacks = [
        Attack::Forge { offset: 3600.0 },
        Attack::ForgeAuthenticator { offset: -3600.0 },
        Attack::Replay,
        Attack::Kiss(KissCode::DENY),
        Attack::Kiss(KissCode::RATE),
        Attack::Kiss(KissCode::NTSN),
        Attack::Garbage,
    ];
    Adversary::new(attacks.into_iter().filter(|_| chance.happens(0.4)).collect())
}

/// One incident: actions with their times relative to it.
fn draw_incident(servers: usize, path: Path, chance: &mut Chance) -> Vec<(f64, Action)> {
    let lasting = minutes(1.0) + minutes(5.0) * chance.uniform();
    if chance.happens(0.5) {
        draw_server_incident(chance.below(servers), lasting, path, chance)
    } else {
        draw_client_incident(lasting, path, chance)
    }
}

fn draw_server_incident(server: usize, lasting: f64, path: Path, chance: &mut Chance) -> Vec<(f64, Action)> {
    let between = |begin, end| vec![(0.0, begin), (lasting, end)];
    match chance.below(7) {
        0 => vec![(0.0, Action::LoseKeys(server))],
        1 => vec![(0.0, Action::RotateKeys(server))],
        2 => between(Action::Up(server, false), Action::Up(server, true)),
        3 => vec![(0.0, Action::Readdress(server))],
        4 => between(Action::Manner(server, Manner::RateLimit), Action::Manner(server, Manner::Open)),
        5 => {
            let mut begin =
                vec![(0.0, Action::EstablishmentFails(server, true)), (0.0, Action::LoseKeys(server))];
            begin.push((lasting, Action::EstablishmentFails(server, false)));
            begin
        }
        _ => {
            let mut longer = path;
            longer.there.base += 0.02 * chance.uniform();
            between(Action::Path(server, longer), Action::Path(server, path))
        }
    }
}

fn draw_client_incident(lasting: f64, path: Path, chance: &mut Chance) -> Vec<(f64, Action)> {
    let between = |begin, end| vec![(0.0, begin), (lasting, end)];
    match chance.below(10) {
        0 => between(Action::Network(false), Action::Network(true)),
        1 => vec![(0.0, Action::StepClock(20.0 * (chance.uniform() - 0.5), true))],
        2 => vec![(0.0, Action::StepClock(0.5 * (chance.uniform() - 0.5), false))],
        3 => vec![(0.0, Action::Suspend(3600.0 * chance.uniform(), chance.uniform() - 0.5))],
        4 => between(Action::Permit(false), Action::Permit(true)),
        5 => between(
            Action::Paths(Path { loss: 1.0, ..path }),
            Action::Paths(Path { bit_flips: 0.01, ..path }),
        ),
        // No draw of its own, which would change all worlds.
        6 if lasting.fract() < 0.5 => between(Action::Stop, Action::Start),
        6 => between(Action::Kill, Action::Start),
        7 => {
            let mut full = vec![(0.0, Action::DiskFull(true)), (lasting, Action::Kill)];
            full.push((lasting + 5.0, Action::Start));
            full
        }
        8 => vec![(0.0, Action::NatRebinding)],
        _ => vec![(0.0, Action::ChangeOscillator(2e-6 * (chance.uniform() - 0.5)))],
    }
}

/// Runs the worlds of these seeds on all cores. Gives the seeds in which something does not hold, and what.
#[must_use]
pub fn run(seeds: std::ops::Range<u64>) -> Vec<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let broken = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if let Err(why) = check(seed) {
                broken.lock().unwrap_or_else(PoisonError::into_inner).push((seed, why));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    broken.sort();
    broken
}

/// Whether everything holds in the world of a seed; a panic in it is a failure of that world only.
///
/// # Errors
/// What does not hold.
pub fn check(seed: u64) -> Result<(), String> {
    std::panic::catch_unwind(|| draw(seed).check(seed).map(|_| ())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// A line for people: what the seed drew and how it went.
#[must_use]
pub fn describe(seed: u64) -> String {
    let expectation = draw(seed);
    match expectation.check(seed) {
        Ok(outcome) => format!(
            "seed {seed}: ok, synchronised after {:.0} s, {:.1} us RMS, at most {:.1} us, {} steps, {} requests",
            outcome.synchronised_at.unwrap_or(f64::NAN),
            outcome.offset_rms / micros(1.0),
            outcome.offset_max / micros(1.0),
            outcome.steps.len(),
            outcome.requests,
        ),
        Err(broken) => format!("seed {seed}: {broken}\n{:#?}", expectation.scenario()),
    }
}
