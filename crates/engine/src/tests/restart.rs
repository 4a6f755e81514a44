//! Restarts: NTS state is saved and taken back.

use super::world::{World, good_ke, good_nts};
use crate::{SavedAssociation, SavedSamples, SourceConfig, decode_nts_state, encode_nts_state};
use chime_nts::AeadAlgorithm;

fn saved() -> (Vec<SavedAssociation>, Vec<Vec<u8>>) {
    let mut world = World::with_nts_server();
    world.run_for(600.0);
    assert!(world.saves >= 1, "the shell is asked to save");
    let octets = encode_nts_state(&world.engine.nts_state());
    (decode_nts_state(&octets).expect("it was just encoded"), world.cookies_sent())
}

#[test]
fn a_restart_needs_no_key_establishment() {
    let (saved, spent) = saved();
    assert_eq!((saved.len(), saved[0].cookies.len()), (1, 8));
    let mut world = World::with_nts_server();
    assert_eq!(world.engine.restore_nts_state(world.now, saved), 1);
    world.run_for(600.0);
    assert!(world.samples() > 10);
    assert!(world.establishments.is_empty() && world.lookups.is_empty());
    assert!(world.cookies_sent().iter().all(|cookie| !spent.contains(cookie)), "no cookie is sent twice");
    let report = world.source();
    assert_eq!((report.authentication.cookies, report.authentication.key_id), (8, 1));
    assert_eq!(report.reach, 0o377);
}

#[test]
fn after_a_crash_no_cookie_is_sent_twice() {
    let mut world = World::with_nts_server();
    world.run_for(600.0);
    let older = encode_nts_state(&world.engine.set_nts_state_aside());
    world.engine.nts_state_saved();
    world.run_for(7200.0);
    assert!(world.cookies_sent().len() > 20);
    // The disk is slow: either file may be what a crash leaves.
    let newer = encode_nts_state(&world.engine.set_nts_state_aside());
    world.run_for(7200.0);
    let spent = world.cookies_sent();
    for file in [older, newer] {
        let saved = decode_nts_state(&file).expect("it was just encoded");
        assert_eq!((saved.len(), saved[0].cookies.len()), (1, 2));
        let mut next = World::with_nts_server();
        assert_eq!(next.engine.restore_nts_state(next.now, saved), 1);
        next.run_for(600.0);
        assert!(next.cookies_sent().iter().all(|cookie| !spent.contains(cookie)));
        assert_eq!((next.source().authentication.cookies, next.establishments.len()), (8, 0));
        assert!(next.saves >= 1, "what was restored is to be replaced on the disk");
    }
}

#[test]
fn cookies_set_aside_are_had_back_when_answers_fail_to_come() {
    let mut world = World::with_nts_server();
    world.run_for(60.0);
    world.engine.set_nts_state_aside();
    world.engine.nts_state_saved();
    let (saves, sent) = (world.saves, world.cookies_sent().len());
    world.server("192.0.2.1:123", |_| Vec::new());
    while world.saves == saves {
        world.run_for(1.0);
    }
    assert_eq!(world.cookies_sent().len(), sent + 5, "the last cookie but those on disk is the next");
    assert_eq!(world.establishments.len(), 1);
    assert_eq!(world.engine.set_nts_state_aside(), []);
    world.engine.nts_state_saved();
    assert_eq!(world.source().authentication.cookies, 3);
}

#[test]
fn a_server_that_lost_its_keys_meanwhile_leads_to_an_establishment() {
    let (saved, _) = saved();
    let mut world = World::with_nts_server();
    world.ring.rotate(chime_nts::CookieKey::new(99, [1; 32], chime_time::NtpDate::from_unix(0, 0)), 0);
    world.server("192.0.2.1:123", |asked| {
        let request = chime_nts::NtsRequest::parse(asked.octets).expect("an NTS request");
        if request.accept(asked.ring).is_ok() { good_nts(asked) } else { vec![super::world::nak(asked)] }
    });
    world.engine.restore_nts_state(world.now, saved);
    world.run_for(60.0);
    assert_eq!(world.establishments.len(), 1);
    assert!(world.samples() > 3);
    assert_eq!(world.source().authentication.key_id, 2);
}

