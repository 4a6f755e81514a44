//! NTS answers, good and bad. RFC 8915 §5.7; the faults are those that were tried on chronyd, NTPsec and ntpd-rs.

use super::world::{
    Answer, Asked, Changes, World, answer, good_header, good_nts, identifier, kiss, nak, nts_answer,
    plain_answer,
};
use crate::{DiscardReason, Event};
use chime_nts::{Cookie, NtsRequest};
use chime_time::NtpTimestamp;
use chime_wire::{FieldWriter, Header, LeapIndicator, Mode, ReferenceId, field_type};

/// Requests answered well before a fault begins.
const GOOD_BEFORE: usize = 4;

/// A world with an NTS server that becomes faulty after the first answers.
fn faulty(fault: impl Fn(&Asked<'_>) -> Vec<Answer> + 'static) -> World {
    let mut world = World::with_nts_server();
    world.server(
        "192.0.2.1:123",
        move |asked| {
            if asked.number < GOOD_BEFORE { good_nts(asked) } else { fault(asked) }
        },
    );
    world
}

/// Runs a fault for ten minutes and says what came of it: nothing is believed, and it is refused for this reason.
fn is_refused(name: &str, reason: DiscardReason, fault: impl Fn(&Asked<'_>) -> Answer + 'static) -> World {
    let mut world = faulty(move |asked| vec![fault(asked)]);
    world.run_for(600.0);
    assert_eq!(world.samples(), GOOD_BEFORE, "{name}: nothing bad is believed");
    assert!(world.discarded(reason) >= 4, "{name}: {:?}", world.source().discards);
    assert!(world.source().last_error.is_some(), "{name}");
    world
}

fn changed(asked: &Asked<'_>, change: impl Fn(&mut Vec<u8>)) -> Answer {
    let mut answer = nts_answer(asked, &Changes::default());
    change(&mut answer.octets);
    answer
}

fn with_header(asked: &Asked<'_>, header: &dyn Fn(&mut Header)) -> Answer {
    nts_answer(asked, &Changes { header: Some(header), ..Changes::default() })
}

/// A good answer with a field between header and unique identifier, or behind everything, unauthenticated.
fn with_field_behind(asked: &Asked<'_>, field_type: u16, body: &[u8]) -> Answer {
    let mut answer = nts_answer(asked, &Changes::default());
    let length = answer.octets.len();
    let mut buffer = answer.octets.clone();
    buffer.resize(length + 2048, 0);
    let mut writer = FieldWriter::new(&mut buffer, length);
    writer.put_field(field_type, body, 28).expect("there is room");
    answer.octets = writer.written().to_vec();
    answer
}

#[test]
fn everything_valid_gives_samples_and_keeps_eight_cookies() {
    let mut world = World::with_nts_server();
    world.run_for(600.0);
    assert!(world.samples() > 10);
    assert_eq!(world.establishments.len(), 1);
    assert!(world.placeholders().iter().all(|count| *count == 0));
    let report = world.source();
    assert_eq!((report.authentication.cookies, report.reach), (8, 0o377));
    assert_eq!((report.authentication.key_type, report.authentication.key_bits), (15, 256));
    assert_eq!((report.authentication.key_id, report.authentication.attempts), (1, 0));
    assert_eq!(report.ntp.tests, 0b11_1111_1111);
    assert_eq!(world.samples(), world.sent.len());
    assert!(world.report().tracking.synchronized);
    assert!(world.report().unauthenticated_in_use.is_empty());
}

#[test]
fn no_cookie_is_ever_sent_twice() {
    let mut world = World::with_nts_server();
    world.run_for(4000.0);
    let mut cookies = world.cookies_sent();
    let sent = cookies.len();
    cookies.sort();
    cookies.dedup();
    assert_eq!(cookies.len(), sent);
}

#[test]
fn each_request_has_its_own_timestamp_and_identifier() {
    let mut world = World::with_nts_server();
    world.run_for(600.0);
    let mut seen: Vec<(NtpTimestamp, Vec<u8>)> = Vec::new();
    for (_, _, octets) in &world.sent {
        let header = Header::decode(octets).expect("a header");
        let request = NtsRequest::parse(octets).expect("an NTS request");
        assert_eq!((header.version, header.mode, header.stratum), (4, Mode::Client, 0));
        assert!(header.reference.is_zero() && header.receive.is_zero() && header.origin.is_zero());
        let pair = (header.transmit, request.unique_identifier.to_vec());
        assert!(!seen.iter().any(|other| other.0 == pair.0 || other.1 == pair.1));
        seen.push(pair);
    }
}

#[test]
fn answers_that_do_not_fit_are_refused_each_for_its_reason() {
    is_refused("wrong-uid", DiscardReason::UniqueIdentifierMismatch, |asked| {
        nts_answer(asked, &Changes { unique_identifier: Some(vec![7; 32]), ..Changes::default() })
    });
    is_refused("uid-short", DiscardReason::UniqueIdentifierMismatch, |asked| {
        let half = identifier(asked)[..16].to_vec();
        nts_answer(asked, &Changes { unique_identifier: Some(half), ..Changes::default() })
    });
    is_refused("no-uid", DiscardReason::NoUniqueIdentifier, |asked| {
        changed(asked, |octets| octets[49] = 0x7f) // the field's type is another
    });
    is_refused("wrong-tag", DiscardReason::AuthenticatorFailed, |asked| {
        changed(asked, |octets| *octets.last_mut().expect("octets") ^= 1)
    });
    is_refused("wrong-key", DiscardReason::AuthenticatorFailed, |asked| {
        nts_answer(asked, &Changes { key: Some(&|keys| keys.c2s.clone()), ..Changes::default() })
    });
    is_refused("altered header", DiscardReason::AuthenticatorFailed, |asked| {
        changed(asked, |octets| octets[47] ^= 1) // T3 moves by a quarter of a nanosecond
    });
    is_refused("no-auth", DiscardReason::NoAuthenticator, |asked| {
        changed(asked, |octets| octets.truncate(48 + 36))
    });
    is_refused("bare", DiscardReason::NoUniqueIdentifier, |asked| plain_answer(asked, |_| ()));
    is_refused("wrong-origin", DiscardReason::OriginMismatch, |asked| {
        with_header(asked, &|header| header.origin = NtpTimestamp::from_bits(header.origin.to_bits() ^ 1))
    });
    is_refused("ntp-truncated", DiscardReason::Malformed, |asked| {
        changed(asked, |octets| octets.truncate(octets.len() - 4))
    });
    is_refused("version3", DiscardReason::WrongVersion, |asked| {
        with_header(asked, &|header| header.version = 3)
    });
    is_refused("mode2", DiscardReason::WrongMode, |asked| {
        with_header(asked, &|header| header.mode = Mode::SymmetricPassive)
    });
    is_refused("our own request", DiscardReason::WrongMode, |asked| answer(asked, asked.octets.to_vec()));
    is_refused("trailing-ef", DiscardReason::NtsMalformed, |asked| {
        with_field_behind(asked, 0x2001, &[1; 28])
    });
    is_refused("wrong-port", DiscardReason::WrongSender, |asked| {
        let mut answer = nts_answer(asked, &Changes::default());
        answer.from.set_port(124);
        answer
    });
    is_refused("wrong-addr", DiscardReason::WrongSender, |asked| {
        let mut answer = nts_answer(asked, &Changes::default());
        answer.from = super::world::at("192.0.2.2:123");
        answer
    });
    is_refused("stratum16", DiscardReason::ServerUnsynchronized, |asked| {
        with_header(asked, &|header| header.stratum = 16)
    });
    is_refused("leap3", DiscardReason::ServerUnsynchronized, |asked| {
        with_header(asked, &|header| header.leap = LeapIndicator::Unsynchronized)
    });
}

#[test]
fn kiss_codes_that_nobody_vouches_for_are_ignored() {
    for code in [b"RATE", b"DENY", b"RSTR"] {
        for with_identifier in [true, false] {
            let world = is_refused("kiss", DiscardReason::UnauthenticatedKiss, move |asked| {
                let identifier = identifier(asked);
                kiss(asked, code, with_identifier.then_some(&identifier[..]))
            });
            // Its cookies are spent one by one, with placeholders, and then there is a new establishment.
            assert!(world.establishments.len() >= 2, "{code:?}");
            let report = world.source();
            assert!(report.poll <= report.poll_max && report.online);
        }
    }
}

#[test]
fn a_good_answer_behind_bad_ones_counts() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        let forged = kiss(asked, b"DENY", Some(&identifier(asked)));
        let mut corrupted = nts_answer(asked, &Changes::default());
        corrupted.octets[20] ^= 1;
        let mut good = nts_answer(asked, &Changes::default());
        good.after = 0.5;
        vec![forged, nak(asked), corrupted, good]
    });
    world.run_for(600.0);
    assert!(world.samples() > 10);
    assert_eq!(world.establishments.len(), 1);
    assert_eq!(world.discarded(DiscardReason::UnauthenticatedKiss), world.sent.len());
    assert_eq!(world.discarded(DiscardReason::AuthenticatorFailed), world.sent.len());
    assert_eq!(world.discarded(DiscardReason::NtsNak), world.sent.len());
    assert_eq!(world.source().reach, 0o377);
}

