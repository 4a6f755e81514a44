//! The program against the responder of the sockets, octet by octet, in an interpreter.
//!
//! The interpreter is not ours, so that it is also a second opinion on how instructions are encoded. `chimed` has the same
//! frames go through the program in the kernel, where that is allowed.

mod handed_over;
mod limits;
mod machine;

use chime_fast::{ListenerRules, Place, TimeSlot, judge};
use chime_server::{
    AccessList, AccessRule, Arrival, Environment, Policy, Published, Responder, ServerTime, Verdict, Versions,
};
use chime_time::{ClockReading, MonoTime, NtpDate, NtpDuration, NtpTimestamp};
use chime_wire::{LeapIndicator, ReferenceId};
use core::net::IpAddr;
use machine::{Frame, Machine, SERVER_V4, SERVER_V6, answer_payload, check_frame};
use proptest::prelude::*;
use std::sync::Arc;

/// When the state of the clock begins.
const TAI_NANOS: u64 = 1_800_000_037_123_456_789;

fn now() -> ClockReading {
    ClockReading {
        mono: MonoTime::from_nanos(77_000_000_000),
        system: NtpDate::from_unix(1_800_000_000, 123_456_789),
    }
}

struct StandingStill(NtpTimestamp);

impl Environment for StandingStill {
    fn system_time(&mut self) -> NtpTimestamp {
        self.0
    }

    fn fill_random(&mut self, octets: &mut [u8]) {
        octets.fill(1);
    }
}

/// What the sockets answer `nanos` after the state began.
fn by_sockets(
    policy: &Policy,
    time: &ServerTime,
    request: &[u8],
    from: IpAddr,
    nanos: u64,
) -> Option<Vec<u8>> {
    let clock = now();
    let system = (clock.system + NtpDuration::from_nanos(i64::try_from(nanos).expect("small"))).timestamp();
    let mono = MonoTime::from_nanos(clock.mono.as_nanos() + nanos);
    let mut responder = Responder::new(Arc::new(policy.clone()), [1, 2]);
    let mut answer = [0; 2048];
    let verdict = responder.respond(
        request,
        &Arrival::new(from, system, mono),
        &Published { time, keys: None },
        &mut StandingStill(system),
        &mut answer,
    );
    match verdict {
        Verdict::Respond { octets, .. } => Some(answer[..octets].to_vec()),
        Verdict::Silence(_) => None,
    }
}

fn machine(policy: &Policy, time: &ServerTime) -> Machine {
    let machine = Machine::new(&rules(policy));
    machine.publish(&slot(time));
    set_clocks(&machine, 0);
    machine
}

/// So many nanoseconds after the state of the clock began.
fn set_clocks(machine: &Machine, nanos: i64) {
    machine
        .set_clocks(TAI_NANOS.wrapping_add_signed(nanos), now().mono.as_nanos().wrapping_add_signed(nanos));
}

fn rules(policy: &Policy) -> Vec<ListenerRules> {
    ["0.0.0.0:123", "[::]:123"]
        .map(|address| ListenerRules {
            address: address.parse().expect("an address"),
            interface: None,
            served: judge(policy, 2).served,
        })
        .to_vec()
}

fn slot(time: &ServerTime) -> TimeSlot {
    TimeSlot::new(time, &chime_fast::FastReading { tai_nanos: TAI_NANOS, clocks: now() })
}

fn time() -> ServerTime {
    ServerTime {
        leap: LeapIndicator::NoWarning,
        stratum: 2,
        reference_id: ReferenceId([192, 0, 2, 99]),
        root_dispersion: NtpDuration::from_nanos(1_234_567),
        correction: NtpDuration::from_nanos(-45_678),
        ..ServerTime::local(2, -23, now().mono, NtpTimestamp::from_bits(0xec00_0000_1234_5678))
    }
}

fn request(first: u8) -> Vec<u8> {
    let mut octets = vec![0; 48];
    octets[0] = first;
    octets[2] = 6;
    octets[40..].copy_from_slice(&[9, 8, 7, 6, 5, 4, 3, 2]);
    octets
}

/// An address that the kernel would let through to a socket.
fn clients() -> [IpAddr; 2] {
    ["198.51.100.7", "2001:db8:1::7"].map(|text| text.parse().expect("an address"))
}

#[test]
fn answers_are_those_of_the_sockets() {
    let states = [
        time(),
        ServerTime { leap: LeapIndicator::Insert, ..time() },
        ServerTime { leap: LeapIndicator::Delete, stratum: 15, ..time() },
        ServerTime { stratum: 16, ..time() },
        ServerTime { stratum: 0, ..time() },
        ServerTime { leap: LeapIndicator::Unsynchronized, ..time() },
        ServerTime::unsynchronized(-20),
        ServerTime { root_dispersion: NtpDuration::from_seconds(70_000), ..time() },
    ];
    for (state, policy) in states.iter().zip(std::iter::repeat(Policy::open())) {
        let machine = machine(&policy, state);
        for client in clients() {
            for version in 1..=4u8 {
                let request = request(version << 3 | 3);
                let frame = Frame::new(client, &request);
                let answer = machine.run(&frame).unwrap_or_else(|| panic!("{state:?} {client} {version}"));
                check_frame(&answer, &frame);
                let wanted = by_sockets(&policy, state, &request, client, 0);
                assert_eq!(Some(answer_payload(&answer).to_vec()), wanted, "{state:?}");
            }
        }
        assert_eq!(machine.counters().answered, 8);
        assert_eq!(machine.counters().old_versions, 6);
    }
}

