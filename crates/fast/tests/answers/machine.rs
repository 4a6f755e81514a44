//! An interpreter with the maps and helpers that the program asks of the kernel, and frames to give to it.

use chime_fast::assembler::Instruction;
use chime_fast::{
    CLIENT_KEY_OCTETS, CLIENT_OCTETS, COUNTERS_OCTETS, Counters, Interface, ListenerRules, MapDescriptors,
    Place, SERVICE_OCTETS, ServiceTable, TIME_SLOT_OCTETS, TIME_SLOTS, TimeSlot, VERDICT_ANSWER,
    VERDICT_DROP, VERDICT_HAND_OVER, VERDICT_PASS, access_key, build, services,
};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use rbpf::EbpfVmFixedMbuff;
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The server's addresses.
pub(crate) const SERVER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The server's addresses.
pub(crate) const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const SERVER_HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_HARDWARE: [u8; 6] = [0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54];
const INTERFACE: u16 = 3;
/// Where in the interpreter's context the address of the frame's end is: behind what the kernel's has, which is all zero.
const END_AT: usize = 24;

/// A value of a map, where it stays; the interpreter writes to it through its address.
type Value = Box<[AtomicU64]>;

fn value(octets: &[u8]) -> Value {
    let word = |octets: &[u8]| {
        let mut word = [0; 8];
        word[..octets.len()].copy_from_slice(octets);
        AtomicU64::new(u64::from_ne_bytes(word))
    };
    octets.chunks(8).map(word).collect()
}

fn write(value: &Value, octets: &[u8]) {
    for (to, from) in value.iter().zip(self::value(octets)) {
        to.store(from.into_inner(), Ordering::Relaxed);
    }
}

/// The kernel as far as the program sees it.
struct Kernel {
    services: Vec<(Vec<u8>, Value)>,
    access: Vec<Vec<u8>>,
    listed: Value,
    current: Value,
    times: Vec<Value>,
    counters: Value,
    /// What is remembered of clients.
    clients: Vec<(Vec<u8>, Value)>,
    random: u32,
    /// Whether a worker has a socket for the first queue.
    has_socket: bool,
    tai: u64,
    mono: u64,
    memory: File,
}

thread_local! {
    /// Helpers are functions without anything of their own.
    static KERNEL: RefCell<Option<Kernel>> = const { RefCell::new(None) };
}

/// The program with its maps; one for each thread.
pub(crate) struct Machine {
    code: Vec<u8>,
}

impl Machine {
    /// A machine with one interface, a program on it, and these listeners.
    pub(crate) fn new(listeners: &[ListenerRules]) -> Self {
        let interface = Interface {
            name: "eth0".to_owned(),
            number: Some(INTERFACE),
            addresses: vec![SERVER_V4.into(), SERVER_V6.into()],
            broadcasts: vec![Ipv4Addr::new(192, 0, 2, 255)],
            vlan_on: None,
        };
        let table: ServiceTable = services(&[interface], listeners);
        let ranges = (0u32..).zip(listeners).flat_map(|(number, rules)| {
            let allowed = rules.served.as_ref().and_then(|served| served.allowed.clone());
            allowed.unwrap_or_default().into_iter().map(move |range| access_key(number, &range).to_vec())
        });
        let kernel = Kernel {
            services: table.iter().map(|(key, octets)| (key.to_vec(), value(octets))).collect(),
            access: ranges.collect(),
            listed: value(&[1; 8]),
            current: value(&[0; 8]),
            times: (0..TIME_SLOTS).map(|_| value(&[0; TIME_SLOT_OCTETS])).collect(),
            counters: value(&[0; COUNTERS_OCTETS]),
            clients: Vec::new(),
            random: 0,
            has_socket: true,
            tai: 0,
            mono: 0,
            memory: File::open("/proc/self/mem").expect("our own memory"),
        };
        KERNEL.with_borrow_mut(|place| *place = Some(kernel));
        let code = build(&Self::place(), &Self::descriptors()).expect("a program");
        Self { code: for_interpreter(code) }
    }

    pub(crate) fn place() -> Place {
        Place { hardware_address: SERVER_HARDWARE, interface: INTERFACE, ports: vec![4123, 123] }
    }

    pub(crate) fn descriptors() -> MapDescriptors {
        MapDescriptors {
            services: 1,
            access: 2,
            current: 3,
            times: 4,
            counters: 5,
            clients: 7,
            sockets: Some(6),
        }
    }

    pub(crate) fn set_clocks(&self, tai_nanos: u64, mono_nanos: u64) {
        with(|kernel| (kernel.tai, kernel.mono) = (tai_nanos, mono_nanos));
    }

