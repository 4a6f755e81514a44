//! How well the clock is kept, and what is done to it when things go wrong.

use super::world::{Random, Server, World, id};
use crate::*;
use chime_time::{Frequency, MonoTime, NtpDuration};
use proptest::prelude::*;

fn one_server(seed: u64) -> World {
    World::new(seed, Settings::default(), &[Server::default()])
}

#[test]
fn a_clock_a_day_wrong_and_drifting_is_right_within_ten_seconds() {
    for seed in 0..20 {
        for wrong in [86_400.06, -86_400.06] {
            let mut world = one_server(seed);
            world.clock_error = wrong;
            world.oscillator = if seed % 2 == 0 { -8e-5 } else { 8e-5 };
            world.wander = 1e-9;
            world.run(8.0, |_| {});
            world.run(300.0, |world| {
                assert!(
                    world.clock_error.abs() < 100e-6,
                    "seed {seed}: {world_error:e}",
                    world_error = world.clock_error
                );
            });
            assert_eq!(world.steps.len(), 1, "one step, no more");
            assert!(world.clock_error.abs() < 20e-6, "seed {seed}: {:e}", world.clock_error);
        }
    }
}

#[test]
fn frequency_converges_without_overshoot() {
    for seed in 0..10 {
        let mut world = one_server(seed);
        world.oscillator = 1e-4;
        world.run(8.0, |_| {});
        let mut beyond = 0.0f64;
        world.run(120.0, |world| {
            let base = world.discipline.system(world.now()).frequency_ppm * 1e-6;
            beyond = beyond.max((-base - 1e-4).abs());
        });
        assert!(beyond < 6e-6, "seed {seed}: {beyond:e}");
        world.run(1000.0, |_| {});
        let base = world.discipline.system(world.now()).frequency_ppm * 1e-6;
        assert!((base + 1e-4).abs() < 5e-8, "seed {seed}: {base:e}");
    }
}

#[test]
fn the_clock_is_kept_as_well_as_other_daemons_keep_it() {
    // Jitter, wander, greatest RMS error: within twice of what the best of today's daemons reaches at 16 s.
    for (jitter, wander, limit) in [
        (1e-6, 1e-10, 5.4e-7),
        (1e-6, 1e-8, 3.2e-6),
        (1e-5, 1e-9, 5.4e-6),
        (1e-4, 1e-9, 1.1e-5),
        (1e-4, 1e-8, 5.4e-5),
        (1e-3, 1e-9, 9.7e-5),
    ] {
        let server = Server { base: 1e-3, jitter: (jitter, jitter), ..Server::default() };
        let mut world = World::new(7, Settings::default(), &[server]);
        (world.clock_error, world.oscillator, world.wander) = (0.1, 3e-5, wander);
        let rms = world.rms(10_000.0, 30_000.0);
        assert!(rms < limit, "jitter {jitter:e} wander {wander:e}: {rms:e}");
    }
}

#[test]
fn queues_on_one_direction_only_do_little_harm() {
    let server = Server { base: 1e-3, jitter: (0.0, 1e-3), ..Server::default() };
    let mut world = World::new(3, Settings::default(), &[server]);
    (world.oscillator, world.wander) = (3e-5, 1e-9);
    let rms = world.rms(5_000.0, 20_000.0);
    assert!(rms < 1.5e-4, "averaging would give 5e-4: {rms:e}");
}

#[test]
fn the_error_bound_contains_the_error() {
    for (seed, wander) in [(1, 1e-9), (2, 1e-8), (3, 1e-10)] {
        let servers: Vec<Server> = (0..4)
            .map(|i| Server { base: 1e-3 * f64::from(i + 1), jitter: (2e-4, 1e-4), ..Server::default() })
            .collect();
        let mut world = World::new(seed, Settings::default(), &servers);
        (world.clock_error, world.oscillator, world.wander) = (-3.0, -5e-5, wander);
        world.run(20.0, |_| {});
        world.run(20_000.0, |world| {
            let state = world.discipline.system(world.now());
            assert!(state.synchronized && state.stratum == 2);
            assert!(world.clock_error.abs() <= state.root_distance(), "{:e} {state:?}", world.clock_error);
        });
    }
}

#[test]
fn dispersion_grows_without_samples_until_nobody_should_follow() {
    let mut world = one_server(1);
    world.run(100.0, |_| {});
    world.servers.clear();
    world.run(200.0, |_| {});
    let now = world.now();
    let before = world.discipline.system(now);
    let later = world.discipline.system(now.add_secs_f64(1000.0));
    let growth = later.root_dispersion - before.root_dispersion;
    assert!(before.root_dispersion_rate >= 1e-6);
    assert!((growth - 1000.0 * before.root_dispersion_rate).abs() < 1e-5);
    let much_later = world.discipline.system(now.add_secs_f64(3.0 / before.root_dispersion_rate));
    assert!(!much_later.synchronized && much_later.leap == Leap::Unsynchronized && much_later.stratum == 0);
}