#[test]
fn duplicates_and_replays_are_seen() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        let mut twice = good_nts(asked);
        twice.push(Answer { after: 0.3, ..twice[0].clone() });
        twice
    });
    world.run_for(600.0);
    assert_eq!(world.discarded(DiscardReason::Duplicate), world.sent.len());
    assert_eq!(world.samples(), world.sent.len());

    let mut world = World::with_nts_server();
    let mut first: Option<Vec<u8>> = None;
    world.server("192.0.2.1:123", move |asked| match &first {
        Some(old) => vec![answer(asked, old.clone())],
        None => {
            let good = good_nts(asked);
            first = Some(good[0].octets.clone());
            good
        }
    });
    world.run_for(600.0);
    assert_eq!(world.samples(), 1);
    assert!(world.discarded(DiscardReason::OriginMismatch) > 4);
}

#[test]
fn a_replay_with_the_right_origin_fails_at_the_identifier() {
    let mut world = World::with_nts_server();
    let mut first: Option<Vec<u8>> = None;
    world.server("192.0.2.1:123", move |asked| match &first {
        Some(old) => {
            let mut octets = old.clone();
            octets[24..32].copy_from_slice(&asked.octets[40..48]);
            vec![answer(asked, octets)]
        }
        None => {
            let good = good_nts(asked);
            first = Some(good[0].octets.clone());
            good
        }
    });
    world.run_for(60.0);
    assert_eq!(world.samples(), 1);
    assert!(world.discarded(DiscardReason::UniqueIdentifierMismatch) > 2);
}

