//! Answers without NTS: plain and with symmetric keys. RFC 5905 §8, §9.

use super::world::{
    Answer, Asked, World, answer, at, config, good_header, good_ke, good_nts, good_plain, kiss, plain_answer,
};
use crate::{
    Authentication, AuthenticationPolicy, DiscardReason, Event, Input, SendFailure, SourceConfig,
    SourceRefusal, TimestampSource, Timestamped,
};
use chime_time::{NtpDuration, NtpShort, NtpTimestamp, PollExponent};
use chime_wire::mac::{MacAlgorithm, SymmetricKey};
use chime_wire::{FieldWriter, Header, LeapIndicator, ReferenceId};
use std::sync::Arc;

fn plain_world(behaviour: impl FnMut(&Asked<'_>) -> Vec<Answer> + 'static) -> World {
    let mut world = World::new(vec![SourceConfig::server("192.0.2.1")]);
    world.server("192.0.2.1:123", behaviour);
    world
}

#[test]
fn the_first_sample_comes_at_once_and_the_burst_has_four() {
    let mut world = plain_world(good_plain);
    world.run_for(0.2);
    assert_eq!(world.samples(), 1);
    world.run_for(60.0);
    let times: Vec<f64> = world.sent.iter().map(|(seconds, ..)| *seconds).collect();
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[..3].iter().all(|gap| (1.9..2.1).contains(gap)), "{gaps:?}");
    assert!((4.0..4.2).contains(&gaps[3]) && (8.0..8.3).contains(&gaps[4]), "{gaps:?}");
    assert!(gaps[5..].iter().all(|gap| (16.0..16.6).contains(gap)), "{gaps:?}");
    assert!(world.report().tracking.synchronized);
}

#[test]
fn an_exchange_of_which_everything_is_known_is_closed_at_once() {
    let mut world = plain_world(good_plain);
    world.kernel_stamps = true;
    world.run_for(0.2);
    assert_eq!((world.samples(), world.open_sockets), (1, 0));
    // The kernel may still tell when the request left: its socket stays until the deadline.
    let mut world = plain_world(good_plain);
    world.run_for(0.2);
    assert_eq!((world.samples(), world.open_sockets), (1, 1));
}

#[test]
fn the_interval_grows_to_its_limit_when_all_is_calm() {
    let mut world = plain_world(good_plain);
    world.run_for(40_000.0);
    let poll = world.source().poll;
    assert!((6..=10).contains(&poll), "{poll}");
    assert_eq!(world.source().reach, 0o377);
}

#[test]
fn offsets_have_the_sign_of_their_report() {
    let mut world = World::with_config(config(vec![SourceConfig::server("192.0.2.1")]), 0.05);
    world.server("192.0.2.1:123", good_plain);
    world.run_for(1.0);
    let report = world.source();
    // Our clock is 50 ms ahead: chronyc's sources say +50 ms (fast), ntpdata says -50 ms.
    assert!((report.measured_offset_seconds - 0.05).abs() < 2e-4, "{}", report.measured_offset_seconds);
    assert!((report.ntp.offset_seconds + 0.05).abs() < 2e-4);
    assert!((report.ntp.delay_seconds - 0.02).abs() < 2e-4);
    assert!((report.ntp.response_seconds - 1e-6).abs() < 1e-9);
    assert_eq!((report.ntp.stratum, report.ntp.mode, report.ntp.version), (1, 4, 4));
    assert_eq!(report.reference_id, [192, 0, 2, 1]);
}

#[test]
fn each_test_refuses_for_its_reason() {
    type Change = fn(&mut Header);
    let cases: [(DiscardReason, &str, Change); 9] = [
        (DiscardReason::ZeroTimestamp, "1101110111", |header| header.receive = NtpTimestamp::ZERO),
        (DiscardReason::ServerUnsynchronized, "1111011111", |header| {
            header.leap = LeapIndicator::Unsynchronized
        }),
        (DiscardReason::ServerUnsynchronized, "1111011111", |header| header.stratum = 16),
        (DiscardReason::RootDistance, "1111101111", |header| {
            header.root_delay = NtpShort::from_bits(32 << 16)
        }),
        (DiscardReason::Delay, "1111110111", |header| {
            header.transmit = header.receive - NtpDuration::from_nanos(1000);
        }),
        (DiscardReason::Delay, "1111110111", |header| {
            header.transmit = header.receive + NtpDuration::from_seconds(5);
        }),
        (DiscardReason::Loop, "1111111110", |header| {
            (header.stratum, header.reference_id) = (2, ReferenceId([198, 51, 100, 1]));
        }),
        (DiscardReason::WrongVersion, "", |header| header.version = 2),
        (DiscardReason::OriginMismatch, "", |header| header.origin = NtpTimestamp::ZERO),
    ];
    for (reason, tests, change) in cases {
        let mut world = plain_world(move |asked| vec![plain_answer(asked, change)]);
        world.run_for(60.0);
        assert_eq!(world.samples(), 0, "{reason}");
        assert_eq!(world.discarded(reason), world.sent.len(), "{reason}: {:?}", world.source().discards);
        let report = world.source();
        if !tests.is_empty() {
            assert_eq!(format!("{:010b}", report.ntp.tests), tests, "{reason}");
        }
        assert!(!world.report().tracking.synchronized);
    }
}