#[test]
fn small_offsets_are_slewed_and_large_ones_stepped() {
    for (offset, steps) in [(0.0999, 0), (0.1002, 1), (-0.0999, 0), (-0.1002, 1)] {
        let mut world = one_server(5);
        world.clock_error = offset;
        world.run(30.0, |_| {});
        assert_eq!(world.steps.len(), steps, "{offset}");
        assert!(world.clock_error.abs() < 1e-4, "{offset}: {:e}", world.clock_error);
    }
}

#[test]
fn a_late_timer_does_not_matter() {
    let mut world = one_server(5);
    world.lateness = 0.02;
    world.clock_error = 0.09;
    world.run(60.0, |_| {});
    assert!(world.clock_error.abs() < 2e-5, "{:e}", world.clock_error);
}

#[test]
fn sources_that_go_wrong_together_are_refused_while_the_clock_is_kept_and_served() {
    let mut world = one_server(2);
    world.oscillator = 3e-5;
    world.run(600.0, |_| {});
    let before = world.discipline.system(world.now());
    assert!(world.events().contains(&DisciplineEvent::Synchronised) && before.synchronized);
    world.servers[0].error = 5000.0;
    world.run(3000.0, |_| {});
    let refused = world.events().into_iter().filter(|e| matches!(e, DisciplineEvent::StepRefused(_))).count();
    assert_eq!(refused, 1, "told once");
    assert!(world.steps.is_empty() && world.clock_error.abs() < 1e-3, "{:e}", world.clock_error);
    let state = world.discipline.system(world.now());
    assert!(state.quarantined && state.synchronized && state.stratum == 2, "served on: {state:?}");
    let wanted = state.refused_correction.expect("what is refused is told");
    assert!((wanted - 5000.0).abs() < 0.1, "{wanted}");
    assert!(state.root_dispersion > before.root_dispersion + 1000.0 * before.root_dispersion_rate);
    assert!(world.clock_error.abs() < state.root_distance());
    let frequency = world.frequency;
    assert!((frequency * 1e6 - state.frequency_ppm).abs() < 1e-9, "no slew is left running");

    world.servers[0].error = 0.0;
    world.run(3200.0, |_| {});
    let state = world.discipline.system(world.now());
    assert!(!state.quarantined && state.synchronized && state.refused_correction.is_none());
    assert!(world.events().contains(&DisciplineEvent::QuarantineLifted));
    assert!(world.steps.is_empty() && world.clock_error.abs() < 1e-4, "{:e}", world.clock_error);
}

#[test]
fn what_contradicts_the_estimate_widens_the_bound_at_once() {
    let mut world = one_server(2);
    world.run(600.0, |_| {});
    let before = world.discipline.system(world.now());
    // Somebody steps the clock; the next samples are held back, as it may be the server's.
    world.clock_error += 0.2;
    let mut contained = 0;
    world.run(800.0, |world| {
        let state = world.discipline.system(world.now());
        if state.updates > before.updates {
            let (error, bound) = (world.clock_error.abs(), state.root_distance());
            assert!(error <= bound, "{error:e}, bound {bound:e}");
            contained += 1;
        }
    });
    assert!(contained > 0 && world.clock_error.abs() < 1e-3, "{:e}", world.clock_error);
}

#[test]
fn a_quarantine_ends_as_unsynchronised_when_the_bound_is_worth_nothing_any_more() {
    let mut world = one_server(2);
    world.run(600.0, |_| {});
    world.servers[0].error = -5000.0;
    world.run(1000.0, |_| {});
    let state = world.discipline.system(world.now());
    assert!(state.quarantined && state.synchronized);
    let later = world.now().add_secs_f64(4.0 / state.root_dispersion_rate);
    let state = world.discipline.system(later);
    assert!(state.quarantined && !state.synchronized && state.stratum == 0);
}

#[test]
fn what_is_refused_can_be_accepted_by_the_operator() {
    let mut world = one_server(2);
    world.run(600.0, |_| {});
    (world.servers[0].error, world.clock_error) = (2000.0, 0.0);
    world.run(700.0, |_| {});
    assert!(world.discipline.system(world.now()).quarantined);
    assert!(world.discipline.make_step(world.now()));
    world.drain();
    world.run(800.0, |_| {});
    let state = world.discipline.system(world.now());
    assert!(!state.quarantined && state.synchronized, "{state:?}");
    assert!((world.clock_error - 2000.0).abs() < 1e-3, "{}", world.clock_error);
}

