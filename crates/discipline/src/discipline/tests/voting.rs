//! Who is believed.

use super::world::{Server, World, id};
use crate::*;
use chime_time::NtpDuration;

fn servers(errors: &[f64]) -> Vec<Server> {
    errors
        .iter()
        .map(|&error| Server { error, base: 1e-3, jitter: (1e-4, 1e-4), ..Server::default() })
        .collect()
}

fn world(errors: &[f64]) -> World {
    let mut world = World::new(11, Settings::default(), &servers(errors));
    (world.oscillator, world.wander) = (2e-5, 1e-9);
    world
}

fn state(world: &World, index: usize) -> SelectionState {
    world.discipline.source_report(world.now(), id(index)).unwrap().state
}

#[test]
fn two_falsetickers_of_five_are_outvoted() {
    let mut world = world(&[0.0, 1.0, 0.0, -1.0, 0.0]);
    world.run(600.0, |world| {
        assert!(world.time < 20.0 || world.clock_error.abs() < 1e-3, "{:e}", world.clock_error);
    });
    assert_eq!(state(&world, 1), SelectionState::Falseticker);
    assert_eq!(state(&world, 3).sign(), 'x');
    let signs: Vec<char> = (0..5).map(|index| state(&world, index).sign()).collect();
    assert_eq!(signs.iter().filter(|&&sign| sign == '*').count(), 1, "{signs:?}");
    let events = world.events();
    assert!(events.contains(&DisciplineEvent::Falseticker(id(1))));
    assert!(!events.iter().any(|event| matches!(event, DisciplineEvent::NoMajority { .. })));
}

#[test]
fn three_falsetickers_of_five_prevent_synchronisation() {
    let mut world = world(&[0.0, 1.0, 0.0, -1.0, 2.0]);
    world.oscillator = 0.0;
    world.run(600.0, |_| {});
    assert!(world.steps.is_empty() && world.clock_error.abs() < 1e-4, "left alone");
    assert!(!world.discipline.system(world.now()).synchronized);
    let told =
        world.events().into_iter().filter(|event| *event == DisciplineEvent::NoMajority { selectable: 5 });
    assert_eq!(told.count(), 1);
}

#[test]
fn when_the_majority_is_lost_the_clock_is_left_alone_and_its_bound_grows() {
    let mut world = world(&[0.0, 0.0, 0.0, 1.0, -1.0]);
    world.run(600.0, |_| {});
    let (steps, before) = (world.steps.len(), world.discipline.system(world.now()));
    assert!(before.synchronized);
    // The run test needs some samples until the liar's line is where the liar is.
    world.servers[2].error = 50.0;
    world.run(2000.0, |world| assert!(world.clock_error.abs() < 2e-3, "{:e}", world.clock_error));
    let after = world.discipline.system(world.now());
    assert_eq!(world.steps.len(), steps);
    assert!(after.selected.is_none() && after.root_dispersion > before.root_dispersion);
    assert!(world.events().iter().any(|event| matches!(event, DisciplineEvent::NoMajority { .. })));
}

#[test]
fn who_comes_back_first_after_an_outage_waits_for_the_others() {
    let mut world = world(&[1.0, 0.0, 0.0, 0.0]);
    world.run(600.0, |_| {});
    let steps = world.steps.len();
    for index in 0..4 {
        world.discipline.set_reach(id(index), 0);
    }
    world.discipline.update(world.now());
    assert!(world.events().contains(&DisciplineEvent::CannotSynchronise));
    // The liar is asked first.
    world.run(900.0, |world| assert!(world.clock_error.abs() < 1e-3, "{:e}", world.clock_error));
    assert_eq!(world.steps.len(), steps);
    assert!(
        world.discipline.system(world.now()).selected.is_some(),
        "the others were heard and are followed"
    );
    // Alone it is believed in the end, as after a start.
    for index in 0..4 {
        world.discipline.set_reach(id(index), 0);
    }
    world.discipline.update(world.now());
    world.servers.truncate(1);
    world.run(1000.0, |_| {});
    assert!((world.clock_error - 1.0).abs() < 1e-3, "{:e}", world.clock_error);
}

