//! Worlds drawn from a seed: everything that can vary does, within what a client must bear.

use crate::{
    Action, Adversary, Attack, Chance, Expectation, Limits, Manner, Path, Scenario, micros, millis, minutes,
};
use chime_wire::KissCode;

/// When drawn actions happen, seconds: after the start, and early enough to see the recovery.
const ACTIONS_BETWEEN: (f64, f64) = (600.0, 2000.0);
/// How long drawn worlds last, seconds.
const DURATION: f64 = 4500.0;

/// The world of a seed, and what must hold in it.
#[must_use]
pub fn draw(seed: u64) -> Expectation {
    let mut chance = Chance::new(seed ^ 0x7275_6523);
    let servers = 1 + chance.below(6);
    let jitter = 10f64.powf(-6.0 + 3.0 * chance.uniform());
    let path = draw_path(jitter, &mut chance);
    let offset = (chance.uniform() - 0.5).signum() * 10f64.powf(-5.0 + 10.0 * chance.uniform());
    let mut scenario = Scenario::client_of(servers)
        .path(path)
        .clock(offset, 2e-4 * (chance.uniform() - 0.5))
        .wander(10f64.powf(-10.0 + 2.0 * chance.uniform()))
        .falsetickers(chance.below(servers.div_ceil(2)), 1.0)
        .duration(DURATION);
    // Without authentication there is no defence against somebody on the way.
    if chance.happens(0.5) {
        scenario = scenario.nts();
        if chance.happens(0.5) {
            scenario = scenario.adversary(draw_adversary(&mut chance));
        }
    }
    for _ in 0..chance.below(3) {
        let (from, to) = ACTIONS_BETWEEN;
        let time = from + (to - from) * chance.uniform();
        for (delay, action) in draw_actions(servers, path, &mut chance) {
            scenario = scenario.at(time + delay, action);
        }
    }
    scenario.expect(Limits {
        sync_by: minutes(8.0),
        // A datagram that was overtaken by others may be all that the first correction has to go by.
        offset_max: millis(if path.reordering > 0.0 { 35.0 } else { 5.0 }) + 30.0 * jitter,
        offset_rms: millis(1.0) + 5.0 * jitter,
        frequency_max: 5e-6 + 0.01 * jitter,
        steps_max: 6,
        recover_within: minutes(25.0),
        bound_holds: true,
        ..Limits::default()
    })
}

fn draw_path(jitter: f64, chance: &mut Chance) -> Path {
    let base = 10f64.powf(-4.0 + 2.5 * chance.uniform());
    let mut path = Path::default();
    (path.there.base, path.back.base) = (base, base);
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
fn draw_actions(servers: usize, path: Path, chance: &mut Chance) -> Vec<(f64, Action)> {
    let server = chance.below(servers);
    let while_lasting = minutes(1.0) + minutes(5.0) * chance.uniform();
    match chance.below(11) {
        0 => vec![(0.0, Action::LoseKeys(server))],
        1 => vec![(0.0, Action::RotateKeys(server))],
        2 => vec![(0.0, Action::Up(server, false)), (while_lasting, Action::Up(server, true))],
        3 => vec![(0.0, Action::Network(false)), (while_lasting, Action::Network(true))],
        4 => vec![(0.0, Action::StepClock(20.0 * (chance.uniform() - 0.5), true))],
        5 => vec![(0.0, Action::StepClock(0.5 * (chance.uniform() - 0.5), false))],
        6 => vec![(0.0, Action::Suspend(3600.0 * chance.uniform(), chance.uniform() - 0.5))],
        7 => vec![(0.0, Action::Permit(false)), (while_lasting, Action::Permit(true))],
        8 => vec![(0.0, Action::Readdress(server))],
        9 => vec![
            (0.0, Action::Paths(Path { loss: 1.0, ..path })),
            (while_lasting, Action::Paths(Path { bit_flips: 0.01, ..path })),
        ],
        _ => vec![
            (0.0, Action::Manner(server, Manner::RateLimit)),
            (while_lasting, Action::Manner(server, Manner::Open)),
        ],
    }
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