#[test]
fn a_great_step_by_another_process_is_undone_because_the_sources_did_not_change_their_mind() {
    for by in [86_400.0, -5_000.0] {
        let mut world = one_server(2);
        world.run(100.0, |_| {});
        world.clock_error += by;
        world.discipline.clock_stepped_externally(world.now(), NtpDuration::from_secs_f64(by));
        world.drain();
        world.burst();
        world.run(110.0, |_| {});
        assert!(world.clock_error.abs() < 1e-3, "{by}: {:e}", world.clock_error);
        let events = world.events();
        assert!(!events.iter().any(|event| matches!(event, DisciplineEvent::StepRefused(_))), "{events:?}");
    }
    // But a step that explains nothing is none of an excuse.
    let mut world = one_server(2);
    world.run(100.0, |_| {});
    world.clock_error += 3.0;
    world.servers[0].error = 5000.0;
    world.discipline.clock_stepped_externally(world.now(), NtpDuration::from_seconds(3));
    world.drain();
    world.burst();
    world.run(200.0, |_| {});
    let state = world.discipline.system(world.now());
    assert!(state.quarantined && !state.synchronized, "nothing is known of the clock: {state:?}");
    assert!(matches!(world.status, Some(ClockCommand::SetStatus { synchronized: false, .. })));
    // The operator sets the clock to within the threshold: all is well again.
    world.clock_error += 4900.0;
    world.discipline.clock_stepped_externally(world.now(), NtpDuration::from_seconds(4900));
    world.drain();
    world.burst();
    world.run(260.0, |_| {});
    assert!((world.clock_error - 5000.0).abs() < 1e-3);
    assert!(!world.discipline.system(world.now()).quarantined);
    assert!(world.events().contains(&DisciplineEvent::QuarantineLifted));
}

#[test]
fn thresholds_begin_with_the_update_that_the_operator_says() {
    for (panic_after, is_refused) in [(3, true), (1000, false)] {
        let step = StepPolicy { panic_after, ..StepPolicy::default() };
        let mut world = World::new(3, Settings { step, ..Settings::default() }, &[Server::default()]);
        world.run(200.0, |_| {});
        world.servers[0].error = 2000.0;
        world.run(400.0, |_| {});
        assert_eq!(world.discipline.system(world.now()).quarantined, is_refused, "{panic_after}");
    }
}

#[test]
fn one_good_measurement_sets_a_clock_that_may_be_stepped() {
    for wrong in [86_400.06, -0.5, 0.07] {
        let mut world = one_server(5);
        (world.clock_error, world.oscillator) = (wrong, 1e-4);
        world.run(0.2, |_| {});
        world.run(1.2, |_| {});
        assert!(world.clock_error.abs() < 1e-3, "{wrong}: {:e}", world.clock_error);
        assert!(world.discipline.system(world.now()).synchronized);
    }
    for settings in [
        Settings { first_samples_min: 3, ..Settings::default() },
        Settings { step: StepPolicy { threshold: None, ..StepPolicy::default() }, ..Settings::default() },
    ] {
        let mut world = World::new(5, settings, &[Server::default()]);
        world.clock_error = 0.5;
        world.run(3.9, |_| {});
        assert!((world.clock_error - 0.5).abs() < 1e-9, "three samples, two seconds apart");
        world.run(6.0, |_| {});
        assert!(world.clock_error < 0.4);
    }
}

#[test]
fn a_vague_first_measurement_waits_for_the_next_and_a_majority_is_waited_for() {
    let far = Server { base: 0.15, ..Server::default() };
    let mut world = World::new(5, Settings::default(), &[far]);
    world.clock_error = 0.5;
    world.run(2.0, |_| {});
    assert!((world.clock_error - 0.5).abs() < 1e-9, "half a second, give or take a third");
    world.run(60.0, |_| {});
    assert!(world.clock_error.abs() < 0.01);

    let liar = Server { error: 100.0, ..Server::default() };
    let mut world = World::new(5, Settings::default(), &[liar, Server::default(), Server::default()]);
    world.delay_polls(1, 4.0);
    world.run(60.0, |_| {});
    assert!(world.steps.is_empty() && world.clock_error.abs() < 1e-3, "{:?}", world.steps);
}

#[test]
fn a_vague_measurement_is_no_second_voice_at_first_sight() {
    // Two that could be right by half a second or more agree with the liar, too.
    let liar = Server { error: 0.4, ..Server::default() };
    let far = Server { base: 0.6, ..Server::default() };
    let mut world = World::new(5, Settings::default(), &[liar, far, Server::default()]);
    world.delay_polls(2, 3.0);
    world.run(60.0, |_| {});
    assert!(world.steps.is_empty() && world.clock_error.abs() < 1e-3, "{:?}", world.steps);
}

#[test]
fn without_sources_the_average_frequency_takes_over() {
    let settings = Settings { fallback: Some(FallbackDrift { min: 10, max: 12 }), ..Settings::default() };
    let mut world = World::new(1, settings, &[Server::default()]);
    world.oscillator = 1e-5;
    world.run(10_000.0, |_| {});
    world.oscillator = 1.2e-5;
    world.run(10_600.0, |_| {});
    let last = world.frequency;
    assert!((last + 1.2e-5).abs() < 1e-6, "{last:e}");
    world.servers.clear();
    world.discipline.set_reach(id(0), 0);
    world.discipline.update(world.now());
    world.drain();
    world.run(11_600.0, |_| {});
    assert!((world.frequency + 1.2e-5).abs() < 1e-6, "not yet: {:e}", world.frequency);
    world.run(16_000.0, |_| {});
    assert!((world.frequency + 1.05e-5).abs() < 6e-7, "mostly what it was for hours: {:e}", world.frequency);
    let fallbacks =
        world.events().into_iter().filter(|e| matches!(e, DisciplineEvent::FallbackFrequency { .. }));
    assert_eq!(fallbacks.count(), 3, "after 1024, 2048 and 4096 s");
    assert_eq!(world.discipline.poll_timeout(), None, "and no further");
}

