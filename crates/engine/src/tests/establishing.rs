//! Key establishment seen from the engine: back-off, negotiation, failures. RFC 8915 §4.

use super::world::{
    Answer, Changes, World, at, config, failure, good_ke, good_nts, ip, keys, nak, nts_answer, outcome,
    reached,
};
use crate::{DiscardReason, Event, Input, KeFailure, KeOutcome, SourceConfig};
use chime_nts::{AeadAlgorithm, NtsKeys, NtsRequest};
use chime_time::NtpDuration;

fn failing(network: bool) -> World {
    let mut world = World::with_nts_server();
    world.ke("nts.example", move |_, _| (None, Err(failure("broken", network))));
    world
}

fn gaps(world: &World) -> Vec<f64> {
    let times: Vec<f64> = world.establishments.iter().map(|(at, _)| *at).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn assert_doubling(gaps: &[f64], first: f64, longest: f64) {
    let mut wanted = first;
    for gap in gaps {
        assert!(
            (wanted * 0.88..wanted * 1.12 + 0.2).contains(gap),
            "{gap} where {wanted} is wanted: {gaps:?}"
        );
        wanted = (wanted * 2.0).min(longest);
    }
}

#[test]
fn network_errors_are_retried_after_2_seconds_doubling_to_17_minutes() {
    let mut world = failing(true);
    world.run_for(8000.0);
    assert!(world.establishments.len() > 12);
    assert_doubling(&gaps(&world), 2.0, 1024.0);
    assert!(world.sent.is_empty());
}

#[test]
fn protocol_errors_are_retried_after_32_seconds_doubling_to_2_hours() {
    let mut world = failing(false);
    world.run_for(50_000.0);
    assert!(world.establishments.len() > 10);
    assert_doubling(&gaps(&world), 32.0, 8192.0);
    let report = &world.report().establishments[0];
    assert_eq!((report.succeeded, report.failed[0].0.as_str()), (0, "broken"));
    assert_eq!(report.last_error.as_deref(), Some("broken failed"));
    assert!(report.retry_seconds.is_some());
}

#[test]
fn a_change_of_network_or_clock_forgets_the_back_off() {
    let mut world = failing(false);
    world.run_for(10_000.0);
    let before = world.establishments.len();
    world.input(Input::NetworkChanged);
    world.run_for(2.0);
    assert_eq!(world.establishments.len(), before + 1);
    world.run_for(36.0);
    assert_eq!(world.establishments.len(), before + 2, "and begins from the start");
}

#[test]
fn a_network_that_changes_all_the_time_does_not_make_a_flood() {
    let mut world = failing(true);
    for _ in 0..600 {
        world.input(Input::NetworkChanged);
        world.run_for(0.1);
    }
    // Once in ten seconds, with the first retries after each.
    assert!(world.establishments.len() <= 6 * 4 + 4, "{}", world.establishments.len());
    assert!(world.establishments.len() >= 6);
}

#[test]
fn an_establishment_that_never_ends_is_given_up() {
    let mut world = World::with_nts_server();
    world.run_for(0.02);
    let (_, request) = world.establishments[0].clone();
    let never = crate::EstablishmentId(request.establishment.0 + 1000);
    world.input(Input::KeFinished { establishment: never, address: None, result: Err(failure("x", true)) });
    assert!(world.report().establishments[0].running, "a foreign number ends nothing");
    // Take the answer away.
    let mut world = World::with_nts_server();
    world.run_for(0.02);
    world.forget_pending();
    world.run_for(70.0);
    assert!(world.establishments.len() >= 2);
    assert_eq!(world.report().establishments[0].failed[0].0, "timeout");
}

#[test]
fn a_failing_establishment_leaves_good_cookies_in_use() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| if asked.number == 4 { vec![nak(asked)] } else { good_nts(asked) });
    let mut count = 0;
    world.ke("nts.example", move |request, ring| {
        count += 1;
        if count == 1 { good_ke(request, ring) } else { (None, Err(failure("broken", false))) }
    });
    world.run_for(600.0);
    assert!(world.establishments.len() >= 3);
    assert_eq!(world.samples(), world.sent.len() - 1);
    assert_eq!(world.source().authentication.cookies, 8);
}

#[test]
fn the_negotiated_server_and_port_are_asked() {
    let mut world = World::with_nts_server();
    world.ke("nts.example", |request, ring| {
        let negotiated = KeOutcome {
            ntp_server: Some("192.0.2.77".to_owned()),
            ntp_port: Some(11123),
            ..outcome(request, ring)
        };
        (reached(request), Ok(negotiated))
    });
    world.server("192.0.2.77:11123", good_nts);
    world.run_for(60.0);
    assert_eq!(world.source().remote, Some(at("192.0.2.77:11123")));
    assert!(world.samples() > 4);
}

