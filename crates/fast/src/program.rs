//! The program: from a frame to a verdict.
//!
//! It answers a plain request in place and sends the frame back where it came from; one with NTS it hands over to a worker,
//! past the sockets. Its stages are in the order of the frame: Ethernet,
//! IPv4 or IPv6, UDP, NTP; then the maps are asked, the cheapest first; then nothing can fail any more, and the answer is
//! written, or the frame stamped. Everything that a stage does not know leaves the frame as it is and passes it on to the
//! sockets.

mod answer;
mod ask;
mod parse;

use crate::assembler::{
    AssembleError, Assembler, Condition, Instruction, Label, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9,
    Register, STACK, Width,
};
use crate::layout::{counter, service};
use answer::{
    answer_ipv4, answer_ipv6_header, answer_ntp, answer_udp, count, count_answer, kiss,
    swap_hardware_addresses,
};
use ask::{ask_clocks, ask_services, ask_time, check_limit};
use parse::{check_basic, check_nts, check_plain, check_port, ethernet, parse_ipv4, parse_ipv6};

/// The kernel goes on with the frame (`XDP_PASS`).
pub const VERDICT_PASS: i32 = 2;
/// The frame is dropped (`XDP_DROP`).
pub const VERDICT_DROP: i32 = 1;
/// The frame goes out where it came in (`XDP_TX`).
pub const VERDICT_ANSWER: i32 = 3;
/// The frame goes to a worker (`XDP_REDIRECT`).
pub const VERDICT_HAND_OVER: i32 = 4;
/// Different ports that are served by one program.
pub const PORTS_MAX: usize = 16;

/// Descriptors of the maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapDescriptors {
    /// Hash: what is served where.
    pub services: i32,
    /// Longest prefix match: who is answered.
    pub access: i32,
    /// Array of one: which state of the clock counts.
    pub current: i32,
    /// Array: states of the clock.
    pub times: i32,
    /// Array of one for each processor.
    pub counters: i32,
    /// Hash that forgets who has not asked for longest: what each client has to spend.
    pub clients: i32,
    /// The workers' AF_XDP sockets, by the interface's receive queue; `None`: NTS is left to the other sockets.
    pub sockets: Option<i32>,
}

/// Where a program is to work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The address of the network card: frames to others are not ours.
    pub hardware_address: [u8; 6],
    /// Our number of the interface, part of the keys of services.
    pub interface: u16,
    /// Ports that are served; at most [`PORTS_MAX`] are looked at.
    pub ports: Vec<u16>,
}

/// Helpers of the kernel: their numbers in linux/bpf.h.
mod helper {
    pub(super) const MAP_LOOKUP: i32 = 1;
    pub(super) const MAP_UPDATE: i32 = 2;
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub(super) const MONO_NANOS: i32 = 5;
    /// 32 random bits.
    pub(super) const RANDOM: i32 = 7;
    /// `CLOCK_TAI` in nanoseconds; since Linux 6.1.
    pub(super) const TAI_NANOS: i32 = 208;
    /// Gives a frame to a socket, or, where there is none, the verdict in the third argument.
    pub(super) const REDIRECT: i32 = 51;
    /// Makes room before the frame, which nothing on the wire sees.
    pub(super) const ADJUST_METADATA: i32 = 54;
}

/// Places in the context of the program (`struct xdp_md`): addresses, and the number of the queue.
mod context {
    pub(super) const START: i16 = 0;
    pub(super) const END: i16 = 4;
    pub(super) const METADATA: i16 = 8;
    pub(super) const QUEUE: i16 = 16;
}

/// Places in the frame.
mod frame {
    pub(super) const ETHERNET: i16 = 14;
    pub(super) const IPV4: i16 = 20;
    pub(super) const IPV6: i16 = 40;
    pub(super) const UDP: i16 = 8;
    pub(super) const NTP: i16 = 48;
}

/// Places in the NTP header, behind the UDP header. RFC 5905 §7.3.
mod ntp {
    use super::frame::UDP;
    pub(super) const FIRST: i16 = UDP;
    pub(super) const STRATUM: i16 = UDP + 1;
    pub(super) const PRECISION: i16 = UDP + 3;
    pub(super) const ROOT_DELAY: i16 = UDP + 4;
    pub(super) const ROOT_DISPERSION: i16 = UDP + 8;
    pub(super) const REFERENCE_ID: i16 = UDP + 12;
    pub(super) const REFERENCE: i16 = UDP + 16;
    pub(super) const ORIGIN: i16 = UDP + 24;
    pub(super) const RECEIVE: i16 = UDP + 32;
    pub(super) const TRANSMIT: i16 = UDP + 40;
    /// The type of the first extension field.
    pub(super) const FIELD: i16 = UDP + 48;
    pub(super) const FIELD_HEADER: i16 = 4;
}

const PROTOCOL_UDP: u8 = 17;
/// Octets of the stamp before a frame that is handed over: when it came, by the monotonic clock in nanoseconds.
const STAMP_OCTETS: i32 = 8;

/// What the program keeps on its stack, below its end.
mod stack {
    /// A key of the services, and behind it, at the same address, that of the access list.
    pub(super) const KEY: i16 = -24;
    /// Prefix length and listener, just before the address of the key.
    pub(super) const ACCESS_KEY: i16 = KEY - 8;
    pub(super) const INDEX: i16 = -36;
    /// The version, or what stands for requests with NTS in its place.
    pub(super) const VERSION: i16 = -48;
    /// The monotonic clock when the request came.
    pub(super) const MONO: i16 = -56;
    pub(super) const CONTEXT: i16 = -64;
    /// Whether the sender is to be told that it asks too often.
    pub(super) const KISS: i16 = -72;
    pub(super) const RANDOM: i16 = -80;
    /// What is remembered of a client that is new.
    pub(super) const CLIENT: i16 = -96;
}

