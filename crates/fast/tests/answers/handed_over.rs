//! Requests with NTS: which of them the program hands over, and the headers that answers get.

use super::machine::{Frame, Machine, SERVER_V4, SERVER_V6, answer_payload, check_frame};
use chime_fast::{Datagram, ListenerRules, judge};
use chime_server::{Policy, RateLimitSettings, RequireNts, Versions};
use core::net::IpAddr;
use core::time::Duration;
use proptest::prelude::*;

fn machine(policy: &Policy, workers: usize) -> Machine {
    let listener = |address: &str| ListenerRules {
        address: address.parse().expect("an address"),
        interface: None,
        served: judge(policy, workers).served,
    };
    Machine::new(&["0.0.0.0:123", "[::]:123"].map(listener))
}

/// A request with a unique identifier and something behind it; whether that verifies is not the program's business.
fn request(octets: usize) -> Vec<u8> {
    let mut request = vec![0; 48];
    request[0] = 0x23;
    request[40..].fill(0x5a);
    request.extend([1, 4, 0, 36]);
    request.extend([7; 32]);
    request.resize(octets, 3);
    request
}

fn clients() -> [IpAddr; 2] {
    ["198.51.100.7", "2001:db8:1::7"].map(|text| text.parse().expect("an address"))
}

#[test]
fn requests_with_nts_are_handed_over_where_somebody_takes_them() {
    let machine = machine(&Policy::open(), 2);
    for client in clients() {
        // Nobody has told the time: the program has no need of it here.
        let longest = 1500 - if client.is_ipv4() { 28 } else { 48 };
        for octets in [84, 200, 201, 1024, longest] {
            assert!(machine.hands_over(&Frame::new(client, &request(octets))), "{octets} from {client}");
        }
        assert!(!machine.hands_over(&Frame::new(client, &request(longest + 4))), "longer than Ethernet's");
    }
    assert_eq!((machine.counters().handed_over, machine.counters().stale), (10, 0));
    machine.set_socket(false);
    assert!(!machine.hands_over(&Frame::new(clients()[0], &request(200))));
    assert_eq!(machine.counters().handed_over, 10);
}

#[test]
fn what_is_odd_is_left_to_the_sockets_untouched() {
    let machine = machine(&Policy::open(), 2);
    for client in clients() {
        let good = Frame::new(client, &request(200));
        assert!(machine.hands_over(&good));
        for (what, frame) in good.oddities() {
            assert!(!machine.hands_over(&frame), "{what} from {client}");
        }
        let with = |at: usize, octets: &[u8]| {
            let mut changed = request(200);
            changed[at..at + octets.len()].copy_from_slice(octets);
            changed
        };
        for (what, octets) in [
            ("mode 1", with(0, &[0x21])),
            ("mode 4", with(0, &[0x24])),
            ("version 3", with(0, &[0x1b])),
            ("another first field", with(48, &[2, 4])),
            ("interleaved", with(24, &[7; 16])),
            ("half a field", request(84)[..51].to_vec()),
            ("too short", request(84)[..40].to_vec()),
        ] {
            assert!(!machine.hands_over(&Frame::new(client, &octets)), "{what} from {client}");
        }
        assert!(
            machine.hands_over(&Frame::new(client, &with(0, &[0xe3]))),
            "not synchronised, as most at first"
        );
    }
    for from in ["0.0.0.1", "127.0.0.1", "224.0.1.1", "::1", "ff02::101", "::"]
        .map(|text| text.parse::<IpAddr>().expect("an address"))
        .into_iter()
        .chain([SERVER_V4.into(), SERVER_V6.into(), IpAddr::from([192, 0, 2, 255])])
    {
        assert!(!machine.hands_over(&Frame::new(from, &request(200))), "{from}");
    }
    for to in ["192.0.2.9", "192.0.2.255", "224.0.1.1", "2001:db8::9", "ff02::101"] {
        let to: IpAddr = to.parse().expect("an address");
        let from = clients()[usize::from(to.is_ipv6())];
        assert!(!machine.hands_over(&Frame::between(from, to, &request(200))), "{to}");
    }
    let frame = Frame::new(clients()[0], &request(200));
    assert!(!machine.hands_over(&frame.with(36, &[0, 124])), "another port");
}