#[test]
fn the_ratio_of_the_correction_time_slows_small_corrections_only() {
    let rates = [CorrectionTime::Share(0.25), CorrectionTime::Ratio(3.0)].map(|correction_time| {
        let settings = Settings { correction_time, ..Settings::default() };
        let server = Server { jitter: (1e-4, 1e-4), ..Server::default() };
        let mut world = World::new(8, settings, &[server]);
        world.run(2_000.0, |_| {});
        let (mut square, mut count) = (0.0, 0u32);
        world.run(20_000.0, |world| {
            square += (world.frequency * 1e6 - world.discipline.system(world.now()).frequency_ppm).powi(2);
            count += 1;
        });
        (square / f64::from(count)).sqrt()
    });
    assert!(rates[1] < rates[0] / 2.0, "{rates:?} ppm");
}

#[test]
fn a_correction_that_becomes_smaller_lifts_the_quarantine() {
    let mut world = one_server(2);
    let mut settings = *world.discipline.settings();
    settings.step.startup_panic.backward = Some(7.0 * 86_400.0);
    world.discipline.set_settings(settings);
    world.clock_error = 8.0 * 86_400.0;
    world.run(40.0, |_| {});
    assert!(world.discipline.system(world.now()).quarantined && world.steps.is_empty());
    // The server had been wrong.
    world.servers[0].error = 8.0 * 86_400.0;
    world.run(400.0, |_| {});
    assert!(!world.discipline.system(world.now()).quarantined);
    assert!(world.events().contains(&DisciplineEvent::QuarantineLifted));
}

#[test]
fn a_clock_that_is_years_ahead_at_the_start_is_set_back() {
    let mut world = one_server(2);
    world.clock_error = 10.0 * 365.25 * 86_400.0;
    world.run(100.0, |_| {});
    assert_eq!(world.steps.len(), 1);
    assert!(world.clock_error.abs() < 1e-4, "{:e}", world.clock_error);
}

#[test]
fn a_step_by_another_process_is_corrected() {
    let mut world = one_server(4);
    world.oscillator = 4e-5;
    world.run(200.0, |_| {});
    world.clock_error += 3.0;
    world.discipline.clock_stepped_externally(world.now(), NtpDuration::from_seconds(3));
    assert!(!world.discipline.system(world.now()).synchronized);
    world.drain();
    world.burst();
    world.run(215.0, |_| {});
    assert!(world.events().contains(&DisciplineEvent::Reset));
    assert!(world.clock_error.abs() < 1e-4, "{:e}", world.clock_error);
    assert!((world.steps[0] + 3.0).abs() < 1e-3);
}

#[test]
fn another_pace_is_re_based_when_it_is_known_well_enough_and_a_fresh_start_otherwise() {
    for (found, since, is_dropped) in [(1e-5, 0.3, false), (1e-5, 60.0, true), (5e-4, 0.3, true)] {
        let mut world = one_server(4);
        world.oscillator = 4e-5;
        world.run(1_000.0, |_| {});
        let _before = world.events();
        // Half of the time that it may be there, it was.
        let from = world.now().add_secs_f64(-since);
        world.clock_error += (found - world.frequency) * since / 2.0;
        world.frequency = found;
        let frequency = Frequency::from_ratio(found);
        let dropped = world.discipline.clock_adjusted_externally(world.now(), frequency, 0.0, from);
        assert_eq!(dropped, is_dropped, "{found:e} {since}");
        world.drain();
        assert!((world.frequency + 4e-5).abs() < 1e-5, "ours again at once: {:e}", world.frequency);
        assert!(matches!(world.status, Some(ClockCommand::SetStatus { .. })));
        world.burst();
        world.run(1_100.0, |_| {});
        assert!(world.clock_error.abs() < 5e-5, "{found:e} {since}: {:e}", world.clock_error);
        let state = world.discipline.system(world.now());
        assert_eq!((state.interferences, state.recent_interferences), (1, 1));
        let told = world.events().into_iter().find_map(|event| match event {
            DisciplineEvent::Interference(Interference::Adjusted { found_ppm, set_ppm, .. }) => {
                Some((found_ppm, set_ppm))
            }
            _ => None,
        });
        let (found_ppm, set_ppm) = told.expect("it is told");
        assert!((found_ppm - found * 1e6).abs() < 1e-9 && (set_ppm + 40.0).abs() < 5.0, "{set_ppm}");
        assert_eq!(world.discipline.system(world.now().add_secs_f64(4_000.0)).recent_interferences, 0);
    }
}

#[test]
fn after_a_suspension_any_correction_is_believed_as_at_the_start() {
    let mut world = one_server(4);
    world.run(600.0, |_| {});
    // The hardware clock stood still.
    world.clock_error = -30_000.0;
    world.discipline.suspended(world.now(), NtpDuration::ZERO);
    world.drain();
    world.burst();
    world.run(610.0, |_| {});
    assert!(world.clock_error.abs() < 1e-3, "{:e}", world.clock_error);
}