#[test]
fn a_long_round_trip_is_refused() {
    let mut world = plain_world(|asked| vec![Answer { after: 0.5, ..plain_answer(asked, |_| ()) }]);
    world.engine.sources[0].config.max_delay_seconds = 0.4;
    world.run_for(60.0);
    assert_eq!((world.samples(), world.discarded(DiscardReason::Delay)), (0, world.sent.len()));
}

#[test]
fn a_route_that_became_longer_is_accepted_after_a_while() {
    let mut world = plain_world(|asked| {
        let after = if asked.number < 10 { 0.0 } else { 0.2 };
        vec![Answer { after, ..plain_answer(asked, |_| ()) }]
    });
    world.run_for(2000.0);
    let refused = world.discarded(DiscardReason::DelayRatio);
    assert!((1..=8).contains(&refused), "{refused}");
    assert_eq!(world.samples(), world.sent.len() - refused);
}

#[test]
fn plain_kisses_are_obeyed_when_the_origin_is_right() {
    let mut world = plain_world(|asked| vec![kiss(asked, b"RATE", None)]);
    world.run_for(300.0);
    assert!(world.sent.len() <= 5, "{}", world.sent.len());
    let mut forged = plain_world(|asked| {
        let mut deny = kiss(asked, b"DENY", None);
        deny.octets[24..32].fill(9);
        [vec![deny], good_plain(asked)].concat()
    });
    forged.run_for(60.0);
    assert_eq!(forged.samples(), forged.sent.len());
    let mut denied = plain_world(|asked| vec![kiss(asked, b"DENY", None)]);
    denied.run_for(3000.0);
    assert_eq!(denied.sent.len(), 1);
    assert!(denied.events.iter().any(|event| matches!(event, Event::Kiss { .. })));
}

/// RFC 5905 §7.4: only stratum 0 makes a kiss code of what names a clock otherwise.
#[test]
fn a_reference_identifier_is_a_kiss_code_at_stratum_0_and_in_letters_only() {
    let named = |stratum, name: [u8; 4]| {
        let mut world = plain_world(move |asked| {
            vec![plain_answer(asked, |header| {
                (header.stratum, header.reference_id) = (stratum, ReferenceId(name));
            })]
        });
        world.run_for(60.0);
        let kisses = world.events.iter().filter(|event| matches!(event, Event::Kiss { .. })).count();
        (kisses > 0, world.samples() == world.sent.len())
    };
    assert_eq!(named(1, *b"DENY"), (false, true));
    assert_eq!(named(0, *b"DENY"), (true, false));
    assert_eq!(named(0, [192, 0, 2, 1]), (false, false), "a server without time, and no kiss");
}

fn keyed(answer_key: u32, spoil: bool) -> World {
    let key = |id| SymmetricKey::new(id, MacAlgorithm::Sha1, &[7; 20]).expect("a key");
    let source = SourceConfig { authentication: Authentication::Key(2), ..SourceConfig::server("192.0.2.1") };
    let mut settings = config(vec![source]);
    settings.keys = Arc::new(vec![key(1), key(2)]);
    let mut world = World::with_config(settings, 0.0);
    world.server("192.0.2.1:123", move |asked| {
        let mut buffer = [0; 128];
        buffer[..48].copy_from_slice(&good_header(asked).encode());
        let mut writer = FieldWriter::new(&mut buffer, 48);
        key(answer_key).append_mac(&mut writer, 4).expect("there is room");
        let mut octets = writer.written().to_vec();
        octets[60] ^= u8::from(spoil);
        vec![answer(asked, octets)]
    });
    world
}

