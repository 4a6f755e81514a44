//! Two sources that want one server: nobody keeps another from it by naming its address.

use super::world::{
    Asked, World, at, config, good_ke, good_nts, good_plain, nak, nts_answer, outcome, reached,
};
use crate::{
    AuthenticationPolicy, EstablishKeys, Event, KeFailure, KeOutcome, RemovalReason, SourceConfig,
    SourceRefusal,
};
use chime_nts::{CookieKey, KeyRing, NtsRequest};
use chime_time::NtpDate;
use std::net::SocketAddr;

type Established = (Option<SocketAddr>, Result<KeOutcome, KeFailure>);

/// Names the server of somebody else, with cookies that are not of its keys.
fn hostile_ke(named: &'static str) -> impl FnMut(&EstablishKeys, &KeyRing) -> Established {
    let own = KeyRing::new(CookieKey::new(1, [1; 32], NtpDate::from_unix(0, 0)));
    move |request, _| {
        let outcome = KeOutcome { ntp_server: Some(named.to_owned()), ..outcome(request, &own) };
        (reached(request), Ok(outcome))
    }
}

fn naming_ke(named: &'static str) -> impl FnMut(&EstablishKeys, &KeyRing) -> Established {
    move |request, ring| {
        let outcome = KeOutcome { ntp_server: Some(named.to_owned()), ..outcome(request, ring) };
        (reached(request), Ok(outcome))
    }
}

/// NTS for who has its cookies, NTSN for other cookies, time for plain requests.
fn server_of_all(asked: &Asked<'_>) -> Vec<super::world::Answer> {
    match NtsRequest::parse(asked.octets) {
        Ok(request) if request.accept(asked.ring).is_ok() => {
            vec![nts_answer(asked, &super::world::Changes::default())]
        }
        Ok(_) => vec![nak(asked)],
        Err(_) => good_plain(asked),
    }
}

fn world(sources: &[SourceConfig], policy: AuthenticationPolicy) -> World {
    let mut config = config(sources.to_vec());
    config.authentication = policy;
    let mut world = World::with_config(config, 0.0);
    world.name("hostile.example", &["203.0.113.66"]);
    world.name("nts.example", &["192.0.2.1"]);
    world.server("192.0.2.1:123", server_of_all);
    world.ke("nts.example", good_ke);
    world
}

fn samples_of(world: &World, name: &str) -> usize {
    let own = |event: &Event| match event {
        Event::AssociationAdded { association, name: of, .. } => (of == name).then_some(*association),
        _ => None,
    };
    let own: Vec<_> = world.events.iter().filter_map(own).collect();
    let sampled =
        |event: &&Event| matches!(event, Event::Sampled { association, .. } if own.contains(association));
    world.events.iter().filter(sampled).count()
}

fn losses(world: &World) -> usize {
    let lost = |event: &&Event| {
        matches!(event, Event::AssociationRemoved { reason: RemovalReason::AddressTaken, .. })
    };
    world.events.iter().filter(lost).count()
}

#[test]
fn who_names_the_key_establishment_server_of_another_source_loses_its_place_to_that() {
    let sources = [SourceConfig::nts("hostile.example"), SourceConfig::nts("nts.example")];
    let mut world = world(&sources, AuthenticationPolicy::Required);
    world.ke("hostile.example", hostile_ke("192.0.2.1"));
    world.run_for(60.0);
    assert!(samples_of(&world, "nts.example") >= 4, "{:?}", world.report().sources);
    assert_eq!(samples_of(&world, "hostile.example"), 0);
    let failed = &world.report().establishments[0].failed;
    assert!(failed.iter().any(|(kind, _)| kind.starts_with("address-")), "it is told: {failed:?}");
}

