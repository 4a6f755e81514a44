//! The program in the kernel, and frames through it to workers, in a network of the test's own.
//!
//! Where there is no privilege for it, nothing can be shown, and the tests say so.

use super::kernel::Kernel;
use super::*;
use crate::serving::{self, Serving, ServingSettings, Shared};
use arrayvec::ArrayVec;
use chime_fast::{Datagram, Interface, VERDICT_ANSWER, VERDICT_PASS, judge, services};
use chime_nts::{
    AeadAlgorithm, AeadKey, CookieKey, KeyRing, NtsKeys, verify_nts_response, write_nts_request,
};
use chime_server::{AccessList, AccessRule, RateLimitSettings};
use chime_time::{MonoTime, NtpDate, NtpTimestamp};
use chime_wire::{FieldWriter, HEADER_OCTETS, Header, Packet};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

const SERVERS: [&str; 2] = ["192.0.2.1:123", "[2001:db8::1]:123"];
const CLIENTS: [&str; 2] = ["198.51.100.7:40000", "[2001:db8:1::7]:40000"];
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OURS: &str = "here0";
const THEIRS: &str = "there0";
/// How long to wait for what must come, on a machine that is busy or slow.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so much silence nothing more comes.
const SILENCE: Duration = Duration::from_millis(500);

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A frame between two addresses, as its sender would make it.
fn frame(from: SocketAddr, to: SocketAddr, hardware: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let (start, kind) = if from.is_ipv4() { (42, [8, 0]) } else { (62, [0x86, 0xdd]) };
    // What this would be the answer to.
    let other = [&CLIENT_HARDWARE[..], &hardware, &kind].concat();
    let mut frame = vec![0; start + payload.len()];
    frame[start..].copy_from_slice(payload);
    let datagram = Datagram { from: to, to: from, payload: start..frame.len() };
    datagram.write_headers(&other, &mut frame, payload.len()).expect("headers");
    frame
}

fn plain_request() -> Vec<u8> {
    let mut request = vec![0; HEADER_OCTETS];
    request[0] = 0x23;
    request[40..].fill(9);
    request
}

fn local_time() -> ServerTime {
    ServerTime::local(3, -20, MonoTime::ZERO, NtpTimestamp::ZERO)
}

/// An interface with our number 0 and one address.
fn interface(server: &str) -> Interface {
    Interface {
        name: "eth0".to_owned(),
        number: Some(0),
        addresses: vec![address(server).ip()],
        broadcasts: Vec::new(),
        vlan_on: None,
    }
}

/// Whether the kernel may be asked for programs.
fn kernel() -> Option<Kernel> {
    match Kernel::new(1) {
        Ok(kernel) => Some(kernel),
        Err(problem) => {
            eprintln!("not shown: {problem}");
            None
        }
    }
}

#[test]
fn the_kernel_runs_the_program_as_the_interpreter_does() {
    let Some(kernel) = kernel() else { return };
    let program = kernel.load(0, (HARDWARE, &[123]), None).expect("the verifier takes it");
    let run = |from: &str| {
        let frame = frame(address(from), address(SERVERS[0]), HARDWARE, &plain_request());
        program.test_run(&frame).expect("it runs")
    };
    let pass = VERDICT_PASS.unsigned_abs();
    assert_eq!(run(CLIENTS[0]).0, pass, "nothing is served yet");

    let rule = AccessRule { allow: true, all: false, subnet: "198.51.100.0/24".parse().ok() };
    let policy = Policy::new(AccessList::from_rules(&[rule]));
    let rules = [ListenerRules {
        address: address("0.0.0.0:123"),
        interface: None,
        served: judge(&policy, 1).served,
    }];
    let interface = interface(SERVERS[0]);
    kernel.set_tables(&services(&[interface], &rules), &rules).expect("written");
    assert_eq!(run(CLIENTS[0]).0, pass, "nobody has told the time");

    let (tai_nanos, clocks) = clock::read_with_tai().expect("a clock");
    kernel.publish(&TimeSlot::new(&local_time(), &FastReading { tai_nanos, clocks })).expect("published");
    let before = clock::system_now().timestamp();
    let (verdict, answer) = run(CLIENTS[0]);
    let after = clock::system_now().timestamp();
    assert_eq!(verdict, VERDICT_ANSWER.unsigned_abs());
    let datagram = Datagram::parse(&answer).expect("a good answer");
    assert_eq!((datagram.from, datagram.to), (address(SERVERS[0]), address(CLIENTS[0])));
    let header = Header::decode(&answer[datagram.payload]).expect("a header");
    assert_eq!((header.stratum, header.origin), (3, NtpTimestamp::from_be_bytes([9; 8])));
    // The kernel's quick clock may be some nanoseconds beside the exact one.
    for (early, late) in
        [(before, header.receive), (header.receive, header.transmit), (header.transmit, after)]
    {
        assert!((late - early).as_secs_f64() > -1e-6, "{before:?} {header:?} {after:?}");
    }
    assert_eq!(run("198.51.101.7:40000").0, pass, "not on the list");
    let counters = kernel.counters().expect("counters");
    assert_eq!(counters, Counters { answered: 1, stale: 1, ..Counters::default() });
}

