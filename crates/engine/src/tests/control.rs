//! Commands of the operator.

use super::world::{World, at, config, good_ke, good_nts, good_plain, ip};
use crate::{
    AuthenticationPolicy, Command, Config, Event, RemovalReason, Request, SourceConfig, SourceMatch,
    SourceMode, SourceRefusal,
};
use chime_discipline::ClockCommand;

fn plain_world() -> World {
    let mut world = World::new(vec![SourceConfig::server("192.0.2.1"), SourceConfig::server("192.0.2.2")]);
    for address in ["192.0.2.1:123", "192.0.2.2:123"] {
        world.server(address, good_plain);
    }
    world.run_for(100.0);
    world
}

fn first() -> SourceMatch {
    SourceMatch::Address { address: ip("192.0.2.1"), mask: ip("255.255.255.255") }
}

#[test]
fn offline_stops_polling_and_online_starts_it_with_a_burst() {
    let mut world = plain_world();
    world.command(Command::Offline(first()));
    let before = world.sent.len();
    world.run_for(600.0);
    assert!(world.sent[before..].iter().all(|(_, to, _)| *to == at("192.0.2.2:123")));
    let activity = world.report().activity;
    assert_eq!((activity.online, activity.offline), (1, 1));
    let before = world.sent.len();
    world.command(Command::Online(first()));
    world.run_for(8.0);
    let again = world.sent[before..].iter().filter(|(_, to, _)| *to == at("192.0.2.1:123")).count();
    assert!(again >= 4, "{again}");
}

#[test]
fn commands_find_their_sources() {
    let world = plain_world();
    assert_eq!(world.engine.count_matching(&SourceMatch::All), 2);
    assert_eq!(world.engine.count_matching(&first()), 1);
    assert_eq!(world.engine.count_matching(&SourceMatch::Name("192.0.2.2".to_owned())), 1);
    assert_eq!(world.engine.count_matching(&SourceMatch::Name("192.0.2.3".to_owned())), 0);
    let net = SourceMatch::Address { address: ip("192.0.2.0"), mask: ip("255.255.255.0") };
    assert_eq!(world.engine.count_matching(&net), 2);
}

#[test]
fn a_burst_ends_by_itself() {
    let mut world = plain_world();
    let before = world.sent.len();
    world.command(Command::Burst { matching: first(), good: 3, total: 6 });
    world.run_for(7.0);
    let burst = world.sent[before..].iter().filter(|(_, to, _)| *to == at("192.0.2.1:123")).count();
    assert_eq!(burst, 3);
    world.command(Command::Offline(SourceMatch::All));
    world.command(Command::Burst { matching: first(), good: 2, total: 2 });
    assert_eq!(world.report().activity.burst_offline, 1);
    world.run_for(10.0);
    let before = world.sent.len();
    world.run_for(200.0);
    assert_eq!(world.sent.len(), before, "offline again after the burst");
    assert_eq!(world.report().activity.offline, 2);
}

#[test]
fn sources_come_and_go() {
    let mut world = plain_world();
    world.server("192.0.2.3:123", good_plain);
    world.command(Command::AddSource(Box::new(SourceConfig::server("192.0.2.3"))));
    world.run_for(10.0);
    assert_eq!(world.report().sources.len(), 3);
    world.command(Command::RemoveSource(ip("192.0.2.1")));
    let names: Vec<String> = world.report().sources.iter().map(|source| source.name.clone()).collect();
    assert_eq!(names, ["192.0.2.2", "192.0.2.3"]);
    assert_eq!(world.engine.config().sources.len(), 2);
    world.run_for(100.0);
    assert!(world.report().sources.iter().all(|source| source.reach > 0));
}

