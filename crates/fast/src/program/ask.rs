//! What the maps say: whether the request is served, how often its sender is, and what the time is.

use super::{
    FRAME, MapDescriptors, NOW, STATE, UDP, frame, helper, increment, look_up, network, number, stack,
};
use crate::assembler::{Assembler, Condition, Label, Operation, R0, R1, R2, R3, R4, R5, STACK, Width};
use crate::layout::{TIME_SLOTS, client, counter, service, service_key, time_slot};

/// What the clocks may have gone apart by, nanoseconds, before a state of them is stale: far more than lies between their
/// readings.
const STEP_NANOS: i32 = 100_000;

pub(super) fn ask_clocks(code: &mut Assembler) {
    code.call(helper::MONO_NANOS);
    code.store(Width::Double, STACK, stack::MONO, R0);
    code.call(helper::TAI_NANOS);
    code.set(NOW, R0);
}

/// Whether this address and port are served for this version, and whether the sender is one that is answered.
pub(super) fn ask_services(code: &mut Assembler, maps: &MapDescriptors, pass: Label) {
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

/// How often a client is answered: the decisions of [`chime_server::ClientTable`], but for clients that ask even more often
/// when they get no answer. Two requests of one client at a time, on two processors, may cost it no more than one.
pub(super) fn check_limit(code: &mut Assembler, maps: &MapDescriptors, limited: Label) {
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
pub(super) fn ask_time(code: &mut Assembler, maps: &MapDescriptors, pass: Label) {
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