    /// As the daemon does it: the next state in turn, then its number.
    pub(crate) fn publish(&self, slot: &TimeSlot) {
        with(|kernel| {
            let next = (kernel.current[0].load(Ordering::Relaxed) + 1) % u64::from(TIME_SLOTS);
            write(&kernel.times[usize::try_from(next).expect("small")], slot.octets());
            write(&kernel.current, &next.to_ne_bytes());
        });
    }

    pub(crate) fn counters(&self) -> Counters {
        with(|kernel| {
            let words: Vec<u8> =
                kernel.counters.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
            let mut counters = Counters::default();
            counters.add(&words.try_into().expect("as long as it is"));
            counters
        })
    }

    /// The next random number of the kernel's.
    pub(crate) fn set_random(&self, random: u32) {
        with(|kernel| kernel.random = random);
    }

    /// Takes the workers' socket away, or puts it back.
    pub(crate) fn set_socket(&self, has_socket: bool) {
        with(|kernel| kernel.has_socket = has_socket);
    }

    /// The frame that the program sends back; `None` when it passes on what it was given, untouched.
    pub(crate) fn run(&self, frame: &Frame) -> Option<Vec<u8>> {
        match self.verdict(frame) {
            (VERDICT_ANSWER, octets) => Some(octets),
            (verdict, octets) => {
                assert_eq!(verdict, VERDICT_PASS);
                assert_eq!(octets, frame.0, "what is passed on is as it was");
                None
            }
        }
    }

    /// The frame that the program sends back; `None` when it drops the request, as there were too many.
    pub(crate) fn run_limited(&self, frame: &Frame) -> Option<Vec<u8>> {
        let (verdict, octets) = self.verdict(frame);
        assert!([VERDICT_ANSWER, VERDICT_DROP].contains(&verdict), "{verdict}");
        (verdict == VERDICT_ANSWER).then_some(octets)
    }

    /// Whether the program hands the frame over, untouched.
    pub(crate) fn hands_over(&self, frame: &Frame) -> bool {
        let (verdict, octets) = self.verdict(frame);
        assert!(verdict == VERDICT_ANSWER || octets == frame.0, "it is as it was");
        verdict == VERDICT_HAND_OVER
    }

    fn verdict(&self, frame: &Frame) -> (i32, Vec<u8>) {
        let mut octets = frame.0.clone();
        let mut machine =
            EbpfVmFixedMbuff::new(Some(&self.code), 0, END_AT).expect("the interpreter takes it");
        machine.register_helper(1, map_lookup).expect("a helper");
        machine.register_helper(2, map_update).expect("a helper");
        machine.register_helper(5, mono_nanos).expect("a helper");
        machine.register_helper(7, random).expect("a helper");
        machine.register_helper(51, redirect).expect("a helper");
        machine.register_helper(54, no_metadata).expect("a helper");
        machine.register_helper(208, tai_nanos).expect("a helper");
        with(|kernel| {
            let all = kernel.services.iter().map(|(_, value)| value).chain(&kernel.times);
            let all = all.chain(kernel.clients.iter().map(|(_, value)| value));
            for value in all.chain([&kernel.listed, &kernel.current, &kernel.counters]) {
                let start = value.as_ptr().addr() as u64;
                machine.register_allowed_memory(start..start + 8 * value.len() as u64);
            }
        });
        let verdict = machine.execute_program(&mut octets).expect("it runs to its end");
        drop(machine);
        (i32::try_from(verdict).expect("a verdict"), octets)
    }
}

fn with<T>(what: impl FnOnce(&mut Kernel) -> T) -> T {
    KERNEL.with_borrow_mut(|place| what(place.as_mut().expect("a machine was made in this thread")))
}

/// In the kernel the addresses of the frame's start and end look like words; here they are as wide as addresses are.
fn for_interpreter(mut code: Vec<Instruction>) -> Vec<u8> {
    const LOAD_WORD: u8 = 0x61;
    const LOAD_DOUBLE: u8 = 0x79;
    for (instruction, offset) in code.iter_mut().zip([0, i16::try_from(END_AT).expect("small")]) {
        assert_eq!(instruction[0], LOAD_WORD, "the program begins with these loads");
        instruction[0] = LOAD_DOUBLE;
        instruction[2..4].copy_from_slice(&offset.to_ne_bytes());
    }
    // Nor does it know that a number may stand for a map.
    for instruction in code.iter_mut().filter(|instruction| instruction[0] == 0x18) {
        instruction[1] &= 0x0f;
    }
    code.concat()
}

fn tai_nanos(_: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    with(|kernel| kernel.tai)
}

fn mono_nanos(_: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    with(|kernel| kernel.mono)
}