#[test]
fn the_removal_of_a_pool_member_leaves_the_pool() {
    let pool = SourceConfig {
        mode: SourceMode::Pool { count: 2, ignore: Vec::new() },
        ..SourceConfig::server("pool.example")
    };
    let mut world = World::new(vec![pool]);
    world.name("pool.example", &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    for address in ["192.0.2.1:123", "192.0.2.2:123", "192.0.2.3:123"] {
        world.server(address, good_plain);
    }
    world.run_for(60.0);
    let victim = world.source().remote.expect("an address").ip();
    world.command(Command::RemoveSource(victim));
    world.run_for(120.0);
    let report = world.report();
    assert_eq!(report.activity.online, 2);
    assert!(report.sources.iter().all(|source| source.remote.map(|remote| remote.ip()) != Some(victim)));
}

#[test]
fn a_reload_keeps_what_did_not_change() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.2:123", good_plain);
    world.run_for(100.0);
    let id = world.source().id;
    let changed = vec![SourceConfig::nts("nts.example"), SourceConfig::server("192.0.2.2")];
    world.command(Command::Reconfigure(Box::new(config(changed))));
    world.run_for(100.0);
    assert_eq!(world.establishments.len(), 1);
    assert_eq!((world.source().id, world.report().sources.len()), (id, 2));
    assert!(world.events.contains(&Event::Reconfigured { added: 1, removed: 0, kept: 1 }));
    let other = SourceConfig { iburst: false, ..SourceConfig::nts("nts.example") };
    world.command(Command::Reconfigure(Box::new(config(vec![other]))));
    world.run_for(100.0);
    assert!(world.events.contains(&Event::Reconfigured { added: 1, removed: 2, kept: 0 }));
    assert_eq!(world.establishments.len(), 2);
}

#[test]
fn sources_that_are_exchanged_go_though_they_were_changed_and_leave_the_others_alone() {
    let mut world = World::with_nts_server();
    world.run_for(100.0);
    let id = world.source().id;
    let [one, two, three] = ["192.0.2.2", "192.0.2.3", "192.0.2.4"].map(SourceConfig::server);
    let exchange = |gone: &[&SourceConfig], fresh: &[&SourceConfig]| Command::ExchangeSources {
        gone: gone.iter().map(|config| (*config).clone()).collect(),
        fresh: fresh.iter().map(|config| (*config).clone()).collect(),
    };
    let names = |world: &World| -> Vec<String> {
        world.report().sources.iter().map(|source| source.name.clone()).collect()
    };
    world.command(exchange(&[], &[&one, &two]));
    assert_eq!(names(&world), ["nts.example", "192.0.2.2", "192.0.2.3"]);
    world.run_for(1.0);
    let change = crate::SourceChange::PollTarget(17);
    world.command(Command::Modify {
        matching: SourceMatch::Address {
            address: "192.0.2.2".parse().expect("an address"),
            mask: [255; 4].into(),
        },
        change,
    });
    world.command(Command::RemoveSource("192.0.2.3".parse().expect("an address")));
    world.command(exchange(&[&one, &two], &[&three]));
    assert_eq!(names(&world), ["nts.example", "192.0.2.4"]);
    assert_eq!((world.source().id, world.establishments.len()), (id, 1));
    world.run_for(1.0);
    let exchanges = world.events.iter().filter(|event| matches!(event, Event::Reconfigured { .. }));
    assert_eq!(
        exchanges.cloned().collect::<Vec<_>>(),
        [
            Event::Reconfigured { added: 2, removed: 0, kept: 1 },
            Event::Reconfigured { added: 1, removed: 1, kept: 1 }
        ]
    );
}

#[test]
fn of_sources_that_go_together_none_is_selected_in_place_of_another() {
    let names = ["192.0.2.2", "192.0.2.3", "192.0.2.4"];
    let sources = names.map(SourceConfig::server);
    let mut world = World::new(sources.to_vec());
    for name in names {
        world.server(&format!("{name}:123"), good_plain);
    }
    world.run_for(100.0);
    assert!(world.report().tracking.synchronized);
    let before = world.events.len();
    world.command(Command::ExchangeSources { gone: sources.to_vec(), fresh: Vec::new() });
    world.run_for(1.0);
    let selected =
        |event: &Event| matches!(event, Event::Discipline(chime_discipline::DisciplineEvent::Selected(_)));
    assert!(!world.events[before..].iter().any(selected), "{:?}", &world.events[before..]);
    assert!(world.report().sources.is_empty());
}

#[test]
fn an_address_that_another_source_has_is_refused_once_and_taken_when_it_is_free() {
    let mut world = World::new(vec![SourceConfig::server("192.0.2.2")]);
    world.server("192.0.2.2:123", good_plain);
    world.run_for(10.0);
    let again = SourceConfig { poll_target: 17, ..SourceConfig::server("192.0.2.2") };
    world.command(Command::AddSource(Box::new(again)));
    world.run_for(1000.0);
    let refused = world.events.iter().filter(|event| matches!(event, Event::SourceRefused { .. })).count();
    assert_eq!(refused, 1);
    world.command(Command::ExchangeSources {
        gone: vec![SourceConfig::server("192.0.2.2")],
        fresh: Vec::new(),
    });
    world.run_for(1000.0);
    assert!(world.report().sources.iter().all(|source| source.reach > 0));
}

