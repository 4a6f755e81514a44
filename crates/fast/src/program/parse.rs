//! From a frame to a request: which are ordinary enough, and whose they are. All else jumps to `pass`.

use super::{
    FRAME, PACKET, PORTS_MAX, PROTOCOL_UDP, Place, UDP, context, frame, network, ntp, number, stack,
};
use crate::assembler::{
    Assembler, Condition, Label, Operation, R0, R1, R2, R3, R4, R5, Register, STACK, Width,
};
use crate::checksum::{add_words, fold};
use crate::layout::{service, service_key};

const MODE_CLIENT: i32 = 3;
/// Leap indicator aside: version 4, mode 3.
const NTS_FIRST: i32 = 0x23;
/// The field that requests with NTS begin with, those of all clients that we know. RFC 8915 §5.3.
const UNIQUE_IDENTIFIER: u16 = 0x0104;
/// The longest packet that is looked at, octets from the IP header on: one of Ethernet.
const PACKET_OCTETS_MAX: i32 = 1500;

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
pub(super) fn ethernet(code: &mut Assembler, place: &Place, ipv6: Label, pass: Label) {
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
pub(super) fn parse_ipv4(code: &mut Assembler, pass: Label) {
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
pub(super) fn parse_ipv6(code: &mut Assembler, pass: Label) {
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
pub(super) fn check_port(code: &mut Assembler, place: &Place, pass: Label) {
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
pub(super) fn check_plain(code: &mut Assembler, pass: Label) {
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
pub(super) fn check_nts(code: &mut Assembler, pass: Label) {
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
pub(super) fn check_basic(code: &mut Assembler, pass: Label) {
    let basic = code.label();
    code.load(Width::Double, R4, UDP, ntp::ORIGIN);
    code.jump_if(R4, Condition::Equal, 0, basic);
    code.load(Width::Double, R4, UDP, ntp::RECEIVE);
    code.jump_if(R4, Condition::Equal, 0, basic);
    code.load(Width::Double, R3, UDP, ntp::TRANSMIT);
    code.jump_if(R4, Condition::Unequal, R3, pass);
    code.place(basic);
}