/// What real clients and odd ones asked real servers with: the vectors of the responder's own tests.
#[test]
fn recorded_requests_get_the_sockets_answers() {
    let machine = machine(&Policy::open(), &time());
    let (mut answered, mut handed_over, mut left) = (0, 0, 0);
    for line in include_str!("../../../server/testdata/requests.txt").lines() {
        let Some(hex) = line.rsplit(' ').next().filter(|_| !line.starts_with('#')) else { continue };
        let request: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
            .collect();
        for client in clients() {
            let frame = Frame::new(client, &request);
            if machine.hands_over(&frame) {
                handed_over += 1;
                continue;
            }
            match machine.run(&frame) {
                Some(answer) => {
                    let wanted = by_sockets(&Policy::open(), &time(), &request, client, 0);
                    assert_eq!(Some(answer_payload(&answer).to_vec()), wanted, "{line}");
                    answered += 1;
                }
                None => left += 1,
            }
        }
    }
    let found = format!("{answered} answered, {handed_over} handed over, {left} left to the sockets");
    assert!(answered >= 2 && handed_over >= 2 && left >= 20, "{found}");
}

#[test]
fn time_goes_on_between_publications() {
    let slewed = ServerTime { correction_rate: -0.083_333, dispersion_rate: 15e-6, ..time() };
    let fast = ServerTime { correction_rate: 0.000_050, dispersion_rate: 1e-3, ..time() };
    for state in [time(), slewed, fast] {
        let machine = machine(&Policy::open(), &state);
        for nanos in [1u64, 999, 1_000_000, 999_999_999, 3_999_999_999] {
            set_clocks(&machine, nanos.cast_signed());
            let answer = machine.run(&Frame::new(clients()[0], &request(0x23))).expect("an answer");
            let wanted = by_sockets(&Policy::open(), &state, &request(0x23), clients()[0], nanos);
            let (answer, wanted) = (answer_payload(&answer), wanted.expect("an answer"));
            let number =
                |octets: &[u8], at: usize| u64::from_be_bytes(octets[at..at + 8].try_into().expect("eight"));
            for at in [32, 40] {
                let difference = number(answer, at).wrapping_sub(number(&wanted, at)).cast_signed();
                assert!(difference.abs() <= 4, "{nanos} ns: {difference} units of 0.23 ns");
            }
            // At most 15 µs more, and never less.
            let short = |octets: &[u8]| u32::from_be_bytes(octets[8..12].try_into().expect("four"));
            let more = short(answer).checked_sub(short(&wanted)).expect("never less error than there is");
            assert!(more <= 1, "{nanos} ns: {more}");
            assert_eq!((&answer[..8], &answer[12..32]), (&wanted[..8], &wanted[12..32]));
        }
    }
}

#[test]
fn a_state_that_is_old_or_not_begun_is_not_used() {
    let machine = machine(&Policy::open(), &time());
    let frame = Frame::new(clients()[0], &request(0x23));
    assert!(machine.run(&frame).is_some());
    let valid = chime_fast::VALID_NANOS.cast_signed();
    for nanos in [valid, -1, -1_000_000_000, 1_000_000_000_000] {
        set_clocks(&machine, nanos);
        assert!(machine.run(&frame).is_none(), "{nanos}");
    }
    set_clocks(&machine, 0);
    machine.publish(&TimeSlot::STALE);
    assert!(machine.run(&frame).is_none());
    assert_eq!(machine.counters().stale, 5);
    for _ in 0..20 {
        machine.publish(&slot(&time()));
        assert!(machine.run(&frame).is_some());
    }
}

#[test]
fn a_step_that_nobody_has_told_of_is_noticed() {
    let machine = machine(&Policy::open(), &time());
    let frame = Frame::new(clients()[0], &request(0x23));
    let mono = now().mono.as_nanos() + 1_000_000_000;
    // The system clock is stepped, or the offset of TAI is set.
    for (stepped, answered) in [
        (0, true),
        (90_000, true),
        (-90_000, true),
        (110_000, false),
        (-110_000, false),
        (1_000_000_000, false),
    ] {
        machine.set_clocks((TAI_NANOS + 1_000_000_000).wrapping_add_signed(stepped), mono);
        assert_eq!(machine.run(&frame).is_some(), answered, "{stepped}");
    }
    assert_eq!(machine.counters().stale, 3);
}