#[test]
fn policies_decide_what_is_handed_over() {
    let limit = Some(RateLimitSettings::from_cutoff(Duration::from_secs(1)));
    let rule = chime_server::AccessRule { allow: true, all: false, subnet: "198.51.100.0/24".parse().ok() };
    let listed = Policy::new(chime_server::AccessList::from_rules(&[rule]));
    for (what, policy, workers, wanted) in [
        ("NTS required", Policy { require_nts: RequireNts::Deny, ..Policy::open() }, 2, [true, true]),
        ("a rate limit, one worker", Policy { rate_limit: limit, ..Policy::open() }, 1, [true, true]),
        ("a rate limit, two workers", Policy { rate_limit: limit, ..Policy::open() }, 2, [false, false]),
        ("version 3 only", Policy { versions: Versions::only(&[3]), ..Policy::open() }, 2, [false, false]),
        ("a list with one of them", listed, 2, [true, false]),
    ] {
        let machine = machine(&policy, workers);
        for (client, wanted) in clients().into_iter().zip(wanted) {
            assert_eq!(machine.hands_over(&Frame::new(client, &request(200))), wanted, "{what}: {client}");
        }
    }
}

#[test]
fn frames_are_read_and_answered() {
    for client in clients() {
        for (octets, answered) in [(200, 200), (201, 48), (84, 84), (1024, 1001)] {
            let frame = Frame::new(client, &request(octets));
            let datagram = Datagram::parse(frame.octets()).expect("a datagram");
            assert_eq!((datagram.from.ip(), datagram.from.port(), datagram.to.port()), (client, 40_000, 123));
            assert_eq!(frame.octets()[datagram.payload.clone()], request(octets));
            let mut room = vec![0xaa; 2048];
            room[datagram.payload.start..][..answered].fill(0x11);
            let length = datagram.write_headers(frame.octets(), &mut room, answered).expect("it fits");
            let answer = &room[..length];
            check_frame(answer, &frame);
            assert_eq!(answer_payload(answer), vec![0x11; answered]);
            assert_eq!(room[length], 0xaa);
            assert_eq!(datagram.write_headers(frame.octets(), &mut room, octets + 1), None, "longer");
            assert_eq!(datagram.write_headers(frame.octets(), &mut room[..60], answered), None, "no room");
        }
    }
}

#[test]
fn damaged_frames_are_not_read() {
    for client in clients() {
        let good = Frame::new(client, &request(200));
        let udp_at = if client.is_ipv4() { 34 } else { 54 };
        for (what, frame) in good.oddities() {
            // Whether it is ours, and from whom, is left to the program.
            let is_read = ["to another card", "port 0"].contains(&what);
            assert!(is_read || Datagram::parse(frame.octets()).is_none(), "{what} from {client}");
        }
        let payload_at = udp_at + 8 + 100;
        let damaged = good.with(payload_at, &[good.octets()[payload_at] ^ 1]);
        // Over IPv4 our frames have no checksum.
        assert_eq!(Datagram::parse(damaged.octets()).is_some(), client.is_ipv4());
        let wrong = good.with(udp_at + 6, &[0x12, 0x34]);
        assert!(Datagram::parse(wrong.octets()).is_none());
    }
}

/// As they are on a virtual cable whose sender has left the checksum to the card.
#[test]
fn a_checksum_that_is_left_to_the_card_is_good() {
    // 198.51.100.7 and 192.0.2.1, protocol 17, 208 octets.
    let frame = Frame::new(clients()[0], &request(200));
    let sum = 0xc633u32 + 0x6407 + 0xc000 + 0x0201 + 17 + 208;
    let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded").to_be_bytes();
    assert!(Datagram::parse(frame.with(40, &sum).octets()).is_some());
    assert!(Datagram::parse(frame.with(40, &[sum[0], sum[1] ^ 1]).octets()).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever a frame is: reading it does not fail, and what the program hands over is read, unless a checksum is wrong.
    #[test]
    fn what_is_handed_over_is_read(octets in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..300, octet in any::<u8>(), v6 in any::<bool>()) {
        let _none = Datagram::parse(&octets);
        let machine = machine(&Policy::open(), 1);
        prop_assert!(!machine.hands_over(&Frame::raw(octets)));
        let good = Frame::new(clients()[usize::from(v6)], &request(240));
        let changed = good.with(at.min(good.octets().len() - 1), &[octet]);
        match Datagram::parse(changed.octets()) {
            Some(datagram) => {
                let mut room = changed.octets().to_vec();
                prop_assert_eq!(datagram.write_headers(changed.octets(), &mut room, 240), Some(room.len()));
            }
            // Over IPv4 the program looks at the one checksum there is, over IPv6 it does not.
            None if v6 => {}
            None => prop_assert!(!machine.hands_over(&changed) || (40..42).contains(&at)),
        }
    }
}
