//! Tests of UDP sockets, on loopback.

use super::*;
use crate::descriptor::int_option;
use crate::poll::{Interest, PollSet, Wake};
use chime_time::NtpDuration;
use std::time::Duration;

fn loopback(ipv6: bool) -> SocketAddr {
    if ipv6 { "[::1]:0".parse().unwrap() } else { "127.0.0.1:0".parse().unwrap() }
}

/// Waits for `interest` on the socket; loopback answers within microseconds, the bound is for loaded machines.
fn wait_for(socket: &UdpSocket, interest: Interest) {
    let mut set = PollSet::new();
    let deadline = clock::mono_now().saturating_add(Duration::from_secs(5));
    set.add(socket, interest, ());
    loop {
        match set.wait(Some(deadline)).unwrap() {
            Wake::Ready => return,
            Wake::Interrupted => {}
            Wake::TimedOut => panic!("nothing came"),
        }
    }
}

fn all() -> UdpOptions {
    UdpOptions { transmit_timestamps: true, packet_info: true, ..UdpOptions::default() }
}

/// The kernel turns timestamps on a moment after the first socket asks for them.
fn wait_for_timestamps() -> UdpSocket {
    let hold = hold_timestamps().unwrap();
    let server = UdpSocket::bound_to(loopback(false), &all()).unwrap();
    let client = UdpSocket::connected_to(server.local_addr().unwrap(), None, &all()).unwrap();
    for _ in 0..1000 {
        client.send(b"warm?").unwrap();
        wait_for(&server, Interest::READ);
        if server.recv(&mut [0; 8]).unwrap().received.source == TimestampSource::Kernel {
            return hold;
        }
        std::thread::yield_now();
    }
    panic!("the kernel makes no receive timestamps");
}

#[test]
fn a_report_is_announced_until_it_is_taken() {
    let _hold = wait_for_timestamps();
    let server = UdpSocket::bound_to(loopback(false), &all()).unwrap();
    let client = UdpSocket::connected_to(server.local_addr().unwrap(), None, &all()).unwrap();
    assert!(!client.has_report());
    client.send(b"x").unwrap();
    wait_for(&client, Interest::ERRORS);
    assert!(client.has_report());
    assert!(matches!(client.recv_error(), Ok(ErrorReport::Transmitted { .. })));
    assert!(!client.has_report());
}

fn exchange(ipv6: bool) {
    let _hold = wait_for_timestamps();
    let server = UdpSocket::bound_to(loopback(ipv6), &all()).unwrap();
    let address = server.local_addr().unwrap();
    let client = UdpSocket::connected_to(address, None, &all()).unwrap();
    assert!(client.has_kernel_timestamps());

    let before = client.send(b"what time is it?").unwrap();
    wait_for(&server, Interest::READ);
    let mut buffer = [0; 64];
    let request = server.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..request.octets], b"what time is it?");
    assert_eq!(request.from, client.local_addr().unwrap());
    assert_eq!(request.destination.unwrap().address, address.ip());
    assert_eq!(request.received.source, TimestampSource::Kernel);
    let travel = request.received.at.system - before.at.system;
    assert!(!travel.is_negative() && travel < NtpDuration::from_seconds(1), "{travel:?}");

    server.send_to(b"late", request.from, request.destination).unwrap();
    wait_for(&client, Interest::READ);
    let answer = client.recv(&mut buffer[..2]).unwrap();
    assert_eq!((answer.octets, answer.truncated, answer.from), (2, true, address));
}

#[test]
fn an_exchange_over_ipv4_is_stamped_by_the_kernel() {
    exchange(false);
}

#[test]
fn an_exchange_over_ipv6_is_stamped_by_the_kernel() {
    exchange(true);
}

