//! Names with several addresses: the race of the families, pools, replacement.

use super::world::{
    Asked, World, at, config, failure, good_ke, good_nts, good_plain, ip, kiss, outcome, plain_answer,
    reached,
};
use crate::{
    AddressFamily, AuthenticationPolicy, Event, Input, RemovalReason, SourceConfig, SourceKind, SourceMode,
};
use chime_time::NtpDuration;
use std::net::SocketAddr;

fn removals(world: &World, wanted: RemovalReason) -> usize {
    let is_this =
        |event: &&Event| matches!(event, Event::AssociationRemoved { reason, .. } if *reason == wanted);
    world.events.iter().filter(is_this).count()
}

fn remotes(world: &World) -> Vec<SocketAddr> {
    world.report().sources.iter().filter_map(|source| source.remote).collect()
}

#[test]
fn a_dead_family_costs_nothing() {
    for alive in ["[2001:db8::1]:123", "192.0.2.1:123"] {
        let mut world = World::new(vec![SourceConfig::server("ntp.example")]);
        world.name("ntp.example", &["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"]);
        world.server(alive, good_plain);
        world.run_for(0.2);
        assert_eq!((world.samples(), remotes(&world)), (1, vec![at(alive)]));
        assert!(world.sent.len() <= 2, "one packet to each family");
        assert_eq!(removals(&world, RemovalReason::NotNeeded), 1);
        world.run_for(600.0);
        assert!(world.sent[2..].iter().all(|(_, to, _)| *to == at(alive)));
    }
}

#[test]
fn a_family_that_is_not_wanted_is_not_tried() {
    let source = SourceConfig { address_family: AddressFamily::V6, ..SourceConfig::server("ntp.example") };
    let mut world = World::new(vec![source]);
    world.name("ntp.example", &["192.0.2.1", "2001:db8::1"]);
    world.run_for(10.0);
    assert!(!world.sent.is_empty() && world.sent.iter().all(|(_, to, _)| to.is_ipv6()));
}