#[test]
fn an_unnoticed_step_by_another_process_is_corrected_too() {
    let mut world = one_server(4);
    world.run(200.0, |_| {});
    world.clock_error += 0.5;
    world.run(400.0, |_| {});
    assert!(world.clock_error.abs() < 1e-3, "{:e}", world.clock_error);
}

#[test]
fn a_suspended_machine_starts_over_but_keeps_the_frequency() {
    let mut world = one_server(4);
    world.oscillator = 4e-5;
    world.run(600.0, |_| {});
    let before = world.discipline.system(world.now()).frequency_ppm;
    world.clock_error -= 1.7;
    world.discipline.suspended(world.now(), NtpDuration::from_seconds(100));
    world.drain();
    world.burst();
    let state = world.discipline.system(world.now());
    assert!(!state.synchronized && (state.frequency_ppm - before).abs() < 1e-9);
    world.run(620.0, |_| {});
    assert!(world.clock_error.abs() < 1e-4);
    assert!((world.discipline.system(world.now()).frequency_ppm - before).abs() < 1.0);
}

#[test]
fn a_clock_that_may_not_be_set_is_reported_once() {
    let mut world = one_server(6);
    world.failure = Some(ClockFailure::NotPermitted);
    world.clock_error = 1.0;
    world.run(300.0, |_| {});
    let failures: Vec<_> =
        world.events().into_iter().filter(|e| matches!(e, DisciplineEvent::CommandFailed { .. })).collect();
    assert_eq!(failures.len(), 3, "once for each kind of command: {failures:?}");
    assert!((world.clock_error - 1.0).abs() < 1e-9);
    let offset = world.discipline.system(world.now()).system_offset;
    assert!((offset + 1.0).abs() < 1e-3, "what is wrong stays known: {offset}");
    // Permission is granted.
    world.failure = None;
    world.run(340.0, |_| {});
    assert!(world.clock_error.abs() < 1e-3, "{:e}", world.clock_error);
}

#[test]
fn a_clock_that_cannot_be_stepped_is_slewed() {
    let mut world = one_server(6);
    world.clock_error = 0.3;
    world.run(0.05, |_| {});
    while let Some(command) = world.discipline.poll_command() {
        world.discipline.command_applied(world.now(), Ok(command));
    }
    world.discipline.forbid_steps_for_test();
    world.run(30.0, |_| {});
    assert!(world.steps.is_empty() && world.clock_error.abs() < 1e-4, "{:e}", world.clock_error);
}

#[test]
fn an_observer_gives_no_commands() {
    let settings = Settings { steer: false, ..Settings::default() };
    let mut world = World::new(1, settings, &[Server::default()]);
    (world.clock_error, world.oscillator) = (0.02, 5e-5);
    world.run(100.0, |world| assert!(world.discipline.poll_timeout().is_none()));
    assert!(world.status.is_none() && world.frequency == 0.0 && world.steps.is_empty());
    let state = world.discipline.system(world.now());
    assert!((state.system_offset + world.clock_error).abs() < 1e-4);
    assert!(state.synchronized && state.root_dispersion < 0.001, "what is served is corrected by it");
}

#[test]
fn the_saved_frequency_is_used_at_once_and_offered_again() {
    let saved = SavedFrequency { frequency: Frequency::from_ppm(-30.0), skew: 1e-8 };
    let mut discipline = Discipline::new(Settings::default(), Some(saved), MonoTime::ZERO);
    let first = discipline.poll_command();
    assert_eq!(first, Some(ClockCommand::SetFrequency { frequency: Frequency::from_ppm(-30.0) }));
    assert_eq!(discipline.poll_command(), None, "one at a time");
    assert_eq!(discipline.frequency_to_save(), None);

    let mut world = one_server(1);
    world.oscillator = 2e-5;
    world.run(500.0, |_| {});
    let saved = world.discipline.frequency_to_save().expect("known by now");
    assert!((saved.frequency.as_ppm() + 20.0).abs() < 0.1 && saved.skew < 1e-6);
}

#[test]
fn samples_of_an_earlier_run_count_as_soon_as_the_source_answers() {
    for steers in [true, false] {
        let settings = Settings { steer: steers, ..Settings::default() };
        let mut world = World::new(3, settings, &[Server::default()]);
        (world.oscillator, world.clock_error) = (3e-5, if steers { 0.3 } else { 0.0 });
        world.run(700.0, |_| {});
        let saved = world.discipline.frequency_to_save().expect("known by now");
        // What the shell leaves behind.
        if steers {
            world.frequency = world.discipline.system(world.now()).frequency_ppm * 1e-6;
        }
        let samples = world.discipline.samples(world.now(), id(0));
        assert!(samples.len() > 30, "{}", samples.len());
        world.discipline = Discipline::new(settings, Some(saved), world.now());
        world.delay_polls(0, 800.0);
        world.run(799.0, |_| {});
        // The next run begins.
        world.discipline = Discipline::new(settings, Some(saved), world.now());
        world.discipline.add_source(id(0), SourceOptions::default());
        world.drain();
        assert_eq!(world.discipline.restore_samples(world.now(), id(7), &samples), 0, "no such source");
        let taken = world.discipline.restore_samples(world.now(), id(0), &samples);
        assert_eq!(taken, samples.len());
        assert_eq!(world.discipline.restore_samples(world.now(), id(0), &samples), 0, "only once");
        world.discipline.update(world.now());
        assert!(!world.discipline.system(world.now()).synchronized, "not before it answers");
        world.run(800.5, |_| {});
        let state = world.discipline.system(world.now());
        assert!(state.synchronized && state.skew_ppm < 0.1, "{steers}: {state:?}");
        let report = world.discipline.source_report(world.now(), id(0)).expect("it is there");
        assert!(
            report.samples > 20 && (report.offset + world.clock_error).abs() < 2e-5,
            "{steers}: {report:?}"
        );
    }
}

