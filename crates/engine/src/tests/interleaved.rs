//! Interleaved mode: the server tells afterwards when its answers really left. RFC 9769 §2.

use super::world::{Answer, Asked, Changes, World, good_ke, good_plain, nts_answer, plain_answer};
use crate::{Command, DiscardReason, Input, SourceConfig};
use chime_time::{NtpDuration, NtpTimestamp, PollExponent};
use chime_wire::Header;
use std::collections::BTreeMap;

/// How late after its own transmit timestamp an answer really leaves; seconds.
const LATE: f64 = 400e-6;

/// What a server remembers: its receive timestamps, and when the answers to them really left.
type Memory = BTreeMap<u64, NtpTimestamp>;

fn late(seconds: f64) -> NtpDuration {
    NtpDuration::from_secs_f64(seconds)
}

/// Changes the header of a basic answer into an interleaved one where the request asks for it, as an independent reading
/// of RFC 9769 §2. The receive timestamp gets low bits of its own so that no two are alike.
fn interleave(asked: &Asked<'_>, memory: &mut Memory, header: &mut Header) {
    let request = Header::decode(asked.octets).expect("a request has a header");
    let basic = header.transmit;
    if let Some(transmit) = memory.get(&request.origin.to_bits())
        && request.receive != request.transmit
    {
        header.origin = request.receive;
        header.transmit = *transmit;
    }
    memory.insert(header.receive.to_bits(), basic + late(LATE));
}

/// A plain server that answers late, and says so in interleaved mode.
fn late_plain(mut memory: Memory) -> impl FnMut(&Asked<'_>) -> Vec<Answer> {
    move |asked| {
        let answer = plain_answer(asked, |header| interleave(asked, &mut memory, header));
        vec![Answer { after: LATE, ..answer }]
    }
}

fn source(interleaved: bool) -> SourceConfig {
    SourceConfig {
        interleaved,
        poll_min: PollExponent::new(4),
        poll_max: PollExponent::new(4),
        ..SourceConfig::server("192.0.2.1")
    }
}

