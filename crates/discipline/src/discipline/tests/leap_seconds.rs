//! Worlds that pass a leap second. They count on without it: a clock that has passed an inserted one is at -1 s.

use super::world::{Server, World, id};
use crate::{
    ClockCommand, DisciplineEvent, Leap, LeapKnowledge, LeapMode, LeapOutcome, LeapTable, SelectionState,
    Settings, SourceOptions,
};

const MIDNIGHT: i64 = 1_483_228_800; // 1 January 2017
/// The leap second comes so long after the start of the world, seconds.
const COMES: f64 = 1200.0; // as in `world`

fn announcing(leap: Leap) -> Server {
    Server { leap, ..Server::default() }
}

/// A world that starts 20 minutes before midnight.
fn world(mode: LeapMode, servers: &[Server]) -> World {
    let settings = Settings { leap_mode: mode, ..Settings::default() };
    let mut world = World::new(3, settings, servers);
    world.start = Some(MIDNIGHT - 1200);
    world.oscillator = 2e-5;
    world
}

const fn armed(world: &World) -> Leap {
    match world.status {
        Some(ClockCommand::SetStatus { leap, .. }) => leap,
        _ => Leap::Unsynchronized,
    }
}

/// Lets all servers pass the leap second, and the kernel when it was told to.
fn pass(world: &mut World, happens: f64) {
    world.run(happens, |_| {});
    let (insert, kernel) = (world.servers[0].leap == Leap::Insert, armed(world));
    let step = if insert { -1.0 } else { 1.0 };
    for server in &mut world.servers {
        server.error += step;
        server.leap = Leap::NoWarning;
    }
    if kernel == Leap::Insert || kernel == Leap::Delete {
        let before = world.reading().expect("there is a date");
        world.clock_error += step;
        assert!(world.discipline.is_leap_second(before, step + 1e-5), "the step is recognised");
        world.drain();
    }
}

fn samples(world: &World) -> usize {
    world.discipline.source_report(world.now(), id(0)).expect("it exists").samples
}

fn outcomes(world: &mut World) -> Vec<LeapOutcome> {
    let outcome = |event| match event {
        DisciplineEvent::LeapSecondPassed { outcome, .. } => Some(outcome),
        _ => None,
    };
    world.events().into_iter().filter_map(outcome).collect()
}

#[test]
fn samples_survive_a_leap_second_that_the_kernel_makes() {
    for (leap, step, happens) in [(Leap::Insert, -1.0, COMES), (Leap::Delete, 1.0, COMES - 1.0)] {
        let mut world = world(LeapMode::System, &[announcing(leap); 3]);
        world.run(happens - 1.0, |_| {});
        assert_eq!((armed(&world), world.discipline.system(world.now()).leap), (leap, leap));
        let before = samples(&world);
        pass(&mut world, happens);
        assert_eq!(armed(&world), Leap::NoWarning, "the kernel is not to make another one");
        world.run(happens + 600.0, |world| {
            assert!((world.clock_error - step).abs() < 1e-4, "{} at {}", world.clock_error, world.time);
            assert!(world.discipline.system(world.now()).synchronized);
        });
        assert!(samples(&world) >= before.min(20), "{} and {before}", samples(&world));
        assert!(world.steps.is_empty());
        assert_eq!(outcomes(&mut world), [LeapOutcome::ByKernel]);
    }
}

#[test]
fn of_trusted_sources_more_than_half_announce_it_whatever_the_others_say() {
    for (trusted, announcing_one) in [(0, 0), (0, 1)] {
        let mut servers = [Server::default(); 3];
        servers[announcing_one].leap = Leap::Insert;
        let mut world = world(LeapMode::System, &servers);
        let trust = SourceOptions { trust: true, ..SourceOptions::default() };
        world.discipline.set_source_options(id(trusted), trust);
        world.run(COMES - 10.0, |_| {});
        let expected = if trusted == announcing_one { Leap::Insert } else { Leap::NoWarning };
        assert_eq!(armed(&world), expected);
    }
}

#[test]
fn a_step_of_our_own_passes_it_as_well() {
    for (leap, step, happens) in [(Leap::Insert, -1.0, COMES), (Leap::Delete, 1.0, COMES - 1.0)] {
        let mut world = world(LeapMode::Step, &[announcing(leap); 3]);
        pass(&mut world, happens);
        world.run(happens + 0.1, |_| {});
        assert_eq!(world.steps, [step]);
        world.run(happens + 600.0, |world| assert!((world.clock_error - step).abs() < 1e-4));
        assert_eq!((world.steps.len(), outcomes(&mut world)), (1, vec![LeapOutcome::Step]));
    }
}