#[test]
fn a_negotiated_name_is_looked_up_and_the_family_that_worked_comes_first() {
    let mut world = World::with_nts_server();
    world.ke("nts.example", |request, ring| {
        let negotiated = KeOutcome { ntp_server: Some("ntp2.example".to_owned()), ..outcome(request, ring) };
        (reached(request), Ok(negotiated))
    });
    world.name("ntp2.example", &["2001:db8::2", "192.0.2.2"]);
    world.server("192.0.2.2:123", good_nts);
    world.run_for(60.0);
    assert_eq!(world.lookups.len(), 2);
    assert_eq!(world.source().remote, Some(at("192.0.2.2:123")));
    assert!(world.samples() > 4);
}

/// What a key establishment server says must not have us send packets, with octets that it chose, to ourselves or to many.
#[test]
fn a_negotiated_server_that_is_ourselves_or_many_is_refused() {
    let named = [
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.1.1",
        "ff02::101",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
    ];
    for server in named {
        for by_name in [false, true] {
            let mut world = World::with_nts_server();
            let ntp_server = if by_name { "inner.example" } else { server };
            world.name("inner.example", &[server]);
            world.ke("nts.example", move |request, ring| {
                let ntp_server = Some(ntp_server.to_owned());
                (reached(request), Ok(KeOutcome { ntp_server, ..outcome(request, ring) }))
            });
            world.run_for(60.0);
            assert!(world.sent.is_empty(), "{server} {by_name}: {:?}", world.sent);
            let kind = world.report().establishments[0].failed[0].0.clone();
            assert!(kind.starts_with("ntp-server-"), "{server} {by_name}: {kind}");
        }
    }
}

#[test]
fn a_server_of_this_machine_may_name_another_one_of_it() {
    let mut world = World::with_nts_server();
    world.name("nts.example", &["127.0.0.1"]);
    world.ke("nts.example", |request, ring| {
        let ntp_server = Some("127.0.0.2".to_owned());
        (reached(request), Ok(KeOutcome { ntp_server, ..outcome(request, ring) }))
    });
    world.server("127.0.0.2:123", good_nts);
    world.run_for(60.0);
    assert!(world.samples() > 3);
}

#[test]
fn a_negotiated_name_without_address_is_a_failure() {
    let mut world = World::with_nts_server();
    world.ke("nts.example", |request, ring| {
        let negotiated =
            KeOutcome { ntp_server: Some("nowhere.example".to_owned()), ..outcome(request, ring) };
        (reached(request), Ok(negotiated))
    });
    world.run_for(60.0);
    assert!(world.sent.is_empty() && world.establishments.len() >= 3);
    assert_eq!(world.report().establishments[0].failed[0].0, "ntp-server-name");
    let error = world.report().establishments[0].last_error.clone().unwrap_or_default();
    assert!(error.contains("nowhere.example"), "{error}");
}

#[test]
fn two_sources_of_one_server_do_not_talk_to_it_at_once_and_do_not_share_it() {
    let mut world = World::new(vec![SourceConfig::nts("nts.example"), SourceConfig::nts("NTS.example")]);
    for name in ["nts.example", "NTS.example"] {
        world.name(name, &["192.0.2.1"]);
        world.ke(name, good_ke);
    }
    world.server("192.0.2.1:123", good_nts);
    world.run_for(60.0);
    let apart = (world.establishments[1].0 - world.establishments[0].0).abs();
    assert!(apart > 0.05, "{apart}");
    let remotes: Vec<_> = world.report().sources.iter().map(|source| source.remote).collect();
    assert_eq!(remotes, [Some(at("192.0.2.1:123")), None]);
    assert_eq!(world.report().establishments[1].failed[0].0, "address-in-use");
}

#[test]
fn the_other_keys_of_aead_30_are_tried_at_the_first_nak() {
    let compliant = keys(AeadAlgorithm::Aes128GcmSiv, 1);
    let old = keys(AeadAlgorithm::Aes128GcmSiv, 2);
    let mut world = World::with_nts_server();
    let (first, second): (NtsKeys, NtsKeys) = (compliant, old.clone());
    world.ke("nts.example", move |request, ring| {
        let cookies = (0..8).map(|nonce| ring.seal_cookie(&second, [nonce; 16])).collect();
        let (keys, alternative_keys) = (first.clone(), Some(second.clone()));
        (reached(request), Ok(KeOutcome { keys, alternative_keys, cookies, ..outcome(request, ring) }))
    });
    world.server("192.0.2.1:123", |asked| {
        let request = NtsRequest::parse(asked.octets).expect("an NTS request");
        if request.accept(asked.ring).is_ok() { good_nts(asked) } else { vec![nak(asked)] }
    });
    world.run_for(60.0);
    assert_eq!(world.establishments.len(), 1);
    assert_eq!(world.discarded(DiscardReason::NtsNak), 1);
    assert_eq!(world.samples(), world.sent.len() - 1);
    assert_eq!(world.source().authentication.key_type, 30);
    let told = |event: &Event| matches!(event, Event::NtsNak { other_keys_tried: true, .. });
    assert!(world.events.iter().any(told));
}

