//! The Internet checksum (RFC 1071) in instructions.

use crate::assembler::{Assembler, Condition, Operation, R0, R1, Register, Width};

/// Adds so many words at `from + offset` to register 0, which never holds more than 2⁴⁰ this way. Uses register 1.
pub(crate) fn add_words(code: &mut Assembler, from: Register, offset: i16, words: i16) {
    for word in 0..words {
        code.load(Width::Word, R1, from, offset + 4 * word);
        code.add(R0, R1);
    }
}

/// Folds the sum in register 0 to 16 bits. Uses register 1.
pub(crate) fn fold(code: &mut Assembler) {
    for shift in [32, 16, 16, 16] {
        code.set(R1, R0);
        code.compute(Operation::ShiftRight, R1, shift);
        match shift {
            // As a number, 32 ones would be -1, and stand for 64.
            32 => {
                code.compute(Operation::ShiftLeft, R0, 32);
                code.compute(Operation::ShiftRight, R0, 32);
            }
            _ => code.compute(Operation::And, R0, 0xffff),
        }
        code.add(R0, R1);
    }
}

/// Turns the folded sum in register 0 into the checksum of UDP, where 0 is written as the other zero. RFC 768.
pub(crate) fn finish_udp(code: &mut Assembler) {
    let done = code.label();
    code.compute(Operation::Xor, R0, 0xffff);
    code.jump_if(R0, Condition::Unequal, 0, done);
    code.set(R0, 0xffff);
    code.place(done);
}
