//! The man in the middle: relays NTP between a client and its server, and spoils the answers.
//!
//! It runs as a process of its own in the network of node 3. Clients are led to it by the
//! server's own Server Negotiation record (RFC 8915 §4.1.7), so it holds no keys: it is what any
//! router on the path could be.

use crate::network::Node;
use crate::process::Daemon;
use crate::stage::Stage;
use anyhow::{Context, Result, bail};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// Octets of an NTP header; what follows are fields.
const HEADER_OCTETS: usize = 48;

/// Largest datagram relayed.
const DATAGRAM_OCTETS_MAX: usize = 2048;

/// How long the server may take.
const ANSWER_WAIT: Duration = Duration::from_millis(300);

/// Spoilt copies sent for each answer when bits are flipped one by one.
const FLIPS_PER_ANSWER: usize = 16;

/// What is done to answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mischief {
    /// Nothing.
    Relay,
    /// Cut short at places that move on with each answer.
    Truncate,
    /// One bit flipped, at places that move on with each answer.
    Flip,
    /// The header alone: an answer of plain NTP.
    Strip,
    /// Everything but the authenticator.
    StripAuthenticator,
    /// A plausible answer an hour ahead: right origin, right unique identifier, no authenticator.
    Forge,
    /// The previous answer instead of this one.
    Replay,
    /// Twice.
    Duplicate,
    /// Every other answer comes late, behind the answer to the next request.
    Reorder,
    /// A kiss-o'-death that asks to go away.
    Deny,
    /// An NTS NAK without authenticator, as anybody can make it. RFC 8915 §5.7.
    Nak,
}

const MISCHIEFS: &[(&str, Mischief)] = &[
    ("relay", Mischief::Relay),
    ("truncate", Mischief::Truncate),
    ("flip", Mischief::Flip),
    ("strip", Mischief::Strip),
    ("strip-authenticator", Mischief::StripAuthenticator),
    ("forge", Mischief::Forge),
    ("replay", Mischief::Replay),
    ("duplicate", Mischief::Duplicate),
    ("reorder", Mischief::Reorder),
    ("deny", Mischief::Deny),
    ("nak", Mischief::Nak),
];

/// What the relay remembers.
#[derive(Default)]
struct Memory {
    previous: Vec<u8>,
    place: usize,
    held: Option<(SocketAddr, Vec<u8>)>,
}

/// Starts a relay on a node, in front of the NTP port of `server`.
pub(crate) fn spawn(
    stage: &Stage,
    node: &Node,
    server: Ipv4Addr,
    mischief: &str,
    also: Option<&str>,
) -> Result<Daemon> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["middle", &format!("{server}:123"), mischief]).args(also);
    Daemon::spawn("middle", node.wrap(&command), stage.folder())
}

/// `middle SERVER:PORT MISCHIEF [also-good]`: relays until it is killed. With `also-good` the
/// good answer follows the spoilt ones.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (Some(server), Some(name)) = (arguments.first(), arguments.get(1)) else {
        bail!("middle SERVER:PORT MISCHIEF [also-good]");
    };
    let server: SocketAddr = server.parse()?;
    let mischief = MISCHIEFS.iter().find(|(known, _)| known == name).context("no such mischief")?.1;
    let sends_good = arguments.iter().any(|argument| argument == "also-good");
    let listener = UdpSocket::bind("[::]:123")?;
    let mut memory = Memory::default();
    let mut buffer = [0; DATAGRAM_OCTETS_MAX];
    loop {
        let (octets, client) = listener.recv_from(&mut buffer)?;
        let Some(answer) = ask(server, &buffer[..octets])? else { continue };
        if mischief == Mischief::Reorder {
            match memory.held.take() {
                None => memory.held = Some((client, answer)),
                Some((earlier, held)) => {
                    let _ = listener.send_to(&answer, client);
                    let _ = listener.send_to(&held, earlier);
                }
            }
            continue;
        }
        let mut answers = spoil(mischief, &buffer[..octets], &answer, &mut memory);
        if sends_good {
            answers.push(answer);
        }
        for answer in &answers {
            // A client that has gone is no reason to stop.
            let _ = listener.send_to(answer, client);
        }
        println!("{mischief:?}: {} answers to {client}", answers.len());
    }
}

fn ask(server: SocketAddr, request: &[u8]) -> Result<Option<Vec<u8>>> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(ANSWER_WAIT))?;
    let mut answer = vec![0; DATAGRAM_OCTETS_MAX];
    if socket.send(request).is_err() {
        return Ok(None);
    }
    Ok(socket.recv(&mut answer).ok().map(|octets| {
        answer.truncate(octets);
        answer
    }))
}