#[test]
fn who_is_heard_first_after_an_interruption_waits_for_those_who_were_there() {
    let mut world = world(&[3.0, 0.0, 0.0]);
    world.run(600.0, |_| {});
    world.steps.clear();
    for interrupt in [
        |world: &mut World| world.discipline.suspended(world.now(), NtpDuration::from_seconds(900)),
        |world: &mut World| {
            world.discipline.clock_stepped_externally(world.now(), NtpDuration::from_seconds(0));
        },
    ] {
        interrupt(&mut world);
        let from = world.time;
        world.burst();
        // The honest ones have other addresses now, which takes a while to find out.
        world.delay_polls(1, from + 40.0);
        world.run(from + 100.0, |_| {});
        assert!(world.steps.is_empty() && world.clock_error.abs() < 1e-3, "{:?}", world.steps);
        assert!(world.discipline.system(world.now()).synchronized);
    }
    // When they never come, whoever is there decides.
    world.discipline.suspended(world.now(), NtpDuration::from_seconds(900));
    let from = world.time;
    world.burst();
    world.delay_polls(1, from + 1e6);
    world.run(from + 60.0, |_| {});
    assert!(world.steps.is_empty());
    world.run(from + 100.0, |_| {});
    assert_eq!(world.steps.len(), 1);
}

#[test]
fn too_few_agreeing_sources_do_not_move_the_clock_and_enough_do() {
    for (count, moved) in [(2, false), (3, true)] {
        let settings = Settings { minimum_agreeing_sources: 3, ..Settings::default() };
        let mut world = World::new(1, settings, &servers(&vec![0.0; count]));
        world.clock_error = 1.0;
        world.run(60.0, |_| {});
        assert_eq!(world.clock_error.abs() < 1e-3, moved);
        assert_eq!(state(&world, 0).letter() == 'W', !moved);
        let told = world.events().contains(&DisciplineEvent::TooFewSources { agreeing: 2, required: 3 });
        assert_eq!(told, !moved);
    }
}

#[test]
fn the_first_source_waits_for_the_others_but_not_for_ever() {
    // One source answers at once and lies; the honest four are two seconds late.
    let mut late = world(&[5.0, 0.0, 0.0, 0.0, 0.0]);
    late.run(2.0, |_| {});
    late.delay_polls(1, 4.0);
    late.run(30.0, |_| {});
    assert!(late.steps.is_empty(), "never followed the liar: {:?}", late.steps);

    // The others never answer.
    let mut alone = world(&[5.0, 0.0, 0.0, 0.0, 0.0]);
    alone.delay_polls(1, 1e9);
    alone.run(14.0, |_| {});
    assert!(alone.steps.is_empty());
    alone.run(20.0, |_| {});
    assert_eq!(alone.steps.len(), 1);
}

#[test]
fn a_peer_that_has_no_time_yet_is_not_waited_for() {
    for is_peer in [true, false] {
        let mut world = world(&[5.0, 0.0]);
        world.servers[1].leap = Leap::Unsynchronized;
        if is_peer {
            world.discipline.set_peer(id(1));
        }
        world.run(9.0, |_| {});
        assert_eq!(world.steps.len(), usize::from(is_peer));
    }
    // One that was not heard yet may have some.
    let mut world = world(&[5.0, 0.0]);
    world.discipline.set_peer(id(1));
    world.delay_polls(1, 1e9);
    world.run(9.0, |_| {});
    assert!(world.steps.is_empty());
}

#[test]
fn an_excluded_source_is_watched_but_never_followed() {
    let mut world = world(&[0.5]);
    let options = SourceOptions { no_select: true, ..SourceOptions::default() };
    world.discipline.set_source_options(id(0), options);
    world.run(100.0, |_| {});
    let report = world.discipline.source_report(world.now(), id(0)).unwrap();
    assert_eq!(report.state.letter(), 'N');
    assert!((report.offset - 0.5).abs() < 0.01 && report.samples > 3);
    assert!(world.clock_error.abs() < 0.01);
}

