//! The program: from a frame to a verdict.
//!
//! It answers a plain request in place and sends the frame back where it came from; one with NTS it hands over to a worker,
//! past the sockets. Its stages are in the order of the frame: Ethernet,
//! IPv4 or IPv6, UDP, NTP; then the maps are asked, the cheapest first; then nothing can fail any more, and the answer is
//! written, or the frame stamped. Everything that a stage does not know leaves the frame as it is and passes it on to the
//! sockets.

use crate::assembler::{
    AssembleError, Assembler, Condition, Instruction, Label, Operation, R0, R1, R2, R3, R4, R5, R6, R7, R8,
    R9, Register, STACK, Width,
};
use crate::checksum::{add_words, finish_udp, fold};
use crate::layout::{TIME_SLOTS, client, counter, service, service_key, time_slot};
use crate::time_slot::{DISPERSION_SHIFT, RATE_SHIFT};

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
const MODE_CLIENT: i32 = 3;
/// Leap indicator aside: version 4, mode 3.
const NTS_FIRST: i32 = 0x23;
/// The field that requests with NTS begin with, those of all clients that we know. RFC 8915 §5.3.
const UNIQUE_IDENTIFIER: u16 = 0x0104;
const HOPS: u8 = 64;
/// The longest packet that is looked at, octets from the IP header on: one of Ethernet.
const PACKET_OCTETS_MAX: i32 = 1500;
/// Octets of the stamp before a frame that is handed over: when it came, by the monotonic clock in nanoseconds.
const STAMP_OCTETS: i32 = 8;
/// What the clocks may have gone apart by, nanoseconds, before a state of them is stale: far more than lies between their
/// readings.
const STEP_NANOS: i32 = 100_000;

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

/// Two octets in the order of the network, as a load of them in the order of the machine finds them.
fn network(value: u16) -> i32 {
    i32::from(value.to_be())
}

/// Jumps when two octets of `from` are not `value`.
fn must_be_half(code: &mut Assembler, from: Register, offset: i16, value: u16, otherwise: Label) {
    code.load(Width::Half, R4, from, offset);
    code.jump_if_word(R4, Condition::Unequal, network(value), otherwise);
}

/// Jumps when an octet of `from` is not `value`.
fn must_be_octet(code: &mut Assembler, from: Register, offset: i16, value: i32, otherwise: Label) {
    code.load(Width::Octet, R4, from, offset);
    code.jump_if_word(R4, Condition::Unequal, value, otherwise);
}

/// [`PACKET`] becomes the length in `from + offset`, plus `more`. Jumps when that is not the length of the frame: nothing may
/// be behind the packet. Register 2 is the end of the frame.
fn must_be_long(code: &mut Assembler, (from, offset): (Register, i16), more: i16, otherwise: Label) {
    code.load(Width::Half, PACKET, from, offset);
    code.swap_to_network(PACKET, Width::Half);
    code.add(PACKET, i32::from(more));
    code.jump_if(PACKET, Condition::More, PACKET_OCTETS_MAX, otherwise);
    code.set(R3, FRAME);
    code.add(R3, PACKET);
    code.add(R3, i32::from(frame::ETHERNET));
    code.jump_if(R3, Condition::More, R2, otherwise);
    code.add(R3, 1);
    code.jump_if(R3, Condition::AtMost, R2, otherwise);
}

/// UDP has the rest of the packet behind a header of so many octets.
fn must_be_all_udp(code: &mut Assembler, header: i16, otherwise: Label) {
    code.load(Width::Half, R4, FRAME, frame::ETHERNET + header + 4);
    code.swap_to_network(R4, Width::Half);
    code.add(R4, i32::from(header));
    code.jump_if(R4, Condition::Unequal, PACKET, otherwise);
}

