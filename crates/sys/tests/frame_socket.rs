//! Frames through an AF_XDP socket at the end of a virtual cable, in a network of the test's own.
//!
//! Where there is no privilege for it, nothing can be shown, and the test says so.

use chime_fast::VERDICT_PASS;
use chime_fast::assembler::{Assembler, Condition, Operation, R0, R1, R2, R3, R6, R7, R8, Width};
use chime_sys::bpf::{Map, MapKind, XdpLink, XdpMode, XdpProgram};
use chime_sys::clock;
use chime_sys::frame_socket::{FRAMES_AT_ONCE, FrameSocket};
use chime_sys::poll::{Interest, PollSet};
use chime_time::MonoTime;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

const OURS: &str = "here0";
const THEIRS: &str = "there0";
/// A type of frames that no protocol has, so that nobody else sends any.
const KIND: [u8; 2] = [0x88, 0xb5];
const FRAME_OCTETS: usize = 300;

/// A cable between two interfaces of a network that this thread alone has; false: that is not permitted.
fn lay_cable() -> bool {
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        return false;
    }
    let ip = |arguments: &str| {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        status.is_ok_and(|status| status.success())
    };
    ip(&format!("link add {OURS} type veth peer name {THEIRS}"))
        && ip(&format!("link set {OURS} up"))
        && ip(&format!("link set {THEIRS} up"))
}

/// A program that hands over every frame of our type, with a stamp before it.
fn program(sockets: &Map) -> XdpProgram {
    const REDIRECT: i32 = 51;
    const ADJUST_METADATA: i32 = 54;
    const MONO_NANOS: i32 = 5;
    let mut code = Assembler::default();
    let pass = code.label();
    let (context, stamp, queue) = (R6, R7, R8);
    code.set(context, R1);
    code.load(Width::Word, R2, R1, 0);
    code.load(Width::Word, R3, R1, 4);
    code.load(Width::Word, queue, R1, 16);
    code.set(R1, R2);
    code.add(R1, 14);
    code.jump_if(R1, Condition::More, R3, pass);
    code.load(Width::Half, R1, R2, 12);
    let kind = i32::from(u16::from_ne_bytes(KIND));
    code.jump_if_word(R1, Condition::Unequal, kind, pass);
    code.call(MONO_NANOS);
    code.set(stamp, R0);
    code.set(R1, context);
    code.set(R2, -8);
    code.call(ADJUST_METADATA);
    code.jump_if(R0, Condition::Unequal, 0, pass);
    code.load(Width::Word, R2, context, 8);
    code.load(Width::Word, R3, context, 0);
    code.set(R1, R2);
    code.add(R1, 8);
    code.jump_if(R1, Condition::More, R3, pass);
    code.store(Width::Double, R2, 0, stamp);
    code.load_map(R1, sockets.descriptor());
    code.set(R2, queue);
    code.compute(Operation::And, R2, 63);
    code.set(R3, VERDICT_PASS);
    code.call(REDIRECT);
    code.exit();
    code.place(pass);
    code.set(R0, VERDICT_PASS);
    code.exit();
    XdpProgram::load("test", &code.finish().expect("a program")).unwrap_or_else(|error| panic!("{error}"))
}

/// A raw socket at the other end.
fn other_end() -> OwnedFd {
    let kind = SockProtocol::EthAll;
    let cable = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, kind).expect("a socket");
    let mut interfaces = nix::ifaddrs::getifaddrs().expect("interfaces");
    let address: LinkAddr = interfaces
        .find(|one| one.interface_name == THEIRS && one.address.is_some_and(|at| at.as_link_addr().is_some()))
        .and_then(|one| one.address?.as_link_addr().copied())
        .expect("the other end");
    bind(cable.as_raw_fd(), &address).expect("bound");
    setsockopt(&cable, sockopt::ReceiveTimeout, &TimeVal::seconds(5)).expect("a timeout");
    cable
}

fn frame(number: u16) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 2], &KIND].concat();
    frame.extend(number.to_be_bytes());
    frame.resize(FRAME_OCTETS, number.to_be_bytes()[1]);
    frame
}