#[test]
fn transmit_timestamps_are_numbered() {
    let server = UdpSocket::bound_to(loopback(false), &UdpOptions::default()).unwrap();
    let client = UdpSocket::connected_to(server.local_addr().unwrap(), None, &all()).unwrap();
    for expected in 0..3 {
        let before = client.send(b"x").unwrap();
        wait_for(&client, Interest::ERRORS);
        match client.recv_error().unwrap() {
            ErrorReport::Transmitted { number, sent, hardware: None, .. } => {
                assert_eq!(number, Some(expected));
                assert_eq!(sent.source, TimestampSource::Kernel);
                assert!(sent.at.system >= before.at.system);
                assert!(sent.at.mono.as_nanos() + 1_000_000 >= before.at.mono.as_nanos());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.recv_error().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn asking_for_the_cards_stamps_keeps_the_kernels_and_tells_the_interface() {
    let _hold = wait_for_timestamps();
    let loopback_index = crate::network_card::index_of("lo").unwrap();
    for ipv6 in [false, true] {
        let server = UdpSocket::bound_to(loopback(ipv6), &all()).unwrap();
        let wish = UdpOptions { hardware_timestamps: true, ..all() };
        let client = UdpSocket::connected_to(server.local_addr().unwrap(), None, &wish).unwrap();
        assert!(client.wants_hardware_stamps() && !server.wants_hardware_stamps());
        for expected in 0..2 {
            client.send(b"x").unwrap();
            assert!(client.wait_for_report(Duration::from_secs(5)));
            let ErrorReport::Transmitted { number, sent, hardware: None, interface } =
                client.recv_error().unwrap()
            else {
                panic!("loopback has no card")
            };
            assert_eq!((number, sent.source), (Some(expected), TimestampSource::Kernel));
            assert_eq!(interface, loopback_index, "IPv6: {ipv6}");
        }
        let request = {
            wait_for(&server, Interest::READ);
            server.recv(&mut [0; 8]).unwrap()
        };
        server.send_to(b"y", request.from, None).unwrap();
        wait_for(&client, Interest::READ);
        let answer = client.recv(&mut [0; 8]).unwrap();
        assert_eq!((answer.received.source, answer.hardware), (TimestampSource::Kernel, None));
        assert!(!client.wait_for_report(Duration::ZERO));
    }
}

#[test]
fn a_closed_port_is_reported() {
    let address = UdpSocket::bound_to(loopback(false), &UdpOptions::default()).unwrap().local_addr().unwrap();
    let client = UdpSocket::connected_to(address, None, &UdpOptions::default()).unwrap();
    client.send(b"anyone there?").unwrap();
    wait_for(&client, Interest::ERRORS);
    assert_eq!(client.recv(&mut [0; 64]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(
        client.recv_error().unwrap(),
        ErrorReport::Undeliverable { errno: libc::ECONNREFUSED, to: Some(address) }
    );
}

#[test]
fn an_empty_queue_would_block() {
    let socket = UdpSocket::unconnected(false, &UdpOptions::default()).unwrap();
    assert_eq!(socket.recv(&mut [0; 64]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_ne!(socket.local_addr().unwrap().port(), 0);
}

#[test]
fn what_the_network_tells_of_the_path_is_not_believed() {
    for (unfragmented, expected) in [(false, libc::IP_PMTUDISC_DONT), (true, libc::IP_PMTUDISC_PROBE)] {
        let options = UdpOptions { unfragmented, ..UdpOptions::default() };
        let socket = UdpSocket::bound_to(loopback(false), &options).unwrap();
        assert_eq!(int_option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER).unwrap(), expected);
    }
}

#[test]
fn two_sockets_share_a_port_when_both_ask() {
    let options = UdpOptions { reuse_port: true, ..UdpOptions::default() };
    let first = UdpSocket::bound_to(loopback(false), &options).unwrap();
    let address = first.local_addr().unwrap();
    assert!(UdpSocket::bound_to(address, &options).is_ok());
    let error = UdpSocket::bound_to(address, &UdpOptions::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_peer_has_a_socket_of_its_own_on_the_servers_port() {
    for (any, peer_at, other_at) in
        [("0.0.0.0:0", "127.0.0.2:0", "127.0.0.3:0"), ("[::]:0", "[::1]:0", "[::1]:0")]
    {
        let Ok(other) = std::net::UdpSocket::bind(other_at) else { continue };
        let options =
            UdpOptions { packet_info: true, share_port: true, reuse_port: true, ..UdpOptions::default() };
        let group: Vec<UdpSocket> = {
            let first = UdpSocket::bound_to(any.parse().unwrap(), &options).unwrap();
            let address = first.local_addr().unwrap();
            let second = UdpSocket::bound_to(address, &options).unwrap();
            vec![first, second]
        };
        let port = group[0].local_addr().unwrap().port();
        let peer = std::net::UdpSocket::bind(peer_at).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let local = SocketAddr::new(group[0].local_addr().unwrap().ip(), port);
        let ours = UdpSocket::connected_from(local, peer.local_addr().unwrap(), &options).unwrap();
        assert_eq!(ours.local_addr().unwrap().port(), port);
        ours.send(&[1]).unwrap();
        let (_, from) = peer.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from.port(), port);
        // What the peer sends comes to its socket, whichever socket of the group it would have met; what others send does not.
        for _ in 0..8 {
            peer.send_to(&[2], from).unwrap();
            other.send_to(&[3], from).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
        let count = |socket: &UdpSocket, wanted: u8| {
            let mut buffer = [0; 8];
            let mut count = 0;
            while socket.recv(&mut buffer).is_ok() {
                assert_eq!(buffer[0], wanted);
                count += 1;
            }
            count
        };
        assert_eq!(count(&ours, 2), 8);
        assert_eq!(count(&group[0], 3) + count(&group[1], 3), 8);
    }
}