#[test]
fn dead_addresses_give_way_to_others_of_the_name() {
    let mut world = World::new(vec![SourceConfig::server("ntp.example")]);
    world.name("ntp.example", &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    world.server("192.0.2.3:123", good_plain);
    world.run_for(60.0);
    assert_eq!(remotes(&world), [at("192.0.2.3:123")]);
    assert!(world.samples() > 4);
}

#[test]
fn with_all_addresses_dead_they_take_turns_until_one_lives() {
    let mut world = World::new(vec![SourceConfig::server("ntp.example")]);
    world.name("ntp.example", &["192.0.2.1", "192.0.2.2"]);
    world.run_for(3000.0);
    let asked: Vec<SocketAddr> = world.sent.iter().map(|(_, to, _)| *to).collect();
    assert!(asked.contains(&at("192.0.2.1:123")) && asked.contains(&at("192.0.2.2:123")));
    world.server("192.0.2.1:123", good_plain);
    world.run_for(3000.0);
    assert!(world.samples() > 10);
    assert_eq!(remotes(&world), [at("192.0.2.1:123")]);
}

#[test]
fn a_server_that_died_is_looked_for_under_its_name() {
    let mut world = World::new(vec![SourceConfig::server("ntp.example")]);
    world.name("ntp.example", &["192.0.2.1"]);
    world.server("192.0.2.1:123", |asked| if asked.number < 10 { good_plain(asked) } else { Vec::new() });
    world.run_for(200.0);
    world.name("ntp.example", &["192.0.2.9"]);
    world.server("192.0.2.9:123", good_plain);
    world.run_for(2000.0);
    assert_eq!(remotes(&world), [at("192.0.2.9:123")]);
    assert_eq!(removals(&world, RemovalReason::Unreachable), 1);
    assert!(world.events.iter().any(|event| matches!(event, Event::Unreachable { .. })));
}

fn pool(count: u8) -> SourceConfig {
    let ignore = vec![ip("192.0.2.8")];
    SourceConfig { mode: SourceMode::Pool { count, ignore }, ..SourceConfig::server("pool.example") }
}

const POOL: [&str; 8] =
    ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7", "192.0.2.8"];

fn pool_world(count: u8, behaviour: fn(&Asked<'_>) -> Vec<super::world::Answer>) -> World {
    let mut world = World::new(vec![pool(count)]);
    world.name("pool.example", &POOL);
    for address in POOL {
        world.server(&format!("{address}:123"), behaviour);
    }
    world
}

#[test]
fn a_pool_has_as_many_servers_as_wanted_and_never_an_ignored_one() {
    let mut world = pool_world(3, good_plain);
    world.run_for(600.0);
    let mut remotes = remotes(&world);
    assert_eq!(remotes.len(), 3);
    remotes.dedup();
    assert_eq!(remotes.len(), 3);
    assert!(!world.sent.iter().any(|(_, to, _)| to.ip() == ip("192.0.2.8")));
    assert!(
        world.report().sources.iter().all(|source| source.kind == SourceKind::Pool && source.reach == 0o377)
    );
    assert_eq!(world.report().activity.online, 3);
}

#[test]
fn dead_members_are_replaced() {
    let mut world = pool_world(3, good_plain);
    world.run_for(100.0);
    let victim = remotes(&world)[0];
    world.server(&victim.to_string(), |_| Vec::new());
    world.run_for(3000.0);
    let after = remotes(&world);
    assert!(!after.contains(&victim) && after.len() == 3, "{after:?}");
}

#[test]
fn falsetickers_are_replaced() {
    let mut world = pool_world(3, good_plain);
    world.run_for(100.0);
    let victim = remotes(&world)[1];
    world.server(&victim.to_string(), |asked| {
        vec![plain_answer(asked, |header| {
            header.receive = header.receive + NtpDuration::from_seconds(7);
            header.transmit = header.transmit + NtpDuration::from_seconds(7);
        })]
    });
    world.run_for(4000.0);
    assert!(!remotes(&world).contains(&victim));
    assert!(removals(&world, RemovalReason::Falseticker) >= 1);
    assert_eq!(remotes(&world).len(), 3);
}

#[test]
fn members_that_deny_are_replaced() {
    let mut world = pool_world(2, good_plain);
    let mut count = 0;
    for address in POOL {
        count += 1;
        if count % 2 == 0 {
            world.server(&format!("{address}:123"), |asked| vec![kiss(asked, b"DENY", None)]);
        }
    }
    world.run_for(300.0);
    assert!(removals(&world, RemovalReason::Denied) + removals(&world, RemovalReason::NotNeeded) >= 1);
    assert_eq!(world.report().sources.iter().filter(|source| source.reach > 0).count(), 2);
}

#[test]
fn a_pool_that_gives_too_few_addresses_shows_the_places_that_are_free() {
    let mut world = World::new(vec![pool(4)]);
    world.name("pool.example", &["192.0.2.1", "192.0.2.2"]);
    for address in ["192.0.2.1:123", "192.0.2.2:123"] {
        world.server(address, good_plain);
    }
    world.run_for(100.0);
    let report = world.report();
    assert_eq!((report.activity.online, report.activity.unresolved), (2, 2));
    // The name has more addresses later, as pools do.
    world.name("pool.example", &["192.0.2.3", "192.0.2.4"]);
    for address in ["192.0.2.3:123", "192.0.2.4:123"] {
        world.server(address, good_plain);
    }
    world.run_for(8000.0);
    assert_eq!(world.report().activity.online, 4);
}

fn nts_pool(count: u8) -> World {
    let source = SourceConfig {
        mode: SourceMode::Pool { count, ignore: Vec::new() },
        ..SourceConfig::nts("pool.example")
    };
    let mut settings = config(vec![source]);
    settings.authentication = AuthenticationPolicy::Required;
    let mut world = World::with_config(settings, 0.0);
    world.name("pool.example", &POOL);
    for address in POOL {
        world.server(&format!("{address}:123"), good_nts);
    }
    world
}

#[test]
fn an_nts_pool_establishes_keys_with_one_server_after_the_other() {
    let mut world = nts_pool(3);
    world.ke("pool.example", good_ke);
    world.run_for(60.0);
    assert_eq!(world.establishments.len(), 3);
    assert!(world.establishments.iter().all(|(_, request)| request.addresses.len() == 1));
    assert_eq!(remotes(&world).len(), 3);
    assert!(world.report().sources.iter().all(|source| source.reach > 0));
}

#[test]
fn a_bad_server_of_an_nts_pool_is_passed_over() {
    let mut world = nts_pool(3);
    world.ke("pool.example", |request, ring| {
        let bad = request.addresses[0] != ip("192.0.2.3")
            && request.addresses[0] != ip("192.0.2.5")
            && request.addresses[0] != ip("192.0.2.7");
        let result = if bad { Err(failure("expired", false)) } else { Ok(outcome(request, ring)) };
        (reached(request), result)
    });
    world.run_for(120.0);
    let mut remotes = remotes(&world);
    remotes.sort();
    assert_eq!(remotes, [at("192.0.2.3:123"), at("192.0.2.5:123"), at("192.0.2.7:123")]);
}

#[test]
fn a_lookup_that_fails_is_repeated_with_back_off() {
    let mut world = World::new(vec![SourceConfig::server("nowhere.example")]);
    world.run_for(3000.0);
    let times: Vec<f64> = world.lookups.iter().map(|(at, _)| *at).collect();
    assert!((9..=13).contains(&times.len()), "{times:?}");
    assert!(world.source().last_error.is_some_and(|error| error.contains("nowhere.example")));
    world.input(Input::NetworkChanged);
    world.run_for(2.0);
    assert_eq!(world.lookups.len(), times.len() + 1);
}

#[test]
fn a_lookup_that_never_ends_is_given_up() {
    let mut world = World::new(vec![SourceConfig::server("ntp.example")]);
    world.name("ntp.example", &["192.0.2.1"]);
    world.server("192.0.2.1:123", good_plain);
    world.run_for(0.001);
    assert_eq!(world.lookups.len(), 1);
    world.forget_pending();
    world.run_for(120.0);
    assert!(world.lookups.len() >= 2 && world.samples() > 0);
}
