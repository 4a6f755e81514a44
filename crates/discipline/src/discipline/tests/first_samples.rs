//! A server whose clock is being set while we begin to ask it.

use super::world::{Server, World};
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