#[test]
fn a_slew_passes_it_without_any_step() {
    for (leap, step, happens) in [(Leap::Insert, -1.0, COMES), (Leap::Delete, 1.0, COMES - 1.0)] {
        let mut world = world(LeapMode::Slew, &[announcing(leap); 3]);
        pass(&mut world, happens);
        let mut last = world.clock_error;
        world.run(happens + 70.0, |world| {
            assert!((world.clock_error - last).abs() < 0.09, "slewed, not stepped");
            last = world.clock_error;
        });
        world.run(happens + 600.0, |world| assert!((world.clock_error - step).abs() < 1e-4));
        assert!(world.steps.is_empty(), "{:?}", world.steps);
        assert_eq!(outcomes(&mut world), [LeapOutcome::Slew]);
    }
}

#[test]
fn one_that_is_ignored_is_a_step_that_the_sources_ask_for() {
    let mut world = world(LeapMode::Ignore, &[announcing(Leap::Insert); 3]);
    pass(&mut world, COMES);
    world.run(COMES + 5.0, |world| assert!(world.clock_error.abs() < 1e-4));
    world.run(COMES + 600.0, |_| {});
    assert!((world.clock_error + 1.0).abs() < 1e-3 && world.steps.len() == 1, "{:?}", world.steps);
    assert_eq!(outcomes(&mut world), [LeapOutcome::Ignored]);
}

#[test]
fn a_kernel_that_does_nothing_is_made_up_for() {
    let mut world = world(LeapMode::System, &[announcing(Leap::Insert); 3]);
    world.run(COMES, |_| {});
    world.servers.iter_mut().for_each(|server| server.error -= 1.0);
    world.run(COMES + 60.0, |_| {});
    assert!((world.clock_error + 1.0).abs() < 1e-3, "{}", world.clock_error);
    assert_eq!(outcomes(&mut world), [LeapOutcome::NotByKernel]);
    assert!(samples(&world) > 20, "the samples were moved along");
}

#[test]
fn two_of_seven_that_lie_about_a_leap_second_change_nothing() {
    let honest = Server::default();
    for lie in [Leap::Insert, Leap::Delete] {
        let mut servers = [honest; 7];
        servers[..2].fill(announcing(lie));
        let mut world = world(LeapMode::System, &servers);
        world.run(COMES + 100.0, |world| {
            assert_ne!(armed(world), lie);
            assert_ne!(world.discipline.system(world.now()).leap, lie);
            assert!(world.clock_error.abs() < 1e-3 || world.time < 60.0);
        });
        assert_eq!(outcomes(&mut world), []);
    }
    // And two that keep it secret.
    let mut servers = [announcing(Leap::Insert); 7];
    servers[5..].fill(honest);
    let mut world = world(LeapMode::System, &servers);
    pass(&mut world, COMES);
    world.run(COMES + 300.0, |world| assert!((world.clock_error + 1.0).abs() < 1e-4));
}

#[test]
fn a_server_that_does_not_pass_it_becomes_a_falseticker() {
    let mut world = world(LeapMode::System, &[announcing(Leap::Insert); 4]);
    pass(&mut world, COMES);
    world.servers[3].error += 1.0;
    world.run(COMES + 300.0, |world| assert!((world.clock_error + 1.0).abs() < 1e-4));
    let report = world.discipline.source_report(world.now(), id(3)).expect("it exists");
    assert_eq!(report.state, SelectionState::Falseticker);
}

/// Lets one server smear as most do: a second in 24 hours.
fn smear(world: &mut World, index: usize, until: f64, mut watch: impl FnMut(&World)) {
    while world.time < until {
        let next = (world.time + 8.0).min(until);
        world.servers[index].error -= (next - world.time) / 86_400.0;
        world.run(next, &mut watch);
    }
}

#[test]
fn a_source_that_drifts_away_as_smears_do_is_not_mixed_with_the_others() {
    let mut servers = [announcing(Leap::Insert); 4];
    servers[3].leap = Leap::NoWarning;
    let mut world = world(LeapMode::System, &servers);
    world.run(300.0, |_| {});
    smear(&mut world, 3, 1000.0, |world| {
        assert!(world.clock_error.abs() < 1e-4, "{} at {}", world.clock_error, world.time);
    });
    let state = |world: &World| world.discipline.source_report(world.now(), id(3)).map(|report| report.state);
    assert_eq!(state(&world), Some(SelectionState::Smeared));
    assert!(world.events().contains(&DisciplineEvent::SmearedSource(id(3))));
    // All but the one that smears pass the leap second; it comes in from 0.5 s on the other side.
    smear(&mut world, 3, COMES, |_| {});
    let smeared = world.servers[3].error;
    pass(&mut world, COMES);
    world.servers[3].error = smeared;
    smear(&mut world, 3, COMES + 600.0, |world| assert!((world.clock_error + 1.0).abs() < 1e-4));
    assert_eq!(state(&world), Some(SelectionState::Smeared));
}