#[test]
fn symmetric_keys_vouch_for_answers() {
    let mut good = keyed(2, false);
    good.run_for(60.0);
    assert_eq!(good.samples(), good.sent.len());
    assert!(good.sent.iter().all(|(_, _, octets)| octets.len() == 48 + 24));
    let authentication = good.source().authentication;
    assert_eq!((authentication.key_id, authentication.key_type, authentication.key_bits), (2, 2, 160));
    let mut wrong_key = keyed(1, false);
    wrong_key.run_for(60.0);
    assert_eq!((wrong_key.samples(), wrong_key.discarded(DiscardReason::NoMac)), (0, wrong_key.sent.len()));
    let mut spoilt = keyed(2, true);
    spoilt.run_for(60.0);
    assert_eq!((spoilt.samples(), spoilt.discarded(DiscardReason::MacFailed)), (0, spoilt.sent.len()));
}

#[test]
fn bare_answers_and_crypto_naks_to_keyed_requests_are_refused() {
    for (tail, reason) in [(&[][..], DiscardReason::NoMac), (&[0; 4][..], DiscardReason::CryptoNak)] {
        let mut world = keyed(2, false);
        world.server("192.0.2.1:123", move |asked| {
            let octets = [&good_header(asked).encode()[..], tail].concat();
            vec![answer(asked, octets)]
        });
        world.run_for(60.0);
        assert_eq!((world.samples(), world.discarded(reason)), (0, world.sent.len()));
    }
}

#[test]
fn a_key_that_does_not_exist_is_told_and_nothing_is_sent() {
    let source = SourceConfig { authentication: Authentication::Key(5), ..SourceConfig::server("192.0.2.1") };
    let mut world = World::new(vec![source]);
    world.run_for(60.0);
    assert!(world.sent.is_empty());
    let refused =
        |event: &Event| matches!(event, Event::SourceRefused { reason: SourceRefusal::UnknownKey(5), .. });
    assert!(world.events.iter().any(refused));
}

#[test]
fn required_authentication_keeps_unauthenticated_samples_out() {
    let mut settings = config(vec![SourceConfig::server("192.0.2.1")]);
    settings.authentication = AuthenticationPolicy::Required;
    let mut world = World::with_config(settings, 5.0);
    world.server("192.0.2.1:123", good_plain);
    world.run_for(600.0);
    assert_eq!(world.samples(), 0);
    assert!(world.discarded(DiscardReason::Unauthenticated) > 4);
    assert!(!world.report().tracking.synchronized);
    assert_eq!(world.clock_error, NtpDuration::from_seconds(5));
    let reachable = world.source();
    assert_eq!((reachable.reach, reachable.state), (0o377, 'N'));
}

#[test]
fn the_use_of_an_unauthenticated_source_is_told() {
    let mut world = plain_world(good_plain);
    world.run_for(60.0);
    assert_eq!(world.report().unauthenticated_in_use, ["192.0.2.1"]);
    assert!(!world.report().tracking.authenticated);
    let told =
        world.events.iter().filter(|event| matches!(event, Event::UnauthenticatedInUse { .. })).count();
    assert_eq!(told, 1);

    let mut mixed = World::new(vec![SourceConfig::nts("nts.example"), SourceConfig::server("192.0.2.9")]);
    mixed.name("nts.example", &["192.0.2.1"]);
    mixed.ke("nts.example", good_ke);
    mixed.server("192.0.2.1:123", good_nts);
    mixed.server("192.0.2.9:123", |asked| {
        vec![plain_answer(asked, |header| {
            header.receive = header.receive + NtpDuration::from_seconds(100);
            header.transmit = header.transmit + NtpDuration::from_seconds(100);
        })]
    });
    mixed.run_for(600.0);
    assert!(mixed.report().unauthenticated_in_use.is_empty(), "a liar against an authenticated source");
    assert!(mixed.report().tracking.authenticated);
}

#[test]
fn kernel_stamps_replace_the_daemons() {
    let mut world = plain_world(|_| Vec::new());
    world.run_for(0.15);
    let exchange = world.engine.associations[0].exchange.as_ref().expect("a request is under way").id;
    let stamp = |reading| Timestamped { at: reading, source: TimestampSource::Kernel };
    let (sent, header) = (world.reading(), world.sent[0].2.clone());
    world.input(Input::TransmitTimestamp { exchange, sent: stamp(sent) });
    world.advance(world.now.add_secs_f64(0.01));
    let time = world.true_time();
    let asked = Asked { octets: &header, number: 0, time, address: at("192.0.2.1:123"), ring: &world.ring };
    let octets = plain_answer(&asked, |_| ()).octets;
    let received = stamp(world.reading());
    world.input(Input::Datagram {
        exchange,
        from: at("192.0.2.1:123"),
        local: None,
        received,
        path: None,
        octets: &octets,
    });
    let ntp = world.source().ntp;
    assert_eq!(
        (ntp.tx_timestamping, ntp.rx_timestamping),
        (Some(TimestampSource::Kernel), Some(TimestampSource::Kernel))
    );
    assert_eq!((ntp.total_kernel_tx, ntp.total_kernel_rx), (1, 1));
    assert!((ntp.delay_seconds - 0.01).abs() < 1e-5, "{}", ntp.delay_seconds);
}