#[test]
fn places_without_an_address_are_numbered_from_one() {
    let pool = SourceConfig {
        mode: crate::SourceMode::Pool { count: 2, ignore: Vec::new() },
        ..SourceConfig::server("pool.example")
    };
    let sources = vec![SourceConfig::server("a.example"), pool, SourceConfig::server("b.example")];
    let world = World::new(sources);
    let report = world.report();
    let numbers: Vec<u32> = report.sources.iter().map(crate::SourceReport::place_number).collect();
    assert_eq!(numbers, [1, 2, 3, 6], "a pool may come to have twice as many places as it wants");
    assert!(report.sources.iter().all(|source| source.id > 0x8000_0000), "apart from associations");
}

#[test]
fn a_stricter_policy_takes_effect_at_once() {
    let mut world = plain_world();
    assert!(world.report().tracking.synchronized);
    let sources = world.engine.config().sources.clone();
    let strict = Config { authentication: AuthenticationPolicy::Required, ..config(sources) };
    let before = world.samples();
    world.command(Command::Reconfigure(Box::new(strict)));
    world.run_for(300.0);
    assert_eq!(world.samples(), before);
    assert!(world.report().unauthenticated_in_use.is_empty());
    assert!(world.report().sources.iter().all(|source| source.state == 'N'));
}

#[test]
fn preferred_sources_decide_as_soon_as_there_are_some_and_for_as_long() {
    let mut world = plain_world();
    let sources = world.engine.config().sources.clone();
    let preferring = Config { authentication: AuthenticationPolicy::Preferred, ..config(sources) };
    world.command(Command::Reconfigure(Box::new(preferring)));
    world.run_for(300.0);
    assert!(!world.report().unauthenticated_in_use.is_empty(), "there is nothing better");
    let nts = SourceConfig::nts("nts.example");
    world.command(Command::AddSource(Box::new(nts.clone())));
    let before = world.samples();
    world.run_for(300.0);
    assert_eq!(world.samples(), before, "that it cannot be reached changes nothing");
    assert!(world.report().unauthenticated_in_use.is_empty());
    world.command(Command::ExchangeSources { gone: vec![nts], fresh: Vec::new() });
    world.run_for(1200.0);
    assert!(world.samples() > before);
    assert!(!world.report().unauthenticated_in_use.is_empty());
}

#[test]
fn a_removed_source_cancels_its_establishment() {
    let mut world = World::new(vec![SourceConfig::nts("nts.example")]);
    world.name("nts.example", &["192.0.2.1"]);
    world.run_for(0.02);
    assert_eq!(world.establishments.len(), 1);
    world
        .engine
        .handle_input(world.now, crate::Input::Control(Command::Reconfigure(Box::new(config(Vec::new())))));
    let requests: Vec<Request> = std::iter::from_fn(|| world.engine.poll_request()).collect();
    let id = world.establishments[0].1.establishment;
    assert!(requests.contains(&Request::CancelEstablishment(id)));
}

#[test]
fn a_refresh_replaces_addresses_that_are_gone() {
    let mut world = World::new(vec![SourceConfig::server("ntp.example")]);
    world.name("ntp.example", &["192.0.2.1"]);
    world.server("192.0.2.1:123", good_plain);
    world.server("192.0.2.2:123", good_plain);
    world.run_for(60.0);
    world.command(Command::Refresh);
    world.run_for(60.0);
    assert_eq!(world.source().remote, Some(at("192.0.2.1:123")));
    world.name("ntp.example", &["192.0.2.2"]);
    world.command(Command::Refresh);
    world.run_for(60.0);
    assert_eq!(world.source().remote, Some(at("192.0.2.2:123")));
    let gone =
        |event: &Event| matches!(event, Event::AssociationRemoved { reason: RemovalReason::AddressGone, .. });
    assert!(world.events.iter().any(gone));
}

#[test]
fn makestep_steps_what_is_left() {
    let mut settings = config(vec![SourceConfig::server("192.0.2.1")]);
    settings.discipline.step.threshold = None;
    let mut world = World::with_config(settings, -3.0);
    world.server("192.0.2.1:123", good_plain);
    world.run_for(9.0);
    let is_step = |command: &&ClockCommand| matches!(command, ClockCommand::Step { .. });
    assert_eq!(world.commands.iter().find(is_step), None);
    assert!(world.clock_error.as_secs_f64() < -1.0, "{:?}", world.clock_error);
    world.command(Command::MakeStep);
    assert!(world.commands.iter().any(|command| is_step(&command)));
    assert!(world.clock_error.as_secs_f64().abs() < 0.1, "{:?}", world.clock_error);
}