/// The keys of a client, and a cookie that has them.
struct Session {
    keys: NtsKeys,
    cookie: Vec<u8>,
}

const IDENTIFIER: [u8; 32] = [4; 32];

impl Session {
    fn new(ring: &KeyRing, algorithm: AeadAlgorithm) -> Self {
        let octets = |octet| vec![octet; algorithm.key_octets()];
        let key = |octet| AeadKey::new(algorithm, &octets(octet)).expect("a key");
        let keys = NtsKeys { c2s: key(1), s2c: key(2) };
        let cookie = ring.seal_cookie(&keys, [5; 16]).as_bytes().to_vec();
        Self { keys, cookie }
    }

    fn request(&self, placeholders: usize) -> Vec<u8> {
        let mut packet = [0; 1400];
        packet[..HEADER_OCTETS].copy_from_slice(&plain_request());
        let mut writer = FieldWriter::new(&mut packet, HEADER_OCTETS);
        let nonce = &[6; 16][..self.keys.algorithm().nonce_octets()];
        write_nts_request(&mut writer, &IDENTIFIER, &self.cookie, placeholders, &self.keys.c2s, nonce)
            .expect("there is room");
        writer.written().to_vec()
    }

    /// The answer verifies; gives what of it does not change with time and chance.
    fn lasting(&self, answer: &[u8]) -> (Vec<u8>, Vec<(u16, usize)>, Vec<usize>) {
        let mut cookies = ArrayVec::new();
        verify_nts_response(answer, &IDENTIFIER, &self.keys.s2c, &mut cookies).expect("it verifies");
        let header = [&answer[..8], &answer[12..32]].concat();
        let packet = Packet::parse(answer).expect("a packet");
        let fields = packet.fields().flatten().map(|field| (field.field_type, field.body.len())).collect();
        (header, fields, cookies.iter().map(|cookie| cookie.as_bytes().len()).collect())
    }
}

/// Our server at one end of a cable, and a raw socket at the other.
struct Lab {
    serving: Serving,
    ring: KeyRing,
    hardware: [u8; 6],
    cable: OwnedFd,
}

/// A network that this thread alone has; false: that is not permitted.
fn lay_cable() -> bool {
    let ip = |arguments: &str| {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        status.is_ok_and(|status| status.success())
    };
    unshare(CloneFlags::CLONE_NEWNET).is_ok()
        && ip("link set lo up")
        && ip(&format!("link add {OURS} type veth peer name {THEIRS}"))
        && ip(&format!("addr add 192.0.2.1/24 dev {OURS}"))
        && ip(&format!("addr add 2001:db8::1/64 dev {OURS} nodad"))
        && ip(&format!("link set {THEIRS} addrgenmode none"))
        && ip(&format!("link set {OURS} up"))
        && ip(&format!("link set {THEIRS} up"))
}

