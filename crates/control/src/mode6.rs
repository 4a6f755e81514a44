//! NTP mode 6 with NTPsec's variables and rules: an unmodified `ntpq` shows this daemon. RFC 9327.
//!
//! [`respond`] is a pure function from a request, what its sender may do, and the state to the datagrams of the answer.
//! An answer is longer than its question, so the protocol is only for those whom [`Rights`] name: whoever hosts it gives
//! them to this machine, and to others only where the operator said so and within a budget of octets. The list of clients
//! goes to nobody who has not just shown, with a nonce, that packets to its address arrive.

mod clock;
mod lists;
mod mru;
mod peer;
mod reply;
mod system;

use chime_engine::SourceReport;
use chime_server::KeyTable;
use chime_time::NtpTimestamp;
use chime_wire::Mode;
use chime_wire::mac::SymmetricKey;
use chime_wire::{CONTROL_HEADER_OCTETS, ControlMessage};
use std::net::{IpAddr, SocketAddr};

use crate::{Handling, Snapshot};
pub(crate) use peer::clock_name;
pub(crate) use peer::{resolved_id as association_number, status as source_status};
use reply::Items;
pub use reply::Reply;
pub(crate) use system::{count, finite, session_micros, status_at as clock_status};

/// Octets of the longest request that is looked at: what one fragment and a MAC may have, and some more.
pub const REQUEST_OCTETS_MAX: usize = 1024;
/// Octets of the longest answer: one of its fragments could not say where it belongs beyond that.
pub const ANSWER_OCTETS_MAX: usize = 65_535;

/// What the sender of a request may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    /// Ask at all; not with `restrict … noquery`.
    pub query: bool,
    /// Change the configuration, with the control key; not with `nomodify`.
    pub modify: bool,
    /// See the clients; not with `nomrulist`.
    pub clients: bool,
}

impl Rights {
    /// Everything.
    pub const ALL: Self = Self { query: true, modify: true, clients: true };
    /// Nothing.
    pub const NONE: Self = Self { query: false, modify: false, clients: false };
}

/// An address that is listened on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listening {
    /// Address and port.
    pub address: SocketAddr,
    /// Name of the interface, where it is known.
    pub name: String,
}

/// One entry of the access list, in NTPsec's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restriction {
    /// First address of the network.
    pub address: IpAddr,
    /// Its mask.
    pub mask: IpAddr,
    /// The flags, with a blank between; empty: everything is allowed.
    pub flags: String,
}

/// A variable of the operator's own; a later one of the same name counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether it is shown to those who name no variable.
    pub is_default: bool,
}

/// What is known beside the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The state, with the server's clients when [`asks_for_clients`] said so.
    pub snapshot: &'a Snapshot,
    /// Our clock now.
    pub now: NtpTimestamp,
    /// Processor, as `uname -m` has it.
    pub processor: &'a str,
    /// Name and release of the system, as in `Linux/6.1.0`.
    pub system: &'a str,
    /// Symmetric keys.
    pub keys: &'a KeyTable,
    /// The key that permits what needs one; `None`: nobody may.
    pub control_key: Option<u32>,
    /// Secret and random: nonces are made from it.
    pub secret: &'a [u8; 16],
    /// Where we listen.
    pub listening: &'a [Listening],
    /// The access list.
    pub restrictions: &'a [Restriction],
    /// Variables beside ours.
    pub variables: &'a [Variable],
    /// The kernel's clock.
    pub kernel: Kernel,
    /// Requests of this protocol that were answered.
    pub requests: u64,
    /// Clients that the server can remember.
    pub clients_max: u64,
}

/// What the kernel says of its clock.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Kernel {
    /// Frequency correction; ppm.
    pub frequency_ppm: f64,
    /// The largest possible error; seconds.
    pub max_error_seconds: f64,
    /// The expected error; seconds.
    pub estimated_error_seconds: f64,
    /// Whether the kernel takes its clock for synchronised.
    pub synchronized: bool,
    /// TAI minus UTC; seconds, 0 = not known.
    pub tai_offset_seconds: i32,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Silence {
    /// Too short for a header, an answer instead of a question, a fragment, or of a version that does not exist.
    Malformed,
    /// The sender may not ask.
    Restricted,
    /// A question for the clients without a nonce that is fresh and the sender's.
    Nonce,
}

/// What to do about a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// No answer.
    Silence(Silence),
    /// These datagrams.
    Reply(Vec<Vec<u8>>),
    /// Carry out this text of an ntp.conf, and answer with what became of it.
    Configure {
        /// The text, one line or several.
        text: String,
        /// Where to put the answer.
        reply: Box<Reply>,
    },
}