#[test]
fn trusted_sources_outvote_any_number_of_others() {
    let mut world = world(&[0.0, 0.0, 0.0, 0.2]);
    let options = SourceOptions { trust: true, ..SourceOptions::default() };
    world.discipline.set_source_options(id(3), options);
    world.run(100.0, |_| {});
    assert!((world.clock_error - 0.2).abs() < 1e-3);
    assert_eq!(state(&world, 0).letter(), 'T');
    assert_eq!(state(&world, 3).letter(), '*');
}

#[test]
fn a_required_source_must_be_there() {
    let mut world = world(&[0.5, 0.5]);
    let options = SourceOptions { require: true, ..SourceOptions::default() };
    world.discipline.set_source_options(id(1), options);
    world.delay_polls(1, 100.0);
    world.run(90.0, |_| {});
    assert!(world.clock_error.abs() < 0.01);
    assert_eq!(state(&world, 0).letter(), 'W');
    world.run(150.0, |_| {});
    assert!((world.clock_error - 0.5).abs() < 1e-3);
}

#[test]
fn a_preferred_truechimer_is_followed_alone() {
    let mut world = world(&[0.0, 0.0, 1e-3]);
    let options = SourceOptions { prefer: true, ..SourceOptions::default() };
    world.discipline.set_source_options(id(2), options);
    world.run(200.0, |_| {});
    assert_eq!(state(&world, 2).letter(), '*');
    assert_eq!(state(&world, 0).letter(), 'P');
    assert!((world.clock_error - 1e-3).abs() < 3e-4);
}

#[test]
fn sources_of_like_quality_do_not_take_turns() {
    let mut world = world(&[0.0; 4]);
    world.run(10_000.0, |_| {});
    let selections =
        world.events().into_iter().filter(|event| matches!(event, DisciplineEvent::Selected(_))).count();
    assert!(selections <= 2, "{selections}");
}

#[test]
fn a_much_better_source_takes_over() {
    let mut world = world(&[0.0, 0.0]);
    world.servers[0].base = 0.05;
    world.servers[1].base = 1e-4;
    world.servers[1].jitter = (1e-5, 1e-5);
    world.delay_polls(1, 60.0);
    world.run(50.0, |_| {});
    assert_eq!(world.discipline.system(world.now()).selected, Some(id(0)));
    world.run(200.0, |_| {});
    assert_eq!(world.discipline.system(world.now()).selected, Some(id(1)));
    assert_eq!(state(&world, 0).letter(), 'D');
}

#[test]
fn an_unreachable_source_is_not_followed_and_the_others_go_on() {
    let mut world = world(&[0.0, 0.0, 0.0]);
    world.run(100.0, |_| {});
    let selected = world.discipline.system(world.now()).selected.unwrap();
    world.discipline.set_reach(selected, 0);
    world.discipline.update(world.now());
    let now = world.discipline.system(world.now()).selected;
    assert!(now.is_some() && now != Some(selected));
    assert_eq!(world.discipline.source_report(world.now(), selected).unwrap().state.letter(), 'S');
}

#[test]
fn no_source_left_is_told_once_and_the_clock_runs_on() {
    let mut world = world(&[0.0]);
    world.run(100.0, |_| {});
    world.events();
    for _ in 0..3 {
        world.discipline.set_reach(id(0), 0);
        world.discipline.update(world.now());
    }
    assert_eq!(world.events(), [DisciplineEvent::CannotSynchronise]);
    assert!(world.discipline.system(world.now()).synchronized, "its error bound is still small");
}

#[test]
fn an_unsynchronised_server_is_not_believed() {
    for (stratum, leap) in [(16, Leap::NoWarning), (0, Leap::NoWarning), (2, Leap::Unsynchronized)] {
        let server = Server { stratum, leap, error: 1.0, ..Server::default() };
        let mut world = World::new(1, Settings::default(), &[server]);
        world.run(100.0, |_| {});
        assert!(world.clock_error == 0.0 && world.steps.is_empty());
    }
}

#[test]
fn a_leap_second_needs_more_than_half_of_the_truechimers() {
    for (announcing, expected) in [(1, Leap::NoWarning), (2, Leap::Insert)] {
        let mut world = world(&[0.0; 3]);
        world.start = Some(1_483_228_800 - 1000); // 1000 s before the leap second of 2016
        (0..announcing).for_each(|index| world.servers[index].leap = Leap::Insert);
        world.run(100.0, |_| {});
        assert_eq!(world.discipline.system(world.now()).leap, expected);
        let Some(ClockCommand::SetStatus { leap, .. }) = world.status else { panic!("status is told") };
        assert_eq!(leap, expected);
    }
}