impl Lab {
    /// Needs the network of [`lay_cable`].
    fn new(fast_path: FastPath, policy: &Policy, workers: u16) -> Self {
        let servers: Vec<NtpServer> = ["0.0.0.0:123", "[::]:123"]
            .map(|listen| NtpServer { fast_path, ..NtpServer::new(address(listen)) })
            .to_vec();
        let listeners: Vec<Listener> = servers
            .iter()
            .map(|server| Listener {
                address: server.listen,
                interface: None,
                ptp_domain: None,
                policy: Arc::new(policy.clone()),
                signing_directory: None,
            })
            .collect();
        let shared = Arc::new(Shared::unsynchronized(-20));
        let counts = (Threads::Count(workers), usize::from(workers));
        let Opened { fast, desks } = open(&servers, &listeners, counts).expect("it was wanted");
        assert_eq!(desks.len(), 1, "{:?}", fast.report(&ServingStats::default()));
        let settings = ServingSettings {
            listeners,
            workers: counts.1,
            cpus: Vec::new(),
            busy_poll_micros: None,
            dscp: None,
            share_ports: false,
            seed: [7; 32],
        };
        let mut bound = serving::bind(&settings, &shared).expect("it binds");
        serving::deal(desks, &mut bound);
        assert!(shared.fast.set(fast).is_ok());
        shared.set_time(local_time());
        let ring = KeyRing::new(CookieKey::new(1, [3; 32], NtpDate::from_unix(0, 0)));
        shared.keys.store(Some(Arc::new(ring.clone())));
        let serving = serving::start(bound, &shared).expect("it starts");
        let interfaces = network::interfaces().expect("interfaces");
        let hardware = interfaces.get(OURS).and_then(|one| one.hardware_address).expect("a card");
        Self { serving, ring, hardware, cable: other_end() }
    }

    fn report(&self) -> FastPathReport {
        self.serving.fast().expect("a fast path").report(&self.serving.stats())
    }

    fn send(&self, family: usize, payload: &[u8], damage: u8) {
        let mut frame = frame(address(CLIENTS[family]), address(SERVERS[family]), self.hardware, payload);
        *frame.last_mut().expect("octets") ^= damage;
        send(self.cable.as_raw_fd(), &frame, MsgFlags::empty()).expect("sent");
    }

    /// The next answer to a client, or `None` when there is none for a while.
    fn receive(&self, family: usize) -> Option<Vec<u8>> {
        self.receive_within(family, SILENCE)
    }

    /// The next answer to a client that comes within `wait`.
    fn receive_within(&self, family: usize, wait: Duration) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline {
            let Ok(octets) = recv(self.cable.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { continue };
            let frame = &buffer[..octets];
            let Some(datagram) = Datagram::parse(frame).filter(|_| frame[..6] == CLIENT_HARDWARE) else {
                continue;
            };
            assert_eq!((datagram.from, datagram.to), (address(SERVERS[family]), address(CLIENTS[family])));
            assert_eq!(frame[6..12], self.hardware);
            return Some(frame[datagram.payload].to_vec());
        }
        None
    }

    /// How many answers come: so many are waited for, and then whether there are more.
    fn answers(&self, family: usize, expected: usize) -> usize {
        let first = (0..expected).map_while(|_| self.receive_within(family, PATIENCE)).count();
        first + std::iter::from_fn(|| self.receive(family)).count()
    }

    fn ask(&self, family: usize, payload: &[u8]) -> Vec<u8> {
        self.send(family, payload, 0);
        self.receive_within(family, PATIENCE)
            .unwrap_or_else(|| panic!("no answer: {:?} {:?}", self.report(), self.serving.stats()))
    }