fn random(_: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    with(|kernel| u64::from(kernel.random))
}

/// Octets of the interpreter's stack. Reading them so is safe, and says so when they are not there.
fn stack_octets(kernel: &Kernel, at: u64, octets: usize) -> Vec<u8> {
    let mut read = vec![0; octets];
    kernel.memory.read_exact_at(&mut read, at).expect("octets of the stack");
    read
}

fn map_update(map: u64, key: u64, octets: u64, flags: u64, _: u64) -> u64 {
    assert_eq!((map, flags), (7, 0));
    with(|kernel| {
        let key = stack_octets(kernel, key, CLIENT_KEY_OCTETS);
        let new = value(&stack_octets(kernel, octets, CLIENT_OCTETS));
        assert!(kernel.clients.iter().all(|(known, _)| *known != key), "it is new");
        kernel.clients.push((key, new));
    });
    0
}

fn redirect(map: u64, queue: u64, otherwise: u64, _: u64, _: u64) -> u64 {
    assert_eq!((map, queue), (6, 0));
    if with(|kernel| kernel.has_socket) { u64::from(VERDICT_HAND_OVER.unsigned_abs()) } else { otherwise }
}

/// As with drivers that have no room before a frame; what the kernel does with it is shown where there is one.
fn no_metadata(_: u64, octets: u64, _: u64, _: u64, _: u64) -> u64 {
    assert_eq!(octets.cast_signed(), -8);
    u64::MAX
}

fn map_lookup(map: u64, key: u64, _: u64, _: u64, _: u64) -> u64 {
    let address = |value: &Value| value.as_ptr().addr() as u64;
    with(|kernel| {
        let key_of = |octets| stack_octets(kernel, key, octets);
        match map {
            1 => {
                let wanted = key_of(20);
                let found = kernel.services.iter().find(|(key, _)| *key == wanted);
                found.map_or(0, |(_, value)| {
                    assert_eq!(value.len() * 8, SERVICE_OCTETS);
                    address(value)
                })
            }
            2 => {
                let wanted = key_of(24);
                assert_eq!(wanted[..4], 160u32.to_ne_bytes(), "all bits are asked for");
                let found = kernel.access.iter().any(|range| covers(range, &wanted));
                if found { address(&kernel.listed) } else { 0 }
            }
            7 => {
                let wanted = key_of(CLIENT_KEY_OCTETS);
                let found = kernel.clients.iter().find(|(key, _)| *key == wanted);
                found.map_or(0, |(_, value)| address(value))
            }
            _ => {
                let index = u32::from_ne_bytes(key_of(4).try_into().expect("four"));
                let values = match map {
                    3 => std::slice::from_ref(&kernel.current),
                    4 => &kernel.times[..],
                    5 => std::slice::from_ref(&kernel.counters),
                    _ => panic!("there is no map {map}"),
                };
                values.get(index as usize).map_or(0, address)
            }
        }
    })
}

/// Whether the bits of a range's key that its prefix counts are those of `wanted`.
fn covers(range: &[u8], wanted: &[u8]) -> bool {
    let prefix = u32::from_ne_bytes(range[..4].try_into().expect("four")) as usize;
    (0..prefix).all(|bit| {
        let of = |octets: &[u8]| octets[4 + bit / 8] >> (7 - bit % 8) & 1;
        of(range) == of(wanted)
    })
}