fn spoil(mischief: Mischief, request: &[u8], answer: &[u8], memory: &mut Memory) -> Vec<Vec<u8>> {
    let previous = std::mem::replace(&mut memory.previous, answer.to_vec());
    match mischief {
        Mischief::Relay | Mischief::Reorder => vec![answer.to_vec()],
        Mischief::Truncate => {
            // Steps of 4 keep field boundaries; odd lengths are garbage, tried elsewhere.
            memory.place = (memory.place + 20) % answer.len().max(1);
            vec![answer[..memory.place].to_vec(), answer[..answer.len().saturating_sub(4)].to_vec()]
        }
        Mischief::Flip => (0..FLIPS_PER_ANSWER).map(|_| flipped(answer, memory)).collect(),
        Mischief::Strip => vec![answer[..HEADER_OCTETS.min(answer.len())].to_vec()],
        Mischief::StripAuthenticator => vec![without_last_field(answer)],
        Mischief::Forge => vec![forged(request, answer)],
        Mischief::Replay => vec![previous],
        Mischief::Duplicate => vec![answer.to_vec(), answer.to_vec()],
        Mischief::Deny => vec![kiss(request, answer, *b"DENY")],
        Mischief::Nak => vec![kiss(request, answer, *b"NTSN")],
    }
}

/// Walks through all bits of the answer; the step is a prime, so that neighbours differ in kind.
fn flipped(answer: &[u8], memory: &mut Memory) -> Vec<u8> {
    const STEP: usize = 61;
    memory.place = (memory.place + STEP) % (answer.len() * 8).max(1);
    let mut copy = answer.to_vec();
    if let Some(octet) = copy.get_mut(memory.place / 8) {
        *octet ^= 1 << (memory.place % 8);
    }
    copy
}

/// Cuts off the last extension field, which in an NTS answer is the authenticator.
fn without_last_field(packet: &[u8]) -> Vec<u8> {
    let mut last = HEADER_OCTETS;
    let mut next = HEADER_OCTETS;
    while let Some(length) = packet.get(next + 2..next + 4) {
        last = next;
        next += usize::from(u16::from_be_bytes([length[0], length[1]])).max(4);
    }
    packet[..last.min(packet.len())].to_vec()
}

/// The answer without authenticator, an hour ahead.
fn forged(request: &[u8], answer: &[u8]) -> Vec<u8> {
    const HOUR: u32 = 3600;
    let mut packet = without_last_field(answer);
    // Receive and transmit timestamps: seconds at octets 32 and 40 of the header. RFC 5905 §7.3.
    for place in [32, 40] {
        if let Some(seconds) = packet.get_mut(place..place + 4) {
            let value = u32::from_be_bytes([seconds[0], seconds[1], seconds[2], seconds[3]]);
            seconds.copy_from_slice(&value.wrapping_add(HOUR).to_be_bytes());
        }
    }
    if let (Some(origin), Some(transmit)) = (packet.get_mut(24..32), request.get(40..48)) {
        origin.copy_from_slice(transmit);
    }
    packet
}

/// The answer without authenticator, as a kiss. RFC 5905 §7.4.
fn kiss(request: &[u8], answer: &[u8], code: [u8; 4]) -> Vec<u8> {
    let mut packet = forged(request, answer);
    if packet.len() >= HEADER_OCTETS {
        packet[0] |= 0xc0;
        packet[1] = 0;
        packet[12..16].copy_from_slice(&code);
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(fields: &[usize]) -> Vec<u8> {
        let mut packet = vec![0x24; HEADER_OCTETS];
        for length in fields {
            packet.extend([1, 4]);
            packet.extend(u16::try_from(*length).unwrap().to_be_bytes());
            packet.resize(packet.len() + length - 4, 0);
        }
        packet
    }

    #[test]
    fn the_last_field_is_cut_off() {
        assert_eq!(without_last_field(&packet(&[36, 40])), packet(&[36]));
        assert_eq!(without_last_field(&packet(&[])), packet(&[]));
    }

    #[test]
    fn a_flip_changes_one_bit_and_the_place_moves() {
        let mut memory = Memory::default();
        let answer = packet(&[36]);
        let (one, two) = (flipped(&answer, &mut memory), flipped(&answer, &mut memory));
        let difference =
            |copy: &[u8]| -> u32 { copy.iter().zip(&answer).map(|(a, b)| (a ^ b).count_ones()).sum() };
        assert_eq!((difference(&one), difference(&two)), (1, 1));
        assert_ne!(one, two);
    }

    #[test]
    fn a_forged_answer_echoes_the_request_and_is_an_hour_ahead() {
        let mut request = packet(&[]);
        request[40..48].copy_from_slice(b"transmit");
        let forged = forged(&request, &packet(&[36, 40]));
        assert_eq!(&forged[24..32], b"transmit");
        assert_eq!(forged[40..44], (0x2424_2424_u32 + 3600).to_be_bytes());
        assert_eq!(kiss(&request, &packet(&[36]), *b"DENY")[12..16], *b"DENY");
    }
}