/// The next frame of our type that comes out at the other end; no longer than its time limit.
fn next_answer(cable: &OwnedFd) -> Vec<u8> {
    let mut buffer = [0; 2048];
    loop {
        let octets = recv(cable.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("an answer");
        // Its own frames are seen by a raw socket, too.
        if buffer[12..14] == KIND && buffer[0] == 0 {
            return buffer[..octets].to_vec();
        }
    }
}

fn wait(socket: &FrameSocket) {
    let mut set = PollSet::new();
    set.add(socket, Interest::READ, ());
    let deadline = MonoTime::from_nanos(clock::mono_now().as_nanos() + 5_000_000_000);
    set.wait(Some(deadline)).expect("a wait");
}

/// The kernel takes a queue back from a socket some time after that is closed.
fn open(index: u32, mode: XdpMode) -> io::Result<FrameSocket> {
    let mut opened = FrameSocket::open(index, 0, mode);
    for _ in 0..100 {
        if !opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        opened = FrameSocket::open(index, 0, mode);
    }
    opened
}

/// Answers all frames of the batch: the same octets, shorter by `less`, to nobody.
fn answer_batch(socket: &mut FrameSocket, less: usize) -> usize {
    let mut lengths = Vec::new();
    for (number, frame, room) in socket.exchanges(0) {
        assert_eq!(frame.octets.len(), FRAME_OCTETS);
        room[..FRAME_OCTETS].copy_from_slice(frame.octets);
        room[..6].fill(0);
        lengths.push(number);
    }
    for number in &lengths {
        socket.answer(*number, FRAME_OCTETS - less);
    }
    assert_eq!(socket.send(), 0);
    lengths.len()
}

fn exchange_one(socket: &mut FrameSocket, cable: &OwnedFd) {
    let before = clock::mono_now();
    send(cable.as_raw_fd(), &frame(7), MsgFlags::empty()).expect("sent");
    wait(socket);
    assert_eq!(socket.receive(), (1, 0));
    let now = socket.now().mono;
    let (received, _) = socket.exchange(0).expect("a frame");
    assert_eq!(received.octets, frame(7));
    let stamp = received.stamp.expect("the program stamps");
    assert!(before <= stamp && stamp <= now, "{before:?} {stamp:?} {now:?}");
    assert!(socket.exchange(1).is_none());
    socket.answer(1, 10);
    assert_eq!(answer_batch(socket, 20), 1);
    assert_eq!(next_answer(cable), [&[0; 6][..], &frame(7)[6..FRAME_OCTETS - 20]].concat());
    assert!(socket.exchange(0).is_none(), "it is answered, and has no room any more");
}

/// More than ever fits: what does not is dropped, and no chunk is lost or used twice.
fn survive_a_flood(socket: &mut FrameSocket, cable: &OwnedFd) {
    for round in 0..4 {
        for number in 0..3000 {
            send(cable.as_raw_fd(), &frame(number), MsgFlags::empty()).expect("sent");
        }
        std::thread::sleep(Duration::from_millis(20));
        let mut received = 0;
        loop {
            let (frames, dropped) = socket.receive();
            if frames + dropped == 0 {
                break;
            }
            let number = |socket: &mut FrameSocket, index| {
                socket
                    .exchange(index)
                    .map(|(frame, _)| u16::from_be_bytes([frame.octets[14], frame.octets[15]]))
            };
            assert!(number(socket, 0).is_some_and(|first| usize::from(first) >= received), "in their order");
            // Half of the batches are answered, half are not.
            if (received / FRAMES_AT_ONCE).is_multiple_of(2) {
                answer_batch(socket, 0);
            }
            received += frames;
        }
        assert!((500..=1024).contains(&received), "round {round}: {received}");
    }
    let answers = std::iter::from_fn(|| {
        let mut buffer = [0; 2048];
        recv(cable.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).ok()
    });
    assert!(answers.count() > 0);
}

#[test]
fn frames_are_taken_answered_and_bounded() {
    let sockets = Map::new("sockets", MapKind::Sockets, (4, 4), 64);
    let (Ok(sockets), true) = (sockets, lay_cable()) else {
        eprintln!("not shown: networks and programs of one's own are not permitted here");
        return;
    };
    let index = nix::net::if_::if_nametoindex(OURS).expect("an interface");
    let program = program(&sockets);
    for mode in [XdpMode::Driver, XdpMode::Generic] {
        let link = XdpLink::attach(&program, index, mode).expect("attached");
        let mut socket = match open(index, mode) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                eprintln!("not shown: this kernel has no AF_XDP");
                return;
            }
            socket => socket.expect("a socket"),
        };
        assert!(!socket.is_zero_copy(), "veth copies");
        let error = FrameSocket::open(index, 999, mode).expect_err("no such queue");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let cable = other_end();
        assert_eq!(socket.receive(), (0, 0));
        sockets.insert(&0u32.to_ne_bytes(), &socket.descriptor().to_ne_bytes()).expect("in the map");
        exchange_one(&mut socket, &cable);
        survive_a_flood(&mut socket, &cable);
        let cable = other_end();
        exchange_one(&mut socket, &cable);
        drop((socket, link));
    }
}
