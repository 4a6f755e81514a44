//! Instructions of the kernel's virtual machine (BPF), put together by name, with labels.
//!
//! Only what our programs need: 64-bit arithmetic, loads and stores, forward jumps, calls of helpers. The encoding is that
//! of RFC 9669. A mistake in here makes the kernel refuse a program or shows in the tests; it cannot do harm.

/// One of the eleven registers. After a call of a helper, 1 to 5 hold nothing, 0 what it gave. 10 is the end of the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register(u8);

/// What helpers give, and the program itself.
pub const R0: Register = Register(0);
/// The first argument; at the start, the context.
pub const R1: Register = Register(1);
/// The second argument.
pub const R2: Register = Register(2);
/// The third argument.
pub const R3: Register = Register(3);
/// The fourth argument.
pub const R4: Register = Register(4);
/// The fifth argument.
pub const R5: Register = Register(5);
/// Kept over calls.
pub const R6: Register = Register(6);
/// Kept over calls.
pub const R7: Register = Register(7);
/// Kept over calls.
pub const R8: Register = Register(8);
/// Kept over calls.
pub const R9: Register = Register(9);
/// The end of the stack, which is 512 octets long and lies below it.
pub const STACK: Register = Register(10);

/// How much a load or a store moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 1 octet.
    Octet,
    /// 2 octets.
    Half,
    /// 4 octets.
    Word,
    /// 8 octets.
    Double,
}

impl Width {
    const fn bits(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Octet => 0x10,
            Self::Double => 0x18,
        }
    }
}

/// The second operand of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// A register.
    Register(Register),
    /// A number, extended with its sign.
    Number(i32),
}

impl From<Register> for Operand {
    fn from(register: Register) -> Self {
        Self::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(number: i32) -> Self {
        Self::Number(number)
    }
}

/// Arithmetic on all 64 bits, wrapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Operation {
    /// Addition.
    Add = 0x00,
    /// Subtraction.
    Subtract = 0x10,
    /// Multiplication.
    Multiply = 0x20,
    /// Bitwise or.
    Or = 0x40,
    /// Bitwise and.
    And = 0x50,
    /// Shift to the left.
    ShiftLeft = 0x60,
    /// Shift to the right, filling up with zeroes.
    ShiftRight = 0x70,
    /// Bitwise exclusive or.
    Xor = 0xa0,
    /// Copying.
    Set = 0xb0,
    /// Shift to the right, filling up with the sign.
    ShiftRightSigned = 0xc0,
}

/// When a jump is taken; numbers are without sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Condition {
    /// Both are the same.
    Equal = 0x10,
    /// The first is more.
    More = 0x20,
    /// The first is more, or both are the same.
    AtLeast = 0x30,
    /// They have a bit in common.
    Common = 0x40,
    /// They differ.
    Unequal = 0x50,
    /// The first is less.
    Less = 0xa0,
    /// The first is less, or both are the same.
    AtMost = 0xb0,
}

/// A place in the program to jump to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(usize);

/// One instruction as the kernel reads it (`struct bpf_insn`).
pub type Instruction = [u8; 8];

/// Why a program cannot be put together: a mistake of whoever wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AssembleError {
    /// A jump to a label that was never placed.
    #[error("a jump to label {0}, which has no place")]
    Unplaced(usize),
    /// A jump over more instructions than a jump can tell.
    #[error("a jump of {0} instructions")]
    TooFar(i64),
}

/// Collects instructions.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    instructions: Vec<Instruction>,
    /// Where each label is.
    places: Vec<Option<usize>>,
    /// Which instructions jump to which label.
    jumps: Vec<(usize, Label)>,
}

const CLASS_LOAD: u8 = 0x01;
const CLASS_STORE_NUMBER: u8 = 0x02;
const CLASS_STORE: u8 = 0x03;
const CLASS_ARITHMETIC_32: u8 = 0x04;
const CLASS_JUMP: u8 = 0x05;
const CLASS_JUMP_32: u8 = 0x06;
const CLASS_ARITHMETIC: u8 = 0x07;
const FROM_REGISTER: u8 = 0x08;
const MODE_MEMORY: u8 = 0x60;
const TO_BIG_ENDIAN: u8 = 0xd0 | 0x08;
const LOAD_64: u8 = 0x18;
/// In place of a source register: the number is the descriptor of a map.
const IS_MAP: u8 = 1;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

