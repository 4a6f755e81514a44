//! Datagrams of mode 6 that no ntpq sends: each kind by name, and what becomes of it. Real ntpd is asked the same, by
//! the interop tests.

use chime_control::Handling;

/// What ntpd does about a kind of datagram, and so do we.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fate {
    /// No reply: it is no question.
    Ignored,
    /// No reply: a nonce is missing that shows where the answer would go.
    Unproven,
    /// An error with this code, and nothing else.
    Refused(u8),
}
use Fate::{Ignored, Refused, Unproven};

impl Fate {
    /// As what it is counted.
    pub(crate) const fn handling(self) -> Handling {
        match self {
            Self::Ignored => Handling::Malformed,
            Self::Unproven => Handling::Restricted,
            Self::Refused(_) => Handling::Refused,
        }
    }
}

const PERMISSION: u8 = 1;
const BAD_FORMAT: u8 = 2;
const BAD_OPCODE: u8 = 3;
const NO_SUCH_ASSOCIATION: u8 = 4;
const NO_SUCH_VARIABLE: u8 = 5;

const READ_STATUS: u8 = 1;
const READ_VARIABLES: u8 = 2;
const CONFIGURE: u8 = 8;
const READ_MRU: u8 = 10;
const READ_ORDERED_LIST: u8 = 11;

/// A question with this data and zeros behind it, up to a multiple of four.
fn question(opcode: u8, association: u16, data: &[u8]) -> Vec<u8> {
    let mut question = vec![0xd6, opcode, 0, 9, 0, 0];
    question.extend(association.to_be_bytes());
    question.extend([0, 0, 0]);
    question.extend(u8::try_from(data.len()));
    question.extend(data);
    question.resize(question.len().next_multiple_of(4), 0);
    question
}

/// The question for the leap indicator as it should be, with one octet changed.
fn with(at: usize, octet: u8) -> Vec<u8> {
    let mut question = question(READ_VARIABLES, 0, b"leap");
    question[at] = octet;
    question
}

/// The same with a key and a MAC behind it that is none.
fn signed(opcode: u8, data: &[u8], key: u8, digest: usize) -> Vec<u8> {
    let mut question = question(opcode, 0, data);
    question.extend([0, 0, 0, key]);
    question.extend(vec![0x5a; digest]);
    question
}

fn header_kinds() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let good = question(READ_VARIABLES, 0, b"leap");
    vec![
        ("one octet", vec![0xd6], Ignored),
        ("a header cut at 11 octets", good[..11].to_vec(), Ignored),
        ("an answer", with(1, 0x80 | READ_VARIABLES), Ignored),
        ("an error", with(1, 0x40 | READ_VARIABLES), Ignored),
        ("a part of more", with(1, 0x20 | READ_VARIABLES), Ignored),
        ("an answer with an error and more to come", with(1, 0xe0 | READ_VARIABLES), Ignored),
        ("offset 1", with(9, 1), Ignored),
        ("offset 256", with(8, 1), Ignored),
        ("version 0", with(0, 0xc6), Ignored),
        ("version 5", with(0, 0xee), Ignored),
        ("version 6", with(0, 0xf6), Ignored),
        ("version 7", with(0, 0xfe), Ignored),
        ("a private question", with(0, 0xd7), Ignored),
        ("mode 0", with(0, 0xd0), Ignored),
        ("an answer of a server", with(0, 0xd4), Ignored),
        ("a broadcast", with(0, 0xd5), Ignored),
    ]
}

fn length_kinds() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let mut ragged = question(READ_VARIABLES, 0, b"leap");
    ragged.push(0);
    vec![
        ("a count beyond the end", with(11, 9), Refused(BAD_FORMAT)),
        (
            "a count of 65535",
            {
                let mut all = with(10, 0xff);
                all[11] = 0xff;
                all
            },
            Refused(BAD_FORMAT),
        ),
        ("a length that is no multiple of four", ragged, Refused(BAD_FORMAT)),
    ]
}

fn command_kinds() -> Vec<(&'static str, Vec<u8>, Fate)> {
    vec![
        ("write variables", question(3, 0, b"leap=3"), Refused(BAD_OPCODE)),
        ("write clock variables", question(5, 0, b"flags=1"), Refused(BAD_OPCODE)),
        ("set a trap", question(6, 0, b""), Refused(BAD_OPCODE)),
        ("an asynchronous message", question(7, 0, b""), Refused(BAD_OPCODE)),
        ("save the configuration", question(9, 0, b"/etc/passwd"), Refused(BAD_OPCODE)),
        ("opcode 13", question(13, 0, b""), Refused(BAD_OPCODE)),
        ("opcode 30", question(30, 0, b""), Refused(BAD_OPCODE)),
        ("unset a trap", question(31, 0, b""), Refused(BAD_OPCODE)),
        ("the status of no association", question(READ_STATUS, 0xfffe, b""), Refused(NO_SUCH_ASSOCIATION)),
        ("variables of no association", question(READ_VARIABLES, 0xfffe, b""), Refused(NO_SUCH_ASSOCIATION)),
        ("a variable that there is not", question(READ_VARIABLES, 0, b"bogus"), Refused(NO_SUCH_VARIABLE)),
        ("a name in capitals", question(READ_VARIABLES, 0, b"LEAP"), Refused(NO_SUCH_VARIABLE)),
        ("clients without a nonce", question(READ_MRU, 0, b"frags=1"), Unproven),
        (
            "clients with a nonce of another",
            question(READ_MRU, 0, b"nonce=0123456789abcdef01234567, frags=1"),
            Unproven,
        ),
        ("a configuration without a key", question(CONFIGURE, 0, b"unpeer 192.0.2.1"), Refused(PERMISSION)),
        (
            "a list of addresses without a key",
            question(READ_ORDERED_LIST, 0, b"ifstats"),
            Refused(PERMISSION),
        ),
        (
            "a configuration with a wrong MAC",
            signed(CONFIGURE, b"unpeer 192.0.2.1", 1, 16),
            Refused(PERMISSION),
        ),
        (
            "a configuration with a key that there is not",
            signed(CONFIGURE, b"unpeer 192.0.2.1", 99, 20),
            Refused(PERMISSION),
        ),
        (
            "a configuration with half a MAC",
            signed(CONFIGURE, b"unpeer 192.0.2.1", 1, 8),
            Refused(BAD_FORMAT),
        ),
    ]
}

/// All kinds: name, datagram, and what becomes of it.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>, Fate)> {
    [header_kinds(), length_kinds(), command_kinds()].concat()
}