#[test]
fn what_an_earlier_run_knew_counts_when_it_fits_its_samples() {
    let mut world = one_server(4);
    (world.oscillator, world.clock_error) = (3e-5, 0.3);
    // Many more samples than are kept.
    world.run(9_000.0, |_| {});
    let frequency = world.discipline.frequency_to_save().expect("known by now");
    world.frequency = world.discipline.system(world.now()).frequency_ppm * 1e-6;
    let samples = world.discipline.samples(world.now(), id(0));
    let saved = world.discipline.saved_estimate(id(0)).expect("the first exchanges are over");
    let known = world.discipline.source_report(world.now(), id(0)).expect("it is there");
    assert_eq!((samples.len(), world.discipline.saved_estimate(id(7))), (64, None));
    let mut next = |estimate: &SavedEstimate| {
        world.discipline = Discipline::new(Settings::default(), Some(frequency), world.now());
        world.discipline.add_source(id(0), SourceOptions::default());
        assert_eq!(world.discipline.restore_samples(world.now(), id(0), &samples), 64);
        let is_taken = world.discipline.restore_estimate(id(0), estimate);
        let report = world.discipline.source_report(world.now(), id(0)).expect("it is there");
        let refused = world.discipline.poll_event();
        (is_taken, report, refused)
    };
    let (is_taken, report, refused) = next(&saved);
    assert!(is_taken && refused.is_none(), "{refused:?}");
    assert!((report.offset - known.offset).abs() < 1e-9, "{report:?} {known:?}");
    assert!((report.offset_error / known.offset_error - 1.0).abs() < 1e-3, "{report:?} {known:?}");
    let garbled = SavedEstimate(saved.0.replace(" 1", " 7"));
    let (is_taken, report, refused) = next(&garbled);
    assert_eq!((is_taken, refused), (false, Some(DisciplineEvent::SavedEstimateRefused(id(0)))));
    assert!(report.samples == 64 && report.offset_error > known.offset_error, "{report:?}");
}

#[test]
fn an_oscillator_that_is_five_per_cent_wrong_is_mastered_whatever_was_believed_of_it() {
    for (oscillator, believed) in [(0.05, None), (-0.05, None), (0.0, Some(0.05)), (-0.05, Some(-0.02))] {
        let saved = believed
            .map(|frequency| SavedFrequency { frequency: Frequency::from_ratio(frequency), skew: 1e-8 });
        let mut world = one_server(3);
        world.discipline = Discipline::new(Settings::default(), saved, world.now());
        world.discipline.add_source(id(0), SourceOptions::default());
        (world.oscillator, world.clock_error) = (oscillator, -3.0);
        world.run(200.0, |_| {});
        let refuted =
            |event: &DisciplineEvent| matches!(event, DisciplineEvent::SavedFrequencyRefuted { .. });
        assert_eq!(world.events().iter().any(refuted), believed.is_some());
        world.run(260.0, |world| {
            assert!(world.clock_error.abs() < 1e-3, "{oscillator} {believed:?}: {:e}", world.clock_error);
        });
    }
}

#[test]
fn a_good_saved_frequency_is_kept_whatever_a_liar_says() {
    let saved = SavedFrequency { frequency: Frequency::from_ppm(-30.0), skew: 1e-8 };
    let liar = Server { error: 4.0, ..Server::default() };
    let servers = [Server::default(), liar, Server::default(), Server::default()];
    let mut world = World::new(3, Settings::default(), &servers);
    world.discipline = Discipline::new(Settings::default(), Some(saved), world.now());
    (0..servers.len()).for_each(|index| world.discipline.add_source(id(index), SourceOptions::default()));
    (world.oscillator, world.clock_error) = (3e-5, 7.0);
    world.run(7.0, |_| {});
    world.servers[1].error = -4.0;
    world.run(60.0, |_| {});
    let refuted = |event: &DisciplineEvent| matches!(event, DisciplineEvent::SavedFrequencyRefuted { .. });
    assert!(!world.events().iter().any(refuted) && world.clock_error.abs() < 1e-4);
}

#[test]
fn the_kernel_is_told_the_truth() {
    let mut world = one_server(8);
    world.clock_error = 10.0;
    world.run(0.05, |_| {});
    assert!(matches!(
        world.status,
        Some(ClockCommand::SetStatus { synchronized: false, leap: Leap::Unsynchronized, .. })
    ));
    world.run(60.0, |_| {});
    let Some(ClockCommand::SetStatus { synchronized, leap, max_error, est_error, offset }) = world.status
    else {
        panic!("a status is due after each update");
    };
    assert!(synchronized && leap == Leap::NoWarning);
    assert!(max_error < 1e-3 && est_error < max_error && offset.abs() < 1e-4);
    assert!(world.clock_error.abs() < max_error);
}