#[test]
fn a_step_between_request_and_answer_does_not_spoil_the_measurement() {
    let mut world = plain_world(|asked| vec![Answer { after: 0.5, ..plain_answer(asked, |_| ()) }]);
    world.run_for(0.3);
    world.clock_error = NtpDuration::from_seconds(50);
    world.input(Input::ClockStepped { by: NtpDuration::from_seconds(50) });
    world.run_for(1.0);
    assert_eq!((world.discarded(DiscardReason::ClockStepped), world.samples()), (1, 0));
    world.run_for(3.0);
    let ntp = world.source().ntp;
    assert!((ntp.delay_seconds - 0.52).abs() < 0.01, "{}", ntp.delay_seconds);
    assert!((ntp.offset_seconds + 50.0).abs() < 0.3, "{}", ntp.offset_seconds);
}

#[test]
fn failures_to_send_are_told_and_cost_nothing_else() {
    let mut world = plain_world(good_plain);
    world.network_is_down = true;
    world.run_for(60.0);
    let failed =
        |event: &&Event| matches!(event, Event::SendFailed { failure: SendFailure::Unreachable, .. });
    assert!(world.events.iter().filter(failed).count() > 4);
    assert_eq!(world.open_sockets, 0);
    world.network_is_down = false;
    world.input(Input::NetworkChanged);
    world.run_for(10.0);
    assert!(world.samples() >= 4);
}

#[test]
fn an_icmp_message_does_not_end_the_wait() {
    let mut world = plain_world(|asked| vec![Answer { after: 1.0, ..plain_answer(asked, |_| ()) }]);
    world.run_for(0.5);
    let exchange = world.engine.associations[0].exchange.as_ref().expect("a request is under way").id;
    world.input(Input::ExchangeFailed { exchange, failure: SendFailure::Refused });
    world.run_for(1.0);
    assert_eq!(world.samples(), 1);
}

#[test]
fn sockets_are_closed_again() {
    let mut world =
        plain_world(|asked| if asked.number.is_multiple_of(3) { Vec::new() } else { good_plain(asked) });
    world.run_for(1000.0);
    assert!(world.open_sockets <= 1, "{}", world.open_sockets);
}

#[test]
fn very_short_intervals_are_not_for_distant_servers() {
    let source = SourceConfig {
        poll_min: PollExponent::new(-2),
        poll_max: PollExponent::new(-2),
        iburst: false,
        ..SourceConfig::server("192.0.2.1")
    };
    let mut world = World::new(vec![source]);
    world.server("192.0.2.1:123", good_plain);
    world.run_for(10.0);
    // 20 ms away: once a second. Polling's own tests have the near one.
    assert!((9..=11).contains(&world.samples()), "{}", world.samples());
}

