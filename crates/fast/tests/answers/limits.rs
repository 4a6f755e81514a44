//! How often clients are answered: the program against the responder of the sockets, request by request.

use super::machine::{Frame, Machine, answer_payload, check_frame};
use super::{clients, machine, now, request, time};
use chime_server::{
    Arrival, Environment, Policy, Published, RateLimitSettings, Responder, ServerTime, Verdict,
};
use chime_time::{MonoTime, NtpDuration, NtpTimestamp};
use core::net::IpAddr;
use core::time::Duration;
use proptest::prelude::*;
use std::sync::Arc;

/// A clock that stands still while a request is answered, and random numbers that the program gets, too.
struct Drawn(NtpTimestamp, u32);

impl Environment for Drawn {
    fn system_time(&mut self) -> NtpTimestamp {
        self.0
    }

    fn fill_random(&mut self, octets: &mut [u8]) {
        let random = self.1.to_le_bytes();
        octets.iter_mut().zip(random).for_each(|(octet, random)| *octet = random);
    }
}

/// One server twice.
struct Both {
    machine: Machine,
    responder: Responder,
    time: ServerTime,
}

impl Both {
    fn new(limit: RateLimitSettings) -> Self {
        let policy = Policy { rate_limit: Some(limit), ..Policy::open() };
        let machine = machine(&policy, &time());
        Self { machine, responder: Responder::new(Arc::new(policy), [1, 2]), time: time() }
    }

    /// Asks both so many nanoseconds after the beginning; gives the one answer.
    fn ask(&mut self, client: IpAddr, nanos: u64, random: u32) -> Option<Vec<u8>> {
        super::set_clocks(&self.machine, nanos.cast_signed());
        self.machine.set_random(random);
        let frame = Frame::new(client, &request(0x23));
        let answer = self.machine.run_limited(&frame);
        let system = now().system + NtpDuration::from_nanos(nanos.cast_signed());
        let mono = MonoTime::from_nanos(now().mono.as_nanos() + nanos);
        let arrival = Arrival::new(client, system.timestamp(), mono);
        let published = Published { time: &self.time, keys: None };
        let mut room = [0; 48];
        let mut drawn = Drawn(system.timestamp(), random);
        let verdict = self.responder.respond(&request(0x23), &arrival, &published, &mut drawn, &mut room);
        let Verdict::Respond { .. } = verdict else {
            assert_eq!(answer, None, "{client} {nanos} {random:#x}");
            return None;
        };
        let answer = answer.unwrap_or_else(|| panic!("no answer: {client} {nanos} {random:#x}"));
        check_frame(&answer, &frame);
        let payload = answer_payload(&answer);
        // Times between publications are the same within a nanosecond, and dispersion within a unit.
        assert_eq!((&payload[..8], &payload[12..32]), (&room[..8], &room[12..32]), "{client} {nanos}");
        if payload[1] == 0 {
            assert_eq!((&payload[12..16], &payload[8..12]), (&b"RATE"[..], &[0; 4][..]));
        }
        Some(payload.to_vec())
    }
}

fn limit(interval: Duration, burst: u8) -> RateLimitSettings {
    RateLimitSettings { interval, burst, leak: None, kiss: None }
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_burst_and_then_one_answer_per_interval() {
    let mut both = Both::new(limit(Duration::from_millis(100), 4));
    let answered = (0..40).filter(|n| both.ask(clients()[0], n * SECOND / 20, 7).is_some()).count();
    assert_eq!(answered, 4 - 1 + 20);
    // Others have their own.
    let answered = (0..10).filter(|n| both.ask(clients()[1], 2 * SECOND + n, 7).is_some()).count();
    assert_eq!(answered, 4);
    let counters = both.machine.counters();
    assert_eq!((counters.answered, counters.limited, counters.kissed), (27, 23, 0));
}

#[test]
fn leaks_and_kisses_are_drawn_as_the_responder_draws_them() {
    let mut both =
        Both::new(RateLimitSettings { leak: Some(2), kiss: Some(1), ..limit(Duration::from_secs(100), 1) });
    let (mut time, mut kisses, mut drops) = (0, 0, 0);
    for number in 0..1000u32 {
        let random = number.wrapping_mul(2_654_435_761);
        match both.ask(clients()[0], u64::from(number) * SECOND / 1000, random) {
            Some(answer) if answer[1] == 0 => kisses += 1,
            Some(_) => time += 1,
            None => drops += 1,
        }
    }
    assert!((200..300).contains(&time) && (320..430).contains(&kisses), "{time} {kisses} {drops}");
    let counters = both.machine.counters();
    assert_eq!((counters.answered, counters.kissed, counters.limited), (time, kisses, drops));
}

#[test]
fn a_clock_that_another_processor_has_read_later_gives_no_credit() {
    let policy = Policy { rate_limit: Some(limit(Duration::from_millis(10), 1)), ..Policy::open() };
    let machine = machine(&policy, &time());
    let frame = Frame::new(clients()[0], &request(0x23));
    super::set_clocks(&machine, 1000);
    assert!(machine.run_limited(&frame).is_some());
    super::set_clocks(&machine, 900);
    assert!(machine.run_limited(&frame).is_none());
    super::set_clocks(&machine, 10_000_999);
    assert!(machine.run_limited(&frame).is_none());
    super::set_clocks(&machine, 10_001_000);
    assert!(machine.run_limited(&frame).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whenever requests come, from whichever of two clients: the same are answered.
    #[test]
    fn the_same_requests_are_answered(gaps in prop::collection::vec((0u64..400_000_000, any::<bool>()), 1..40), burst in 1u8..9, interval in 0u64..500) {
        let mut both = Both::new(limit(Duration::from_millis(interval), burst));
        let mut nanos = 0;
        for (gap, v6) in gaps {
            nanos = (nanos + gap / 4).min(3_900_000_000);
            both.ask(clients()[usize::from(v6)], nanos, 1);
        }
    }
}