/// Only frames to us, without VLAN tag.
fn ethernet(code: &mut Assembler, place: &Place, ipv6: Label, pass: Label) {
    let [a, b, c, d, e, f] = place.hardware_address;
    code.load(Width::Word, FRAME, R1, context::START);
    code.load(Width::Word, R2, R1, context::END);
    code.store(Width::Double, STACK, stack::CONTEXT, R1);
    code.set(R3, FRAME);
    code.add(R3, i32::from(frame::ETHERNET + frame::IPV4 + frame::UDP + frame::NTP));
    code.jump_if(R3, Condition::More, R2, pass);
    code.load(Width::Word, R4, FRAME, 0);
    code.jump_if_word(R4, Condition::Unequal, i32::from_ne_bytes([a, b, c, d]), pass);
    code.load(Width::Half, R4, FRAME, 4);
    code.jump_if_word(R4, Condition::Unequal, i32::from(u16::from_ne_bytes([e, f])), pass);
    code.load(Width::Half, R4, FRAME, 12);
    code.jump_if_word(R4, Condition::Equal, network(0x86dd), ipv6);
    code.jump_if_word(R4, Condition::Unequal, network(0x0800), pass);
}

/// IPv4 without options and fragments, its checksum right, from an address that can be answered. Writes the addresses
/// to the stack: that which was asked for the services.
fn parse_ipv4(code: &mut Assembler, pass: Label) {
    const IP: i16 = frame::ETHERNET;
    must_be_octet(code, FRAME, IP, 0x45, pass);
    must_be_long(code, (FRAME, IP + 2), 0, pass);
    must_be_all_udp(code, frame::IPV4, pass);
    // Reserved bit, more fragments, place of the fragment; "do not fragment" alone is good.
    code.load(Width::Half, R4, FRAME, IP + 6);
    code.jump_if_word(R4, Condition::Common, network(0xbfff), pass);
    must_be_octet(code, FRAME, IP + 9, i32::from(PROTOCOL_UDP), pass);
    code.set(R0, 0);
    add_words(code, FRAME, IP, 5);
    fold(code);
    code.jump_if_word(R0, Condition::Unequal, 0xffff, pass);
    // Not from this network (0), loopback (127), multicast and beyond (224 and more). RFC 1122 §3.2.1.3.
    code.load(Width::Octet, R4, FRAME, IP + 12);
    code.jump_if_word(R4, Condition::Equal, 0, pass);
    code.jump_if_word(R4, Condition::Equal, 127, pass);
    code.jump_if_word(R4, Condition::AtLeast, 224, pass);
    code.store(Width::Double, STACK, stack::KEY, 0);
    code.store(Width::Word, STACK, stack::KEY + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
    code.load(Width::Word, R4, FRAME, IP + 16);
    code.store(Width::Word, STACK, stack::KEY + 12, R4);
    code.set(UDP, FRAME);
    code.add(UDP, i32::from(IP + frame::IPV4));
}

/// IPv6 without extension headers, from an address that can be answered.
fn parse_ipv6(code: &mut Assembler, pass: Label) {
    const IP: i16 = frame::ETHERNET;
    code.set(R3, FRAME);
    code.add(R3, i32::from(IP + frame::IPV6 + frame::UDP + frame::NTP));
    code.jump_if(R3, Condition::More, R2, pass);
    code.load(Width::Octet, R4, FRAME, IP);
    code.compute(Operation::ShiftRight, R4, 4);
    code.jump_if_word(R4, Condition::Unequal, 6, pass);
    must_be_long(code, (FRAME, IP + 4), frame::IPV6, pass);
    must_be_all_udp(code, frame::IPV6, pass);
    must_be_octet(code, FRAME, IP + 6, i32::from(PROTOCOL_UDP), pass);
    // A checksum is a must. RFC 8200 §8.1.
    code.load(Width::Half, R4, FRAME, IP + frame::IPV6 + 6);
    code.jump_if_word(R4, Condition::Equal, 0, pass);
    // Not from multicast, nor from ::/64: unspecified, loopback, IPv4-mapped. RFC 4291 §2.5, §2.7.
    must_not_be_octet(code, FRAME, IP + 8, 0xff, pass);
    code.load(Width::Double, R4, FRAME, IP + 8);
    code.jump_if(R4, Condition::Equal, 0, pass);
    for part in [0, 8] {
        code.load(Width::Double, R4, FRAME, IP + 24 + part);
        code.store(Width::Double, STACK, stack::KEY + part, R4);
    }
    code.set(UDP, FRAME);
    code.add(UDP, i32::from(IP + frame::IPV6));
}

fn must_not_be_octet(code: &mut Assembler, from: Register, offset: i16, value: i32, otherwise: Label) {
    code.load(Width::Octet, R4, from, offset);
    code.jump_if_word(R4, Condition::Equal, value, otherwise);
}

/// To one of our ports, from one that can be answered.
fn check_port(code: &mut Assembler, place: &Place, pass: Label) {
    let ours = code.label();
    code.load(Width::Half, R5, UDP, 2);
    for port in place.ports.iter().take(PORTS_MAX) {
        code.jump_if_word(R5, Condition::Equal, network(*port), ours);
    }
    code.jump(pass);
    code.place(ours);
    // Nobody can be answered at port 0.
    code.load(Width::Half, R4, UDP, 0);
    code.jump_if_word(R4, Condition::Equal, 0, pass);
    code.store(Width::Half, STACK, stack::KEY + service_key::PORT, R5);
    code.store(Width::Half, STACK, stack::KEY + service_key::PORT + 2, i32::from(place.interface));
}

/// A request of a client. The checksum of the request is not looked at:
/// nothing of it is believed, and its client will not believe the answer to a damaged one.
fn check_plain(code: &mut Assembler, pass: Label) {
    code.load(Width::Octet, R4, UDP, ntp::FIRST);
    code.set(R3, R4);
    code.compute(Operation::And, R4, 7);
    code.jump_if_word(R4, Condition::Unequal, MODE_CLIENT, pass);
    code.compute(Operation::ShiftRight, R3, 3);
    code.compute(Operation::And, R3, 7);
    code.store(Width::Double, STACK, stack::VERSION, R3);
}

/// A request of a client with a first field that those with NTS have. Others that look the same (the number of a symmetric
/// key can begin so) do no harm: workers treat all requests alike. They look at the checksum as well.
fn check_nts(code: &mut Assembler, pass: Label) {
    code.set(R3, UDP);
    code.add(R3, i32::from(ntp::FIELD + ntp::FIELD_HEADER));
    code.jump_if(R3, Condition::More, R2, pass);
    code.load(Width::Octet, R4, UDP, ntp::FIRST);
    code.compute(Operation::And, R4, 0x3f);
    code.jump_if_word(R4, Condition::Unequal, NTS_FIRST, pass);
    must_be_half(code, UDP, ntp::FIELD, UNIQUE_IDENTIFIER, pass);
    code.store(Width::Double, STACK, stack::VERSION, number(service::NTS));
}

/// Basic mode: what interleaved mode takes is known to the sockets only. RFC 9769 §2.
fn check_basic(code: &mut Assembler, pass: Label) {
    let basic = code.label();
    code.load(Width::Double, R4, UDP, ntp::ORIGIN);
    code.jump_if(R4, Condition::Equal, 0, basic);
    code.load(Width::Double, R4, UDP, ntp::RECEIVE);
    code.jump_if(R4, Condition::Equal, 0, basic);
    code.load(Width::Double, R3, UDP, ntp::TRANSMIT);
    code.jump_if(R4, Condition::Unequal, R3, pass);
    code.place(basic);
}

fn ask_clocks(code: &mut Assembler) {
    code.call(helper::MONO_NANOS);
    code.store(Width::Double, STACK, stack::MONO, R0);
    code.call(helper::TAI_NANOS);
    code.set(NOW, R0);
}

/// `R0` becomes the address of a value, or jumps when there is none.
fn look_up(code: &mut Assembler, map: i32, key: i16, missing: Label) {
    code.load_map(R1, map);
    code.set(R2, STACK);
    code.add(R2, i32::from(key));
    code.call(helper::MAP_LOOKUP);
    code.jump_if(R0, Condition::Equal, 0, missing);
}

/// Whether this address and port are served for this version, and whether the sender is one that is answered.
fn ask_services(code: &mut Assembler, maps: &MapDescriptors, pass: Label) {
    look_up(code, maps.services, stack::KEY, pass);
    code.set(STATE, R0);
    code.load(Width::Word, R4, STATE, service::VERSIONS);
    code.load(Width::Double, R5, STACK, stack::VERSION);
    code.compute(Operation::ShiftRight, R4, R5);
    code.compute(Operation::And, R4, 1);
    code.jump_if_word(R4, Condition::Equal, 0, pass);

    // Now the sender: its address instead of ours, and no port.
    let (ipv6, known, good, open) = (code.label(), code.label(), code.label(), code.label());
    code.load(Width::Half, R4, FRAME, 12);
    code.jump_if_word(R4, Condition::Unequal, network(0x0800), ipv6);
    code.load(Width::Word, R4, FRAME, frame::ETHERNET + 12);
    code.store(Width::Word, STACK, stack::KEY + 12, R4);
    code.jump(known);
    code.place(ipv6);
    for part in [0, 8] {
        code.load(Width::Double, R4, UDP, part - 32);
        code.store(Width::Double, STACK, stack::KEY + part, R4);
    }
    code.place(known);
    code.store(Width::Half, STACK, stack::KEY + service_key::PORT, 0);
    look_up(code, maps.services, stack::KEY, good);
    code.jump(pass);
    code.place(good);
    code.load(Width::Word, R4, STATE, service::FLAGS);
    code.compute(Operation::And, R4, number(service::FLAG_LISTED));
    code.jump_if_word(R4, Condition::Equal, 0, open);
    code.load(Width::Word, R4, STATE, service::LISTENER);
    code.store(Width::Word, STACK, stack::ACCESS_KEY + 4, R4);
    // All bits of the listener's number and of the address.
    code.store(Width::Word, STACK, stack::ACCESS_KEY, 32 + 128);
    look_up(code, maps.access, stack::ACCESS_KEY, pass);
    code.place(open);
}

fn number(flag: u32) -> i32 {
    flag.cast_signed()
}

/// How often a client is answered: the decisions of [`chime_server::ClientTable`], but for clients that ask even more often
/// when they get no answer. Two requests of one client at a time, on two processors, may cost it no more than one.
fn check_limit(code: &mut Assembler, maps: &MapDescriptors, limited: Label) {
    let (within, new, beyond, leaks) = (code.label(), code.label(), code.label(), code.label());
    code.store(Width::Double, STACK, stack::KISS, 0);
    code.load(Width::Word, R4, STATE, service::FLAGS);
    code.compute(Operation::And, R4, number(service::FLAG_LIMITED));
    code.jump_if_word(R4, Condition::Equal, 0, within);
    // The key has the sender's address already.
    code.load(Width::Word, R4, STATE, service::LISTENER);
    code.store(Width::Word, STACK, stack::KEY + service_key::PORT, R4);
    code.call(helper::RANDOM);
    code.store(Width::Double, STACK, stack::RANDOM, R0);
    look_up(code, maps.clients, stack::KEY, new);
    add_credit(code);
    code.load(Width::Double, R2, STATE, service::COST);
    code.jump_if(R3, Condition::Less, R2, beyond);
    code.compute(Operation::Subtract, R3, R2);
    code.store(Width::Double, R0, client::CREDIT, R3);
    code.jump(within);

    code.place(beyond);
    code.store(Width::Double, R0, client::CREDIT, R3);
    code.load(Width::Double, R1, STACK, stack::RANDOM);
    code.load_number(R2, service::NEVER);
    code.compute(Operation::Or, R1, R2);
    code.load(Width::Double, R2, STATE, service::LEAK);
    code.compute(Operation::And, R2, R1);
    code.jump_if(R2, Condition::Equal, 0, leaks);
    code.load(Width::Double, R2, STATE, service::KISS);
    code.compute(Operation::And, R2, R1);
    code.jump_if(R2, Condition::Unequal, 0, limited);
    code.store(Width::Double, STACK, stack::KISS, 1);
    code.jump(within);
    code.place(leaks);
    code.store(Width::Double, R0, client::CREDIT, 0);
    code.jump(within);

    code.place(new);
    code.load(Width::Double, R1, STACK, stack::MONO);
    code.store(Width::Double, STACK, stack::CLIENT + client::LAST, R1);
    code.load(Width::Double, R1, STATE, service::CREDIT_MAX);
    code.load(Width::Double, R2, STATE, service::COST);
    code.compute(Operation::Subtract, R1, R2);
    code.store(Width::Double, STACK, stack::CLIENT + client::CREDIT, R1);
    code.load_map(R1, maps.clients);
    code.set(R2, STACK);
    code.add(R2, i32::from(stack::KEY));
    code.set(R3, STACK);
    code.add(R3, i32::from(stack::CLIENT));
    code.set(R4, 0);
    code.call(helper::MAP_UPDATE);
    code.place(within);
}

/// Register 3 becomes the credit of the client in register 0, with what has come together since it last asked, which is now.
fn add_credit(code: &mut Assembler) {
    let (later, fits) = (code.label(), code.label());
    code.load(Width::Double, R1, STACK, stack::MONO);
    code.load(Width::Double, R2, R0, client::LAST);
    // Another processor may have been here with a request that came later.
    code.jump_if(R1, Condition::AtLeast, R2, later);
    code.set(R1, R2);
    code.place(later);
    code.store(Width::Double, R0, client::LAST, R1);
    code.compute(Operation::Subtract, R1, R2);
    code.load(Width::Double, R3, R0, client::CREDIT);
    code.add(R3, R1);
    code.load(Width::Double, R2, STATE, service::CREDIT_MAX);
    code.jump_if(R3, Condition::AtMost, R2, fits);
    code.set(R3, R2);
    code.place(fits);
}

/// [`STATE`] becomes the state of the clock that counts now.
fn ask_time(code: &mut Assembler, maps: &MapDescriptors, pass: Label) {
    code.store(Width::Word, STACK, stack::INDEX, 0);
    look_up(code, maps.current, stack::INDEX, pass);
    code.load(Width::Word, R1, R0, 0);
    code.compute(Operation::And, R1, number(TIME_SLOTS - 1));
    code.store(Width::Word, STACK, stack::INDEX, R1);
    look_up(code, maps.times, stack::INDEX, pass);
    code.set(STATE, R0);
    // Before it began it is stale as well: that is very long ago, without sign.
    let (fresh, stale) = (code.label(), code.label());
    code.load(Width::Double, R1, STATE, time_slot::TAI_BASE);
    code.compute(Operation::Subtract, NOW, R1);
    code.load(Width::Double, R1, STATE, time_slot::VALID);
    code.jump_if(NOW, Condition::AtLeast, R1, stale);
    // A step of the system clock, or of the offset of TAI, that nobody has told us of yet.
    code.load(Width::Double, R1, STACK, stack::MONO);
    code.load(Width::Double, R2, STATE, time_slot::MONO_BASE);
    code.compute(Operation::Subtract, R1, R2);
    code.compute(Operation::Subtract, R1, NOW);
    code.add(R1, STEP_NANOS);
    code.jump_if(R1, Condition::Less, 2 * STEP_NANOS, fresh);
    code.place(stale);
    code.store(Width::Word, STACK, stack::INDEX, 0);
    look_up(code, maps.counters, stack::INDEX, pass);
    increment(code, counter::STALE);
    code.jump(pass);
    code.place(fresh);
}

/// The answer's header, but for its transmit timestamp, from the request's and the state of the clock. RFC 5905 §9.2.
fn answer_ntp(code: &mut Assembler) {
    code.load(Width::Double, R1, UDP, ntp::TRANSMIT);
    code.store(Width::Double, UDP, ntp::ORIGIN, R1);
    code.load(Width::Octet, R1, UDP, ntp::FIRST);
    code.compute(Operation::And, R1, 0x38);
    code.load(Width::Octet, R2, STATE, time_slot::FIRST);
    code.compute(Operation::Or, R1, R2);
    code.store(Width::Octet, UDP, ntp::FIRST, R1);
    for (width, from, to) in [
        (Width::Octet, time_slot::STRATUM, ntp::STRATUM),
        (Width::Octet, time_slot::PRECISION, ntp::PRECISION),
        (Width::Word, time_slot::ROOT_DELAY, ntp::ROOT_DELAY),
        (Width::Word, time_slot::REFERENCE_ID, ntp::REFERENCE_ID),
        (Width::Double, time_slot::REFERENCE, ntp::REFERENCE),
    ] {
        code.load(width, R1, STATE, from);
        code.store(width, UDP, to, R1);
    }
    write_dispersion(code);
    write_timestamp(code, ntp::RECEIVE);
    code.call(helper::TAI_NANOS);
    code.load(Width::Double, R1, STATE, time_slot::TAI_BASE);
    code.compute(Operation::Subtract, R0, R1);
    code.set(NOW, R0);
    write_timestamp(code, ntp::TRANSMIT);
}

/// Makes an answer one that says only that it is asked too often. RFC 5905 §7.4.
fn kiss(code: &mut Assembler) {
    let time = code.label();
    code.load(Width::Double, R1, STACK, stack::KISS);
    code.jump_if(R1, Condition::Equal, 0, time);
    code.load(Width::Octet, R1, UDP, ntp::FIRST);
    code.compute(Operation::Or, R1, 0xc0);
    code.store(Width::Octet, UDP, ntp::FIRST, R1);
    code.store(Width::Octet, UDP, ntp::STRATUM, 0);
    code.store(Width::Word, UDP, ntp::ROOT_DELAY, 0);
    code.store(Width::Word, UDP, ntp::ROOT_DISPERSION, 0);
    code.store(Width::Word, UDP, ntp::REFERENCE_ID, i32::from_ne_bytes(*b"RATE"));
    code.store(Width::Double, UDP, ntp::REFERENCE, 0);
    code.place(time);
}

/// What it was, and what it has grown by; rounded up to units of 2⁻¹⁶ s, and never more than these can say.
fn write_dispersion(code: &mut Assembler) {
    let small = code.label();
    code.load(Width::Double, R1, STATE, time_slot::DISPERSION_RATE);
    code.compute(Operation::Multiply, R1, NOW);
    code.compute(Operation::ShiftRight, R1, DISPERSION_SHIFT);
    code.load(Width::Double, R2, STATE, time_slot::DISPERSION);
    code.add(R1, R2);
    code.add(R1, 0xffff);
    code.compute(Operation::ShiftRight, R1, 16);
    code.set(R2, R1);
    code.compute(Operation::ShiftRight, R2, 32);
    code.jump_if(R2, Condition::Equal, 0, small);
    code.set(R1, -1);
    code.place(small);
    code.swap_to_network(R1, Width::Word);
    code.store(Width::Word, UDP, ntp::ROOT_DISPERSION, R1);
}

/// The time of [`NOW`] nanoseconds after the state began: four units each, and the rest by its rate.
fn write_timestamp(code: &mut Assembler, at: i16) {
    code.load(Width::Double, R1, STATE, time_slot::RATE);
    code.compute(Operation::Multiply, R1, NOW);
    code.compute(Operation::ShiftRightSigned, R1, RATE_SHIFT);
    code.set(R2, NOW);
    code.compute(Operation::ShiftLeft, R2, 2);
    code.add(R1, R2);
    code.load(Width::Double, R2, STATE, time_slot::TIME_BASE);
    code.add(R1, R2);
    code.swap_to_network(R1, Width::Double);
    code.store(Width::Double, UDP, at, R1);
}

/// Ports change places, and the checksum begins: [`NOW`] becomes the sum of the header, the answer, and of the pseudo
/// header what does not depend on the family.
fn answer_udp(code: &mut Assembler) {
    const LENGTH: u16 = (frame::UDP + frame::NTP).cast_unsigned();
    code.load(Width::Half, R1, UDP, 0);
    code.load(Width::Half, R2, UDP, 2);
    code.store(Width::Half, UDP, 0, R2);
    code.store(Width::Half, UDP, 2, R1);
    code.set(R0, network(LENGTH));
    code.add(R0, network(LENGTH));
    code.add(R0, network(u16::from(PROTOCOL_UDP)));
    code.add(R0, R1);
    code.add(R0, R2);
    add_words(code, UDP, frame::UDP, frame::NTP / 4);
    code.set(NOW, R0);
}

fn swap_hardware_addresses(code: &mut Assembler) {
    code.load(Width::Word, R1, FRAME, 0);
    code.load(Width::Half, R2, FRAME, 4);
    code.load(Width::Word, R3, FRAME, 6);
    code.load(Width::Half, R4, FRAME, 10);
    code.store(Width::Word, FRAME, 0, R3);
    code.store(Width::Half, FRAME, 4, R4);
    code.store(Width::Word, FRAME, 6, R1);
    code.store(Width::Half, FRAME, 10, R2);
}

/// A new header, as the kernel makes them for answers of sockets: no class, nothing to put together again, 64 hops.
fn answer_ipv4(code: &mut Assembler) {
    const IP: i16 = frame::ETHERNET;
    let [high, low] = (frame::IPV4 + frame::UDP + frame::NTP).to_be_bytes();
    code.store(Width::Word, FRAME, IP, i32::from_ne_bytes([0x45, 0, high, low]));
    code.store(Width::Word, FRAME, IP + 4, i32::from_ne_bytes([0, 0, 0x40, 0]));
    code.store(Width::Word, FRAME, IP + 8, i32::from_ne_bytes([HOPS, PROTOCOL_UDP, 0, 0]));
    code.load(Width::Word, R2, FRAME, IP + 12);
    code.load(Width::Word, R3, FRAME, IP + 16);
    code.store(Width::Word, FRAME, IP + 12, R3);
    code.store(Width::Word, FRAME, IP + 16, R2);
    code.set(R0, 0);
    add_words(code, FRAME, IP, 5);
    fold(code);
    code.compute(Operation::Xor, R0, 0xffff);
    code.store(Width::Half, FRAME, IP + 10, R0);
    code.set(R0, NOW);
    add_words(code, FRAME, IP + 12, 2);
    finish_checksum(code);
}

/// A new header: no class and no flow label, 64 hops.
fn answer_ipv6_header(code: &mut Assembler) {
    const IP: i16 = frame::ETHERNET;
    // Counted from UDP, since that alone is known to have so much before it here.
    const AT: i16 = -frame::IPV6;
    code.store(Width::Word, FRAME, IP, i32::from_ne_bytes([0x60, 0, 0, 0]));
    code.store(Width::Octet, FRAME, IP + 7, i32::from(HOPS));
    for part in [0, 8] {
        code.load(Width::Double, R1, UDP, AT + 8 + part);
        code.load(Width::Double, R2, UDP, AT + 24 + part);
        code.store(Width::Double, UDP, AT + 8 + part, R2);
        code.store(Width::Double, UDP, AT + 24 + part, R1);
    }
    code.set(R0, NOW);
    add_words(code, UDP, AT + 8, 8);
    finish_checksum(code);
}

fn finish_checksum(code: &mut Assembler) {
    fold(code);
    finish_udp(code);
    code.store(Width::Half, UDP, 6, R0);
}

fn count_answer(code: &mut Assembler, maps: &MapDescriptors) {
    let (kissed, end) = (code.label(), code.label());
    code.load(Width::Double, R1, STACK, stack::KISS);
    code.jump_if(R1, Condition::Unequal, 0, kissed);
    count(code, maps, counter::ANSWERED);
    code.jump(end);
    code.place(kissed);
    count(code, maps, counter::KISSED);
    code.place(end);
}

/// Counts a request, and its version.
fn count(code: &mut Assembler, maps: &MapDescriptors, at: i16) {
    let end = code.label();
    code.store(Width::Word, STACK, stack::INDEX, 0);
    look_up(code, maps.counters, stack::INDEX, end);
    increment(code, at);
    code.load(Width::Double, R1, STACK, stack::VERSION);
    code.jump_if(R1, Condition::AtLeast, 4, end);
    increment(code, counter::OLD_VERSIONS);
    code.place(end);
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

/// Adds one to a counter of this processor, which nobody interrupts.
fn increment(code: &mut Assembler, at: i16) {
    code.load(Width::Double, R1, R0, at);
    code.add(R1, 1);
    code.store(Width::Double, R0, at, R1);
}
