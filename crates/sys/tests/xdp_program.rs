//! The kernel takes the program of the fast path, and runs it as the interpreter of `chime-fast`'s tests does.
//!
//! Where there is no privilege for it, nothing can be shown, and the test says so.

use chime_fast::{
    ACCESS_KEY_OCTETS, COUNTERS_OCTETS, Counters, FastReading, Interface, ListenerRules, MapDescriptors,
    Place, SERVICE_KEY_OCTETS, SERVICE_OCTETS, SERVICES_MAX, SUBNETS_MAX, TIME_SLOT_OCTETS, TIME_SLOTS,
    TimeSlot, VERDICT_ANSWER, VERDICT_PASS, access_key, build, judge, services,
};
use chime_server::{AccessList, AccessRule, Policy, ServerTime};
use chime_sys::bpf::{Map, MapKind, XdpProgram};
use chime_sys::clock;
use chime_time::{MonoTime, NtpTimestamp};
use std::io;

/// Octets of a frame with an IPv4 request.
const FRAME_OCTETS: usize = 90;
const SERVER: [u8; 4] = [192, 0, 2, 1];
const CLIENT: [u8; 4] = [198, 51, 100, 7];
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];

struct Maps {
    services: Map,
    access: Map,
    current: Map,
    times: Map,
    counters: Map,
}

impl Maps {
    fn new() -> io::Result<Self> {
        let entries = |count: usize| u32::try_from(count).map_err(io::Error::other);
        let map = |name, kind, octets, count| Map::new(name, kind, octets, count);
        let (hash, array) = (MapKind::Hash, MapKind::Array);
        Ok(Self {
            services: map("s", hash, (SERVICE_KEY_OCTETS, SERVICE_OCTETS), entries(SERVICES_MAX)?)?,
            access: map("a", MapKind::LongestPrefix, (ACCESS_KEY_OCTETS, 8), entries(SUBNETS_MAX)?)?,
            current: map("c", array, (4, 8), 1)?,
            times: map("t", array, (4, TIME_SLOT_OCTETS), TIME_SLOTS)?,
            counters: map("n", MapKind::PerProcessorArray, (4, COUNTERS_OCTETS), 1)?,
        })
    }

    fn program(&self) -> XdpProgram {
        let descriptors = MapDescriptors {
            services: self.services.descriptor(),
            access: self.access.descriptor(),
            current: self.current.descriptor(),
            times: self.times.descriptor(),
            counters: self.counters.descriptor(),
        };
        let place = Place { hardware_address: HARDWARE, interface: 0, ports: vec![123] };
        let code = build(&place, &descriptors).expect("a program");
        XdpProgram::load("ntp", &code).unwrap_or_else(|error| panic!("the verifier refuses it: {error}"))
    }
}

fn frame(from: [u8; 4]) -> Vec<u8> {
    let mut ip = [0x45, 0, 0, 76, 0, 0, 0x40, 0, 64, 17, 0, 0].to_vec();
    ip.extend(from.into_iter().chain(SERVER));
    let mut sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame =
        [&HARDWARE[..], &[2, 0, 0, 0, 0, 9, 8, 0], &ip, &[0x9c, 0x40, 0, 123, 0, 56, 0, 0]].concat();
    frame.extend([0x23]);
    frame.resize(FRAME_OCTETS, 0);
    frame[82..].copy_from_slice(&[9; 8]);
    frame
}

#[test]
fn the_kernel_runs_the_program() {
    let maps = match Maps::new() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!("not shown: making maps for programs in the kernel is not permitted here");
            return;
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            eprintln!("not shown: this kernel runs no programs");
            return;
        }
        maps => maps.expect("maps"),
    };
    let program = maps.program();
    let run = |frame: &[u8]| program.test_run(frame).expect("it runs");
    let pass = VERDICT_PASS.unsigned_abs();
    assert_eq!(run(&frame(CLIENT)).0, pass, "nothing is served yet");

    let rule = AccessRule { allow: true, all: false, subnet: "198.51.100.0/24".parse().ok() };
    let served = judge(&Policy::new(AccessList::from_rules(&[rule]))).expect("served");
    for range in served.allowed.as_deref().expect("a list") {
        maps.access.insert(&access_key(0, range), &[1; 8]).expect("inserted");
    }
    let interface = Interface {
        name: "eth0".to_owned(),
        number: Some(0),
        addresses: vec![SERVER.into()],
        broadcasts: Vec::new(),
    };
    let listener = ListenerRules {
        address: "0.0.0.0:123".parse().expect("an address"),
        interface: None,
        served: Some(served),
    };
    for (key, value) in services(&[interface], &[listener]) {
        maps.services.insert(&key, &value).expect("inserted");
    }
    assert_eq!(run(&frame(CLIENT)).0, pass, "nobody has told the time");

    let (tai_nanos, clocks) = clock::read_with_tai().expect("a clock");
    let time = ServerTime::local(3, -20, MonoTime::ZERO, NtpTimestamp::ZERO);
    let slot = TimeSlot::new(&time, &FastReading { tai_nanos, clocks });
    maps.times.insert(&0u32.to_ne_bytes(), slot.octets()).expect("inserted");
    let before = clock::system_now().timestamp();
    let (verdict, answer) = run(&frame(CLIENT));
    let after = clock::system_now().timestamp();
    assert_eq!((verdict, answer.len()), (VERDICT_ANSWER.unsigned_abs(), FRAME_OCTETS));
    assert_eq!((&answer[26..30], &answer[30..34]), (&SERVER[..], &CLIENT[..]));
    assert_eq!((answer[42], answer[43], &answer[66..74]), (0x24, 3, &[9; 8][..]));
    let stamp = |at: usize| NtpTimestamp::from_be_bytes(answer[at..at + 8].try_into().expect("eight octets"));
    let (received, sent) = (stamp(74), stamp(82));
    // The kernel's quick clock may be some nanoseconds beside the exact one.
    for (early, late) in [(before, received), (received, sent), (sent, after)] {
        assert!((late - early).as_secs_f64() > -1e-6, "{before:?} {received:?} {sent:?} {after:?}");
    }
    assert_eq!(run(&frame([198, 51, 101, 7])).0, pass, "not on the list");
    let mut counters = Counters::default();
    for value in maps.counters.values(&[0; 4]).expect("counters") {
        counters.add(&value.try_into().expect("as long as it is"));
    }
    assert_eq!(counters, Counters { answered: 1, old_versions: 0, stale: 1 });
}
