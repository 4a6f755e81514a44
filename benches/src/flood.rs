//! Load for programs: frames that the kernel makes itself, as fast as one core can.
//!
//! Against a program that answers before sockets exist, a load that goes through a socket of its own measures that. Here a
//! small program writes each frame and sends it out of our end of the cable, as a network card would bring it; nothing
//! leaves the cable. It is sent in bursts of less than a
//! second, so that it can be bounded.

use crate::frames::{ADDRESS_AT, CHECKSUM_AT, PORT_AT};
use crate::sandbox::LOAD_INTERFACE;
use anyhow::{Context, Result};
use chime_fast::assembler::{Assembler, Condition, Operation, R0, R1, R2, R3, R6, Width};
use chime_fast::{VERDICT_ANSWER, VERDICT_DROP, VERDICT_PASS};
use chime_sys::bpf::{XdpLink, XdpMode, XdpProgram};

/// Frames that are sent in one go: less than a second. Beginning and ending one takes the kernel some 25 ms, in which nothing
/// is sent.
pub(crate) const FRAMES_AT_ONCE: u32 = 1 << 19;
/// Of the answers one in so many is passed on to those who look at them; the others are counted only.
const ONE_IN: i32 = 256;
/// Clients that the load comes from; a power of two.
const CLIENTS: i32 = 2048;
/// The helper for random numbers in linux/bpf.h.
const RANDOM: i32 = 7;

/// What sends.
pub(crate) struct Flood {
    program: XdpProgram,
    interface: u32,
    octets: usize,
}

impl Flood {
    /// A load of this frame, which comes from client 0, from many others.
    pub(crate) fn new(frame: &[u8]) -> Result<Self> {
        let program = XdpProgram::load("bench_flood", &sender(frame)?)?;
        Ok(Self { program, interface: interface()?, octets: frame.len() })
    }

    /// Sends [`FRAMES_AT_ONCE`] frames.
    pub(crate) fn send(&self) -> Result<()> {
        let sent = self.program.send(self.octets, FRAMES_AT_ONCE, self.interface);
        sent.context("the kernel sends no frames of programs (Linux 5.18 or newer is needed)")
    }
}

fn interface() -> Result<u32> {
    Ok(nix::net::if_::if_nametoindex(LOAD_INTERFACE)?)
}

/// Makes our end of the cable take frames that a program at the other end answers with: veth drops them where there
/// is no program on this side, too. All of them are passed on, or a few. It ends with the value.
pub(crate) fn take_answers(all: bool) -> Result<XdpLink> {
    let mut code = Assembler::default();
    let pass = code.label();
    if !all {
        code.call(RANDOM);
        code.compute(Operation::And, R0, ONE_IN - 1);
        code.jump_if(R0, Condition::Equal, 0, pass);
        code.set(R0, VERDICT_DROP);
        code.exit();
    }
    code.place(pass);
    code.set(R0, VERDICT_PASS);
    code.exit();
    let program = XdpProgram::load("bench_take", &code.finish()?)?;
    XdpLink::attach(&program, interface()?, XdpMode::Driver).context("no XDP program can be attached here")
}

/// Writes the whole frame, since its memory was that of an answer before, from a client at random.
fn sender(frame: &[u8]) -> Result<Vec<[u8; 8]>> {
    let mut code = Assembler::default();
    let pass = code.label();
    code.load(Width::Word, R6, R1, 0);
    code.load(Width::Word, R2, R1, 4);
    code.set(R3, R6);
    code.add(R3, i32::try_from(frame.len())?);
    code.jump_if(R3, Condition::More, R2, pass);
    for (at, chunk) in (0i16..).step_by(8).zip(frame.chunks(8)) {
        match chunk.try_into().map(u64::from_ne_bytes) {
            Ok(eight) => {
                code.load_number(R2, eight);
                code.store(Width::Double, R6, at, R2);
            }
            Err(_) => {
                for (at, octet) in (at..).zip(chunk) {
                    code.store(Width::Octet, R6, at, i32::from(*octet));
                }
            }
        }
    }
    code.call(RANDOM);
    code.compute(Operation::And, R0, CLIENTS - 1);
    code.set(R2, R0);
    code.add(R2, 1024);
    code.swap_to_network(R0, Width::Half);
    code.swap_to_network(R2, Width::Half);
    code.store(Width::Half, R6, ADDRESS_AT, R0);
    code.store(Width::Half, R6, PORT_AT, R2);
    // RFC 1624: the other octets of the address were 0.
    code.load(Width::Half, R2, R6, CHECKSUM_AT);
    code.compute(Operation::Xor, R2, 0xffff);
    code.add(R2, R0);
    code.set(R0, R2);
    code.compute(Operation::ShiftRight, R0, 16);
    code.compute(Operation::And, R2, 0xffff);
    code.add(R2, R0);
    code.compute(Operation::Xor, R2, 0xffff);
    code.store(Width::Half, R6, CHECKSUM_AT, R2);
    code.set(R0, VERDICT_ANSWER);
    code.exit();
    code.place(pass);
    code.set(R0, VERDICT_DROP);
    code.exit();
    Ok(code.finish()?)
}