impl Verdict {
    /// What becomes of the request with it.
    #[must_use]
    pub fn handling(&self) -> Handling {
        match self {
            Self::Silence(Silence::Malformed) => Handling::Malformed,
            Self::Silence(Silence::Restricted | Silence::Nonce) => Handling::Restricted,
            Self::Reply(datagrams) if datagrams.iter().any(|datagram| reply::is_error(datagram)) => {
                Handling::Refused
            }
            Self::Reply(_) | Self::Configure { .. } => Handling::Answered,
        }
    }
}

/// Error codes of answers. RFC 9327 §3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum ErrorCode {
    Permission = 1,
    Format = 2,
    Opcode = 3,
    Association = 4,
    Variable = 5,
    Value = 6,
}

mod opcode {
    pub(super) const UNSPECIFIED: u8 = 0;
    pub(super) const READ_STATUS: u8 = 1;
    pub(super) const READ_VARIABLES: u8 = 2;
    pub(super) const READ_CLOCK: u8 = 4;
    pub(super) const CONFIGURE: u8 = 8;
    pub(super) const READ_MRU: u8 = 10;
    pub(super) const READ_ORDERED_LIST: u8 = 11;
    pub(super) const REQUEST_NONCE: u8 = 12;
}

/// The answer to a datagram of mode 6 from `from`.
#[must_use]
pub fn respond(request: &[u8], from: SocketAddr, rights: Rights, facts: &Facts<'_>) -> Verdict {
    if !is_question(request) {
        return Verdict::Silence(Silence::Malformed);
    }
    if !rights.query {
        return Verdict::Silence(Silence::Restricted);
    }
    let leap = system::leap(&facts.snapshot.engine.tracking);
    // RFC 9327 asks for padding to a multiple of four.
    let message = ControlMessage::decode(request).ok().filter(|_| request.len().is_multiple_of(4));
    let Some(message) = message else {
        return Verdict::Reply(Reply::to(request, leap, None).error(ErrorCode::Format));
    };
    let key = authentic_key(&message, facts.keys);
    let reply = Reply::to(request, leap, key);
    let question = Question { message, key_id: key.map(SymmetricKey::id), from, rights, facts };
    match question.answer() {
        Ok(Answer::Text { status, items }) => Verdict::Reply(reply.text(status, items)),
        Ok(Answer::Octets { status, octets }) => Verdict::Reply(reply.octets(status, &octets)),
        Ok(Answer::Configure(text)) => Verdict::Configure { text, reply: Box::new(reply) },
        Err(Refusal::Error(code)) => Verdict::Reply(reply.error(code)),
        Err(Refusal::Silence(why)) => Verdict::Silence(why),
    }
}

/// Whether an answer to this needs the clients of the server in the snapshot, which are dear to collect.
#[must_use]
pub fn asks_for_clients(request: &[u8]) -> bool {
    ControlMessage::decode(request).is_ok_and(|message| match message.opcode {
        opcode::READ_MRU => true,
        opcode::READ_VARIABLES => message.data.windows(4).any(|word| word == b"mru_"),
        _ => false,
    })
}

/// The source with this association number.
#[must_use]
pub fn find(snapshot: &Snapshot, association_id: u16) -> Option<&SourceReport> {
    peer::find(snapshot, association_id)
}

/// Whether a datagram is of mode 6.
#[must_use]
pub fn is_control(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| Mode::from_bits(*first) == Mode::Control)
}

/// What NTPsec looks into, and all others gets no word: a question, whole, of a version that exists.
fn is_question(request: &[u8]) -> bool {
    request.len() >= CONTROL_HEADER_OCTETS
        && request.len() <= REQUEST_OCTETS_MAX
        && is_control(request)
        && (1..=4).contains(&(request[0] >> 3 & 7))
        && request[1] & 0xe0 == 0
        && request[8..10] == [0, 0]
}

/// The key whose MAC the request has.
fn authentic_key<'a>(message: &ControlMessage<'_>, keys: &'a KeyTable) -> Option<&'a SymmetricKey> {
    /// Digests are cut to 20 octets, as in packets of this version.
    const VERSION_OF_DIGESTS: u8 = 4;
    let mac = message.mac()?;
    keys.get(mac.key_id)
        .filter(|key| key.verify(message.authenticated_octets(), mac.digest, VERSION_OF_DIGESTS))
}