#[test]
fn a_server_that_two_name_goes_to_who_has_answers_from_it() {
    let sources = [SourceConfig::nts("hostile.example"), SourceConfig::nts("nts.example")];
    let mut world = world(&sources, AuthenticationPolicy::Required);
    world.server("192.0.2.50:123", server_of_all);
    world.ke("hostile.example", hostile_ke("192.0.2.50"));
    // The other one comes second, by a second.
    let mut first = true;
    let mut good = naming_ke("192.0.2.50");
    world.ke("nts.example", move |request, ring| {
        if std::mem::take(&mut first) {
            return (None, Err(super::world::failure("broken", true)));
        }
        good(request, ring)
    });
    world.run_for(1800.0);
    assert_eq!(losses(&world), 1, "and it stays there");
    assert!(samples_of(&world, "nts.example") > 20, "{:?}", world.report().sources);
    assert_eq!(samples_of(&world, "hostile.example"), 0);
}

#[test]
fn a_plain_source_is_not_kept_from_its_server_for_long_by_who_names_it() {
    let sources = [SourceConfig::nts("hostile.example"), SourceConfig::server("192.0.2.1")];
    let mut world = world(&sources, AuthenticationPolicy::Mixed);
    world.ke("hostile.example", hostile_ke("192.0.2.1"));
    world.run_for(7200.0);
    assert!(samples_of(&world, "192.0.2.1") > 20, "{:?}", world.report().sources);
    // Each time both of them lose it once.
    assert!((1..=6).contains(&losses(&world)), "once an hour at most: {}", losses(&world));
}

#[test]
fn a_lookup_that_leads_a_plain_source_to_a_server_with_nts_keeps_nobody_from_nts() {
    let sources = [SourceConfig::server("plain.example"), SourceConfig::nts("nts.example")];
    let mut world = world(&sources, AuthenticationPolicy::Mixed);
    world.name("plain.example", &["192.0.2.1"]);
    let mut first = true;
    world.ke("nts.example", move |request, ring| {
        if std::mem::take(&mut first) {
            return (None, Err(super::world::failure("broken", true)));
        }
        good_ke(request, ring)
    });
    world.run_for(1.0);
    assert!(samples_of(&world, "plain.example") >= 1, "it came first");
    world.run_for(300.0);
    assert!(samples_of(&world, "nts.example") > 10);
    let remotes: Vec<_> = world.report().sources.iter().map(|source| source.remote).collect();
    assert_eq!(remotes, [None, Some(at("192.0.2.1:123"))]);
    let told = |event: &&Event| {
        matches!(event, Event::SourceRefused { name, reason: SourceRefusal::AddressInUse(_), .. }
            if name == "plain.example")
    };
    assert_eq!(world.events.iter().filter(told).count(), 1, "it is told, and once");
}

/// Whoever drops what is authenticated must not have it replaced by what is not.
#[test]
fn a_silent_server_with_nts_does_not_give_way_to_a_plain_source() {
    let sources = [SourceConfig::nts("nts.example"), SourceConfig::server("192.0.2.1")];
    let mut world = world(&sources, AuthenticationPolicy::Mixed);
    world.server("192.0.2.1:123", |asked| {
        if NtsRequest::parse(asked.octets).is_ok() { Vec::new() } else { good_plain(asked) }
    });
    world.run_for(600.0);
    assert_eq!(samples_of(&world, "192.0.2.1"), 0, "{:?}", world.report().sources);
}

#[test]
fn of_two_names_of_one_server_one_is_followed_and_the_other_is_told() {
    let sources = [SourceConfig::nts("nts.example"), SourceConfig::nts("alias.example")];
    let mut world = world(&sources, AuthenticationPolicy::Required);
    world.name("alias.example", &["192.0.2.1"]);
    world.ke("alias.example", good_ke);
    world.server("192.0.2.1:123", good_nts);
    world.run_for(3600.0);
    assert_eq!(losses(&world), 0);
    assert_eq!(["nts.example", "alias.example"].map(|name| samples_of(&world, name) > 0), [true, false]);
    assert!(world.report().establishments.iter().any(|one| !one.failed.is_empty()));
}
