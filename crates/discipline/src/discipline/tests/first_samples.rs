//! A server whose clock is being set while we begin to ask it.

use super::world::{Random, Server, World};
use crate::{Settings, SourceId};
use chime_time::Frequency;

/// A server that is wrong for one of its answers, and its world.
fn wrong_once(first_samples_min: usize, spacing: f64, answer: u32, error: f64) -> World {
    let server = if spacing < 16.0 { Server::default() } else { Server { burst: 0, ..Server::default() } };
    let mut world = World::new(4, Settings { first_samples_min, ..Settings::default() }, &[server]);
    world.oscillator = 2e-5;
    for number in 0..=answer {
        world.servers[0].error = if number == answer { error } else { 0.0 };
        world.run(1.0 + spacing * f64::from(number), |_| {});
    }
    world.servers[0].error = 0.0;
    world
}

/// As in docs/choices.md.
#[test]
fn the_first_answer_is_dropped_when_the_next_two_contradict_it() {
    for (first_samples_min, spacing) in [(1, 2.0), (1, 16.0), (3, 2.0), (3, 16.0)] {
        for error in [0.5, -0.05, 1000.0] {
            let case = format!("{first_samples_min} {spacing} {error}");
            let mut world = wrong_once(first_samples_min, spacing, 0, error);
            let end = 2.5 * spacing + 1.0;
            world.run(end, |world| {
                assert!(world.clock_error.abs() < error.abs() + 1e-3, "{case}: {}", world.clock_error);
            });
            world.run(end + 600.0, |world| {
                let settled = world.time > end + 2.0;
                assert!(!settled || world.clock_error.abs() < 1e-3, "{case}: {}", world.clock_error);
                assert!(!settled || world.frequency.abs() < 1e-3, "{case}: {}", world.frequency);
            });
            assert!((world.frequency + 2e-5).abs() < 1e-6, "{case}: {}", world.frequency);
            // The first one moved the clock only where one is enough for that.
            assert_eq!(
                world.steps.iter().any(|by| (by - error).abs() < 1e-3),
                first_samples_min == 1 && error > 0.1
            );
        }
    }
}

#[test]
fn a_second_or_third_answer_that_the_others_contradict_changes_nothing() {
    for (first_samples_min, spacing) in [(1, 2.0), (3, 16.0)] {
        for answer in [1, 2] {
            let mut world = wrong_once(first_samples_min, spacing, answer, 0.5);
            world.run(300.0, |world| {
                assert!(world.clock_error.abs() < 5e-3, "{spacing} {answer}: {}", world.clock_error);
                assert!(world.frequency.abs() < 1e-3, "{spacing} {answer}: {}", world.frequency);
            });
            assert_eq!(world.discipline.system(world.now()).selected, Some(SourceId(0)));
        }
    }
}

#[test]
fn a_clock_that_is_far_too_fast_is_set_right_as_soon_as_three_answers_say_so() {
    for (oscillator, error_max) in [(0.01, 0.05), (-0.01, 0.05), (2e-3, 0.05), (0.1, 0.5), (-0.1, 0.5)] {
        let settings = Settings { max_drift: Frequency::from_ratio(0.15), ..Settings::default() };
        let mut world = World::new(4, settings, &[Server::default()]);
        world.oscillator = oscillator;
        world.run(8.0, |_| {});
        world.run(300.0, |world| {
            assert!(world.clock_error.abs() < error_max, "{oscillator}: {}", world.clock_error);
        });
        let lacked = 1.0 / (1.0 + oscillator) - 1.0;
        assert!((world.frequency - lacked).abs() < 2e-4, "{oscillator}: {}", world.frequency);
        assert!(world.clock_error.abs() < 1e-3, "{oscillator}: {}", world.clock_error);
    }
}

/// A server whose first answers, `count` of them, are wrong by up to `size` seconds, each otherwise, and its world.
struct Unsteady {
    seed: u64,
    count: u32,
    size: f64,
    server: Server,
    oscillator: f64,
}