#[test]
fn answers_that_come_after_the_deadline_find_nobody() {
    let mut world = faulty(|asked| vec![Answer { after: 30.0, ..nts_answer(asked, &Changes::default()) }]);
    world.run_for(300.0);
    assert_eq!(world.samples(), GOOD_BEFORE);
    assert!(world.discarded(DiscardReason::UnknownExchange) > 4);
    assert!(!world.report().discards.is_empty());
}

#[test]
fn reordered_answers_belong_to_their_own_requests() {
    // Every second answer is slower than the two seconds of a burst: it must not be taken for the next one's.
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        let after = if asked.number % 2 == 0 { 2.5 } else { 0.0 };
        vec![Answer { after, ..nts_answer(asked, &Changes::default()) }]
    });
    world.run_for(12.0);
    let half = world.sent.len() / 2;
    assert!(world.samples() <= half + 1, "{} of {}", world.samples(), world.sent.len());
    assert!(world.discarded(DiscardReason::UnknownExchange) > 0);
}

#[test]
fn one_nak_leads_to_one_establishment() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        if asked.number == GOOD_BEFORE { vec![nak(asked)] } else { good_nts(asked) }
    });
    world.run_for(600.0);
    assert_eq!(world.establishments.len(), 2);
    assert_eq!(world.discarded(DiscardReason::NtsNak), 1);
    assert_eq!(world.events.iter().filter(|event| matches!(event, Event::NtsNak { .. })).count(), 1);
    assert_eq!(world.source().authentication.key_id, 2);
    assert!(!world.source().authentication.nak);
    assert!(world.samples() > 10);
}