#[test]
fn the_local_reference_serves_when_there_is_nothing_else() {
    let local = LocalReference { stratum: 7, ..LocalReference::default() };
    let settings = Settings { local: Some(local), ..Settings::default() };
    let mut world = World::new(1, settings, &[Server::default()]);
    world.discipline.update(world.now());
    let state = world.discipline.system(world.now());
    assert!(state.local_active && !state.synchronized && state.stratum == 7 && state.leap == Leap::NoWarning);
    assert_eq!(state.reference_id, [127, 127, 1, 1]);
    world.run(60.0, |_| {});
    let state = world.discipline.system(world.now());
    assert!(!state.local_active && state.synchronized && state.stratum == 2);
    let much_later = world.discipline.system(world.now().add_secs_f64(3e7));
    assert!(much_later.local_active && much_later.stratum == 7);
    let events = world.events();
    assert!(events.contains(&DisciplineEvent::LocalReference { active: false }));

    let begun = MonoTime::from_nanos(1000);
    let discipline = Discipline::new(settings, None, begun);
    assert!(
        discipline.system(MonoTime::from_nanos(999)).local_active,
        "a reading a little older than the start"
    );
    let local = LocalReference { activate: 0.1, ..local };
    let discipline = Discipline::new(Settings { local: Some(local), ..settings }, None, MonoTime::ZERO);
    assert!(!discipline.system(MonoTime::ZERO).local_active, "not before the clock was right once");
}