#[test]
fn what_is_odd_is_left_to_the_sockets_untouched() {
    let machine = machine(&Policy::new(AccessList::uniform(chime_server::Access::Allow)), &time());
    for client in clients() {
        let good = Frame::new(client, &request(0x23));
        assert!(machine.run(&good).is_some());
        for (what, frame) in good.oddities() {
            assert!(machine.run(&frame).is_none(), "{what} from {client}");
        }
        for (what, octets) in [
            ("mode 1", request(0x21)),
            ("mode 4", request(0x24)),
            ("mode 6", request(0x26)),
            ("version 0", request(0x03)),
            ("version 5", request(0x2b)),
            ("a field or a MAC", [request(0x23), vec![0; 20]].concat()),
            ("too short", request(0x23)[..47].to_vec()),
        ] {
            assert!(machine.run(&Frame::new(client, &octets)).is_none(), "{what} from {client}");
        }
        let mut interleaved = request(0x23);
        interleaved[24..40].fill(7);
        assert!(machine.run(&Frame::new(client, &interleaved)).is_none());
        interleaved[40..].fill(7);
        assert!(machine.run(&Frame::new(client, &interleaved)).is_some(), "chrony's and ours are answered");
    }
    for from in ["0.0.0.1", "127.0.0.1", "224.0.1.1", "255.255.255.255", "::1", "ff02::101", "::"]
        .map(|text| text.parse::<IpAddr>().expect("an address"))
        .into_iter()
        .chain([SERVER_V4.into(), SERVER_V6.into(), IpAddr::from([192, 0, 2, 255])])
    {
        assert!(machine.run(&Frame::new(from, &request(0x23))).is_none(), "{from}");
    }
    for to in ["192.0.2.9", "192.0.2.255", "224.0.1.1", "2001:db8::9", "ff02::101"] {
        let to: IpAddr = to.parse().expect("an address");
        let from = clients()[usize::from(to.is_ipv6())];
        assert!(machine.run(&Frame::between(from, to, &request(0x23))).is_none(), "{to}");
    }
}

#[test]
fn only_those_on_the_access_list_are_answered() {
    let rule = |allow, text: &str| AccessRule { allow, all: false, subnet: text.parse().ok() };
    let rules =
        [rule(true, "198.51.100.0/24"), rule(false, "198.51.100.128/25"), rule(true, "2001:db8:1::/48")];
    let policy = Policy { versions: Versions::only(&[4]), ..Policy::new(AccessList::from_rules(&rules)) };
    let machine = machine(&policy, &time());
    for from in [
        "198.51.100.0",
        "198.51.100.127",
        "198.51.100.128",
        "198.51.101.0",
        "2001:db8:1:ffff::1",
        "2001:db8:2::1",
    ] {
        let from: IpAddr = from.parse().expect("an address");
        for version in [3, 4] {
            let request = request(version << 3 | 3);
            let answer = machine.run(&Frame::new(from, &request));
            let wanted = by_sockets(&policy, &time(), &request, from, 0);
            assert_eq!(answer.as_deref().map(answer_payload), wanted.as_deref(), "{from} {version}");
        }
    }
}

#[test]
fn frames_for_other_ports_and_other_machines_pass() {
    let machine = machine(&Policy::open(), &time());
    let frame = Frame::new(clients()[0], &request(0x23));
    assert!(machine.run(&frame.with(36, &[0, 124])).is_none());
    assert!(machine.run(&frame.with(0, &[2, 0, 0, 0, 0, 9])).is_none());
    let place = Place { ports: Vec::new(), ..Machine::place() };
    assert!(chime_fast::build(&place, &Machine::descriptors()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Any header of a client gets the sockets' answer or is left to them.
    #[test]
    fn no_request_gets_another_answer(octets in prop::collection::vec(any::<u8>(), 48), first in 0u8..=255, v6 in any::<bool>()) {
        let mut request = octets;
        request[0] = first;
        let client = clients()[usize::from(v6)];
        let machine = machine(&Policy::open(), &time());
        let frame = Frame::new(client, &request);
        if let Some(answer) = machine.run(&frame) {
            check_frame(&answer, &frame);
            let wanted = by_sockets(&Policy::open(), &time(), &request, client, 0);
            prop_assert_eq!(Some(answer_payload(&answer).to_vec()), wanted);
        } else {
            // No more is left to the sockets than is odd.
            let version = first >> 3 & 7;
            prop_assert!(first & 7 != 3 || !(1..=4).contains(&version) || request[24..40] != [0; 16]);
        }
    }

    /// Whatever a frame is, what is passed on is untouched, and what is answered is a request to us.
    #[test]
    fn no_frame_is_passed_on_changed(octets in prop::collection::vec(any::<u8>(), 0..130), at in 0usize..110, octet in any::<u8>(), v6 in any::<bool>()) {
        let machine = machine(&Policy::open(), &time());
        machine.run(&Frame::raw(octets));
        let good = Frame::new(clients()[usize::from(v6)], &request(0x23));
        let changed = good.with(at.min(good.octets().len() - 1), &[octet]);
        if let Some(answer) = machine.run(&changed) {
            check_frame(&answer, &changed);
        }
    }
}