fn world(interleaved: bool, behaviour: impl FnMut(&Asked<'_>) -> Vec<Answer> + 'static) -> World {
    let mut world = World::new(vec![source(interleaved)]);
    world.server("192.0.2.1:123", behaviour);
    world
}

fn headers(world: &World) -> Vec<Header> {
    world.sent.iter().map(|(.., octets)| Header::decode(octets).expect("a request")).collect()
}

#[test]
fn interleaved_mode_takes_off_what_late_transmit_timestamps_add() {
    let mut error = [false, true].map(|interleaved| {
        let mut world = world(interleaved, late_plain(Memory::new()));
        world.run_for(600.0);
        assert!(world.report().tracking.synchronized);
        let ntp = world.source().ntp;
        assert_eq!(ntp.interleaved, interleaved);
        assert_eq!(ntp.total_interleaved_rx > 30, interleaved, "{}", ntp.total_interleaved_rx);
        (world.clock_error.as_secs_f64().abs(), ntp.delay_seconds)
    });
    let [(basic, basic_delay), (exact, exact_delay)] = &mut error;
    // Half of what the answer is late by, and all of it in the delay.
    assert!((*basic - LATE / 2.0).abs() < 2e-5, "{basic}");
    assert!(*exact < 2e-5, "{exact}");
    assert!((*basic_delay - *exact_delay - LATE).abs() < 2e-4, "{basic_delay} {exact_delay}");
}

#[test]
fn requests_refer_to_the_answer_before_and_to_nothing_else() {
    let mut world = world(true, late_plain(Memory::new()));
    world.run_for(100.0);
    let headers = headers(&world);
    assert!(headers[0].origin.is_zero() && headers[0].receive.is_zero(), "the first request is a basic one");
    for pair in headers[1..].windows(2) {
        assert!(!pair[0].origin.is_zero() && pair[0].origin != pair[1].origin);
        assert!(pair[0].receive != pair[0].transmit && !pair[0].receive.is_zero());
        assert!(pair[0].receive != pair[1].receive, "each request has a random number of its own");
    }
    let basic = self::world(false, late_plain(Memory::new()));
    assert!(self::headers(&basic).iter().all(|header| header.origin.is_zero() && header.receive.is_zero()));
}

#[test]
fn each_exchange_makes_one_sample() {
    let mut world = world(true, late_plain(Memory::new()));
    world.run_for(100.0);
    let (answers, interleaved) = (world.source().ntp.total_valid_rx, world.source().ntp.total_interleaved_rx);
    assert_eq!(interleaved, answers - 1);
    // The first answer made a sample at once; the second one only said more about it.
    assert_eq!(world.samples() as u64, answers - 1);
    assert_eq!(world.discarded(DiscardReason::NotStored), 0);
    assert_eq!(world.source().reach.count_ones(), 8);
}

#[test]
fn a_server_without_the_mode_is_used_in_basic_mode() {
    let mut world = world(true, good_plain);
    world.run_for(200.0);
    let ntp = world.source().ntp;
    assert!(!ntp.interleaved && ntp.total_interleaved_rx == 0);
    assert_eq!(world.samples() as u64, ntp.total_valid_rx);
    assert!(world.report().tracking.synchronized);
}

#[test]
fn lost_answers_are_bridged_and_then_given_up() {
    let mut memory = Memory::new();
    let mut world = world(true, move |asked| {
        let answer = plain_answer(asked, |header| interleave(asked, &mut memory, header));
        let is_lost = (6..8).contains(&asked.number) || (12..18).contains(&asked.number);
        if is_lost { vec![] } else { vec![Answer { after: LATE, ..answer }] }
    });
    world.run_for(400.0);
    let headers = headers(&world);
    // Two losses: still the same answer is asked about.
    assert_eq!(headers[7].origin, headers[6].origin);
    assert_eq!(headers[8].origin, headers[6].origin);
    assert_ne!(headers[9].origin, headers[8].origin);
    // After four requests without an answer the next ones are basic.
    assert!(!headers[15].origin.is_zero());
    assert!(headers[16].origin.is_zero() && headers[18].origin.is_zero());
    assert!(world.source().ntp.interleaved);
    assert_eq!(world.discarded(DiscardReason::NotStored), 0);
}

#[test]
fn an_answer_echoes_one_of_the_two_random_numbers_or_is_none() {
    type Forge = fn(&Header, &mut Header);
    let forgeries: [Forge; 4] = [
        // The server's own timestamp, which everybody saw; zero; the two mixed; the last request's.
        |request, answer| answer.origin = request.origin,
        |_, answer| answer.origin = NtpTimestamp::ZERO,
        |request, answer| {
            answer.origin =
                NtpTimestamp::from_bits(request.receive.to_bits() ^ request.transmit.to_bits() ^ 2);
        },
        |request, answer| answer.origin = NtpTimestamp::from_bits(request.receive.to_bits() ^ 1),
    ];
    for forge in forgeries {
        let mut memory = Memory::new();
        let mut world = world(true, move |asked| {
            let request = Header::decode(asked.octets).expect("a request");
            let good = plain_answer(asked, |header| interleave(asked, &mut memory, header));
            let forged = plain_answer(asked, |header| {
                header.transmit = header.transmit + late(3.0);
                header.receive = header.receive + late(3.0);
                forge(&request, header);
            });
            vec![forged, Answer { after: 0.001, ..good }]
        });
        world.run_for(100.0);
        assert_eq!(world.discarded(DiscardReason::OriginMismatch), world.sent.len());
        assert!(world.clock_error.as_secs_f64().abs() < 1e-3);
        assert!(world.source().ntp.total_interleaved_rx > 5);
    }
}

#[test]
fn an_interleaved_answer_counts_once() {
    let mut memory = Memory::new();
    let mut world = world(true, move |asked| {
        let answer = plain_answer(asked, |header| interleave(asked, &mut memory, header));
        vec![answer.clone(), answer]
    });
    world.run_for(100.0);
    assert_eq!(world.discarded(DiscardReason::Duplicate), world.sent.len());
}

#[test]
fn a_step_of_the_clock_ends_what_is_under_way() {
    let mut world = world(true, late_plain(Memory::new()));
    world.run_for(60.0);
    let before = world.sent.len();
    world.clock_error += late(0.3);
    world.input(Input::ClockStepped { by: late(0.3) });
    world.run_for(30.0);
    let after = &headers(&world)[before..];
    assert!(after[0].origin.is_zero(), "timestamps from before the step are not used");
    world.run_for(300.0);
    assert!(world.clock_error.as_secs_f64().abs() < 1e-3, "{:?}", world.clock_error);
}

#[test]
fn nts_and_interleaved_mode_go_together() {
    let mut memory = Memory::new();
    let mut world = World::new(vec![SourceConfig { interleaved: true, ..SourceConfig::nts("nts.example") }]);
    world.name("nts.example", &["192.0.2.1"]);
    world.ke("nts.example", good_ke);
    world.server("192.0.2.1:123", move |asked| {
        let memory = std::cell::RefCell::new(&mut memory);
        let change = |header: &mut Header| interleave(asked, &mut memory.borrow_mut(), header);
        let answer = nts_answer(asked, &Changes { header: Some(&change), ..Changes::default() });
        vec![Answer { after: LATE, ..answer }]
    });
    world.run_for(900.0);
    let source = world.source();
    assert!(source.ntp.interleaved && source.ntp.authenticated);
    assert_eq!(source.ntp.total_interleaved_rx, source.ntp.total_valid_rx - 1);
    assert!(world.clock_error.as_secs_f64().abs() < 5e-5, "{:?}", world.clock_error);
    world.command(Command::Burst { matching: crate::SourceMatch::All, good: 2, total: 4 });
    world.run_for(20.0);
    assert!(world.source().ntp.interleaved);
}
