//! Answers: items of text in lines, octets in fragments, a MAC behind each.

use super::{ANSWER_OCTETS_MAX, ErrorCode};
use chime_wire::CONTROL_HEADER_OCTETS;
use chime_wire::mac::{DIGEST_OCTETS_MAX, SymmetricKey};

/// The bit of an opcode that says that it was not done. RFC 9327 §2.
const ERROR: u8 = 0x40;
/// Octets of data in one fragment. RFC 9327 §2.
const FRAGMENT_OCTETS_MAX: usize = 468;
/// Characters from which on an item begins a new line.
const LINE_LENGTH: usize = 72;

/// Text of an answer: `name=value` items, a comma between, lines of less than [`LINE_LENGTH`] characters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Items {
    text: String,
    line: usize,
}

impl Items {
    /// Adds an item.
    pub(crate) fn add(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        self.item(&format!("{name}={value}"))
    }

    /// Adds an item whose value may have separators in it.
    pub(crate) fn add_quoted(&mut self, name: &str, value: &str) -> &mut Self {
        // A quote or a line end inside would be read as the end of the value.
        let value: String = value.chars().filter(|letter| *letter != '"' && !letter.is_control()).collect();
        self.item(&format!("{name}=\"{value}\""))
    }

    /// Adds text that is an item already.
    pub(crate) fn item(&mut self, item: &str) -> &mut Self {
        if !self.text.is_empty() {
            self.text.push(',');
            self.line += 1;
            if self.line + item.len() + 1 >= LINE_LENGTH {
                self.text += "\r\n";
                self.line = 0;
            } else {
                self.text.push(' ');
                self.line += 1;
            }
        }
        self.text += item;
        self.line += item.len();
        self
    }

    /// Octets of the text so far.
    pub(crate) fn octets(&self) -> usize {
        self.text.len()
    }

    /// The text with its end.
    pub(crate) fn finish(mut self) -> String {
        if !self.text.is_empty() {
            self.text += "\r\n";
        }
        self.text
    }
}

/// Where an answer goes: what of the question it repeats, and the key that it is authenticated with.
#[derive(Clone, Debug)]
pub struct Reply {
    first: u8,
    opcode: u8,
    sequence: [u8; 2],
    association_id: [u8; 2],
    key: Option<SymmetricKey>,
}

impl Reply {
    /// An answer to `request`, which has a header, with our leap indicator. Nothing is signed for those whose own MAC was
    /// not right.
    pub(super) fn to(request: &[u8], leap: u8, key: Option<&SymmetricKey>) -> Self {
        Self {
            first: leap << 6 | request[0] & 0x3f,
            opcode: request[1] & 0x1f,
            sequence: [request[2], request[3]],
            association_id: [request[6], request[7]],
            key: key.cloned(),
        }
    }

    /// The answer to a configuration: what became of it, in one line.
    #[must_use]
    pub fn configured(&self, message: &str) -> Vec<Vec<u8>> {
        self.octets(0, format!("{message}\r\n").as_bytes())
    }

    pub(super) fn error(&self, code: ErrorCode) -> Vec<Vec<u8>> {
        vec![self.datagram(ERROR, u16::from(code as u8) << 8, 0, &[])]
    }

    pub(super) fn text(&self, status: u16, items: Items) -> Vec<Vec<u8>> {
        self.octets(status, items.finish().as_bytes())
    }

    pub(super) fn octets(&self, status: u16, octets: &[u8]) -> Vec<Vec<u8>> {
        const MORE: u8 = 0x20;
        let octets = &octets[..octets.len().min(ANSWER_OCTETS_MAX)];
        if octets.is_empty() {
            return vec![self.datagram(0, status, 0, &[])];
        }
        let last = (octets.len() - 1) / FRAGMENT_OCTETS_MAX;
        let fragments = octets.chunks(FRAGMENT_OCTETS_MAX).enumerate();
        let datagram = |(number, data): (usize, &[u8])| {
            let flag = if number < last { MORE } else { 0 };
            self.datagram(flag, status, number * FRAGMENT_OCTETS_MAX, data)
        };
        fragments.map(datagram).collect()
    }

    fn datagram(&self, flag: u8, status: u16, offset: usize, data: &[u8]) -> Vec<u8> {
        const RESPONSE: u8 = 0x80;
        // Neither is ever more than `ANSWER_OCTETS_MAX`.
        let half = |value: usize| u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes();
        let mut octets = Vec::with_capacity(CONTROL_HEADER_OCTETS + data.len() + 24);
        octets.extend([self.first, RESPONSE | flag | self.opcode]);
        octets.extend(self.sequence);
        octets.extend(status.to_be_bytes());
        octets.extend(self.association_id);
        octets.extend(half(offset));
        octets.extend(half(data.len()));
        octets.extend(data);
        octets.resize(octets.len().next_multiple_of(4), 0);
        if let Some(key) = &self.key {
            append_mac(key, &mut octets);
        }
        octets
    }
}

/// Whether a datagram of an answer says that it was not done.
pub(super) fn is_error(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|second| second & ERROR != 0)
}

/// Where ntpq looks for it: at the next multiple of four. (NTPsec's own ntpd takes a multiple of eight when there is
/// data, and ntpq complains.)
fn append_mac(key: &SymmetricKey, octets: &mut Vec<u8>) {
    const DIGEST_OCTETS_SENT: usize = 20;
    let mut digest = [0; DIGEST_OCTETS_MAX];
    let length = key.digest(octets, &mut digest).min(DIGEST_OCTETS_SENT);
    octets.extend(key.id().to_be_bytes());
    octets.extend(&digest[..length]);
}