#[test]
fn without_a_leap_second_a_drift_is_only_a_drift() {
    let mut world = world(LeapMode::System, &[Server::default(); 4]);
    world.run(300.0, |_| {});
    smear(&mut world, 3, 1000.0, |_| {});
    let report = world.discipline.source_report(world.now(), id(3)).expect("it exists");
    assert_ne!(report.state, SelectionState::Smeared);
}

#[test]
fn of_smeared_sources_and_others_the_greater_number_is_followed() {
    for smeared in 0..=4 {
        let mut servers = [Server::default(); 4];
        servers[..smeared].fill(Server { error: 0.02, ..Server::default() });
        let mut world = world(LeapMode::System, &servers);
        let declared = SourceOptions { smeared: true, ..SourceOptions::default() };
        (0..smeared).for_each(|index| world.discipline.set_source_options(id(index), declared));
        world.run(300.0, |_| {});
        let expected = if smeared > 2 { 0.02 } else { 0.0 };
        assert!((world.clock_error - expected).abs() < 1e-4, "{smeared}: {}", world.clock_error);
        let date = world.reading().expect("there is a date").system;
        assert_eq!(world.discipline.leap_status(date).follows_smeared, smeared > 2);
    }
}

#[test]
fn smeared_time_has_no_leap_seconds_whatever_the_table_says() {
    let mut world = world(LeapMode::System, &[Server::default(); 3]);
    world.discipline.set_leap_table(Some(table()));
    for index in 0..3 {
        world.discipline.set_smeared(id(index), true);
    }
    world.run(COMES + 100.0, |world| {
        assert!(matches!(armed(world), Leap::NoWarning | Leap::Unsynchronized));
        assert!(world.clock_error.abs() < 1e-3 || world.time < 60.0);
    });
    assert_eq!(outcomes(&mut world), []);
}

fn table() -> LeapTable {
    LeapTable::new(vec![(0, 36), (MIDNIGHT, 37)], Some(MIDNIGHT + 1_000_000)).expect("it is in order")
}

#[test]
fn a_table_announces_what_the_sources_do_not_and_the_kernel_is_told_tai() {
    let mut world = world(LeapMode::System, &[Server::default(); 3]);
    world.discipline.set_leap_table(Some(table()));
    world.run(0.05, |_| {});
    assert_eq!(world.tai_offset, None, "nobody knows what time it is");
    world.run(COMES - 10.0, |_| {});
    assert_eq!((armed(&world), world.tai_offset), (Leap::Insert, Some(36)));
    let status = world.discipline.leap_status(world.reading().expect("there is a date").system);
    assert_eq!(status.next.map(|known| known.knowledge), Some(LeapKnowledge::Table));
    world.servers[0].leap = Leap::Insert;
    pass(&mut world, COMES);
    assert_eq!(world.tai_offset, Some(37), "at once, though the last second is counted again");
    world.run(COMES + 100.0, |world| assert!((world.clock_error + 1.0).abs() < 1e-4));
    let is_about_the_kernel = |event: &DisciplineEvent| {
        matches!(event, DisciplineEvent::KernelLeapSecond(_) | DisciplineEvent::TaiOffsetSet(_))
    };
    let told: Vec<DisciplineEvent> = world.events().into_iter().filter(is_about_the_kernel).collect();
    let [first, second, .., last] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        (first, second),
        (&DisciplineEvent::TaiOffsetSet(36), &DisciplineEvent::KernelLeapSecond(Leap::Insert))
    );
    assert_eq!(last, &DisciplineEvent::KernelLeapSecond(Leap::NoWarning));
    let again = DisciplineEvent::TaiOffsetSet(37);
    assert!(!told.contains(&again), "the kernel has counted the leap second that it made: {told:?}");
}

#[test]
fn who_may_not_steer_asks_for_nothing_and_measures_on() {
    let settings = Settings { steer: false, ..Settings::default() };
    let mut world = World::new(3, settings, &[announcing(Leap::Insert); 3]);
    world.start = Some(MIDNIGHT - 1200);
    world.run(COMES, |_| {});
    world.servers.iter_mut().for_each(|server| server.error -= 1.0);
    let before = samples(&world);
    world.run(COMES + 100.0, |_| {});
    assert_eq!((world.status, world.tai_offset), (None, None));
    let state = world.discipline.system(world.now());
    assert!(state.synchronized && (state.system_offset + 1.0).abs() < 1e-3, "{}", state.system_offset);
    assert!(samples(&world) >= before.min(20));
}