#[test]
fn a_server_that_always_naks_is_not_flooded() {
    let mut world = faulty(|asked| vec![nak(asked)]);
    world.run_for(3600.0);
    let times: Vec<f64> = world.establishments.iter().map(|(at, _)| *at).collect();
    assert!((4..=9).contains(&times.len()), "{times:?}");
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[1..].windows(2).all(|pair| pair[1] > pair[0] * 1.3), "{gaps:?}");
    assert!(world.source().authentication.nak);
}

#[test]
fn forged_naks_are_refused() {
    for (origin, with_identifier) in [(true, true), (false, false)] {
        let mut world = faulty(move |asked| {
            let wrong = [3; 32];
            let right = identifier(asked);
            let mut forged = match (origin, with_identifier) {
                (true, _) => kiss(asked, b"NTSN", Some(&wrong)),
                (false, _) => kiss(asked, b"NTSN", None),
            };
            forged.after = 0.1;
            let mut foreign_origin = kiss(asked, b"NTSN", Some(&right));
            foreign_origin.octets[24] ^= 1;
            vec![forged, foreign_origin]
        });
        world.run_for(100.0);
        assert_eq!(world.discarded(DiscardReason::NtsNak), 0);
        assert!(world.discarded(DiscardReason::OriginMismatch) > 3);
        assert_eq!(world.establishments.len(), 1, "the cookies are spent one by one first");
    }
}

#[test]
fn an_authenticated_nak_is_a_kiss_that_means_nothing() {
    let kissing = |header: &mut Header| (header.stratum, header.reference_id) = (0, ReferenceId(*b"NTSN"));
    let world = is_refused("nak-auth", DiscardReason::KissOther, move |asked| with_header(asked, &kissing));
    assert_eq!(world.establishments.len(), 1);
    assert_eq!(world.source().authentication.cookies, 8);
}

#[test]
fn authenticated_rate_lengthens_the_interval() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        let kissing = |header: &mut Header| {
            (header.stratum, header.reference_id, header.poll) = (0, ReferenceId(*b"RATE"), 7);
        };
        if asked.number == GOOD_BEFORE { vec![with_header(asked, &kissing)] } else { good_nts(asked) }
    });
    world.run_for(600.0);
    assert_eq!(world.discarded(DiscardReason::KissRate), 1);
    assert!(world.source().poll >= 7);
    let after = world.sent.windows(2).find(|pair| pair[1].0 - pair[0].0 > 100.0);
    assert!(after.is_some(), "{:?}", world.sent.iter().map(|sent| sent.0).collect::<Vec<_>>());
    assert_eq!(world.establishments.len(), 1);
}

#[test]
fn authenticated_deny_silences_for_an_hour() {
    for code in [b"DENY", b"RSTR"] {
        let mut world = World::with_nts_server();
        world.server("192.0.2.1:123", |asked| {
            let kissing =
                |header: &mut Header| (header.stratum, header.reference_id) = (0, ReferenceId(*code));
            if asked.number == GOOD_BEFORE { vec![with_header(asked, &kissing)] } else { good_nts(asked) }
        });
        world.run_for(3500.0);
        assert_eq!(world.sent.len(), GOOD_BEFORE + 1);
        assert_eq!(world.establishments.len(), 1);
        assert_ne!(world.source().state, '*', "a source that is denied is not used");
        world.run_for(600.0);
        assert!(world.samples() > GOOD_BEFORE, "it is asked again after an hour");
    }
}

#[test]
fn cookies_run_down_and_then_there_is_a_new_establishment() {
    let mut world = faulty(|_| Vec::new());
    world.run_for(900.0);
    let placeholders = world.placeholders();
    assert_eq!(placeholders[..GOOD_BEFORE], [0; GOOD_BEFORE]);
    // Long requests may be what gets lost: fewer placeholders after the losses, although cookies are missing.
    assert!(placeholders[GOOD_BEFORE..GOOD_BEFORE + 8].iter().all(|count| *count <= 2), "{placeholders:?}");
    assert!(world.establishments.len() >= 2);
    let ninth = world.sent[GOOD_BEFORE + 7].0;
    assert!(world.establishments[1].0 >= ninth, "not before the last cookie is spent");
}

