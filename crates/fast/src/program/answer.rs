//! The answer, from the inside out, and what is counted.

use super::{
    FRAME, MapDescriptors, NOW, PROTOCOL_UDP, STATE, UDP, frame, helper, increment, look_up, network, ntp,
    stack,
};
use crate::assembler::{Assembler, Condition, Operation, R0, R1, R2, R3, R4, STACK, Width};
use crate::checksum::{add_words, finish_udp, fold};
use crate::layout::{counter, time_slot};
use crate::time_slot::{DISPERSION_SHIFT, RATE_SHIFT};

const HOPS: u8 = 64;

/// The answer's header, but for its transmit timestamp, from the request's and the state of the clock. RFC 5905 §9.2.
pub(super) fn answer_ntp(code: &mut Assembler) {
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
pub(super) fn kiss(code: &mut Assembler) {
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
pub(super) fn answer_udp(code: &mut Assembler) {
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

pub(super) fn swap_hardware_addresses(code: &mut Assembler) {
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
pub(super) fn answer_ipv4(code: &mut Assembler) {
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
pub(super) fn answer_ipv6_header(code: &mut Assembler) {
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

pub(super) fn count_answer(code: &mut Assembler, maps: &MapDescriptors) {
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
pub(super) fn count(code: &mut Assembler, maps: &MapDescriptors, at: i16) {
    let end = code.label();
    code.store(Width::Word, STACK, stack::INDEX, 0);
    look_up(code, maps.counters, stack::INDEX, end);
    increment(code, at);
    code.load(Width::Double, R1, STACK, stack::VERSION);
    code.jump_if(R1, Condition::AtLeast, 4, end);
    increment(code, counter::OLD_VERSIONS);
    code.place(end);
}