fn world_of(source: SourceConfig, behaviour: impl FnMut(&Asked<'_>) -> Vec<Answer> + 'static) -> World {
    let mut world = World::new(vec![source]);
    world.server("192.0.2.1:123", behaviour);
    world
}

#[test]
fn the_answer_to_a_request_that_goes_ahead_is_no_measurement() {
    let server = SourceConfig::server("192.0.2.1");
    let presend_from = Some(PollExponent::new(4));
    let mut world = world_of(SourceConfig { presend_from, iburst: false, ..server }, good_plain);
    world.run_for(1.0);
    assert_eq!((world.samples(), world.discarded(DiscardReason::SentAhead)), (0, 1));
    assert_eq!(format!("{:010b}", world.source().ntp.tests), "1111110111");
    assert_eq!(world.source().reach, 1);
    world.run_for(2.0);
    assert_eq!((world.samples(), world.discarded(DiscardReason::SentAhead)), (1, 1));
}

#[test]
fn measurements_become_one_after_as_many_polls() {
    let server = SourceConfig::server("192.0.2.1");
    let mut number = 0;
    let mut world = world_of(SourceConfig { median_filter: 4, ..server }, move |asked| {
        number += 1;
        // Every second answer is lost.
        if number % 2 == 0 { good_plain(asked) } else { Vec::new() }
    });
    world.run_for(5.5);
    assert_eq!((world.samples(), world.source().ntp.total_good_rx), (0, 1));
    world.run_for(2.0);
    assert_eq!((world.samples(), world.source().ntp.total_good_rx), (1, 2));
}

#[test]
fn a_server_that_is_copied_lends_us_its_stratum_and_reference() {
    let server = SourceConfig::server("192.0.2.1");
    for copy_reference in [false, true] {
        let options = chime_discipline::SourceOptions { copy_reference, ..server.options };
        let mut world = world_of(SourceConfig { options, ..server.clone() }, |asked| {
            vec![plain_answer(asked, |header| {
                (header.stratum, header.reference_id) = (2, ReferenceId([10, 9, 8, 7]));
            })]
        });
        world.run_for(20.0);
        let tracking = world.report().tracking;
        let shown = (tracking.stratum, tracking.reference_id);
        assert_eq!(shown, if copy_reference { (2, [10, 9, 8, 7]) } else { (3, [192, 0, 2, 1]) });
    }
}

#[test]
fn a_source_goes_offline_when_sending_fails_where_that_is_wished() {
    let server = SourceConfig::server("192.0.2.1");
    for offline_on_failure in [false, true] {
        let mut world = world_of(SourceConfig { offline_on_failure, ..server.clone() }, good_plain);
        world.network_is_down = true;
        world.run_for(60.0);
        let count = world.sent.len();
        world.network_is_down = false;
        world.run_for(300.0);
        assert_eq!(world.sent.len() > count, !offline_on_failure);
        assert_eq!(world.source().online, !offline_on_failure);
    }
}

#[test]
fn requests_say_how_often_they_come_only_where_that_is_wished() {
    for (announce_poll, poll) in [(false, 0), (true, 4)] {
        let sources = vec![SourceConfig::server("192.0.2.1")];
        let mut world = World::with_config(crate::Config { announce_poll, ..config(sources) }, 0.0);
        world.server("192.0.2.1:123", good_plain);
        world.run_for(0.1);
        assert_eq!(Header::decode(&world.sent[0].2).expect("a request").poll, poll);
    }
}

#[test]
fn with_a_quantile_most_answers_are_too_late() {
    let server = SourceConfig::server("192.0.2.1");
    let mut number = 0_u32;
    let mut world = world_of(SourceConfig { max_delay_quantile: 0.25, ..server }, move |asked| {
        number += 1;
        good_plain(asked)
            .into_iter()
            // The round trips go round in circles.
            .map(|answer| Answer { after: answer.after + 1e-3 * f64::from(number * 7 % 10), ..answer })
            .collect()
    });
    world.run_for(5000.0);
    let (good, late) = (world.samples(), world.discarded(DiscardReason::DelayRatio));
    assert!(good * 2 > late / 3 && good * 2 < late, "{good} {late}");
}

/// A server whose time is `seconds` ahead.
fn ahead_by(seconds: i64) -> impl FnMut(&Asked<'_>) -> Vec<Answer> {
    move |asked| {
        vec![plain_answer(asked, |header| {
            header.receive = header.receive + NtpDuration::from_seconds(seconds);
            header.transmit = header.transmit + NtpDuration::from_seconds(seconds);
        })]
    }
}

#[test]
fn an_authenticated_source_without_keys_is_required_all_the_same() {
    let mut world = World::new(vec![SourceConfig::nts("nts.example"), SourceConfig::server("192.0.2.9")]);
    world.name("nts.example", &["192.0.2.1"]);
    world.server("192.0.2.9:123", ahead_by(100));
    world.run_for(600.0);
    assert!(!world.report().tracking.synchronized, "whoever blocks the handshake does not set the clock");
    assert!(world.clock_error.abs() < NtpDuration::from_secs_f64(0.1), "{:?}", world.clock_error);
}

#[test]
fn the_first_of_three_servers_to_be_found_does_not_set_the_clock_alone() {
    let names = ["liar.example", "one.example", "two.example"];
    let mut world = World::new(names.map(SourceConfig::server).to_vec());
    world.name("liar.example", &["192.0.2.9"]);
    world.server("192.0.2.9:123", ahead_by(2000));
    world.run_for(1.0);
    for (name, address) in [("one.example", "192.0.2.1"), ("two.example", "192.0.2.2")] {
        world.name(name, &[address]);
        world.server(&format!("{address}:123"), good_plain);
    }
    world.run_for(600.0);
    assert!(world.clock_error.abs() < NtpDuration::from_secs_f64(0.1), "{:?}", world.clock_error);
    assert!(world.report().tracking.synchronized);
}