impl Assembler {
    /// A label that is to be placed later.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Gives a label the place of the next instruction.
    pub fn place(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = Some(self.instructions.len());
        }
    }

    /// `to = to ∘ operand`.
    pub fn compute(&mut self, operation: Operation, to: Register, operand: impl Into<Operand>) {
        self.with_operand(CLASS_ARITHMETIC | operation as u8, to, 0, operand.into());
    }

    /// `to = operand`.
    pub fn set(&mut self, to: Register, operand: impl Into<Operand>) {
        self.compute(Operation::Set, to, operand);
    }

    /// `to = to + operand`.
    pub fn add(&mut self, to: Register, operand: impl Into<Operand>) {
        self.compute(Operation::Add, to, operand);
    }

    /// Turns the low 16, 32 or 64 bits from the machine's order into that of the network or back; the others become zero.
    pub fn swap_to_network(&mut self, to: Register, width: Width) {
        let bits = match width {
            Width::Octet => 8,
            Width::Half => 16,
            Width::Word => 32,
            Width::Double => 64,
        };
        self.push(CLASS_ARITHMETIC_32 | TO_BIG_ENDIAN, to, R0, 0, bits);
    }

    /// `to = *(from + offset)`, without sign.
    pub fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) {
        self.push(CLASS_LOAD | MODE_MEMORY | width.bits(), to, from, offset, 0);
    }

    /// `*(to + offset) = value`.
    pub fn store(&mut self, width: Width, to: Register, offset: i16, value: impl Into<Operand>) {
        match value.into() {
            Operand::Register(from) => {
                self.push(CLASS_STORE | MODE_MEMORY | width.bits(), to, from, offset, 0);
            }
            Operand::Number(number) => {
                self.push(CLASS_STORE_NUMBER | MODE_MEMORY | width.bits(), to, R0, offset, number);
            }
        }
    }

    /// Jumps in any case.
    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(CLASS_JUMP, R0, R0, 0, 0);
    }

    /// Jumps when the condition holds for all 64 bits.
    pub fn jump_if(&mut self, one: Register, is: Condition, other: impl Into<Operand>, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.with_operand(CLASS_JUMP | is as u8, one, 0, other.into());
    }

    /// Jumps when the condition holds for the low 32 bits.
    pub fn jump_if_word(&mut self, one: Register, is: Condition, other: impl Into<Operand>, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.with_operand(CLASS_JUMP_32 | is as u8, one, 0, other.into());
    }

    /// Calls a helper of the kernel, by its number in linux/bpf.h.
    pub fn call(&mut self, helper: i32) {
        self.push(CALL, R0, R0, 0, helper);
    }

    /// `to` becomes a map, as helpers want it.
    pub fn load_map(&mut self, to: Register, descriptor: i32) {
        self.push(LOAD_64, to, Register(IS_MAP), 0, descriptor);
        self.push(0, R0, R0, 0, 0);
    }

    /// `to` becomes a number of 64 bits.
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    pub fn load_number(&mut self, to: Register, number: u64) {
        self.push(LOAD_64, to, R0, 0, (number as u32).cast_signed());
        self.push(0, R0, R0, 0, ((number >> 32) as u32).cast_signed());
    }

    /// Ends the program.
    pub fn exit(&mut self) {
        self.push(EXIT, R0, R0, 0, 0);
    }

    /// The program, with all jumps filled in.
    ///
    /// # Errors
    /// When a label has no place, or is too far from a jump to it.
    pub fn finish(mut self) -> Result<Vec<Instruction>, AssembleError> {
        for (at, label) in self.jumps {
            let place =
                self.places.get(label.0).copied().flatten().ok_or(AssembleError::Unplaced(label.0))?;
            let distance = i64::try_from(place).unwrap_or(i64::MAX) - i64::try_from(at).unwrap_or(0) - 1;
            let offset = i16::try_from(distance).map_err(|_| AssembleError::TooFar(distance))?;
            self.instructions[at][2..4].copy_from_slice(&offset.to_ne_bytes());
        }
        Ok(self.instructions)
    }

    fn with_operand(&mut self, code: u8, to: Register, offset: i16, operand: Operand) {
        match operand {
            Operand::Register(from) => self.push(code | FROM_REGISTER, to, from, offset, 0),
            Operand::Number(number) => self.push(code, to, R0, offset, number),
        }
    }

    fn push(&mut self, code: u8, to: Register, from: Register, offset: i16, number: i32) {
        // Two bit fields share an octet, in the order in which the machine fills octets.
        let registers = if cfg!(target_endian = "little") { from.0 << 4 | to.0 } else { to.0 << 4 | from.0 };
        let [o0, o1] = offset.to_ne_bytes();
        let [n0, n1, n2, n3] = number.to_ne_bytes();
        self.instructions.push([code, registers, o0, o1, n0, n1, n2, n3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(write: impl FnOnce(&mut Assembler)) -> Vec<u64> {
        let mut assembler = Assembler::default();
        write(&mut assembler);
        let instructions = assembler.finish().expect("every label has its place");
        instructions.into_iter().map(u64::from_le_bytes).collect()
    }

    /// The examples are what `llvm-objdump` shows for the same instructions.
    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_encoded_as_in_rfc_9669() {
        assert_eq!(code(|a| a.set(R0, 2)), [0x0000_0002_0000_00b7]);
        assert_eq!(code(|a| a.set(R6, R1)), [0x0000_0000_0000_16bf]);
        assert_eq!(code(|a| a.add(R2, -24)), [0xffff_ffe8_0000_0207]);
        assert_eq!(code(|a| a.load(Width::Word, R6, R1, 4)), [0x0000_0000_0004_1661]);
        assert_eq!(code(|a| a.load(Width::Octet, R4, R6, 14)), [0x0000_0000_000e_6471]);
        assert_eq!(code(|a| a.load(Width::Half, R4, R6, 12)), [0x0000_0000_000c_6469]);
        assert_eq!(code(|a| a.load(Width::Double, R4, R6, 8)), [0x0000_0000_0008_6479]);
        assert_eq!(code(|a| a.store(Width::Double, STACK, -8, R3)), [0x0000_0000_fff8_3a7b]);
        assert_eq!(code(|a| a.store(Width::Word, STACK, -4, 7)), [0x0000_0007_fffc_0a62]);
        assert_eq!(code(|a| a.swap_to_network(R1, Width::Word)), [0x0000_0020_0000_01dc]);
        assert_eq!(code(|a| a.compute(Operation::ShiftRightSigned, R1, 31)), [0x0000_001f_0000_01c7]);
        assert_eq!(code(|a| a.call(208)), [0x0000_00d0_0000_0085]);
        assert_eq!(code(Assembler::exit), [0x0000_0000_0000_0095]);
        assert_eq!(code(|a| a.load_map(R1, 5)), [0x0000_0005_0000_1118, 0]);
        assert_eq!(
            code(|a| a.load_number(R1, 0x1122_3344_5566_7788)),
            [0x5566_7788_0000_0118, 0x1122_3344_0000_0000]
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn jumps_count_from_the_next_instruction() {
        let code = code(|a| {
            let (end, here) = (a.label(), a.label());
            a.jump_if(R3, Condition::More, R2, end);
            a.jump_if_word(R4, Condition::Unequal, 8, here);
            a.place(here);
            a.jump(end);
            a.exit();
            a.place(end);
            a.exit();
        });
        assert_eq!(code[..3], [0x0000_0000_0003_232d, 0x0000_0008_0000_0456, 0x0000_0000_0001_0005]);
    }

    #[test]
    fn labels_without_a_place_and_far_ones_are_refused() {
        let mut assembler = Assembler::default();
        let end = assembler.label();
        assembler.jump(end);
        assert_eq!(assembler.clone().finish(), Err(AssembleError::Unplaced(0)));
        for _ in 0..40_000 {
            assembler.exit();
        }
        assembler.place(end);
        assert_eq!(assembler.finish(), Err(AssembleError::TooFar(40_000)));
    }
}