    /// Workers count after they have sent.
    fn until(&self, what: &str, holds: impl Fn(&FastPathReport) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.report()) {
            assert!(Instant::now() < deadline, "{what}: {:?} {:?}", self.report(), self.serving.stats());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn other_end() -> OwnedFd {
    let kind = SockProtocol::EthAll;
    let cable = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, kind).expect("a socket");
    let mut interfaces = nix::ifaddrs::getifaddrs().expect("interfaces");
    let address: LinkAddr = interfaces
        .find_map(|one| one.address?.as_link_addr().copied().filter(|_| one.interface_name == THEIRS))
        .expect("the other end");
    bind(cable.as_raw_fd(), &address).expect("bound");
    setsockopt(&cable, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100)).expect("a timeout");
    cable
}

/// What a socket of the same server answers.
fn ask_socket(family: usize, payload: &[u8]) -> Vec<u8> {
    let any: IpAddr = if family == 0 { [0; 4].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket.send_to(payload, SERVERS[family]).expect("sent");
    let mut answer = [0; 2048];
    let octets = socket.recv(&mut answer).expect("an answer");
    answer[..octets].to_vec()
}

#[test]
fn requests_with_nts_get_the_answers_of_the_sockets() {
    if kernel().is_none() || !lay_cable() {
        eprintln!("not shown: networks of one's own are not permitted here");
        return;
    }
    for fast_path in [FastPath::XdpDriver, FastPath::XdpGeneric] {
        let lab = Lab::new(fast_path, &Policy::open(), 2);
        let mut asked = 0;
        for algorithm in [AeadAlgorithm::AesSivCmac256, AeadAlgorithm::Aes128GcmSiv] {
            let session = Session::new(&lab.ring, algorithm);
            for (family, placeholders) in [(0, 0), (0, 7), (1, 0), (1, 7)] {
                let request = session.request(placeholders);
                let before = clock::system_now().timestamp();
                let answer = lab.ask(family, &request);
                let after = clock::system_now().timestamp();
                assert!(answer.len() <= request.len());
                let by_socket = ask_socket(family, &request);
                assert_eq!(session.lasting(&answer), session.lasting(&by_socket));
                let header = Header::decode(&answer).expect("a header");
                for (early, late) in
                    [(before, header.receive), (header.receive, header.transmit), (header.transmit, after)]
                {
                    assert!((late - early).as_secs_f64() > -1e-6, "{before:?} {header:?} {after:?}");
                }
                asked += 1;
            }
        }
        lab.until("counted", |report| report.frames_answered == asked);
        let report = lab.report();
        assert_eq!((report.handed_over, report.frames_dropped), (asked, 0));
        assert_eq!(report.nts_interfaces[OURS], "copy");
        // Frames have the program's stamp, datagrams the kernel's.
        assert_eq!(lab.serving.stats().kernel_timestamps, lab.serving.stats().requests.received);

        // A cookie that is not ours: the answer says so, and is the sockets', too.
        let mut strange = Session::new(&lab.ring, AeadAlgorithm::AesSivCmac256);
        strange.cookie[20] ^= 1;
        let (answer, by_socket) = (lab.ask(0, &strange.request(0)), ask_socket(0, &strange.request(0)));
        assert_eq!(
            (answer.len(), &answer[..8], &answer[12..32]),
            (by_socket.len(), &by_socket[..8], &by_socket[12..32])
        );
        assert_eq!(&answer[12..16], b"NTSN");

        lab.send(0, &strange.request(0), 1);
        lab.until("damaged", |report| report.frames_dropped == 1);
        lab.serving.stop();
    }
}

#[test]
fn limits_and_lists_hold_past_the_sockets() {
    if kernel().is_none() || !lay_cable() {
        return;
    }
    let limit = RateLimitSettings { interval: Duration::from_secs(1000), burst: 4, leak: None, kiss: None };
    let policy = Policy { rate_limit: Some(limit), ..Policy::open() };
    let lab = Lab::new(FastPath::Xdp, &policy, 1);
    let request = Session::new(&lab.ring, AeadAlgorithm::AesSivCmac256).request(0);
    for _ in 0..6 {
        lab.send(0, &request, 0);
    }
    let answers = lab.answers(0, 4);
    assert_eq!((answers, lab.report().handed_over), (4, 6));
    assert_eq!(lab.report().problems, Vec::<String>::new());
    for _ in 0..6 {
        lab.send(0, &plain_request(), 0);
    }
    let answers = lab.answers(0, 4);
    assert_eq!(
        (answers, lab.report().answered, lab.report().limited),
        (4, 4, 2),
        "the program limits for itself"
    );

    let rule = AccessRule { allow: true, all: false, subnet: "203.0.113.0/24".parse().ok() };
    let listed = Arc::new(Policy::new(AccessList::from_rules(&[rule])));
    lab.serving.set_policies(&[listed.clone(), listed]);
    for family in [0, 1] {
        lab.send(family, &request, 0);
        assert_eq!(lab.receive(family), None);
    }
    assert_eq!(lab.report().handed_over, 6, "who is not on the list is left to the sockets");
    lab.serving.stop();

    let lab = Lab::new(FastPath::Xdp, &policy, 2);
    for _ in 0..6 {
        lab.send(1, &plain_request(), 0);
        lab.send(1, &request, 0);
    }
    let answers = lab.answers(1, 4);
    let report = lab.report();
    // Nobody at the other end tells the sockets where to send their answers.
    assert_eq!((answers, report.answered, report.limited, report.handed_over), (4, 4, 2, 0));
    assert!(report.problems.iter().all(|problem| problem.contains("with several threads")), "{report:?}");
}

#[test]
fn more_than_can_be_answered_is_dropped_and_the_rest_goes_on() {
    if kernel().is_none() || !lay_cable() {
        return;
    }
    let lab = Lab::new(FastPath::Xdp, &Policy::open(), 1);
    let session = Session::new(&lab.ring, AeadAlgorithm::AesSivCmac256);
    let request = session.request(0);
    for number in 0..6000 {
        lab.send(number % 2, &request, 0);
    }
    lab.until("some are answered", |report| report.frames_answered > 500);
    let idle = |lab: &Lab| {
        let before = lab.report().frames_answered;
        std::thread::sleep(Duration::from_millis(200));
        lab.report().frames_answered == before
    };
    lab.until("it ends", |_| idle(&lab));
    // Plain requests are answered by the program meanwhile and after it.
    let lab = Lab { cable: other_end(), ..lab };
    session.lasting(&lab.ask(0, &request));
    assert_eq!(lab.ask(0, &plain_request()).len(), HEADER_OCTETS);
    assert!(lab.report().answered >= 1 && lab.report().problems.is_empty(), "{:?}", lab.report());
}

#[test]
fn frames_for_nobody_pass_though_they_are_stamped() {
    let Some(kernel) = kernel() else { return };
    let map =
        chime_sys::bpf::Map::new("sockets", chime_sys::bpf::MapKind::Sockets, (4, 4), 1).expect("a map");
    let program = kernel.load(0, (HARDWARE, &[123]), Some(&map)).expect("the verifier takes it");
    let rules = [ListenerRules {
        address: address("[::]:123"),
        interface: None,
        served: judge(&Policy::open(), 1).served,
    }];
    let interface = interface(SERVERS[1]);
    kernel.set_tables(&services(&[interface], &rules), &rules).expect("written");
    let ring = KeyRing::new(CookieKey::new(1, [3; 32], NtpDate::from_unix(0, 0)));
    let request = Session::new(&ring, AeadAlgorithm::AesSivCmac256).request(0);
    let frame = frame(address(CLIENTS[1]), address(SERVERS[1]), HARDWARE, &request);
    let before = clock::mono_now();
    let (verdict, octets) = program.test_run(&frame).expect("it runs");
    let (stamp, octets) = octets.split_first_chunk().expect("a stamp");
    assert_eq!((verdict, octets), (VERDICT_PASS.unsigned_abs(), &frame[..]));
    let stamp = MonoTime::from_nanos(u64::from_ne_bytes(*stamp));
    assert!(before <= stamp && stamp <= clock::mono_now());
    assert_eq!(kernel.counters().expect("counters").handed_over, 0);
}