#[test]
fn an_unknown_or_old_sample_is_said_to_be_so() {
    let mut world = world(&[0.0]);
    world.run(1.0, |_| {});
    let sample = Sample {
        at: world.now(),
        offset: chime_time::NtpDuration::ZERO,
        delay: chime_time::NtpDuration::ZERO,
        dispersion: chime_time::NtpDuration::ZERO,
        root_delay: chime_time::NtpDuration::ZERO,
        root_dispersion: chime_time::NtpDuration::ZERO,
        stratum: 1,
        leap: Leap::NoWarning,
        reference_id: [0; 4],
        standard_error: 0.0,
        lever: Lever::default(),
    };
    let now = world.now();
    assert_eq!(world.discipline.add_sample(now, id(9), sample), SampleVerdict::UnknownSource);
    assert_eq!(world.discipline.add_sample(now, id(0), sample), SampleVerdict::Stored);
    assert_eq!(world.discipline.add_sample(now, id(0), sample), SampleVerdict::NotNewer);
    let far = Sample { at: now.add_secs_f64(1.0), offset: chime_time::NtpDuration::MAX, ..sample };
    assert_eq!(world.discipline.add_sample(now, id(0), far), SampleVerdict::OutOfRange);
}

#[test]
fn a_source_that_fell_silent_is_remembered_for_as_many_polls_as_is_wished() {
    for polls_max in [0, 5] {
        let mut world = world(&[0.0, 0.0]);
        let options = SourceOptions { unreachable_polls_max: polls_max, ..SourceOptions::default() };
        world.discipline.add_source(id(0), options);
        world.run(2000.0, |_| {});
        let mut remembered = 0;
        world.servers[0].poll = 1e9;
        while remembered < 20 {
            world.discipline.set_reach(id(0), 0);
            world.discipline.update(world.now());
            if state(&world, 0) == SelectionState::Stale {
                break;
            }
            remembered += 1;
        }
        assert_eq!(remembered, polls_max, "of {polls_max}");
    }
}

#[test]
fn no_more_samples_count_than_are_wished() {
    let seen = |samples_max: u32| {
        let mut world = world(&[0.0]);
        let of_its_own = samples_max.is_multiple_of(2);
        let options =
            SourceOptions { samples_max: of_its_own.then_some(samples_max), ..SourceOptions::default() };
        world.discipline.set_source_options(id(0), options);
        let of_all = Settings {
            samples_max: if of_its_own { 7 } else { samples_max },
            ..*world.discipline.settings()
        };
        world.discipline.set_settings(of_all);
        let mut most = 0;
        world.run(5000.0, |world| {
            let report = world.discipline.source_report(world.now(), id(0)).expect("it is a source");
            most = most.max(report.samples);
            let longest = report.samples.saturating_sub(1) as f64 * 64.0;
            assert!(report.span <= longest + 1.0 && report.runs <= report.samples, "{report:?}");
        });
        assert!(world.clock_error.abs() < 1e-3, "{samples_max}: {}", world.clock_error);
        most
    };
    // The odd ones are of all sources, the even ones of this one.
    assert_eq!([1, 2, 5, 6, 0, 1000, 1001].map(seen), [1, 2, 5, 6, 64, 64, 64]);
}

#[test]
fn what_is_older_than_all_that_others_know_is_not_remembered() {
    let mut world = world(&[0.0, 0.0]);
    let options = SourceOptions { unreachable_polls_max: 1000, ..SourceOptions::default() };
    world.discipline.add_source(id(0), options);
    world.run(2000.0, |_| {});
    world.discipline.set_reach(id(0), 0);
    world.discipline.reset_source(id(1));
    world.discipline.update(world.now());
    assert_eq!(state(&world, 0), SelectionState::Stale);
}