/// A request that may be looked into.
pub(crate) struct Question<'a> {
    message: ControlMessage<'a>,
    /// The key that it is authenticated with.
    key_id: Option<u32>,
    from: SocketAddr,
    rights: Rights,
    facts: &'a Facts<'a>,
}

pub(crate) enum Answer {
    Text { status: u16, items: Items },
    Octets { status: u16, octets: Vec<u8> },
    Configure(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    Error(ErrorCode),
    Silence(Silence),
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Error(code)
    }
}

impl Question<'_> {
    fn answer(&self) -> Result<Answer, Refusal> {
        let id = self.message.association_id;
        match self.message.opcode {
            opcode::UNSPECIFIED => Ok(Answer::Octets { status: self.status(id)?, octets: Vec::new() }),
            opcode::READ_STATUS if id == 0 => Ok(Answer::Octets {
                status: system::status(self.facts.snapshot),
                octets: peer::list(self.facts.snapshot),
            }),
            opcode::READ_STATUS => self.variables(""),
            opcode::READ_VARIABLES => self.variables(self.text()?),
            opcode::READ_CLOCK => {
                let clock = clock::find(self.facts.snapshot, id).ok_or(ErrorCode::Association)?;
                let items = clock::variables(clock, self.text()?)?;
                Ok(Answer::Text { status: clock::status(clock), items })
            }
            opcode::CONFIGURE => self.configure(),
            opcode::READ_MRU => self.clients(),
            opcode::READ_ORDERED_LIST => self.list(),
            opcode::REQUEST_NONCE => {
                let mut items = Items::default();
                items.add("nonce", mru::nonce(self.facts, self.from));
                Ok(Answer::Text { status: 0, items })
            }
            _ => Err(ErrorCode::Opcode.into()),
        }
    }

    fn status(&self, id: u16) -> Result<u16, Refusal> {
        if id == 0 {
            return Ok(system::status(self.facts.snapshot));
        }
        peer::find(self.facts.snapshot, id).map(peer::status).ok_or(ErrorCode::Association.into())
    }

    fn text(&self) -> Result<&str, Refusal> {
        std::str::from_utf8(self.message.data).map_err(|_| ErrorCode::Format.into())
    }

    /// Variables of the system, in the order asked, or of an association, in theirs.
    fn variables(&self, names: &str) -> Result<Answer, Refusal> {
        let (id, snapshot) = (self.message.association_id, self.facts.snapshot);
        let items = if id == 0 {
            system::variables(self.facts, names)?
        } else {
            let peer = peer::find(snapshot, id).ok_or(ErrorCode::Association)?;
            peer::variables(self.facts, peer, names)?
        };
        Ok(Answer::Text { status: self.status(id)?, items })
    }

    /// The sender knows the control key.
    fn check_control_key(&self) -> Result<(), Refusal> {
        match (self.key_id, self.facts.control_key) {
            (Some(used), Some(wanted)) if used == wanted => Ok(()),
            _ => Err(ErrorCode::Permission.into()),
        }
    }

    fn configure(&self) -> Result<Answer, Refusal> {
        self.check_control_key()?;
        if !self.rights.modify {
            return Err(ErrorCode::Permission.into());
        }
        if self.message.association_id != 0 {
            return Err(ErrorCode::Value.into());
        }
        Ok(Answer::Configure(self.text()?.trim_end_matches('\0').to_owned()))
    }

    fn clients(&self) -> Result<Answer, Refusal> {
        if !self.rights.clients {
            return Err(ErrorCode::Permission.into());
        }
        let request = mru::Request::read(self.text()?)?;
        if !mru::is_fresh(self.facts, self.from, request.nonce) {
            return Err(Refusal::Silence(Silence::Nonce));
        }
        Ok(Answer::Text { status: 0, items: mru::list(self.facts, self.from, &request)? })
    }

    fn list(&self) -> Result<Answer, Refusal> {
        self.check_control_key()?;
        let items = match self.text()? {
            "" | "ifstats" => lists::interfaces(self.facts),
            "addr_restrictions" => lists::restrictions(self.facts),
            _ => return Err(ErrorCode::Variable.into()),
        };
        Ok(Answer::Text { status: 0, items })
    }
}

/// The names in a list, and whether `=value` follows does not matter. Blanks around names are taken, too, though NTPsec
/// does not in every place: other tools send them.
pub(crate) fn names(list: &str) -> impl Iterator<Item = &str> {
    let names = list.split(',').map(|name| name.split('=').next().unwrap_or(name));
    names.map(|name| name.trim_matches([' ', '\r', '\n', '\t', '\0'])).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