#[test]
fn reset_and_reselect_lead_back_to_a_selected_source() {
    let mut world = plain_world();
    world.command(Command::Reselect);
    assert!(world.report().sources.iter().any(|source| source.state == '*'));
    world.command(Command::ResetSources);
    assert_eq!(world.source().statistics.samples, 0);
    world.run_for(60.0);
    assert!(world.report().sources.iter().any(|source| source.state == '*'));
}

#[test]
fn sources_that_are_configured_offline_wait() {
    let mut world = World::new(vec![SourceConfig { online: false, ..SourceConfig::nts("nts.example") }]);
    world.name("nts.example", &["192.0.2.1"]);
    world.ke("nts.example", good_ke);
    world.server("192.0.2.1:123", good_nts);
    world.run_for(1000.0);
    assert!(world.lookups.is_empty() && world.sent.is_empty());
    world.command(Command::Online(SourceMatch::All));
    world.run_for(10.0);
    assert!(world.samples() >= 3);
}

/// A server that is asked only when somebody wants to.
fn offline(name: &str) -> SourceConfig {
    SourceConfig { online: false, ..SourceConfig::server(name) }
}

#[test]
fn an_offline_source_with_an_address_is_asked_in_a_burst_and_no_more() {
    let mut world = World::new(vec![offline("192.0.2.1"), offline("name.example")]);
    world.server("192.0.2.1:123", good_plain);
    world.run_for(100.0);
    assert!(world.sent.is_empty() && world.lookups.is_empty());
    world.command(Command::Burst { matching: SourceMatch::All, good: 2, total: 4 });
    world.run_for(100.0);
    assert_eq!(world.sent.len(), 2);
    let activity = world.report().activity;
    assert_eq!((activity.offline, activity.unresolved), (1, 1));
}

#[test]
fn an_excluded_source_is_called_so_from_the_first_selection_on() {
    let options = chime_discipline::SourceOptions { no_select: true, ..Default::default() };
    let excluded = SourceConfig { options, ..SourceConfig::server("192.0.2.1") };
    let mut world = World::new(vec![excluded, SourceConfig::server("192.0.2.2")]);
    let states = |world: &World| -> String { world.report().sources.iter().map(|one| one.state).collect() };
    world.run_for(30.0);
    assert_eq!(states(&world), "MM", "nobody has answered");
    world.server("192.0.2.2:123", good_plain);
    world.run_for(200.0);
    assert_eq!(states(&world), "N*");
}

#[test]
fn the_selection_says_how_old_the_samples_were_when_it_was_made() {
    let mut world = plain_world();
    world.run_for(30.0);
    let sources = world.report().sources;
    let ages = sources.iter().map(|one| (one.last_sample_age_seconds, one.selection.last_sample_age_seconds));
    let (now, then): (Vec<_>, Vec<_>) = ages.unzip();
    assert!(now.iter().all(|age| age.is_some_and(|age| age > 1.0)), "{now:?}");
    // It was made because one of them had answered.
    assert!(then.iter().any(|age| *age < 0.1), "{then:?}");
    assert!(then.iter().zip(&now).all(|(then, now)| Some(*then) < *now), "{then:?} {now:?}");
}

#[test]
fn of_two_lines_with_one_address_the_second_is_told_and_not_taken() {
    let mut world = World::new(vec![SourceConfig::server("192.0.2.1")]);
    world.server("192.0.2.1:123", good_plain);
    world.run_for(30.0);
    let twice = SourceConfig { iburst: false, ..SourceConfig::server("192.0.2.1") };
    let other_port = SourceConfig { port: 124, ..SourceConfig::server("192.0.2.1") };
    world.command(Command::ExchangeSources { gone: vec![], fresh: vec![twice, other_port] });
    world.run_for(30.0);
    let refused = |event: &&Event| {
        matches!(event, Event::SourceRefused { reason: SourceRefusal::AddressInUse(address), .. }
            if *address == ip("192.0.2.1"))
    };
    assert_eq!(world.events.iter().filter(refused).count(), 1);
    assert_eq!(world.report().sources.len(), 2);
}
