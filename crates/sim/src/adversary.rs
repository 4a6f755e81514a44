//! Somebody on the way between client and servers who reads everything and does harm.

use crate::Chance;
use chime_time::{NtpDate, NtpDuration};
use chime_wire::{FieldWriter, Header, KissCode, LeapIndicator, Mode, Packet, ReferenceId, field_type};

/// What the adversary does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Attack {
    /// Answers each request first, with a time that is wrong by so many seconds and without authenticator.
    Forge {
        /// Seconds.
        offset: f64,
    },
    /// The same with the request's unique identifier and an authenticator of random octets.
    ForgeAuthenticator {
        /// Seconds.
        offset: f64,
    },
    /// Lets genuine answers through with their time shifted and what authenticates them removed.
    Strip {
        /// Seconds.
        offset: f64,
    },
    /// Shifts the timestamps of genuine answers and leaves everything else as it is.
    Alter {
        /// Seconds.
        offset: f64,
    },
    /// Sends older genuine answers again, before the genuine one.
    Replay,
    /// Cuts genuine answers off somewhere.
    Truncate,
    /// Answers each request first with a kiss code.
    Kiss(KissCode),
    /// Answers each request first with octets of any length and content.
    Garbage,
}

/// The adversary and what it remembers.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Adversary {
    attacks: Vec<Attack>,
    recorded: Vec<Vec<u8>>,
}

/// Answers that are remembered for replays.
const RECORDED_MAX: usize = 16;

impl Adversary {
    /// Somebody who does all of these at once.
    #[must_use]
    pub const fn new(attacks: Vec<Attack>) -> Self {
        Self { attacks, recorded: Vec::new() }
    }

    /// The adversary sees a request at true time `now`: what it answers at once, before the server can.
    pub(crate) fn on_request(&mut self, request: &[u8], now: NtpDate, chance: &mut Chance) -> Vec<Vec<u8>> {
        let Ok(header) = Header::decode(request) else { return Vec::new() };
        let mut injections = Vec::new();
        for attack in &self.attacks {
            match *attack {
                Attack::Forge { offset } => injections.push(forged(&header, now, offset).encode().to_vec()),
                Attack::ForgeAuthenticator { offset } => {
                    injections.push(with_false_authenticator(request, &forged(&header, now, offset), chance));
                }
                Attack::Kiss(code) => {
                    let kiss = Header {
                        stratum: 0,
                        leap: LeapIndicator::Unsynchronized,
                        reference_id: ReferenceId(code.0),
                        ..forged(&header, now, 0.0)
                    };
                    injections.push(kiss.encode().to_vec());
                    injections.push(with_unique_identifier(request, &kiss));
                }
                Attack::Garbage => {
                    let mut garbage = vec![0; chance.below(1500)];
                    chance.fill(&mut garbage);
                    injections.push(garbage);
                }
                Attack::Replay => {
                    let recorded = chance.below(self.recorded.len());
                    injections.extend(self.recorded.get(recorded).cloned());
                }
                Attack::Strip { .. } | Attack::Alter { .. } | Attack::Truncate => {}
            }
        }
        injections
    }

    /// The adversary sees a genuine answer: what it lets through instead.
    pub(crate) fn on_response(&mut self, response: &[u8], chance: &mut Chance) -> Vec<u8> {
        if self.recorded.len() == RECORDED_MAX {
            self.recorded.remove(0);
        }
        self.recorded.push(response.to_vec());
        let mut octets = response.to_vec();
        for attack in &self.attacks {
            match *attack {
                Attack::Strip { offset } => {
                    shift(&mut octets, offset);
                    octets.truncate(chime_wire::HEADER_OCTETS);
                }
                Attack::Alter { offset } => shift(&mut octets, offset),
                Attack::Truncate => octets.truncate(chance.below(octets.len())),
                _ => {}
            }
        }
        octets
    }
}

/// An answer with everything right but the time.
fn forged(request: &Header, now: NtpDate, offset: f64) -> Header {
    let time = (now + NtpDuration::from_secs_f64(offset)).timestamp();
    Header {
        leap: LeapIndicator::NoWarning,
        version: request.version,
        mode: Mode::Server,
        stratum: 1,
        poll: request.poll,
        precision: -24,
        root_delay: chime_time::NtpShort::ZERO,
        root_dispersion: chime_time::NtpShort::ZERO,
        reference_id: ReferenceId(*b"GPS\0"),
        reference: time,
        origin: request.transmit,
        receive: time,
        transmit: time,
    }
}

fn unique_identifier(request: &[u8]) -> Option<Vec<u8>> {
    let packet = Packet::parse(request).ok()?;
    let field = packet.fields().flatten().find(|field| field.field_type == field_type::UNIQUE_IDENTIFIER)?;
    Some(field.body.to_vec())
}

fn with_unique_identifier(request: &[u8], header: &Header) -> Vec<u8> {
    let mut buffer = [0; 512];
    buffer[..chime_wire::HEADER_OCTETS].copy_from_slice(&header.encode());
    let mut writer = FieldWriter::new(&mut buffer, chime_wire::HEADER_OCTETS);
    if let Some(identifier) = unique_identifier(request) {
        // A request's own identifier fits; were it not to, the forgery would lack it.
        let _ = writer.put_field(field_type::UNIQUE_IDENTIFIER, &identifier, 0);
    }
    writer.written().to_vec()
}

fn with_false_authenticator(request: &[u8], header: &Header, chance: &mut Chance) -> Vec<u8> {
    let mut octets = with_unique_identifier(request, header);
    // Nonce of 16 octets and a ciphertext of 16: an authenticator without encrypted fields.
    let mut body = [0u8; 36];
    chance.fill(&mut body);
    body[..4].copy_from_slice(&[0, 16, 0, 16]);
    octets.extend_from_slice(&field_type::NTS_AUTHENTICATOR.to_be_bytes());
    octets.extend_from_slice(&40u16.to_be_bytes());
    octets.extend_from_slice(&body);
    octets
}

/// Shifts the server's timestamps.
fn shift(octets: &mut [u8], offset: f64) {
    let Ok(mut header) = Header::decode(octets) else { return };
    let offset = NtpDuration::from_secs_f64(offset);
    header.receive = header.receive + offset;
    header.transmit = header.transmit + offset;
    octets[..chime_wire::HEADER_OCTETS].copy_from_slice(&header.encode());
}