#[test]
fn old_keys_are_replaced() {
    let mut settings = config(vec![SourceConfig::nts("nts.example")]);
    settings.nts_refresh_seconds = 3600;
    let mut world = World::with_config(settings, 0.0);
    world.name("nts.example", &["192.0.2.1"]);
    world.ke("nts.example", good_ke);
    world.server("192.0.2.1:123", good_nts);
    world.run_for(10_000.0);
    assert_eq!(world.establishments.len(), 3);
    assert_eq!(world.samples(), world.sent.len());
}

#[test]
fn a_step_of_the_clock_does_not_make_keys_old() {
    let mut settings = config(vec![SourceConfig::nts("nts.example")]);
    settings.nts_refresh_seconds = 3600;
    let mut world = World::with_config(settings, -80_000.0);
    world.name("nts.example", &["192.0.2.1"]);
    world.ke("nts.example", good_ke);
    world.server("192.0.2.1:123", good_nts);
    world.run_for(600.0);
    assert!(world.clock_error.as_secs_f64().abs() < 0.1);
    assert_eq!(world.establishments.len(), 1);
}

#[test]
fn a_request_that_was_never_sent_costs_no_cookie() {
    let mut world = World::with_nts_server();
    world.network_is_down = true;
    world.run_for(3600.0);
    assert_eq!(world.source().authentication.cookies, 8);
    assert_eq!(world.establishments.len(), 1);
    world.network_is_down = false;
    world.input(Input::NetworkChanged);
    world.run_for(60.0);
    assert!(world.samples() >= 4);
}

#[test]
fn no_network_at_boot_is_no_drama() {
    let mut world = World::new(vec![SourceConfig::nts("nts.example")]);
    world.run_for(3600.0);
    assert!((5..30).contains(&world.lookups.len()), "{}", world.lookups.len());
    world.name("nts.example", &["192.0.2.1"]);
    world.ke("nts.example", good_ke);
    world.server("192.0.2.1:123", good_nts);
    world.input(Input::NetworkChanged);
    world.run_for(10.0);
    assert!(world.samples() >= 3);
}

#[test]
fn the_addresses_of_both_families_are_raced() {
    let mut world = World::with_nts_server();
    world.name("nts.example", &["2001:db8::1", "2001:db8::2", "192.0.2.1"]);
    world.run_for(1.0);
    assert_eq!(world.establishments[0].1.addresses, [ip("2001:db8::1"), ip("192.0.2.1"), ip("2001:db8::2")]);
}

#[test]
fn a_server_that_moves_is_followed() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| if asked.number < 6 { good_nts(asked) } else { vec![nak(asked)] });
    let mut count = 0;
    world.ke("nts.example", move |request, ring| {
        count += 1;
        let ntp_server = (count > 1).then(|| "192.0.2.50".to_owned());
        (reached(request), Ok(KeOutcome { ntp_server, ..outcome(request, ring) }))
    });
    world.server("192.0.2.50:123", good_nts);
    world.run_for(600.0);
    assert_eq!(world.source().remote, Some(at("192.0.2.50:123")));
    assert_eq!(world.establishments.len(), 2);
    assert_eq!(world.report().sources.len(), 1);
    assert_eq!(world.source().authentication.key_id, 2);
}

#[test]
fn long_requests_that_vanish_become_short_and_stay_so() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        let long = asked.octets.len() > 400;
        let gap = (5..9).contains(&asked.number);
        if long || gap { Vec::new() } else { vec![nts_answer(asked, &Changes::default())] }
    });
    world.run_for(3000.0);
    assert_eq!(world.establishments.len(), 1, "the cookies never ran out: {:?}", world.placeholders());
    let lost_later = world.placeholders()[20..].iter().filter(|count| **count > 1).count();
    assert!(lost_later < 12, "{:?}", world.placeholders());
    assert!(world.samples() > 30);
}

#[test]
fn failures_convert_from_the_sessions_errors() {
    let failure = KeFailure::from(&chime_ke::KeError::Tls12Only);
    assert!(!failure.network && failure.text.contains("TLS 1.2"));
    assert!(KeFailure::from(&chime_ke::KeError::Timeout).network);
}

#[test]
fn late_answers_to_a_moved_source_do_not_count() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        vec![Answer { after: 1.0, ..nts_answer(asked, &Changes::default()) }]
    });
    world.run_for(0.5);
    let id = world.engine.associations[0].id;
    world.engine.remove_association(world.now, id, crate::RemovalReason::Configuration);
    world.run_for(3.0);
    assert!(world.discarded(DiscardReason::UnknownExchange) >= 1);
    assert_eq!(NtpDuration::ZERO, world.clock_error);
}