#[test]
fn state_that_fits_no_source_is_left_out() {
    let (saved, _) = saved();
    let restored = |source: SourceConfig, saved: &SavedAssociation| {
        let mut world = World::new(vec![source]);
        world.engine.restore_nts_state(world.now, vec![saved.clone()])
    };
    assert_eq!(restored(SourceConfig::nts("nts.example"), &saved[0]), 1);
    assert_eq!(restored(SourceConfig::nts("NTS.EXAMPLE"), &saved[0]), 1);
    assert_eq!(restored(SourceConfig::nts("other.example"), &saved[0]), 0);
    assert_eq!(restored(SourceConfig::server("nts.example"), &saved[0]), 0);
    let spent = SavedAssociation { cookies: Vec::new(), ..saved[0].clone() };
    assert_eq!(restored(SourceConfig::nts("nts.example"), &spent), 0);
    let distrusted = SavedAssociation { trust: saved[0].trust + 1, ..saved[0].clone() };
    assert_eq!(restored(SourceConfig::nts("nts.example"), &distrusted), 0, "the operator trusts others now");
    let mut other_aead = SourceConfig::nts("nts.example");
    if let crate::Authentication::Nts(nts) = &mut other_aead.authentication {
        nts.aeads = vec![AeadAlgorithm::Aes128GcmSiv];
    }
    assert_eq!(restored(other_aead, &saved[0]), 0);
}

#[test]
fn a_server_that_establishes_keys_at_another_port_now_is_the_same_server() {
    let (saved, _) = saved();
    let elsewhere = SavedAssociation {
        ke_port: 4461,
        remote: "192.0.2.7:123".parse().expect("an address"),
        ..saved[0].clone()
    };
    let at = |port| {
        let mut source = SourceConfig::nts("nts.example");
        if let crate::Authentication::Nts(nts) = &mut source.authentication {
            nts.port = port;
        }
        source
    };
    let remotes = |sources: Vec<SourceConfig>, saved: &[&SavedAssociation]| {
        let mut world = World::new(sources);
        let saved = saved.iter().map(|saved| (*saved).clone()).collect();
        world.engine.restore_nts_state(world.now, saved);
        world.engine.nts_state().iter().map(|state| (state.ke_port, state.remote)).collect::<Vec<_>>()
    };
    let (here, there) = (saved[0].remote, elsewhere.remote);
    assert_eq!(remotes(vec![at(4460)], &[&elsewhere]), [(4460, there)]);
    // Whose port is as it was comes first.
    assert_eq!(remotes(vec![at(4460)], &[&elsewhere, &saved[0]]), [(4460, here)]);
    let both = remotes(vec![at(4461), at(4460)], &[&saved[0], &elsewhere]);
    assert_eq!(both, [(4460, here), (4461, there)]);
}

#[test]
fn a_server_is_restored_once() {
    let (saved, _) = saved();
    let mut world = World::new(vec![SourceConfig::nts("nts.example")]);
    world.name("nts.example", &["192.0.2.1"]);
    world.ke("nts.example", good_ke);
    let twice = vec![saved[0].clone(), saved[0].clone()];
    assert_eq!(world.engine.restore_nts_state(world.now, twice), 1);
}

#[test]
fn an_offline_source_is_followed_by_the_samples_of_the_last_run() {
    let saved = {
        let mut world = World::new(vec![SourceConfig::server("192.0.2.1")]);
        world.server("192.0.2.1:123", super::world::good_plain);
        world.run_for(300.0);
        world.engine.samples(world.now)
    };
    assert!(saved[0].samples.len() >= 3);
    let restored = |reach: u8, name: &str| {
        let offline = SourceConfig { online: false, ..SourceConfig::server(name) };
        let mut world = World::new(vec![offline]);
        world.run_for(301.0);
        let taken = world.engine.restore_samples(world.now, vec![SavedSamples { reach, ..saved[0].clone() }]);
        world.run_for(300.0);
        assert!(world.sent.is_empty(), "it is offline");
        (taken, world.report().tracking.synchronized)
    };
    assert_eq!(restored(0o17, "192.0.2.1"), (1, true));
    assert_eq!(restored(0, "192.0.2.1"), (1, false), "nobody says that it can be reached");
    assert_eq!(restored(0o17, "192.0.2.2"), (0, false), "of another server");
}