/// A sample of anything that fits into its types.
fn junk(random: &mut Random, at: MonoTime) -> Sample {
    let duration = |random: &mut Random| {
        let bits = random.bits().cast_signed();
        match random.bits() % 4 {
            0 => NtpDuration::from_bits(bits),
            1 => NtpDuration::from_bits(bits >> 40),
            2 => [NtpDuration::MAX, NtpDuration::MIN, NtpDuration::ZERO]
                [usize::from(bits.unsigned_abs().is_multiple_of(3))],
            _ => NtpDuration::from_bits(bits >> 30),
        }
    };
    Sample {
        at,
        offset: duration(random),
        delay: duration(random),
        dispersion: duration(random),
        root_delay: duration(random),
        root_dispersion: duration(random),
        stratum: random.bits().to_be_bytes()[0] % 18,
        leap: [Leap::NoWarning, Leap::Insert, Leap::Delete, Leap::Unsynchronized]
            [usize::from(random.bits().to_be_bytes()[0] % 8).min(3)],
        reference_id: [0; 4],
        standard_error: 0.0,
        lever: Lever::default(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_samples_however_wild_make_it_panic(seed: u64, sources in 1usize..6, tame: bool) {
        let mut random = Random(seed);
        let settings = Settings {
            max_distance: if tame { 3.0 } else { 1e12 },
            max_jitter: if tame { 1.0 } else { 1e12 },
            step: StepPolicy { running_panic: PanicThreshold::default(), ..StepPolicy::default() },
            ..Settings::default()
        };
        let mut nanos = 5u64;
        let mut discipline = Discipline::new(settings, None, MonoTime::from_nanos(nanos));
        for index in 0..sources {
            discipline.add_source(id(index), SourceOptions::default());
        }
        for _ in 0..200 {
            nanos = nanos.saturating_add(random.bits() >> (20 + random.bits() % 44));
            let now = MonoTime::from_nanos(nanos);
            let source = id(usize::from(random.bits().to_be_bytes()[0]) % sources);
            let at = MonoTime::from_nanos(nanos.saturating_sub(random.bits() >> (30 + random.bits() % 34)));
            discipline.add_sample(now, source, junk(&mut random, at));
            discipline.update(now);
            while let Some(command) = discipline.poll_command() {
                if let ClockCommand::SetStatus { max_error, est_error, offset, .. } = command {
                    prop_assert!(max_error.is_finite() && est_error.is_finite() && offset.is_finite());
                }
                let fails = random.bits().is_multiple_of(5);
                discipline.command_applied(now, if fails { Err(ClockFailure::NotPermitted) } else { Ok(command) });
            }
            let report = discipline.source_report(now, source).unwrap();
            prop_assert!(report.offset.is_finite() && report.skew_ppm.is_finite());
        }
    }
}

#[test]
fn one_wild_answer_does_not_move_the_clock_and_three_do() {
    for (wild, moved) in [(1, false), (2, false), (4, true)] {
        let mut world = one_server(9);
        world.run(600.0, |_| {});
        assert_ne!(world.discipline.poll_advice(world.now(), id(0)), PollAdvice::Shortest);
        world.servers[0].error = 0.05;
        let end = 600.0 + 16.0 * f64::from(wild);
        world.run(end, |_| {});
        if !moved {
            assert_eq!(world.discipline.poll_advice(world.now(), id(0)), PollAdvice::Shortest);
            world.servers[0].error = 0.0;
        }
        world.run(end + 40.0, |_| {});
        let error = world.clock_error - if moved { 0.05 } else { 0.0 };
        assert!(error.abs() < 5e-5, "{wild}: {error:e}");
    }
}

#[test]
fn long_queues_bear_long_intervals_and_short_ones_do_not() {
    let advice = |jitter: f64| {
        let server = Server { base: 1e-3, jitter: (jitter, jitter), ..Server::default() };
        let mut world = World::new(2, Settings::default(), &[server]);
        world.wander = 1e-9;
        world.run(4_000.0, |_| {});
        match world.discipline.poll_advice(world.now(), id(0)) {
            PollAdvice::Interval { seconds, .. } => seconds,
            other => panic!("{other:?}"),
        }
    };
    // (0.4 · jitter / wander)^(2/3), as far as the wander is known after so short a time.
    assert!((10.0..400.0).contains(&advice(1e-6)), "{}", advice(1e-6));
    assert!(advice(1e-3) > 500.0, "{}", advice(1e-3));
}

#[test]
fn refusals_are_counted_where_the_operator_limits_them() {
    let threshold = PanicThreshold { forward: Some(1.0), backward: Some(1.0) };
    let policy = StepPolicy { startup_panic: threshold, running_panic: threshold, ..StepPolicy::default() };
    for (refusals_max, last) in [(None, vec![false]), (Some(2), vec![false, false, true])] {
        let settings = Settings { step: StepPolicy { refusals_max, ..policy }, ..Settings::default() };
        let mut world = World::new(5, settings, &[Server::default()]);
        world.run(200.0, |_| {});
        world.events();
        world.servers[0].error = 7.0;
        world.run(400.0, |_| {});
        let refusals: Vec<StepRefusal> = world
            .events()
            .into_iter()
            .filter_map(|event| match event {
                DisciplineEvent::StepRefused(refusal) => Some(refusal),
                _ => None,
            })
            .take(3)
            .collect();
        assert_eq!(refusals.iter().map(|refusal| refusal.is_last).collect::<Vec<_>>(), last);
        assert!(refusals.iter().all(|one| (one.by - 7.0).abs() < 0.01 && one.limit == 1.0), "{refusals:?}");
        assert!(world.clock_error.abs() < 0.01, "it is left where it was");
    }
}

#[test]
fn a_clock_is_set_by_hand_and_learns_its_frequency_from_the_second_time() {
    let mut world = World::new(1, Settings::default(), &[]);
    (world.clock_error, world.oscillator) = (0.4, 1e-4);
    let type_in = |world: &mut World| {
        let fast = world.clock_error;
        let result = world.discipline.enter_time(world.now(), fast).expect("it is taken");
        world.drain();
        assert!((result.fast - fast).abs() < 1e-12);
        result
    };
    world.run(1000.0, |_| {});
    let first = type_in(&mut world);
    assert_eq!((first.frequency_change, first.frequency), (0.0, 0.0));
    assert!(world.discipline.enter_time(world.now(), 0.0).is_none(), "too soon");
    world.run(4600.0, |world| assert!(world.time < 1020.0 || world.clock_error < 0.4));
    let second = type_in(&mut world);
    assert!((second.frequency_change * 1e6 - 100.0).abs() < 0.5, "{second:?}");
    world.run(8200.0, |world| assert!(world.time < 4620.0 || world.clock_error.abs() < 4e-3));
    assert_eq!(world.discipline.entered_count(), 2);
    let entries = world.discipline.entered_times(world.now());
    assert!(
        entries.iter().all(|entry| entry.slewed.abs() < 4e-3 && entry.residual.abs() < 1e-6),
        "{entries:?}"
    );
    assert!(world.discipline.delete_entered_time(world.now(), 1));
    assert!(!world.discipline.delete_entered_time(world.now(), 1));
    world.discipline.forget_entered_times();
    assert_eq!(world.discipline.entered_count(), 0);
    assert!(world.steps.is_empty());
}

#[test]
fn a_clock_can_be_pushed_by_hand() {
    let mut world = World::new(1, Settings::default(), &[]);
    assert!(
        world.discipline.slew_by_hand(world.now(), 0.25) && !world.discipline.slew_by_hand(world.now(), 1e9)
    );
    world.drain();
    world.run(30.0, |_| {});
    assert!((world.clock_error - 0.25).abs() < 1e-3, "{}", world.clock_error);
    assert!(world.discipline.change_frequency_by_hand(world.now(), Frequency::from_ppm(10.0)));
    world.drain();
    world.run(1030.0, |_| {});
    assert!((world.clock_error - 0.26).abs() < 1e-3, "{}", world.clock_error);
    let mut watched = World::new(1, Settings { steer: false, ..Settings::default() }, &[Server::default()]);
    assert!(!watched.discipline.slew_by_hand(watched.now(), 0.25));
    let entered = watched.discipline.enter_time(watched.now(), 0.25).expect("it is taken");
    assert_eq!((entered.fast, watched.discipline.entered_count()), (0.25, 1));
    assert!((watched.discipline.system(watched.now()).system_offset + 0.25).abs() < 1e-9, "it is known");
    assert!(watched.discipline.poll_command().is_none(), "and left as it is");
}