/// The frame, from its start to its end.
const FRAME: Register = R6;
/// The UDP header in it.
const UDP: Register = R9;
/// The service, and then the state of the clock.
const STATE: Register = R7;
/// The clock as the program read it last.
const NOW: Register = R8;
/// The length of the packet, from the IP header on, before the clock is read.
const PACKET: Register = R8;

/// The instructions for a place, with these maps.
///
/// # Errors
/// None that depends on its arguments: a mistake in this file.
pub fn build(place: &Place, maps: &MapDescriptors) -> Result<Vec<Instruction>, AssembleError> {
    let mut code = Assembler::default();
    let pass = code.label();
    let (ipv6, udp, answer_ipv6, answered) = (code.label(), code.label(), code.label(), code.label());
    let (nts, known, hand_over, limited) = (code.label(), code.label(), code.label(), code.label());
    ethernet(&mut code, place, ipv6, pass);
    parse_ipv4(&mut code, pass);
    code.jump(udp);
    code.place(ipv6);
    parse_ipv6(&mut code, pass);
    code.place(udp);
    check_port(&mut code, place, pass);
    code.load(Width::Half, R4, UDP, 4);
    code.jump_if_word(R4, Condition::Unequal, network((frame::UDP + frame::NTP).cast_unsigned()), nts);
    check_plain(&mut code, pass);
    code.jump(known);
    code.place(nts);
    check_nts(&mut code, pass);
    code.place(known);
    check_basic(&mut code, pass);
    ask_clocks(&mut code);
    ask_services(&mut code, maps, pass);
    code.load(Width::Double, R1, STACK, stack::VERSION);
    code.jump_if(R1, Condition::Equal, number(service::NTS), hand_over);
    check_limit(&mut code, maps, limited);
    ask_time(&mut code, maps, pass);

    answer_ntp(&mut code);
    kiss(&mut code);
    answer_udp(&mut code);
    swap_hardware_addresses(&mut code);
    code.load(Width::Half, R1, FRAME, 12);
    code.jump_if_word(R1, Condition::Unequal, network(0x0800), answer_ipv6);
    answer_ipv4(&mut code);
    code.jump(answered);
    code.place(answer_ipv6);
    answer_ipv6_header(&mut code);
    code.place(answered);
    count_answer(&mut code, maps);
    code.set(R0, VERDICT_ANSWER);
    code.exit();
    code.place(limited);
    count(&mut code, maps, counter::LIMITED);
    code.set(R0, VERDICT_DROP);
    code.exit();
    code.place(hand_over);
    hand_over_frame(&mut code, maps, pass);
    code.place(pass);
    code.set(R0, VERDICT_PASS);
    code.exit();
    code.finish()
}

/// Stamps the frame, as far as the driver has room for that, and gives it to the socket of the queue that it came from; or
/// passes it on, where there is none.
fn hand_over_frame(code: &mut Assembler, maps: &MapDescriptors, pass: Label) {
    let Some(sockets) = maps.sockets else {
        code.jump(pass);
        return;
    };
    let (unstamped, end) = (code.label(), code.label());
    code.load(Width::Double, R1, STACK, stack::CONTEXT);
    code.set(R2, -STAMP_OCTETS);
    code.call(helper::ADJUST_METADATA);
    code.jump_if(R0, Condition::Unequal, 0, unstamped);
    code.load(Width::Double, R1, STACK, stack::CONTEXT);
    code.load(Width::Word, R2, R1, context::METADATA);
    code.load(Width::Word, R3, R1, context::START);
    code.set(R4, R2);
    code.add(R4, STAMP_OCTETS);
    code.jump_if(R4, Condition::More, R3, unstamped);
    code.load(Width::Double, R5, STACK, stack::MONO);
    code.store(Width::Double, R2, 0, R5);
    code.place(unstamped);
    code.load(Width::Double, R1, STACK, stack::CONTEXT);
    code.load(Width::Word, R2, R1, context::QUEUE);
    code.load_map(R1, sockets);
    code.set(R3, VERDICT_PASS);
    code.call(helper::REDIRECT);
    code.set(STATE, R0);
    code.jump_if_word(STATE, Condition::Unequal, VERDICT_HAND_OVER, end);
    code.store(Width::Word, STACK, stack::INDEX, 0);
    look_up(code, maps.counters, stack::INDEX, end);
    increment(code, counter::HANDED_OVER);
    code.place(end);
    code.set(R0, STATE);
    code.exit();
}

/// Two octets in the order of the network, as a load of them in the order of the machine finds them.
fn network(value: u16) -> i32 {
    i32::from(value.to_be())
}

fn number(flag: u32) -> i32 {
    flag.cast_signed()
}

/// `R0` becomes the address of a value, or jumps when there is none.
fn look_up(code: &mut Assembler, map: i32, key: i16, missing: Label) {
    code.load_map(R1, map);
    code.set(R2, STACK);
    code.add(R2, i32::from(key));
    code.call(helper::MAP_LOOKUP);
    code.jump_if(R0, Condition::Equal, 0, missing);
}

/// Adds one to a counter of this processor, which nobody interrupts.
fn increment(code: &mut Assembler, at: i16) {
    code.load(Width::Double, R1, R0, at);
    code.add(R1, 1);
    code.store(Width::Double, R0, at, R1);
}