#[test]
fn only_strata_that_are_wanted_are_selectable() {
    let settings = Settings { strata: (2, 4), ..Settings::default() };
    let strata = [1, 2, 4, 5].map(|stratum| Server { stratum, ..Server::default() });
    let mut world = World::new(3, settings, &strata);
    world.discipline.add_source(id(3), SourceOptions { stratum_min: 3, ..SourceOptions::default() });
    world.run(100.0, |_| {});
    assert_eq!(
        (state(&world, 0), state(&world, 3)),
        (SelectionState::WrongStratum, SelectionState::WrongStratum)
    );
    assert!(state(&world, 1).is_truechimer() && state(&world, 2).is_truechimer());
    world.discipline.add_source(id(0), SourceOptions { stratum_min: 3, ..SourceOptions::default() });
    world.run(200.0, |_| {});
    assert!(state(&world, 0).is_truechimer(), "it counts as stratum 3: {:?}", state(&world, 0));
}

#[test]
fn a_server_that_does_nothing_but_jump_is_followed_no_more() {
    let mut world = world(&[0.0]);
    world.run(200.0, |_| {});
    let mut away = 1.0;
    for _ in 0..60 {
        away = (away * 7.0 + 13.0) % 101.0;
        world.servers[0].error = away;
        world.run(world.time + 15.0, |_| {});
    }
    assert!(matches!(state(&world, 0), SelectionState::Jittery | SelectionState::MissingSamples));
    world.run(world.time + 600.0, |_| {});
    assert_eq!(state(&world, 0), SelectionState::Selected, "it stays where it is");
}

#[test]
fn that_there_is_nobody_is_told_after_eight_polls_of_a_start() {
    let mut world =
        World::new(1, Settings::default(), &[Server { poll: 1e9, burst: 0, ..Server::default() }]);
    for polls in 1..=9 {
        world.discipline.set_reach(id(0), 0);
        world.discipline.update(world.now());
        let told = world.events().contains(&DisciplineEvent::CannotSynchronise);
        assert_eq!(told, polls == 8, "{polls}");
    }
}

fn local(change: impl FnOnce(&mut LocalReference)) -> Settings {
    let mut local = LocalReference { stratum: 5, ..LocalReference::default() };
    change(&mut local);
    Settings { local: Some(local), ..Settings::default() }
}

#[test]
fn the_local_reference_waits_as_long_as_it_is_told_to() {
    let settings = local(|local| (local.wait_unsynchronized, local.distance) = (100.0, 1e-9));
    let mut world = World::new(1, settings, &[Server { poll: 1e9, burst: 0, ..Server::default() }]);
    let begin = world.now();
    let is_local =
        |world: &World, after: f64| world.discipline.system(begin.add_secs_f64(after)).local_active;
    assert!(!is_local(&world, 99.0) && is_local(&world, 101.0));
    assert_eq!(world.discipline.poll_timeout(), Some(begin.add_secs_f64(100.0)));
    let settings = local(|local| (local.wait_synchronized, local.distance) = (50.0, 1e-9));
    world = World::new(1, settings, &[Server::default()]);
    world.run(100.0, |_| {});
    let now = world.now();
    let is_local = |world: &World, after: f64| world.discipline.system(now.add_secs_f64(after)).local_active;
    assert!(!is_local(&world, 0.0) && is_local(&world, 51.0));
}

#[test]
fn orphans_follow_the_one_with_the_lowest_identifier_unless_it_is_themselves() {
    for (ours, followed) in [([10, 0, 0, 9], Some(id(1))), ([10, 0, 0, 1], None)] {
        let servers = [5, 5].map(|stratum| Server { stratum, ..Server::default() });
        let mut world = World::new(1, local(|local| local.orphan = true), &servers);
        for (index, last) in [(0, 7), (1, 3)] {
            world.reference_ids.insert(index, [10, 0, 0, last]);
            world.discipline.set_our_reference_id(id(index), ours);
        }
        world.run(100.0, |_| {});
        assert_eq!(world.discipline.system(world.now()).selected, followed);
        assert_eq!(state(&world, 0), SelectionState::Orphan);
    }
    let servers = [5, 2].map(|stratum| Server { stratum, ..Server::default() });
    let mut world = World::new(1, local(|local| local.orphan = true), &servers);
    world.run(100.0, |_| {});
    assert_eq!(world.discipline.system(world.now()).selected, Some(id(1)), "a better one is there");
}