/// An Ethernet frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    /// A request from `from` to the server, as it would come.
    pub(crate) fn new(from: IpAddr, payload: &[u8]) -> Self {
        let to = if from.is_ipv4() { SERVER_V4.into() } else { SERVER_V6.into() };
        Self::between(from, to, payload)
    }

    pub(crate) fn raw(octets: Vec<u8>) -> Self {
        Self(octets)
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn between(from: IpAddr, to: IpAddr, payload: &[u8]) -> Self {
        let udp_octets = u16::try_from(8 + payload.len()).expect("short");
        let mut udp = [[0x9c, 0x40], [0, 123], udp_octets.to_be_bytes(), [0, 0]].concat();
        udp.extend(payload);
        let mut octets = [SERVER_HARDWARE, CLIENT_HARDWARE].concat();
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let total = (20 + udp_octets).to_be_bytes();
                let mut ip = [0x45, 0xb8, total[0], total[1], 0x12, 0x34, 0x40, 0, 57, 17, 0, 0].to_vec();
                ip.extend(from.octets().into_iter().chain(to.octets()));
                let sum = !checksum(&ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                octets.extend([8, 0]);
                octets.extend(ip);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                octets.extend([0x86, 0xdd, 0x60, 0x12, 0x34, 0x56]);
                octets.extend(udp_octets.to_be_bytes());
                octets.extend([17, 57]);
                octets.extend(from.octets().into_iter().chain(to.octets()));
                let pseudo = [&octets[22..54], &udp_octets.to_be_bytes(), &[0, 17]].concat();
                let sum = !checksum(&[&pseudo, &udp[..]].concat());
                udp[6..8].copy_from_slice(&sum.to_be_bytes());
            }
            _ => panic!("{from} and {to} are of two families"),
        }
        octets.extend(udp);
        Self(octets)
    }

    /// The same with other octets at `at`.
    pub(crate) fn with(&self, at: usize, octets: &[u8]) -> Self {
        let mut changed = self.clone();
        changed.0[at..at + octets.len()].copy_from_slice(octets);
        changed
    }

    /// The same with a fresh checksum of the IPv4 header.
    fn summed(mut self) -> Self {
        self.0[24..26].fill(0);
        let sum = !checksum(&self.0[14..34]);
        self.0[24..26].copy_from_slice(&sum.to_be_bytes());
        self
    }

    /// Frames that are not quite like this one, which is a good one.
    pub(crate) fn oddities(&self) -> Vec<(&'static str, Self)> {
        let longer = Self([&self.0[..], &[0]].concat());
        let shorter = Self(self.0[..self.0.len() - 1].to_vec());
        let mut odd = vec![
            ("another octet", longer),
            ("an octet less", shorter),
            ("a VLAN tag", self.with(12, &[0x81, 0])),
            ("to another card", self.with(5, &[9])),
            ("to another card", self.with(0, &[0xff; 6])),
        ];
        if self.0[12] == 8 {
            odd.extend([
                ("IPv4 options", self.with(14, &[0x46]).summed()),
                ("another version", self.with(14, &[0x55]).summed()),
                ("another length", self.with(17, &[77]).summed()),
                ("a first fragment", self.with(20, &[0x20]).summed()),
                ("a last fragment", self.with(21, &[1]).summed()),
                ("the reserved bit", self.with(20, &[0x80]).summed()),
                ("TCP", self.with(23, &[6]).summed()),
                ("a wrong checksum", self.with(25, &[self.0[25] ^ 1])),
                ("port 0", self.with(34, &[0, 0])),
                ("another UDP length", self.with(39, &[57])),
            ]);
        } else {
            odd.extend([
                ("another version", self.with(14, &[0x40])),
                ("another length", self.with(19, &[57])),
                ("an extension header", self.with(20, &[0])),
                ("no checksum", self.with(60, &[0, 0])),
                ("port 0", self.with(54, &[0, 0])),
                ("another UDP length", self.with(59, &[57])),
            ]);
        }
        odd
    }
}

/// The NTP part of an answer.
pub(crate) fn answer_payload(frame: &[u8]) -> &[u8] {
    if frame[12] == 8 { &frame[42..] } else { &frame[62..] }
}

/// That everything around the answer is right: back to the sender, nothing longer, checksums.
pub(crate) fn check_frame(answer: &[u8], request: &Frame) {
    let request = &request.0;
    assert!(answer.len() <= request.len());
    let length = |before: usize| u16::try_from(answer.len() - before).expect("short").to_be_bytes();
    let (total, udp_octets) = (length(14), length(if answer[12] == 8 { 34 } else { 54 }));
    assert_eq!((&answer[..6], &answer[6..12]), (&request[6..12], &request[..6]));
    let (udp, pseudo) = if answer[12] == 8 {
        assert_eq!(answer[14..24], [0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 17]);
        assert_eq!(checksum(&answer[14..34]), 0xffff, "IPv4 header");
        assert_eq!((&answer[26..30], &answer[30..34]), (&request[30..34], &request[26..30]));
        (34, [&answer[26..34], &[0, 17], &udp_octets].concat())
    } else {
        assert_eq!(answer[14..22], [0x60, 0, 0, 0, udp_octets[0], udp_octets[1], 17, 64]);
        assert_eq!((&answer[22..38], &answer[38..54]), (&request[38..54], &request[22..38]));
        (54, [&answer[22..54], &udp_octets, &[0, 17]].concat())
    };
    assert_eq!(answer[udp..udp + 4], [&request[udp + 2..udp + 4], &request[udp..udp + 2]].concat());
    assert_eq!(answer[udp + 4..udp + 6], udp_octets);
    assert_ne!(answer[udp + 6..udp + 8], [0, 0]);
    assert_eq!(checksum(&[&pseudo, &answer[udp..]].concat()), 0xffff, "UDP");
}

/// The sum of RFC 1071, without the last inversion.
fn checksum(octets: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = octets.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}