impl Unsteady {
    /// The greatest error of the clock in all that happens until the server was right for 20 polls, and the one that is left then.
    fn errors(&self) -> (f64, f64) {
        let mut random = Random(self.seed);
        let mut world = World::new(self.seed, Settings::default(), &[self.server]);
        world.oscillator = self.oscillator;
        let mut greatest = 0f64;
        let Server { poll, burst, .. } = self.server;
        let answered = |count: u32| {
            let (quick, slow) = (count.min(burst), count.saturating_sub(burst));
            1.0 + 2.0 * f64::from(quick.saturating_sub(1)) + poll * f64::from(slow)
        };
        for number in 1..=self.count {
            world.servers[0].error = self.size * (2.0 * random.uniform() - 1.0);
            world.run(answered(number), |world| greatest = greatest.max(world.clock_error.abs()));
        }
        world.servers[0].error = 0.0;
        world.run(answered(self.count.max(burst) + 20), |world| {
            greatest = greatest.max(world.clock_error.abs())
        });
        (greatest, world.clock_error.abs())
    }
}

/// Whatever one server says in its first minutes, the clock is not driven far away from all that it said, and is right soon
/// after the server is.
#[test]
fn no_start_drives_the_clock_far_beyond_what_the_server_said() {
    let mut seed = 0;
    for (base, jitter) in [(5e-5, 1e-5), (3e-3, 1e-4), (1.5e-2, 1e-4)] {
        for (poll, size) in [(16.0, 0.01), (16.0, 0.03), (16.0, 1.0), (64.0, 0.01), (64.0, 0.03), (64.0, 1.0)]
        {
            for count in 1..=12 {
                seed += 1;
                let server = Server { base, jitter: (jitter, jitter), poll, ..Server::default() };
                let (greatest, left) = Unsteady { seed, count, size, server, oscillator: 2e-5 }.errors();
                // Half of the round trip is what nobody can know; the oscillator is its own for five minutes at most.
                let limit = 5.0 * size + base + 320.0 * 2e-5;
                let case = format!("{seed}: {base} {poll} {size} {count}");
                assert!(greatest < limit, "{case}: {greatest}");
                assert!(left < 1e-3 + size / 10.0, "{case}: {left}");
            }
        }
    }
}

/// Three answers that are on a line by chance (0.0037 s per s), and others that are on none: the clock was 9 s off, and did not
/// find back.
#[test]
fn three_answers_on_a_line_by_chance_are_no_frequency() {
    let mut world = World::new(4, Settings::default(), &[Server { poll: 64.0, ..Server::default() }]);
    let errors = [-9.17e-3, -1.81e-3, 5.62e-3, 8.99e-3, 0.44e-3, -2.48e-3, -1.06e-3, 0.0];
    for (number, error) in errors.into_iter().enumerate() {
        world.servers[0].error = error;
        world.run(1.0 + 2.0 * number as f64, |_| {});
    }
    world.run(1000.0, |world| assert!(world.clock_error.abs() < 0.02, "{}", world.clock_error));
    assert!(world.clock_error.abs() < 1e-4, "{}", world.clock_error);
}

/// A server that is wrong otherwise with each answer, for ever: its samples are worth as much as that, and their mean more.
#[test]
fn a_server_that_is_never_steady_is_followed_as_well_as_it_lets_itself() {
    for (seed, poll, size) in
        [(1, 16.0, 1e-3), (2, 16.0, 1e-2), (3, 16.0, 1e-2), (4, 64.0, 1e-2), (5, 64.0, 1e-3)]
    {
        let server = Server { base: 5e-5, jitter: (1e-5, 1e-5), poll, ..Server::default() };
        let mut random = Random(seed);
        let mut world = World::new(seed, Settings::default(), &[server]);
        world.oscillator = 2e-5;
        for number in 1..=250 {
            world.servers[0].error = size * (2.0 * random.uniform() - 1.0);
            world.run(world.time + poll, |world| {
                let (error, limit) = (world.clock_error.abs(), if number > 50 { 2.0 } else { 5.0 });
                assert!(error < limit * size + 2e-3, "{seed}: {error} after {number} polls");
            });
        }
        assert_eq!(world.discipline.system(world.now()).selected, Some(SourceId(0)));
        world.servers[0].error = 0.0;
        world.run(world.time + 40.0 * poll, |_| {});
        assert!(world.clock_error.abs() < size / 10.0, "{seed}: {} when it is steady", world.clock_error);
    }
}