#[test]
fn answers_without_cookies_are_good_and_run_the_cookies_down() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        vec![nts_answer(asked, &Changes { cookies: Some(Vec::new()), ..Changes::default() })]
    });
    world.run_for(600.0);
    assert_eq!(world.placeholders()[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(world.establishments.len() >= 2);
    assert_eq!(world.samples(), world.sent.len());
}

#[test]
fn lost_answers_are_made_up_for_with_placeholders() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| if asked.number == 5 { Vec::new() } else { good_nts(asked) });
    world.run_for(600.0);
    let placeholders = world.placeholders();
    assert_eq!(placeholders[..8], [0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(world.source().authentication.cookies, 8);
}

#[test]
fn cookies_of_every_length_are_handled() {
    for octets in [16, 64, 200, 256, 260, 1000] {
        let mut world = World::with_nts_server();
        world.server("192.0.2.1:123", move |asked| {
            // The cookie is ours, so the first eight are good; those that follow are foreign and end in NTSN.
            let Ok(request) = NtsRequest::parse(asked.octets) else { return Vec::new() };
            if request.accept(asked.ring).is_err() {
                return vec![nak(asked)];
            }
            let cookie = Cookie::new(&vec![7; octets]).expect("a length that is taken");
            vec![nts_answer(
                asked,
                &Changes { cookies: Some(vec![cookie; 1 + request.placeholders]), ..Changes::default() },
            )]
        });
        world.run_for(200.0);
        assert!(world.samples() >= 8, "{octets}");
        assert!(world.sent.iter().all(|(_, _, request)| request.len() <= 1232), "{octets}");
    }
}

#[test]
fn more_cookies_than_asked_for_are_not_hoarded() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        let cookies = (0..12).map(|fill| Cookie::new(&[fill; 100]).expect("a cookie")).collect();
        let good = || nts_answer(asked, &Changes { cookies: Some(cookies), ..Changes::default() });
        let known = NtsRequest::parse(asked.octets).is_ok_and(|request| request.accept(asked.ring).is_ok());
        if known { vec![good()] } else { Vec::new() }
    });
    world.run_for(1.0);
    assert_eq!(world.source().authentication.cookies, 8);
}

#[test]
fn cookies_outside_of_the_encrypted_part_are_not_taken() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        let request = NtsRequest::parse(asked.octets).expect("an NTS request");
        let (keys, _) = request.accept(asked.ring).expect("a good cookie");
        let mut buffer = [0; 1024];
        buffer[..48].copy_from_slice(&good_header(asked).encode());
        let mut writer = FieldWriter::new(&mut buffer, 48);
        writer.put_field(field_type::NTS_COOKIE, &[1; 100], 0).expect("there is room");
        chime_nts::write_nts_response(&mut writer, request.unique_identifier, &keys.s2c, &[1; 16], &[])
            .expect("there is room");
        vec![answer(asked, writer.written().to_vec())]
    });
    world.run_for(1.0);
    assert_eq!((world.samples(), world.source().authentication.cookies), (1, 7));
}

#[test]
fn garbage_of_every_length_is_harmless() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        let garbage = (0..200usize).map(|length| {
            let octets = (0..length * 7).map(|at| (at * 31 + length * 17).to_le_bytes()[0]).collect();
            answer(asked, octets)
        });
        garbage.chain(good_nts(asked)).collect()
    });
    world.run_for(60.0);
    assert_eq!(world.samples(), world.sent.len());
    assert!(world.discarded(DiscardReason::Malformed) > 6);
}

#[test]
fn every_flipped_bit_of_an_answer_is_refused() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        let good = nts_answer(asked, &Changes::default());
        (0..good.octets.len() * 8)
            .map(|bit| {
                let mut flipped = good.clone();
                flipped.octets[bit / 8] ^= 1 << (bit % 8);
                flipped
            })
            .collect()
    });
    world.run_for(1.0);
    assert_eq!(world.samples(), 0);
}

#[test]
fn every_truncation_of_an_answer_is_refused() {
    let mut world = World::with_nts_server();
    world.server("192.0.2.1:123", |asked| {
        let good = nts_answer(asked, &Changes::default());
        (0..good.octets.len())
            .map(|length| Answer { octets: good.octets[..length].to_vec(), ..good.clone() })
            .collect()
    });
    world.run_for(1.0);
    assert_eq!(world.samples(), 0);
}
